//! Gives every recorded call its meaning, once, in the order of the pickle: what a call is given was there
//! before it, so one pass forward without recursion settles all of them, and every tensor is checked here.

use std::cell::Cell;
use std::collections::HashMap;

use super::globals::Globals;
use super::names::{Known, known};
use super::persistent::{Named, Pid, StorageRef, StorageTable};
use crate::dtype::DType;
use crate::error::{Error, Reason, Result};
use crate::location::Location;
use crate::pickle::{Call, Graph, Node, NodeId, Object, SymbolId};
use crate::storage::Storage;
use crate::tensor::{Layout, Tensor};

/// What a recorded call stands for.
#[derive(Debug)]
pub(crate) enum Meaning {
    /// A call whose meaning is unknown, and which the policy lets through.
    Opaque,
    /// A mapping: the entries of `base` (a dict, or a list of pairs), then those set on the object.
    Mapping {
        kind: MappingKind,
        base: Option<NodeId>,
    },
    /// The members of a list or tuple, if any; then those appended to the object.
    Deque {
        members: Option<NodeId>,
    },
    /// The members of a list or tuple, if any; then those added to the object.
    Set {
        frozen: bool,
        members: Option<NodeId>,
    },
    Bytes(Box<[u8]>),
    ByteArray(Box<[u8]>),
    Complex(f64, f64),
    /// A tuple or list of integers.
    Size(NodeId),
    Device(Location),
    Layout(Layout),
    Tensor(TensorMeaning),
    /// A place in [`Interpretation::storages`], and the element type of its class.
    Storage(usize, Option<DType>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MappingKind {
    OrderedDict,
    Counter,
    DefaultDict,
}

/// A tensor, and what hangs on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TensorMeaning {
    /// The place in [`Interpretation::tensors`].
    pub(crate) place: usize,
    /// The subclass that it was, if it was one.
    pub(crate) class: Option<NodeId>,
    /// Its Python attributes: a dict, or a pair of dicts.
    pub(crate) attributes: Option<NodeId>,
}

/// The meanings of a graph.
pub(crate) struct Interpretation {
    /// One for each of [`Graph::objects`].
    pub(crate) meanings: Vec<Meaning>,
    pub(crate) tensors: Vec<Tensor>,
    /// In order of first appearance.
    pub(crate) storages: Vec<Storage>,
    pids: Pids,
}

/// What each persistent id names, in the order of the ids.
type Pids = Vec<(NodeId, PidMeaning)>;

/// What a persistent id names.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PidMeaning {
    /// A place in [`Interpretation::storages`], and the element type of the class it was asked for with.
    Storage(usize, Option<DType>),
    /// A place in [`Interpretation::tensors`].
    Tensor(usize),
    /// The node of a class.
    Class(NodeId),
}

/// An error, and where in the graph it was found.
pub(crate) struct Fault {
    pub(crate) error: Error,
    pub(crate) place: Place,
}

/// A place in a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// One of [`Graph::objects`].
    Object(usize),
    Node(NodeId),
}

impl Interpretation {
    /// Persistent ids that name one tensor each, in ascending order.
    pub(crate) fn of_tensors(pids: &[NodeId], tensors: Vec<Tensor>) -> Self {
        let storages = tensors.iter().filter_map(|tensor| tensor.storage().cloned()).collect();
        let pids = pids.iter().enumerate().map(|(place, &id)| (id, PidMeaning::Tensor(place))).collect();
        Self { meanings: Vec::new(), tensors, storages, pids }
    }

    /// What a persistent id names.
    pub(crate) fn pid(&self, id: NodeId) -> Option<PidMeaning> {
        pid_in(&self.pids, id)
    }
}

fn pid_in(pids: &Pids, id: NodeId) -> Option<PidMeaning> {
    let place = pids.binary_search_by_key(&id, |&(id, _)| id).ok()?;
    pids.get(place).map(|&(_, meaning)| meaning)
}

