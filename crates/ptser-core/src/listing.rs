//! Every way to every tensor and array of a checkpoint, in the order of the file, each by its path.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::OnceLock;

use crate::document::Document;
use crate::error::{Error, Result};
use crate::limits::{self, Limits};
use crate::memory::{extend, filled, make_room_for, push, reserve};
use crate::pickle::{Node, NodeId};
use crate::repr::Repr;
use crate::tensor::Tensor;
use crate::torch::Meaning;
use crate::value::{Value, ValueKind};

/// One step of a path from the root to a value.
///
/// Names in the checkpoint's own words: dict keys, list indexes, `.name` for Python attributes, and `#…` for
/// parts that have no name in Python: `#indices`, `#values`, `#args/0`, `#callable`, `#items/0`, `#state`, `#dict`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PathElement {
    /// A key, an attribute or a part.
    Key(String),
    /// An integer key, or an index into a list or tuple.
    Index(i64),
}

impl std::fmt::Display for PathElement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Key(key) => f.write_str(key),
            Self::Index(index) => write!(f, "{index}"),
        }
    }
}

/// The tensors and arrays of a document by path.
pub(crate) struct Listing {
    /// A tree: each step names its parent by place plus one; 0 is the root.
    steps: Vec<(usize, Step)>,
    found: Vec<Found>,
    /// Places in `found`: of PyTorch's tensors, and of NumPy's arrays.
    tensors: Vec<usize>,
    arrays: Vec<usize>,
    /// All names, one behind the other.
    names: String,
    /// Places in `found`, by name and then by place.
    by_name: OnceLock<Vec<usize>>,
}

struct Found {
    step: usize,
    /// Where the name ends in `names`; it begins where the one before ends.
    name_end: usize,
    node: NodeId,
    /// For a part of a tensor, its place among [`Tensor::parts`].
    part: Option<usize>,
}

/// A step as the walk meets it, not yet spelled.
#[derive(Clone, Copy)]
enum Step {
    Key(NodeId),
    Attribute(NodeId),
    Index(usize),
    Numbered(&'static str, usize),
    Keyword(NodeId),
    Assigned(NodeId),
    Part(&'static str),
    /// Of a nested tensor.
    Component(usize),
}

/// One tensor of a checkpoint, at one of its paths.
#[derive(Clone, Copy)]
pub struct Entry<'c> {
    document: &'c Document,
    listing: &'c Listing,
    place: usize,
}

impl Listing {
    /// Walks a document from a value on.
    ///
    /// A container that is reached by several paths is walked along each, up to an effort bounded by the graph's
    /// size, and once beyond it; cycles are walked once.
    pub(crate) fn of(document: &Document, from: NodeId, limits: &Limits) -> Result<Self> {
        let nodes = document.graph.len();
        let mut walk = Walk {
            document,
            listing: Self {
                steps: Vec::new(),
                found: Vec::new(),
                tensors: Vec::new(),
                arrays: Vec::new(),
                names: String::new(),
                by_name: OnceLock::new(),
            },
            seen: filled(false, nodes)?,
            open: filled(false, nodes)?,
            repeats: document.graph.weight().saturating_mul(2).saturating_add(100_000),
            limits,
            chain: Vec::new(),
        };
        walk.run(from)?;
        Ok(walk.listing)
    }

    /// Tensors, what should have been ones, and arrays, in the order of the file.
    pub(crate) fn all<'c>(&'c self, document: &'c Document) -> impl ExactSizeIterator<Item = Entry<'c>> {
        (0..self.found.len()).map(move |place| Entry { document, listing: self, place })
    }

    pub(crate) fn tensors<'c>(&'c self, document: &'c Document) -> impl ExactSizeIterator<Item = Entry<'c>> {
        self.tensors.iter().map(move |&place| Entry { document, listing: self, place })
    }

