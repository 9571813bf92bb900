//! What the backend asks of a CUDA driver, so that another can stand in its place. Knows no checkpoint.
//!
//! What a copy needs is moved into it, and comes back when the copy is done: a staging buffer cannot be written to
//! or freed while a device reads it.

/// A CUDA driver.
pub trait Driver: Clone + Send + Sync + 'static {
    /// What a device is used by.
    type Context: Clone + Send + 'static;
    /// Work on one device, one thing after the other.
    type Stream: Stream;

    /// How many devices there are, or why there are none.
    ///
    /// # Errors
    /// The reason, to be read by people.
    fn count(&self) -> Result<u32, String>;

    /// Takes a device into use.
    ///
    /// # Errors
    /// Where the device cannot be used.
    fn context(&self, device: u32) -> Result<Self::Context, Failure>;

    /// Opens a stream.
    ///
    /// # Errors
    /// Where the driver refuses.
    fn open(&self, context: &Self::Context) -> Result<Self::Stream, Failure>;
}

/// Work on one device, one thing after the other, beside what the host does meanwhile.
pub trait Stream: Send + Sync + 'static {
    /// Memory on the device, freed when it is dropped.
    type Memory: Send + Sync + 'static;
    /// Memory of the host that stays in its place (pinned), so that a device copies by itself; freed when it is dropped.
    type Pinned: AsRef<[u8]> + AsMut<[u8]> + Send + 'static;
    /// A copy that may not be done yet, and holds what it needs; to drop it is to wait for it.
    type Copy: Send + 'static;
    /// A place between what was begun before and what comes after.
    type Mark: Send + Sync + 'static;

    /// Takes memory of the device; what it holds is whatever was there.
    ///
    /// # Errors
    /// Where there is none left, mostly.
    fn alloc(&self, nbytes: usize) -> Result<Self::Memory, Failure>;

    /// Takes pinned memory of the host.
    ///
    /// # Errors
    /// Where there is none left.
    fn alloc_pinned(&self, nbytes: usize) -> Result<Self::Pinned, Failure>;

    /// Begins to copy the first bytes of a buffer to the device.
    ///
    /// # Errors
    /// Where the range leaves either, or the driver refuses; the buffer is freed then.
    fn upload(
        &self,
        from: Self::Pinned,
        nbytes: usize,
        to: &mut Self::Memory,
        at: usize,
    ) -> Result<Self::Copy, Failure>;

    /// Begins to copy bytes of the device to the beginning of a buffer.
    ///
    /// # Errors
    /// As [`upload`](Self::upload).
    fn download(
        &self,
        from: &Self::Memory,
        at: usize,
        nbytes: usize,
        to: Self::Pinned,
    ) -> Result<Self::Copy, Failure>;

    /// Waits for a copy, and gives its buffer back.
    ///
    /// # Errors
    /// Where the copy failed.
    fn wait(&self, copy: Self::Copy) -> Result<Self::Pinned, Failure>;

    /// Marks the place behind everything that was begun.
    ///
    /// # Errors
    /// Where the driver refuses.
    fn mark(&self) -> Result<Self::Mark, Failure>;

    /// Waits until all that was begun before a mark is done.
    ///
    /// # Errors
    /// Where something of it failed.
    fn reach(mark: &Self::Mark) -> Result<(), Failure>;

    /// Lets what is begun here from now on wait for a mark, which may be another stream's. The host goes on.
    ///
    /// # Errors
    /// Where the driver refuses.
    fn follow(&self, mark: &Self::Mark) -> Result<(), Failure>;

    /// Whether the driver knows this memory of the host as pinned.
    fn is_pinned(&self, bytes: &[u8]) -> bool;

    /// Copies any memory of the host to the beginning of the device's, and waits for it.
    ///
    /// # Errors
    /// As [`upload`](Self::upload).
    fn upload_now(&self, from: &[u8], to: &mut Self::Memory) -> Result<(), Failure>;

    /// Copies the beginning of the device's memory to any memory of the host, and waits for it.
    ///
    /// # Errors
    /// As [`download`](Self::download).
    fn download_now(&self, from: &Self::Memory, to: &mut [u8]) -> Result<(), Failure>;

    /// Bytes of the device that are free, and all of them.
    ///
    /// # Errors
    /// Where the driver does not answer.
    fn room(&self) -> Result<(usize, usize), Failure>;
}

/// Why the driver did not do what it was asked, in its words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure(pub String);
