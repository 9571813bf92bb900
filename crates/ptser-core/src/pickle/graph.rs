//! The inert graph that a pickle describes: an arena of small nodes that name each other by number, so that
//! sharing and cycles cost nothing and nothing is ever called.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::machine::to_u64;
use super::views::Views;
use crate::error::{Error, Reason, Result};

/// Names a node: its place in the arena plus one, so that an absent one takes no more room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NodeId(NonZeroU32);

/// Names a global.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SymbolId(pub(super) u32);

/// A range of pickle bytes, or of the heap behind them (decoded text).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    len: u32,
}

/// A range of `Graph::children`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(super) start: u32,
    pub(super) len: u32,
}

/// One value.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Node {
    None,
    Bool(bool),
    Int(i64),
    /// An integer beyond 64 bits: two's complement, little-endian.
    Long(Span),
    Float(f64),
    /// Text in UTF-8.
    Str(Span),
    /// Text with lone surrogates, each in three bytes as Python's `surrogatepass` writes them.
    Surrogates(Span),
    Bytes(Span),
    ByteArray(Span),
    Tuple(Run),
    List(u32),
    /// Keys and values in turn.
    Dict(u32),
    Set(u32),
    FrozenSet(Run),
    Global(SymbolId),
    Object(u32),
    PersistentId(NodeId),
    /// A place in [`Graph::views`].
    View(u32),
}

/// How an object was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// `REDUCE`, `OBJ` and `INST`: `callable(*args)`.
    Reduce,
    /// `NEWOBJ` and `NEWOBJ_EX`: `cls.__new__(cls, *args, **kwargs)`.
    New,
}

/// A call that was recorded and never made.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) call: Call,
    pub(crate) callable: NodeId,
    /// A tuple.
    pub(crate) args: NodeId,
    /// What came after construction, where anything did.
    pub(crate) more: Option<Box<More>>,
}

/// What a pickle did to an object after its construction.
#[derive(Debug, Default, Clone)]
pub(crate) struct More {
    /// A dict, for `NEWOBJ_EX`.
    pub(crate) kwargs: Option<NodeId>,
    /// Each `BUILD`.
    pub(crate) states: Vec<NodeId>,
    /// Calls `function(object, state)` that were made for what they do to the object: what `__reduce__` has as its sixth.
    pub(crate) setters: Vec<NodeId>,
    /// `APPEND`, `APPENDS`, `ADDITEMS`.
    pub(crate) items: Vec<NodeId>,
    /// `SETITEM`, `SETITEMS`: keys and values in turn.
    pub(crate) entries: Vec<NodeId>,
}

/// A global by name, after Python 2's names are mapped to Python 3's.
#[derive(Debug, Clone)]
pub(crate) struct Symbol {
    pub(crate) module: Box<str>,
    /// `module.name`.
    pub(crate) full: Box<str>,
    /// The byte of the opcode that names it first.
    pub(crate) at: usize,
}

impl Symbol {
    /// The name in its module, which has dots itself where classes nest.
    pub(crate) fn name(&self) -> &str {
        self.full.get(self.module.len().saturating_add(1)..).unwrap_or_default()
    }
}

/// Everything one pickle holds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Graph {
    pub(super) pickle: Vec<u8>,
    pub(super) heap: Vec<u8>,
    pub(super) nodes: Vec<Node>,
    pub(super) children: Vec<NodeId>,
    pub(super) containers: Vec<Vec<NodeId>>,
    pub(super) objects: Vec<Object>,
    pub(super) symbols: Vec<Symbol>,
    /// From protocol 4 on, the texts that spell the module and the name of a global's node; by node.
    pub(super) spellings: Vec<(NodeId, NodeId, NodeId)>,
    /// What an abridged graph has in the place of calls.
    pub(super) views: Arc<Views>,
    /// Mentions of what was there before, marks, and what views leave out: with the nodes all that was counted.
    pub(super) repeated: usize,
    pub(super) root: NodeId,
    /// The highest protocol that the stream declares.
    pub(crate) protocol: u8,
}

