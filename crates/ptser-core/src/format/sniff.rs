//! Tells from the first bytes what a file is, so that what is no checkpoint is called by its name.

use super::legacy::LegacyStream;
use crate::error::{Reason, Result};
use crate::limits::Limits;
use crate::source::Source;
use crate::{archive, pickle};

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

/// Where a tar archive has its magic word.
const TAR_MAGIC_AT: usize = 257;

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
    if head.get(TAR_MAGIC_AT..).is_some_and(|rest| rest.starts_with(b"ustar")) {
        return Ok(Sniffed::Tar);
    }
    if is_safetensors(&head, source.size()) {
        return Ok(Sniffed::Safetensors);
    }
    if let Some(found) = name(&head) {
        return Err(Reason::NotACheckpoint { found }.into());
    }
    if LegacyStream::begins(source, 0) {
        return Ok(Sniffed::Legacy);
    }
    // Protocols 0 and 1 begin with any letter: such a pickle must fill the file.
    let whole = || pickle::pickle_len(source, 0, limits.pickle_bytes).is_ok_and(|len| len == source.size());
    if head.starts_with(b"\x80") || whole() {
        return Ok(Sniffed::Pickle);
    }
    if archive::archive_start(source).is_ok() {
        return Ok(Sniffed::Zip);
    }
    let found =
        "its first bytes are those of no format that is known here; it may be damaged from the start on"
            .into();
    Err(Reason::NotACheckpoint { found }.into())
}

/// What a file is that is no checkpoint, and what to do about it.
fn name(head: &[u8]) -> Option<String> {
    if head.is_empty() {
        return Some("the file is empty; download it again".into());
    }
    if head.iter().all(|&byte| byte == 0) {
        return Some(
            "the file begins with zeros only; it was reserved and never written, download it again".into(),
        );
    }
    let text = head.trim_ascii_start();
    let lower = text.get(..15).unwrap_or(text).to_ascii_lowercase();
    if lower.starts_with(b"<!doctype html") || lower.starts_with(b"<html") || lower.starts_with(b"<?xml") {
        return Some("this is a web page; the download needs another address, or a login".into());
    }
    if let Some(pointer) = text.strip_prefix(b"version https://git-lfs.github.com/spec/") {
        return Some(lfs_pointer(pointer));
    }
    let known: &[(&[u8], &str)] = &[
        (b"\x89HDF\r\n\x1a\n", "this is an HDF5 file, such as Keras writes; PyTorch cannot load it either"),
        (b"GGUF", "this is a GGUF file for llama.cpp"),
        (b"\x93NUMPY", "this is a NumPy array (.npy)"),
        (b"\x1f\x8b", "this is compressed by gzip; unpack it first (gunzip)"),
        (b"\x28\xb5\x2f\xfd", "this is compressed by zstd; unpack it first (unzstd)"),
        (b"7z\xbc\xaf\x27\x1c", "this is a 7z archive; unpack it first"),
        (b"PK\x05\x06", "this is a zip archive without records"),
        (
            b"PYTORCH1",
            "this archive format is of a preview release before torch 1.6, which nobody reads any more",
        ),
    ];
    if let Some((_, what)) = known.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Some((*what).to_owned());
    }
    if text.starts_with(b"{") || text.starts_with(b"[") {
        return Some("this is JSON text, perhaps an index or an error message of the server".into());
    }
    None
}

/// A length, and a JSON header of that length.
fn is_safetensors(head: &[u8], size: u64) -> bool {
    head.split_first_chunk::<8>().is_some_and(|(len, rest)| {
        let len = u64::from_le_bytes(*len);
        rest.starts_with(b"{") && len.checked_add(8).is_some_and(|end| end <= size)
    })
}

fn lfs_pointer(pointer: &[u8]) -> String {
    let text = String::from_utf8_lossy(pointer);
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("?").trim();
    format!(
        "this is a Git-LFS pointer, which stands for a file of {} bytes ({}); fetch it with `git lfs pull`",
        field("size "),
        field("oid ")
    )
}
