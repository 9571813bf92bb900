//! A storage in the memory of a device.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use cudarc::driver::CudaSlice;
use ptser_core::{DeviceStorage, Error, HostStorage, Location, Result};

use crate::device::{Device, Filled};
use crate::driver::{Driver, Failure, Stream};
use crate::native::Native;

/// A storage in the memory of a CUDA device, freed when it is dropped.
pub struct CudaStorage<D: Driver = Native> {
    device: Arc<Device<D>>,
    /// None where there are no bytes.
    filled: Option<Filled<D>>,
    nbytes: u64,
}

impl<D: Driver> CudaStorage<D> {
    pub(crate) fn upload(device: Arc<Device<D>>, storage: &HostStorage<'_>) -> Result<Self> {
        let filled = device.upload(storage)?;
        Ok(Self { device, filled, nbytes: storage.nbytes() })
    }

    /// Where it lives: `cuda:0`.
    pub fn location(&self) -> Location {
        self.device.location()
    }

    /// Waits until all copies to it are done, which nobody must do to use it.
    ///
    /// # Errors
    /// `Backend` where one of them failed.
    pub fn wait(&self) -> Result<()> {
        let Some(filled) = &self.filled else { return Ok(()) };
        D::Stream::reach(&filled.mark).map_err(|Failure(why)| {
            Error::backend(format!(
                "{} cannot fill a storage of {} bytes: {why}",
                self.location(),
                self.nbytes
            ))
        })
    }
}

impl CudaStorage {
    /// Gives the memory away, once all copies to it are done: any stream may use it. `None` where there are no bytes.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn into_slice(self) -> Result<Option<CudaSlice<u8>>> {
        self.wait()?;
        Ok(self.filled.map(|filled| filled.memory))
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
        let Some(filled) = &self.filled else { return Ok(Cow::Borrowed(&[])) };
        self.device.download(filled).map(Cow::Owned)
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
