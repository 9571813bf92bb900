//! An optimizer's state from a checkpoint: all of it is checked and read before any of it counts.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor, Var};
use indexmap::IndexMap;
use ptser_core::{DType as Torch, Object, Tensor as Described, Value, ValueKind};

use super::engine::{Engine, Group, Param, State};
use super::error::StateError;
use super::settings::{Rule, UNREAD, number, number_of};
use super::step::Moments;
use crate::dtype::Conversions;
use crate::error::{about, wrap};
use crate::fill::HugePages;
use crate::inflated::Inflated;
use crate::make::Wanted;

impl Engine {
    /// The optimizer with the state of a state dict.
    ///
    /// # Errors
    /// Whatever does not fit, and errors of reading.
    pub(super) fn loaded(&self, value: Value<'_>) -> Result<Self, StateError> {
        let part = |key: &str| {
            value.find(key).ok_or_else(|| StateError::NotAStateDict { found: format!("there is no {key:?}") })
        };
        let (saved_state, saved_groups) = (part("state")?, part("param_groups")?);
        if !saved_state.is_mapping() {
            return Err(StateError::NotAStateDict {
                found: format!("its state is a {}", saved_state.type_name()),
            });
        }
        let saved: Vec<Value<'_>> = saved_groups.items().collect();
        if saved.len() != self.groups.len() {
            return Err(StateError::Groups { expected: self.groups.len(), found: saved.len() });
        }
        let mut next = self.clone();
        // The ids of the state dict, and the places that they are here.
        let mut places: HashMap<i64, usize> = HashMap::new();
        check_names(&saved)?;
        let entries = entries_of(&saved)?;
        for (place, (group, saved)) in self.groups.iter().zip(saved.into_iter().zip(entries)).enumerate() {
            next.load_group(place, group, saved, &mut places)?;
        }
        let mut state = IndexMap::new();
        let mut inflated = Inflated::default();
        for (id, saved) in saved_state.entries() {
            let place = id.as_i64().ok().and_then(|id| places.get(&id).copied());
            let Some((place, param)) = place.and_then(|place| Some((place, self.params.get(place)?))) else {
                return Err(StateError::NotAStateDict {
                    found: format!("its state holds {id}, which is no parameter of its groups"),
                });
            };
            let amsgrad =
                next.groups.iter().any(|group| group.settings.amsgrad && group.params.contains(&place));
            let mut reader = Reader {
                rule: self.rule,
                label: param.label(place),
                var: &param.var,
                saved,
                inflated: &mut inflated,
            };
            state.insert(place, reader.state(amsgrad)?);
        }
        next.state = state;
        Ok(next)
    }

