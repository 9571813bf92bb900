//! A storage in the memory of a device.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use cudarc::driver::{CudaSlice, CudaStream};
use ptser_core::{DeviceStorage, HostStorage, Location, Result};

use crate::device::{Device, Filled, MarkOf, MemoryOf};
use crate::driver::{Driver, Stream};
use crate::native::{Native, NativeStream};

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
        let Some(Filled { mark, nbytes, .. }) = &self.filled else { return Ok(()) };
        D::Stream::reach(mark).map_err(|failure| self.device.lost(*nbytes, &failure))
    }

    /// Gives the memory away to a stream, which waits for the copies.
    pub(crate) fn give_to(self, stream: &D::Stream) -> Result<Option<(MemoryOf<D>, Filling<D>)>> {
        let Self { device, filled, .. } = self;
        let Some(Filled { memory, mark, nbytes }) = filled else { return Ok(None) };
        stream.follow(&mark).map_err(|failure| device.lost(nbytes, &failure))?;
        Ok(Some((memory, Filling { device, mark, nbytes })))
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

    /// Gives the memory away while copies to it may run, which `stream` waits for: what is begun there from now on finds
    /// them done. Any other stream may use the memory once [`Filling::wait`] has returned. `None` where there are no bytes.
    ///
    /// # Errors
    /// `Backend` where the stream cannot wait; the memory is freed then.
    pub fn into_slice_on(self, stream: Arc<CudaStream>) -> Result<Option<(CudaSlice<u8>, Filling)>> {
        self.give_to(&NativeStream(stream))
    }
}

/// Copies to memory that was given away. To drop it waits for nothing, and stops nothing.
pub struct Filling<D: Driver = Native> {
    device: Arc<Device<D>>,
    mark: MarkOf<D>,
    nbytes: usize,
}

impl<D: Driver> Filling<D> {
    /// Waits until they are done.
    ///
    /// # Errors
    /// `Backend` where one of them failed.
    pub fn wait(&self) -> Result<()> {
        D::Stream::reach(&self.mark).map_err(|failure| self.device.lost(self.nbytes, &failure))
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

impl<D: Driver> fmt::Debug for Filling<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filling({} bytes, {})", self.nbytes, self.device.location())
    }
}
