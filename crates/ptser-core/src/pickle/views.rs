//! Calls that make a view of a storage, which most checkpoints are full of: one that stands as every writer spells it is
//! read at once and kept in one node. What stands in between is left out: whoever needs it reads the pickle again.

use super::graph::{Node, NodeId, Span};
use super::machine::{Machine, to_u64};
use super::opcode as op;
use crate::error::{Error, Reason, Result};
use crate::memory::{push, reserve};

/// `function((kind, class, key, location, numel) as a persistent id, offset, shape, stride, flag, hooks())`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View {
    /// A place in [`Views::styles`].
    pub(crate) style: u32,
    /// A text.
    pub(crate) key: NodeId,
    pub(crate) numel: u64,
    pub(crate) offset: usize,
    /// Where its numbers begin in `Views::sizes`.
    sizes: u32,
    axes: u8,
    pub(crate) flag: bool,
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
    last: Option<(Style, u32)>,
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

    /// Adds a call with its style and its sizes, the strides from `AXES_MAX` on: its place.
    #[inline(always)]
    fn add(&mut self, mut call: View, style: Style, numbers: [usize; 2 * AXES_MAX]) -> Result<u32> {
        if self.last.is_none_or(|(last, _)| last != style) {
            self.last = Some((style, self.style(style)?));
        }
        call.style = self.last.map_or(0, |(_, place)| place);
        call.sizes = u32::try_from(self.sizes.len()).map_err(|_| left_out())?;
        let place = u32::try_from(self.calls.len()).map_err(|_| left_out())?;
        reserve(&mut self.sizes, numbers.len())?;
        let (shape, stride) = numbers.split_at(AXES_MAX);
        for axes in [shape, stride] {
            self.sizes.extend_from_slice(axes.get(..call.axes.into()).unwrap_or_default());
        }
        push(&mut self.calls, call)?;
        Ok(place)
    }

    /// The place of a style.
    fn style(&mut self, style: Style) -> Result<u32> {
        let place = self.styles.iter().position(|known| *known == style).unwrap_or(self.styles.len());
        if place == self.styles.len() {
            if place == STYLES_MAX {
                return Err(left_out());
            }
            push(&mut self.styles, style)?;
        }
        u32::try_from(place).map_err(|_| left_out())
    }

    pub(crate) fn get(&self, place: usize) -> Option<&View> {
        self.calls.get(place)
    }

    /// The shape and the stride of one.
    pub(crate) fn sizes(&self, view: &View) -> (&[usize], &[usize]) {
        let axes = usize::from(view.axes);
        let numbers = super::index(view.sizes);
        let numbers = self.sizes.get(numbers..).and_then(|rest| rest.get(..axes.saturating_mul(2)));
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

/// Calls that differ otherwise than in their numbers.
const STYLES_MAX: usize = 256;
/// Bytes of a key.
const KEY_MAX: usize = 32;
/// Axes of a tensor.
const AXES_MAX: usize = 8;
/// Values and marks of a call, without those of its sizes.
const VALUES: u64 = 19;

/// Says that something is wanted that was left out. Nobody sees it: the pickle is read in full.
pub(super) fn left_out() -> Error {
    Reason::Pickle("what is wanted was left out".into()).into()
}

impl Machine<'_> {
    /// Reads the rest of a call of `function`, where it stands as writers spell it; says whether it did.
    pub(super) fn view(&mut self, function: NodeId) -> Result<bool> {
        let (Some(memo), Some(finder)) = (self.memo.dense(), &mut self.finder) else { return Ok(false) };
        let all = self.reader.rest();
        let mut call = Call { rest: all, memo, puts: 0, sizes: [0; 2 * AXES_MAX] };
        let Some(Parts { style, key, numel, offset, axes, flag }) = call.read(function) else {
            return Ok(false);
        };
        let Call { rest, puts, sizes: numbers, .. } = call;
        let nodes = self.nodes.len();
        reserve(&mut self.nodes, 2)?;
        let (key, memoized) = match key {
            Key::Before(id) if !matches!(self.nodes.get(id.place()), Some(Node::Str(_))) => return Ok(false),
            Key::Before(id) => (id, None),
            Key::Here { left, len, put } => {
                let start = all.len().saturating_sub(left).saturating_add(self.reader.position());
                self.nodes.push(Node::Str(Span::new(start, len)?));
                let id = NodeId::at(nodes)?;
                (id, put.then_some(id))
            }
        };
        self.memo.put_view(memoized, puts)?;
        let call = View { style: 0, key, numel, offset, sizes: 0, axes, flag };
        let place = finder.found.add(call, style, numbers)?;
        push(&mut self.stack, NodeId::at(self.nodes.len())?)?;
        self.nodes.push(Node::View(place));
        let marks = if axes > 3 { 2 } else { 0 };
        let values = VALUES.saturating_add(u64::from(axes).saturating_mul(2)).saturating_add(marks);
        let added = to_u64(self.nodes.len().saturating_sub(nodes));
        self.count_left_out(values.saturating_sub(added))?;
        self.reader.skip(all.len().saturating_sub(rest.len()));
        Ok(true)
    }
}

/// A call that is being read, from behind its function on.
struct Call<'p, 'm> {
    rest: &'p [u8],
    memo: &'m [Option<NodeId>],
    /// How many values the memo takes of it.
    puts: usize,
    /// The shape, and the stride behind it.
    sizes: [usize; 2 * AXES_MAX],
}

struct Parts {
    style: Style,
    key: Key,
    numel: u64,
    offset: usize,
    axes: u8,
    flag: bool,
}

