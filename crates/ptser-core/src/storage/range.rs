//! Storages that are ranges: of another storage, or of a source.

use std::mem::MaybeUninit;
use std::sync::Arc;

use super::{Content, Storage};
use crate::error::{Error, Result};
use crate::source::Source;

/// A range of another storage's bytes.
pub(super) struct Part {
    pub(super) whole: Storage,
    pub(super) start: u64,
    pub(super) nbytes: u64,
}

impl Content for Part {
    fn read<'b>(&self, offset: u64, buf: &'b mut [MaybeUninit<u8>]) -> Result<&'b mut [u8]> {
        self.whole.content().read(self.start.saturating_add(offset), buf)
    }

    fn bytes(&self) -> Result<Option<&[u8]>> {
        Ok(range(self.whole.content().bytes()?, self.start, self.nbytes))
    }

    fn is_mapped(&self) -> bool {
        self.whole.content().is_mapped()
    }

    fn file_offset(&self) -> Result<Option<u64>> {
        Ok(self.whole.content().file_offset()?.map(|offset| offset.saturating_add(self.start)))
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.whole.content().write(self.start.saturating_add(offset), bytes)
    }

    fn record(&self) -> &str {
        self.whole.content().record()
    }

    fn whole(&self) -> Option<(&Storage, u64)> {
        Some((&self.whole, self.start))
    }

    fn is_of_host(&self) -> bool {
        self.whole.content().is_of_host()
    }

    fn for_each_piece(&self, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Option<Result<()>> {
        let (start, end) = (self.start, self.start.saturating_add(self.nbytes));
        let mut at = 0_u64;
        self.whole.content().for_each_piece(&mut |piece| {
            let place = |offset: u64| {
                usize::try_from(offset.saturating_sub(at)).unwrap_or(usize::MAX).min(piece.len())
            };
            let part = piece.get(place(start)..place(end)).unwrap_or_default();
            at = at.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
            if part.is_empty() { Ok(()) } else { take(part) }
        })
    }

    fn lend(&self, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Option<Result<()>> {
        let start = usize::try_from(self.start).unwrap_or(usize::MAX);
        let end = usize::try_from(self.start.saturating_add(self.nbytes)).unwrap_or(usize::MAX);
        self.whole.content().lend(&mut |bytes| match bytes.get(start..end) {
            Some(part) => take(part),
            None => Err(Error::backend("a storage has fewer bytes than it said")),
        })
    }
}

/// Bytes that lie in a source as they are.
pub(crate) struct Span {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) at: u64,
    pub(crate) nbytes: u64,
    /// For messages.
    pub(crate) name: String,
}

impl Content for Span {
    fn read<'b>(&self, offset: u64, buf: &'b mut [MaybeUninit<u8>]) -> Result<&'b mut [u8]> {
        Ok(self.source.read_uninit_at(buf, self.at.saturating_add(offset))?)
    }

    fn bytes(&self) -> Result<Option<&[u8]>> {
        Ok(range(self.source.bytes(), self.at, self.nbytes))
    }

    fn is_mapped(&self) -> bool {
        self.source.is_mapped()
    }

    fn file_offset(&self) -> Result<Option<u64>> {
        Ok(Some(self.at))
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        Ok(self.source.write_all_at(bytes, self.at.saturating_add(offset))?)
    }

    fn record(&self) -> &str {
        &self.name
    }
}

/// Some of the bytes, if they are there.
fn range(bytes: Option<&[u8]>, start: u64, len: u64) -> Option<&[u8]> {
    let (start, len) = (usize::try_from(start).ok()?, usize::try_from(len).ok()?);
    bytes?.get(start..start.checked_add(len)?)
}
