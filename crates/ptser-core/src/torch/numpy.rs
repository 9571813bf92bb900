//! What NumPy pickles: element types, arrays and scalars, decoded without NumPy.

use super::interpret::{Meaning, Reading};
use super::names::{Known, Numpy};
use crate::bounds::{overflow, view_of};
use crate::byte_order::{ByteOrder, swap_in_place};
use crate::dtype::DType;
use crate::error::{Error, Reason, Result};
use crate::layout;
use crate::number::Number;
use crate::pickle::{Node, NodeId, Object};
use crate::sizes::Sizes;
use crate::storage::Storage;
use crate::tensor::Tensor;

/// An element type of NumPy.
#[derive(Clone, Copy)]
struct Element {
    kind: Kind,
    order: ByteOrder,
}

#[derive(Clone, Copy)]
enum Kind {
    Number(DType),
    /// `U`: four bytes a character.
    Text,
    /// `S`.
    Bytes,
}

/// What an array's state tells.
struct Parts {
    shape: NodeId,
    element: NodeId,
    fortran: bool,
    bytes: NodeId,
}

impl Reading<'_> {
    /// The meaning of a call of NumPy's; `None` for what no tensor, number or text can hold: arrays of Python
    /// objects, records, dates.
    pub(super) fn numpy(&mut self, call: Numpy, object: &Object, args: &[NodeId]) -> Result<Option<Meaning>> {
        match call {
            Numpy::DType => Ok(self.element_of(object).and_then(|element| match element.kind {
                Kind::Number(dtype) => Some(Meaning::DType(dtype)),
                Kind::Text | Kind::Bytes => None,
            })),
            Numpy::Scalar => match args {
                &[element, bytes] => self.scalar(element, bytes),
                _ => Ok(None),
            },
            Numpy::Reconstruct => {
                let state = object.more.as_deref().and_then(|more| more.states.last());
                // A version before them, since NumPy 1.0.
                match state.and_then(|&state| self.graph.tuple(state)) {
                    Some(&[_, shape, element, fortran, bytes] | &[shape, element, fortran, bytes]) => {
                        let fortran = match self.graph.node(fortran) {
                            Node::Bool(fortran) => fortran,
                            Node::Int(fortran) => fortran != 0,
                            _ => return Ok(None),
                        };
                        self.array(Parts { shape, element, fortran, bytes })
                    }
                    _ => Ok(None),
                }
            }
            Numpy::FromBuffer => match args {
                &[bytes, element, shape, order] => {
                    let fortran = self.graph.str(order) == Some("F");
                    self.array(Parts { shape, element, fortran, bytes })
                }
                _ => Ok(None),
            },
        }
    }

    fn array(&mut self, parts: Parts) -> Result<Option<Meaning>> {
        let Some(Element { kind: Kind::Number(dtype), order }) = self.element(parts.element) else {
            return Ok(None);
        };
        let shape = self.dims(parts.shape, "size")?;
        let nbytes = layout::numel(&shape).and_then(|numel| numel.checked_mul(dtype.element_size()));
        let nbytes = nbytes.ok_or_else(|| overflow(&shape))?;
        let bytes = self.array_bytes(parts.bytes, nbytes)?;
        let stride = if parts.fortran {
            fortran_stride(&shape)
        } else {
            layout::contiguous_stride(&shape).as_slice().into()
        };
        let storage = Storage::in_memory(Some(dtype), order, bytes);
        let array = view_of(storage, dtype, shape, stride, 0)?;
        self.arrays.push(array.into());
        Ok(Some(Meaning::Array(self.arrays.len().saturating_sub(1))))
    }

    /// The array that a node is.
    pub(super) fn array_of(&self, id: NodeId) -> Result<&Tensor> {
        match self.meaning_of(id) {
            Some(Meaning::Array(place)) => self.arrays.get(*place),
            _ => None,
        }
        .ok_or_else(|| self.wrong(id, "a NumPy array of numbers"))
    }

    fn scalar(&self, element: NodeId, bytes: NodeId) -> Result<Option<Meaning>> {
        let Some(Element { kind, order }) = self.element(element) else { return Ok(None) };
        let mut bytes = match kind {
            Kind::Number(dtype) => self.array_bytes(bytes, dtype.element_size())?,
            Kind::Text | Kind::Bytes => match self.fresh_bytes(bytes)? {
                Some(bytes) => bytes,
                None => return Ok(None),
            },
        };
        let dtype = match kind {
            Kind::Number(dtype) => dtype,
            Kind::Text => return Ok(text(&bytes, order).map(Meaning::Text)),
            Kind::Bytes => return Ok(Some(Meaning::Bytes(bytes.into()))),
        };
        if order == ByteOrder::Big {
            swap_in_place(&mut bytes, dtype.swap_unit());
        }
        Ok(Number::read(dtype, &bytes).map(|number| match number {
            Number::Bool(bool) => Meaning::Bool(bool),
            Number::Int(int) => Meaning::Int(int),
            Number::UInt(int) => match i64::try_from(int) {
                Ok(int) => Meaning::Int(int),
                Err(_) => {
                    let mut long = [0; 9];
                    long.iter_mut().zip(int.to_le_bytes()).for_each(|(to, from)| *to = from);
                    Meaning::Long(long)
                }
            },
            Number::Float(float) => Meaning::Float(float),
            Number::Complex(re, im) => Meaning::Complex(re, im),
        }))
    }

    /// The bytes of so many elements. Python 2 wrote them as a string, whose bytes these are, or which an encoding
    /// made Latin-1 text of.
    fn array_bytes(&self, id: NodeId, nbytes: usize) -> Result<Vec<u8>> {
        let bytes = match self.graph.str(id) {
            Some(text) if text.len() == nbytes => {
                self.charge(nbytes)?;
                Some(text.as_bytes().to_vec())
            }
            Some(text) => {
                self.charge(text.len())?;
                latin1(text)
            }
            None => self.fresh_bytes(id)?,
        };
        let bytes = bytes.ok_or_else(|| self.wrong(id, "the bytes of an array"))?;
        if bytes.len() != nbytes {
            return Err(Error::from(Reason::Object(format!(
                "{} bytes of a NumPy array, whose type and shape take {nbytes}",
                bytes.len()
            ))));
        }
        Ok(bytes)
    }

    fn element(&self, id: NodeId) -> Option<Element> {
        let (_, object) = self.graph.object(id)?;
        (self.known_global(object.callable) == Some(Known::Numpy(Numpy::DType)))
            .then(|| self.element_of(object))?
    }

    /// `dtype('f4', False, True)`, then the state `(3, '<', None, None, None, -1, -1, 0)`.
    fn element_of(&self, object: &Object) -> Option<Element> {
        let code = self.graph.str(*self.graph.tuple(object.args)?.first()?)?;
        let state = object.more.as_deref().and_then(|more| more.states.last());
        let order = match state {
            None => None,
            Some(&state) => {
                let &[_, order, subarray, names, fields, ..] = self.graph.tuple(state)? else { return None };
                let plain = |id: NodeId| matches!(self.graph.node(id), Node::None);
                if !(plain(subarray) && plain(names) && plain(fields)) {
                    return None;
                }
                Some(self.graph.str(order)?)
            }
        };
        let (own, code) = match code.split_at_checked(1)? {
            (own @ ("<" | ">" | "=" | "|"), code) => (own, code),
            _ => ("<", code),
        };
        let order = if order.unwrap_or(own) == ">" { ByteOrder::Big } else { ByteOrder::Little };
        Some(Element { kind: kind(code)?, order })
    }
}

