//! What a tensor is made of: fields of its own, or a row of a table that many plain tensors share.

use std::sync::Arc;

use super::{Tensor, TensorKind};
use crate::dtype::DType;
use crate::sizes::Sizes;
use crate::sparse::IndexRule;
use crate::storage::Storage;

/// A tensor by itself.
#[derive(Clone)]
pub(crate) struct Fields {
    pub(crate) dtype: DType,
    pub(crate) shape: Sizes,
    pub(crate) stride: Sizes,
    pub(crate) storage_offset: usize,
    pub(crate) storage: Option<Storage>,
    pub(crate) requires_grad: bool,
    pub(crate) parameter: bool,
    pub(crate) conj: bool,
    pub(crate) neg: bool,
    pub(crate) kind: TensorKind,
    /// For the indices of a sparse tensor, what they must satisfy.
    pub(crate) index_rule: Option<Arc<IndexRule>>,
}

/// Plain tensors, which most checkpoints are full of: strided views of storages, and nothing else is to be said of them.
/// Each is a row by its number.
pub(crate) trait Rows: Send + Sync {
    fn dtype(&self, row: usize) -> DType;
    fn shape(&self, row: usize) -> &[usize];
    fn stride(&self, row: usize) -> &[usize];
    fn storage_offset(&self, row: usize) -> usize;
    fn storage(&self, row: usize) -> Option<&Storage>;
    fn requires_grad(&self, row: usize) -> bool;
}

#[derive(Clone)]
pub(super) enum Repr {
    Row(Arc<dyn Rows>, usize),
    Own(Arc<Fields>),
}

impl Tensor {
    /// A row of a table.
    pub(crate) fn row(rows: Arc<dyn Rows>, row: usize) -> Self {
        Self(Repr::Row(rows, row))
    }

    /// What it is made of, to make another of.
    pub(crate) fn into_fields(self) -> Fields {
        match self.0 {
            Repr::Own(fields) => Arc::unwrap_or_clone(fields),
            Repr::Row(rows, row) => Fields {
                storage_offset: rows.storage_offset(row),
                storage: rows.storage(row).cloned(),
                requires_grad: rows.requires_grad(row),
                ..Fields::of(rows.dtype(row), rows.shape(row).into(), rows.stride(row).into())
            },
        }
    }

    /// Gives indices of a sparse tensor what they must satisfy.
    pub(crate) fn follow(&mut self, rule: IndexRule) {
        *self = Fields { index_rule: Some(Arc::new(rule)), ..self.clone().into_fields() }.into();
    }

    /// Its own fields; a row has none, and is a plain tensor.
    pub(super) fn own(&self) -> Option<&Fields> {
        match &self.0 {
            Repr::Own(fields) => Some(fields),
            Repr::Row(..) => None,
        }
    }
}

impl Fields {
    /// A tensor of a shape, and no view of anything.
    pub(crate) fn of(dtype: DType, shape: Sizes, stride: Sizes) -> Self {
        Self {
            dtype,
            shape,
            stride,
            storage_offset: 0,
            storage: None,
            requires_grad: false,
            parameter: false,
            conj: false,
            neg: false,
            kind: TensorKind::Strided,
            index_rule: None,
        }
    }
}

impl From<Fields> for Tensor {
    fn from(fields: Fields) -> Self {
        Self(Repr::Own(Arc::new(fields)))
    }
}
