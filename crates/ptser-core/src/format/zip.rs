//! The zip archive of torch 1.6 and later.

use std::mem::MaybeUninit;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};

use super::Format;
use super::container::Terms;
use super::foreign::archive_error;
use crate::archive::{Archive, Compression, Crc, Record, check_crc};
use crate::byte_order::ByteOrder;
use crate::error::{Error, Reason, Result};
use crate::limits::{self, Limits};
use crate::source::Source;
use crate::storage::{Block, Content, Description, Storage};
use crate::torch::{Given, StorageRef, StorageTable};

/// An archive and the source it lies in.
pub(crate) struct ZipFile {
    source: Arc<dyn Source>,
    archive: Archive,
    format: Format,
    byte_order: ByteOrder,
    verify_crc: bool,
}

pub(super) const PICKLE: &str = "data.pkl";
/// What a TorchScript program has beside its modules.
pub(super) const CONSTANTS: &str = "constants.pkl";
/// Every checkpoint has its version in one of these.
const VERSION: [&str; 2] = [".data/version", "version"];
/// The versions that torch 2.15 reads.
const VERSIONS: std::ops::RangeInclusive<u64> = 1..=10;
/// What tells that an archive is laid out as PyTorch 2.7 and later do.
const FORMAT_VERSION: &str = ".format_version";
const ALIGNMENT: &str = ".storage_alignment";
const ALIGNMENT_DEFAULT: u64 = 64;
/// What the two bytes of a padding's length can hold.
const ALIGNMENTS: std::ops::RangeInclusive<u64> = 1..=0xFFFF;
/// Records that hold a word or a number.
const SMALL: u64 = 4096;

impl ZipFile {
    /// Reads the directory and the records that say what the archive is.
    pub(crate) fn open(source: Arc<dyn Source>, terms: Terms<'_>) -> Result<Self> {
        let archive = open_archive(&*source, terms.limits)?;
        let Terms { byte_order, verify_crc, .. } = terms;
        let mut file = Self { source, archive, format: Format::Zip, byte_order, verify_crc };
        if file.archive.find(CONSTANTS).is_some() {
            file.format = Format::TorchScript;
        }
        if let Some(version) = VERSION.iter().find(|name| file.archive.find(name).is_some()) {
            let found = file.small(version)?;
            let digits: String = found.trim_start().chars().take_while(char::is_ascii_digit).collect();
            if !digits.parse().is_ok_and(|version| VERSIONS.contains(&version)) {
                return Err(Error::from(Reason::Version { found }).in_record(version));
            }
        }
        if file.archive.find("byteorder").is_some() {
            file.byte_order = match file.small("byteorder")?.as_str() {
                "little" => ByteOrder::Little,
                "big" => ByteOrder::Big,
                other => {
                    return Err(Error::from(Reason::ByteOrder { found: other.into() }).in_record("byteorder"));
                }
            };
        }
        if terms.computed_offsets {
            file.compute_offsets()?;
        }
        Ok(file)
    }

    /// As PyTorch, leaves archives of writers alone that do not tell their layout.
    fn compute_offsets(&mut self) -> Result<()> {
        let is_told = self.archive.find(FORMAT_VERSION).is_some();
        if !is_told || self.small(FORMAT_VERSION)?.as_str() < "1" {
            return Ok(());
        }
        let alignment = match self.archive.find(ALIGNMENT) {
            None => ALIGNMENT_DEFAULT,
            Some(_) => {
                let found = self.small(ALIGNMENT)?;
                let number = found.trim().parse().ok().filter(|number| ALIGNMENTS.contains(number));
                number.ok_or_else(|| Error::from(Reason::Alignment { found }).in_record(ALIGNMENT))?
            }
        };
        self.archive.compute_offsets(alignment);
        Ok(())
    }

