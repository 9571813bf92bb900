//! Bytes on their way into a file, with their CRC.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

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

/// From here on the CRC is calculated beside the writing. A thread takes a while to begin and to end.
const LARGE: usize = 1 << 20;
/// What is hashed at a time: it is in a cache still when it is written.
const BLOCK: usize = 256 << 10;

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
        if bytes.len() >= LARGE {
            return Ok(hash_beside(hasher, bytes, || sink.write_all(bytes))?);
        }
        for block in bytes.chunks(BLOCK) {
            hasher.update(block);
            sink.write_all(block)?;
        }
        Ok(())
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

/// Hashes bytes in a thread of their own while they are written. It begins at the end: two processors that walk through
/// the same memory side by side wait for each other. What it has not come to when all is written, because processors
/// are busy, is not waited for, but hashed from the beginning on.
fn hash_beside(hasher: &mut Hasher, bytes: &[u8], write: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let blocks = Mutex::new(bytes.chunks(BLOCK));
    let next = || blocks.lock().unwrap_or_else(PoisonError::into_inner).next();
    let next_back = || blocks.lock().unwrap_or_else(PoisonError::into_inner).next_back();
    let mut back = Hasher::new();
    std::thread::scope(|scope| {
        let from_the_end = || {
            while let Some(block) = next_back() {
                let mut hasher = Hasher::new();
                hasher.update(block);
                hasher.combine(&back);
                back = hasher;
            }
        };
        // Where there can be no thread, nothing is left out. One that only hashes does not panic; if it did, that
        // would be told by the scope.
        let _ = std::thread::Builder::new().spawn_scoped(scope, from_the_end);
        write()?;
        while let Some(block) = next() {
            hasher.update(block);
        }
        Ok::<_, io::Error>(())
    })?;
    hasher.combine(&back);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However the work is shared, the CRC is that of all bytes in their order.
    #[test]
    fn hashing_beside_slow_and_fast_writing_is_hashing() {
        let bytes: Vec<u8> = (0..LARGE + 12_345).map(|place| (place % 251) as u8).collect();
        let mut expected = Hasher::new();
        expected.update(b"before");
        expected.update(&bytes);
        let expected = expected.finalize();
        for pause in [0, 1, 5] {
            let mut hasher = Hasher::new();
            hasher.update(b"before");
            let write = || {
                std::thread::sleep(std::time::Duration::from_millis(pause));
                Ok(())
            };
            hash_beside(&mut hasher, &bytes, write).unwrap();
            assert_eq!(hasher.finalize(), expected, "{pause}");
        }
    }
}
