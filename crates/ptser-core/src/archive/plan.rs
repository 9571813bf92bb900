//! Where every byte of an archive will lie, known before the first is written.

use std::ops::RangeInclusive;

use super::slot::Slot;
use crate::error::{Error, Result};

/// One record to be written.
#[derive(Debug)]
pub(crate) struct Planned {
    /// With the root folder.
    pub(crate) name: String,
    pub(crate) slot: Slot,
    /// Bytes of padding in front of the data.
    pub(crate) padding: u16,
}

/// The records of an archive, one behind the other.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) records: Vec<Planned>,
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
    /// Lays records out in a root folder, the data of each at a multiple of `alignment`.
    ///
    /// # Errors
    /// `Misuse` for an alignment that the format cannot express, a name that is too long, or more than 2^64 bytes.
    pub(crate) fn new<'r>(
        root: &str,
        records: impl IntoIterator<Item = (&'r str, u64)>,
        alignment: u64,
    ) -> Result<Self> {
        if !ALIGNMENTS.contains(&alignment) {
            return Err(Error::misuse(format!(
                "a storage alignment of {alignment} bytes, expected 1 to {}",
                ALIGNMENTS.end()
            )));
        }
        let overflow = || Error::misuse("an archive of more than 2^64 bytes");
        let (mut planned, mut header_at, mut directory_size) = (Vec::new(), 0_u64, 0_u64);
        for (name, size) in records {
            let name = format!("{root}/{name}");
            let name_len = u16::try_from(name.len())
                .map_err(|_| Error::misuse(format!("a record's name of {} bytes", name.len())))?;
            let slot = Slot { header_at, name_len: name_len.into(), size };
            let padding =
                slot.data_at(alignment).zip(slot.padding_at()).map(|(data, start)| data.abs_diff(start));
            let padding = padding.and_then(|padding| u16::try_from(padding).ok()).ok_or_else(overflow)?;
            header_at = slot.end(alignment).ok_or_else(overflow)?;
            directory_size = directory_size.checked_add(slot.directory_entry()).ok_or_else(overflow)?;
            planned.push(Planned { name, slot, padding });
        }
        if directory_size > DIRECTORY_MAX {
            return Err(Error::misuse("the directory of an archive must be shorter than 4 GiB"));
        }
        Ok(Self { records: planned, directory_at: header_at, directory_size })
    }

    /// Bytes of the whole archive.
    pub(crate) fn len(&self) -> u64 {
        self.directory_at.saturating_add(self.directory_size).saturating_add(ENDS)
    }
}
