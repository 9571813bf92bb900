//! The views that a pickle has in a node each: what [`rebuild`](super::rebuild) makes of `_rebuild_tensor_v2`, at once.

use super::interpret::Reading;
use super::names::{Known, Rebuild};
use super::persistent::{StorageRef, StorageTable};
use super::pids::Found;
use crate::bounds::{check_inside, shaped};
use crate::dtype::DType;
use crate::error::{Error, Reason, Result};
use crate::location::Location;
use crate::pickle::{NodeId, Style, index};
use crate::tensor::{Tensor, TensorKind};

/// Whether a global is a function whose calls are read so.
pub(crate) fn makes_views(full: &str) -> bool {
    matches!(super::known(full), Some(Known::Rebuild(Rebuild::V2)))
}

/// The element types and the locations of the styles, once each is asked for.
#[derive(Default)]
pub(super) struct Styles(Vec<Option<(Option<DType>, Location)>>);

/// What is not as it should be is told once the pickle is read in full.
fn unusual() -> Error {
    Reason::Tensor("an unusual view".into()).into()
}

impl Reading<'_> {
    /// Makes the tensor of a view, the next one, unless it is there already.
    pub(super) fn settle_view(
        &mut self,
        id: NodeId,
        styles: &mut Styles,
        table: &mut dyn StorageTable,
        found: &mut Found,
    ) -> Result<()> {
        let graph = self.graph;
        let place = graph.view(id).filter(|place| *place <= self.tensors.len()).ok_or_else(unusual)?;
        if place < self.tensors.len() {
            return Ok(());
        }
        let view = graph.views().get(place).ok_or_else(unusual)?;
        let style = index(view.style);
        let known = match styles.0.get(style) {
            Some(Some(known)) => known,
            _ => {
                let known = self.style(graph.views().styles().get(style).ok_or_else(unusual)?)?;
                styles.0.resize(styles.0.len().max(style.saturating_add(1)), None);
                styles.0.get_mut(style).ok_or_else(unusual)?.insert(known)
            }
        };
        let (dtype, location) = known;
        let key = graph.str(view.key).ok_or_else(unusual)?;
        let (shape, stride) = graph.views().sizes(view);
        self.charge([key.len(), shape.len(), stride.len()].iter().sum())?;
        let (dtype, location) = (*dtype, location.clone());
        let given = table.storage(&StorageRef { dtype, key, location, numel: view.numel, view: None })?;
        let storage = self.place_storage(given, found)?;
        let storage = self.storages.get(storage).ok_or_else(unusual)?;
        let dtype = dtype.unwrap_or(DType::UInt8);
        check_inside(storage, dtype, shape, stride, view.offset)?;
        let tensor = shaped(dtype, shape.into(), stride.into())?;
        let (storage, kind) = match storage.is_meta() {
            true => (None, TensorKind::Meta),
            false => (Some(storage.clone()), TensorKind::Strided),
        };
        let storage_offset = view.offset;
        self.tensors.push(Tensor { storage_offset, storage, kind, requires_grad: view.flag, ..tensor });
        Ok(())
    }

    /// What all calls of a style share, where it is PyTorch's.
    fn style(&self, style: &Style) -> Result<(Option<DType>, Location)> {
        let dtype = match self.known_global(style.class) {
            Some(Known::StorageClass(dtype) | Known::ScriptStorageClass(dtype)) => Some(dtype),
            Some(Known::UntypedStorage) => None,
            _ => return Err(unusual()),
        };
        let is_usual = self.known_global(style.function) == Some(Known::Rebuild(Rebuild::V2))
            && self.graph.is_text(style.kind, b"storage")
            && self.known_global(style.hooks) == Some(Known::OrderedDict);
        if !is_usual {
            return Err(unusual());
        }
        Ok((dtype, self.location(style.location)?))
    }
}
