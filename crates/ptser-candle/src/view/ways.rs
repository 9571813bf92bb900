//! The ways to a layout: knows which chains of candle's view operations step through a storage at given strides; must
//! not know the axes that lead nowhere, nor trust candle with the result (the caller compares layouts).
//!
//! Three operations do it. `reshape` cuts contiguous elements into rows: the stride of an axis is then a whole number
//! of the next one. `unfold` steps by any number, and appends the window that it steps with as a new last axis of the
//! old stride, in which the next `unfold` can step in turn. `narrow` keeps a part of an axis.
//!
//! `unfold` alone would do, did candle not compute the number of its steps in `f32`. Up to 2^24 elements that is exact.
//! Above, it can come out too large, which `narrow` mends, or too small, and then the way fails. So rows are cut
//! wherever the strides allow it. What remains out of reach are views in large storages whose strides do not divide
//! one another, or whose last row is cut short by the end of the storage.

use candle_core::{D, Result, Tensor};

use super::request::{Axis, Request, span};

/// A way to reach a layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// The outer axes by one reshape into rows, the others by unfold inside a row.
    Rows {
        /// How many of the axes, counted from the one of the largest stride.
        outer: usize,
    },
    /// Each axis by unfold.
    Unfold,
}

impl Way {
    /// The ways to a view of so many moving axes, those first that leave the least to unfold.
    pub(super) fn all(axes: usize) -> impl Iterator<Item = Self> {
        let rows = (1..=axes).rev().map(|outer| Self::Rows { outer });
        rows.chain([Self::Unfold])
    }

    /// Makes a view whose axes are `axes`, the moving axes of `request`. `None` if this way does not lead there.
    pub(super) fn reach(self, base: &Tensor, request: &Request<'_>, axes: &[Axis]) -> Result<Option<Tensor>> {
        match self {
            Self::Rows { outer } => {
                let Some((outer, inner)) = axes.split_at_checked(outer) else { return Ok(None) };
                let Some(rows) = Rows::plan(request, outer, inner) else { return Ok(None) };
                split(rows.cut(base)?, inner)
            }
            Self::Unfold => {
                // all that lies behind the first element, needed or not: of the longer axis f32 makes more steps, and
                // the one it loses may be one too many
                let len = request.storage_len.saturating_sub(request.offset);
                split(base.narrow(0, request.offset, len)?, axes)
            }
        }
    }
}

/// Makes `axes`, by descending stride, of the last axis of `view`, whose elements are next to each other.
///
/// `None` if candle's `f32` gives an axis too few elements.
fn split(mut view: Tensor, mut axes: &[Axis]) -> Result<Option<Tensor>> {
    while let Some((axis, inner)) = axes.split_first() {
        if inner.is_empty() && axis.stride == 1 {
            // no step to take: a narrow does the same, and counts exactly
            return view.narrow(D::Minus1, 0, axis.size).map(Some);
        }
        let Some(window) = span(inner.iter().copied()) else { return Ok(None) };
        view = view.unfold(D::Minus1, window, axis.stride)?;
        if view.dim(D::Minus2)? < axis.size {
            return Ok(None);
        }
        view = view.narrow(D::Minus2, 0, axis.size)?;
        axes = inner;
    }
    view.narrow(D::Minus1, 0, 1)?.squeeze(D::Minus1).map(Some)
}

/// How to cut the storage into rows: every number that [`Rows::cut`] hands to candle.
///
/// A row is as long as the largest stride, and is cut again into rows of the next one, down to the smallest of the
/// outer axes. So the element at a place in a row is found by the digits of that place, in a number system whose units
/// are the strides.
#[derive(Debug, PartialEq, Eq)]
struct Rows {
    /// Where the first row starts, in the storage.
    start: usize,
    /// How many rows there are.
    count: usize,
    /// How many elements they have together.
    len: usize,
    /// The digits inside a row, the most significant one first.
    digits: Vec<Digit>,
}

/// A digit of a place inside a row: an axis that the reshape makes, and the part of it that is kept.
#[derive(Debug, PartialEq, Eq)]
struct Digit {
    /// How far apart the elements of the axis are.
    unit: usize,
    /// How long the axis is.
    radix: usize,
    /// Where on the axis the view starts.
    first: usize,
    /// How much of the axis it keeps from there.
    keep: usize,
}

