//! A driver whose devices lie in the host's memory, for tests: copies are done as late as they may be, what was not
//! written is seen, every call is noted, and any of them can be made to fail.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::driver::{Driver, Failure, Stream};

/// What memory holds before it is written.
const UNSET: u8 = 0xA5;

/// A driver in the host's memory. Clones are the same driver.
#[derive(Debug, Clone, Default)]
pub struct Simulated(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    devices: u32,
    /// Bytes that one device has.
    room: usize,
    /// Whether all memory of the host counts as pinned.
    all_pinned: bool,
    /// How many calls are still answered.
    calls_left: Option<usize>,
    log: Vec<Call>,
    /// The device and the bytes of what was not freed.
    memory: Vec<(usize, u32, usize)>,
    pinned: Vec<usize>,
    next: usize,
}

/// A call of the driver. Buffers and memory are numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the calls of `Stream`")]
pub enum Call {
    Open { device: u32 },
    Alloc { nbytes: usize },
    AllocPinned { buffer: usize, nbytes: usize },
    Upload { buffer: usize, nbytes: usize, at: usize },
    Download { buffer: usize, nbytes: usize, at: usize },
    Wait { buffer: usize },
    Mark,
    Reach,
    Follow,
    UploadNow { nbytes: usize },
    DownloadNow { nbytes: usize },
}

impl Simulated {
    /// So many devices with so many bytes each; with no device the driver is absent.
    pub fn new(devices: u32, room: usize) -> Self {
        Self(Arc::new(Mutex::new(State { devices, room, ..State::default() })))
    }

    /// Whether all memory of the host counts as pinned.
    pub fn all_pinned(self, all_pinned: bool) -> Self {
        self.state().all_pinned = all_pinned;
        self
    }

    /// Answers so many calls from now on, and fails after them.
    pub fn fail_after(&self, calls: Option<usize>) {
        self.state().calls_left = calls;
    }

    /// The calls since it was last asked.
    pub fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.state().log)
    }

    /// Bytes of a device that are in use.
    pub fn used(&self, device: u32) -> usize {
        self.state().used(device)
    }

    /// Pinned buffers that were not freed.
    pub fn buffers(&self) -> usize {
        self.state().pinned.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.0)
    }
}

impl State {
    fn used(&self, device: u32) -> usize {
        self.memory.iter().filter(|taken| taken.1 == device).map(|taken| taken.2).sum()
    }

    fn call(&mut self, call: Call) -> Result<(), Failure> {
        if let Some(left) = &mut self.calls_left {
            *left = left.checked_sub(1).ok_or_else(|| Failure(format!("{call:?} was made to fail")))?;
        }
        self.log.push(call);
        Ok(())
    }

    fn number(&mut self) -> usize {
        self.next = self.next.wrapping_add(1);
        self.next
    }
}

impl Driver for Simulated {
    type Context = u32;
    type Stream = SimulatedStream;

    fn count(&self) -> Result<u32, String> {
        match self.state().devices {
            0 => Err("no driver is simulated".into()),
            count => Ok(count),
        }
    }

    fn context(&self, device: u32) -> Result<u32, Failure> {
        Ok(device)
    }

    fn open(&self, &device: &u32) -> Result<SimulatedStream, Failure> {
        self.state().call(Call::Open { device })?;
        Ok(SimulatedStream { driver: self.clone(), device, begun: Arc::default() })
    }
}

/// A stream whose copies wait to be waited for.
#[derive(Debug)]
pub struct SimulatedStream {
    driver: Simulated,
    device: u32,
    begun: Begun,
}

/// Copies that may not be done, and that what comes after them waits for.
type Begun = Arc<Mutex<Vec<Work>>>;

/// Memory of a simulated device. It is freed behind what its stream has begun; a copy to it that still runs then is
/// an error of the test.
#[derive(Debug)]
pub struct Memory {
    driver: Simulated,
    number: usize,
    bytes: Arc<Mutex<Vec<u8>>>,
    stream: Begun,
}

/// Simulated pinned memory.
#[derive(Debug)]
pub struct Pinned {
    driver: Simulated,
    number: usize,
    bytes: Vec<u8>,
}

/// A copy that is done when it is waited for, or a mark behind it.
#[derive(Debug)]
pub struct Copy(Work);

/// A mark, and what was begun before it.
#[derive(Debug)]
pub struct Mark {
    driver: Simulated,
    before: Vec<Work>,
}

/// Work that is taken out when it is done, and its buffer, which is taken out by whoever waits for the copy.
type Work = Arc<Mutex<(Option<Todo>, Option<Pinned>)>>;

#[derive(Debug)]
struct Todo {
    memory: Arc<Mutex<Vec<u8>>>,
    at: usize,
    nbytes: usize,
    upload: bool,
}

impl Stream for SimulatedStream {
    type Memory = Memory;
    type Pinned = Pinned;
    type Copy = Copy;
    type Mark = Mark;

    fn alloc(&self, nbytes: usize) -> Result<Memory, Failure> {
        let mut state = self.driver.state();
        state.call(Call::Alloc { nbytes })?;
        if nbytes > state.room.saturating_sub(state.used(self.device)) {
            return Err(Failure("CUDA_ERROR_OUT_OF_MEMORY (out of memory)".into()));
        }
        let number = state.number();
        state.memory.push((number, self.device, nbytes));
        drop(state);
        let bytes = Arc::new(Mutex::new(vec![UNSET; nbytes]));
        Ok(Memory { driver: self.driver.clone(), number, bytes, stream: Arc::clone(&self.begun) })
    }

