//! How PyTorch lays out one stored record: what its reader computes, and what its writer writes.

/// A record's place in an archive, before alignment is known. Offsets count from the archive's first byte.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot {
    /// Where the local header begins.
    pub(crate) header_at: u64,
    /// Bytes of the name with the root folder.
    pub(crate) name_len: u64,
    /// Bytes of the content.
    pub(crate) size: u64,
}

/// Sizes and offsets from here on stand in the zip64 extra field.
const BIG: u64 = 0xFFFF_FFFF;
/// The id and the length of an extra field.
const FIELD: u64 = 4;
const LOCAL_HEADER: u64 = 30;
const DIRECTORY_ENTRY: u64 = 46;

impl Slot {
    /// Whether the sizes stand in the zip64 field.
    pub(crate) fn big_size(&self) -> bool {
        self.size >= BIG
    }

    /// Whether the offset of the header does.
    pub(crate) fn big_offset(&self) -> bool {
        self.header_at >= BIG
    }

    /// Bytes of the zip64 field; none where nothing is big.
    pub(crate) fn zip64_field(&self) -> u64 {
        match (self.big_size(), self.big_offset()) {
            (false, false) => 0,
            (true, false) => FIELD + 16,
            (false, true) => FIELD + 8,
            (true, true) => FIELD + 24,
        }
    }

    /// Where the padding begins, behind the head of its field.
    pub(crate) fn padding_at(&self) -> Option<u64> {
        let fixed = LOCAL_HEADER.saturating_add(self.name_len).saturating_add(self.zip64_field());
        self.header_at.checked_add(fixed.saturating_add(FIELD))
    }

    /// Where the content begins.
    pub(crate) fn data_at(&self, alignment: u64) -> Option<u64> {
        self.padding_at()?.checked_next_multiple_of(alignment)
    }

    /// Bytes of the data descriptor behind the content.
    pub(crate) fn descriptor(&self) -> u64 {
        match self.size {
            0 => 0,
            _ if self.zip64_field() == 0 => 16,
            _ => 24,
        }
    }

    /// Where the next record begins.
    pub(crate) fn end(&self, alignment: u64) -> Option<u64> {
        self.data_at(alignment)?.checked_add(self.size)?.checked_add(self.descriptor())
    }

    /// Bytes of the entry in the directory.
    pub(crate) fn directory_entry(&self) -> u64 {
        DIRECTORY_ENTRY.saturating_add(self.name_len).saturating_add(self.zip64_field())
    }
}
