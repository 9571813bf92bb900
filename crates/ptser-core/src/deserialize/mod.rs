//! Values into a caller's own types, through serde. Knows values, and nothing of the pickles behind them.

mod access;
mod array;
mod failure;
mod number;
mod shape;
mod sharing;
mod variant;

use std::borrow::Cow;

use serde::de::value::SeqDeserializer;
use serde::de::{Deserialize, Deserializer, Expected, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use self::access::{Items, Map};
use self::failure::{Failure, describe};
use self::shape::{Entries, content, fields, is_bare, is_single, mapping, parts, tag};
use self::sharing::Sharing;
use crate::error::{Error, Result};
use crate::repr::Repr;
use crate::value::{Value, ValueKind};

impl<'c> Value<'c> {
    /// Reads it into a type of the caller's, which may borrow text and bytes from the checkpoint.
    ///
    /// | in the checkpoint | in Rust |
    /// |---|---|
    /// | `None` | `()`, `Option::None` |
    /// | bools, integers, floats, text, bytes | themselves; an integer is a float where that is exact |
    /// | lists, tuples, sets, deques, `torch.Size`; bytes too | sequences, tuples |
    /// | paths, points in time | text: `"/data/x"`, `"2024-01-02T03:04:05"` |
    /// | NumPy arrays and scalars of numbers | sequences of sequences of numbers; numbers |
    /// | complex numbers | sequences of two floats |
    /// | dicts of every kind | maps, structs |
    /// | devices, dtypes, layouts, classes | their names: `"cuda:0"`, `"float32"`, `"strided"`, `"models.Net"` |
    /// | objects with attributes, subclasses of `dict` | maps, structs |
    /// | subclasses of `list`; objects made from several arguments: named tuples | sequences, tuples, structs |
    /// | objects made from one argument: members of a Python enum | that argument |
    ///
    /// A variant of an enum is named by text, by the one key of a dict that holds its content, or by an object:
    /// by the value of a Python enum (`#[serde(rename = "2")]` where that is a number), or else by its class.
    /// Tensors and storages are errors unless they are ignored, as fields are that a struct does not have:
    /// [`as_tensor`](Self::as_tensor) and [`kind`](Self::kind) read them.
    ///
    /// # Errors
    /// `Misuse` that names the path from this value to what does not fit; so too where values are shared so often that
    /// reading them again and again would not end. `LimitExceeded` where they nest deeper than
    /// [`Limits::nesting`](crate::Limits::nesting) allows, as those do that contain themselves.
    ///
    /// ```no_run
    /// #[derive(serde::Deserialize)]
    /// struct Hyperparameters<'c> {
    ///     lr: f64,
    ///     betas: (f64, f64),
    ///     warmup: Option<u64>,
    ///     #[serde(borrow)]
    ///     name: &'c str,
    /// }
    ///
    /// let globals = ptser_core::Globals::weights_only().allow("argparse.Namespace");
    /// let checkpoint = ptser_core::LoadOptions::new().globals(globals).open("last.ckpt")?;
    /// let read: Hyperparameters = checkpoint.root().get("hyper_parameters")?.deserialize()?;
    /// println!("{} with {} and {:?}, {:?}", read.name, read.lr, read.betas, read.warmup);
    /// # Ok::<(), ptser_core::Error>(())
    /// ```
    pub fn deserialize<T: Deserialize<'c>>(self) -> Result<T> {
        let sharing = Sharing::among(self.document.graph.len());
        let at = At { value: self, depth: self.document.nesting, sharing: &sharing };
        T::deserialize(at).map_err(Error::from)
    }
}

/// A place on the way through the values.
#[derive(Clone, Copy)]
struct At<'c, 'b> {
    value: Value<'c>,
    /// Levels left below.
    depth: u64,
    sharing: &'b Sharing,
}

impl<'c> At<'c, '_> {
    /// Goes one level down. Options and newtypes are levels too: a type can be made of them without end.
    fn inner(self, value: Value<'c>) -> Result<Self, Failure> {
        let too_deep = || Failure::too_deep(self.value.document.nesting);
        let depth = self.depth.checked_sub(1).ok_or_else(too_deep)?;
        Ok(Self { value, depth, ..self })
    }

    /// What an object stands for, and so on.
    fn unwrapped(self) -> Result<Self, Failure> {
        let mut at = self;
        while let Some(content) = content(at.value) {
            at = at.inner(content)?;
        }
        Ok(at)
    }

    fn misfit(self, expected: &dyn Expected) -> Failure {
        Failure::misfit(expected, describe(self.value))
    }

    fn text<V: Visitor<'c>>(self, text: &'c str, visitor: V) -> Result<V::Value, Failure> {
        self.sharing.text(self.value.id, text.len())?;
        visitor.visit_borrowed_str(text)
    }

    fn bytes<V: Visitor<'c>>(self, bytes: &'c [u8], visitor: V) -> Result<V::Value, Failure> {
        self.sharing.text(self.value.id, bytes.len())?;
        visitor.visit_borrowed_bytes(bytes)
    }

    fn items<V: Visitor<'c>>(
        self,
        items: impl Iterator<Item = Value<'c>>,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.sharing.members(items.size_hint().0)?;
        let mut items = Items::new(self, items);
        match visitor.visit_seq(&mut items) {
            Ok(value) => items.end().map(|()| value),
            Err(failure) if !items.begun => Err(failure.of(self.value)),
            Err(failure) => Err(failure),
        }
    }

    fn map<V: Visitor<'c>>(self, entries: Entries<'c>, visitor: V) -> Result<V::Value, Failure> {
        let mut map = Map::new(self, entries);
        match visitor.visit_map(&mut map) {
            Err(failure) if !map.begun => Err(failure.of(self.value)),
            outcome => outcome,
        }
    }

    /// The entries of a dict of any kind, or of an object that has some.
    fn entries(self) -> Result<Option<Entries<'c>>, Failure> {
        let value = self.value;
        let entries = if value.is_mapping() { Some(mapping(value)) } else { fields(value) };
        self.sharing.members(entries.as_ref().map_or(0, Vec::len))?;
        Ok(entries)
    }

    /// A dict, or an object: what it stands for, or else its entries, or else its members.
    fn object<V: Visitor<'c>>(self, visitor: V) -> Result<V::Value, Failure> {
        if let Some(content) = content(self.value) {
            self.inner(content)?.deserialize_any(visitor)
        } else if let Some(entries) = self.entries()? {
            self.map(entries, visitor)
        } else {
            self.items(parts(self.value).into_iter(), visitor)
        }
    }
}

