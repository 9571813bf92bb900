//! How much a file may ask for. Knows nothing of formats.

use std::cell::Cell;

use crate::error::{Error, Reason, Result};

/// Upper bounds on what one file may ask for; exceeding one is an error of kind
/// [`LimitExceeded`](crate::ErrorKind::LimitExceeded) that names it.
///
/// The defaults let every checkpoint of ordinary training pass.
///
/// ```
/// let limits = ptser_core::Limits::default().pickle_bytes(16 << 20);
/// ```
#[derive(Debug, Clone)]
pub struct Limits {
    pub(crate) pickle_bytes: u64,
    pub(crate) objects: u64,
    pub(crate) nesting: u64,
    pub(crate) inflation_ratio: u64,
    pub(crate) inflated_bytes: u64,
    pub(crate) tensor_bytes: u64,
    pub(crate) records: u64,
    pub(crate) tensors_listed: u64,
    pub(crate) names_bytes: u64,
    pub(crate) expanded_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pickle_bytes: 1 << 30,
            objects: 32_000_000,
            nesting: 128,
            inflation_ratio: 200,
            inflated_bytes: 64 << 30,
            tensor_bytes: 1 << 50,
            records: 4_000_000,
            tensors_listed: 4_000_000,
            names_bytes: 128 << 20,
            expanded_bytes: 1 << 30,
        }
    }
}

impl Limits {
    /// Bytes of a pickle stream once inflated, those of checkpoints inside it included. Default 1 GiB.
    #[must_use]
    pub fn pickle_bytes(mut self, bytes: u64) -> Self {
        self.pickle_bytes = bytes;
        self
    }

    /// Objects in a pickle, those of checkpoints inside it included: every number, text, container and call is one, and
    /// takes up to about 100 bytes of memory; what is named again, and each mark, counts once more. Counted as they are
    /// read. Default 32,000,000; a checkpoint has some twenty-five a tensor.
    #[must_use]
    pub fn objects(mut self, objects: u64) -> Self {
        self.objects = objects;
        self
    }

    /// Levels that `Value::deserialize` (feature `serde`) goes down in one go, each of which takes stack. Default 128.
    /// Everything else needs no such limit: values may nest as deep as they like.
    #[must_use]
    pub fn nesting(mut self, levels: u64) -> Self {
        self.nesting = levels;
        self
    }

    /// How many times larger than its stored form a deflated pickle may be, beyond its first MiB, and the deflated
    /// storages all together, beyond their first GiB. Default 200.
    #[must_use]
    pub fn inflation_ratio(mut self, ratio: u64) -> Self {
        self.inflation_ratio = ratio;
        self
    }

    /// Bytes that the deflated storages of a file inflate to, all together. Default 64 GiB.
    #[must_use]
    pub fn inflated_bytes(mut self, bytes: u64) -> Self {
        self.inflated_bytes = bytes;
        self
    }

    /// Bytes of all storages of a file. Default 1 PiB: what is not deflated is never more than the file's own bytes.
    #[must_use]
    pub fn tensor_bytes(mut self, bytes: u64) -> Self {
        self.tensor_bytes = bytes;
        self
    }

    /// Records in one archive, or entries in a part of a tar archive. Default 4,000,000.
    #[must_use]
    pub fn records(mut self, records: u64) -> Self {
        self.records = records;
        self
    }

    /// Tensors listed by path: one tensor may be reached by many. Default 4,000,000.
    #[must_use]
    pub fn tensors_listed(mut self, tensors: u64) -> Self {
        self.tensors_listed = tensors;
        self
    }

    /// Bytes of the names of all tensors listed, which grow with the depth of their containers and the length of
    /// keys that these share. Default 128 MiB.
    #[must_use]
    pub fn names_bytes(mut self, bytes: u64) -> Self {
        self.names_bytes = bytes;
        self
    }

    /// Bytes that copying out one expanded view may take beyond its storage's own, and copying out all views beyond
    /// sixteen times their storages, where [`Checkpoint::check_views`](crate::Checkpoint::check_views) or that of
    /// [`StateDict`](crate::StateDict::check_views) is asked. Default 1 GiB.
    #[must_use]
    pub fn expanded_bytes(mut self, bytes: u64) -> Self {
        self.expanded_bytes = bytes;
        self
    }
}

/// How many objects the pickles of a file have, and may have.
#[derive(Debug)]
pub(crate) struct Objects {
    used: Cell<u64>,
    max: u64,
}

impl Objects {
    /// None yet.
    pub(crate) fn within(limits: &Limits) -> Self {
        Self { used: Cell::new(0), max: limits.objects }
    }

    /// Refuses so many more.
    #[inline]
    pub(crate) fn check(&self, more: u64) -> Result<()> {
        let found = self.used.get().saturating_add(more);
        check("the number of objects in the pickle", "objects", found, self.max)
    }

    /// How many were counted.
    #[cfg(test)]
    pub(crate) fn used(&self) -> u64 {
        self.used.get()
    }

    /// Counts so many more.
    pub(crate) fn add(&self, more: u64) {
        self.used.set(self.used.get().saturating_add(more));
    }
}

/// Refuses `found` above `allowed`, naming the limit.
#[inline]
pub(crate) fn check(what: &'static str, limit: &'static str, found: u64, allowed: u64) -> Result<()> {
    if found > allowed {
        return Err(exceeded(what, limit, found, allowed));
    }
    Ok(())
}

#[cold]
fn exceeded(what: &'static str, limit: &'static str, found: u64, allowed: u64) -> Error {
    Reason::Limit { what, limit, found, allowed }.into()
}
