//! What can go wrong, where, and what to do about it. Knows nothing of formats.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The result of everything that can fail in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Who is at fault, and so what a caller can do: branch on this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system or a reader failed.
    Io,
    /// The bytes are not what they claim to be.
    Malformed,
    /// The file is sound, but uses something that this version does not read.
    Unsupported,
    /// The policy does not allow what the file asks for.
    Refused,
    /// The file asks for more than the caller's [`Limits`](crate::Limits).
    LimitExceeded,
    /// A device backend is absent or failed.
    Backend,
    /// The call itself does not fit: a name that is not there, an option that contradicts another.
    Misuse,
}

/// One typed error: a reason, the place it was found at, and the file.
pub struct Error(Box<Inner>);

struct Inner {
    reason: Reason,
    file: Option<PathBuf>,
    record: Option<String>,
    offset: Option<u64>,
    tensor: Option<String>,
}

/// What exactly is wrong. Messages say what was expected, what was found, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The operating system refused or failed.
    #[error("{0}")]
    Io(#[source] io::Error),
    /// Nothing in the file could be recognised as a checkpoint.
    #[error("not a PyTorch checkpoint: {found}")]
    NotACheckpoint {
        /// What the first bytes look like, and what to do about it.
        found: String,
    },
    /// The container (zip archive, stream, tar) contradicts itself.
    #[error("corrupt archive: {0}; the file may be truncated, or was altered in transfer")]
    Archive(String),
    /// A record that the checkpoint needs is not in the archive.
    #[error("record {name} is missing; the file may be truncated, or is not a checkpoint")]
    MissingRecord {
        /// The record's name below the root folder.
        name: String,
    },
    /// A record exists, and cannot be read.
    #[error("record cannot be read: {0}")]
    Record(String),
    /// A storage's record does not hold what its persistent id claims.
    #[error(
        "record size ({found} bytes) does not match expected size ({expected} bytes = {numel} elements of {dtype})"
    )]
    RecordSize {
        /// Bytes in the record.
        found: u64,
        /// Bytes that the persistent id claims.
        expected: u64,
        /// Elements that the persistent id claims.
        numel: u64,
        /// The element type.
        dtype: String,
    },
    /// The `byteorder` record holds neither `little` nor `big`.
    #[error("unknown byte order {found:?}: expected \"little\" or \"big\"")]
    ByteOrder {
        /// What the record holds.
        found: String,
    },
    /// The `version` record is not a number PyTorch ever wrote.
    #[error("archive version {found:?}: expected a number from 1 to 10")]
    Version {
        /// What the record holds.
        found: String,
    },
    /// The `.storage_alignment` record is not a number that PyTorch's writer can align to.
    #[error("storage alignment {found:?}: expected a number from 1 to 65535")]
    Alignment {
        /// What the record holds.
        found: String,
    },
    /// The pickle stream is cut or malformed.
    #[error("malformed pickle: {0}")]
    Pickle(String),
    /// The pickle uses a feature that is deliberately not read.
    #[error("pickle feature not supported: {0}")]
    PickleFeature(String),
    /// The objects in the pickle contradict what they claim to be.
    #[error("malformed object: {0}")]
    Object(String),
    /// A tensor does not fit its storage or contradicts itself.
    #[error("malformed tensor: {0}")]
    Tensor(String),
    /// A tensor that a lenient look at the checkpoint let pass.
    #[error("damaged: {0}")]
    Damaged(String),
    /// The file needs globals that the policy does not list.
    #[error("{}", refused_message(.globals))]
    Globals {
        /// Each refused global as `module.name`, in order of first appearance.
        globals: Vec<RefusedGlobal>,
    },
    /// A call that the policy does not allow.
    #[error("refused: {0}")]
    Refused(String),
    /// The file exceeds one of the caller's limits.
    #[error(
        "limit exceeded: {what} is {found}, the limit `{limit}` is {allowed}; raise it with Limits::{limit}(..) if the file is trusted"
    )]
    Limit {
        /// What is too large.
        what: &'static str,
        /// The name of the limit and of the method that sets it.
        limit: &'static str,
        /// What the file asks for.
        found: u64,
        /// What is allowed.
        allowed: u64,
    },
    /// Values nest deeper than a recursive reader goes.
    #[error(
        "{path}{}values nest deeper than {allowed} levels, or contain themselves; read them with get, index and entries, or raise \
         the limit `nesting` with Limits::nesting(..)",
        if .path.is_empty() { "" } else { ": " }
    )]
    Nesting {
        /// The way to what is too deep.
        path: String,
        /// How many levels are allowed.
        allowed: u64,
    },
    /// What was read is not what was written.
    #[error(
        "its CRC-32 is {computed:08x}, and was {stored:08x} when it was written; the file was altered, perhaps in transfer: \
         fetch it again"
    )]
    Checksum {
        /// The CRC-32 in the archive's directory.
        stored: u32,
        /// The CRC-32 of what was read.
        computed: u32,
    },
    /// Sound, and not read by this version.
    #[error("not supported: {0}")]
    Unsupported(String),
    /// A device backend said no.
    #[error("{0}")]
    Backend(String),
    /// The caller asked for something that is not there or makes no sense.
    #[error("{0}")]
    Misuse(String),
}

/// A global that the policy refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefusedGlobal {
    /// `module.name`, after the Python 2 names are mapped.
    pub name: String,
    /// Whether its module is refused under every policy (`os`, `sys`, `posix`, `nt`).
    pub blocked: bool,
}

