//! The central directory of a zip archive: what each entry says of its record. A block of it is in memory at a time.

use std::io::{BufRead, Read, Seek, SeekFrom};

use super::end::{DIRECTORY_ENTRY, Start, u16_at, u32_at};
use crate::error::{Error, Reason, Result};
use crate::source::{Cursor, Source};

/// What an entry says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) flags: u16,
    pub(super) method: u16,
    pub(super) crc32: u32,
    pub(super) size: u64,
    pub(super) stored_size: u64,
    /// The absolute offset of the local header.
    pub(super) header_at: u64,
}

/// The entries that are left.
pub(super) struct Entries<'s> {
    cursor: Cursor<'s>,
    /// The archive's first byte, which offsets count from.
    start: u64,
    records: u64,
    /// Bytes of the directory.
    bytes: u64,
    /// An entry that lies across blocks.
    copy: Vec<u8>,
    /// Bytes to skip before the next one.
    behind: usize,
}

const ENTRY_SIZE: usize = 46;
/// In the place of a number that stands in the zip64 field.
const IN_ZIP64: u64 = 0xFFFF_FFFF;
const ZIP64: u16 = 1;

impl<'s> Entries<'s> {
    /// From the first one on.
    pub(super) fn of(source: &'s dyn Source, start: &Start) -> Result<Self> {
        let mut cursor = Cursor::new(source);
        cursor.seek(SeekFrom::Start(start.directory_at))?;
        let Start { at, records, directory_bytes: bytes, .. } = *start;
        Ok(Self { cursor, start: at, records, bytes, copy: Vec::new(), behind: 0 })
    }

    /// How many there can be: what the archive claims, as far as the directory has room for them.
    pub(super) fn at_most(&self) -> usize {
        let room = usize::try_from(self.bytes).unwrap_or(usize::MAX) / ENTRY_SIZE;
        usize::try_from(self.records).unwrap_or(usize::MAX).min(room)
    }

    /// The next entry, and the name of its record as it stands there.
    ///
    /// # Errors
    /// `Malformed` where the directory ends early, or something other than an entry stands in it.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<(Entry, &[u8])>> {
        let Some(left) = self.records.checked_sub(1) else { return Ok(None) };
        self.records = left;
        self.cursor.consume(std::mem::take(&mut self.behind));
        self.pay(ENTRY_SIZE)?;
        // Most entries lie in one block as a whole.
        let block = self.cursor.fill_buf()?;
        if let Some((head, rest)) = block.split_first_chunk() {
            let len = lengths(head)?.iter().sum();
            if rest.len() >= len {
                self.behind = ENTRY_SIZE.saturating_add(len);
                self.pay(len)?;
                return entry(self.cursor.buffered(), self.start).map(Some);
            }
        }
        let mut head = [0; ENTRY_SIZE];
        self.cursor.read_exact(&mut head)?;
        let lengths = lengths(&head)?;
        self.pay(lengths.iter().sum())?;
        let [name, extra, comment] = lengths;
        self.copy.clear();
        self.copy.extend_from_slice(&head);
        self.copy.resize([ENTRY_SIZE, name, extra].iter().sum(), 0);
        self.cursor.read_exact(self.copy.get_mut(ENTRY_SIZE..).unwrap_or_default())?;
        self.behind = comment;
        entry(&self.copy, self.start).map(Some)
    }

    /// Takes so many bytes of what is left of the directory.
    #[inline]
    fn pay(&mut self, bytes: usize) -> Result<()> {
        let left = u64::try_from(bytes).ok().and_then(|bytes| self.bytes.checked_sub(bytes));
        self.bytes = left.ok_or_else(too_short)?;
        Ok(())
    }
}

fn too_short() -> Error {
    Reason::Archive("the central directory is shorter than its entries".into()).into()
}

/// Bytes of an entry's name, extra fields and comment.
#[inline]
fn lengths(head: &[u8; ENTRY_SIZE]) -> Result<[usize; 3]> {
    if !head.starts_with(&DIRECTORY_ENTRY) {
        return Err(Reason::Archive("the central directory holds something other than entries".into()).into());
    }
    Ok([28, 30, 32].map(|at| u16_at(head, at).into()))
}

/// The entry that some bytes begin with, up to its comment, of an archive that begins at `start`.
#[inline]
fn entry(bytes: &[u8], start: u64) -> Result<(Entry, &[u8])> {
    let Some((head, rest)) = bytes.split_first_chunk() else { return Err(too_short()) };
    let [name, extra, _] = lengths(head)?;
    let (name, rest) = rest.split_at_checked(name).unwrap_or_default();
    // The size, that in the archive, and the offset of the local header.
    let mut numbers = [24, 20, 42].map(|at| u64::from(u32_at(head, at)));
    if numbers.contains(&IN_ZIP64) {
        complete(&mut numbers, rest.get(..extra).unwrap_or_default())?;
    }
    let [size, stored_size, header] = numbers;
    let header_at = start.checked_add(header);
    let header_at =
        header_at.ok_or_else(|| Reason::Archive("a record lies beyond every file's end".into()))?;
    let (flags, method, crc32) = (u16_at(head, 8), u16_at(head, 10), u32_at(head, 16));
    Ok((Entry { flags, method, crc32, size, stored_size, header_at }, name))
}

/// Takes the numbers that do not fit 32 bits from the zip64 field, which holds those and no others.
fn complete(numbers: &mut [u64; 3], mut extra: &[u8]) -> Result<()> {
    while let Some((&[id0, id1, len0, len1], rest)) = extra.split_first_chunk() {
        let len = usize::from(u16::from_le_bytes([len0, len1]));
        let (mut field, rest) = rest.split_at_checked(len).unwrap_or((rest, &[]));
        if u16::from_le_bytes([id0, id1]) != ZIP64 {
            extra = rest;
            continue;
        }
        for number in numbers.iter_mut().filter(|number| **number == IN_ZIP64) {
            let Some((wide, rest)) = field.split_first_chunk() else {
                return Err(Reason::Archive("a zip64 field of the directory is too short".into()).into());
            };
            *number = u64::from_le_bytes(*wide);
            field = rest;
        }
        return Ok(());
    }
    // A record may have just this size.
    Ok(())
}
