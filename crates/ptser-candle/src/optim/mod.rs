//! Optimizers whose state PyTorch and Rust resume from each other: SGD, Adam and AdamW, by PyTorch's arithmetic, in
//! PyTorch's state dicts.

mod adam;
mod adamw;
mod engine;
mod error;
mod group;
mod kernel;
mod load;
mod memory;
mod number;
mod operations;
mod settings;
mod sgd;
mod step;

use ptser_core::{Object, Value};

pub use adam::{Adam, AdamOptions};
pub use adamw::{AdamW, AdamWOptions};
pub use error::StateError;
pub use group::{ParamGroup, named_vars, named_vars_as};
pub(crate) use settings::number;
pub use sgd::{Sgd, SgdOptions};

/// An optimizer whose state can be saved and loaded, all of it or nothing.
pub trait StatefulOptimizer {
    /// The state as PyTorch's `state_dict()` gives it.
    ///
    /// # Errors
    /// None that a step would not have given.
    fn state_dict(&self) -> candle_core::Result<Object>;

    /// Takes over a state as PyTorch's `load_state_dict()` does, where all of it fits and what is done `then` succeeds.
    ///
    /// # Errors
    /// Where anything does not fit, and those of `then`; the optimizer is then as it was.
    fn load_state_dict_if<E: From<StateError>>(
        &mut self,
        value: Value<'_>,
        then: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E>;
}

/// What every optimizer has, over its [`engine::Engine`].
macro_rules! optimizer {
    ($optimizer:ident, $options:ident, $rule:expr) => {
        impl $optimizer {
            /// An optimizer of parameters with names, which its state dict then has as PyTorch's `param_names`, and by
            /// which a state dict that has them too finds its parameters.
            ///
            /// Of a `VarMap` give [`named_vars`](crate::named_vars). Variables of integers are left out, and a
            /// variable that stands there twice is one parameter under its first name, as in PyTorch's
            /// `named_parameters()`.
            ///
            /// # Errors
            /// Options that make no sense, and parameters of an element type that is not stepped.
            pub fn named(
                vars: impl IntoIterator<Item = (String, candle_core::Var)>,
                options: $options,
            ) -> candle_core::Result<Self> {
                Self::with_groups([crate::ParamGroup::named(vars)], options)
            }

            /// An optimizer of parameter groups, which have the options where they have no settings of their own.
            ///
            /// # Errors
            /// As [`named`](Self::named); a parameter in two groups; a setting that this optimizer does not have;
            /// names in some groups and not in others.
            pub fn with_groups(
                groups: impl IntoIterator<Item = crate::ParamGroup>,
                options: $options,
            ) -> candle_core::Result<Self> {
                let groups = groups.into_iter().collect();
                super::engine::Engine::new($rule, groups, &options.into()).map(Self)
            }

            /// The state as PyTorch's `state_dict()` gives it, to be saved, by itself or beside the model's.
            ///
            /// As in PyTorch it is no copy: the bytes of the moments are taken when it is saved, so save before the
            /// next step.
            ///
            /// # Errors
            /// None that a step would not have given.
            pub fn state_dict(&self) -> candle_core::Result<ptser_core::Object> {
                self.0.state_dict()
            }

            /// Takes over the state that PyTorch or [`state_dict`](Self::state_dict) gave: moments, step counters, and
            /// the settings of the groups, the learning rate among them. Keys of groups that mean nothing here, such
            /// as a scheduler's `initial_lr`, are kept and saved again.
            ///
            /// Parameters are found by name where both sides have `param_names`. Otherwise they are found by their
            /// order, which must be the one in which PyTorch had them; only shapes tell them apart then. A
            /// [`named_vars_as`](crate::named_vars_as) of the model's state dict has that order.
            ///
            /// # Errors
            /// Where anything does not fit, or cannot be read; the optimizer is then as it was.
            pub fn load_state_dict(&mut self, value: ptser_core::Value<'_>) -> Result<(), crate::StateError> {
                self.0 = self.0.loaded(value)?;
                Ok(())
            }

            /// The learning rates of the groups.
            pub fn learning_rates(&self) -> Vec<f64> {
                self.0.groups.iter().map(|group| group.settings.lr).collect()
            }

            /// Sets the learning rate of one group.
            ///
            /// # Errors
            /// A group that is not there.
            pub fn set_group_learning_rate(&mut self, group: usize, lr: f64) -> candle_core::Result<()> {
                self.0.set_group_lr(group, lr)
            }
        }

        impl candle_nn::Optimizer for $optimizer {
            type Config = $options;

            /// An optimizer of one group of parameters without names, known by their order alone.
            fn new(vars: Vec<candle_core::Var>, options: $options) -> candle_core::Result<Self> {
                Self::with_groups([crate::ParamGroup::new(vars)], options)
            }

            /// Steps every parameter that has a gradient; others stay as they are, and so does their state.
            fn step(&mut self, grads: &candle_core::backprop::GradStore) -> candle_core::Result<()> {
                self.0.step(grads)
            }

            /// The learning rate of the first group.
            fn learning_rate(&self) -> f64 {
                self.0.lr()
            }

            /// Sets the learning rate of all groups.
            fn set_learning_rate(&mut self, lr: f64) {
                self.0.set_lr(lr);
            }
        }

        impl crate::StatefulOptimizer for $optimizer {
            fn state_dict(&self) -> candle_core::Result<ptser_core::Object> {
                Self::state_dict(self)
            }

            fn load_state_dict_if<E: From<crate::StateError>>(
                &mut self,
                value: ptser_core::Value<'_>,
                then: impl FnOnce() -> Result<(), E>,
            ) -> Result<(), E> {
                let next = self.0.loaded(value)?;
                then()?;
                self.0 = next;
                Ok(())
            }
        }

        impl std::fmt::Debug for $optimizer {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let (params, groups) = (self.0.params.len(), self.0.groups.len());
                write!(f, "{}({params} parameters in {groups} groups)", stringify!($optimizer))
            }
        }
    };
}
use optimizer;