/// A name from a file, on one line.
pub(crate) fn printable(name: &str) -> String {
    let escape =
        |char: char| if char.is_control() { char.escape_default().collect() } else { char.to_string() };
    name.chars().map(escape).collect()
}

fn refused_message(globals: &[RefusedGlobal]) -> String {
    let mut blocked = Vec::new();
    let mut unlisted = Vec::new();
    for global in globals {
        if global.blocked { &mut blocked } else { &mut unlisted }.push(printable(&global.name));
    }
    let mut message = String::new();
    if !blocked.is_empty() {
        message.push_str("refused: the file imports ");
        message.push_str(&blocked.join(", "));
        message.push_str(
            " from a module that no policy allows; such a file is an attack, do not load it elsewhere",
        );
    }
    if !unlisted.is_empty() {
        message.push_str(if blocked.is_empty() { "refused: " } else { "; also " });
        message.push_str("globals not allowed by the weights-only policy: ");
        message.push_str(&unlisted.join(", "));
        message.push_str(
            "; nothing is ever executed: allow them by name (Globals::allow, --allow) or read all as inert objects (Globals::inert, --inert)",
        );
    }
    message
}

impl Reason {
    /// Names who is at fault.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io(_) => ErrorKind::Io,
            Self::NotACheckpoint { .. }
            | Self::Archive(_)
            | Self::MissingRecord { .. }
            | Self::Record(_)
            | Self::RecordSize { .. }
            | Self::ByteOrder { .. }
            | Self::Version { .. }
            | Self::Alignment { .. }
            | Self::Pickle(_)
            | Self::Object(_)
            | Self::Tensor(_)
            | Self::Checksum { .. }
            | Self::Damaged(_) => ErrorKind::Malformed,
            Self::PickleFeature(_) | Self::Unsupported(_) => ErrorKind::Unsupported,
            Self::Globals { .. } | Self::Refused(_) => ErrorKind::Refused,
            Self::Limit { .. } | Self::Nesting { .. } => ErrorKind::LimitExceeded,
            Self::Backend(_) => ErrorKind::Backend,
            Self::Misuse(_) => ErrorKind::Misuse,
        }
    }
}

impl Error {
    /// Says who is at fault.
    pub fn kind(&self) -> ErrorKind {
        self.0.reason.kind()
    }

    /// The precise reason.
    pub fn reason(&self) -> &Reason {
        &self.0.reason
    }

    /// The file, where one was opened by path.
    pub fn file(&self) -> Option<&Path> {
        self.0.file.as_deref()
    }

    /// The record of the archive that the error was found in.
    pub fn record(&self) -> Option<&str> {
        self.0.record.as_deref()
    }

    /// The byte offset inside that record, or inside the file where no record is named.
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// The tensor that was being read.
    pub fn tensor(&self) -> Option<&str> {
        self.0.tensor.as_deref()
    }

    /// Every global that the policy refused; empty for other errors.
    pub fn refused_globals(&self) -> &[RefusedGlobal] {
        match &self.0.reason {
            Reason::Globals { globals } => globals,
            _ => &[],
        }
    }

    /// A device backend's error, in its own words.
    pub fn backend(message: impl Into<String>) -> Self {
        Reason::Backend(message.into()).into()
    }

    /// A caller's error, in the words of the function that found it.
    pub fn misuse(message: impl Into<String>) -> Self {
        Reason::Misuse(message.into()).into()
    }

    /// Something that this version does not do.
    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Reason::Unsupported(message.into()).into()
    }

    /// Adds the byte offset, unless a more precise one is known.
    pub(crate) fn at(mut self, offset: u64) -> Self {
        self.0.offset.get_or_insert(offset);
        self
    }

    /// Counts the byte offset from `start` bytes before.
    pub(crate) fn moved(mut self, start: u64) -> Self {
        self.0.offset = self.0.offset.map(|offset| offset.saturating_add(start));
        self
    }

    /// Adds the record, unless one is known.
    pub(crate) fn in_record(mut self, record: &str) -> Self {
        self.0.record.get_or_insert_with(|| record.to_owned());
        self
    }

    /// Adds the tensor that was being read, unless one is known.
    #[must_use]
    pub fn in_tensor(mut self, tensor: &str) -> Self {
        self.0.tensor.get_or_insert_with(|| tensor.to_owned());
        self
    }

    /// Adds the file, unless one is known.
    #[must_use]
    pub fn in_file(mut self, file: &Path) -> Self {
        self.0.file.get_or_insert_with(|| file.to_owned());
        self
    }
}

impl From<Reason> for Error {
    fn from(reason: Reason) -> Self {
        Self(Box::new(Inner { reason, file: None, record: None, offset: None, tensor: None }))
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Reason::Io(error).into()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { reason, file, record, offset, tensor } = &*self.0;
        if let Some(file) = file {
            write!(f, "{}: ", file.display())?;
        }
        if let Some(tensor) = tensor {
            write!(f, "tensor {tensor}: ")?;
        }
        write!(f, "{reason}")?;
        match (record, offset) {
            (Some(record), Some(offset)) => write!(f, " (record {record}, byte {offset})"),
            (Some(record), None) => write!(f, " (record {record})"),
            (None, Some(offset)) => write!(f, " (byte {offset})"),
            (None, None) => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.kind())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.reason {
            Reason::Io(error) => Some(error),
            _ => None,
        }
    }
}
