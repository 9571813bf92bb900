//! Storages on their way from devices into a file.

use std::sync::Arc;

use super::{DeviceStorage, Registry};
use crate::dtype::DType;
use crate::error::Result;
use crate::storage::{HostBytes, Storage};

impl Registry {
    /// A storage on a device as one that can be saved: its location is the tag that its backend gives it, and its
    /// bytes come to the host when they are written, and go again.
    ///
    /// ```no_run
    /// use ptser_core::{Checkpoint, MapLocation, Object, Registry, SaveOptions};
    ///
    /// let checkpoint = Checkpoint::open("model.pt")?;
    /// let registry = Registry::linked()?;
    /// let restored = checkpoint.restore(&registry, &MapLocation::recorded())?;
    /// let weight = checkpoint.tensor("fc.weight")?;
    /// let (storage, placed) = restored.iter().next().ok_or_else(|| ptser_core::Error::misuse("no storages"))?;
    /// let saved = registry.storage(placed.clone(), storage.dtype())?;
    /// SaveOptions::new().save("again.pt", &Object::dict([("weight", weight.clone().with_storage(saved)?)]))?;
    /// # Ok::<(), ptser_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Backend` where no backend knows the storage.
    pub fn storage(&self, storage: Arc<dyn DeviceStorage>, dtype: Option<DType>) -> Result<Storage> {
        let location = self.tag(&*storage)?;
        Ok(Storage::from_host(dtype, location, OnDevice(storage)))
    }
}

struct OnDevice(Arc<dyn DeviceStorage>);

impl HostBytes for OnDevice {
    fn nbytes(&self) -> u64 {
        self.0.nbytes()
    }

    fn with_bytes(&self, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        take(&self.0.to_host()?)
    }
}
