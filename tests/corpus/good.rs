//! Sound files: the tensors and plain values that PyTorch finds are found, and nothing else.

use std::collections::HashMap;
use std::path::Path;

use ptser::{
    ByteOrder, Checkpoint, Entry, Format, Globals, Layout, LoadOptions, Storage, Tensor, Value, ValueKind,
};
use serde_json::Value as Json;

use crate::oracle::{Expected, Oracle, is_below, text};
use crate::support::sha256;

pub(crate) fn is_one(_: &Path, entry: &Json) -> bool {
    matches!(text(entry, "set"), "real" | "synth")
}

pub(crate) fn check(file: &Path, _: &Json) -> Result<(), String> {
    let oracle = Oracle::beside(file);
    let globals = match oracle.mode() {
        Some("weights_only") => Globals::weights_only(),
        _ => Globals::inert(),
    };
    let opened = LoadOptions::new().globals(globals).open(file);
    let checkpoint = match (opened, oracle.mode()) {
        (Ok(checkpoint), _) => checkpoint,
        // Where PyTorch could not read it, we may fail, and must not panic.
        (Err(_), None) => return Ok(()),
        // The oracle looked into attacks too; we refuse them under every policy.
        (Err(error), Some("stub")) if error.refused_globals().iter().any(|global| global.blocked) => {
            return Ok(());
        }
        (Err(error), Some(_)) => return Err(error.to_string()),
    };
    let without_reads = LoadOptions::new().globals(Globals::inert()).computed_offsets(true).open(file);
    let offsets = |checkpoint: &Checkpoint| -> Vec<_> {
        checkpoint.storages().iter().map(|storage| storage.checkpoint_offset().ok()).collect()
    };
    let without_reads = without_reads.map_err(|error| error.to_string())?;
    same("offsets", offsets(&without_reads), offsets(&checkpoint))?;
    // Programs alone have constants.
    if let Some(constants) = checkpoint.constants().map_err(|error| error.to_string())? {
        for tensor in constants.items().filter_map(|constant| constant.as_tensor().ok()) {
            tensor.to_contiguous().map_err(|error| error.to_string())?;
        }
    }
    match oracle.mode() {
        Some("jit") => same_state_dict(&checkpoint, &oracle),
        Some(_) => same_tensors(&checkpoint, &oracle).and_then(|()| same_values(&checkpoint, &oracle)),
        None => match by_another_writer(file) {
            Some(oracle) => {
                same_tensors(&checkpoint, &oracle).and_then(|()| same_values(&checkpoint, &oracle))
            }
            None => {
                checkpoint.tensors().for_each(|(_, tensor)| drop(tensor.to_contiguous()));
                Ok(())
            }
        },
    }
}

/// What PyTorch found in the same object when its default writer had written it.
fn by_another_writer(file: &Path) -> Option<Oracle> {
    let twin = file.parent()?.with_file_name("zip_p2").join(file.file_name()?);
    twin.exists().then(|| Oracle::beside(&twin)).filter(|oracle| oracle.mode().is_some())
}

fn same_tensors(checkpoint: &Checkpoint, oracle: &Oracle) -> Result<(), String> {
    let expected = oracle.tensors();
    // Tensors in sets are listed by us; the oracle describes a set as one leaf.
    let sets = oracle.of_types(&["set", "frozenset"]);
    let found: Vec<Entry<'_>> = checkpoint.entries().filter(|entry| !is_in_one_of(entry, &sets)).collect();
    let paths = |paths: Vec<String>| paths.join(", ").chars().take(2000).collect::<String>();
    let found_paths: Vec<String> = found.iter().map(joined).collect();
    let expected_paths: Vec<String> = expected.iter().map(|expected| expected.path.clone()).collect();
    if found_paths != expected_paths {
        let at = found_paths.iter().zip(&expected_paths).position(|(found, expected)| found != expected);
        let from = at.unwrap_or(found_paths.len().min(expected_paths.len()));
        return Err(format!(
            "{} paths, expected {}; from the first that differs, {from}: {} | expected {}",
            found_paths.len(),
            expected_paths.len(),
            paths(found_paths[from..].to_vec()),
            paths(expected_paths[from..].to_vec()),
        ));
    }
    let mut sharing = Sharing::default();
    for (found, expected) in found.iter().zip(&expected) {
        let tensor = found.tensor().expect("an entry has a tensor");
        same_tensor(tensor, expected, &mut sharing).map_err(|why| format!("{}: {why}", expected.path))?;
    }
    Ok(())
}

