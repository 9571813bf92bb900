//! A caller's own types as objects to be saved, through serde: what `Value::deserialize` reads back.

use std::fmt;

use serde::ser::{
    Error as _, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTuple, SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use crate::error::{Error, Result};
use crate::object::{Entries, Object};

impl Object {
    /// What a type of the caller's is in Python: structs and maps are dicts, sequences lists, tuples tuples, `None` and
    /// `()` are `None`; a variant of an enum is its name, or a dict of its name and its content.
    /// [`Value::deserialize`](crate::Value::deserialize) reads it back.
    ///
    /// ```
    /// #[derive(serde::Serialize)]
    /// struct Config {
    ///     lr: f64,
    ///     betas: (f64, f64),
    /// }
    ///
    /// let config = ptser_core::Object::of(&Config { lr: 1e-3, betas: (0.9, 0.999) })?;
    /// # assert_eq!(format!("{config:?}"), "<dict of 2>");
    /// # Ok::<(), ptser_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Misuse` in the words of the type's own `Serialize`.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        value.serialize(ToObject).map_err(|Refused(why)| Error::misuse(why))
    }
}

/// Why a type would not be serialized.
#[derive(Debug)]
struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

impl serde::ser::Error for Refused {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// Makes one object.
struct ToObject;

/// What holds several, until all are there.
struct Several {
    /// The variant that they are the content of.
    variant: Option<&'static str>,
    items: Vec<Object>,
    make: fn(Vec<Object>) -> Object,
}

/// Keys and values, until all are there.
struct Pairs {
    variant: Option<&'static str>,
    entries: Entries,
    key: Option<Object>,
}

fn under(variant: Option<&'static str>, content: Object) -> Object {
    match variant {
        Some(variant) => Object::dict([(variant, content)]),
        None => content,
    }
}

/// Methods that take a number, or what else becomes an object by itself.
macro_rules! from {
    ($($method:ident: $type:ty),* $(,)?) => {
        $(fn $method(self, value: $type) -> Result<Object, Refused> {
            Ok(value.into())
        })*
    };
}

impl Serializer for ToObject {
    type Ok = Object;
    type Error = Refused;
    type SerializeSeq = Several;
    type SerializeTuple = Several;
    type SerializeTupleStruct = Several;
    type SerializeTupleVariant = Several;
    type SerializeMap = Pairs;
    type SerializeStruct = Pairs;
    type SerializeStructVariant = Pairs;

    from! {
        serialize_bool: bool,
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
        serialize_f32: f32, serialize_f64: f64,
        serialize_str: &str,
    }

    fn serialize_i128(self, value: i128) -> Result<Object, Refused> {
        Ok(Object::big_int(&value.to_le_bytes()))
    }

    fn serialize_u128(self, value: u128) -> Result<Object, Refused> {
        let mut bytes = value.to_le_bytes().to_vec();
        bytes.push(0);
        Ok(Object::big_int(&bytes))
    }

    fn serialize_char(self, value: char) -> Result<Object, Refused> {
        Ok(value.to_string().into())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<Object, Refused> {
        Ok(Object::bytes(value))
    }

    fn serialize_none(self) -> Result<Object, Refused> {
        Ok(Object::none())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Object, Refused> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Object, Refused> {
        Ok(Object::none())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<Object, Refused> {
        Ok(Object::none())
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<Object, Refused> {
        Ok(variant.into())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<Object, Refused> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Object, Refused> {
        Ok(under(Some(variant), value.serialize(self)?))
    }

    fn serialize_seq(self, _len: Option<usize>) -> Result<Several, Refused> {
        Ok(Several { variant: None, items: Vec::new(), make: |items| Object::list(items) })
    }

    fn serialize_tuple(self, _len: usize) -> Result<Several, Refused> {
        Ok(Several { variant: None, items: Vec::new(), make: |items| Object::tuple(items) })
    }

    fn serialize_tuple_struct(self, _name: &'static str, len: usize) -> Result<Several, Refused> {
        self.serialize_tuple(len)
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Several, Refused> {
        Ok(Several { variant: Some(variant), ..self.serialize_tuple(len)? })
    }

    fn serialize_map(self, _len: Option<usize>) -> Result<Pairs, Refused> {
        Ok(Pairs { variant: None, entries: Vec::new(), key: None })
    }

    fn serialize_struct(self, _name: &'static str, len: usize) -> Result<Pairs, Refused> {
        self.serialize_map(Some(len))
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Pairs, Refused> {
        Ok(Pairs { variant: Some(variant), ..self.serialize_map(Some(len))? })
    }
}

/// The traits of what holds items; they differ in the names of their methods.
macro_rules! several {
    ($($trait:ident, $method:ident;)*) => {
        $(impl $trait for Several {
            type Ok = Object;
            type Error = Refused;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
                self.items.push(value.serialize(ToObject)?);
                Ok(())
            }

            fn end(self) -> Result<Object, Refused> {
                Ok(under(self.variant, (self.make)(self.items)))
            }
        })*
    };
}

several! {
    SerializeSeq, serialize_element;
    SerializeTuple, serialize_element;
    SerializeTupleStruct, serialize_field;
    SerializeTupleVariant, serialize_field;
}

impl Pairs {
    fn finish(self) -> Object {
        under(self.variant, Object::dict(self.entries))
    }
}

impl SerializeMap for Pairs {
    type Ok = Object;
    type Error = Refused;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Refused> {
        self.key = Some(key.serialize(ToObject)?);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        let key = self.key.take().ok_or_else(|| Refused::custom("a value of a map came without its key"))?;
        self.entries.push((key, value.serialize(ToObject)?));
        Ok(())
    }

    fn end(self) -> Result<Object, Refused> {
        Ok(self.finish())
    }
}

/// The traits of what holds fields.
macro_rules! fields {
    ($($trait:ident)*) => {
        $(impl $trait for Pairs {
            type Ok = Object;
            type Error = Refused;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                key: &'static str,
                value: &T,
            ) -> Result<(), Refused> {
                self.entries.push((key.into(), value.serialize(ToObject)?));
                Ok(())
            }

            fn end(self) -> Result<Object, Refused> {
                Ok(self.finish())
            }
        })*
    };
}

fields! { SerializeStruct SerializeStructVariant }
