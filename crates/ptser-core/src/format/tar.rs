//! The tar of torch 0.1 to 0.1.9: members `storages`, `tensors` and `pickle`, the last naming what lies in the
//! first two.

use std::collections::HashMap;
use std::sync::Arc;

use super::foreign::tar_error;
use super::legacy::take;
use crate::bounds::{shaped, view_of};
use crate::byte_order::ByteOrder;
use crate::dtype::DType;
use crate::error::{Error, Reason, Result};
use crate::layout;
use crate::limits::{self, Limits};
use crate::location::Location;
use crate::pickle::{Graph, Node, NodeId};
use crate::sizes::Sizes;
use crate::source::Source;
use crate::storage::{Description, Facts, Span, Storage, element_bytes};
use crate::tar::{self, Member};
use crate::tensor::{Fields, Tensor};
use crate::torch::{Given, Known, Named, StorageRef, StorageTable, known};

/// What a tar archive names: storages and tensors by their numbers.
pub(crate) struct TarFile {
    /// The object's pickle.
    pub(crate) pickle: Vec<u8>,
    storages: HashMap<String, Storage>,
    /// Or what is wrong with them, which matters where they are asked for.
    tensors: HashMap<String, Result<Tensor, String>>,
}

/// Where a pickle begins.
pub(super) struct PickleAt {
    pub(super) member: &'static str,
    /// The member's first byte in the file.
    pub(super) member_at: u64,
    /// The pickle's.
    pub(super) at: u64,
}

/// Reads a pickle of a member that describes storages or tensors, and tells where it ends.
pub(super) type ReadPickle<'r> = dyn FnMut(&PickleAt) -> Result<(Graph, u64)> + 'r;

impl TarFile {
    /// Reads the members that describe storages and tensors; no data.
    pub(super) fn open(source: &Arc<dyn Source>, limits: &Limits, read: &mut ReadPickle<'_>) -> Result<Self> {
        let members = tar::members(&**source)?;
        let mut file = Self { pickle: Vec::new(), storages: HashMap::new(), tensors: HashMap::new() };
        let storages = member(&members, "storages").map_err(|error| {
            let names: Vec<&str> = members.iter().map(|member| &*member.name).collect();
            tar_error(&names, error)
        })?;
        let storages = Part::new(source, storages, "storages", limits, read);
        file.read_storages(storages).map_err(|error| error.in_record("storages"))?;
        // Some writers of today leave the tensors to the pickle.
        if let Ok(tensors) = member(&members, "tensors") {
            let tensors = Part::new(source, tensors, "tensors", limits, read);
            file.read_tensors(tensors).map_err(|error| error.in_record("tensors"))?;
        }
        let pickle = member(&members, "pickle")?;
        let end = pickle.at.saturating_add(pickle.size);
        let read = take(&**source, pickle.at, limits.pickle_bytes)
            .and_then(|(bytes, at)| inside(at, end).map(|()| bytes));
        file.pickle = read.map_err(|error| error.in_record("pickle"))?;
        Ok(file)
    }

    fn read_storages(&mut self, mut part: Part<'_>) -> Result<()> {
        let expanded_bytes = part.limits.expanded_bytes;
        for _ in 0..part.count()? {
            let entry = part.pickle()?;
            let storage = StorageEntry::read(&entry)?;
            let numel = part.number()?;
            let numel =
                u64::try_from(numel).map_err(|_| malformed(format!("a storage of {numel} elements")))?;
            let size = element_bytes(Some(storage.dtype));
            let nbytes =
                numel.checked_mul(size).ok_or_else(|| malformed(format!("a storage of {numel} elements")))?;
            let at = part.skip(nbytes)?;
            let description = Description {
                key: storage.key.as_str().into(),
                nbytes,
                facts: Facts {
                    dtype: Some(storage.dtype),
                    location: storage.location,
                    byte_order: ByteOrder::Little,
                    expanded_bytes,
                },
            };
            let name = format!("storage {}", storage.key);
            let content = Span { source: Arc::clone(part.source), at, nbytes, name };
            self.storages.insert(storage.key, Storage::new(description, content));
        }
        // The oldest archives end here.
        if part.is_at_end() { Ok(()) } else { self.read_parts(&part.pickle()?) }
    }