/// Interprets a graph whose globals the policy has let through.
pub(crate) fn interpret(
    graph: &Graph,
    globals: &Globals,
    storages: &mut dyn StorageTable,
) -> Result<Interpretation, Fault> {
    let known = graph.symbols().iter().map(|symbol| known(&symbol.full)).collect();
    let mut reading = Reading {
        graph,
        globals,
        known,
        meanings: Vec::with_capacity(graph.objects().len()),
        tensors: Vec::new(),
        storages: Vec::new(),
        pids: Vec::new(),
        copies: Cell::new(graph.weight().saturating_mul(4).saturating_add(1 << 20)),
    };
    reading.settle_pids(storages)?;
    for (place, object) in graph.objects().iter().enumerate() {
        let meaning = reading
            .meaning(object, storages)
            .map_err(|error| Fault { error, place: Place::Object(place) })?;
        reading.meanings.push(meaning);
    }
    let Reading { meanings, tensors, storages, pids, .. } = reading;
    Ok(Interpretation { meanings, tensors, storages, pids })
}

/// The state of one pass.
pub(super) struct Reading<'g> {
    pub(super) graph: &'g Graph,
    pub(super) globals: &'g Globals,
    /// One for each of [`Graph::symbols`].
    known: Vec<Option<Known>>,
    pub(super) meanings: Vec<Meaning>,
    pub(super) tensors: Vec<Tensor>,
    storages: Vec<Storage>,
    pids: Pids,
    /// How many bytes and members may still be copied or looked over: objects can share their arguments, and a
    /// small file could ask for the same work without end.
    copies: Cell<usize>,
}

