//! Writes an archive as it was planned, byte for byte as PyTorch does. Takes no decisions.

use super::plan::{Plan, Planned};

/// UTF-8 names, and sizes behind the data.
const FLAGS: u16 = 0x0808;
/// Of a record without data, which has nothing behind it.
const FLAGS_EMPTY: u16 = 0x0800;
/// What PyTorch says of itself in the zip64 end record.
const MADE_BY: u16 = 0x031E;
const NEEDED: u16 = 45;

/// Fields one behind the other, little-endian, at the end of what is there.
struct Fields<'o>(&'o mut Vec<u8>);

impl Fields<'_> {
    fn bytes(self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u16(self, number: u16) -> Self {
        self.bytes(&number.to_le_bytes())
    }

    fn u32(self, number: u32) -> Self {
        self.bytes(&number.to_le_bytes())
    }

    fn u64(self, number: u64) -> Self {
        self.bytes(&number.to_le_bytes())
    }

    /// A number in a field that may be too short for it.
    fn clipped(self, number: u64) -> Self {
        self.u32(u32::try_from(number).unwrap_or(u32::MAX))
    }

    /// The zip64 block of a record.
    fn zip64(self, record: &Planned, stored_size: u64) -> Self {
        let len = record.slot.zip64_field();
        if len == 0 {
            return self;
        }
        let mut fields = self.u16(1).u16(u16::try_from(len.saturating_sub(4)).unwrap_or(0));
        if record.slot.big_size() {
            fields = fields.u64(record.slot.size).u64(stored_size);
        }
        if record.slot.big_offset() {
            fields = fields.u64(record.slot.header_at);
        }
        fields
    }
}

fn u16_of(len: usize) -> u16 {
    // The plan has checked the lengths of names and extra data.
    u16::try_from(len).unwrap_or(u16::MAX)
}

fn flags(record: &Planned) -> u16 {
    if record.slot.size == 0 { FLAGS_EMPTY } else { FLAGS }
}

/// What stands in front of a record's data.
pub(crate) fn local_header(plan: &Plan, record: &Planned, out: &mut Vec<u8>) {
    let padding = usize::from(record.padding);
    let extra =
        usize::try_from(record.slot.zip64_field()).unwrap_or(0).saturating_add(4).saturating_add(padding);
    let name = plan.name(record);
    Fields(out)
        .bytes(b"PK\x03\x04")
        .u16(0)
        .u16(flags(record))
        .bytes(&[0; 6])
        // CRC and sizes stand behind the data.
        .bytes(&[0; 12])
        .u16(u16_of(name.len()))
        .u16(u16_of(extra))
        .bytes(name.as_bytes())
        .zip64(record, 0)
        .bytes(b"FB")
        .u16(record.padding);
    out.resize(out.len().saturating_add(padding), b'Z');
}

/// What stands behind it; nothing behind an empty record.
pub(crate) fn descriptor(record: &Planned, crc32: u32, out: &mut Vec<u8>) {
    let len = record.slot.descriptor();
    if len == 0 {
        return;
    }
    let (fields, size) = (Fields(out).bytes(b"PK\x07\x08").u32(crc32), record.slot.size);
    match len {
        24 => fields.u64(size).u64(size),
        _ => fields.clipped(size).clipped(size),
    };
}

/// What the directory says of a record.
pub(crate) fn directory_entry(plan: &Plan, record: &Planned, crc32: u32, out: &mut Vec<u8>) {
    let name = plan.name(record);
    Fields(out)
        .bytes(b"PK\x01\x02")
        .u16(0)
        .u16(0)
        .u16(flags(record))
        .bytes(&[0; 6])
        .u32(crc32)
        .clipped(record.slot.size)
        .clipped(record.slot.size)
        .u16(u16_of(name.len()))
        .u16(u16::try_from(record.slot.zip64_field()).unwrap_or(0))
        // Comment, disk, attributes.
        .bytes(&[0; 10])
        .clipped(record.slot.header_at)
        .bytes(name.as_bytes())
        .zip64(record, record.slot.size);
}

/// The end records, behind the directory.
pub(crate) fn end_records(plan: &Plan, out: &mut Vec<u8>) {
    let count = u64::try_from(plan.records.len()).unwrap_or(u64::MAX);
    let end64_at = plan.directory_at.saturating_add(plan.directory_size);
    let clipped_count = u16::try_from(plan.records.len()).unwrap_or(u16::MAX);
    Fields(out)
        .bytes(b"PK\x06\x06")
        .u64(44)
        .u16(MADE_BY)
        .u16(NEEDED)
        .u32(0)
        .u32(0)
        .u64(count)
        .u64(count)
        .u64(plan.directory_size)
        .u64(plan.directory_at)
        .bytes(b"PK\x06\x07")
        .u32(0)
        .u64(end64_at)
        .u32(1)
        .bytes(b"PK\x05\x06")
        .u32(0)
        .u16(clipped_count)
        .u16(clipped_count)
        .clipped(plan.directory_size)
        .clipped(plan.directory_at)
        .u16(0);
}
