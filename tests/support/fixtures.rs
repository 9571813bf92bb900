//! The checkpoints of `tests/fixtures`, those of `zip` where no folder is named, and what is in them.

#![allow(dead_code, reason = "each test binary takes what it needs")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use ptser::{Checkpoint, Entry, ErrorKind, Layout, LoadOptions, PathElement, Quantized, Result, TensorKind};
use serde_json::{Value as Json, json};

use crate::support::sha256;

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
    expected_in("zip")
}

/// Each file of a folder, and its description.
pub(crate) fn expected_in(name: &str) -> Vec<(String, Json)> {
    let json = std::fs::read(folder().join(name).join("expected.json")).expect("expected.json");
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

/// Compares the tensors of a checkpoint with their descriptions, and which of them share storages.
pub(crate) fn check_tensors(file: &str, checkpoint: &Checkpoint, tensors: &Json) {
    let tensors = tensors.as_array().unwrap();
    let mut numbers = HashMap::new();
    let found: Vec<Json> = checkpoint.entries().map(|entry| describe(entry, &mut numbers)).collect();
    let names = |tensors: &[Json]| tensors.iter().map(|tensor| tensor["name"].clone()).collect::<Vec<_>>();
    assert_eq!(names(&found), names(tensors), "{file}");
    // Storages are numbered in order of first sight, so equal numbers mean equal sharing.
    let mut theirs = HashMap::new();
    for (found, expected) in found.iter().zip(tensors) {
        let mut expected = expected.clone();
        if let Some(number) = expected["storage"].as_u64() {
            let next = theirs.len();
            expected["storage"] = json!(theirs.entry(number).or_insert(next));
        }
        assert_eq!(*found, expected, "{file}: {}", expected["name"]);
    }
}

/// One tensor as `describe.py` describes it.
fn describe(entry: Entry<'_>, numbers: &mut HashMap<usize, usize>) -> Json {
    let tensor = entry.tensor().unwrap();
    let strided = tensor.layout() == Layout::Strided;
    let storage = tensor.storage();
    let number = storage.map(|storage| {
        let next = numbers.len();
        *numbers.entry(storage.id()).or_insert(next)
    });
    let hash = storage.map(|_| sha256(&tensor.to_contiguous().unwrap()));
    let mut json = json!({
        "path": entry.path().iter().map(element).collect::<Vec<_>>(),
        "name": entry.name(),
        "dtype": tensor.dtype().name(),
        "shape": tensor.shape(),
        "stride": strided.then(|| tensor.stride()),
        "storage_offset": strided.then(|| tensor.storage_offset()),
        "storage": number,
        "storage_nbytes": storage.map(|storage| storage.nbytes()),
        "nbytes": tensor.nbytes(),
        "requires_grad": tensor.requires_grad(),
        "layout": tensor.layout().name(),
        "kind": if tensor.is_parameter() { "parameter" } else { "tensor" },
        "sha256": hash,
    });
    for (name, flag) in [("conj", tensor.is_conj()), ("neg", tensor.is_neg())] {
        if flag {
            json[name] = json!(true);
        }
    }
    match tensor.kind() {
        TensorKind::Sparse(sparse) if sparse.layout == Layout::SparseCoo => {
            json["is_coalesced"] = json!(sparse.is_coalesced);
        }
        TensorKind::Quantized(quantized) => json["quantizer"] = quantizer(quantized),
        _ => {}
    }
    json
}

fn element(element: &PathElement) -> Json {
    match element {
        PathElement::Key(key) => json!(key),
        PathElement::Index(index) => json!(index),
        other => panic!("{other:?}"),
    }
}

fn quantizer(quantized: &Quantized) -> Json {
    match quantized {
        Quantized::PerTensor { scale, zero_point } => {
            json!({"scheme": "per_tensor_affine", "scale": scale, "zero_point": zero_point})
        }
        Quantized::PerChannel { axis, .. } => json!({"scheme": "per_channel_affine", "axis": axis}),
        other => panic!("{other:?}"),
    }
}
