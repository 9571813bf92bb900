//! One step of one parameter: on the host in its memory, in one pass; elsewhere by `operations`.

use candle_core::{DType, Device, Result, Tensor, Var, bail};
use half::{bf16, f16};

use super::kernel::{self, AdamSlices, AdamStep, SgdSlices, SgdStep};
use super::memory::{elements, elements_mut, with_storages};
use super::number::Element;
use super::operations;
use crate::view::storage_key;

/// The tensors of Adam's state for one parameter.
#[derive(Debug, Clone)]
pub(super) struct Moments {
    pub(super) exp_avg: Tensor,
    pub(super) exp_avg_sq: Tensor,
    pub(super) max_exp_avg_sq: Option<Tensor>,
}

impl Moments {
    /// As many zeros as the parameter has elements.
    pub(super) fn zeros(var: &Var, amsgrad: bool) -> Result<Self> {
        Ok(Self {
            exp_avg: zeros(var)?,
            exp_avg_sq: zeros(var)?,
            max_exp_avg_sq: amsgrad.then(|| zeros(var)).transpose()?,
        })
    }
}

pub(super) fn zeros(var: &Var) -> Result<Tensor> {
    Tensor::zeros(var.shape(), var.dtype(), var.device())
}

/// Whether there is arithmetic for an element type.
pub(super) fn can_step(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F64 | DType::F16 | DType::BF16)
}

/// Calls a function for the element type of a parameter.
macro_rules! by_type {
    ($dtype:expr, $function:ident($($argument:expr),*)) => {
        match $dtype {
            DType::F32 => $function::<f32>($($argument),*),
            DType::F64 => $function::<f64>($($argument),*),
            DType::F16 => $function::<f16>($($argument),*),
            DType::BF16 => $function::<bf16>($($argument),*),
            other => bail!("no optimizer steps parameters of {other:?}"),
        }
    };
}

/// Steps a parameter by Adam or AdamW.
pub(super) fn adam(
    var: &Var,
    grad: &Tensor,
    moments: &Moments,
    amsgrad: bool,
    step: &AdamStep,
) -> Result<()> {
    let max = moments.max_exp_avg_sq.as_ref().filter(|_| amsgrad);
    if !matches!(var.device(), Device::Cpu) {
        return operations::adam(var, grad, moments, max, step);
    }
    let grad = readable(var, grad)?;
    by_type!(var.dtype(), adam_in_memory(var, &grad, moments, max, step))
}

/// Steps a parameter by SGD.
pub(super) fn sgd(var: &Var, grad: &Tensor, buffer: Option<&Tensor>, step: &SgdStep) -> Result<()> {
    if !matches!(var.device(), Device::Cpu) {
        return operations::sgd(var, grad, buffer, step);
    }
    let grad = readable(var, grad)?;
    by_type!(var.dtype(), sgd_in_memory(var, &grad, buffer, step))
}

/// A gradient in C order, in memory of its own.
fn readable(var: &Var, grad: &Tensor) -> Result<Tensor> {
    if storage_key(var) == storage_key(grad) { grad.copy()?.contiguous() } else { grad.contiguous() }
}

fn adam_in_memory<E: Element>(
    var: &Var,
    grad: &Tensor,
    moments: &Moments,
    max: Option<&Tensor>,
    step: &AdamStep,
) -> Result<()> {
    let mut tensors = vec![var.as_tensor(), &moments.exp_avg, &moments.exp_avg_sq];
    tensors.extend(max);
    in_memory::<E>(grad, &tensors, |grad, slices| {
        let mut slices = slices.into_iter();
        let (Some(param), Some(exp_avg), Some(exp_avg_sq)) = (slices.next(), slices.next(), slices.next())
        else {
            bail!("optimizer step: a storage is missing")
        };
        let max_exp_avg_sq = slices.next();
        kernel::adam(step, AdamSlices { param, exp_avg, exp_avg_sq, max_exp_avg_sq, grad });
        Ok(())
    })
}

fn sgd_in_memory<E: Element>(
    var: &Var,
    grad: &Tensor,
    buffer: Option<&Tensor>,
    step: &SgdStep,
) -> Result<()> {
    let mut tensors = vec![var.as_tensor()];
    tensors.extend(buffer);
    in_memory::<E>(grad, &tensors, |grad, slices| {
        let mut slices = slices.into_iter();
        let Some(param) = slices.next() else { bail!("optimizer step: a storage is missing") };
        kernel::sgd(step, SgdSlices { param, momentum_buffer: slices.next(), grad });
        Ok(())
    })
}

/// The elements of a gradient, and those of tensors that are changed, in their order.
fn in_memory<E: Element>(
    grad: &Tensor,
    tensors: &[&Tensor],
    then: impl Fn(&[E], Vec<&mut [E]>) -> Result<()>,
) -> Result<()> {
    let (storage, layout) = grad.storage_and_layout();
    let candle_core::Storage::Cpu(storage) = &*storage else {
        bail!("optimizer step: the gradient is on another device than its parameter")
    };
    let grad = elements::<E>(storage, layout)?;
    with_storages(tensors, &mut |storages| {
        let slices = storages.iter_mut().zip(tensors);
        let slices = slices.map(|(storage, tensor)| elements_mut::<E>(storage, tensor.layout()));
        then(grad, slices.collect::<Result<_>>()?)
    })
}

/// Adds one to a step counter, which is on the host as in PyTorch, and gives it.
pub(super) fn count(step: &Tensor) -> Result<f64> {
    let mut counted = 0.0;
    with_storages(&[step], &mut |storages| {
        let Some(storage) = storages.first_mut() else { bail!("optimizer step: a storage is missing") };
        let layout = step.layout();
        match step.dtype() {
            DType::F64 => {
                for number in elements_mut::<f64>(storage, layout)? {
                    *number += 1.0;
                    counted = *number;
                }
            }
            _ => {
                for number in elements_mut::<f32>(storage, layout)? {
                    *number += 1.0;
                    counted = f64::from(*number);
                }
            }
        }
        Ok(())
    })?;
    Ok(counted)
}
