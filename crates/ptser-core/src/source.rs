//! Where bytes come from: a file, a mapping, memory, or any reader. Knows nothing of formats.

use std::fs::File;
use std::io::{self, BufRead, Read, Seek, SeekFrom};
use std::mem::MaybeUninit;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Random access to immutable bytes, from several threads at once.
///
/// Implement it for anything that can read a range: a remote object, a decrypting layer.
pub trait ReadAt: Send + Sync {
    /// The number of bytes.
    fn size(&self) -> u64;

    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] where the source ends first, and the source's own errors.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;

    /// The bytes themselves, where they lie in memory and nothing can change them.
    fn bytes(&self) -> Option<&[u8]> {
        None
    }

    /// Writes through to the source, where it is a shared mapping.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] for every other source.
    fn write_all_at(&self, _bytes: &[u8], _offset: u64) -> io::Result<()> {
        Err(not_shared())
    }
}

/// A source that this crate vouches for: what it says it has initialised, it has. Safe code relies on that,
/// so nobody else can implement it; others come in through [`Foreign`].
pub(crate) trait Source: Send + Sync {
    /// The number of bytes.
    fn size(&self) -> u64;

    /// Fills `buf` from `offset`.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;

    /// Fills all of a memory that is not initialised yet, and gives that memory back.
    fn read_uninit_at<'b>(&self, buf: &'b mut [MaybeUninit<u8>], offset: u64) -> io::Result<&'b mut [u8]> {
        let buf = zeroed(buf);
        self.read_exact_at(buf, offset)?;
        Ok(buf)
    }

    /// The bytes themselves, where they lie in memory and nothing can change them.
    fn bytes(&self) -> Option<&[u8]> {
        None
    }

    /// Whether [`bytes`](Self::bytes) lie in a private mapping of a file.
    fn is_mapped(&self) -> bool {
        false
    }

    /// Writes through to the source, where it is a shared mapping.
    fn write_all_at(&self, _bytes: &[u8], _offset: u64) -> io::Result<()> {
        Err(not_shared())
    }
}

fn not_shared() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "only a shared mapping can be written through")
}

/// A caller's own source.
pub(crate) struct Foreign<R>(pub(crate) R);

impl<R: ReadAt> Source for Foreign<R> {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buf, offset)
    }

    fn bytes(&self) -> Option<&[u8]> {
        self.0.bytes()
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }
}

/// How a file is mapped into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mmap {
    /// Read by `pread`, when asked for. The default.
    Off,
    /// Writes never reach the file; PyTorch's default (`MAP_PRIVATE`).
    Private,
    /// Writes through [`Storage::write_at`](crate::Storage::write_at) reach the file (`MAP_SHARED`).
    Shared,
}

impl From<bool> for Mmap {
    /// `true` is PyTorch's `mmap=True`: a private mapping.
    fn from(mmap: bool) -> Self {
        if mmap { Self::Private } else { Self::Off }
    }
}

/// Opens a file for reads at offsets, or maps it.
pub(crate) fn open_file(path: &Path, mmap: Mmap) -> io::Result<Box<dyn Source>> {
    let file = match mmap {
        Mmap::Shared => File::options().read(true).write(true).open(path)?,
        Mmap::Private | Mmap::Off => File::open(path)?,
    };
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "this is a folder, not a checkpoint file"));
    }
    #[cfg(unix)]
    if std::os::unix::fs::FileTypeExt::is_fifo(&metadata.file_type()) {
        return Err(unseekable(io::Error::new(io::ErrorKind::NotSeekable, "this is a pipe")));
    }
    Ok(match mmap {
        Mmap::Off => Box::new(FileSource { size: metadata.len(), file }),
        // An empty file cannot be mapped, and there is nothing to map.
        _ if metadata.len() == 0 => Box::new(MemorySource(Vec::new())),
        Mmap::Private => {
            let map = map_private(&file)?;
            Box::new(PrivateMap { file: FileSource { size: metadata.len(), file }, map })
        }
        Mmap::Shared => {
            let map = map_shared(&file)?;
            Box::new(SharedMap { size: metadata.len(), map: RwLock::new(map) })
        }
    })
}

#[expect(unsafe_code, reason = "mapping a file is unsafe in every crate that offers it")]
fn map_private(file: &File) -> io::Result<memmap2::Mmap> {
    // SAFETY: the caller asked for a mapping, and the documentation of `LoadOptions::mmap` passes on what
    // it takes: nobody else changes or truncates the file while it is mapped.
    unsafe { memmap2::MmapOptions::new().map_copy_read_only(file) }
}

#[expect(unsafe_code, reason = "mapping a file is unsafe in every crate that offers it")]
fn map_shared(file: &File) -> io::Result<memmap2::MmapMut> {
    // SAFETY: as `map_private`; our own writes and reads exclude each other by the lock in `SharedMap`,
    // which never hands out a slice.
    unsafe { memmap2::MmapOptions::new().map_mut(file) }
}

