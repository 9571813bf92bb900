//! The `meta` device as a ptser backend: storages with a size and no bytes, restored without reading one.

use std::any::Any;
use std::borrow::Cow;

use ptser_core::{Availability, Backend, DeviceStorage, Error, HostStorage, Location, Result};

/// The backend of the `meta` device.
pub struct Meta;

static META: Meta = Meta;
ptser_core::submit!(META);

/// A storage without bytes that knows where they lie in the checkpoint.
#[derive(Debug)]
pub struct MetaStorage {
    nbytes: u64,
    checkpoint_offset: Option<u64>,
}

impl MetaStorage {
    /// The absolute offset of its first byte in the file that it was restored from; `None` where the record
    /// is compressed.
    pub fn checkpoint_offset(&self) -> Option<u64> {
        self.checkpoint_offset
    }
}

impl DeviceStorage for MetaStorage {
    fn location(&self) -> Location {
        Location::meta()
    }

    fn nbytes(&self) -> u64 {
        self.nbytes
    }

    fn to_host(&self) -> Result<Cow<'_, [u8]>> {
        Err(Error::backend("a meta storage has a size and no bytes; restore it to another device"))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Backend for Meta {
    fn name(&self) -> &str {
        "meta"
    }

    fn priority(&self) -> i32 {
        22
    }

    fn tag(&self, storage: &dyn DeviceStorage) -> Option<Location> {
        storage.as_any().is::<MetaStorage>().then(Location::meta)
    }

    fn availability(&self) -> Availability {
        Availability::Devices(1)
    }

    fn restore(
        &self,
        storage: HostStorage<'_>,
        location: &Location,
    ) -> Result<Option<Box<dyn DeviceStorage>>> {
        if location.device() != "meta" {
            return Ok(None);
        }
        self.validate(location)?;
        let checkpoint_offset = storage.storage().checkpoint_offset()?;
        Ok(Some(Box::new(MetaStorage { nbytes: storage.nbytes(), checkpoint_offset })))
    }
}
