//! Opcodes that build containers, name globals, and record calls.

use super::graph::{Call, More, Node, NodeId, Object, Run, Symbol, SymbolId, index};
use super::machine::Machine;
use super::opcode as op;
use crate::error::{Error, Reason, Result};
use crate::memory::{push, reserve};

/// Bytes of a module's name, or of a name in it: each mention of a global is compared anew.
pub(super) const NAME_MAX: usize = 4096;

/// What a value is filled as.
#[derive(Debug, Clone, Copy)]
pub(super) enum Grow {
    List,
    Set,
    Dict,
}

impl Machine<'_> {
    // Containers.

    /// Makes a tuple or frozenset of what lies above the innermost `MARK`.
    pub(super) fn run_since_mark(&mut self, node: fn(Run) -> Node) -> Result<()> {
        let height = self.mark()?;
        self.push_run(height, node)
    }

    pub(super) fn tuple(&mut self, len: usize) -> Result<()> {
        let height = self.stack.len().checked_sub(len).filter(|&height| height >= self.floor());
        self.push_run(height.ok_or_else(|| self.underflow())?, Node::Tuple)
    }

    fn push_run(&mut self, height: usize, node: fn(Run) -> Node) -> Result<()> {
        let run = Run::new(self.children.len(), self.stack.len().saturating_sub(height))?;
        let members = self.stack.get(height..).unwrap_or_default();
        reserve(&mut self.children, members.len())?;
        self.children.extend_from_slice(members);
        self.stack.truncate(height);
        self.push(node(run))
    }

    pub(super) fn list(&mut self) -> Result<()> {
        let height = self.mark()?;
        let members = self.stack.split_off(height);
        self.push_container(members, Node::List)
    }

    pub(super) fn dict(&mut self) -> Result<()> {
        let height = self.mark()?;
        let entries = self.stack.split_off(height);
        Grow::Dict.check(entries.len())?;
        self.push_container(entries, Node::Dict)
    }

    pub(super) fn push_container(&mut self, members: Vec<NodeId>, node: fn(u32) -> Node) -> Result<()> {
        let place = u32::try_from(self.containers.len()).map_err(|_| too_many("containers"))?;
        push(&mut self.containers, members)?;
        self.push(node(place))
    }

    /// Moves what lies on the stack from `height` on into the value below.
    pub(super) fn grow(&mut self, grow: Grow, height: usize) -> Result<()> {
        let target = height.checked_sub(1).filter(|&place| place >= self.floor());
        let target =
            target.and_then(|place| self.stack.get(place)).copied().ok_or_else(|| self.underflow())?;
        let count = self.stack.len().saturating_sub(height);
        grow.check(count)?;
        let node = self.node(target);
        let members = self.stack.drain(height..);
        match (grow, node) {
            (Grow::List, Node::List(place))
            | (Grow::Set, Node::Set(place))
            | (Grow::Dict, Node::Dict(place)) => {
                if let Some(container) = self.containers.get_mut(index(place)) {
                    reserve(container, count)?;
                    container.extend(members);
                }
            }
            (_, Node::Object(place)) => {
                if let Some(object) = self.objects.get_mut(index(place)) {
                    let more = object.more.get_or_insert_default();
                    let added = match grow {
                        Grow::List | Grow::Set => &mut more.items,
                        Grow::Dict => &mut more.entries,
                    };
                    reserve(added, count)?;
                    added.extend(members);
                }
            }
            _ => return Err(grow.misfit()),
        }
        Ok(())
    }

    // Globals, calls, persistent ids.

    pub(super) fn global(&mut self) -> Result<Node> {
        let (module, _) = self.reader.line()?;
        let (name, _) = self.reader.line()?;
        match (std::str::from_utf8(module), std::str::from_utf8(name)) {
            (Ok(module), Ok(name)) => self.symbol(module, name),
            _ => Err(Reason::Pickle("a global's name is not UTF-8".into()).into()),
        }
    }

    pub(super) fn stack_global(&mut self) -> Result<()> {
        let name_node = self.pop()?;
        let module_node = self.pop()?;
        let (Some(module), Some(name)) = (self.owned_text(module_node), self.owned_text(name_node)) else {
            return Err(Reason::Pickle("STACK_GLOBAL takes two strings".into()).into());
        };
        let node = self.symbol(&module, &name)?;
        self.spellings.push((NodeId::at(self.nodes.len())?, module_node, name_node));
        self.push_global(node)
    }

    pub(super) fn push_global(&mut self, node: Node) -> Result<()> {
        self.push(node)?;
        if let (Some(finder), Node::Global(symbol)) = (&mut self.finder, node)
            && self.symbols.get(symbol.place()).is_some_and(|symbol| (finder.makes_views)(&symbol.full))
        {
            finder.function = self.stack.last().copied();
        }
        Ok(())
    }

    fn owned_text(&self, id: NodeId) -> Option<String> {
        let Node::Str(span) = self.node(id) else { return None };
        // The graph resolves spans; the machine borrows the pickle through its reader, so it asks there.
        self.reader.text(span).or_else(|| span.text_in(&self.heap, self.pickle_len)).map(str::to_owned)
    }

    pub(super) fn symbol(&mut self, module: &str, name: &str) -> Result<Node> {
        if module.len().max(name.len()) > NAME_MAX {
            let what = format!("a global's name of more than {NAME_MAX} bytes");
            return Err(Reason::Pickle(what).into());
        }
        if let Some(id) = self.symbol_ids.get(module).and_then(|names| names.get(name)) {
            return Ok(Node::Global(*id));
        }
        let id = SymbolId(u32::try_from(self.symbols.len()).map_err(|_| too_many("globals"))?);
        self.symbol_ids.entry(module.into()).or_default().insert(name.into(), id);
        let (module, name) = (self.rename)(module, name);
        let full = format!("{module}.{name}").into();
        self.symbols.push(Symbol { module: module.into(), full, at: self.opcode_at });
        Ok(Node::Global(id))
    }

    fn push_object(&mut self, object: Object) -> Result<()> {
        if self.nodes.get(object.args.place()).is_none_or(|args| !matches!(args, Node::Tuple(_))) {
            return Err(Reason::Pickle("the arguments of a call are not a tuple".into()).into());
        }
        let place = u32::try_from(self.objects.len()).map_err(|_| too_many("calls"))?;
        push(&mut self.objects, object)?;
        self.push(Node::Object(place))
    }

    pub(super) fn reduce(&mut self) -> Result<()> {
        let args = self.pop()?;
        let callable = self.pop()?;
        self.push_object(Object { call: Call::Reduce, callable, args, more: None })
    }

    pub(super) fn new_object(&mut self, with_kwargs: bool) -> Result<()> {
        let kwargs = if with_kwargs { Some(self.pop()?) } else { None };
        let args = self.pop()?;
        let callable = self.pop()?;
        if kwargs.is_some_and(|kwargs| !matches!(self.node(kwargs), Node::Dict(_))) {
            return Err(Reason::Pickle("the keyword arguments of a call are not a dict".into()).into());
        }
        let more = kwargs.map(|kwargs| Box::new(More { kwargs: Some(kwargs), ..More::default() }));
        self.push_object(Object { call: Call::New, callable, args, more })
    }

    pub(super) fn obj(&mut self) -> Result<()> {
        let height = self.mark()?;
        let Some(&callable) = self.stack.get(height) else {
            return Err(Reason::Pickle("OBJ needs a class after its MARK".into()).into());
        };
        self.call_with(callable, height.saturating_add(1))?;
        // The class lies below the call that was made of it.
        self.stack.remove(height);
        Ok(())
    }

    pub(super) fn inst(&mut self) -> Result<()> {
        let class = self.global()?;
        let height = self.mark()?;
        self.push_run(height, Node::Tuple)?;
        let args = self.pop()?;
        self.push(class)?;
        let callable = self.pop()?;
        self.push_object(Object { call: Call::Reduce, callable, args, more: None })
    }

    fn call_with(&mut self, callable: NodeId, height: usize) -> Result<()> {
        self.push_run(height, Node::Tuple)?;
        let args = self.pop()?;
        self.push_object(Object { call: Call::Reduce, callable, args, more: None })
    }

    pub(super) fn build(&mut self) -> Result<()> {
        let state = self.pop()?;
        match self.node(self.top()?) {
            Node::Object(place) => {
                if let Some(object) = self.objects.get_mut(index(place)) {
                    object.more.get_or_insert_default().states.push(state);
                }
                Ok(())
            }
            _ => Err(Reason::Pickle("BUILD gives a state to something that is not an object".into()).into()),
        }
    }

    /// Keeps a call `function(object, state)` with the object, where the call was made for what it does and the object is
    /// what goes on, as CPython writes it.
    pub(super) fn note_setter(&mut self, dropped: NodeId) {
        const WRITTEN: [u8; 3] = [op::TUPLE2, op::REDUCE, op::POP];
        let Node::Object(call) = self.node(dropped) else { return };
        let is_written_so = self.reader.read_so_far().ends_with(&WRITTEN);
        // The arguments are the members that were made last.
        let object = self.children.len().checked_sub(2).and_then(|place| self.children.get(place)).copied();
        let Some(object) = object.filter(|object| is_written_so && self.stack.last() == Some(object)) else {
            return;
        };
        if let Node::Object(place) = self.node(object)
            && place != call
            && let Some(object) = self.objects.get_mut(index(place))
        {
            object.more.get_or_insert_default().setters.push(dropped);
        }
    }

    pub(super) fn persistent_id_text(&mut self) -> Result<()> {
        let (line, span) = self.reader.line()?;
        self.text(line, span)?;
        let pid = self.pop()?;
        self.push(Node::PersistentId(pid))
    }
}

impl Grow {
    /// Refuses a key without a value.
    fn check(self, members: usize) -> Result<()> {
        match self {
            Self::Dict if !members.is_multiple_of(2) => {
                Err(Reason::Pickle("a key without a value".into()).into())
            }
            Self::List | Self::Set | Self::Dict => Ok(()),
        }
    }

    fn misfit(self) -> Error {
        let what = match self {
            Self::List => "items are appended to something that is not a list",
            Self::Set => "items are added to something that is not a set",
            Self::Dict => "items are set on something that is not a dict",
        };
        Reason::Pickle(what.into()).into()
    }
}

fn too_many(what: &str) -> Error {
    Reason::Unsupported(format!("more than 2^32 {what}")).into()
}
