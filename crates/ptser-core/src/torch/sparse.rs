//! Sparse tensors: layouts, their parts, and what the parts must satisfy together.

use std::sync::Arc;

use super::interpret::{Meaning, Reading};
use crate::bounds::{brief, overflow};
use crate::dtype::DType;
use crate::error::{Reason, Result};
use crate::layout;
use crate::pickle::{Node, NodeId};
use crate::sparse::IndexRule;
use crate::tensor::{Fields, Layout, Sparse, Tensor, TensorKind};

/// A part, by PyTorch's name.
type Part = (&'static str, Tensor);

impl Reading<'_> {
    /// `_rebuild_sparse_tensor(layout, data)`.
    pub(super) fn sparse(&self, layout: NodeId, data: NodeId) -> Result<Fields> {
        let Some(&Meaning::Layout(layout)) = self.meaning_of(layout) else {
            return Err(self.wrong(layout, "a sparse layout"));
        };
        let members = self.graph.tuple(data).unwrap_or_default();
        let split = members.split_at_checked(part_names(layout).len());
        let (parts, rest) = split.ok_or_else(|| self.wrong(data, "the parts of a sparse tensor"))?;
        let (size, is_coalesced) = match (layout, rest) {
            (_, &[size]) => (size, None),
            (Layout::SparseCoo, &[size, is_coalesced]) => (size, Some(is_coalesced)),
            _ => return Err(self.wrong_args("a sparse tensor", members)),
        };
        let is_coalesced = match is_coalesced {
            Some(id) if !matches!(self.graph.node(id), Node::None) => Some(self.flag(id, "is_coalesced")?),
            _ => None,
        };
        self.sparse_of(layout, size, parts, is_coalesced)
    }

    /// As TorchScript spells it: the layout is a number, and the parts are arguments of their own.
    pub(super) fn script_sparse(&self, layout: NodeId, size: NodeId, parts: &[NodeId]) -> Result<Fields> {
        let layout = match self.graph.node(layout) {
            Node::Int(1) => Layout::SparseCoo,
            Node::Int(2) => Layout::SparseCsr,
            _ => return Err(self.wrong(layout, "the number of a sparse layout")),
        };
        self.sparse_of(layout, size, parts, None)
    }

    /// `torch.sparse.FloatTensor(indices, values, size)` and its like.
    pub(super) fn legacy_sparse(&mut self, dtype: DType, args: &[NodeId]) -> Result<Meaning> {
        let &[indices, values, size] = args else {
            return Err(self.wrong_args("a sparse tensor class", args));
        };
        let tensor = self.sparse_of(Layout::SparseCoo, size, &[indices, values], None)?;
        if tensor.dtype != dtype {
            return Err(
                Reason::Tensor(format!("values of {} in a sparse tensor of {dtype}", tensor.dtype)).into()
            );
        }
        Ok(self.add(tensor))
    }

    fn sparse_of(
        &self,
        layout: Layout,
        size: NodeId,
        parts: &[NodeId],
        is_coalesced: Option<bool>,
    ) -> Result<Fields> {
        let names = part_names(layout);
        if names.is_empty() || names.len() != parts.len() {
            return Err(Reason::Tensor(format!(
                "{} parts of a tensor of layout {}",
                parts.len(),
                layout.name()
            ))
            .into());
        }
        let shape = self.dims(size, "size")?;
        if layout::numel(&shape).is_none() {
            return Err(overflow(&shape));
        }
        let mut tensors: Vec<Part> = Vec::with_capacity(parts.len());
        for (&name, &part) in names.iter().zip(parts) {
            tensors.push((name, self.part(part)?.clone()));
        }
        let values = tensors.last().map(|(_, values)| (values.dtype(), values.requires_grad()));
        let (dtype, requires_grad) = values.unwrap_or((DType::Float32, false));
        rule_indices(layout, &shape, &mut tensors)?;
        let mut tensor = Fields::of(dtype, shape, [].into());
        // Of the whole nothing is said; PyTorch makes it of its values, which pass theirs on.
        tensor.requires_grad = requires_grad;
        tensor.kind = TensorKind::Sparse(Arc::new(Sparse { layout, parts: tensors, is_coalesced }));
        Ok(tensor)
    }
}

