//! Leaves out of storages what no tensor views.

use std::collections::{HashMap, HashSet};

use super::names::{Known, Rebuild, known};
use super::outline::Outline;
use crate::error::Result;
use crate::layout;
use crate::pickle::{Call, Graph, Node, NodeId};
use crate::storage::element_bytes;
use crate::tensor::Tensor;

/// Cuts each storage to the bytes from the first to the last that one of the tensors views. A storage that stands by
/// itself stays whole.
pub(crate) fn compact<'t>(outline: &mut Outline, tensors: impl Iterator<Item = &'t Tensor>) -> Result<()> {
    let viewed = viewed(tensors);
    let places: HashMap<String, usize> =
        outline.storages.iter().enumerate().map(|(place, stored)| (stored.key.clone(), place)).collect();
    let place_of = |graph: &Graph, pid: NodeId| {
        let key = graph.str(*graph.tuple(pid)?.get(2)?)?;
        places.get(key).copied()
    };
    let pids: Vec<(NodeId, NodeId)> = outline.graph.persistent_ids().collect();
    let place_by_node: HashMap<NodeId, usize> =
        pids.iter().filter_map(|&(id, pid)| Some((id, place_of(&outline.graph, pid)?))).collect();
    let (views, only_viewed) = only_viewed(&outline.graph, &place_by_node);
    // Where each storage is cut: elements that its views move down by.
    let mut moved: HashMap<usize, i64> = HashMap::new();
    for (place, stored) in
        outline.storages.iter_mut().enumerate().filter(|(place, _)| only_viewed.contains(place))
    {
        let Some(viewed) = viewed.get(&stored.storage.id()) else { continue };
        // Views without elements need no bytes, wherever they begin.
        let (start, elements) = viewed.as_ref().map_or((0, 0), Viewed::beginning);
        let nbytes = viewed.as_ref().map_or(0, |viewed| viewed.end.saturating_sub(start));
        if nbytes >= stored.storage.nbytes() {
            continue;
        }
        let Ok(elements) = i64::try_from(elements) else { continue };
        stored.storage = stored.storage.cut(start, nbytes);
        moved.insert(place, elements);
    }
    for view in views {
        let by = place_by_node.get(&view.storage).and_then(|place| moved.get(place));
        if let Some(by) = by {
            // A view without elements may begin before all others.
            let offset = outline.graph.add(Node::Int(view.offset.saturating_sub(*by).max(0)))?;
            outline.graph.set_member(view.tuple, 1, offset);
        }
    }
    for (id, pid) in pids {
        let Some(place) = place_of(&outline.graph, pid).filter(|place| moved.contains_key(place)) else {
            continue;
        };
        let Some(stored) = outline.storages.get(place) else { continue };
        let numel = stored.storage.nbytes().checked_div(element_bytes(stored.class)).unwrap_or(0);
        let numel = outline.graph.add(Node::Int(i64::try_from(numel).unwrap_or(i64::MAX)))?;
        // A tuple of its own: the old one may be a value too.
        let mut members = outline.graph.tuple(pid).unwrap_or_default().to_vec();
        members.iter_mut().skip(4).take(1).for_each(|old| *old = numel);
        let pid = outline.graph.add_tuple(&members)?;
        outline.graph.set_node(id, Node::PersistentId(pid));
    }
    Ok(())
}

/// What tensors view of a storage.
struct Viewed {
    /// Bytes from the first to the last.
    start: u64,
    end: u64,
    /// Bytes of an element, where they are the same for all, and begin with a byte each.
    element: Option<u64>,
}

impl Viewed {
    /// Where a storage may begin, in bytes and in elements. Views that count in other units than each other move
    /// nowhere.
    fn beginning(&self) -> (u64, u64) {
        let elements = self.element.and_then(|element| self.start.checked_div(element));
        elements.map_or((0, 0), |elements| (self.start, elements))
    }
}

