//! A state dict: tensors by name, in order; and how it is found inside a checkpoint.

use std::sync::Arc;

use crate::bounds::check_copies;
use crate::document::Document;
use crate::dtensor::DTensor;
use crate::error::{Error, Result};
use crate::listing::{Entry, Listing};
use crate::module;
use crate::names::Names;
use crate::pickle::Node;
use crate::storage::Storage;
use crate::suggest;
use crate::tensor::{Tensor, TensorKind};
use crate::value::{Value, ValueKind};

/// Tensors by name, in the order of the file.
#[derive(Clone, Default)]
pub struct StateDict {
    names: Arc<Names>,
    tensors: Vec<Tensor>,
}

/// The keys under which training loops keep the state dict of the model, the likeliest first.
const CUSTOMARY: [&str; 14] = [
    "state_dict",
    "model_state_dict",
    "model",
    "module",
    "params_ema",
    "params",
    "model_ema",
    "ema",
    "ema_state_dict",
    "state_dict_ema",
    "net",
    "network",
    "weights",
    "generator",
];

impl StateDict {
    /// No tensors, and room for so many.
    pub fn with_capacity(tensors: usize) -> Self {
        Self { names: Names::with_capacity(tensors).into(), tensors: Vec::with_capacity(tensors) }
    }

    /// The number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// The tensors and their names, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Tensor)> + Clone {
        self.names.iter().zip(&self.tensors)
    }

    /// The names, in order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        self.names.iter()
    }

    /// For what `ptser-candle` loads of it.
    #[doc(hidden)]
    pub fn shared_names(&self) -> Arc<Names> {
        Arc::clone(&self.names)
    }

    /// The tensor of a name.
    pub fn find(&self, name: &str) -> Option<&Tensor> {
        self.find_full(name).map(|(_, tensor)| tensor)
    }

    /// The tensor of a name, and its place among them.
    pub fn find_full(&self, name: &str) -> Option<(usize, &Tensor)> {
        let place = self.names.place(name)?;
        Some((place, self.tensors.get(place)?))
    }

    /// The tensor of a name.
    ///
    /// # Errors
    /// `Misuse` with the nearest names that are there.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        self.find(name).ok_or_else(|| Error::misuse(missing(name, self.names())))
    }

    /// Adds or replaces a tensor.
    pub fn insert(&mut self, name: impl AsRef<str>, tensor: Tensor) -> Option<Tensor> {
        put(Arc::make_mut(&mut self.names), &mut self.tensors, name.as_ref(), tensor)
    }

    /// The same tensors under other names, such as without a `module.` in front.
    ///
    /// # Errors
    /// `Misuse` where two names become one.
    pub fn rename(self, mut rename: impl FnMut(&str) -> String) -> Result<Self> {
        let mut renamed = Self::with_capacity(self.len());
        let Self { names, tensors } = &mut renamed;
        let names = Arc::make_mut(names);
        for (name, tensor) in self.names.iter().zip(self.tensors) {
            let new = rename(name);
            if put(names, tensors, &new, tensor).is_some() {
                return Err(Error::misuse(format!("renaming {name:?} gives a second {new:?}")));
            }
        }
        Ok(renamed)
    }

    /// The names nearest to one that is not there: typing errors, a prefix more or less.
    pub fn nearest(&self, name: &str) -> Vec<&str> {
        suggest::nearest(name, self.names())
    }

    /// Refuses tensors that are out of proportion once all of them are copied out, as
    /// [`Checkpoint::check_views`](crate::Checkpoint::check_views) does, over their own storages.
    ///
    /// # Errors
    /// `LimitExceeded`.
    pub fn check_views(&self) -> Result<()> {
        let parts = self.tensors.iter().flat_map(|tensor| tensor.parts().map(|(_, part)| part));
        let tensors = self.tensors.iter().chain(parts);
        let storages = tensors.clone().filter_map(Tensor::storage);
        let beyond = storages.clone().map(Storage::expanded_bytes).max().unwrap_or(0);
        check_copies(tensors, storages, beyond)
    }

    /// The tensors and arrays of a listing, named by the path from where it began; parts belong to their wholes.
    pub(crate) fn of(document: &Document, listing: &Listing) -> Self {
        let entries = listing.all(document);
        let mut state_dict = Self::with_capacity(entries.len());
        let Self { names, tensors } = &mut state_dict;
        let names = Arc::make_mut(names);
        for entry in entries.filter(|entry| !entry.is_part()) {
            if let Some(tensor) = whole(entry) {
                put(names, tensors, entry.name(), tensor.clone());
            }
        }
        state_dict
    }
}

/// Adds or replaces a tensor.
fn put(names: &mut Names, tensors: &mut Vec<Tensor>, name: &str, tensor: Tensor) -> Option<Tensor> {
    if let Some(old) = tensors.get_mut(names.insert(name)) {
        return Some(std::mem::replace(old, tensor));
    }
    tensors.push(tensor);
    None
}