impl Span {
    #[inline]
    pub(super) fn new(start: usize, len: usize) -> Result<Self> {
        let end = start.checked_add(len).and_then(|end| u32::try_from(end).ok());
        match (u32::try_from(start), u32::try_from(len), end) {
            (Ok(start), Ok(len), Some(_)) => Ok(Self { start, len }),
            _ => Err(too_large("a pickle of 4 GiB or more")),
        }
    }

    /// The first bytes of the span.
    pub(super) fn cut_to(self, len: usize) -> Self {
        Self { len: u32::try_from(len).map_or(self.len, |len| len.min(self.len)), ..self }
    }

    /// The text of the span in `bytes`, whose first byte has number `first`.
    pub(super) fn text_in(self, bytes: &[u8], first: usize) -> Option<&str> {
        std::str::from_utf8(self.bytes_in(bytes, first)?).ok()
    }

    /// The span in `bytes`, whose first byte has number `first`.
    pub(super) fn bytes_in(self, bytes: &[u8], first: usize) -> Option<&[u8]> {
        let start = index(self.start).checked_sub(first)?;
        bytes.get(start..start.checked_add(self.len())?)
    }

    /// Bytes in the span.
    #[inline]
    pub(crate) fn len(self) -> usize {
        index(self.len)
    }
}

impl Run {
    #[inline]
    pub(super) fn new(start: usize, len: usize) -> Result<Self> {
        let Span { start, len } = Span::new(start, len)?;
        Ok(Self { start, len })
    }
}