    /// The content of a record that holds a word or a number.
    fn small(&self, name: &str) -> Result<String> {
        let record = self.archive.expect(name)?;
        if record.size > SMALL {
            return Err(
                Error::from(Reason::Record(format!("{} bytes for a word", record.size))).in_record(name)
            );
        }
        let content =
            read_whole(record, &*self.source, self.verify_crc).map_err(|error| error.in_record(name))?;
        Ok(String::from_utf8_lossy(&content).into_owned())
    }

    /// The content of a small record, if it is there and readable.
    pub(crate) fn note(&self, name: &str) -> Option<String> {
        self.small(name).ok()
    }

    /// The bytes of a record that holds a pickle.
    pub(crate) fn pickle(&self, record: &str, limits: &Limits) -> Result<Vec<u8>> {
        read_pickle(&self.archive, &*self.source, record, limits, self.verify_crc)
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    pub(crate) fn byte_order(&self) -> ByteOrder {
        self.byte_order
    }

    pub(crate) fn source(&self) -> &dyn Source {
        &*self.source
    }

    pub(crate) fn archive(&self) -> &Archive {
        &self.archive
    }
}

/// Reads the directory of an archive that has a pickle.
pub(super) fn open_archive(source: &dyn Source, limits: &Limits) -> Result<Archive> {
    match Archive::open(source, limits) {
        Ok(archive) if archive.find(PICKLE).is_some() => Ok(archive),
        Ok(archive) => Err(match sibling(&archive) {
            Some(what) => Reason::Unsupported(what.into()).into(),
            None => archive_error(source, limits, Reason::MissingRecord { name: PICKLE.into() }.into()),
        }),
        // Only records that do not lie as a checkpoint's do are worth another look.
        Err(error) if matches!(error.reason(), Reason::Archive(_)) => {
            Err(archive_error(source, limits, error))
        }
        Err(error) => Err(error),
    }
}

/// What an archive of PyTorch without a pickle is.
fn sibling(archive: &Archive) -> Option<&'static str> {
    let has = |name: &str| archive.find(name).is_some();
    if has("archive_format") || has("models/model.json") {
        Some("an exported program (.pt2); its weights are read by torch.export.load")
    } else if has(".data/extern_modules") {
        Some("a torch.package archive; it is read by torch.package.PackageImporter")
    } else if has("model.json") {
        Some("a TorchScript program of torch before 1.4; load and save it with torch 1.4 to 2.0")
    } else {
        None
    }
}

/// The bytes of a record that holds a pickle.
pub(super) fn read_pickle(
    archive: &Archive,
    source: &dyn Source,
    name: &str,
    limits: &Limits,
    verify_crc: bool,
) -> Result<Vec<u8>> {
    let record = archive.expect(name)?;
    let read = || {
        limits::check("the pickle in bytes", "pickle_bytes", record.size, limits.pickle_bytes)?;
        if record.compression == Compression::Deflated {
            let Record { size, stored_size, .. } = *record;
            let allowed = limits.inflation_ratio;
            check_ratio("the inflation of the pickle", size, stored_size, FREE_PICKLE, allowed)?;
        }
        read_whole(record, source, verify_crc)
    };
    read().map_err(|error: Error| error.in_record(name))
}

/// All of a record.
fn read_whole(record: &Record, source: &dyn Source, verify_crc: bool) -> Result<Vec<u8>> {
    let content = record.read_all(source)?;
    if verify_crc && record.crc32 != 0 {
        check_crc(record.crc32, crc32fast::hash(&content))?;
    }
    Ok(content)
}

/// Bytes that a deflated pickle may have, however few there are of it in the file.
const FREE_PICKLE: u64 = 1 << 20;
/// And other deflated records: zeros deflate to a thousandth.
const FREE_STORAGES: u64 = 1 << 30;

/// Refuses bytes that are stored in too few, beyond so many.
fn check_ratio(what: &'static str, size: u64, stored: u64, free: u64, allowed: u64) -> Result<()> {
    if size <= free {
        return Ok(());
    }
    let ratio = size.checked_div(stored).unwrap_or(u64::MAX);
    limits::check(what, "inflation_ratio", ratio, allowed)
}

