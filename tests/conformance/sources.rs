//! Where bytes come from: readers of every temper, compressed streams, several checkpoints in one.

use std::io::{self, Cursor, ErrorKind as IoKind, Read, Seek, SeekFrom};
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex};

use flate2::read::GzDecoder;
use ptser::{ByteOrder, Checkpoint, DType, ErrorKind, Format, LoadOptions, ReadAt, Reason, SaveOptions};

use crate::readers::{Memory, Stammering};
use crate::saved::Sink;
use crate::{fixtures, given};

fn inflated(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    GzDecoder::new(std::fs::File::open(given::path(name)).unwrap()).read_to_end(&mut bytes).unwrap();
    bytes
}

/// Writes a checkpoint to a sink that takes so many bytes at a time.
fn check_sink(most: usize) {
    for name in ["aliases.pt", "aliases_legacy.pt"] {
        let checkpoint = given::open(name);
        let mut sink = Sink::new(most, usize::MAX);
        SaveOptions::like(&checkpoint).unwrap().write(&mut sink, &checkpoint).unwrap();
        assert!(sink.bytes == given::bytes(name), "{name}");
    }
}

#[test]
fn test_serialization_filelike() {
    for name in ["aliases.pt", "aliases_legacy.pt"] {
        given::check(name, &Checkpoint::read(Cursor::new(given::bytes(name))).unwrap());
    }
    check_sink(usize::MAX);
}

#[test]
fn test_serialization_gzip() {
    let error = Checkpoint::open(given::path("aliases.pt.gz")).unwrap_err();
    assert!(matches!(error.reason(), Reason::NotACheckpoint { .. }), "{error}");
    assert!(error.to_string().contains("gzip") && error.to_string().contains("gunzip"), "{error}");
    let checkpoint = Checkpoint::from_bytes(inflated("aliases.pt.gz")).unwrap();
    given::check("aliases.pt", &checkpoint);
}

#[test]
fn test_serialization_offset_gzip() {
    for name in ["offset_zip.gz", "offset_legacy.gz"] {
        let bytes = inflated(name);
        let number = Checkpoint::from_bytes(bytes.clone()).unwrap();
        assert_eq!((number.format(), number.root().as_i64().unwrap()), (Format::Pickle, 41));
        let end = number.end_offset().unwrap();
        let checkpoint = LoadOptions::new().offset(end).from_bytes(bytes.clone()).unwrap();
        assert_eq!(given::floats(checkpoint.root().as_tensor().unwrap()), [0.0, 1.0, 2.0, 3.0, 4.0]);
        // A stream knows where it ends, an archive does not: PyTorch leaves the position anywhere then.
        let told = given::facts(name)["end"].as_u64();
        assert_eq!(checkpoint.end_offset().map(|len| end + len), told, "{name}");
        let mut reader = Cursor::new(bytes);
        reader.set_position(end);
        assert_eq!(fixtures::contents(&Checkpoint::read(reader).unwrap()), fixtures::contents(&checkpoint));
    }
}

/// The least that a reader can be: it reads, and it seeks.
struct Least(Cursor<Vec<u8>>);

impl Read for Least {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl Seek for Least {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

#[test]
fn test_serialization_filelike_api_requirements() {
    for name in ["aliases.pt", "aliases_legacy.pt"] {
        given::check(name, &Checkpoint::read(Least(Cursor::new(given::bytes(name)))).unwrap());
        given::check(name, &LoadOptions::new().source(Memory(given::bytes(name))).unwrap());
    }
    check_sink(usize::MAX);
}

#[test]
fn test_serialization_filelike_missing_attrs() {
    for name in ["aliases.pt", "aliases_legacy.pt", "sparse_layouts.pt"] {
        let reader = Stammering::new(Cursor::new(given::bytes(name)));
        given::check(name, &Checkpoint::read(reader).unwrap());
    }
    check_sink(7);
}

/// Notes where in memory it was asked to read to.
struct Addresses {
    bytes: Memory,
    asked: Arc<Mutex<Vec<(usize, usize)>>>,
}

impl ReadAt for Addresses {
    fn size(&self) -> u64 {
        self.bytes.size()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.asked.lock().unwrap().push((buf.as_ptr().addr(), buf.len()));
        self.bytes.read_exact_at(buf, offset)
    }
}

/// Data goes to where it is wanted at once: into the caller's buffer, and into the vector that the caller gets.
#[test]
fn test_serialization_filelike_uses_readinto() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let bytes = Memory(given::bytes("aliases.pt"));
    let checkpoint = LoadOptions::new().source(Addresses { bytes, asked: Arc::clone(&asked) }).unwrap();
    let tensor = checkpoint.tensor("0").unwrap();
    let storage = tensor.storage().unwrap();
    storage.checkpoint_offset().unwrap();

