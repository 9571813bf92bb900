//! Reads storages straight into the vectors that candle will own: one copy, no zeroing, in parallel.

use std::mem::MaybeUninit;

use float8::F8E4M3;
use half::{bf16, f16};
use ptser_core::{ByteOrder, DType, Error, Result, Storage};
use rayon::prelude::*;

/// What one thread reads at a time.
const CHUNK: usize = 4 << 20;
/// Vectors from here on are worth huge pages: what a copy of gigabytes waits for is page faults.
const HUGE: usize = 4 << 20;

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

/// Reads `count` numbers of a storage from byte `start` on, in this machine's byte order. `dtype` is what the
/// bytes are, whatever number they are held as.
pub(crate) fn read<T: Plain>(storage: &Storage, dtype: DType, start: usize, count: usize) -> Result<Vec<T>> {
    let bytes = count.checked_mul(size_of::<T>()).ok_or_else(|| out_of_memory(count))?;
    let mut vec: Vec<T> = Vec::new();
    vec.try_reserve_exact(count).map_err(|_| out_of_memory(bytes))?;
    let spare = as_bytes(&mut vec, count);
    advise_huge_pages(spare);
    let start = u64::try_from(start).map_err(|_| out_of_memory(start))?;
    if bytes <= CHUNK || storage.checkpoint_offset()?.is_none() {
        // Small, or deflated, which can only be read from its beginning.
        storage.read_as(dtype, ByteOrder::NATIVE, start, spare)?;
    } else {
        spare.par_chunks_mut(CHUNK).enumerate().try_for_each(|(place, chunk)| {
            let offset = u64::try_from(place.saturating_mul(CHUNK)).unwrap_or(u64::MAX);
            storage.read_as(dtype, ByteOrder::NATIVE, start.saturating_add(offset), chunk).map(drop)
        })?;
    }
    set_len(&mut vec, count);
    Ok(vec)
}

#[expect(unsafe_code, reason = "views spare capacity as bytes")]
fn as_bytes<T: Plain>(vec: &mut Vec<T>, count: usize) -> &mut [MaybeUninit<u8>] {
    let spare = vec.spare_capacity_mut().get_mut(..count).unwrap_or_default();
    let len = size_of_val(spare);
    // SAFETY: the same memory, viewed as bytes that may be uninitialised; bytes have no alignment to keep, and
    // `Plain` makes whatever is written a valid value.
    unsafe { std::slice::from_raw_parts_mut(spare.as_mut_ptr().cast(), len) }
}

#[expect(unsafe_code, reason = "the numbers were read into spare capacity")]
fn set_len<T: Plain>(vec: &mut Vec<T>, count: usize) {
    // SAFETY: `read` filled every byte of the first `count` numbers, or returned early.
    unsafe { vec.set_len(count) }
}

/// Asks for huge pages before the first touch. Advice: failure changes nothing.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "advice about memory takes a pointer")]
fn advise_huge_pages(memory: &mut [MaybeUninit<u8>]) {
    const PAGE: usize = 4096;
    if memory.len() < HUGE {
        return;
    }
    let skip = memory.as_ptr().align_offset(PAGE);
    let Some(whole) = memory.get_mut(skip..) else { return };
    // SAFETY: the range lies inside memory that we hold exclusively, and this advice changes no content.
    let _ = unsafe {
        rustix::mm::madvise(whole.as_mut_ptr().cast(), whole.len(), rustix::mm::Advice::LinuxHugepage)
    };
}

#[cfg(not(target_os = "linux"))]
fn advise_huge_pages(_: &mut [MaybeUninit<u8>]) {}

fn out_of_memory(amount: usize) -> Error {
    std::io::Error::new(std::io::ErrorKind::OutOfMemory, format!("{amount} bytes do not fit in memory"))
        .into()
}
