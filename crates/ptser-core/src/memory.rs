//! Vectors and maps that grow with what a file holds: where memory is short they fail, and do not abort.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};

use crate::error::{Error, Result};
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
#[inline]
pub(crate) fn reserve<T>(vec: &mut Vec<T>, more: usize) -> Result<()> {
    if vec.capacity().saturating_sub(vec.len()) >= more {
        return Ok(());
    }
    grow(vec, more)
}

#[cold]
fn grow<T>(vec: &mut Vec<T>, more: usize) -> Result<()> {
    vec.try_reserve(more).map_err(|_| short::<T>(vec.len().saturating_add(more)))
}

/// There is no memory for so many items.
pub(crate) fn short<T>(items: usize) -> Error {
    out_of_memory(u64::try_from(items.saturating_mul(size_of::<T>())).unwrap_or(u64::MAX))
}

/// Appends what an iterator gives.
///
/// # Errors
/// `Io` where memory is short.
pub(crate) fn extend<T>(vec: &mut Vec<T>, items: impl IntoIterator<Item = T>) -> Result<()> {
    let items = items.into_iter();
    reserve(vec, items.size_hint().0)?;
    items.into_iter().try_for_each(|item| push(vec, item))
}

/// Makes room for one more entry of a map.
///
/// # Errors
/// `Io` where memory is short.
pub(crate) fn make_room<K: Eq + Hash, V, S: BuildHasher>(map: &mut HashMap<K, V, S>) -> Result<()> {
    map.try_reserve(1).map_err(|_| short::<(K, V)>(map.len().saturating_mul(2)))
}

/// Makes room for more text.
///
/// # Errors
/// `Io` where memory is short.
pub(crate) fn make_room_for(text: &mut String, more: usize) -> Result<()> {
    text.try_reserve(more).map_err(|_| short::<u8>(text.len().saturating_add(more)))
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
