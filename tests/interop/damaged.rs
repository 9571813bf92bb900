//! Damaged files beside PyTorch: where both load one, its contents agree; where only one does, the reason is known.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ptser::{Checkpoint, LoadOptions};
use serde_json::{Value as Json, json};

use crate::compare::same_contents;
use crate::mutate::{mutated, originals};
use crate::oracle::{Oracle, text};
use crate::python;

/// How many files, unless `PTSER_INTEROP_DAMAGED` says so.
const CASES: u64 = 3_000;

/// Parts of what PyTorch says of files that only ptser loads, and why it does.
const OURS: &[(&str, &str)] = &[
    ("Unsupported operand", "opcodes that pickle has, and PyTorch's reader of weights has not"),
    ("Unsupported global: GLOBAL bytes was not", "`bytes` is allowed: PyTorch writes it itself"),
    ("unsupported GLOBAL bytes", "as above"),
    ("with TorchScript archives", "they are read with inert objects"),
    ("in the legacy .tar format", "read as any other"),
    ("PytorchStreamReader failed", "what its reader of archives looks at, and nothing needs"),
    ("archive does not contain any files", "as above"),
    ("Expected hasRecord(\"version\")", "the version says nothing that is needed"),
    ("file in archive is not in a subdirectory", "records beside the root folder are passed over"),
    ("codec can't decode byte", "PyTorch cannot even say which record is beside the root folder"),
    (
        "invalid literal for int() with base 10",
        "`.storage_alignment` is read when offsets are to be computed",
    ),
    ("Invalid device string", "a storage is put on a device when that is asked for"),
    ("has no attribute 'dtype'", "untyped storages in streams, over which PyTorch stumbles"),
    ("size is inconsistent with indices", "the indices of sparse tensors are data, which is read later"),
    ("found negative index", "as above"),
    ("is not satisfied", "as above"),
    ("to be a contiguous tensor per batch", "indices are read by whatever strides they have"),
    (
        "something else each time",
        "it gives out memory that it never wrote, for a record that is called a folder",
    ),
    ("GLOBAL __torch__.", "a program whose constants are in a record of another case is one here"),
    ("before_archive", "an archive behind other bytes, which PyTorch takes for a pickle"),
    ("KeyError", "as above"),
    ("Invalid magic number", "a number by itself is a pickle too, where nothing follows it"),
];

/// Parts of what we say of files that only PyTorch loads, and why.
const THEIRS: &[(&str, &str)] = &[
    ("corrupt archive", "a directory that says two things at once may be read in two ways"),
    ("this is a zip archive without files", "as above"),
    (
        "is not a storage class",
        "the class of a storage that is there already, at which PyTorch does not look again",
    ),
    ("does not match expected size", "its size, at which PyTorch does not look again either"),
    ("the highest is 5", "the protocol of a pickle, at which PyTorch does not look"),
    (
        "reaches into what follows it",
        "the bytes of another record are none of this one, which is told when it is read",
    ),
];

#[test]
fn damaged_files_hold_what_pytorch_finds_in_them() {
    let Some(python) = python::with_torch() else {
        println!("PyTorch not found, damaged files not compared");
        return;
    };
    let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().expect(name));
    let (cases, seed) = (number("PTSER_INTEROP_DAMAGED", CASES), number("PTSER_INTEROP_SEED", 1));
    let folder = tempfile::tempdir().unwrap();
    let originals = originals();
    let files: Vec<(String, Vec<u8>)> = (0..cases).map(|case| mutated(&originals, seed, case)).collect();
    let mut lines = String::new();
    for (case, (_, bytes)) in files.iter().enumerate() {
        let file = format!("{case}.pt");
        std::fs::write(folder.path().join(&file), bytes).unwrap();
        lines.push_str(&format!("{}\n", json!({"file": file})));
    }
    std::fs::write(folder.path().join("damaged.jsonl"), lines).unwrap();
    python::run(&python, "damaged.py", &[folder.path().as_os_str()]).unwrap();
    let told = std::fs::read_to_string(folder.path().join("loaded.jsonl")).unwrap();
    assert_eq!(told.lines().count(), files.len());
    let (mut both, mut only_ours, mut only_theirs, mut failures) = (0, 0, 0, Vec::new());
    for ((case, (name, bytes)), line) in files.into_iter().enumerate().zip(told.lines()) {
        let mut line: Json = serde_json::from_str(line).unwrap();
        let ours = LoadOptions::new().from_bytes(bytes);
        let outcome = match (ours, line["contents"].take()) {
            (Err(_), Json::Null) => Ok(()),
            (Ok(_), Json::Null) => {
                only_ours += 1;
                known(OURS, &format!("{name}: {}", text(&line, "error")))
            }
            (Err(error), _) => {
                only_theirs += 1;
                known(THEIRS, &error.to_string())
            }
            (Ok(ours), theirs) => {
                both += 1;
                same(&ours, theirs)
            }
        };
        failures.extend(outcome.err().map(|why| format!("case {case} of seed {seed}, {name}: {why}")));
    }
    println!(
        "{cases} damaged files of seed {seed}: {both} load in both, {only_ours} here, {only_theirs} in PyTorch; \
         {} failures",
        failures.len()
    );
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(both * 20 > cases, "only {both} files to compare");
}

fn known(reasons: &[(&str, &str)], said: &str) -> Result<(), String> {
    let known = reasons.iter().any(|(part, _)| said.contains(part));
    known.then_some(()).ok_or_else(|| format!("only one loads it: {said}"))
}

fn same(ours: &Checkpoint, theirs: Json) -> Result<(), String> {
    let compared = catch_unwind(AssertUnwindSafe(|| same_contents(ours, &Oracle::new(theirs))));
    // Classes as keys are spelled as Python does there, and by their names here.
    let is_spelling = |why: &String| why.contains("[\"r:<class '");
    match compared.unwrap_or_else(|_| Err("it panics".into())) {
        Err(why) if is_spelling(&why) || known(THEIRS, &why).is_ok() => Ok(()),
        outcome => outcome,
    }
}
