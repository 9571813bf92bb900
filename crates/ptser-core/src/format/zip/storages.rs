//! The storages of an archive: how a pickle's persistent ids find them, and how they are read.

use std::mem::MaybeUninit;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};

use super::{Inflation, ZipFile};
use crate::archive::{Compression, Crc};
use crate::dtype::DType;
use crate::error::{Reason, Result};
use crate::format::Format;
use crate::limits::Limits;
use crate::location::Location;
use crate::memory::filled;
use crate::pickle::index;
use crate::source::Source;
use crate::storage::{Block, Content, Description, Facts, OfRecord, Records, Storage};
use crate::torch::{Given, StorageRef, StorageTable};

/// Answers the persistent ids of a pickle in an archive.
pub(crate) struct ZipStorages {
    file: Arc<ZipFile>,
    /// The folder that the storages lie in.
    folder: &'static str,
    limits: Limits,
    inflation: Inflation,
    kinds: Vec<Arc<Kind>>,
    /// The places of kinds.
    by_facts: HashMap<(Option<DType>, Location), usize>,
    /// The place of the kind that was met last.
    last: usize,
    /// Of each record the place of its storage's kind, once that was given.
    given: Vec<Option<u32>>,
    /// By their keys, those that were given whose records have names of other case, or that have no records.
    others: HashMap<String, Storage>,
    /// The place of the record that is looked at first: files have them in the order of the pickle.
    next: usize,
}

/// Storages that are records of an archive, with a type and a location in common.
struct Kind {
    file: Arc<ZipFile>,
    facts: Facts,
}

impl ZipStorages {
    pub(crate) fn new(file: Arc<ZipFile>, folder: &'static str, limits: &Limits) -> Self {
        Self {
            file,
            folder,
            limits: limits.clone(),
            inflation: Inflation::default(),
            kinds: Vec::new(),
            by_facts: HashMap::new(),
            last: 0,
            given: Vec::new(),
            others: HashMap::new(),
            next: 0,
        }
    }
}

impl StorageTable for ZipStorages {
    fn storage(&mut self, reference: &StorageRef<'_>) -> Result<Given> {
        self.give(reference).map_err(|error| error.in_record(&self.name(reference.key)))
    }
}

impl ZipStorages {
    /// The name of a storage's record.
    fn name(&self, key: &str) -> String {
        format!("{}/{key}", self.folder)
    }

    fn give(&mut self, reference: &StorageRef<'_>) -> Result<Given> {
        let key = reference.key;
        let nbytes = reference.nbytes()?;
        let found = self.place(key);
        let given = found.filter(|(_, is_told)| *is_told).and_then(|(place, _)| self.given(place));
        if let Some(storage) = given.or_else(|| self.others.get(key).cloned()) {
            // A second name for the same bytes must claim all of them, as the first did.
            check_size(reference, nbytes, storage.nbytes())?;
            return Ok(Given { storage, is_new: false });
        }
        // TorchScript keeps the storages of meta tensors, and writes nothing into their records.
        if self.file.format == Format::TorchScript && reference.location.as_str() == "meta" {
            let content = MetaContent { name: self.name(key) };
            return Ok(self.other(key, nbytes, self.facts(reference), content));
        }
        let (place, is_told) = found.ok_or_else(|| Reason::MissingRecord { name: self.name(key) })?;
        self.check(place, reference, nbytes)?;
        let (kind, records) = self.kind(reference);
        if !is_told {
            let facts = records.facts.clone();
            return Ok(self.other(key, nbytes, facts, OfRecord { records, place }));
        }
        if self.given.is_empty() {
            self.given = filled(None, self.file.archive.records().len())?;
        }
        if let Some(given) = self.given.get_mut(place) {
            *given = u32::try_from(kind).ok();
        }
        Ok(Given { storage: Storage::of_record(records, place), is_new: true })
    }

