//! Readers and sources that behave in their own ways.

#![allow(dead_code, reason = "each test binary takes what it needs")]

use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex};

use ptser::ReadAt;

/// Reads a byte or a few at a time, and is interrupted between them.
pub(crate) struct Stammering<R> {
    reader: R,
    interrupted: bool,
}

impl<R> Stammering<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self { reader, interrupted: false }
    }
}

impl<R: Read + Seek> Read for Stammering<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.interrupted = !self.interrupted;
        if self.interrupted {
            return Err(ErrorKind::Interrupted.into());
        }
        let position = self.reader.stream_position()?;
        let len = buf.len().min(usize::try_from(position % 7).unwrap() + 1);
        self.reader.read(&mut buf[..len])
    }
}

impl<R: Seek> Seek for Stammering<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.reader.seek(to)
    }
}

/// The least that a source must do, over bytes in memory.
pub(crate) struct Memory(pub(crate) Vec<u8>);

impl ReadAt for Memory {
    fn size(&self) -> u64 {
        u64::try_from(self.0.len()).unwrap()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        buf.copy_from_slice(self.0.get(start..start + buf.len()).ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// Notes what is read: offset and length.
pub(crate) struct Counting<S> {
    pub(crate) source: S,
    pub(crate) reads: Arc<Mutex<Vec<(u64, u64)>>>,
}

impl<S: ReadAt> ReadAt for Counting<S> {
    fn size(&self) -> u64 {
        self.source.size()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.reads.lock().unwrap().push((offset, u64::try_from(buf.len()).unwrap()));
        self.source.read_exact_at(buf, offset)
    }
}
