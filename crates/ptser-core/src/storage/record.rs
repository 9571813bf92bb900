//! Storages that are records of an archive, a handle each: the archive answers for them.

use std::mem::MaybeUninit;
use std::sync::Arc;

use super::ahead::Block;
use super::{Content, Facts};
use crate::error::Result;

/// The storages of an archive of which the same is said, by the places of their records.
pub(crate) trait Records: Send + Sync {
    /// What is said of all of them.
    fn facts(&self) -> &Facts;

    /// Size in bytes.
    fn nbytes(&self, place: usize) -> u64;

    /// A number that no other record has, whatever is said of it, nor anything else in memory.
    fn id(&self, place: usize) -> usize;

    /// As [`Content::read`].
    fn read<'b>(&self, place: usize, offset: u64, buf: &'b mut [MaybeUninit<u8>]) -> Result<&'b mut [u8]>;

    /// As [`Content::read_ahead`].
    fn read_ahead<'b>(
        &self,
        place: usize,
        block: &mut Block,
        offset: u64,
        buf: &'b mut [MaybeUninit<u8>],
    ) -> Result<&'b mut [u8]>;

    /// As [`Content::bytes`].
    fn bytes(&self, place: usize) -> Result<Option<&[u8]>>;

    /// As [`Content::is_mapped`].
    fn is_mapped(&self) -> bool;

    /// As [`Content::file_offset`].
    fn file_offset(&self, place: usize) -> Result<Option<u64>>;

    /// As [`Content::write`].
    fn write(&self, place: usize, offset: u64, bytes: &[u8]) -> Result<()>;

    /// As [`Content::record`].
    fn record(&self, place: usize) -> &str;

    /// As [`Storage::key`](super::Storage::key).
    fn key(&self, place: usize) -> &str;

    /// As [`Content::for_each_piece`].
    fn for_each_piece(&self, place: usize, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Option<Result<()>>;
}

/// One of them.
#[derive(Clone)]
pub(crate) struct OfRecord {
    pub(crate) records: Arc<dyn Records>,
    pub(crate) place: usize,
}

impl Content for OfRecord {
    fn read<'b>(&self, offset: u64, buf: &'b mut [MaybeUninit<u8>]) -> Result<&'b mut [u8]> {
        self.records.read(self.place, offset, buf)
    }

    fn read_ahead<'b>(
        &self,
        block: &mut Block,
        offset: u64,
        buf: &'b mut [MaybeUninit<u8>],
    ) -> Result<&'b mut [u8]> {
        self.records.read_ahead(self.place, block, offset, buf)
    }

    fn bytes(&self) -> Result<Option<&[u8]>> {
        self.records.bytes(self.place)
    }

    fn is_mapped(&self) -> bool {
        self.records.is_mapped()
    }

    fn file_offset(&self) -> Result<Option<u64>> {
        self.records.file_offset(self.place)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.records.write(self.place, offset, bytes)
    }

    fn record(&self) -> &str {
        self.records.record(self.place)
    }

    fn for_each_piece(&self, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Option<Result<()>> {
        self.records.for_each_piece(self.place, take)
    }
}
