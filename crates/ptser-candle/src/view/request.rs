//! A view as asked for: knows its sizes, strides and offset as claims of a file, and checks them against the length of
//! the storage; must not know how candle makes a view.
//!
//! All numbers count elements, never bytes. Past [`Request::check`] every sum and product here fits a `usize`, but the
//! arithmetic stays checked: `None` is then an answer nobody meets.

use std::cmp::Reverse;

use candle_core::{Layout, Result, Tensor, bail};

/// The most axes a view may have. candle itself takes any number, in time that grows with the square of it; PyTorch's
/// own operations stop at 64.
pub(super) const MAX_RANK: usize = 1024;

/// One axis of a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Axis {
    /// Which axis of the view it is.
    pub(super) place: usize,
    /// How many elements lie along it.
    pub(super) size: usize,
    /// How far apart they are in the storage.
    pub(super) stride: usize,
}

impl Axis {
    /// The distance from the first element along this axis to the last.
    fn reach(&self) -> Option<usize> {
        self.size.saturating_sub(1).checked_mul(self.stride)
    }
}

/// How many elements of the storage lie from the first one of a view with these axes to the last, both counted.
pub(super) fn span(axes: impl IntoIterator<Item = Axis>) -> Option<usize> {
    axes.into_iter().try_fold(1_usize, |span, axis| span.checked_add(axis.reach()?))
}

/// A size, a stride and an offset that stay inside their storage.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    /// The size of each axis.
    pub(super) size: &'a [usize],
    /// The stride of each axis: as many as sizes.
    pub(super) stride: &'a [usize],
    /// Where in the storage the first element is.
    pub(super) offset: usize,
    /// How many elements the view has.
    pub(super) elem_count: usize,
    /// How many elements the storage has.
    pub(super) storage_len: usize,
}

impl<'a> Request<'a> {
    /// Checks that `base` is a whole storage, and that each element of the view is one of its elements.
    pub(super) fn check(
        base: &Tensor,
        size: &'a [usize],
        stride: &'a [usize],
        offset: usize,
    ) -> Result<Self> {
        let storage_len = base.dims1()?;
        if base.layout().start_offset() != 0 || !base.is_contiguous() {
            bail!("the base of a view must be its whole storage, found {:?}", base.layout());
        }
        if size.len() != stride.len() {
            bail!("a view of {} sizes cannot have {} strides", size.len(), stride.len());
        }
        if size.len() > MAX_RANK {
            bail!("a view of {} axes has more than the {MAX_RANK} that are supported", size.len());
        }
        let Some(elem_count) = count(size) else {
            bail!("a view of size {size:?} has more elements than can be counted");
        };
        let request = Self { size, stride, offset, elem_count, storage_len };
        if !request.is_empty() && request.end().is_none_or(|end| end > storage_len) {
            bail!(
                "a view of size {size:?} and stride {stride:?} at offset {offset} reaches past its storage of \
                 {storage_len} elements"
            );
        }
        Ok(request)
    }

    /// Says whether the view has no elements. It then touches no storage, whatever its strides and its offset.
    pub(super) fn is_empty(&self) -> bool {
        self.elem_count == 0
    }

    /// Says whether the elements follow each other in the storage in row-major order.
    pub(super) fn is_contiguous(&self) -> bool {
        let mut next = Some(1);
        self.axes().rev().filter(|axis| axis.size > 1).all(|axis| {
            let follows = next == Some(axis.stride);
            next = axis.size.checked_mul(axis.stride);
            follows
        })
    }

    /// Says whether a layout is the one asked for: the sizes, and of a view with elements the offset and the stride of
    /// each axis longer than one.
    pub(super) fn is_met_by(&self, layout: &Layout) -> bool {
        let mut axes = self.size.iter().zip(self.stride).zip(layout.stride());
        let same_strides = axes.all(|((&size, asked), found)| size <= 1 || asked == found);
        let same_elements = layout.start_offset() == self.offset && same_strides;
        layout.dims() == self.size && (self.is_empty() || same_elements)
    }

    /// The axes along which the position in the storage changes, from the largest stride to the smallest.
    pub(super) fn moving_axes(&self) -> Vec<Axis> {
        let mut axes: Vec<Axis> = self.axes().filter(|axis| axis.size > 1 && axis.stride > 0).collect();
        axes.sort_by_key(|axis| Reverse(axis.stride));
        axes
    }

    /// The axes longer than one in the order of the view, each one merged with its outer neighbour where the two step
    /// through the storage as one. `place` is that of the innermost axis merged.
    pub(super) fn runs(&self) -> Vec<Axis> {
        let mut runs: Vec<Axis> = Vec::new();
        for axis in self.axes().filter(|axis| axis.size > 1) {
            match runs.last_mut() {
                Some(outer) if axis.size.checked_mul(axis.stride) == Some(outer.stride) => {
                    *outer = Axis { size: outer.size.saturating_mul(axis.size), ..axis };
                }
                _ => runs.push(axis),
            }
        }
        runs
    }

    fn axes(&self) -> impl DoubleEndedIterator<Item = Axis> {
        let pairs = self.size.iter().zip(self.stride).enumerate();
        pairs.map(|(place, (&size, &stride))| Axis { place, size, stride })
    }

    /// The place behind the last element.
    fn end(&self) -> Option<usize> {
        self.offset.checked_add(span(self.axes())?)
    }
}

/// The number of elements of a shape. `None` if it does not fit, and also if only a zero among the sizes makes it fit:
/// candle multiplies them one by one, unchecked, and from either end.
fn count(size: &[usize]) -> Option<usize> {
    let product =
        size.iter().filter(|&&size| size != 0).try_fold(1_usize, |count, &size| count.checked_mul(size))?;
    Some(if size.contains(&0) { 0 } else { product })
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_layout_that_differs_in_size_offset_or_stride_is_not_the_one_asked_for() -> Result<()> {
        let base = Tensor::arange(0_u32, 100, &Device::Cpu)?;
        let request = Request::check(&base, &[2, 1, 3], &[20, 7, 2], 5)?;
        let met = |size: [usize; 3], stride: [usize; 3], offset| {
            request.is_met_by(&Layout::new(size.as_slice().into(), stride.to_vec(), offset))
        };
        assert!(met([2, 1, 3], [20, 7, 2], 5));
        assert!(met([2, 1, 3], [20, 0, 2], 5));
        assert!(!met([2, 1, 3], [20, 7, 2], 4));
        assert!(!met([2, 1, 3], [20, 7, 1], 5));
        assert!(!met([2, 1, 3], [10, 7, 2], 5));
        assert!(!met([3, 1, 2], [20, 7, 2], 5));
        Ok(())
    }

    #[test]
    fn runs_are_axes_that_step_as_one() -> Result<()> {
        let base = Tensor::arange(0_u32, 100, &Device::Cpu)?;
        let runs = |size: &[usize], stride: &[usize]| -> Result<Vec<(usize, usize)>> {
            let request = Request::check(&base, size, stride, 0)?;
            Ok(request.runs().iter().map(|run| (run.size, run.stride)).collect())
        };
        assert_eq!(runs(&[2, 1, 3, 4], &[12, 99, 4, 1])?, [(24, 1)]);
        assert_eq!(runs(&[2, 3, 4], &[20, 4, 1])?, [(2, 20), (12, 1)]);
        assert_eq!(runs(&[2, 3, 4], &[0, 0, 1])?, [(6, 0), (4, 1)]);
        assert_eq!(runs(&[4, 3], &[1, 4])?, [(4, 1), (3, 4)]);
        assert_eq!(runs(&[], &[])?, []);
        Ok(())
    }
}
