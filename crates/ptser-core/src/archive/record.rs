//! One record of a zip archive: what the directory says of it, where its content begins, and how that is read.

use std::io::Read;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU32, Ordering};

use smol_str::SmolStr;

use super::central;
use super::end::LOCAL_HEADER;
use crate::error::{Error, Reason, Result};
use crate::source::{Cursor, Source, zeroed};
use crate::storage::fill_vec;

/// One record: a name below the root folder, and where its bytes lie.
#[derive(Debug)]
pub(crate) struct Record {
    /// The name below the root folder: `data.pkl`, `data/0`.
    pub(crate) name: SmolStr,
    /// Bytes once read.
    pub(crate) size: u64,
    /// Bytes in the archive.
    pub(crate) stored_size: u64,
    /// CRC-32 of the content; 0 also means that none was computed.
    pub(crate) crc32: u32,
    pub(crate) compression: Compression,
    /// Bytes of its name with the root folder's, as they stand in its local header.
    pub(super) name_len: u16,
    pub(super) header_at: u64,
    /// Bytes that the fields of its local header may take: from its [least end](Self::least_end) to the next record's
    /// local header, or to the directory; `u32::MAX` for more.
    room: u32,
    /// Bytes from its local header to its content: as this has it, or as computed, which is marked; 0 where not known yet.
    content_after: AtomicU32,
}

/// Marks a computed place that the local header has not confirmed.
const UNREAD: u32 = 1 << 31;

/// How a record's bytes are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    Stored,
    Deflated,
    /// Anything that PyTorch cannot read either.
    Unsupported(Obstacle),
}

/// Why a record cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Obstacle {
    Encrypted,
    Method,
}

/// Without its fields: the name and the extra field.
const LOCAL_HEADER_SIZE: u32 = 30;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;
/// The flags of records whose bytes are not what they seem: encrypted, a patch, strongly encrypted, masked.
const ENCRYPTED: u16 = 1 | 1 << 5 | 1 << 6 | 1 << 13;

impl Obstacle {
    /// For messages.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Encrypted => "it is encrypted or a patch",
            Self::Method => "its compression method is neither stored nor deflated",
        }
    }
}

impl Record {
    /// Checks what an entry says; `directory_at` is the first byte that is no record's.
    pub(super) fn of(entry: central::Entry, name: &str, name_len: usize, directory_at: u64) -> Result<Self> {
        let central::Entry { flags, method, crc32, size, stored_size, header_at } = entry;
        let compression = match method {
            _ if flags & ENCRYPTED != 0 => Compression::Unsupported(Obstacle::Encrypted),
            STORED => Compression::Stored,
            DEFLATED => Compression::Deflated,
            _ => Compression::Unsupported(Obstacle::Method),
        };
        let end = header_at.checked_add(LOCAL_HEADER_SIZE.into()).and_then(|at| at.checked_add(stored_size));
        let Some(room) = end.and_then(|end| directory_at.checked_sub(end)) else {
            return Err(Reason::Archive(format!("record {name} does not end before the directory")).into());
        };
        if compression == Compression::Stored && stored_size != size {
            return Err(
                Reason::Archive(format!("record {name} is stored, and has two different sizes")).into()
            );
        }
        Ok(Self {
            name: name.into(),
            size,
            stored_size,
            crc32,
            compression,
            name_len: u16::try_from(name_len).unwrap_or(u16::MAX),
            header_at,
            room: u32::try_from(room).unwrap_or(u32::MAX),
            content_after: AtomicU32::new(0),
        })
    }

    /// Notes how much room it has until another record begins; `false` where it cannot end there.
    pub(super) fn note_next(&mut self, next: &Self) -> bool {
        let Some(room) = next.header_at.checked_sub(self.least_end()) else { return false };
        self.room = u32::try_from(room).unwrap_or(u32::MAX);
        true
    }

    /// Where it would end if its local header had no fields.
    fn least_end(&self) -> u64 {
        self.header_at.saturating_add(LOCAL_HEADER_SIZE.into()).saturating_add(self.stored_size)
    }

    /// Where the next record's local header begins, or the directory; nearer, where those are 4 GiB away.
    pub(super) fn next_at(&self) -> u64 {
        self.least_end().saturating_add(self.room.into())
    }

