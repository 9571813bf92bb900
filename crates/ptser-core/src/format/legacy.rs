//! The legacy stream of torch 0.1.10 to 1.5, which `_use_new_zipfile_serialization=False` still writes: pickles
//! one after the other, then the storages.

use std::collections::HashMap;
use std::sync::Arc;

use super::container::Terms;
use super::sniff::unless_unread;
use crate::byte_order::ByteOrder;
use crate::document;
use crate::error::{Error, Reason, Result};
use crate::limits::{Limits, Objects};
use crate::pickle::{self, Encoding, Graph, Node};
use crate::source::Source;
use crate::storage::{Description, Facts, Span, Storage, fill_vec};
use crate::torch::{self, Given, Globals, StorageRef, StorageTable};

/// What the first pickle holds, little-endian: 0x1950A86A20F9469CFC6C.
const MAGIC: [u8; 10] = [0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19];
/// What the second holds.
const PROTOCOL: i64 = 1001;
/// Bytes of the pickles before the object: two numbers and a small dict.
const PREAMBLE: u64 = 4096;

/// The parts of a stream, found and not yet interpreted.
pub(crate) struct LegacyStream {
    source: Arc<dyn Source>,
    /// The object's pickle.
    pub(crate) pickle: Vec<u8>,
    pub(crate) pickle_at: u64,
    /// Where the list of keys begins.
    keys_at: u64,
}

impl LegacyStream {
    /// Whether a stream begins at `start`: its first pickle is the magic number, in whatever protocol.
    pub(crate) fn begins(source: &dyn Source, start: u64) -> Result<bool> {
        Ok(unless_unread(small_pickle(source, start))?.is_some_and(|graph| is_magic(&graph)))
    }

    /// Whether a pickle is what damage makes of the magic number: a number with more behind it that nobody would put
    /// there by itself, or one before a stream's protocol version.
    pub(crate) fn is_headless(first: &Graph, source: &dyn Source, end: u64) -> Result<bool> {
        let is_version = |graph: Graph| matches!(graph.node(graph.root()), Node::Int(PROTOCOL));
        Ok(match first.node(first.root()) {
            Node::Long(_) | Node::Int(PROTOCOL) => end < source.size(),
            Node::Int(_) => unless_unread(small_pickle(source, end))?.is_some_and(is_version),
            _ => false,
        })
    }

    /// Reads up to the object's pickle.
    pub(crate) fn open(source: Arc<dyn Source>, start: u64, terms: Terms<'_>) -> Result<Self> {
        let (magic, at) = take(&*source, start, PREAMBLE)?;
        preamble(magic, terms, "magic number")?;
        let (protocol, at) = take(&*source, at, PREAMBLE)?;
        let protocol = preamble(protocol, terms, "protocol version")?;
        match protocol.node(protocol.root()) {
            Node::Int(PROTOCOL) => {}
            Node::Int(other) => {
                return Err(Reason::Archive(format!(
                    "protocol version {other} of a legacy stream, expected {PROTOCOL}"
                ))
                .into());
            }
            _ => {
                return Err(
                    Reason::Archive("the protocol version of a legacy stream is no number".into()).into()
                );
            }
        }
        // What machine wrote it; PyTorch does not look at it either.
        let (system, at) = take(&*source, at, PREAMBLE)?;
        preamble(system, terms, "system information")?;
        let (pickle, keys_at) = take(&*source, at, terms.limits.pickle_bytes)?;
        Ok(Self { source, pickle, pickle_at: at, keys_at })
    }
}

/// Whether a pickle holds the magic number, in however many bytes.
pub(super) fn is_magic(graph: &Graph) -> bool {
    matches!(graph.node(graph.root()), Node::Long(span) if graph.bytes(span) == MAGIC)
}

/// A pickle of the size of those that a stream begins with.
fn small_pickle(source: &dyn Source, start: u64) -> Result<Graph> {
    let (pickle, _) = take(source, start, PREAMBLE)?;
    pickle::run(pickle, torch::rename, Encoding::Auto, &Objects::within(&Limits::default())).graph
}

/// A small pickle before the object.
pub(super) fn preamble(pickle: Vec<u8>, terms: Terms<'_>, what: &str) -> Result<Graph> {
    let objects = Objects::within(terms.limits);
    document::graph(pickle, terms.globals, terms.encoding, &objects).map_err(|error| error.in_record(what))
}

/// One pickle of a stream, and where the next thing begins.
pub(super) fn take(source: &dyn Source, at: u64, limit: u64) -> Result<(Vec<u8>, u64)> {
    let len = pickle::pickle_len(source, at, limit)?;
    let size = usize::try_from(len).map_err(|_| Reason::Unsupported("a pickle larger than memory".into()))?;
    let pickle = fill_vec(size, |buf| Ok(source.read_uninit_at(buf, at)?))?;
    Ok((pickle, at.saturating_add(len)))
}

/// Answers the persistent ids of a stream.
pub(crate) struct LegacyStorages {
    source: Arc<dyn Source>,
    keys_at: u64,
    limits: Limits,
    encoding: Encoding,
    /// By key: roots.
    roots: HashMap<String, Storage>,
    /// By key: parts of roots, as torch 0.3 wrote them.
    views: HashMap<String, Storage>,
    /// Where the stream ends.
    pub(crate) end: u64,
}

