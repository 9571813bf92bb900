//! What Python's dicts and sets do while they are filled, done once the graph is whole: keys that cannot be
//! hashed are refused, and of equal keys the last value stands at the first place.

use std::collections::hash_map::Entry;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use foldhash::{HashMap, HashMapExt};
use hashbrown::{HashTable, hash_table as table};

use super::graph::{Graph, Node, NodeId, Span, index};
use crate::error::{Error, Reason, Result};
use crate::memory::{extend, make_room, push, reserve, short};

/// Settles the keys of every dict and the members of every set.
pub(super) fn settle_keys(graph: &mut Graph) -> Result<()> {
    let mut containers = std::mem::take(&mut graph.containers);
    let mut objects = std::mem::take(&mut graph.objects);
    let outcome = settle_all(graph, &mut containers, &mut objects);
    graph.containers = containers;
    graph.objects = objects;
    for (frozen, kept) in outcome? {
        graph.shorten(frozen, &kept);
    }
    Ok(())
}

/// Gives the frozensets that have fewer members than were named.
fn settle_all(
    graph: &Graph,
    containers: &mut [Vec<NodeId>],
    objects: &mut [super::Object],
) -> Result<Vec<(NodeId, Vec<NodeId>)>> {
    let mut shorter = Vec::new();
    let mut keys = Keys {
        graph,
        texts: Vec::new(),
        places: HashTable::new(),
        hasher: RandomState::default(),
        long: HashMap::new(),
        round: 0,
        left: graph.weight().saturating_mul(16).saturating_add(1 << 20),
    };
    for (place, node) in graph.nodes.iter().enumerate() {
        let (place, step) = match node {
            Node::Dict(place) => (*place, 2),
            Node::Set(place) => (*place, 1),
            Node::FrozenSet(_) => {
                let id = NodeId::at(place)?;
                let mut members = graph.members(id).to_vec();
                let named = members.len();
                keys.settle(&mut members, 1)?;
                if members.len() < named {
                    push(&mut shorter, (id, members))?;
                }
                continue;
            }
            _ => continue,
        };
        if let Some(members) = containers.get_mut(index(place)) {
            keys.settle(members, step)?;
        }
    }
    for more in objects.iter_mut().filter_map(|object| object.more.as_deref_mut()) {
        keys.settle(&mut more.entries, 2)?;
    }
    Ok(shorter)
}

/// What is known of the keys of a graph.
struct Keys<'g> {
    graph: &'g Graph,
    /// The texts that are keys, each once.
    texts: Vec<Text>,
    /// Places in `texts`.
    places: HashTable<u32>,
    hasher: RandomState,
    /// The place in `texts` of each node that is a long text, so that these are compared once, however many dicts share
    /// them.
    long: HashMap<NodeId, usize>,
    round: u32,
    /// Bytes that may still be written to compare other keys, which can share members as often as they like.
    left: usize,
}

/// One text.
struct Text {
    span: Span,
    /// The round in which it was met last.
    met: u32,
}

fn bytes_of<'g>(graph: &'g Graph, texts: &[Text], place: u32) -> &'g [u8] {
    texts.get(index(place)).map_or(&[], |text| graph.bytes(text.span))
}

/// Bytes of a text that is compared anew for each dict.
const SHORT: usize = 256;

