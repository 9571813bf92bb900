//! Calls that make a view of a storage, which most checkpoints are full of: one that stands as every writer spells it is
//! read at once and kept in one node. What stands in between is left out: whoever needs it reads the pickle again.

use foldhash::HashMap;

use super::graph::{Node, NodeId, Span, index};
use super::machine::Machine;
use super::memo::{Entry, Memo};
use super::opcode as op;
use crate::error::{Error, Reason, Result};
use crate::memory::{make_room, push, reserve};

/// `function((kind, class, key, location, numel) as a persistent id, offset, shape, stride, flag, hooks())`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View {
    /// Its key, which is not yet known to be a text.
    pub(crate) key: Span,
    pub(crate) numel: u32,
    pub(crate) offset: u32,
    /// Where its numbers begin in `Views::sizes`.
    sizes: u32,
    /// A place in [`Views::styles`].
    pub(crate) style: u8,
    axes: u8,
    pub(crate) flag: bool,
    /// Whether the key is the first that the memo took of it.
    key_is_put: bool,
}

/// What many such calls share: each is a node that was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    pub(crate) function: NodeId,
    pub(crate) kind: NodeId,
    pub(crate) class: NodeId,
    pub(crate) location: NodeId,
    pub(crate) hooks: NodeId,
}

/// The calls of a pickle that were read so.
#[derive(Debug, Clone, Default)]
pub(crate) struct Views {
    calls: Vec<View>,
    styles: Vec<Style>,
    /// The last one that was met, and its place.
    last: Option<(Style, u8)>,
    /// Of each call the shape, then the stride.
    sizes: Vec<usize>,
}

impl Views {
    pub(crate) fn len(&self) -> usize {
        self.calls.len()
    }

    /// How many members the tuples have that are left out: of each call the arguments, the persistent id, and the sizes.
    pub(super) fn members(&self) -> usize {
        self.calls.len().saturating_mul(6 + 5).saturating_add(self.sizes.len())
    }

    pub(crate) fn styles(&self) -> &[Style] {
        &self.styles
    }

    /// The place of a style.
    #[inline(always)]
    fn style(&mut self, style: Style) -> Result<u8> {
        match self.last {
            Some((last, place)) if last == style => Ok(place),
            _ => self.other_style(style),
        }
    }

    fn other_style(&mut self, style: Style) -> Result<u8> {
        let place = self.styles.iter().position(|known| *known == style).unwrap_or(self.styles.len());
        let number = u8::try_from(place).map_err(|_| left_out())?;
        if place == self.styles.len() {
            push(&mut self.styles, style)?;
        }
        self.last = Some((style, number));
        Ok(number)
    }

    /// The key of a call, where that is what the memo took of it at a place.
    fn key(calls: &[View], view: usize, at: usize) -> Option<Span> {
        calls.get(view).filter(|call| at == 0 && call.key_is_put).map(|call| call.key)
    }

    pub(crate) fn get(&self, place: usize) -> Option<&View> {
        self.calls.get(place)
    }

    /// The shape and the stride of one.
    pub(crate) fn sizes(&self, view: &View) -> (&[usize], &[usize]) {
        let axes = usize::from(view.axes);
        let numbers = self.sizes.get(index(view.sizes)..).and_then(|rest| rest.get(..axes.saturating_mul(2)));
        numbers.and_then(|numbers| numbers.split_at_checked(axes)).unwrap_or_default()
    }
}

/// What a machine needs to find them.
pub(super) struct Finder {
    /// Whether a global makes views.
    pub(super) makes_views: fn(&str) -> bool,
    /// The node of the last global that does.
    pub(super) function: Option<NodeId>,
    pub(super) found: Views,
    /// The nodes of their keys that were asked for as such, by their places.
    pub(super) keys: HashMap<usize, NodeId>,
}

/// Axes of a tensor. What is beyond is rare, and read in full, as are numbers from 2^31 on.
const AXES_MAX: usize = 8;
/// Values and marks of a call that have no node, without those of its sizes.
const VALUES: u64 = 18;

/// Says that something is wanted that was left out. Nobody sees it: the pickle is read in full.
pub(super) fn left_out() -> Error {
    Reason::Pickle("what is wanted was left out".into()).into()
}