/// A file read by `pread`: no shared cursor, so threads do not wait for each other.
struct FileSource {
    file: File,
    size: u64,
}

impl Source for FileSource {
    fn size(&self) -> u64 {
        self.size
    }

    #[cfg(unix)]
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, buf, offset)
    }

    #[cfg(unix)]
    fn read_uninit_at<'b>(&self, buf: &'b mut [MaybeUninit<u8>], offset: u64) -> io::Result<&'b mut [u8]> {
        let mut filled = 0_usize;
        while filled < buf.len() {
            let at = offset.saturating_add(u64::try_from(filled).unwrap_or(u64::MAX));
            let rest = buf.get_mut(filled..).unwrap_or_default();
            match rustix::io::pread(&self.file, rest, at) {
                Ok(([], _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok((read, _)) => filled = filled.saturating_add(read.len()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(assume_init(buf))
    }

    #[cfg(windows)]
    fn read_exact_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            match std::os::windows::fs::FileExt::seek_read(&self.file, buf, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    buf = buf.get_mut(read..).unwrap_or_default();
                    offset = offset.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Initialises memory with zeros, for those who only read into bytes.
pub(crate) fn zeroed(buf: &mut [MaybeUninit<u8>]) -> &mut [u8] {
    buf.fill(MaybeUninit::new(0));
    assume_init(buf)
}

#[expect(unsafe_code, reason = "both callers have written all of the buffer")]
fn assume_init(buf: &mut [MaybeUninit<u8>]) -> &mut [u8] {
    // SAFETY: `zeroed` wrote every byte; `read_uninit_at` calls this when successive reads, each of which
    // initialises what it returns, have covered all of `buf`.
    unsafe { buf.assume_init_mut() }
}

/// Bytes in memory, a private mapping among them.
pub(crate) struct MemorySource<B>(pub(crate) B);

impl<B: AsRef<[u8]> + Send + Sync> Source for MemorySource<B> {
    fn size(&self) -> u64 {
        u64::try_from(self.0.as_ref().len()).unwrap_or(u64::MAX)
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        buf.copy_from_slice(slice(self.0.as_ref(), offset, buf.len())?);
        Ok(())
    }

    fn read_uninit_at<'b>(&self, buf: &'b mut [MaybeUninit<u8>], offset: u64) -> io::Result<&'b mut [u8]> {
        let bytes = slice(self.0.as_ref(), offset, buf.len())?;
        Ok(buf.write_copy_of_slice(bytes))
    }

    fn bytes(&self) -> Option<&[u8]> {
        Some(self.0.as_ref())
    }
}

/// A mapping that nothing can write to, for who borrows. What is copied is read from the file: to touch a page for the
/// thirty bytes of a record's header costs more than to read them.
struct PrivateMap {
    file: FileSource,
    map: memmap2::Mmap,
}

impl Source for PrivateMap {
    fn size(&self) -> u64 {
        self.file.size()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    fn read_uninit_at<'b>(&self, buf: &'b mut [MaybeUninit<u8>], offset: u64) -> io::Result<&'b mut [u8]> {
        self.file.read_uninit_at(buf, offset)
    }

    fn bytes(&self) -> Option<&[u8]> {
        Some(&self.map)
    }

    fn is_mapped(&self) -> bool {
        true
    }
}

/// A mapping whose writes reach the file. It is read by copy, so that no borrowed byte ever changes.
struct SharedMap {
    size: u64,
    map: RwLock<memmap2::MmapMut>,
}

impl Source for SharedMap {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        buf.copy_from_slice(slice(&map, offset, buf.len())?);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        let range = range(map.len(), offset, bytes.len())?;
        map.get_mut(range).ok_or(io::ErrorKind::UnexpectedEof)?.copy_from_slice(bytes);
        Ok(())
    }
}

fn range(size: usize, offset: u64, len: usize) -> io::Result<std::ops::Range<usize>> {
    usize::try_from(offset)
        .ok()
        .and_then(|start| Some(start..start.checked_add(len)?))
        .filter(|range| range.end <= size)
        .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

fn slice(bytes: &[u8], offset: u64, len: usize) -> io::Result<&[u8]> {
    bytes.get(range(bytes.len(), offset, len)?).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// Any `Read + Seek` from where its cursor stood; the cursor is shared, so reads wait for each other.
struct ReaderSource<R> {
    reader: Mutex<R>,
    start: u64,
    size: u64,
}

/// Wraps a reader; byte 0 is where its cursor stands.
pub(crate) fn from_reader<R: Read + Seek + Send>(mut reader: R) -> io::Result<impl Source> {
    let start = reader.stream_position().map_err(unseekable)?;
    let size = reader.seek(SeekFrom::End(0))?.saturating_sub(start);
    Ok(ReaderSource { reader: Mutex::new(reader), start, size })
}

/// What the first seek fails with: pipes and sockets cannot.
fn unseekable(error: io::Error) -> io::Error {
    let what =
        "a checkpoint is read in any order: write it to a file first, or read it into memory (from_bytes)";
    io::Error::new(error.kind(), format!("{error}; {what}"))
}

impl<R: Read + Seek + Send> Source for ReaderSource<R> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        reader.seek(SeekFrom::Start(self.start.checked_add(offset).ok_or(io::ErrorKind::UnexpectedEof)?))?;
        reader.read_exact(buf)
    }
}

/// A source from some byte on.
pub(crate) struct Tail {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) start: u64,
}

