//! Values as Rust's own types.

use super::{Value, ValueKind};
use crate::error::{Error, Result};
use crate::repr::Repr;
use crate::tensor::Tensor;

impl<'c> Value<'c> {
    /// Whether it is `None`.
    pub fn is_none(self) -> bool {
        matches!(self.kind(), ValueKind::None)
    }

    /// The text; a path is text too, and so is a point in time.
    ///
    /// # Errors
    /// `Misuse` where it is something else.
    pub fn as_str(self) -> Result<&'c str> {
        match self.kind() {
            ValueKind::Str(text) | ValueKind::Path(text) | ValueKind::Time(text) => Ok(text),
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

    /// The tensor; a NumPy array of numbers is one too.
    ///
    /// # Errors
    /// `Misuse` where it is something else.
    pub fn as_tensor(self) -> Result<&'c Tensor> {
        let tensor = self.document.tensor(self.id).or_else(|| self.document.array(self.id));
        tensor.ok_or_else(|| self.is_not("a tensor"))
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
