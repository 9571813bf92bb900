//! State dicts into variables: into those that a `VarMap` has, as `load_state_dict` does, or into a map of new ones.

mod report;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, PoisonError};

use candle_core::{Device, Tensor, Var};
use candle_nn::VarMap;
use ptser_core::Tensor as Described;

pub use self::report::{Alias, Mismatched, Missing, VarsError, VarsReport};
use crate::base::{self, Batch, Located};
use crate::dtype::Means;
use crate::fill::{self, HugePages};
use crate::make::{Wanted, convert};
use crate::optim::named_vars;
use crate::tensors::{PtTensors, ViewOf, view_of};
use crate::view::storage_key;

/// Checkpoints into and out of a `VarMap`.
///
/// ```no_run
/// use candle_nn::VarMap;
/// use ptser_candle::VarMapExt;
///
/// let vars = VarMap::new();
/// // Build the model with `VarBuilder::from_varmap(&vars, ..)`, then:
/// let report = vars.load_pt("model.pt")?;
/// # Ok::<(), ptser_candle::VarsError>(())
/// ```
pub trait VarMapExt: Sized {
    /// Makes a map of all tensors of a checkpoint's state dict, as [`PtTensors::to_vars`] does.
    ///
    /// # Errors
    /// Those of opening and reading.
    fn from_pt<P: AsRef<Path>>(path: P, device: &Device) -> Result<(Self, VarsReport), VarsError>;

    /// Sets every variable from a checkpoint's state dict, as [`PtTensors::load_into`] does.
    ///
    /// # Errors
    /// Those of opening the file, and as [`PtTensors::load_into`].
    fn load_pt<P: AsRef<Path>>(&self, path: P) -> Result<VarsReport, VarsError>;
}

impl VarMapExt for VarMap {
    fn from_pt<P: AsRef<Path>>(path: P, device: &Device) -> Result<(Self, VarsReport), VarsError> {
        PtTensors::open(path)?.to_vars(device)
    }

    fn load_pt<P: AsRef<Path>>(&self, path: P) -> Result<VarsReport, VarsError> {
        PtTensors::open(path)?.load_into(self)
    }
}

/// A variable, and the name of the tensor that it is set from.
struct Source<'s> {
    name: &'s str,
    var: &'s Var,
}

impl PtTensors {
    /// Sets every variable of a map from the tensor of its name, cast to the variable's type: PyTorch's
    /// `load_state_dict`, strict. All of it is checked and read before any variable changes.
    ///
    /// # Errors
    /// `Mismatch` where a variable has no tensor, a tensor no variable, or the shapes differ; `Tied` where one variable
    /// would have two values; `Read`. The variables are then as they were.
    pub fn load_into(&self, vars: &VarMap) -> Result<VarsReport, VarsError> {
        self.set(&named_vars(vars), VarsReport::is_complete)
    }

    /// As [`load_into`](Self::load_into), but variables without a tensor stay as they are, and tensors without a
    /// variable are left; the report names both. PyTorch's `strict=False`, for which shapes must be equal, too.
    ///
    /// # Errors
    /// `Mismatch` where shapes differ, `Tied`, `Read`; the variables are then as they were.
    pub fn load_matching(&self, vars: &VarMap) -> Result<VarsReport, VarsError> {
        self.set(&named_vars(vars), |report| report.mismatched.is_empty())
    }

    fn set(
        &self,
        vars: &[(String, Var)],
        fits: impl FnOnce(&VarsReport) -> bool,
    ) -> Result<VarsReport, VarsError> {
        let (mut report, sources) = self.compare(vars)?;
        if !fits(&report) {
            return Err(VarsError::Mismatch(Box::new(report)));
        }
        let mut values: Vec<(&Var, Tensor)> = Vec::with_capacity(sources.len());
        let mut by_device: Vec<(&Device, Vec<Source<'_>>)> = Vec::new();
        for source in sources {
            let device = source.var.device();
            match by_device.iter_mut().find(|(known, _)| known.same_device(device)) {
                Some((_, sources)) => sources.push(source),
                None => by_device.push((device, vec![source])),
            }
        }
        for (device, sources) in by_device {
            let names = sources.iter().map(|source| source.name);
            let loaded = self.part(names).load_all(device)?;
            for Source { name, var } in sources {
                let Some(tensor) = loaded.get(name) else { continue };
                values.push((var, convert(tensor.clone(), Some(var.dtype()))?));
            }
            report.changes.extend(loaded.report());
        }
        for (var, value) in values {
            var.set(&value)?;
        }
        Ok(report)
    }

    /// What fits and what does not, and where each variable comes from.
    fn compare<'s>(&'s self, vars: &'s [(String, Var)]) -> Result<(VarsReport, Vec<Source<'s>>), VarsError> {
        let state_dict = self.state_dict();
        let mut report = VarsReport::default();
        let alias = |name: &str, of: &str| Alias { name: name.to_owned(), of: of.into() };

        // The names of each variable, which are several where it is tied.
        let mut places: HashMap<usize, usize> = HashMap::new();
        let mut groups: Vec<(&Var, Vec<&str>)> = Vec::new();
        for (name, var) in vars {
            let place = *places.entry(storage_key(var)).or_insert(groups.len());
            match groups.get_mut(place) {
                Some((_, names)) => names.push(name),
                None => groups.push((var, vec![name])),
            }
        }
        let mut sources: Vec<Source<'_>> = Vec::with_capacity(groups.len());
        let mut by_view: HashMap<ViewOf, &str> = HashMap::new();
        for (var, names) in groups {
            let mut found = names.iter().filter_map(|name| Some((*name, state_dict.find(name)?)));
            let Some((name, tensor)) = found.next() else {
                report.missing.extend(names.iter().map(|name| Missing {
                    name: (*name).to_owned(),
                    expected: var.dims().to_vec(),
                    nearest: state_dict.nearest(name).into_iter().map(str::to_owned).collect(),
                }));
                continue;
            };
            for (other, second) in found {
                if !same_values(tensor, second)? {
                    return Err(VarsError::Tied(alias(other, name)));
                }
            }
            report
                .aliases
                .extend(names.iter().filter(|other| **other != name).map(|other| alias(other, name)));
            let dims = Wanted::of(name, tensor, None, self.conversions())?.dims();
            if *dims != *var.dims() {
                let (name, expected) = (name.to_owned(), var.dims().to_vec());
                report.mismatched.push(Mismatched { name, expected, found: dims.into_owned() });
                continue;
            }
            if let Some(view) = view_of(tensor) {
                match by_view.get(&view) {
                    Some(first) => report.untied.push(alias(name, first)),
                    None => drop(by_view.insert(view, name)),
                }
            }
            sources.push(Source { name, var });
        }
        let known: HashSet<&str> = vars.iter().map(|(name, _)| name.as_str()).collect();
        for (name, tensor) in state_dict.iter().filter(|(name, _)| !known.contains(name)) {
            let tied = view_of(tensor).and_then(|view| by_view.get(&view));
            let norm = name.strip_suffix("num_batches_tracked");
            if let Some(of) = tied {
                report.aliases.push(alias(name, of));
            } else if norm.is_some_and(|norm| known.contains(format!("{norm}running_mean").as_str())) {
                report.ignored.push(name.to_owned());
            } else {
                report.unexpected.push(name.to_owned());
            }
        }
        Ok((report, sources))
    }

