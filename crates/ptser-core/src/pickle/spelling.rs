//! What a protocol has no opcode for, spelled as CPython spells it there: by calls.

use foldhash::{HashMap, HashMapExt};

use super::graph::{Call, Graph, More, Node, NodeId, Object, Run, Span, Symbol, SymbolId};
use crate::error::{Reason, Result};

/// Texts that are one object each, as Python interns them.
#[derive(Debug, Default)]
pub(crate) struct Literals {
    texts: HashMap<Box<str>, NodeId>,
    /// Names of modules that are no identifiers, which a literal of the same text is not one with.
    modules: HashMap<Box<str>, NodeId>,
}

impl Literals {
    /// The text as a literal.
    pub(crate) fn text(&mut self, graph: &mut Graph, text: &str) -> Result<NodeId> {
        one(&mut self.texts, graph, text)
    }

    /// The name of a module.
    pub(crate) fn module(&mut self, graph: &mut Graph, name: &str) -> Result<NodeId> {
        let texts = if name.contains('.') { &mut self.modules } else { &mut self.texts };
        one(texts, graph, name)
    }
}

fn one(texts: &mut HashMap<Box<str>, NodeId>, graph: &mut Graph, text: &str) -> Result<NodeId> {
    if let Some(id) = texts.get(text) {
        return Ok(*id);
    }
    let id = graph.add_text(text)?;
    texts.insert(text.into(), id);
    Ok(id)
}

/// Makes a graph one that the writer can write in a protocol from 2 to 5.
///
/// # Errors
/// `Unsupported` for a graph of more than 2^32 nodes.
pub(super) fn spell(graph: &mut Graph, protocol: u8, literals: Literals) -> Result<SetClasses> {
    let mut speller = Speller { graph, literals, globals: HashMap::new(), classes: SetClasses::default() };
    speller.note_globals();
    for place in 0..speller.graph.nodes.len() {
        let id = NodeId::at(place)?;
        match speller.graph.node(id) {
            Node::Bytes(span) if protocol < 3 => speller.bytes(id, span)?,
            Node::ByteArray(span) if protocol < 5 => speller.byte_array(id, span, protocol)?,
            Node::Set(_) if protocol < 4 => speller.classes.set = Some(speller.global("builtins", "set")?),
            Node::FrozenSet(_) if protocol < 4 => {
                speller.classes.frozenset = Some(speller.global("builtins", "frozenset")?);
            }
            Node::Global(symbol) if protocol < 4 => speller.nested_global(id, symbol)?,
            Node::Object(_) if protocol < 4 => speller.keywords(id)?,
            _ => {}
        }
    }
    if protocol >= 4 {
        speller.spell_globals()?;
    }
    Ok(speller.classes)
}

/// What sets are made by where no opcode does it, where there are any: `set([…])`, with a list that is nothing else's.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SetClasses {
    pub(super) set: Option<NodeId>,
    pub(super) frozenset: Option<NodeId>,
}

struct Speller<'g> {
    graph: &'g mut Graph,
    literals: Literals,
    /// The first node of each global, by its full name.
    globals: HashMap<String, NodeId>,
    classes: SetClasses,
}

