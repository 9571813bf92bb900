//! What values hold: entries by key, members by place.

use super::{Value, ValueKind, pairs};
use crate::error::{Error, Result};
use crate::pickle::{Node, NodeId};
use crate::torch::Meaning;

impl<'c> Value<'c> {
    /// Keys and values of a dict of any kind, in order; of anything else nothing.
    pub fn entries(self) -> impl Iterator<Item = (Self, Self)> {
        let (first, second) = self.entry_nodes();
        let pairs = first.into_iter().chain(second.chunks_exact(2).filter_map(|entry| match entry {
            &[key, value] => Some((key, value)),
            _ => None,
        }));
        pairs.map(move |(key, value)| (self.at(key), self.at(value)))
    }

    /// What a mapping was made from, and what was set on it.
    fn entry_nodes(self) -> (Vec<(NodeId, NodeId)>, &'c [NodeId]) {
        let graph = &self.document.graph;
        match self.document.meaning(self.id) {
            Some((object, Meaning::Mapping { base, .. })) => {
                let set = object.more.as_deref().map_or(&[][..], |more| more.entries.as_slice());
                let base = base.map_or_else(Vec::new, |base| match graph.node(base) {
                    Node::Dict(_) => pairs(graph.members(base)),
                    _ => graph.members(base).iter().flat_map(|&pair| pairs(graph.members(pair))).collect(),
                });
                (base, set)
            }
            Some(_) => (Vec::new(), &[]),
            None if matches!(graph.node(self.id), Node::Dict(_)) => (Vec::new(), graph.members(self.id)),
            None => (Vec::new(), &[]),
        }
    }

    /// Whether it is a dict of any kind.
    pub fn is_mapping(self) -> bool {
        matches!(
            self.kind(),
            ValueKind::Dict | ValueKind::OrderedDict | ValueKind::Counter | ValueKind::DefaultDict
        )
    }

    /// The value of a string key, or of an attribute of an object.
    pub fn find(self, key: &str) -> Option<Self> {
        let graph = &self.document.graph;
        let text = |value: Self| matches!(graph.node(value.id), Node::Str(span) if graph.bytes(span) == key.as_bytes());
        // A subclass of dict has its entries assigned.
        let entry = self.entries().chain(self.assigned()).filter(|(name, _)| text(*name)).last();
        let found = entry.or_else(|| self.attributes().filter(|(name, _)| text(*name)).last());
        found.map(|(_, value)| value)
    }

    /// The value of a string key, or of an attribute of an object.
    ///
    /// # Errors
    /// `Misuse` that names the key and the keys that are there.
    pub fn get(self, key: &str) -> Result<Self> {
        self.find(key).ok_or_else(|| {
            let keys: Vec<&str> = self
                .entries()
                .chain(self.assigned())
                .chain(self.attributes())
                .filter_map(|(key, _)| match key.kind() {
                    ValueKind::Str(text) => Some(text),
                    _ => None,
                })
                .take(200)
                .collect();
            let near = crate::suggest::nearest(key, keys.iter().copied());
            let there = match (near.is_empty(), keys.is_empty()) {
                (false, _) => format!("; did you mean {}", near.join(", ")),
                (true, false) => format!("; there are {}", keys.get(..8).unwrap_or(&keys).join(", ")),
                (true, true) => format!("; it is a {}", self.type_name()),
            };
            Error::misuse(format!("there is no key {key:?}{there}"))
        })
    }

    /// The members of a list, tuple, deque, `torch.Size`, set or frozenset, in order; of anything else nothing.
    pub fn items(self) -> impl Iterator<Item = Self> {
        let (members, added) = self.item_nodes();
        members.iter().chain(added).map(move |&id| self.at(id))
    }

    /// What a sequence or set was made from, and what was added.
    fn item_nodes(self) -> (&'c [NodeId], &'c [NodeId]) {
        let graph = &self.document.graph;
        match self.document.meaning(self.id) {
            Some((_, Meaning::Size(sizes))) => (graph.members(*sizes), &[]),
            Some((object, Meaning::Set { members, .. } | Meaning::Deque { members })) => (
                members.map_or(&[][..], |members| graph.members(members)),
                object.more.as_deref().map_or(&[][..], |more| more.items.as_slice()),
            ),
            Some(_) => (&[], &[]),
            None if matches!(graph.node(self.id), Node::Dict(_)) => (&[], &[]),
            None => (graph.members(self.id), &[]),
        }
    }

    /// The member of a list, tuple, deque or `torch.Size` at `index`.
    ///
    /// # Errors
    /// `Misuse` that tells how many there are.
    pub fn index(self, index: usize) -> Result<Self> {
        self.items().nth(index).ok_or_else(|| {
            Error::misuse(format!(
                "there is no index {index} in a {} of {}",
                self.type_name(),
                self.items().count()
            ))
        })
    }

    /// How many entries or items it has.
    pub fn len(self) -> usize {
        if !self.is_mapping() {
            let (members, added) = self.item_nodes();
            return members.len().saturating_add(added.len());
        }
        match self.document.graph.node(self.id) {
            // Without a walk over its entries: one dict may be asked for often.
            Node::Dict(_) => self.document.graph.members(self.id).len().div_euclid(2),
            _ => self.entries().count(),
        }
    }

    /// Whether it has no entries and no items.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}