    /// The storage that was given for a record.
    fn given(&self, place: usize) -> Option<Storage> {
        let kind = self.kinds.get(index((*self.given.get(place)?)?))?;
        Some(Storage::of_record(Arc::<Kind>::clone(kind), place))
    }

    /// Gives a storage by itself, which is kept by its key.
    fn other(&mut self, key: &str, nbytes: u64, facts: Facts, content: impl Content + 'static) -> Given {
        let storage = Storage::new(Description { key: key.into(), nbytes, facts }, content);
        self.others.insert(key.to_owned(), storage.clone());
        Given { storage, is_new: true }
    }

    fn facts(&self, reference: &StorageRef<'_>) -> Facts {
        Facts {
            dtype: reference.dtype,
            location: reference.location.clone(),
            byte_order: self.file.byte_order,
            expanded_bytes: self.limits.expanded_bytes,
        }
    }

    /// The kind of a storage, and its place.
    fn kind(&mut self, reference: &StorageRef<'_>) -> (usize, Arc<Kind>) {
        let StorageRef { dtype, location, .. } = reference;
        // Most are of the same kind as the one before.
        let is_it = |kind: &&Arc<Kind>| (&kind.facts.dtype, &kind.facts.location) == (dtype, location);
        if let Some(kind) = self.kinds.get(self.last).filter(is_it) {
            return (self.last, Arc::clone(kind));
        }
        let place = *self.by_facts.entry((*dtype, location.clone())).or_insert(self.kinds.len());
        let known = self.kinds.get(place).map(Arc::clone);
        let kind = known.unwrap_or_else(|| {
            let kind = Arc::new(Kind { file: Arc::clone(&self.file), facts: self.facts(reference) });
            self.kinds.push(Arc::clone(&kind));
            kind
        });
        self.last = place;
        (place, kind)
    }

    /// The place of the record of a storage, and whether its name tells the key: it may differ in case.
    fn place(&mut self, key: &str) -> Option<(usize, bool)> {
        let is_next = self.key_at(self.next) == Some(key);
        let place = if is_next { self.next } else { self.file.archive.place(&self.name(key))? };
        self.next = place.saturating_add(1);
        Some((place, is_next || self.key_at(place) == Some(key)))
    }

    /// The key of the storage whose record has a place, if it is one's.
    fn key_at(&self, place: usize) -> Option<&str> {
        self.file.archive.records().get(place)?.name.strip_prefix(self.folder)?.strip_prefix('/')
    }

    /// Whether a record holds what is claimed, and can be read.
    fn check(&mut self, place: usize, reference: &StorageRef<'_>, nbytes: u64) -> Result<()> {
        let record = self.file.record(place)?;
        check_size(reference, nbytes, record.size)?;
        match record.compression {
            Compression::Stored => Ok(()),
            Compression::Deflated => {
                // One that is refused may be asked for again, and counts once.
                let mut inflation = self.inflation;
                inflation.add(record, &self.limits)?;
                self.inflation = inflation;
                Ok(())
            }
            Compression::Unsupported(why) => Err(Reason::Unsupported(why.text().into()).into()),
        }
    }
}

fn check_size(reference: &StorageRef<'_>, expected: u64, found: u64) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(Reason::RecordSize { found, expected, numel: reference.numel, dtype: reference.dtype_name().into() }
        .into())
}

impl Kind {
    /// Reads a record from the archive's source, or from what was read of it.
    fn read_from<'b>(
        &self,
        source: &dyn Source,
        place: usize,
        offset: u64,
        buf: &'b mut [MaybeUninit<u8>],
    ) -> Result<&'b mut [u8]> {
        let bytes = self.file.record(place)?.read(source, offset, buf)?;
        self.note(place, offset, bytes)?;
        Ok(bytes)
    }

    fn note(&self, place: usize, offset: u64, bytes: &[u8]) -> Result<()> {
        self.file.crc(place).map_or(Ok(()), |crc| crc.note(offset, bytes))
    }
}

