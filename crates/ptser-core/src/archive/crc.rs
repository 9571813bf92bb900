//! The CRC of a record, calculated from its pieces as they are read, in whatever order and by however many threads.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crc32fast::Hasher;

use super::record::Record;
use crate::error::{Reason, Result};

/// What is known of the CRC of one record.
#[derive(Debug)]
pub(crate) struct Crc {
    stored: u32,
    size: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Pieces that were read: offset → length and CRC. Neighbours are joined.
    pieces: BTreeMap<u64, Piece>,
    /// The CRC of all of it, once all was read.
    computed: Option<u32>,
}

/// Bytes that lie side by side.
#[derive(Debug, Clone, Copy)]
struct Piece {
    len: u64,
    crc: u32,
}

impl Piece {
    fn then(self, next: Self) -> Self {
        let mut hasher = Hasher::new_with_initial_len(self.crc, self.len);
        hasher.combine(&Hasher::new_with_initial_len(next.crc, next.len));
        Self { len: self.len.saturating_add(next.len), crc: hasher.finalize() }
    }
}

impl Crc {
    /// The CRC of a record; `None` where none was computed when it was written, which is recorded as 0.
    pub(crate) fn of(record: &Record) -> Option<Self> {
        let Record { crc32: stored, size, .. } = *record;
        (stored != 0).then(|| Self { stored, size, state: Mutex::default() })
    }

    /// Takes note of bytes that were read.
    ///
    /// # Errors
    /// `Malformed` when all of the record has been read, and its CRC is another.
    pub(crate) fn note(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        if let Some(computed) = self.lock().computed {
            return check(self.stored, computed);
        }
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let piece = Piece { len, crc: crc32fast::hash(bytes) };
        let mut state = self.lock();
        if len == self.size {
            state.computed = Some(piece.crc);
        } else if len > 0 {
            state.insert(offset, piece);
            let whole = state.pieces.first_key_value().filter(|(_, piece)| piece.len == self.size);
            state.computed = whole.map(|(_, piece)| piece.crc).or(state.computed);
        }
        state.computed.map_or(Ok(()), |computed| check(self.stored, computed))
    }

    /// Gives up: the bytes are no longer those that were written with the CRC.
    pub(crate) fn forget(&self) {
        self.lock().computed = Some(self.stored);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Joins a piece with its neighbours; one that overlaps others says nothing new.
    fn insert(&mut self, offset: u64, piece: Piece) {
        let end = offset.saturating_add(piece.len);
        let before = self.pieces.range(..offset).next_back().map(|(&at, &piece)| (at, piece));
        let behind = self.pieces.range(offset..).next().map(|(&at, &piece)| (at, piece));
        let overlaps = before.is_some_and(|(at, before)| at.saturating_add(before.len) > offset)
            || behind.is_some_and(|(at, _)| at < end);
        if overlaps {
            return;
        }
        let (mut at, mut joined) = (offset, piece);
        if let Some((start, before)) = before.filter(|(at, before)| at.saturating_add(before.len) == offset) {
            (at, joined) = (start, before.then(joined));
        }
        if let Some((start, behind)) = behind.filter(|&(at, _)| at == end) {
            self.pieces.remove(&start);
            joined = joined.then(behind);
        }
        self.pieces.insert(at, joined);
    }
}

/// Compares the CRC of a record with the one that the directory has; 0 there means that none was computed.
///
/// # Errors
/// `Malformed` where they differ.
pub(crate) fn check(stored: u32, computed: u32) -> Result<()> {
    if stored == 0 || stored == computed { Ok(()) } else { Err(Reason::Checksum { stored, computed }.into()) }
}

/// The CRC of pieces that follow each other: their lengths and CRCs.
pub(crate) fn joined(pieces: impl IntoIterator<Item = (u64, u32)>) -> u32 {
    let none = Piece { len: 0, crc: 0 };
    pieces.into_iter().fold(none, |all, (len, crc)| all.then(Piece { len, crc })).crc
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crc(stored: u32, size: u64) -> Crc {
        Crc { stored, size, state: Mutex::default() }
    }

    #[test]
    fn pieces_in_any_order_make_the_crc_of_the_whole() {
        let bytes: Vec<u8> = (0..100).collect();
        let good = crc32fast::hash(&bytes);
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]] {
            for stored in [good, good ^ 1] {
                let crc = crc(stored, 100);
                let read = |place: usize| {
                    crc.note(u64::try_from(place * 25).unwrap(), &bytes[place * 25..][..25]).is_ok()
                };
                let outcomes: Vec<bool> = order.into_iter().map(read).collect();
                assert_eq!(outcomes, [true, true, true, stored == good], "{order:?}");
                // What is known is known.
                assert_eq!(crc.note(7, &bytes[7..9]).is_ok(), stored == good);
            }
        }
        assert_eq!(joined([(25, crc32fast::hash(&bytes[..25])), (75, crc32fast::hash(&bytes[25..]))]), good);
    }

    #[test]
    fn what_is_read_again_counts_once_and_parts_tell_nothing() {
        let bytes = [7; 10];
        let crc = crc(1, 10);
        for range in [0..4, 2..6, 0..4, 8..10, 5..9] {
            assert!(crc.note(u64::try_from(range.start).unwrap(), &bytes[range]).is_ok());
        }
        assert!(crc.note(0, &bytes).is_err());
    }

    #[test]
    fn bytes_that_were_written_meanwhile_are_not_checked() {
        let crc = crc(1, 3);
        crc.forget();
        assert!(crc.note(0, &[1, 2, 3]).is_ok());
    }
}
