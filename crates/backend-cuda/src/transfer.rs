//! Storages to a device and back through two staging buffers: the host fills one while the device copies the other. What
//! is small goes through small ones.

use std::collections::VecDeque;

use ptser_core::{Error, HostStorage};
use rayon::prelude::*;

use crate::driver::{Failure, Stream};

/// One is filled while the other is copied.
const BUFFERS: usize = 2;
/// Small buffers, which together have the size of one. Of the two, the bias between two weights would take one, and the
/// second weight would not be read while the first is copied.
const SMALL: usize = 16;
/// What one thread reads at a time.
const PIECE: usize = 1 << 20;

/// A stream, its copies that may not be done, the oldest first, and the buffers that no copy needs. What is dropped is
/// waited for.
pub(crate) struct Lane<S: Stream> {
    /// With the size of its buffer.
    copies: VecDeque<(usize, S::Copy)>,
    idle: Vec<S::Pinned>,
    /// Bytes of a staging buffer that is not small.
    chunk: usize,
    pub(crate) stream: S,
}

/// Who failed.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The driver.
    Device(Failure),
    /// Whoever has the bytes on the host.
    Host(Error),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Device(failure)
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Host(error)
    }
}

impl<S: Stream> Lane<S> {
    pub(crate) fn new(stream: S, chunk: usize) -> Self {
        Self { copies: VecDeque::new(), idle: Vec::new(), chunk: chunk.max(1), stream }
    }

    /// Fills memory of the device with a storage. The last copies may not be done when this returns: while they are,
    /// the next storage is read. What stands behind the mark waits for them.
    pub(crate) fn upload(
        &mut self,
        storage: &HostStorage<'_>,
        nbytes: usize,
        to: &mut S::Memory,
    ) -> Result<S::Mark, Trouble> {
        if let Some(bytes) = storage.borrow()?.filter(|bytes| self.stream.is_pinned(bytes)) {
            self.stream.upload_now(bytes, to)?;
        } else if storage.is_seekable()? {
            let mut at = 0_usize;
            while at < nbytes {
                let len = self.chunk.min(nbytes.saturating_sub(at));
                let mut buffer = self.buffer(len)?;
                fill(storage, at, buffer.as_mut().get_mut(..len).unwrap_or_default())?;
                self.begin(buffer, len, to, at)?;
                at = at.saturating_add(len);
            }
        } else {
            self.upload_in_order(storage, nbytes, to)?;
        }
        Ok(self.stream.mark()?)
    }

    /// All bytes of the device's memory, by way of the buffers.
    pub(crate) fn download(&mut self, from: &S::Memory, nbytes: usize) -> Result<Vec<u8>, Trouble> {
        let mut bytes = reserve(nbytes)?;
        // Those of uploads.
        while let Some(buffer) = self.first()? {
            self.idle.push(buffer);
        }
        let mut begun = 0_usize;
        while bytes.len() < nbytes {
            while begun < nbytes && self.copies.len() < BUFFERS {
                let len = self.chunk.min(nbytes.saturating_sub(begun));
                let buffer = self.buffer(len)?;
                let size = buffer.as_ref().len();
                self.copies.push_back((size, self.stream.download(from, begun, len, buffer)?));
                begun = begun.saturating_add(len);
            }
            let Some(buffer) = self.first()? else { break };
            let len = self.chunk.min(nbytes.saturating_sub(bytes.len()));
            bytes.extend_from_slice(buffer.as_ref().get(..len).unwrap_or_default());
            self.idle.push(buffer);
        }
        Ok(bytes)
    }

    /// All bytes of the device's memory as the driver copies them to memory that it has not pinned.
    pub(crate) fn download_unpinned(&self, from: &S::Memory, nbytes: usize) -> Result<Vec<u8>, Trouble> {
        let mut bytes = reserve(nbytes)?;
        bytes.resize(nbytes, 0);
        self.stream.download_now(from, &mut bytes)?;
        Ok(bytes)
    }