/// NumPy's code of a type: a letter, and the bytes or characters of an element.
fn kind(code: &str) -> Option<Kind> {
    Some(Kind::Number(match code {
        "b1" | "?" => DType::Bool,
        "i1" => DType::Int8,
        "i2" => DType::Int16,
        "i4" => DType::Int32,
        "i8" => DType::Int64,
        "u1" => DType::UInt8,
        "u2" => DType::UInt16,
        "u4" => DType::UInt32,
        "u8" => DType::UInt64,
        "f2" => DType::Float16,
        "f4" => DType::Float32,
        "f8" => DType::Float64,
        "c8" => DType::Complex64,
        "c16" => DType::Complex128,
        _ => {
            let (kind, size) = code.split_at_checked(1)?;
            let sized = size.bytes().all(|byte| byte.is_ascii_digit());
            return match kind {
                "U" if sized => Some(Kind::Text),
                "S" if sized => Some(Kind::Bytes),
                _ => None,
            };
        }
    }))
}

/// Characters of four bytes each, as far as they are characters.
fn text(bytes: &[u8], order: ByteOrder) -> Option<Box<str>> {
    let (chars, rest) = bytes.as_chunks::<4>();
    let char = |&bytes: &[u8; 4]| {
        char::from_u32(match order {
            ByteOrder::Little => u32::from_le_bytes(bytes),
            ByteOrder::Big => u32::from_be_bytes(bytes),
        })
    };
    let text = chars.iter().map(char).collect::<Option<String>>().filter(|_| rest.is_empty())?;
    // The type may be longer than the text.
    Some(text.trim_end_matches('\0').into())
}

/// The bytes that Latin-1 makes these characters of.
pub(super) fn latin1(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|char| u8::try_from(u32::from(char)).ok()).collect()
}

/// The first index runs fastest.
fn fortran_stride(shape: &[usize]) -> Sizes {
    let mut step = 1_usize;
    let strides = shape.iter().map(|&size| {
        let stride = step;
        step = step.saturating_mul(size.max(1));
        stride
    });
    strides.collect()
}
