//! How much may be read in one go from values that are reached by many paths.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;

use serde::de::Error as _;

use super::failure::Failure;
use crate::pickle::NodeId;

/// Bytes of repeated text that weigh as much as one member of a list.
const TEXT_UNIT: usize = 64;

/// Bounds what a file may make of little: a few dozen lists, each holding the one before it twice, would fill
/// every memory.
pub(super) struct Sharing {
    /// Long texts that were read before.
    seen: RefCell<HashSet<NodeId>>,
    /// Members and entries that may still be read.
    left: Cell<usize>,
}

impl Sharing {
    /// Leaves room for every value several times, and for lists whose members are one and the same.
    pub(super) fn among(values: usize) -> Self {
        let left = values.saturating_mul(8).saturating_add(1 << 19);
        Self { seen: RefCell::default(), left: Cell::new(left) }
    }

    /// Counts the members of a list or the entries of a dict.
    pub(super) fn members(&self, count: usize) -> Result<(), Failure> {
        let left = self.left.get().checked_sub(count).ok_or_else(|| {
            Failure::custom(
                "values are shared so often that reading them at every place would not end; \
                 read them with get, items and entries",
            )
        })?;
        self.left.set(left);
        Ok(())
    }

    /// Counts text or bytes: what is read once costs no more than the file holds.
    pub(super) fn text(&self, node: NodeId, bytes: usize) -> Result<(), Failure> {
        let weight = bytes / TEXT_UNIT;
        if weight == 0 || self.seen.borrow_mut().insert(node) {
            return Ok(());
        }
        self.members(weight)
    }
}
