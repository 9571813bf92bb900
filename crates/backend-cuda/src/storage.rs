//! A storage in the memory of a device.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use ptser_core::{DeviceStorage, Error, HostStorage, Location, Result};

use crate::device::{Device, MemoryOf};
use crate::driver::Driver;
use crate::native::Native;

/// A storage in the memory of a CUDA device, freed when it is dropped.
pub struct CudaStorage<D: Driver = Native> {
    device: Arc<Device<D>>,
    /// None where there are no bytes.
    memory: Option<MemoryOf<D>>,
    nbytes: u64,
}

impl<D: Driver> CudaStorage<D> {
    pub(crate) fn upload(device: Arc<Device<D>>, storage: &HostStorage<'_>) -> Result<Self> {
        let memory = device.upload(storage)?;
        Ok(Self { device, memory, nbytes: storage.nbytes() })
    }

    /// Where it lives: `cuda:0`.
    pub fn location(&self) -> Location {
        self.device.location()
    }
}

impl CudaStorage {
    /// Gives the memory away, on the stream that it was filled on; all copies to it are done. `None` where there are
    /// no bytes.
    pub fn into_slice(self) -> Option<cudarc::driver::CudaSlice<u8>> {
        self.memory
    }
}

impl<D: Driver> DeviceStorage for CudaStorage<D> {
    fn location(&self) -> Location {
        self.location()
    }

    fn nbytes(&self) -> u64 {
        self.nbytes
    }

    fn to_host(&self) -> Result<Cow<'_, [u8]>> {
        let Some(memory) = &self.memory else { return Ok(Cow::Borrowed(&[])) };
        let nbytes = usize::try_from(self.nbytes)
            .map_err(|_| Error::backend("a storage of more bytes than memory has"))?;
        self.device.download(memory, nbytes).map(Cow::Owned)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl<D: Driver> fmt::Debug for CudaStorage<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CudaStorage({} bytes, {})", self.nbytes, self.location())
    }
}
