//! Calls that make a view of a storage, which most checkpoints are full of: one that stands as every writer spells it is
//! read at once and kept in one node. What stands in between is left out: whoever needs it reads the pickle again.

use super::graph::{Node, NodeId, Span, index};
use super::machine::Machine;
use super::memo::{Entry, Memo};
use super::opcode as op;
use crate::error::{Error, Reason, Result};
use crate::memory::{push, reserve};

/// `function((kind, class, key, location, numel) as a persistent id, offset, shape, stride, flag, hooks())`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View {
    /// The text that is its key.
    pub(crate) key: Span,
    pub(crate) numel: u32,
    pub(crate) offset: u32,
    /// Where its numbers begin in `Views::sizes`.
    sizes: u32,
    /// A place in [`Views::styles`].
    pub(crate) style: u8,
    axes: u8,
    pub(crate) flag: bool,
    /// Whether the key is the first value of it that the memo took.
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
    #[inline]
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
    fn key(&self, view: usize, at: usize) -> Option<Span> {
        self.calls.get(view).filter(|view| at == 0 && view.key_is_put).map(|view| view.key)
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
}

// What is beyond these is rare, and read in full.

/// Bytes of a key.
const KEY_MAX: usize = 32;
/// Axes of a tensor.
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
        let (Some(first), Some(finder)) = (self.memo.next(), &mut self.finder) else { return Ok(false) };
        let found = &mut finder.found;
        let numbers = found.sizes.len();
        reserve(&mut found.sizes, 2 * AXES_MAX)?;
        let all = self.reader.rest();
        let parts = Call::read(all, &self.memo, first, &mut found.sizes, function);
        let key = parts.as_ref().and_then(|parts| match parts.key {
            Key::Before(Entry::Inside { view, at }) => found.key(view, at),
            Key::Before(Entry::Known(id)) => match self.nodes.get(id.place()) {
                Some(Node::Str(span)) => Some(*span),
                _ => None,
            },
            Key::Here { left, len, .. } => {
                let start = all.len().saturating_sub(left).saturating_add(self.reader.position());
                Span::new(start, len).ok()
            }
        });
        let (Some(Parts { style, key: spelled, numel, offset, axes, flag, rest, next }), Some(key)) =
            (parts, key)
        else {
            found.sizes.truncate(numbers);
            return Ok(false);
        };
        let call = View {
            key,
            numel,
            offset,
            sizes: u32::try_from(numbers).map_err(|_| left_out())?,
            style: found.style(style)?,
            axes,
            flag,
            key_is_put: matches!(spelled, Key::Here { put: true, .. }),
        };
        let view = found.calls.len();
        let place = u32::try_from(view).map_err(|_| left_out())?;
        push(&mut found.calls, call)?;
        self.memo.put_view(view, index(next))?;
        push(&mut self.stack, NodeId::at(self.nodes.len())?)?;
        push(&mut self.nodes, Node::View(place))?;
        let marks = if axes > 3 { 2 } else { 0 };
        self.count_left_out(VALUES.saturating_add(u64::from(axes).saturating_mul(2)).saturating_add(marks))?;
        self.reader.skip(all.len().saturating_sub(rest.len()));
        Ok(true)
    }
}

/// A call that is being read, from behind its function on.
struct Call<'p, 'm> {
    rest: &'p [u8],
    memo: &'m Memo,
    /// Its entries before the first view.
    before: &'m [Option<NodeId>],
    /// The number under which the memo takes the next value.
    next: u32,
    /// Where the shape goes, and the stride behind it.
    sizes: &'m mut Vec<usize>,
}

struct Parts<'p> {
    style: Style,
    key: Key,
    numel: u32,
    offset: u32,
    axes: u8,
    flag: bool,
    rest: &'p [u8],
    next: u32,
}

enum Key {
    Before(Entry),
    /// How many bytes are left from it on, how many it has itself, and whether the memo takes it.
    Here {
        left: usize,
        len: usize,
        put: bool,
    },
}

impl<'p, 'm> Call<'p, 'm> {
    #[inline(never)]
    fn read(
        rest: &'p [u8],
        memo: &'m Memo,
        next: u32,
        sizes: &'m mut Vec<usize>,
        function: NodeId,
    ) -> Option<Parts<'p>> {
        let mut call = Self { rest, memo, before: memo.before_views(), next, sizes };

        call.opcodes([op::MARK, op::MARK])?;
        let kind = call.known()?;
        let class = call.known()?;
        let key = call.key()?;
        let location = call.known()?;
        let numel = call.int()?;
        call.opcodes([op::TUPLE])?;
        call.put()?;
        call.opcodes([op::BINPERSID])?;
        let offset = call.int()?;
        let axes = call.ints()?;
        if call.ints()? != axes {
            return None;
        }
        let flag = match call.array()? {
            [op::NEWTRUE] => true,
            [op::NEWFALSE] => false,
            _ => return None,
        };
        let hooks = call.known()?;
        call.opcodes([op::EMPTY_TUPLE, op::REDUCE])?;
        call.put()?;
        call.opcodes([op::TUPLE])?;
        call.put()?;
        call.opcodes([op::REDUCE])?;
        let style = Style { function, kind, class, location, hooks };
        let Self { rest, next, .. } = call;
        Some(Parts { style, key, numel, offset, axes: u8::try_from(axes).ok()?, flag, rest, next })
    }

    #[inline(always)]
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*array)
    }

    /// Goes on behind these, where they are next.
    #[inline(always)]
    fn opcodes<const N: usize>(&mut self, opcodes: [u8; N]) -> Option<()> {
        let (next, rest) = self.rest.split_first_chunk()?;
        (*next == opcodes).then(|| self.rest = rest)
    }

    /// A value that was there before.
    #[inline(always)]
    fn get(&mut self) -> Option<Entry> {
        let place = match self.array()? {
            [op::BINGET] => self.array().map(|[place]| u32::from(place))?,
            [op::LONG_BINGET] => u32::from_le_bytes(self.array()?),
            _ => return None,
        };
        match self.before.get(index(place)) {
            Some(id) => id.map(Entry::Known),
            None => self.memo.dense(index(place)),
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
            [op::BINPUT, place, rest @ ..] => (u32::from(*place) == self.next, rest),
            [op::MEMOIZE, rest @ ..] => (true, rest),
            _ => return Some(false),
        };
        self.rest = rest;
        self.next = self.next.wrapping_add(1);
        is_next.then_some(true)
    }

    #[inline(always)]
    fn key(&mut self) -> Option<Key> {
        let (len, rest) = match self.rest {
            [op::BINUNICODE, a, b, c, d, rest @ ..] => (index(u32::from_le_bytes([*a, *b, *c, *d])), rest),
            [op::SHORT_BINUNICODE, len, rest @ ..] => (usize::from(*len), rest),
            _ => return self.get().map(Key::Before),
        };
        let left = rest.len();
        let (key, rest) = rest.split_at_checked(len).filter(|_| len <= KEY_MAX)?;
        if !key.is_ascii() {
            return None;
        }
        self.rest = rest;
        Some(Key::Here { left, len, put: self.put()? })
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
        let mut axes = 0_usize;
        while let Some(size) = self.int() {
            if axes == AXES_MAX {
                return None;
            }
            self.sizes.push(index(size));
            axes = axes.saturating_add(1);
        }
        let few = [op::EMPTY_TUPLE, op::TUPLE1, op::TUPLE2, op::TUPLE3].get(axes);
        self.opcodes([*few.unwrap_or(&op::TUPLE)])?;
        if axes > 0 {
            self.put()?;
        }
        (is_marked == few.is_none()).then_some(axes)
    }
}