enum Key {
    Before(NodeId),
    /// How many bytes are left from it on, how many it has itself, and whether the memo takes it.
    Here {
        left: usize,
        len: usize,
        put: bool,
    },
}

impl Call<'_, '_> {
    #[inline(always)]
    fn read(&mut self, function: NodeId) -> Option<Parts> {
        self.opcodes([op::MARK, op::MARK])?;
        let kind = self.get()?;
        let class = self.get()?;
        let key = self.key()?;
        let location = self.get()?;
        let numel = self.int()?;
        self.opcodes([op::TUPLE])?;
        self.put()?;
        self.opcodes([op::BINPERSID])?;
        let offset = usize::try_from(self.int()?).ok()?;
        let axes = self.ints(0)?;
        if self.ints(AXES_MAX)? != axes {
            return None;
        }
        let flag = match self.array()? {
            [op::NEWTRUE] => true,
            [op::NEWFALSE] => false,
            _ => return None,
        };
        let hooks = self.get()?;
        self.opcodes([op::EMPTY_TUPLE, op::REDUCE])?;
        self.put()?;
        self.opcodes([op::TUPLE])?;
        self.put()?;
        self.opcodes([op::REDUCE])?;
        let style = Style { function, kind, class, location, hooks };
        Some(Parts { style, key, numel, offset, axes: u8::try_from(axes).ok()?, flag })
    }

    #[inline(always)]
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*array)
    }

    #[inline(always)]
    fn opcodes<const N: usize>(&mut self, opcodes: [u8; N]) -> Option<()> {
        (self.array()? == opcodes).then_some(())
    }

    /// A value that was there before, and of which nothing is left out.
    #[inline(always)]
    fn get(&mut self) -> Option<NodeId> {
        let place = match self.array()? {
            [op::BINGET] => self.array().map(|[place]| usize::from(place))?,
            [op::LONG_BINGET] => usize::try_from(u32::from_le_bytes(self.array()?)).ok()?,
            _ => return None,
        };
        self.memo.get(place).copied().flatten().filter(|id| *id != NodeId::INSIDE)
    }

    /// Whether the memo takes the value before, under the number that is next.
    #[inline(always)]
    fn put(&mut self) -> Option<bool> {
        let next = self.memo.len().saturating_add(self.puts);
        let is_next = match *self.rest {
            [op::BINPUT, place, ref rest @ ..] => {
                self.rest = rest;
                usize::from(place) == next
            }
            [op::LONG_BINPUT, a, b, c, d, ref rest @ ..] => {
                self.rest = rest;
                usize::try_from(u32::from_le_bytes([a, b, c, d])) == Ok(next)
            }
            [op::MEMOIZE, ref rest @ ..] => {
                self.rest = rest;
                true
            }
            _ => return Some(false),
        };
        self.puts = self.puts.saturating_add(1);
        is_next.then_some(true)
    }

    #[inline(always)]
    fn key(&mut self) -> Option<Key> {
        let len = match *self.rest {
            [op::BINUNICODE, a, b, c, d, ref rest @ ..] => {
                self.rest = rest;
                usize::try_from(u32::from_le_bytes([a, b, c, d])).ok()?
            }
            [op::SHORT_BINUNICODE, len, ref rest @ ..] => {
                self.rest = rest;
                len.into()
            }
            _ => return self.get().map(Key::Before),
        };
        let left = self.rest.len();
        let (key, rest) = self.rest.split_at_checked(len).filter(|_| len <= KEY_MAX)?;
        if !key.is_ascii() {
            return None;
        }
        self.rest = rest;
        Some(Key::Here { left, len, put: self.put()? })
    }

    /// A number that is not negative.
    #[inline(always)]
    fn int(&mut self) -> Option<u64> {
        Some(match self.array()? {
            [op::BININT1] => self.array().map(|[int]| int.into())?,
            [op::BININT2] => u16::from_le_bytes(self.array()?).into(),
            [op::BININT] => i32::from_le_bytes(self.array()?).try_into().ok()?,
            [op::LONG1] => {
                let [len] = self.array()?;
                let (digits, rest) = self.rest.split_at_checked(len.into()).filter(|_| len < 8)?;
                if digits.last().is_some_and(|last| *last > 0x7F) {
                    return None;
                }
                self.rest = rest;
                digits.iter().rev().fold(0, |number, digit| number << 8 | u64::from(*digit))
            }
            _ => return None,
        })
    }

    /// A tuple of such numbers, which go to a place among the sizes on: how many.
    #[inline(always)]
    fn ints(&mut self, from: usize) -> Option<usize> {
        let marked = self.rest.first() == Some(&op::MARK);
        if marked {
            self.opcodes([op::MARK])?;
        }
        let mut axes = 0_usize;
        while let Some(&(op::BININT1 | op::BININT2 | op::BININT | op::LONG1)) = self.rest.first() {
            let size = usize::try_from(self.int()?).ok()?;
            *self.sizes.get_mut(from..)?.get_mut(axes).filter(|_| axes < AXES_MAX)? = size;
            axes = axes.saturating_add(1);
        }
        let made_by = match axes {
            0 => op::EMPTY_TUPLE,
            1 => op::TUPLE1,
            2 => op::TUPLE2,
            3 => op::TUPLE3,
            _ => op::TUPLE,
        };
        self.opcodes([made_by])?;
        if axes > 0 {
            self.put()?;
        }
        (marked == (axes > 3)).then_some(axes)
    }
}