    /// Storages that are parts of others: `(key, root key, offset, numel)`.
    fn read_parts(&mut self, graph: &Graph) -> Result<()> {
        let Node::List(_) = graph.node(graph.root()) else {
            return Err(malformed("the parts of storages are no list".into()));
        };
        for &part in graph.members(graph.root()) {
            let Some(&[key, root, offset, numel]) = graph.tuple(part) else {
                return Err(malformed("a part of a storage is not (key, root, offset, numel)".into()));
            };
            let number = |id: NodeId| match graph.node(id) {
                Node::Int(int) => u64::try_from(int).ok(),
                _ => None,
            };
            let (key, root) = (self::key(graph, key)?, self::key(graph, root)?);
            let whole = self
                .storages
                .get(&root)
                .ok_or_else(|| malformed(format!("there is no storage {root}")))?
                .clone();
            let range = number(offset).zip(number(numel));
            let inside = range.and_then(|(offset, numel)| whole.range_of(offset, numel, whole.dtype()));
            let Some((start, nbytes)) = inside else {
                return Err(malformed(format!(
                    "part {key} leaves storage {root} of {} bytes",
                    whole.nbytes()
                )));
            };
            let description = Description { key: key.as_str().into(), nbytes, facts: whole.facts().clone() };
            self.storages.insert(key, Storage::part(description, whole, start));
        }
        Ok(())
    }

    fn read_tensors(&mut self, mut part: Part<'_>) -> Result<()> {
        for _ in 0..part.count()? {
            let graph = part.pickle()?;
            let (key, storage) = tensor_entry(&graph)?;
            let view = View::read(&mut part)?;
            let tensor = self.tensor(view, storage.as_deref()).map_err(|error| error.reason().to_string());
            self.tensors.insert(key, tensor);
        }
        Ok(())
    }

    fn tensor(&self, view: View, storage: Option<&str>) -> Result<Tensor> {
        let dims = |numbers: &[i64], what: &str| -> Result<Sizes> {
            numbers.iter().map(|&number| index(number, what)).collect()
        };
        let shape = dims(&view.shape, "size")?;
        let stride = dims(&view.stride, "stride")?;
        let storage_offset = index(view.offset, "storage offset")?;
        let Some(storage) = storage else {
            // A tensor that never had a storage.
            let tensor = shaped(DType::Float32, shape, stride)?;
            return if layout::numel(&tensor.shape) == Some(0) || tensor.shape.is_empty() {
                Ok(Fields { shape: [0].into(), stride: [1].into(), ..tensor }.into())
            } else {
                Err(malformed("a tensor with elements and without a storage".into()))
            };
        };
        let storage =
            self.storages.get(storage).ok_or_else(|| malformed(format!("there is no storage {storage}")))?;
        let dtype = storage.dtype().unwrap_or(DType::UInt8);
        Ok(view_of(storage.clone(), dtype, shape, stride, storage_offset)?.into())
    }
}

fn index(number: i64, what: &str) -> Result<usize> {
    usize::try_from(number).map_err(|_| Reason::Tensor(format!("a negative {what}: {number}")).into())
}

/// What an archive says of a tensor, not yet checked.
struct View {
    shape: Vec<i64>,
    stride: Vec<i64>,
    offset: i64,
}

impl View {
    fn read(part: &mut Part<'_>) -> Result<Self> {
        // A 32-bit count that was written as 64 bits: the upper half is whatever lay there.
        let [a, b, c, d, ..] = part.array::<8>()?;
        let dims = u64::from(u32::from_le_bytes([a, b, c, d]));
        if dims.saturating_mul(16) > part.left() {
            return Err(malformed(format!("{dims} dimensions in {} bytes", part.left())));
        }
        let mut numbers = || (0..dims).map(|_| part.number()).collect::<Result<_>>();
        Ok(Self { shape: numbers()?, stride: numbers()?, offset: part.number()? })
    }
}

/// `(key, location, class)`, or `(key, class)` in the oldest archives.
struct StorageEntry {
    key: String,
    location: Location,
    dtype: DType,
}

impl StorageEntry {
    fn read(graph: &Graph) -> Result<Self> {
        let (key, location, class) = match graph.tuple(graph.root()) {
            Some(&[key, location, class]) => (key, graph.ascii(location).map(Location::new), class),
            Some(&[key, class]) => (key, Some(Location::cpu()), class),
            _ => (graph.root(), None, graph.root()),
        };
        let dtype = match graph.node(class) {
            Node::Global(symbol) => match graph.symbol(symbol).and_then(|symbol| known(&symbol.full)) {
                Some(Known::StorageClass(dtype)) => Some(dtype),
                _ => None,
            },
            _ => None,
        };
        let parts = location.zip(dtype);
        let (location, dtype) =
            parts.ok_or_else(|| malformed("a storage is not (key, location, class)".into()))?;
        Ok(Self { key: self::key(graph, key)?, location, dtype })
    }
}

