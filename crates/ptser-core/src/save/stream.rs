//! Saves as a legacy stream: pickles one after the other, then the storages.

use std::io::{BufWriter, Write};

use super::payload::Payload;
use crate::byte_order::ByteOrder;
use crate::error::Result;
use crate::object::Object;
use crate::pickle::{self, Literals};
use crate::storage::element_bytes;
use crate::torch::{self, PidDialect, Stored};

/// Two's complement, little-endian: 0x1950A86A20F9469CFC6C.
const MAGIC: [u8; 10] = [0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19];
const PROTOCOL_VERSION: i64 = 1001;
const BUFFER: usize = 128 << 10;

/// Writes a stream.
pub(super) fn write(pickle: &[u8], storages: &[Stored], protocol: u8, sink: impl Write) -> Result<()> {
    let mut sink = BufWriter::with_capacity(BUFFER, sink);
    let sizes = Object::dict([("short", 2), ("int", 4), ("long", 4)]);
    let system = Object::dict([
        ("protocol_version", Object::from(PROTOCOL_VERSION)),
        ("little_endian", Object::from(true)),
        ("type_sizes", sizes),
    ]);
    for object in [Object::big_int(&MAGIC), PROTOCOL_VERSION.into(), system] {
        sink.write_all(&plain(&object, protocol)?)?;
    }
    sink.write_all(pickle)?;
    // The order of the storages is that of their keys as texts.
    let mut storages: Vec<&Stored> = storages.iter().collect();
    storages.sort_by(|a, b| a.key.cmp(&b.key));
    let keys = Object::list(storages.iter().map(|stored| stored.key.clone()));
    sink.write_all(&plain(&keys, protocol)?)?;
    for stored in storages {
        let count = stored.storage.nbytes().checked_div(element_bytes(stored.class)).unwrap_or(0);
        sink.write_all(&count.to_le_bytes())?;
        // Data lies little-endian whatever the machine.
        Payload::new(&mut sink, false).write_storage(stored, ByteOrder::Little)?;
    }
    sink.flush()?;
    Ok(())
}

/// The pickle of an object without storages.
fn plain(object: &Object, protocol: u8) -> Result<Vec<u8>> {
    let mut graph = torch::outline_object(object, PidDialect::Legacy)?.graph;
    pickle::write(&mut graph, protocol, Literals::default(), torch::unrename)
}
