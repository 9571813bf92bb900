//! One interpreted pickle: the graph, its meanings, and the tensors and storages in it.

mod abridged;

use self::abridged::InFull;
use crate::error::{Error, Result};
use crate::limits::{Limits, Objects};
use crate::pickle::{self, Encoding, Graph, Node, NodeId, Object, index};
use crate::tensor::Tensor;
use crate::torch::{self, Faults, Globals, Interpretation, Meaning, PidMeaning, Place, StorageTable};

/// A pickle that was read, judged by the policy, and interpreted.
pub(crate) struct Document {
    pub(crate) graph: Graph,
    pub(crate) interpretation: Interpretation,
    /// Levels that a recursive reader may go down.
    #[cfg_attr(not(feature = "serde"), expect(dead_code, reason = "nothing else goes down by recursion"))]
    pub(crate) nesting: u64,
    /// Of an abridged graph.
    in_full: Option<Box<InFull>>,
}

/// How a pickle is read, and what it may do.
#[derive(Clone, Copy)]
pub(crate) struct Rules<'r> {
    pub(crate) globals: &'r Globals,
    pub(crate) encoding: Encoding,
    pub(crate) faults: Faults,
    pub(crate) limits: &'r Limits,
    /// Counted over all pickles of a file.
    pub(crate) objects: &'r Objects,
}

/// Reads a pickle and judges the globals that it names, all at once.
pub(crate) fn graph(
    pickle: Vec<u8>,
    globals: &Globals,
    encoding: Encoding,
    objects: &Objects,
) -> Result<Graph> {
    let outcome = pickle::run(pickle, torch::rename, encoding, objects);
    match outcome.graph {
        Ok(graph) => globals.check(graph.symbols()).map(|()| graph),
        // A refused global weighs more than the damage behind it.
        Err(error) => Err(globals.check(&outcome.symbols_on_error).err().unwrap_or(error)),
    }
}

impl Document {
    /// Reads a pickle whose storages `table` knows.
    pub(crate) fn read(pickle: Vec<u8>, rules: Rules<'_>, table: &mut dyn StorageTable) -> Result<Self> {
        Self::of_graph(graph(pickle, rules.globals, rules.encoding, rules.objects)?, rules, table)
    }

    /// Gives a graph its meaning.
    pub(crate) fn of_graph(mut graph: Graph, rules: Rules<'_>, table: &mut dyn StorageTable) -> Result<Self> {
        let Rules { globals, faults, limits, encoding: _, objects: _ } = rules;
        graph.see_through(torch::is_type_tag);
        match torch::interpret(&graph, globals, faults, limits, table) {
            Ok(interpretation) => Ok(Self { graph, interpretation, nesting: limits.nesting, in_full: None }),
            Err(fault) => Err(match path_to(&graph, fault.place) {
                Some(name) => fault.error.in_tensor(&name),
                None => fault.error,
            }),
        }
    }

    /// A dict of tensors, for containers without a pickle.
    pub(crate) fn of_tensors(names: &[String], tensors: Vec<Tensor>, limits: &Limits) -> Result<Self> {
        let (graph, pids) = Graph::of_names(names)?;
        let interpretation = Interpretation::of_tensors(&pids, tensors);
        Ok(Self { graph, interpretation, nesting: limits.nesting, in_full: None })
    }

    /// The meaning of an object node.
    pub(crate) fn meaning(&self, id: NodeId) -> Option<(&Object, &Meaning)> {
        let (place, object) = self.graph.object(id)?;
        Some((object, self.interpretation.meanings.get(place)?))
    }

    /// What a persistent id names.
    pub(crate) fn pid(&self, id: NodeId) -> Option<PidMeaning> {
        match self.graph.node(id) {
            Node::PersistentId(_) => self.interpretation.pid(id),
            _ => None,
        }
    }

    /// The tensor that a node is.
    pub(crate) fn tensor(&self, id: NodeId) -> Option<&Tensor> {
        let place = match self.graph.node(id) {
            Node::View(place) => index(place),
            Node::PersistentId(_) => match self.pid(id)? {
                PidMeaning::Tensor(place) => place,
                _ => return None,
            },
            _ => match self.meaning(id)? {
                (_, Meaning::Tensor(meaning)) => meaning.place,
                _ => return None,
            },
        };
        self.interpretation.tensors.get(place)
    }

