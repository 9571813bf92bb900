//! The keys under which training scripts keep what they resume from.

use ptser_core::{Value, ValueKind};

/// The keys of a training checkpoint's parts. Scripts differ in them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrainingKeys {
    /// The model's state dict.
    pub model: String,
    /// The optimizer's.
    pub optimizer: String,
    /// The learning-rate schedule's.
    pub scheduler: String,
    /// Epochs that are done.
    pub epoch: String,
    /// Steps that are done.
    pub step: String,
    /// The loss.
    pub loss: String,
    /// States of random number generators.
    pub rng: String,
    /// Whether the states of optimizer and schedule are items of lists, as there can be several.
    pub lists: bool,
}

impl TrainingKeys {
    fn new(model: &str, optimizer: &str, scheduler: &str, step: &str, lists: bool) -> Self {
        let key = str::to_owned;
        Self {
            model: key(model),
            optimizer: key(optimizer),
            scheduler: key(scheduler),
            epoch: key("epoch"),
            step: key(step),
            loss: key("loss"),
            rng: key("rng_state"),
            lists,
        }
    }

    /// Those of PyTorch's tutorials: `model_state_dict`, `optimizer_state_dict`, `scheduler_state_dict`, `epoch`,
    /// `step`, `loss`, `rng_state`.
    pub fn customary() -> Self {
        Self::new("model_state_dict", "optimizer_state_dict", "scheduler_state_dict", "step", false)
    }

    /// Those of the reference scripts of torchvision and many others: `model`, `optimizer`, `lr_scheduler`.
    pub fn short() -> Self {
        Self::new("model", "optimizer", "lr_scheduler", "step", false)
    }

    /// Those of PyTorch Lightning: `state_dict`, `optimizer_states`, `lr_schedulers`, `global_step`.
    pub fn lightning() -> Self {
        Self::new("state_dict", "optimizer_states", "lr_schedulers", "global_step", true)
    }
}

impl Default for TrainingKeys {
    fn default() -> Self {
        Self::customary()
    }
}

/// A part of a training checkpoint.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    Optimizer,
    Scheduler,
    Epoch,
    Step,
    Loss,
    Rng,
}

impl Part {
    /// The key that is to be used, or those in use; the first that is there counts.
    fn keys(self, keys: Option<&TrainingKeys>) -> Vec<&str> {
        let one = |of: fn(&TrainingKeys) -> &String| keys.map(|keys| vec![of(keys).as_str()]);
        match self {
            Self::Optimizer => one(|keys| &keys.optimizer).unwrap_or_else(|| {
                vec!["optimizer_state_dict", "optimizer", "optimizer_states", "optim_state_dict", "optim"]
            }),
            Self::Scheduler => one(|keys| &keys.scheduler).unwrap_or_else(|| {
                vec![
                    "scheduler_state_dict",
                    "lr_scheduler_state_dict",
                    "lr_scheduler",
                    "scheduler",
                    "lr_schedulers",
                ]
            }),
            Self::Epoch => one(|keys| &keys.epoch).unwrap_or_else(|| vec!["epoch"]),
            Self::Step => {
                one(|keys| &keys.step).unwrap_or_else(|| vec!["step", "global_step", "iteration", "iter"])
            }
            Self::Loss => one(|keys| &keys.loss).unwrap_or_else(|| vec!["loss"]),
            Self::Rng => one(|keys| &keys.rng).unwrap_or_else(|| vec!["rng_state", "rng_states", "rng"]),
        }
    }

    /// The part of a checkpoint; of a list of states the only one.
    pub(super) fn find<'c>(self, root: Value<'c>, keys: Option<&TrainingKeys>) -> Option<Value<'c>> {
        if !root.is_mapping() {
            return None;
        }
        let is_state = matches!(self, Self::Optimizer | Self::Scheduler);
        let is_list = |value: Value<'_>| matches!(value.kind(), ValueKind::List);
        // Under such keys there is the name of an optimizer too.
        let fits = |value: &Value<'_>| !is_state || value.is_mapping() || is_list(*value);
        let found = self.keys(keys).into_iter().find_map(|key| root.find(key).filter(fits))?;
        if is_state && is_list(found) {
            return found.items().next().filter(|_| found.len() == 1);
        }
        Some(found)
    }

    /// The keys that were looked for.
    pub(super) fn expected(self, keys: Option<&TrainingKeys>) -> String {
        self.keys(keys).join(", ")
    }
}
