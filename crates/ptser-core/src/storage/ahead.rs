//! Small storages are read with their neighbours: a block of a file at a time. Knows no container.

use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::Arc;

use super::Storage;
use crate::byte_order::ByteOrder;
use crate::dtype::DType;
use crate::error::Result;
use crate::source::Source;

/// Reads many storages, one after the other: of a file that is read by calls, small ones that lie side by side are had
/// by one call together, in the order of the file.
///
/// What was read ahead is what stood in the file then.
///
/// ```no_run
/// use std::mem::MaybeUninit;
/// use ptser_core::{ByteOrder, Checkpoint, ReadAhead};
///
/// let checkpoint = Checkpoint::open("model.pt")?;
/// let mut ahead = ReadAhead::default();
/// for (_, tensor) in checkpoint.tensors() {
///     let Some(storage) = tensor.storage().filter(|storage| storage.nbytes() <= 64) else { continue };
///     let mut buffer = [MaybeUninit::uninit(); 64];
///     let len = usize::try_from(storage.nbytes()).unwrap_or(64);
///     let bytes = ahead.read_as(storage, tensor.dtype(), ByteOrder::NATIVE, 0, &mut buffer[..len])?;
/// }
/// # Ok::<(), ptser_core::Error>(())
/// ```
#[derive(Default)]
pub struct ReadAhead(Block);

impl ReadAhead {
    /// Bytes of the largest storages that are read with their neighbours. Up to here it takes less to copy the bytes of a
    /// record once more than to read them, and its local header, by calls of their own.
    pub const SMALL: u64 = 8 << 10;

    /// Fills `buf` as [`Storage::read_as`] does.
    ///
    /// # Errors
    /// As [`Storage::read_as`].
    pub fn read_as<'b>(
        &mut self,
        storage: &Storage,
        dtype: DType,
        order: ByteOrder,
        offset: u64,
        buf: &'b mut [MaybeUninit<u8>],
    ) -> Result<&'b mut [u8]> {
        storage.read_by(Some(&mut self.0), dtype, order, offset, buf)
    }
}

impl std::fmt::Debug for ReadAhead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReadAhead({} bytes from {})", self.0.bytes.len(), self.0.start)
    }
}

/// Bytes of a source that were read at once; a source of that range alone.
#[derive(Default)]
pub(crate) struct Block {
    of: Option<Arc<dyn Source>>,
    start: u64,
    bytes: Vec<u8>,
}

impl Block {
    /// The most bytes that are to be read at once.
    pub(crate) const LEN: u64 = 64 << 10;

    /// A source that has a range of another: this block, which reads the range that `around` gives where it has not got
    /// it. `None` where it has not got it then either.
    pub(crate) fn with(
        &mut self,
        source: &Arc<dyn Source>,
        range: &Range<u64>,
        around: impl FnOnce() -> Option<Range<u64>>,
    ) -> Option<&dyn Source> {
        if !self.has(source, range) {
            self.of = None;
            let around = around()?;
            let len = around.end.saturating_sub(around.start);
            self.bytes.resize(usize::try_from(len).ok()?, 0);
            source.read_exact_at(&mut self.bytes, around.start).ok()?;
            (self.start, self.of) = (around.start, Some(Arc::clone(source)));
        }
        self.has(source, range).then_some(self)
    }

    fn has(&self, source: &Arc<dyn Source>, range: &Range<u64>) -> bool {
        let is_of_it = self.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, source));
        is_of_it && self.start <= range.start && range.end <= self.size()
    }

    fn slice(&self, offset: u64, len: usize) -> io::Result<&[u8]> {
        let start = offset.checked_sub(self.start).and_then(|start| usize::try_from(start).ok());
        let bytes = start.and_then(|start| self.bytes.get(start..start.checked_add(len)?));
        bytes.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

impl Source for Block {
    /// Behind the last byte that it has, counted as the source counts.
    fn size(&self) -> u64 {
        self.start.saturating_add(u64::try_from(self.bytes.len()).unwrap_or(u64::MAX))
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        buf.copy_from_slice(self.slice(offset, buf.len())?);
        Ok(())
    }

    fn read_uninit_at<'b>(&self, buf: &'b mut [MaybeUninit<u8>], offset: u64) -> io::Result<&'b mut [u8]> {
        let bytes = self.slice(offset, buf.len())?;
        Ok(buf.write_copy_of_slice(bytes))
    }
}
