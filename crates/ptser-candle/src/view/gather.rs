//! The copy that stands in for a view which candle cannot make: knows how to walk a storage and write down what it
//! meets; must not know why there is no view.

use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::op::BackpropOp;
use candle_core::{CpuStorage, DType, Device, Layout, Result, Storage, Tensor, bail};

use super::request::{Axis, Request, span};
use super::row_major;

/// The farthest element that the kernels of candle find, and the most that they copy: they count in 32 bits, on CUDA
/// with a step that may not overflow.
const KERNEL_REACH: usize = (1 << 31) - 1;

/// Copies the elements of a view of `base` into a storage of their own, in row-major order, on the device of `base`.
///
/// Arguments are those of [`as_strided`](super::as_strided), and each view it accepts is copied, also those it does
/// not reach. Elements that the view meets more than once are written as often: where windows overlap, or a stride is
/// 0, the copy can be larger than the base by any factor, and the caller bounds it. Of a view without elements there
/// is nothing to copy, it stays a view.
///
/// # Errors
/// As for `as_strided`, if there is no memory for the copy, or if `base` is of [`DType::F4`], which has two elements
/// to the byte.
pub(crate) fn gather(base: &Tensor, size: &[usize], stride: &[usize], offset: usize) -> Result<Tensor> {
    let request = Request::check(base, size, stride, offset)?;
    if request.is_empty() {
        return row_major(&base.detach(), &request);
    }
    check_bytes(&request, base.dtype())?;
    if base.device().is_cpu() {
        return on_cpu(base, &request);
    }
    // candle lacks kernels for some types (on Metal the 16-bit integer, for one), and says so by an error
    match on_device(base, &request) {
        Ok(Some(copy)) => Ok(copy),
        Ok(None) | Err(_) => on_cpu(&base.to_device(&Device::Cpu)?, &request)?.to_device(base.device()),
    }
}

/// Refuses a copy of more bytes than any memory has: device allocators multiply unchecked.
fn check_bytes(request: &Request<'_>, dtype: DType) -> Result<()> {
    let bytes = request.elem_count.checked_mul(dtype.size_in_bytes());
    if bytes.is_none_or(|bytes| isize::try_from(bytes).is_err()) {
        bail!("a copy of size {:?} as {dtype:?} has more bytes than can be addressed", request.size);
    }
    Ok(())
}

/// Copies by candle's own kernel for strided elements. `None` if it would miscount them.
fn on_device(base: &Tensor, request: &Request<'_>) -> Result<Option<Tensor>> {
    let farthest = span(request.moving_axes());
    if farthest.is_none_or(|farthest| farthest.max(request.elem_count) > KERNEL_REACH) {
        return Ok(None);
    }
    let layout = Layout::new(request.size.into(), request.stride.to_vec(), request.offset);
    let (source, _) = base.storage_and_layout();
    let copy = match &*source {
        Storage::Cpu(source) => Storage::Cpu(strided_copy(source, &layout)?),
        Storage::Cuda(source) => Storage::Cuda(strided_copy(source, &layout)?),
        Storage::Metal(source) => Storage::Metal(strided_copy(source, &layout)?),
    };
    Ok(Some(Tensor::from_storage(copy, request.size, BackpropOp::none(), false)))
}

fn strided_copy<S>(source: &S, layout: &Layout) -> Result<S>
where
    S: BackendStorage<Device: BackendDevice<Storage = S>>,
{
    let mut copy = source.device().zeros_impl(layout.shape(), source.dtype())?;
    source.copy_strided_src(&mut copy, 0, layout)?;
    Ok(copy)
}

