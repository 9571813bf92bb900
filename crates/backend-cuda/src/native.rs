//! The machine's own driver, by `cudarc`. The only file here that touches memory of devices.

use std::sync::Arc;

use cudarc::driver::{
    CudaContext, CudaEvent, CudaSlice, CudaStream, DriverError, PinnedHostSlice, result, sys,
};

use crate::driver::{Driver, Failure, Stream};
use crate::presence;

/// The driver of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Native;

impl Driver for Native {
    /// The device's primary context, which candle and the CUDA runtime use too.
    type Context = Arc<CudaContext>;
    type Stream = NativeStream;

    fn count(&self) -> Result<u32, String> {
        presence::check()?;
        let refused = |error: DriverError| format!("the CUDA driver answers {}", words(error));
        result::init().map_err(refused)?;
        match u32::try_from(result::device::get_count().map_err(refused)?) {
            Ok(count @ 1..) => Ok(count),
            _ => Err("the CUDA driver finds no device".into()),
        }
    }

    fn context(&self, device: u32) -> Result<Self::Context, Failure> {
        Ok(CudaContext::new(usize::try_from(device).map_err(|_| leaves())?)?)
    }

    fn open(&self, context: &Self::Context) -> Result<NativeStream, Failure> {
        Ok(NativeStream(context.new_stream()?))
    }
}

/// A stream of the driver's.
#[derive(Debug)]
pub struct NativeStream(pub(crate) Arc<CudaStream>);

/// Pinned memory of the host; all of it is initialised.
#[derive(Debug)]
pub struct Pinned {
    memory: PinnedHostSlice<u8>,
    // Taken once: `cudarc` waits for an event of its own before it gives each out, and fails where that fails.
    start: *mut u8,
}

/// A copy between a buffer and a device, and the event that comes after it.
#[derive(Debug)]
pub struct Copy {
    buffer: Option<Pinned>,
    done: CudaEvent,
}

impl Stream for NativeStream {
    type Memory = CudaSlice<u8>;
    type Pinned = Pinned;
    type Copy = Copy;
    type Mark = CudaEvent;

    #[expect(unsafe_code, reason = "memory of a device holds whatever was there")]
    fn alloc(&self, nbytes: usize) -> Result<Self::Memory, Failure> {
        // SAFETY: the memory is unset, and bytes have no invalid values. The backend writes all of it before it hands
        // it out.
        Ok(unsafe { self.0.alloc(nbytes) }?)
    }

    #[expect(unsafe_code, reason = "pinned memory is unset when the driver gives it")]
    fn alloc_pinned(&self, nbytes: usize) -> Result<Pinned, Failure> {
        // Not write-combined: what is swapped in place, and what is downloaded, is read by the host.
        // SAFETY: the memory is unset; it is set below, before anything can read it.
        let mut memory = unsafe { self.0.context().alloc_pinned_with_flags::<u8>(nbytes, 0) }?;
        let start = memory.as_mut_ptr()?;
        // SAFETY: `memory` owns the `nbytes` bytes that begin there, and nothing else knows of them yet.
        unsafe { start.write_bytes(0, nbytes) };
        Ok(Pinned { memory, start })
    }

    fn upload(&self, from: Pinned, nbytes: usize, to: &mut Self::Memory, at: usize) -> Result<Copy, Failure> {
        let bytes = from.as_ref().get(..nbytes).ok_or_else(leaves)?;
        let end = at.checked_add(nbytes).ok_or_else(leaves)?;
        let mut range = to.try_slice_mut(at..end).ok_or_else(leaves)?;
        // `from` is moved into the copy, which nobody can look into before its event.
        let begun = self.0.memcpy_htod(bytes, &mut range);
        self.begun(begun, from)
    }

    fn download(
        &self,
        from: &Self::Memory,
        at: usize,
        nbytes: usize,
        mut to: Pinned,
    ) -> Result<Copy, Failure> {
        let end = at.checked_add(nbytes).ok_or_else(leaves)?;
        let range = from.try_slice(at..end).ok_or_else(leaves)?;
        let bytes = to.as_mut().get_mut(..nbytes).ok_or_else(leaves)?;
        let begun = self.0.memcpy_dtoh(&range, bytes);
        self.begun(begun, to)
    }

