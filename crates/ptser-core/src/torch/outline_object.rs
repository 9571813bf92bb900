//! The outline of a tree that was made in Rust.

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};

use super::outline::{Outline, Outliner, PidDialect};
use crate::error::{Error, Reason, Result};
use crate::object::{Entries, Kind, Object, is_always_one};
use crate::pickle::{Graph, More, Node, NodeId};
use crate::state_dict::StateDict;

/// Describes an object.
///
/// # Errors
/// `Misuse` for one that contains itself, `Unsupported` for tensors that cannot be saved by themselves.
pub(crate) fn outline_object(object: &Object, dialect: PidDialect) -> Result<Outline> {
    let mut walk = Walk {
        outliner: Outliner::new(Graph::default(), dialect),
        made: HashMap::new(),
        done: Vec::new(),
        rebuilt: HashMap::new(),
        bytes: HashMap::new(),
    };
    let mut tasks = vec![Task::Enter(object)];
    while let Some(task) = tasks.pop() {
        match task {
            Task::Enter(object) => walk.enter(object, &mut tasks)?,
            Task::Leave(object) => walk.leave(object)?,
        }
    }
    let root = walk.pop()?;
    walk.outliner.graph.set_root(root);
    Ok(walk.outliner.finish())
}

/// Describes tensors by name, as the ordered dict that they are as an object.
///
/// # Errors
/// As [`outline_object`].
pub(crate) fn outline_state_dict(state_dict: &StateDict, dialect: PidDialect) -> Result<Outline> {
    let mut outliner = Outliner::new(Graph::default(), dialect);
    outliner.reserve(state_dict.len(), state_dict.names().map(str::len).fold(0, usize::saturating_add));
    let mut entries = Vec::with_capacity(state_dict.len().saturating_mul(2));
    for (name, tensor) in state_dict.iter() {
        let is_one = is_always_one(name);
        entries.push(if is_one { outliner.literal(name)? } else { outliner.graph.add_text(name)? });
        entries.push(outliner.tensor(tensor)?);
    }
    let root = outliner.ordered_dict(Some(More { entries, ..More::default() }))?;
    outliner.graph.set_root(root);
    Ok(outliner.finish())
}

