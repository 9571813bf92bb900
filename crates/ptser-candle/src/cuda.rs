//! Storages straight into the memory of candle's CUDA devices, and not through a vector on the host. Knows nothing of
//! how they get there.

use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DeviceRepr};
use candle_core::cuda_backend::{CudaDType, CudaStorage as OfCandle};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, Storage as Kind, Tensor, WithDType};
use ptser_backend_cuda::Filling;
use ptser_core::{DType, Error, HostStorage, Result, Storage};

use crate::fill::Plain;

/// Numbers whose bytes are in candle what they are in a file.
pub(crate) trait Number: Plain + WithDType + CudaDType + DeviceRepr {}

impl<T: Plain + WithDType + CudaDType + DeviceRepr> Number for T {}

/// Copies to memory that is candle's already, and the tensors that they are for.
#[derive(Default)]
pub(crate) struct Copies(Vec<(String, Filling)>);

impl Copies {
    /// Waits until all of them are done: a wait for the slowest, and a look at the others.
    pub(crate) fn wait(&self) -> Result<()> {
        self.0.iter().try_for_each(|(name, filling)| filling.wait().map_err(|error| error.in_tensor(name)))
    }
}

/// Uploads a storage as `count` numbers. `None` where there are none.
///
/// The tensor is complete, unless the copies are left to a caller, who waits for them before another thread gets it.
pub(crate) fn upload<T: Number>(
    name: &str,
    storage: &Storage,
    dtype: DType,
    count: usize,
    device: &CudaDevice,
    copies: Option<&mut Copies>,
) -> Result<Option<Tensor>> {
    let index = device.cuda_stream().context().ordinal();
    let index = u32::try_from(index).map_err(|_| Error::backend(format!("there is no cuda:{index}")))?;
    let placed = ptser_backend_cuda::backend().upload(HostStorage::new(storage, dtype), index)?;
    let slice = match copies {
        // candle has a stream for each thread: this thread's waits, and the next one's would not.
        Some(copies) => placed.into_slice_on(device.cuda_stream())?.map(|(slice, filling)| {
            copies.0.push((name.to_owned(), filling));
            slice
        }),
        None => placed.into_slice()?,
    };
    let storage = slice.and_then(|slice| hand_over::<T>(slice, device));
    Ok(storage.map(|storage| Tensor::from_storage(Kind::Cuda(storage), count, BackpropOp::none(), false)))
}

/// Makes the backend's memory a storage of candle's, where it lies: candle frees it. `None` where it cannot hold numbers.
#[expect(unsafe_code, reason = "memory of a device changes its owner")]
fn hand_over<T: Number>(slice: CudaSlice<u8>, device: &CudaDevice) -> Option<OfCandle> {
    let count = slice.len().checked_div(size_of::<T>())?;
    let address = slice.leak();
    // SAFETY: `slice` owned this allocation and has forgotten it, so that it is freed once. It holds `count` numbers, is
    // aligned as the driver aligns every allocation, and belongs to the primary context of the device, which is `device`'s
    // context too. All of it is written, with bytes that `Plain` makes numbers of, before anybody uses or frees it: either
    // the host has waited for the copies, or candle's stream of this thread does. On that stream stands what this thread
    // does with the memory, also that it frees it where the load fails; other threads, whose streams do not wait, have the
    // memory only when the host has waited (`Copies::wait`).
    let slice = unsafe { device.cuda_stream().upgrade_device_ptr::<T>(address, count) };
    Some(OfCandle::wrap_cuda_slice(slice, device.clone()))
}
