//! A cursor over what a checkpoint holds beside and around its tensors.

use std::fmt;

use num_bigint::BigInt as Big;

use crate::document::Document;
use crate::dtype::DType;
use crate::error::{Error, Result};
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
    /// A `torch.dtype`.
    DType(DType),
    /// A `torch.layout`.
    Layout(Layout),
    /// A tensor or parameter.
    Tensor(&'c Tensor),
    /// A storage by itself, with the element type of the class it was saved as.
    Storage(&'c Storage, Option<DType>),
    /// A class or function by name, `module.name`; never looked up.
    Global(&'c str),
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
        let kind = interpretation.pid(self.id).and_then(|meaning| match meaning {
            PidMeaning::Storage(place, dtype) => {
                Some(ValueKind::Storage(interpretation.storages.get(place)?, dtype))
            }
            PidMeaning::Tensor(place) => interpretation.tensors.get(place).map(ValueKind::Tensor),
            PidMeaning::Class(_) => Some(self.global()),
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

    /// The place of a tensor that a persistent id names; each mention of it is a node of its own.
    fn named_tensor(self) -> Option<usize> {
        match self.document.interpretation.pid(self.id)? {
            PidMeaning::Tensor(place) => Some(place),
            PidMeaning::Storage(..) | PidMeaning::Class(_) => None,
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
            ValueKind::Tensor(tensor) if tensor.is_parameter() => "torch.nn.parameter.Parameter",
            ValueKind::Tensor(_) => "torch.Tensor",
            ValueKind::Storage(..) => "storage",
            ValueKind::Global(_) => "global",
            ValueKind::Object => self.class().unwrap_or("object"),
        }
    }

    // Mappings.

    /// Keys and values of a dict of any kind, in order; of anything else nothing.
    pub fn entries(self) -> impl Iterator<Item = (Self, Self)> {
        let (first, second) = self.entry_nodes();
        let pairs = first.into_iter().chain(second.chunks_exact(2).filter_map(|entry| match entry {
            &[key, value] => Some((key, value)),
            _ => None,
        }));
        pairs.map(move |(key, value)| (self.at(key), self.at(value)))
    }

    /// What a mapping was made from, and what was set on it.
    fn entry_nodes(self) -> (Vec<(NodeId, NodeId)>, &'c [NodeId]) {
        let graph = &self.document.graph;
        match self.document.meaning(self.id) {
            Some((object, Meaning::Mapping { base, .. })) => {
                let set = object.more.as_deref().map_or(&[][..], |more| more.entries.as_slice());
                let base = base.map_or_else(Vec::new, |base| match graph.node(base) {
                    Node::Dict(_) => pairs(graph.members(base)),
                    _ => graph.members(base).iter().flat_map(|&pair| pairs(graph.members(pair))).collect(),
                });
                (base, set)
            }
            Some(_) => (Vec::new(), &[]),
            None if matches!(graph.node(self.id), Node::Dict(_)) => (Vec::new(), graph.members(self.id)),
            None => (Vec::new(), &[]),
        }
    }

    /// Whether it is a dict of any kind.
    pub fn is_mapping(self) -> bool {
        matches!(
            self.kind(),
            ValueKind::Dict | ValueKind::OrderedDict | ValueKind::Counter | ValueKind::DefaultDict
        )
    }

    /// The value of a string key, or of an attribute of an object.
    pub fn find(self, key: &str) -> Option<Self> {
        let text = |value: Self| matches!(value.kind(), ValueKind::Str(text) if text == key);
        // A subclass of dict has its entries assigned.
        let entry = self.entries().chain(self.assigned()).filter(|(name, _)| text(*name)).last();
        let found = entry.or_else(|| self.attributes().filter(|(name, _)| text(*name)).last());
        found.map(|(_, value)| value)
    }

    /// The value of a string key, or of an attribute of an object.
    ///
    /// # Errors
    /// `Misuse` that names the key and the keys that are there.
    pub fn get(self, key: &str) -> Result<Self> {
        self.find(key).ok_or_else(|| {
            let keys: Vec<&str> = self
                .entries()
                .chain(self.assigned())
                .chain(self.attributes())
                .filter_map(|(key, _)| match key.kind() {
                    ValueKind::Str(text) => Some(text),
                    _ => None,
                })
                .take(200)
                .collect();
            let near = crate::suggest::nearest(key, keys.iter().copied());
            let there = match (near.is_empty(), keys.is_empty()) {
                (false, _) => format!("; did you mean {}", near.join(", ")),
                (true, false) => format!("; there are {}", keys.get(..8).unwrap_or(&keys).join(", ")),
                (true, true) => format!("; it is a {}", self.type_name()),
            };
            Error::misuse(format!("there is no key {key:?}{there}"))
        })
    }

    // Sequences.

    /// The members of a list, tuple, deque, `torch.Size`, set or frozenset, in order; of anything else nothing.
    pub fn items(self) -> impl Iterator<Item = Self> {
        let graph = &self.document.graph;
        let (members, added): (&[NodeId], &[NodeId]) = match self.document.meaning(self.id) {
            Some((_, Meaning::Size(sizes))) => (graph.members(*sizes), &[]),
            Some((object, Meaning::Set { members, .. } | Meaning::Deque { members })) => (
                members.map_or(&[][..], |members| graph.members(members)),
                object.more.as_deref().map_or(&[][..], |more| more.items.as_slice()),
            ),
            Some(_) => (&[], &[]),
            None if matches!(graph.node(self.id), Node::Dict(_)) => (&[], &[]),
            None => (graph.members(self.id), &[]),
        };
        members.iter().chain(added).map(move |&id| self.at(id))
    }

    /// The member of a list, tuple, deque or `torch.Size` at `index`.
    ///
    /// # Errors
    /// `Misuse` that tells how many there are.
    pub fn index(self, index: usize) -> Result<Self> {
        self.items().nth(index).ok_or_else(|| {
            Error::misuse(format!(
                "there is no index {index} in a {} of {}",
                self.type_name(),
                self.items().count()
            ))
        })
    }

    /// How many entries or items it has.
    pub fn len(self) -> usize {
        if self.is_mapping() { self.entries().count() } else { self.items().count() }
    }

    /// Whether it has no entries and no items.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    // Objects.

    /// The class or function of an object that was never made, `module.name`.
    pub fn class(self) -> Option<&'c str> {
        let (object, meaning) = self.document.meaning(self.id)?;
        if let Meaning::Tensor(meaning) = meaning {
            return self.document.global(meaning.class?);
        }
        let callable = self.document.global(object.callable);
        // Python 2 and protocol 0 spell "an instance of cls" so.
        if callable == Some("copyreg._reconstructor") {
            let class = self.document.graph.members(object.args).first();
            return class.and_then(|&class| self.document.global(class)).or(callable);
        }
        callable
    }

    /// What was called to make an object that was never made: a global, or what another call makes, such as
    /// `getattr(Outer, "Inner")` for a class inside another.
    pub fn callable(self) -> Option<Self> {
        let (object, _) =
            self.document.meaning(self.id).filter(|(_, meaning)| matches!(meaning, Meaning::Opaque))?;
        Some(self.at(object.callable))
    }

    /// The file and the source text of a class, or of an object's class, as legacy streams record them for
    /// modules.
    pub fn source(self) -> Option<(&'c str, &'c str)> {
        let graph = &self.document.graph;
        let class = graph.object(self.id).map_or(self.id, |(_, object)| object.callable);
        let members = match graph.node(class) {
            Node::PersistentId(pid) => graph.tuple(pid)?,
            _ => return None,
        };
        match self.document.interpretation.pid(class)? {
            PidMeaning::Class(_) => match members {
                [.., file, source] => graph.str(*file).zip(graph.str(*source)),
                _ => None,
            },
            PidMeaning::Storage(..) | PidMeaning::Tensor(_) => None,
        }
    }

    /// The arguments of an object's construction.
    ///
    /// Of `copyreg._reconstructor(class, base, content)`, which is how protocols 0 and 1 spell an instance, only
    /// the content is one: what an instance of a subclass of `dict`, `list` or `tuple` holds.
    pub fn args(self) -> impl Iterator<Item = Self> {
        let graph = &self.document.graph;
        let object = graph.object(self.id).filter(|_| matches!(self.kind(), ValueKind::Object));
        let args = object.map_or(&[][..], |(_, object)| {
            let args = graph.members(object.args);
            match args {
                [_, _, content]
                    if self.document.global(object.callable) == Some("copyreg._reconstructor") =>
                {
                    let nothing = matches!(graph.node(*content), Node::None);
                    if nothing { &[] } else { std::slice::from_ref(content) }
                }
                args => args,
            }
        });
        args.iter().map(move |&id| self.at(id))
    }

    /// The keyword arguments of an object's construction.
    pub fn kwargs(self) -> Option<Self> {
        let (_, object) = self.document.graph.object(self.id)?;
        object.more.as_deref()?.kwargs.map(|id| self.at(id))
    }

    /// What was given to `__setstate__`, or to the attributes, of an object; the last one, if several.
    pub fn state(self) -> Option<Self> {
        self.states().last()
    }

    /// All states given to an object; pickles give one.
    pub fn states(self) -> impl Iterator<Item = Self> {
        let states = match self.document.meaning(self.id) {
            Some((_, Meaning::Tensor(meaning))) => meaning.attributes.as_slice(),
            Some((object, _)) => object.more.as_deref().map_or(&[][..], |more| more.states.as_slice()),
            None => &[],
        };
        states.iter().map(move |&id| self.at(id))
    }

    /// Python attributes by name: of an ordered dict (`_metadata`), a tensor, a parameter or an object.
    ///
    /// They are the entries of a state that is a dict, or of both dicts of a state with slots.
    pub fn attributes(self) -> impl Iterator<Item = (Self, Self)> {
        self.states().flat_map(|state| {
            // (attributes, slots), either of which may be None.
            let parts: Vec<Self> = state.items().take(3).collect();
            let slots = matches!(state.kind(), ValueKind::Tuple)
                && parts.len() == 2
                && parts.iter().all(|part| part.is_mapping() || part.is_none());
            let parts = if slots { parts } else { vec![state] };
            parts.into_iter().flat_map(Self::entries).collect::<Vec<_>>()
        })
    }

    /// Items appended to an object that is no list.
    pub fn appended(self) -> impl Iterator<Item = Self> {
        let object = self.document.meaning(self.id).filter(|(_, meaning)| matches!(meaning, Meaning::Opaque));
        let items = object
            .and_then(|(object, _)| object.more.as_deref())
            .map_or(&[][..], |more| more.items.as_slice());
        items.iter().map(move |&id| self.at(id))
    }

    /// Entries set on an object that is no dict.
    pub fn assigned(self) -> impl Iterator<Item = (Self, Self)> {
        let object = self.document.meaning(self.id).filter(|(_, meaning)| matches!(meaning, Meaning::Opaque));
        let entries = object
            .and_then(|(object, _)| object.more.as_deref())
            .map_or(&[][..], |more| more.entries.as_slice());
        pairs(entries).into_iter().map(move |(key, value)| (self.at(key), self.at(value)))
    }

    // Scalars.

    /// Whether it is `None`.
    pub fn is_none(self) -> bool {
        matches!(self.kind(), ValueKind::None)
    }

    /// The text.
    ///
    /// # Errors
    /// `Misuse` where it is something else.
    pub fn as_str(self) -> Result<&'c str> {
        match self.kind() {
            ValueKind::Str(text) => Ok(text),
            _ => Err(self.is_not("text")),
        }
    }

    /// The integer.
    ///
    /// # Errors
    /// `Misuse` where it is something else, or beyond 64 bits.
    pub fn as_i64(self) -> Result<i64> {
        match self.kind() {
            ValueKind::Int(int) => Ok(int),
            _ => Err(self.is_not("a 64-bit integer")),
        }
    }

    /// The float; an integer that a float can hold exactly is one too.
    ///
    /// # Errors
    /// `Misuse` where it is something else.
    pub fn as_f64(self) -> Result<f64> {
        match self.kind() {
            ValueKind::Float(float) => Ok(float),
            ValueKind::Int(int) => exact(int).ok_or_else(|| self.is_not("a float")),
            _ => Err(self.is_not("a float")),
        }
    }

    /// The truth value.
    ///
    /// # Errors
    /// `Misuse` where it is something else.
    pub fn as_bool(self) -> Result<bool> {
        match self.kind() {
            ValueKind::Bool(bool) => Ok(bool),
            _ => Err(self.is_not("True or False")),
        }
    }

    /// The content of `bytes` or a `bytearray`.
    ///
    /// # Errors
    /// `Misuse` where it is something else.
    pub fn as_bytes(self) -> Result<&'c [u8]> {
        match self.kind() {
            ValueKind::Bytes(bytes) | ValueKind::ByteArray(bytes) => Ok(bytes),
            _ => Err(self.is_not("bytes")),
        }
    }

    /// The tensor.
    ///
    /// # Errors
    /// `Misuse` where it is something else.
    pub fn as_tensor(self) -> Result<&'c Tensor> {
        self.document.tensor(self.id).ok_or_else(|| self.is_not("a tensor"))
    }

    fn is_not(self, expected: &str) -> Error {
        Error::misuse(format!(
            "expected {expected}, found {} of type {}",
            Repr::short(self),
            self.type_name()
        ))
    }
}

/// The float that equals an integer, if one does.
fn exact(int: i64) -> Option<f64> {
    const HALF: i64 = 1 << 32;
    let high = f64::from(i32::try_from(int.div_euclid(HALF)).ok()?) * 4_294_967_296.0;
    let low = f64::from(u32::try_from(int.rem_euclid(HALF)).ok()?);
    let sum = high + low;
    // Both parts are exact; their sum is, if it loses none of the lower.
    (sum - high == low).then_some(sum)
}

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
