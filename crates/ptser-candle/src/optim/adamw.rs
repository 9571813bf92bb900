//! AdamW: the weight decay is the parameter's own.

use super::engine::Engine;
use super::optimizer;
use super::settings::{Rule, Settings};

/// Adam with decoupled weight decay as `torch.optim.AdamW` does it.
///
/// ```
/// use candle_core::{Device, Var};
/// use candle_nn::Optimizer;
/// use ptser_candle::{AdamW, AdamWOptions};
///
/// let x = Var::new(&[4_f32], &Device::Cpu)?;
/// let options = AdamWOptions { lr: 0.5, weight_decay: 0.0, ..AdamWOptions::default() };
/// let mut optimizer = AdamW::named([("x".to_owned(), x.clone())], options)?;
/// optimizer.backward_step(&x.sqr()?.sum_all()?)?;
/// assert_eq!(x.to_vec1::<f32>()?, [3.5]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub struct AdamW(Engine);

/// What [`AdamW`] is made with; the defaults are those of torch 2.15.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWOptions {
    /// The learning rate.
    pub lr: f64,
    /// How much of each moment is kept at a step.
    pub betas: (f64, f64),
    /// What is added to the denominator.
    pub eps: f64,
    /// How much of the parameter is lost at a step, times the learning rate.
    pub weight_decay: f64,
    /// Whether the largest second moment so far counts.
    pub amsgrad: bool,
    /// Whether the objective is maximized.
    pub maximize: bool,
}

impl Default for AdamWOptions {
    fn default() -> Self {
        let Settings { lr, betas, eps, weight_decay: _, amsgrad, maximize, .. } = Settings::default();
        Self { lr, betas, eps, weight_decay: 1e-2, amsgrad, maximize }
    }
}

impl From<AdamWOptions> for Settings {
    fn from(options: AdamWOptions) -> Self {
        let AdamWOptions { lr, betas, eps, weight_decay, amsgrad, maximize } = options;
        Self { lr, betas, eps, weight_decay, amsgrad, maximize, ..Self::default() }
    }
}

optimizer!(AdamW, AdamWOptions, Rule::AdamW);

impl From<candle_nn::ParamsAdamW> for AdamWOptions {
    fn from(params: candle_nn::ParamsAdamW) -> Self {
        let candle_nn::ParamsAdamW { lr, beta1, beta2, eps, weight_decay } = params;
        Self { lr, betas: (beta1, beta2), eps, weight_decay, ..Self::default() }
    }
}