    /// A buffer that no copy needs, where so many bytes of a chunk fit in.
    fn buffer(&mut self, nbytes: usize) -> Result<S::Pinned, Trouble> {
        let small = (self.chunk / SMALL).max(1);
        let (size, most) = if nbytes <= small { (small, SMALL) } else { (self.chunk, BUFFERS) };
        loop {
            if let Some(place) = self.idle.iter().rposition(|buffer| buffer.as_ref().len() == size) {
                return Ok(self.idle.swap_remove(place));
            }
            let busy = self.copies.iter().filter(|(taken, _)| *taken == size).count();
            match if busy < most { None } else { self.first()? } {
                Some(buffer) => self.idle.push(buffer),
                None => return Ok(self.stream.alloc_pinned(size)?),
            }
        }
    }

    /// The buffer of the oldest copy, once that is done.
    fn first(&mut self) -> Result<Option<S::Pinned>, Trouble> {
        let Some((_, copy)) = self.copies.pop_front() else { return Ok(None) };
        Ok(Some(self.stream.wait(copy)?))
    }

    fn begin(&mut self, buffer: S::Pinned, len: usize, to: &mut S::Memory, at: usize) -> Result<(), Trouble> {
        let size = buffer.as_ref().len();
        self.copies.push_back((size, self.stream.upload(buffer, len, to, at)?));
        Ok(())
    }

    /// Uploads what comes piece by piece.
    fn upload_in_order(
        &mut self,
        storage: &HostStorage<'_>,
        nbytes: usize,
        to: &mut S::Memory,
    ) -> Result<(), Trouble> {
        let mut at = 0_usize;
        let mut filling: Option<(S::Pinned, usize)> = None;
        let mut trouble = None;
        let mut take = |lane: &mut Self, mut piece: &[u8]| -> Result<(), Trouble> {
            while !piece.is_empty() {
                let (mut buffer, filled) = match filling.take() {
                    Some(filling) => filling,
                    None => (lane.buffer(nbytes.saturating_sub(at).min(lane.chunk))?, 0),
                };
                let free = buffer.as_mut().get_mut(filled..).unwrap_or_default();
                let (now, later) = piece.split_at(piece.len().min(free.len()));
                free.get_mut(..now.len()).unwrap_or_default().copy_from_slice(now);
                piece = later;
                let filled = filled.saturating_add(now.len());
                if filled < buffer.as_ref().len() {
                    filling = Some((buffer, filled));
                } else {
                    lane.begin(buffer, filled, to, at)?;
                    at = at.saturating_add(filled);
                }
            }
            Ok(())
        };
        let read = storage.for_each_piece(&mut |piece| {
            take(self, piece).map_err(|found| match found {
                Trouble::Host(error) => error,
                Trouble::Device(failure) => {
                    trouble = Some(failure);
                    Error::backend("the device failed")
                }
            })
        });
        if let Some(failure) = trouble {
            return Err(failure.into());
        }
        read?;
        if let Some((buffer, filled)) = filling {
            self.begin(buffer, filled, to, at)?;
            at = at.saturating_add(filled);
        }
        // What was not written is whatever was there.
        if at == nbytes {
            Ok(())
        } else {
            Err(Error::backend("a storage has other bytes than it said").into())
        }
    }
}

/// Reads part of a storage, in parallel where it is worth that: one thread reads slower than a device copies.
fn fill(storage: &HostStorage<'_>, at: usize, buffer: &mut [u8]) -> ptser_core::Result<()> {
    let read =
        |offset: usize, piece: &mut [u8]| storage.read_at(u64::try_from(offset).unwrap_or(u64::MAX), piece);
    if buffer.len() <= PIECE {
        return read(at, buffer);
    }
    buffer
        .par_chunks_mut(PIECE)
        .enumerate()
        .try_for_each(|(place, piece)| read(at.saturating_add(place.saturating_mul(PIECE)), piece))
}

fn reserve(nbytes: usize) -> ptser_core::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes
        .try_reserve_exact(nbytes)
        .map_err(|_| Error::backend(format!("{nbytes} bytes of a device do not fit in the host's memory")))?;
    Ok(bytes)
}
