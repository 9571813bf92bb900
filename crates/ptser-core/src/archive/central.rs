//! The central directory of a zip archive: what each entry says of its record. A block of it is in memory at a time.

use std::io::{Read, Seek, SeekFrom};

use super::end::{DIRECTORY_ENTRY, Start, u16_at, u32_at};
use crate::error::{Reason, Result};
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
    name: Vec<u8>,
    extra: Vec<u8>,
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
        Ok(Self { cursor, start: at, records, bytes, name: Vec::new(), extra: Vec::new() })
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
    pub(super) fn next(&mut self) -> Result<Option<(Entry, &[u8])>> {
        let Some(left) = self.records.checked_sub(1) else { return Ok(None) };
        self.records = left;
        let mut bytes = [0; ENTRY_SIZE];
        self.pay(ENTRY_SIZE)?;
        self.cursor.read_exact(&mut bytes)?;
        if !bytes.starts_with(&DIRECTORY_ENTRY) {
            return Err(
                Reason::Archive("the central directory holds something other than entries".into()).into()
            );
        }
        let (name, extra, comment) = (u16_at(&bytes, 28), u16_at(&bytes, 30), u16_at(&bytes, 32));
        self.name.resize(name.into(), 0);
        self.extra.resize(extra.into(), 0);
        self.pay([name, extra, comment].into_iter().map(usize::from).sum())?;
        self.cursor.read_exact(&mut self.name)?;
        self.cursor.read_exact(&mut self.extra)?;
        self.cursor.seek_relative(comment.into())?;

        // The size, that in the archive, and the offset of the local header.
        let mut numbers = [24, 20, 42].map(|at| u64::from(u32_at(&bytes, at)));
        if numbers.contains(&IN_ZIP64) {
            complete(&mut numbers, &self.extra)?;
        }
        let [size, stored_size, header] = numbers;
        let header_at = self.start.checked_add(header);
        let header_at =
            header_at.ok_or_else(|| Reason::Archive("a record lies beyond every file's end".into()))?;
        let entry = Entry {
            flags: u16_at(&bytes, 8),
            method: u16_at(&bytes, 10),
            crc32: u32_at(&bytes, 16),
            size,
            stored_size,
            header_at,
        };
        Ok(Some((entry, &self.name)))
    }

    /// Takes so many bytes of what is left of the directory.
    fn pay(&mut self, bytes: usize) -> Result<()> {
        let left = u64::try_from(bytes).ok().and_then(|bytes| self.bytes.checked_sub(bytes));
        self.bytes =
            left.ok_or_else(|| Reason::Archive("the central directory is shorter than its entries".into()))?;
        Ok(())
    }
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
