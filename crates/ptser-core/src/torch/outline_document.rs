//! The outline of a checkpoint that was read: its graph as it is, where its persistent ids are those that would be
//! written; with new ones where they are not.

use std::collections::HashMap;

use super::compact::only_viewed;
use super::interpret::Meaning;
use super::names::known;
use super::outline::{Outline, Outliner, PidDialect};
use super::pids::PidMeaning;
use crate::document::Document;
use crate::dtype::DType;
use crate::error::{Reason, Result};
use crate::pickle::{Node, NodeId};
use crate::storage::{Storage, element_bytes};
use crate::tensor::TensorKind;

/// Describes what a checkpoint holds.
///
/// # Errors
/// `Malformed` for one that was opened although it is damaged.
pub(crate) fn outline_document(document: &Document, dialect: PidDialect) -> Result<Outline> {
    let reached = document.graph.reachable();
    let is_reached = |id: NodeId| reached.get(id.place()) == Some(&true);
    let meaning = |(id, pid)| document.pid(id).map(|meaning| (id, pid, meaning));
    let pids =
        document.graph.persistent_ids().filter(|&(id, _)| is_reached(id)).filter_map(meaning).collect();
    let mut viewed_as = HashMap::new();
    for tensor in &document.interpretation.tensors {
        if let Some(storage) = tensor.storage() {
            viewed_as.entry(storage.id()).or_insert(tensor.dtype());
        }
    }
    let mut rewrite = Rewrite {
        viewed_as,
        pids,
        document,
        outliner: Outliner::new(document.graph.clone(), dialect),
        instead: HashMap::new(),
    };
    if rewrite.has_forms_of_today() {
        rewrite.storages(true)?;
    }
    if !rewrite.has_forms_of_today() || !rewrite.outliner.keys_are_kept() {
        rewrite.outliner = Outliner::new(document.graph.clone(), dialect);
        rewrite.storages(false)?;
    }
    rewrite.others(is_reached)?;
    let Rewrite { mut outliner, instead, .. } = rewrite;
    outliner.graph.redirect(&instead);
    // All that mean something to PyTorch lie in modules.
    outliner.graph.divide_names(|full| known(full).is_some());
    Ok(outliner.finish())
}

struct Rewrite<'d> {
    document: &'d Document,
    outliner: Outliner,
    /// Nodes that others take the place of.
    instead: HashMap<NodeId, NodeId>,
    /// The type of the first tensor that views each storage, by [`Storage::id`].
    viewed_as: HashMap<usize, DType>,
    /// The persistent ids that the root holds, with what they name.
    pids: Vec<(NodeId, NodeId, PidMeaning)>,
}

impl<'d> Rewrite<'d> {
    fn pids(&self) -> impl Iterator<Item = (NodeId, NodeId, PidMeaning)> + use<> {
        self.pids.clone().into_iter()
    }

    /// Notes the storages in their order; writes new persistent ids unless the old ones stay.
    fn storages(&mut self, keep: bool) -> Result<()> {
        let parts = if keep { HashMap::new() } else { self.parts()? };
        for (id, pid, meaning) in self.pids() {
            match meaning {
                PidMeaning::Storage(place, class) => {
                    let own = self.document.interpretation.storages.get(place);
                    let Some(storage) = parts.get(&place).map(|(whole, _)| whole).or(own) else { continue };
                    let dtype = self.dtype_of(storage, class);
                    let place = self.outliner.place(storage, class, dtype)?;
                    if keep {
                        self.outliner.keep_key(place, self.key_of(pid));
                    } else {
                        let new = self.outliner.storage(storage, class, dtype)?;
                        self.outliner.graph.set_node(id, self.outliner.graph.node(new));
                    }
                }
                PidMeaning::Damaged(_) => return Err(self.damaged(id)),
                PidMeaning::Tensor(_) | PidMeaning::Class(_) => {}
            }
        }
        Ok(())
    }

    /// Whether the persistent ids look as a writer would write them: files of torch 0.3 name parts of storages.
    fn has_forms_of_today(&self) -> bool {
        let dialect = self.outliner.dialect;
        let graph = &self.document.graph;
        // An encoding may have made bytes of the texts of Python 2.
        let texts = |ids: [NodeId; 3]| ids.iter().all(|&id| graph.str(id).is_some());
        let form = |pid: NodeId| match (dialect, graph.tuple(pid)) {
            (PidDialect::Zip, Some(&[kind, _, key, location, _])) => texts([kind, key, location]),
            (PidDialect::Legacy, Some(&[kind, _, key, location, _, view])) => {
                texts([kind, key, location]) && matches!(graph.node(view), Node::None)
            }
            _ => false,
        };
        self.pids().all(|(_, pid, meaning)| !matches!(meaning, PidMeaning::Storage(..)) || form(pid))
    }

