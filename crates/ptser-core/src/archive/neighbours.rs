//! Small records that lie side by side, which can be read together.

use std::ops::Range;

use super::directory::Archive;
use super::record::{Compression, Record};
use crate::storage::{Block, ReadAhead};

impl Archive {
    /// Where a small stored record lies, from its local header to what follows it in the file. `None` for others.
    pub(crate) fn small(&self, place: usize) -> Option<Range<u64>> {
        self.records.get(place).and_then(small)
    }

    /// Where a small record and those behind it lie, as far as they are small and one block has them.
    pub(crate) fn small_from(&self, place: usize) -> Option<Range<u64>> {
        let mut records = self.records.get(place..)?.iter().map_while(small);
        let mut all = records.next()?;
        for next in records {
            if next.start != all.end || !fits(&(all.start..next.end)) {
                break;
            }
            all.end = next.end;
        }
        Some(all)
    }
}

fn small(record: &Record) -> Option<Range<u64>> {
    let range = record.header_at..record.next_at();
    let is_small = record.compression == Compression::Stored && record.size <= ReadAhead::SMALL;
    (is_small && fits(&range)).then_some(range)
}

fn fits(range: &Range<u64>) -> bool {
    range.end.saturating_sub(range.start) <= Block::LEN
}
