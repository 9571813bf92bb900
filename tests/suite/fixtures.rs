//! The checkpoints of `tests/fixtures/zip`, and what is in them.

use std::path::{Path, PathBuf};

use ptser::{Checkpoint, ErrorKind, LoadOptions, Result};
use serde_json::Value as Json;

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

pub(crate) fn path(name: &str) -> PathBuf {
    folder().join("zip").join(name)
}

pub(crate) fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(path(name)).expect(name)
}

pub(crate) fn open(name: &str) -> Checkpoint {
    Checkpoint::open(path(name)).expect(name)
}

/// Each file's name, and its description.
pub(crate) fn expected() -> Vec<(String, Json)> {
    let json = std::fs::read(path("expected.json")).expect("expected.json");
    let Ok(Json::Object(files)) = serde_json::from_slice(&json) else {
        panic!("expected.json is not an object")
    };
    files.into_iter().collect()
}

/// Names and logical values of all tensors that have any.
pub(crate) fn contents(checkpoint: &Checkpoint) -> Vec<(String, String, Vec<u8>)> {
    let read = |tensor: &ptser::Tensor| match tensor.to_contiguous() {
        Ok(bytes) => bytes.into_owned(),
        // Meta and sparse tensors have no such bytes.
        Err(error) if error.kind() == ErrorKind::Unsupported => Vec::new(),
        Err(error) => panic!("{error}"),
    };
    let describe =
        |tensor: &ptser::Tensor| format!("{} {:?} {:?}", tensor.dtype(), tensor.shape(), tensor.stride());
    checkpoint.tensors().map(|(name, tensor)| (name.to_owned(), describe(tensor), read(tensor))).collect()
}

/// Opens bytes, lists what is in them, and reads every tensor.
pub(crate) fn read_all(options: &LoadOptions, bytes: Vec<u8>) -> Result<usize> {
    let checkpoint = options.from_bytes(bytes)?;
    let mut read = 0;
    for entry in checkpoint.entries() {
        let tensor = entry.tensor().expect("an entry has a tensor");
        match tensor.to_contiguous() {
            Ok(_) => read += 1,
            Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::LimitExceeded) => {}
            Err(error) => return Err(error),
        }
        assert_eq!(entry.path().iter().map(ToString::to_string).collect::<Vec<_>>().join("."), entry.name());
    }
    let _ = format!("{} {:?} {checkpoint:?}", checkpoint.root(), checkpoint.root());
    Ok(read)
}
