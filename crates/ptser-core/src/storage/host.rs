//! Storages of bytes that a caller has on the host, or can have there.

use std::mem::MaybeUninit;

use super::Content;
use crate::error::{Error, Result};

/// Bytes that can be had on the host when they are asked for.
pub trait HostBytes: Send + Sync {
    /// How many there are.
    fn nbytes(&self) -> u64;

    /// Hands all of them to `take`, once, in this machine's byte order.
    ///
    /// # Errors
    /// `Backend` where they cannot be had; those of `take`.
    fn with_bytes(&self, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()>;
}

/// Bytes that lie in memory.
pub(super) struct InMemory<B>(pub(super) B);

impl<B: AsRef<[u8]> + Send + Sync> HostBytes for InMemory<B> {
    fn nbytes(&self) -> u64 {
        u64::try_from(self.0.as_ref().len()).unwrap_or(u64::MAX)
    }

    fn with_bytes(&self, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        take(self.0.as_ref())
    }
}

/// What a caller has on the host.
pub(super) struct OnHost<B>(pub(super) B);

impl<B: HostBytes> Content for OnHost<B> {
    fn read<'b>(&self, offset: u64, buf: &'b mut [MaybeUninit<u8>]) -> Result<&'b mut [u8]> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let (mut buf, mut filled) = (Some(buf), None);
        self.0.with_bytes(&mut |bytes| {
            let wanted = |len: usize| start.checked_add(len).and_then(|end| bytes.get(start..end));
            if let Some(buf) = buf.take()
                && let Some(bytes) = wanted(buf.len())
            {
                filled = Some(buf.write_copy_of_slice(bytes));
            }
            Ok(())
        })?;
        filled.ok_or_else(|| Error::backend("a storage has fewer bytes than it said"))
    }

    fn bytes(&self) -> Result<Option<&[u8]>> {
        Ok(None)
    }

    fn file_offset(&self) -> Result<Option<u64>> {
        Ok(None)
    }

    fn write(&self, _offset: u64, _bytes: &[u8]) -> Result<()> {
        Err(Error::misuse("a storage that lies in no file cannot be written through"))
    }

    fn record(&self) -> &str {
        ""
    }

    fn is_of_host(&self) -> bool {
        true
    }

    fn lend(&self, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Option<Result<()>> {
        let nbytes = self.0.nbytes();
        Some(self.0.with_bytes(&mut |bytes| {
            if u64::try_from(bytes.len()).ok() != Some(nbytes) {
                return Err(Error::backend("a storage has other bytes than it said"));
            }
            take(bytes)
        }))
    }
}
