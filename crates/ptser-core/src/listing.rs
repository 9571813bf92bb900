//! Every way to every tensor and array of a checkpoint, in the order of the file, each by its path.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::OnceLock;

use crate::document::Document;
use crate::error::{Error, Reason, Result};
use crate::limits::{self, Limits};
use crate::memory::{extend, filled, make_room_for, push, reserve};
use crate::pickle::{Node, NodeId, index};
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

/// The tensors and arrays of a document by path. It is made whenever a file is opened, and kept small for that.
pub(crate) struct Listing {
    /// The ways to values that hold others.
    ways: Vec<Way>,
    found: Vec<Found>,
    /// Places in `found`: of PyTorch's tensors, and of NumPy's arrays.
    tensors: Vec<u32>,
    arrays: Vec<u32>,
    /// Names, one behind the other: those that are not just a text of the pickle, which has it already.
    names: String,
    /// Where the name of each that was found ends there, up to the last that has one; it begins where the one before ends.
    name_ends: Vec<usize>,
    /// Places in `found`, by name and then by place.
    by_name: OnceLock<Vec<usize>>,
}

#[derive(Clone, Copy)]
struct Found {
    /// None to the root.
    way: Option<Way>,
    /// For a part of a tensor, that of the whole.
    node: NodeId,
}

/// The way to a value: the place of its parent's among the ways plus one, 0 from the root, and a step.
#[derive(Clone, Copy)]
struct Way {
    from: u32,
    step: Step,
}

/// A step as the walk meets it, not yet spelled.
#[derive(Clone, Copy)]
enum Step {
    Key(NodeId),
    Attribute(NodeId),
    Keyword(NodeId),
    Assigned(NodeId),
    Index(u32),
    Item(u32),
    Arg(u32),
    /// Of the call that a call of `_rebuild_from_type_v2` stands for.
    InnerArg(u32),
    Callable,
    State,
    /// A tensor's, by its place among [`Tensor::parts`].
    Part(NodeId, u32),
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
        let mut walk = Walk {
            document,
            listing: Self {
                ways: Vec::new(),
                found: Vec::new(),
                tensors: Vec::new(),
                arrays: Vec::new(),
                names: String::new(),
                name_ends: Vec::new(),
                by_name: OnceLock::new(),
            },
            visits: filled(Visit::Never, document.graph.len())?,
            repeats: document.graph.weight().saturating_mul(2).saturating_add(100_000),
            limits,
            text_bytes: 0,
            chain: Vec::new(),
            parents: Vec::new(),
            pending: Vec::new(),
        };
        walk.run(from)?;
        Ok(walk.listing)
    }

    /// Tensors, what should have been ones, and arrays, in the order of the file.
    pub(crate) fn all<'c>(&'c self, document: &'c Document) -> impl ExactSizeIterator<Item = Entry<'c>> {
        (0..self.found.len()).map(move |place| Entry { document, listing: self, place })
    }

    pub(crate) fn tensors<'c>(&'c self, document: &'c Document) -> impl ExactSizeIterator<Item = Entry<'c>> {
        self.tensors.iter().map(move |&place| Entry { document, listing: self, place: index(place) })
    }

    pub(crate) fn arrays<'c>(&'c self, document: &'c Document) -> impl ExactSizeIterator<Item = Entry<'c>> {
        self.arrays.iter().map(move |&place| Entry { document, listing: self, place: index(place) })
    }

    /// The last entry of a name.
    pub(crate) fn find<'c>(&'c self, document: &'c Document, name: &str) -> Option<Entry<'c>> {
        let by_name = self.by_name.get_or_init(|| {
            let mut names: Vec<(&str, usize)> =
                self.all(document).map(|entry| (entry.name(), entry.place)).collect();
            names.sort_unstable();
            names.into_iter().map(|(_, place)| place).collect()
        });
        let entry = |&place: &usize| Entry { document, listing: self, place };
        let behind = by_name.partition_point(|place| entry(place).name() <= name);
        by_name.get(behind.checked_sub(1)?).map(entry).filter(|entry| entry.name() == name)
    }
}