impl Reading<'_> {
    fn settle_pids(&mut self, table: &mut dyn StorageTable) -> Result<(), Fault> {
        let graph = self.graph;
        // One id may be named many times, as one object.
        let mut asked: Vec<(NodeId, Pid)> = Vec::new();
        let mut places: HashMap<NodeId, usize> = HashMap::new();
        let mut uses: Vec<(NodeId, usize)> = Vec::new();
        for (id, pid) in graph.persistent_ids() {
            let place = match places.get(&pid) {
                Some(place) => *place,
                None => {
                    let named = self.pid(pid).map_err(|error| Fault { error, place: Place::Node(id) })?;
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
                Pid::Class(_) | Pid::Named(_) => None,
            })
            .collect();
        table.prepare(&references).map_err(|error| Fault { error, place: Place::Node(graph.root()) })?;

        let mut found = Vec::with_capacity(asked.len());
        let mut by_storage: HashMap<usize, usize> = HashMap::new();
        let mut by_name: HashMap<&str, PidMeaning> = HashMap::new();
        for (id, pid) in &asked {
            let fault = |error| Fault { error, place: Place::Node(*id) };
            found.push(match pid {
                Pid::Class(class) => PidMeaning::Class(*class),
                Pid::Storage(reference) => {
                    let storage = table.storage(reference).map_err(|error| {
                        fault(match error.record() {
                            None => error.in_record(&format!("data/{}", reference.key)),
                            Some(_) => error,
                        })
                    })?;
                    PidMeaning::Storage(self.place_storage(storage, &mut by_storage), reference.dtype)
                }
                Pid::Named(name) => match by_name.get(name.as_str()) {
                    Some(meaning) => *meaning,
                    None => {
                        let named = table.named(name).map_err(fault)?;
                        let meaning = match named {
                            Some(Named::Storage(storage)) => {
                                let dtype = storage.dtype();
                                PidMeaning::Storage(self.place_storage(storage, &mut by_storage), dtype)
                            }
                            Some(Named::Tensor(tensor)) => {
                                if let Some(storage) = tensor.storage() {
                                    self.place_storage(storage.clone(), &mut by_storage);
                                }
                                self.tensors.push(tensor);
                                PidMeaning::Tensor(self.tensors.len().saturating_sub(1))
                            }
                            None => {
                                let what = format!("the persistent id {name:?} names nothing");
                                return Err(fault(Reason::Object(what).into()));
                            }
                        };
                        by_name.insert(name, meaning);
                        meaning
                    }
                },
            });
        }
        self.pids = uses
            .into_iter()
            .filter_map(|(id, place)| found.get(place).map(|&meaning| (id, meaning)))
            .collect();
        Ok(())
    }

    /// The place of a storage, once however often it is named.
    fn place_storage(&mut self, storage: Storage, places: &mut HashMap<usize, usize>) -> usize {
        *places.entry(storage.id()).or_insert_with(|| {
            self.storages.push(storage);
            self.storages.len().saturating_sub(1)
        })
    }

    /// Pays for copying or looking over `amount` bytes or members.
    pub(super) fn charge(&self, amount: usize) -> Result<()> {
        let left = self.copies.get().checked_sub(amount);
        self.copies.set(left.ok_or_else(|| {
            Reason::Object(
                "objects share their arguments so often that reading them all would not end".into(),
            )
        })?);
        Ok(())
    }

    /// Pays for the attributes in a state, which many objects may share.
    pub(super) fn charge_state(&self, state: NodeId) -> Result<()> {
        let members = |id: NodeId| match self.meaning_of(id) {
            Some(Meaning::Mapping { base: Some(base), .. }) => self.graph.members(*base).len(),
            _ => match self.graph.object(id).and_then(|(_, object)| object.more.as_deref()) {
                Some(more) => more.entries.len(),
                None => self.graph.members(id).len(),
            },
        };
        let parts = self.graph.tuple(state).unwrap_or_default();
        self.charge(parts.iter().fold(members(state), |sum, &part| sum.saturating_add(members(part))))
    }

    fn meaning(&mut self, object: &Object, table: &mut dyn StorageTable) -> Result<Meaning> {
        let args = self.graph.tuple(object.args).unwrap_or_default();
        let states = object.more.iter().flat_map(|more| &more.states);
        states.copied().try_for_each(|state| self.charge_state(state))?;
        let Some(known) = self.known_global(object.callable) else {
            return self.unknown_call(object);
        };
        let meaning = match (object.call, known) {
            (_, Known::Parameter) => self.parameter(object, args)?,
            (Call::Reduce, Known::Rebuild(function)) => self.rebuild(function, args)?,
            (Call::Reduce, Known::Tensor) => self.legacy_tensor(object, None, args)?,
            (Call::Reduce, Known::TensorClass { dtype, sparse: false }) => {
                self.legacy_tensor(object, Some(dtype), args)?
            }
            (Call::Reduce, Known::TensorClass { dtype, sparse: true }) => self.legacy_sparse(dtype, args)?,
            (Call::Reduce, Known::LoadFromBytes) => self.nested(table, args)?,
            (Call::Reduce, Known::StorageClass(dtype)) if self.globals.is_inert() => {
                self.storage_of_numbers(dtype, args)?
            }
            (Call::Reduce, known) => match self.value(known, args)? {
                Some(meaning) => meaning,
                None => return self.unknown_call(object),
            },
            (Call::New, _) => return self.unknown_call(object),
        };
        self.check_additions(object, &meaning)?;
        Ok(meaning)
    }

    /// What the pickle may do to an object after its construction depends on what it is.
    fn check_additions(&self, object: &Object, meaning: &Meaning) -> Result<()> {
        let Some(more) = &object.more else { return Ok(()) };
        let mapping = matches!(meaning, Meaning::Mapping { .. });
        let grows = matches!(meaning, Meaning::Set { frozen: false, .. } | Meaning::Deque { .. });
        let wrong =
            |what: &str| Err(Reason::Object(format!("{what} {}", self.describe(object.callable))).into());
        if !more.entries.is_empty() && !mapping {
            return wrong("items are set on a");
        }
        if !more.items.is_empty() && !grows {
            return wrong("items are added to a");
        }
        let has_attributes =
            matches!(meaning, Meaning::Mapping { .. } | Meaning::Deque { .. } | Meaning::Tensor(_));
        if !more.states.is_empty() && !has_attributes {
            return wrong("a state is given to a");
        }
        Ok(())
    }

    /// A call of something whose meaning is unknown stays as it is, where the policy lets it.
    fn unknown_call(&self, object: &Object) -> Result<Meaning> {
        if self.globals.is_inert() {
            return Ok(Meaning::Opaque);
        }
        let allowed = match self.symbol_of(object.callable).and_then(|symbol| self.graph.symbol(symbol)) {
            Some(symbol) => self.globals.lists(&symbol.full),
            // The result of a call that the policy let through, called in turn.
            None => self.is_opaque(object.callable),
        };
        if allowed { Ok(Meaning::Opaque) } else { Err(self.not_callable(object.callable)) }
    }

    fn not_callable(&self, callable: NodeId) -> Error {
        Reason::Refused(format!(
            "a call of {}, which the weights-only policy does not allow",
            self.describe(callable)
        ))
        .into()
    }

    fn is_opaque(&self, id: NodeId) -> bool {
        self.meaning_of(id).is_some_and(|meaning| matches!(meaning, Meaning::Opaque))
    }

    /// The meaning of an object that came before.
    pub(super) fn meaning_of(&self, id: NodeId) -> Option<&Meaning> {
        self.graph.object(id).and_then(|(place, _)| self.meanings.get(place))
    }

    /// The storage that a node is, and the element type of the class it was asked for with.
    pub(super) fn storage(&self, id: NodeId) -> Option<(&Storage, Option<DType>)> {
        match (self.meaning_of(id), pid_in(&self.pids, id)) {
            (Some(&Meaning::Storage(place, dtype)), _) | (_, Some(PidMeaning::Storage(place, dtype))) => {
                Some((self.storages.get(place)?, dtype))
            }
            _ => None,
        }
    }

    /// `torch.storage._load_from_bytes(bytes)`.
    fn nested(&mut self, table: &mut dyn StorageTable, args: &[NodeId]) -> Result<Meaning> {
        let bytes = match args {
            &[bytes] => self.bytes_of(bytes),
            _ => None,
        };
        let bytes = bytes.ok_or_else(|| self.wrong_args("torch.storage._load_from_bytes", args))?;
        self.charge(bytes.len())?;
        Ok(match table.nested(bytes)? {
            Named::Storage(storage) => {
                let dtype = storage.dtype();
                self.storages.push(storage);
                Meaning::Storage(self.storages.len().saturating_sub(1), dtype)
            }
            Named::Tensor(tensor) => {
                self.storages.extend(tensor.storage().cloned());
                self.tensors.push(tensor);
                let place = self.tensors.len().saturating_sub(1);
                Meaning::Tensor(TensorMeaning { place, class: None, attributes: None })
            }
        })
    }

    /// `torch.FloatStorage([1.0, 2.0])`: how torch before 0.4 is pickled without PyTorch's own format around it.
    fn storage_of_numbers(&mut self, dtype: DType, args: &[NodeId]) -> Result<Meaning> {
        let storage = self.numbers(dtype, args).ok_or_else(|| self.wrong_args("a storage", args))?;
        self.storages.push(storage);
        Ok(Meaning::Storage(self.storages.len().saturating_sub(1), Some(dtype)))
    }

    /// The place among the tensors of a node that is one.
    pub(super) fn tensor_place(&self, id: NodeId) -> Option<usize> {
        match (self.meaning_of(id), pid_in(&self.pids, id)) {
            (Some(Meaning::Tensor(meaning)), _) => Some(meaning.place),
            (_, Some(PidMeaning::Tensor(place))) => Some(place),
            _ => None,
        }
    }

    /// The global that a node is, also behind the persistent id of a class.
    fn symbol_of(&self, id: NodeId) -> Option<SymbolId> {
        let id = match pid_in(&self.pids, id) {
            Some(PidMeaning::Class(class)) => class,
            _ => id,
        };
        match self.graph.node(id) {
            Node::Global(symbol) => Some(symbol),
            _ => None,
        }
    }

    /// The meaning of a global node.
    pub(super) fn known_global(&self, id: NodeId) -> Option<Known> {
        self.known.get(self.symbol_of(id)?.place()).copied().flatten()
    }
}

