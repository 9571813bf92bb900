//! Whether two checkpoints hold the same: names, tensors and their bytes, values, and what shares what.

#![allow(dead_code, reason = "each test binary takes what it needs")]

use std::collections::{HashMap, VecDeque};
use std::fmt::Debug;

use ptser::{Checkpoint, Entry, Storage, Tensor, Value, ValueKind};

use crate::look::children;

/// Pairs of values that are compared, at most, and bytes of a tensor that are.
const PAIRS: usize = 4_000;
const BYTES: usize = 1 << 20;

/// Compares two checkpoints.
///
/// # Errors
/// What differs first.
pub(crate) fn same(one: &Checkpoint, other: &Checkpoint) -> Result<(), String> {
    let mut sharing = Sharing::default();
    equal("the number of tensors", entries(one).count(), entries(other).count())?;
    for (one, other) in entries(one).zip(entries(other)) {
        same_entry(one, other, &mut sharing).map_err(|why| format!("{}: {why}", one.name()))?;
    }
    same_values(one.root(), other.root(), &mut sharing)
}

fn entries(checkpoint: &Checkpoint) -> impl Iterator<Item = Entry<'_>> {
    checkpoint.entries().chain(checkpoint.arrays())
}

fn same_entry(one: Entry<'_>, other: Entry<'_>, sharing: &mut Sharing) -> Result<(), String> {
    equal("the path", one.path(), other.path())?;
    equal("the error", one.error().map(ToString::to_string), other.error().map(ToString::to_string))?;
    match (one.tensor(), other.tensor()) {
        (Some(one), Some(other)) => same_tensor(one, other, sharing),
        (one, other) => equal("being a tensor", one.is_some(), other.is_some()),
    }
}

fn same_tensor(one: &Tensor, other: &Tensor, sharing: &mut Sharing) -> Result<(), String> {
    let about = |tensor: &Tensor| {
        let signs = (tensor.is_conj(), tensor.is_neg(), tensor.is_parameter(), tensor.requires_grad());
        (tensor.dtype(), tensor.layout(), tensor.shape().to_vec(), tensor.stride().to_vec(), signs)
    };
    equal("the tensor", about(one), about(other))?;
    sharing.check(one.storage(), other.storage())?;
    if one.nbytes() > BYTES || one.storage().is_some_and(|storage| storage.nbytes() > 1 << 20) {
        return Ok(());
    }
    let bytes = |tensor: &Tensor| tensor.to_contiguous().map(|bytes| bytes.into_owned());
    match (bytes(one), bytes(other)) {
        (Ok(one), Ok(other)) => equal("the bytes", one, other),
        (Err(one), Err(other)) => equal("the error of reading", one.kind(), other.kind()),
        (one, other) => Err(format!("one is read, the other not: {:?} {:?}", one.err(), other.err())),
    }
}

fn same_values(one: Value<'_>, other: Value<'_>, sharing: &mut Sharing) -> Result<(), String> {
    let mut waiting = VecDeque::from([(one, other)]);
    for _ in 0..PAIRS {
        let Some((one, other)) = waiting.pop_front() else { break };
        equal("the type", one.type_name(), other.type_name())?;
        if matches!(one.kind(), ValueKind::Object | ValueKind::Tensor(_)) {
            equal("the class", one.class(), other.class())?;
        }
        equal("the length", one.len(), other.len())?;
        same_leaf(one.kind(), other.kind(), sharing)?;
        let (ones, others) = (parts(one), parts(other));
        equal("the number of parts", ones.len(), others.len())?;
        waiting.extend(ones.into_iter().zip(others));
    }
    Ok(())
}

/// What is in a value. How one that is understood was spelled is the protocol's matter.
fn parts(value: Value<'_>) -> Vec<Value<'_>> {
    match value.kind() {
        ValueKind::Object | ValueKind::Tensor(_) | ValueKind::OrderedDict => children(value).collect(),
        _ => value.items().chain(value.entries().flat_map(|(key, value)| [key, value])).collect(),
    }
}

fn same_leaf(one: ValueKind<'_>, other: ValueKind<'_>, sharing: &mut Sharing) -> Result<(), String> {
    match (one, other) {
        (ValueKind::Float(one), ValueKind::Float(other)) => equal("a float", one.to_bits(), other.to_bits()),
        (ValueKind::Complex(re, im), ValueKind::Complex(re2, im2)) => {
            let bits = |re: f64, im: f64| [re.to_bits(), im.to_bits()];
            equal("a complex number", bits(re, im), bits(re2, im2))
        }
        (
            ValueKind::Tensor(one) | ValueKind::Array(one),
            ValueKind::Tensor(other) | ValueKind::Array(other),
        ) => same_tensor(one, other, sharing),
        (ValueKind::Storage(one, dtype), ValueKind::Storage(other, dtype2)) => {
            sharing.check(Some(one), Some(other))?;
            let about = |storage: &Storage| (storage.nbytes(), storage.location().clone());
            equal("a storage", (about(one), dtype), (about(other), dtype2))
        }
        (ValueKind::Damaged(one), ValueKind::Damaged(other)) => {
            equal("the damage", one.to_string(), other.to_string())
        }
        (one, other) => equal("a value", format!("{one:?}"), format!("{other:?}")),
    }
}

fn equal<T: PartialEq + Debug>(what: &str, one: T, other: T) -> Result<(), String> {
    if one == other { Ok(()) } else { Err(format!("{what} is {one:?} and {other:?}")) }
}

/// Which storage of the one is which of the other. Parts of storages become views of the whole, or storages by themselves.
#[derive(Default)]
struct Sharing {
    forth: HashMap<usize, usize>,
    back: HashMap<usize, usize>,
}

impl Sharing {
    fn check(&mut self, one: Option<&Storage>, other: Option<&Storage>) -> Result<(), String> {
        let (Some(one), Some(other)) = (one, other) else {
            return equal("having a storage", one.is_some(), other.is_some());
        };
        if one.whole().is_some() {
            return Ok(());
        }
        let forth = *self.forth.entry(one.id()).or_insert(other.id());
        let back = *self.back.entry(other.id()).or_insert(one.id());
        equal("which storage it is", (forth, back), (other.id(), one.id()))
    }
}
