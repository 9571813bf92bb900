//! Files that a command writes: none of them is in its place before all of them are whole. Knows no format.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use ptser::{Format, Replacement};

use crate::human;
use crate::output::{self, Failure};
use crate::progress::{Progress, nbytes};

/// What the data of an archive can be aligned to.
pub(crate) const ALIGNMENTS: std::ops::RangeInclusive<u64> = 1..=65_496;

/// The containers that PyTorch writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Container {
    /// The archive of torch 1.6 and later
    Zip,
    /// The stream of torch before 1.6
    Legacy,
}

impl From<Container> for Format {
    fn from(container: Container) -> Self {
        match container {
            Container::Zip => Self::Zip,
            Container::Legacy => Self::Legacy,
        }
    }
}

/// The files of one command, not in their places yet. Dropped, they leave nothing behind.
pub(crate) struct Outputs<'i> {
    /// What is read meanwhile.
    input: &'i Path,
    progress: Progress,
    files: Vec<(PathBuf, Replacement)>,
    bytes: u64,
}

impl<'i> Outputs<'i> {
    /// About so many bytes of tensors read from a file.
    pub(crate) fn new(input: &'i Path, total: u64) -> Self {
        Self { input, progress: Progress::new("writing", total), files: Vec::new(), bytes: 0 }
    }

    /// Writes one file. What goes wrong is blamed on the file that it went wrong with.
    pub(crate) fn add(
        &mut self,
        path: &Path,
        write: impl FnOnce(&mut Watched<'_>) -> ptser::Result<()>,
    ) -> Result<(), Failure> {
        let replacement = Replacement::of(path)?;
        let mut sink =
            Watched { file: &replacement, progress: &mut self.progress, written: 0, failed: false };
        let outcome = write(&mut sink);
        let (written, failed) = (sink.written, sink.failed);
        outcome.map_err(|error| error.in_file(if failed { path } else { self.input }))?;
        self.bytes += written;
        self.files.push((path.to_owned(), replacement));
        Ok(())
    }

    /// Puts all files in their places, in order, and says so in one line.
    pub(crate) fn publish(self, tensors: usize, note: &str) -> Result<(), Failure> {
        let Self { input: _, progress, files, bytes } = self;
        drop(progress);
        let names: Vec<String> = files.iter().map(|(path, _)| path.display().to_string()).collect();
        let streams = files.iter().any(|(_, replacement)| replacement.is_stream());
        let mut fresh = Vec::new();
        for (path, replacement) in files {
            let is_fresh = fs::symlink_metadata(&path).is_err();
            if let Err(error) = replacement.publish() {
                // Of several files those that are there already would be half of a model.
                for path in fresh {
                    let _ = fs::remove_file(path);
                }
                return Err(error.in_file(&path).into());
            }
            fresh.extend(is_fresh.then_some(path));
        }
        if streams {
            // It may be the standard output, which is no place for a line then.
            return Ok(());
        }
        let mut out = output::human();
        let (tensors, bytes) = (human::count(tensors, "tensor"), human::bytes(bytes));
        writeln!(out, "{tensors}, {bytes} in {}: {}{note}", human::count(names.len(), "file"), list(&names))?;
        out.flush()?;
        Ok(())
    }
}

/// The names on one line: of shards the first and the last.
fn list(names: &[String]) -> String {
    match names {
        [first, _, .., last, index] => {
            format!("{} to {}, {}", human::plain(first), human::plain(last), human::plain(index))
        }
        few => few.iter().map(|name| human::plain(name)).collect::<Vec<_>>().join(", "),
    }
}

/// A file that is being written, the bar told of every byte.
pub(crate) struct Watched<'f> {
    file: &'f Replacement,
    progress: &'f mut Progress,
    written: u64,
    /// Whether it was this file that failed.
    failed: bool,
}

impl Watched<'_> {
    /// Makes room for so many bytes.
    pub(crate) fn reserve(&mut self, len: u64) -> ptser::Result<()> {
        self.file.reserve(len).inspect_err(|_| self.failed = true)
    }
}

impl Write for Watched<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes).inspect_err(|error| {
            self.failed |= error.kind() != io::ErrorKind::Interrupted;
        })?;
        self.progress.add(nbytes(written));
        self.written += nbytes(written);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
