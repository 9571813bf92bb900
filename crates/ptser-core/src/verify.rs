//! Everything of a checkpoint is read once and checked: each record against its CRC, each tensor against what it
//! must satisfy.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::Builder;

use crate::archive::{Compression, Record, check_crc, joined_crc};
use crate::byte_order::ByteOrder;
use crate::checkpoint::Checkpoint;
use crate::dtype::DType;
use crate::error::{Error, Reason, Result};
use crate::format::Inflation;
use crate::limits::{self, Limits};
use crate::listing::Entry;
use crate::memory::filled;
use crate::source::Source;
use crate::storage::Storage;
use crate::threads;

/// What became of reading all of a checkpoint.
///
/// ```no_run
/// let checkpoint = ptser_core::LoadOptions::new().lenient(true).open("model.pt")?;
/// let verification = checkpoint.verify(|done, total| eprint!("\r{done} of {total} bytes"));
/// for error in verification.errors() {
///     eprintln!("{error}");
/// }
/// # Ok::<(), ptser_core::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Verification {
    /// Each record of an archive, in the order of the directory; each storage of another container.
    pub records: Vec<CheckedRecord>,
    /// Each tensor that contradicts itself or its storage, where the checkpoint was opened
    /// [leniently](crate::LoadOptions::lenient), and each sparse tensor with impossible indices.
    pub tensors: Vec<Error>,
}

/// What became of reading one record.
#[derive(Debug)]
#[non_exhaustive]
pub struct CheckedRecord {
    /// The name below an archive's root folder; of another container the storage's key.
    pub name: String,
    /// Bytes once read.
    pub size: u64,
    /// How it compares with what was written.
    pub checksum: Checksum,
}

/// How the bytes of a record compare with the CRC that was stored with them.
#[derive(Debug)]
#[non_exhaustive]
pub enum Checksum {
    /// They are those that were written.
    Matches,
    /// They were read, and nobody can tell: the writer computed no CRC, which archives record as 0.
    NotComputed,
    /// They were read, and nobody can tell: the container has no CRCs.
    Absent,
    /// They are others, or cannot be read, or were not for a limit's sake.
    Failed(Error),
}

impl Verification {
    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.errors().next().is_none()
    }

    /// All that is wrong.
    pub fn errors(&self) -> impl Iterator<Item = &Error> {
        let failed = self.records.iter().filter_map(|record| match &record.checksum {
            Checksum::Failed(error) => Some(error),
            Checksum::Matches | Checksum::NotComputed | Checksum::Absent => None,
        });
        failed.chain(&self.tensors)
    }
}

impl Checkpoint {
    /// Reads every record of an archive, used or not, and compares it with its CRC and its local header; reads every
    /// storage of other containers; and checks the indices of sparse tensors. All other numbers were checked when the
    /// checkpoint was opened. Takes a MiB of memory for each of a few threads.
    ///
    /// `progress` is told how many bytes have been read, of how many.
    pub fn verify(&self, mut progress: impl FnMut(u64, u64)) -> Verification {
        let items: Vec<Item<'_>> = match self.zip() {
            Some(file) => {
                let (archive, source) = (file.archive(), file.source());
                let item = |record| Item::Record { record, source, root: archive.root() };
                archive.records().iter().map(item).collect()
            }
            // Parts lie in their whole.
            None => self
                .storages()
                .iter()
                .filter(|storage| storage.whole().is_none())
                .map(Item::Storage)
                .collect(),
        };
        let mut inflation = Inflation::default();
        let mut refused: Vec<Option<Error>> =
            items.iter().map(|item| item.refusal(&mut inflation, self.limits())).collect();
        let pieces: Vec<Piece> = items
            .iter()
            .enumerate()
            .filter(|&(place, _)| matches!(refused.get(place), Some(None)))
            .flat_map(|(place, item)| item.pieces(place))
            .collect();
        let outcomes = read_all(&items, &pieces, &mut progress);
        let mut by_item: Vec<Vec<Result<(u64, u32)>>> = items.iter().map(|_| Vec::new()).collect();
        for (piece, outcome) in pieces.iter().zip(outcomes) {
            if let Some(read) = by_item.get_mut(piece.item) {
                read.push(outcome);
            }
        }
        for (read, refused) in by_item.iter_mut().zip(&mut refused) {
            read.extend(refused.take().map(Err));
        }
        let records = items.iter().zip(by_item).map(|(item, read)| item.judge(read)).collect();
        Verification { records, tensors: self.faulty_tensors() }
    }

    fn faulty_tensors(&self) -> Vec<Error> {
        let mut seen = HashSet::new();
        let mut too_large = self.check_views().err();
        let mut refused = false;
        let mut inflated = 0_u64;
        let mut fault = |entry: Entry<'_>| {
            if let Some(error) = entry.error() {
                return Some(Reason::Damaged(error.to_string()).into());
            }
            let tensor = entry.tensor().filter(|tensor| tensor.index_rule().is_some())?;
            if !seen.insert(std::ptr::from_ref(tensor)) {
                return None;
            }
            if too_large.is_some() || refused {
                refused = true;
                return too_large.take();
            }
            if let Some(storage) = tensor.storage().filter(|storage| !storage.is_stored()) {
                // Each look inflates it from its beginning.
                inflated = inflated.saturating_add(storage.nbytes());
                let allowed = self.limits().inflated_bytes;
                let what = "the indices of sparse tensors inflated, in bytes,";
                if let Err(error) = limits::check(what, "inflated_bytes", inflated, allowed) {
                    return Some(error);
                }
            }
            tensor.to_contiguous().err()
        };
        self.entries().filter_map(|entry| Some(fault(entry)?.in_tensor(entry.name()))).collect()
    }
}

