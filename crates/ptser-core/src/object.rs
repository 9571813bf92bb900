//! What is to be saved: a tree of Python's values, made in Rust.

use std::collections::HashSet;
use std::sync::Arc;

use num_bigint::BigInt;

use crate::dtype::DType;
use crate::location::Location;
use crate::state_dict::StateDict;
use crate::storage::Storage;
use crate::tensor::{Layout, Tensor};

/// A value to be saved, as PyTorch would have saved it.
///
/// A handle, as variables are in Python: clones are the same object, which a file holds once, however often it stands
/// there. Literals are one object too: `"lr"` and `"lr"` are, two `String`s of the same text are not, unless they are so
/// short that Python has one of them.
///
/// ```
/// use ptser_core::Object;
/// let object = Object::dict([("epoch", Object::from(3)), ("losses", Object::list([0.5, 0.25]))]);
/// ```
#[derive(Clone)]
pub struct Object(pub(crate) Arc<Kind>);

/// Keys and values.
pub(crate) type Entries = Vec<(Object, Object)>;

/// What an [`Object`] is.
pub(crate) enum Kind {
    None,
    Bool(bool),
    Int(i64),
    /// Two's complement, little-endian.
    Long(Vec<u8>),
    Float(f64),
    Complex(f64, f64),
    Str {
        text: Box<str>,
        literal: bool,
    },
    Bytes(Vec<u8>),
    ByteArray(Vec<u8>),
    List(Vec<Object>),
    Tuple(Vec<Object>),
    Set(Vec<Object>),
    Dict(Entries),
    OrderedDict {
        entries: Entries,
        attributes: Entries,
    },
    Tensor {
        tensor: Tensor,
        attributes: Entries,
    },
    Storage(Storage, Option<DType>),
    DType(DType),
    Size(Vec<usize>),
    Device(Location),
    Layout(Layout),
    /// A class or function by module and name.
    Global(Box<str>, Box<str>),
}

impl Object {
    fn new(kind: Kind) -> Self {
        Self(Arc::new(kind))
    }

    /// `None`.
    pub fn none() -> Self {
        Self::new(Kind::None)
    }

    /// A dict, its entries in order.
    pub fn dict<K: Into<Self>, V: Into<Self>>(entries: impl IntoIterator<Item = (K, V)>) -> Self {
        Self::new(Kind::Dict(pairs(entries)))
    }

    /// A `collections.OrderedDict`.
    pub fn ordered_dict<K: Into<Self>, V: Into<Self>>(entries: impl IntoIterator<Item = (K, V)>) -> Self {
        Self::new(Kind::OrderedDict { entries: pairs(entries), attributes: Vec::new() })
    }

    /// A `collections.OrderedDict` with Python attributes, such as the `_metadata` of a module's state dict.
    pub fn ordered_dict_with<K: Into<Self>, V: Into<Self>, A: Into<Self>, W: Into<Self>>(
        entries: impl IntoIterator<Item = (K, V)>,
        attributes: impl IntoIterator<Item = (A, W)>,
    ) -> Self {
        Self::new(Kind::OrderedDict { entries: pairs(entries), attributes: pairs(attributes) })
    }

    /// A list.
    pub fn list<T: Into<Self>>(items: impl IntoIterator<Item = T>) -> Self {
        Self::new(Kind::List(items.into_iter().map(Into::into).collect()))
    }

    /// A tuple.
    pub fn tuple<T: Into<Self>>(items: impl IntoIterator<Item = T>) -> Self {
        Self::new(Kind::Tuple(items.into_iter().map(Into::into).collect()))
    }

    /// A set. Its members are written in this order; Python's own order is that of their hashes.
    pub fn set<T: Into<Self>>(items: impl IntoIterator<Item = T>) -> Self {
        Self::new(Kind::Set(items.into_iter().map(Into::into).collect()))
    }

