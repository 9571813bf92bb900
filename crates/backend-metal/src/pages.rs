//! Which storages can be used where they lie: those that begin where a page of memory does.

use ptser_core::{HostStorage, Result, Storage};

/// Bytes of a page, which Metal takes memory of others by. Apple's own processors have no smaller ones; Intel's, and
/// programs for these on the others, have no larger ones.
pub(crate) const PAGE: usize = if cfg!(target_arch = "x86_64") { 4096 } else { 16384 };

/// A storage that lies in a private mapping, from the beginning of a page on.
#[derive(Debug)]
pub struct Pages<'c> {
    bytes: &'c [u8],
    whole: usize,
    host: HostStorage<'c>,
}

impl<'c> Pages<'c> {
    pub(crate) fn of(host: HostStorage<'c>) -> Result<Option<Self>> {
        let Some(bytes) = host.mapped()? else { return Ok(None) };
        let whole = whole(bytes.as_ptr().addr(), bytes.len(), PAGE);
        Ok(whole.map(|whole| Self { bytes, whole, host }))
    }

    /// The bytes of the storage, at least one, from the beginning of a page on.
    pub fn bytes(&self) -> &'c [u8] {
        self.bytes
    }

    /// How many bytes there are to the end of the last page, all of which can be read.
    pub fn whole(&self) -> usize {
        self.whole
    }

    /// What keeps the pages where they are, and as they are.
    pub fn owner(&self) -> Storage {
        self.host.storage().clone()
    }

    /// The storage.
    pub fn host(&self) -> HostStorage<'c> {
        self.host
    }
}

/// The length of the pages that `len` bytes lie in, if they begin where a page does.
fn whole(address: usize, len: usize, page: usize) -> Option<usize> {
    let begins = len > 0 && address.is_multiple_of(page);
    begins.then(|| len.checked_next_multiple_of(page)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_at_a_page_takes_whole_pages() {
        for page in [4096, 16384] {
            for (len, expected) in [(1, page), (page - 1, page), (page, page), (page + 1, 2 * page)] {
                assert_eq!(whole(3 * page, len, page), Some(expected));
            }
            assert_eq!(whole(0, 5 * page, page), Some(5 * page));
        }
    }

    #[test]
    fn what_begins_inside_a_page_is_empty_or_too_long_takes_none() {
        for address in [1, 64, 4095, 16384 - 64, 16384 + 4096] {
            assert_eq!(whole(address, 16384, 16384), None, "{address}");
        }
        assert_eq!(whole(16384, 0, 16384), None);
        assert_eq!(whole(16384, usize::MAX, 16384), None);
    }
}
