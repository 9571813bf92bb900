//! What lies in candle's storages, as bytes to be saved; knows nothing of names and views.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, DType, DeviceLocation, Tensor};
use ptser_core::{DType as Torch, Error, HostBytes, Location, Result};

use crate::fill::bytes_of;

/// The storage behind a candle tensor, from its beginning on. It lives as long as this does.
pub(crate) struct TensorBytes {
    tensor: Tensor,
    nbytes: usize,
}

impl TensorBytes {
    /// The storage of a tensor: all of it on the host, so many elements of it on a device, which does not tell how
    /// many there are.
    ///
    /// # Errors
    /// `Misuse` for element types that PyTorch has none for.
    pub(crate) fn of(tensor: &Tensor, elements: usize) -> Result<Self> {
        let (storage, _) = tensor.storage_and_layout();
        let nbytes = match &*storage {
            candle_core::Storage::Cpu(storage) => bytes(storage)?.len(),
            _ => elements.saturating_mul(tensor.dtype().size_in_bytes()),
        };
        drop(storage);
        Ok(Self { tensor: tensor.clone(), nbytes })
    }
}

impl HostBytes for TensorBytes {
    fn nbytes(&self) -> u64 {
        u64::try_from(self.nbytes).unwrap_or(u64::MAX)
    }

    /// Whoever writes to the storage waits meanwhile, but for storages on devices, which are copied first.
    fn with_bytes(&self, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let (storage, _) = self.tensor.storage_and_layout();
        let copied = match &*storage {
            candle_core::Storage::Cpu(storage) => return take(bytes(storage)?),
            candle_core::Storage::Cuda(storage) => storage.to_cpu_storage(),
            candle_core::Storage::Metal(storage) => storage.to_cpu_storage(),
        };
        drop(storage);
        let copied = copied.map_err(|error| Error::backend(error.to_string()))?;
        let all = bytes(&copied)?;
        take(all.get(..self.nbytes).unwrap_or(all))
    }
}

/// The bytes of a storage on the host, where they lie.
fn bytes(storage: &CpuStorage) -> Result<&[u8]> {
    match storage {
        CpuStorage::U8(numbers) => Ok(numbers),
        CpuStorage::U32(numbers) => Ok(bytes_of(numbers)),
        CpuStorage::I16(numbers) => Ok(bytes_of(numbers)),
        CpuStorage::I32(numbers) => Ok(bytes_of(numbers)),
        CpuStorage::I64(numbers) => Ok(bytes_of(numbers)),
        CpuStorage::BF16(numbers) => Ok(bytes_of(numbers)),
        CpuStorage::F16(numbers) => Ok(bytes_of(numbers)),
        CpuStorage::F32(numbers) => Ok(bytes_of(numbers)),
        CpuStorage::F64(numbers) => Ok(bytes_of(numbers)),
        CpuStorage::F8E4M3(numbers) => Ok(bytes_of(numbers)),
        CpuStorage::F6E2M3(_) => Err(unsaved(DType::F6E2M3)),
        CpuStorage::F6E3M2(_) => Err(unsaved(DType::F6E3M2)),
        CpuStorage::F4(_) => Err(unsaved(DType::F4)),
        CpuStorage::F8E8M0(_) => Err(unsaved(DType::F8E8M0)),
    }
}

/// The element type that holds the same bytes in PyTorch.
pub(crate) fn torch_dtype(dtype: DType) -> Result<Torch> {
    match dtype {
        DType::U8 => Ok(Torch::UInt8),
        DType::U32 => Ok(Torch::UInt32),
        DType::I16 => Ok(Torch::Int16),
        DType::I32 => Ok(Torch::Int32),
        DType::I64 => Ok(Torch::Int64),
        DType::BF16 => Ok(Torch::BFloat16),
        DType::F16 => Ok(Torch::Float16),
        DType::F32 => Ok(Torch::Float32),
        DType::F64 => Ok(Torch::Float64),
        DType::F8E4M3 => Ok(Torch::Float8E4M3Fn),
        // `F6E2M3`, `F6E3M2`, `F4` and `F8E8M0`, and what candle may add.
        dtype => Err(unsaved(dtype)),
    }
}

fn unsaved(dtype: DType) -> Error {
    Error::misuse(format!(
        "candle's {dtype:?} has no counterpart in PyTorch and cannot be saved; convert the tensor to another type"
    ))
}

/// PyTorch's name of a device.
pub(crate) fn location(device: DeviceLocation) -> Location {
    match device {
        DeviceLocation::Cpu => Location::cpu(),
        DeviceLocation::Cuda { gpu_id } => Location::new(format!("cuda:{gpu_id}")),
        DeviceLocation::Metal { .. } => Location::new("mps"),
    }
}
