//! Turns opcodes into the graph. Dispatches only: what a global or a call means is the dialect's business.

use std::collections::HashMap;
use std::sync::Arc;

use super::build::Grow;
use super::encoding::Encoding;
use super::graph::{Graph, Node, NodeId, Object, Run, Symbol, SymbolId};
use super::memo::{Entry, Memo};
use super::reader::Reader;
use super::views::{Finder, Views, left_out};
use super::{finish, opcode as op, text};
use crate::error::{Error, Reason, Result};
use crate::limits::Objects;
use crate::memory::push;

/// What became of a pickle.
pub(crate) struct Outcome {
    pub(crate) graph: Result<Graph>,
    /// The globals named before the error, so that a refusal can be reported rather than its consequence.
    pub(crate) symbols_on_error: Vec<Symbol>,
}

/// Maps a global's name, as Python 3 maps the names that Python 2 wrote.
pub(crate) type RenameGlobal = fn(&str, &str) -> (String, String);

/// Reads one pickle up to its `STOP`, and counts its objects; bytes behind it are ignored.
pub(crate) fn run(pickle: Vec<u8>, rename: RenameGlobal, encoding: Encoding, objects: &Objects) -> Outcome {
    let mut machine = Machine::new(&pickle, rename, encoding, objects);
    let ended = machine.run().map_err(|error| error.at(to_u64(machine.opcode_at)));
    machine.objects_counted.add(machine.count());
    let built = machine.built();
    match ended {
        Err(error) => Outcome { graph: Err(error), symbols_on_error: built.symbols },
        Ok(root) => {
            let mut graph = Graph { pickle, root, ..built };
            match finish::settle_keys(&mut graph) {
                Ok(()) => Outcome { graph: Ok(graph), symbols_on_error: Vec::new() },
                Err(error) => Outcome { graph: Err(error), symbols_on_error: graph.symbols },
            }
        }
    }
}

/// As [`run`], with the calls of functions that make views in a node each where that leaves out nothing but what is
/// inside of them. Adds nothing to the objects that were counted: [`Graph::count`] is for whoever takes it. Gives the
/// pickle back where it cannot be read so: then [`run`] tells what there is to tell.
pub(crate) fn run_abridged(
    pickle: Vec<u8>,
    rename: RenameGlobal,
    makes_views: fn(&str) -> bool,
    encoding: Encoding,
    objects: &Objects,
) -> Result<Graph, Vec<u8>> {
    let mut machine = Machine::new(&pickle, rename, encoding, objects);
    machine.finder =
        Some(Finder { makes_views, function: None, found: Views::default(), keys: HashMap::default() });
    let Ok(root) = machine.run() else { return Err(pickle) };
    let built = machine.built();
    let mut graph = Graph { pickle, root, ..built };
    match finish::settle_keys(&mut graph) {
        Ok(()) => Ok(graph),
        Err(_) => Err(graph.pickle),
    }
}

#[inline]
pub(super) fn to_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

pub(super) struct Machine<'p> {
    pub(super) reader: Reader<'p>,
    pub(super) pickle_len: usize,
    pub(super) rename: RenameGlobal,
    pub(super) encoding: Encoding,
    objects_counted: &'p Objects,
    pub(super) opcode_at: usize,
    pub(super) protocol: u8,
    pub(super) stack: Vec<NodeId>,
    /// Heights of the stack at each open `MARK`.
    pub(super) marks: Vec<usize>,
    pub(super) memo: Memo,
    pub(super) heap: Vec<u8>,
    pub(super) nodes: Vec<Node>,
    /// The nodes of what Python has once, by [`One`].
    ones: [Option<NodeId>; 260],
    /// How often what was there was named again, and how many marks there were.
    repeated: u64,
    pub(super) children: Vec<NodeId>,
    pub(super) containers: Vec<Vec<NodeId>>,
    pub(super) objects: Vec<Object>,
    pub(super) symbols: Vec<Symbol>,
    pub(super) spellings: Vec<(NodeId, NodeId, NodeId)>,
    /// By module, then by name.
    pub(super) symbol_ids: HashMap<Box<str>, HashMap<Box<str>, SymbolId>>,
    /// Where the graph is abridged.
    pub(super) finder: Option<Finder>,
}

