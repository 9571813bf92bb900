//! Deflated storages that tensors are read from one by one: each reading would inflate them from their beginning.

use std::borrow::Cow;

use foldhash::HashMap;
use ptser_core::{ByteOrder, Result, Storage, Tensor as Described};

use crate::base::BaseKey;

/// Those that were read from, with their bytes where that was more than once.
#[derive(Default)]
pub(crate) struct Inflated(HashMap<BaseKey, Option<Storage>>);

impl Inflated {
    /// The tensor, over bytes in memory where its storage is deflated and was read from before.
    ///
    /// # Errors
    /// Those of reading.
    pub(crate) fn over<'t>(&mut self, tensor: &'t Described) -> Result<Cow<'t, Described>> {
        let Some(storage) = tensor.storage() else { return Ok(Cow::Borrowed(tensor)) };
        let dtype = tensor.dtype();
        // Of expanded views there are few, as their copies are in proportion, and the storage knows its limits.
        let is_part = u64::try_from(tensor.nbytes()).is_ok_and(|nbytes| nbytes <= storage.nbytes());
        if !is_part || storage.checkpoint_offset()?.is_some() {
            return Ok(Cow::Borrowed(tensor));
        }
        let key = (storage.id(), dtype);
        let bytes = match self.0.get(&key) {
            None => {
                self.0.insert(key, None);
                return Ok(Cow::Borrowed(tensor));
            }
            Some(Some(bytes)) => bytes.clone(),
            Some(None) => {
                let bytes = storage.to_vec_as(dtype, ByteOrder::NATIVE)?;
                let bytes = Storage::from_bytes(Some(dtype), storage.location().clone(), bytes);
                self.0.insert(key, Some(bytes.clone()));
                bytes
            }
        };
        tensor.clone().with_storage(bytes).map(Cow::Owned)
    }
}