    pub(crate) fn arrays<'c>(&'c self, document: &'c Document) -> impl ExactSizeIterator<Item = Entry<'c>> {
        self.arrays.iter().map(move |&place| Entry { document, listing: self, place })
    }

    /// The last entry of a name.
    pub(crate) fn find<'c>(&'c self, document: &'c Document, name: &str) -> Option<Entry<'c>> {
        let by_name = self.by_name.get_or_init(|| {
            let mut places: Vec<usize> = (0..self.found.len()).collect();
            places.sort_by(|&a, &b| self.name(a).cmp(self.name(b)));
            places
        });
        let behind = by_name.partition_point(|&place| self.name(place) <= name);
        let place = *by_name.get(behind.checked_sub(1)?)?;
        (self.name(place) == name).then_some(Entry { document, listing: self, place })
    }

    fn name(&self, place: usize) -> &str {
        let end_of = |place: usize| self.found.get(place).map(|found| found.name_end);
        let start = place.checked_sub(1).and_then(end_of).unwrap_or(0);
        end_of(place).and_then(|end| self.names.get(start..end)).unwrap_or_default()
    }
}

struct Walk<'d> {
    document: &'d Document,
    listing: Listing,
    /// Nodes that were walked into, by themselves or as what an object was made from.
    seen: Vec<bool>,
    /// On the path to the current value.
    open: Vec<bool>,
    /// How many children may still be walked into again.
    repeats: usize,
    limits: &'d Limits,
    /// The steps of the name being written.
    chain: Vec<usize>,
}

enum Task {
    Enter { node: NodeId, parent: usize, step: Option<Step> },
    Leave(NodeId),
}