impl Found {
    /// Its key, if it is a value of the root's.
    fn key_of_root(&self) -> Option<NodeId> {
        match self.way? {
            Way { from: 0, step: Step::Key(key) } => Some(key),
            _ => None,
        }
    }
}

struct Walk<'d> {
    document: &'d Document,
    listing: Listing,
    /// Of each node.
    visits: Vec<Visit>,
    /// How many children may still be walked into again.
    repeats: usize,
    limits: &'d Limits,
    /// Bytes of the names that are texts of the pickle.
    text_bytes: usize,
    /// The steps of the name being written, the last one first.
    chain: Vec<Step>,
    /// The values on the path to the current one.
    parents: Vec<Parent>,
    /// Children of these that are still to be walked into, the next one last.
    pending: Vec<(Step, NodeId)>,
}

/// Whether a node was walked into, by itself or as what an object was made from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Visit {
    Never,
    Over,
    /// It is on the path to the current value.
    Open,
}

#[derive(Clone, Copy)]
struct Parent {
    node: NodeId,
    /// The place of its way plus one.
    at: u32,
    /// Where its children begin among the pending ones.
    children: usize,
}

impl Walk<'_> {
    fn run(&mut self, from: NodeId) -> Result<()> {
        self.enter(from, None)?;
        while let Some(&Parent { node, at, children }) = self.parents.last() {
            if self.pending.len() > children
                && let Some((step, child)) = self.pending.pop()
            {
                self.enter(child, Some(Way { from: at, step }))?;
            } else {
                self.mark(node, Visit::Over);
                self.parents.pop();
            }
        }
        Ok(())
    }

    /// Walks into a value.
    fn enter(&mut self, node: NodeId, way: Option<Way>) -> Result<()> {
        let document = self.document;
        let Some(into) = branches(document, node) else { return Ok(()) };
        let repeated = self.meet(node);
        let is_open = self.visits.get(node.place()).is_none_or(|visit| *visit == Visit::Open);
        if is_open || (repeated && self.repeats == 0) {
            return Ok(());
        }
        if repeated {
            self.repeats = self.repeats.saturating_sub(1);
        }
        match into {
            Branches::View | Branches::Damaged => return self.add(Found { way, node }),
            Branches::Array => {
                let place = self.list(Found { way, node })?;
                return push(&mut self.listing.arrays, place);
            }
            Branches::Tensor(_) => self.add(Found { way, node })?,
            Branches::Sequence | Branches::Set | Branches::Mapping | Branches::Object => {}
        }
        let at = way.map_or(Ok(0), |way| self.note(way))?;
        if let Branches::Tensor(tensor) = into {
            for place in 0..tensor.parts().count() {
                let way = Way { from: at, step: Step::Part(node, number(place)?) };
                self.add(Found { way: Some(way), node })?;
            }
        }
        let children = self.pending.len();
        collect(Value { document, id: node }, &into, &mut self.pending)?;
        let added = self.pending.get_mut(children..).unwrap_or_default();
        if repeated {
            self.repeats = self.repeats.saturating_sub(added.len());
        }
        if !added.is_empty() {
            added.reverse();
            // Most values that hold tensors hold nothing else.
            reserve(&mut self.listing.found, added.len())?;
            self.mark(node, Visit::Open);
            push(&mut self.parents, Parent { node, at, children })?;
        }
        Ok(())
    }

    /// Notes the way to a value that holds others: its place plus one.
    fn note(&mut self, way: Way) -> Result<u32> {
        push(&mut self.listing.ways, way)?;
        number(self.listing.ways.len())
    }

    fn add(&mut self, found: Found) -> Result<()> {
        let place = self.list(found)?;
        push(&mut self.listing.tensors, place)
    }

    /// The place of one more that was found.
    fn list(&mut self, found: Found) -> Result<u32> {
        let place = number(self.listing.found.len())?;
        let count = u64::from(place).saturating_add(1);
        limits::check("the number of paths to tensors", "tensors_listed", count, self.limits.tensors_listed)?;
        self.write_name(found)?;
        push(&mut self.listing.found, found)?;
        Ok(place)
    }

    /// Writes a name, the path's elements joined by dots, unless the pickle has it.
    fn write_name(&mut self, next: Found) -> Result<()> {
        let Self { document, listing, chain, limits, text_bytes, .. } = self;
        let Listing { ways, found, names, name_ends, .. } = listing;
        let check = |bytes: usize| {
            let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
            limits::check("the names of all tensors in bytes", "names_bytes", bytes, limits.names_bytes)
        };
        if let Some(Node::Str(text)) = next.key_of_root().map(|key| document.graph.node(key)) {
            *text_bytes = text_bytes.saturating_add(text.len());
            return check(text_bytes.saturating_add(names.len()));
        }
        let without = found.len().saturating_sub(name_ends.len());
        extend(name_ends, std::iter::repeat_n(names.len(), without))?;
        chain.clear();
        chain.extend(upwards(ways, next.way));
        for (place, &step) in chain.iter().rev().enumerate() {
            if place > 0 {
                names.push('.');
            }
            write_step(document, step, names)?;
            check(text_bytes.saturating_add(names.len()))?;
        }
        push(name_ends, names.len())
    }

    /// Notes that a node is walked into, and what it was made from; says whether any of them was before.
    fn meet(&mut self, node: NodeId) -> bool {
        let Self { document, visits, .. } = self;
        let mut note = |node: NodeId| match visits.get_mut(node.place()) {
            Some(visit @ Visit::Never) => {
                *visit = Visit::Over;
                false
            }
            visit => visit.is_some(),
        };
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
        let states = more.iter().flat_map(|more| document.graph.states(more).chain(more.kwargs));
        for source in states.chain(base) {
            // What has no members of its own costs nothing to walk into again.
            if !document.graph.members(source).is_empty() {
                met |= note(source);
            }
        }
        met
    }

    fn mark(&mut self, node: NodeId, visit: Visit) {
        if let Some(old) = self.visits.get_mut(node.place()) {
            *old = visit;
        }
    }
}