enum Task<'o> {
    Enter(&'o Object),
    Leave(&'o Object),
}

struct Walk {
    outliner: Outliner,
    /// The node of each object that is done, by its address.
    made: HashMap<usize, NodeId>,
    /// Nodes that wait for what they are part of.
    done: Vec<NodeId>,
    /// The arguments of tensors whose attributes are not done yet.
    rebuilt: HashMap<usize, Vec<NodeId>>,
    /// Bytes so short that CPython has one of each.
    bytes: HashMap<Option<u8>, NodeId>,
}

impl Walk {
    fn enter<'o>(&mut self, object: &'o Object, tasks: &mut Vec<Task<'o>>) -> Result<()> {
        let unhashable = match &*object.0 {
            Kind::Dict(entries) | Kind::OrderedDict { entries, .. } => {
                entries.iter().find_map(|(key, _)| key.unhashable())
            }
            Kind::Set(items) => items.iter().find_map(Object::unhashable),
            _ => None,
        };
        if let Some(kind) = unhashable {
            return Err(Error::misuse(format!(
                "a {kind} cannot be hashed, and be no key of a dict or member of a set"
            )));
        }
        if let Some(&node) = self.made.get(&address(object)) {
            self.done.push(node);
            return Ok(());
        }
        tasks.push(Task::Leave(object));
        let entries = |entries: &'o Entries, tasks: &mut Vec<Task<'o>>| {
            tasks
                .extend(entries.iter().rev().flat_map(|(key, value)| [Task::Enter(value), Task::Enter(key)]));
        };
        match &*object.0 {
            Kind::List(items) | Kind::Tuple(items) | Kind::Set(items) => {
                tasks.extend(items.iter().rev().map(Task::Enter));
            }
            Kind::Dict(dict) => entries(dict, tasks),
            Kind::OrderedDict { entries: dict, attributes } => {
                entries(attributes, tasks);
                entries(dict, tasks);
            }
            // What is rebuilt is written before the attributes, and its storages are counted first.
            Kind::Tensor { tensor, attributes } if !attributes.is_empty() => {
                let call = if tensor.is_parameter() {
                    let (_, args) = self.outliner.parameter(tensor)?;
                    args.to_vec()
                } else {
                    let (function, args) = self.outliner.rebuild(tensor, tensor.requires_grad())?;
                    let class = self.outliner.global("torch", "Tensor")?;
                    let args = self.outliner.graph.add_tuple(&args)?;
                    vec![function, class, args]
                };
                self.rebuilt.insert(address(object), call);
                entries(attributes, tasks);
            }
            _ => {}
        }
        Ok(())
    }

    fn pop(&mut self) -> Result<NodeId> {
        self.done.pop().ok_or_else(|| Reason::Object("an object without its parts".into()).into())
    }

    /// The nodes of the last so many parts.
    fn take(&mut self, count: usize) -> Vec<NodeId> {
        self.done.split_off(self.done.len().saturating_sub(count))
    }

    fn leave(&mut self, object: &Object) -> Result<()> {
        // What stands in an object several times was made while its parts were.
        let node = match self.made.get(&address(object)) {
            Some(node) => *node,
            None => self.make(object)?,
        };
        self.made.insert(address(object), node);
        self.done.push(node);
        Ok(())
    }

    fn make(&mut self, object: &Object) -> Result<NodeId> {
        let graph = &mut self.outliner.graph;
        match &*object.0 {
            Kind::None => graph.add(Node::None),
            Kind::Bool(bool) => graph.add(Node::Bool(*bool)),
            Kind::Int(int) => graph.add(Node::Int(*int)),
            Kind::Long(bytes) => {
                let span = graph.keep(bytes)?;
                graph.add(Node::Long(span))
            }
            Kind::Float(float) => graph.add(Node::Float(*float)),
            Kind::Complex(re, im) => {
                let parts = [graph.add(Node::Float(*re))?, graph.add(Node::Float(*im))?];
                let callable = self.outliner.global("builtins", "complex")?;
                self.outliner.call(callable, &parts)
            }
            Kind::Str { text, literal: true } => self.outliner.literal(text),
            Kind::Str { text, literal: false } => graph.add_text(text),
            Kind::Bytes(bytes) if bytes.len() < 2 => {
                if let Some(&node) = self.bytes.get(&bytes.first().copied()) {
                    return Ok(node);
                }
                let span = graph.keep(bytes)?;
                let node = graph.add(Node::Bytes(span))?;
                self.bytes.insert(bytes.first().copied(), node);
                Ok(node)
            }
            Kind::Bytes(bytes) => {
                let span = graph.keep(bytes)?;
                graph.add(Node::Bytes(span))
            }
            Kind::ByteArray(bytes) => {
                let span = graph.keep(bytes)?;
                graph.add(Node::ByteArray(span))
            }
            Kind::List(items) => {
                let items = self.take(items.len());
                self.outliner.graph.add_container(items, Node::List)
            }
            Kind::Tuple(items) => {
                let items = self.take(items.len());
                self.outliner.graph.add_tuple(&items)
            }
            Kind::Set(items) => {
                let items = self.take(items.len());
                self.outliner.graph.add_container(items, Node::Set)
            }
            Kind::Dict(entries) => {
                let entries = self.take(entries.len().saturating_mul(2));
                self.outliner.graph.add_container(entries, Node::Dict)
            }
            Kind::OrderedDict { entries, attributes } => {
                let states = self.attributes(attributes)?;
                let entries = self.take(entries.len().saturating_mul(2));
                let more = More { states, entries, ..More::default() };
                self.outliner.ordered_dict(Some(more))
            }
            Kind::Tensor { tensor, attributes } if attributes.is_empty() => self.outliner.tensor(tensor),
            Kind::Tensor { tensor, attributes } => {
                let state = self.attributes(attributes)?;
                let (module, name) = if tensor.is_parameter() {
                    ("torch._utils", "_rebuild_parameter_with_state")
                } else {
                    ("torch._tensor", "_rebuild_from_type_v2")
                };
                let callable = self.outliner.global(module, name)?;
                let args = self.rebuilt.remove(&address(object)).unwrap_or_default();
                self.outliner.call(callable, &[args, state].concat())
            }
            Kind::Storage(storage, class) => {
                self.outliner.storage(storage, *class, class.unwrap_or(crate::DType::UInt8))
            }
            Kind::DType(dtype) => self.outliner.dtype(*dtype),
            Kind::Size(sizes) => self.outliner.size(sizes),
            Kind::Device(location) => self.outliner.device(location),
            Kind::Layout(layout) => self.outliner.layout(*layout),
            Kind::Global(module, name) => self.outliner.global(module, name),
        }
    }

    /// The dict of an object's attributes, where it has some.
    fn attributes(&mut self, attributes: &Entries) -> Result<Vec<NodeId>> {
        if attributes.is_empty() {
            return Ok(Vec::new());
        }
        let attributes = self.take(attributes.len().saturating_mul(2));
        Ok(vec![self.outliner.graph.add_container(attributes, Node::Dict)?])
    }
}

fn address(object: &Object) -> usize {
    Arc::as_ptr(&object.0).addr()
}
