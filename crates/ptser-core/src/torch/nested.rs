//! Nested tensors: components of different shapes in one buffer. Their shapes are data, which is read when the
//! file is opened: there is one row for each component.

use std::sync::Arc;

use super::interpret::Reading;
use crate::bounds::{check_inside, shaped};
use crate::byte_order::ByteOrder;
use crate::dtype::DType;
use crate::error::{Error, Reason, Result};
use crate::number::Number;
use crate::pickle::{Node, NodeId};
use crate::sizes::Sizes;
use crate::tensor::{Fields, Nested, Tensor, TensorKind};

impl Reading<'_> {
    /// `_rebuild_nested_tensor(buffer, sizes, strides, storage_offsets)`.
    pub(super) fn nested_tensor(
        &self,
        buffer: NodeId,
        sizes: NodeId,
        strides: NodeId,
        offsets: NodeId,
    ) -> Result<Fields> {
        let buffer = self.part(buffer)?;
        let sizes = self.part(sizes)?;
        let strides = self.part(strides)?;
        let (count, dims) = match (sizes.shape(), strides.shape()) {
            (&[count, dims], same) if same == [count, dims] && (dims > 0 || count == 0) => (count, dims),
            // Without components there is nothing to tell the number of dimensions from.
            (&[0], &[0]) => (0, 0),
            (sizes, strides) => {
                return Err(wrong(format!("sizes of shape {sizes:?} and strides of shape {strides:?}")));
            }
        };
        let offsets = match self.graph.node(offsets) {
            Node::List(_) | Node::Tuple(_) => self.indices(offsets, "storage offset")?,
            _ => self.indexes(self.part(offsets)?)?,
        };
        if offsets.len() != count {
            return Err(wrong(format!("{} offsets of {count} components", offsets.len())));
        }
        // Each component costs more to keep than its row in the file.
        self.charge(count.saturating_mul(64))?;
        let (sizes, strides) = (self.indexes(sizes)?, self.indexes(strides)?);
        let mut components = Vec::with_capacity(count);
        for (place, &offset) in offsets.iter().enumerate() {
            let row = |all: &[usize]| {
                let start = place.checked_mul(dims)?;
                all.get(start..start.checked_add(dims)?).map(Sizes::from)
            };
            let (Some(shape), Some(stride)) = (row(&sizes), row(&strides)) else {
                return Err(wrong(format!("no sizes of component {place}")));
            };
            let offset = buffer.storage_offset().checked_add(offset);
            let storage_offset = offset.ok_or_else(|| wrong(format!("the offset of component {place}")))?;
            if let Some(storage) = buffer.storage() {
                check_inside(storage, buffer.dtype(), &shape, &stride, storage_offset)?;
            }
            let (storage, kind) = (buffer.storage().cloned(), buffer.kind().clone());
            let shaped = shaped(buffer.dtype(), shape, stride)?;
            components.push(Fields { storage_offset, storage, kind, ..shaped }.into());
        }
        let mut tensor = Fields::of(buffer.dtype(), [count].into(), [].into());
        tensor.requires_grad = buffer.requires_grad();
        tensor.kind = TensorKind::Nested(Arc::new(Nested { buffer: buffer.clone(), components }));
        Ok(tensor)
    }

    /// The values of a tensor of 64-bit integers from zero up.
    fn indexes(&self, tensor: &Tensor) -> Result<Vec<usize>> {
        if tensor.dtype() != DType::Int64 {
            return Err(wrong(format!("sizes of {}, expected int64", tensor.dtype())));
        }
        self.charge(tensor.numel().saturating_mul(8))?;
        // What is deflated is inflated from its beginning.
        if let Some(storage) = tensor.storage().filter(|storage| !storage.is_stored()) {
            self.charge(usize::try_from(storage.nbytes()).unwrap_or(usize::MAX))?;
        }
        let bytes = tensor.to_contiguous_in(ByteOrder::Little)?;
        let values = bytes.chunks_exact(8).map(|bytes| Number::read(DType::Int64, bytes));
        let index = |number| match number {
            Some(Number::Int(int)) => usize::try_from(int).map_err(|_| wrong(format!("a size of {int}"))),
            _ => Err(wrong("sizes that are no numbers".into())),
        };
        values.map(index).collect()
    }
}

fn wrong(what: String) -> Error {
    Reason::Tensor(format!("{what} of a nested tensor")).into()
}