impl<'g> Keys<'g> {
    /// Drops repeated keys from `members`, keys (and values) in turn.
    fn settle(&mut self, members: &mut Vec<NodeId>, step: usize) -> Result<()> {
        if self.only_distinct_text(members, step)? {
            return Ok(());
        }
        let mut places = HashMap::new();
        let mut kept: Vec<NodeId> = Vec::new();
        reserve(&mut kept, members.len())?;
        let mut id = Vec::new();
        for entry in members.chunks(step) {
            let Some(&key) = entry.first() else { continue };
            id.clear();
            self.identity(key, &mut id)?;
            make_room(&mut places)?;
            match places.entry(Identity::of(&id)?) {
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

    /// The common case.
    fn only_distinct_text(&mut self, members: &[NodeId], step: usize) -> Result<bool> {
        // A single text is distinct without a look at it.
        if let &[key] | &[key, _] = members
            && members.len() == step
        {
            return Ok(matches!(self.graph.node(key), Node::Str(_)));
        }
        self.round = self.round.wrapping_add(1);
        let count = members.len().checked_div(step).unwrap_or(0);
        self.make_room(count.saturating_sub(self.places.len()))?;
        for &key in members.iter().step_by(step) {
            let Node::Str(span) = self.graph.node(key) else { return Ok(false) };
            let place = self.text(key, span)?;
            let met = self.texts.get_mut(place).map(|text| &mut text.met);
            if met.is_none_or(|met| std::mem::replace(met, self.round) == self.round) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes room for more texts.
    fn make_room(&mut self, more: usize) -> Result<()> {
        let Self { graph, texts, places, hasher, .. } = self;
        reserve(texts, more)?;
        let hash_at = |place: &u32| hasher.hash_one(bytes_of(graph, texts, *place));
        places.try_reserve(more, hash_at).map_err(|_| short::<u32>(more))
    }

    /// The place of a text.
    fn text(&mut self, key: NodeId, span: Span) -> Result<usize> {
        let bytes = self.graph.bytes(span);
        if let Some(place) = self.long.get(&key).filter(|_| bytes.len() > SHORT) {
            return Ok(*place);
        }
        self.make_room(1)?;
        let Self { graph, texts, places, hasher, .. } = self;
        let is_it = |place: &u32| bytes_of(graph, texts, *place) == bytes;
        let hash_at = |place: &u32| hasher.hash_one(bytes_of(graph, texts, *place));
        let place = match places.entry(hasher.hash_one(bytes), is_it, hash_at) {
            table::Entry::Occupied(place) => *place.get(),
            table::Entry::Vacant(vacant) => {
                // There are fewer texts than nodes.
                let place = u32::try_from(texts.len()).unwrap_or(u32::MAX);
                vacant.insert(place);
                texts.push(Text { span, met: 0 });
                place
            }
        };
        let place = index(place);
        if bytes.len() > SHORT {
            make_room(&mut self.long)?;
            self.long.insert(key, place);
        }
        Ok(place)
    }

    /// Writes bytes that are equal for keys that Python takes for equal.
    fn identity(&mut self, key: NodeId, out: &mut Vec<u8>) -> Result<()> {
        let graph = self.graph;
        let mut open = vec![key];
        while let Some(id) = open.pop() {
            let before = out.len();
            match graph.node(id) {
                Node::None => push(out, b'n')?,
                // True == 1 == 1.0 in Python.
                Node::Bool(bool) => int(out, i64::from(bool))?,
                Node::Int(number) => int(out, number)?,
                Node::Float(float) => match whole(float) {
                    Some(number) => int(out, number)?,
                    None if float.is_nan() => tagged(out, b'N', &id.number().to_le_bytes())?,
                    None => tagged(out, b'f', &float.to_le_bytes())?,
                },
                Node::Str(span) => {
                    let place = self.text(id, span)?;
                    tagged(out, b's', &place.to_le_bytes())?;
                }
                Node::Long(span) | Node::Surrogates(span) | Node::Bytes(span) => {
                    self.pay(span.len())?;
                    let tag = match graph.node(id) {
                        Node::Long(_) => b'l',
                        Node::Bytes(_) => b'b',
                        _ => b'S',
                    };
                    tagged(out, tag, graph.bytes(span))?;
                }
                Node::Tuple(run) => {
                    self.pay(index(run.len))?;
                    tagged(out, b't', &run.len.to_le_bytes())?;
                    extend(&mut open, graph.tuple(id).unwrap_or_default().iter().rev().copied())?;
                }
                Node::Global(symbol) => tagged(out, b'g', &symbol.0.to_le_bytes())?,
                Node::FrozenSet(_) | Node::Object(_) | Node::PersistentId(_) | Node::View(_) => {
                    tagged(out, b'o', &id.number().to_le_bytes())?
                }
                Node::List(_) => return Err(unhashable("list")),
                Node::Dict(_) => return Err(unhashable("dict")),
                Node::Set(_) => return Err(unhashable("set")),
                Node::ByteArray(_) => return Err(unhashable("bytearray")),
            }
            self.pay(out.len().saturating_sub(before))?;
        }
        Ok(())
    }

    fn pay(&mut self, amount: usize) -> Result<()> {
        self.left = self.left.checked_sub(amount).ok_or_else(|| {
            Reason::Pickle("dictionary keys share members so often that comparing them would not end".into())
        })?;
        Ok(())
    }
}

/// What two keys share that Python takes for equal.
#[derive(PartialEq, Eq, Hash)]
enum Identity {
    /// No more than a word and its tag: nearly always.
    Short(u8, u64),
    Long(Vec<u8>),
}

impl Identity {
    fn of(bytes: &[u8]) -> Result<Self> {
        // A tag, a length of eight bytes, and as many more.
        if let Some((&[tag, ..], &word)) = bytes
            .split_first_chunk::<9>()
            .and_then(|(head, rest)| Some((head, rest.first_chunk::<8>().filter(|_| rest.len() == 8)?)))
        {
            return Ok(Self::Short(tag, u64::from_le_bytes(word)));
        }
        let mut long = Vec::new();
        extend(&mut long, bytes.iter().copied())?;
        Ok(Self::Long(long))
    }
}

fn tagged(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) -> Result<()> {
    reserve(out, bytes.len().saturating_add(9))?;
    out.push(tag);
    out.extend_from_slice(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

fn int(out: &mut Vec<u8>, number: i64) -> Result<()> {
    tagged(out, b'i', &number.to_le_bytes())
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