impl Records for Kind {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn nbytes(&self, place: usize) -> u64 {
        self.file.record(place).map_or(0, |record| record.size)
    }

    fn id(&self, place: usize) -> usize {
        self.file.archive.records().get(place).map_or(0, |record| std::ptr::from_ref(record).addr())
    }

    fn read<'b>(&self, place: usize, offset: u64, buf: &'b mut [MaybeUninit<u8>]) -> Result<&'b mut [u8]> {
        self.read_from(&*self.file.source, place, offset, buf)
    }

    fn read_ahead<'b>(
        &self,
        place: usize,
        block: &mut Block,
        offset: u64,
        buf: &'b mut [MaybeUninit<u8>],
    ) -> Result<&'b mut [u8]> {
        let ZipFile { archive, source, .. } = &*self.file;
        // What lies in memory takes no calls.
        let small = archive.small(place).filter(|_| source.bytes().is_none());
        let block = small.and_then(|range| block.with(source, &range, || archive.small_from(place)));
        // What cannot be read with its neighbours may be there by itself.
        self.read_from(block.unwrap_or(&**source), place, offset, buf)
    }

    fn bytes(&self, place: usize) -> Result<Option<&[u8]>> {
        let bytes = self.file.record(place)?.bytes(&*self.file.source)?;
        bytes.map_or(Ok(()), |bytes| self.note(place, 0, bytes))?;
        Ok(bytes)
    }

    fn for_each_piece(&self, place: usize, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Option<Result<()>> {
        let record = self.file.record(place).ok();
        let record = record.filter(|record| record.compression == Compression::Deflated)?;
        let mut offset = 0_u64;
        Some(record.for_each_piece(&*self.file.source, &mut |piece| {
            self.note(place, offset, piece)?;
            offset = offset.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
            take(piece)
        }))
    }

    fn is_mapped(&self) -> bool {
        self.file.source.is_mapped()
    }

    fn file_offset(&self, place: usize) -> Result<Option<u64>> {
        let record = self.file.record(place)?;
        match record.compression {
            Compression::Stored => record.offset(&*self.file.source).map(Some),
            Compression::Deflated | Compression::Unsupported(_) => Ok(None),
        }
    }

    fn write(&self, place: usize, offset: u64, bytes: &[u8]) -> Result<()> {
        let record = self.file.record(place)?;
        if record.compression != Compression::Stored {
            return Err(Reason::Misuse("a deflated record cannot be written in place".into()).into());
        }
        let at = record.data_at(&*self.file.source)?.saturating_add(offset);
        self.file.crc(place).into_iter().for_each(Crc::forget);
        Ok(self.file.source.write_all_at(bytes, at)?)
    }

    fn record(&self, place: usize) -> &str {
        self.file.record(place).map_or("", |record| &record.name)
    }

    fn key(&self, place: usize) -> &str {
        self.record(place).split_once('/').map_or("", |(_folder, key)| key)
    }
}

/// A storage of the meta device.
struct MetaContent {
    name: String,
}

impl MetaContent {
    fn nothing<T>() -> Result<T> {
        Err(Reason::Unsupported("a meta storage has a size and no bytes".into()).into())
    }
}

impl Content for MetaContent {
    fn read<'b>(&self, _offset: u64, _buf: &'b mut [MaybeUninit<u8>]) -> Result<&'b mut [u8]> {
        Self::nothing()
    }

    fn bytes(&self) -> Result<Option<&[u8]>> {
        Ok(None)
    }

    fn file_offset(&self) -> Result<Option<u64>> {
        Ok(None)
    }

    fn write(&self, _offset: u64, _bytes: &[u8]) -> Result<()> {
        Self::nothing()
    }

    fn record(&self) -> &str {
        &self.name
    }

    fn is_meta(&self) -> bool {
        true
    }
}
