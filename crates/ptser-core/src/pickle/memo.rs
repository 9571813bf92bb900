//! What a pickle remembers by number.

use std::collections::HashMap;

use super::graph::NodeId;
use super::views::left_out;
use crate::error::{Reason, Result};
use crate::memory;

/// Memo entries: dense where indexes follow each other, as every writer makes them; sparse where a file
/// asks for index 4,000,000,000.
#[derive(Default)]
pub(super) struct Memo {
    /// Without those that lie inside of views.
    dense: Vec<Option<NodeId>>,
    sparse: HashMap<u64, NodeId>,
    len: usize,
    /// Which those are, and how many.
    gaps: Vec<Gaps>,
    left_out: usize,
}

/// Views that follow each other, with as many entries inside of each and from one to the next: nearly all of a pickle.
struct Gaps {
    /// The index of the first entry inside of the first view.
    start: usize,
    /// How many lie inside of each, and how many from one view to the next.
    len: usize,
    step: usize,
    /// Where the first entry of the next view would be.
    next: usize,
    /// The number of the first view, and how many there are.
    view: usize,
    views: usize,
    /// How many entries were left out before.
    before: usize,
}

/// What is under an index.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Known(NodeId),
    /// One of what the memo took of a view.
    Inside {
        view: usize,
        at: usize,
    },
}

impl Memo {
    /// The dense part may be this much longer than twice the number of entries.
    const SLACK: usize = 1024;

    /// The number of entries, which is the index that `MEMOIZE` takes.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The index that follows, where all follow each other.
    #[inline]
    pub(super) fn next(&self) -> Option<u32> {
        (self.sparse.is_empty() && self.dense_end() == self.len).then(|| u32::try_from(self.len).ok())?
    }

    #[inline]
    fn dense_end(&self) -> usize {
        self.dense.len().saturating_add(self.left_out)
    }

    /// Leaves out what lies inside of a view, the next one by its number: the indexes from the next one up to `end`.
    #[inline(always)]
    pub(super) fn put_view(&mut self, view: usize, end: usize) -> Result<()> {
        let start = std::mem::replace(&mut self.len, end);
        let len = end.saturating_sub(start);
        if len == 0 {
            return Ok(());
        }
        let before = self.left_out;
        self.left_out = before.saturating_add(len);
        let follows = |gaps: &&mut Gaps| gaps.len == len && gaps.view.saturating_add(gaps.views) == view;
        if let Some(gaps) = self.gaps.last_mut().filter(follows) {
            if gaps.views == 1 {
                gaps.step = start.saturating_sub(gaps.start);
                gaps.next = start;
            }
            if gaps.next == start {
                gaps.views = gaps.views.saturating_add(1);
                gaps.next = start.saturating_add(gaps.step);
                return Ok(());
            }
        }
        memory::push(&mut self.gaps, Gaps { start, len, step: usize::MAX, next: 0, views: 1, view, before })
    }

    #[inline]
    pub(super) fn put(&mut self, key: u64, id: NodeId) -> Result<()> {
        // What every writer does: one entry behind the other.
        if self.sparse.is_empty() && usize::try_from(key).ok() == Some(self.dense_end()) {
            self.len = self.len.saturating_add(1);
            return memory::push(&mut self.dense, Some(id));
        }
        self.put_anywhere(key, id)
    }

    fn put_anywhere(&mut self, key: u64, id: NodeId) -> Result<()> {
        // No writer comes back to an index.
        if !self.gaps.is_empty() {
            return Err(left_out());
        }
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

    /// The entries before the first view, by index.
    #[inline]
    pub(super) fn before_views(&self) -> &[Option<NodeId>] {
        let end = self.gaps.first().map_or(usize::MAX, |first| first.start);
        self.dense.get(..end).unwrap_or(&self.dense)
    }

    /// What is under an index of the dense part.
    #[inline]
    pub(super) fn entry(&self, place: usize) -> Option<Entry> {
        match self.before_views().get(place) {
            Some(id) => id.map(Entry::Known),
            None => self.among_gaps(place),
        }
    }

    #[cold]
    fn among_gaps(&self, place: usize) -> Option<Entry> {
        let gaps = self.gaps.partition_point(|gaps| gaps.start <= place).checked_sub(1)?;
        let Gaps { start, len, step, views, view, before, .. } = *self.gaps.get(gaps)?;
        let behind = place.checked_sub(start)?;
        let round = behind.checked_div(step)?.min(views.checked_sub(1)?);
        let at = behind.checked_sub(round.checked_mul(step)?)?;
        if at < len {
            return Some(Entry::Inside { view: view.checked_add(round)?, at });
        }
        let left_out = round.checked_add(1)?.checked_mul(len)?.checked_add(before)?;
        self.dense.get(place.checked_sub(left_out)?).copied().flatten().map(Entry::Known)
    }

    /// What is under an index, wherever it is kept.
    #[inline]
    pub(super) fn get(&self, key: u64) -> Result<Entry> {
        usize::try_from(key)
            .ok()
            .and_then(|place| self.entry(place))
            .or_else(|| self.sparse.get(&key).copied().map(Entry::Known))
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
            assert_eq!(memo.get(key).unwrap(), Entry::Known(at(place)));
        }
        assert_eq!(memo.len(), far.len());
        assert!(memo.get(5).is_err());
    }

    #[test]
    fn what_lies_inside_of_views_is_told_apart() {
        let mut memo = Memo::default();
        let mut expected = Vec::new();
        // Entries before each view, and inside of it.
        let views = [(3, 6), (2, 6), (2, 6), (2, 4), (2, 4), (1, 4), (0, 0), (2, 0), (1, 4), (5, 6), (2, 6)];
        for (view, (before, inside)) in (0..).zip(views) {
            for _ in 0..before {
                let id = at(expected.len());
                memo.put(u64::try_from(expected.len()).unwrap(), id).unwrap();
                expected.push(Entry::Known(id));
            }
            expected.extend((0..inside).map(|at| Entry::Inside { view, at }));
            memo.put_view(view, expected.len()).unwrap();
        }
        assert_eq!(memo.gaps.len(), 5);
        assert_eq!((memo.len(), memo.entry(expected.len())), (expected.len(), None));
        for (place, entry) in expected.into_iter().enumerate() {
            assert_eq!(memo.entry(place), Some(entry));
        }
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
        assert_eq!(memo.get(2000).unwrap(), Entry::Known(at(3)));
    }
}