/// Names values in messages.
pub(super) trait Spelling {
    /// What a node is, in a word or two.
    fn describe(&self, id: NodeId) -> String;
}

impl Spelling for Reading<'_> {
    fn describe(&self, id: NodeId) -> String {
        match self.graph.node(id) {
            Node::None => "None".into(),
            Node::Bool(_) => "a bool".into(),
            Node::Int(int) => format!("the integer {int}"),
            Node::Long(_) => "an integer beyond 64 bits".into(),
            Node::Float(float) => format!("the float {float}"),
            Node::Str(span) => {
                let text = self.graph.text(span);
                format!("the string {:?}", text.chars().take(40).collect::<String>())
            }
            Node::Surrogates(_) => "a string".into(),
            Node::Bytes(_) | Node::ByteArray(_) => "bytes".into(),
            Node::Tuple(_) => "a tuple".into(),
            Node::List(_) => "a list".into(),
            Node::Dict(_) => "a dict".into(),
            Node::Set(_) | Node::FrozenSet(_) => "a set".into(),
            Node::Global(symbol) => {
                self.graph.symbol(symbol).map_or_else(String::new, |symbol| symbol.full.to_string())
            }
            Node::Object(_) => {
                match self.graph.object(id).map(|(_, object)| self.graph.node(object.callable)) {
                    Some(Node::Global(symbol)) => {
                        let name = self.graph.symbol(symbol).map_or("", |symbol| &symbol.full);
                        format!("the result of {name}")
                    }
                    _ => "an object".into(),
                }
            }
            Node::PersistentId(_) => "a storage".into(),
        }
    }
}
