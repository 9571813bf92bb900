//! Parameters that are given to an optimizer together, with settings of their own.

use std::sync::PoisonError;

use candle_core::Var;
use candle_nn::VarMap;

use super::settings::Settings;
use crate::natural;

/// Parameters, and the settings in which they differ from the optimizer's others.
///
/// ```
/// use candle_core::{DType, Device, Var};
/// use ptser_candle::{AdamW, AdamWOptions, ParamGroup};
///
/// let weight = Var::zeros((2, 3), DType::F32, &Device::Cpu)?;
/// let bias = Var::zeros(2, DType::F32, &Device::Cpu)?;
/// let groups = [
///     ParamGroup::named([("fc.weight".to_owned(), weight)]),
///     ParamGroup::named([("fc.bias".to_owned(), bias)]).weight_decay(0.0),
/// ];
/// let optimizer = AdamW::with_groups(groups, AdamWOptions::default())?;
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ParamGroup {
    pub(super) names: Option<Vec<String>>,
    pub(super) vars: Vec<Var>,
    /// The keys that were set here, in order.
    pub(super) own: Vec<&'static str>,
    pub(super) settings: Settings,
}

impl ParamGroup {
    /// Parameters with names, as PyTorch's `named_parameters()` gives them.
    pub fn named(vars: impl IntoIterator<Item = (String, Var)>) -> Self {
        let (names, vars) = vars.into_iter().unzip();
        Self { names: Some(names), ..Self::new(vars) }
    }

    /// Parameters without names, known by their order alone.
    pub fn new(vars: Vec<Var>) -> Self {
        Self { names: None, vars, own: Vec::new(), settings: Settings::default() }
    }

    fn set(mut self, key: &'static str, set: impl FnOnce(&mut Settings)) -> Self {
        set(&mut self.settings);
        if !self.own.contains(&key) {
            self.own.push(key);
        }
        self
    }

    /// The learning rate.
    #[must_use]
    pub fn lr(self, lr: f64) -> Self {
        self.set("lr", |settings| settings.lr = lr)
    }

    /// The weight decay.
    #[must_use]
    pub fn weight_decay(self, weight_decay: f64) -> Self {
        self.set("weight_decay", |settings| settings.weight_decay = weight_decay)
    }

    /// Whether the objective is maximized.
    #[must_use]
    pub fn maximize(self, maximize: bool) -> Self {
        self.set("maximize", |settings| settings.maximize = maximize)
    }

    /// The momentum, of SGD.
    #[must_use]
    pub fn momentum(self, momentum: f64) -> Self {
        self.set("momentum", |settings| settings.momentum = momentum)
    }

    /// The dampening of the momentum, of SGD.
    #[must_use]
    pub fn dampening(self, dampening: f64) -> Self {
        self.set("dampening", |settings| settings.dampening = dampening)
    }

    /// Whether the momentum is Nesterov's, of SGD.
    #[must_use]
    pub fn nesterov(self, nesterov: bool) -> Self {
        self.set("nesterov", |settings| settings.nesterov = nesterov)
    }

    /// How much of each moment is kept at a step, of Adam and AdamW.
    #[must_use]
    pub fn betas(self, first: f64, second: f64) -> Self {
        self.set("betas", |settings| settings.betas = (first, second))
    }

    /// What is added to the denominator, of Adam and AdamW.
    #[must_use]
    pub fn eps(self, eps: f64) -> Self {
        self.set("eps", |settings| settings.eps = eps)
    }

    /// Whether the largest second moment counts, of Adam and AdamW.
    #[must_use]
    pub fn amsgrad(self, amsgrad: bool) -> Self {
        self.set("amsgrad", |settings| settings.amsgrad = amsgrad)
    }
}

/// The variables of a map by name, numbers in names as numbers: `layers.2` before `layers.10`.
///
/// A map has no order of its own, and `VarMap::all_vars` gives another at each run.
pub fn named_vars(vars: &VarMap) -> Vec<(String, Var)> {
    // A thread that panicked has not torn a map of names.
    let vars = vars.data().lock().unwrap_or_else(PoisonError::into_inner);
    natural::sorted(vars.iter().map(|(name, var)| (name.clone(), var.clone())))
}

/// The variables of a map by name, in the order of other names: those of a state dict, which are in the order of the
/// module's parameters, so that the state of an optimizer that has no names finds its parameters. Variables of other
/// names follow, as [`named_vars`] orders them.
pub fn named_vars_as<S: AsRef<str>>(vars: &VarMap, names: impl IntoIterator<Item = S>) -> Vec<(String, Var)> {
    let mut left: indexmap::IndexMap<String, Var> = named_vars(vars).into_iter().collect();
    let mut named: Vec<(String, Var)> =
        names.into_iter().filter_map(|name| left.shift_remove_entry(name.as_ref())).collect();
    named.extend(left);
    named
}
