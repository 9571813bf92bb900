//! A disk without room: an error that says so, and nothing else changed.

use std::io::{self, ErrorKind as IoKind, Write};
use std::path::Path;
use std::process::Command;

use ptser::{ErrorKind, Reason, SaveOptions};

use crate::tests::{child_of, file_of, filled, litter};

/// Takes so many bytes and no more.
struct Small {
    taken: Vec<u8>,
    room: usize,
}

impl Write for Small {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fits = bytes.len().min(self.room - self.taken.len());
        if fits == 0 && !bytes.is_empty() {
            return Err(IoKind::StorageFull.into());
        }
        self.taken.extend_from_slice(&bytes[..fits]);
        Ok(fits)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Saves into a sink of each of the sizes.
fn fills(nbytes: usize, sizes: impl IntoIterator<Item = usize>) {
    let object = filled(1, nbytes);
    let whole = SaveOptions::new().to_bytes(&object).unwrap();
    for room in sizes.into_iter().filter(|size| *size < whole.len()).chain([whole.len()]) {
        let mut sink = Small { taken: Vec::new(), room };
        let outcome = SaveOptions::new().write(&mut sink, &object);
        assert!(whole.starts_with(&sink.taken), "{room}: other bytes");
        match outcome {
            Ok(()) => assert_eq!(sink.taken.len(), whole.len()),
            Err(error) => {
                assert!(room < whole.len(), "{room}: {error}");
                assert_eq!(error.kind(), ErrorKind::Io, "{room}: {error}");
                let Reason::Io(error) = error.reason() else { panic!("{room}: {error:?}") };
                assert_eq!(error.kind(), IoKind::StorageFull, "{room}");
            }
        }
    }
}

#[test]
fn a_sink_that_fills_up_at_any_byte_is_an_error_of_the_system() {
    fills(100, 0..4000);
    // Around the writers' buffer, and where a checksum is calculated beside the writing.
    fills(200 << 10, (0..240 << 10).step_by(997));
    fills(5 << 20, (0..6 << 20).step_by(311_111));
}

/// Saves what does not fit, over what is there.
pub(crate) fn save_large(target: &Path) {
    let old = filled(1, 10_000);
    SaveOptions::new().save(target, &old).unwrap();
    for options in [SaveOptions::new(), SaveOptions::new().durable(false)] {
        let error = options.save(target, &filled(2, 4 << 20)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        let Reason::Io(reason) = error.reason() else { panic!("{error:?}") };
        assert!(matches!(reason.kind(), IoKind::StorageFull | IoKind::FileTooLarge), "{error:?}");
        assert_eq!(error.file(), Some(target));
        assert!(std::fs::read(target).unwrap() == file_of(target, &old), "the old file has changed");
        assert_eq!(litter(target), [""; 0]);
    }
    // There is room again.
    SaveOptions::new().save(target, &filled(3, 10_000)).unwrap();
    crate::folder::save_large_behind(target);
    println!("kept whole");
}

/// Runs a shell script that prepares a folder, its first argument, and becomes the child.
fn child_behind(script: &str, arguments: &[&str], folder: &Path) -> String {
    let child = child_of("save-large", &folder.join("model.pt"));
    let mut command = Command::new(arguments[0]);
    command
        .args(&arguments[1..])
        .args(["sh", "-c", script])
        .arg(folder)
        .arg(child.get_program())
        .args(child.get_args());
    command.envs(child.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = command.output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_limit_of_file_sizes_keeps_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let told = child_behind(r#"trap "" XFSZ; ulimit -f 1024; exec "$@""#, &["env"], folder.path());
    assert!(told.contains("kept whole"), "{told}");
}

#[test]
fn a_full_disk_keeps_the_old_file() {
    if !cfg!(target_os = "linux") {
        println!("SKIPPED: a small disk can be mounted on Linux only");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let script = r#"mount -t tmpfs -o size=1m none "$0" || { echo "no mount"; exit; }; exec "$@""#;
    let can = Command::new("unshare").args(["--map-root-user", "--mount", "true"]).status();
    if !can.is_ok_and(|status| status.success()) {
        println!("SKIPPED: no `unshare`, or not allowed; no disk was filled");
        return;
    }
    let told = child_behind(script, &["unshare", "--map-root-user", "--mount"], folder.path());
    if told.contains("no mount") {
        println!("SKIPPED: a small disk cannot be mounted here; no disk was filled");
        return;
    }
    assert!(told.contains("kept whole"), "{told}");
}
