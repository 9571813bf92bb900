//! Files are replaced as a whole: what was there stays until the new file is, with its links and permissions.

use std::fs;
use std::path::Path;

use ptser::{Checkpoint, DType, ErrorKind, Object, SaveOptions, Storage};

use super::{floats, raw, small};
use crate::fixtures;

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_file_that_is_there_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.pt");
    fs::write(&path, "old").unwrap();
    let reader = fs::File::open(&path).unwrap();
    SaveOptions::new().save(&path, &small()).unwrap();
    Checkpoint::open(&path).unwrap();
    // Who reads the old file goes on with it.
    assert_eq!(std::io::read_to_string(reader).unwrap(), "old");
    assert_eq!(names(folder.path()), ["model.pt"]);
    SaveOptions::new().root_folder("model").durable(false).save(&path, &small()).unwrap();
    assert_eq!(names(folder.path()), ["model.pt"]);
}

#[cfg(unix)]
#[test]
fn permissions_are_kept_and_new_files_have_those_of_new_files() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.pt");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    SaveOptions::new().save(&path, &small()).unwrap();
    let plain = folder.path().join("plain");
    fs::write(&plain, "").unwrap();
    assert_eq!(mode(&path), mode(&plain));
    for kept in [0o640, 0o600, 0o444] {
        fs::set_permissions(&path, fs::Permissions::from_mode(kept)).unwrap();
        SaveOptions::new().save(&path, &small()).unwrap();
        assert_eq!(mode(&path), kept);
    }
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_stay_links() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let (inner, at) = (folder.path().join("inner"), |name: &str| folder.path().join(name));
    fs::create_dir(&inner).unwrap();
    fs::write(inner.join("there.pt"), "old").unwrap();
    symlink("inner/there.pt", at("link.pt")).unwrap();
    symlink("link.pt", at("second.pt")).unwrap();
    // To nothing yet.
    symlink("inner/new.pt", at("dangling.pt")).unwrap();
    symlink("dangling.pt", at("dangling2.pt")).unwrap();
    for name in ["link.pt", "second.pt", "dangling2.pt", "dangling.pt"] {
        SaveOptions::new().save(at(name), &small()).expect(name);
        assert!(fs::symlink_metadata(at(name)).unwrap().is_symlink(), "{name}");
        assert_eq!(Checkpoint::open(at(name)).unwrap().root_folder(), name.trim_end_matches(".pt"));
    }
    assert_eq!(names(&inner), ["new.pt", "there.pt"]);
    assert_eq!(names(folder.path()).len(), 5);
    symlink("circle.pt", at("circle.pt")).unwrap();
    assert_eq!(SaveOptions::new().save(at("circle.pt"), &small()).unwrap_err().kind(), ErrorKind::Io);
}

#[cfg(target_os = "linux")]
#[test]
fn pipes_and_devices_are_written_to() {
    SaveOptions::new().save("/dev/null", &small()).unwrap();
    SaveOptions::new().skip_data(true).save("/dev/null", &small()).unwrap();
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
    let error = SaveOptions::new().save("/dev/full", &floats(&[1000]).into_object()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe.pt");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    if !made.is_ok_and(|status| status.success()) {
        println!("mkfifo not found, pipes not written to");
        return;
    }
    for options in [SaveOptions::new(), SaveOptions::new().skip_data(true)] {
        let reader = {
            let pipe = pipe.clone();
            std::thread::spawn(move || fs::read(pipe).unwrap())
        };
        options.save(&pipe, &small()).unwrap();
        let expected = options.clone().root_folder("pipe").to_bytes(&small()).unwrap();
        assert!(reader.join().unwrap() == expected);
    }
    assert_eq!(names(folder.path()), ["pipe.pt"]);
}

trait IntoObject {
    fn into_object(self) -> Object;
}

impl<T: Into<Object>> IntoObject for T {
    fn into_object(self) -> Object {
        self.into()
    }
}