/// Something to read from its first byte to its last.
enum Item<'c> {
    Record { record: &'c Record, source: &'c dyn Source, root: &'c str },
    Storage(&'c Storage),
}

/// A part of an item that one thread reads.
struct Piece {
    item: usize,
    offset: u64,
    len: u64,
}

/// Bytes that one thread reads before it looks for more work, and those that it holds.
const PIECE: u64 = 64 << 20;
const BLOCK: u64 = 1 << 20;

impl Item<'_> {
    fn size(&self) -> u64 {
        match self {
            Self::Record { record, .. } => record.size,
            Self::Storage(storage) => storage.nbytes(),
        }
    }

    /// Why it is not read: it inflates out of proportion, by itself or with those before it.
    fn refusal(&self, inflation: &mut Inflation, limits: &Limits) -> Option<Error> {
        match self {
            Self::Record { record, .. } if record.compression == Compression::Deflated => {
                inflation.add(record, limits).err()
            }
            Self::Record { .. } | Self::Storage(_) => None,
        }
    }

    /// One at least; what is deflated can only be read from its beginning on.
    fn pieces(&self, item: usize) -> impl Iterator<Item = Piece> + use<> {
        let size = self.size();
        let whole = match self {
            Self::Record { record, .. } => record.compression != Compression::Stored,
            Self::Storage(storage) => !storage.is_stored(),
        };
        let len = if whole { size.max(1) } else { PIECE };
        let count = size.div_ceil(len).max(1);
        (0..count).map(move |place| {
            let offset = place.saturating_mul(len);
            Piece { item, offset, len: size.saturating_sub(offset).min(len) }
        })
    }

    /// Reads a piece; tells `read` of each block.
    fn read(&self, piece: &Piece, mut read: impl FnMut(&[u8])) -> Result<()> {
        match self {
            Self::Record { record, source, root } => {
                if piece.offset == 0 {
                    record.check_local_header(*source, root)?;
                }
                if record.compression != Compression::Stored {
                    return record.for_each_piece(*source, &mut |block| {
                        read(block);
                        Ok(())
                    });
                }
                let start = record.data_at(*source)?.saturating_add(piece.offset);
                blocks(piece.len, |offset, block| {
                    source.read_exact_at(block, start.saturating_add(offset))?;
                    read(block);
                    Ok(())
                })
            }
            Self::Storage(storage) => {
                let dtype = storage.dtype().unwrap_or(DType::UInt8);
                if !storage.is_stored() {
                    return storage.for_each_chunk(dtype, ByteOrder::NATIVE, &mut |block| {
                        read(block);
                        Ok(())
                    });
                }
                let mut offset = piece.offset;
                let end = offset.saturating_add(piece.len);
                while offset < end {
                    let next = end.min(offset.saturating_add(BLOCK));
                    read(&storage.read_range(dtype, ByteOrder::NATIVE, offset, next)?);
                    offset = next;
                }
                Ok(())
            }
        }
    }

    /// What the pieces of an item say together: their lengths and CRCs.
    fn judge(&self, read: Vec<Result<(u64, u32)>>) -> CheckedRecord {
        let crc = read.into_iter().collect::<Result<Vec<_>>>().map(joined_crc);
        let checksum = match (self, crc) {
            (Self::Storage(_), Ok(_)) => Checksum::Absent,
            // The CRC of no bytes is 0.
            (Self::Record { record, .. }, Ok(_)) if record.crc32 == 0 && record.size > 0 => {
                Checksum::NotComputed
            }
            (Self::Record { record, .. }, Ok(crc)) => match check_crc(record.crc32, crc) {
                Ok(()) => Checksum::Matches,
                Err(error) => Checksum::Failed(error.in_record(&record.name)),
            },
            (Self::Record { record, .. }, Err(error)) => Checksum::Failed(error.in_record(&record.name)),
            (Self::Storage(storage), Err(error)) => Checksum::Failed(error.in_record(storage.key())),
        };
        let name = match self {
            Self::Record { record, .. } => record.name.to_string(),
            Self::Storage(storage) => storage.key().to_owned(),
        };
        CheckedRecord { name, size: self.size(), checksum }
    }
}

