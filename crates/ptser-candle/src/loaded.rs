//! All tensors of a state dict, as a value.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use candle_core::Tensor;
use ptser_core::Names;

use crate::report::Report;

/// All tensors of a state dict, in the order of the file.
#[derive(Clone)]
pub struct Loaded {
    /// The state dict's.
    pub(crate) names: Arc<Names>,
    pub(crate) tensors: Vec<Tensor>,
    pub(crate) report: Report,
}

impl Loaded {
    /// The tensor of a name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(self.names.place(name)?)
    }

    /// The names, in order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.names.iter()
    }

    /// Names and tensors, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Tensor)> {
        self.names.iter().zip(&self.tensors)
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
        self.into_iter().collect()
    }
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tensors = fmt::from_fn(|f| f.debug_map().entries(self.iter()).finish());
        f.debug_struct("Loaded").field("tensors", &tensors).field("report", &self.report).finish()
    }
}

impl IntoIterator for Loaded {
    type Item = (String, Tensor);
    type IntoIter = Box<dyn ExactSizeIterator<Item = (String, Tensor)>>;

    fn into_iter(self) -> Self::IntoIter {
        let Self { names, tensors, report: _ } = self;
        let named = move |(place, tensor)| (names.at(place).to_owned(), tensor);
        Box::new(tensors.into_iter().enumerate().map(named))
    }
}
