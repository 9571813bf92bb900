//! Writes a graph as CPython's pickler writes the objects that it stands for, byte for byte: protocols 2 to 5.
//! What a protocol has no opcode for, `spelling` has put into other words.

use std::collections::HashMap;
use std::num::NonZeroU32;

use super::frames::Frames;
use super::graph::{Call, Graph, More, Node, NodeId, Object, Span, SymbolId};
use super::opcode as op;
use super::spelling::{Literals, SetClasses, spell};
use crate::error::{Error, Reason, Result};

/// Maps a global's name back to what Python 2 called it, for protocol 2.
pub(crate) type Unrename = fn(&str, &str) -> (String, String);

/// Members that are written between two marks.
const BATCH: usize = 1000;

/// Writes the root of a graph as a pickle, spelled as the protocol has it.
///
/// # Errors
/// `Unsupported` for values that the protocol cannot spell.
pub(crate) fn write(
    graph: &mut Graph,
    protocol: u8,
    literals: Literals,
    unrename: Unrename,
) -> Result<Vec<u8>> {
    let classes = spell(graph, protocol, literals)?;
    let graph = &*graph;
    let mut writer = Writer {
        graph,
        protocol,
        unrename,
        // A node takes about nine bytes, and text and bytes what they are.
        out: Frames::new(protocol, graph.len().saturating_mul(10).saturating_add(graph.heap.len())),
        memo: vec![None; graph.len()],
        globals: vec![None; graph.symbols().len()],
        next: 0,
        known: Place::MIN,
        begun: vec![None; graph.len()],
        mentions: None,
        again: graph.weight().saturating_mul(16).saturating_add(1 << 16),
        classes,
        tasks: vec![Task::Save(graph.root())],
    };
    while let Some(task) = writer.tasks.pop() {
        writer.step(task)?;
    }
    writer.out.push(&[op::STOP]);
    Ok(writer.out.finish())
}

struct Writer<'g> {
    graph: &'g Graph,
    protocol: u8,
    unrename: Unrename,
    out: Frames,
    /// The memo index of each node that has one.
    memo: Vec<Option<Place>>,
    /// And of each global: however many nodes name it, it is one object.
    globals: Vec<Option<Place>>,
    next: u32,
    /// How many nodes have a memo index, plus one, and how many had when each call was begun last.
    known: Place,
    begun: Vec<Option<Place>>,
    /// How often each node is part of others; known once a call was begun again.
    mentions: Option<HashMap<NodeId, usize>>,
    /// How much may still be written again.
    again: usize,
    classes: SetClasses,
    tasks: Vec<Task>,
}

/// An index of the memo plus one, so that an absent one takes no more room.
type Place = NonZeroU32;