    /// Makes a map of variables of all tensors, floats or not; on the host a tensor that is all of its storage is read
    /// into its variable's memory and never copied.
    ///
    /// Of names that are one tensor the first is in the map and the others are [aliases](VarsReport::aliases): a
    /// variable that stood there twice would be stepped twice by candle's own optimizers. Tensors that share a storage
    /// otherwise have memory of their own then, and the report says so.
    ///
    /// # Errors
    /// `Read`, also for expanded views that are [out of proportion](ptser_core::StateDict::check_views) in memory of
    /// their own.
    pub fn to_vars(&self, device: &Device) -> Result<(VarMap, VarsReport), VarsError> {
        self.state_dict().check_views()?;
        let mut report = VarsReport::default();
        let mut by_view: HashMap<ViewOf, Arc<str>> = HashMap::new();
        let mut views: HashMap<base::BaseKey, usize> = HashMap::new();
        let (mut whole, mut others) = (Vec::new(), Vec::new());
        for (name, tensor) in self.state_dict().iter() {
            let wanted = Wanted::of(name, tensor, None, self.conversions())?;
            if let Some(view) = view_of(tensor) {
                if let Some(first) = by_view.get(&view) {
                    report.aliases.push(Alias { name: name.to_owned(), of: Arc::clone(first) });
                    continue;
                }
                let count = views.entry(view.0).or_default();
                *count = count.saturating_add(1);
                by_view.insert(view, name.into());
            }
            match wanted.located().filter(|located| fills(&wanted, *located, device)) {
                Some(located) => whole.push((wanted, located)),
                None => others.push(wanted),
            }
        }
        let mut made: Vec<(String, Var)> = Vec::with_capacity(whole.len().saturating_add(others.len()));
        let (pages, mut batch) = (HugePages::default(), Batch::default());
        for (wanted, located) in whole {
            let Wanted { name, tensor, target, .. } = wanted;
            let var = base::read_variable(name, located, tensor.shape(), target, &pages, &mut batch)?;
            made.push((wanted.name.to_owned(), var));
        }
        let loaded = self.part(others.iter().map(|wanted| wanted.name)).load_all(device)?;
        report.changes.extend(loaded.report());
        for wanted in others {
            let Some(tensor) = loaded.get(wanted.name) else { continue };
            if wanted
                .located()
                .is_some_and(|located| views.get(&located.key()).is_some_and(|&count| count > 1))
            {
                let change = wanted.copied("a variable has memory of its own");
                report.changes.add(wanted.name, change);
            }
            if tensor.device().is_cpu() {
                fill::room(tensor.elem_count(), tensor.dtype())?;
            }
            made.push((wanted.name.to_owned(), Var::from_tensor(tensor)?));
        }
        let vars = VarMap::new();
        vars.data().lock().unwrap_or_else(PoisonError::into_inner).extend(made);
        Ok((vars, report))
    }
}

fn same_values(a: &Described, b: &Described) -> Result<bool, VarsError> {
    if view_of(a).is_some_and(|view| Some(view) == view_of(b)) {
        return Ok(true);
    }
    let alike = a.dtype() == b.dtype() && a.shape() == b.shape();
    Ok(alike && a.to_contiguous()? == b.to_contiguous()?)
}

/// Whether a tensor's storage can be a variable's as it is.
fn fills(wanted: &Wanted<'_>, located: Located<'_>, device: &Device) -> bool {
    let Wanted { tensor, target, .. } = wanted;
    let nbytes = u64::try_from(tensor.nbytes()).ok();
    let all = located.offset == 0 && tensor.is_contiguous() && nbytes == Some(located.storage.nbytes());
    matches!(device, Device::Cpu) && all && target.means == Means::Same && tensor.numel() > 0
}
