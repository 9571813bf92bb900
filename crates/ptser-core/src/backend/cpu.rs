//! The host's memory as a backend.

use std::any::Any;
use std::borrow::Cow;

use super::{Availability, Backend, DeviceStorage, HostStorage};
use crate::error::Result;
use crate::location::Location;

struct Cpu;

static CPU: Cpu = Cpu;
crate::submit!(CPU);

/// A storage in the host's memory, in the host's byte order.
#[derive(Debug)]
pub struct CpuStorage(Vec<u8>);

impl CpuStorage {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl DeviceStorage for CpuStorage {
    fn location(&self) -> Location {
        Location::cpu()
    }

    fn nbytes(&self) -> u64 {
        u64::try_from(self.0.len()).unwrap_or(u64::MAX)
    }

    fn to_host(&self) -> Result<Cow<'_, [u8]>> {
        Ok(Cow::Borrowed(&self.0))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Backend for Cpu {
    fn name(&self) -> &str {
        "cpu"
    }

    fn priority(&self) -> i32 {
        10
    }

    fn tag(&self, storage: &dyn DeviceStorage) -> Option<Location> {
        storage.as_any().is::<CpuStorage>().then(Location::cpu)
    }

    fn availability(&self) -> Availability {
        Availability::Devices(1)
    }

    fn restore(
        &self,
        storage: HostStorage<'_>,
        location: &Location,
    ) -> Result<Option<Box<dyn DeviceStorage>>> {
        if location.device() != "cpu" {
            return Ok(None);
        }
        self.validate(location)?;
        Ok(Some(Box::new(CpuStorage(storage.to_vec()?))))
    }
}
