//! The places of records in the directory, by name; archives in which two records have one name are refused.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::record::Record;
use crate::error::{Reason, Result};
use crate::memory::{filled, short};

/// Places of records by their names below the root, without regard to case.
pub(super) struct Index {
    /// Of storages by the numbers that PyTorch names them by, which are not hashed: place plus one, 0 where there is none.
    storages: Vec<u32>,
    others: HashTable<usize>,
    hasher: RandomState,
}

impl Index {
    /// Notes all of them.
    ///
    /// # Errors
    /// `Malformed` where the names of two are the same, or the same but for case.
    pub(super) fn of(records: &[Record]) -> Result<Self> {
        let numbers = if u32::try_from(records.len()).is_ok() { records.len() } else { 0 };
        let mut index =
            Self { storages: filled(0, numbers)?, others: HashTable::new(), hasher: RandomState::default() };
        for (place, record) in records.iter().enumerate() {
            let Some(other) = index.note(records, place, &record.name)? else { continue };
            let same = records.get(other).is_some_and(|other| other.name == record.name);
            let but = if same { "" } else { " but for case" };
            return Err(Reason::Archive(format!("two records are named {}{but}", record.name)).into());
        }
        Ok(index)
    }

    /// Notes the place of a name; gives that of a record before it which has the same name.
    fn note(&mut self, records: &[Record], place: usize, name: &str) -> Result<Option<usize>> {
        if let Some(storage) = number(name).and_then(|number| self.storages.get_mut(number)) {
            let known = place_of(*storage);
            *storage = u32::try_from(place.saturating_add(1)).unwrap_or(0);
            return Ok(known);
        }
        let Self { others, hasher, .. } = self;
        let hash_at = |place: &usize| records.get(*place).map_or(0, |record| hash(hasher, &record.name));
        others.try_reserve(1, hash_at).map_err(|_| short::<usize>(others.len()))?;
        match others.entry(hash(hasher, name), is_named(records, name), hash_at) {
            Entry::Occupied(known) => Ok(Some(*known.get())),
            Entry::Vacant(new) => {
                new.insert(place);
                Ok(None)
            }
        }
    }

    /// The place of a name, whatever its case, among the same records.
    pub(super) fn place(&self, records: &[Record], name: &str) -> Option<usize> {
        match number(name).and_then(|number| self.storages.get(number)) {
            Some(storage) => place_of(*storage),
            None => self.others.find(hash(&self.hasher, name), is_named(records, name)).copied(),
        }
    }
}

/// Whether the record at a place has a name, whatever its case.
fn is_named(records: &[Record], name: &str) -> impl Fn(&usize) -> bool {
    move |place| records.get(*place).is_some_and(|record| record.name.eq_ignore_ascii_case(name))
}

fn place_of(storage: u32) -> Option<usize> {
    usize::try_from(storage.checked_sub(1)?).ok()
}

/// The number that a storage is named by, as Python writes it, whatever the name's case: 12 of `data/12`.
fn number(name: &str) -> Option<usize> {
    let [b'd' | b'D', b'a' | b'A', b't' | b'T', b'a' | b'A', b'/', digits @ ..] = name.as_bytes() else {
        return None;
    };
    if !matches!(digits, b"0" | [b'1'..=b'9', ..]) {
        return None;
    }
    digits.iter().try_fold(0_usize, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        number.checked_mul(10)?.checked_add(digit.into())
    })
}

/// The same for names that differ in case alone.
fn hash(hasher: &RandomState, name: &str) -> u64 {
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        hasher.hash_one(name.to_ascii_lowercase())
    } else {
        hasher.hash_one(name)
    }
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn only_numbers_as_python_writes_them_are_numbers() {
        for (name, expected) in [
            ("data/0", Some(0)),
            ("data/12", Some(12)),
            ("DaTA/12", Some(12)),
            ("data/18446744073709551615", usize::try_from(u64::MAX).ok()),
        ] {
            assert_eq!(number(name), expected, "{name}");
        }
        for name in [
            "data/",
            "data/00",
            "data/012",
            "data/+1",
            "data/-1",
            "data/1a",
            "data/1/",
            "data/\u{663}",
            "data1",
            "data.pkl",
            "xdata/1",
            "data/18446744073709551616",
        ] {
            assert_eq!(number(name), None, "{name}");
        }
    }
}