impl Walk<'_> {
    fn run(&mut self, from: NodeId) -> Result<()> {
        let mut tasks = vec![Task::Enter { node: from, parent: 0, step: None }];
        let mut children = Vec::new();
        while let Some(task) = tasks.pop() {
            let (node, parent, step) = match task {
                Task::Leave(node) => {
                    self.mark_open(node, false);
                    continue;
                }
                Task::Enter { node, parent, step } => (node, parent, step),
            };
            let document = self.document;
            let value = Value { document, id: node };
            let Some(into) = branches(document, node) else { continue };
            let repeated = self.meet(node);
            if self.open.get(node.place()).copied().unwrap_or(true) || (repeated && self.repeats == 0) {
                continue;
            }
            let at = match step {
                Some(step) => {
                    push(&mut self.listing.steps, (parent, step))?;
                    self.listing.steps.len()
                }
                None => 0,
            };
            match into {
                Branches::Tensor(tensor) => self.tensor(node, at, tensor)?,
                Branches::Damaged => self.add(node, at, None)?,
                Branches::Array => {
                    self.listing.arrays.push(self.listing.found.len());
                    self.list(node, at, None)?;
                }
                Branches::Sequence | Branches::Set | Branches::Mapping | Branches::Object => {}
            }
            collect(value, &into, &mut children)?;
            if repeated {
                self.repeats = self.repeats.saturating_sub(children.len().saturating_add(1));
            }
            children.retain(|&(_, child)| branches(document, child).is_some());
            if !children.is_empty() {
                self.mark_open(node, true);
                reserve(&mut tasks, children.len().saturating_add(1))?;
                tasks.push(Task::Leave(node));
                tasks.extend(children.drain(..).rev().map(|(step, node)| Task::Enter {
                    node,
                    parent: at,
                    step: Some(step),
                }));
            }
        }
        Ok(())
    }

    fn tensor(&mut self, node: NodeId, at: usize, tensor: &Tensor) -> Result<()> {
        self.add(node, at, None)?;
        for (place, (name, _)) in tensor.parts().enumerate() {
            let step = match name {
                Cow::Borrowed(name) => Step::Part(name),
                Cow::Owned(_) => Step::Component(place),
            };
            push(&mut self.listing.steps, (at, step))?;
            self.add(node, self.listing.steps.len(), Some(place))?;
        }
        Ok(())
    }

    fn add(&mut self, node: NodeId, step: usize, part: Option<usize>) -> Result<()> {
        self.listing.tensors.push(self.listing.found.len());
        self.list(node, step, part)
    }

    fn list(&mut self, node: NodeId, step: usize, part: Option<usize>) -> Result<()> {
        let found = u64::try_from(self.listing.found.len()).unwrap_or(u64::MAX).saturating_add(1);
        limits::check("the number of paths to tensors", "tensors_listed", found, self.limits.tensors_listed)?;
        self.write_name(step)?;
        let name_end = self.listing.names.len();
        push(&mut self.listing.found, Found { step, name_end, node, part })
    }

    /// Appends the name at a step to the names: the path's elements joined by dots.
    fn write_name(&mut self, step: usize) -> Result<()> {
        let Self { document, listing, chain, limits, .. } = self;
        chain.clear();
        chain.extend(upwards(&listing.steps, step));
        for (place, &step) in chain.iter().rev().enumerate() {
            if place > 0 {
                listing.names.push('.');
            }
            if let Some((_, step)) = listing.steps.get(step) {
                if let Step::Key(key) = step {
                    make_room_for(&mut listing.names, document.graph.str(*key).map_or(0, str::len))?;
                }
                write_step(document, *step, &mut listing.names);
            }
            let bytes = u64::try_from(listing.names.len()).unwrap_or(u64::MAX);
            limits::check("the names of all tensors in bytes", "names_bytes", bytes, limits.names_bytes)?;
        }
        Ok(())
    }

    /// Notes that a node is walked into, and what it was made from; says whether any of them was before.
    fn meet(&mut self, node: NodeId) -> bool {
        let Self { document, seen, .. } = self;
        let mut note =
            |node: NodeId| seen.get_mut(node.place()).is_some_and(|seen| std::mem::replace(seen, true));
        let mut met = note(node);
        let Some((object, meaning)) = document.meaning(node) else { return met };
        // Empty tuples are made from nothing, and shared by many.
        let args = document.graph.members(object.args);
        if !args.is_empty() {
            met |= note(object.args);
        }
        let base = match meaning {
            Meaning::Mapping { base, .. } => *base,
            Meaning::Deque { members } | Meaning::Set { members, .. } => *members,
            Meaning::Tensor(tensor) => tensor.attributes,
            Meaning::Opaque => args.get(2).copied(),
            _ => None,
        };
        let more = object.more.as_deref();
        let states = more.iter().flat_map(|more| more.states.iter().chain(&more.kwargs));
        for &source in states.chain(&base) {
            // What has no members of its own costs nothing to walk into again.
            if !document.graph.members(source).is_empty() {
                met |= note(source);
            }
        }
        met
    }

    fn mark_open(&mut self, node: NodeId, state: bool) {
        if let Some(open) = self.open.get_mut(node.place()) {
            *open = state;
        }
    }
}

enum Branches<'v> {
    Tensor(&'v Tensor),
    Array,
    Damaged,
    Sequence,
    Set,
    Mapping,
    Object,
}

/// Containers and tensors are walked into; everything else ends a path.
fn branches(document: &Document, node: NodeId) -> Option<Branches<'_>> {
    Some(match document.graph.node(node) {
        Node::List(_) | Node::Tuple(_) => Branches::Sequence,
        Node::Set(_) | Node::FrozenSet(_) => Branches::Set,
        Node::Dict(_) => Branches::Mapping,
        // The tar archives of torch 0.1 name tensors so.
        Node::PersistentId(_) => match document.damage(node) {
            Some(_) => Branches::Damaged,
            None => Branches::Tensor(document.tensor(node)?),
        },
        Node::Object(_) => match document.meaning(node)?.1 {
            Meaning::Tensor(_) => Branches::Tensor(document.tensor(node)?),
            Meaning::Deque { .. } => Branches::Sequence,
            Meaning::Set { .. } => Branches::Set,
            Meaning::Mapping { .. } => Branches::Mapping,
            Meaning::Opaque => Branches::Object,
            Meaning::Array(_) => Branches::Array,
            Meaning::Damaged(_) => Branches::Damaged,
            _ => return None,
        },
        _ => return None,
    })
}

