//! A folder of checkpoints of one run: each is whole or not there, the last and the best are kept, and what is damaged
//! is passed over.

mod background;
mod name;
mod snapshot;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

pub use self::background::BackgroundFolder;
pub use self::name::Saved;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, ErrorKind, Result};
use crate::load::LoadOptions;
use crate::save::{SaveOptions, Saveable, sync_folder};
use crate::verify::{Checksum, Verification};

/// A folder of the checkpoints of one run, a file for each step that was saved.
///
/// ```no_run
/// use ptser_core::{CheckpointFolder, Goal, Object};
///
/// let folder = CheckpointFolder::create("runs/digits")?.keep_last(3).keep_best(1, Goal::Lowest);
/// for step in 1..=100_u32 {
///     let loss = 1.0 / f64::from(step);
///     folder.save(step.into(), Some(loss), &Object::dict([("step", step)]))?;
/// }
/// let found = folder.latest()?.ok_or("nothing was saved")?;
/// assert_eq!(found.saved.step, 100);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct CheckpointFolder {
    path: PathBuf,
    last: Option<usize>,
    best: Option<(usize, Goal)>,
    save: SaveOptions,
    load: LoadOptions,
}

/// Which metric is the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// The lowest, as of a loss.
    Lowest,
    /// The highest, as of an accuracy.
    Highest,
}

/// A checkpoint that was found in a folder, whole.
#[derive(Debug)]
#[non_exhaustive]
pub struct Found {
    /// The checkpoint, open.
    pub checkpoint: Checkpoint,
    /// Its file.
    pub saved: Saved,
    /// Files that would have come before it and are damaged, each with what is wrong.
    pub skipped: Vec<(Saved, Error)>,
}