/// The parts that files hold, by PyTorch's names; none for layouts that are not sparse.
fn part_names(layout: Layout) -> &'static [&'static str] {
    match layout {
        Layout::SparseCoo => &["indices", "values"],
        Layout::SparseCsr | Layout::SparseBsr => &["crow_indices", "col_indices", "values"],
        Layout::SparseCsc | Layout::SparseBsc => &["ccol_indices", "row_indices", "values"],
        Layout::Strided | Layout::Mkldnn | Layout::Jagged => &[],
    }
}

/// Checks what can be told of a sparse tensor without reading its indices, and gives these their rules.
fn rule_indices(layout: Layout, shape: &[usize], parts: &mut [Part]) -> Result<()> {
    let wrong = |what: String| Err(Reason::Tensor(format!("{}: {what}", layout.name())).into());
    let Some(((_, values), indices)) = parts.split_last_mut() else { return wrong("no parts".into()) };
    for (name, index) in &mut *indices {
        if !matches!(index.dtype(), DType::Int64 | DType::Int32) {
            return wrong(format!("{name} of {}, expected int64 or int32", index.dtype()));
        }
    }
    match indices {
        [(_, indices)] => coordinates(shape, indices, values),
        [(_, pointers), (_, plain)] => compressed(layout, shape, pointers, plain, values),
        _ => Err("parts are missing".into()),
    }
    .or_else(wrong)
}

fn coordinates(shape: &[usize], indices: &mut Tensor, values: &Tensor) -> Result<(), String> {
    let (&[sparse_dim, nnz], Some(&values_nnz)) = (indices.shape(), values.shape().first()) else {
        return Err(format!(
            "indices of {} and values of {} dimensions",
            indices.shape().len(),
            values.shape().len()
        ));
    };
    if nnz != values_nnz {
        return Err(format!("{nnz} indices and {values_nnz} values"));
    }
    let dense = values.shape().get(1..).unwrap_or_default();
    if sparse_dim.checked_add(dense.len()) != Some(shape.len()) {
        return Err(format!("{sparse_dim} sparse and {} dense dimensions of {}", dense.len(), shape.len()));
    }
    let (sparse, rest) = shape.split_at_checked(sparse_dim).unwrap_or_default();
    if rest != dense {
        return Err(format!("values of shape {} in a tensor of {}", brief(values.shape()), brief(shape)));
    }
    indices.follow(IndexRule::Coordinates(sparse.into()));
    Ok(())
}

/// Batches, two sparse dimensions, dense dimensions; of the two, one is compressed and one plain.
fn compressed(
    layout: Layout,
    shape: &[usize],
    pointers: &mut Tensor,
    plain: &mut Tensor,
    values: &Tensor,
) -> Result<(), String> {
    let misfit = || {
        let (pointers, plain, values) =
            (brief(pointers.shape()), brief(plain.shape()), brief(values.shape()));
        format!("parts of shapes {pointers}, {plain} and {values} in a tensor of {}", brief(shape))
    };
    let (&elements, batch) = plain.shape().split_last().ok_or_else(misfit)?;
    let (&pointer_count, pointer_batch) = pointers.shape().split_last().ok_or_else(misfit)?;
    let in_batch = shape.strip_prefix(batch).ok_or_else(misfit)?;
    let stored = values.shape().strip_prefix(plain.shape()).ok_or_else(misfit)?;
    let (&[rows, columns], dense) = in_batch.split_first_chunk::<2>().ok_or_else(misfit)?;
    let blocked = matches!(layout, Layout::SparseBsr | Layout::SparseBsc);
    let (block, stored_dense) = if blocked {
        stored.split_first_chunk::<2>().map(|(&block, rest)| (block, rest)).ok_or_else(misfit)?
    } else {
        ([1, 1], stored)
    };
    let blocks =
        |size: usize, block: usize| size.checked_div(block).filter(|_| size.checked_rem(block) == Some(0));
    let [block_rows, block_columns] = block;
    let (rows, columns) = blocks(rows, block_rows).zip(blocks(columns, block_columns)).ok_or_else(misfit)?;
    let by_row = matches!(layout, Layout::SparseCsr | Layout::SparseBsr);
    let (compressed, width) = if by_row { (rows, columns) } else { (columns, rows) };
    if pointer_batch != batch || dense != stored_dense || compressed.checked_add(1) != Some(pointer_count) {
        return Err(misfit());
    }
    pointers.follow(IndexRule::Pointers { batch: pointer_count, elements, widest: width });
    plain.follow(IndexRule::Below(width));
    Ok(())
}