fn is_in_one_of(entry: &Entry<'_>, sets: &[&Json]) -> bool {
    let path = joined(entry);
    let is_in = |set: &Json| {
        path.strip_prefix(text(set, "path"))
            .is_some_and(|rest| rest.trim_start_matches('/').starts_with("#items/"))
    };
    sets.iter().any(|set| is_in(set))
}

fn joined(entry: &Entry<'_>) -> String {
    entry.path().iter().map(ToString::to_string).collect::<Vec<_>>().join("/")
}

fn same_tensor(tensor: &Tensor, expected: &Expected<'_>, sharing: &mut Sharing) -> Result<(), String> {
    let entry = expected.entry;
    same("dtype", format!("torch.{}", tensor.dtype()), text(entry, "dtype"))?;
    same("layout", format!("torch.{}", tensor.layout().name()), text(entry, "layout"))?;
    same("requires_grad", tensor.requires_grad(), entry["requires_grad"].as_bool().unwrap_or_default())?;
    let parameter = text(entry, "class").ends_with("Parameter");
    same("being a parameter", tensor.is_parameter(), parameter)?;
    same_if_told("shape", tensor.shape(), &entry["shape"])?;
    if tensor.layout() == Layout::Strided {
        same_if_told("stride", tensor.stride(), &entry["stride"])?;
        same_if_told("storage_offset", tensor.storage_offset(), &entry["storage_offset"])?;
        same_if_told("is_conj", tensor.is_conj(), &entry["is_conj"])?;
        same_if_told("is_neg", tensor.is_neg(), &entry["is_neg"])?;
    }
    if let Some(number) = entry["storage"].as_u64() {
        let storage = tensor.storage().ok_or("it has no storage")?;
        same_if_told("storage_nbytes", storage.nbytes(), &entry["storage_nbytes"])?;
        sharing.check(storage, number)?;
    }
    if let Some(expected) = entry["sha256"].as_str() {
        // PyTorch forgets to swap the types that have no storage class of their own: it shows the file's bytes.
        let forgotten = tensor.dtype().storage_class().is_none();
        let order = match tensor.storage().map(Storage::byte_order) {
            Some(order) if forgotten => order,
            _ => ByteOrder::Little,
        };
        let bytes = tensor.to_contiguous_in(order).map_err(|error| error.to_string())?;
        same("sha256", sha256(&bytes).as_str(), expected)?;
    }
    Ok(())
}

fn same<T: PartialEq<U> + std::fmt::Debug, U: std::fmt::Debug>(
    what: &str,
    found: T,
    expected: U,
) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what} is {found:?}, expected {expected:?}")) }
}

fn same_if_told(what: &str, found: impl Into<Json>, expected: &Json) -> Result<(), String> {
    if expected.is_null() { Ok(()) } else { same(what, found.into(), expected.clone()) }
}

/// Which of our storages is which of the oracle's.
#[derive(Default)]
struct Sharing {
    ours: HashMap<usize, u64>,
    theirs: HashMap<u64, usize>,
}

impl Sharing {
    fn check(&mut self, storage: &Storage, number: u64) -> Result<(), String> {
        let theirs = *self.ours.entry(storage.id()).or_insert(number);
        let ours = *self.theirs.entry(number).or_insert(storage.id());
        if theirs == number && ours == storage.id() {
            return Ok(());
        }
        Err(format!("storage {} is shared otherwise than storage {number} of the oracle", storage.key()))
    }
}

