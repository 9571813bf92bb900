//! Where a pickle ends that lies in a larger stream, without reading what it holds.

use std::io::{BufRead, Seek, SeekFrom};

use super::opcode as op;
use crate::error::{Error, Reason, Result};
use crate::limits;
use crate::source::{Cursor, Source};

/// What follows an opcode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Argument {
    /// This many bytes.
    Fixed(u8),
    /// A length in this many bytes, and then as many bytes.
    Counted(u8),
    /// This many lines.
    Lines(u8),
}

/// The form of an opcode's argument; `None` where there is no such opcode.
pub(super) fn argument(opcode: u8) -> Option<Argument> {
    op::name(opcode)?;
    Some(match opcode {
        op::BININT1 | op::BINPUT | op::BINGET | op::PROTO | op::EXT1 => Argument::Fixed(1),
        op::BININT2 | op::EXT2 => Argument::Fixed(2),
        op::BININT | op::LONG_BINPUT | op::LONG_BINGET | op::EXT4 => Argument::Fixed(4),
        op::BINFLOAT | op::FRAME => Argument::Fixed(8),
        op::LONG1 | op::SHORT_BINSTRING | op::SHORT_BINBYTES | op::SHORT_BINUNICODE => Argument::Counted(1),
        op::LONG4 | op::BINSTRING | op::BINBYTES | op::BINUNICODE => Argument::Counted(4),
        op::BINUNICODE8 | op::BINBYTES8 | op::BYTEARRAY8 => Argument::Counted(8),
        op::FLOAT | op::INT | op::LONG | op::STRING | op::UNICODE | op::GET | op::PUT | op::PERSID => {
            Argument::Lines(1)
        }
        op::GLOBAL | op::INST => Argument::Lines(2),
        _ => Argument::Fixed(0),
    })
}

/// The number of bytes of the pickle that begins at `start`, its `STOP` included.
///
/// # Errors
/// `Malformed` where the source ends first or a byte is no opcode; `LimitExceeded` beyond `pickle_bytes`.
pub(crate) fn pickle_len(source: &dyn Source, start: u64, pickle_bytes: u64) -> Result<u64> {
    let mut stream = Stream {
        cursor: Cursor::new(source),
        start,
        position: start,
        end: source.size(),
        limit: pickle_bytes,
    };
    stream.cursor.seek(SeekFrom::Start(start))?;
    loop {
        let opcode = stream.number(1)?;
        let opcode = u8::try_from(opcode).unwrap_or(0);
        match argument(opcode) {
            _ if opcode == op::STOP => return Ok(stream.position.saturating_sub(start)),
            Some(Argument::Fixed(bytes)) => stream.skip(bytes.into())?,
            Some(Argument::Counted(width)) => {
                let len = stream.number(width)?;
                stream.skip(len)?;
            }
            Some(Argument::Lines(lines)) => (0..lines).try_for_each(|_| stream.line())?,
            None => {
                let at = stream.position.saturating_sub(1);
                return Err(Error::from(Reason::Pickle(format!(
                    "there is no opcode {opcode:#04x} ({opcode})"
                )))
                .at(at));
            }
        }
    }
}

struct Stream<'s> {
    cursor: Cursor<'s>,
    start: u64,
    position: u64,
    end: u64,
    limit: u64,
}

impl Stream<'_> {
    /// A little-endian number.
    fn number(&mut self, width: u8) -> Result<u64> {
        let mut bytes = [0_u8; 8];
        let buf = bytes.get_mut(..usize::from(width)).unwrap_or_default();
        self.claim(width.into())?;
        std::io::Read::read_exact(&mut self.cursor, buf)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn skip(&mut self, len: u64) -> Result<()> {
        self.claim(len)?;
        if len > 0 {
            self.cursor.seek(SeekFrom::Start(self.position))?;
        }
        Ok(())
    }

    fn line(&mut self) -> Result<()> {
        loop {
            let buffered = self.cursor.fill_buf()?;
            if buffered.is_empty() {
                return self.claim(1);
            }
            let (len, found) = match buffered.iter().position(|&byte| byte == b'\n') {
                Some(place) => (place.saturating_add(1), true),
                None => (buffered.len(), false),
            };
            self.cursor.consume(len);
            self.claim(u64::try_from(len).unwrap_or(u64::MAX))?;
            if found {
                return Ok(());
            }
        }
    }

    /// Moves on, if the source and the limit go that far.
    fn claim(&mut self, len: u64) -> Result<()> {
        match self.position.checked_add(len).filter(|&position| position <= self.end) {
            Some(position) => {
                self.position = position;
                let len = position.saturating_sub(self.start);
                limits::check("the pickle in bytes", "pickle_bytes", len, self.limit)
            }
            None => {
                let left = self.end.saturating_sub(self.position);
                let what = format!("{len} more bytes are needed, {left} are left; the file may be truncated");
                Err(Error::from(Reason::Pickle(what)).at(self.position))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::MemorySource;

    #[test]
    fn a_pickle_ends_at_its_stop_and_not_at_a_dot_in_a_string() {
        let pickle =
            b"\x80\x02}X\x02\x00\x00\x00..c.\n..\nF1.5\nU\x01.K.J....G........\x8a\x02..u.trailing.".to_vec();
        let len = u64::try_from(pickle.len() - b"trailing.".len()).unwrap();
        assert_eq!(pickle_len(&MemorySource(pickle), 0, 1 << 20).unwrap(), len);
    }

    #[test]
    fn lengths_beyond_the_end_are_malformed() {
        for pickle in
            [&b"X\xff\xff\xff\xff"[..], b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff", b"cmodule", b"", b"\x00"]
        {
            let error = pickle_len(&MemorySource(pickle.to_vec()), 0, 1 << 40).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Malformed);
        }
    }
}
