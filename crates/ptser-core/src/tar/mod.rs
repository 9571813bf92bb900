//! The tar container: members by name, bytes only, nothing of torch.

use std::collections::HashSet;

use crate::error::{Error, Reason, Result};
use crate::source::Source;

/// Where a member's content lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) at: u64,
    pub(crate) size: u64,
}

const BLOCK: u64 = 512;
/// A checkpoint has four members; more headers than this are none of PyTorch's.
const MEMBERS_MAX: usize = 10_000;

/// Where an archive has its magic word.
const MAGIC_AT: usize = 257;

/// Whether a file that begins so is an archive. A pickle may have the magic word too, and no name of a file begins as a
/// pickle.
pub(crate) fn begins(head: &[u8]) -> bool {
    let has_magic = head.get(MAGIC_AT..).is_some_and(|rest| rest.starts_with(b"ustar"));
    has_magic && !head.starts_with(b"\x80")
}

/// Lists the regular files of an archive, up to its end marker.
///
/// # Errors
/// `Malformed` where a header's checksum or size is wrong, or a member leaves the source.
pub(crate) fn members(source: &dyn Source) -> Result<Vec<Member>> {
    let mut members: Vec<Member> = Vec::new();
    let mut names = HashSet::new();
    let mut at = 0_u64;
    while members.len() < MEMBERS_MAX {
        let mut header = [0_u8; 512];
        if at.saturating_add(BLOCK) > source.size() {
            break;
        }
        source.read_exact_at(&mut header, at)?;
        if header.iter().all(|&byte| byte == 0) {
            break;
        }
        let member = member(&header, at)?;
        let end = member.at.checked_add(member.size).filter(|&end| end <= source.size());
        let Some(end) = end else {
            let left = source.size().saturating_sub(member.at);
            return Err(corrupt(
                at,
                format!("member {} has {} bytes, {left} are left", member.name, member.size),
            ));
        };
        at = end.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX);
        // Regular files; PAX headers, links and folders hold nothing of a checkpoint.
        if let b'0' | 0 = kind(&header) {
            if !names.insert(member.name.clone()) {
                return Err(corrupt(at, format!("two members are named {}", member.name)));
            }
            members.push(member);
        }
    }
    Ok(members)
}

fn kind(header: &[u8; 512]) -> u8 {
    header.get(156).copied().unwrap_or(0)
}

fn member(header: &[u8; 512], at: u64) -> Result<Member> {
    let field =
        |from: usize, len: usize| header.get(from..).and_then(|rest| rest.get(..len)).unwrap_or_default();
    let claimed = octal(field(148, 8));
    let sum = header.iter().enumerate().fold(0_u64, |sum, (place, &byte)| {
        // The checksum counts its own field as spaces.
        let byte = if (148..156).contains(&place) { b' ' } else { byte };
        sum.saturating_add(byte.into())
    });
    if claimed != Some(sum) {
        return Err(corrupt(at, "a header's checksum is wrong".into()));
    }
    let Some(size) = size(field(124, 12)) else {
        return Err(corrupt(at, "a member's size is no number".into()));
    };
    let name = field(0, 100).split(|&byte| byte == 0).next().unwrap_or_default();
    let name = String::from_utf8_lossy(name).trim_start_matches("./").to_owned();
    Ok(Member { name, at: at.saturating_add(BLOCK), size })
}

/// Octal digits, or GNU's base-256 with the top bit set.
fn size(field: &[u8]) -> Option<u64> {
    match field.split_first() {
        Some((0x80, rest)) => {
            rest.iter().try_fold(0_u64, |size, &byte| size.checked_mul(256)?.checked_add(byte.into()))
        }
        Some((first, _)) if *first >= 0x80 => None,
        _ => octal(field),
    }
}

fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?;
    u64::from_str_radix(text.trim_matches(['\0', ' ']), 8).ok()
}

fn corrupt(at: u64, what: String) -> Error {
    Error::from(Reason::Archive(what)).at(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_octal_or_base_256_and_never_negative() {
        assert_eq!(size(b"00000000017\0"), Some(15));
        assert_eq!(size(b"\x80\0\0\0\0\0\0\0\0\0\x01\x02"), Some(258));
        assert_eq!(size(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), None);
        assert_eq!(size(b"garbage_size"), None);
        assert_eq!(size(b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), None);
    }
}
