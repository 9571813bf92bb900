//! What saving promises: the files that PyTorch writes, byte for byte; errors that say what is wrong; files that are
//! whole or not there.

mod archives;
mod atomic;
mod compact;
mod errors;
mod inside;
mod modules;
mod options;
mod repack;
mod tensors;
mod values;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::OnceLock;

use ptser::{DType, Location, Object, SaveOptions, Storage, Tensor};
use serde_json::Value as Json;

use crate::fixtures;
use crate::support::sha256;

/// `[Object; _]` of values of any types.
macro_rules! objects {
    ($($value:expr),* $(,)?) => { [$(ptser::Object::from($value)),*] };
}
use objects;

/// Pairs of values of any types, for dicts.
macro_rules! entries {
    ($($key:expr => $value:expr),* $(,)?) => {
        [$((ptser::Object::from($key), ptser::Object::from($value))),*]
    };
}
use entries;

/// What PyTorch writes, as `make.py` noted it.
fn expected(name: &str) -> &'static Json {
    static ALL: OnceLock<Vec<(String, Json)>> = OnceLock::new();
    let all = ALL.get_or_init(|| fixtures::expected_in("save"));
    let (_, found) =
        all.iter().find(|(found, _)| found == name).unwrap_or_else(|| panic!("no fixture {name}"));
    found
}

fn path_of(name: &str) -> PathBuf {
    fixtures::folder().join("save").join(format!("{name}.pt"))
}

/// Says how bytes differ from those of PyTorch.
fn difference(name: &str, written: &[u8], expected: &Json) -> Option<String> {
    let told = (expected["len"].as_u64().unwrap(), expected["sha256"].as_str().unwrap());
    if (u64::try_from(written.len()).unwrap(), sha256(written).as_str()) == told {
        return None;
    }
    let whole = std::fs::read(path_of(name)).unwrap_or_default();
    let at = written.iter().zip(&whole).position(|(ours, theirs)| ours != theirs);
    let around = |bytes: &[u8]| {
        let at = at.unwrap_or(0);
        let range = at.saturating_sub(16).min(bytes.len())..at.saturating_add(40).min(bytes.len());
        bytes[range].escape_ascii().to_string()
    };
    Some(format!(
        "{name}: {} bytes, expected {}; from byte {at:?}\n ours   {}\n theirs {}",
        written.len(),
        told.0,
        around(written),
        around(&whole)
    ))
}

/// Each object under the name of its fixture; saved with some options it is PyTorch's file.
fn check_all(made: impl IntoIterator<Item = (String, SaveOptions, Object)>) {
    let mut failures = Vec::new();
    for (name, options, object) in made {
        let written = options.root_folder(name.as_str()).to_bytes(&object);
        match written {
            Ok(written) => failures.extend(difference(&name, &written, expected(&name))),
            Err(error) => failures.push(format!("{name}: {error}")),
        }
    }
    assert!(failures.is_empty(), "{} differ\n{}", failures.len(), failures.join("\n"));
}

/// With PyTorch's defaults.
fn by_default(made: Vec<(&str, Object)>) -> Vec<(String, SaveOptions, Object)> {
    made.into_iter().map(|(name, object)| (name.to_owned(), SaveOptions::new(), object)).collect()
}

/// Every file that `make.py` made has been built here.
#[test]
fn every_fixture_is_built() {
    let built: Vec<String> = [values::all(), tensors::all(), modules::all(), options::all()]
        .into_iter()
        .flatten()
        .map(|(name, ..)| name)
        .collect();
    let names: BTreeSet<&str> = built.iter().map(String::as_str).collect();
    assert_eq!(names.len(), built.len(), "one is built twice");
    for (name, _) in fixtures::expected_in("save") {
        let others = ["paths", "refusals", "archives", "buffer"];
        assert!(names.contains(name.as_str()) || others.contains(&name.as_str()), "{name} is not built");
    }
    assert!(names.len() >= 130, "{}", names.len());
}

/// A storage of the bytes 0, 1, 2 and so on, as the fixtures have them.
fn storage(dtype: DType, count: usize) -> Storage {
    located(dtype, count, Location::cpu())
}

fn located(dtype: DType, count: usize, location: Location) -> Storage {
    let bytes: Vec<u8> = (0..count * dtype.element_size()).map(|byte| (byte & 0xFF) as u8).collect();
    Storage::from_bytes(dtype.storage_class().map(|_| dtype), location, bytes)
}

/// A tensor over a storage of its own.
fn raw(dtype: DType, shape: &[usize]) -> Tensor {
    Tensor::contiguous(storage(dtype, shape.iter().product()), dtype, shape).unwrap()
}

fn floats(shape: &[usize]) -> Tensor {
    raw(DType::Float32, shape)
}

/// `{"weight": …, "bias": …, "step": 7}`.
fn small_on(location: &str) -> Object {
    let on = |dtype, count| located(dtype, count, location.into());
    let weight = Tensor::contiguous(on(DType::Float32, 6), DType::Float32, [2, 3]).unwrap();
    let bias = Tensor::contiguous(on(DType::Float64, 3), DType::Float64, [3]).unwrap();
    Object::dict(entries!["weight" => weight, "bias" => bias, "step" => 7])
}

fn small() -> Object {
    small_on("cpu")
}

/// Four mentions of a storage.
fn shared_views_on(location: &str) -> Object {
    let storage = located(DType::Float32, 10, location.into());
    let view = |shape: &[usize], stride: &[usize], offset| {
        Tensor::view(storage.clone(), DType::Float32, shape, stride, offset).unwrap()
    };
    let whole = Object::storage(storage.clone(), Some(DType::Float32));
    Object::list(objects![view(&[4], &[1], 2), view(&[10], &[1], 0), view(&[5, 2], &[1, 5], 0), whole])
}