    /// Parts of storages become views of the whole, where nothing but views mentions them.
    fn parts(&mut self) -> Result<HashMap<usize, (Storage, u64)>> {
        let storages = &self.document.interpretation.storages;
        let by_node: HashMap<NodeId, usize> = self
            .pids()
            .filter_map(|(id, _, meaning)| match meaning {
                PidMeaning::Storage(place, _) => Some((id, place)),
                _ => None,
            })
            .collect();
        let graph = &self.document.graph;
        let (views, only_viewed) = only_viewed(graph, &by_node);
        let whole = |place: usize| {
            let (whole, start) = storages.get(place)?.whole()?;
            only_viewed.contains(&place).then(|| (whole.clone(), start))
        };
        let parts: HashMap<usize, (Storage, u64)> =
            (0..storages.len()).filter_map(|place| Some((place, whole(place)?))).collect();
        for view in views {
            let Some(place) = by_node.get(&view.storage) else { continue };
            let Some((_, start)) = parts.get(place) else { continue };
            let size = element_bytes(storages.get(*place).and_then(Storage::dtype));
            let elements = start.checked_div(size).and_then(|elements| i64::try_from(elements).ok());
            let offset = elements.and_then(|elements| view.offset.checked_add(elements));
            let offset =
                offset.ok_or_else(|| Reason::Tensor("the storage offset of a part overflows".into()))?;
            let offset = self.outliner.graph.add(Node::Int(offset))?;
            self.outliner.graph.set_member(view.tuple, 1, offset);
        }
        Ok(parts)
    }

    fn key_of(&self, pid: NodeId) -> Option<&'d str> {
        let &key = self.document.graph.tuple(pid)?.get(2)?;
        self.document.graph.str(key)
    }

    /// The type by which an untyped storage is swapped is that of a tensor that views it.
    fn dtype_of(&self, storage: &Storage, class: Option<DType>) -> DType {
        class.unwrap_or_else(|| self.viewed_as.get(&storage.id()).copied().unwrap_or(DType::UInt8))
    }

    /// Streams hold their data behind the pickle, which PyTorch has read when it looks at the data.
    fn needs_data_at_once(&self, tensor: usize, callable: NodeId) -> bool {
        let nested = || {
            let tensor = self.document.interpretation.tensors.get(tensor);
            tensor.is_some_and(|tensor| matches!(tensor.kind(), TensorKind::Nested(_)))
        };
        let cast = || {
            let name = self.document.global(callable);
            name.is_some_and(|name| name.starts_with("torch._utils._rebuild_device_tensor_from_"))
        };
        self.outliner.dialect == PidDialect::Legacy && (nested() || cast())
    }

    fn damaged(&self, id: NodeId) -> crate::Error {
        let why = self.document.damage(id).map(ToString::to_string).unwrap_or_default();
        Reason::Damaged(why).into()
    }

    fn keeps_source(&self, pid: NodeId) -> bool {
        let graph = &self.document.graph;
        let text = |id: NodeId| matches!(graph.node(id), Node::Str(_) | Node::None);
        let form = matches!(graph.tuple(pid), Some(&[kind, _, file, source]) if text(kind) && text(file) && text(source));
        form && self.outliner.dialect == PidDialect::Legacy
    }

    /// Tensors and classes that persistent ids name, and what lies in the bytes of pickles.
    fn others(&mut self, is_reached: impl Fn(NodeId) -> bool) -> Result<()> {
        let mut tensors: HashMap<usize, NodeId> = HashMap::new();
        for (id, pid, meaning) in self.pids() {
            match meaning {
                PidMeaning::Tensor(place) => {
                    let Some(tensor) = self.document.interpretation.tensors.get(place) else { continue };
                    let node = match tensors.get(&place) {
                        Some(node) => *node,
                        None => self.outliner.tensor(tensor)?,
                    };
                    tensors.insert(place, node);
                    self.instead.insert(id, node);
                }
                // Archives have no such ids; streams keep the source with the class.
                PidMeaning::Class(class) if !self.keeps_source(pid) => {
                    self.instead.insert(id, class);
                }
                PidMeaning::Class(_) | PidMeaning::Storage(..) | PidMeaning::Damaged(_) => {}
            }
        }
        for place in 0..self.document.graph.len() {
            let id = NodeId::at(place)?;
            let Some((object, meaning)) = self.document.meaning(id).filter(|_| is_reached(id)) else {
                continue;
            };
            match meaning {
                Meaning::Damaged(_) => return Err(self.damaged(id)),
                Meaning::Tensor(meaning) if self.needs_data_at_once(meaning.place, object.callable) => {
                    return Err(Reason::Unsupported(
                        "a nested tensor, or one that is cast while it is loaded, in a legacy stream: PyTorch reads its \
                         data too late; save as a zip archive"
                            .into(),
                    )
                    .into());
                }
                Meaning::Storage(storage, class) => {
                    let Some(storage) = self.document.interpretation.storages.get(*storage) else { continue };
                    let node = self.outliner.storage(storage, *class, class.unwrap_or(DType::UInt8))?;
                    self.instead.insert(id, node);
                }
                Meaning::Tensor(meaning)
                    if self.document.global(object.callable) == Some("torch.storage._load_from_bytes") =>
                {
                    let Some(tensor) = self.document.interpretation.tensors.get(meaning.place) else {
                        continue;
                    };
                    let node = self.outliner.tensor(tensor)?;
                    self.instead.insert(id, node);
                }
                _ => {}
            }
        }
        Ok(())
    }
}
