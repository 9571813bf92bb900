//! Devices: what a backend must do, and how backends become known. Names no device library.

mod cpu;
mod map_location;
mod registry;
mod restore;
mod saved;

use std::any::Any;
use std::borrow::Cow;

pub use map_location::{Decide, MapLocation};
pub use registry::Registry;
pub use restore::{HostStorage, Restored};

pub use cpu::CpuStorage;

use crate::error::Result;
use crate::location::Location;

/// A device that storages can live on: PyTorch's `register_package`, as a trait.
///
/// A backend crate registers one static value:
///
/// ```
/// use ptser_core::{Availability, Backend, DeviceStorage, HostStorage, Location, Result};
///
/// struct Disk;
/// static DISK: Disk = Disk;
/// ptser_core::submit!(DISK);
///
/// impl Backend for Disk {
///     fn name(&self) -> &str { "disk" }
///     fn priority(&self) -> i32 { 30 }
///     fn tag(&self, _: &dyn DeviceStorage) -> Option<Location> { None }
///     fn availability(&self) -> Availability { Availability::Devices(1) }
///     fn restore(&self, _: HostStorage<'_>, _: &Location) -> Result<Option<Box<dyn DeviceStorage>>> { Ok(None) }
/// }
/// ```
///
/// PyTorch's own priorities: cpu 10, cuda 20, mps 21, meta 22; the lower is asked first. A registry may ask from several
/// threads at once. The page `docs/backends.md` of the repository has the contract at length.
pub trait Backend: Send + Sync {
    /// The device's name in location tags: `cuda`.
    fn name(&self) -> &str;

    /// The place in the order of asking; lower first.
    fn priority(&self) -> i32;

    /// Names the location of a storage, if it is this backend's.
    fn tag(&self, storage: &dyn DeviceStorage) -> Option<Location>;

    /// Whether the device can be used here, and how many there are.
    fn availability(&self) -> Availability;

    /// Places a storage on the device that `location` names; `None` leaves it to the next backend.
    ///
    /// # Errors
    /// `Backend` where the location is this backend's and cannot be served.
    fn restore(
        &self,
        storage: HostStorage<'_>,
        location: &Location,
    ) -> Result<Option<Box<dyn DeviceStorage>>>;

    /// Refuses locations of this backend that cannot be used here, in PyTorch's words.
    ///
    /// # Errors
    /// `Backend` where the device is absent or the index is beyond the count.
    fn validate(&self, location: &Location) -> Result<()> {
        registry::validate(self.name(), self.availability(), location)
    }
}

/// Whether a device can be used on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Availability {
    /// It can; how many devices there are.
    Devices(u32),
    /// It cannot, and why.
    Unavailable(String),
}

/// A storage on a device.
pub trait DeviceStorage: Send + Sync + Any {
    /// Where it lives.
    fn location(&self) -> Location;

    /// Its size in bytes.
    fn nbytes(&self) -> u64;

    /// Its bytes on the host, in the host's byte order; borrowed where they are there already.
    ///
    /// # Errors
    /// `Backend` where the copy fails, or there are no bytes (`meta`).
    fn to_host(&self) -> Result<Cow<'_, [u8]>>;

    /// Itself, for backends to recognise their own.
    fn as_any(&self) -> &dyn Any;
}

/// One registration, collected at link time.
#[doc(hidden)]
pub struct Registration(pub &'static dyn Backend);

inventory::collect!(Registration);

/// Registers a static backend: the one visible line of a backend crate.
///
/// A crate that no code names is not linked, and then its registration silently never happens: name the crate
/// (`use my_backend as _;`) where you depend on it.
#[macro_export]
macro_rules! submit {
    ($backend:path) => {
        $crate::inventory::submit! { $crate::Registration(&$backend) }
    };
}
