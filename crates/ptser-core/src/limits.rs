//! How much a file may ask for. Knows nothing of formats.

use crate::error::{Reason, Result};

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
    pub(crate) inflation_ratio: u64,
    pub(crate) records: u64,
    pub(crate) tensors_listed: u64,
    pub(crate) names_bytes: u64,
    pub(crate) expanded_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pickle_bytes: 1 << 30,
            inflation_ratio: 200,
            records: 4_000_000,
            tensors_listed: 4_000_000,
            names_bytes: 128 << 20,
            expanded_bytes: 4 << 30,
        }
    }
}

impl Limits {
    /// Bytes of the pickle stream once inflated. Default 1 GiB.
    #[must_use]
    pub fn pickle_bytes(mut self, bytes: u64) -> Self {
        self.pickle_bytes = bytes;
        self
    }

    /// How many times larger than its stored form a deflated pickle may be, beyond its first MiB. Default 200.
    #[must_use]
    pub fn inflation_ratio(mut self, ratio: u64) -> Self {
        self.inflation_ratio = ratio;
        self
    }

    /// Records in one archive. Default 4,000,000.
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

    /// Bytes that copying out one expanded view may take beyond its storage's own. Default 4 GiB.
    #[must_use]
    pub fn expanded_bytes(mut self, bytes: u64) -> Self {
        self.expanded_bytes = bytes;
        self
    }
}

/// Refuses `found` above `allowed`, naming the limit.
pub(crate) fn check(what: &'static str, limit: &'static str, found: u64, allowed: u64) -> Result<()> {
    if found > allowed {
        return Err(Reason::Limit { what, limit, found, allowed }.into());
    }
    Ok(())
}
