//! The same bytes from memory, from a file, mapped, and from readers that give a few bytes at a time.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicUsize, Ordering};

use ptser::{Checkpoint, Error, ErrorKind, LoadOptions, Mmap, ReadAt};

use crate::look::{look, policies};
use crate::same::same;

/// Opens the same file from every kind of source: the outcome is that of memory. A source that fails somewhere in
/// between gives its error or the same outcome.
pub(crate) fn every_source_agrees(file: &[u8], sizes: &[u8]) {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
    // A name that lets every kind of checkpoint pass.
    let path = dir.path().join("checkpoint.safetensors");
    std::fs::write(&path, file).expect("a file");
    let [strict, _, inert, _] = policies();
    for options in [strict, inert] {
        let memory = options.from_bytes(file.to_vec());
        agree(&memory, options.source(Plain(file.to_vec())), "a source without a slice");
        agree(&memory, options.read(Chunked::new(file, sizes)), "a reader");
        agree(&memory, options.open(&path), "a file");
        agree(&memory, options.clone().mmap(Mmap::Private).open(&path), "a private mapping");
        agree(&memory, options.clone().mmap(Mmap::Shared).open(&path), "a shared mapping");
        let reads = sizes.first().map_or(7, |&reads| usize::from(reads));
        fail_well(&memory, &options, Failing { bytes: file.to_vec(), reads: AtomicUsize::new(reads) });
    }
}

fn agree(memory: &Result<Checkpoint, Error>, other: Result<Checkpoint, Error>, what: &str) {
    match (memory, other) {
        (Ok(memory), Ok(other)) => {
            if let Err(why) = same(memory, &other) {
                panic!("{what}: {why}");
            }
            if what.contains("mapping") {
                look(&other);
            }
        }
        (Err(memory), Err(other)) => {
            assert_eq!(memory.reason().to_string(), other.reason().to_string(), "{what}");
            assert_eq!((memory.record(), memory.offset()), (other.record(), other.offset()), "{what}");
        }
        (memory, other) => {
            panic!("{what} differs from memory: {:?} and {:?}", memory.as_ref().err(), other.err());
        }
    }
}

fn fail_well(memory: &Result<Checkpoint, Error>, options: &LoadOptions, source: Failing) {
    match (memory, options.source(source)) {
        (Ok(_), Ok(checkpoint)) => look(&checkpoint),
        (Ok(_), Err(error)) => assert_eq!(error.kind(), ErrorKind::Io, "{error}"),
        (Err(_), Err(_)) => {}
        (Err(error), Ok(_)) => panic!("opens where reads fail: {error}"),
    }
}

/// Bytes without a slice of them.
struct Plain(Vec<u8>);

impl ReadAt for Plain {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let rest = self.0.get(start..).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(rest.get(..buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// Fails from some read on.
struct Failing {
    bytes: Vec<u8>,
    reads: AtomicUsize,
}

impl ReadAt for Failing {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let left = self.reads.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        left.map_err(|_| io::Error::other("the connection broke"))?;
        buf.fill(0xA5);
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let rest = self.bytes.get(start..).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(rest.get(..buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// Gives as many bytes at a time as the sizes say, in turn; none stands for an interruption.
struct Chunked {
    bytes: io::Cursor<Vec<u8>>,
    sizes: Vec<u8>,
    turn: usize,
}

impl Chunked {
    fn new(bytes: &[u8], sizes: &[u8]) -> Self {
        // One that is always interrupted never ends.
        let sizes = if sizes.iter().all(|&size| size == 0) { vec![1, 3] } else { sizes.to_vec() };
        Self { bytes: io::Cursor::new(bytes.to_vec()), sizes, turn: 0 }
    }
}

impl Read for Chunked {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.turn = (self.turn + 1) % self.sizes.len();
        let size = usize::from(self.sizes[self.turn]);
        if size == 0 && !buf.is_empty() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let size = size.min(buf.len());
        self.bytes.read(&mut buf[..size])
    }
}

impl Seek for Chunked {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.bytes.seek(to)
    }
}
