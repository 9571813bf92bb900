//! Files that are there as a whole or not at all: written under no name or another, and put in their place at the end.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::write_back::WriteBack;
use crate::error::Result;

/// Replaces the file at a path by what `write` writes.
pub(super) fn replace(
    path: &Path,
    durable: bool,
    write: impl FnOnce(&Replacement) -> Result<()>,
) -> Result<()> {
    let replacement = Replacement::new(path, durable)?;
    write(&replacement)?;
    replacement.publish()
}

/// A file that takes its place when it is whole: until it is published, what is at the path stays, and nothing is left
/// behind where it never is. Symbolic links are followed. A pipe or a device is written to as it is.
///
/// It is a new file: it has the permissions of the one at the path, and not its owner, its extended attributes or its
/// other hard links, which go on naming the old one.
///
/// ```no_run
/// use std::io::Write;
/// let replacement = ptser_core::Replacement::of("model.safetensors")?;
/// (&replacement).write_all(b"all of it")?;
/// replacement.publish()?;
/// # Ok::<(), ptser_core::Error>(())
/// ```
pub struct Replacement {
    place: Place,
    /// Where it is waited for the disk.
    write_back: Option<Mutex<WriteBack>>,
}

enum Place {
    File { draft: Draft, path: PathBuf, permissions: Option<fs::Permissions> },
    Other(File),
}

impl Replacement {
    /// An empty file beside the one at a path.
    ///
    /// # Errors
    /// `Io` where the folder cannot be written to, or the path is a folder.
    pub fn of(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::new(path, true).map_err(|error| error.in_file(path))
    }

    fn new(path: &Path, durable: bool) -> Result<Self> {
        let place = match resolved(path)? {
            Target::File { path, permissions } => {
                Place::File { draft: Draft::new(folder_of(&path), permissions.is_some())?, path, permissions }
            }
            // A pipe or a device cannot be replaced.
            Target::Other(file) => Place::Other(file),
        };
        let waits = durable && matches!(place, Place::File { .. });
        Ok(Self { place, write_back: waits.then(Mutex::default) })
    }

    /// The file, to look at it or to seek in it. Large ones are best written by way of [`Write`], which the reference of
    /// a `Replacement` implements: the disk then begins while more is to come.
    pub fn file(&self) -> &File {
        match &self.place {
            Place::File { draft, .. } => draft.file(),
            Place::Other(file) => file,
        }
    }

    /// Whether the path is that of a pipe or a device, where what is written is there at once.
    pub fn is_stream(&self) -> bool {
        matches!(self.place, Place::Other(_))
    }

    /// Makes room for so many bytes, of which none is written yet, where the file system can: a disk that is too full
    /// is known before the work, and what is written finds its place faster. Small files need none.
    ///
    /// # Errors
    /// `Io` where there is no room.
    pub fn reserve(&self, len: u64) -> Result<()> {
        if len >= LARGE && !self.is_stream() {
            reserve(self.file(), len)?;
        }
        Ok(())
    }

    /// Puts the file in its place, once the disk has its bytes.
    ///
    /// # Errors
    /// `Io`.
    pub fn publish(self) -> Result<()> {
        let Place::File { draft, path, permissions } = self.place else { return Ok(()) };
        if let Some(permissions) = permissions {
            draft.file().set_permissions(permissions)?;
        }
        let durable = self.write_back.is_some();
        if let Some(write_back) = self.write_back {
            write_back.into_inner().unwrap_or_else(PoisonError::into_inner).finish()?;
            draft.file().sync_all()?;
        }
        draft.publish(&path)?;
        if durable {
            sync_folder(folder_of(&path))?;
        }
        Ok(())
    }
}

impl Write for &Replacement {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut file = self.file();
        let written = file.write(bytes)?;
        if let Some(write_back) = &self.write_back {
            write_back.lock().unwrap_or_else(PoisonError::into_inner).wrote(file, written);
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file().flush()
    }
}

/// Bytes of a file that room is made for.
const LARGE: u64 = 1 << 20;

