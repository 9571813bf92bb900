//! An optimizer's groups, parameters and state, whatever its rule: steps them, and tells them as PyTorch does.

use std::collections::HashMap;
use std::ops::Range;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Error, Result, Tensor, Var};
use indexmap::IndexMap;
use ptser_core::Object;

use super::group::ParamGroup;
use super::kernel::{AdamStep, SgdStep};
use super::settings::{Rule, Settings};
use super::step::{self, Moments};
use crate::save::to_tensor;
use crate::view::storage_key;

/// An optimizer.
#[derive(Clone)]
pub(super) struct Engine {
    pub(super) rule: Rule,
    pub(super) groups: Vec<Group>,
    pub(super) params: Vec<Param>,
    /// By the place of the parameter, in the order in which they first had a gradient.
    pub(super) state: IndexMap<usize, State>,
}

/// A parameter group.
#[derive(Clone)]
pub(super) struct Group {
    /// The places of its parameters.
    pub(super) params: Range<usize>,
    pub(super) settings: Settings,
    /// What a state dict says of the group, in order, all but the parameters.
    pub(super) entries: IndexMap<String, Object>,
}

/// A parameter.
#[derive(Clone)]
pub(super) struct Param {
    pub(super) name: Option<String>,
    pub(super) var: Var,
}

/// The state of one parameter.
#[derive(Clone)]
pub(super) enum State {
    Sgd { momentum_buffer: Option<Tensor> },
    Adam { step: Tensor, moments: Moments },
}

impl Engine {
    /// An optimizer of parameter groups, their settings over the `defaults`.
    ///
    /// # Errors
    /// A parameter in two groups, one of a type that is not stepped, a setting that the rule has not or that makes no
    /// sense, names in some groups only.
    pub(super) fn new(rule: Rule, groups: Vec<ParamGroup>, defaults: &Settings) -> Result<Self> {
        let mut engine = Self { rule, groups: Vec::new(), params: Vec::new(), state: IndexMap::new() };
        let mut seen: HashMap<usize, usize> = HashMap::new();
        // Groups of equal settings share the object, as those of PyTorch share its default.
        let mut betas: Vec<((u64, u64), Object)> = Vec::new();
        for (place, group) in groups.into_iter().enumerate() {
            let ParamGroup { names, vars, own, settings: given } = group;
            let named = names.is_some();
            if engine.groups.first().is_some_and(|first| first.entries.contains_key("param_names") != named) {
                return Err(misuse(format!(
                    "parameter group {place}: expected names in all groups or in none"
                )));
            }
            let mut settings = *defaults;
            own.iter().for_each(|key| settings.take(key, &given));
            if let Some(key) = own.iter().find(|key| !rule.keys().contains(key)) {
                return Err(misuse(format!("parameter group {place}: {} has no setting {key}", rule.name())));
            }
            if let Some((key, expected, found)) = settings.senseless(rule) {
                return Err(misuse(format!(
                    "parameter group {place}: {key}: expected {expected}, found {found}"
                )));
            }
            let start = engine.params.len();
            let mut names = names.into_iter().flatten();
            for var in vars {
                let name = names.next();
                if !var.dtype().is_float() {
                    continue;
                }
                let param = Param { name, var };
                let label = param.label(engine.params.len());
                if !step::can_step(param.var.dtype()) {
                    let dtype = param.var.dtype();
                    return Err(misuse(format!("{label}: no optimizer steps parameters of {dtype:?}")));
                }
                match seen.insert(storage_key(&param.var), place) {
                    // Tied weights are one parameter, under their first name.
                    Some(before) if before == place => {}
                    Some(before) => {
                        return Err(misuse(format!("{label} is in parameter groups {before} and {place}")));
                    }
                    None => engine.params.push(param),
                }
            }
            let params = start..engine.params.len();
            let mut entries = IndexMap::new();
            for key in &own {
                entries.insert((*key).to_owned(), settings.object(rule, key, true));
            }
            if named {
                entries.insert("param_names".to_owned(), engine.names(params.clone()));
            }
            for &key in rule.keys() {
                entries.entry(key.to_owned()).or_insert_with(|| settings.object(rule, key, false));
            }
            if let Some(entry) = entries.get_mut("betas") {
                let bits = (settings.betas.0.to_bits(), settings.betas.1.to_bits());
                match betas.iter().find(|(known, _)| *known == bits) {
                    Some((_, object)) => *entry = object.clone(),
                    None => betas.push((bits, entry.clone())),
                }
            }
            engine.groups.push(Group { params, settings, entries });
        }
        Ok(engine)
    }

    /// The names of parameters, for a state dict.
    pub(super) fn names(&self, params: Range<usize>) -> Object {
        let params = self.params.get(params).unwrap_or_default();
        Object::list(params.iter().filter_map(|param| param.name.clone()))
    }

    pub(super) fn lr(&self) -> f64 {
        self.groups.first().map_or(0.0, |group| group.settings.lr)
    }

    pub(super) fn set_lr(&mut self, lr: f64) {
        self.groups.iter_mut().for_each(|group| group.set_lr(lr));
    }

    /// # Errors
    /// A group that is not there.
    pub(super) fn set_group_lr(&mut self, place: usize, lr: f64) -> Result<()> {
        let there = self.groups.len();
        let group = self.groups.get_mut(place).ok_or_else(|| {
            misuse(format!("there is no parameter group {place}, the optimizer has {there}"))
        })?;
        group.set_lr(lr);
        Ok(())
    }

