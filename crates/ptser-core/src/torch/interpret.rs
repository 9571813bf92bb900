//! Gives every recorded call its meaning, once, in the order of the pickle: what a call is given was there
//! before it, so one pass forward without recursion settles all of them, and every tensor is checked here.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use super::globals::Globals;
use super::names::{Known, known};
use super::persistent::{Named, StorageTable};
use super::pids::{PidMeaning, Pids};
use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::limits::Limits;
use crate::location::Location;
use crate::memory;
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
    /// Numbers and texts of NumPy.
    Bool(bool),
    Int(i64),
    Long([u8; 9]),
    Float(f64),
    Text(Box<str>),
    DType(DType),
    /// A place in [`Interpretation::arrays`].
    Array(usize),
    /// Of a file.
    Path(Box<str>),
    /// A point in time, as ISO 8601 has it.
    Time(Box<str>),
    /// A global by way of another: `module.Outer.Inner`.
    Member(Box<str>),
    /// A tuple or list of integers.
    Size(NodeId),
    Device(Location),
    Layout(Layout),
    Tensor(TensorMeaning),
    /// A place in [`Interpretation::storages`], and the element type of its class.
    Storage(usize, Option<DType>),
    /// A place in [`Interpretation::damages`].
    Damaged(usize),
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
#[derive(Default)]
pub(crate) struct Interpretation {
    /// One for each of [`Graph::objects`].
    pub(crate) meanings: Vec<Meaning>,
    /// The first ones are those of [`Graph::views`].
    pub(crate) tensors: Vec<Tensor>,
    /// NumPy's.
    pub(crate) arrays: Vec<Tensor>,
    /// In order of first appearance.
    pub(crate) storages: Arc<Vec<Storage>>,
    /// What was let pass, so that the rest could be read.
    pub(crate) damages: Vec<Error>,
    pids: Pids,
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
        let storages = Arc::new(tensors.iter().filter_map(|tensor| tensor.storage().cloned()).collect());
        let pids = pids.iter().enumerate().map(|(place, &id)| (id, PidMeaning::Tensor(place))).collect();
        Self { tensors, storages, pids, ..Self::default() }
    }

    /// What a persistent id names.
    pub(crate) fn pid(&self, id: NodeId) -> Option<PidMeaning> {
        let place = self.pids.binary_search_by_key(&id, |&(id, _)| id).ok()?;
        self.pids.get(place).map(|&(_, meaning)| meaning)
    }
}

/// What becomes of an object that contradicts itself or its storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Faults {
    /// The checkpoint is refused.
    #[default]
    Refused,
    /// The object is damaged, and so is what is made from it; the rest is read.
    Kept,
}

/// Interprets a graph whose globals the policy has let through.
pub(crate) fn interpret(
    graph: &Graph,
    globals: &Globals,
    faults: Faults,
    limits: &Limits,
    storages: &mut dyn StorageTable,
) -> Result<Interpretation, Fault> {
    let known = graph.symbols().iter().map(|symbol| known(&symbol.full)).collect();
    let mut reading = Reading {
        graph,
        globals,
        faults,
        limits,
        known,
        meanings: Vec::new(),
        tensors: Vec::new(),
        arrays: Vec::new(),
        storages: Arc::default(),
        pids: Vec::new(),
        damages: Vec::new(),
        copies: Cell::new(graph.weight().saturating_mul(4).saturating_add(1 << 20)),
        last_location: RefCell::new(Location::cpu()),
        next_pid: Cell::new(0),
    };
    let here = |error| Fault { error, place: Place::Node(graph.root()) };
    memory::reserve(&mut reading.meanings, graph.objects().len()).map_err(here)?;
    reading.settle_pids(storages)?;
    for (place, object) in graph.objects().iter().enumerate() {
        let meaning = reading.meaning(object, storages).or_else(|error| {
            let made_from = reading.damaged_part(object);
            reading.let_pass(error, made_from).map(Meaning::Damaged)
        });
        reading.meanings.push(meaning.map_err(|error| Fault { error, place: Place::Object(place) })?);
    }
    let Reading { meanings, tensors, arrays, storages, pids, damages, .. } = reading;
    Ok(Interpretation { meanings, tensors, arrays, storages, pids, damages })
}

/// The state of one pass.
pub(super) struct Reading<'g> {
    pub(super) graph: &'g Graph,
    pub(super) globals: &'g Globals,
    faults: Faults,
    pub(super) limits: &'g Limits,
    /// One for each of [`Graph::symbols`].
    known: Vec<Option<Known>>,
    pub(super) meanings: Vec<Meaning>,
    pub(super) tensors: Vec<Tensor>,
    pub(super) arrays: Vec<Tensor>,
    /// Those that ids name, once all are known; then the others.
    pub(super) storages: Arc<Vec<Storage>>,
    pub(super) pids: Pids,
    damages: Vec<Error>,
    /// How many bytes and members may still be copied or looked over: objects can share their arguments, and a
    /// small file could ask for the same work without end.
    copies: Cell<usize>,
    pub(super) last_location: RefCell<Location>,
    /// Where the persistent id that is asked for next is looked for first: a pickle asks in order.
    next_pid: Cell<usize>,
}

