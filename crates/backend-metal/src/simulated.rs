//! A device in the host's memory, for tests: its buffers are counted, and it can refuse them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ptser_core::{DType, HostStorage, Result, Storage};

use crate::driver::Driver;
use crate::pages::Pages;

/// A device in the host's memory. Clones are the same device.
#[derive(Debug, Clone, Default)]
pub struct Simulated {
    absent: bool,
    wraps: bool,
    /// Bytes of the largest buffer.
    largest: usize,
    /// What buffers share with it while they are there.
    filled: Arc<AtomicUsize>,
    wrapped: Arc<AtomicUsize>,
}

impl Simulated {
    /// A device that takes pages of others.
    pub fn new() -> Self {
        Self { wraps: true, largest: usize::MAX, ..Self::default() }
    }

    /// No device.
    pub fn absent() -> Self {
        Self { absent: true, ..Self::default() }
    }

    /// Refuses pages of others.
    #[must_use]
    pub fn without_wrapping(self) -> Self {
        Self { wraps: false, ..self }
    }

    /// Refuses larger buffers.
    #[must_use]
    pub fn largest(self, largest: usize) -> Self {
        Self { largest, ..self }
    }

    /// How many buffers there are: filled ones, and pages of others.
    pub fn buffers(&self) -> (usize, usize) {
        (self.filled.load(Ordering::Relaxed), self.wrapped.load(Ordering::Relaxed))
    }
}

/// A buffer in the host's memory.
#[derive(Debug)]
pub struct SimulatedBuffer {
    memory: Memory,
    count: Arc<AtomicUsize>,
}

#[derive(Debug)]
enum Memory {
    Filled(Vec<u8>),
    Wrapped(Storage, DType),
}

impl SimulatedBuffer {
    fn new(memory: Memory, count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self { memory, count: Arc::clone(count) }
    }
}

impl Drop for SimulatedBuffer {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AsRef<[u8]> for SimulatedBuffer {
    fn as_ref(&self) -> &[u8] {
        match &self.memory {
            Memory::Filled(bytes) => bytes,
            Memory::Wrapped(owner, dtype) => {
                HostStorage::new(owner, *dtype).mapped().ok().flatten().unwrap_or_default()
            }
        }
    }
}

impl Driver for Simulated {
    type Buffer = SimulatedBuffer;

    fn find(&self) -> std::result::Result<(), String> {
        if self.absent { Err("nothing is simulated".into()) } else { Ok(()) }
    }

    fn fill(
        &self,
        nbytes: usize,
        fill: &mut dyn FnMut(&mut [u8]) -> Result<()>,
    ) -> Result<Option<SimulatedBuffer>> {
        if nbytes > self.largest {
            return Ok(None);
        }
        let mut bytes = vec![0; nbytes];
        fill(&mut bytes)?;
        Ok(Some(SimulatedBuffer::new(Memory::Filled(bytes), &self.filled)))
    }

    fn wrap(&self, pages: &Pages<'_>) -> Option<SimulatedBuffer> {
        let wrapped = Memory::Wrapped(pages.owner(), pages.host().dtype());
        (self.wraps && pages.whole() <= self.largest).then(|| SimulatedBuffer::new(wrapped, &self.wrapped))
    }

    fn room(&self) -> String {
        format!("a buffer has {} at most", self.largest)
    }
}
