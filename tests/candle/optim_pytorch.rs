//! PyTorch goes on where Rust stopped: what is saved here is loaded there, strictly, and steps to PyTorch's own numbers.

use std::path::Path;
use std::process::Command;

use crate::optim::{CASES, given, optimizer, save};

#[test]
fn pytorch_goes_on_where_rust_stopped() {
    let Some(python) = std::env::var_os("PTSER_PYTHON").filter(|python| !python.is_empty()) else {
        println!("SKIPPED: PTSER_PYTHON is not set, PyTorch has not gone on with what was saved");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    // Of the schedule's steps only PyTorch knows the learning rates.
    let cases: Vec<_> = CASES.iter().filter(|(case, _)| *case != "adamw_scheduled").collect();
    for (case, dtype) in &cases {
        let given = given(dtype);
        let mut optimizer = optimizer(case, given.vars.clone());
        (0..5).for_each(|step| optimizer.step(&given.gradients(step)));
        std::fs::write(folder.path().join(format!("{case}.pt")), save(&given.checkpoint(&optimizer), case))
            .unwrap();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/candle/go_on.py");
    let output = Command::new(python).arg("-B").arg(script).arg(folder.path()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), cases.len().to_string(), "{error}");
}
