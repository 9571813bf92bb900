//! Apple GPUs (`mps`) as a ptser backend. The device is claimed, so that a checkpoint saved there gets a clear answer;
//! this version places nothing on it and says so.

use ptser_core::{Availability, Backend, DeviceStorage, HostStorage, Location, Result};

/// The backend of Apple GPUs (`mps`).
pub struct Metal;

static BACKEND: Metal = Metal;
ptser_core::submit!(BACKEND);

impl Backend for Metal {
    fn name(&self) -> &str {
        "mps"
    }

    fn priority(&self) -> i32 {
        21
    }

    fn tag(&self, _storage: &dyn DeviceStorage) -> Option<Location> {
        None
    }

    fn availability(&self) -> Availability {
        Availability::Unavailable("this version of ptser places nothing on Apple GPUs yet".into())
    }

    fn restore(
        &self,
        _storage: HostStorage<'_>,
        location: &Location,
    ) -> Result<Option<Box<dyn DeviceStorage>>> {
        if location.device() != self.name() {
            return Ok(None);
        }
        self.validate(location).map(|()| None)
    }
}
