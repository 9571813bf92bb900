//! A process that is killed while it saves, and a disk that is full: what was at the path stays whole.
//!
//! Each test runs this program again as a child of its own, which does what `PTSER_CRASH_CHILD` says.

#![cfg(unix)]

#[cfg(test)]
mod folder;
#[cfg(test)]
mod full;
#[cfg(test)]
mod killed;

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use ptser::{DType, Location, Object, SaveOptions, Storage, Tensor};

    /// What the child does, and where.
    const CHILD: &str = "PTSER_CRASH_CHILD";
    const TARGET: &str = "PTSER_CRASH_TARGET";

    /// Does nothing but in a child.
    #[test]
    fn child() {
        let (Ok(what), Some(target)) = (std::env::var(CHILD), std::env::var_os(TARGET)) else { return };
        let target = PathBuf::from(target);
        match what.as_str() {
            "save-for-ever" => super::killed::save_for_ever(&target),
            "save-steps-for-ever" => super::folder::save_steps_for_ever(&target),
            "save-large" => super::full::save_large(&target),
            other => panic!("there is no child {other}"),
        }
    }

    /// This program again, as a child.
    pub(super) fn child_of(what: &str, target: &Path) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "--nocapture", "tests::child"]).env(CHILD, what).env(TARGET, target);
        command
    }

    /// A state dict of so many bytes, filled with a value throughout, in tensors of several sizes.
    pub(super) fn filled(with: u8, nbytes: usize) -> Object {
        let tensor = |nbytes: usize| {
            let storage = Storage::from_bytes(Some(DType::UInt8), Location::cpu(), vec![with; nbytes]);
            Tensor::contiguous(storage, DType::UInt8, [nbytes]).unwrap()
        };
        Object::dict([
            ("version", Object::from(with)),
            ("small", tensor(10).into()),
            ("large", tensor(nbytes).into()),
            ("middle", tensor(nbytes / 10).into()),
        ])
    }

    /// The bytes of the file that holds it.
    pub(super) fn file_of(target: &Path, object: &Object) -> Vec<u8> {
        let root = target.file_stem().unwrap().to_str().unwrap();
        SaveOptions::new().root_folder(root).to_bytes(object).unwrap()
    }

    /// What is in the target's folder besides the target.
    pub(super) fn litter(target: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(target.parent().unwrap()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| *name != *target.file_name().unwrap().to_str().unwrap()).collect()
    }

    /// Whether the folder's file system has files without names, which go with their process.
    pub(super) fn has_unnamed_files(folder: &Path) -> bool {
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::{Mode, OFlags, open};
            open(folder, OFlags::TMPFILE | OFlags::WRONLY, Mode::RUSR).is_ok()
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = folder;
            false
        }
    }
}
