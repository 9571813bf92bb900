//! Every way to every tensor: the tensors of a checkpoint in the order of the file, each by its path.

use crate::document::Document;
use crate::limits::{self, Limits};
use crate::error::Result;
use crate::pickle::NodeId;
use crate::repr::Repr;
use crate::tensor::Tensor;
use crate::value::{Value, ValueKind};

/// One step of a path from the root to a value.
///
/// Names in the checkpoint's own words: dict keys, list indexes, `.name` for Python attributes, and `#…` for
/// parts that have no name in Python: `#indices`, `#values`, `#args/0`, `#items/0`, `#state`, `#dict`.
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

/// The tensors of a document by path.
pub(crate) struct Listing {
    /// A tree: each step names its parent by place plus one; 0 is the root.
    steps: Vec<(usize, Step)>,
    found: Vec<Found>,
}

struct Found {
    step: usize,
    name: String,
    node: NodeId,
    /// For a part of a tensor, its place among [`Tensor::parts`], and so on into parts of parts.
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
    /// A container that is reached by several paths is walked along each, up to a number of visits bounded by
    /// the graph's size, and once beyond it; cycles are walked once.
    pub(crate) fn of(document: &Document, from: NodeId, limits: &Limits) -> Result<Self> {
        let nodes = document.graph.len();
        let mut walk = Walk {
            document,
            steps: Vec::new(),
            found: Vec::new(),
            seen: vec![false; nodes],
            open: vec![false; nodes],
            revisits: nodes.saturating_mul(4).saturating_add(10_000),
            limit: limits.tensors_listed,
        };
        walk.run(from)?;
        Ok(Self { steps: walk.steps, found: walk.found })
    }

    pub(crate) fn len(&self) -> usize {
        self.found.len()
    }

    pub(crate) fn entries<'c>(&'c self, document: &'c Document) -> impl ExactSizeIterator<Item = Entry<'c>> {
        (0..self.found.len()).map(move |place| Entry { document, listing: self, place })
    }

    pub(crate) fn entry<'c>(&'c self, document: &'c Document, place: usize) -> Entry<'c> {
        Entry { document, listing: self, place }
    }
}

struct Walk<'d> {
    document: &'d Document,
    steps: Vec<(usize, Step)>,
    found: Vec<Found>,
    seen: Vec<bool>,
    /// On the path to the current value.
    open: Vec<bool>,
    revisits: usize,
    limit: u64,
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
            let value = Value { document: self.document, id: node };
            let Some(branches) = self.branches(value) else { continue };
            if !self.may_enter(node) {
                continue;
            }
            let at = match step {
                Some(step) => {
                    self.steps.push((parent, step));
                    self.steps.len()
                }
                None => 0,
            };
            if let Branches::Tensor(tensor) = branches {
                self.tensor(node, at, tensor)?;
            }
            children.clear();
            collect(value, &branches, &mut children);
            if !children.is_empty() {
                self.mark_open(node, true);
                tasks.push(Task::Leave(node));
                tasks.extend(children.drain(..).rev().map(|(step, node)| Task::Enter { node, parent: at, step: Some(step) }));
            }
        }
        Ok(())
    }

    fn tensor(&mut self, node: NodeId, at: usize, tensor: &Tensor) -> Result<()> {
        self.add(node, at, None)?;
        for (place, (name, _)) in tensor.parts().into_iter().enumerate() {
            self.steps.push((at, Step::Part(name)));
            self.add(node, self.steps.len(), Some(place))?;
        }
        Ok(())
    }

    fn add(&mut self, node: NodeId, step: usize, part: Option<usize>) -> Result<()> {
        let found = u64::try_from(self.found.len()).unwrap_or(u64::MAX).saturating_add(1);
        limits::check("the number of paths to tensors", "tensors_listed", found, self.limit)?;
        let name = name(self.document, &self.steps, step);
        self.found.push(Found { step, name, node, part });
        Ok(())
    }

    /// Containers and tensors are walked into; everything else ends a path.
    fn branches<'v>(&self, value: Value<'v>) -> Option<Branches<'v>> {
        Some(match value.kind() {
            ValueKind::Tensor(tensor) => Branches::Tensor(tensor),
            ValueKind::List | ValueKind::Tuple | ValueKind::Deque => Branches::Sequence,
            ValueKind::Set | ValueKind::FrozenSet => Branches::Set,
            ValueKind::Dict | ValueKind::OrderedDict | ValueKind::Counter | ValueKind::DefaultDict => Branches::Mapping,
            ValueKind::Object => Branches::Object,
            _ => return None,
        })
    }

    fn may_enter(&mut self, node: NodeId) -> bool {
        if self.open.get(node.place()).copied().unwrap_or(true) {
            return false;
        }
        let seen = self.seen.get_mut(node.place()).is_some_and(|seen| std::mem::replace(seen, true));
        if seen {
            let Some(left) = self.revisits.checked_sub(1) else { return false };
            self.revisits = left;
        }
        true
    }

    fn mark_open(&mut self, node: NodeId, state: bool) {
        if let Some(open) = self.open.get_mut(node.place()) {
            *open = state;
        }
    }
}

