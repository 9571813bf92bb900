//! Turns opcodes into the graph. Dispatches only: what a global or a call means is the dialect's business.

use std::collections::HashMap;

use super::graph::{Call, Graph, More, Node, NodeId, Object, Run, Span, Symbol, SymbolId, index};
use super::reader::Reader;
use super::text::{self, Number, Utf8};
use super::{finish, opcode as op};
use crate::error::{Error, Reason, Result};

/// What became of a pickle: the graph, or an error; and how far the stream was read.
pub(crate) struct Outcome {
    pub(crate) graph: Result<Graph>,
    /// The globals named before the error, so that a refusal can be reported rather than its consequence.
    pub(crate) symbols_on_error: Vec<Symbol>,
}

/// Maps a global's name, as Python 3 maps the names that Python 2 wrote.
pub(crate) type RenameGlobal = fn(&str, &str) -> (String, String);

/// Reads one pickle, up to its `STOP`; bytes behind it are ignored.
pub(crate) fn run(pickle: Vec<u8>, rename: RenameGlobal) -> Outcome {
    let mut machine = Machine::new(&pickle, rename);
    let ended = machine.run().map_err(|error| error.at(to_u64(machine.opcode_at)));
    let Machine { heap, nodes, children, containers, objects, symbols, protocol, .. } = machine;
    match ended {
        Err(error) => Outcome { graph: Err(error), symbols_on_error: symbols },
        Ok(root) => {
            let mut graph = Graph { pickle, heap, nodes, children, containers, objects, symbols, root, protocol };
            match finish::settle_keys(&mut graph) {
                Ok(()) => Outcome { graph: Ok(graph), symbols_on_error: Vec::new() },
                Err(error) => Outcome { graph: Err(error), symbols_on_error: graph.symbols },
            }
        }
    }
}

fn to_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

struct Machine<'p> {
    reader: Reader<'p>,
    pickle_len: usize,
    rename: RenameGlobal,
    opcode_at: usize,
    protocol: u8,
    stack: Vec<NodeId>,
    /// Heights of the stack at each open `MARK`.
    marks: Vec<usize>,
    memo: Memo,
    heap: Vec<u8>,
    nodes: Vec<Node>,
    children: Vec<NodeId>,
    containers: Vec<Vec<NodeId>>,
    objects: Vec<Object>,
    symbols: Vec<Symbol>,
    symbol_ids: HashMap<(String, String), SymbolId>,
}

/// Memo entries: dense where indexes follow each other, as every writer makes them; sparse where a file
/// asks for index 4,000,000,000.
#[derive(Default)]
struct Memo {
    dense: Vec<Option<NodeId>>,
    sparse: HashMap<u64, NodeId>,
    count: usize,
}

impl Memo {
    /// Gaps up to this many entries are filled.
    const GAP: usize = 1024;

    fn put(&mut self, key: u64, id: NodeId) {
        self.count = self.count.saturating_add(1);
        let place = usize::try_from(key).ok().filter(|&place| place < self.dense.len().saturating_add(Self::GAP));
        match place {
            Some(place) => {
                if place >= self.dense.len() {
                    self.dense.resize(place.saturating_add(1), None);
                }
                if let Some(entry) = self.dense.get_mut(place) {
                    *entry = Some(id);
                }
            }
            None => {
                self.sparse.insert(key, id);
            }
        }
    }

    fn get(&self, key: u64) -> Result<NodeId> {
        let dense = usize::try_from(key).ok().and_then(|place| self.dense.get(place).copied().flatten());
        dense
            .or_else(|| self.sparse.get(&key).copied())
            .ok_or_else(|| Reason::Pickle(format!("memo {key} was never put")).into())
    }
}

