//! The zip container: bytes and records, nothing of torch.

mod directory;
mod end;
mod layout;

pub(crate) use directory::{Archive, Compression, Record, names};
pub(crate) use end::archive_start;