enum Branches<'v> {
    Tensor(&'v Tensor),
    Sequence,
    Set,
    Mapping,
    Object,
}

fn collect(value: Value<'_>, branches: &Branches<'_>, out: &mut Vec<(Step, NodeId)>) {
    match branches {
        Branches::Tensor(_) => {}
        Branches::Sequence => out.extend(value.items().enumerate().map(|(index, item)| (Step::Index(index), item.id))),
        Branches::Set => {
            out.extend(value.items().enumerate().map(|(index, item)| (Step::Numbered("#items", index), item.id)));
        }
        Branches::Mapping => out.extend(value.entries().map(|(key, value)| (Step::Key(key.id), value.id))),
        Branches::Object => {
            out.extend(value.args().enumerate().map(|(index, arg)| (Step::Numbered("#args", index), arg.id)));
            if let Some(kwargs) = value.kwargs() {
                out.extend(kwargs.entries().map(|(key, value)| (Step::Keyword(key.id), value.id)));
            }
            for state in value.states() {
                if state.is_mapping() {
                    out.extend(state.entries().map(|(key, value)| (Step::Key(key.id), value.id)));
                } else {
                    out.push((Step::Part("#state"), state.id));
                }
            }
            out.extend(value.appended().enumerate().map(|(index, item)| (Step::Numbered("#items", index), item.id)));
            out.extend(value.assigned().map(|(key, value)| (Step::Assigned(key.id), value.id)));
            return;
        }
    }
    if value.states().next().is_some() {
        out.extend(value.attributes().map(|(key, value)| (Step::Attribute(key.id), value.id)));
    }
}

/// The path's elements joined by dots.
fn name(document: &Document, steps: &[(usize, Step)], step: usize) -> String {
    let mut parts: Vec<String> = path(document, steps, step).iter().map(ToString::to_string).collect();
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        Some(last) => {
            parts.push(last);
            parts.join(".")
        }
        None => String::new(),
    }
}

fn path(document: &Document, steps: &[(usize, Step)], mut step: usize) -> Vec<PathElement> {
    let mut path = Vec::new();
    while let Some((parent, element)) = step.checked_sub(1).and_then(|place| steps.get(place)) {
        path.push(spell(document, *element));
        step = *parent;
    }
    path.reverse();
    path
}

fn spell(document: &Document, step: Step) -> PathElement {
    match step {
        Step::Key(key) => spell_key(Value { document, id: key }),
        Step::Attribute(key) => PathElement::Key(format!(".{}", spell_key(Value { document, id: key }))),
        Step::Keyword(key) => PathElement::Key(format!("#kwargs/{}", spell_key(Value { document, id: key }))),
        Step::Assigned(key) => PathElement::Key(format!("#dict/{}", spell_key(Value { document, id: key }))),
        Step::Index(index) => PathElement::Index(i64::try_from(index).unwrap_or(i64::MAX)),
        Step::Numbered(name, index) => PathElement::Key(format!("{name}/{index}")),
        Step::Part(name) if name.starts_with('#') => PathElement::Key(name.to_owned()),
        Step::Part(name) => PathElement::Key(format!("#{name}")),
    }
}

fn spell_key(key: Value<'_>) -> PathElement {
    match key.kind() {
        ValueKind::Str(text) => PathElement::Key(text.to_owned()),
        ValueKind::Int(int) => PathElement::Index(int),
        _ => PathElement::Key(Repr::key(key)),
    }
}

impl<'c> Entry<'c> {
    fn found(self) -> Option<&'c Found> {
        self.listing.found.get(self.place)
    }

    /// The path's elements joined by dots: `layers.0.weight`.
    pub fn name(self) -> &'c str {
        self.found().map_or("", |found| &found.name)
    }

    /// The way from the root.
    pub fn path(self) -> Vec<PathElement> {
        self.found().map_or_else(Vec::new, |found| path(self.document, &self.listing.steps, found.step))
    }

    /// The tensor, or the part of one.
    pub fn tensor(self) -> Option<&'c Tensor> {
        let found = self.found()?;
        let tensor = self.document.tensor(found.node)?;
        match found.part {
            None => Some(tensor),
            Some(place) => tensor.parts().into_iter().nth(place).map(|(_, part)| part),
        }
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
