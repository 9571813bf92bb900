//! Saving on a thread of its own: the caller waits for a copy of what is saved, and for the save before, not for disks.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;

use super::snapshot::Copies;
use super::{CheckpointFolder, Saved};
use crate::error::{Error, Result};
use crate::object::Object;
use crate::save::Saveable;

/// A [`CheckpointFolder`] that is saved to on a thread of its own.
///
/// There is one copy of what is saved, never two: who saves while the save before is not done waits for it. When this
/// is dropped the last save is finished; what became of it only [`finish`](Self::finish) tells.
///
/// ```no_run
/// use ptser_core::{CheckpointFolder, Object};
///
/// let mut folder = CheckpointFolder::create("runs/digits")?.keep_last(3).in_background()?;
/// for step in 1..=100_u64 {
///     folder.save(step, None, &Object::dict([("step", step)]))?; // returns when the copy is made
/// }
/// folder.finish()?;
/// # Ok::<(), ptser_core::Error>(())
/// ```
pub struct BackgroundFolder {
    folder: CheckpointFolder,
    copies: Copies,
    /// Gone once no more is to be saved.
    jobs: Option<SyncSender<Job>>,
    outcomes: Receiver<Result<Saved>>,
    /// Whether a job has been sent whose outcome has not come.
    busy: bool,
    thread: Option<JoinHandle<()>>,
}

struct Job {
    step: u64,
    metric: Option<f64>,
    object: Object,
}

impl BackgroundFolder {
    pub(super) fn start(folder: CheckpointFolder) -> Result<Self> {
        let (jobs, to_do) = sync_channel::<Job>(1);
        let (done, outcomes) = sync_channel(1);
        let writer = folder.clone();
        let run = move || {
            for Job { step, metric, object } in to_do {
                let outcome = writer.save(step, metric, &object);
                // Its memory is free before its outcome is known, and the next copy made in it.
                drop(object);
                if done.send(outcome).is_err() {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new().name("ptser save".into()).spawn(run)?;
        let copies = Copies::default();
        Ok(Self { folder, copies, jobs: Some(jobs), outcomes, busy: false, thread: Some(thread) })
    }

    /// The folder, to look at what is in it; a save may be on its way to it.
    pub fn folder(&self) -> &CheckpointFolder {
        &self.folder
    }

    /// Waits for the save before, and removes the checkpoints of later steps, as [`CheckpointFolder::rewind`] does.
    ///
    /// # Errors
    /// What became of the save before; `Io`.
    pub fn rewind(&mut self, step: u64) -> Result<()> {
        self.wait()?;
        self.folder.rewind(step)
    }

    /// Waits for the save before, copies every storage of the object that is in memory or on a device once, and has the
    /// copy saved as [`CheckpointFolder::save`] does. The caller may change the tensors as soon as this returns;
    /// what lies in a file is read when it is saved, and must not be [written](crate::Storage::write_at) until then.
    ///
    /// # Errors
    /// What became of the save before, of which the error names the file: nothing is saved now, and the next call saves
    /// again. Those of reading what is copied.
    pub fn save(&mut self, step: u64, metric: Option<f64>, object: &(impl Saveable + ?Sized)) -> Result<()> {
        self.wait()?;
        let object = self.copies.of(&object.content()?.into_object()?)?;
        let jobs = self.jobs.as_ref().ok_or_else(gone)?;
        jobs.send(Job { step, metric, object }).map_err(|_| gone())?;
        self.busy = true;
        Ok(())
    }

    /// Whether the save before is done; then [`save`](Self::save) would not wait for it.
    ///
    /// # Errors
    /// What became of it.
    pub fn is_idle(&mut self) -> Result<bool> {
        if !self.busy {
            return Ok(true);
        }
        match self.outcomes.try_recv() {
            Ok(outcome) => self.settle(outcome).map(|_| true),
            Err(TryRecvError::Empty) => Ok(false),
            Err(TryRecvError::Disconnected) => self.settle(Err(gone())).map(|_| true),
        }
    }

    /// Waits until the save before is done; gives its file, if there was one that nobody has asked for.
    ///
    /// # Errors
    /// What became of it.
    pub fn wait(&mut self) -> Result<Option<Saved>> {
        if !self.busy {
            return Ok(None);
        }
        let outcome = self.outcomes.recv().unwrap_or_else(|_| Err(gone()));
        self.settle(outcome).map(Some)
    }

    /// Waits until all is saved, and gives the folder.
    ///
    /// # Errors
    /// What became of the last save.
    pub fn finish(mut self) -> Result<CheckpointFolder> {
        self.wait()?;
        Ok(self.folder.clone())
    }

    fn settle(&mut self, outcome: Result<Saved>) -> Result<Saved> {
        self.busy = false;
        outcome
    }
}

/// The thread ends by itself only where it panics.
fn gone() -> Error {
    io::Error::other("the thread that saves checkpoints has ended").into()
}

impl Drop for BackgroundFolder {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for BackgroundFolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BackgroundFolder").field("folder", &self.folder).field("busy", &self.busy).finish()
    }
}