/// What is left to write, the next at the end of the list.
#[derive(Clone, Copy)]
enum Task {
    Save(NodeId),
    Op(u8),
    /// Ends a tuple whose members lie on the stack.
    Tuple(NodeId),
    FrozenSet(NodeId),
    /// The list that a set is made from where no opcode makes sets, and the call that makes it.
    SpelledSet(NodeId),
    SpelledSetEnd(NodeId),
    /// Ends the name of a global.
    Global(NodeId, SymbolId),
    /// A call whose callable and arguments lie on the stack.
    Call(NodeId),
    /// Members of a list or set from one on.
    Items {
        of: NodeId,
        from: usize,
        kind: Items,
    },
    /// Entries of a dict from one on.
    Entries {
        of: NodeId,
        from: usize,
        exact: bool,
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Items {
    List,
    Set,
    /// What is appended to an object.
    Appended,
}

impl<'g> Writer<'g> {
    fn step(&mut self, task: Task) -> Result<()> {
        match task {
            Task::Save(id) => self.save(id),
            Task::Op(op) => {
                self.out.push(&[op]);
                Ok(())
            }
            Task::Tuple(id) => self.end_tuple(id),
            Task::FrozenSet(id) => self.end(id, &[op::FROZENSET], &[op::POP_MARK]),
            Task::SpelledSet(id) => {
                self.out.push(&[op::EMPTY_LIST]);
                self.put()?;
                self.tasks.push(Task::Items { of: id, from: 0, kind: Items::List });
                Ok(())
            }
            Task::SpelledSetEnd(id) => {
                self.out.push(&[op::TUPLE1]);
                self.put()?;
                self.end(id, &[op::REDUCE], &[op::REDUCE, op::POP])
            }
            Task::Global(id, symbol) => {
                self.out.push(&[op::STACK_GLOBAL]);
                self.memoize_global(id, symbol)
            }
            Task::Call(id) => self.end_call(id),
            Task::Items { of, from, kind } => {
                self.items(of, from, kind);
                Ok(())
            }
            Task::Entries { of, from, exact } => {
                self.entries(of, from, exact);
                Ok(())
            }
        }
    }

    fn save(&mut self, id: NodeId) -> Result<()> {
        self.out.boundary();
        let node = self.graph.node(id);
        let known = match node {
            Node::Global(symbol) => self.globals.get(symbol.place()).copied().flatten(),
            _ => self.memo.get(id.place()).copied().flatten(),
        };
        if let Some(place) = known {
            if !self.is_made_anew(id) {
                self.get(place);
                return Ok(());
            }
            self.pay_again(id)?;
        }
        match node {
            Node::None => self.out.push(&[op::NONE]),
            Node::Bool(true) => self.out.push(&[op::NEWTRUE]),
            Node::Bool(false) => self.out.push(&[op::NEWFALSE]),
            Node::Int(int) => self.int(int),
            Node::Long(span) => self.long(span)?,
            Node::Float(float) => {
                self.out.push(&[op::BINFLOAT]);
                self.out.push(&float.to_be_bytes());
            }
            Node::Str(span) | Node::Surrogates(span) => {
                let bytes = self.graph.bytes(span);
                match u32::try_from(bytes.len()) {
                    Ok(len) if self.protocol >= 4 && len <= 0xFF => {
                        self.out.push_large(op::SHORT_BINUNICODE, &len.to_le_bytes()[..1], bytes);
                    }
                    Ok(len) => self.out.push_large(op::BINUNICODE, &len.to_le_bytes(), bytes),
                    Err(_) => return Err(too_long("text")),
                }
                self.memoize(id)?;
            }
            Node::Bytes(span) => {
                let bytes = self.graph.bytes(span);
                match u32::try_from(bytes.len()) {
                    Ok(len) if len <= 0xFF => {
                        self.out.push_large(op::SHORT_BINBYTES, &len.to_le_bytes()[..1], bytes)
                    }
                    Ok(len) => self.out.push_large(op::BINBYTES, &len.to_le_bytes(), bytes),
                    Err(_) => return Err(too_long("bytes")),
                }
                self.memoize(id)?;
            }
            Node::ByteArray(span) => {
                let bytes = self.graph.bytes(span);
                let len = u64::try_from(bytes.len()).map_err(|_| too_long("a bytearray"))?;
                self.out.push_large(op::BYTEARRAY8, &len.to_le_bytes(), bytes);
                self.memoize(id)?;
            }
            Node::Tuple(_) => self.tuple(id)?,
            Node::List(_) => {
                self.out.push(&[op::EMPTY_LIST]);
                self.memoize(id)?;
                self.tasks.push(Task::Items { of: id, from: 0, kind: Items::List });
            }
            Node::Set(_) | Node::FrozenSet(_) if self.protocol < 4 => {
                let classes = &self.classes;
                let class = if matches!(node, Node::Set(_)) { classes.set } else { classes.frozenset };
                let class = class.ok_or_else(|| unspelled("a set"))?;
                self.begin(id)?;
                self.tasks.extend([Task::SpelledSetEnd(id), Task::SpelledSet(id), Task::Save(class)]);
            }
            Node::Set(_) => {
                self.out.push(&[op::EMPTY_SET]);
                self.memoize(id)?;
                self.tasks.push(Task::Items { of: id, from: 0, kind: Items::Set });
            }
            Node::FrozenSet(_) => {
                self.out.push(&[op::MARK]);
                self.tasks.push(Task::FrozenSet(id));
                self.save_all(self.graph.members(id));
            }
            Node::Dict(_) => {
                self.out.push(&[op::EMPTY_DICT]);
                self.memoize(id)?;
                self.tasks.push(Task::Entries { of: id, from: 0, exact: true });
            }
            Node::Global(symbol) => self.global(id, symbol)?,
            Node::Object(_) => {
                let Some((_, object)) = self.graph.object(id) else { return Ok(()) };
                self.begin(id)?;
                self.tasks.push(Task::Call(id));
                self.tasks.extend(object.more.as_deref().and_then(|more| more.kwargs).map(Task::Save));
                self.save_all(&[object.callable, object.args]);
            }
            Node::PersistentId(pid) => {
                self.tasks.push(Task::Op(op::BINPERSID));
                self.tasks.push(Task::Save(pid));
            }
            Node::View(_) => return Err(unspelled("an abridged call")),
        }
        Ok(())
    }

    /// Leaves values to be saved, the first next.
    fn save_all(&mut self, ids: &[NodeId]) {
        self.tasks.extend(ids.iter().rev().map(|&id| Task::Save(id)));
    }

    /// Saves those in front that are written at once, and gives what is left.
    fn save_values(&mut self, ids: &'g [NodeId]) -> Result<&'g [NodeId]> {
        let values = ids.iter().position(|&id| self.has_parts(id)).unwrap_or(ids.len());
        let (values, rest) = ids.split_at(values);
        for &id in values {
            self.save(id)?;
        }
        Ok(rest)
    }

    /// Whether a value may be written piece by piece.
    fn has_parts(&self, id: NodeId) -> bool {
        use Node::{Dict, FrozenSet, List, Object, PersistentId, Set, Tuple, View};
        match self.graph.node(id) {
            Tuple(_) | List(_) | Dict(_) | Set(_) | FrozenSet(_) | Object(_) | PersistentId(_) | View(_) => {
                true
            }
            Node::Global(_) => self.protocol >= 4,
            _ => false,
        }
    }

    // Numbers.

    fn int(&mut self, int: i64) {
        if let Ok(byte) = u8::try_from(int) {
            self.out.push(&[op::BININT1, byte]);
        } else if let Ok(short) = u16::try_from(int) {
            self.out.push(&[op::BININT2]);
            self.out.push(&short.to_le_bytes());
        } else if let Ok(int) = i32::try_from(int) {
            self.out.push(&[op::BININT]);
            self.out.push(&int.to_le_bytes());
        } else {
            let bytes = int.to_le_bytes();
            let bytes = minimal(&bytes);
            self.out.push(&[op::LONG1, u8::try_from(bytes.len()).unwrap_or(8)]);
            self.out.push(bytes);
        }
    }

    fn long(&mut self, span: Span) -> Result<()> {
        let bytes = minimal(self.graph.bytes(span));
        match (u8::try_from(bytes.len()), i32::try_from(bytes.len())) {
            (Ok(len), _) => self.out.push(&[op::LONG1, len]),
            (_, Ok(len)) => {
                self.out.push(&[op::LONG4]);
                self.out.push(&len.to_le_bytes());
            }
            _ => return Err(too_long("an integer")),
        }
        self.out.push(bytes);
        Ok(())
    }

    // Memo.

    fn memoize(&mut self, id: NodeId) -> Result<()> {
        let place = self.put()?;
        if let Some(memo) = self.memo.get_mut(id.place())
            && memo.replace(place).is_none()
        {
            self.known = self.known.saturating_add(1);
        }
        Ok(())
    }

    fn memoize_global(&mut self, id: NodeId, symbol: SymbolId) -> Result<()> {
        self.memoize(id)?;
        let place = self.memo.get(id.place()).copied().flatten();
        if let Some(global) = self.globals.get_mut(symbol.place()) {
            *global = place;
        }
        Ok(())
    }

    /// Begins a call, which stands in its own arguments where it is begun again: as often as something in them has got a
    /// name meanwhile, as CPython does it, which comes to an end so.
    fn begin(&mut self, id: NodeId) -> Result<()> {
        let before = self.begun.get_mut(id.place()).and_then(|begun| begun.replace(self.known));
        if let Some(before) = before {
            if before == self.known {
                let what = "an object that is made from itself, with nothing between that can be named";
                return Err(unspelled(what));
            }
            let graph = self.graph;
            self.mentions.get_or_insert_with(|| graph.references());
            self.pay_again(self.graph.object(id).map_or(id, |(_, object)| object.args))?;
        }
        Ok(())
    }

    /// Pays for members that are written once more.
    fn pay_again(&mut self, of: NodeId) -> Result<()> {
        let left = self.again.checked_sub(self.graph.members(of).len().saturating_add(1));
        self.again = left.ok_or_else(|| unspelled("objects that are made from each other so often"))?;
        Ok(())
    }

    /// Whether a container is another one wherever it is met: part of the arguments of a call that are written again, and
    /// mentioned there alone. CPython makes such arguments anew, and what is called takes what is in them by then.
    fn is_made_anew(&self, id: NodeId) -> bool {
        let Some(mentions) = &self.mentions else { return false };
        let node = self.graph.node(id);
        let is_container = matches!(node, Node::Tuple(_) | Node::List(_) | Node::Dict(_) | Node::Set(_));
        is_container && mentions.get(&id) == Some(&1)
    }

    fn put(&mut self) -> Result<Place> {
        let place = self.next;
        let number = place.checked_add(1).and_then(Place::new).ok_or_else(|| too_long("a memo"))?;
        self.next = number.get();
        match u8::try_from(place) {
            _ if self.protocol >= 4 => self.out.push(&[op::MEMOIZE]),
            Ok(place) => self.out.push(&[op::BINPUT, place]),
            Err(_) => self.with_u32(op::LONG_BINPUT, place),
        }
        Ok(number)
    }

    fn get(&mut self, place: Place) {
        let place = place.get().saturating_sub(1);
        match u8::try_from(place) {
            Ok(place) => self.out.push(&[op::BINGET, place]),
            Err(_) => self.with_u32(op::LONG_BINGET, place),
        }
    }

    fn with_u32(&mut self, op: u8, number: u32) {
        let [a, b, c, d] = number.to_le_bytes();
        self.out.push(&[op, a, b, c, d]);
    }

    /// Ends a value; one that is inside itself was written while its members were, and takes their place.
    fn end(&mut self, id: NodeId, ops: &[u8], undo: &[u8]) -> Result<()> {
        match self.memo.get(id.place()).copied().flatten() {
            Some(place) => {
                self.out.push(undo);
                self.get(place);
                Ok(())
            }
            None => {
                self.out.push(ops);
                self.memoize(id)
            }
        }
    }

    // Containers.

    fn tuple(&mut self, id: NodeId) -> Result<()> {
        let members = self.graph.members(id);
        if members.is_empty() {
            self.out.push(&[op::EMPTY_TUPLE]);
            return Ok(());
        }
        if members.len() > 3 {
            self.out.push(&[op::MARK]);
        }
        let rest = self.save_values(members)?;
        if rest.is_empty() {
            return self.end_tuple(id);
        }
        self.tasks.push(Task::Tuple(id));
        self.save_all(rest);
        Ok(())
    }

    fn end_tuple(&mut self, id: NodeId) -> Result<()> {
        const POPS: [u8; 3] = [op::POP; 3];
        let (op, pops) = match self.graph.members(id).len() {
            1 => (op::TUPLE1, &POPS[..1]),
            2 => (op::TUPLE2, &POPS[..2]),
            3 => (op::TUPLE3, &POPS[..]),
            _ => (op::TUPLE, &[op::POP_MARK][..]),
        };
        if self.is_made_anew(id) {
            self.pay_again(id)?;
            self.out.push(&[op]);
            return self.memoize(id);
        }
        self.end(id, &[op], pops)
    }

    fn items(&mut self, of: NodeId, from: usize, kind: Items) {
        let graph = self.graph;
        let items = match kind {
            Items::List | Items::Set => graph.members(of),
            Items::Appended => self.more(of).map_or(&[][..], |more| more.items.as_slice()),
        };
        let rest = items.get(from..).unwrap_or_default();
        if rest.is_empty() && !(kind == Items::Set && from > 0) {
            return;
        }
        let (batch, left) = rest.split_at(rest.len().min(BATCH));
        // A set learns that it has ended after a full batch, by an empty one.
        if !left.is_empty() || (kind == Items::Set && batch.len() == BATCH) {
            self.tasks.push(Task::Items { of, from: from.saturating_add(BATCH), kind });
        }
        // A lone item goes by itself: of a list the only one, of what is appended the last one.
        let alone = match kind {
            Items::List => items.len() == 1,
            Items::Set => false,
            Items::Appended => batch.len() == 1,
        };
        let many = if kind == Items::Set { op::ADDITEMS } else { op::APPENDS };
        self.tasks.push(Task::Op(if alone { op::APPEND } else { many }));
        self.save_all(batch);
        if !alone {
            self.tasks.push(Task::Op(op::MARK));
        }
    }

    fn entries(&mut self, of: NodeId, from: usize, exact: bool) {
        let graph = self.graph;
        let entries = if exact {
            graph.members(of)
        } else {
            self.more(of).map_or(&[][..], |more| more.entries.as_slice())
        };
        let rest = entries.get(from..).unwrap_or_default();
        let full = BATCH.saturating_mul(2);
        let (batch, left) = rest.split_at(rest.len().min(full));
        if batch.is_empty() && !(exact && from > 0) {
            return;
        }
        // An exact dict learns that it has ended after a full batch, by an empty one.
        if !left.is_empty() || (exact && batch.len() == full) {
            self.tasks.push(Task::Entries { of, from: from.saturating_add(full), exact });
        }
        let alone = if exact { entries.len() == 2 } else { batch.len() == 2 };
        self.tasks.push(Task::Op(if alone { op::SETITEM } else { op::SETITEMS }));
        self.save_all(batch);
        if !alone {
            self.tasks.push(Task::Op(op::MARK));
        }
    }

    // Globals and calls.

    fn global(&mut self, id: NodeId, symbol: SymbolId) -> Result<()> {
        let Some(name) = self.graph.symbol(symbol) else { return Ok(()) };
        if self.protocol >= 4 {
            let Some((module, name)) = self.graph.spelling_of(id) else {
                return Err(unspelled("a global"));
            };
            self.tasks.push(Task::Global(id, symbol));
            self.save_all(&[module, name]);
            return Ok(());
        }
        let (module, name) = match self.protocol {
            ..3 => (self.unrename)(&name.module, name.name()),
            _ => (name.module.to_string(), name.name().to_owned()),
        };
        if module.contains('\n') || name.contains('\n') {
            return Err(unspelled("a global whose name has a line break"));
        }
        self.out.push(&[op::GLOBAL]);
        self.out.push(module.as_bytes());
        self.out.push(b"\n");
        self.out.push(name.as_bytes());
        self.out.push(b"\n");
        self.memoize_global(id, symbol)
    }

    fn more(&self, id: NodeId) -> Option<&'g More> {
        self.graph.object(id).and_then(|(_, object)| object.more.as_deref())
    }

    fn end_call(&mut self, id: NodeId) -> Result<()> {
        let Some((_, Object { call, more, .. })) = self.graph.object(id) else { return Ok(()) };
        let kwargs = more.as_deref().is_some_and(|more| more.kwargs.is_some());
        let op = match (call, kwargs) {
            (Call::Reduce, _) => op::REDUCE,
            (Call::New, false) => op::NEWOBJ,
            (Call::New, true) if self.protocol >= 4 => op::NEWOBJ_EX,
            (Call::New, true) => return Err(unspelled("keyword arguments of a constructor")),
        };
        let is_made = self.memo.get(id.place()).is_some_and(Option::is_some);
        self.end(id, &[op], &[op, op::POP])?;
        // What was made inside of itself has all of it.
        let Some(more) = more.as_deref().filter(|_| !is_made) else { return Ok(()) };
        for &setter in more.setters.iter().rev() {
            let Some((_, &Object { callable, args, .. })) = self.graph.object(setter) else { continue };
            self.tasks.extend([op::POP, op::REDUCE, op::TUPLE2].map(Task::Op));
            self.save_all(self.graph.members(args));
            self.tasks.push(Task::Save(callable));
        }
        for &state in more.states.iter().rev() {
            self.tasks.push(Task::Op(op::BUILD));
            self.tasks.push(Task::Save(state));
        }
        self.tasks.push(Task::Entries { of: id, from: 0, exact: false });
        self.tasks.push(Task::Items { of: id, from: 0, kind: Items::Appended });
        Ok(())
    }
}

/// The shortest two's complement of an integer, little-endian.
fn minimal(bytes: &[u8]) -> &[u8] {
    let mut bytes = bytes;
    while let [rest @ .., below, last] = bytes {
        let sign = if below & 0x80 == 0 { 0 } else { 0xFF };
        if *last != sign {
            break;
        }
        bytes = bytes.get(..rest.len().saturating_add(1)).unwrap_or_default();
    }
    bytes
}

fn too_long(what: &str) -> Error {
    Reason::Unsupported(format!("{what} too long for a pickle")).into()
}

fn unspelled(what: &str) -> Error {
    Reason::Unsupported(format!("{what} in this pickle protocol; save with protocol 4 or 5")).into()
}
