//! `ptser ls`: the tensors of a file.

mod table;

use std::io::{self, Write};

use clap::Args;
use ptser::{Checkpoint, Entry, PathElement, Tensor, TensorKind, ValueKind};
use serde_json::{Value as Json, json};

use crate::hash::{self, Hash};
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

    /// Mark tensors that cannot be read, and list the others
    #[arg(long)]
    lenient: bool,
}

impl Ls {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let Self { source, json, sha256, lenient } = self;
        let checkpoint = source.options().lenient(*lenient).open(source.path())?;
        if *sha256 {
            checkpoint.check_views().map_err(|error| error.in_file(source.path()))?;
        }
        // Hashes come first: what cannot be read is known before anything is printed.
        let hashes = sha256.then(|| hash::all(&checkpoint));
        if !lenient {
            let failed =
                rows(&checkpoint).zip(hashes.iter().flatten()).find_map(|(entry, hash)| match hash {
                    Hash::Failed(error) => Some((entry, error)),
                    Hash::Known(_) | Hash::Absent => None,
                });
            if let Some((entry, error)) = failed {
                return Err(Failure::tensor(source.path(), entry.name(), error));
            }
        }
        if *json {
            let mut out = output::machine();
            write_json(&mut out, &source.path().to_string_lossy(), &checkpoint, hashes.as_deref())?;
            out.flush()?;
        } else {
            let tally = Tally::of(&checkpoint);
            let mut out = output::human();
            table::write(&mut out, &checkpoint, &tally, hashes.as_deref())?;
            writeln!(out, "{}", totals(&checkpoint, &tally))?;
            out.flush()?;
        }
        Ok(())
    }
}

/// What is listed: tensors, then NumPy's arrays.
pub(crate) fn rows(checkpoint: &Checkpoint) -> impl Iterator<Item = Entry<'_>> {
    checkpoint.entries().chain(checkpoint.arrays())
}

/// One object, with a line for each tensor.
fn write_json(
    out: &mut impl Write,
    file: &str,
    checkpoint: &Checkpoint,
    hashes: Option<&[Hash]>,
) -> io::Result<()> {
    let (format, order) = (checkpoint.format().name(), checkpoint.byte_order().name());
    write!(
        out,
        "{{\"file\":{},\"format\":{},\"byte_order\":{},\"tensors\":[",
        json!(file),
        json!(format),
        json!(order)
    )?;
    let tensors = checkpoint.entries().len();
    let mut separator = "\n";
    for (place, entry) in rows(checkpoint).enumerate() {
        if place == tensors {
            write!(out, "\n],\"arrays\":[")?;
            separator = "\n";
        }
        write!(out, "{separator}{}", line(entry, hashes.and_then(|hashes| hashes.get(place))))?;
        separator = ",\n";
    }
    writeln!(out, "\n]}}")
}

/// One tensor or array; of one that is damaged, where it should be and why it is not.
fn line(entry: Entry<'_>, hash: Option<&Hash>) -> Json {
    let Some(tensor) = entry.tensor() else {
        let error = entry.error().map(ToString::to_string);
        return json!({"path": path(entry), "name": entry.name(), "error": error});
    };
    let mut line = describe(entry, tensor);
    let Some(object) = line.as_object_mut() else { return line };
    match hash {
        None => {}
        Some(Hash::Known(hash)) => drop(object.insert("sha256".into(), json!(hash))),
        Some(Hash::Absent) => drop(object.insert("sha256".into(), Json::Null)),
        Some(Hash::Failed(error)) => {
            object.insert("sha256".into(), Json::Null);
            object.insert("error".into(), json!(error));
        }
    }
    line
}

fn path(entry: Entry<'_>) -> Vec<Json> {
    let spell = |element| match element {
        PathElement::Index(index) => json!(index),
        PathElement::Key(key) => json!(key),
        other => json!(other.to_string()),
    };
    entry.path().into_iter().map(spell).collect()
}

/// One tensor in the words of the contract with scripts.
fn describe(entry: Entry<'_>, tensor: &Tensor) -> Json {
    let strided = is_strided(tensor);
    let storage = tensor.storage();
    json!({
        "path": path(entry),
        "name": entry.name(),
        "dtype": tensor.dtype().name(),
        "shape": tensor.shape(),
        "stride": strided.then(|| tensor.stride()),
        "storage_offset": strided.then(|| tensor.storage_offset()),
        // Arrays lie in the pickle, in no storage of the file.
        "storage": storage.map(ptser::Storage::key).filter(|key| !key.is_empty()),
        "storage_nbytes": storage.map(ptser::Storage::nbytes),
        "nbytes": tensor.nbytes(),
        "requires_grad": tensor.requires_grad(),
        "layout": tensor.layout().name(),
        "kind": kind(entry, tensor),
    })
}

fn kind(entry: Entry<'_>, tensor: &Tensor) -> &'static str {
    match entry.value().kind() {
        ValueKind::Array(_) => "array",
        _ if tensor.is_parameter() => "parameter",
        _ => "tensor",
    }
}

/// Whether strides mean anything: not for sparse and nested tensors and wrapper subclasses.
fn is_strided(tensor: &Tensor) -> bool {
    match tensor.kind() {
        TensorKind::Strided | TensorKind::Quantized(_) | TensorKind::Meta => true,
        TensorKind::Sparse(_) | TensorKind::Nested(_) | TensorKind::Wrapper { .. } => false,
        _ => tensor.storage().is_some(),
    }
}

/// `26 tensors in 25 storages, 1.3 MB; 2 tensors share storage 4`.
fn totals(checkpoint: &Checkpoint, tally: &Tally<'_>) -> String {
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
    let arrays = checkpoint.arrays().len();
    if arrays > 0 {
        line.push_str(&format!("; {}", human::count(arrays, "NumPy array")));
    }
    let damaged = checkpoint.entries().filter(|entry| entry.error().is_some()).count();
    if damaged > 0 {
        line.push_str(&format!("; {damaged} damaged"));
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
