//! What was read as what is to be saved.

use std::collections::{HashMap, HashSet};

use super::{Value, ValueKind};
use crate::error::{Error, Result};
use crate::object::Object;
use crate::pickle::NodeId;

impl Object {
    /// Copies values of one checkpoint, for a part of it to be saved in something new. What is one object among them
    /// stays one; tensors are not copied, and their data is read when it is saved.
    ///
    /// # Errors
    /// `Unsupported` for values that an `Object` cannot be: objects that were never made, those that hold themselves,
    /// and the rarer kinds of Python's own.
    pub fn copies_of<'c>(values: impl IntoIterator<Item = Value<'c>>) -> Result<Vec<Self>> {
        let mut copied = HashMap::new();
        values.into_iter().map(|value| copy(value, &mut copied)).collect()
    }
}

fn copy(root: Value<'_>, copied: &mut HashMap<NodeId, Object>) -> Result<Object> {
    // Each value twice: when it is met, and when its parts are there.
    let (mut open, mut inside) = (vec![(root, false)], HashSet::new());
    while let Some((value, ready)) = open.pop() {
        if copied.contains_key(&value.id) {
            continue;
        }
        if ready {
            inside.remove(&value.id);
            copied.insert(value.id, assemble(value, copied)?);
            continue;
        }
        if !inside.insert(value.id) {
            return Err(Error::unsupported("copying an object that holds itself"));
        }
        open.push((value, true));
        // A part that stands there twice is met again when it is done.
        open.extend(value.entries().flat_map(|(key, value)| [key, value]).map(|part| (part, false)));
        open.extend(value.items().map(|part| (part, false)));
    }
    part(root, copied)
}

fn part(value: Value<'_>, copied: &HashMap<NodeId, Object>) -> Result<Object> {
    copied.get(&value.id).cloned().ok_or_else(|| Error::unsupported("copying an object that holds itself"))
}

fn assemble(value: Value<'_>, copied: &HashMap<NodeId, Object>) -> Result<Object> {
    let items = || value.items().map(|item| part(item, copied)).collect::<Result<Vec<_>>>();
    let entries = || {
        let pair = |(key, value)| Ok((part(key, copied)?, part(value, copied)?));
        value.entries().map(pair).collect::<Result<Vec<_>>>()
    };
    Ok(match value.kind() {
        ValueKind::None => Object::none(),
        ValueKind::Bool(bool) => bool.into(),
        ValueKind::Int(int) => int.into(),
        ValueKind::BigInt(int) => Object::big_int(int.to_bytes()),
        ValueKind::Float(float) => float.into(),
        ValueKind::Complex(re, im) => Object::complex(re, im),
        ValueKind::Str(text) => text.to_owned().into(),
        ValueKind::Bytes(bytes) => Object::bytes(bytes),
        ValueKind::ByteArray(bytes) => Object::byte_array(bytes),
        ValueKind::List => Object::list(items()?),
        ValueKind::Tuple => Object::tuple(items()?),
        ValueKind::Set => Object::set(items()?),
        ValueKind::Dict => Object::dict(entries()?),
        ValueKind::OrderedDict => Object::ordered_dict(entries()?),
        ValueKind::Device(location) => location.clone().into(),
        ValueKind::DType(dtype) => dtype.into(),
        ValueKind::Layout(layout) => layout.into(),
        ValueKind::Tensor(tensor) => tensor.clone().into(),
        _ => return Err(Error::unsupported(format!("copying a value of type {}", value.type_name()))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Checkpoint, SaveOptions};

    /// Saves, reads, copies, and saves what was copied.
    fn again(object: &Object) -> (Vec<u8>, Vec<u8>) {
        let bytes = SaveOptions::new().to_bytes(object).unwrap();
        let checkpoint = Checkpoint::from_bytes(bytes.clone()).unwrap();
        let copied = Object::copies_of([checkpoint.root()]).unwrap();
        (bytes, SaveOptions::new().to_bytes(&copied[0]).unwrap())
    }

    #[test]
    fn copies_are_saved_as_the_same_bytes() {
        let pair = Object::tuple([0.9, 0.999]);
        let object = Object::dict([
            ("shared", Object::list([pair.clone(), Object::list([pair.clone(), pair])])),
            ("kinds", Object::list([Object::none(), true.into(), 3.into(), 0.5.into(), "x".into()])),
            ("long", Object::big_int(&[0, 0, 0, 0, 0, 0, 0, 0, 1])),
            ("ordered", Object::ordered_dict([("a", 1), ("b", 2)])),
            ("set", Object::set([1])),
            ("empty", Object::list([0; 0])),
        ]);
        let (first, second) = again(&object);
        assert!(first == second);
    }

    #[test]
    fn deep_nesting_takes_no_stack() {
        let mut object = Object::from(1);
        for _ in 0..10_000 {
            object = Object::list([object]);
        }
        let (first, second) = again(&object);
        assert!(first == second);
    }
}