    /// `bytes`.
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self::new(Kind::Bytes(bytes.into()))
    }

    /// `bytearray`.
    pub fn byte_array(bytes: impl Into<Vec<u8>>) -> Self {
        Self::new(Kind::ByteArray(bytes.into()))
    }

    /// A complex number.
    pub fn complex(re: f64, im: f64) -> Self {
        Self::new(Kind::Complex(re, im))
    }

    /// An integer of any size: two's complement, least significant byte first.
    pub fn big_int(bytes: &[u8]) -> Self {
        match i64::try_from(BigInt::from_signed_bytes_le(bytes)) {
            Ok(int) => int.into(),
            Err(_) => Self::new(Kind::Long(bytes.to_vec())),
        }
    }

    /// A tensor with Python attributes of its own.
    pub fn tensor_with<K: Into<Self>, V: Into<Self>>(
        tensor: Tensor,
        attributes: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        Self::new(Kind::Tensor { tensor, attributes: pairs(attributes) })
    }

    /// A storage by itself, of elements, or of bytes where there is no element type.
    pub fn storage(storage: Storage, dtype: Option<DType>) -> Self {
        Self::new(Kind::Storage(storage, dtype))
    }

    /// A `torch.Size`.
    pub fn size(sizes: impl Into<Vec<usize>>) -> Self {
        Self::new(Kind::Size(sizes.into()))
    }

    /// A class or function by name; loading imports it.
    pub fn global(module: impl Into<Box<str>>, name: impl Into<Box<str>>) -> Self {
        Self::new(Kind::Global(module.into(), name.into()))
    }
}

impl Object {
    /// Python's name of its type, where it can be no key.
    pub(crate) fn unhashable(&self) -> Option<&'static str> {
        Some(match &*self.0 {
            Kind::List(_) => "list",
            Kind::Dict(_) | Kind::OrderedDict { .. } => "dict",
            Kind::Set(_) => "set",
            Kind::ByteArray(_) => "bytearray",
            _ => return None,
        })
    }

    /// Every tensor in it, once for each object that is one.
    pub(crate) fn tensors(&self) -> Vec<Tensor> {
        let tensor = |object: &Self| match &*object.0 {
            Kind::Tensor { tensor, .. } => Some(tensor.clone()),
            _ => None,
        };
        self.all().filter_map(tensor).collect()
    }

    /// Itself and every object in it, once each.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Self> {
        let (mut seen, mut open) = (HashSet::new(), vec![self]);
        std::iter::from_fn(move || {
            loop {
                let object = open.pop()?;
                if seen.insert(Arc::as_ptr(&object.0).addr()) {
                    open.extend(object.parts());
                    return Some(object);
                }
            }
        })
    }
}

fn pairs<K: Into<Object>, V: Into<Object>>(entries: impl IntoIterator<Item = (K, V)>) -> Entries {
    entries.into_iter().map(|(key, value)| (key.into(), value.into())).collect()
}

/// Whether CPython has one text of this, however it is made: of none, or of one letter of Latin-1.
pub(crate) fn is_always_one(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_none_or(|letter| u32::from(letter) < 256) && letters.next().is_none()
}

/// Types that become one kind of object.
macro_rules! from {
    ($($type:ty, $value:ident => $kind:expr;)*) => {
        $(impl From<$type> for Object {
            fn from($value: $type) -> Self {
                Self::new($kind)
            }
        })*
    };
}

from! {
    bool, bool => Kind::Bool(bool);
    i64, int => Kind::Int(int);
    i32, int => Kind::Int(int.into());
    i16, int => Kind::Int(int.into());
    i8, int => Kind::Int(int.into());
    u16, int => Kind::Int(int.into());
    u32, int => Kind::Int(int.into());
    u8, int => Kind::Int(int.into());
    f64, float => Kind::Float(float);
    f32, float => Kind::Float(float.into());
    &str, text => Kind::Str { text: text.into(), literal: true };
    String, text => Kind::Str { literal: is_always_one(&text), text: text.into() };
    DType, dtype => Kind::DType(dtype);
    Location, location => Kind::Device(location);
    Layout, layout => Kind::Layout(layout);
    Tensor, tensor => Kind::Tensor { tensor, attributes: Vec::new() };
}

