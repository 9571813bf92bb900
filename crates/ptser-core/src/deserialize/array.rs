//! NumPy arrays as sequences of sequences of numbers.

use serde::de::value::SeqDeserializer;
use serde::de::{Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::failure::Failure;
use super::{At, numbers};
use crate::dtype::DType;
use crate::number::Number;
use crate::tensor::Tensor;

impl<'c> At<'c, '_> {
    pub(super) fn array<V: Visitor<'c>>(self, array: &Tensor, visitor: V) -> Result<V::Value, Failure> {
        self.sharing.text(self.value.id, array.nbytes())?;
        if array.nbytes() == 0 {
            // Rows without elements cost nothing in the file.
            let rows = array.shape().iter().take_while(|&&size| size > 0);
            self.sharing.members(rows.fold(1, |rows: usize, &size| rows.saturating_mul(size)))?;
        }
        let bytes = array.to_contiguous().map_err(|error| Failure::misfit(&visitor, error.to_string()))?;
        Block { dtype: array.dtype(), bytes: &bytes, shape: array.shape() }.deserialize_any(visitor)
    }
}

/// A part of an array, in C order.
struct Block<'b> {
    dtype: DType,
    bytes: &'b [u8],
    shape: &'b [usize],
}

impl<'c> Deserializer<'c> for Block<'_> {
    type Error = Failure;

    fn deserialize_any<V: Visitor<'c>>(self, visitor: V) -> Result<V::Value, Failure> {
        let Self { dtype, bytes, shape } = self;
        if let Some((&size, shape)) = shape.split_first() {
            let step = bytes.len().checked_div(size).unwrap_or(0);
            let row = |row: usize| {
                let start = row.saturating_mul(step);
                let bytes = bytes.get(start..start.saturating_add(step)).unwrap_or_default();
                Self { dtype, bytes, shape }
            };
            return numbers(SeqDeserializer::new((0..size).map(row)), visitor);
        }
        match Number::read(dtype, bytes) {
            Some(Number::Bool(bool)) => visitor.visit_bool(bool),
            Some(Number::Int(int)) => visitor.visit_i64(int),
            Some(Number::UInt(int)) => visitor.visit_u64(int),
            Some(Number::Float(float)) => visitor.visit_f64(float),
            Some(Number::Complex(re, im)) => numbers(SeqDeserializer::new([re, im].into_iter()), visitor),
            None => Err(Failure::misfit(&visitor, format!("an element of {dtype}"))),
        }
    }

    fn deserialize_option<V: Visitor<'c>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'c>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! { <W: Visitor<'c>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq
        tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'c> IntoDeserializer<'c, Failure> for Block<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}
