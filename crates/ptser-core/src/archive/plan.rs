//! Where every byte of an archive will lie, known before the first is written.

use std::ops::RangeInclusive;

use super::slot::Slot;
use crate::error::{Error, Result};

/// One record to be written.
#[derive(Debug)]
pub(crate) struct Planned {
    /// Where its name begins among all names.
    name_at: usize,
    pub(crate) slot: Slot,
    /// Bytes of padding in front of the data.
    pub(crate) padding: u16,
}

/// The records of an archive, one behind the other.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) records: Vec<Planned>,
    /// Those of the records, each with the root folder, one behind the other.
    names: String,
    /// Bytes of the root folder in front of a name.
    root_len: usize,
    /// Where the directory begins.
    pub(crate) directory_at: u64,
    pub(crate) directory_size: u64,
}

/// The end records: zip64, its locator, and the old one.
const ENDS: u64 = 56 + 20 + 22;
/// The alignments that can be written: padding and zip64 field together count in 16 bits, whatever the record.
pub(crate) const ALIGNMENTS: RangeInclusive<u64> = 1..=65_496;
/// The directory's size stands in 32 bits.
const DIRECTORY_MAX: u64 = 0xFFFF_FFFE;

impl Plan {
    /// Lays records out in a root folder, the data of each at a multiple of `alignment`. A record is a folder that ends
    /// with a slash, or none, a name in it, and a size.
    ///
    /// # Errors
    /// `Misuse` for an alignment that the format cannot express, a root folder that is no name, a record's name that is too
    /// long, or more than 2^64 bytes.
    pub(crate) fn new<'r>(
        root: &str,
        records: impl IntoIterator<Item = (&'r str, &'r str, u64)>,
        alignment: u64,
    ) -> Result<Self> {
        if !ALIGNMENTS.contains(&alignment) {
            return Err(Error::misuse(format!(
                "a storage alignment of {alignment} bytes, expected 1 to {}",
                ALIGNMENTS.end()
            )));
        }
        if root.is_empty() || root.contains('/') {
            return Err(Error::misuse(format!("a root folder {root:?}, expected one name without a slash")));
        }
        let overflow = || Error::misuse("an archive of more than 2^64 bytes");
        let records = records.into_iter();
        let count = records.size_hint().0;
        let mut planned = Vec::with_capacity(count);
        // `/data/` and six digits, mostly.
        let mut names = String::with_capacity(root.len().saturating_add(12).saturating_mul(count));
        let (mut header_at, mut directory_size) = (0_u64, 0_u64);
        for (folder, name, size) in records {
            let name_at = names.len();
            names.extend([root, "/", folder, name]);
            let name_len = names.len().saturating_sub(name_at);
            let name_len = u16::try_from(name_len)
                .map_err(|_| Error::misuse(format!("a record's name of {name_len} bytes")))?;
            let slot = Slot { header_at, name_len: name_len.into(), size };
            let padding =
                slot.data_at(alignment).zip(slot.padding_at()).map(|(data, start)| data.abs_diff(start));
            let padding = padding.and_then(|padding| u16::try_from(padding).ok()).ok_or_else(overflow)?;
            header_at = slot.end(alignment).ok_or_else(overflow)?;
            directory_size = directory_size.checked_add(slot.directory_entry()).ok_or_else(overflow)?;
            planned.push(Planned { name_at, slot, padding });
        }
        if directory_size > DIRECTORY_MAX {
            return Err(Error::misuse("the directory of an archive must be shorter than 4 GiB"));
        }
        let root_len = root.len().saturating_add(1);
        Ok(Self { records: planned, names, root_len, directory_at: header_at, directory_size })
    }

    /// Bytes of the whole archive.
    pub(crate) fn len(&self) -> u64 {
        self.directory_at.saturating_add(self.directory_size).saturating_add(ENDS)
    }

    /// A record's name with the root folder.
    pub(crate) fn name(&self, record: &Planned) -> &str {
        let len = usize::try_from(record.slot.name_len).unwrap_or(0);
        self.names.get(record.name_at..record.name_at.saturating_add(len)).unwrap_or_default()
    }

    /// A record's name below it.
    pub(crate) fn name_below_root(&self, record: &Planned) -> &str {
        self.name(record).get(self.root_len..).unwrap_or_default()
    }
}
