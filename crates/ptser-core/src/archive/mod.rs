//! The zip container: bytes and records, nothing of torch.

mod central;
mod crc;
mod directory;
mod end;
mod index;
mod layout;
mod neighbours;
mod plan;
mod record;
mod serialization_id;
mod slot;
mod writer;

pub(crate) use crc::{Crc, check as check_crc, joined as joined_crc};
pub(crate) use directory::{Archive, names};
pub(crate) use end::archive_start;
pub(crate) use plan::{ALIGNMENTS, Plan};
pub(crate) use record::{Compression, Record};
pub(crate) use serialization_id::{LEN as SERIALIZATION_ID_LEN, SerializationId};
pub(crate) use writer::{descriptor, directory_entry, end_records, local_header};