impl CheckpointFolder {
    /// A folder, which is made where it is not there. All that is saved in it is kept, unless
    /// [`keep_last`](Self::keep_last) or [`keep_best`](Self::keep_best) say less.
    ///
    /// # Errors
    /// `Io` where it cannot be made.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        fs::create_dir_all(&path).map_err(|error| Error::from(error).in_file(&path))?;
        let (save, load) = (SaveOptions::new(), LoadOptions::new());
        Ok(Self { path, last: None, best: None, save, load })
    }

    /// Keeps the checkpoints of the last so many steps, at least one, and the one that was saved just now.
    #[must_use]
    pub fn keep_last(mut self, count: usize) -> Self {
        self.last = Some(count.max(1));
        self
    }

    /// Keeps so many checkpoints of the best metrics, besides the last; those saved without a metric, and with one that
    /// is no number, are never the best.
    #[must_use]
    pub fn keep_best(mut self, count: usize, goal: Goal) -> Self {
        self.best = Some((count, goal));
        self.last = Some(self.last.unwrap_or(1));
        self
    }

    /// How files are saved.
    #[must_use]
    pub fn save_options(mut self, options: SaveOptions) -> Self {
        self.save = options;
        self
    }

    /// How files are opened.
    #[must_use]
    pub fn load_options(mut self, options: LoadOptions) -> Self {
        self.load = options;
        self
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Saves the checkpoint of a step, as [`SaveOptions::save`] does, and then removes those that need not be kept. What
    /// was saved of the step before is replaced.
    ///
    /// # Errors
    /// Those of saving; the folder is then as it was. `Io` where an old file cannot be removed.
    pub fn save(&self, step: u64, metric: Option<f64>, object: &(impl Saveable + ?Sized)) -> Result<Saved> {
        let saved = Saved::new(&self.path, step, metric);
        self.save.save(&saved.path, object)?;
        let old = self.to_remove(&saved)?;
        if !old.is_empty() && !self.save.is_durable() {
            // Nothing is removed before what takes its place has reached the disk.
            settle(&saved.path, &self.path)?;
        }
        old.iter().try_for_each(|other| remove(&other.path))?;
        Ok(saved)
    }

    /// Removes the checkpoints of later steps than this one, for a run that goes on from there.
    ///
    /// # Errors
    /// `Io`.
    pub fn rewind(&self, step: u64) -> Result<()> {
        self.list()?.into_iter().filter(|saved| saved.step > step).try_for_each(|saved| remove(&saved.path))
    }

    /// Saves on a thread of its own from now on, while training goes on.
    ///
    /// # Errors
    /// `Io` where the thread cannot be started.
    pub fn in_background(self) -> Result<BackgroundFolder> {
        BackgroundFolder::start(self)
    }

    /// What the folder holds, by step, and the files of one step by their age: after a kill there may be two. Other
    /// people's files are left out.
    ///
    /// # Errors
    /// `Io`.
    pub fn list(&self) -> Result<Vec<Saved>> {
        let list = || -> io::Result<Vec<(Saved, Option<SystemTime>)>> {
            let mut found = Vec::new();
            for entry in fs::read_dir(&self.path)? {
                let entry = entry?;
                let saved = entry.file_name().to_str().and_then(|name| Saved::read(&self.path, name));
                // One that is gone by now has no age.
                let age = || entry.metadata().and_then(|metadata| metadata.modified()).ok();
                found.extend(saved.map(|saved| (saved, age())));
            }
            Ok(found)
        };
        let mut found = list().map_err(|error| Error::from(error).in_file(&self.path))?;
        found.sort_by(|(a, a_age), (b, b_age)| (a.step, a_age, &a.path).cmp(&(b.step, b_age, &b.path)));
        Ok(found.into_iter().map(|(saved, _)| saved).collect())
    }

    /// Opens the checkpoint of the highest step, once all of it was read and compared with its CRCs; damaged ones are
    /// passed over, and named in [`Found::skipped`]. `None` where the folder holds none.
    ///
    /// # Errors
    /// That of the highest step where all are damaged. Other failures than damage, such as `Io`, `Refused` and
    /// `LimitExceeded`: an older checkpoint is not given for one that may be whole.
    pub fn latest(&self) -> Result<Option<Found>> {
        self.first_whole(|all| all.into_iter().rev().collect())
    }

    /// Opens the checkpoint of the best metric, as [`latest`](Self::latest) does; of equal ones the later.
    ///
    /// # Errors
    /// As [`latest`](Self::latest).
    pub fn best(&self, goal: Goal) -> Result<Option<Found>> {
        self.first_whole(|all| by_metric(&all, goal))
    }

    fn first_whole(&self, order: impl Fn(Vec<Saved>) -> Vec<Saved>) -> Result<Option<Found>> {
        let mut looks = 0;
        loop {
            let (mut skipped, mut gone) = (Vec::new(), false);
            for saved in order(self.list()?) {
                match self.open_whole(&saved.path) {
                    Ok(checkpoint) => return Ok(Some(Found { checkpoint, saved, skipped })),
                    // Removed since the folder was read.
                    Err(error) if error.kind() == ErrorKind::Io && !saved.path.exists() => gone = true,
                    Err(error) if matches!(error.kind(), ErrorKind::Malformed | ErrorKind::Unsupported) => {
                        skipped.push((saved, error));
                    }
                    Err(error) => return Err(error),
                }
            }
            // What takes the place of a file that is gone was there before that went.
            if gone && looks < LOOKS_MAX {
                looks = looks.saturating_add(1);
                continue;
            }
            return match skipped.into_iter().next() {
                Some((_, error)) => Err(error),
                None => Ok(None),
            };
        }
    }

    fn open_whole(&self, path: &Path) -> Result<Checkpoint> {
        let checkpoint = self.load.open(path)?;
        let Verification { records, tensors } = checkpoint.verify(|_, _| {});
        let failed = records.into_iter().find_map(|record| match record.checksum {
            Checksum::Failed(error) => Some(error),
            Checksum::Matches | Checksum::NotComputed | Checksum::Absent => None,
        });
        match failed.or_else(|| tensors.into_iter().next()) {
            Some(error) => Err(error.in_file(path)),
            None => Ok(checkpoint),
        }
    }

    /// The files that need not be kept, now that one was saved.
    fn to_remove(&self, just_saved: &Saved) -> Result<Vec<Saved>> {
        let all = self.list()?;
        let mut kept: Vec<&Path> = vec![&just_saved.path];
        let best = self.best.map(|(count, goal)| (count, by_metric(&all, goal)));
        // Of one step there is one.
        let of_step = |saved: &Saved| saved.step == just_saved.step && saved.path != just_saved.path;
        let Some(last) = self.last else {
            return Ok(all.iter().filter(|saved| of_step(saved)).cloned().collect());
        };
        let mut steps: Vec<u64> = Vec::new();
        for saved in all.iter().filter(|saved| !of_step(saved)).rev() {
            if steps.last() != Some(&saved.step) && steps.len() < last {
                steps.push(saved.step);
                kept.push(&saved.path);
            }
        }
        if let Some((count, best)) = &best {
            let best = best.iter().filter(|saved| !of_step(saved));
            kept.extend(best.take(*count).map(|saved| saved.path.as_path()));
        }
        Ok(all.iter().filter(|saved| !kept.contains(&saved.path.as_path())).cloned().collect())
    }
}

/// Those with a metric, the best first.
fn by_metric(all: &[Saved], goal: Goal) -> Vec<Saved> {
    let number = |saved: &Saved| saved.metric.filter(|metric| !metric.is_nan());
    let mut found: Vec<(f64, &Saved)> =
        all.iter().rev().filter_map(|saved| Some((number(saved)?, saved))).collect();
    found.sort_by(|(a, _), (b, _)| match goal {
        Goal::Lowest => a.total_cmp(b),
        Goal::Highest => b.total_cmp(a),
    });
    found.into_iter().map(|(_, saved)| saved.clone()).collect()
}

/// How often a folder is read again in which a file is gone.
const LOOKS_MAX: u32 = 10;

/// Has a file, and its name in the folder, reach the disk.
fn settle(path: &Path, folder: &Path) -> Result<()> {
    let file = fs::File::open(path).and_then(|file| file.sync_all());
    file.map_err(|error| Error::from(error).in_file(path))?;
    sync_folder(folder).map_err(|error| Error::from(error).in_file(folder))
}

/// Removes a file, which somebody else may have removed already.
fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::from(error).in_file(path)),
        _ => Ok(()),
    }
}
