//! Where bytes go: a file, in which room can be left, or anything that takes them one after the other.

use std::io::{self, BufWriter, Seek, SeekFrom, Write};

use super::atomic::Replacement;
use crate::error::Result;

/// Takes bytes in order.
pub(super) trait Sink: Write {
    /// Says how many bytes are to come, none of them skipped.
    fn expect(&mut self, len: u64) -> Result<()>;

    /// Leaves so many bytes zero.
    fn skip(&mut self, len: u64) -> io::Result<()>;
}

/// Anything that can be written to.
pub(super) struct Stream<W>(pub(super) W);

impl<W: Write> Write for Stream<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<W: Write> Sink for Stream<W> {
    fn expect(&mut self, _len: u64) -> Result<()> {
        Ok(())
    }

    fn skip(&mut self, len: u64) -> io::Result<()> {
        write_zeros(self, len)
    }
}

fn write_zeros(sink: &mut impl Write, mut len: u64) -> io::Result<()> {
    let zeros = [0; 1 << 14];
    while len > 0 {
        let piece = usize::try_from(len).unwrap_or(usize::MAX).min(zeros.len());
        sink.write_all(zeros.get(..piece).unwrap_or_default())?;
        len = len.saturating_sub(u64::try_from(piece).unwrap_or(u64::MAX));
    }
    Ok(())
}

/// What is skipped is a hole where the file system has such; pipes and devices have none.
impl Sink for &Replacement {
    fn expect(&mut self, len: u64) -> Result<()> {
        self.reserve(len)
    }

    fn skip(&mut self, len: u64) -> io::Result<()> {
        if self.is_stream() {
            return write_zeros(self, len);
        }
        let len = i64::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        self.file().seek(SeekFrom::Current(len)).map(drop)
    }
}

impl<S: Sink> Sink for BufWriter<S> {
    fn expect(&mut self, len: u64) -> Result<()> {
        self.get_mut().expect(len)
    }

    fn skip(&mut self, len: u64) -> io::Result<()> {
        self.flush()?;
        self.get_mut().skip(len)
    }
}
