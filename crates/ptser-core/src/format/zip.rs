//! The zip archive of torch 1.6 and later.

mod storages;

use std::sync::Arc;

pub(crate) use self::storages::ZipStorages;
use super::Format;
use super::container::Terms;
use super::foreign::archive_error;
use crate::archive::{Archive, Compression, Crc, Record, check_crc};
use crate::byte_order::ByteOrder;
use crate::error::{Error, Reason, Result};
use crate::limits::{self, Limits};
use crate::source::Source;

/// An archive and the source it lies in.
pub(crate) struct ZipFile {
    source: Arc<dyn Source>,
    archive: Archive,
    format: Format,
    byte_order: ByteOrder,
    /// Of each record, where they are checked.
    crcs: Option<Vec<Option<Box<Crc>>>>,
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
        let crc = |record| Crc::of(record).map(Box::new);
        let crcs = terms.verify_crc.then(|| archive.records().iter().map(crc).collect());
        let byte_order = terms.byte_order;
        let mut file = Self { source, archive, format: Format::Zip, byte_order, crcs };
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
            read_whole(record, &*self.source, self.crcs.is_some()).map_err(|error| error.in_record(name))?;
        Ok(String::from_utf8_lossy(&content).into_owned())
    }

    /// The content of a small record, if it is there and readable.
    pub(crate) fn note(&self, name: &str) -> Option<String> {
        self.small(name).ok()
    }

    /// The bytes of a record that holds a pickle.
    pub(crate) fn pickle(&self, record: &str, limits: &Limits) -> Result<Vec<u8>> {
        read_pickle(&self.archive, &*self.source, record, limits, self.crcs.is_some())
    }

    fn record(&self, place: usize) -> Result<&Record> {
        let record = self.archive.records().get(place);
        record.ok_or_else(|| Reason::MissingRecord { name: place.to_string() }.into())
    }

    fn crc(&self, place: usize) -> Option<&Crc> {
        self.crcs.as_ref()?.get(place)?.as_deref()
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