/// `(key, storage key, class)`, or `(key, class, storage key)` in the oldest archives.
fn tensor_entry(graph: &Graph) -> Result<(String, Option<String>)> {
    let Some(&[key, second, third]) = graph.tuple(graph.root()) else {
        return Err(malformed("a tensor is not (key, storage key, class)".into()));
    };
    let storage = if matches!(graph.node(second), Node::Global(_)) { third } else { second };
    let storage = match graph.node(storage) {
        Node::None => None,
        _ => Some(self::key(graph, storage)?),
    };
    Ok((self::key(graph, key)?, storage))
}

/// Bytes of a key: many parts can share one. PyTorch's are addresses.
const KEY_MAX: usize = 4096;

fn key(graph: &Graph, id: NodeId) -> Result<String> {
    match (graph.node(id), graph.ascii(id)) {
        (Node::Int(int), _) => Ok(int.to_string()),
        (_, Some(text)) if text.len() <= KEY_MAX => Ok(text.to_owned()),
        _ => Err(malformed("a key is neither a number nor text".into())),
    }
}

/// A member that is read from its beginning on.
struct Part<'p> {
    source: &'p Arc<dyn Source>,
    at: u64,
    start: u64,
    end: u64,
    name: &'static str,
    limits: &'p Limits,
    read: &'p mut ReadPickle<'p>,
}

impl<'p> Part<'p> {
    fn new(
        source: &'p Arc<dyn Source>,
        member: &Member,
        name: &'static str,
        limits: &'p Limits,
        read: &'p mut ReadPickle<'_>,
    ) -> Self {
        let (start, end) = (member.at, member.at.saturating_add(member.size));
        Self { source, at: start, start, end, name, limits, read }
    }

    fn left(&self) -> u64 {
        self.end.saturating_sub(self.at)
    }

    fn is_at_end(&self) -> bool {
        self.left() == 0
    }

    /// Moves on, and says from where.
    fn skip(&mut self, len: u64) -> Result<u64> {
        let left = self.left();
        if len > left {
            return Err(Reason::Archive(format!("{len} more bytes are needed, {left} are left")).into());
        }
        let at = self.at;
        self.at = at.saturating_add(len);
        Ok(at)
    }

    fn pickle(&mut self) -> Result<Graph> {
        let (graph, at) = (self.read)(&PickleAt { member: self.name, member_at: self.start, at: self.at })?;
        inside(at, self.end)?;
        self.at = at;
        Ok(graph)
    }

    /// The number of entries; each takes more than a byte.
    fn count(&mut self) -> Result<u64> {
        let graph = self.pickle()?;
        let count = match graph.node(graph.root()) {
            Node::Int(int) => u64::try_from(int).ok(),
            _ => None,
        };
        let count = count
            .filter(|&count| count <= self.left())
            .ok_or_else(|| malformed("the number of entries".into()))?;
        limits::check("the number of records", "records", count, self.limits.records)?;
        Ok(count)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        let at = self.skip(u64::try_from(N).unwrap_or(u64::MAX))?;
        self.source.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }

    fn number(&mut self) -> Result<i64> {
        self.array().map(i64::from_le_bytes)
    }
}

impl StorageTable for TarFile {
    fn storage(&mut self, reference: &StorageRef<'_>) -> Result<Given> {
        let found = self
            .storages
            .get(reference.key)
            .filter(|storage| reference.nbytes().ok() == Some(storage.nbytes()));
        found.cloned().map(Given::from).ok_or_else(|| {
            malformed(format!("there is no storage {} of {} elements", reference.key, reference.numel))
        })
    }

    fn named(&mut self, name: &str) -> Result<Option<Named>> {
        match self.tensors.get(name) {
            Some(Ok(tensor)) => Ok(Some(Named::Tensor(tensor.clone()))),
            Some(Err(why)) => Err(Error::from(Reason::Damaged(why.clone())).in_record("tensors")),
            None => Ok(self.storages.get(name).cloned().map(Named::Storage)),
        }
    }
}

fn member<'m>(members: &'m [Member], name: &str) -> Result<&'m Member> {
    let found = members.iter().find(|member| member.name == name);
    found.ok_or_else(|| Error::from(Reason::MissingRecord { name: name.to_owned() }))
}

/// Refuses a pickle that ends behind its member.
fn inside(at: u64, end: u64) -> Result<()> {
    if at > end { Err(Reason::Archive("a pickle leaves its member".into()).into()) } else { Ok(()) }
}

fn malformed(what: String) -> Error {
    Reason::Archive(what).into()
}