    fn load_group(
        &mut self,
        place: usize,
        group: &Group,
        (saved, entries): (Value<'_>, Vec<(&str, Object)>),
        places: &mut HashMap<i64, usize>,
    ) -> Result<(), StateError> {
        let senseless = |key: &str, expected, found: String| StateError::Setting {
            group: place,
            key: key.to_owned(),
            expected,
            found,
        };
        let ids = saved.find("params").ok_or_else(|| StateError::NotAStateDict {
            found: format!("parameter group {place} has no \"params\""),
        })?;
        let ids: Result<Vec<i64>, StateError> = ids
            .items()
            .map(|id| id.as_i64().map_err(|_| senseless("params", "integers", id.to_string())))
            .collect();
        let ids = ids?;
        if ids.len() != group.params.len() {
            return Err(StateError::GroupSize {
                group: place,
                expected: group.params.len(),
                found: ids.len(),
            });
        }
        self.load_settings(place, saved)?;
        self.load_entries(place, entries);

        let names =
            match saved.find("param_names") {
                None => None,
                Some(names) => {
                    let names: Result<Vec<&str>, _> = names.items().map(Value::as_str).collect();
                    let names = names.ok().filter(|names| names.len() == ids.len());
                    Some(names.ok_or_else(|| {
                        senseless("param_names", "a name for each parameter", "others".into())
                    })?)
                }
            };
        let mine = self.params.get_mut(group.params.clone()).unwrap_or_default();
        match names {
            Some(names) if mine.iter().all(|param| param.name.is_some()) => {
                let ids: HashMap<&str, i64> = names.iter().copied().zip(ids).collect();
                let known = |name: &str| mine.iter().any(|param| param.name.as_deref() == Some(name));
                for (param, place_of) in mine.iter().zip(group.params.clone()) {
                    let name = param.name.as_deref().unwrap_or_default();
                    let Some(&id) = ids.get(name) else {
                        let others = names.iter().filter(|name| !known(name)).take(4);
                        return Err(StateError::Parameter {
                            group: place,
                            parameter: name.to_owned(),
                            found: others.map(|&name| name.to_owned()).collect(),
                        });
                    };
                    places.insert(id, place_of);
                }
            }
            names => {
                places.extend(ids.into_iter().zip(group.params.clone()));
                // As PyTorch: whoever has no names takes the file's.
                for (param, name) in mine.iter_mut().zip(names.into_iter().flatten()) {
                    param.name = Some(name.to_owned());
                }
            }
        }
        let names = self.names(group.params.clone());
        let all_named = self.params.get(group.params.clone()).unwrap_or_default().iter().all(Param::is_named);
        if let Some(group) = self.groups.get_mut(place).filter(|_| all_named) {
            // In the file's place where it has one, at the end otherwise, as PyTorch puts them.
            if group.entries.contains_key("param_names") || !group.params.is_empty() {
                group.entries.insert("param_names".to_owned(), names);
            }
        }
        Ok(())
    }

    fn load_settings(&mut self, place: usize, saved: Value<'_>) -> Result<(), StateError> {
        let rule = self.rule;
        let other = |found: String| StateError::OtherOptimizer { expected: rule.name(), found };
        if let Some(key) = rule.required().iter().find(|key| saved.find(key).is_none()) {
            return Err(other(format!("parameter group {place} has no {key:?}")));
        }
        if let Some(decoupled) = saved.find("decoupled_weight_decay").and_then(|value| value.as_bool().ok())
            && rule != Rule::Sgd
            && decoupled != rule.decouples()
        {
            let name = if decoupled { "AdamW" } else { "Adam" };
            return Err(other(format!("its decoupled_weight_decay is that of {name}")));
        }
        let Some(group) = self.groups.get_mut(place) else { return Ok(()) };
        // What an older PyTorch did not write was off.
        (group.settings.nesterov, group.settings.amsgrad, group.settings.maximize) = (false, false, false);
        for &key in rule.keys() {
            let Some(value) = saved.find(key) else { continue };
            group.settings.read(key, value).map_err(|expected| StateError::Setting {
                group: place,
                key: key.to_owned(),
                expected,
                found: value.to_string(),
            })?;
        }
        match group.settings.senseless(rule) {
            Some((key, expected, found)) => Err(StateError::Setting {
                group: place,
                key: key.to_owned(),
                expected,
                found: found.to_string(),
            }),
            None => Ok(()),
        }
    }

    /// Keeps what the file says of a group, in its order, whether or not it has a meaning here.
    fn load_entries(&mut self, place: usize, saved: Vec<(&str, Object)>) {
        let Some(group) = self.groups.get_mut(place) else { return };
        let rule = self.rule;
        group.entries = saved.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        for &key in rule.keys() {
            let settings = &group.settings;
            group.entries.entry(key.to_owned()).or_insert_with(|| settings.object(rule, key, false));
        }
    }
}

/// The most bytes that names in groups may have together, as those of a checkpoint's tensors: what is one text in a
/// file may be the name of every parameter.
const NAMES_BYTES: usize = 128 << 20;

/// Checks the names of parameters, and of what the groups say.
fn check_names(groups: &[Value<'_>]) -> Result<(), StateError> {
    let names = groups.iter().flat_map(|group| {
        let of_params = group.find("param_names").into_iter().flat_map(Value::items);
        group.entries().map(|(key, _)| key).chain(of_params)
    });
    let bytes = names.filter_map(|name| name.as_str().ok()).map(str::len).fold(0, usize::saturating_add);
    if bytes <= NAMES_BYTES {
        return Ok(());
    }
    let found = format!("the names in its groups are {bytes} bytes, more than {NAMES_BYTES}");
    Err(StateError::NotAStateDict { found })
}

/// What the groups of a file say, all but the parameters, to be saved again.
fn entries_of<'c>(groups: &[Value<'c>]) -> Result<Vec<Vec<(&'c str, Object)>>, StateError> {
    let of = |group: &Value<'c>| {
        let entries = group.entries().filter_map(|(key, value)| Some((key.as_str().ok()?, value)));
        entries.filter(|(key, _)| *key != "params").collect::<Vec<_>>()
    };
    let kept: Vec<Vec<(&str, Value<'c>)>> = groups.iter().map(of).collect();
    // All at once: what is one object in several groups stays one.
    let objects = Object::copies_of(kept.iter().flatten().map(|(_, value)| *value));
    let found = |error: ptser_core::Error| StateError::NotAStateDict {
        found: format!("its groups cannot be saved again: {error}"),
    };
    let mut objects = objects.map_err(found)?.into_iter();
    let with_objects = |group: Vec<(&'c str, Value<'c>)>| {
        group.into_iter().zip(objects.by_ref()).map(|((key, _), object)| (key, object)).collect()
    };
    Ok(kept.into_iter().map(with_objects).collect())
}

impl Param {
    fn is_named(&self) -> bool {
        self.name.is_some()
    }
}