    /// The tensors in the order of the pickle, some of them more than once.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        self.graph.ids().filter_map(|id| self.tensor(id))
    }

    /// The NumPy array that a node is.
    pub(crate) fn array(&self, id: NodeId) -> Option<&Tensor> {
        match self.meaning(id) {
            Some((_, Meaning::Array(place))) => self.interpretation.arrays.get(*place),
            _ => None,
        }
    }

    /// Why a node is not what it should have been.
    pub(crate) fn damage(&self, id: NodeId) -> Option<&Error> {
        let place = match (self.meaning(id), self.pid(id)) {
            (Some((_, Meaning::Damaged(place))), _) => *place,
            (_, Some(PidMeaning::Damaged(place))) => place,
            _ => return None,
        };
        self.interpretation.damages.get(place)
    }

    /// The name of a global node, `module.name`; also behind the persistent id of a class, and by way of another
    /// global.
    pub(crate) fn global(&self, id: NodeId) -> Option<&str> {
        if let Some((_, Meaning::Member(name))) = self.meaning(id) {
            return Some(name);
        }
        let id = match self.pid(id) {
            Some(PidMeaning::Class(class)) => class,
            _ => id,
        };
        match self.graph.node(id) {
            Node::Global(symbol) => self.graph.symbol(symbol).map(|symbol| &*symbol.full),
            _ => None,
        }
    }
}

/// A step from a value into it, not yet spelled.
#[derive(Clone, Copy)]
enum Step {
    Key(NodeId),
    Index(usize),
    /// To what an object was made from.
    Inside,
}

/// Characters of a name in an error message.
const NAME_MAX: usize = 300;

/// The dotted name of the first way from the root to a place, for error messages.
fn path_to(graph: &Graph, place: Place) -> Option<String> {
    let is_there = |id: NodeId| match place {
        Place::Node(node) => id == node,
        Place::Object(object) => graph.object(id).is_some_and(|(place, _)| place == object),
    };
    // (node, how it was reached, the place of its parent in `open`)
    let mut open: Vec<(NodeId, Step, usize)> = vec![(graph.root(), Step::Inside, 0)];
    let mut seen = vec![false; graph.len()];
    let mut next = 0_usize;
    while let Some(&(id, _, _)) = open.get(next) {
        if is_there(id) {
            return Some(spell(graph, &open, next)).filter(|name| !name.is_empty());
        }
        let fresh = seen.get_mut(id.place()).is_some_and(|seen| !std::mem::replace(seen, true));
        if fresh {
            for_each_child(graph, id, |step, child| open.push((child, step, next)));
        }
        next = next.checked_add(1)?;
    }
    None
}

/// The name of what `open` holds at a place; its end, where it is long.
fn spell(graph: &Graph, open: &[(NodeId, Step, usize)], mut at: usize) -> String {
    let mut name = String::new();
    while let Some((_, step, parent)) = open.get(at).filter(|_| at != 0) {
        let before = match step {
            Step::Key(key) => match graph.node(*key) {
                Node::Str(span) => graph.text(span).to_owned(),
                Node::Int(int) => int.to_string(),
                _ => "?".to_owned(),
            },
            Step::Index(index) => index.to_string(),
            Step::Inside => String::new(),
        };
        if name.len().saturating_add(before.len()) > NAME_MAX {
            return format!("….{name}");
        }
        if !before.is_empty() {
            name = if name.is_empty() { before } else { format!("{before}.{name}") };
        }
        at = *parent;
    }
    name
}

fn for_each_child(graph: &Graph, id: NodeId, mut found: impl FnMut(Step, NodeId)) {
    let mut pairs = |entries: &[NodeId]| {
        for entry in entries.chunks_exact(2) {
            if let &[key, value] = entry {
                found(Step::Key(key), value);
            }
        }
    };
    match graph.node(id) {
        Node::Dict(_) => pairs(graph.members(id)),
        Node::List(_) | Node::Tuple(_) => {
            for (index, &member) in graph.members(id).iter().enumerate() {
                found(Step::Index(index), member);
            }
        }
        Node::Object(_) => {
            let Some((_, object)) = graph.object(id) else { return };
            if let Some(more) = &object.more {
                pairs(&more.entries);
            }
            let args = graph.members(object.args).iter();
            let rest = object.more.iter();
            let rest = rest.flat_map(|more| more.states.iter().chain(&more.setters).chain(&more.items));
            args.chain(rest).for_each(|&child| found(Step::Inside, child));
        }
        _ => {}
    }
}