    asked.lock().unwrap().clear();
    let mut buf = [MaybeUninit::uninit(); 48];
    let address = buf.as_ptr().addr();
    storage.read_as(DType::Float32, ByteOrder::NATIVE, 0, &mut buf).unwrap();
    assert_eq!(*asked.lock().unwrap(), [(address, 48)]);

    asked.lock().unwrap().clear();
    let vec = storage.to_vec().unwrap();
    assert_eq!(*asked.lock().unwrap(), [(vec.as_ptr().addr(), 48)]);

    asked.lock().unwrap().clear();
    let values = tensor.to_contiguous().unwrap();
    assert_eq!(*asked.lock().unwrap(), [(values.as_ptr().addr(), 48)]);
}

/// Fails when it is told to.
struct Failing {
    reader: Cursor<Vec<u8>>,
    reads_left: usize,
    seeks_left: usize,
    /// Says that it has read what it has not.
    lies: bool,
}

impl Read for Failing {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.reads_left = self.reads_left.checked_sub(1).ok_or(IoKind::ConnectionReset)?;
        if self.lies { Ok(0) } else { self.reader.read(buf) }
    }
}

impl Seek for Failing {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.seeks_left = self.seeks_left.checked_sub(1).ok_or(IoKind::PermissionDenied)?;
        self.reader.seek(to)
    }
}

#[test]
fn test_serialization_filelike_exceptions() {
    for name in ["aliases.pt", "aliases_legacy.pt"] {
        let failing = |reads_left: usize, seeks_left: usize, lies: bool| {
            let reader = Cursor::new(given::bytes(name));
            let checkpoint = Checkpoint::read(Failing { reader, reads_left, seeks_left, lies })?;
            // Only the opening was within what the reader allows.
            checkpoint.storages().iter().try_for_each(|storage| storage.to_vec().map(drop))
        };
        assert!(failing(usize::MAX, usize::MAX, false).is_ok());
        let mut outcomes = Vec::new();
        for calls in 0..200 {
            for outcome in [failing(calls, usize::MAX, false), failing(usize::MAX, calls, false)] {
                if let Err(error) = &outcome {
                    let cause =
                        std::error::Error::source(error).unwrap().downcast_ref::<io::Error>().unwrap();
                    assert!(
                        matches!(cause.kind(), IoKind::ConnectionReset | IoKind::PermissionDenied),
                        "{error}"
                    );
                    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
                }
                outcomes.push(outcome.is_ok());
            }
        }
        // The first call fails, and at last none does.
        assert!(!outcomes[0] && !outcomes[1] && outcomes[398] && outcomes[399], "{name}");
        assert_eq!(failing(usize::MAX, usize::MAX, true).unwrap_err().kind(), ErrorKind::Io);
    }
    // Sinks that fail at each of the calls in turn.
    for name in ["aliases.pt", "aliases_legacy.pt"] {
        let checkpoint = given::open(name);
        let write = |calls: usize| SaveOptions::new().write(Sink::new(50, calls), &checkpoint);
        let first = (0..10_000).find(|&calls| match write(calls) {
            Ok(()) => true,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Io, "{error}");
                false
            }
        });
        assert!(first.unwrap() > 30, "{first:?}");
    }
}

/// A pipe: it cannot seek.
struct Pipe;

impl Read for Pipe {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Ok(0)
    }
}

impl Seek for Pipe {
    fn seek(&mut self, _: SeekFrom) -> io::Result<u64> {
        Err(io::Error::new(IoKind::NotSeekable, "Illegal seek"))
    }
}

/// PyTorch's advice: load it into memory first.
#[test]
fn test_load_error_msg() {
    let error = Checkpoint::read(Pipe).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    let text = error.to_string();
    assert!(text.contains("Illegal seek") && text.contains("from_bytes"), "{text}");
    // What a shell calls <(...) is one, too.
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd;

        let (pipe, _) = io::pipe().unwrap();
        let error = Checkpoint::open(format!("/proc/self/fd/{}", pipe.as_raw_fd())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(
            error.to_string().contains("this is a pipe") && error.to_string().contains("from_bytes"),
            "{error}"
        );
    }
}