    fn alloc_pinned(&self, nbytes: usize) -> Result<Pinned, Failure> {
        let mut state = self.driver.state();
        let buffer = state.number();
        state.call(Call::AllocPinned { buffer, nbytes })?;
        state.pinned.push(buffer);
        drop(state);
        Ok(Pinned { driver: self.driver.clone(), number: buffer, bytes: vec![UNSET; nbytes] })
    }

    fn upload(&self, from: Pinned, nbytes: usize, to: &mut Memory, at: usize) -> Result<Copy, Failure> {
        self.driver.state().call(Call::Upload { buffer: from.number, nbytes, at })?;
        Ok(self.begin(Todo { memory: Arc::clone(&to.bytes), at, nbytes, upload: true }, from))
    }

    fn download(&self, from: &Memory, at: usize, nbytes: usize, to: Pinned) -> Result<Copy, Failure> {
        self.driver.state().call(Call::Download { buffer: to.number, nbytes, at })?;
        Ok(self.begin(Todo { memory: Arc::clone(&from.bytes), at, nbytes, upload: false }, to))
    }

    fn wait(&self, copy: Copy) -> Result<Pinned, Failure> {
        let lost = || Failure("a copy without a buffer".into());
        let mut work = locked(&copy.0);
        self.driver.state().call(Call::Wait { buffer: work.1.as_ref().ok_or_else(lost)?.number })?;
        run(&mut work).ok_or_else(|| Failure("a copy that leaves its memory".into()))?;
        work.1.take().ok_or_else(lost)
    }

    fn mark(&self) -> Result<Mark, Failure> {
        self.driver.state().call(Call::Mark)?;
        let mut begun = locked(&self.begun);
        begun.retain(|work| locked(work).0.is_some());
        Ok(Mark { driver: self.driver.clone(), before: begun.clone() })
    }

    fn reach(mark: &Mark) -> Result<(), Failure> {
        mark.driver.state().call(Call::Reach)?;
        let done = mark.before.iter().try_for_each(|work| run(&mut locked(work)));
        done.ok_or_else(|| Failure("a copy that leaves its memory".into()))
    }

    fn follow(&self, mark: &Mark) -> Result<(), Failure> {
        self.driver.state().call(Call::Follow)?;
        locked(&self.begun).extend(mark.before.iter().cloned());
        Ok(())
    }

    fn is_pinned(&self, _bytes: &[u8]) -> bool {
        self.driver.state().all_pinned
    }

    fn upload_now(&self, from: &[u8], to: &mut Memory) -> Result<(), Failure> {
        self.driver.state().call(Call::UploadNow { nbytes: from.len() })?;
        finish(&self.begun);
        locked(&to.bytes).copy_from_slice(from);
        Ok(())
    }

    fn download_now(&self, from: &Memory, to: &mut [u8]) -> Result<(), Failure> {
        self.driver.state().call(Call::DownloadNow { nbytes: to.len() })?;
        finish(&self.begun);
        to.copy_from_slice(&locked(&from.bytes));
        Ok(())
    }

    fn room(&self) -> Result<(usize, usize), Failure> {
        let state = self.driver.state();
        Ok((state.room.saturating_sub(state.used(self.device)), state.room))
    }
}

impl SimulatedStream {
    fn begin(&self, todo: Todo, buffer: Pinned) -> Copy {
        let work = Arc::new(Mutex::new((Some(todo), Some(buffer))));
        locked(&self.begun).push(Arc::clone(&work));
        Copy(work)
    }
}

impl Memory {
    /// Has another stream free it.
    #[must_use]
    pub fn freed_on(mut self, stream: &SimulatedStream) -> Self {
        self.stream = Arc::clone(&stream.begun);
        self
    }
}

/// Does all that a stream has begun.
fn finish(begun: &Begun) {
    let begun = locked(begun).clone();
    for work in begun {
        let _ = run(&mut locked(&work));
    }
}

/// Does what is not done yet.
fn run((todo, buffer): &mut (Option<Todo>, Option<Pinned>)) -> Option<()> {
    let Some(Todo { memory, at, nbytes, upload }) = todo.take() else { return Some(()) };
    let mut memory = locked(&memory);
    let there = memory.get_mut(at..at.checked_add(nbytes)?)?;
    let here = buffer.as_mut()?.bytes.get_mut(..nbytes)?;
    if upload {
        there.copy_from_slice(here);
    } else {
        here.copy_from_slice(there);
    }
    Some(())
}

fn locked<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Copy {
    fn drop(&mut self) {
        let mut work = locked(&self.0);
        let _ = run(&mut work);
        drop(work.1.take());
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        finish(&self.stream);
        let running = Arc::strong_count(&self.bytes) > 1;
        assert!(!running || std::thread::panicking(), "memory is freed while it is copied to");
        self.driver.state().memory.retain(|taken| taken.0 != self.number);
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.driver.state().pinned.retain(|&number| number != self.number);
    }
}

impl AsRef<[u8]> for Pinned {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsMut<[u8]> for Pinned {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}
