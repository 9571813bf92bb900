//! A cursor over what a checkpoint holds beside and around its tensors.

mod containers;
mod object;
mod scalar;
mod to_object;

use std::fmt;

use num_bigint::BigInt as Big;

use crate::document::Document;
use crate::dtype::DType;
use crate::error::Error;
use crate::location::Location;
use crate::pickle::{Node, NodeId};
use crate::repr::Repr;
use crate::storage::Storage;
use crate::tensor::{Layout, Tensor};
use crate::torch::{Known, MappingKind, Meaning, PidMeaning};

/// One value of a checkpoint. Copies are free, sharing and cycles are kept: two values that were one object
/// in Python [are](Self::is) one here.
///
/// ```no_run
/// let checkpoint = ptser_core::Checkpoint::open("checkpoint.pt")?;
/// let lr = checkpoint.root().get("optimizer")?.get("param_groups")?.index(0)?.get("lr")?.as_f64()?;
/// # Ok::<(), ptser_core::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct Value<'c> {
    pub(crate) document: &'c Document,
    pub(crate) id: NodeId,
}

/// What a [`Value`] is.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum ValueKind<'c> {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An integer of at most 64 bits.
    Int(i64),
    /// A larger one.
    BigInt(BigInt<'c>),
    /// A float.
    Float(f64),
    /// A complex number: real, imaginary.
    Complex(f64, f64),
    /// Text.
    Str(&'c str),
    /// Text with lone surrogates, in UTF-8 but for those, which take three bytes each.
    Surrogates(&'c [u8]),
    /// `bytes`.
    Bytes(&'c [u8]),
    /// `bytearray`.
    ByteArray(&'c [u8]),
    /// A list: see [`Value::items`].
    List,
    /// A tuple: see [`Value::items`].
    Tuple,
    /// `collections.deque`: see [`Value::items`].
    Deque,
    /// `torch.Size`: see [`Value::items`].
    Size,
    /// A set: see [`Value::items`].
    Set,
    /// A frozenset: see [`Value::items`].
    FrozenSet,
    /// A dict: see [`Value::entries`].
    Dict,
    /// `collections.OrderedDict`: see [`Value::entries`].
    OrderedDict,
    /// `collections.Counter`: see [`Value::entries`].
    Counter,
    /// `collections.defaultdict`: see [`Value::entries`].
    DefaultDict,
    /// `torch.device`.
    Device(&'c Location),
    /// A `torch.dtype`, or NumPy's of the same numbers.
    DType(DType),
    /// A `torch.layout`.
    Layout(Layout),
    /// A path of `pathlib`.
    Path(&'c str),
    /// A date, a time of day, or both, of `datetime`, as ISO 8601 has it: `2024-01-02T03:04:05+02:00`.
    Time(&'c str),
    /// A tensor or parameter.
    Tensor(&'c Tensor),
    /// A NumPy array of numbers.
    Array(&'c Tensor),
    /// A storage by itself, with the element type of the class it was saved as.
    Storage(&'c Storage, Option<DType>),
    /// A class or function by name, `module.name`; never looked up.
    Global(&'c str),
    /// What should have been a tensor or another value, in a checkpoint that was opened
    /// [leniently](crate::LoadOptions::lenient).
    Damaged(&'c Error),
    /// A call that nobody made: see [`Value::class`], [`Value::args`], [`Value::state`].
    Object,
}

/// An integer beyond 64 bits: two's complement, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BigInt<'c>(&'c [u8]);

impl<'c> BigInt<'c> {
    /// Two's complement, least significant byte first.
    pub fn to_bytes(self) -> &'c [u8] {
        self.0
    }
}

impl fmt::Display for BigInt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Decimal conversion is quadratic; Python refuses it for longer numbers too.
        if self.0.len() > 1 << 13 {
            return write!(f, "<integer of {} bytes>", self.0.len());
        }
        write!(f, "{}", Big::from_signed_bytes_le(self.0))
    }
}

impl<'c> Value<'c> {
    fn at(self, id: NodeId) -> Self {
        Self { document: self.document, id }
    }

    /// What it is.
    pub fn kind(self) -> ValueKind<'c> {
        let graph = &self.document.graph;
        match graph.node(self.id) {
            Node::None => ValueKind::None,
            Node::Bool(bool) => ValueKind::Bool(bool),
            Node::Int(int) => ValueKind::Int(int),
            Node::Long(span) => ValueKind::BigInt(BigInt(graph.bytes(span))),
            Node::Float(float) => ValueKind::Float(float),
            Node::Str(span) => ValueKind::Str(graph.text(span)),
            Node::Surrogates(span) => ValueKind::Surrogates(graph.bytes(span)),
            Node::Bytes(span) => ValueKind::Bytes(graph.bytes(span)),
            Node::ByteArray(span) => ValueKind::ByteArray(graph.bytes(span)),
            Node::Tuple(_) => ValueKind::Tuple,
            Node::List(_) => ValueKind::List,
            Node::Dict(_) => ValueKind::Dict,
            Node::Set(_) => ValueKind::Set,
            Node::FrozenSet(_) => ValueKind::FrozenSet,
            Node::Global(_) => self.global(),
            Node::Object(_) => self.object(),
            Node::PersistentId(_) => self.persistent(),
            Node::View(_) => self.document.tensor(self.id).map_or(ValueKind::Object, ValueKind::Tensor),
        }
    }

    fn global(self) -> ValueKind<'c> {
        let name = self.document.global(self.id).unwrap_or_default();
        match crate::torch::known(name) {
            Some(Known::DType(dtype)) => ValueKind::DType(dtype),
            _ => ValueKind::Global(name),
        }
    }

    fn persistent(self) -> ValueKind<'c> {
        let interpretation = &self.document.interpretation;
        let kind = self.document.pid(self.id).and_then(|meaning| match meaning {
            PidMeaning::Storage(place, dtype) => {
                Some(ValueKind::Storage(interpretation.storages.get(place)?, dtype))
            }
            PidMeaning::Tensor(place) => interpretation.tensors.get(place).map(ValueKind::Tensor),
            PidMeaning::Class(_) => Some(self.global()),
            PidMeaning::Damaged(_) => self.document.damage(self.id).map(ValueKind::Damaged),
        });
        kind.unwrap_or(ValueKind::Object)
    }

    fn object(self) -> ValueKind<'c> {
        let Some((_, meaning)) = self.document.meaning(self.id) else { return ValueKind::Object };
        match meaning {
            Meaning::Opaque => ValueKind::Object,
            Meaning::Mapping { kind: MappingKind::OrderedDict, .. } => ValueKind::OrderedDict,
            Meaning::Mapping { kind: MappingKind::Counter, .. } => ValueKind::Counter,
            Meaning::Mapping { kind: MappingKind::DefaultDict, .. } => ValueKind::DefaultDict,
            Meaning::Deque { .. } => ValueKind::Deque,
            Meaning::Set { frozen: false, .. } => ValueKind::Set,
            Meaning::Set { frozen: true, .. } => ValueKind::FrozenSet,
            Meaning::Bytes(bytes) => ValueKind::Bytes(bytes),
            Meaning::ByteArray(bytes) => ValueKind::ByteArray(bytes),
            Meaning::Complex(re, im) => ValueKind::Complex(*re, *im),
            Meaning::Bool(bool) => ValueKind::Bool(*bool),
            Meaning::Int(int) => ValueKind::Int(*int),
            Meaning::Long(bytes) => ValueKind::BigInt(BigInt(bytes)),
            Meaning::Float(float) => ValueKind::Float(*float),
            Meaning::Text(text) => ValueKind::Str(text),
            Meaning::DType(dtype) => ValueKind::DType(*dtype),
            Meaning::Path(path) => ValueKind::Path(path),
            Meaning::Time(time) => ValueKind::Time(time),
            Meaning::Member(name) => ValueKind::Global(name),
            Meaning::Array(_) => self.document.array(self.id).map_or(ValueKind::Object, ValueKind::Array),
            Meaning::Damaged(_) => {
                self.document.damage(self.id).map_or(ValueKind::Object, ValueKind::Damaged)
            }
            Meaning::Storage(place, dtype) => {
                let storage = self.document.interpretation.storages.get(*place);
                storage.map_or(ValueKind::Object, |storage| ValueKind::Storage(storage, *dtype))
            }
            Meaning::Size(_) => ValueKind::Size,
            Meaning::Device(location) => ValueKind::Device(location),
            Meaning::Layout(layout) => ValueKind::Layout(*layout),
            Meaning::Tensor(meaning) => self
                .document
                .interpretation
                .tensors
                .get(meaning.place)
                .map_or(ValueKind::Object, ValueKind::Tensor),
        }
    }

    /// Whether both are the same object, not only equal.
    pub fn is(self, other: Value<'_>) -> bool {
        std::ptr::eq(self.document, other.document)
            && (self.id == other.id || self.named_tensor().is_some_and(|it| other.named_tensor() == Some(it)))
    }

    /// Which of a checkpoint's objects it is: the same number as that of another value that [is](Self::is) the same.
    pub fn id(self) -> usize {
        let named = self.named_tensor().map(|place| self.document.graph.len().saturating_add(place));
        named.unwrap_or_else(|| self.id.place())
    }

    /// The place of a tensor that a persistent id names; each mention of it is a node of its own.
    fn named_tensor(self) -> Option<usize> {
        match self.document.pid(self.id)? {
            PidMeaning::Tensor(place) => Some(place),
            PidMeaning::Storage(..) | PidMeaning::Class(_) | PidMeaning::Damaged(_) => None,
        }
    }

    /// Python's name of its type.
    pub fn type_name(self) -> &'c str {
        match self.kind() {
            ValueKind::None => "None",
            ValueKind::Bool(_) => "bool",
            ValueKind::Int(_) | ValueKind::BigInt(_) => "int",
            ValueKind::Float(_) => "float",
            ValueKind::Complex(..) => "complex",
            ValueKind::Str(_) | ValueKind::Surrogates(_) => "str",
            ValueKind::Bytes(_) => "bytes",
            ValueKind::ByteArray(_) => "bytearray",
            ValueKind::List => "list",
            ValueKind::Tuple => "tuple",
            ValueKind::Deque => "collections.deque",
            ValueKind::Size => "torch.Size",
            ValueKind::Set => "set",
            ValueKind::FrozenSet => "frozenset",
            ValueKind::Dict => "dict",
            ValueKind::OrderedDict => "collections.OrderedDict",
            ValueKind::Counter => "collections.Counter",
            ValueKind::DefaultDict => "collections.defaultdict",
            ValueKind::Device(_) => "torch.device",
            ValueKind::DType(_) => "torch.dtype",
            ValueKind::Layout(_) => "torch.layout",
            ValueKind::Path(_) | ValueKind::Time(_) => self.class().unwrap_or("str"),
            ValueKind::Array(_) => "numpy.ndarray",
            ValueKind::Tensor(tensor) if tensor.is_parameter() => "torch.nn.parameter.Parameter",
            ValueKind::Tensor(_) => "torch.Tensor",
            ValueKind::Storage(..) => "storage",
            ValueKind::Global(_) => "global",
            ValueKind::Damaged(_) => "damaged",
            ValueKind::Object => self.class().unwrap_or("object"),
        }
    }
}

/// Keys and values in turn, as pairs.
fn pairs(entries: &[NodeId]) -> Vec<(NodeId, NodeId)> {
    entries
        .chunks_exact(2)
        .filter_map(|entry| match entry {
            &[key, value] => Some((key, value)),
            _ => None,
        })
        .collect()
}

impl fmt::Display for Value<'_> {
    /// Writes it as Python's `repr` would, with long values cut.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Repr::short(*self))
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