/// Every number in the graph fits `u32`, which fits `usize` wherever this crate compiles.
#[inline]
pub(crate) fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl Graph {
    /// A dict of these names, whose values are persistent ids: the graph of a container without a pickle.
    pub(crate) fn of_names(names: &[String]) -> Result<(Self, Vec<NodeId>)> {
        let mut graph = Self { nodes: vec![Node::Dict(0)], ..Self::default() };
        let mut entries = Vec::with_capacity(names.len().saturating_mul(2));
        let mut pids = Vec::with_capacity(names.len());
        for name in names {
            let span = Span::new(graph.heap.len(), name.len())?;
            graph.heap.extend_from_slice(name.as_bytes());
            let key = graph.add(Node::Str(span))?;
            // The name is the id, as in the tar archives of torch 0.1.
            let value = graph.add(Node::PersistentId(key))?;
            entries.extend([key, value]);
            pids.push(value);
        }
        graph.containers.push(entries);
        Ok((graph, pids))
    }

    /// Makes room for so many nodes, members of tuples, calls, and bytes of texts.
    pub(crate) fn reserve(&mut self, nodes: usize, members: usize, objects: usize, heap: usize) {
        self.heap.reserve(heap);
        self.nodes.reserve(nodes);
        self.children.reserve(members);
        self.objects.reserve(objects);
    }

    #[inline]
    pub(crate) fn add(&mut self, node: Node) -> Result<NodeId> {
        let id = NodeId::at(self.nodes.len())?;
        self.nodes.push(node);
        Ok(id)
    }

    pub(crate) fn set_node(&mut self, id: NodeId, node: Node) {
        if let Some(old) = self.nodes.get_mut(id.place()) {
            *old = node;
        }
    }

    /// Puts a node in the place of a member of a tuple.
    pub(crate) fn set_member(&mut self, tuple: NodeId, place: usize, member: NodeId) {
        let Node::Tuple(run) = self.node(tuple) else { return };
        let run = self.children.get_mut(index(run.start)..).and_then(|rest| rest.get_mut(..index(run.len)));
        if let Some(old) = run.and_then(|run| run.get_mut(place)) {
            *old = member;
        }
    }

    /// Leaves a frozenset some of its members.
    pub(super) fn shorten(&mut self, frozen: NodeId, kept: &[NodeId]) {
        let Node::FrozenSet(Run { start, len }) = self.node(frozen) else { return };
        let members = self.children.get_mut(index(start)..).unwrap_or_default();
        members.iter_mut().zip(kept).for_each(|(member, kept)| *member = *kept);
        let len = u32::try_from(kept.len()).map_or(len, |kept| kept.min(len));
        self.set_node(frozen, Node::FrozenSet(Run { start, len }));
    }

    /// Whether each node is the root or part of it: a pickle may throw away what it made.
    pub(crate) fn reachable(&self) -> Vec<bool> {
        let mut reached = vec![false; self.nodes.len()];
        let mut open = vec![self.root];
        while let Some(id) = open.pop() {
            if reached.get_mut(id.place()).is_none_or(|reached| std::mem::replace(reached, true)) {
                continue;
            }
            open.extend(self.members(id));
            match self.node(id) {
                Node::PersistentId(pid) => open.push(pid),
                Node::Object(_) => {
                    let Some((_, object)) = self.object(id) else { continue };
                    open.extend([object.callable, object.args]);
                    if let Some(More { kwargs, states, setters, items, entries }) = object.more.as_deref() {
                        open.extend(kwargs.iter().chain(states).chain(setters).chain(items).chain(entries));
                    }
                }
                _ => {}
            }
        }
        reached
    }

    /// The nodes that are part of others, and of how many.
    pub(crate) fn references(&self) -> HashMap<NodeId, usize> {
        let mut counts = HashMap::new();
        let mut count = |id: &NodeId| {
            let count = counts.entry(*id).or_insert(0_usize);
            *count = count.saturating_add(1);
        };
        count(&self.root);
        self.children.iter().chain(self.containers.iter().flatten()).for_each(&mut count);
        for object in &self.objects {
            count(&object.callable);
            count(&object.args);
            if let Some(More { kwargs, states, setters, items, entries }) = object.more.as_deref() {
                kwargs.iter().chain(states).chain(setters).chain(items).chain(entries).for_each(&mut count);
            }
        }
        counts
    }

    /// Puts nodes in the place of others, wherever these stand.
    pub(crate) fn redirect(&mut self, instead: &HashMap<NodeId, NodeId>) {
        if instead.is_empty() {
            return;
        }
        let swap = |id: &mut NodeId| {
            if let Some(other) = instead.get(id) {
                *id = *other;
            }
        };
        swap(&mut self.root);
        self.children.iter_mut().chain(self.containers.iter_mut().flatten()).for_each(swap);
        for object in &mut self.objects {
            swap(&mut object.callable);
            swap(&mut object.args);
            let more = object.more.iter_mut().map(|more| &mut **more);
            for More { kwargs, states, setters, items, entries } in more {
                kwargs.iter_mut().chain(states).chain(setters).chain(items).chain(entries).for_each(swap);
            }
        }
    }

    pub(crate) fn set_root(&mut self, root: NodeId) {
        self.root = root;
    }

    pub(crate) fn root(&self) -> NodeId {
        self.root
    }

    #[inline]
    pub(crate) fn node(&self, id: NodeId) -> Node {
        self.nodes.get(id.place()).copied().unwrap_or(Node::None)
    }

    /// Every node, in order of appearance.
    pub(crate) fn ids(&self) -> impl Iterator<Item = NodeId> + use<'_> {
        (1..).filter_map(NonZeroU32::new).map(NodeId).take(self.nodes.len())
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// How many objects were counted while it was read.
    pub(crate) fn count(&self) -> u64 {
        to_u64(self.nodes.len().saturating_add(self.repeated))
    }

    /// How much there is of it: bytes, values with each mention of them, and members of containers; as much where it is
    /// abridged.
    pub(crate) fn weight(&self) -> usize {
        let members = self.containers.iter().map(Vec::len).chain([
            self.children.len(),
            self.views.members(),
            self.nodes.len(),
            self.repeated,
            self.pickle.len(),
        ]);
        members.fold(0, usize::saturating_add)
    }

    #[inline]
    pub(crate) fn bytes(&self, span: Span) -> &[u8] {
        let start = index(span.start);
        let (bytes, start) = match start.checked_sub(self.pickle.len()) {
            None => (self.pickle.as_slice(), start),
            Some(start) => (self.heap.as_slice(), start),
        };
        bytes.get(start..start.saturating_add(span.len())).unwrap_or_default()
    }

    /// The text of a span, if it is one.
    #[inline]
    pub(crate) fn utf8(&self, span: Span) -> Option<&str> {
        std::str::from_utf8(self.bytes(span)).ok()
    }

    /// The text of a `Str` node; empty for a span that is none.
    #[inline]
    pub(crate) fn text(&self, span: Span) -> &str {
        self.utf8(span).unwrap_or_default()
    }

    /// The text of a node that is ASCII, also where what Python 2 wrote is kept as bytes.
    pub(crate) fn ascii(&self, id: NodeId) -> Option<&str> {
        match self.node(id) {
            Node::Bytes(span) => std::str::from_utf8(self.bytes(span)).ok().filter(|text| text.is_ascii()),
            _ => self.str(id),
        }
    }

    /// Whether a node is this text, which is ASCII; also where what Python 2 wrote is kept as bytes.
    pub(crate) fn is_text(&self, id: NodeId, text: &[u8]) -> bool {
        matches!(self.node(id), Node::Str(span) | Node::Bytes(span) if self.bytes(span) == text)
    }

    /// The text of a node that is text.
    #[inline]
    pub(crate) fn str(&self, id: NodeId) -> Option<&str> {
        match self.node(id) {
            Node::Str(span) => Some(self.text(span)),
            _ => None,
        }
    }

    /// The members of a tuple, list, set or frozenset; keys and values in turn for a dict; else nothing.
    #[inline]
    pub(crate) fn members(&self, id: NodeId) -> &[NodeId] {
        match self.node(id) {
            Node::Tuple(run) | Node::FrozenSet(run) => self.run(run),
            Node::List(place) | Node::Dict(place) | Node::Set(place) => self.container(place),
            _ => &[],
        }
    }

    /// The members of a tuple.
    #[inline]
    pub(crate) fn tuple(&self, id: NodeId) -> Option<&[NodeId]> {
        match self.node(id) {
            Node::Tuple(run) => Some(self.run(run)),
            _ => None,
        }
    }

    #[inline]
    fn run(&self, run: Run) -> &[NodeId] {
        let start = index(run.start);
        self.children.get(start..start.saturating_add(index(run.len))).unwrap_or_default()
    }

    #[inline]
    fn container(&self, place: u32) -> &[NodeId] {
        self.containers.get(index(place)).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn objects(&self) -> &[Object] {
        &self.objects
    }

    /// The object of an `Object` node, and its place in [`objects`](Self::objects).
    #[inline]
    pub(crate) fn object(&self, id: NodeId) -> Option<(usize, &Object)> {
        match self.node(id) {
            Node::Object(place) => Some((index(place), self.objects.get(index(place))?)),
            _ => None,
        }
    }

    /// The states of an object: those of `BUILD`, then those of calls.
    pub(crate) fn states<'g>(&'g self, more: &'g More) -> impl Iterator<Item = NodeId> + 'g {
        // `function(object, state)`
        let by_call = |&call: &NodeId| self.members(self.object(call)?.1.args).get(1).copied();
        more.states.iter().copied().chain(more.setters.iter().filter_map(by_call))
    }

    /// Puts the first argument in the place of every call of some functions, which return it as it is.
    pub(crate) fn see_through(&mut self, functions: impl Fn(&str) -> bool) {
        let transparent: Vec<bool> = self.symbols.iter().map(|symbol| functions(&symbol.full)).collect();
        if !transparent.contains(&true) {
            return;
        }
        // Arguments come before the calls they are given to, so that calls within calls fall in turn.
        for place in 0..self.nodes.len() {
            let Some(Node::Object(object)) = self.nodes.get(place) else { continue };
            let Some(Object { callable, args, .. }) = self.objects.get(index(*object)) else { continue };
            let Node::Global(symbol) = self.node(*callable) else { continue };
            let first = self.members(*args).first().copied();
            if let Some(first) = first.filter(|_| transparent.get(symbol.place()) == Some(&true)) {
                let inner = self.node(first);
                if let Some(node) = self.nodes.get_mut(place) {
                    *node = inner;
                }
            }
        }
    }

    /// The texts that spell the module and the name of a global's node.
    pub(super) fn spelling_of(&self, id: NodeId) -> Option<(NodeId, NodeId)> {
        let place = self.spellings.binary_search_by_key(&id, |&(id, ..)| id).ok()?;
        self.spellings.get(place).map(|&(_, module, name)| (module, name))
    }

    pub(crate) fn symbols(&self) -> &[Symbol] {
        &self.symbols
    }

    /// Takes globals that are no members of classes for what their modules hold: a pickle may say `torch` and
    /// `cuda.FloatStorage`, and from protocol 4 on both ways to divide a name are one to Python.
    pub(crate) fn divide_names(&mut self, is_of_module: impl Fn(&str) -> bool) {
        for symbol in self.symbols.iter_mut().filter(|symbol| symbol.name().contains('.')) {
            if let Some((module, _)) = symbol.full.rsplit_once('.').filter(|_| is_of_module(&symbol.full)) {
                symbol.module = module.into();
            }
        }
    }

    pub(crate) fn symbol(&self, id: SymbolId) -> Option<&Symbol> {
        self.symbols.get(index(id.0))
    }

    /// The view that a node is: its place in [`views`](Self::views).
    #[inline]
    pub(crate) fn view(&self, id: NodeId) -> Option<usize> {
        match self.node(id) {
            Node::View(place) => Some(index(place)),
            _ => None,
        }
    }

    /// The calls that an abridged graph has a node each of.
    pub(crate) fn views(&self) -> &Arc<Views> {
        &self.views
    }

    /// The bytes that it was read from.
    pub(crate) fn into_pickle(self) -> Vec<u8> {
        self.pickle
    }

    pub(crate) fn pickle(&self) -> &[u8] {
        &self.pickle
    }

    /// Every persistent id and every view, in order of appearance.
    pub(crate) fn named(&self) -> impl Iterator<Item = (NodeId, Node)> + '_ {
        let is_one = |node: &Node| matches!(node, Node::PersistentId(_) | Node::View(_));
        self.ids().zip(self.nodes.iter().copied()).filter(move |(_, node)| is_one(node))
    }

    /// Every persistent id, in order of appearance.
    pub(crate) fn persistent_ids(&self) -> impl Iterator<Item = (NodeId, NodeId)> + '_ {
        self.nodes.iter().zip(self.ids()).filter_map(|(node, id)| match node {
            Node::PersistentId(pid) => Some((id, *pid)),
            _ => None,
        })
    }
}

impl NodeId {
    /// The id of the node at a place in the arena.
    #[inline]
    pub(crate) fn at(place: usize) -> Result<Self> {
        let number =
            u32::try_from(place).ok().and_then(|place| place.checked_add(1)).and_then(NonZeroU32::new);
        number.map(Self).ok_or_else(|| too_large("2^32 objects or more"))
    }

    /// The place of the node in the arena.
    #[inline]
    pub(crate) fn place(self) -> usize {
        index(self.0.get().saturating_sub(1))
    }

    /// A number that is no other node's.
    pub(super) fn number(self) -> u32 {
        self.0.get()
    }
}

#[cold]
fn too_large(what: &str) -> Error {
    Reason::Unsupported(what.into()).into()
}

impl Default for NodeId {
    /// The first node.
    fn default() -> Self {
        Self(NonZeroU32::MIN)
    }
}

impl SymbolId {
    /// The place in [`Graph::symbols`].
    #[inline]
    pub(crate) fn place(self) -> usize {
        index(self.0)
    }
}