/// A TorchScript program: PyTorch gives its state dict, we list every tensor that it holds.
fn same_state_dict(checkpoint: &Checkpoint, oracle: &Oracle) -> Result<(), String> {
    same("format", checkpoint.format(), Format::TorchScript)?;
    let mut sharing = Sharing::default();
    for expected in oracle.tensors() {
        // Names have dots already; parts are told by a slash.
        let tensor =
            checkpoint.tensor(&expected.path.replace('/', ".")).map_err(|error| error.to_string())?;
        let entry = expected.entry;
        same("dtype", format!("torch.{}", tensor.dtype()), text(entry, "dtype"))?;
        same_if_told("shape", tensor.shape(), &entry["shape"])?;
        same_if_told("requires_grad", tensor.requires_grad(), &entry["requires_grad"])?;
        if let (Some(number), Some(storage)) = (entry["storage"].as_u64(), tensor.storage()) {
            sharing.check(storage, number)?;
        }
        if let Some(hash) = entry["sha256"].as_str() {
            let bytes = tensor.to_contiguous().map_err(|error| error.to_string())?;
            same("sha256", sha256(&bytes).as_str(), hash)
                .map_err(|why| format!("{}: {why}", expected.path))?;
        }
    }
    Ok(())
}

/// Numbers, texts and the like, by their Python `repr`.
fn same_values(checkpoint: &Checkpoint, oracle: &Oracle) -> Result<(), String> {
    let rebuilt = oracle.of_types(&["stub:torch._tensor._rebuild_from_type_v2"]);
    for leaf in oracle.entries() {
        let path = text(leaf, "path");
        // The oracle makes the calls that rebuild tensor subclasses, and calls the parts after what came of it.
        if rebuilt.iter().any(|above| is_below(leaf, above)) {
            continue;
        }
        let plain = matches!(
            text(leaf, "type"),
            "int" | "float" | "bool" | "str" | "NoneType" | "complex" | "torch.dtype" | "bytes"
        );
        let repr = text(leaf, "repr");
        // Both sides cut what is long.
        if text(leaf, "kind") != "leaf" || !plain || repr.chars().count() > 150 {
            continue;
        }
        let keys = leaf["keys"].as_array().expect("an entry has keys");
        let keys: Vec<&str> = keys.iter().filter_map(Json::as_str).collect();
        let Some(value) = resolve(checkpoint.root(), &keys) else {
            return Err(format!("{path}: there is no value at {keys:?}"));
        };
        same("value", value.to_string().as_str(), repr).map_err(|why| format!("{path}: {why}"))?;
    }
    Ok(())
}

/// Follows the oracle's typed keys.
fn resolve<'c>(mut value: Value<'c>, mut keys: &[&str]) -> Option<Value<'c>> {
    while let Some((key, rest)) = keys.split_first() {
        keys = rest;
        let (kind, name) = key.split_once(':')?;
        value = match (kind, name) {
            ("a", "args" | "items" | "state" | "kwargs" | "dict")
                if matches!(value.kind(), ValueKind::Object) =>
            {
                match (name, keys.split_first()) {
                    ("state", None) => return value.state(),
                    ("state", Some(_)) => match value.state()? {
                        state if state.is_mapping() || keys[0].starts_with("x:") => state,
                        _ => return None,
                    },
                    (_, None) => return None,
                    (part, Some((key, rest))) => {
                        keys = rest;
                        let (kind, name) = key.split_once(':')?;
                        match part {
                            "args" => value.args().nth(name.parse().ok()?)?,
                            "items" => value.appended().nth(name.parse().ok()?)?,
                            "kwargs" => value.kwargs()?.find(name)?,
                            _ => value.assigned().find(|(key, _)| is_key(*key, kind, name))?.1,
                        }
                    }
                }
            }
            ("a", name) => value.attributes().find(|(key, _)| is_key(*key, "s", name))?.1,
            ("x", index) => value.items().nth(index.parse().ok()?)?,
            (kind, name) => value.entries().find(|(key, _)| is_key(*key, kind, name))?.1,
        };
    }
    Some(value)
}

fn is_key(key: Value<'_>, kind: &str, name: &str) -> bool {
    match (kind, key.kind()) {
        ("s", ValueKind::Str(text)) => text == name,
        ("i", ValueKind::Int(int)) => int.to_string() == name,
        // The oracle's words for a class that it replaced.
        ("r", ValueKind::Global(class)) => name == format!("<stub {class}>"),
        ("r" | "sr", _) => key.to_string() == name,
        _ => false,
    }
}
