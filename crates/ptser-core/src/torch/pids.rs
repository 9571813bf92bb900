//! What the persistent ids of a graph name, asked of the container once for each.

use std::sync::Arc;

use foldhash::{HashMap, HashSet, HashSetExt};

use super::interpret::{Fault, Place, Reading};
use super::persistent::{Given, Named, Pid, StorageRef, StorageTable};
use crate::dtype::DType;
use crate::error::{Reason, Result};
use crate::limits;
use crate::memory;
use crate::pickle::{Graph, Node, NodeId};
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

/// What was found so far, so that nothing is made twice.
#[derive(Default)]
pub(super) struct Found {
    /// In order.
    pub(super) storages: Vec<Storage>,
    /// Places of storages, of the first so many.
    by_storage: HashMap<usize, usize>,
    storages_seen: usize,
    by_name: HashMap<String, PidMeaning>,
    /// Bytes of all storages.
    bytes: u64,
    /// The id that is the last node so far: one behind it is new.
    last: Option<NodeId>,
    /// What ids name: those of the first so many uses, for the ids that are not new.
    by_id: HashMap<NodeId, PidMeaning>,
    uses_seen: usize,
}

impl Found {
    /// What an id was found to name: one id may be named many times, as one object.
    fn before(&mut self, pid: NodeId, uses: &Pids, graph: &Graph) -> Option<PidMeaning> {
        if self.last < Some(pid) {
            self.last = Some(pid);
            return None;
        }
        for &(id, meaning) in uses.get(self.uses_seen..).unwrap_or_default() {
            if let Node::PersistentId(pid) = graph.node(id) {
                self.by_id.insert(pid, meaning);
            }
        }
        self.uses_seen = uses.len();
        self.by_id.get(&pid).copied()
    }

    /// The place of a storage that was found before.
    fn place(&mut self, storage: &Storage) -> Option<usize> {
        let unseen = self.storages.iter().enumerate().skip(self.storages_seen);
        self.by_storage.extend(unseen.map(|(place, storage)| (storage.id(), place)));
        self.storages_seen = self.storages.len();
        self.by_storage.get(&storage.id()).copied()
    }
}

impl<'g> Reading<'g> {
    /// Asks the container for everything that the graph names.
    pub(super) fn settle_pids(&mut self, table: &mut dyn StorageTable) -> Result<(), Fault> {
        let graph = self.graph;
        let here = |error| Fault { error, place: Place::Node(graph.root()) };
        let mut unprepared = None;
        if table.wants_all() {
            // What is wrong with an id is told below.
            let mut seen = HashSet::new();
            let ids = graph.persistent_ids().map(|(_, pid)| pid).filter(|&pid| seen.insert(pid));
            let ids: Vec<Pid<'_>> = ids.filter_map(|pid| self.pid(pid).ok()).collect();
            let references: Vec<&StorageRef<'_>> = ids.iter().filter_map(Pid::reference).collect();
            if let Err(error) = table.prepare(&references) {
                let place = self.let_pass(error, None);
                // What lies behind a storage that is damaged is not found, for the same reason.
                unprepared = Some(place.map_err(here)?);
            }
        }
        let mut found = Found::default();
        // Most storages are one tensor's, which is a view or was made by a call.
        let tensors = graph.views().len().saturating_add(graph.objects().len());
        memory::reserve(&mut found.storages, tensors).map_err(here)?;
        let mut settling = self.settling().map_err(here)?;
        for (id, node) in graph.named() {
            let pid = match node {
                Node::PersistentId(pid) => pid,
                _ => {
                    let view = self.settle_view(id, &mut settling, table, &mut found);
                    view.map_err(|error| Fault { error, place: Place::Node(id) })?;
                    continue;
                }
            };
            let meaning = match found.before(pid, &self.pids, graph) {
                Some(meaning) => meaning,
                None => {
                    let meaning = self.pid(pid).map_err(|error| (error, None));
                    let meaning = meaning.and_then(|pid| {
                        self.find(pid, table, &mut found).map_err(|error| (error, unprepared))
                    });
                    meaning.or_else(|(error, made_from)| {
                        let place = self.let_pass(error, made_from).map(PidMeaning::Damaged);
                        place.map_err(|error| Fault { error, place: Place::Node(id) })
                    })?
                }
            };
            memory::push(&mut self.pids, (id, meaning))
                .map_err(|error| Fault { error, place: Place::Node(id) })?;
        }
        self.storages = Arc::new(found.storages);
        self.view_tensors(settling).map_err(here)
    }

    fn find(&mut self, pid: Pid<'_>, table: &mut dyn StorageTable, found: &mut Found) -> Result<PidMeaning> {
        match pid {
            Pid::Class(class) => Ok(PidMeaning::Class(class)),
            Pid::Storage(reference) => {
                let given = table.storage(&reference).map_err(|error| match error.record() {
                    None => error.in_record(&format!("data/{}", reference.key)),
                    Some(_) => error,
                })?;
                Ok(PidMeaning::Storage(self.place_storage(given, found)?, reference.dtype))
            }
            Pid::Named(name) => {
                if let Some(meaning) = found.by_name.get(name.as_str()) {
                    return Ok(*meaning);
                }
                let meaning = match table.named(&name)? {
                    Some(Named::Storage(storage)) => {
                        let dtype = storage.dtype();
                        PidMeaning::Storage(self.place_storage(storage.into(), found)?, dtype)
                    }
                    Some(Named::Tensor(tensor)) => {
                        if let Some(storage) = tensor.storage() {
                            self.place_storage(storage.clone().into(), found)?;
                        }
                        // The tensors of views come before all others.
                        let place = self.graph.views().len().saturating_add(self.tensors.len());
                        self.tensors.push(tensor);
                        PidMeaning::Tensor(place)
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
    pub(super) fn place_storage(&mut self, given: Given, found: &mut Found) -> Result<usize> {
        let Given { storage, is_new } = given;
        if !is_new && let Some(place) = found.place(&storage) {
            return Ok(place);
        }
        // Parts lie in their whole, and meta storages nowhere.
        if storage.whole().is_none() && !storage.is_meta() {
            found.bytes = found.bytes.saturating_add(storage.nbytes());
            let allowed = self.limits.tensor_bytes;
            limits::check("all storages in bytes", "tensor_bytes", found.bytes, allowed)?;
        }
        found.storages.push(storage);
        Ok(found.storages.len().saturating_sub(1))
    }
}