impl LegacyStorages {
    pub(crate) fn new(stream: &LegacyStream, terms: Terms<'_>) -> Self {
        let Terms { limits, encoding, .. } = terms;
        Self {
            source: Arc::clone(&stream.source),
            keys_at: stream.keys_at,
            limits: limits.clone(),
            encoding,
            roots: HashMap::new(),
            views: HashMap::new(),
            end: stream.keys_at,
        }
    }

    /// The pickle of the keys, a list in the order in which the storages lie behind them.
    fn keys(&mut self) -> Result<Graph> {
        let (pickle, at) = take(&*self.source, self.keys_at, self.limits.pickle_bytes)?;
        self.end = at;
        let objects = Objects::within(&self.limits);
        let graph = document::graph(pickle, &Globals::weights_only(), self.encoding, &objects)
            .map_err(|error| error.in_record("storage keys"))?;
        match graph.node(graph.root()) {
            Node::List(_) => Ok(graph),
            _ => Err(no_keys()),
        }
    }

    /// One storage: a count of elements, then the bytes.
    fn root(&mut self, key: &str, reference: &StorageRef<'_>) -> Result<()> {
        let mut count = [0; 8];
        let at = self.end;
        self.source.read_exact_at(&mut count, at).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => truncated(8, self.source.size().saturating_sub(at)),
            _ => error.into(),
        })?;
        let count = u64::from_le_bytes(count);
        if count != reference.numel {
            let size = reference.element_size();
            let reason = Reason::RecordSize {
                found: count.saturating_mul(size),
                expected: reference.nbytes()?,
                numel: reference.numel,
                dtype: reference.dtype_name().into(),
            };
            return Err(Error::from(reason).at(at));
        }
        let nbytes = reference.nbytes()?;
        let data_at = at.saturating_add(8);
        let end = data_at.checked_add(nbytes).filter(|&end| end <= self.source.size());
        self.end = end.ok_or_else(|| truncated(nbytes, self.source.size().saturating_sub(data_at)))?;
        let source = Arc::clone(&self.source);
        let content = Span { source, at: data_at, nbytes, name: format!("storage {key}") };
        self.roots.insert(key.to_owned(), Storage::new(self.description(key, reference, nbytes), content));
        Ok(())
    }

    fn description(&self, key: &str, reference: &StorageRef<'_>, nbytes: u64) -> Description {
        Description {
            key: key.into(),
            nbytes,
            facts: Facts {
                dtype: reference.dtype,
                location: reference.location.clone(),
                // Data lies little-endian in every stream, whoever wrote it.
                byte_order: ByteOrder::Little,
                expanded_bytes: self.limits.expanded_bytes,
            },
        }
    }
}

impl StorageTable for LegacyStorages {
    fn wants_all(&self) -> bool {
        true
    }

    fn prepare(&mut self, references: &[&StorageRef<'_>]) -> Result<()> {
        let mut first: HashMap<&str, &StorageRef<'_>> = HashMap::new();
        for reference in references {
            first.entry(reference.key).or_insert(reference);
        }
        let keys = self.keys()?;
        for &key in keys.members(keys.root()) {
            let key = keys.ascii(key).ok_or_else(no_keys)?;
            // A key that nobody refers to has no element size, so what follows it cannot be found.
            let Some(reference) = first.get(key) else {
                return Err(Reason::Archive(format!(
                    "storage key {key:?} of a legacy stream is referred to by nobody"
                ))
                .into());
            };
            if self.roots.contains_key(key) {
                return Err(
                    Reason::Archive(format!("storage key {key:?} stands twice in a legacy stream")).into()
                );
            }
            self.root(key, reference)?;
        }
        Ok(())
    }

    fn storage(&mut self, reference: &StorageRef<'_>) -> Result<Given> {
        let root = self.roots.get(reference.key).cloned().ok_or_else(|| {
            Reason::Archive(format!("storage {:?} is not among the keys of the legacy stream", reference.key))
        })?;
        let Some(view) = &reference.view else {
            let expected = reference.nbytes()?;
            if expected == root.nbytes() {
                return Ok(root.into());
            }
            let (numel, dtype) = (reference.numel, reference.dtype_name().into());
            return Err(Reason::RecordSize { found: root.nbytes(), expected, numel, dtype }.into());
        };
        if let Some(storage) = self.views.get(view.key) {
            return Ok(storage.clone().into());
        }
        let inside = root.range_of(view.offset, view.numel, reference.dtype);
        let Some((start, nbytes)) = inside else {
            return Err(Reason::Object(format!(
                "a part of {} elements from {} of a storage of {} bytes",
                view.numel,
                view.offset,
                root.nbytes()
            ))
            .into());
        };
        let storage = Storage::part(self.description(view.key, reference, nbytes), root, start);
        self.views.insert(view.key.to_owned(), storage.clone());
        Ok(storage.into())
    }
}

fn no_keys() -> Error {
    Reason::Archive("the storage keys of a legacy stream are no list of strings".into()).into()
}

fn truncated(wanted: u64, left: u64) -> Error {
    Reason::Archive(format!("{wanted} more bytes are needed, {left} are left")).into()
}
