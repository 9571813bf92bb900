//! How many threads move bytes.

use std::num::NonZero;

/// More of them wait for the disk or the memory, and each has an arena of address space.
const MOST: usize = 4;

/// One for each piece of work, as far as there are processors and use for them.
pub(crate) fn few(pieces: usize) -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get).min(MOST).min(pieces)
}
