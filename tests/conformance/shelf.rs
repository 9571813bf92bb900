//! A device for tests: it has two shelves, and keeps the bytes of storages that are put there.

use std::any::Any;
use std::borrow::Cow;

use ptser::{Availability, Backend, DeviceStorage, HostStorage, Location, Registry, Restored, Result};

pub(crate) struct Shelf;

/// The backends that are linked, and the shelf.
pub(crate) fn registry() -> Registry {
    Registry::linked().unwrap().with(Shelf).unwrap()
}

/// Where storages went, in the order of the file.
pub(crate) fn places(restored: &Restored) -> Vec<String> {
    restored.locations().map(|location| location.to_string()).collect()
}

struct Kept {
    location: Location,
    bytes: Vec<u8>,
}

impl DeviceStorage for Kept {
    fn location(&self) -> Location {
        self.location.clone()
    }

    fn nbytes(&self) -> u64 {
        u64::try_from(self.bytes.len()).unwrap()
    }

    fn to_host(&self) -> Result<Cow<'_, [u8]>> {
        Ok(Cow::Borrowed(&self.bytes))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Backend for Shelf {
    fn name(&self) -> &str {
        "shelf"
    }

    fn priority(&self) -> i32 {
        50
    }

    fn tag(&self, storage: &dyn DeviceStorage) -> Option<Location> {
        storage.as_any().downcast_ref::<Kept>().map(|kept| kept.location.clone())
    }

    fn availability(&self) -> Availability {
        Availability::Devices(2)
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
        let location = Location::new(format!("shelf:{}", location.index().unwrap_or(0)));
        Ok(Some(Box::new(Kept { location, bytes: storage.to_vec()? })))
    }
}