/// A folder that takes no new files.
#[cfg(target_os = "linux")]
#[test]
fn folders_that_take_no_files_are_errors_and_the_old_file_stays() {
    use std::os::unix::fs::PermissionsExt;
    // Nobody makes files here, root neither.
    let error = SaveOptions::new().save("/proc/model.pt", &small()).unwrap_err();
    assert_eq!((error.kind(), error.file()), (ErrorKind::Io, Some(Path::new("/proc/model.pt"))));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.pt");
    fs::write(&path, "old").unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(folder.path().join("probe"), "").is_ok() {
        println!("this user writes to read-only folders, which is not checked then");
        return;
    }
    let error = SaveOptions::new().save(&path, &small()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert_eq!(
        (fs::read_to_string(&path).unwrap(), names(folder.path())),
        ("old".into(), vec!["model.pt".into()])
    );
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_checkpoint_may_replace_the_file_that_it_is_read_from() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state_dict.pt");
    fs::copy(fixtures::path("state_dict.pt"), &path).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    SaveOptions::new().compact(true).save(&path, &checkpoint).unwrap();
    let expected = fixtures::contents(&fixtures::open("state_dict.pt"));
    assert_eq!(fixtures::contents(&Checkpoint::open(&path).unwrap()), expected);
    assert_eq!(fixtures::contents(&checkpoint), expected);
}

/// Room is made first, and data written by threads, in any order.
#[test]
fn reserved_files_are_filled_by_threads() {
    let folder = tempfile::tempdir().unwrap();
    let tensors: Vec<_> = (1..20).map(|count| raw(DType::Int32, &[count * 100])).collect();
    let object = Object::list(tensors.clone());
    let (reserved, plain) = (folder.path().join("model.pt"), folder.path().join("plain.pt"));
    let options = SaveOptions::new().crc32(false).root_folder("model");
    options.save(&plain, &object).unwrap();
    {
        let checkpoint = options.reserve(&reserved, &object).unwrap();
        assert!(
            checkpoint.storages().iter().all(|storage| storage.to_vec().unwrap().iter().all(|&b| b == 0))
        );
        let storages: Vec<&Storage> = checkpoint.storages().iter().collect();
        std::thread::scope(|scope| {
            for first in [0, 1] {
                let (storages, tensors) = (&storages, &tensors);
                scope.spawn(move || {
                    for place in (first..storages.len()).step_by(2).collect::<Vec<_>>().into_iter().rev() {
                        let bytes = tensors[place].to_contiguous().unwrap();
                        let (head, tail) = bytes.split_at(bytes.len() / 2);
                        let behind = u64::try_from(head.len()).unwrap();
                        storages[place].write_at(behind, tail).unwrap();
                        storages[place].write_at(0, head).unwrap();
                    }
                });
            }
        });
        assert!(storages[0].write_at(storages[0].nbytes(), &[1]).is_err());
    }
    let (filled, plain) = (Checkpoint::open(&reserved).unwrap(), Checkpoint::open(&plain).unwrap());
    assert_eq!(fixtures::contents(&filled), fixtures::contents(&plain));
    assert!(fs::read(&reserved).unwrap() == fs::read(folder.path().join("plain.pt")).unwrap());
}

/// Of large files room is made first, and the disk begins while they are written.
#[test]
fn large_files_are_what_a_stream_gets() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.pt");
    fs::write(&path, "old").unwrap();
    let sizes = [70 << 20, 3 << 20, 1000, (1 << 20) + 1];
    let object = Object::list(sizes.map(|size| {
        let bytes: Vec<u8> = (0..size).map(|place: u32| (place % 251) as u8).collect();
        let storage = Storage::from_bytes(Some(DType::UInt8), ptser::Location::cpu(), bytes);
        Object::storage(storage, Some(DType::UInt8))
    }));
    let options = SaveOptions::new().root_folder("large");
    let expected = options.to_bytes(&object).unwrap();
    for durable in [true, false] {
        options.clone().durable(durable).save(&path, &object).unwrap();
        assert!(fs::read(&path).unwrap() == expected, "durable: {durable}");
    }
    assert!(Checkpoint::open(&path).unwrap().verify(|_, _| {}).is_good());
}

#[test]
fn room_that_no_disk_has_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("huge.pt");
    fs::write(&path, "old").unwrap();
    let replacement = ptser::Replacement::of(&path).unwrap();
    match replacement.reserve(1 << 62) {
        Ok(()) => eprintln!("SKIPPED: this system cannot make room for files"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Io),
    }
    drop(replacement);
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(names(folder.path()), ["huge.pt"]);
}
