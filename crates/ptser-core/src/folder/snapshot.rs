//! Copies of what is to be saved, so that it may change meanwhile; their memory is used again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::Result;
use crate::object::Object;
use crate::storage::Storage;

/// Memory of earlier copies, which the next ones are made in: fresh memory costs more than the copy itself.
#[derive(Clone, Default)]
pub(super) struct Copies(Arc<Mutex<Vec<Vec<u8>>>>);

impl Copies {
    /// The same object over copies of its storages, all made now: whoever changes those of the original changes these
    /// no more. Storages that lie in files do not change, and are read when they are saved.
    ///
    /// # Errors
    /// Those of reading storages; `Io` where memory is short.
    pub(super) fn of(&self, object: &Object) -> Result<Object> {
        let copy = object.with_storages(|storage| {
            if !storage.is_of_host() {
                return Ok(storage.clone());
            }
            let mut bytes = self.take(storage.nbytes());
            storage.copy_into(&mut bytes)?;
            let copy = Copy { bytes, home: self.clone() };
            Ok(Storage::from_bytes(storage.dtype(), storage.location().clone(), copy))
        });
        // What no storage fits into is of a model that is no more.
        self.free().clear();
        copy
    }

    /// The smallest memory that holds so much, or none.
    fn take(&self, nbytes: u64) -> Vec<u8> {
        let mut free = self.free();
        let fits = |vec: &Vec<u8>| u64::try_from(vec.capacity()).is_ok_and(|capacity| capacity >= nbytes);
        let best = free.iter().enumerate().filter(|(_, vec)| fits(vec)).min_by_key(|(_, vec)| vec.capacity());
        let place = best.map(|(place, _)| place);
        place.map(|place| free.swap_remove(place)).unwrap_or_default()
    }

    fn free(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The copy of one storage.
struct Copy {
    bytes: Vec<u8>,
    home: Copies,
}

impl AsRef<[u8]> for Copy {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        self.home.free().push(std::mem::take(&mut self.bytes));
    }
}
