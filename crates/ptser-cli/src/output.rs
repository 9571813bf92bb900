//! Standard output, buffered, and the reasons for which a command stops. Knows no command.

use std::fmt;
use std::io::{self, BufWriter, StdoutLock, Write};
use std::path::Path;

use anstream::AutoStream;
use ptser::Reason;

use crate::human;

/// Why a command stopped.
pub(crate) enum Failure {
    /// Options that do not go together.
    Usage(String),
    /// A file, or something in it, cannot be read or written: the message names it.
    File(String),
    /// Standard output cannot be written to.
    Output(io::Error),
}

impl Failure {
    /// Says which tensor of which file could not be read.
    pub(crate) fn tensor(file: &Path, name: &str, error: &str) -> Self {
        let name = if name.is_empty() { "the root" } else { name };
        Self::File(format!("{}: tensor {name}: {error}", file.display()))
    }

    /// Says what is wrong with a file.
    pub(crate) fn file(file: &Path, what: impl fmt::Display) -> Self {
        Self::File(format!("{}: {what}", file.display()))
    }

    /// Says so in one line on standard error.
    pub(crate) fn complain(&self) {
        // Nobody is left to tell where standard error is closed too.
        let _ = writeln!(io::stderr(), "ptser: {}", human::message(&self.to_string()));
    }

    /// Whether standard output failed, and no file.
    pub(crate) fn is_output(&self) -> bool {
        matches!(self, Self::Output(_))
    }

    /// Whether the command was used wrongly.
    pub(crate) fn is_usage(&self) -> bool {
        matches!(self, Self::Usage(_))
    }

    /// Whether the reader of the output went away, as `head` does.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl From<ptser::Error> for Failure {
    fn from(error: ptser::Error) -> Self {
        Self::File(explain(&error))
    }
}

/// The message of an error. The library names the method that raises a limit; here it is an option.
pub(crate) fn explain(error: &ptser::Error) -> String {
    let message = error.to_string();
    match error.reason() {
        Reason::Limit { limit, .. } => {
            message.replace(&format!("Limits::{limit}(..)"), &format!("--limit {limit}=N"))
        }
        _ => message,
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(message) | Self::File(message) => f.write_str(message),
            Self::Output(error) => write!(f, "standard output cannot be written to: {error}"),
        }
    }
}

/// For commands whose exit code says what was found: it is the same where nobody reads the output to its end.
pub(crate) fn or_closed(written: io::Result<()>) -> Result<(), Failure> {
    match written.map_err(Failure::from) {
        Err(failure) if failure.is_closed_pipe() => Ok(()),
        written => written,
    }
}

const BUFFER: usize = 64 << 10;

/// For people: colours reach terminals only.
pub(crate) fn human() -> BufWriter<AutoStream<StdoutLock<'static>>> {
    BufWriter::with_capacity(BUFFER, AutoStream::auto(io::stdout().lock()))
}

/// For programs: bytes as they are.
pub(crate) fn machine() -> BufWriter<StdoutLock<'static>> {
    BufWriter::with_capacity(BUFFER, io::stdout().lock())
}
