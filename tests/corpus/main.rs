//! Reads a corpus of real, synthetic and damaged checkpoints, and compares with what PyTorch finds in them.
//!
//! The corpus is no part of the repository: the environment variable `PTSER_CORPUS` names its folder. It has
//! an `index.json` with one entry a file, and beside each sound `FILE` a `FILE.oracle.json`, in which PyTorch
//! describes what it loads. `PTSER_CORPUS_ONLY` picks the files whose names hold a text.

#[cfg(test)]
mod again;
#[cfg(test)]
mod bad;
#[cfg(test)]
#[path = "../support/compare.rs"]
mod compare;
#[cfg(test)]
mod good;
#[cfg(test)]
mod memory;
#[cfg(test)]
#[path = "../support/oracle.rs"]
mod oracle;
#[cfg(test)]
mod scan;
#[cfg(test)]
#[path = "../support/mod.rs"]
mod support;
#[cfg(test)]
#[path = "../support/values.rs"]
mod values;

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use serde_json::Value as Json;

    use crate::{again, bad, good, scan};

    /// Runs `check` on the files that `wanted` picks, and fails with all that went wrong.
    fn each(name: &str, wanted: fn(&Path, &Json) -> bool, check: fn(&Path, &Json) -> Result<(), String>) {
        let Some(folder) = std::env::var_os("PTSER_CORPUS").map(PathBuf::from) else {
            println!("{name}: skipped, PTSER_CORPUS names no corpus");
            return;
        };
        let index = std::fs::read(folder.join("index.json")).expect("the corpus has an index.json");
        let index: Vec<Json> = serde_json::from_slice(&index).expect("index.json is a list");
        let only = std::env::var("PTSER_CORPUS_ONLY").unwrap_or_default();
        let mut checked = 0_usize;
        let mut failures = Vec::new();
        for entry in &index {
            let file = entry["file"].as_str().expect("each entry names its file");
            if !file.contains(&only) || !wanted(&folder.join(file), entry) {
                continue;
            }
            checked += 1;
            if let Err(why) = check(&folder.join(file), entry) {
                failures.push(format!("{file}: {why}"));
            }
        }
        println!("{name}: {checked} files, {} failures", failures.len());
        assert!(failures.is_empty(), "{} of {checked} files:\n{}", failures.len(), failures.join("\n"));
    }

    #[test]
    fn sound_files_hold_what_pytorch_finds() {
        each("sound", good::is_one, good::check);
    }

    #[test]
    fn damaged_and_hostile_files_have_the_outcome_they_deserve() {
        each("bad", bad::is_one, bad::check);
    }

    #[test]
    fn files_of_todays_pytorch_are_written_again_byte_for_byte() {
        each("again", again::is_one, again::check);
    }

    #[test]
    fn scans_find_the_globals_of_every_file() {
        each("scan", |_, _| true, scan::check);
    }
}
