//! The built program, and the files that tests run it over.
#![allow(dead_code, reason = "each test binary uses some of them")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

pub(crate) fn folder(below: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(below)
}

/// A file that the library's tests use too.
pub(crate) fn zip(name: &str) -> PathBuf {
    folder("../../tests/fixtures/zip").join(name)
}

/// A file of these tests.
pub(crate) fn own(name: &str) -> PathBuf {
    folder("tests/fixtures").join(name)
}

pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ptser"));
    command.env_remove("CLICOLOR_FORCE").env_remove("NO_COLOR");
    command
}

pub(crate) fn run(verb: &str, file: &Path, options: &[&str]) -> Output {
    command().arg(verb).arg(file).args(options).output().unwrap()
}

pub(crate) fn stdout(output: &Output) -> &str {
    assert!(output.status.success(), "{:?}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    std::str::from_utf8(&output.stdout).unwrap()
}

pub(crate) fn json(verb: &str, file: &Path, options: &[&str]) -> Value {
    let options = [&["--json"], options].concat();
    serde_json::from_str(stdout(&run(verb, file, &options))).unwrap()
}

/// The message of a file that cannot be read.
pub(crate) fn unreadable(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let message = std::str::from_utf8(&output.stderr).unwrap();
    let line = message.strip_prefix("ptser: ").and_then(|rest| rest.strip_suffix('\n')).unwrap();
    assert!(!line.contains(char::is_control), "{line:?}");
    line.to_owned()
}

/// `ptser VERB IN OUT OPTIONS`.
pub(crate) fn rewrite(verb: &str, input: &Path, output: &Path, options: &[&str]) -> Output {
    command().arg(verb).arg(input).arg(output).args(options).output().unwrap()
}

/// The tensors of a file: name, and type, shape and hash of the values.
pub(crate) fn tensors(file: &Path, options: &[&str]) -> BTreeMap<String, (Value, Value, Value)> {
    let found = json("ls", file, &[&["--sha256"], options].concat());
    let describe = |tensor: &Value| {
        let values = (tensor["dtype"].clone(), tensor["shape"].clone(), tensor["sha256"].clone());
        (tensor["name"].as_str().unwrap().to_owned(), values)
    };
    found["tensors"].as_array().unwrap().iter().map(describe).collect()
}

/// The names of the files in a folder, in order.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Overwrites the deflated bytes of a storage of `deflated.pt`: it opens, and reading it fails.
pub(crate) fn damaged(into: &Path) -> PathBuf {
    let mut bytes = std::fs::read(zip("deflated.pt")).unwrap();
    // The local header of data/7 is in front of them.
    let name = b"deflated/data/7";
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap() + name.len();
    bytes[at..at + 8].fill(0xff);
    let file = into.join("damaged.pt");
    std::fs::write(&file, bytes).unwrap();
    file
}
