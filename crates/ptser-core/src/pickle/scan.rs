//! Finds every global that a pickle names, where the pickle is judged and not opened: goes on behind what the
//! machine refuses, since an unpickler that lets it pass would go on too.

use std::collections::HashSet;

use super::build::NAME_MAX;
use super::encoding::Encoding;
use super::extent::{Argument, argument};
use super::graph::{Graph, Node, NodeId, Symbol};
use super::machine::{Machine, RenameGlobal, to_u64};
use super::opcode as op;
use crate::error::{Error, Reason, Result};
use crate::limits::Objects;

/// What was found in a pickle.
pub(crate) struct Scan {
    /// As much as there is of it: behind the first error it is what a lenient unpickler may have made.
    pub(crate) graph: Graph,
    /// Globals whose name the pickle does not spell out.
    unnamed: Vec<Symbol>,
    /// The first thing that the machine refuses.
    pub(crate) error: Option<Error>,
}

impl Scan {
    /// Every global in order of appearance, and whether its name is all there.
    pub(crate) fn names(&self) -> Vec<(&Symbol, bool)> {
        let named = self.graph.symbols().iter().map(|symbol| (symbol, true));
        let mut names: Vec<_> = named.chain(self.unnamed.iter().map(|symbol| (symbol, false))).collect();
        names.sort_by_key(|(symbol, _)| symbol.at);
        names
    }
}

/// Reads one pickle up to its `STOP`, or up to where opcodes can no longer be told apart.
pub(crate) fn scan(pickle: Vec<u8>, rename: RenameGlobal, objects: &Objects) -> Scan {
    let machine = Machine::new(&pickle, rename, Encoding::Auto, objects);
    let mut scanner =
        Scanner { pickle: &pickle, machine, unnamed: Vec::new(), met: HashSet::new(), error: None };
    let root = scanner.run();
    let Scanner { machine, unnamed, error, .. } = scanner;
    objects.add(to_u64(machine.nodes.len()));
    let built = machine.built();
    Scan { graph: Graph { pickle, root, ..built }, unnamed, error }
}

struct Scanner<'p> {
    pickle: &'p [u8],
    machine: Machine<'p>,
    unnamed: Vec<Symbol>,
    /// The names of `unnamed`.
    met: HashSet<String>,
    error: Option<Error>,
}

/// Names take more memory than the opcodes that spell them; no checkpoint has a thousand.
const NAMES_MAX: usize = 100_000;

/// In the place of a part of a name that only running the pickle would tell.
const UNKNOWN: &str = "?";

impl Scanner<'_> {
    fn run(&mut self) -> NodeId {
        loop {
            self.machine.opcode_at = self.machine.reader.position();
            let done = self.machine.reader.byte().and_then(|opcode| {
                if opcode == op::STOP {
                    return self.machine.pop().map(Some);
                }
                if self.unnamed.len().saturating_add(self.machine.symbols.len()) > NAMES_MAX {
                    return Err(Reason::Pickle(format!("more than {NAMES_MAX} globals")).into());
                }
                self.step(opcode).or_else(|error| self.recover(opcode, error)).map(|()| None)
            });
            match done {
                Ok(None) => {}
                Ok(Some(root)) => return root,
                Err(error) => {
                    self.note(error);
                    // No node has this place.
                    return NodeId::at(self.machine.nodes.len()).unwrap_or_default();
                }
            }
        }
    }

    fn note(&mut self, error: Error) {
        self.error.get_or_insert_with(|| error.at(to_u64(self.machine.opcode_at)));
    }

    fn step(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            op::EXT1 => self.machine.reader.byte().and_then(|code| self.extension(code.into())),
            op::EXT2 => self.machine.reader.u16().and_then(|code| self.extension(code.into())),
            op::EXT4 => self.machine.reader.i32().and_then(|code| self.extension(code)),
            op::NEXT_BUFFER => self.unknown(),
            op::READONLY_BUFFER => Ok(()),
            op::STACK_GLOBAL => self.stack_global(),
            op::PERSID => self.persistent_id_text(),
            other => self.machine.step(other),
        }
    }

    /// Pushes a value that is not known.
    fn unknown(&mut self) -> Result<()> {
        self.machine.push(Node::None)
    }

    /// A global of the registry of the process that reads the file.
    fn extension(&mut self, code: i32) -> Result<()> {
        self.unnamed("copyreg", &format!("copyreg extension {code}"));
        self.unknown()
    }

    fn unnamed(&mut self, module: &str, full: &str) {
        if self.met.insert(full.to_owned()) {
            self.unnamed.push(Symbol {
                module: module.into(),
                full: full.into(),
                at: self.machine.opcode_at,
            });
        }
    }

    fn stack_global(&mut self) -> Result<()> {
        let name = self.machine.pop()?;
        let module = self.machine.pop()?;
        if let (Some(module), Some(name)) = (self.text(module), self.text(name)) {
            return self.machine.symbol(&module, &name).and_then(|global| self.machine.push(global));
        }
        let or_unknown = |text: Option<String>| text.unwrap_or_else(|| UNKNOWN.to_owned());
        let (module, name) = (or_unknown(self.text(module)), or_unknown(self.text(name)));
        self.incomplete(&module, &name);
        self.unknown()
    }

    /// Notes a global of which a part is not known, or is no text.
    fn incomplete(&mut self, module: &str, name: &str) {
        let (module, name) = (self.machine.rename)(module, name);
        self.unnamed(&module, &format!("{module}.{name}"));
    }

    /// A string as a name: whether the reader of the file decodes it or not, and how.
    fn text(&self, id: NodeId) -> Option<String> {
        let (Node::Str(span) | Node::Surrogates(span) | Node::Bytes(span)) = self.machine.node(id) else {
            return None;
        };
        let heap = &self.machine.heap;
        let bytes = span.bytes_in(self.pickle, 0).or_else(|| span.bytes_in(heap, self.pickle.len()))?;
        // Nothing that can be imported has so long a name.
        let bytes = bytes.get(..NAME_MAX).unwrap_or(bytes);
        Some(String::from_utf8_lossy(bytes).into_owned())
    }

    /// Protocol 0 writes persistent ids as text, and classes in them as Python prints them.
    fn persistent_id_text(&mut self) -> Result<()> {
        let start = self.machine.reader.position();
        self.machine.step(op::PERSID)?;
        let line = self.pickle.get(start..self.machine.reader.position()).unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        for class in line.split('<').skip(1) {
            let quoted = class.strip_prefix("class '").or_else(|| class.strip_prefix("type '"));
            let full = quoted.and_then(|rest| rest.split_once("'>")).map(|(full, _)| full);
            if let Some((module, name)) = full.and_then(|full| full.rsplit_once('.')) {
                self.machine.symbol(module, name)?;
            }
        }
        Ok(())
    }

    /// Goes on behind an opcode that failed, as if it had done what it does elsewhere.
    fn recover(&mut self, opcode: u8, error: Error) -> Result<()> {
        let Some(argument) = argument(opcode) else { return Err(error) };
        self.note(error);
        let reader = &mut self.machine.reader;
        reader.go_back(self.machine.opcode_at.saturating_add(1));
        let mut lines = [UNKNOWN.to_owned(), UNKNOWN.to_owned()];
        match argument {
            Argument::Fixed(len) => drop(reader.take(len.into())?),
            Argument::Counted(width) => {
                let mut len = [0; 8];
                let (bytes, _) = reader.take(width.into())?;
                len.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
                reader.take_claimed(u64::from_le_bytes(len))?;
            }
            Argument::Lines(count) => {
                for line in lines.iter_mut().take(count.into()) {
                    *line = String::from_utf8_lossy(reader.line()?.0).into_owned();
                }
            }
        }
        if matches!(opcode, op::GLOBAL | op::INST) {
            let [module, name] = &lines;
            self.incomplete(module, name);
        }
        if pushes(opcode) { self.unknown() } else { Ok(()) }
    }
}