/// A value that Python has once, however often it is named.
#[derive(Clone, Copy)]
enum One {
    None,
    False,
    True,
    Int(u8),
    /// The empty one.
    Tuple,
}

impl<'p> Machine<'p> {
    pub(super) fn new(
        pickle: &'p [u8],
        rename: RenameGlobal,
        encoding: Encoding,
        objects_counted: &'p Objects,
    ) -> Self {
        Self {
            reader: Reader::new(pickle),
            pickle_len: pickle.len(),
            rename,
            encoding,
            objects_counted,
            opcode_at: 0,
            protocol: 0,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: Memo::default(),
            heap: Vec::new(),
            nodes: Vec::new(),
            ones: [None; 260],
            repeated: 0,
            children: Vec::new(),
            containers: Vec::new(),
            objects: Vec::new(),
            symbols: Vec::new(),
            spellings: Vec::new(),
            symbol_ids: HashMap::new(),
            finder: None,
        }
    }

    /// What was built, without the pickle and the root.
    pub(super) fn built(self) -> Graph {
        let Self { heap, nodes, children, containers, objects, symbols, spellings, protocol, .. } = self;
        let (repeated, finder) = (usize::try_from(self.repeated).unwrap_or(usize::MAX), self.finder);
        let views = finder.map(|finder| finder.found).unwrap_or_default();
        let (pickle, root) = (Vec::new(), NodeId::default());
        Graph {
            pickle,
            heap,
            nodes,
            children,
            containers,
            objects,
            symbols,
            spellings,
            views: Arc::new(views),
            repeated,
            root,
            protocol,
        }
    }

    /// Runs to `STOP`, which gives the root.
    fn run(&mut self) -> Result<NodeId> {
        loop {
            self.opcode_at = self.reader.position();
            let byte = self.reader.byte()?;
            if byte == op::STOP {
                return self.pop();
            }
            self.step(byte)?;
        }
    }

