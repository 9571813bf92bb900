//! The twin of `cuda` where candle has no CUDA devices.

use candle_core::{CudaDevice, Tensor, WithDType};
use ptser_core::{DType, Result, Storage};

use crate::fill::Plain;

/// Numbers whose bytes are in candle what they are in a file.
pub(crate) trait Number: Plain + WithDType {}

impl<T: Plain + WithDType> Number for T {}

#[expect(clippy::unnecessary_wraps, reason = "its twin has an answer")]
pub(crate) fn upload<T: Number>(
    _storage: &Storage,
    _dtype: DType,
    _count: usize,
    _device: &CudaDevice,
) -> Result<Option<Tensor>> {
    Ok(None)
}
