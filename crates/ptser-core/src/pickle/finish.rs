//! What Python's dicts and sets do while they are filled, done once the graph is whole: keys that cannot be
//! hashed are refused, and of equal keys the last value stands at the first place.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::graph::{Graph, Node, NodeId, index};
use crate::error::{Error, Reason, Result};

/// Settles the keys of every dict and the members of every set.
pub(super) fn settle_keys(graph: &mut Graph) -> Result<()> {
    // Keys that are tuples of tuples may share members; the walk over them is bounded by the graph's size.
    let mut budget = graph.nodes.len().saturating_mul(8).saturating_add(1 << 16);
    let mut containers = std::mem::take(&mut graph.containers);
    let mut objects = std::mem::take(&mut graph.objects);
    let mut outcome = Ok(());
    for node in &graph.nodes {
        let (place, step) = match node {
            Node::Dict(place) => (*place, 2),
            Node::Set(place) => (*place, 1),
            _ => continue,
        };
        if let Some(members) = containers.get_mut(index(place)) {
            outcome = outcome.and_then(|()| settle(graph, members, step, &mut budget));
        }
    }
    for more in objects.iter_mut().filter_map(|object| object.more.as_deref_mut()) {
        outcome = outcome.and_then(|()| settle(graph, &mut more.entries, 2, &mut budget));
    }
    graph.containers = containers;
    graph.objects = objects;
    outcome
}

/// The common case, without copying a key.
fn only_distinct_text(graph: &Graph, members: &[NodeId], step: usize) -> bool {
    let mut seen = std::collections::HashSet::with_capacity(members.len() / step);
    members.iter().step_by(step).all(|&key| match graph.node(key) {
        Node::Str(span) => seen.insert(graph.bytes(span)),
        _ => false,
    })
}

/// Drops repeated keys from `members`, keys (and values) in turn.
fn settle(graph: &Graph, members: &mut Vec<NodeId>, step: usize, budget: &mut usize) -> Result<()> {
    if only_distinct_text(graph, members, step) {
        return Ok(());
    }
    let mut places = HashMap::new();
    let mut kept: Vec<NodeId> = Vec::with_capacity(members.len());
    for entry in members.chunks(step) {
        let Some(&key) = entry.first() else { continue };
        let mut id = Vec::new();
        identity(graph, key, &mut id, budget)?;
        match places.entry(id) {
            Entry::Vacant(vacant) => {
                vacant.insert(kept.len());
                kept.extend_from_slice(entry);
            }
            Entry::Occupied(place) => {
                let value = place.get().saturating_add(1);
                if let (Some(kept), Some(new)) = (kept.get_mut(value), entry.get(1)) {
                    *kept = *new;
                }
            }
        }
    }
    *members = kept;
    Ok(())
}

/// Writes bytes that are equal for keys that Python takes for equal.
fn identity(graph: &Graph, key: NodeId, out: &mut Vec<u8>, budget: &mut usize) -> Result<()> {
    let mut open = vec![key];
    while let Some(id) = open.pop() {
        *budget = budget.checked_sub(1).ok_or_else(too_deep)?;
        match graph.node(id) {
            Node::None => out.push(b'n'),
            // True == 1 == 1.0 in Python.
            Node::Bool(bool) => int(out, i64::from(bool)),
            Node::Int(number) => int(out, number),
            Node::Float(float) => match whole(float) {
                Some(number) => int(out, number),
                None if float.is_nan() => tagged(out, b'N', &id.0.to_le_bytes()),
                None => tagged(out, b'f', &float.to_le_bytes()),
            },
            Node::Long(span) => tagged(out, b'l', graph.bytes(span)),
            Node::Str(span) | Node::Surrogates(span) => tagged(out, b's', graph.bytes(span)),
            Node::Bytes(span) => tagged(out, b'b', graph.bytes(span)),
            Node::Tuple(run) => {
                tagged(out, b't', &run.len.to_le_bytes());
                open.extend(graph.tuple(id).unwrap_or_default().iter().rev());
            }
            Node::Global(symbol) => tagged(out, b'g', &symbol.0.to_le_bytes()),
            Node::FrozenSet(_) | Node::Object(_) | Node::PersistentId(_) => tagged(out, b'o', &id.0.to_le_bytes()),
            Node::List(_) => return Err(unhashable("list")),
            Node::Dict(_) => return Err(unhashable("dict")),
            Node::Set(_) => return Err(unhashable("set")),
            Node::ByteArray(_) => return Err(unhashable("bytearray")),
        }
        *budget = budget.checked_sub(out.len() / 4096).ok_or_else(too_deep)?;
    }
    Ok(())
}

fn tagged(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    out.extend_from_slice(&bytes.len().to_le_bytes());
    out.extend_from_slice(bytes);
}

fn int(out: &mut Vec<u8>, number: i64) {
    tagged(out, b'i', &number.to_le_bytes());
}

/// The integer that a float equals, within the range where the conversion is exact.
fn whole(float: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let exact = float.fract() == 0.0 && float.abs() <= EXACT;
    // Through text: there is no lossless conversion in std, and such keys are rare.
    if exact { format!("{float:.0}").parse().ok() } else { None }
}

fn unhashable(what: &str) -> Error {
    Reason::Pickle(format!("a {what} cannot be a dictionary key or a member of a set")).into()
}

fn too_deep() -> Error {
    Reason::Pickle("dictionary keys share members so often that comparing them would not end".into()).into()
}
