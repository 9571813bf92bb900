//! Saves as a zip archive: which records there are, in PyTorch's order.

use std::io::{self, BufWriter, Write};

use super::payload::Payload;
use super::sink::Sink;
use crate::archive::{
    Plan, SERIALIZATION_ID_LEN, SerializationId, descriptor, directory_entry, end_records, local_header,
};
use crate::byte_order::ByteOrder;
use crate::error::Result;
use crate::torch::Stored;

/// How an archive is laid out.
pub(super) struct Layout<'l> {
    pub(super) root: &'l str,
    pub(super) alignment: u64,
    /// Whether the byte order stands before the data.
    pub(super) byteorder_record: bool,
    pub(super) byte_order: ByteOrder,
}

/// What is written of storages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Data {
    /// Their bytes and CRCs.
    Checked,
    /// Their bytes.
    Unchecked,
    /// Zeros.
    Skipped,
}

/// What is to be a record.
#[derive(Clone, Copy)]
struct Record<'c> {
    /// None, or one that ends with a slash.
    folder: &'static str,
    name: &'c str,
    content: Content<'c>,
}

#[derive(Clone, Copy)]
enum Content<'c> {
    Bytes(&'c [u8]),
    Storage(&'c Stored),
    /// The id, which is known last.
    Id,
}

const BUFFER: usize = 128 << 10;

/// Writes an archive.
pub(super) fn write(
    layout: &Layout<'_>,
    crc32: bool,
    data: Data,
    pickle: Vec<u8>,
    storages: &[Stored],
    sink: impl Sink,
) -> Result<()> {
    let alignment = layout.alignment.to_string();
    let records = records(layout, &alignment, &pickle, storages);
    let sizes = records.clone().map(|Record { folder, name, content }| {
        let size = match content {
            Content::Bytes(bytes) => bytes.len(),
            Content::Storage(stored) => return (folder, name, stored.storage.nbytes()),
            Content::Id => SERIALIZATION_ID_LEN,
        };
        (folder, name, u64::try_from(size).unwrap_or(u64::MAX))
    });
    let plan = Plan::new(layout.root, sizes, layout.alignment)?;
    let mut sink = BufWriter::with_capacity(BUFFER, sink);
    if data != Data::Skipped {
        sink.expect(plan.len())?;
    }
    let mut id = SerializationId::default();
    let mut crcs = Vec::with_capacity(plan.records.len());
    let mut fields = Vec::new();
    for (Record { content, .. }, planned) in records.zip(&plan.records) {
        put(&mut sink, &mut fields, |out| local_header(&plan, planned, out))?;
        let checked = match content {
            Content::Storage(_) => data == Data::Checked,
            Content::Bytes(_) | Content::Id => crc32,
        };
        let mut payload = Payload::new(&mut sink, checked);
        let crc = match content {
            Content::Bytes(bytes) => {
                payload.write(bytes)?;
                Some(payload)
            }
            Content::Id => {
                payload.write(id.finish().as_bytes())?;
                Some(payload)
            }
            Content::Storage(stored) if data == Data::Skipped => {
                sink.skip(stored.storage.nbytes())?;
                None
            }
            Content::Storage(stored) => {
                payload.write_storage(stored, layout.byte_order)?;
                Some(payload)
            }
        };
        if let Some(number) = crc.as_ref().and_then(|payload| looks_like_descriptor(payload.head)) {
            id.crc(number);
        }
        let crc = crc.map_or(0, Payload::finish);
        put(&mut sink, &mut fields, |out| descriptor(planned, crc, out))?;
        if planned.slot.size > 0 {
            id.crc(crc);
        }
        id.name(plan.name_below_root(planned));
        crcs.push(crc);
    }
    for (planned, crc) in plan.records.iter().zip(crcs) {
        put(&mut sink, &mut fields, |out| directory_entry(&plan, planned, crc, out))?;
    }
    put(&mut sink, &mut fields, |out| end_records(&plan, out))?;
    sink.flush()?;
    Ok(())
}

/// Writes fields, in a buffer that is used again.
fn put(sink: &mut impl Write, buffer: &mut Vec<u8>, fields: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
    buffer.clear();
    fields(buffer);
    sink.write_all(buffer)
}

fn records<'c>(
    layout: &Layout<'_>,
    alignment: &'c str,
    pickle: &'c [u8],
    storages: &'c [Stored],
) -> impl Iterator<Item = Record<'c>> + Clone {
    let record = |name, content| Record { folder: "", name, content };
    let word = |name, content: &'c str| record(name, Content::Bytes(content.as_bytes()));
    let byteorder = word("byteorder", layout.byte_order.name());
    let before = [
        record("data.pkl", Content::Bytes(pickle)),
        word(".format_version", "1"),
        word(".storage_alignment", alignment),
    ];
    let data =
        |stored: &'c Stored| Record { folder: "data/", name: &stored.key, content: Content::Storage(stored) };
    before
        .into_iter()
        .chain(layout.byteorder_record.then_some(byteorder))
        .chain(storages.iter().map(data))
        .chain([word("version", "3\n")])
        .chain((!layout.byteorder_record).then_some(byteorder))
        .chain([record(".data/serialization_id", Content::Id)])
}

/// What PyTorch takes for a CRC in a write of its own that begins as a descriptor does.
fn looks_like_descriptor(head: [u8; 8]) -> Option<u32> {
    let (signature, crc) = head.split_first_chunk::<4>()?;
    (signature == b"PK\x07\x08").then(|| crc.try_into().map(u32::from_le_bytes).ok())?
}