/// Whether an opcode leaves a value of its own on the stack.
fn pushes(opcode: u8) -> bool {
    !matches!(
        opcode,
        op::PROTO
            | op::FRAME
            | op::MARK
            | op::STOP
            | op::POP
            | op::POP_MARK
            | op::APPEND
            | op::APPENDS
            | op::SETITEM
            | op::SETITEMS
            | op::ADDITEMS
            | op::BUILD
            | op::PUT
            | op::BINPUT
            | op::LONG_BINPUT
            | op::MEMOIZE
            | op::READONLY_BUFFER
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    fn names(pickle: &[u8]) -> (Vec<String>, bool) {
        let scan = scan(
            pickle.to_vec(),
            |module, name| (module.into(), name.into()),
            &Objects::within(&Limits::default()),
        );
        let names = scan
            .names()
            .into_iter()
            .map(|(symbol, named)| format!("{}{}", symbol.full, if named { "" } else { "!" }));
        (names.collect(), scan.error.is_some())
    }

    #[test]
    fn an_opcode_that_is_refused_takes_its_argument_and_its_operands() {
        // What is refused, and whether the stack is right behind it: two strings below must still be there.
        for refused in [
            &b"K\x01Nb0"[..],    // BUILD of an integer
            b"K\x01Na0",         // APPEND to one
            b"K\x01(NNu0",       // SETITEMS on one
            b"K\x01]R0",         // arguments in a list
            b"K\x01)K\x01\x920", // keyword arguments that are none
            b"I0x10\n0",         // text that C's strtol reads
            b"\x970\x98",        // buffers
            b"\x80\x07",         // a protocol of the future
        ] {
            let (found, _) = names(&[b"\x8c\x02os\x8c\x06system", refused, b"\x93."].concat());
            assert_eq!(found, ["os.system"], "{refused:?}");
        }
    }

    #[test]
    fn a_name_that_is_not_spelled_out_is_told_as_far_as_it_is() {
        assert_eq!(names(b"\x8c\x02osN\x93."), (vec!["os.?!".into()], false));
        assert_eq!(names(b"N\x8c\x01x\x93N\x8c\x01x\x93."), (vec!["?.x!".into()], false));
        assert_eq!(names(b"NN\x93."), (vec!["?.?!".into()], false));
        // Every unpickler stops where there is nothing to take.
        assert_eq!(names(b"N\x93."), (vec![], true));
        assert_eq!(names(b"\x82\x05."), (vec!["copyreg extension 5!".into()], false));
        assert_eq!(names(b"\x84\xff\xff\xff\xff."), (vec!["copyreg extension -1!".into()], false));
        assert_eq!(names(b"c\xff\nx\n."), (vec!["\u{fffd}.x!".into()], true));
    }
}