impl Machine<'_> {
    /// Reads the rest of a call of `function`, where it stands as writers spell it; says whether it did.
    pub(super) fn view(&mut self, function: NodeId) -> Result<bool> {
        let (Some(next), Some(finder)) = (self.memo.next(), &mut self.finder) else { return Ok(false) };
        let Views { calls, sizes, .. } = &mut finder.found;
        let (place, numbers) = (u32::try_from(calls.len()), u32::try_from(sizes.len()));
        let (Ok(place), Ok(numbers)) = (place, numbers) else { return Err(left_out()) };
        reserve(sizes, 2 * AXES_MAX)?;
        let all = self.reader.rest();
        let (memo, nodes, end) = (&self.memo, &self.nodes, self.pickle_len);
        let before = Before { function, memo, nodes, calls, end, next };
        let read = before.read::<true>(all, sizes).or_else(|| {
            sizes.truncate(index(numbers));
            before.read::<false>(all, sizes)
        });
        let Some(Call { view, style, rest, next }) = read else {
            sizes.truncate(index(numbers));
            return Ok(false);
        };
        let style = finder.found.style(style)?;
        push(&mut finder.found.calls, View { style, sizes: numbers, ..view })?;
        self.memo.put_view(index(place), index(next))?;
        push(&mut self.stack, NodeId::at(self.nodes.len())?)?;
        push(&mut self.nodes, Node::View(place))?;
        let marks = if view.axes > 3 { 2 } else { 0 };
        let sizes = u64::from(view.axes).saturating_mul(2);
        self.count_left_out(VALUES.saturating_add(sizes).saturating_add(marks))?;
        self.reader.skip(all.len().saturating_sub(rest.len()));
        Ok(true)
    }

    /// Pushes what the memo took of a call, where that is its key: Python has a text of one character but once, whatever it
    /// is there for. It is the same object each time.
    #[cold]
    pub(super) fn key_again(&mut self, view: usize, at: usize) -> Result<()> {
        let Some(Finder { found, keys, .. }) = &mut self.finder else { return Err(left_out()) };
        let key = Views::key(&found.calls, view, at).ok_or_else(left_out)?;
        if let Some(id) = keys.get(&view) {
            let id = *id;
            return self.push_again(id);
        }
        make_room(keys)?;
        keys.insert(view, NodeId::at(self.nodes.len())?);
        self.push(Node::Str(key))
    }
}

/// What there is before a call.
struct Before<'m> {
    function: NodeId,
    memo: &'m Memo,
    nodes: &'m [Node],
    calls: &'m [View],
    /// Where the pickle ends.
    end: usize,
    /// The number under which the memo takes the next value.
    next: u32,
}

/// A call that was read, but for the places of its style and sizes.
struct Call<'p> {
    view: View,
    style: Style,
    /// What is behind it, and the number under which the memo takes the next value.
    rest: &'p [u8],
    next: u32,
}

impl Before<'_> {
    /// Reads a call from behind its function on. Its sizes go to `sizes`, also where it turns out to be none.
    #[inline(never)]
    fn read<'p, const USUAL: bool>(&self, all: &'p [u8], sizes: &mut Vec<usize>) -> Option<Call<'p>> {
        let first = self.memo.before_views();
        let mut reading = Reading::<USUAL> { rest: all, before: self, first, next: self.next, sizes };
        reading.opcodes([op::MARK, op::MARK])?;
        let kind = reading.known()?;
        let class = reading.known()?;
        let (key, key_is_put) = reading.key()?;
        let location = reading.known()?;
        let numel = reading.int()?;
        reading.opcodes([op::TUPLE])?;
        reading.put()?;
        reading.opcodes([op::BINPERSID])?;
        let offset = reading.int()?;
        let axes = reading.ints()?;
        if reading.ints()? != axes {
            return None;
        }
        let flag = reading.opcodes([op::NEWTRUE]).is_some();
        if !flag {
            reading.opcodes([op::NEWFALSE])?;
        }
        let hooks = reading.known()?;
        reading.opcodes([op::EMPTY_TUPLE, op::REDUCE])?;
        reading.put()?;
        reading.opcodes([op::TUPLE])?;
        reading.put()?;
        reading.opcodes([op::REDUCE])?;
        let axes = u8::try_from(axes).ok()?;
        let view = View { key, numel, offset, sizes: 0, style: 0, axes, flag, key_is_put };
        let style = Style { function: self.function, kind, class, location, hooks };
        let Reading { rest, next, .. } = reading;
        Some(Call { view, style, rest, next })
    }
}

/// A call that is being read. A `USUAL` one, as nearly all are, spells its key, and the memo takes all that it can under
/// numbers of four bytes: where nothing else is expected, there are fewer steps.
struct Reading<'p, 'm, const USUAL: bool> {
    rest: &'p [u8],
    before: &'m Before<'m>,
    /// What the memo has from before the first view.
    first: &'m [Option<NodeId>],
    next: u32,
    sizes: &'m mut Vec<usize>,
}

