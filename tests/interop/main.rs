//! Reads what PyTorch writes: hundreds of generated checkpoints, compared with what PyTorch itself finds in them. Then
//! saves them again, and compares what PyTorch finds in those files.
//!
//! `PTSER_PYTHON` names a Python interpreter that has torch 2.15 and numpy; without it, `python3` is taken where it
//! has both. `PTSER_INTEROP_SEED` makes other checkpoints, `PTSER_INTEROP_ONLY` reads those whose file names
//! hold a text. `PTSER_PYTHON_OLD` names a Python that has an older torch with `weights_only`, such as 1.13. After a failure the checkpoints stay where the message says.
//!
//! Where PyTorch reads what it wrote wrong, or not at all, the right content is expected: `is_bug` in `writers.py`
//! and `rebuild_v3` in `describe.py` say of which files. Arrays of numpy and the like are opened and not compared.

#[cfg(test)]
#[path = "../support/build.rs"]
mod build;
#[cfg(test)]
mod case;
#[cfg(test)]
#[path = "../support/compare.rs"]
mod compare;
#[cfg(test)]
mod damaged;
#[cfg(test)]
#[path = "../../examples/resume_from_pytorch/go_on.rs"]
mod go_on;
#[cfg(test)]
#[path = "../support/mutate.rs"]
mod mutate;
#[cfg(test)]
#[path = "../support/oracle.rs"]
mod oracle;
#[cfg(test)]
mod python;
#[cfg(test)]
mod resume;
#[cfg(test)]
mod saving;
#[cfg(test)]
#[path = "../support/mod.rs"]
mod support;
#[cfg(test)]
#[path = "../support/values.rs"]
mod values;

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Mutex;

    use crate::case::Case;
    use crate::{python, saving};

    #[test]
    fn generated_checkpoints_hold_what_pytorch_finds() {
        let Some(python) = python::with_torch() else {
            println!(
                "PyTorch not found, interop not run (set PTSER_PYTHON to a python with torch 2.15 and numpy)"
            );
            return;
        };
        let seed = std::env::var("PTSER_INTEROP_SEED").unwrap_or_else(|_| "1".into());
        let folder = tempfile::tempdir().unwrap();
        let made = python::run(&python, "make.py", &[folder.path().as_os_str(), seed.as_ref()]);
        let mut failures: Vec<String> = made.err().into_iter().collect();
        let cases = Case::all(folder.path());
        failures.extend(failing(&cases, folder.path()));
        failures.extend(saving::save_again(&cases, folder.path()));
        failures.extend(python::run(&python, "check.py", &[folder.path().as_os_str()]).err());
        match python::old() {
            Some(old) => failures.extend(python::run(&old, "old.py", &[folder.path().as_os_str()]).err()),
            None => println!("PTSER_PYTHON_OLD is not set, nothing saved is loaded with an old PyTorch"),
        }
        println!("{} cases of seed {seed}, {} failures", cases.len(), failures.len());
        if !failures.is_empty() {
            let kept = folder.keep();
            let shown = failures.join("\n");
            panic!(
                "{} failures of seed {seed}; the files are kept in {}\n{shown}",
                failures.len(),
                kept.display()
            );
        }
        let all = std::env::var_os("PTSER_INTEROP_ONLY").is_none();
        assert!(!all || cases.len() > 900, "only {} cases", cases.len());
    }

    /// Checks the cases on all processors, and tells those that fail.
    fn failing(cases: &[Case], folder: &Path) -> Vec<String> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let failures = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let failures = &failures;
                scope.spawn(move || {
                    for case in cases.iter().skip(thread).step_by(threads) {
                        if let Err(why) = case.check(folder) {
                            failures.lock().unwrap().push(format!("{}: {why}", case.name()));
                        }
                    }
                });
            }
        });
        let mut failures = failures.into_inner().unwrap();
        failures.sort();
        failures
    }
}
