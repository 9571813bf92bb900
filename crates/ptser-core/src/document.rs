//! One interpreted pickle: the graph, its meanings, and the tensors and storages in it.

use crate::error::Result;
use crate::pickle::{self, Graph, Node, NodeId, Object};
use crate::tensor::Tensor;
use crate::torch::{self, Globals, Interpretation, Meaning, StorageTable};

/// A pickle that was read, judged by the policy, and interpreted.
pub(crate) struct Document {
    pub(crate) graph: Graph,
    pub(crate) interpretation: Interpretation,
}

impl Document {
    /// Reads a pickle whose storages `table` knows.
    pub(crate) fn read(pickle: Vec<u8>, globals: &Globals, table: &mut dyn StorageTable) -> Result<Self> {
        let outcome = pickle::run(pickle, torch::rename);
        let graph = match outcome.graph {
            Ok(graph) => graph,
            // A refused global weighs more than the damage behind it.
            Err(error) => return Err(globals.check(&outcome.symbols_on_error).err().unwrap_or(error)),
        };
        globals.check(graph.symbols())?;
        match torch::interpret(&graph, globals, table) {
            Ok(interpretation) => Ok(Self { graph, interpretation }),
            Err(fault) => {
                let name = fault.object.and_then(|object| path_to_object(&graph, object));
                Err(match name {
                    Some(name) => fault.error.in_tensor(&name),
                    None => fault.error,
                })
            }
        }
    }

    /// The meaning of an object node.
    pub(crate) fn meaning(&self, id: NodeId) -> Option<(&Object, &Meaning)> {
        let (place, object) = self.graph.object(id)?;
        Some((object, self.interpretation.meanings.get(place)?))
    }

    /// The tensor that a node is.
    pub(crate) fn tensor(&self, id: NodeId) -> Option<&Tensor> {
        match self.meaning(id)? {
            (_, Meaning::Tensor(meaning)) => self.interpretation.tensors.get(meaning.place),
            _ => None,
        }
    }

    /// The name of a global node, `module.name`.
    pub(crate) fn global(&self, id: NodeId) -> Option<&str> {
        match self.graph.node(id) {
            Node::Global(symbol) => self.graph.symbol(symbol).map(|symbol| &*symbol.full),
            _ => None,
        }
    }
}

/// The dotted name of the first way from the root to an object, for error messages.
fn path_to_object(graph: &Graph, target: usize) -> Option<String> {
    // (node, how it was reached, the place of its parent in `open`)
    let mut open: Vec<(NodeId, String, usize)> = vec![(graph.root(), String::new(), 0)];
    let mut seen = vec![false; graph.len()];
    let mut next = 0;
    while let Some((id, _, _)) = open.get(next) {
        let id = *id;
        if graph.object(id).is_some_and(|(place, _)| place == target) {
            return Some(join(&open, next)).filter(|name| !name.is_empty());
        }
        let fresh = seen.get_mut(id.place()).is_some_and(|seen| !std::mem::replace(seen, true));
        if fresh {
            for (child, step) in children(graph, id) {
                open.push((child, step, next));
            }
        }
        next = next.checked_add(1)?;
    }
    None
}

fn join(open: &[(NodeId, String, usize)], mut at: usize) -> String {
    let mut steps = Vec::new();
    while let Some((_, step, parent)) = open.get(at).filter(|_| at != 0) {
        if !step.is_empty() {
            steps.push(step.as_str());
        }
        at = *parent;
    }
    steps.reverse();
    steps.join(".")
}

fn children(graph: &Graph, id: NodeId) -> Vec<(NodeId, String)> {
    let pairs = |entries: &[NodeId]| -> Vec<(NodeId, String)> {
        entries
            .chunks_exact(2)
            .filter_map(|entry| match entry {
                &[key, value] => {
                    let step = match graph.node(key) {
                        Node::Str(span) => graph.text(span).to_owned(),
                        Node::Int(int) => int.to_string(),
                        _ => "?".to_owned(),
                    };
                    Some((value, step))
                }
                _ => None,
            })
            .collect()
    };
    match graph.node(id) {
        Node::Dict(_) => pairs(graph.members(id)),
        Node::List(_) | Node::Tuple(_) => {
            graph.members(id).iter().enumerate().map(|(place, &member)| (member, place.to_string())).collect()
        }
        Node::Object(_) => {
            let Some((_, object)) = graph.object(id) else { return Vec::new() };
            let mut found: Vec<(NodeId, String)> =
                graph.members(object.args).iter().map(|&arg| (arg, String::new())).collect();
            if let Some(more) = &object.more {
                found.extend(pairs(&more.entries));
                found.extend(more.states.iter().chain(&more.items).map(|&id| (id, String::new())));
            }
            found
        }
        _ => Vec::new(),
    }
}