impl<const USUAL: bool> Reading<'_, '_, USUAL> {
    /// Goes on behind these, where they are next.
    #[inline(always)]
    fn opcodes<const N: usize>(&mut self, opcodes: [u8; N]) -> Option<()> {
        let (next, rest) = self.rest.split_first_chunk()?;
        (*next == opcodes).then(|| self.rest = rest)
    }

    /// A value that was there before.
    #[inline(always)]
    fn get(&mut self) -> Option<Entry> {
        let (place, rest) = match self.rest {
            [op::BINGET, place, rest @ ..] => (usize::from(*place), rest),
            [op::LONG_BINGET, a, b, c, d, rest @ ..] if !USUAL => {
                (index(u32::from_le_bytes([*a, *b, *c, *d])), rest)
            }
            _ => return None,
        };
        self.rest = rest;
        match self.first.get(place) {
            Some(id) => id.map(Entry::Known),
            None if USUAL => None,
            None => self.before.memo.entry(place),
        }
    }

    /// One of which nothing is left out.
    #[inline(always)]
    fn known(&mut self) -> Option<NodeId> {
        match self.get()? {
            Entry::Known(id) => Some(id),
            Entry::Inside { .. } => None,
        }
    }

    /// Whether the memo takes the value before, under the number that is next.
    #[inline(always)]
    fn put(&mut self) -> Option<bool> {
        let (is_next, rest) = match self.rest {
            [op::LONG_BINPUT, a, b, c, d, rest @ ..] => {
                (u32::from_le_bytes([*a, *b, *c, *d]) == self.next, rest)
            }
            _ if USUAL => return None,
            [op::BINPUT, place, rest @ ..] => (u32::from(*place) == self.next, rest),
            [op::MEMOIZE, rest @ ..] => (true, rest),
            _ => return Some(false),
        };
        self.rest = rest;
        self.next = self.next.wrapping_add(1);
        is_next.then_some(true)
    }

    /// A key, and whether the memo takes it here.
    #[inline(always)]
    fn key(&mut self) -> Option<(Span, bool)> {
        let (len, rest) = match self.rest {
            [op::BINUNICODE, a, b, c, d, rest @ ..] => (index(u32::from_le_bytes([*a, *b, *c, *d])), rest),
            [op::SHORT_BINUNICODE, len, rest @ ..] if !USUAL => (usize::from(*len), rest),
            _ => return self.key_before(),
        };
        let start = self.before.end.checked_sub(rest.len())?;
        self.rest = rest.get(len..)?;
        Some((Span::new(start, len).ok()?, self.put()?))
    }

    /// A key that was there before: a text, or the key of another call, where that is what the memo took of it first.
    #[inline(always)]
    fn key_before(&mut self) -> Option<(Span, bool)> {
        let Before { nodes, calls, .. } = self.before;
        let key = match self.get().filter(|_| !USUAL)? {
            Entry::Inside { view, at } => Views::key(calls, view, at)?,
            Entry::Known(id) => match nodes.get(id.place())? {
                Node::Str(key) => *key,
                _ => return None,
            },
        };
        Some((key, false))
    }

    /// A number that is not negative, if one is next.
    #[inline(always)]
    fn int(&mut self) -> Option<u32> {
        let (int, rest) = match self.rest {
            [op::BININT1, int, rest @ ..] => (u32::from(*int), rest),
            [op::BININT2, a, b, rest @ ..] => (u16::from_le_bytes([*a, *b]).into(), rest),
            [op::BININT, a, b, c, d, rest @ ..] => {
                (i32::from_le_bytes([*a, *b, *c, *d]).try_into().ok()?, rest)
            }
            _ => return None,
        };
        self.rest = rest;
        Some(int)
    }

    /// A tuple of such numbers, which are kept: how many.
    #[inline(always)]
    fn ints(&mut self) -> Option<usize> {
        let is_marked = self.opcodes([op::MARK]).is_some();
        let before = self.sizes.len();
        while let Some(size) = self.int() {
            // There is room for so many; there may be room for more, too.
            if self.sizes.len().saturating_sub(before) == AXES_MAX {
                return None;
            }
            self.sizes.push(index(size));
        }
        let axes = self.sizes.len().saturating_sub(before);
        let few = [op::EMPTY_TUPLE, op::TUPLE1, op::TUPLE2, op::TUPLE3].get(axes);
        self.opcodes([*few.unwrap_or(&op::TUPLE)])?;
        if axes > 0 {
            self.put()?;
        }
        (is_marked == few.is_none()).then_some(axes)
    }
}
