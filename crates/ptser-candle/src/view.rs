//! Views of one storage: knows how a size, a stride and a storage offset, as PyTorch means them, become a candle
//! tensor over a base; must not know where these numbers or the base's elements come from.
//!
//! candle has no `as_strided`, and no public call takes a layout. What it has are single view operations, and
//! [`ways`] finds chains of them. Whatever a chain gives is compared with the layout asked for before it is returned.

mod gather;
mod request;
mod ways;

use candle_core::{Result, Storage, Tensor};

pub(crate) use self::gather::gather;
use self::request::{Axis, Request};
use self::ways::Way;

/// Copies the elements of a view, for layouts that candle cannot express.
///
/// An axis of stride 0 takes no memory in the copy either: it is repeated, not written out. A copy can be larger than
/// the base only where windows overlap, and then by as much as the file says; it is for the caller to bound that, by
/// [`distinct`].
///
/// # Errors
/// As [`gather`].
pub(crate) fn copy(base: &Tensor, size: &[usize], stride: &[usize], offset: usize) -> Result<Tensor> {
    gather(base, &once(size, stride), stride, offset)?.broadcast_as(size)
}

/// The number of elements that [`copy`] writes; `None` where it overflows.
pub(crate) fn distinct(size: &[usize], stride: &[usize]) -> Option<usize> {
    once(size, stride).into_iter().try_fold(1_usize, usize::checked_mul)
}

/// The sizes, each axis of stride 0 taken once.
pub(crate) fn once(size: &[usize], stride: &[usize]) -> Vec<usize> {
    let once = |(&size, &stride): (&usize, &usize)| if stride == 0 { size.min(1) } else { size };
    size.iter().zip(stride).map(once).collect()
}

/// Gives the view of `base` with this size, stride and storage offset, all counted in elements.
///
/// `base` is the whole storage: one axis, contiguous, from offset 0. The result shares that storage, tracks no
/// gradient, and has exactly these sizes, this offset and these strides; only the stride of an axis of size one, which
/// leads nowhere, may differ. A view without elements has the sizes, and offset and strides of no meaning.
///
/// `None` if no chain of candle's public views has that layout. This happens only in bases of more than 2^24 elements,
/// mostly for views that end at the last one (see [`ways`]).
///
/// # Errors
/// If `base` is no whole storage, if sizes and strides differ in number, if the view would reach past the base, if its
/// elements cannot be counted, or if it has more axes than [`request::MAX_RANK`].
pub(crate) fn as_strided(
    base: &Tensor,
    size: &[usize],
    stride: &[usize],
    offset: usize,
) -> Result<Option<Tensor>> {
    let of_base = base.layout();
    if of_base.dims() == size && of_base.stride() == stride && of_base.start_offset() == offset {
        // as most tensors are: all of their storage
        return Ok(Some(base.detach()));
    }
    let request = Request::check(base, size, stride, offset)?;
    // candle records an unfold as a reshape, and the gradient of that one is an error
    let base = base.detach();
    if request.is_empty() || request.is_contiguous() {
        return Ok(verified(row_major(&base, &request)?, &base, &request));
    }
    let axes = request.moving_axes();
    for way in Way::all(axes.len()) {
        let Some(core) = way.reach(&base, &request, &axes)? else { continue };
        if let Some(view) = verified(lay_out(core, &request, &axes)?, &base, &request) {
            return Ok(Some(view));
        }
    }
    Ok(None)
}

/// Identifies the storage behind a tensor, for as long as some tensor of that storage lives.
///
/// The caller holds no write guard of the storage.
pub(crate) fn storage_key(tensor: &Tensor) -> usize {
    let (storage, _) = tensor.storage_and_layout();
    std::ptr::from_ref::<Storage>(&storage).addr()
}

/// The elements one after the other. A view without elements starts where it was asked to if the storage has such a
/// place; PyTorch lets it start anywhere.
fn row_major(base: &Tensor, request: &Request<'_>) -> Result<Tensor> {
    let start = request.offset.min(request.storage_len);
    base.narrow(0, start, request.elem_count)?.reshape(request.size)
}

/// Gives the view if it is the one asked for. Its storage is compared too: where candle's reshape cannot view, it
/// copies in silence.
fn verified(view: Tensor, base: &Tensor, request: &Request<'_>) -> Option<Tensor> {
    let exact = request.is_met_by(view.layout()) && storage_key(&view) == storage_key(base);
    exact.then_some(view)
}

/// Brings `core`, whose axes are `axes` in that order, to the shape asked for: puts them in their places, and between
/// them the axes that lead nowhere, of size one or stride 0.
fn lay_out(core: Tensor, request: &Request<'_>, axes: &[Axis]) -> Result<Tensor> {
    let mut order: Vec<usize> = (0..axes.len()).collect();
    order.sort_by_key(|&from| axes.get(from).map(|axis| axis.place));
    let mut view = if order.is_sorted() { core } else { core.permute(order)? };
    for place in 0..request.size.len() {
        if axes.iter().all(|axis| axis.place != place) {
            view = view.unsqueeze(place)?;
        }
    }
    if view.dims() == request.size { Ok(view) } else { view.broadcast_as(request.size) }
}

#[cfg(test)]
mod tests;
