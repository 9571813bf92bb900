//! Tensors of `torch.distributed`: one process's part, and how the parts make the whole.

use crate::tensor::{Tensor, TensorKind};
use crate::value::{Value, ValueKind};

/// A `DTensor`: what this process held of a tensor that was distributed over several.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DTensor<'c> {
    /// The part that this process held.
    pub local: &'c Tensor,
    /// The sizes of the whole.
    pub shape: &'c [usize],
    /// How the whole lies on each dimension of the device mesh.
    pub placements: Vec<Placement>,
}

/// How a tensor lies on one dimension of a device mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Placement {
    /// Cut along a dimension of the tensor.
    Shard {
        /// The dimension; negative ones count from the last.
        dim: i64,
    },
    /// Whole on every device.
    Replicate,
    /// To be reduced: each device holds one operand.
    Partial,
    /// Something that this version does not know, such as `_StridedShard`: the value tells its class.
    Other,
}

impl DTensor<'_> {
    /// Whether the part is all of the tensor: the mesh had one device, or every device held a copy.
    pub fn is_whole(&self) -> bool {
        let known = |placement: &Placement| !matches!(placement, Placement::Partial | Placement::Other);
        self.local.shape() == self.shape && self.placements.iter().all(known)
    }
}

impl<'c> Value<'c> {
    /// What a `torch.distributed.tensor.DTensor` holds; `None` for anything else. It names classes that
    /// [`Globals::weights_only`](crate::Globals::weights_only) does not list.
    pub fn as_dtensor(self) -> Option<DTensor<'c>> {
        let ValueKind::Tensor(whole) = self.kind() else { return None };
        let class = self.class().filter(|class| class.ends_with(".DTensor"))?;
        let wrapper = matches!(whole.kind(), TensorKind::Wrapper { .. });
        if !wrapper || !class.starts_with("torch.distributed.") {
            return None;
        }
        let local = self.find("_local_tensor")?.as_tensor().ok()?;
        let placements = self.find("_spec")?.find("placements")?.items().map(placement).collect();
        Some(DTensor { local, shape: whole.shape(), placements })
    }
}

fn placement(value: Value<'_>) -> Placement {
    match value.class().and_then(|class| class.rsplit('.').next()) {
        Some("Shard") => match value.find("dim").map(Value::as_i64) {
            Some(Ok(dim)) => Placement::Shard { dim },
            _ => Placement::Other,
        },
        Some("Replicate") => Placement::Replicate,
        Some("Partial" | "_Partial") => Placement::Partial,
        _ => Placement::Other,
    }
}
