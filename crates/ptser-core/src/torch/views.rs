//! The views that a pickle has in a node each: what [`rebuild`](super::rebuild) makes of `_rebuild_tensor_v2`, at once.

use super::interpret::Reading;
use super::names::{Known, Rebuild};
use super::persistent::{StorageRef, StorageTable};
use super::pids::Found;
use super::rebuild::view_of;
use crate::dtype::DType;
use crate::error::{Error, Reason, Result};
use crate::location::Location;
use crate::pickle::{NodeId, Style, index};
use crate::tensor::Tensor;

/// Whether a global is a function whose calls are read so.
pub(crate) fn makes_views(full: &str) -> bool {
    matches!(super::known(full), Some(Known::Rebuild(Rebuild::V2)))
}

/// What is not as it should be is told once the pickle is read in full.
fn unusual() -> Error {
    Reason::Tensor("an unusual view".into()).into()
}

impl Reading<'_> {
    /// The element type and the location of each style.
    pub(super) fn styles(&self) -> Result<Vec<(Option<DType>, Location)>> {
        self.graph.views().styles().iter().map(|style| self.style(style)).collect()
    }

    /// Makes the tensor of a view, the next one, unless it is there already.
    pub(super) fn settle_view(
        &mut self,
        id: NodeId,
        styles: &[(Option<DType>, Location)],
        table: &mut dyn StorageTable,
        found: &mut Found,
    ) -> Result<()> {
        let graph = self.graph;
        let place = graph.view(id).filter(|place| *place <= self.tensors.len()).ok_or_else(unusual)?;
        if place < self.tensors.len() {
            return Ok(());
        }
        let view = graph.views().get(place).ok_or_else(unusual)?;
        let (dtype, location) = styles.get(index(view.style)).cloned().ok_or_else(unusual)?;
        let key = graph.str(view.key).ok_or_else(unusual)?;
        let (shape, stride) = graph.views().sizes(view);
        self.charge([key.len(), shape.len(), stride.len()].iter().sum())?;
        let given = table.storage(&StorageRef { dtype, key, location, numel: view.numel, view: None })?;
        let storage = self.place_storage(given, found)?;
        let storage = self.storages.get(storage).ok_or_else(unusual)?;
        let dtype = dtype.unwrap_or(DType::UInt8);
        let tensor = view_of(storage, dtype, shape.into(), stride.into(), view.offset)?;
        self.tensors.push(Tensor { requires_grad: view.flag, ..tensor });
        Ok(())
    }

    /// What all calls of a style share, where it is PyTorch's.
    fn style(&self, style: &Style) -> Result<(Option<DType>, Location)> {
        let is_usual = self.known_global(style.function) == Some(Known::Rebuild(Rebuild::V2))
            && self.graph.is_text(style.kind, b"storage")
            && self.known_global(style.hooks) == Some(Known::OrderedDict);
        if !is_usual {
            return Err(unusual());
        }
        Ok((self.storage_class(style.class)?, self.location(style.location)?))
    }
}
