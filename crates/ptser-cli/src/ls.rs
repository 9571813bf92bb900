//! `ptser ls`: the tensors of a file.

mod table;

use std::io::{self, Write};

use clap::Args;
use ptser::{Checkpoint, Entry, PathElement, Tensor, TensorKind};
use serde_json::{Value as Json, json};

use crate::human;
use crate::open::Source;
use crate::output::{self, Failure};
use crate::tally::Tally;

/// List the tensors: name, dtype, shape, stride, offset, storage, size.
#[derive(Args)]
#[command(after_help = "Example: ptser ls model.pt --json | jq -r '.tensors[].name'")]
pub(crate) struct Ls {
    #[command(flatten)]
    source: Source,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    /// Add the SHA-256 of each tensor's values in C order, little-endian
    #[arg(long)]
    sha256: bool,
}

impl Ls {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let Self { source, json, sha256 } = self;
        let checkpoint = source.open()?;
        // Hashes come first: what cannot be read is known before anything is printed.
        let hashes = if *sha256 { Some(crate::hash::all(&checkpoint, source.path())?) } else { None };
        if *json {
            let mut out = output::machine();
            write_json(&mut out, &source.path().to_string_lossy(), &checkpoint, hashes.as_deref())?;
            out.flush()?;
        } else {
            let tally = Tally::of(&checkpoint);
            let mut out = output::human();
            table::write(&mut out, &checkpoint, &tally, hashes.as_deref())?;
            writeln!(out, "{}", totals(&tally))?;
            out.flush()?;
        }
        Ok(())
    }
}

/// One object, with a line for each tensor.
fn write_json(
    out: &mut impl Write,
    file: &str,
    checkpoint: &Checkpoint,
    hashes: Option<&[Option<String>]>,
) -> io::Result<()> {
    let (format, order) = (checkpoint.format().name(), checkpoint.byte_order().name());
    write!(
        out,
        "{{\"file\":{},\"format\":{},\"byte_order\":{},\"tensors\":[",
        json!(file),
        json!(format),
        json!(order)
    )?;
    let mut separator = "\n";
    for (place, entry) in checkpoint.entries().enumerate() {
        let Some(tensor) = entry.tensor() else { continue };
        let mut line = describe(entry, tensor);
        if let (Some(hashes), Some(object)) = (hashes, line.as_object_mut()) {
            object.insert("sha256".into(), json!(hashes.get(place)));
        }
        write!(out, "{separator}{line}")?;
        separator = ",\n";
    }
    writeln!(out, "\n]}}")
}

/// One tensor in the words of the contract with scripts.
fn describe(entry: Entry<'_>, tensor: &Tensor) -> Json {
    let strided = is_strided(tensor);
    let storage = tensor.storage();
    let path: Vec<Json> = entry
        .path()
        .into_iter()
        .map(|element| match element {
            PathElement::Index(index) => json!(index),
            PathElement::Key(key) => json!(key),
            other => json!(other.to_string()),
        })
        .collect();
    json!({
        "path": path,
        "name": entry.name(),
        "dtype": tensor.dtype().name(),
        "shape": tensor.shape(),
        "stride": strided.then(|| tensor.stride()),
        "storage_offset": strided.then(|| tensor.storage_offset()),
        "storage": storage.map(ptser::Storage::key),
        "storage_nbytes": storage.map(ptser::Storage::nbytes),
        "nbytes": tensor.nbytes(),
        "requires_grad": tensor.requires_grad(),
        "layout": tensor.layout().name(),
        "kind": if tensor.is_parameter() { "parameter" } else { "tensor" },
    })
}

/// Whether strides mean anything: not for sparse tensors and wrapper subclasses.
fn is_strided(tensor: &Tensor) -> bool {
    match tensor.kind() {
        TensorKind::Strided | TensorKind::Quantized(_) | TensorKind::Meta => true,
        TensorKind::Sparse(_) | TensorKind::Wrapper { .. } => false,
        _ => tensor.storage().is_some(),
    }
}

/// `26 tensors in 25 storages, 1.3 MB; 2 tensors share storage 4`.
fn totals(tally: &Tally<'_>) -> String {
    let mut line = human::count(tally.tensors, "tensor");
    if tally.parameters > 0 && tally.parameters < tally.tensors {
        line.push_str(&format!(" ({})", human::count(tally.parameters, "parameter")));
    }
    if tally.paths > tally.tensors {
        line.push_str(&format!(" at {}", human::count(tally.paths, "path")));
    }
    if tally.parts > 0 {
        line.push_str(&format!(" and {}", human::count(tally.parts, "part")));
    }
    let viewed = tally.storages.iter().filter(|used| !used.by.is_empty());
    let storages = viewed.clone().count();
    if storages > 0 {
        let bytes = viewed.fold(0_u64, |sum, used| sum.saturating_add(used.storage.nbytes()));
        line.push_str(&format!(" in {}, {}", human::count(storages, "storage"), human::bytes(bytes)));
    }
    for used in tally.shared().take(SHARED_SHOWN) {
        let key = human::name(used.storage.key());
        line.push_str(&format!("; {} share storage {key}", human::count(used.by.len(), "tensor")));
    }
    let more = tally.shared().count().saturating_sub(SHARED_SHOWN);
    if more > 0 {
        line.push_str(&format!("; {} more are shared", human::count(more, "storage")));
    }
    line
}

/// Beyond these the totals would no longer be one line.
const SHARED_SHOWN: usize = 3;