fn number(place: usize) -> Result<u32> {
    u32::try_from(place).map_err(|_| Reason::Unsupported("2^32 paths or more".into()).into())
}

enum Branches<'v> {
    Tensor(&'v Tensor),
    /// A tensor without attributes or parts.
    View,
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
        Node::View(_) => Branches::View,
        Node::Object(_) => match document.meaning(node)?.1 {
            Meaning::Tensor(meaning) => Branches::Tensor(document.interpretation.tensors.get(meaning.place)?),
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
        Branches::Array | Branches::Damaged | Branches::View => return Ok(()),
        Branches::Tensor(_) => {}
        Branches::Sequence => in_turn(value.items(), Step::Index, out)?,
        Branches::Set => in_turn(value.items(), Step::Item, out)?,
        Branches::Mapping => extend(out, value.entries().map(|(key, value)| (Step::Key(key.id), value.id)))?,
        Branches::Object => {
            match subclass(value) {
                Some((inner, [class, state])) => {
                    in_turn(inner.items(), Step::InnerArg, out)?;
                    extend(out, [(Step::Arg(1), class.id), (Step::Arg(2), state.id)])?;
                }
                None => in_turn(value.args(), Step::Arg, out)?,
            }
            extend(out, value.callable().map(|callable| (Step::Callable, callable.id)))?;
            if let Some(kwargs) = value.kwargs() {
                extend(out, kwargs.entries().map(|(key, value)| (Step::Keyword(key.id), value.id)))?;
            }
            for state in value.states() {
                if state.is_mapping() {
                    extend(out, state.entries().map(|(key, value)| (Step::Key(key.id), value.id)))?;
                } else {
                    push(out, (Step::State, state.id))?;
                }
            }
            in_turn(value.appended(), Step::Item, out)?;
            extend(out, value.assigned().map(|(key, value)| (Step::Assigned(key.id), value.id)))?;
            return Ok(());
        }
    }
    if let Some(state) = value.state() {
        let before = out.len();
        extend(out, value.attributes().map(|(key, value)| (Step::Attribute(key.id), value.id)))?;
        // A state of a class's own making.
        if out.len() == before && !state.is_mapping() {
            push(out, (Step::State, state.id))?;
        }
    }
    Ok(())
}

