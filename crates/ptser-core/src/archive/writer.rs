//! Writes an archive as it was planned, byte for byte as PyTorch does. Takes no decisions.

use super::plan::{Plan, Planned};

/// UTF-8 names, and sizes behind the data.
const FLAGS: u16 = 0x0808;
/// Of a record without data, which has nothing behind it.
const FLAGS_EMPTY: u16 = 0x0800;
/// What PyTorch says of itself in the zip64 end record.
const MADE_BY: u16 = 0x031E;
const NEEDED: u16 = 45;

/// Fields one behind the other, little-endian.
#[derive(Default)]
struct Fields(Vec<u8>);

impl Fields {
    fn bytes(mut self, bytes: &[u8]) -> Self {
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
pub(crate) fn local_header(record: &Planned) -> Vec<u8> {
    let padding = usize::from(record.padding);
    let extra =
        usize::try_from(record.slot.zip64_field()).unwrap_or(0).saturating_add(4).saturating_add(padding);
    let mut fields = Fields::default()
        .bytes(b"PK\x03\x04")
        .u16(0)
        .u16(flags(record))
        .bytes(&[0; 6])
        // CRC and sizes stand behind the data.
        .bytes(&[0; 12])
        .u16(u16_of(record.name.len()))
        .u16(u16_of(extra))
        .bytes(record.name.as_bytes())
        .zip64(record, 0)
        .bytes(b"FB")
        .u16(record.padding);
    fields.0.resize(fields.0.len().saturating_add(padding), b'Z');
    fields.0
}

/// What stands behind it; nothing behind an empty record.
pub(crate) fn descriptor(record: &Planned, crc32: u32) -> Vec<u8> {
    let fields = Fields::default().bytes(b"PK\x07\x08").u32(crc32);
    match record.slot.descriptor() {
        0 => Vec::new(),
        24 => fields.u64(record.slot.size).u64(record.slot.size).0,
        _ => fields.clipped(record.slot.size).clipped(record.slot.size).0,
    }
}

/// The directory and the end records. There is one CRC a record.
pub(crate) fn directory(plan: &Plan, crcs: &[u32]) -> Vec<u8> {
    let len = plan.len().saturating_sub(plan.directory_at);
    let mut fields = Fields(Vec::with_capacity(usize::try_from(len).unwrap_or(0)));
    for (record, &crc32) in plan.records.iter().zip(crcs) {
        fields = fields
            .bytes(b"PK\x01\x02")
            .u16(0)
            .u16(0)
            .u16(flags(record))
            .bytes(&[0; 6])
            .u32(crc32)
            .clipped(record.slot.size)
            .clipped(record.slot.size)
            .u16(u16_of(record.name.len()))
            .u16(u16::try_from(record.slot.zip64_field()).unwrap_or(0))
            // Comment, disk, attributes.
            .bytes(&[0; 10])
            .clipped(record.slot.header_at)
            .bytes(record.name.as_bytes())
            .zip64(record, record.slot.size);
    }
    let count = u64::try_from(plan.records.len()).unwrap_or(u64::MAX);
    let end64_at = plan.directory_at.saturating_add(plan.directory_size);
    let clipped_count = u16::try_from(plan.records.len()).unwrap_or(u16::MAX);
    let fields = fields
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
    fields.0
}