    /// Does what an opcode asks for. Most opcodes are so small that a call would cost as much.
    #[inline(always)]
    pub(super) fn step(&mut self, byte: u8) -> Result<()> {
        match byte {
            op::PROTO => self.proto(),
            op::FRAME => self.frame(),

            op::NONE => self.push_one(One::None),
            op::NEWTRUE => self.push_one(One::True),
            op::NEWFALSE => self.push_one(One::False),
            op::BININT => self.reader.i32().and_then(|int| self.push(Node::Int(int.into()))),
            op::BININT1 => self.reader.byte().and_then(|int| self.push_one(One::Int(int))),
            op::BININT2 => self.reader.u16().and_then(|int| self.push(Node::Int(int.into()))),
            op::LONG1 => self.reader.byte().and_then(|len| self.long(len.into())),
            op::LONG4 => self.reader.i32().and_then(|len| self.long4(len)),
            op::INT => self.int_text(),
            op::LONG => self.long_text(),
            op::BINFLOAT => {
                self.reader.array().and_then(|bytes| self.push(Node::Float(f64::from_be_bytes(bytes))))
            }
            op::FLOAT => self.reader.line().and_then(|(line, _)| self.push(Node::Float(text::float(line)?))),

            op::SHORT_BINUNICODE => self.reader.byte().and_then(|len| self.unicode(len.into())),
            op::BINUNICODE => self.reader.u32().and_then(|len| self.unicode(len.into())),
            op::BINUNICODE8 => self.reader.u64().and_then(|len| self.unicode(len)),
            op::UNICODE => self.unicode_text(),
            op::SHORT_BINSTRING => self.reader.byte().and_then(|len| self.python2_string(len.into())),
            op::BINSTRING => self.binstring(),
            op::STRING => self.string_text(),
            op::SHORT_BINBYTES => self.reader.byte().and_then(|len| self.bytes(len.into(), Node::Bytes)),
            op::BINBYTES => self.reader.u32().and_then(|len| self.bytes(len.into(), Node::Bytes)),
            op::BINBYTES8 => self.reader.u64().and_then(|len| self.bytes(len, Node::Bytes)),
            op::BYTEARRAY8 => self.reader.u64().and_then(|len| self.bytes(len, Node::ByteArray)),

            op::EMPTY_TUPLE => self.push_one(One::Tuple),
            op::TUPLE1 => self.tuple(1),
            op::TUPLE2 => self.tuple(2),
            op::TUPLE3 => self.tuple(3),
            op::TUPLE => self.run_since_mark(Node::Tuple),
            op::FROZENSET => self.run_since_mark(Node::FrozenSet),
            op::EMPTY_LIST => self.push_container(Vec::new(), Node::List),
            op::LIST => self.list(),
            op::EMPTY_DICT => self.push_container(Vec::new(), Node::Dict),
            op::DICT => self.dict(),
            op::EMPTY_SET => self.push_container(Vec::new(), Node::Set),
            op::APPEND => self.grow(Grow::List, self.stack.len().saturating_sub(1)),
            op::APPENDS => self.mark().and_then(|height| self.grow(Grow::List, height)),
            op::SETITEM => self.grow(Grow::Dict, self.stack.len().saturating_sub(2)),
            op::SETITEMS => self.mark().and_then(|height| self.grow(Grow::Dict, height)),
            op::ADDITEMS => self.mark().and_then(|height| self.grow(Grow::Set, height)),

            op::MARK => {
                self.count_one_more()?;
                self.repeated = self.repeated.saturating_add(1);
                push(&mut self.marks, self.stack.len())
            }
            op::POP => self.pop_or_mark(),
            op::POP_MARK => self.mark().map(|height| self.stack.truncate(height)),
            op::DUP => self.top().and_then(|id| self.push_again(id)),
            op::BINPUT => self.reader.byte().and_then(|key| self.put(key.into())),
            op::LONG_BINPUT => self.reader.u32().and_then(|key| self.put(key.into())),
            op::PUT => self.reader.line().and_then(|(line, _)| self.put(text::memo_index(line)?)),
            op::MEMOIZE => self.put(to_u64(self.memo.len())),
            op::BINGET => self.reader.byte().and_then(|key| self.get(key.into())),
            op::LONG_BINGET => self.reader.u32().and_then(|key| self.get(key.into())),
            op::GET => self.reader.line().and_then(|(line, _)| self.get(text::memo_index(line)?)),

            op::GLOBAL => self.global().and_then(|node| self.push_global(node)),
            op::STACK_GLOBAL => self.stack_global(),
            op::REDUCE => self.reduce(),
            op::NEWOBJ => self.new_object(false),
            op::NEWOBJ_EX => self.new_object(true),
            op::OBJ => self.obj(),
            op::INST => self.inst(),
            op::BUILD => self.build(),
            op::BINPERSID => self.pop().and_then(|pid| self.push(Node::PersistentId(pid))),
            op::PERSID => self.persistent_id_text(),

            op::EXT1 | op::EXT2 | op::EXT4 => {
                Err(unsupported(byte, "its registry of extension codes is the writer's own"))
            }
            op::NEXT_BUFFER | op::READONLY_BUFFER => Err(unsupported(
                byte,
                "out-of-band buffers lie outside the file; save without a buffer_callback",
            )),
            other => Err(Reason::Pickle(format!("there is no opcode {other:#04x} ({other})")).into()),
        }
    }

    // Stream.

    fn proto(&mut self) -> Result<()> {
        let protocol = self.reader.byte()?;
        if protocol > 5 {
            return Err(Reason::Pickle(format!("protocol {protocol}, the highest is 5")).into());
        }
        self.protocol = self.protocol.max(protocol);
        Ok(())
    }

    /// Frames are a hint for readers of streams; only their claim is checked.
    fn frame(&mut self) -> Result<()> {
        let len = self.reader.u64()?;
        let left = to_u64(self.reader.left());
        if len > left {
            return Err(Reason::Pickle(format!("a frame of {len} bytes where {left} are left")).into());
        }
        Ok(())
    }

    // Stack and arena.

    #[inline(always)]
    pub(super) fn push(&mut self, node: Node) -> Result<()> {
        let id = NodeId::at(self.nodes.len())?;
        self.count_one_more()?;
        push(&mut self.nodes, node)?;
        push(&mut self.stack, id)
    }

