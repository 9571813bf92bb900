//! An object over other storages than it was made with.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::object::{Entries, Kind, Object};
use crate::storage::Storage;

impl Object {
    /// The same object over other storages, such as copies: `replace` is asked once for each, and tensors that share one
    /// share what it gives. What is one object stays one.
    ///
    /// Parts of sparse, quantized and other composed tensors, which come from files alone, are left where they are.
    ///
    /// # Errors
    /// Those of `replace`, and `Malformed` where a tensor leaves what it gave.
    ///
    /// ```
    /// use ptser_core::{Object, Storage};
    /// # let object = Object::list([1]);
    /// let copy = object.with_storages(|storage| {
    ///     Ok(Storage::from_bytes(storage.dtype(), storage.location().clone(), storage.to_vec()?))
    /// })?;
    /// # Ok::<(), ptser_core::Error>(())
    /// ```
    pub fn with_storages(&self, replace: impl FnMut(&Storage) -> Result<Storage>) -> Result<Self> {
        let mut copies = Copies { replace, storages: HashMap::new(), made: HashMap::new() };
        // Each object twice: when it is met, and when its parts are there.
        let mut open = vec![(self, false)];
        while let Some((object, ready)) = open.pop() {
            if copies.made.contains_key(&id(object)) {
                continue;
            }
            if ready {
                let made = copies.assemble(object)?;
                copies.made.insert(id(object), made);
                continue;
            }
            open.push((object, true));
            open.extend(object.parts().map(|part| (part, false)));
        }
        copies.part(self)
    }

    /// The storages that [`with_storages`](Self::with_storages) asks for, once each.
    pub(crate) fn storages(&self) -> Vec<Storage> {
        let storage = |object: &Self| match &*object.0 {
            Kind::Tensor { tensor, .. } => tensor.storage().cloned(),
            Kind::Storage(storage, _) => Some(storage.clone()),
            _ => None,
        };
        let mut seen = HashSet::new();
        self.all().filter_map(storage).filter(|storage| seen.insert(storage.id())).collect()
    }

    /// What it holds directly.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &Self> {
        let (items, first, second): (&[Self], &[_], &[_]) = match &*self.0 {
            Kind::List(items) | Kind::Tuple(items) | Kind::Set(items) => (items, &[], &[]),
            Kind::Dict(entries) | Kind::Tensor { attributes: entries, .. } => (&[], entries, &[]),
            Kind::OrderedDict { entries, attributes } => (&[], entries, attributes),
            _ => (&[], &[], &[]),
        };
        items.iter().chain(first.iter().chain(second).flat_map(|(key, value)| [key, value]))
    }
}

fn id(object: &Object) -> usize {
    Arc::as_ptr(&object.0).addr()
}

struct Copies<F> {
    replace: F,
    /// By their ids, which are true while the object lives.
    storages: HashMap<usize, Storage>,
    made: HashMap<usize, Object>,
}

impl<F: FnMut(&Storage) -> Result<Storage>> Copies<F> {
    fn part(&self, object: &Object) -> Result<Object> {
        self.made
            .get(&id(object))
            .cloned()
            .ok_or_else(|| Error::unsupported("copying an object that holds itself"))
    }

    fn parts(&self, items: &[Object]) -> Result<Vec<Object>> {
        items.iter().map(|item| self.part(item)).collect()
    }

    fn entries(&self, entries: &Entries) -> Result<Entries> {
        entries.iter().map(|(key, value)| Ok((self.part(key)?, self.part(value)?))).collect()
    }

    fn storage(&mut self, storage: &Storage) -> Result<Storage> {
        if let Some(made) = self.storages.get(&storage.id()) {
            return Ok(made.clone());
        }
        let made = (self.replace)(storage)?;
        self.storages.insert(storage.id(), made.clone());
        Ok(made)
    }

    fn assemble(&mut self, object: &Object) -> Result<Object> {
        let kind = match &*object.0 {
            Kind::List(items) => Kind::List(self.parts(items)?),
            Kind::Tuple(items) => Kind::Tuple(self.parts(items)?),
            Kind::Set(items) => Kind::Set(self.parts(items)?),
            Kind::Dict(entries) => Kind::Dict(self.entries(entries)?),
            Kind::OrderedDict { entries, attributes } => {
                Kind::OrderedDict { entries: self.entries(entries)?, attributes: self.entries(attributes)? }
            }
            Kind::Tensor { tensor, attributes } => {
                let tensor = match tensor.storage() {
                    Some(storage) => tensor.clone().with_storage(self.storage(storage)?)?,
                    None => tensor.clone(),
                };
                Kind::Tensor { tensor, attributes: self.entries(attributes)? }
            }
            Kind::Storage(storage, dtype) => Kind::Storage(self.storage(storage)?, *dtype),
            _ => return Ok(object.clone()),
        };
        Ok(Object(Arc::new(kind)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Location, SaveOptions, Tensor};

    #[test]
    fn copies_share_as_their_originals_and_hold_what_those_held() {
        let storage = Storage::from_bytes(Some(DType::UInt8), Location::cpu(), vec![1_u8, 2, 3, 4]);
        let view =
            |offset| Object::from(Tensor::view(storage.clone(), DType::UInt8, [2], [1], offset).unwrap());
        let shared = Object::list([view(0), view(2)]);
        let object = Object::ordered_dict([
            ("a", shared.clone()),
            ("b", shared),
            ("c", Object::tuple([view(1), Object::none()])),
            ("d", Object::storage(storage.clone(), Some(DType::UInt8))),
        ]);
        assert_eq!(object.storages().len(), 1);
        let mut asked = 0;
        let copy = object
            .with_storages(|storage| {
                asked += 1;
                Ok(Storage::from_bytes(storage.dtype(), storage.location().clone(), storage.to_vec()?))
            })
            .unwrap();
        assert_eq!(asked, 1);
        assert!(copy.tensors().iter().all(|tensor| !tensor.storage().unwrap().is(&storage)));
        let bytes = |object: &Object| SaveOptions::new().to_bytes(object).unwrap();
        assert!(bytes(&copy) == bytes(&object));
    }

    #[test]
    fn deep_nesting_takes_no_stack() {
        let mut object = Object::from(1);
        for _ in 0..100_000 {
            object = Object::list([object]);
        }
        object.with_storages(|storage| Ok(storage.clone())).unwrap();
    }
}