impl Speller<'_> {
    fn note_globals(&mut self) {
        for (place, node) in self.graph.nodes.iter().enumerate() {
            let Node::Global(symbol) = node else { continue };
            if let (Some(symbol), Ok(id)) = (self.graph.symbol(*symbol), NodeId::at(place)) {
                self.globals.entry(symbol.full.to_string()).or_insert(id);
            }
        }
    }

    /// `_codecs.encode(text, 'latin1')`, or `bytes()` for none.
    fn bytes(&mut self, id: NodeId, span: Span) -> Result<()> {
        if span.len() == 0 {
            let callable = self.global("builtins", "bytes")?;
            return self.call(id, callable, &[]);
        }
        let text: String = self.graph.bytes(span).iter().map(|&byte| char::from(byte)).collect();
        let text = self.graph.add_text(&text)?;
        let codec = self.literals.text(self.graph, "latin1")?;
        let callable = self.global("_codecs", "encode")?;
        self.call(id, callable, &[text, codec])
    }

    /// `bytearray(bytes)`, or `bytearray()` for none.
    fn byte_array(&mut self, id: NodeId, span: Span, protocol: u8) -> Result<()> {
        let callable = self.global("builtins", "bytearray")?;
        if span.len() == 0 {
            return self.call(id, callable, &[]);
        }
        let inner = self.graph.add(Node::Bytes(span))?;
        if protocol < 3 {
            self.bytes(inner, span)?;
        }
        self.call(id, callable, &[inner])
    }

    /// `functools.partial(cls.__new__, cls, *args, **kwargs)()`: a constructor with keyword arguments.
    fn keywords(&mut self, id: NodeId) -> Result<()> {
        let Some((place, object)) = self.graph.object(id) else { return Ok(()) };
        let (Call::New, class, args) = (object.call, object.callable, object.args) else { return Ok(()) };
        let Some(kwargs) = object.more.as_deref().and_then(|more| more.kwargs) else { return Ok(()) };
        let name = self.graph.add_text("__new__")?;
        let getattr = self.global("builtins", "getattr")?;
        let new = self.add_call(getattr, &[class, name], None)?;
        let args = [&[class], self.graph.members(args)].concat();
        let args = self.graph.add_tuple(&args)?;
        let nothing = self.graph.add(Node::None)?;
        let state = self.graph.add_tuple(&[new, args, kwargs, nothing])?;
        let partial = self.global("functools", "partial")?;
        let more = More { states: vec![state], ..More::default() };
        let callable = self.add_call(partial, &[new], Some(Box::new(more)))?;
        let args = self.graph.add_tuple(&[])?;
        if let Some(object) = self.graph.objects.get_mut(place) {
            (object.call, object.callable, object.args) = (Call::Reduce, callable, args);
            if let Some(more) = object.more.as_deref_mut() {
                more.kwargs = None;
            }
        }
        Ok(())
    }

    fn add_call(&mut self, callable: NodeId, args: &[NodeId], more: Option<Box<More>>) -> Result<NodeId> {
        let args = self.graph.add_tuple(args)?;
        let node = self.graph.new_object(Object { call: Call::Reduce, callable, args, more })?;
        self.graph.add(node)
    }

    /// `getattr(Outer, 'Inner')`.
    fn nested_global(&mut self, id: NodeId, symbol: SymbolId) -> Result<()> {
        let Some(symbol) = self.graph.symbol(symbol) else { return Ok(()) };
        let Some((outer, inner)) = symbol.name().rsplit_once('.') else { return Ok(()) };
        let (module, outer, inner) = (symbol.module.to_string(), outer.to_owned(), inner.to_owned());
        let class = self.global(&module, &outer)?;
        if let Node::Global(symbol) = self.graph.node(class) {
            self.nested_global(class, symbol)?;
        }
        let name = self.graph.add_text(&inner)?;
        let callable = self.global("builtins", "getattr")?;
        self.call(id, callable, &[class, name])
    }

    fn global(&mut self, module: &str, name: &str) -> Result<NodeId> {
        let full = format!("{module}.{name}");
        if let Some(id) = self.globals.get(&full) {
            return Ok(*id);
        }
        let id = self.graph.add_global(module, &full)?;
        self.globals.insert(full, id);
        Ok(id)
    }

    /// Makes a node the result of a call.
    fn call(&mut self, id: NodeId, callable: NodeId, args: &[NodeId]) -> Result<()> {
        let args = self.graph.add_tuple(args)?;
        let node = self.graph.new_object(Object { call: Call::Reduce, callable, args, more: None })?;
        if let Some(old) = self.graph.nodes.get_mut(id.place()) {
            *old = node;
        }
        Ok(())
    }

    /// The module's name is one text for all of its globals, as in Python.
    fn spell_globals(&mut self) -> Result<()> {
        let mut modules: HashMap<String, NodeId> = HashMap::new();
        for &(_, module, _) in &self.graph.spellings {
            if let Some(text) = self.graph.str(module) {
                modules.entry(text.to_owned()).or_insert(module);
            }
        }
        let mut spelled = Vec::new();
        for place in 0..self.graph.nodes.len() {
            let id = NodeId::at(place)?;
            let Node::Global(symbol) = self.graph.node(id) else { continue };
            let Some(symbol) = self.graph.symbol(symbol).filter(|_| self.graph.spelling_of(id).is_none())
            else {
                continue;
            };
            let (module, name) = (symbol.module.to_string(), symbol.name().to_owned());
            let name = self.graph.add_text(&name)?;
            let module = match modules.get(&module) {
                Some(module) => *module,
                None => self.literals.module(self.graph, &module)?,
            };
            spelled.push((id, module, name));
        }
        self.graph.spellings.extend(spelled);
        self.graph.spellings.sort_unstable_by_key(|&(id, ..)| id);
        Ok(())
    }
}

impl Graph {
    /// Adds text, a text of its own however often it is there.
    pub(crate) fn add_text(&mut self, text: &str) -> Result<NodeId> {
        let span = self.keep(text.as_bytes())?;
        self.add(Node::Str(span))
    }

    /// Notes the texts by which protocol 4 spells a global: nodes in the order in which they were added.
    pub(crate) fn spell_global(&mut self, global: NodeId, module: NodeId, name: NodeId) {
        self.spellings.push((global, module, name));
    }

    /// Keeps bytes behind the pickle's own.
    pub(crate) fn keep(&mut self, bytes: &[u8]) -> Result<Span> {
        let start = self.pickle.len().saturating_add(self.heap.len());
        self.heap.extend_from_slice(bytes);
        Span::new(start, bytes.len())
    }

    pub(crate) fn add_tuple(&mut self, members: &[NodeId]) -> Result<NodeId> {
        let run = self.run_of(members)?;
        self.add(Node::Tuple(run))
    }

    pub(crate) fn run_of(&mut self, members: &[NodeId]) -> Result<Run> {
        let run = Run::new(self.children.len(), members.len())?;
        self.children.extend_from_slice(members);
        Ok(run)
    }

    /// Adds a list, dict (keys and values in turn) or set.
    pub(crate) fn add_container(&mut self, members: Vec<NodeId>, node: fn(u32) -> Node) -> Result<NodeId> {
        let place = u32::try_from(self.containers.len()).map_err(|_| too_many())?;
        self.containers.push(members);
        self.add(node(place))
    }

    pub(crate) fn add_global(&mut self, module: &str, full: &str) -> Result<NodeId> {
        let place = u32::try_from(self.symbols.len()).map_err(|_| too_many())?;
        self.symbols.push(Symbol { module: module.into(), full: full.into(), at: 0 });
        self.add(Node::Global(SymbolId(place)))
    }

    pub(crate) fn new_object(&mut self, object: Object) -> Result<Node> {
        let place = u32::try_from(self.objects.len()).map_err(|_| too_many())?;
        self.objects.push(object);
        Ok(Node::Object(place))
    }
}

fn too_many() -> crate::error::Error {
    Reason::Unsupported("more than 2^32 objects".into()).into()
}
