//! What the persistent ids of a graph name, asked of the container once for each.

use std::collections::HashMap;

use super::interpret::{Fault, Place, Reading};
use super::persistent::{Named, Pid, StorageRef, StorageTable};
use crate::dtype::DType;
use crate::error::{Reason, Result};
use crate::limits;
use crate::pickle::NodeId;
use crate::storage::Storage;

/// What each persistent id names, in the order of the ids.
pub(super) type Pids = Vec<(NodeId, PidMeaning)>;

/// What a persistent id names.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PidMeaning {
    /// A place in [`Interpretation::storages`], and the element type of the class it was asked for with.
    Storage(usize, Option<DType>),
    /// A place in [`Interpretation::tensors`].
    Tensor(usize),
    /// The node of a class.
    Class(NodeId),
    /// A place in [`Interpretation::damages`].
    Damaged(usize),
}

pub(super) fn pid_in(pids: &Pids, id: NodeId) -> Option<PidMeaning> {
    let place = pids.binary_search_by_key(&id, |&(id, _)| id).ok()?;
    pids.get(place).map(|&(_, meaning)| meaning)
}

/// What was found so far, so that nothing is made twice.
#[derive(Default)]
struct Found<'p> {
    by_storage: HashMap<usize, usize>,
    /// Bytes of all storages.
    bytes: u64,
    by_name: HashMap<&'p str, PidMeaning>,
}

impl Reading<'_> {
    /// Asks the container for everything that the graph names.
    pub(super) fn settle_pids(&mut self, table: &mut dyn StorageTable) -> Result<(), Fault> {
        let graph = self.graph;
        // One id may be named many times, as one object.
        let mut asked: Vec<(NodeId, Pid)> = Vec::new();
        let mut places: HashMap<NodeId, usize> = HashMap::new();
        let mut uses: Vec<(NodeId, usize)> = Vec::new();
        for (id, pid) in graph.persistent_ids() {
            let place = match places.get(&pid) {
                Some(place) => *place,
                None => {
                    let named = self.pid(pid).or_else(|error| self.let_pass(error, None).map(Pid::Damaged));
                    let named = named.map_err(|error| Fault { error, place: Place::Node(id) })?;
                    let place = asked.len();
                    asked.push((id, named));
                    places.insert(pid, place);
                    place
                }
            };
            uses.push((id, place));
        }
        let references: Vec<&StorageRef> = asked
            .iter()
            .filter_map(|(_, pid)| match pid {
                Pid::Storage(reference) => Some(reference),
                Pid::Class(_) | Pid::Named(_) | Pid::Damaged(_) => None,
            })
            .collect();
        // What lies behind a storage that is damaged is not found, for the same reason.
        let unprepared = match table.prepare(&references) {
            Ok(()) => None,
            Err(error) => {
                let place = self.let_pass(error, None);
                Some(place.map_err(|error| Fault { error, place: Place::Node(graph.root()) })?)
            }
        };

        let mut meanings = Vec::with_capacity(asked.len());
        let mut found = Found::default();
        for (id, pid) in &asked {
            let meaning = self.find(pid, table, &mut found).or_else(|error| {
                let place = self.let_pass(error, unprepared).map(PidMeaning::Damaged);
                place.map_err(|error| Fault { error, place: Place::Node(*id) })
            });
            meanings.push(meaning?);
        }
        let meaning = |(id, place): (NodeId, usize)| meanings.get(place).map(|&meaning| (id, meaning));
        self.pids = uses.into_iter().filter_map(meaning).collect();
        Ok(())
    }

    fn find<'p>(
        &mut self,
        pid: &'p Pid,
        table: &mut dyn StorageTable,
        found: &mut Found<'p>,
    ) -> Result<PidMeaning> {
        match pid {
            Pid::Class(class) => Ok(PidMeaning::Class(*class)),
            Pid::Damaged(place) => Ok(PidMeaning::Damaged(*place)),
            Pid::Storage(reference) => {
                let storage = table.storage(reference).map_err(|error| match error.record() {
                    None => error.in_record(&format!("data/{}", reference.key)),
                    Some(_) => error,
                })?;
                Ok(PidMeaning::Storage(self.place_storage(storage, found)?, reference.dtype))
            }
            Pid::Named(name) => {
                if let Some(meaning) = found.by_name.get(name.as_str()) {
                    return Ok(*meaning);
                }
                let meaning = match table.named(name)? {
                    Some(Named::Storage(storage)) => {
                        let dtype = storage.dtype();
                        PidMeaning::Storage(self.place_storage(storage, found)?, dtype)
                    }
                    Some(Named::Tensor(tensor)) => {
                        if let Some(storage) = tensor.storage() {
                            self.place_storage(storage.clone(), found)?;
                        }
                        self.tensors.push(tensor);
                        PidMeaning::Tensor(self.tensors.len().saturating_sub(1))
                    }
                    None => {
                        let what = format!("the persistent id {name:?} names nothing");
                        return Err(Reason::Object(what).into());
                    }
                };
                found.by_name.insert(name, meaning);
                Ok(meaning)
            }
        }
    }

    /// The place of a storage, once however often it is named.
    fn place_storage(&mut self, storage: Storage, found: &mut Found<'_>) -> Result<usize> {
        let next = self.storages.len();
        let place = *found.by_storage.entry(storage.id()).or_insert(next);
        if place == next {
            // Parts lie in their whole, and meta storages nowhere.
            if storage.whole().is_none() && !storage.is_meta() {
                found.bytes = found.bytes.saturating_add(storage.nbytes());
                let allowed = self.limits.tensor_bytes;
                limits::check("all storages in bytes", "tensor_bytes", found.bytes, allowed)?;
            }
            self.storages.push(storage);
        }
        Ok(place)
    }
}
