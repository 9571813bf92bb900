//! One checkpoint's container, whichever it is: its pickle, its storages, and what else can be told of it.

use std::cell::Cell;
use std::sync::Arc;

use super::Format;
use super::legacy::{LegacyStorages, LegacyStream, preamble, take};
use super::sniff::{Sniffed, sniff};
use super::tar::{PickleAt, TarFile};
use super::zip::{CONSTANTS, PICKLE, ZipFile, ZipStorages};
use crate::byte_order::ByteOrder;
use crate::document::{self, Document, Rules};
use crate::error::{Error, Reason, Result};
use crate::limits::{self, Limits, Objects};
use crate::pickle::Encoding;
use crate::source::{MemorySource, Source};
use crate::torch::{Faults, Given, Globals, Named, StorageRef, StorageTable};
use crate::value::{Value, ValueKind};

/// On what terms a source is opened.
#[derive(Clone, Copy)]
pub(crate) struct Terms<'t> {
    /// Of archives that do not say theirs.
    pub(crate) byte_order: ByteOrder,
    pub(crate) globals: &'t Globals,
    pub(crate) limits: &'t Limits,
    pub(crate) encoding: Encoding,
    /// Whether offsets in archives are computed and not read.
    pub(crate) computed_offsets: bool,
    /// Whether a safetensors file is what the caller means.
    pub(crate) safetensors: bool,
    pub(crate) faults: Faults,
    /// Whether CRCs of records are checked when these are read.
    pub(crate) verify_crc: bool,
}

impl<'t> Terms<'t> {
    fn rules(&self, globals: &'t Globals, objects: &'t Objects) -> Rules<'t> {
        Rules { globals, encoding: self.encoding, faults: self.faults, limits: self.limits, objects }
    }
}

/// What is known of a container once it is open.
pub(crate) enum Container {
    Zip(Arc<ZipFile>),
    /// Anything else, which has no records by name.
    Other {
        format: Format,
        /// Where the checkpoint ends, in containers that others may follow.
        end: Option<u64>,
    },
}

/// A container, and the pickle in it.
pub(crate) struct Opened {
    pub(crate) container: Container,
    pub(crate) document: Document,
    /// The policy that was applied.
    pub(crate) globals: Globals,
}

impl Container {
    /// Opens whatever begins at the source's first byte.
    pub(crate) fn open(source: Arc<dyn Source>, terms: Terms<'_>) -> Result<Opened> {
        let (left, pickle_bytes) = (Cell::new(0), Cell::new(0));
        let objects = Objects::within(terms.limits);
        Self::open_within(
            source,
            Nesting { terms, depth: 0, left: &left, pickle_bytes: &pickle_bytes, objects: &objects },
        )
    }

    fn open_within(source: Arc<dyn Source>, nesting: Nesting<'_>) -> Result<Opened> {
        let terms = nesting.terms;
        let Terms { globals, limits, safetensors, encoding, .. } = terms;
        let rules = terms.rules(globals, nesting.objects);
        match sniff(&*source, limits)? {
            Sniffed::Zip => Self::open_zip(source, nesting),
            Sniffed::Legacy => {
                let mut stream = LegacyStream::open(source, 0, terms)?;
                let pickle = std::mem::take(&mut stream.pickle);
                nesting.pay(&pickle)?;
                let mut storages = nesting.around(LegacyStorages::new(&stream, terms), &pickle);
                // There is no record to count bytes in.
                let graph = document::graph(pickle, globals, encoding, nesting.objects)
                    .map_err(|error| error.moved(stream.pickle_at))?;
                let document = Document::of_graph(graph, rules, &mut storages)?;
                Ok(Self::other(Format::Legacy, Some(storages.table.end), document, globals))
            }
            Sniffed::Tar => {
                let mut file = TarFile::open(&source, limits, &mut |place: &PickleAt| {
                    let (pickle, end) = take(&*source, place.at, limits.pickle_bytes)?;
                    Ok((preamble(pickle, terms, place.member)?, end))
                })?;
                let pickle = std::mem::take(&mut file.pickle);
                nesting.pay(&pickle)?;
                let mut table = nesting.around(file, &pickle);
                let document =
                    Document::read(pickle, rules, &mut table).map_err(|error| error.in_record("pickle"))?;
                Ok(Self::other(Format::Tar, None, document, globals))
            }
            Sniffed::Safetensors if !safetensors => {
                let found = "this is a safetensors file; name it .safetensors, and it is read as one".into();
                Err(Reason::NotACheckpoint { found }.into())
            }
            Sniffed::Safetensors => {
                let document = super::safetensors::open(&source, limits)?;
                Ok(Self::other(Format::Safetensors, None, document, globals))
            }
            Sniffed::Pickle => {
                let (pickle, end) = take(&*source, 0, limits.pickle_bytes)?;
                nesting.pay(&pickle)?;
                let mut table = nesting.around(NoStorages, &pickle);
                let document = Document::read(pickle, rules, &mut table)?;
                if LegacyStream::is_headless(&document.graph, &*source, end)? {
                    let damaged = "the magic number of a legacy stream is damaged".into();
                    return Err(Reason::Archive(damaged).into());
                }
                Ok(Self::other(Format::Pickle, Some(end), document, globals))
            }
        }
    }