/// Answers the persistent ids of a pickle in an archive.
pub(crate) struct ZipStorages {
    file: Arc<ZipFile>,
    /// The folder that the storages lie in.
    folder: &'static str,
    limits: Limits,
    inflation: Inflation,
    /// Those made so far, each once, by the place of its record.
    made: Vec<Option<Storage>>,
    /// And those by key that have no record to themselves.
    others: HashMap<String, Storage>,
    /// The place of the record that is looked at first: files have them in the order of the pickle.
    next: usize,
}

impl ZipStorages {
    pub(crate) fn new(file: Arc<ZipFile>, folder: &'static str, limits: &Limits) -> Self {
        Self {
            file,
            folder,
            limits: limits.clone(),
            inflation: Inflation::default(),
            made: Vec::new(),
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
        let (place, is_told) = self.place(key).unzip();
        let is_told = is_told == Some(true);
        let made = place.and_then(|place| self.made.get(place)?.as_ref());
        let made = made.filter(|storage| storage.key() == key).or_else(|| self.others.get(key));
        if let Some(storage) = made {
            // A second name for the same bytes must claim all of them, as the first did.
            check_size(reference, nbytes, storage.nbytes())?;
            return Ok(Given { storage: storage.clone(), is_new: false });
        }
        let description = Description {
            key: if is_told { "".into() } else { key.into() },
            dtype: reference.dtype,
            nbytes,
            location: reference.location.clone(),
            byte_order: self.file.byte_order,
            expanded_bytes: self.limits.expanded_bytes,
        };
        // TorchScript keeps the storages of meta tensors, and writes nothing into their records.
        let meta = self.file.format == Format::TorchScript && reference.location.as_str() == "meta";
        let storage = if meta {
            Storage::new(description, MetaContent { name: self.name(key) })
        } else {
            let place = place.ok_or_else(|| Reason::MissingRecord { name: self.name(key) })?;
            Storage::new(description, self.content(place, reference, nbytes)?)
        };
        self.made.resize(self.file.archive.records().len(), None);
        match place.and_then(|place| self.made.get_mut(place)) {
            Some(made @ None) => *made = Some(storage.clone()),
            Some(Some(_)) | None => drop(self.others.insert(key.to_owned(), storage.clone())),
        }
        Ok(Given { storage, is_new: true })
    }

    /// The place of the record of a storage, and whether its name has just this key.
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

    fn content(&mut self, place: usize, reference: &StorageRef<'_>, nbytes: u64) -> Result<RecordContent> {
        let mut content = RecordContent { file: Arc::clone(&self.file), place, crc: None };
        if self.file.verify_crc {
            content.crc = content.record_of().map(Crc::of)?.map(Box::new);
        }
        let record = content.record_of()?;
        check_size(reference, nbytes, record.size)?;
        match record.compression {
            Compression::Stored => {}
            Compression::Deflated => {
                // One that is refused may be asked for again, and counts once.
                let mut inflation = self.inflation;
                inflation.add(record, &self.limits)?;
                self.inflation = inflation;
            }
            Compression::Unsupported(why) => return Err(Reason::Unsupported(why.text().into()).into()),
        }
        Ok(content)
    }
}

/// Bytes of deflated records so far: inflated, and as they are stored.
#[derive(Clone, Copy, Default)]
pub(crate) struct Inflation {
    inflated: u64,
    stored: u64,
}

impl Inflation {
    /// Counts one more.
    ///
    /// # Errors
    /// `LimitExceeded` where all together are too large, or too large for what they are stored in.
    pub(crate) fn add(&mut self, record: &Record, limits: &Limits) -> Result<()> {
        let inflated = self.inflated.saturating_add(record.size);
        let stored = self.stored.saturating_add(record.stored_size);
        *self = Self { inflated, stored };
        let what = "the deflated records inflated, in bytes,";
        limits::check(what, "inflated_bytes", inflated, limits.inflated_bytes)?;
        let what = "the inflation of the records";
        check_ratio(what, inflated, stored, FREE_STORAGES, limits.inflation_ratio)
    }
}

fn check_size(reference: &StorageRef<'_>, expected: u64, found: u64) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(Reason::RecordSize { found, expected, numel: reference.numel, dtype: reference.dtype_name().into() }
        .into())
}