/// Reads the state of one parameter.
struct Reader<'r, 'c> {
    rule: Rule,
    label: String,
    var: &'r Var,
    saved: Value<'c>,
    inflated: &'r mut Inflated,
}

impl<'c> Reader<'_, 'c> {
    fn state(&mut self, amsgrad: bool) -> Result<State, StateError> {
        let known: &[&str] = match self.rule {
            Rule::Sgd => &["momentum_buffer"],
            Rule::Adam | Rule::AdamW => &["step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"],
        };
        let mut keys = self.saved.entries().map(|(key, _)| key);
        if let Some(key) = keys.find(|key| !key.as_str().is_ok_and(|key| known.contains(&key))) {
            return Err(StateError::OtherOptimizer {
                expected: self.rule.name(),
                found: format!("{} has {key} in its state", self.label),
            });
        }
        if self.rule == Rule::Sgd {
            return Ok(State::Sgd { momentum_buffer: self.optional("momentum_buffer")? });
        }
        let max_exp_avg_sq = self.optional("max_exp_avg_sq")?;
        if amsgrad && max_exp_avg_sq.is_none() {
            return Err(self.missing("max_exp_avg_sq"));
        }
        let step = self.step()?;
        let moments = Moments {
            exp_avg: self.tensor("exp_avg")?,
            exp_avg_sq: self.tensor("exp_avg_sq")?,
            max_exp_avg_sq,
        };
        Ok(State::Adam { step, moments })
    }

    fn missing(&self, key: &'static str) -> StateError {
        StateError::Missing { parameter: self.label.clone(), key }
    }

    fn wrong(&self, key: &str, expected: &'static str, found: Value<'_>) -> StateError {
        StateError::Value {
            parameter: self.label.clone(),
            key: key.to_owned(),
            expected,
            found: found.to_string(),
        }
    }

    /// The counter: a number in old files, a tensor since torch 1.12.
    fn step(&mut self) -> Result<Tensor, StateError> {
        let saved = self.saved.find("step").ok_or_else(|| self.missing("step"))?;
        let count = match saved.kind() {
            ValueKind::Tensor(tensor) => {
                self.inflated.over(tensor).map_or(Err(UNREAD), |tensor| number_of(&tensor))
            }
            _ => number(saved),
        };
        let count = count.map_err(|expected| self.wrong("step", expected, saved))?;
        if count.is_nan() || count < 0.0 {
            return Err(self.wrong("step", "zero or more", saved));
        }
        let double = saved.as_tensor().is_ok_and(|tensor| tensor.dtype() == Torch::Float64);
        let dtype = if double { DType::F64 } else { DType::F32 };
        let step = Tensor::new(count, &Device::Cpu).and_then(|step| step.to_dtype(dtype));
        step.map_err(|error| self.unread("step", error))
    }

    fn optional(&mut self, key: &'static str) -> Result<Option<Tensor>, StateError> {
        match self.saved.find(key) {
            Some(value) if !value.is_none() => self.read(key, value).map(Some),
            _ => Ok(None),
        }
    }

    fn tensor(&mut self, key: &'static str) -> Result<Tensor, StateError> {
        let found = self.optional(key)?;
        found.ok_or_else(|| self.missing(key))
    }

    fn read(&mut self, key: &'static str, value: Value<'c>) -> Result<Tensor, StateError> {
        let ValueKind::Tensor(tensor) = value.kind() else { return Err(self.wrong(key, "a tensor", value)) };
        if tensor.shape() != self.var.dims() {
            let (expected, found) = (self.var.dims().to_vec(), tensor.shape().to_vec());
            return Err(StateError::Shape { parameter: self.label.clone(), key, expected, found });
        }
        if crate::host::torch_dtype(self.var.dtype()).ok() != Some(tensor.dtype()) {
            let (expected, found) = (self.var.dtype(), tensor.dtype());
            return Err(StateError::DType { parameter: self.label.clone(), key, expected, found });
        }
        self.own_copy(key, tensor).map_err(|error| self.unread(key, error))
    }

    /// The tensor in C order in memory of its own, where the parameter is.
    fn own_copy(&mut self, key: &str, tensor: &Described) -> candle_core::Result<Tensor> {
        let tensor = self.inflated.over(tensor).map_err(wrap)?;
        let wanted = Wanted::of(key, &tensor, None, Conversions::default())?;
        let device = self.var.device();
        let made = match wanted.located() {
            None => wanted.alone(device, self.inflated)?,
            Some(located) => {
                wanted.view(located, &wanted.base(located, &HugePages::default(), None, device)?)?
            }
        };
        let own = made.tensor.contiguous()?;
        if own.dtype() == self.var.dtype() { Ok(own) } else { Err(about(key, "read as another type")) }
    }

    fn unread(&self, key: &'static str, error: candle_core::Error) -> StateError {
        StateError::Read { parameter: self.label.clone(), key, error: Box::new(error) }
    }
}
