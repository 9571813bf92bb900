//! Storages straight into buffers of candle's Metal devices. Knows nothing of how they get there.

use std::sync::Arc;

use candle_core::op::BackpropOp;
use candle_core::{MetalDevice, MetalStorage as OfCandle, Storage as Kind, Tensor, WithDType};
use candle_metal_kernels::metal::Buffer;
use ptser_backend_metal::{Metal, Native};
use ptser_core::{DType, HostStorage, Result, Storage};

use crate::fill::Plain;

/// Uploads a storage as `count` numbers. `None` where there are none.
///
/// It is read into a buffer in shared mode, which becomes candle's as it is. No mapped page of the file does: candle may
/// write to what it owns.
pub(crate) fn upload<T: Plain + WithDType>(
    storage: &Storage,
    dtype: DType,
    count: usize,
    device: &MetalDevice,
) -> Result<Option<Tensor>> {
    let metal = Metal::of(Native::of(device.metal_device().as_ref())).in_place(false);
    let placed = metal.upload(HostStorage::new(storage, dtype))?;
    Ok(placed.into_buffer().map(|buffer| {
        let storage = OfCandle::new(Arc::new(Buffer::new(buffer)), device.clone(), count, T::DTYPE);
        Tensor::from_storage(Kind::Metal(storage), count, BackpropOp::none(), false)
    }))
}
