//! The views that a pickle has in a node each: what [`rebuild`](super::rebuild) makes of `_rebuild_tensor_v2`, at once.

use std::sync::Arc;

use super::interpret::Reading;
use super::names::{Known, Rebuild};
use super::persistent::{StorageRef, StorageTable};
use super::pids::Found;
use crate::bounds::check_view;
use crate::dtype::DType;
use crate::error::{Error, Reason, Result};
use crate::memory::reserve;
use crate::pickle::{NodeId, Style, View, Views, index};
use crate::storage::Storage;
use crate::tensor::{Fields, Rows, Tensor, TensorKind};

/// Whether a global is a function whose calls are read so.
pub(crate) fn makes_views(full: &str) -> bool {
    matches!(super::known(full), Some(Known::Rebuild(Rebuild::V2)))
}

/// What is not as it should be is told once the pickle is read in full.
fn unusual() -> Error {
    Reason::Tensor("an unusual view".into()).into()
}

/// The tensors of a graph's views: all that is said of them beside the calls themselves.
struct Plain {
    views: Arc<Views>,
    /// The element type of each style.
    dtypes: Vec<DType>,
    /// For each view the place of its storage.
    places: Vec<u32>,
    storages: Arc<Vec<Storage>>,
}

impl Plain {
    fn view(&self, row: usize) -> Option<&View> {
        self.views.get(row)
    }

    fn sizes(&self, row: usize) -> (&[usize], &[usize]) {
        self.view(row).map(|view| self.views.sizes(view)).unwrap_or_default()
    }
}

impl Rows for Plain {
    fn dtype(&self, row: usize) -> DType {
        let dtype = self.view(row).and_then(|view| self.dtypes.get(usize::from(view.style)));
        dtype.copied().unwrap_or(DType::UInt8)
    }

    fn shape(&self, row: usize) -> &[usize] {
        self.sizes(row).0
    }

    fn stride(&self, row: usize) -> &[usize] {
        self.sizes(row).1
    }

    fn storage_offset(&self, row: usize) -> usize {
        self.view(row).map_or(0, |view| index(view.offset))
    }

    fn storage(&self, row: usize) -> Option<&Storage> {
        self.storages.get(index(*self.places.get(row)?))
    }

    fn requires_grad(&self, row: usize) -> bool {
        self.view(row).is_some_and(|view| view.flag)
    }
}

/// What is settled of a graph's views, in their order.
pub(super) struct Settling<'g> {
    /// Of each style what references to its storages say; their keys and sizes are those of a view.
    references: Vec<StorageRef<'g>>,
    /// For each view so far the place of its storage.
    places: Vec<u32>,
}

impl<'g> Reading<'g> {
    /// Begins with what styles say.
    pub(super) fn settling(&self) -> Result<Settling<'g>> {
        let views = self.graph.views();
        let references: Result<_> = views.styles().iter().map(|style| self.reference(style)).collect();
        let mut places = Vec::new();
        reserve(&mut places, views.len())?;
        Ok(Settling { references: references?, places })
    }

    /// Checks a view, the next one, unless that was done already, and finds its storage.
    pub(super) fn settle_view(
        &mut self,
        id: NodeId,
        settling: &mut Settling<'g>,
        table: &mut dyn StorageTable,
        found: &mut Found,
    ) -> Result<()> {
        let graph = self.graph;
        let Settling { references, places } = settling;
        let place = graph.view(id).filter(|place| *place <= places.len()).ok_or_else(unusual)?;
        if place < places.len() {
            return Ok(());
        }
        let view = graph.views().get(place).ok_or_else(unusual)?;
        let reference = references.get_mut(usize::from(view.style)).ok_or_else(unusual)?;
        let key = graph.utf8(view.key).ok_or_else(unusual)?;
        (reference.key, reference.numel) = (key, view.numel.into());
        let (shape, stride) = graph.views().sizes(view);
        self.charge([key.len(), shape.len(), stride.len()].iter().sum())?;
        let given = table.storage(reference)?;
        let storage = self.place_storage(given, found)?;
        places.push(u32::try_from(storage).map_err(|_| unusual())?);
        let storage = found.storages.get(storage).ok_or_else(unusual)?;
        check_view(storage, reference.dtype.unwrap_or(DType::UInt8), shape, stride, index(view.offset))
    }

    /// Makes the tensors of all views, once all storages are known that ids name, and puts them before the others.
    pub(super) fn view_tensors(&mut self, settled: Settling<'_>) -> Result<()> {
        let Settling { references, places } = settled;
        let dtypes = references.iter().map(|of| of.dtype.unwrap_or(DType::UInt8)).collect();
        let (views, storages) = (Arc::clone(self.graph.views()), Arc::clone(&self.storages));
        let count = places.len();
        let rows: Arc<dyn Rows> = Arc::new(Plain { views, dtypes, places, storages });
        let mut tensors = Vec::new();
        let others = self.tensors.len().saturating_add(self.pids.len());
        // Most storages that other ids name are one tensor's, too.
        reserve(&mut tensors, count.saturating_add(others))?;
        tensors.extend((0..count).map(|row| {
            let tensor = Tensor::row(Arc::clone(&rows), row);
            if rows.storage(row).is_some_and(Storage::is_meta) {
                return Fields { kind: TensorKind::Meta, storage: None, ..tensor.into_fields() }.into();
            }
            tensor
        }));
        tensors.append(&mut self.tensors);
        self.tensors = tensors;
        Ok(())
    }

    /// What all calls of a style say of their storages, where it is PyTorch's.
    fn reference(&self, style: &Style) -> Result<StorageRef<'g>> {
        let is_usual = self.known_global(style.function) == Some(Known::Rebuild(Rebuild::V2))
            && self.graph.is_text(style.kind, b"storage")
            && self.known_global(style.hooks) == Some(Known::OrderedDict);
        if !is_usual {
            return Err(unusual());
        }
        let (dtype, location) = (self.storage_class(style.class)?, self.location(style.location)?);
        Ok(StorageRef { dtype, key: "", location, numel: 0, view: None })
    }
}