    /// Pushes what is there already, which takes room in whatever it becomes part of.
    #[inline(always)]
    pub(super) fn push_again(&mut self, id: NodeId) -> Result<()> {
        self.count_one_more()?;
        self.repeated = self.repeated.saturating_add(1);
        push(&mut self.stack, id)
    }

    /// Counts what there is and has no node.
    pub(super) fn count_left_out(&mut self, more: u64) -> Result<()> {
        self.repeated = self.repeated.saturating_add(more);
        self.objects_counted.check(self.count())
    }

    /// Refuses more objects than there may be.
    #[inline]
    fn count_one_more(&self) -> Result<()> {
        self.objects_counted.check(self.count().saturating_add(1))
    }

    /// How many objects there are; each mention counts, and each mark.
    fn count(&self) -> u64 {
        to_u64(self.nodes.len()).saturating_add(self.repeated)
    }

    /// Pushes one of the values that Python has once.
    #[inline(always)]
    fn push_one(&mut self, one: One) -> Result<()> {
        let place = usize::from(match one {
            One::Int(int) => u16::from(int),
            One::None => 256,
            One::False => 257,
            One::True => 258,
            One::Tuple => 259,
        });
        if let Some(Some(id)) = self.ones.get(place) {
            return self.push_again(*id);
        }
        self.push(match one {
            One::Int(int) => Node::Int(int.into()),
            One::None => Node::None,
            One::False => Node::Bool(false),
            One::True => Node::Bool(true),
            One::Tuple => Node::Tuple(Run::new(0, 0)?),
        })?;
        if let Some(one) = self.ones.get_mut(place) {
            *one = self.stack.last().copied();
        }
        Ok(())
    }

    /// The lowest height the stack may sink to before the innermost open `MARK` is in the way.
    #[inline]
    pub(super) fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    pub(super) fn underflow(&self) -> Error {
        let what = if self.marks.is_empty() { "the stack is empty" } else { "a MARK is in the way" };
        Reason::Pickle(format!("an opcode needs more values than there are: {what}")).into()
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Result<NodeId> {
        if self.stack.len() <= self.floor() {
            return Err(self.underflow());
        }
        self.stack.pop().ok_or_else(|| self.underflow())
    }

    #[inline]
    pub(super) fn top(&self) -> Result<NodeId> {
        if self.stack.len() <= self.floor() {
            return Err(self.underflow());
        }
        self.stack.last().copied().ok_or_else(|| self.underflow())
    }

    fn pop_or_mark(&mut self) -> Result<()> {
        if self.stack.len() > self.floor() {
            if let Some(dropped) = self.stack.pop() {
                self.note_setter(dropped);
                // What it was given may have been a view, and have a state from then on; or it is a view itself, which is
                // no call to take note of here.
                if self.finder.is_some() && matches!(self.node(dropped), Node::Object(_) | Node::View(_)) {
                    return Err(left_out());
                }
            }
            return Ok(());
        }
        self.marks.pop().map(drop).ok_or_else(|| self.underflow())
    }

    /// Closes the innermost `MARK`, and gives the height of the stack at it.
    #[inline]
    pub(super) fn mark(&mut self) -> Result<usize> {
        let Some(height) = self.marks.pop() else {
            return Err(Reason::Pickle("an opcode needs a MARK, and none is open".into()).into());
        };
        Ok(height.min(self.stack.len()))
    }

    #[inline(always)]
    fn put(&mut self, key: u64) -> Result<()> {
        let id = self.top()?;
        self.memo.put(key, id)
    }

    #[inline]
    fn get(&mut self, key: u64) -> Result<()> {
        let id = match self.memo.get(key)? {
            Entry::Known(id) => id,
            Entry::Inside { view, at } => return self.key_again(view, at),
        };
        if let Some(finder) = &self.finder
            && finder.function == Some(id)
            && self.view(id)?
        {
            return Ok(());
        }
        self.push_again(id)
    }

    #[inline]
    pub(super) fn node(&self, id: NodeId) -> Node {
        self.nodes.get(id.place()).copied().unwrap_or(Node::None)
    }
}

fn unsupported(byte: u8, why: &str) -> Error {
    Reason::PickleFeature(format!("opcode {}: {why}", op::name(byte).unwrap_or("?"))).into()
}