    /// Notes where the layout of PyTorch's writer has its content, unless that was read already.
    pub(super) fn note_computed(&mut self, data_at: u64) {
        if *self.content_after.get_mut() != 0 {
            return;
        }
        let after = data_at.checked_sub(self.header_at).and_then(|after| u32::try_from(after).ok());
        *self.content_after.get_mut() =
            after.filter(|after| after & UNREAD == 0).map_or(0, |after| after | UNREAD);
    }

    /// The absolute offset of the first byte of content, computed where it was, else as [`data_at`](Self::data_at).
    ///
    /// # Errors
    /// As [`data_at`](Self::data_at).
    pub(crate) fn offset(&self, source: &dyn Source) -> Result<u64> {
        match self.content_after.load(Ordering::Relaxed) & !UNREAD {
            0 => self.data_at(source),
            after => Ok(self.header_at.saturating_add(after.into())),
        }
    }

    /// The absolute offset of the first byte of content; reads the local header once.
    ///
    /// # Errors
    /// `Malformed` where the local header is not one, its lengths lead into the next record or the directory, or it says
    /// otherwise than what was computed.
    pub(crate) fn data_at(&self, source: &dyn Source) -> Result<u64> {
        let known = self.content_after.load(Ordering::Relaxed);
        let at = |after: u32| self.header_at.saturating_add(after.into());
        if known != 0 && known & UNREAD == 0 {
            return Ok(at(known));
        }
        let mut header = [0_u8; 30];
        source.read_exact_at(&mut header, self.header_at)?;
        if !header.starts_with(&LOCAL_HEADER) {
            return Err(Reason::Record(
                "its local header is damaged; the file was altered, perhaps in transfer: fetch it again"
                    .into(),
            )
            .into());
        }
        let [.., name_low, name_high, extra_low, extra_high] = header;
        let fields = [[name_low, name_high], [extra_low, extra_high]];
        let fields: u32 = fields.into_iter().map(u16::from_le_bytes).map(u32::from).sum();
        let after = fields.saturating_add(LOCAL_HEADER_SIZE);
        let computed = known & !UNREAD;
        if computed != 0 && computed != after {
            return Err(Reason::Record(format!(
                "its content begins at byte {} of the file, and by PyTorch's layout at byte {}; \
                 open it without computed offsets",
                at(after),
                at(computed)
            ))
            .into());
        }
        if fields > self.room {
            return Err(Reason::Record("it reaches into what follows it in the file".into()).into());
        }
        self.content_after.store(after, Ordering::Relaxed);
        Ok(at(after))
    }

