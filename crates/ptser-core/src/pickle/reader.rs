//! A cursor over pickle bytes: every length is checked against what is left.

use super::graph::Span;
use crate::error::{Error, Reason, Result};

/// A cursor that never reads past its end. What is read for nearly each opcode is inlined: a call costs more.
pub(super) struct Reader<'p> {
    bytes: &'p [u8],
    position: usize,
}

impl<'p> Reader<'p> {
    pub(super) fn new(bytes: &'p [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    #[inline]
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// The bytes before the position.
    pub(super) fn read_so_far(&self) -> &'p [u8] {
        self.bytes.get(..self.position).unwrap_or_default()
    }

    /// The bytes from the position on.
    #[inline]
    pub(super) fn rest(&self) -> &'p [u8] {
        self.bytes.get(self.position..).unwrap_or_default()
    }

    /// Goes on by so many bytes, which are there.
    #[inline]
    pub(super) fn skip(&mut self, len: usize) {
        self.position = self.position.saturating_add(len).min(self.bytes.len());
    }

    /// Goes back to a place where it has been.
    pub(super) fn go_back(&mut self, position: usize) {
        self.position = position.min(self.position);
    }

    #[inline]
    pub(super) fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.position)
    }

    /// The next `len` bytes and where they lie.
    #[inline(always)]
    pub(super) fn take(&mut self, len: usize) -> Result<(&'p [u8], Span)> {
        let end = self.position.checked_add(len);
        let Some(bytes) = end.and_then(|end| self.bytes.get(self.position..end)) else {
            return Err(self.cut(len));
        };
        let span = Span::new(self.position, len)?;
        self.position = self.position.saturating_add(len);
        Ok((bytes, span))
    }

    /// The next `len` bytes where `len` itself came from the file.
    #[inline]
    pub(super) fn take_claimed(&mut self, len: u64) -> Result<(&'p [u8], Span)> {
        self.take(usize::try_from(len).unwrap_or(usize::MAX))
    }

    #[inline(always)]
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let rest = self.bytes.get(self.position..).and_then(|rest| rest.first_chunk::<N>());
        let Some(array) = rest else { return Err(self.cut(N)) };
        self.position = self.position.saturating_add(N);
        Ok(*array)
    }

    #[inline(always)]
    pub(super) fn byte(&mut self) -> Result<u8> {
        self.array().map(|[byte]| byte)
    }

    #[inline]
    pub(super) fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_le_bytes)
    }

    #[inline(always)]
    pub(super) fn i32(&mut self) -> Result<i32> {
        self.array().map(i32::from_le_bytes)
    }

    #[inline(always)]
    pub(super) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    #[inline]
    pub(super) fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// The bytes up to the next line feed, which is skipped.
    pub(super) fn line(&mut self) -> Result<(&'p [u8], Span)> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let Some(len) = rest.iter().position(|&byte| byte == b'\n') else {
            return Err(self.cut(rest.len().saturating_add(1)));
        };
        let line = self.take(len)?;
        self.position = self.position.saturating_add(1);
        Ok(line)
    }

    fn cut(&self, wanted: usize) -> Error {
        let left = self.left();
        Reason::Pickle(format!("{wanted} more bytes are needed, {left} are left; the file may be truncated"))
            .into()
    }
}

impl<'p> Reader<'p> {
    /// The text of a span of the pickle's own bytes.
    pub(super) fn text(&self, span: Span) -> Option<&'p str> {
        span.text_in(self.bytes, 0)
    }
}
