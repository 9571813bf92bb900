//! Whether a view fits its storage, and copies of many are in proportion to theirs. Knows storages and tensors, and not
//! where they come from.

use std::collections::HashSet;

use crate::dtype::DType;
use crate::error::{Error, Reason, Result};
use crate::layout;
use crate::limits;
use crate::sizes::Sizes;
use crate::storage::Storage;
use crate::tensor::{Fields, Tensor};

/// A tensor of a shape, not yet a view of anything.
pub(crate) fn shaped(dtype: DType, shape: Sizes, stride: Sizes) -> Result<Fields> {
    check_count(dtype, &shape)?;
    Ok(Fields::of(dtype, shape, stride))
}

/// Whether the bytes of all elements of a shape can be counted.
fn check_count(dtype: DType, shape: &[usize]) -> Result<()> {
    let nbytes = layout::numel(shape).and_then(|numel| numel.checked_mul(dtype.element_size()));
    nbytes.map(drop).ok_or_else(|| overflow(shape))
}

/// The error for a shape of more elements than can be counted.
pub(crate) fn overflow(shape: &[usize]) -> Error {
    Reason::Tensor(format!("the number of elements of shape {} overflows", brief(shape))).into()
}

pub(crate) fn check_inside(
    storage: &Storage,
    dtype: DType,
    shape: &[usize],
    stride: &[usize],
    offset: usize,
) -> Result<()> {
    let end = layout::extent(shape, stride, offset)
        .and_then(|end| end.div_ceil(dtype.packing()).checked_mul(dtype.element_size()))
        .and_then(|end| u64::try_from(end).ok());
    if end.is_some_and(|end| end <= storage.nbytes()) {
        return Ok(());
    }
    let end = end.map_or_else(|| "more than 2^64".to_owned(), |end| end.to_string());
    Err(Reason::Tensor(format!(
        "shape {}, stride {}, storage offset {offset} of {dtype} needs {end} bytes, its storage has {}",
        brief(shape),
        brief(stride),
        storage.nbytes()
    ))
    .into())
}

/// Checks what copies of all of these take together, where equal views are copied once: no more than sixteen times what
/// is stored, and so many bytes. Parts of a storage are stored with it.
pub(crate) fn check_copies<'t>(
    tensors: impl Iterator<Item = &'t Tensor>,
    storages: impl Iterator<Item = &'t Storage>,
    beyond: u64,
) -> Result<()> {
    let mut seen = HashSet::new();
    let wholes = storages.map(|storage| storage.whole().map_or(storage, |(whole, _)| whole));
    let wholes = wholes.filter(|whole| seen.insert(whole.id()));
    let stored = wholes.map(Storage::nbytes).fold(0, u64::saturating_add);
    let mut views = HashSet::new();
    let mut copied = 0_u64;
    for tensor in tensors {
        let Some(storage) = tensor.storage() else { continue };
        let place = (storage.id(), tensor.shape(), tensor.stride(), tensor.storage_offset());
        if views.insert((place, tensor.dtype(), tensor.is_conj(), tensor.is_neg())) {
            copied = copied.saturating_add(u64::try_from(tensor.nbytes()).unwrap_or(u64::MAX));
        }
    }
    let found = copied.saturating_sub(stored.saturating_mul(16));
    limits::check(
        "what all views take beyond sixteen times their storages, in bytes,",
        "expanded_bytes",
        found,
        beyond,
    )
}

/// Checks a view against its storage, and that its elements can be counted.
pub(crate) fn check_view(
    storage: &Storage,
    dtype: DType,
    shape: &[usize],
    stride: &[usize],
    offset: usize,
) -> Result<()> {
    check_inside(storage, dtype, shape, stride, offset)?;
    check_count(dtype, shape)
}

/// A view of a storage, checked against it.
pub(crate) fn view_of(
    storage: Storage,
    dtype: DType,
    shape: Sizes,
    stride: Sizes,
    storage_offset: usize,
) -> Result<Fields> {
    check_view(&storage, dtype, &shape, &stride, storage_offset)?;
    Ok(Fields { storage_offset, storage: Some(storage), ..Fields::of(dtype, shape, stride) })
}

/// A shape for a message, however many sizes it has.
pub(crate) fn brief(sizes: &[usize]) -> String {
    match sizes.get(..16) {
        Some(first) if sizes.len() > 16 => format!("{first:?} and {} more", sizes.len().saturating_sub(16)),
        _ => format!("{sizes:?}"),
    }
}
