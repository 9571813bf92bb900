//! CUDA devices as a ptser backend. The device is claimed, so that a checkpoint saved there gets a clear answer;
//! this version places nothing on it and says so.

use ptser_core::{Availability, Backend, DeviceStorage, HostStorage, Location, Result};

/// The backend of CUDA devices.
pub struct Cuda;

static BACKEND: Cuda = Cuda;
ptser_core::submit!(BACKEND);

impl Backend for Cuda {
    fn name(&self) -> &str {
        "cuda"
    }

    fn priority(&self) -> i32 {
        20
    }

    fn tag(&self, _storage: &dyn DeviceStorage) -> Option<Location> {
        None
    }

    fn availability(&self) -> Availability {
        Availability::Unavailable("this version of ptser places nothing on CUDA devices yet".into())
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
