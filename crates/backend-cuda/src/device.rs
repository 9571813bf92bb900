//! One device: its streams, which transfers take in turns, and errors that name it.

use std::sync::{Mutex, PoisonError};

use ptser_core::{Error, HostStorage, Location, Result};

use crate::driver::{Driver, Failure, Stream};
use crate::transfer::{Lane, Trouble};

/// Lanes that are kept with their buffers. More come to be while more threads transfer at once.
const IDLE: usize = 2;

/// How transfers are done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// Bytes of a staging buffer.
    pub(crate) chunk: usize,
    pub(crate) pinned_downloads: bool,
}

type LaneOf<D> = Lane<<D as Driver>::Stream>;
/// Memory of a driver's devices.
pub(crate) type MemoryOf<D> = <<D as Driver>::Stream as Stream>::Memory;
/// A place in a stream of a driver's.
pub(crate) type MarkOf<D> = <<D as Driver>::Stream as Stream>::Mark;

/// Memory that holds a storage once the mark is reached.
pub(crate) struct Filled<D: Driver> {
    pub(crate) memory: MemoryOf<D>,
    pub(crate) mark: MarkOf<D>,
    pub(crate) nbytes: usize,
}

/// A device that is there.
pub(crate) struct Device<D: Driver> {
    driver: D,
    index: u32,
    settings: Settings,
    /// Taken with the first use.
    context: Mutex<Option<D::Context>>,
    idle: Mutex<Vec<LaneOf<D>>>,
}

impl<D: Driver> Device<D> {
    pub(crate) fn new(driver: D, index: u32, settings: Settings) -> Self {
        Self { driver, index, settings, context: Mutex::new(None), idle: Mutex::new(Vec::new()) }
    }

    pub(crate) fn location(&self) -> Location {
        Location::new(format!("cuda:{}", self.index))
    }

    /// Takes memory and fills it with a storage; none for a storage without bytes.
    pub(crate) fn upload(&self, storage: &HostStorage<'_>) -> Result<Option<Filled<D>>> {
        if storage.nbytes() == 0 {
            return Ok(None);
        }
        let nbytes = usize::try_from(storage.nbytes())
            .map_err(|_| Error::backend(format!("{} bytes are more than memory has", storage.nbytes())))?;
        let mut lane = self.lane()?;
        let taken = lane.stream.alloc(nbytes);
        let mut memory = taken.map_err(|failure| self.error(&lane, "take memory for", nbytes, &failure))?;
        let done = lane.upload(storage, nbytes, &mut memory);
        let mark = self.finish(lane, "fill", nbytes, done)?;
        Ok(Some(Filled { memory, mark, nbytes }))
    }

    /// The bytes of a device's memory.
    pub(crate) fn download(&self, filled: &Filled<D>) -> Result<Vec<u8>> {
        let Filled { memory, mark, nbytes } = filled;
        let mut lane = self.lane()?;
        let done = D::Stream::reach(mark).map_err(Trouble::from).and_then(|()| {
            if self.settings.pinned_downloads {
                lane.download(memory, *nbytes)
            } else {
                lane.download_unpinned(memory, *nbytes)
            }
        });
        self.finish(lane, "fetch", *nbytes, done)
    }

    /// What happened to copies that had been begun.
    pub(crate) fn lost(&self, nbytes: usize, Failure(why): &Failure) -> Error {
        Error::backend(format!("cuda:{} cannot fill a storage of {nbytes} bytes: {why}", self.index))
    }

    /// Takes a lane out, so that no lock is held while anything is read: a thread that waits for its part of a parallel
    /// read may be given another storage to place.
    fn lane(&self) -> Result<LaneOf<D>> {
        if let Some(lane) = self.idle().pop() {
            return Ok(lane);
        }
        match self.open() {
            Ok(stream) => Ok(Lane::new(stream, self.settings.chunk)),
            Err(Failure(why)) => Err(Error::backend(format!("cuda:{} cannot be used: {why}", self.index))),
        }
    }

    fn open(&self) -> std::result::Result<D::Stream, Failure> {
        let mut context = self.context.lock().unwrap_or_else(PoisonError::into_inner);
        let context = match &mut *context {
            Some(context) => context,
            none => none.insert(self.driver.context(self.index)?),
        };
        self.driver.open(context)
    }

    /// Keeps the lane, unless it failed: its buffers and its stream go then.
    fn finish<T>(
        &self,
        lane: LaneOf<D>,
        what: &str,
        nbytes: usize,
        done: std::result::Result<T, Trouble>,
    ) -> Result<T> {
        match done {
            Ok(done) => {
                let mut idle = self.idle();
                if idle.len() < IDLE {
                    idle.push(lane);
                }
                Ok(done)
            }
            Err(Trouble::Host(error)) => Err(error),
            Err(Trouble::Device(failure)) => Err(self.error(&lane, what, nbytes, &failure)),
        }
    }

    fn error(&self, lane: &LaneOf<D>, what: &str, nbytes: usize, Failure(why): &Failure) -> Error {
        let room = match lane.stream.room() {
            Ok((free, total)) => format!("{free} of its {total} bytes are free"),
            Err(_) => "how many are free the driver does not say".into(),
        };
        Error::backend(format!(
            "cuda:{} cannot {what} a storage of {nbytes} bytes ({room}): {why}",
            self.index
        ))
    }

    /// Takes out what is kept, as another thread would that is in the midst of a transfer.
    #[cfg(test)]
    pub(crate) fn take_idle(&self) -> impl Sized + use<D> {
        std::mem::take(&mut *self.idle())
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<LaneOf<D>>> {
        // A panic elsewhere leaves nothing half done behind this lock.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
