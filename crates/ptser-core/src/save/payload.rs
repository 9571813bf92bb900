//! Bytes on their way into a file, with their CRC.

use std::io::Write;

use crc32fast::Hasher;

use crate::byte_order::ByteOrder;
use crate::error::Result;
use crate::torch::Stored;

/// What is written behind each other, and hashed meanwhile.
pub(super) struct Payload<'s, W> {
    sink: &'s mut W,
    hasher: Option<Hasher>,
    /// The first bytes, for PyTorch's hash of descriptors.
    pub(super) head: [u8; 8],
    written: u64,
}

/// From here on the CRC is calculated beside the writing, not before it.
const LARGE: usize = 4 << 20;

impl<'s, W: Write> Payload<'s, W> {
    pub(super) fn new(sink: &'s mut W, crc32: bool) -> Self {
        Self { sink, hasher: crc32.then(Hasher::new), head: [0; 8], written: 0 }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if self.written == 0
            && let Some(head) = bytes.first_chunk()
        {
            self.head = *head;
        }
        self.written = self.written.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        let Self { sink, hasher, .. } = self;
        let Some(hasher) = hasher else { return Ok(sink.write_all(bytes)?) };
        if bytes.len() < LARGE {
            hasher.update(bytes);
            return Ok(sink.write_all(bytes)?);
        }
        std::thread::scope(|scope| {
            let hash = scope.spawn(|| hasher.update(bytes));
            let written = sink.write_all(bytes);
            // A thread that only hashes does not panic; if it did, that would be told by the scope.
            drop(hash.join());
            Ok(written?)
        })
    }

    /// The bytes of a storage.
    pub(super) fn write_storage(&mut self, stored: &Stored, order: ByteOrder) -> Result<()> {
        stored.storage.for_each_chunk(stored.dtype, order, &mut |bytes| self.write(bytes))
    }

    /// The CRC of all of it; 0 where none was asked for.
    pub(super) fn finish(self) -> u32 {
        self.hasher.map_or(0, Hasher::finalize)
    }
}
