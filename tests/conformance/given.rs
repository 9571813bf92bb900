//! The fixtures of `tests/fixtures/conformance`, and what PyTorch says of them in `expected.json`.

use std::path::PathBuf;
use std::sync::OnceLock;

use ptser::{Checkpoint, Error, Globals, LoadOptions, Tensor};
use serde_json::Value as Json;

use crate::{fixtures, tree};

pub(crate) fn path(name: &str) -> PathBuf {
    fixtures::folder().join("conformance").join(name)
}

pub(crate) fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(path(name)).expect(name)
}

pub(crate) fn open(name: &str) -> Checkpoint {
    Checkpoint::open(path(name)).expect(name)
}

/// Opens a file with every object that PyTorch does not know as plain data.
pub(crate) fn inert(name: &str) -> Checkpoint {
    LoadOptions::new().globals(Globals::inert()).open(path(name)).expect(name)
}

/// Opens a file whose globals beyond PyTorch's are those listed here.
pub(crate) fn allowing(name: &str, allowed: &[&str]) -> Result<Checkpoint, Error> {
    let globals = allowed.iter().fold(Globals::weights_only(), |globals, &name| globals.allow(name));
    LoadOptions::new().globals(globals).open(path(name))
}

/// The error of opening a file under PyTorch's policy, which PyTorch refuses too.
pub(crate) fn refused(name: &str) -> Error {
    assert!(facts(name)["refusal"].is_string(), "PyTorch loads {name}");
    Checkpoint::open(path(name)).expect_err(name)
}

/// What PyTorch says of a file.
pub(crate) fn facts(name: &str) -> &'static Json {
    static ALL: OnceLock<Vec<(String, Json)>> = OnceLock::new();
    let all = ALL.get_or_init(|| fixtures::expected_in("conformance"));
    let (_, facts) =
        all.iter().find(|(file, _)| file == name).unwrap_or_else(|| panic!("nothing is told of {name}"));
    facts
}

/// Compares the tensors of a checkpoint with those that PyTorch finds in a file, and its value where that is told.
pub(crate) fn check(name: &str, checkpoint: &Checkpoint) {
    let facts = facts(name);
    fixtures::check_tensors(name, checkpoint, &facts["tensors"]);
    if let Some(value) = facts.get("value") {
        tree::check_value(name, checkpoint, value);
    }
}

/// The values of a tensor of float32.
pub(crate) fn floats(tensor: &Tensor) -> Vec<f32> {
    assert_eq!(tensor.dtype(), ptser::DType::Float32);
    let bytes = tensor.to_contiguous().unwrap();
    bytes.chunks_exact(4).map(|float| f32::from_le_bytes(float.try_into().unwrap())).collect()
}

/// Names of the globals that an error refuses.
pub(crate) fn refused_names(error: &Error) -> Vec<&str> {
    error.refused_globals().iter().map(|global| &*global.name).collect()
}
