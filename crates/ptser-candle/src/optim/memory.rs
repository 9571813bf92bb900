//! Several storages on the host at once, to be written to; knows nothing of what is written.

use std::cell::RefCell;

use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Tensor, bail};

use super::number::Element;

/// What is done with the storages, in the order of their tensors.
pub(super) type Then<'f> = &'f mut dyn FnMut(&mut [&mut CpuStorage]) -> Result<()>;

/// Borrows the storages of tensors on the host, each locked for writing in its turn; no two may be the same.
///
/// # Errors
/// What `then` gives, and tensors that are not on the host.
pub(super) fn with_storages(tensors: &[&Tensor], then: Then<'_>) -> Result<()> {
    borrow(tensors, Vec::with_capacity(tensors.len()), then)
}

fn borrow(tensors: &[&Tensor], mut held: Vec<&mut CpuStorage>, then: Then<'_>) -> Result<()> {
    match tensors {
        [] => then(&mut held),
        [first, rest @ ..] => first.inplace_op1(&Borrow(RefCell::new(Some((rest, held, then))))),
    }
}

/// candle lends a storage for the time of one operation: the next is borrowed inside it.
struct Borrow<'b, 's>(RefCell<Option<Held<'b, 's>>>);

/// The tensors to come, the storages that are held, and what is done in the end.
type Held<'b, 's> = (&'b [&'b Tensor], Vec<&'s mut CpuStorage>, Then<'b>);

impl InplaceOp1 for Borrow<'_, '_> {
    fn name(&self) -> &'static str {
        "optimizer step"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> Result<()> {
        let Some((rest, held, then)) = self.0.take() else { bail!("a storage was lent twice") };
        let mut held: Vec<&mut CpuStorage> = held;
        held.push(storage);
        borrow(rest, held, then)
    }
}

/// The elements of a contiguous tensor in its storage.
///
/// # Errors
/// Another element type, and tensors that are not contiguous.
pub(super) fn elements<'s, E: Element>(storage: &'s CpuStorage, layout: &Layout) -> Result<&'s [E]> {
    let range = layout.contiguous_offsets();
    match range.and_then(|(start, end)| E::slice(storage)?.get(start..end)) {
        Some(elements) => Ok(elements),
        None => bail!("optimizer step: expected a contiguous tensor of the parameter's type"),
    }
}

/// As [`elements`], to be written to.
pub(super) fn elements_mut<'s, E: Element>(
    storage: &'s mut CpuStorage,
    layout: &Layout,
) -> Result<&'s mut [E]> {
    let range = layout.contiguous_offsets();
    match range.and_then(|(start, end)| E::slice_mut(storage)?.get_mut(start..end)) {
        Some(elements) => Ok(elements),
        None => bail!("optimizer step: expected a contiguous tensor of the parameter's type"),
    }
}