    fn open_zip(source: Arc<dyn Source>, nesting: Nesting<'_>) -> Result<Opened> {
        let Terms { globals, limits, .. } = nesting.terms;
        let file = Arc::new(ZipFile::open(source, nesting.terms)?);
        // TorchScript names the classes of its own program; they are inert whatever the policy.
        let globals = if file.format() == Format::TorchScript { Globals::inert() } else { globals.clone() };
        let pickle = file.pickle(PICKLE, limits)?;
        nesting.pay(&pickle).map_err(|error| error.in_record(PICKLE))?;
        let mut storages = nesting.around(ZipStorages::new(Arc::clone(&file), "data", limits), &pickle);
        let rules = nesting.terms.rules(&globals, nesting.objects);
        let document = Document::read_abridged(pickle, rules, &mut storages)
            .map_err(|error| in_pickle(error, PICKLE))?;
        Ok(Opened { container: Self::Zip(file), document, globals })
    }

    /// The constants of a TorchScript program.
    pub(crate) fn constants(&self, limits: &Limits) -> Result<Option<Document>> {
        let Self::Zip(file) = self else { return Ok(None) };
        if file.format() != Format::TorchScript {
            return Ok(None);
        }
        let pickle = file.pickle(CONSTANTS, limits)?;
        let mut storages = ZipStorages::new(Arc::clone(file), "constants", limits);
        let globals = Globals::inert();
        let objects = &Objects::within(limits);
        let (encoding, faults) = (Encoding::Auto, Faults::Refused);
        let rules = Rules { globals: &globals, encoding, faults, limits, objects };
        let document = Document::read(pickle, rules, &mut storages);
        document.map(Some).map_err(|error| in_pickle(error, CONSTANTS))
    }

    fn other(format: Format, end: Option<u64>, document: Document, globals: &Globals) -> Opened {
        Opened { container: Self::Other { format, end }, document, globals: globals.clone() }
    }

    pub(crate) fn format(&self) -> Format {
        match self {
            Self::Zip(file) => file.format(),
            Self::Other { format, .. } => *format,
        }
    }

    pub(crate) fn byte_order(&self) -> ByteOrder {
        match self {
            Self::Zip(file) => file.byte_order(),
            // Streams and tar archives hold their data little-endian, whoever wrote them.
            Self::Other { .. } => ByteOrder::Little,
        }
    }

    pub(crate) fn zip(&self) -> Option<&ZipFile> {
        match self {
            Self::Zip(file) => Some(file),
            Self::Other { .. } => None,
        }
    }

    pub(crate) fn end(&self) -> Option<u64> {
        match self {
            Self::Zip(_) => None,
            Self::Other { end, .. } => *end,
        }
    }
}

/// Names the pickle's record in errors about the pickle; others are about what its objects say, or about another
/// record.
fn in_pickle(error: Error, record: &str) -> Error {
    let in_pickle = error.offset().is_some() || matches!(error.reason(), Reason::Pickle(_));
    if in_pickle { error.in_record(record) } else { error }
}

