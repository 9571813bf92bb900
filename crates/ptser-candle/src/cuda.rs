//! Storages straight into the memory of candle's CUDA devices, and not through a vector on the host. Knows nothing of
//! how they get there.

use candle_core::cuda_backend::cudarc::driver::DeviceRepr;
use candle_core::cuda_backend::{CudaDType, CudaStorage as OfCandle};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, Storage as Kind, Tensor, WithDType};
use ptser_backend_cuda::CudaStorage;
use ptser_core::{DType, Error, HostStorage, Result, Storage};

use crate::fill::Plain;

/// Numbers whose bytes are in candle what they are in a file.
pub(crate) trait Number: Plain + WithDType + CudaDType + DeviceRepr {}

impl<T: Plain + WithDType + CudaDType + DeviceRepr> Number for T {}

/// Uploads a storage as `count` numbers. `None` where there are none.
pub(crate) fn upload<T: Number>(
    storage: &Storage,
    dtype: DType,
    count: usize,
    device: &CudaDevice,
) -> Result<Option<Tensor>> {
    let index = device.cuda_stream().context().ordinal();
    let index = u32::try_from(index).map_err(|_| Error::backend(format!("there is no cuda:{index}")))?;
    let placed = ptser_backend_cuda::backend().upload(HostStorage::new(storage, dtype), index)?;
    let storage = hand_over::<T>(placed, device)?;
    Ok(storage.map(|storage| Tensor::from_storage(Kind::Cuda(storage), count, BackpropOp::none(), false)))
}

/// Makes a storage of the backend's one of candle's, where it lies: candle frees it. `None` where there are no bytes.
#[expect(unsafe_code, reason = "memory of a device changes its owner")]
fn hand_over<T: Number>(placed: CudaStorage, device: &CudaDevice) -> Result<Option<OfCandle>> {
    // The host waits for the copies: candle has a stream for each thread, and the next thread's would not.
    let Some(slice) = placed.into_slice()? else { return Ok(None) };
    let Some(count) = slice.len().checked_div(size_of::<T>()) else { return Ok(None) };
    let address = slice.leak();
    // SAFETY: `slice` owned this allocation and has forgotten it, so that it is freed once. It holds `count` numbers, is
    // aligned as the driver aligns every allocation, and belongs to the primary context of the device, which is `device`'s
    // context too. All of it has been written, with bytes that `Plain` makes numbers of.
    let slice = unsafe { device.cuda_stream().upgrade_device_ptr::<T>(address, count) };
    Ok(Some(OfCandle::wrap_cuda_slice(slice, device.clone())))
}