/// Copies by walking the storage itself, which no number of elements is too large for.
fn on_cpu(base: &Tensor, request: &Request<'_>) -> Result<Tensor> {
    let (source, _) = base.storage_and_layout();
    let Storage::Cpu(source) = &*source else {
        bail!("a storage of {:?} is not in main memory", base.device())
    };
    let copy = match source {
        CpuStorage::U8(source) => CpuStorage::U8(walk(source, request)?),
        CpuStorage::U32(source) => CpuStorage::U32(walk(source, request)?),
        CpuStorage::I16(source) => CpuStorage::I16(walk(source, request)?),
        CpuStorage::I32(source) => CpuStorage::I32(walk(source, request)?),
        CpuStorage::I64(source) => CpuStorage::I64(walk(source, request)?),
        CpuStorage::BF16(source) => CpuStorage::BF16(walk(source, request)?),
        CpuStorage::F16(source) => CpuStorage::F16(walk(source, request)?),
        CpuStorage::F32(source) => CpuStorage::F32(walk(source, request)?),
        CpuStorage::F64(source) => CpuStorage::F64(walk(source, request)?),
        CpuStorage::F8E4M3(source) => CpuStorage::F8E4M3(walk(source, request)?),
        CpuStorage::F6E2M3(source) => CpuStorage::F6E2M3(walk(source, request)?),
        CpuStorage::F6E3M2(source) => CpuStorage::F6E3M2(walk(source, request)?),
        CpuStorage::F8E8M0(source) => CpuStorage::F8E8M0(walk(source, request)?),
        CpuStorage::F4(_) => bail!("elements of f4 cannot be copied one by one, a byte holds two"),
    };
    Ok(Tensor::from_storage(Storage::Cpu(copy), request.size, BackpropOp::none(), false))
}

/// The elements that the view meets in `source`, in its order.
fn walk<T: Copy>(source: &[T], request: &Request<'_>) -> Result<Vec<T>> {
    let mut met = Vec::new();
    if met.try_reserve_exact(request.elem_count).is_err() {
        bail!("no memory for a copy of {} elements of a view of size {:?}", request.elem_count, request.size);
    }
    let walked = walk_axes(source, &request.runs(), request.offset, &mut met);
    if walked.is_none() || met.len() != request.elem_count {
        bail!("a storage said to hold {} elements holds {}", request.storage_len, source.len());
    }
    Ok(met)
}

/// Recurses once for each axis longer than one: the count of a view's elements allows 63 of them.
fn walk_axes<T: Copy>(source: &[T], axes: &[Axis], start: usize, met: &mut Vec<T>) -> Option<()> {
    match axes {
        [] => met.push(*source.get(start)?),
        [axis] => walk_axis(source.get(start..)?, *axis, met)?,
        [axis, inner @ ..] => {
            for step in 0..axis.size {
                let start = start.checked_add(step.checked_mul(axis.stride)?)?;
                walk_axes(source, inner, start, met)?;
            }
        }
    }
    Some(())
}

fn walk_axis<T: Copy>(source: &[T], axis: Axis, met: &mut Vec<T>) -> Option<()> {
    match axis.stride {
        0 => met.extend(std::iter::repeat_n(*source.first()?, axis.size)),
        1 => met.extend_from_slice(source.get(..axis.size)?),
        stride => met.extend(source.iter().step_by(stride).take(axis.size)),
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_of_a_device_copies_what_the_walk_does() -> Result<()> {
        // the CPU stands in for a device: its storage answers to the same trait
        let base = Tensor::arange(0_u32, 100, &Device::Cpu)?;
        let views: [(&[usize], &[usize]); 5] = [
            (&[3, 4], &[5, 1]),
            (&[7, 2, 3], &[1, 0, 20]),
            (&[], &[]),
            (&[2, 1, 3], &[50, 9, 3]),
            (&[5, 5], &[6, 6]),
        ];
        for (size, stride) in views {
            let request = Request::check(&base, size, stride, 7)?;
            let by_kernel = on_device(&base, &request)?.ok_or(candle_core::Error::msg("no copy"))?;
            let by_walk = on_cpu(&base, &request)?;
            assert_eq!(by_kernel.dims(), size);
            assert_eq!(by_kernel.flatten_all()?.to_vec1::<u32>()?, by_walk.flatten_all()?.to_vec1::<u32>()?);
        }
        Ok(())
    }

    #[test]
    fn the_kernel_of_a_device_is_not_asked_to_count_past_31_bits() -> Result<()> {
        let base = Tensor::arange(0_u32, 2, &Device::Cpu)?;
        let request = Request::check(&base, &[1 << 31, 2], &[0, 1], 0)?;
        assert!(on_device(&base, &request)?.is_none());
        Ok(())
    }
}
