//! The twin of `cuda` where candle has no CUDA devices.

use candle_core::{CudaDevice, Tensor, WithDType};
use ptser_core::{DType, Result, Storage};

use crate::fill::Plain;

/// Numbers whose bytes are in candle what they are in a file.
pub(crate) trait Number: Plain + WithDType {}

impl<T: Plain + WithDType> Number for T {}

/// Copies to memory that is candle's already: none.
#[derive(Default)]
pub(crate) struct Copies;

impl Copies {
    #[expect(clippy::unnecessary_wraps, reason = "its twin may fail")]
    pub(crate) fn wait(&self) -> Result<()> {
        Ok(())
    }
}

#[expect(clippy::unnecessary_wraps, reason = "its twin has an answer")]
pub(crate) fn upload<T: Number>(
    _name: &str,
    _storage: &Storage,
    _dtype: DType,
    _count: usize,
    _device: &CudaDevice,
    _copies: Option<&mut Copies>,
) -> Result<Option<Tensor>> {
    Ok(None)
}