impl Rows {
    /// Plans rows for the axes `outer`, such that a row's last axis holds all that the axes `inner` step over.
    ///
    /// `None` if the strides do not divide one another, if rows would overlap, or if the storage ends before the last
    /// row does.
    fn plan(request: &Request<'_>, outer: &[Axis], inner: &[Axis]) -> Option<Self> {
        let (largest, smallest) = (outer.first()?, outer.last()?);
        let mut digits = Vec::with_capacity(outer.len());
        for (wide, axis) in outer.iter().zip(outer.iter().skip(1)) {
            if wide.stride.checked_rem(axis.stride)? != 0 {
                return None;
            }
            let radix = wide.stride.checked_div(axis.stride)?;
            digits.push(Digit { unit: axis.stride, radix, first: 0, keep: axis.size });
        }
        digits.push(Digit { unit: 1, radix: smallest.stride, first: 0, keep: span(inner.iter().copied())? });

        let len = largest.size.checked_mul(largest.stride)?;
        // a row may start before the view does, and must by as much as the last one would run past the end
        let least_lead = request.offset.checked_add(len)?.saturating_sub(request.storage_len);
        let lead = start_at_or_after(&mut digits, least_lead)?;
        let start = request.offset.checked_sub(lead)?;
        Some(Self { start, count: largest.size, len, digits })
    }

    /// Makes the view planned: an axis of rows, then one for each digit.
    fn cut(&self, base: &Tensor) -> Result<Tensor> {
        let mut dims = vec![self.count];
        dims.extend(self.digits.iter().map(|digit| digit.radix));
        let mut view = base.narrow(0, self.start, self.len)?.reshape(dims)?;
        for (axis, digit) in (1..).zip(&self.digits) {
            view = view.narrow(axis, digit.first, digit.keep)?;
        }
        Ok(view)
    }
}

/// Sets the digits to the first place in a row, not before `place`, from which each axis has room for what it keeps,
/// and gives that place. `None` if the row has no such place.
fn start_at_or_after(digits: &mut [Digit], place: usize) -> Option<usize> {
    if digits.iter().any(|digit| digit.keep > digit.radix) {
        // such rows would overlap, and counting on would find that out after as many turns as a row has places
        return None;
    }
    let mut rest = place;
    for digit in digits.iter_mut() {
        digit.first = rest.checked_div(digit.unit)?;
        rest = rest.checked_rem(digit.unit)?;
    }
    // the first digit without room, and those behind it, begin again at zero, with a carry to the one before; what is
    // at zero has room, so each turn is about a digit further to the front
    while let Some(full) = digits.iter().position(|digit| !digit.has_room()) {
        let (before, behind) = digits.split_at_mut_checked(full)?;
        behind.iter_mut().for_each(|digit| digit.first = 0);
        let carry = before.last_mut()?;
        carry.first = carry.first.checked_add(1)?;
    }
    digits.iter().try_fold(0_usize, |place, digit| place.checked_add(digit.first.checked_mul(digit.unit)?))
}

impl Digit {
    fn has_room(&self) -> bool {
        self.first.checked_add(self.keep).is_some_and(|end| end <= self.radix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_starts_at_the_first_place_where_each_digit_has_room() {
        // rows of 60 elements, of which 5 axes of stride 12, of 4 of stride 3, of 3
        let digit = |unit, radix, keep| Digit { unit, radix, first: 0, keep };
        let digits = |keep: [usize; 3]| [digit(12, 5, keep[0]), digit(3, 4, keep[1]), digit(1, 3, keep[2])];
        for keep in
            (1..=60).map(|all| [1 + all % 5, 1 + all / 5 % 4, 1 + all / 20]).filter(|keep| keep[2] <= 3)
        {
            let has_room = |place: &usize| {
                place / 12 + keep[0] <= 5 && place / 3 % 4 + keep[1] <= 4 && place % 3 + keep[2] <= 3
            };
            for place in 0..60 {
                let mut digits = digits(keep);
                let found = start_at_or_after(&mut digits, place);
                assert_eq!(found, (place..60).find(has_room), "{keep:?} from {place}");
            }
            assert_eq!(start_at_or_after(&mut digits(keep), 60), None);
        }
    }

    #[test]
    fn rows_that_overlap_are_found_out_without_counting_their_places() {
        let long = Digit { unit: 2, radix: 1 << 60, first: 0, keep: 1 };
        let overlapping = Digit { unit: 1, radix: 2, first: 0, keep: 3 };
        assert_eq!(start_at_or_after(&mut [long, overlapping], 0), None);
    }
}