/// The tensor of an entry; of a distributed one what this process held, where that is all of it.
fn whole<'c>(entry: Entry<'c>) -> Option<&'c Tensor> {
    let tensor = entry.tensor()?;
    match tensor.kind() {
        TensorKind::Wrapper { .. } => {
            let distributed = entry.value().as_dtensor().filter(DTensor::is_whole);
            Some(distributed.map_or(tensor, |distributed| distributed.local))
        }
        _ => Some(tensor),
    }
}

impl<'s> IntoIterator for &'s StateDict {
    type Item = (&'s str, &'s Tensor);
    type IntoIter = Box<dyn ExactSizeIterator<Item = Self::Item> + 's>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.iter())
    }
}

impl<S: AsRef<str>> FromIterator<(S, Tensor)> for StateDict {
    fn from_iter<I: IntoIterator<Item = (S, Tensor)>>(tensors: I) -> Self {
        let tensors = tensors.into_iter();
        let mut state_dict = Self::with_capacity(tensors.size_hint().0);
        for (name, tensor) in tensors {
            state_dict.insert(name, tensor);
        }
        state_dict
    }
}

impl std::fmt::Debug for StateDict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tensors = std::fmt::from_fn(|f| f.debug_map().entries(self).finish());
        f.debug_struct("StateDict").field("tensors", &tensors).finish()
    }
}

/// Says that a tensor is not there, and what is.
pub(crate) fn missing<'n>(name: &str, names: impl ExactSizeIterator<Item = &'n str> + Clone) -> String {
    let near = suggest::nearest(name, names.clone());
    if !near.is_empty() {
        return format!("there is no tensor {name:?}; the nearest names are {}", near.join(", "));
    }
    let count = names.len();
    if count == 0 {
        return format!("there is no tensor {name:?}, and no other");
    }
    let first: Vec<&str> = names.take(5).collect();
    format!("there is no tensor {name:?} among {count}, such as {}", first.join(", "))
}

/// The state dict's value: under a customary key, or the root itself.
pub(crate) fn find(root: Value<'_>) -> Value<'_> {
    let mut value = root;
    // Lightning's and Hugging Face's wrappers nest at most this deep.
    for _ in 0..3 {
        match customary(value).into_iter().flatten().find(|inner| leads_to_tensors(*inner)) {
            Some(inner) => value = inner,
            None => break,
        }
    }
    value
}

/// The value at a dotted path of keys and indexes; a key may hold dots itself, or be a number.
pub(crate) fn at<'c>(root: Value<'c>, path: &str) -> Result<Value<'c>> {
    let mut value = root;
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(whole) = entry(value, rest) {
            return Ok(whole);
        }
        let (key, tail) = rest.split_once('.').unwrap_or((rest, ""));
        value = step(value, key)?;
        rest = tail;
    }
    Ok(value)
}

fn step<'c>(value: Value<'c>, key: &str) -> Result<Value<'c>> {
    if !value.is_mapping() {
        return key.parse().map_or_else(|_| value.get(key), |index| value.index(index));
    }
    let number: Option<i64> = key.parse().ok().filter(|_| value.find(key).is_none());
    let is_it = |key: Value<'_>| matches!(key.kind(), ValueKind::Int(int) if Some(int) == number);
    match value.entries().find(|(key, _)| is_it(*key)) {
        Some((_, value)) => Ok(value),
        None => value.get(key),
    }
}

fn entry<'c>(value: Value<'c>, key: &str) -> Option<Value<'c>> {
    if value.is_mapping() { value.find(key) } else { None }
}

/// The values under the customary keys, likeliest first; in one pass, since a state dict has many other keys.
fn customary(value: Value<'_>) -> [Option<Value<'_>>; CUSTOMARY.len()] {
    let mut found = [None; CUSTOMARY.len()];
    if !value.is_mapping() {
        return found;
    }
    let graph = &value.document.graph;
    // Of several values that one key has, `Value::find` gives the last entry's, and an attribute's where there is none.
    for (key, value) in value.attributes().chain(value.entries()) {
        let Node::Str(span) = graph.node(key.id) else { continue };
        let is_it = |(key, _): &(&str, _)| span.len() == key.len() && graph.bytes(span) == key.as_bytes();
        if let Some((_, place)) = CUSTOMARY.into_iter().zip(&mut found).find(is_it) {
            *place = Some(value);
        }
    }
    found
}

/// Whether a value is a module, or a mapping that holds tensors, directly or under a customary key.
fn leads_to_tensors(value: Value<'_>) -> bool {
    let tensors = |value: Value<'_>| {
        let is_one = |value: Value<'_>| matches!(value.kind(), ValueKind::Tensor(_) | ValueKind::Array(_));
        module::is_module(value) || value.entries().any(|(_, value)| is_one(value))
    };
    tensors(value) || customary(value).into_iter().flatten().any(tensors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Storage;
    use crate::{ByteOrder, DType};

    #[test]
    fn it_is_shown_as_tensors_by_name() {
        let storage = Storage::in_memory(Some(DType::UInt8), ByteOrder::Little, vec![0]);
        let tensor = Tensor::contiguous(storage, DType::UInt8, [1]).unwrap();
        let shown = format!("StateDict {{ tensors: {{\"a\": {tensor:?}}} }}");
        assert_eq!(format!("{:?}", StateDict::from_iter([("a", tensor)])), shown);
    }
}
