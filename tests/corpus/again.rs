//! Files of PyTorch, written again: the same bytes.

use std::path::Path;

use ptser::{Globals, LoadOptions, SaveOptions};
use serde_json::Value as Json;

use crate::oracle::text;

/// The writers that are today's PyTorch with some options; the others are older, or somebody else's.
const TODAYS: [&str; 19] = [
    "zip_p2",
    "zip_p3",
    "zip_p4",
    "zip_p5",
    "zip_bytesio",
    "zip_align1",
    "zip_align16",
    "zip_align4096",
    "zip_nocrc",
    "zip_name_dots",
    "zip_name_long",
    "zip_name_nonascii",
    "zip_name_space",
    "zip_nobyteorder",
    "zip_skipdata",
    "leg_p2",
    "leg_p3",
    "leg_p4",
    "leg_p5",
];

pub(crate) fn is_one(file: &Path, entry: &Json) -> bool {
    let folder = file.parent().and_then(Path::file_name).unwrap_or_default();
    text(entry, "set") == "synth" && TODAYS.iter().any(|writer| folder == *writer)
}

pub(crate) fn check(file: &Path, _: &Json) -> Result<(), String> {
    let checkpoint =
        LoadOptions::new().globals(Globals::inert()).open(file).map_err(|error| error.to_string())?;
    let written = SaveOptions::like(&checkpoint).and_then(|options| options.to_bytes(&checkpoint));
    let written = written.map_err(|error| error.to_string())?;
    let expected = std::fs::read(file).map_err(|error| error.to_string())?;
    match written.iter().zip(&expected).position(|(written, expected)| written != expected) {
        Some(at) => Err(format!("byte {at} differs")),
        None if written.len() == expected.len() => Ok(()),
        None => Err(format!("{} bytes, expected {}", written.len(), expected.len())),
    }
}
