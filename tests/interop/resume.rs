//! A loop that PyTorch begins and Rust goes on with, and the other way round: the losses are those of one program.

use std::ffi::OsStr;
use std::path::Path;

use crate::go_on::go_on;
use crate::python;

const STEPS: usize = 10;

/// The losses that the script of the example prints.
fn in_pytorch(python: &OsStr, checkpoint: &Path, steps: usize) -> Vec<f64> {
    let script = "../../examples/resume_from_pytorch/resume.py";
    let said = python::run(python, script, &[checkpoint.as_os_str(), steps.to_string().as_ref()]).unwrap();
    said.lines().map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap()).collect()
}

fn in_rust(checkpoint: &Path, steps: usize) -> Vec<f64> {
    go_on(checkpoint, steps).unwrap().1
}

fn check(one: &[f64], two: &[f64]) {
    assert_eq!((one.len(), two.len()), (2 * STEPS, 2 * STEPS));
    for (one, two) in one.iter().zip(two) {
        // As many digits as the script prints.
        assert!((one - two).abs() < 2e-9, "{one} {two}");
    }
}

#[test]
fn either_side_goes_on_with_what_the_other_began() {
    let Some(python) = python::with_torch() else {
        println!("PyTorch not found, no training loop was resumed (set PTSER_PYTHON)");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);

    let alone = in_pytorch(&python, &file("pytorch.pt"), 2 * STEPS);
    let mut both = in_pytorch(&python, &file("to_rust.pt"), STEPS);
    both.extend(in_rust(&file("to_rust.pt"), STEPS));
    check(&alone, &both);

    let alone = in_rust(&file("rust.pt"), 2 * STEPS);
    let mut both = in_rust(&file("to_pytorch.pt"), STEPS);
    both.extend(in_pytorch(&python, &file("to_pytorch.pt"), STEPS));
    check(&alone, &both);
    // And back again: what PyTorch saved of what Rust began.
    in_rust(&file("to_pytorch.pt"), 1);
}
