//! Reads storages straight into the vectors that candle will own: one copy, no zeroing, in parallel.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use float8::F8E4M3;
use half::{bf16, f16};
use ptser_core::{ByteOrder, DType, Error, ReadAhead, Result, Storage};
use rayon::prelude::*;

use crate::error::wrap;

/// What one thread reads at a time: a whole number of huge pages.
const CHUNK: usize = 4 << 20;

/// Numbers for which every bit pattern is a value, without padding.
///
/// # Safety
/// Any initialised bytes of the type's size are a valid value.
#[expect(unsafe_code, reason = "promises that bytes from a file are valid values")]
pub(crate) unsafe trait Plain: Copy + Send + 'static {}

macro_rules! plain {
    ($($number:ty),*) => {
        // SAFETY: primitive numbers, and `repr(transparent)` wrappers of unsigned integers.
        $(#[expect(unsafe_code, reason = "as the trait's contract asks")] unsafe impl Plain for $number {})*
    };
}
plain!(u8, i8, u16, i16, u32, i32, u64, i64, f32, f64, f16, bf16, F8E4M3);

/// Numbers as the bytes that they are in memory.
#[expect(unsafe_code, reason = "views numbers as bytes")]
pub(crate) fn bytes_of<T: Plain>(numbers: &[T]) -> &[u8] {
    // SAFETY: the same memory for as long as it is borrowed; `Plain` numbers have no padding, so every byte is
    // initialised, and bytes have no alignment to keep.
    unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast(), size_of_val(numbers)) }
}

/// Reads `count` numbers of a storage from byte `start` on, in this machine's byte order. `dtype` is what the
/// bytes are, whatever number they are held as. Small storages may be read with their neighbours.
pub(crate) fn read<T: Plain>(
    storage: &Storage,
    dtype: DType,
    start: usize,
    count: usize,
    pages: &HugePages,
    ahead: Option<&mut ReadAhead>,
) -> Result<Vec<T>> {
    let bytes = count.checked_mul(size_of::<T>()).ok_or_else(|| out_of_memory(usize::MAX))?;
    let mut vec: Vec<T> = Vec::new();
    vec.try_reserve_exact(count).map_err(|_| out_of_memory(bytes))?;
    let spare = as_bytes(&mut vec, count);
    let start = u64::try_from(start).map_err(|_| short())?;
    if let Some(ahead) = ahead.filter(|_| storage.nbytes() <= ReadAhead::SMALL) {
        whole(ahead.read_as(storage, dtype, ByteOrder::NATIVE, start, spare)?, bytes)?;
    } else if bytes <= CHUNK || storage.checkpoint_offset()?.is_none() {
        // Small, or deflated, which can only be read from its beginning.
        whole(storage.read_as(dtype, ByteOrder::NATIVE, start, spare)?, bytes)?;
    } else {
        let mut pieces = Vec::new();
        let mut offset = start;
        let (head, chunks) = spare.split_at_mut(spare.as_ptr().align_offset(CHUNK).min(bytes));
        for piece in std::iter::once(head).chain(chunks.chunks_mut(CHUNK)) {
            let len = u64::try_from(piece.len()).unwrap_or(u64::MAX);
            pieces.push((offset, piece));
            offset = offset.saturating_add(len);
        }
        pieces.into_par_iter().try_for_each(|(offset, piece)| {
            let len = piece.len();
            let touch = |piece: &mut [MaybeUninit<u8>]| {
                storage.read_as(dtype, ByteOrder::NATIVE, offset, piece).and_then(|read| whole(read, len))
            };
            pages.touch(piece, touch)
        })?;
    }
    set_len(&mut vec, count);
    Ok(vec)
}

/// Reads `count` numbers as [`read`] does, and converts each: piece by piece, so that no second copy of all of
/// them is ever held, but for deflated storages.
pub(crate) fn read_each<T: Plain, U: Copy + Send>(
    storage: &Storage,
    dtype: DType,
    start: usize,
    count: usize,
    convert: fn(T) -> U,
) -> Result<Vec<U>> {
    let mut vec: Vec<U> = Vec::new();
    vec.try_reserve_exact(count).map_err(|_| out_of_memory(count.saturating_mul(size_of::<U>())))?;
    let at_once = match storage.checkpoint_offset()? {
        Some(_) => CHUNK.checked_div(size_of::<T>()).unwrap_or(1),
        None => count.max(1),
    };
    let slots = vec.spare_capacity_mut().get_mut(..count).unwrap_or_default();
    slots.par_chunks_mut(at_once).enumerate().try_for_each(|(place, slots)| {
        let start = start.saturating_add(place.saturating_mul(at_once).saturating_mul(size_of::<T>()));
        let numbers = read::<T>(storage, dtype, start, slots.len(), &HugePages::default(), None)?;
        if numbers.len() != slots.len() {
            return Err(short());
        }
        for (slot, number) in slots.iter_mut().zip(numbers) {
            slot.write(convert(number));
        }
        Ok(())
    })?;
    set_len(&mut vec, count);
    Ok(vec)
}

