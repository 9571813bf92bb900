//! The zip archive of torch 1.6 and later.

use std::mem::MaybeUninit;
use std::sync::Arc;

use super::Format;
use super::container::Terms;
use super::foreign::archive_error;
use crate::archive::{Archive, Compression, Record};
use crate::byte_order::ByteOrder;
use crate::error::{Error, Reason, Result};
use crate::limits::{self, Limits};
use crate::location::Location;
use crate::source::Source;
use crate::storage::{Content, Description, Storage};
use crate::torch::{StorageRef, StorageTable};

/// An archive and the source it lies in.
pub(crate) struct ZipFile {
    source: Arc<dyn Source>,
    archive: Archive,
    format: Format,
    byte_order: ByteOrder,
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
        let mut file = Self { source, archive, format: Format::Zip, byte_order: terms.byte_order };
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
        let content = record.read_all(&*self.source).map_err(|error| error.in_record(name))?;
        Ok(String::from_utf8_lossy(&content).into_owned())
    }

    /// The content of a small record, if it is there and readable.
    pub(crate) fn note(&self, name: &str) -> Option<String> {
        self.small(name).ok()
    }

    /// The bytes of a record that holds a pickle.
    pub(crate) fn pickle(&self, record: &str, limits: &Limits) -> Result<Vec<u8>> {
        read_pickle(&self.archive, &*self.source, record, limits)
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    pub(crate) fn byte_order(&self) -> ByteOrder {
        self.byte_order
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
) -> Result<Vec<u8>> {
    let record = archive.expect(name)?;
    let read = || {
        limits::check("the pickle in bytes", "pickle_bytes", record.size, limits.pickle_bytes)?;
        if record.size > 1 << 20 && record.compression == Compression::Deflated {
            let ratio = record.size.checked_div(record.stored_size).unwrap_or(u64::MAX);
            limits::check("the inflation of the pickle", "inflation_ratio", ratio, limits.inflation_ratio)?;
        }
        record.read_all(source)
    };
    read().map_err(|error: Error| error.in_record(name))
}

/// Answers the persistent ids of a pickle in an archive.
pub(crate) struct ZipStorages {
    file: Arc<ZipFile>,
    /// The folder that the storages lie in.
    folder: &'static str,
    expanded_bytes: u64,
    /// By key, so that each is made once.
    made: std::collections::HashMap<String, Storage>,
}

impl ZipStorages {
    pub(crate) fn new(file: Arc<ZipFile>, folder: &'static str, limits: &Limits) -> Self {
        Self { file, folder, expanded_bytes: limits.expanded_bytes, made: std::collections::HashMap::new() }
    }
}

impl StorageTable for ZipStorages {
    fn storage(&mut self, reference: &StorageRef) -> Result<Storage> {
        let name = format!("{}/{}", self.folder, reference.key);
        self.find(&name, reference).map_err(|error| error.in_record(&name))
    }
}

impl ZipStorages {
    fn find(&mut self, name: &str, reference: &StorageRef) -> Result<Storage> {
        let nbytes = reference.nbytes()?;
        if let Some(storage) = self.made.get(&reference.key) {
            // A second name for the same bytes must claim all of them, as the first did.
            check_size(reference, nbytes, storage.nbytes())?;
            return Ok(storage.clone());
        }
        let description = Description {
            key: reference.key.as_str().into(),
            dtype: reference.dtype,
            nbytes,
            location: reference.location.clone(),
            byte_order: self.file.byte_order,
            expanded_bytes: self.expanded_bytes,
        };
        // TorchScript keeps the storages of meta tensors, and writes nothing into their records.
        let meta = self.file.format == Format::TorchScript && reference.location == Location::meta();
        let storage = if meta {
            Storage::new(description, MetaContent { name: name.to_owned() })
        } else {
            Storage::new(description, self.content(name, reference, nbytes)?)
        };
        self.made.insert(reference.key.clone(), storage.clone());
        Ok(storage)
    }

    fn content(&self, name: &str, reference: &StorageRef, nbytes: u64) -> Result<RecordContent> {
        let missing = || Reason::MissingRecord { name: name.to_owned() };
        let place = self.file.archive.place(name).ok_or_else(missing)?;
        let content = RecordContent { file: Arc::clone(&self.file), place };
        let record = content.record_of()?;
        check_size(reference, nbytes, record.size)?;
        if let Compression::Unsupported(why) = record.compression {
            return Err(Reason::Unsupported(why.into()).into());
        }
        Ok(content)
    }
}

fn check_size(reference: &StorageRef, expected: u64, found: u64) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(Reason::RecordSize { found, expected, numel: reference.numel, dtype: reference.dtype_name().into() }
        .into())
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

/// A storage's bytes in their record.
struct RecordContent {
    file: Arc<ZipFile>,
    place: usize,
}

impl RecordContent {
    fn record_of(&self) -> Result<&Record> {
        let record = self.file.archive.records().get(self.place);
        record.ok_or_else(|| Reason::MissingRecord { name: self.place.to_string() }.into())
    }
}

impl Content for RecordContent {
    fn read<'b>(&self, offset: u64, buf: &'b mut [MaybeUninit<u8>]) -> Result<&'b mut [u8]> {
        self.record_of()?.read(&*self.file.source, offset, buf)
    }

    fn bytes(&self) -> Result<Option<&[u8]>> {
        self.record_of()?.bytes(&*self.file.source)
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
        Ok(self.file.source.write_all_at(bytes, at)?)
    }

    fn record(&self) -> &str {
        self.record_of().map_or("", |record| &record.name)
    }
}