    fn wait(&self, mut copy: Copy) -> Result<Pinned, Failure> {
        copy.done.synchronize()?;
        copy.buffer.take().ok_or_else(leaves)
    }

    fn mark(&self) -> Result<CudaEvent, Failure> {
        Ok(self.0.record_event(None)?)
    }

    fn reach(mark: &CudaEvent) -> Result<(), Failure> {
        Ok(mark.synchronize()?)
    }

    fn follow(&self, mark: &CudaEvent) -> Result<(), Failure> {
        Ok(self.0.wait(mark)?)
    }

    fn is_pinned(&self, bytes: &[u8]) -> bool {
        // Both ends: a copy from memory that is pinned in part fails.
        let ends = bytes.first().zip(bytes.last());
        self.0.context().bind_to_thread().is_ok()
            && ends.is_some_and(|(first, last)| [first, last].into_iter().all(is_pinned_there))
    }

    fn upload_now(&self, from: &[u8], to: &mut Self::Memory) -> Result<(), Failure> {
        let mut range = to.try_slice_mut(..from.len()).ok_or_else(leaves)?;
        let begun = self.0.memcpy_htod(from, &mut range);
        self.0.synchronize()?;
        Ok(begun?)
    }

    fn download_now(&self, from: &Self::Memory, to: &mut [u8]) -> Result<(), Failure> {
        let range = from.try_slice(..to.len()).ok_or_else(leaves)?;
        let begun = self.0.memcpy_dtoh(&range, to);
        self.0.synchronize()?;
        Ok(begun?)
    }

    fn room(&self) -> Result<(usize, usize), Failure> {
        Ok(self.0.context().mem_get_info()?)
    }
}

impl NativeStream {
    /// Marks the place behind a copy that was begun.
    fn begun(&self, begun: Result<(), DriverError>, buffer: Pinned) -> Result<Copy, Failure> {
        match begun.and_then(|()| self.0.record_event(None)) {
            Ok(done) => Ok(Copy { buffer: Some(buffer), done }),
            Err(error) => {
                // The copy may run nevertheless, and must not outlive its buffer. A second error says no more.
                let _ = self.0.synchronize();
                Err(error.into())
            }
        }
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        if self.buffer.is_some() {
            // Where this fails the context is lost, and no copy runs in it.
            let _ = self.done.synchronize();
        }
    }
}

impl AsRef<[u8]> for Pinned {
    #[expect(unsafe_code, reason = "a slice of the driver's memory")]
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `memory` owns so many bytes from `start` on, which `alloc_pinned` has set. Copies own the buffer
        // that they write to, so nothing writes while this is borrowed.
        unsafe { std::slice::from_raw_parts(self.start, self.memory.len()) }
    }
}

impl AsMut<[u8]> for Pinned {
    #[expect(unsafe_code, reason = "a slice of the driver's memory")]
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_ref`; copies own the buffer that they read from, and this borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.memory.len()) }
    }
}

#[expect(unsafe_code, reason = "a pointer that is owned")]
// SAFETY: `start` points into `memory`, which may be sent, and nothing else points there.
unsafe impl Send for Pinned {}

impl From<DriverError> for Failure {
    fn from(error: DriverError) -> Self {
        Self(words(error))
    }
}

#[expect(unsafe_code, reason = "the driver is asked about an address")]
fn is_pinned_there(byte: &u8) -> bool {
    let Ok(address) = u64::try_from(std::ptr::from_ref(byte).addr()) else { return false };
    let mut kind = 0_u32;
    let attribute = sys::CUpointer_attribute_enum::CU_POINTER_ATTRIBUTE_MEMORY_TYPE;
    // SAFETY: the answer to this question is an `unsigned int`, and `kind` is one. The driver looks the address up and
    // reads nothing there; it refuses those that it does not know.
    let known = unsafe { sys::cuPointerGetAttribute((&raw mut kind).cast(), attribute, address) };
    // CU_MEMORYTYPE_HOST
    known.result().is_ok() && kind == 1
}

/// `CUDA_ERROR_NO_DEVICE (no CUDA-capable device is detected)`.
fn words(error: DriverError) -> String {
    match error.error_string() {
        Ok(text) => format!("{:?} ({})", error.0, text.to_string_lossy()),
        Err(_) => format!("{:?}", error.0),
    }
}

fn leaves() -> Failure {
    Failure("a copy that leaves its memory".into())
}