/// Says that all bytes that were asked for have been read.
fn whole(read: &mut [u8], wanted: usize) -> Result<()> {
    if read.len() == wanted { Ok(()) } else { Err(short()) }
}

fn short() -> Error {
    std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()
}

#[expect(unsafe_code, reason = "views spare capacity as bytes")]
fn as_bytes<T: Plain>(vec: &mut Vec<T>, count: usize) -> &mut [MaybeUninit<u8>] {
    let spare = vec.spare_capacity_mut().get_mut(..count).unwrap_or_default();
    let len = size_of_val(spare);
    // SAFETY: the same memory, viewed as bytes that may be uninitialised; bytes have no alignment to keep, and
    // `Plain` makes whatever is written a valid value.
    unsafe { std::slice::from_raw_parts_mut(spare.as_mut_ptr().cast(), len) }
}

#[expect(unsafe_code, reason = "the numbers were written into spare capacity")]
fn set_len<T: Copy>(vec: &mut Vec<T>, count: usize) {
    // SAFETY: both callers hold a vector with spare capacity for `count` numbers, and have written each:
    // `read` by `Storage::read_as`, which returns the bytes it was given as initialised, all of them (checked
    // by `whole`); `read_each` slot by slot. Both return early where anything fails.
    unsafe { vec.set_len(count) }
}

/// Huge pages for large vectors: what a copy of gigabytes waits for is page faults, and they are 512 times
/// fewer. Some virtual machines have handed their free huge pages back to the host, and to get one again takes
/// milliseconds; so each piece is timed, and slow ones end the advice.
#[derive(Debug, Default)]
pub(crate) struct HugePages {
    slow_pieces: AtomicUsize,
}

impl HugePages {
    /// Some three times what a piece takes from the page cache into fresh huge pages.
    const SLOW: Duration = Duration::from_millis(4);
    /// One slow piece may be the scheduler's doing.
    const ENOUGH: usize = 2;

    /// Touches a piece of memory for the first time.
    fn touch<R>(&self, piece: &mut [MaybeUninit<u8>], touch: impl FnOnce(&mut [MaybeUninit<u8>]) -> R) -> R {
        if piece.len() < CHUNK || self.slow_pieces.load(Ordering::Relaxed) >= Self::ENOUGH {
            return touch(piece);
        }
        advise_huge_pages(piece);
        let start = Instant::now();
        let done = touch(piece);
        if start.elapsed() > Self::SLOW {
            self.slow_pieces.fetch_add(1, Ordering::Relaxed);
        }
        done
    }
}

/// Advice: failure changes nothing.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "advice about memory takes a pointer")]
fn advise_huge_pages(memory: &mut [MaybeUninit<u8>]) {
    // SAFETY: the range is memory that we hold exclusively, and this advice changes no content. It begins at
    // a page, since pieces begin at multiples of `CHUNK`; were it not so, the call would fail.
    let _ = unsafe {
        rustix::mm::madvise(memory.as_mut_ptr().cast(), memory.len(), rustix::mm::Advice::LinuxHugepage)
    };
}

#[cfg(not(target_os = "linux"))]
fn advise_huge_pages(_: &mut [MaybeUninit<u8>]) {}

/// Asks for the memory of elements and gives it back: candle, which takes it next, ends the process where there is none.
pub(crate) fn room(count: usize, dtype: candle_core::DType) -> candle_core::Result<()> {
    let bytes = count.saturating_mul(dtype.size_in_bytes());
    let mut room: Vec<u8> = Vec::new();
    room.try_reserve_exact(bytes).map_err(|_| wrap(out_of_memory(bytes)))?;
    // What nobody looks at is not asked for.
    std::hint::black_box(&mut room);
    Ok(())
}

fn out_of_memory(amount: usize) -> Error {
    std::io::Error::new(std::io::ErrorKind::OutOfMemory, format!("{amount} bytes do not fit in memory"))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_no_room_for_what_no_machine_has() {
        room(1 << 20, candle_core::DType::F64).unwrap();
        for count in [1 << 58, usize::MAX] {
            let error = room(count, candle_core::DType::F64).unwrap_err().to_string();
            assert!(error.contains("do not fit in memory"), "{error}");
        }
    }
}