/// How deep a checkpoint lies in the bytes of others.
#[derive(Clone, Copy)]
struct Nesting<'n> {
    terms: Terms<'n>,
    depth: usize,
    /// Bytes of checkpoints inside that may still be opened, at any depth: a pickle can name the same bytes often,
    /// and so can each of those in it.
    left: &'n Cell<usize>,
    /// Bytes of all pickles read so far.
    pickle_bytes: &'n Cell<u64>,
    /// Of all pickles.
    objects: &'n Objects,
}

/// Checkpoints in the bytes of checkpoints: one level is what PyTorch writes.
pub(super) const DEPTH_MAX: usize = 4;

impl<'n> Nesting<'n> {
    fn around<T>(self, table: T, pickle: &[u8]) -> WithNested<'n, T> {
        if self.depth == 0 {
            // Once at each depth, and some more for storages that are named twice.
            self.left.set(pickle.len().saturating_mul(DEPTH_MAX).saturating_add(1 << 20));
        }
        WithNested { table, nesting: self }
    }

    /// Counts the bytes of one more pickle.
    fn pay(self, pickle: &[u8]) -> Result<()> {
        let read = u64::try_from(pickle.len()).unwrap_or(u64::MAX);
        let read = self.pickle_bytes.get().saturating_add(read);
        self.pickle_bytes.set(read);
        limits::check("the pickle in bytes", "pickle_bytes", read, self.terms.limits.pickle_bytes)
    }

    /// Pays for a checkpoint inside, and steps into it.
    fn step(self, nbytes: usize) -> Result<Self> {
        let depth = self.depth.saturating_add(1);
        if depth > DEPTH_MAX {
            return Err(Reason::Object(format!("more than {DEPTH_MAX} checkpoints inside each other")).into());
        }
        let left = self.left.get().checked_sub(nbytes);
        self.left.set(left.ok_or_else(|| {
            let what =
                "checkpoints inside each other name the same bytes so often that reading all would not end";
            Error::from(Reason::Object(what.into()))
        })?);
        // `_load_from_bytes` calls `torch.load` without the options of the call around it.
        let terms = Terms { encoding: Encoding::Auto, ..self.terms };
        Ok(Self { depth, terms, ..self })
    }
}

/// A container's storages, and those of checkpoints in its pickle.
struct WithNested<'n, T> {
    table: T,
    nesting: Nesting<'n>,
}

impl<T: StorageTable> StorageTable for WithNested<'_, T> {
    fn wants_all(&self) -> bool {
        self.table.wants_all()
    }

    fn prepare(&mut self, references: &[&StorageRef<'_>]) -> Result<()> {
        self.table.prepare(references)
    }

    fn storage(&mut self, reference: &StorageRef<'_>) -> Result<Given> {
        self.table.storage(reference)
    }

    fn named(&mut self, name: &str) -> Result<Option<Named>> {
        self.table.named(name)
    }

    fn nested(&mut self, bytes: &[u8]) -> Result<Named> {
        let nesting = self.nesting.step(bytes.len())?;
        let opened = Container::open_within(Arc::new(MemorySource(bytes.to_vec())), nesting)?;
        let document = opened.document;
        let root = Value { document: &document, id: document.graph.root() };
        match root.kind() {
            ValueKind::Storage(storage, _) => Ok(Named::Storage(storage.clone())),
            ValueKind::Tensor(tensor) => Ok(Named::Tensor(tensor.clone())),
            _ => Err(Error::from(Reason::Object(format!(
                "a checkpoint inside a pickle holds a {}",
                root.type_name()
            )))),
        }
    }
}

/// A pickle by itself has nothing outside it.
struct NoStorages;

impl StorageTable for NoStorages {
    fn storage(&mut self, reference: &StorageRef<'_>) -> Result<Given> {
        let what =
            format!("storage {:?} lies outside the pickle, and there is nothing outside it", reference.key);
        Err(Error::from(Reason::Object(what)))
    }
}
