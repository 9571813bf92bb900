//! Gives every recorded call its meaning, once, in the order of the pickle: what a call is given was there
//! before it, so one pass forward without recursion settles all of them, and every tensor is checked here.

use std::collections::HashMap;

use super::globals::Globals;
use super::names::{Known, known};
use super::persistent::StorageTable;
use crate::dtype::DType;
use crate::error::{Error, Reason, Result};
use crate::location::Location;
use crate::pickle::{Call, Graph, Node, NodeId, Object};
use crate::storage::Storage;
use crate::tensor::{Layout, Tensor};

/// What a recorded call stands for.
#[derive(Debug)]
pub(crate) enum Meaning {
    /// A call whose meaning is unknown, and which the policy lets through.
    Opaque,
    /// A mapping: the entries of `base` (a dict, or a list of pairs), then those set on the object.
    Mapping { kind: MappingKind, base: Option<NodeId> },
    /// The members of a list or tuple, if any; then those appended to the object.
    Deque { members: Option<NodeId> },
    /// The members of a list or tuple, if any; then those added to the object.
    Set { frozen: bool, members: Option<NodeId> },
    Bytes(Box<[u8]>),
    ByteArray(Box<[u8]>),
    Complex(f64, f64),
    /// A tuple or list of integers.
    Size(NodeId),
    Device(Location),
    Layout(Layout),
    Tensor(TensorMeaning),
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
    /// The storage of each persistent id, and the element type of the class it was asked for with.
    pub(crate) storage_of: HashMap<NodeId, (usize, Option<DType>)>,
}

/// An error, and the object that it was found in.
pub(crate) struct Fault {
    pub(crate) error: Error,
    pub(crate) object: Option<usize>,
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
        storage_of: HashMap::new(),
    };
    reading.settle_storages(storages).map_err(|error| Fault { error, object: None })?;
    for (place, object) in graph.objects().iter().enumerate() {
        let meaning = reading.meaning(object).map_err(|error| Fault { error, object: Some(place) })?;
        reading.meanings.push(meaning);
    }
    let Reading { meanings, tensors, storages, storage_of, .. } = reading;
    Ok(Interpretation { meanings, tensors, storages, storage_of })
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
    storage_of: HashMap<NodeId, (usize, Option<DType>)>,
}

impl Reading<'_> {
    fn settle_storages(&mut self, table: &mut dyn StorageTable) -> Result<()> {
        let mut by_key: HashMap<String, usize> = HashMap::new();
        for (id, pid) in self.graph.persistent_ids() {
            let reference = self.storage_ref(pid)?;
            let storage = table.storage(&reference).map_err(|error| match error.record() {
                None => error.in_record(&format!("data/{}", reference.key)),
                Some(_) => error,
            })?;
            let dtype = reference.dtype;
            let place = *by_key.entry(reference.key).or_insert_with(|| {
                self.storages.push(storage);
                self.storages.len().saturating_sub(1)
            });
            self.storage_of.insert(id, (place, dtype));
        }
        Ok(())
    }

    fn meaning(&mut self, object: &Object) -> Result<Meaning> {
        let args = self.graph.tuple(object.args).unwrap_or_default();
        let Some(known) = self.known_global(object.callable) else {
            return self.unknown_call(object);
        };
        let meaning = match (object.call, known) {
            (_, Known::Parameter) => self.parameter(object, args)?,
            (Call::Reduce, Known::Rebuild(function)) => self.rebuild(function, args)?,
            (Call::Reduce, Known::Tensor) => self.legacy_tensor(object, None, args)?,
            (Call::Reduce, Known::TensorClass { dtype, sparse: false }) => self.legacy_tensor(object, Some(dtype), args)?,
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
        let wrong = |what: &str| Err(Reason::Object(format!("{what} {}", self.describe(object.callable))).into());
        if !more.entries.is_empty() && !mapping {
            return wrong("items are set on a");
        }
        if !more.items.is_empty() && !grows {
            return wrong("items are added to a");
        }
        let has_attributes = matches!(meaning, Meaning::Mapping { .. } | Meaning::Deque { .. } | Meaning::Tensor(_));
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
        match self.graph.node(object.callable) {
            Node::Global(symbol) => {
                let allowed = self.graph.symbol(symbol).is_some_and(|symbol| {
                    self.globals.allowed().any(|name| name == &*symbol.full)
                });
                if allowed { Ok(Meaning::Opaque) } else { Err(self.not_callable(object.callable)) }
            }
            // The result of a call that the policy let through, called in turn.
            Node::Object(_) if self.is_opaque(object.callable) => Ok(Meaning::Opaque),
            _ => Err(self.not_callable(object.callable)),
        }
    }

    fn not_callable(&self, callable: NodeId) -> Error {
        Reason::Refused(format!("a call of {}, which the weights-only policy does not allow", self.describe(callable))).into()
    }

    fn is_opaque(&self, id: NodeId) -> bool {
        self.meaning_of(id).is_some_and(|meaning| matches!(meaning, Meaning::Opaque))
    }

    /// The meaning of an object that came before.
    pub(super) fn meaning_of(&self, id: NodeId) -> Option<&Meaning> {
        self.graph.object(id).and_then(|(place, _)| self.meanings.get(place))
    }

    /// The storage of a persistent id, and the element type of the class it was asked for with.
    pub(super) fn storage(&self, id: NodeId) -> Option<(&Storage, Option<DType>)> {
        let &(place, dtype) = self.storage_of.get(&id)?;
        Some((self.storages.get(place)?, dtype))
    }

    /// The meaning of a global node.
    pub(super) fn known_global(&self, id: NodeId) -> Option<Known> {
        match self.graph.node(id) {
            Node::Global(symbol) => self.known.get(symbol.place()).copied().flatten(),
            _ => None,
        }
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
            Node::Global(symbol) => self.graph.symbol(symbol).map_or_else(String::new, |symbol| symbol.full.to_string()),
            Node::Object(_) => match self.graph.object(id).map(|(_, object)| self.graph.node(object.callable)) {
                Some(Node::Global(symbol)) => {
                    let name = self.graph.symbol(symbol).map_or("", |symbol| &symbol.full);
                    format!("the result of {name}")
                }
                _ => "an object".into(),
            },
            Node::PersistentId(_) => "a storage".into(),
        }
    }
}
