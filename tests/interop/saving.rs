//! Saves the checkpoints of a run again, and lists of their tensors, for PyTorch to load; `check.py` says what it finds.

use std::path::Path;

use ptser::{ByteOrder, Checkpoint, DType, Format, Object, SaveOptions, Tensor, TensorKind};
use serde_json::{Value as Json, json};

use crate::case::Case;

/// Ways of saving, by name.
fn ways() -> Vec<(&'static str, SaveOptions)> {
    let new = SaveOptions::new;
    let protocol = |protocol| new().protocol(protocol).unwrap();
    let legacy = || new().format(Format::Legacy).unwrap();
    vec![
        ("protocol_3", protocol(3)),
        ("protocol_4", protocol(4)),
        ("protocol_5", protocol(5).alignment(4096)),
        ("aligned_1", new().alignment(1)),
        ("no_crc", new().crc32(false)),
        ("compact", new().compact(true)),
        ("legacy", legacy()),
        ("legacy_4", legacy().protocol(4).unwrap()),
        ("legacy_compact", legacy().compact(true)),
        ("big", new().byte_order(ByteOrder::Big)),
        ("byteorder_last", new().byteorder_record(false)),
    ]
}

/// What PyTorch reads of a checkpoint in some way: not untyped storages in legacy streams, and not swapped.
fn is_read(way: &str, checkpoint: &Checkpoint) -> bool {
    let typed = checkpoint.storages().iter().all(|storage| storage.dtype().is_some());
    typed || !(way.starts_with("legacy") || way == "big")
}

/// Saves each case by default and in one other way, and its tensors in a list. Returns failures.
pub(crate) fn save_again(cases: &[Case], folder: &Path) -> Vec<String> {
    std::fs::create_dir(folder.join("again")).unwrap();
    let (mut lines, mut failures) = (String::new(), Vec::new());
    let ways = ways();
    for (number, case) in cases.iter().enumerate() {
        if case.is_program() {
            continue;
        }
        let checkpoint = match case.open(folder) {
            Ok(checkpoint) => checkpoint,
            Err(why) => {
                failures.push(format!("{}: {why}", case.name()));
                continue;
            }
        };
        let (way, options) = &ways[number % ways.len()];
        let other = is_read(way, &checkpoint).then(|| (*way, options.clone()));
        for (way, options) in [("default", SaveOptions::new())].into_iter().chain(other) {
            let file = format!("again/{number}_{way}.pt");
            match options.durable(false).save(folder.join(&file), &checkpoint) {
                Ok(()) => {
                    push(&mut lines, json!({"file": file, "of": case.line(), "cut": way.contains("compact")}))
                }
                Err(error) if is_beyond(&error.to_string()) => {}
                Err(error) => failures.push(format!("{} as {way}: {error}", case.name())),
            }
        }
        let (paths, tensors) = tensors(&checkpoint);
        let old = tensors.iter().all(is_old);
        let file = format!("again/{number}_built.pt");
        match SaveOptions::new().durable(false).save(folder.join(&file), &Object::list(tensors)) {
            Ok(()) => push(
                &mut lines,
                json!({"file": file, "of": case.line(), "cut": false, "paths": paths, "old": old}),
            ),
            Err(error) => failures.push(format!("{} as a list: {error}", case.name())),
        }
    }
    std::fs::write(folder.join("again.jsonl"), lines).unwrap();
    failures
}

/// Whether the way of saving cannot say it: the older protocols keyword arguments, streams data that PyTorch needs at once.
fn is_beyond(error: &str) -> bool {
    error.contains("keyword arguments of a constructor")
        || error.contains("in a legacy stream: PyTorch reads")
}

fn push(lines: &mut String, line: Json) {
    lines.push_str(&line.to_string());
    lines.push('\n');
}

/// The tensors that can be saved by themselves, and their paths.
fn tensors(checkpoint: &Checkpoint) -> (Vec<String>, Vec<Tensor>) {
    let alone =
        |tensor: &Tensor| !matches!(tensor.kind(), TensorKind::Nested(_) | TensorKind::Wrapper { .. });
    checkpoint
        .entries()
        .filter(|entry| alone(entry.tensor().expect("an entry has a tensor")))
        .map(|entry| {
            let path: Vec<String> = entry.path().iter().map(ToString::to_string).collect();
            (path.join("/"), entry.tensor().expect("an entry has a tensor").clone())
        })
        .unzip()
}

/// Whether torch 1.13 knows all of it.
fn is_old(tensor: &Tensor) -> bool {
    let known = [
        DType::Float64,
        DType::Float32,
        DType::Float16,
        DType::BFloat16,
        DType::Int64,
        DType::Int32,
        DType::Int16,
        DType::Int8,
        DType::UInt8,
        DType::Bool,
        DType::Complex64,
        DType::Complex128,
    ];
    matches!(tensor.kind(), TensorKind::Strided)
        && known.contains(&tensor.dtype())
        && !tensor.is_conj()
        && !tensor.is_neg()
}
