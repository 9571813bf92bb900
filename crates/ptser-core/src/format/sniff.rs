//! Tells from the first bytes what a file is.

use super::foreign;
use super::legacy::LegacyStream;
use crate::error::{ErrorKind, Reason, Result};
use crate::limits::Limits;
use crate::source::Source;
use crate::{archive, pickle, tar};

/// The containers that are recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sniffed {
    Zip,
    Legacy,
    Tar,
    Safetensors,
    /// A pickle without a checkpoint around it.
    Pickle,
}

/// What the file is.
///
/// # Errors
/// `Malformed` that names it where it is no checkpoint.
pub(crate) fn sniff(source: &dyn Source, limits: &Limits) -> Result<Sniffed> {
    let mut head = vec![0; usize::try_from(source.size().min(1024)).unwrap_or(0)];
    source.read_exact_at(&mut head, 0)?;
    if head.starts_with(b"PK\x03\x04") {
        return Ok(Sniffed::Zip);
    }
    if is_safetensors(&head, source.size()) {
        return Ok(Sniffed::Safetensors);
    }
    if tar::begins(&head) {
        return Ok(Sniffed::Tar);
    }
    let named = foreign::name(&head, source);
    if named.is_none() {
        if LegacyStream::begins(source, 0)? {
            return Ok(Sniffed::Legacy);
        }
        // Protocols 0 and 1 begin with any letter: such a pickle must fill the file.
        let len = || unless_unread(pickle::pickle_len(source, 0, limits.pickle_bytes));
        if head.starts_with(b"\x80") || len()? == Some(source.size()) {
            return Ok(Sniffed::Pickle);
        }
    }
    // An archive may have a program in front of it, or anything else.
    if unless_unread(archive::archive_start(source))?.is_some() {
        return Ok(Sniffed::Zip);
    }
    Err(Reason::NotACheckpoint { found: named.unwrap_or_else(|| foreign::unknown(&head)) }.into())
}

/// What was found, or nothing; bytes that cannot be read are an error, and no sign of another format.
pub(super) fn unless_unread<T>(found: Result<T>) -> Result<Option<T>> {
    match found {
        Err(error) if error.kind() == ErrorKind::Io => Err(error),
        found => Ok(found.ok()),
    }
}

/// A length, and a JSON header of that length.
fn is_safetensors(head: &[u8], size: u64) -> bool {
    head.split_first_chunk::<8>().is_some_and(|(len, rest)| {
        let len = u64::from_le_bytes(*len);
        rest.starts_with(b"{") && len.checked_add(8).is_some_and(|end| end <= size)
    })
}
