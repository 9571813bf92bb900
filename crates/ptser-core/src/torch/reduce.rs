//! Values that PyTorch's pickles build by a call: dictionaries, sets, bytes, complex numbers, sizes, devices.

use super::interpret::{MappingKind, Meaning, Reading, Spelling};
use super::names::Known;
use super::persistent::LOCATION_MAX;
use crate::byte_order::ByteOrder;
use crate::dtype::DType;
use crate::error::{Error, Reason, Result};
use crate::location::Location;
use crate::pickle::{Node, NodeId};
use crate::storage::Storage;
use crate::tensor::Layout;

impl Reading<'_> {
    /// The meaning of `known(*args)`; `None` where `known` is not callable.
    pub(super) fn value(&self, known: Known, args: &[NodeId]) -> Result<Option<Meaning>> {
        Ok(Some(match known {
            Known::OrderedDict => self.mapping(MappingKind::OrderedDict, args)?,
            Known::Counter => self.mapping(MappingKind::Counter, args)?,
            Known::DefaultDict => {
                self.mapping(MappingKind::DefaultDict, args.get(1..).unwrap_or_default())?
            }
            Known::Deque => self.deque(args)?,
            Known::Set => self.set(false, args)?,
            Known::FrozenSet => self.set(true, args)?,
            Known::Bytes => Meaning::Bytes(self.bytes("bytes", args)?),
            Known::ByteArray => Meaning::ByteArray(self.bytes("bytearray", args)?),
            Known::CodecsEncode => Meaning::Bytes(self.encode(args)?),
            Known::Complex => self.complex(args)?,
            Known::Size => self.size(args)?,
            Known::Device => self.device(args)?,
            Known::GetLayout => self.layout(args)?,
            Known::Path { windows } => return self.path(windows, args),
            Known::Time(moment) => return self.time(moment, args),
            Known::GetAttr => return Ok(self.member(args)),
            Known::DType(_)
            | Known::QScheme(_)
            | Known::StorageClass(_)
            | Known::ScriptStorageClass(_)
            | Known::UntypedStorage
            | Known::TypedStorage
            | Known::TensorClass { .. }
            | Known::LoadFromBytes
            | Known::Tensor
            | Known::Parameter
            | Known::Numpy(_)
            | Known::Rebuild(_) => return Ok(None),
        }))
    }

    /// `()`, `(dict,)`, or `(list of pairs,)`.
    fn mapping(&self, kind: MappingKind, args: &[NodeId]) -> Result<Meaning> {
        let base = match args {
            [] => None,
            &[base] => Some(base),
            _ => return Err(self.wrong_args("a mapping", args)),
        };
        if let Some(base) = base {
            self.charge(self.graph.members(base).len())?;
            let pairs = |members: &[NodeId]| members.iter().all(|&pair| self.is_pair(pair));
            let fits = match self.graph.node(base) {
                Node::Dict(_) => true,
                Node::List(_) | Node::Tuple(_) => {
                    kind != MappingKind::Counter && pairs(self.graph.members(base))
                }
                _ => false,
            };
            if !fits {
                return Err(self.wrong_args("a mapping", args));
            }
        }
        Ok(Meaning::Mapping { kind, base })
    }

    /// Old writers make pairs lists, newer ones tuples.
    fn is_pair(&self, id: NodeId) -> bool {
        matches!(self.graph.node(id), Node::Tuple(_) | Node::List(_)) && self.graph.members(id).len() == 2
    }

    /// `()`, `(items,)`, or `(items, maxlen)`.
    fn deque(&self, args: &[NodeId]) -> Result<Meaning> {
        let members = match args {
            [] => None,
            &[members] | &[members, _] => Some(members),
            _ => return Err(self.wrong_args("a deque", args)),
        };
        if members.is_some_and(|members| !matches!(self.graph.node(members), Node::List(_) | Node::Tuple(_)))
        {
            return Err(self.wrong_args("a deque", args));
        }
        Ok(Meaning::Deque { members })
    }

    fn set(&self, frozen: bool, args: &[NodeId]) -> Result<Meaning> {
        let members = match args {
            [] => None,
            &[members] => Some(members),
            _ => return Err(self.wrong_args("a set", args)),
        };
        if let Some(members) = members {
            self.charge(self.graph.members(members).len())?;
            let list = matches!(self.graph.node(members), Node::List(_) | Node::Tuple(_));
            let unhashable = |&id: &NodeId| {
                matches!(
                    self.graph.node(id),
                    Node::List(_) | Node::Dict(_) | Node::Set(_) | Node::ByteArray(_)
                )
            };
            if !list || self.graph.members(members).iter().any(unhashable) {
                return Err(self.wrong_args("a set", args));
            }
        }
        Ok(Meaning::Set { frozen, members })
    }

    /// `()`, `(bytes,)`, or `(str, codec)`. A length, which would make zeros, is refused.
    fn bytes(&self, what: &str, args: &[NodeId]) -> Result<Box<[u8]>> {
        match args {
            [] => Ok([].into()),
            &[bytes] => {
                let bytes = self.bytes_of(bytes).ok_or_else(|| self.wrong_args(what, args))?;
                self.charge(bytes.len())?;
                Ok(bytes.into())
            }
            _ => self.encode(args),
        }
    }

    /// The content of a node that is bytes.
    pub(super) fn bytes_of(&self, id: NodeId) -> Option<&[u8]> {
        match self.graph.node(id) {
            Node::Bytes(span) | Node::ByteArray(span) => Some(self.graph.bytes(span)),
            _ => match self.meaning_of(id)? {
                Meaning::Bytes(bytes) | Meaning::ByteArray(bytes) => Some(bytes),
                _ => None,
            },
        }
    }

    /// A copy of what bytes hold, also of those that a call makes behind the one at hand: states come after the
    /// objects that they are given to.
    pub(super) fn fresh_bytes(&self, id: NodeId) -> Result<Option<Vec<u8>>> {
        let made = self.graph.object(id).map(|(_, object)| (self.known_global(object.callable), object.args));
        match (self.graph.node(id), made) {
            (Node::Bytes(span) | Node::ByteArray(span), _) => {
                self.charge(span.len())?;
                Ok(Some(self.graph.bytes(span).to_vec()))
            }
            (_, Some((Some(Known::CodecsEncode | Known::Bytes | Known::ByteArray), args))) => {
                let args = self.graph.tuple(args).unwrap_or_default();
                // `bytearray(bytes)` may stand around the call that makes the bytes.
                match args {
                    &[inner] if self.graph.object(inner).is_some() => match self.bytes_of(inner) {
                        Some(bytes) => {
                            self.charge(bytes.len())?;
                            Ok(Some(bytes.to_vec()))
                        }
                        None => Ok(None),
                    },
                    _ => self.bytes("bytes", args).map(|bytes| Some(bytes.into())),
                }
            }
            _ => Ok(None),
        }
    }

    /// `_codecs.encode(str, codec)`: how protocol 2 spells bytes.
    fn encode(&self, args: &[NodeId]) -> Result<Box<[u8]>> {
        let &[text, codec] = args else { return Err(self.wrong_args("_codecs.encode", args)) };
        let (Some(text), Some(codec)) = (self.graph.str(text), self.graph.str(codec)) else {
            return Err(self.wrong_args("_codecs.encode", args));
        };
        self.charge(text.len())?;
        match codec.to_ascii_lowercase().as_str() {
            "latin1" | "latin-1" | "latin_1" | "iso-8859-1" | "iso8859-1" => {
                let bytes: Result<Vec<u8>, _> =
                    text.chars().map(|char| u8::try_from(u32::from(char))).collect();
                bytes.map(Vec::into_boxed_slice).map_err(|_| {
                    Reason::Object("a bytes literal holds characters beyond Latin-1".into()).into()
                })
            }
            "utf-8" | "utf8" => Ok(text.as_bytes().into()),
            "ascii" if text.is_ascii() => Ok(text.as_bytes().into()),
            _ => {
                Err(Reason::Refused(format!("_codecs.encode with codec {codec:?}, expected latin1 or utf-8"))
                    .into())
            }
        }
    }

    fn complex(&self, args: &[NodeId]) -> Result<Meaning> {
        let number = |id: NodeId| match self.graph.node(id) {
            Node::Float(float) => Some(float),
            Node::Int(int) => i32::try_from(int).ok().map(f64::from),
            _ => None,
        };
        match *args {
            [re, im] => number(re).zip(number(im)).map(|(re, im)| Meaning::Complex(re, im)),
            [text] => self
                .graph
                .str(text)
                .filter(|text| text.len() <= 100)
                .and_then(parse_complex)
                .map(|(re, im)| Meaning::Complex(re, im)),
            _ => None,
        }
        .ok_or_else(|| self.wrong_args("complex", args))
    }

    fn size(&self, args: &[NodeId]) -> Result<Meaning> {
        match args {
            &[sizes] => {
                self.charge(self.graph.members(sizes).len())?;
                if self.is_size(sizes) {
                    Ok(Meaning::Size(sizes))
                } else {
                    Err(self.wrong_args("torch.Size", args))
                }
            }
            _ => Err(self.wrong_args("torch.Size", args)),
        }
    }

    fn is_size(&self, id: NodeId) -> bool {
        matches!(self.graph.node(id), Node::Tuple(_) | Node::List(_))
            && self.graph.members(id).iter().all(|&size| matches!(self.graph.node(size), Node::Int(_)))
    }

    fn device(&self, args: &[NodeId]) -> Result<Meaning> {
        let text = match *args {
            [device] => self.graph.str(device).map(str::to_owned),
            [device, index] => match (self.graph.str(device), self.graph.node(index)) {
                (Some(device), Node::Int(index)) if index >= 0 => Some(format!("{device}:{index}")),
                (Some(device), Node::None) => Some(device.to_owned()),
                _ => None,
            },
            _ => None,
        };
        let text = text.filter(|text| text.len() <= LOCATION_MAX);
        text.map(|text| Meaning::Device(Location::new(text)))
            .ok_or_else(|| self.wrong_args("torch.device", args))
    }

    fn layout(&self, args: &[NodeId]) -> Result<Meaning> {
        let layout = match args {
            &[name] => self.graph.str(name).and_then(|name| Layout::from_name(name.strip_prefix("torch.")?)),
            _ => None,
        };
        layout.map(Meaning::Layout).ok_or_else(|| self.wrong_args("torch.serialization._get_layout", args))
    }

    /// A storage in memory, from a list of numbers.
    pub(super) fn numbers(&self, dtype: DType, args: &[NodeId]) -> Option<Storage> {
        let members = match args {
            [] => &[],
            &[list] if matches!(self.graph.node(list), Node::List(_) | Node::Tuple(_)) => {
                self.graph.members(list)
            }
            _ => return None,
        };
        self.charge(members.len()).ok()?;
        let mut bytes = Vec::with_capacity(members.len().saturating_mul(dtype.element_size()));
        for &member in members {
            match (dtype, self.graph.node(member)) {
                (DType::Float64, Node::Float(float)) => bytes.extend(float.to_le_bytes()),
                (DType::Float32, Node::Float(float)) => bytes.extend(narrow(float).to_le_bytes()),
                (DType::UInt8 | DType::Int8 | DType::Int16 | DType::Int32 | DType::Int64, Node::Int(int)) => {
                    bytes.extend(int.to_le_bytes().iter().take(dtype.element_size()));
                }
                (DType::Bool, Node::Bool(bool)) => bytes.push(bool.into()),
                _ => return None,
            }
        }
        Some(Storage::in_memory(Some(dtype), ByteOrder::Little, bytes))
    }

    /// The error for arguments that a call cannot take.
    pub(super) fn wrong_args(&self, what: &str, args: &[NodeId]) -> Error {
        let args: Vec<String> = args.iter().take(8).map(|&arg| self.describe(arg)).collect();
        Reason::Object(format!("{what} cannot be made from ({})", args.join(", "))).into()
    }
}

