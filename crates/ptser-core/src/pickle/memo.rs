//! What a pickle remembers by number.

use std::collections::HashMap;

use super::graph::NodeId;
use crate::error::{Reason, Result};
use crate::memory;

/// Memo entries: dense where indexes follow each other, as every writer makes them; sparse where a file
/// asks for index 4,000,000,000.
#[derive(Default)]
pub(super) struct Memo {
    dense: Vec<Option<NodeId>>,
    sparse: HashMap<u64, NodeId>,
    len: usize,
}

impl Memo {
    /// The dense part may be this much longer than twice the number of entries.
    const SLACK: usize = 1024;

    /// The number of entries, which is the index that `MEMOIZE` takes.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// All entries by their indexes, where these follow each other.
    #[inline]
    pub(super) fn dense(&self) -> Option<&[Option<NodeId>]> {
        (self.sparse.is_empty() && self.dense.len() == self.len).then_some(&self.dense)
    }

    /// Puts `count` values of a view, each under the index that follows: its key, where that is one of them, and then
    /// those that are left out.
    #[inline(always)]
    pub(super) fn put_view(&mut self, key: Option<NodeId>, count: usize) -> Result<()> {
        memory::reserve(&mut self.dense, count)?;
        let end = self.dense.len().saturating_add(count);
        self.dense.extend(key.map(Some));
        self.dense.resize(end, Some(NodeId::INSIDE));
        self.len = end;
        Ok(())
    }

    #[inline]
    pub(super) fn put(&mut self, key: u64, id: NodeId) -> Result<()> {
        // What every writer does: one entry behind the other.
        if self.sparse.is_empty() && usize::try_from(key).ok() == Some(self.dense.len()) {
            self.len = self.len.saturating_add(1);
            return memory::push(&mut self.dense, Some(id));
        }
        self.put_anywhere(key, id)
    }

    fn put_anywhere(&mut self, key: u64, id: NodeId) -> Result<()> {
        let dense_max = self.len.saturating_mul(2).saturating_add(Self::SLACK).max(self.dense.len());
        let before = match usize::try_from(key).ok().filter(|&place| place < dense_max) {
            Some(place) => {
                let len = place.saturating_add(1);
                if let Some(more) = len.checked_sub(self.dense.len()) {
                    memory::reserve(&mut self.dense, more)?;
                    self.dense.resize(len, None);
                }
                // An index that was too far away before may have come within reach.
                let sparse = if self.sparse.is_empty() { None } else { self.sparse.remove(&key) };
                self.dense.get_mut(place).and_then(|entry| entry.replace(id)).or(sparse)
            }
            None => self.sparse.insert(key, id),
        };
        if before.is_none() {
            self.len = self.len.saturating_add(1);
        }
        Ok(())
    }

    #[inline]
    pub(super) fn get(&self, key: u64) -> Result<NodeId> {
        let dense = usize::try_from(key).ok().and_then(|place| self.dense.get(place).copied().flatten());
        dense
            .or_else(|| self.sparse.get(&key).copied())
            .ok_or_else(|| Reason::Pickle(format!("memo {key} was never put")).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(place: usize) -> NodeId {
        NodeId::at(place).unwrap()
    }

    #[test]
    fn far_indexes_take_no_memory_and_are_found_again() {
        let mut memo = Memo::default();
        let far: Vec<u64> = (1..1000).map(|step| step * 1023).chain([u64::MAX]).collect();
        for (place, &key) in (0..).zip(&far) {
            memo.put(key, at(place)).unwrap();
        }
        assert!(memo.dense.len() < 4000, "{}", memo.dense.len());
        for (place, &key) in (0..).zip(&far) {
            assert_eq!(memo.get(key).unwrap(), at(place));
        }
        assert_eq!(memo.len(), far.len());
        assert!(memo.get(5).is_err());
    }

    #[test]
    fn an_index_that_is_put_again_counts_once() {
        let mut memo = Memo::default();
        for _ in 0..3 {
            memo.put(0, at(7)).unwrap();
        }
        memo.put(2000, at(1)).unwrap();
        for key in 1..2000 {
            memo.put(key, at(2)).unwrap();
        }
        memo.put(2000, at(3)).unwrap();
        assert_eq!(memo.len(), 2001);
        assert_eq!(memo.get(2000).unwrap(), at(3));
    }
}