impl<'c> Deserializer<'c> for At<'c, '_> {
    type Error = Failure;

    fn deserialize_any<V: Visitor<'c>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.value.kind() {
            ValueKind::None => visitor.visit_unit(),
            ValueKind::Bool(bool) => visitor.visit_bool(bool),
            // As other formats have it: visitors that know one sign only know this one.
            ValueKind::Int(int) => match u64::try_from(int) {
                Ok(int) => visitor.visit_u64(int),
                Err(_) => visitor.visit_i64(int),
            },
            ValueKind::BigInt(int) => self.big_integer(int, visitor),
            ValueKind::Float(float) => visitor.visit_f64(float),
            ValueKind::Complex(re, im) => {
                let parts = SeqDeserializer::new([re, im].into_iter());
                numbers(parts, visitor).map_err(|failure| failure.of(self.value))
            }
            ValueKind::Str(text)
            | ValueKind::Global(text)
            | ValueKind::Path(text)
            | ValueKind::Time(text) => self.text(text, visitor),
            ValueKind::Array(array) => self.array(array, visitor),
            ValueKind::Device(location) => self.text(location.as_str(), visitor),
            ValueKind::DType(dtype) => self.text(dtype.name(), visitor),
            ValueKind::Layout(layout) => self.text(layout.name(), visitor),
            ValueKind::Surrogates(bytes) => {
                self.bytes(bytes, visitor).map_err(|failure| failure.of(self.value))
            }
            ValueKind::Bytes(bytes) | ValueKind::ByteArray(bytes) => self.bytes(bytes, visitor),
            ValueKind::List
            | ValueKind::Tuple
            | ValueKind::Deque
            | ValueKind::Size
            | ValueKind::Set
            | ValueKind::FrozenSet => self.items(self.value.items(), visitor),
            ValueKind::Tensor(_) | ValueKind::Storage(..) | ValueKind::Damaged(_) => {
                Err(self.misfit(&visitor))
            }
            ValueKind::Dict
            | ValueKind::OrderedDict
            | ValueKind::Counter
            | ValueKind::DefaultDict
            | ValueKind::Object => self.object(visitor),
        }
    }

    fn deserialize_f32<V: Visitor<'c>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.float(24, 128, visitor)
    }

    fn deserialize_f64<V: Visitor<'c>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.float(53, 1024, visitor)
    }

    fn deserialize_option<V: Visitor<'c>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.value.kind() {
            ValueKind::None => visitor.visit_none(),
            _ => visitor.visit_some(self.inner(self.value)?),
        }
    }

    fn deserialize_unit<V: Visitor<'c>>(self, visitor: V) -> Result<V::Value, Failure> {
        if is_bare(self.value) {
            return visitor.visit_unit();
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'c>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'c>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        visitor.visit_newtype_struct(self.inner(self.value)?)
    }

    fn deserialize_seq<V: Visitor<'c>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.value.kind() {
            ValueKind::Bytes(bytes) | ValueKind::ByteArray(bytes) => {
                self.sharing.text(self.value.id, bytes.len())?;
                numbers(SeqDeserializer::new(bytes.iter().copied()), visitor)
            }
            ValueKind::Object => match content(self.value) {
                // One argument is a sequence itself, or else the only member of one.
                Some(content) if !is_single(content) => self.inner(content)?.deserialize_seq(visitor),
                _ => match parts(self.value) {
                    parts if parts.is_empty() => self.object(visitor),
                    parts => self.items(parts.into_iter(), visitor),
                },
            },
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'c>>(self, _: usize, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'c>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_struct<V: Visitor<'c>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        match content(self.value) {
            Some(content) if is_single(content) => self.deserialize_seq(visitor),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'c>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        match self.choice(variants)? {
            Some(choice) => visitor.visit_enum(choice),
            None => Err(self.misfit(&visitor)),
        }
    }

    /// The name of a field: text always, for a number would be taken for the field's place.
    fn deserialize_identifier<V: Visitor<'c>>(self, visitor: V) -> Result<V::Value, Failure> {
        match tag(self.unwrapped()?.value) {
            Some(Cow::Borrowed(text)) => visitor.visit_borrowed_str(text),
            Some(Cow::Owned(text)) => visitor.visit_string(text),
            None => visitor.visit_string(Repr::short(self.value)),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'c>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! { <W: Visitor<'c>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 char str string bytes byte_buf map
    }
}

/// Reads a sequence of plain numbers to its end.
fn numbers<'c, I, N, V>(mut numbers: SeqDeserializer<I, Failure>, visitor: V) -> Result<V::Value, Failure>
where
    I: Iterator<Item = N>,
    N: IntoDeserializer<'c, Failure>,
    V: Visitor<'c>,
{
    let value = visitor.visit_seq(&mut numbers)?;
    numbers.end().map(|()| value)
}
