//! Copies of what is to be saved, so that it may change meanwhile; their memory is used again.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;

use crate::error::Result;
use crate::object::Object;
use crate::storage::Storage;
use crate::threads;

/// Memory of earlier copies, which the next ones are made in: fresh memory costs more than the copy itself.
#[derive(Clone, Default)]
pub(super) struct Copies(Arc<Mutex<Free>>);

/// By how much each holds.
type Free = BTreeMap<usize, Vec<Vec<u8>>>;

/// What is worth a thread of its own.
const SHARE: u64 = 4 << 20;

impl Copies {
    /// The same object over copies of its storages, all made now: whoever changes those of the original changes these
    /// no more. Storages that lie in files do not change, and are read when they are saved.
    ///
    /// # Errors
    /// Those of reading storages; `Io` where memory is short.
    pub(super) fn of(&self, object: &Object) -> Result<Object> {
        let mut originals = object.storages();
        originals.retain(Storage::is_of_host);
        let copies = self.copies(originals);
        // What no storage fits into is of a model that is no more.
        self.free().clear();
        let copies = copies?;
        object.with_storages(|storage| Ok(copies.get(&storage.id()).unwrap_or(storage).clone()))
    }

    /// Copies of storages, by the ids of the originals.
    fn copies(&self, mut originals: Vec<Storage>) -> Result<HashMap<usize, Storage>> {
        let total = originals.iter().map(Storage::nbytes).fold(0, u64::saturating_add);
        let worth = usize::try_from(total.checked_div(SHARE).unwrap_or(0)).unwrap_or(usize::MAX);
        let threads = threads::few(worth);
        // The largest first, so that no thread is left with one of them in the end.
        originals.sort_by_key(|original| Reverse(original.nbytes()));
        let (originals, copies) = (Mutex::new(originals.into_iter()), Mutex::new(Vec::new()));
        let next = || locked(&originals).next();
        let work = || {
            while let Some(original) = next() {
                let copy = self.copy(&original).map(|copy| (original.id(), copy));
                locked(&copies).push(copy);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads {
                // Where there is no thread to be had, one does it all.
                let _ = Builder::new().spawn_scoped(scope, work);
            }
            work();
        });
        copies.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().collect()
    }

    fn copy(&self, original: &Storage) -> Result<Storage> {
        let mut bytes = self.take(original.nbytes());
        original.copy_into(&mut bytes)?;
        let copy = Copy { bytes, home: self.clone() };
        Ok(Storage::from_bytes(original.dtype(), original.location().clone(), copy))
    }

    /// The smallest memory that holds so much, or none: a small copy takes no large memory.
    fn take(&self, nbytes: u64) -> Vec<u8> {
        let Some(nbytes) = usize::try_from(nbytes).ok().filter(|nbytes| *nbytes > 0) else {
            return Vec::new();
        };
        // Those that are used up stay as empty lists until the copies are made.
        self.free()
            .range_mut(nbytes..=nbytes.saturating_mul(2))
            .find_map(|(_, same)| same.pop())
            .unwrap_or_default()
    }

    fn free(&self) -> MutexGuard<'_, Free> {
        locked(&self.0)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
        let bytes = std::mem::take(&mut self.bytes);
        self.home.free().entry(bytes.capacity()).or_default().push(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Location, Tensor};

    fn object(sizes: &[usize]) -> Object {
        Object::list(sizes.iter().map(|&size| {
            let storage = Storage::from_bytes(Some(DType::UInt8), Location::cpu(), vec![1_u8; size]);
            Tensor::contiguous(storage, DType::UInt8, [size]).unwrap()
        }))
    }

    /// Where the copies lie, by size.
    fn places(copy: &Object) -> BTreeMap<u64, usize> {
        let place = |tensor: &Tensor| {
            let mut place = 0;
            let storage = tensor.storage().unwrap();
            let note = &mut |bytes: &[u8]| {
                place = bytes.as_ptr().addr();
                Ok(())
            };
            storage.for_each_chunk(DType::UInt8, storage.byte_order(), note).unwrap();
            (storage.nbytes(), place)
        };
        copy.tensors().iter().map(place).collect()
    }

    #[test]
    fn the_next_copy_is_made_in_the_memory_of_the_last() {
        let copies = Copies::default();
        let sizes = [5000, 0, 3000, 70_000, 3001];
        let first = places(&copies.of(&object(&sizes)).unwrap());
        for _ in 0..3 {
            let next = places(&copies.of(&object(&sizes)).unwrap());
            assert!(sizes.iter().all(|&size| size == 0 || next[&(size as u64)] == first[&(size as u64)]));
        }
        // While a copy lives its memory is nobody else's.
        let (one, two) = (copies.of(&object(&[3000])).unwrap(), copies.of(&object(&[3000])).unwrap());
        assert_ne!(places(&one), places(&two));
        // What is of no use any more is given back.
        drop((one, two));
        copies.of(&object(&[100_000])).unwrap();
        assert!(copies.free().values().flatten().all(|vec| vec.capacity() == 100_000));
    }
}
