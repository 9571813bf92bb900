//! Compares an open checkpoint with what PyTorch found in the same file.

use std::collections::HashMap;

use ptser::{ByteOrder, Checkpoint, Entry, Format, Layout, Quantized, Storage, Tensor, TensorKind};
use serde_json::Value as Json;

use crate::oracle::{Expected, Oracle, text};
use crate::support::sha256;
use crate::values::same_values;

/// The tensors and plain values that PyTorch finds are found, and nothing else.
pub(crate) fn same_contents(checkpoint: &Checkpoint, oracle: &Oracle) -> Result<(), String> {
    match oracle.mode() {
        Some("jit") => same_state_dict(checkpoint, oracle),
        _ => {
            let mut sharing = Sharing::default();
            same_tensors(checkpoint, oracle, &mut sharing)?;
            same_values(checkpoint, oracle, &mut sharing)
        }
    }
}

fn same_tensors(checkpoint: &Checkpoint, oracle: &Oracle, sharing: &mut Sharing) -> Result<(), String> {
    let expected = oracle.tensors();
    // Tensors in sets are listed by us; the oracle describes a set as one leaf.
    let sets = oracle.of_types(&["set", "frozenset"]);
    let skipped = |entry: &Entry<'_>| is_in_one_of(entry, &sets) || oracle.passes_over(&joined(entry));
    let found: Vec<Entry<'_>> = checkpoint.entries().filter(|entry| !skipped(entry)).collect();
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
    for (found, expected) in found.iter().zip(&expected) {
        let tensor = found.tensor().expect("an entry has a tensor");
        same_tensor(tensor, expected, oracle.forgets_to_swap(), sharing)
            .map_err(|why| format!("{}: {why}", expected.path))?;
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

fn same_tensor(
    tensor: &Tensor,
    expected: &Expected<'_>,
    forgets_to_swap: bool,
    sharing: &mut Sharing,
) -> Result<(), String> {
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
    match tensor.kind() {
        // Not every writer says of which it is.
        TensorKind::Sparse(sparse) if sparse.is_coalesced.is_some() => {
            same_if_told("is_coalesced", sparse.is_coalesced, &entry["is_coalesced"])?;
        }
        TensorKind::Quantized(quantized) => same_quantizer(quantized, entry)?,
        _ => {}
    }
    if let Some(number) = entry["storage"].as_u64() {
        let storage = tensor.storage().ok_or("it has no storage")?;
        same_if_told("storage_nbytes", storage.nbytes(), &entry["storage_nbytes"])?;
        sharing.check(storage, number)?;
    }
    if let Some(expected) = entry["sha256"].as_str() {
        // PyTorch forgets to swap the types that have no storage class of their own: it shows the file's bytes.
        let forgotten = forgets_to_swap && tensor.dtype().storage_class().is_none();
        let order = match tensor.storage().map(Storage::byte_order) {
            Some(order) if forgotten => order,
            _ => ByteOrder::Little,
        };
        let bytes = tensor.to_contiguous_in(order).map_err(|error| error.to_string())?;
        same("sha256", sha256(&bytes).as_str(), expected)?;
    }
    Ok(())
}

fn same_quantizer(quantized: &Quantized, entry: &Json) -> Result<(), String> {
    match quantized {
        Quantized::PerTensor { scale, zero_point } => {
            same_if_told("scale", *scale, &entry["scale"])?;
            same_if_told("zero_point", *zero_point, &entry["zero_point"])
        }
        Quantized::PerChannel { axis, .. } => same_if_told("axis", *axis, &entry["axis"]),
        other => Err(format!("{other:?} is unknown")),
    }
}

pub(crate) fn same<T: PartialEq<U> + std::fmt::Debug, U: std::fmt::Debug>(
    what: &str,
    found: T,
    expected: U,
) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what} is {found:?}, expected {expected:?}")) }
}

pub(crate) fn same_if_told(what: &str, found: impl Into<Json>, expected: &Json) -> Result<(), String> {
    if expected.is_null() { Ok(()) } else { same(what, found.into(), expected.clone()) }
}

/// Which of our storages is which of the oracle's.
#[derive(Default)]
pub(crate) struct Sharing {
    ours: HashMap<usize, u64>,
    theirs: HashMap<u64, usize>,
}

impl Sharing {
    pub(crate) fn check(&mut self, storage: &Storage, number: u64) -> Result<(), String> {
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