impl<'p> Machine<'p> {
    fn new(pickle: &'p [u8], rename: RenameGlobal) -> Self {
        Self {
            reader: Reader::new(pickle),
            pickle_len: pickle.len(),
            rename,
            opcode_at: 0,
            protocol: 0,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: Memo::default(),
            heap: Vec::new(),
            nodes: Vec::new(),
            children: Vec::new(),
            containers: Vec::new(),
            objects: Vec::new(),
            symbols: Vec::new(),
            symbol_ids: HashMap::new(),
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

    fn step(&mut self, byte: u8) -> Result<()> {
        match byte {
            op::PROTO => self.proto(),
            op::FRAME => self.frame(),

            op::NONE => self.push(Node::None),
            op::NEWTRUE => self.push(Node::Bool(true)),
            op::NEWFALSE => self.push(Node::Bool(false)),
            op::BININT => self.reader.i32().and_then(|int| self.push(Node::Int(int.into()))),
            op::BININT1 => self.reader.byte().and_then(|int| self.push(Node::Int(int.into()))),
            op::BININT2 => self.reader.u16().and_then(|int| self.push(Node::Int(int.into()))),
            op::LONG1 => self.reader.byte().and_then(|len| self.long(len.into())),
            op::LONG4 => self.reader.i32().and_then(|len| self.long4(len)),
            op::INT => self.int_text(),
            op::LONG => self.long_text(),
            op::BINFLOAT => self.reader.array().and_then(|bytes| self.push(Node::Float(f64::from_be_bytes(bytes)))),
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

            op::EMPTY_TUPLE => self.tuple(0),
            op::TUPLE1 => self.tuple(1),
            op::TUPLE2 => self.tuple(2),
            op::TUPLE3 => self.tuple(3),
            op::TUPLE => self.since_mark().and_then(|members| self.push_run(&members, Node::Tuple)),
            op::FROZENSET => self.since_mark().and_then(|members| self.push_run(&members, Node::FrozenSet)),
            op::EMPTY_LIST => self.push_container(Vec::new(), Node::List),
            op::LIST => self.since_mark().and_then(|members| self.push_container(members, Node::List)),
            op::EMPTY_DICT => self.push_container(Vec::new(), Node::Dict),
            op::DICT => self.pairs_since_mark().and_then(|entries| self.push_container(entries, Node::Dict)),
            op::EMPTY_SET => self.push_container(Vec::new(), Node::Set),
            op::APPEND => self.pop().and_then(|item| self.append(&[item])),
            op::APPENDS => self.since_mark().and_then(|items| self.append(&items)),
            op::SETITEM => self.set_item(),
            op::SETITEMS => self.pairs_since_mark().and_then(|entries| self.set_items(&entries)),
            op::ADDITEMS => self.since_mark().and_then(|items| self.add_items(&items)),

            op::MARK => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            op::POP => self.pop_or_mark(),
            op::POP_MARK => self.since_mark().map(drop),
            op::DUP => self.top().map(|id| self.stack.push(id)),
            op::BINPUT => self.reader.byte().and_then(|key| self.put(key.into())),
            op::LONG_BINPUT => self.reader.u32().and_then(|key| self.put(key.into())),
            op::PUT => self.reader.line().and_then(|(line, _)| self.put(text::memo_index(line)?)),
            op::MEMOIZE => self.put(to_u64(self.memo.count)),
            op::BINGET => self.reader.byte().and_then(|key| self.get(key.into())),
            op::LONG_BINGET => self.reader.u32().and_then(|key| self.get(key.into())),
            op::GET => self.reader.line().and_then(|(line, _)| self.get(text::memo_index(line)?)),

            op::GLOBAL => self.global().and_then(|node| self.push(node)),
            op::STACK_GLOBAL => self.stack_global(),
            op::REDUCE => self.reduce(),
            op::NEWOBJ => self.new_object(false),
            op::NEWOBJ_EX => self.new_object(true),
            op::OBJ => self.obj(),
            op::INST => self.inst(),
            op::BUILD => self.build(),
            op::BINPERSID => self.pop().and_then(|pid| self.push(Node::PersistentId(pid))),
            op::PERSID => self.persistent_id_text(),

            op::EXT1 | op::EXT2 | op::EXT4 => Err(unsupported(byte, "its registry of extension codes is the writer's own")),
            op::NEXT_BUFFER | op::READONLY_BUFFER => {
                Err(unsupported(byte, "out-of-band buffers lie outside the file; save without a buffer_callback"))
            }
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

    fn push(&mut self, node: Node) -> Result<()> {
        let id = u32::try_from(self.nodes.len()).map_err(|_| Reason::Unsupported("more than 2^32 objects".into()))?;
        self.nodes.push(node);
        self.stack.push(NodeId(id));
        Ok(())
    }

    /// The lowest height the stack may sink to before the innermost open `MARK` is in the way.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn underflow(&self) -> Error {
        let what = if self.marks.is_empty() { "the stack is empty" } else { "a MARK is in the way" };
        Reason::Pickle(format!("an opcode needs more values than there are: {what}")).into()
    }

    fn pop(&mut self) -> Result<NodeId> {
        if self.stack.len() <= self.floor() {
            return Err(self.underflow());
        }
        self.stack.pop().ok_or_else(|| self.underflow())
    }

    fn top(&self) -> Result<NodeId> {
        if self.stack.len() <= self.floor() {
            return Err(self.underflow());
        }
        self.stack.last().copied().ok_or_else(|| self.underflow())
    }

    fn pop_or_mark(&mut self) -> Result<()> {
        if self.stack.len() > self.floor() {
            self.stack.pop();
            return Ok(());
        }
        self.marks.pop().map(drop).ok_or_else(|| self.underflow())
    }

    fn since_mark(&mut self) -> Result<Vec<NodeId>> {
        let Some(height) = self.marks.pop() else {
            return Err(Reason::Pickle("an opcode needs a MARK, and none is open".into()).into());
        };
        Ok(self.stack.split_off(height.min(self.stack.len())))
    }

    fn pairs_since_mark(&mut self) -> Result<Vec<NodeId>> {
        let entries = self.since_mark()?;
        if entries.len() % 2 != 0 {
            return Err(Reason::Pickle("a key without a value".into()).into());
        }
        Ok(entries)
    }

    fn put(&mut self, key: u64) -> Result<()> {
        let id = self.top()?;
        self.memo.put(key, id);
        Ok(())
    }

    fn get(&mut self, key: u64) -> Result<()> {
        self.stack.push(self.memo.get(key)?);
        Ok(())
    }

    fn node(&self, id: NodeId) -> Node {
        self.nodes.get(index(id.0)).copied().unwrap_or(Node::None)
    }

    // Numbers.

    fn long(&mut self, len: u64) -> Result<()> {
        let (bytes, span) = self.reader.take_claimed(len)?;
        self.push(match small_int(bytes) {
            Some(int) => Node::Int(int),
            None => Node::Long(span),
        })
    }

    fn long4(&mut self, len: i32) -> Result<()> {
        let len = u64::try_from(len).map_err(|_| Reason::Pickle("an integer of negative length".into()))?;
        self.long(len)
    }

    fn int_text(&mut self) -> Result<()> {
        let (line, _) = self.reader.line()?;
        match line {
            b"00" => self.push(Node::Bool(false)),
            b"01" => self.push(Node::Bool(true)),
            line => self.number(text::integer(line)?),
        }
    }

    fn long_text(&mut self) -> Result<()> {
        let (line, _) = self.reader.line()?;
        self.number(text::integer(line)?)
    }

    fn number(&mut self, number: Number) -> Result<()> {
        match number {
            Number::Small(int) => self.push(Node::Int(int)),
            Number::Big(bytes) => {
                let span = self.keep(&bytes)?;
                self.push(Node::Long(span))
            }
        }
    }

    // Text and bytes.

    /// Keeps decoded bytes behind the pickle's own.
    fn keep(&mut self, bytes: &[u8]) -> Result<Span> {
        let start = self.pickle_len.saturating_add(self.heap.len());
        self.heap.extend_from_slice(bytes);
        Span::new(start, bytes.len())
    }

    fn unicode(&mut self, len: u64) -> Result<()> {
        let (bytes, span) = self.reader.take_claimed(len)?;
        self.text(bytes, span)
    }

    fn unicode_text(&mut self) -> Result<()> {
        let (line, _) = self.reader.line()?;
        let decoded = text::raw_unicode_escape(line)?;
        let span = self.keep(&decoded)?;
        self.text(&decoded, span)
    }

    fn text(&mut self, bytes: &[u8], span: Span) -> Result<()> {
        self.push(match text::classify(bytes) {
            Utf8::Valid => Node::Str(span),
            Utf8::Surrogates => Node::Surrogates(span),
            Utf8::Invalid => return Err(Reason::Pickle("a string is not UTF-8".into()).into()),
        })
    }

    fn binstring(&mut self) -> Result<()> {
        let len = self.reader.i32()?;
        let len = u64::try_from(len).map_err(|_| Reason::Pickle("a string of negative length".into()))?;
        self.python2_string(len)
    }

    fn python2_string(&mut self, len: u64) -> Result<()> {
        let (bytes, span) = self.reader.take_claimed(len)?;
        self.python2_text(bytes, span)
    }

    fn string_text(&mut self) -> Result<()> {
        let (line, _) = self.reader.line()?;
        let decoded = text::quoted(line)?;
        let span = self.keep(&decoded)?;
        self.python2_text(&decoded, span)
    }

    /// Python 2 wrote text and bytes by the same opcodes: what is UTF-8 is taken for text.
    fn python2_text(&mut self, bytes: &[u8], span: Span) -> Result<()> {
        self.push(match text::classify(bytes) {
            Utf8::Valid => Node::Str(span),
            Utf8::Surrogates | Utf8::Invalid => Node::Bytes(span),
        })
    }

    fn bytes(&mut self, len: u64, node: fn(Span) -> Node) -> Result<()> {
        let (_, span) = self.reader.take_claimed(len)?;
        self.push(node(span))
    }

    // Containers.

    fn push_run(&mut self, members: &[NodeId], node: fn(Run) -> Node) -> Result<()> {
        let run = Run::new(self.children.len(), members.len())?;
        self.children.extend_from_slice(members);
        self.push(node(run))
    }

    fn tuple(&mut self, len: usize) -> Result<()> {
        let start = self.stack.len().checked_sub(len).filter(|&start| start >= self.floor());
        let Some(start) = start else { return Err(self.underflow()) };
        let run = Run::new(self.children.len(), len)?;
        self.children.extend(self.stack.drain(start..));
        self.push(Node::Tuple(run))
    }

    fn push_container(&mut self, members: Vec<NodeId>, node: fn(u32) -> Node) -> Result<()> {
        let place = u32::try_from(self.containers.len()).map_err(|_| Reason::Unsupported("more than 2^32 objects".into()))?;
        self.containers.push(members);
        self.push(node(place))
    }

    fn append(&mut self, items: &[NodeId]) -> Result<()> {
        match self.node(self.top()?) {
            Node::List(place) => self.extend(place, items),
            Node::Object(place) => self.more(place, |more| more.items.extend_from_slice(items)),
            _ => Err(Reason::Pickle("items are appended to something that is not a list".into()).into()),
        }
    }

    fn add_items(&mut self, items: &[NodeId]) -> Result<()> {
        match self.node(self.top()?) {
            Node::Set(place) => self.extend(place, items),
            Node::Object(place) => self.more(place, |more| more.items.extend_from_slice(items)),
            _ => Err(Reason::Pickle("items are added to something that is not a set".into()).into()),
        }
    }

    fn set_item(&mut self) -> Result<()> {
        let value = self.pop()?;
        let key = self.pop()?;
        self.set_items(&[key, value])
    }

    fn set_items(&mut self, entries: &[NodeId]) -> Result<()> {
        match self.node(self.top()?) {
            Node::Dict(place) => self.extend(place, entries),
            Node::Object(place) => self.more(place, |more| more.entries.extend_from_slice(entries)),
            _ => Err(Reason::Pickle("items are set on something that is not a dict".into()).into()),
        }
    }

    fn extend(&mut self, place: u32, members: &[NodeId]) -> Result<()> {
        if let Some(container) = self.containers.get_mut(index(place)) {
            container.extend_from_slice(members);
        }
        Ok(())
    }

    fn more(&mut self, place: u32, change: impl FnOnce(&mut More)) -> Result<()> {
        if let Some(object) = self.objects.get_mut(index(place)) {
            change(object.more.get_or_insert_default());
        }
        Ok(())
    }

    // Globals, calls, persistent ids.

    fn global(&mut self) -> Result<Node> {
        let (module, _) = self.reader.line()?;
        let (name, _) = self.reader.line()?;
        match (std::str::from_utf8(module), std::str::from_utf8(name)) {
            (Ok(module), Ok(name)) => self.symbol(module, name),
            _ => Err(Reason::Pickle("a global's name is not UTF-8".into()).into()),
        }
    }

    fn stack_global(&mut self) -> Result<()> {
        let name = self.pop()?;
        let module = self.pop()?;
        let (Some(module), Some(name)) = (self.owned_text(module), self.owned_text(name)) else {
            return Err(Reason::Pickle("STACK_GLOBAL takes two strings".into()).into());
        };
        let node = self.symbol(&module, &name)?;
        self.push(node)
    }

    fn owned_text(&self, id: NodeId) -> Option<String> {
        let Node::Str(span) = self.node(id) else { return None };
        // The graph resolves spans; the machine borrows the pickle through its reader, so it asks there.
        self.reader.text(span).or_else(|| span.text_in(&self.heap, self.pickle_len)).map(str::to_owned)
    }

    fn symbol(&mut self, module: &str, name: &str) -> Result<Node> {
        let key = (module.to_owned(), name.to_owned());
        if let Some(id) = self.symbol_ids.get(&key) {
            return Ok(Node::Global(*id));
        }
        let id = u32::try_from(self.symbols.len()).map_err(|_| Reason::Unsupported("more than 2^32 globals".into()))?;
        let (module, name) = (self.rename)(module, name);
        let full = format!("{module}.{name}").into();
        self.symbols.push(Symbol { module: module.into(), full });
        self.symbol_ids.insert(key, SymbolId(id));
        Ok(Node::Global(SymbolId(id)))
    }

    fn push_object(&mut self, object: Object) -> Result<()> {
        if self.nodes.get(index(object.args.0)).is_none_or(|args| !matches!(args, Node::Tuple(_))) {
            return Err(Reason::Pickle("the arguments of a call are not a tuple".into()).into());
        }
        let place = u32::try_from(self.objects.len()).map_err(|_| Reason::Unsupported("more than 2^32 objects".into()))?;
        self.objects.push(object);
        self.push(Node::Object(place))
    }

    fn reduce(&mut self) -> Result<()> {
        let args = self.pop()?;
        let callable = self.pop()?;
        self.push_object(Object { call: Call::Reduce, callable, args, more: None })
    }

    fn new_object(&mut self, with_kwargs: bool) -> Result<()> {
        let kwargs = if with_kwargs { Some(self.pop()?) } else { None };
        let args = self.pop()?;
        let callable = self.pop()?;
        if kwargs.is_some_and(|kwargs| !matches!(self.node(kwargs), Node::Dict(_))) {
            return Err(Reason::Pickle("the keyword arguments of a call are not a dict".into()).into());
        }
        let more = kwargs.map(|kwargs| Box::new(More { kwargs: Some(kwargs), ..More::default() }));
        self.push_object(Object { call: Call::New, callable, args, more })
    }

    fn obj(&mut self) -> Result<()> {
        let members = self.since_mark()?;
        let Some((&callable, args)) = members.split_first() else {
            return Err(Reason::Pickle("OBJ needs a class after its MARK".into()).into());
        };
        self.call_with(callable, args)
    }

    fn inst(&mut self) -> Result<()> {
        let class = self.global()?;
        let args = self.since_mark()?;
        self.push(class)?;
        let callable = self.pop()?;
        self.call_with(callable, &args)
    }

    fn call_with(&mut self, callable: NodeId, args: &[NodeId]) -> Result<()> {
        self.push_run(args, Node::Tuple)?;
        let args = self.pop()?;
        self.push_object(Object { call: Call::Reduce, callable, args, more: None })
    }

    fn build(&mut self) -> Result<()> {
        let state = self.pop()?;
        match self.node(self.top()?) {
            Node::Object(place) => self.more(place, |more| more.states.push(state)),
            _ => Err(Reason::Pickle("BUILD gives a state to something that is not an object".into()).into()),
        }
    }

    fn persistent_id_text(&mut self) -> Result<()> {
        let (line, span) = self.reader.line()?;
        self.text(line, span)?;
        let pid = self.pop()?;
        self.push(Node::PersistentId(pid))
    }
}

fn unsupported(byte: u8, why: &str) -> Error {
    Reason::PickleFeature(format!("opcode {}: {why}", op::name(byte).unwrap_or("?"))).into()
}

/// A two's complement, little-endian integer that fits 64 bits.
fn small_int(bytes: &[u8]) -> Option<i64> {
    let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
    let fill = if negative { 0xFF } else { 0 };
    let mut word = [fill; 8];
    if let Some(excess) = bytes.get(8..) {
        let sign_kept = bytes.get(7).is_some_and(|&top| (top >= 0x80) == negative);
        if !sign_kept || excess.iter().any(|&byte| byte != fill) {
            return None;
        }
    }
    word.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    Some(i64::from_le_bytes(word))
}