impl Reading<'_> {
    /// Keeps an error, where faults are kept: the place among the damages. What is made from something damaged has
    /// its error.
    pub(super) fn let_pass(&mut self, error: Error, made_from: Option<usize>) -> Result<usize> {
        let passes = matches!(error.kind(), ErrorKind::Malformed | ErrorKind::Unsupported);
        if self.faults == Faults::Refused || !passes {
            return Err(error);
        }
        Ok(made_from.unwrap_or_else(|| {
            self.damages.push(error);
            self.damages.len().saturating_sub(1)
        }))
    }

    /// The damage of something among the arguments of a call, or in a tuple among them.
    fn damaged_part(&self, object: &Object) -> Option<usize> {
        const ARGS: usize = 16;
        let damage = |id: NodeId| match (self.meaning_of(id), self.pid_meaning(id)) {
            (Some(&Meaning::Damaged(place)), _) | (_, Some(PidMeaning::Damaged(place))) => Some(place),
            _ => None,
        };
        let members = |id: NodeId| self.graph.tuple(id).into_iter().flatten().copied().take(ARGS);
        let states = object.more.iter().flat_map(|more| &more.states).copied().take(1);
        let mut parts = std::iter::once(object.args).chain(states).flat_map(members);
        parts.find_map(|part| damage(part).or_else(|| members(part).find_map(damage)))
    }

    /// Pays for copying or looking over `amount` bytes or members.
    #[inline]
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
        let mut states = object.more.iter().flat_map(|more| self.graph.states(more));
        states.try_for_each(|state| self.charge_state(state))?;
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
            (Call::Reduce, Known::Numpy(call)) => match self.numpy(call, object, args)? {
                Some(meaning) => meaning,
                None => return self.unknown_call(object),
            },
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
        let has_attributes = matches!(
            meaning,
            Meaning::Mapping { .. }
                | Meaning::Deque { .. }
                | Meaning::Tensor(_)
                | Meaning::DType(_)
                | Meaning::Array(_)
        );
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
        self.meaning_of(id).is_some_and(|meaning| matches!(meaning, Meaning::Opaque | Meaning::Member(_)))
    }

    /// The meaning of an object that came before.
    #[inline]
    pub(super) fn meaning_of(&self, id: NodeId) -> Option<&Meaning> {
        self.graph.object(id).and_then(|(place, _)| self.meanings.get(place))
    }

    /// The storage that a node is, and the element type of the class it was asked for with.
    #[inline]
    pub(super) fn storage(&self, id: NodeId) -> Option<(&Storage, Option<DType>)> {
        match (self.meaning_of(id), self.pid_meaning(id)) {
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
                self.add_storage(storage, dtype)
            }
            Named::Tensor(tensor) => {
                Arc::make_mut(&mut self.storages).extend(tensor.storage().cloned());
                self.tensors.push(tensor);
                let place = self.tensors.len().saturating_sub(1);
                Meaning::Tensor(TensorMeaning { place, class: None, attributes: None })
            }
        })
    }

    /// `torch.FloatStorage([1.0, 2.0])`: how torch before 0.4 is pickled without PyTorch's own format around it.
    fn storage_of_numbers(&mut self, dtype: DType, args: &[NodeId]) -> Result<Meaning> {
        let storage = self.numbers(dtype, args).ok_or_else(|| self.wrong_args("a storage", args))?;
        Ok(self.add_storage(storage, Some(dtype)))
    }

    /// Adds a storage that no id names.
    fn add_storage(&mut self, storage: Storage, dtype: Option<DType>) -> Meaning {
        let storages = Arc::make_mut(&mut self.storages);
        storages.push(storage);
        Meaning::Storage(storages.len().saturating_sub(1), dtype)
    }

    /// The place among the tensors of a node that is one.
    #[inline]
    pub(super) fn tensor_place(&self, id: NodeId) -> Option<usize> {
        match (self.meaning_of(id), self.pid_meaning(id)) {
            (Some(Meaning::Tensor(meaning)), _) => Some(meaning.place),
            (_, Some(PidMeaning::Tensor(place))) => Some(place),
            _ => self.graph.view(id),
        }
    }

    /// The global that a node is, also behind the persistent id of a class.
    #[inline]
    fn symbol_of(&self, id: NodeId) -> Option<SymbolId> {
        match (self.graph.node(id), self.pid_meaning(id)) {
            (Node::Global(symbol), _) => Some(symbol),
            (_, Some(PidMeaning::Class(class))) => match self.graph.node(class) {
                Node::Global(symbol) => Some(symbol),
                _ => None,
            },
            _ => None,
        }
    }

    /// What a persistent id names.
    #[inline]
    fn pid_meaning(&self, id: NodeId) -> Option<PidMeaning> {
        if !matches!(self.graph.node(id), Node::PersistentId(_)) {
            return None;
        }
        let expected = self.next_pid.get();
        let place = match self.pids.get(expected) {
            Some((next, _)) if *next == id => expected,
            _ => self.pids.binary_search_by_key(&id, |&(id, _)| id).ok()?,
        };
        self.next_pid.set(place.saturating_add(1));
        self.pids.get(place).map(|&(_, meaning)| meaning)
    }

    /// The meaning of a global node.
    #[inline]
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
            Node::View(_) => "a tensor".into(),
        }
    }
}
