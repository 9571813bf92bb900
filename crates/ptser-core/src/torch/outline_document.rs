//! The outline of a checkpoint that was read: its graph as it is, where its persistent ids are those that would be
//! written; with new ones where they are not.

use std::collections::HashMap;

use super::interpret::Meaning;
use super::outline::{Outline, Outliner, PidDialect};
use super::pids::PidMeaning;
use crate::document::Document;
use crate::dtype::DType;
use crate::error::{Reason, Result};
use crate::pickle::{Node, NodeId};
use crate::storage::Storage;

/// Describes what a checkpoint holds.
///
/// # Errors
/// `Malformed` for one that was opened although it is damaged.
pub(crate) fn outline_document(document: &Document, dialect: PidDialect) -> Result<Outline> {
    let mut rewrite = Rewrite {
        document,
        outliner: Outliner::new(document.graph.clone(), dialect),
        instead: HashMap::new(),
    };
    rewrite.storages(true)?;
    if !rewrite.is_canonical() {
        rewrite.outliner = Outliner::new(document.graph.clone(), dialect);
        rewrite.storages(false)?;
    }
    rewrite.others()?;
    let Rewrite { mut outliner, instead, .. } = rewrite;
    outliner.graph.redirect(&instead);
    Ok(outliner.finish())
}

struct Rewrite<'d> {
    document: &'d Document,
    outliner: Outliner,
    /// Nodes that others take the place of.
    instead: HashMap<NodeId, NodeId>,
}

impl<'d> Rewrite<'d> {
    /// Every persistent id, with what it names.
    fn pids(&self) -> impl Iterator<Item = (NodeId, NodeId, PidMeaning)> + use<'d> {
        let document = self.document;
        let meaning = |(id, pid)| document.interpretation.pid(id).map(|meaning| (id, pid, meaning));
        document.graph.persistent_ids().filter_map(meaning)
    }

    /// Notes the storages in their order; writes new persistent ids unless the old ones stay.
    fn storages(&mut self, keep: bool) -> Result<()> {
        for (id, pid, meaning) in self.pids() {
            match meaning {
                PidMeaning::Storage(place, class) => {
                    let Some(storage) = self.document.interpretation.storages.get(place) else { continue };
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

    /// Whether the keys, and the forms of the persistent ids, are those that a writer would give them.
    fn is_canonical(&self) -> bool {
        let graph = &self.document.graph;
        let form = |pid: NodeId| match (self.outliner.dialect, graph.tuple(pid)) {
            (PidDialect::Zip, Some(pid)) => pid.len() == 5,
            // Parts of storages, as torch 0.3 wrote them, are written as storages of their own.
            (PidDialect::Legacy, Some(&[.., part])) => matches!(graph.node(part), Node::None),
            (_, None) | (PidDialect::Legacy, _) => false,
        };
        let forms =
            self.pids().all(|(_, pid, meaning)| !matches!(meaning, PidMeaning::Storage(..)) || form(pid));
        forms && self.outliner.keys_are_kept()
    }

    fn key_of(&self, pid: NodeId) -> Option<&'d str> {
        let &key = self.document.graph.tuple(pid)?.get(2)?;
        self.document.graph.str(key)
    }

    /// The type by which an untyped storage is swapped is that of a tensor that views it.
    fn dtype_of(&self, storage: &Storage, class: Option<DType>) -> DType {
        class.unwrap_or_else(|| {
            let mut tensors = self.document.interpretation.tensors.iter();
            let view = tensors.find(|tensor| tensor.storage.as_ref().is_some_and(|own| own.is(storage)));
            view.map_or(DType::UInt8, |tensor| tensor.dtype)
        })
    }

    fn damaged(&self, id: NodeId) -> crate::Error {
        let why = self.document.damage(id).map(ToString::to_string).unwrap_or_default();
        Reason::Damaged(why).into()
    }

    /// Tensors and classes that persistent ids name, and what lies in the bytes of pickles.
    fn others(&mut self) -> Result<()> {
        let mut tensors: HashMap<usize, NodeId> = HashMap::new();
        for (id, _, meaning) in self.pids() {
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
                PidMeaning::Class(class) if self.outliner.dialect == PidDialect::Zip => {
                    self.instead.insert(id, class);
                }
                PidMeaning::Class(_) | PidMeaning::Storage(..) | PidMeaning::Damaged(_) => {}
            }
        }
        for place in 0..self.document.graph.len() {
            let id = NodeId::at(place)?;
            let Some((object, meaning)) = self.document.meaning(id) else { continue };
            match meaning {
                Meaning::Damaged(_) => return Err(self.damaged(id)),
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
