//! Copies of what is to be saved, so that it may change meanwhile; their memory is used again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::Result;
use crate::object::Object;
use crate::storage::Storage;

/// Memory of earlier copies, which the next ones are made in: fresh memory costs more than the copy itself.
#[derive(Clone, Default)]
pub(super) struct Copies(Arc<Mutex<Free>>);

/// By how much each holds.
type Free = BTreeMap<usize, Vec<Vec<u8>>>;

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
