//! Sound files: the tensors and plain values that PyTorch finds are found, and nothing else.

use std::path::Path;

use ptser::{Checkpoint, Globals, LoadOptions};
use serde_json::Value as Json;

use crate::compare::{same, same_contents};
use crate::oracle::{Oracle, text};

pub(crate) fn is_one(_: &Path, entry: &Json) -> bool {
    matches!(text(entry, "set"), "real" | "synth")
}

pub(crate) fn check(file: &Path, _: &Json) -> Result<(), String> {
    let oracle = beside(file);
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
    if oracle.mode().is_some() {
        return same_contents(&checkpoint, &oracle);
    }
    match by_another_writer(file) {
        Some(oracle) => same_contents(&checkpoint, &oracle),
        None => {
            checkpoint.tensors().for_each(|(_, tensor)| drop(tensor.to_contiguous()));
            Ok(())
        }
    }
}

/// What PyTorch found in the same object when its default writer had written it.
fn by_another_writer(file: &Path) -> Option<Oracle> {
    let twin = file.parent()?.with_file_name("zip_p2").join(file.file_name()?);
    twin.exists().then(|| beside(&twin)).filter(|oracle| oracle.mode().is_some())
}

fn beside(file: &Path) -> Oracle {
    let path = format!("{}.oracle.json", file.display());
    Oracle::new(serde_json::from_slice(&std::fs::read(&path).expect(&path)).expect(&path))
}