    /// Steps every parameter that has a gradient.
    ///
    /// # Errors
    /// A gradient of another shape, type or device, before any parameter is stepped; those of candle.
    pub(super) fn step(&mut self, grads: &GradStore) -> Result<()> {
        for (place, param) in self.params.iter().enumerate() {
            if let Some(grad) = grads.get(&param.var) {
                param.check_gradient(place, grad)?;
            }
        }
        for Group { params, settings, .. } in &self.groups {
            for place in params.clone() {
                let Some(param) = self.params.get(place) else { continue };
                let Some(grad) = grads.get(&param.var) else { continue };
                match self.rule {
                    Rule::Sgd => sgd(&mut self.state, place, &param.var, grad, settings)?,
                    Rule::Adam | Rule::AdamW => {
                        adam(&mut self.state, place, &param.var, grad, settings, self.rule.decouples())?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The state as PyTorch's `state_dict()` has it.
    ///
    /// # Errors
    /// Those of describing tensors.
    pub(super) fn state_dict(&self) -> Result<Object> {
        let state: Result<Vec<(Object, Object)>> =
            self.state.iter().map(|(&place, state)| Ok((place.into(), state.object()?))).collect();
        let groups = self.groups.iter().map(|group| {
            let entries =
                group.entries.iter().map(|(key, value)| (Object::from(key.as_str()), value.clone()));
            let params = Object::list(group.params.clone());
            Object::dict(entries.chain([("params".into(), params)]))
        });
        Ok(Object::dict([("state", Object::dict(state?)), ("param_groups", Object::list(groups))]))
    }
}

impl Group {
    fn set_lr(&mut self, lr: f64) {
        self.settings.lr = lr;
        self.entries.insert("lr".to_owned(), lr.into());
    }
}

impl Param {
    /// What messages call it.
    pub(super) fn label(&self, place: usize) -> String {
        self.name.as_ref().map_or_else(|| format!("parameter {place}"), |name| format!("parameter {name}"))
    }

    fn check_gradient(&self, place: usize, grad: &Tensor) -> Result<()> {
        let Self { var, .. } = self;
        let differs = |what: &str, expected: &dyn std::fmt::Debug, found: &dyn std::fmt::Debug| {
            Err(misuse(format!(
                "{}: gradient: expected {what} {expected:?}, found {found:?}",
                self.label(place)
            )))
        };
        if grad.dims() != var.dims() {
            return differs("shape", &var.dims(), &grad.dims());
        }
        if grad.dtype() != var.dtype() {
            return differs("type", &var.dtype(), &grad.dtype());
        }
        if !grad.device().same_device(var.device()) {
            return differs("device", &var.device().location(), &grad.device().location());
        }
        Ok(())
    }
}

impl State {
    fn object(&self) -> Result<Object> {
        let entries: Vec<(&str, &Tensor)> = match self {
            Self::Sgd { momentum_buffer } => {
                momentum_buffer.iter().map(|buffer| ("momentum_buffer", buffer)).collect()
            }
            Self::Adam { step, moments: Moments { exp_avg, exp_avg_sq, max_exp_avg_sq } } => {
                let max = max_exp_avg_sq.iter().map(|max| ("max_exp_avg_sq", max));
                [("step", step), ("exp_avg", exp_avg), ("exp_avg_sq", exp_avg_sq)]
                    .into_iter()
                    .chain(max)
                    .collect()
            }
        };
        let entries: Result<Vec<(&str, ptser_core::Tensor)>> =
            entries.into_iter().map(|(key, tensor)| Ok((key, to_tensor(tensor)?))).collect();
        Ok(Object::dict(entries?))
    }
}

fn sgd(
    states: &mut IndexMap<usize, State>,
    place: usize,
    var: &Var,
    grad: &Tensor,
    settings: &Settings,
) -> Result<()> {
    let mut made = SgdStep {
        maximize: settings.maximize,
        weight_decay: settings.weight_decay,
        momentum: settings.momentum,
        dampening: settings.dampening,
        nesterov: settings.nesterov,
        lr: settings.lr,
        first: false,
    };
    if settings.momentum == 0.0 {
        return step::sgd(var, grad, None, &made);
    }
    if let Some(State::Sgd { momentum_buffer: Some(buffer) }) = states.get(&place) {
        return step::sgd(var, grad, Some(buffer), &made);
    }
    made.first = true;
    let buffer = step::zeros(var)?;
    step::sgd(var, grad, Some(&buffer), &made)?;
    states.insert(place, State::Sgd { momentum_buffer: Some(buffer) });
    Ok(())
}

fn adam(
    states: &mut IndexMap<usize, State>,
    place: usize,
    var: &Var,
    grad: &Tensor,
    settings: &Settings,
    decouples: bool,
) -> Result<()> {
    if !states.contains_key(&place) {
        let step = Tensor::zeros((), DType::F32, &Device::Cpu)?;
        let moments = Moments::zeros(var, settings.amsgrad)?;
        states.insert(place, State::Adam { step, moments });
    }
    let Some(State::Adam { step, moments }) = states.get(&place) else {
        return Err(misuse("the state is another optimizer's".to_owned()));
    };
    let Settings { lr, weight_decay, betas: (beta1, beta2), eps, amsgrad, maximize, .. } = *settings;
    let count = step::count(step)?;
    let bias_correction1 = 1.0 - beta1.powf(count);
    let bias_correction2 = 1.0 - beta2.powf(count);
    let made = AdamStep {
        maximize,
        weight_decay: if decouples { 0.0 } else { weight_decay },
        decay: if decouples { 1.0 - lr * weight_decay } else { 1.0 },
        first: 1.0 - beta1,
        beta2,
        bias_correction2_sqrt: bias_correction2.sqrt(),
        eps,
        step_size: lr / bias_correction1,
    };
    step::adam(var, grad, moments, amsgrad, &made)
}

pub(super) fn misuse(message: String) -> Error {
    Error::Msg(message).bt()
}