/// The key in the name of a storage's record.
fn key_in(record: &str) -> &str {
    record.split_once('/').map_or("", |(_folder, key)| key)
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

    fn key(&self) -> &str {
        key_in(&self.name)
    }

    fn is_meta(&self) -> bool {
        true
    }
}

/// A storage's bytes in their record.
struct RecordContent {
    file: Arc<ZipFile>,
    place: usize,
    /// Where it is to be checked.
    crc: Option<Box<Crc>>,
}

impl RecordContent {
    fn record_of(&self) -> Result<&Record> {
        let record = self.file.archive.records().get(self.place);
        record.ok_or_else(|| Reason::MissingRecord { name: self.place.to_string() }.into())
    }

    /// Reads the content from the archive's source, or from what was read of it.
    fn read_from<'b>(
        &self,
        source: &dyn Source,
        offset: u64,
        buf: &'b mut [MaybeUninit<u8>],
    ) -> Result<&'b mut [u8]> {
        let bytes = self.record_of()?.read(source, offset, buf)?;
        self.note(offset, bytes)?;
        Ok(bytes)
    }

    fn note(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.crc.as_ref().map_or(Ok(()), |crc| crc.note(offset, bytes))
    }
}

impl Content for RecordContent {
    fn read<'b>(&self, offset: u64, buf: &'b mut [MaybeUninit<u8>]) -> Result<&'b mut [u8]> {
        self.read_from(&*self.file.source, offset, buf)
    }

    fn read_ahead<'b>(
        &self,
        block: &mut Block,
        offset: u64,
        buf: &'b mut [MaybeUninit<u8>],
    ) -> Result<&'b mut [u8]> {
        let ZipFile { archive, source, .. } = &*self.file;
        // What lies in memory takes no calls.
        let small = archive.small(self.place).filter(|_| source.bytes().is_none());
        let block = small.and_then(|range| block.with(source, &range, || archive.small_from(self.place)));
        // What cannot be read with its neighbours may be there by itself.
        self.read_from(block.unwrap_or(&**source), offset, buf)
    }

    fn bytes(&self) -> Result<Option<&[u8]>> {
        let bytes = self.record_of()?.bytes(&*self.file.source)?;
        bytes.map_or(Ok(()), |bytes| self.note(0, bytes))?;
        Ok(bytes)
    }

    fn for_each_piece(&self, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Option<Result<()>> {
        let record = self.record_of().ok().filter(|record| record.compression == Compression::Deflated)?;
        let mut offset = 0_u64;
        Some(record.for_each_piece(&*self.file.source, &mut |piece| {
            self.note(offset, piece)?;
            offset = offset.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
            take(piece)
        }))
    }

    fn is_mapped(&self) -> bool {
        self.file.source.is_mapped()
    }

    fn file_offset(&self) -> Result<Option<u64>> {
        let record = self.record_of()?;
        match record.compression {
            Compression::Stored => record.offset(&*self.file.source).map(Some),
            Compression::Deflated | Compression::Unsupported(_) => Ok(None),
        }
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let record = self.record_of()?;
        if record.compression != Compression::Stored {
            return Err(Reason::Misuse("a deflated record cannot be written in place".into()).into());
        }
        let at = record.data_at(&*self.file.source)?.saturating_add(offset);
        self.crc.iter().for_each(|crc| crc.forget());
        Ok(self.file.source.write_all_at(bytes, at)?)
    }

    fn record(&self) -> &str {
        self.record_of().map_or("", |record| &record.name)
    }

    fn key(&self) -> &str {
        key_in(self.record())
    }
}