/// Members by their places.
fn in_turn<'v>(
    members: impl Iterator<Item = Value<'v>>,
    step: fn(u32) -> Step,
    out: &mut Vec<(Step, NodeId)>,
) -> Result<()> {
    for (place, member) in members.enumerate() {
        push(out, (step(number(place)?), member.id))?;
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

/// The steps of a way, from its end up to the root.
fn upwards(ways: &[Way], mut way: Option<Way>) -> impl Iterator<Item = Step> {
    std::iter::from_fn(move || {
        let Way { from, step } = way?;
        way = from.checked_sub(1).and_then(|place| ways.get(index(place))).copied();
        Some(step)
    })
}

/// Writes a step as [`spell`] spells it, the common ones without a copy.
fn write_step(document: &Document, step: Step, out: &mut String) -> Result<()> {
    let key = match step {
        Step::Key(key) => document.graph.str(key),
        _ => None,
    };
    if let Some(text) = key {
        make_room_for(out, text.len())?;
        out.push_str(text);
        return Ok(());
    }
    let _ = match step {
        Step::Index(index) => write!(out, "{index}"),
        _ => write!(out, "{}", spell(document, step)),
    };
    Ok(())
}

fn spell(document: &Document, step: Step) -> PathElement {
    let key = |id: NodeId| spell_key(Value { document, id });
    PathElement::Key(match step {
        Step::Key(id) => return key(id),
        Step::Index(index) => return PathElement::Index(index.into()),
        Step::Attribute(id) => format!(".{}", key(id)),
        Step::Keyword(id) => format!("#kwargs/{}", key(id)),
        Step::Assigned(id) => format!("#dict/{}", key(id)),
        Step::Item(place) => format!("#items/{place}"),
        Step::Arg(place) => format!("#args/{place}"),
        Step::InnerArg(place) => format!("#args/0/#args/{place}"),
        Step::Callable => "#callable".to_owned(),
        Step::State => "#state".to_owned(),
        Step::Part(tensor, place) => {
            let part = document.tensor(tensor).and_then(|tensor| tensor.part(index(place)));
            format!("#{}", part.map_or(Cow::Borrowed(""), |(name, _)| name))
        }
    })
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
        let Self { document, listing: Listing { names, name_ends, .. }, place } = self;
        let key = self.found().and_then(Found::key_of_root);
        if let Some(text) = key.and_then(|key| document.graph.str(key)) {
            return text;
        }
        let start = place.checked_sub(1).and_then(|before| name_ends.get(before)).map_or(0, |end| *end);
        name_ends.get(place).and_then(|end| names.get(start..*end)).unwrap_or_default()
    }

    /// The way from the root.
    pub fn path(self) -> Vec<PathElement> {
        let way = self.found().and_then(|found| found.way);
        let mut path: Vec<PathElement> =
            upwards(&self.listing.ways, way).map(|step| spell(self.document, step)).collect();
        path.reverse();
        path
    }

    /// The tensor, or the part of one; `None` for one that is [damaged](Self::error).
    pub fn tensor(self) -> Option<&'c Tensor> {
        let found = self.found()?;
        let tensor = self.document.tensor(found.node).or_else(|| self.document.array(found.node))?;
        match self.part() {
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
        self.part().is_some()
    }

    fn part(self) -> Option<usize> {
        match self.found()?.way?.step {
            Step::Part(_, place) => Some(index(place)),
            _ => None,
        }
    }

    /// The value, with the Python attributes of the tensor; that of the whole for a part.
    pub fn value(self) -> Value<'c> {
        let id = self.found().map_or_else(|| self.document.graph.root(), |found| found.node);
        Value { document: self.document, id }
    }
}