fn collect(value: Value<'_>, branches: &Branches<'_>, out: &mut Vec<(Step, NodeId)>) -> Result<()> {
    match branches {
        Branches::Array | Branches::Damaged => return Ok(()),
        Branches::Tensor(_) => {}
        Branches::Sequence => {
            extend(out, value.items().enumerate().map(|(index, item)| (Step::Index(index), item.id)))?
        }
        Branches::Set => {
            extend(
                out,
                value.items().enumerate().map(|(index, item)| (Step::Numbered("#items", index), item.id)),
            )?;
        }
        Branches::Mapping => extend(out, value.entries().map(|(key, value)| (Step::Key(key.id), value.id)))?,
        Branches::Object => {
            match subclass(value) {
                Some((inner, [class, state])) => {
                    extend(
                        out,
                        inner
                            .items()
                            .enumerate()
                            .map(|(index, arg)| (Step::Numbered("#args/0/#args", index), arg.id)),
                    )?;
                    extend(
                        out,
                        [(Step::Numbered("#args", 1), class.id), (Step::Numbered("#args", 2), state.id)],
                    )?;
                }
                None => extend(
                    out,
                    value.args().enumerate().map(|(index, arg)| (Step::Numbered("#args", index), arg.id)),
                )?,
            }
            extend(out, value.callable().map(|callable| (Step::Part("#callable"), callable.id)))?;
            if let Some(kwargs) = value.kwargs() {
                extend(out, kwargs.entries().map(|(key, value)| (Step::Keyword(key.id), value.id)))?;
            }
            for state in value.states() {
                if state.is_mapping() {
                    extend(out, state.entries().map(|(key, value)| (Step::Key(key.id), value.id)))?;
                } else {
                    push(out, (Step::Part("#state"), state.id))?;
                }
            }
            extend(
                out,
                value.appended().enumerate().map(|(index, item)| (Step::Numbered("#items", index), item.id)),
            )?;
            extend(out, value.assigned().map(|(key, value)| (Step::Assigned(key.id), value.id)))?;
            return Ok(());
        }
    }
    if let Some(state) = value.state() {
        let before = out.len();
        extend(out, value.attributes().map(|(key, value)| (Step::Attribute(key.id), value.id)))?;
        // A state of a class's own making.
        if out.len() == before && !state.is_mapping() {
            push(out, (Step::Part("#state"), state.id))?;
        }
    }
    Ok(())
}

/// The parts of a tensor subclass with a rebuild function of its own, `(function, class, args, state)`: what
/// stands for `function(*args)` is the first of three.
fn subclass(value: Value<'_>) -> Option<(Value<'_>, [Value<'_>; 2])> {
    let mut args =
        value.args().filter(|_| value.class() == Some("torch._tensor._rebuild_from_type_v2")).skip(1);
    let (class, inner, state) = (args.next()?, args.next()?, args.next()?);
    Some((inner, [class, state]))
}

/// The places of the steps from one up to the root.
fn upwards(steps: &[(usize, Step)], mut step: usize) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let place = step.checked_sub(1)?;
        step = steps.get(place)?.0;
        Some(place)
    })
}

fn path(document: &Document, steps: &[(usize, Step)], step: usize) -> Vec<PathElement> {
    let mut path: Vec<PathElement> = upwards(steps, step)
        .filter_map(|place| steps.get(place))
        .map(|&(_, step)| spell(document, step))
        .collect();
    path.reverse();
    path
}