    /// The content where it lies, if it is stored and the source is memory.
    pub(crate) fn bytes<'s>(&self, source: &'s dyn Source) -> Result<Option<&'s [u8]>> {
        let (Compression::Stored, Some(bytes)) = (self.compression, source.bytes()) else { return Ok(None) };
        let start = usize::try_from(self.data_at(source)?).ok();
        let len = usize::try_from(self.size).ok();
        Ok(start.zip(len).and_then(|(start, len)| bytes.get(start..start.checked_add(len)?)))
    }

    /// Fills `buf` with the content from `offset` on.
    ///
    /// # Errors
    /// `Malformed` where the range leaves the record or a deflated record does not inflate to its size,
    /// `Unsupported` for other methods and encryption, `Io`.
    pub(crate) fn read<'b>(
        &self,
        source: &dyn Source,
        offset: u64,
        buf: &'b mut [MaybeUninit<u8>],
    ) -> Result<&'b mut [u8]> {
        let len = u64::try_from(buf.len()).unwrap_or(u64::MAX);
        if offset.checked_add(len).is_none_or(|end| end > self.size) {
            return Err(
                Reason::Record(format!("{len} bytes from {offset} leave its {} bytes", self.size)).into()
            );
        }
        let data_at = self.data_at(source)?;
        match self.compression {
            Compression::Stored => Ok(source.read_uninit_at(buf, data_at.saturating_add(offset))?),
            Compression::Deflated => {
                let mut reader = self.inflate(source, data_at)?;
                let skipped = std::io::copy(&mut reader.by_ref().take(offset), &mut std::io::sink());
                let buf = zeroed(buf);
                let read = skipped.and_then(|_| reader.read_exact(buf));
                read.map_err(|error| self.misinflated(Some(error)))?;
                Ok(buf)
            }
            Compression::Unsupported(why) => Err(self.unsupported(why)),
        }
    }

    /// The whole content, growing with what really inflates and never trusting the declared size.
    pub(crate) fn read_all(&self, source: &dyn Source) -> Result<Vec<u8>> {
        let size =
            usize::try_from(self.size).map_err(|_| Reason::Record("it is larger than memory".into()))?;
        let data_at = self.data_at(source)?;
        if self.compression == Compression::Deflated {
            let mut content = Vec::new();
            // One byte more than declared tells a record that inflates to more than it says.
            let limit = self.size.saturating_add(1);
            let read = self.inflate(source, data_at)?.take(limit).read_to_end(&mut content);
            if read.as_ref().ok() != Some(&size) {
                return Err(self.misinflated(read.err()));
            }
            return Ok(content);
        }
        fill_vec(size, |buf| self.read(source, 0, buf))
    }

    /// Whether the local header says the same of it as the directory: its name and how it is stored. Its lengths are
    /// checked by [`data_at`](Self::data_at).
    ///
    /// # Errors
    /// `Malformed` where it does not.
    pub(crate) fn check_local_header(&self, source: &dyn Source, root: &str) -> Result<()> {
        let name_at = self.header_at.saturating_add(LOCAL_HEADER_SIZE.into());
        let name_len = self.name_len.into();
        if name_at.saturating_add(name_len) > self.data_at(source)? {
            return Err(Reason::Record("its local header has another name".into()).into());
        }
        let mut method = [0; 2];
        source.read_exact_at(&mut method, self.header_at.saturating_add(8))?;
        let stored_as = match u16::from_le_bytes(method) {
            0 => Some(Compression::Stored),
            8 => Some(Compression::Deflated),
            _ => None,
        };
        let mut name = vec![0; self.name_len.into()];
        source.read_exact_at(&mut name, name_at)?;
        if String::from_utf8_lossy(&name) != format!("{root}/{}", self.name) {
            return Err(Reason::Record("its local header has another name".into()).into());
        }
        if stored_as.is_some_and(|stored_as| stored_as != self.compression) {
            return Err(Reason::Record("its local header has another compression method".into()).into());
        }
        Ok(())
    }

    /// Hands out the content in order, in pieces of at most 1 MiB.
    ///
    /// # Errors
    /// As [`read`](Self::read); those of `take`.
    pub(crate) fn for_each_piece(
        &self,
        source: &dyn Source,
        take: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        const PIECE: u64 = 1 << 20;
        let data_at = self.data_at(source)?;
        let mut inflated = match self.compression {
            Compression::Deflated => Some(self.inflate(source, data_at)?),
            Compression::Stored | Compression::Unsupported(_) => None,
        };
        let mut piece = vec![0; usize::try_from(self.size.min(PIECE)).unwrap_or(0)];
        let mut offset = 0_u64;
        while offset < self.size {
            let len = self.size.saturating_sub(offset).min(PIECE);
            let piece = piece.get_mut(..usize::try_from(len).unwrap_or(0)).unwrap_or_default();
            match (&mut inflated, self.compression) {
                (Some(inflated), _) => {
                    inflated.read_exact(piece).map_err(|error| self.misinflated(Some(error)))?;
                }
                (None, Compression::Unsupported(why)) => return Err(self.unsupported(why)),
                (None, _) => source.read_exact_at(piece, data_at.saturating_add(offset))?,
            }
            take(piece)?;
            offset = offset.saturating_add(len);
        }
        // One byte more than declared tells a record that inflates to more than it says.
        match inflated.map(|mut inflated| inflated.read(&mut [0])) {
            None | Some(Ok(0)) => Ok(()),
            Some(more) => Err(self.misinflated(more.err())),
        }
    }

    fn misinflated(&self, error: Option<std::io::Error>) -> Error {
        let why = error.map_or_else(String::new, |error| format!(": {error}"));
        let size = self.size;
        Reason::Record(format!("its deflated bytes do not inflate to its {size} bytes{why}")).into()
    }

    fn unsupported(&self, why: Obstacle) -> Error {
        Reason::Unsupported(format!("record {}: {}", self.name, why.text())).into()
    }

    fn inflate<'s>(&self, source: &'s dyn Source, data_at: u64) -> Result<impl Read + use<'s>> {
        let mut cursor = Cursor::new(source);
        std::io::Seek::seek(&mut cursor, std::io::SeekFrom::Start(data_at))?;
        Ok(flate2::read::DeflateDecoder::new(cursor.take(self.stored_size)))
    }
}