impl Tail {
    fn at(&self, offset: u64) -> io::Result<u64> {
        self.start.checked_add(offset).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

impl Source for Tail {
    fn size(&self) -> u64 {
        self.source.size().saturating_sub(self.start)
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.source.read_exact_at(buf, self.at(offset)?)
    }

    fn read_uninit_at<'b>(&self, buf: &'b mut [MaybeUninit<u8>], offset: u64) -> io::Result<&'b mut [u8]> {
        self.source.read_uninit_at(buf, self.at(offset)?)
    }

    fn bytes(&self) -> Option<&[u8]> {
        self.source.bytes()?.get(usize::try_from(self.start).ok()?..)
    }

    fn is_mapped(&self) -> bool {
        self.source.is_mapped()
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.source.write_all_at(bytes, self.at(offset)?)
    }
}

/// A cursor over a source for code that wants a reader, reading ahead in blocks.
pub(crate) struct Cursor<'a> {
    source: &'a dyn Source,
    position: u64,
    block: Vec<u8>,
    block_start: u64,
}

impl<'a> Cursor<'a> {
    const BLOCK: u64 = 64 << 10;

    pub(crate) fn new(source: &'a dyn Source) -> Self {
        Self { source, position: 0, block: Vec::new(), block_start: 0 }
    }

    /// What is buffered from the current position on.
    #[inline]
    pub(crate) fn buffered(&self) -> &[u8] {
        self.position
            .checked_sub(self.block_start)
            .and_then(|skip| self.block.get(usize::try_from(skip).ok()?..))
            .unwrap_or_default()
    }
}

impl Read for Cursor<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buf)?;
        self.consume(read);
        Ok(read)
    }
}

impl BufRead for Cursor<'_> {
    #[inline]
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.buffered().is_empty() {
            let rest = self.source.size().saturating_sub(self.position).min(Self::BLOCK);
            self.block.resize(usize::try_from(rest).map_err(io::Error::other)?, 0);
            self.block_start = self.position;
            if let Err(error) = self.source.read_exact_at(&mut self.block, self.position) {
                self.block.clear();
                return Err(error);
            }
        }
        Ok(self.buffered())
    }

    fn consume(&mut self, read: usize) {
        self.position = self.position.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
    }
}

impl Seek for Cursor<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(delta) => self.source.size().checked_add_signed(delta),
            SeekFrom::Current(delta) => self.position.checked_add_signed(delta),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_reads_the_same_and_refuses_past_the_end() {
        let bytes: Vec<u8> = (0..=255).collect();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bytes");
        std::fs::write(&path, &bytes).unwrap();
        let mut prefixed = io::Cursor::new([&[9; 5], bytes.as_slice()].concat());
        prefixed.set_position(5);
        let reader = from_reader(prefixed).unwrap();
        let sources: Vec<Box<dyn Source>> = vec![
            open_file(&path, Mmap::Off).unwrap(),
            open_file(&path, Mmap::Private).unwrap(),
            open_file(&path, Mmap::Shared).unwrap(),
            Box::new(MemorySource(bytes.clone())),
            Box::new(reader),
        ];
        for source in &sources {
            assert_eq!(source.size(), 256);
            let mut buf = [MaybeUninit::uninit(); 16];
            assert_eq!(source.read_uninit_at(&mut buf, 240).unwrap(), &bytes[240..]);
            let mut buf = [0; 17];
            assert_eq!(source.read_exact_at(&mut buf, 240).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
            assert!(source.read_exact_at(&mut buf, u64::MAX).is_err());
            let mut cursor = Cursor::new(&**source);
            cursor.seek(SeekFrom::End(-3)).unwrap();
            let mut tail = Vec::new();
            cursor.read_to_end(&mut tail).unwrap();
            assert_eq!(tail, [253, 254, 255]);
        }
    }

    #[test]
    fn a_shared_mapping_writes_through_and_a_private_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bytes");
        std::fs::write(&path, [0; 8]).unwrap();
        open_file(&path, Mmap::Shared).unwrap().write_all_at(&[7, 8], 3).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), [0, 0, 0, 7, 8, 0, 0, 0]);
        let private = open_file(&path, Mmap::Private).unwrap();
        assert_eq!(private.write_all_at(&[1], 0).unwrap_err().kind(), io::ErrorKind::Unsupported);
    }
}
