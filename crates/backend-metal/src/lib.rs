//! Apple GPUs (`mps`) as a ptser backend: storages that were saved from `mps` go back there, and come from there to be
//! saved.
//!
//! A storage becomes a buffer in shared mode: memory that the host and the device both use. A record of a mapped file
//! that begins where a page of memory does ([`SaveOptions::alignment(16384)`](ptser_core::SaveOptions::alignment)) is
//! used where it lies, without a copy; all others are read into a buffer by several threads, without a vector between.
//!
//! ```no_run
//! use ptser_core::{LoadOptions, Registry};
//! use ptser_backend_metal as _; // what nobody names is not linked
//!
//! let checkpoint = LoadOptions::new().mmap(true).open("aligned.pt")?;
//! let restored = checkpoint.restore(&Registry::linked()?, &"mps".into())?;
//! # Ok::<(), ptser_core::Error>(())
//! ```
//!
//! The crate builds everywhere; on systems other than macOS the backend says that its device is not available. The
//! part that speaks to Metal is type-checked for macOS, and has not run there yet; everything else is tested over a
//! device that is simulated.

// Sizes from files: nothing overflows or is cut unnoticed.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::cast_possible_truncation)
)]

#[doc(hidden)]
pub mod driver;
#[cfg_attr(not(target_os = "macos"), path = "disabled.rs")]
mod native;
#[doc(hidden)]
pub mod pages;
#[cfg(any(test, feature = "simulated"))]
#[doc(hidden)]
pub mod simulated;
mod storage;
#[cfg(test)]
mod tests;

use ptser_core::{Availability, Backend, DeviceStorage, Error, HostStorage, Location, Result};
use rayon::prelude::*;

use driver::Driver;
pub use native::Native;
use pages::Pages;
pub use storage::MetalStorage;

/// What one thread reads at a time.
const PIECE: usize = 1 << 20;

static BACKEND: Metal = Metal::new();
ptser_core::submit!(BACKEND);

/// The backend of Apple GPUs (`mps`).
///
/// One with other settings than those of the linked one takes its place in a registry:
///
/// ```
/// use ptser_backend_metal::Metal;
/// use ptser_core::Registry;
///
/// let registry = Registry::linked()?.without("mps").with(Metal::new().in_place(false))?;
/// # Ok::<(), ptser_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Metal<D: Driver = Native> {
    driver: D,
    in_place: bool,
}

impl Metal {
    /// The machine's device. It is looked for when it is needed.
    pub const fn new() -> Self {
        Self::of(Native::new())
    }
}

impl Default for Metal {
    fn default() -> Self {
        Self::new()
    }
}

impl<D: Driver> Metal<D> {
    /// A device of one's own.
    pub const fn of(driver: D) -> Self {
        Self { driver, in_place: true }
    }

    /// Whether records of mapped files that begin where a page does are used where they lie: by default. Nothing can
    /// write to them there.
    #[must_use]
    pub fn in_place(mut self, in_place: bool) -> Self {
        self.in_place = in_place;
        self
    }

    /// Makes a buffer of a storage.
    ///
    /// # Errors
    /// `Backend` where there is no device, or it has no memory; those of reading the storage.
    pub fn upload(&self, storage: HostStorage<'_>) -> Result<MetalStorage<D>> {
        self.driver.find().map_err(Error::backend)?;
        Ok(MetalStorage { buffer: self.buffer(storage)?, nbytes: storage.nbytes() })
    }

    /// `None` where there are no bytes: Metal has no empty buffers.
    fn buffer(&self, storage: HostStorage<'_>) -> Result<Option<D::Buffer>> {
        if storage.nbytes() == 0 {
            return Ok(None);
        }
        if self.in_place
            && let Some(pages) = Pages::of(storage)?
            && let Some(buffer) = self.driver.wrap(&pages)
        {
            return Ok(Some(buffer));
        }
        let nbytes = usize::try_from(storage.nbytes())
            .map_err(|_| Error::backend(format!("{} bytes are more than memory has", storage.nbytes())))?;
        match self.driver.fill(nbytes, &mut |bytes| fill(storage, bytes))? {
            Some(buffer) => Ok(Some(buffer)),
            None => Err(Error::backend(format!(
                "mps has no memory for a storage of {nbytes} bytes: {}",
                self.driver.room()
            ))),
        }
    }
}

/// Reads a storage by several threads; what cannot be read from its middle by one.
fn fill(storage: HostStorage<'_>, bytes: &mut [u8]) -> Result<()> {
    if !storage.is_seekable()? {
        return storage.read_at(0, bytes);
    }
    bytes.par_chunks_mut(PIECE).enumerate().try_for_each(|(place, piece)| {
        let at = u64::try_from(place.saturating_mul(PIECE)).unwrap_or(u64::MAX);
        storage.read_at(at, piece)
    })
}

impl<D: Driver> Backend for Metal<D> {
    fn name(&self) -> &str {
        "mps"
    }

    fn priority(&self) -> i32 {
        21
    }

    /// `mps` without an index, as PyTorch writes it.
    fn tag(&self, storage: &dyn DeviceStorage) -> Option<Location> {
        storage.as_any().downcast_ref::<MetalStorage<D>>().map(DeviceStorage::location)
    }

    fn availability(&self) -> Availability {
        match self.driver.find() {
            Ok(()) => Availability::Devices(1),
            Err(why) => Availability::Unavailable(why),
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
        Ok(Some(Box::new(self.upload(storage)?)))
    }
}