/// Has the file system find the blocks of a file, of which it then has that length.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn reserve(file: &File, len: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;
    match fallocate(file, FallocateFlags::empty(), 0, len) {
        Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => Err(error.into()),
        // Not every file system can.
        _ => Ok(()),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn reserve(_: &File, _: u64) -> io::Result<()> {
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

enum Target {
    File {
        path: PathBuf,
        /// Of the file that is there.
        permissions: Option<fs::Permissions>,
    },
    Other(File),
}

/// Where a path leads; links are followed, as they are by every program that writes to them.
fn resolved(path: &Path) -> io::Result<Target> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => {
            // What may not be written may not be replaced either, though the system would let us.
            File::options().write(true).open(path)?;
            Ok(Target::File { path: fs::canonicalize(path)?, permissions: Some(metadata.permissions()) })
        }
        Ok(metadata) if metadata.is_dir() => {
            Err(io::Error::new(io::ErrorKind::IsADirectory, "this is a folder; name a file in it"))
        }
        Ok(_) => Ok(Target::Other(File::options().write(true).open(path)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut path = path.to_owned();
            // Links that lead nowhere yet. The system itself follows no more.
            for _ in 0..40 {
                let Ok(link) = fs::read_link(&path) else { break };
                path = path.parent().unwrap_or(Path::new(".")).join(link);
            }
            Ok(Target::File { path, permissions: None })
        }
        Err(error) => Err(error),
    }
}

/// A file that is not in its place yet.
enum Draft {
    /// Without a name: gone with the process, whatever ends it.
    #[cfg(target_os = "linux")]
    Unnamed { file: File, folder: PathBuf },
    /// Removed when dropped.
    Named(tempfile::NamedTempFile),
}

impl Draft {
    /// A draft that replaces another file is nobody else's until it has that file's permissions.
    fn new(folder: &Path, replaces: bool) -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        if let Some(file) = unnamed(folder)? {
            return Ok(Self::Unnamed { file, folder: folder.to_owned() });
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(".ptser-").suffix(".tmp");
        #[cfg(not(unix))]
        let _ = replaces;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(if replaces { 0o600 } else { 0o666 }));
        }
        Ok(Self::Named(builder.tempfile_in(folder)?))
    }

    fn file(&self) -> &File {
        match self {
            #[cfg(target_os = "linux")]
            Self::Unnamed { file, .. } => file,
            Self::Named(file) => file.as_file(),
        }
    }

    fn publish(self, path: &Path) -> io::Result<()> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Unnamed { file, folder } => publish_unnamed(&file, &folder, path),
            Self::Named(file) => {
                file.persist(path)?;
                Ok(())
            }
        }
    }
}

/// A file without a name, where the system and the file system have such.
#[cfg(target_os = "linux")]
fn unnamed(folder: &Path) -> io::Result<Option<File>> {
    use rustix::fs::{Mode, OFlags};
    use rustix::io::Errno;
    // It gets its name by way of there, and a small container may lack that.
    if !Path::new("/proc/self/fd").exists() {
        return Ok(None);
    }
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    match rustix::fs::open(folder, flags, Mode::from_raw_mode(0o666)) {
        Ok(file) => Ok(Some(file.into())),
        Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::ISDIR | Errno::NOSYS) => Ok(None),
        Err(Errno::NOENT) => Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("the folder {} does not exist", folder.display()),
        )),
        Err(error) => Err(error.into()),
    }
}

/// Gives a file without a name one, and puts it in its place.
#[cfg(target_os = "linux")]
fn publish_unnamed(file: &File, folder: &Path, path: &Path) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    use rustix::fs::{AtFlags, CWD, FlockOperation, flock};
    use rustix::io::Errno;
    let own = format!("/proc/self/fd/{}", file.as_raw_fd());
    let link = |name: &Path| rustix::fs::linkat(CWD, own.as_str(), CWD, name, AtFlags::SYMLINK_FOLLOW);
    match link(path) {
        Ok(()) => return Ok(()),
        Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    // A link does not replace what is there; a file by another name does. That name is always the same, so that what
    // a process leaves that is killed between the two calls is removed by the next that saves to this path.
    let draft = draft_beside(folder, path);
    // By the lock others know that this process lives.
    let _ = flock(file, FlockOperation::NonBlockingLockExclusive);
    let linked = match link(&draft) {
        Err(Errno::EXIST) if remove_abandoned(&draft) => link(&draft),
        outcome => outcome,
    };
    match linked {
        Ok(()) => {
            return fs::rename(&draft, path).inspect_err(|_| {
                let _ = fs::remove_file(&draft);
            });
        }
        // Somebody else is saving to this path, what is there may not be removed, or the name is too long.
        Err(Errno::EXIST | Errno::NAMETOOLONG) => {}
        Err(error) => return Err(error.into()),
    }
    let draft =
        tempfile::Builder::new().prefix(".ptser-").suffix(".tmp").make_in(folder, |name| Ok(link(name)?))?;
    let name = draft.into_temp_path();
    fs::rename(&name, path)?;
    // It has another name now.
    let _ = name.keep();
    Ok(())
}

/// The name of a file that is about to replace another.
#[cfg(target_os = "linux")]
fn draft_beside(folder: &Path, path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".ptser-tmp");
    folder.join(name)
}

/// Removes a draft whose process is gone.
#[cfg(target_os = "linux")]
fn remove_abandoned(draft: &Path) -> bool {
    use rustix::fs::{FlockOperation, Mode, OFlags, flock, fstat, lstat};
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::open(draft, flags, Mode::empty()) else { return false };
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return false;
    }
    // Who holds the lock of what stands under the name is the only one to take it away.
    let (Ok(held), Ok(named)) = (fstat(&file), lstat(draft)) else { return false };
    (held.st_dev, held.st_ino) == (named.st_dev, named.st_ino) && fs::remove_file(draft).is_ok()
}

/// Makes sure that a new name outlives a power failure.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
        match File::open(folder).and_then(|folder| folder.sync_all()) {
            // File systems that have no such thing say so; and a folder that may be written to may not be read.
            Err(error) if matches!(error.kind(), InvalidInput | Unsupported | PermissionDenied) => Ok(()),
            outcome => outcome,
        }
    }
    #[cfg(not(unix))]
    {
        let _ = folder;
        Ok(())
    }
}
