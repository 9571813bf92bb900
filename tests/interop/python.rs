//! A Python interpreter that has PyTorch, and the scripts of this folder.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, Output};

/// What a script needs; TorchVersion compares as a version does.
const NEEDED: &str = "import numpy, torch; assert torch.__version__ >= (2, 15), torch.__version__";

/// The interpreter that `PTSER_PYTHON` names, which then must have PyTorch; or else `python3`, where it has it.
pub(crate) fn with_torch() -> Option<OsString> {
    let named = std::env::var_os("PTSER_PYTHON").filter(|named| !named.is_empty());
    let python = named.clone().unwrap_or_else(|| "python3".into());
    let imported = command(&python).args(["-c", NEEDED]).output();
    match imported.map_err(|error| error.to_string()).and_then(succeeded) {
        Ok(_) => Some(python),
        Err(why) => {
            assert!(named.is_none(), "PTSER_PYTHON is {python:?}, which has no numpy and torch 2.15: {why}");
            None
        }
    }
}

/// The interpreter that has an old PyTorch, where one is named.
pub(crate) fn old() -> Option<OsString> {
    std::env::var_os("PTSER_PYTHON_OLD").filter(|named| !named.is_empty())
}

/// Runs a script of this folder; gives what it prints.
pub(crate) fn run(python: &OsStr, script: &str, args: &[&OsStr]) -> Result<String, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop").join(script);
    let output = command(python).arg(script).args(args).output();
    output.map_err(|error| error.to_string()).and_then(succeeded)
}

/// The interpreter, set so that it writes nothing beside the scripts and orders sets the same in every run.
fn command(python: &OsStr) -> Command {
    let mut command = Command::new(python);
    command.arg("-B").env("PYTHONHASHSEED", "0");
    command
}

fn succeeded(output: Output) -> Result<String, String> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("python ended with {}:\n{}", output.status, said.trim_end()))
}
