//! Vectors that grow with what a file holds: where memory is short they fail, and do not abort.

use crate::error::Result;
use crate::storage::out_of_memory;

/// Appends one item.
///
/// # Errors
/// `Io` where memory is short.
#[inline]
pub(crate) fn push<T>(vec: &mut Vec<T>, item: T) -> Result<()> {
    if vec.len() == vec.capacity() {
        reserve(vec, 1)?;
    }
    vec.push(item);
    Ok(())
}

/// Makes room for more items.
///
/// # Errors
/// `Io` where memory is short.
pub(crate) fn reserve<T>(vec: &mut Vec<T>, more: usize) -> Result<()> {
    vec.try_reserve(more).map_err(|_| {
        let nbytes = vec.len().saturating_add(more).saturating_mul(size_of::<T>());
        out_of_memory(u64::try_from(nbytes).unwrap_or(u64::MAX))
    })
}

/// A vector of one value, again and again.
///
/// # Errors
/// `Io` where memory is short.
pub(crate) fn filled<T: Clone>(value: T, len: usize) -> Result<Vec<T>> {
    let mut vec = Vec::new();
    reserve(&mut vec, len)?;
    vec.resize(len, value);
    Ok(vec)
}
