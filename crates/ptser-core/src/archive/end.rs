//! Finds where an archive begins inside a larger file, from its end records.
//!
//! Offsets in a zip count from the archive's first byte, which is not the file's where something was put
//! in front. Guessing that from the size of the central directory alone is wrong for every archive PyTorch
//! writes, which puts a zip64 end record between the directory and the end record; so the zip64 record is
//! looked at first.

use crate::error::{Reason, Result};
use crate::source::Source;

const END: [u8; 4] = *b"PK\x05\x06";
const END64_LOCATOR: [u8; 4] = *b"PK\x06\x07";
const END64: [u8; 4] = *b"PK\x06\x06";
pub(super) const DIRECTORY_ENTRY: [u8; 4] = *b"PK\x01\x02";
/// Local file header, the first bytes of an archive.
pub(crate) const LOCAL_HEADER: [u8; 4] = *b"PK\x03\x04";

const END_SIZE: u64 = 22;
const LOCATOR_SIZE: u64 = 20;
const END64_SIZE: u64 = 56;
const COMMENT_MAX: u64 = 0xFFFF;
/// How many signatures that turn out not to be an end record's are looked at: a comment may hold some.
const SIGNATURES_MAX: usize = 16;

/// Where an archive begins.
pub(crate) struct Start {
    /// The offset of its first byte in the source.
    pub(crate) at: u64,
    /// The number of records that it claims.
    pub(crate) records: u64,
    /// The first byte of its directory in the source.
    pub(super) directory_at: u64,
    /// Bytes of the directory.
    pub(super) directory_bytes: u64,
}

/// Finds the archive's first byte in the source.
///
/// # Errors
/// `Malformed` where no end record is found or none of the places it leads to holds a directory.
pub(crate) fn archive_start(source: &dyn Source) -> Result<Start> {
    let size = source.size();
    let tail_len = size.min([END_SIZE, COMMENT_MAX, LOCATOR_SIZE, END64_SIZE].iter().sum());
    let tail_start = size.saturating_sub(tail_len);
    let mut tail = vec![0; usize::try_from(tail_len).unwrap_or(0)];
    source.read_exact_at(&mut tail, tail_start)?;

    let file = Tail { source, start: tail_start, bytes: tail };
    let mut what = "the central directory was not found at its end";
    for (at, record) in file.end_records().take(SIGNATURES_MAX) {
        if let Some(start) = file.start_of(at, &record)? {
            return Ok(start);
        }
        what = "the end record does not lead to a central directory";
    }
    Err(Reason::Archive(what.into()).into())
}

/// Where an end record says that the directory is.
struct Claim {
    /// The archive's first byte.
    start: u64,
    /// The directory, from there.
    offset: u64,
    size: u64,
    records: u64,
    /// The record behind the directory.
    end_at: u64,
}

/// A source whose last bytes were read.
struct Tail<'s> {
    source: &'s dyn Source,
    start: u64,
    bytes: Vec<u8>,
}

impl Tail<'_> {
    /// What may be end records, the last one first.
    fn end_records(&self) -> impl Iterator<Item = (u64, [u8; 22])> {
        self.bytes.windows(22).enumerate().rev().filter_map(|(at, window)| {
            let record = *window.first_chunk::<22>()?;
            let at = self.start.checked_add(u64::try_from(at).ok()?)?;
            record.starts_with(&END).then_some((at, record))
        })
    }

    /// The archive's first byte, if the end record leads to a directory.
    fn start_of(&self, end_at: u64, record: &[u8; 22]) -> Result<Option<Start>> {
        let mut claims = self.claims64(end_at)?;
        let (size, offset) = (u64::from(u32_at(record, 12)), u64::from(u32_at(record, 16)));
        let behind_prefix = end_at.checked_sub(size).and_then(|directory| directory.checked_sub(offset));
        claims.extend(behind_prefix.into_iter().chain([0]).map(|start| Claim {
            start,
            offset,
            size,
            records: u64::from(u16_at(record, 10)),
            end_at,
        }));
        for Claim { start, offset, size, records, end_at } in claims {
            let Some(directory_at) = start.checked_add(offset) else { continue };
            let fits = directory_at.checked_add(size).is_some_and(|end| end <= end_at);
            if fits && directory_at < end_at && self.read(directory_at)? == Some(DIRECTORY_ENTRY) {
                return Ok(Some(Start { at: start, records, directory_at, directory_bytes: size }));
            }
        }
        Ok(None)
    }

    /// What the zip64 record says, where there is one.
    fn claims64(&self, end_at: u64) -> Result<Vec<Claim>> {
        let Some(locator_at) = end_at.checked_sub(LOCATOR_SIZE) else { return Ok(Vec::new()) };
        let Some(locator) =
            self.read::<20>(locator_at)?.filter(|locator| locator.starts_with(&END64_LOCATOR))
        else {
            return Ok(Vec::new());
        };
        // The zip64 record lies right before its locator; the locator says where it thinks it is.
        let Some(end_at) = locator_at.checked_sub(END64_SIZE) else { return Ok(Vec::new()) };
        let Some(record) = self.read::<56>(end_at)?.filter(|record| record.starts_with(&END64)) else {
            return Ok(Vec::new());
        };
        let start = end_at.checked_sub(u64_at(&locator, 8));
        let (records, size, offset) = (u64_at(&record, 32), u64_at(&record, 40), u64_at(&record, 48));
        Ok(start.map(|start| Claim { start, offset, size, records, end_at }).into_iter().collect())
    }

    /// Some bytes at an offset; `None` past the end of the source.
    fn read<const N: usize>(&self, offset: u64) -> Result<Option<[u8; N]>> {
        let in_tail =
            offset.checked_sub(self.start).and_then(|skip| self.bytes.get(usize::try_from(skip).ok()?..));
        if let Some(rest) = in_tail {
            return Ok(rest.first_chunk().copied());
        }
        let mut bytes = [0; N];
        self.source.read_exact_at(&mut bytes, offset)?;
        Ok(Some(bytes))
    }
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |chunk| u16::from_le_bytes(*chunk))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |chunk| u32::from_le_bytes(*chunk))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |chunk| u64::from_le_bytes(*chunk))
}
