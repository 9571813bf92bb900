//! The writing half of the rows: fixtures saved again, in both formats and by sinks of every temper.

use std::io::{self, ErrorKind, Write};

use ptser::{Checkpoint, Format, Globals, LoadOptions, SaveOptions};

use crate::{fixtures, given};

/// Opens bytes with every object as plain data.
pub(crate) fn open(bytes: Vec<u8>) -> Checkpoint {
    LoadOptions::new().globals(Globals::inert()).from_bytes(bytes).unwrap()
}

/// Saves a fixture in both formats: PyTorch's description of the fixture is one of what is read then.
pub(crate) fn again(name: &str) {
    let checkpoint = given::inert(name);
    for format in [Format::Zip, Format::Legacy] {
        let options = SaveOptions::new().format(format).unwrap();
        let saved = open(options.to_bytes(&checkpoint).unwrap());
        assert_eq!(saved.format(), format);
        given::check(name, &saved);
        assert_eq!(saved.root().to_string(), checkpoint.root().to_string(), "{name}");
    }
}

/// Saves a fixture as PyTorch did: it is the same file.
pub(crate) fn identical(name: &str) {
    let checkpoint = given::inert(name);
    let saved = SaveOptions::like(&checkpoint).unwrap().to_bytes(&checkpoint).unwrap();
    assert!(saved == given::bytes(name), "{name} is not the file that PyTorch wrote");
}

/// Both.
pub(crate) fn check(name: &str) {
    again(name);
    identical(name);
}

/// The bytes of an object that PyTorch's file of the folder `zip` is written from.
pub(crate) fn identical_zip(name: &str, options: impl FnOnce(SaveOptions) -> SaveOptions) {
    let checkpoint = fixtures::open(name);
    let options = options(SaveOptions::new().root_folder(checkpoint.root_folder()));
    assert!(options.to_bytes(&checkpoint).unwrap() == fixtures::bytes(name), "{name}");
}

/// The least that a sink can be. It takes so many bytes at a time, is interrupted in between, and fails when it is
/// told to.
pub(crate) struct Sink {
    pub(crate) bytes: Vec<u8>,
    most: usize,
    calls_left: usize,
    interrupted: bool,
}

impl Sink {
    pub(crate) fn new(most: usize, calls_left: usize) -> Self {
        Self { bytes: Vec::new(), most, calls_left, interrupted: false }
    }

    fn call(&mut self) -> io::Result<()> {
        self.calls_left = self.calls_left.checked_sub(1).ok_or(ErrorKind::BrokenPipe)?;
        Ok(())
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.call()?;
        self.interrupted = !self.interrupted;
        if self.interrupted {
            return Err(ErrorKind::Interrupted.into());
        }
        let len = bytes.len().min(self.most);
        self.bytes.extend(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.call()
    }
}
