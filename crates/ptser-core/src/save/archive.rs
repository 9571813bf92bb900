//! Saves as a zip archive: which records there are, in PyTorch's order.

use std::io::{BufWriter, Write};

use super::payload::Payload;
use super::sink::Sink;
use crate::archive::{Plan, SERIALIZATION_ID_LEN, SerializationId, descriptor, directory, local_header};
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

enum Content<'c> {
    Bytes(Vec<u8>),
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
    let records = records(layout, pickle, storages);
    let sizes = records.iter().map(|(name, content)| {
        let size = match content {
            Content::Bytes(bytes) => bytes.len(),
            Content::Storage(stored) => return (name.as_str(), stored.storage.nbytes()),
            Content::Id => SERIALIZATION_ID_LEN,
        };
        (name.as_str(), u64::try_from(size).unwrap_or(u64::MAX))
    });
    let plan = Plan::new(layout.root, sizes, layout.alignment)?;
    let mut sink = BufWriter::with_capacity(BUFFER, sink);
    if data != Data::Skipped {
        sink.expect(plan.len())?;
    }
    let mut id = SerializationId::default();
    let mut crcs = Vec::with_capacity(records.len());
    for ((name, content), planned) in records.iter().zip(&plan.records) {
        sink.write_all(&local_header(planned))?;
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
        sink.write_all(&descriptor(planned, crc))?;
        if planned.slot.size > 0 {
            id.crc(crc);
        }
        id.name(name);
        crcs.push(crc);
    }
    sink.write_all(&directory(&plan, &crcs))?;
    sink.flush()?;
    Ok(())
}

fn records<'c>(layout: &Layout<'_>, pickle: Vec<u8>, storages: &'c [Stored]) -> Vec<(String, Content<'c>)> {
    let word = |name: &str, content: String| (name.to_owned(), Content::Bytes(content.into_bytes()));
    let byteorder = || word("byteorder", layout.byte_order.name().to_owned());
    let mut records = vec![
        ("data.pkl".to_owned(), Content::Bytes(pickle)),
        word(".format_version", "1".to_owned()),
        word(".storage_alignment", layout.alignment.to_string()),
    ];
    records.extend(layout.byteorder_record.then(byteorder));
    records.extend(storages.iter().map(|stored| (format!("data/{}", stored.key), Content::Storage(stored))));
    records.push(word("version", "3\n".to_owned()));
    records.extend((!layout.byteorder_record).then(byteorder));
    records.push((".data/serialization_id".to_owned(), Content::Id));
    records
}

/// What PyTorch takes for a CRC in a write of its own that begins as a descriptor does.
fn looks_like_descriptor(head: [u8; 8]) -> Option<u32> {
    let (signature, crc) = head.split_first_chunk::<4>()?;
    (signature == b"PK\x07\x08").then(|| crc.try_into().map(u32::from_le_bytes).ok())?
}
