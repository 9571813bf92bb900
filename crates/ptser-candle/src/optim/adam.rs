//! Adam: the weight decay goes through the gradient.

use super::engine::Engine;
use super::optimizer;
use super::settings::{Rule, Settings};

/// Adam as `torch.optim.Adam` does it.
///
/// ```
/// use candle_core::{Device, Var};
/// use candle_nn::Optimizer;
/// use ptser_candle::{Adam, AdamOptions};
///
/// let x = Var::new(&[4_f32], &Device::Cpu)?;
/// let options = AdamOptions { lr: 0.5, weight_decay: 0.0, ..AdamOptions::default() };
/// let mut optimizer = Adam::named([("x".to_owned(), x.clone())], options)?;
/// optimizer.backward_step(&x.sqr()?.sum_all()?)?;
/// assert_eq!(x.to_vec1::<f32>()?, [3.5]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub struct Adam(Engine);

/// What [`Adam`] is made with; the defaults are those of torch 2.15.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamOptions {
    /// The learning rate.
    pub lr: f64,
    /// How much of each moment is kept at a step.
    pub betas: (f64, f64),
    /// What is added to the denominator.
    pub eps: f64,
    /// How much of the parameter is added to its gradient.
    pub weight_decay: f64,
    /// Whether the largest second moment so far counts.
    pub amsgrad: bool,
    /// Whether the objective is maximized.
    pub maximize: bool,
}

impl Default for AdamOptions {
    fn default() -> Self {
        let Settings { lr, betas, eps, weight_decay, amsgrad, maximize, .. } = Settings::default();
        Self { lr, betas, eps, weight_decay, amsgrad, maximize }
    }
}

impl From<AdamOptions> for Settings {
    fn from(options: AdamOptions) -> Self {
        let AdamOptions { lr, betas, eps, weight_decay, amsgrad, maximize } = options;
        Self { lr, betas, eps, weight_decay, amsgrad, maximize, ..Self::default() }
    }
}

optimizer!(Adam, AdamOptions, Rule::Adam);
