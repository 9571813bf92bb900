//! Finds where an archive begins inside a larger file, from its end records.
//!
//! Offsets in a zip count from the archive's first byte, which is not the file's where something was put
//! in front. Guessing that from the size of the central directory alone is wrong for every archive PyTorch
//! writes, which puts a zip64 end record between the directory and the end record; so the zip64 record is
//! looked at first.

use crate::error::{Reason, Result};
use crate::source::ReadAt;

const END: [u8; 4] = *b"PK\x05\x06";
const END64_LOCATOR: [u8; 4] = *b"PK\x06\x07";
const END64: [u8; 4] = *b"PK\x06\x06";
const DIRECTORY_ENTRY: [u8; 4] = *b"PK\x01\x02";
/// Local file header, the first bytes of an archive.
pub(crate) const LOCAL_HEADER: [u8; 4] = *b"PK\x03\x04";

const END_SIZE: u64 = 22;
const LOCATOR_SIZE: u64 = 20;
const END64_SIZE: u64 = 56;
const COMMENT_MAX: u64 = 0xFFFF;

/// The offset of the archive's first byte in the source.
///
/// # Errors
/// `Malformed` where no end record is found or none of the places it leads to holds a directory.
pub(crate) fn archive_start(source: &dyn ReadAt) -> Result<u64> {
    let size = source.size();
    let tail_len = size.min(END_SIZE.saturating_add(COMMENT_MAX).saturating_add(LOCATOR_SIZE).saturating_add(END64_SIZE));
    let tail_start = size.saturating_sub(tail_len);
    let mut tail = vec![0; usize::try_from(tail_len).unwrap_or(0)];
    source.read_exact_at(&mut tail, tail_start)?;

    let last = tail
        .windows(END.len())
        .rposition(|window| window == END)
        .and_then(|at| Some((at, tail.get(at..)?)))
        .filter(|(_, record)| record.len() >= usize::try_from(END_SIZE).unwrap_or(usize::MAX))
        .ok_or_else(|| Reason::Archive("the central directory was not found at its end".into()))?;
    let (at, record) = last;
    let end_at = tail_start.saturating_add(u64::try_from(at).unwrap_or(u64::MAX));
    let directory_size = u64::from(u32_at(record, 12));
    let directory_offset = u64::from(u32_at(record, 16));

    let mut candidates = Vec::with_capacity(3);
    if let Some(locator_at) = end_at.checked_sub(LOCATOR_SIZE) {
        let locator = read::<20>(source, locator_at)?;
        if locator.starts_with(&END64_LOCATOR) {
            // The zip64 record lies right before its locator; the locator says where it thinks it is.
            if let Some(end64_at) = locator_at.checked_sub(END64_SIZE) {
                let end64 = read::<56>(source, end64_at)?;
                if end64.starts_with(&END64) {
                    let claimed_at = u64_at(&locator, 8);
                    let offset = u64_at(&end64, 48);
                    candidates.extend(end64_at.checked_sub(claimed_at).map(|start| (start, offset)));
                }
            }
        }
    }
    let directory_at = end_at.checked_sub(directory_size);
    candidates.extend(directory_at.and_then(|at| Some((at.checked_sub(directory_offset)?, directory_offset))));
    candidates.push((0, directory_offset));

    for (start, offset) in candidates {
        let Some(directory) = start.checked_add(offset).filter(|at| at.saturating_add(4) <= size) else { continue };
        if read::<4>(source, directory)? == DIRECTORY_ENTRY {
            return Ok(start);
        }
    }
    Err(Reason::Archive("the end record does not lead to a central directory".into()).into())
}

fn read<const N: usize>(source: &dyn ReadAt, offset: u64) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    source.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |chunk| u32::from_le_bytes(*chunk))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |chunk| u64::from_le_bytes(*chunk))
}