/// Goes over so many bytes with one buffer; `take` fills and uses it.
fn blocks(len: u64, mut take: impl FnMut(u64, &mut [u8]) -> Result<()>) -> Result<()> {
    let mut buffer = filled(0, usize::try_from(len.min(BLOCK)).unwrap_or(0))?;
    let mut offset = 0_u64;
    while offset < len {
        let now = len.saturating_sub(offset).min(BLOCK);
        let block = usize::try_from(now).ok().and_then(|now| buffer.get_mut(..now)).unwrap_or_default();
        take(offset, block)?;
        offset = offset.saturating_add(now);
    }
    Ok(())
}

/// What a thread tells.
enum News {
    Read(u64),
    Done(usize, Result<(u64, u32)>),
}

/// Reads all pieces with a few threads: the length and CRC of each.
fn read_all(
    items: &[Item<'_>],
    pieces: &[Piece],
    progress: &mut dyn FnMut(u64, u64),
) -> Vec<Result<(u64, u32)>> {
    let mut outcomes: Vec<Result<(u64, u32)>> = pieces.iter().map(|piece| Ok((piece.len, 0))).collect();
    let total = pieces.iter().map(|piece| piece.len).fold(0, u64::saturating_add);
    let next = AtomicUsize::new(0);
    let threads = threads::few(pieces.len());
    std::thread::scope(|scope| {
        let (sender, news) = channel();
        let mut alone = true;
        for _ in 0..threads {
            let (sender, next) = (sender.clone(), &next);
            let spawned = Builder::new().spawn_scoped(scope, move || work(items, pieces, next, &sender));
            alone &= spawned.is_err();
        }
        if alone {
            // Where no thread is to be had, nobody listens until all is done.
            work(items, pieces, &next, &sender);
        }
        drop(sender);
        let mut done = 0_u64;
        for news in news {
            match news {
                News::Read(bytes) => {
                    done = done.saturating_add(bytes);
                    progress(done, total);
                }
                News::Done(place, outcome) => {
                    if let Some(slot) = outcomes.get_mut(place) {
                        *slot = outcome;
                    }
                }
            }
        }
    });
    outcomes
}

/// Takes one piece after the other until none is left.
fn work(items: &[Item<'_>], pieces: &[Piece], next: &AtomicUsize, sender: &Sender<News>) {
    loop {
        let place = next.fetch_add(1, Ordering::Relaxed);
        let Some(piece) = pieces.get(place) else { return };
        let Some(item) = items.get(piece.item) else { return };
        let mut hasher = crc32fast::Hasher::new();
        let outcome = item.read(piece, |block| {
            hasher.update(block);
            // Whoever listens does so to the end.
            let _ = sender.send(News::Read(u64::try_from(block.len()).unwrap_or(u64::MAX)));
        });
        let _ = sender.send(News::Done(place, outcome.map(|()| (piece.len, hasher.finalize()))));
    }
}