impl From<u64> for Object {
    fn from(int: u64) -> Self {
        match i64::try_from(int) {
            Ok(int) => int.into(),
            Err(_) => Self::big_int(&BigInt::from(int).to_signed_bytes_le()),
        }
    }
}

impl From<usize> for Object {
    fn from(int: usize) -> Self {
        u64::try_from(int).unwrap_or(u64::MAX).into()
    }
}

impl<T: Into<Self>> From<Option<T>> for Object {
    /// `None`, or the value.
    fn from(value: Option<T>) -> Self {
        value.map_or_else(Self::none, Into::into)
    }
}

impl<T: Into<Self>> From<Vec<T>> for Object {
    fn from(items: Vec<T>) -> Self {
        Self::list(items)
    }
}

impl From<StateDict> for Object {
    /// An ordered dict, as `torch.nn.Module.state_dict` gives.
    fn from(state_dict: StateDict) -> Self {
        Self::from(&state_dict)
    }
}

impl From<&StateDict> for Object {
    fn from(state_dict: &StateDict) -> Self {
        Self::ordered_dict(state_dict.iter().map(|(name, tensor)| (name.to_owned(), tensor.clone())))
    }
}

impl std::fmt::Debug for Object {
    /// What it is, and how much of it: a tree may be as deep as it likes, and hold itself often.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &*self.0 {
            Kind::None => f.write_str("None"),
            Kind::Bool(bool) => write!(f, "{bool}"),
            Kind::Int(int) => write!(f, "{int}"),
            Kind::Long(bytes) => write!(f, "<integer of {} bytes>", bytes.len()),
            Kind::Float(float) => write!(f, "{float:?}"),
            Kind::Complex(re, im) => write!(f, "complex({re:?}, {im:?})"),
            Kind::Str { text, .. } => write!(f, "{text:?}"),
            Kind::Bytes(bytes) | Kind::ByteArray(bytes) => write!(f, "<{} bytes>", bytes.len()),
            Kind::List(items) => write!(f, "<list of {}>", items.len()),
            Kind::Tuple(items) => write!(f, "<tuple of {}>", items.len()),
            Kind::Set(items) => write!(f, "<set of {}>", items.len()),
            Kind::Dict(entries) | Kind::OrderedDict { entries, .. } => {
                write!(f, "<dict of {}>", entries.len())
            }
            Kind::Tensor { tensor, .. } => write!(f, "{tensor:?}"),
            Kind::Storage(storage, _) => write!(f, "{storage:?}"),
            Kind::DType(dtype) => write!(f, "torch.{dtype}"),
            Kind::Size(sizes) => write!(f, "torch.Size({sizes:?})"),
            Kind::Device(location) => write!(f, "device({location})"),
            Kind::Layout(layout) => write!(f, "torch.{}", layout.name()),
            Kind::Global(module, name) => write!(f, "<{module}.{name}>"),
        }
    }
}

impl Drop for Object {
    /// Without recursion: trees may be as deep as they like.
    fn drop(&mut self) {
        let mut open = Vec::new();
        take_children(self, &mut open);
        while let Some(mut object) = open.pop() {
            take_children(&mut object, &mut open);
        }
    }
}

/// Moves what an object holds out of it, if nobody else holds the object.
fn take_children(object: &mut Object, out: &mut Vec<Object>) {
    let mut take =
        |entries: &mut Entries| out.extend(entries.drain(..).flat_map(|(key, value)| [key, value]));
    match Arc::get_mut(&mut object.0) {
        Some(Kind::Dict(entries) | Kind::Tensor { attributes: entries, .. }) => take(entries),
        Some(Kind::OrderedDict { entries, attributes }) => {
            take(entries);
            take(attributes);
        }
        Some(Kind::List(items) | Kind::Tuple(items) | Kind::Set(items)) => out.append(items),
        _ => {}
    }
}
