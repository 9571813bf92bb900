//! A storage in a buffer of a device.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;

use ptser_core::{DeviceStorage, Location, Result};

use crate::driver::Driver;
use crate::native::Native;

/// A storage in a buffer that the host and an Apple GPU share, freed when it is dropped.
pub struct MetalStorage<D: Driver = Native> {
    /// None where there are no bytes.
    pub(crate) buffer: Option<D::Buffer>,
    pub(crate) nbytes: u64,
}

impl<D: Driver> DeviceStorage for MetalStorage<D> {
    fn location(&self) -> Location {
        Location::new("mps")
    }

    fn nbytes(&self) -> u64 {
        self.nbytes
    }

    fn to_host(&self) -> Result<Cow<'_, [u8]>> {
        Ok(Cow::Borrowed(self.buffer.as_ref().map(AsRef::as_ref).unwrap_or_default()))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl<D: Driver> fmt::Debug for MetalStorage<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MetalStorage({} bytes)", self.nbytes)
    }
}