/// The nearest binary32, as PyTorch makes of a Python float.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "rounding to binary32 is what is asked for"
)]
fn narrow(float: f64) -> f32 {
    float as f32
}

/// `complex("1+2j")`, for writers that pickle the text.
fn parse_complex(text: &str) -> Option<(f64, f64)> {
    let text = text.trim().trim_start_matches('(').trim_end_matches(')');
    let Some(body) = text.strip_suffix('j') else { return Some((text.parse().ok()?, 0.0)) };
    // The sign of the imaginary part: the last one that is not an exponent's.
    let split = body.char_indices().rev().find(|&(at, char)| {
        let exponent = body
            .get(..at)
            .and_then(|before| before.chars().next_back())
            .is_some_and(|c| matches!(c, 'e' | 'E'));
        at > 0 && matches!(char, '+' | '-') && !exponent
    });
    match split {
        Some((at, _)) => Some((body.get(..at)?.parse().ok()?, body.get(at..)?.parse().ok()?)),
        None => Some((0.0, body.parse().ok()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::parse_complex;

    #[test]
    fn complex_text_splits_at_the_sign_that_is_no_exponents() {
        assert_eq!(parse_complex("1+2j"), Some((1.0, 2.0)));
        assert_eq!(parse_complex("(-1e-3-2.5e+2j)"), Some((-1e-3, -250.0)));
        assert_eq!(parse_complex("3"), Some((3.0, 0.0)));
        assert_eq!(parse_complex("-3j"), Some((0.0, -3.0)));
        assert_eq!(parse_complex("j"), None);
    }
}
