//! One step of one parameter by candle's own operations: for devices whose memory is not the host's.

#![cfg_attr(
    not(test),
    expect(clippy::arithmetic_side_effects, reason = "the operators are candle's, and give errors")
)]

use candle_core::{Result, Tensor, Var};

use super::kernel::{AdamStep, SgdStep};
use super::step::Moments;

/// The gradient that is descended: of the other sign to maximize, with the parameter added.
fn descended(var: &Var, grad: &Tensor, maximize: bool, weight_decay: f64) -> Result<Tensor> {
    let grad = if maximize { grad.neg()? } else { grad.clone() };
    if weight_decay == 0.0 { Ok(grad) } else { grad + (var.as_tensor() * weight_decay)? }
}

/// Steps a parameter by Adam or AdamW.
pub(super) fn adam(
    var: &Var,
    grad: &Tensor,
    moments: &Moments,
    max: Option<&Tensor>,
    step: &AdamStep,
) -> Result<()> {
    let grad = descended(var, grad, step.maximize, step.weight_decay)?;
    let start = &moments.exp_avg;
    let way = (&grad - start)?;
    let exp_avg = if step.first < 0.5 {
        (start + (way * step.first)?)?
    } else {
        (&grad + (way * (step.first - 1.0))?)?
    };
    let exp_avg_sq = ((&moments.exp_avg_sq * step.beta2)? + ((&grad * (1.0 - step.beta2))? * &grad)?)?;
    let max_exp_avg_sq = max.map(|max| max.maximum(&exp_avg_sq)).transpose()?;
    let second = max_exp_avg_sq.as_ref().unwrap_or(&exp_avg_sq);
    // Divided by the number, and not multiplied by its inverse; both are one operation over the elements.
    let root = (second.sqrt()? / step.bias_correction2_sqrt)?;
    let moved = ((&exp_avg * -step.step_size)? / (root + step.eps)?)?;
    let param = if step.decay == 1.0 { var.as_tensor().clone() } else { (var.as_tensor() * step.decay)? };
    let param = (param + moved)?;
    set(&moments.exp_avg, &exp_avg)?;
    set(&moments.exp_avg_sq, &exp_avg_sq)?;
    if let (Some(max), Some(next)) = (max, &max_exp_avg_sq) {
        set(max, next)?;
    }
    var.set(&param)
}

/// Steps a parameter by SGD.
pub(super) fn sgd(var: &Var, grad: &Tensor, buffer: Option<&Tensor>, step: &SgdStep) -> Result<()> {
    let grad = descended(var, grad, step.maximize, step.weight_decay)?;
    let grad = match buffer {
        None => grad,
        Some(buffer) => {
            let next = if step.first {
                grad.copy()?
            } else {
                ((buffer * step.momentum)? + (&grad * (1.0 - step.dampening))?)?
            };
            set(buffer, &next)?;
            if step.nesterov { (grad + (next * step.momentum)?)? } else { next }
        }
    };
    var.set(&(var.as_tensor() - (grad * step.lr)?)?)
}

/// Writes new values over a tensor's.
fn set(tensor: &Tensor, values: &Tensor) -> Result<()> {
    if tensor.rank() == 0 {
        return tensor.reshape(1)?.slice_set(&values.reshape(1)?.contiguous()?, 0, 0);
    }
    tensor.slice_set(&values.contiguous()?, 0, 0)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::optim::step;

    fn numbers(seed: u32) -> Vec<f32> {
        (0..97_u32).map(|n| ((n * 37 + seed * 101) % 193) as f32 / 96.5 - 1.0).collect()
    }

    fn tensor(seed: u32) -> Tensor {
        Tensor::from_vec(numbers(seed), 97, &Device::Cpu).unwrap()
    }

    fn close(a: &Tensor, b: &Tensor) {
        let (a, b) = (a.to_vec1::<f32>().unwrap(), b.to_vec1::<f32>().unwrap());
        for (a, b) in a.iter().zip(&b) {
            assert!((a - b).abs() <= 1e-6 * b.abs().max(0.1), "{a} {b}");
        }
    }

    /// The way of devices, taken on the host, comes to the same as the host's.
    #[test]
    fn operations_and_memory_agree() {
        for (amsgrad, maximize, weight_decay, decay, first) in
            [(false, false, 0.0, 0.999, 0.1), (true, true, 0.1, 1.0, 0.7)]
        {
            let [one, other] = [(), ()].map(|()| Var::from_tensor(&tensor(0)).unwrap());
            let [moments, others] = [&one, &other].map(|var| Moments::zeros(var, amsgrad).unwrap());
            for seed in 1..5 {
                let made = AdamStep {
                    maximize,
                    weight_decay,
                    decay,
                    first,
                    beta2: 0.99,
                    bias_correction2_sqrt: 0.3,
                    eps: 1e-3,
                    step_size: 0.01,
                };
                step::adam(&one, &tensor(seed), &moments, amsgrad, &made).unwrap();
                let max = others.max_exp_avg_sq.as_ref();
                adam(&other, &tensor(seed), &others, max, &made).unwrap();
            }
            close(&one, &other);
            close(&moments.exp_avg, &others.exp_avg);
            close(&moments.exp_avg_sq, &others.exp_avg_sq);
        }
        for (nesterov, dampening) in [(true, 0.0), (false, 0.5)] {
            let [one, other] = [(), ()].map(|()| Var::from_tensor(&tensor(0)).unwrap());
            let [buffer, other_buffer] = [&one, &other].map(|var| step::zeros(var).unwrap());
            for seed in 1..5 {
                let made = SgdStep {
                    maximize: nesterov,
                    weight_decay: 0.1,
                    momentum: 0.9,
                    dampening,
                    nesterov,
                    lr: 0.1,
                    first: seed == 1,
                };
                step::sgd(&one, &tensor(seed), Some(&buffer), &made).unwrap();
                sgd(&other, &tensor(seed), Some(&other_buffer), &made).unwrap();
            }
            close(&one, &other);
            close(&buffer, &other_buffer);
        }
    }

    /// Tensors without axes are written through a view of one.
    #[test]
    fn scalars_are_stepped_too() {
        let var = Var::new(2.0_f32, &Device::Cpu).unwrap();
        let buffer = step::zeros(&var).unwrap();
        let made = SgdStep {
            maximize: false,
            weight_decay: 0.0,
            momentum: 0.5,
            dampening: 0.0,
            nesterov: false,
            lr: 1.0,
            first: true,
        };
        let grad = Tensor::new(0.5_f32, &Device::Cpu).unwrap();
        sgd(&var, &grad, Some(&buffer), &made).unwrap();
        sgd(&var, &grad, Some(&buffer), &SgdStep { first: false, ..made }).unwrap();
        assert_eq!(buffer.to_scalar::<f32>().unwrap(), 0.75);
        assert_eq!(var.to_scalar::<f32>().unwrap(), 0.75);
    }
}
