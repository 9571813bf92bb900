//! All tensors of a state dict, as a value.

use std::collections::HashMap;

use candle_core::Tensor;
use foldhash::fast::RandomState;
use indexmap::IndexMap;

use crate::report::Report;

/// All tensors of a state dict, in the order of the file.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub(crate) tensors: IndexMap<String, Tensor, RandomState>,
    pub(crate) report: Report,
}

impl Loaded {
    /// The tensor of a name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// The names, in order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Names and tensors, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// The number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// What was done to tensors that candle cannot hold as they were.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The tensors as candle's own loaders give them.
    pub fn into_map(self) -> HashMap<String, Tensor> {
        self.tensors.into_iter().collect()
    }
}

impl IntoIterator for Loaded {
    type Item = (String, Tensor);
    type IntoIter = Box<dyn ExactSizeIterator<Item = (String, Tensor)>>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.tensors.into_iter())
    }
}