/// Writes a step as [`spell`] spells it, the common ones without a copy.
fn write_step(document: &Document, step: Step, out: &mut String) {
    let _ = match step {
        Step::Key(key) => match document.graph.str(key) {
            Some(text) => {
                out.push_str(text);
                Ok(())
            }
            None => write!(out, "{}", spell(document, step)),
        },
        Step::Index(index) => write!(out, "{index}"),
        _ => write!(out, "{}", spell(document, step)),
    };
}

fn spell(document: &Document, step: Step) -> PathElement {
    match step {
        Step::Key(key) => spell_key(Value { document, id: key }),
        Step::Attribute(key) => PathElement::Key(format!(".{}", spell_key(Value { document, id: key }))),
        Step::Keyword(key) => PathElement::Key(format!("#kwargs/{}", spell_key(Value { document, id: key }))),
        Step::Assigned(key) => PathElement::Key(format!("#dict/{}", spell_key(Value { document, id: key }))),
        Step::Index(index) => PathElement::Index(i64::try_from(index).unwrap_or(i64::MAX)),
        Step::Numbered(name, index) => PathElement::Key(format!("{name}/{index}")),
        Step::Component(place) => PathElement::Key(format!("#component{place}")),
        Step::Part(name) if name.starts_with('#') => PathElement::Key(name.to_owned()),
        Step::Part(name) => PathElement::Key(format!("#{name}")),
    }
}

fn spell_key(key: Value<'_>) -> PathElement {
    match key.kind() {
        ValueKind::Str(text) => PathElement::Key(text.to_owned()),
        ValueKind::Int(int) => PathElement::Index(int),
        // A class, which old training loops use as a key, is never looked up: its stand-in has this name.
        ValueKind::Global(name) => PathElement::Key(format!("<stub {name}>")),
        _ => PathElement::Key(Repr::key(key)),
    }
}

impl<'c> Value<'c> {
    /// What it holds, each under its step of a [path](Entry::path): entries, items, attributes, and the parts of an object
    /// that was never made. The indices and values of sparse tensors and the like are no values: [`Tensor::parts`].
    ///
    /// # Errors
    /// `Io` where memory is short.
    pub fn children(self) -> Result<impl ExactSizeIterator<Item = (PathElement, Self)>> {
        let mut steps = Vec::new();
        if let Some(branches) = branches(self.document, self.id) {
            collect(self, &branches, &mut steps)?;
        }
        let spelled = move |(step, id)| (spell(self.document, step), Self { document: self.document, id });
        Ok(steps.into_iter().map(spelled))
    }
}

impl<'c> Entry<'c> {
    fn found(self) -> Option<&'c Found> {
        self.listing.found.get(self.place)
    }

    /// The path's elements joined by dots: `layers.0.weight`.
    pub fn name(self) -> &'c str {
        self.listing.name(self.place)
    }

    /// The way from the root.
    pub fn path(self) -> Vec<PathElement> {
        self.found().map_or_else(Vec::new, |found| path(self.document, &self.listing.steps, found.step))
    }

    /// The tensor, or the part of one; `None` for one that is [damaged](Self::error).
    pub fn tensor(self) -> Option<&'c Tensor> {
        let found = self.found()?;
        let tensor = self.document.tensor(found.node).or_else(|| self.document.array(found.node))?;
        match found.part {
            None => Some(tensor),
            Some(place) => tensor.part(place).map(|(_, part)| part),
        }
    }

    /// Why there is no tensor, in a checkpoint that was opened [leniently](crate::LoadOptions::lenient).
    pub fn error(self) -> Option<&'c Error> {
        self.document.damage(self.found()?.node)
    }

    /// Whether it is a part (`#indices`, `#q_scales`) of the tensor before it.
    pub fn is_part(self) -> bool {
        self.found().is_some_and(|found| found.part.is_some())
    }

    /// The value, with the Python attributes of the tensor; that of the whole for a part.
    pub fn value(self) -> Value<'c> {
        let id = self.found().map_or_else(|| self.document.graph.root(), |found| found.node);
        Value { document: self.document, id }
    }
}