/// What is viewed of each storage, by [`Storage::id`](crate::Storage::id).
fn viewed<'t>(tensors: impl Iterator<Item = &'t Tensor>) -> HashMap<usize, Option<Viewed>> {
    let mut viewed: HashMap<usize, Option<Viewed>> = HashMap::new();
    let mut note = |tensor: &Tensor| {
        let Some(storage) = tensor.storage() else { return };
        viewed.entry(storage.id()).or_default();
        if let Some((whole, _)) = storage.whole() {
            viewed.entry(whole.id()).or_default();
        }
        let size = tensor.dtype().element_size();
        let bytes =
            |elements: usize| elements.div_ceil(tensor.dtype().packing()).checked_mul(size)?.try_into().ok();
        let end = layout::extent(tensor.shape(), tensor.stride(), tensor.storage_offset()).and_then(bytes);
        let (start, end) = match (bytes(tensor.storage_offset()), end) {
            (Some(start), Some(end)) if layout::numel(tensor.shape()) != Some(0) => (start, end),
            _ => return,
        };
        let element = u64::try_from(size).ok().filter(|_| tensor.dtype().packing() == 1);
        let mut widen = |id: usize, start: u64, end: u64| {
            let known = viewed.entry(id).or_default();
            let known = known.get_or_insert(Viewed { start, end, element });
            known.start = known.start.min(start);
            known.end = known.end.max(end);
            known.element = known.element.filter(|known| Some(*known) == element);
        };
        widen(storage.id(), start, end);
        // A part of a storage may be written as a view of the whole.
        if let Some((whole, at)) = storage.whole() {
            widen(whole.id(), start.saturating_add(at), end.saturating_add(at));
        }
    };
    for tensor in tensors {
        note(tensor);
        tensor.parts().for_each(|(_, part)| note(part));
    }
    viewed
}

/// The views in a graph, and the storages whose every mention is in one, by whatever number their persistent ids have.
pub(super) fn only_viewed(graph: &Graph, storages: &HashMap<NodeId, usize>) -> (Vec<View>, HashSet<usize>) {
    let references = graph.references();
    let views = views(graph, &references);
    let mut mentions: HashMap<usize, i64> = HashMap::new();
    let mut count = |id: NodeId, by: i64| {
        if let Some(storage) = storages.get(&id) {
            let mentions = mentions.entry(*storage).or_default();
            *mentions = mentions.saturating_add(by);
        }
    };
    for (id, by) in references {
        count(id, i64::try_from(by).unwrap_or(i64::MAX));
    }
    for view in &views {
        count(view.storage, -1);
    }
    (views, mentions.into_iter().filter(|(_, left)| *left == 0).map(|(storage, _)| storage).collect())
}

/// `(storage, offset, size, stride, …)`: arguments or a state that make a view, and that stand nowhere else.
pub(super) struct View {
    pub(super) tuple: NodeId,
    /// The persistent id.
    pub(super) storage: NodeId,
    pub(super) offset: i64,
}

fn views(graph: &Graph, references: &HashMap<NodeId, usize>) -> Vec<View> {
    let view = |tuple: NodeId| {
        let &[storage, offset, size, stride, ..] = graph.tuple(tuple)? else { return None };
        let sizes = |id: NodeId| matches!(graph.node(id), Node::Tuple(_) | Node::List(_) | Node::Object(_));
        match (graph.node(storage), graph.node(offset)) {
            (Node::PersistentId(_), Node::Int(offset)) if sizes(size) && sizes(stride) => {
                Some(View { tuple, storage, offset })
            }
            _ => None,
        }
    };
    // Of the functions whose arguments make views, and of the tensors of old, which are given one as their state.
    let name = |id: NodeId| match graph.node(id) {
        Node::Global(symbol) => graph.symbol(symbol).and_then(|symbol| known(&symbol.full)),
        _ => None,
    };
    let makes_views = |function: Option<Known>| {
        use Rebuild::{Quantized, V1, V2, V3};
        matches!(function, Some(Known::Rebuild(V1 | V2 | V3 | Quantized)))
    };
    // How often each is used so. One that is used otherwise too is a value by itself, and what is in it is seen.
    let mut uses: HashMap<NodeId, usize> = HashMap::new();
    let mut used = |tuple: NodeId| {
        let uses = uses.entry(tuple).or_default();
        *uses = uses.saturating_add(1);
        *uses
    };
    for (_, object) in graph.ids().filter_map(|id| graph.object(id)) {
        if object.call != Call::Reduce {
            continue;
        }
        match name(object.callable) {
            function if makes_views(function) => {
                used(object.args);
            }
            Some(Known::Rebuild(Rebuild::FromType | Rebuild::FromTypeV2)) => {
                // Arguments within arguments, which are seen where the outer ones are.
                if let Some(&[function, _, args, ..]) = graph.tuple(object.args)
                    && makes_views(name(function))
                {
                    let uses = used(object.args);
                    if references.get(&object.args) == Some(&uses) {
                        used(args);
                    }
                }
            }
            Some(Known::Tensor | Known::TensorClass { .. }) => {
                for state in object.more.iter().flat_map(|more| &more.states) {
                    used(*state);
                }
            }
            _ => {}
        }
    }
    let mut views: Vec<View> = uses
        .into_iter()
        .filter(|(tuple, uses)| references.get(tuple) == Some(uses))
        .filter_map(|(tuple, _)| view(tuple))
        .collect();
    views.sort_unstable_by_key(|view| view.tuple);
    views
}
