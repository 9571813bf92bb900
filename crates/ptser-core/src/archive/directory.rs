//! The records of a zip archive: those below one root folder, found without regard to case as PyTorch does; refusal of
//! ambiguous archives.

use std::borrow::Cow;

use super::central::Entries;
use super::end::archive_start;
use super::index::Index;
use super::record::Record;
use crate::error::{Reason, Result};
use crate::limits::{self, Limits};
use crate::memory::reserve;
use crate::source::Source;

/// A zip archive whose records share one root folder.
pub(crate) struct Archive {
    pub(super) start: u64,
    root: Box<str>,
    pub(super) records: Vec<Record>,
    /// The directory's first byte.
    pub(super) directory_at: u64,
    index: Index,
}

/// Finds a directory: the archive's first byte, the directory's, and its entries.
fn directory<'s>(source: &'s dyn Source, limits: &Limits) -> Result<(u64, u64, Entries<'s>)> {
    let start = archive_start(source)?;
    limits::check("the number of records", "records", start.records, limits.records)?;
    Ok((start.at, start.directory_at, Entries::of(source, &start)?))
}

/// The full names of all records, for an archive that is no checkpoint's.
pub(crate) fn names(source: &dyn Source, limits: &Limits) -> Result<Vec<String>> {
    let (.., mut entries) = directory(source, limits)?;
    let mut names = Vec::new();
    while let Some((_, name)) = entries.next()? {
        names.push(String::from_utf8_lossy(name).into_owned());
    }
    Ok(names)
}

impl Archive {
    /// Reads the directory.
    pub(crate) fn open(source: &dyn Source, limits: &Limits) -> Result<Self> {
        let (start, directory_at, mut entries) = directory(source, limits)?;
        let mut root: Option<Box<str>> = None;
        let mut records: Vec<Record> = Vec::new();
        reserve(&mut records, entries.at_most())?;
        let (mut in_order, mut other_checkpoint) = (true, false);
        while let Some((entry, raw_name)) = entries.next()? {
            // Most records lie in the folder of the first.
            let below =
                root.as_ref().and_then(|root| raw_name.strip_prefix(root.as_bytes())?.strip_prefix(b"/"));
            let full;
            let name = match below.and_then(|name| std::str::from_utf8(name).ok()) {
                Some(name) => name,
                None => {
                    full = text(raw_name);
                    let Some((folder, name)) = full.split_once('/') else {
                        if root.is_none() {
                            return Err(Reason::Archive(format!(
                                "record {full:?} is not in a folder, as a checkpoint's are"
                            ))
                            .into());
                        }
                        continue;
                    };
                    let root = root.get_or_insert_with(|| folder.into());
                    if folder != &**root {
                        other_checkpoint |= name == "data.pkl";
                        continue;
                    }
                    name
                }
            };
            if !name.is_empty() && !name.ends_with('/') {
                let record = Record::of(entry, name, raw_name.len(), directory_at)?;
                in_order = in_order && records.last_mut().is_none_or(|last| last.note_next(&record));
                records.push(record);
            }
        }
        let Some(root) = root else {
            return Err(Reason::Archive("it holds no records".into()).into());
        };
        if other_checkpoint {
            return Err(Reason::Archive("two root folders hold a data.pkl each".into()).into());
        }
        // Every writer has them in order. What overlaps is not.
        if !in_order {
            refuse_overlaps(&mut records)?;
        }
        let index = Index::of(&records)?;
        Ok(Self { start, root, records, directory_at, index })
    }

    /// The root folder, as found.
    pub(crate) fn root(&self) -> &str {
        &self.root
    }

    /// Bytes before the archive's first.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// The records below the root folder, in directory order.
    pub(crate) fn records(&self) -> &[Record] {
        &self.records
    }

    /// The place among the records of a name below the root, whatever its case.
    pub(crate) fn place(&self, name: &str) -> Option<usize> {
        self.index.place(&self.records, name)
    }

    /// Finds a record by its name below the root, whatever its case.
    pub(crate) fn find(&self, name: &str) -> Option<&Record> {
        self.records.get(self.place(name)?)
    }

    /// Finds a record that must be there.
    pub(crate) fn expect(&self, name: &str) -> Result<&Record> {
        self.find(name).ok_or_else(|| Reason::MissingRecord { name: name.to_owned() }.into())
    }
}

/// A name, at once where it is UTF-8, as it nearly always is.
fn text(name: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(name).map_or_else(|_| String::from_utf8_lossy(name), Cow::Borrowed)
}

/// Two records over the same bytes are how a small file claims to be a large one. What the lengths in their local
/// headers say is looked at when these are read.
fn refuse_overlaps(records: &mut [Record]) -> Result<()> {
    let mut order: Vec<&mut Record> = records.iter_mut().collect();
    order.sort_by_key(|record| (record.header_at, record.stored_size));
    let mut order = order.into_iter();
    let Some(mut record) = order.next() else { return Ok(()) };
    for next in order {
        if !record.note_next(next) {
            let (name, next) = (&record.name, &next.name);
            return Err(Reason::Archive(format!("records {name} and {next} overlap")).into());
        }
        record = next;
    }
    Ok(())
}
