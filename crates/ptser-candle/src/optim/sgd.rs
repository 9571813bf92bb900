//! Stochastic gradient descent, with momentum or without.

use super::engine::Engine;
use super::optimizer;
use super::settings::{Rule, Settings};

/// Stochastic gradient descent as `torch.optim.SGD` does it.
///
/// ```
/// use candle_core::{Device, Var};
/// use candle_nn::Optimizer;
/// use ptser_candle::{Sgd, SgdOptions};
///
/// let x = Var::new(&[4_f32], &Device::Cpu)?;
/// let options = SgdOptions { lr: 0.1, momentum: 0.9, ..SgdOptions::default() };
/// let mut optimizer = Sgd::named([("x".to_owned(), x.clone())], options)?;
/// optimizer.backward_step(&x.sqr()?.sum_all()?)?;
/// assert_eq!(x.to_vec1::<f32>()?, [3.2]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub struct Sgd(Engine);

/// What [`Sgd`] is made with; the defaults are those of torch 2.15.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdOptions {
    /// The learning rate.
    pub lr: f64,
    /// How much of the last steps' direction is kept.
    pub momentum: f64,
    /// How much less than all of the gradient is added to it.
    pub dampening: f64,
    /// How much of the parameter is added to its gradient.
    pub weight_decay: f64,
    /// Whether the momentum is Nesterov's.
    pub nesterov: bool,
    /// Whether the objective is maximized.
    pub maximize: bool,
}

impl Default for SgdOptions {
    fn default() -> Self {
        let Settings { lr, momentum, dampening, weight_decay, nesterov, maximize, .. } = Settings::default();
        Self { lr, momentum, dampening, weight_decay, nesterov, maximize }
    }
}

impl From<SgdOptions> for Settings {
    fn from(options: SgdOptions) -> Self {
        let SgdOptions { lr, momentum, dampening, weight_decay, nesterov, maximize } = options;
        Self { lr, momentum, dampening, weight_decay, nesterov, maximize, ..Self::default() }
    }
}

optimizer!(Sgd, SgdOptions, Rule::Sgd);
