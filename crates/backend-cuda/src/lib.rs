//! CUDA devices as a ptser backend: storages that were saved from `cuda:N` go back there, and come from there to be saved.
//!
//! The driver is looked for at run time: the crate builds without a CUDA toolkit, and where there is no driver its
//! backend says so. A storage is uploaded once, through two pinned buffers of 16 MiB: while the device copies one, the
//! other is filled from the file, by several threads and without a vector between; what is small has small ones. What
//! lies in pinned memory already is copied from there. Downloads go the same way.
//!
//! ```no_run
//! use ptser_core::{Checkpoint, Registry};
//! use ptser_backend_cuda as _; // what nobody names is not linked
//!
//! let checkpoint = Checkpoint::open("model.pt")?;
//! let restored = checkpoint.restore(&Registry::linked()?, &"cuda:0".into())?;
//! # Ok::<(), ptser_core::Error>(())
//! ```
//!
//! The backend uses the device's primary context, as candle and CUDA's runtime do, and streams of its own. The last copies
//! of a storage are under way while the next is read; whoever takes its bytes or its memory, on whatever stream, waits
//! for them, or has a stream wait ([`CudaStorage::into_slice_on`]). It is freed when it is dropped.
//!
//! Features: `linked` for programs that are linked with the driver's library, as `candle-core/cuda` does it; a program
//! that does not say so does not compile then.

// Sizes from files: nothing overflows or is cut unnoticed.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::cast_possible_truncation)
)]

mod device;
#[doc(hidden)]
pub mod driver;
mod native;
#[cfg_attr(feature = "linked", path = "presence_linked.rs")]
mod presence;
#[cfg(any(test, feature = "simulated"))]
#[doc(hidden)]
pub mod simulated;
mod storage;
#[cfg(test)]
mod tests;
mod transfer;

use std::sync::{Arc, OnceLock};

use ptser_core::{Availability, Backend, DeviceStorage, Error, HostStorage, Location, Result};

use device::{Device, Settings};
use driver::Driver;
pub use native::Native;
pub use storage::{CudaStorage, Filling};

/// Bytes of a staging buffer: enough that what a copy costs to begin is nothing beside it.
const CHUNK: usize = 16 << 20;

static BACKEND: Cuda = Cuda::new();
ptser_core::submit!(BACKEND);

/// The backend that is linked.
pub fn backend() -> &'static Cuda {
    &BACKEND
}

/// The backend of CUDA devices.
///
/// One with other settings than those of the linked one takes its place in a registry:
///
/// ```
/// use ptser_backend_cuda::Cuda;
/// use ptser_core::Registry;
///
/// let registry = Registry::linked()?.without("cuda").with(Cuda::new().pinned_downloads(false))?;
/// # Ok::<(), ptser_core::Error>(())
/// ```
pub struct Cuda<D: Driver = Native> {
    driver: D,
    settings: Settings,
    /// Looked for once: what a driver answers stays so.
    devices: OnceLock<std::result::Result<Vec<Arc<Device<D>>>, String>>,
}

impl Cuda {
    /// The machine's devices. The driver is asked when they are needed.
    pub const fn new() -> Self {
        Self::of(Native)
    }
}

impl Default for Cuda {
    fn default() -> Self {
        Self::new()
    }
}

impl<D: Driver> Cuda<D> {
    /// The devices of a driver.
    #[doc(hidden)]
    pub const fn of(driver: D) -> Self {
        let settings = Settings { chunk: CHUNK, pinned_downloads: true };
        Self { driver, settings, devices: OnceLock::new() }
    }

    /// Whether what is downloaded goes through pinned memory: PyTorch's `use_pinned_memory_for_d2h`. It is faster so; and
    /// as the same buffers serve for all storages, it is the default here.
    #[must_use]
    pub fn pinned_downloads(mut self, pinned_downloads: bool) -> Self {
        self.settings.pinned_downloads = pinned_downloads;
        self
    }

    /// Sets the bytes of a staging buffer.
    #[doc(hidden)]
    #[must_use]
    pub fn chunk(mut self, chunk: usize) -> Self {
        self.settings.chunk = chunk;
        self
    }

    /// Uploads a storage to the device of an index.
    ///
    /// # Errors
    /// `Backend` where there is no such device, or it has no room; those of reading the storage.
    pub fn upload(&self, storage: HostStorage<'_>, index: u32) -> Result<CudaStorage<D>> {
        let devices = self.devices().as_ref().map_err(|why| Error::backend(why.as_str()))?;
        let device = usize::try_from(index).ok().and_then(|index| devices.get(index));
        let device = device
            .ok_or_else(|| Error::backend(format!("there is no cuda:{index} among {}", devices.len())))?;
        CudaStorage::upload(Arc::clone(device), &storage)
    }

    fn devices(&self) -> &std::result::Result<Vec<Arc<Device<D>>>, String> {
        self.devices.get_or_init(|| {
            let count = self.driver.count()?;
            let device = |index| Arc::new(Device::new(self.driver.clone(), index, self.settings));
            Ok((0..count).map(device).collect())
        })
    }
}

impl<D: Driver> Backend for Cuda<D> {
    fn name(&self) -> &str {
        "cuda"
    }

    fn priority(&self) -> i32 {
        20
    }

    fn tag(&self, storage: &dyn DeviceStorage) -> Option<Location> {
        storage.as_any().downcast_ref::<CudaStorage<D>>().map(CudaStorage::location)
    }

    fn availability(&self) -> Availability {
        match self.devices() {
            Ok(devices) => Availability::Devices(u32::try_from(devices.len()).unwrap_or(u32::MAX)),
            Err(why) => Availability::Unavailable(why.clone()),
        }
    }

    fn restore(
        &self,
        storage: HostStorage<'_>,
        location: &Location,
    ) -> Result<Option<Box<dyn DeviceStorage>>> {
        if location.device() != self.name() {
            return Ok(None);
        }
        self.validate(location)?;
        Ok(Some(Box::new(self.upload(storage, location.index().unwrap_or(0))?)))
    }
}
