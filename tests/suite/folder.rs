//! Folders of checkpoints: what is kept, what is found, what is damaged, and saving while training goes on.

use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

use ptser::{
    Checkpoint, CheckpointFolder, DType, Error, ErrorKind, Goal, HostBytes, LoadOptions, Location, Object,
    Result, SaveOptions, Storage, Tensor,
};

fn folder(path: &Path) -> CheckpointFolder {
    CheckpointFolder::create(path).unwrap().save_options(SaveOptions::new().durable(false))
}

/// A state dict whose bytes are all the same.
fn filled(with: u8) -> Object {
    object_of(Storage::from_bytes(Some(DType::UInt8), Location::cpu(), vec![with; 5000]))
}

fn object_of(storage: Storage) -> Object {
    let nbytes = usize::try_from(storage.nbytes()).unwrap();
    let whole = Tensor::contiguous(storage.clone(), DType::UInt8, [nbytes]).unwrap();
    let view = Tensor::view(storage, DType::UInt8, [10], [2], 5).unwrap();
    Object::dict([("whole", whole), ("view", view)])
}

fn filling(checkpoint: &Checkpoint) -> u8 {
    let bytes = checkpoint.tensor("whole").unwrap().to_contiguous().unwrap();
    assert!(bytes.iter().all(|byte| *byte == bytes[0]), "mixed");
    assert_eq!(checkpoint.storages().len(), 1);
    bytes[0]
}

fn steps(folder: &CheckpointFolder) -> Vec<u64> {
    folder.list().unwrap().iter().map(|saved| saved.step).collect()
}

#[test]
fn the_last_and_the_best_are_kept() {
    let there = tempfile::tempdir().unwrap();
    let folder = folder(there.path()).keep_last(2).keep_best(2, Goal::Lowest);
    let metrics =
        [Some(0.5), None, Some(0.125), Some(f64::NAN), Some(0.75), Some(0.25), Some(1.0), Some(0.5)];
    for (step, metric) in (1..).zip(metrics) {
        folder.save(step, metric, &filled(1)).unwrap();
        assert!(steps(&folder).contains(&step));
    }
    assert_eq!(steps(&folder), [3, 6, 7, 8]);
    let best = folder.best(Goal::Lowest).unwrap().unwrap();
    assert_eq!((best.saved.step, best.saved.metric), (3, Some(0.125)));
    assert_eq!(folder.best(Goal::Highest).unwrap().unwrap().saved.step, 7);
    assert_eq!(folder.latest().unwrap().unwrap().saved.step, 8);
    // Whoever opens the folder later finds the same, by the names of the files alone.
    let again = CheckpointFolder::create(there.path()).unwrap();
    assert_eq!(again.best(Goal::Lowest).unwrap().unwrap().saved.step, 3);
}

#[test]
fn of_equal_metrics_the_later_is_the_best() {
    let there = tempfile::tempdir().unwrap();
    let folder = folder(there.path()).keep_best(1, Goal::Highest);
    for step in 1..=3 {
        folder.save(step, Some(0.5), &filled(1)).unwrap();
    }
    assert_eq!(steps(&folder), [3]);
}

#[test]
fn a_step_that_is_saved_again_is_replaced() {
    let there = tempfile::tempdir().unwrap();
    let folder = folder(there.path());
    folder.save(1, Some(0.5), &filled(1)).unwrap();
    folder.save(2, Some(0.5), &filled(2)).unwrap();
    folder.save(2, Some(0.25), &filled(3)).unwrap();
    assert_eq!(steps(&folder), [1, 2]);
    assert_eq!(filling(&folder.latest().unwrap().unwrap().checkpoint), 3);
    // Also where its metric was no number.
    let folder = folder.keep_last(1);
    for (metric, with) in [(f64::NAN, 4), (0.125, 5), (f64::NAN, 6)] {
        folder.save(2, Some(metric), &filled(with)).unwrap();
        assert_eq!(steps(&folder), [2]);
        assert_eq!(filling(&folder.latest().unwrap().unwrap().checkpoint), with);
    }
}

#[test]
fn of_two_files_of_one_step_the_younger_is_the_latest() {
    let there = tempfile::tempdir().unwrap();
    // As a kill between saving and removing leaves them.
    for (metric, with) in [(Some(0.9), 1), (Some(0.25), 2), (None, 3)] {
        let other = tempfile::tempdir().unwrap();
        let saved = folder(other.path()).save(10, metric, &filled(with)).unwrap();
        std::fs::rename(&saved.path, there.path().join(saved.path.file_name().unwrap())).unwrap();
        let latest = folder(there.path()).latest().unwrap().unwrap();
        assert_eq!(filling(&latest.checkpoint), with);
        // The clock of files ticks slowly.
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    // They count as one.
    let folder = folder(there.path()).keep_last(2);
    folder.save(11, None, &filled(4)).unwrap();
    assert_eq!(steps(&folder), [10, 11]);
}

#[test]
fn a_failure_that_is_no_damage_is_no_reason_for_an_older_checkpoint() {
    let there = tempfile::tempdir().unwrap();
    let saved = folder(there.path()).save(1, None, &Object::dict([("step", 1)])).unwrap();
    folder(there.path()).save(2, None, &filled(2)).unwrap();
    let limits = ptser::Limits::default().tensor_bytes(100);
    let strict = folder(there.path()).load_options(LoadOptions::new().limits(limits));
    assert_eq!(strict.latest().unwrap_err().kind(), ErrorKind::LimitExceeded);
    strict.rewind(1).unwrap();
    assert_eq!(strict.latest().unwrap().unwrap().saved, saved);
}

#[test]
fn what_was_saved_just_now_is_kept_though_its_step_is_not_the_last() {
    let there = tempfile::tempdir().unwrap();
    let folder = folder(there.path()).keep_last(2);
    for step in [10, 20, 30] {
        folder.save(step, None, &filled(1)).unwrap();
    }
    folder.save(11, None, &filled(2)).unwrap();
    assert_eq!(steps(&folder), [11, 20, 30]);
    // Whoever goes back says so.
    folder.rewind(11).unwrap();
    assert_eq!(steps(&folder), [11]);
}

#[test]
fn other_files_are_left_alone() {
    let there = tempfile::tempdir().unwrap();
    let others = ["step-1.pt", "model.pt", "step-00000001.txt"];
    for name in others {
        std::fs::write(there.path().join(name), "mine").unwrap();
    }
    let folder = folder(there.path()).keep_last(1);
    assert!(folder.latest().unwrap().is_none());
    folder.save(1, None, &filled(1)).unwrap();
    folder.save(2, None, &filled(1)).unwrap();
    assert_eq!(steps(&folder), [2]);
    assert!(others.iter().all(|name| there.path().join(name).exists()));
}

#[test]
fn damaged_files_are_passed_over_and_named() {
    let there = tempfile::tempdir().unwrap();
    let folder = folder(there.path());
    for step in 1..=5 {
        folder.save(step, None, &filled(u8::try_from(step).unwrap())).unwrap();
    }
    let files: Vec<_> = folder.list().unwrap().into_iter().map(|saved| saved.path).collect();
    // One byte of the data is another, the file is cut, and it is no checkpoint at all.
    let mut bytes = std::fs::read(&files[4]).unwrap();
    let middle = bytes.windows(100).position(|bytes| bytes == [5; 100]).unwrap() + 2000;
    bytes[middle] ^= 1;
    std::fs::write(&files[4], &bytes).unwrap();
    std::fs::write(&files[3], &bytes[..3000]).unwrap();
    std::fs::write(&files[2], "").unwrap();
    let found = folder.latest().unwrap().unwrap();
    assert_eq!((found.saved.step, filling(&found.checkpoint)), (2, 2));
    let skipped: Vec<u64> = found.skipped.iter().map(|(saved, _)| saved.step).collect();
    assert_eq!(skipped, [5, 4, 3]);
    for ((_, error), path) in found.skipped.iter().zip(files.iter().rev()) {
        assert_eq!(error.file(), Some(path.as_path()), "{error}");
    }
    assert!(found.skipped[0].1.to_string().contains("data/0"), "{}", found.skipped[0].1);
    // Where none is whole the error is that of the last.
    for path in &files[..2] {
        std::fs::write(path, "").unwrap();
    }
    let error = folder.latest().unwrap_err();
    assert_eq!(error.file(), Some(files[4].as_path()));
}

#[test]
fn files_are_opened_as_the_options_say() {
    let there = tempfile::tempdir().unwrap();
    let folder = folder(there.path());
    folder.save(1, None, &Object::global("mine", "Thing")).unwrap();
    assert_eq!(folder.latest().unwrap_err().kind(), ErrorKind::Refused);
    let inert = folder.load_options(LoadOptions::new().globals(ptser::Globals::inert()));
    assert!(inert.latest().unwrap().is_some());
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error_that_names_it() {
    let there = tempfile::NamedTempFile::new().unwrap();
    let below = there.path().join("runs");
    let error = CheckpointFolder::create(&below).unwrap_err();
    assert_eq!((error.kind(), error.file()), (ErrorKind::Io, Some(below.as_path())));
}

/// Bytes that change, as those of a model in training do.
#[derive(Clone)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl HostBytes for Shared {
    fn nbytes(&self) -> u64 {
        self.0.lock().unwrap().len() as u64
    }

    fn with_bytes(&self, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        take(&self.0.lock().unwrap())
    }
}

#[test]
fn what_is_saved_in_the_background_is_of_the_moment_of_the_call() {
    let there = tempfile::tempdir().unwrap();
    let mut folder = folder(there.path()).in_background().unwrap();
    let shared = Shared(Arc::new(Mutex::new(vec![0; 300_000])));
    let object = object_of(Storage::from_host(Some(DType::UInt8), Location::cpu(), shared.clone()));
    for step in 0..20 {
        shared.0.lock().unwrap().fill(step);
        folder.save(step.into(), Some(f64::from(step)), &object).unwrap();
    }
    shared.0.lock().unwrap().fill(99);
    let folder = folder.finish().unwrap();
    assert_eq!(steps(&folder), (0..20).collect::<Vec<_>>());
    for saved in folder.list().unwrap() {
        assert_eq!(u64::from(filling(&Checkpoint::open(&saved.path).unwrap())), saved.step);
    }
}

#[test]
fn a_dropped_folder_has_saved_everything() {
    let there = tempfile::tempdir().unwrap();
    for step in 0..20 {
        let mut background = folder(there.path()).in_background().unwrap();
        background.save(step, None, &filled(1)).unwrap();
        drop(background);
        assert_eq!(folder(there.path()).latest().unwrap().unwrap().saved.step, step);
    }
}

#[test]
fn an_error_of_the_background_comes_with_the_next_call() {
    let there = tempfile::tempdir().unwrap();
    let runs = there.path().join("runs");
    let mut background = folder(&runs).in_background().unwrap();
    background.save(1, None, &filled(1)).unwrap();
    background.wait().unwrap();
    std::fs::remove_dir_all(&runs).unwrap();
    background.save(2, None, &filled(2)).unwrap();
    let error = background.save(3, None, &filled(3)).unwrap_err();
    assert_eq!((error.kind(), error.file()), (ErrorKind::Io, Some(runs.join("step-00000002.pt").as_path())));
    std::fs::create_dir(&runs).unwrap();
    background.save(3, None, &filled(3)).unwrap();
    assert_eq!(background.wait().unwrap().unwrap().step, 3);
    std::fs::remove_dir_all(&runs).unwrap();
    background.save(4, None, &filled(4)).unwrap();
    assert_eq!(background.finish().unwrap_err().kind(), ErrorKind::Io);
}

#[test]
fn what_cannot_be_copied_is_an_error_at_once_and_nothing_else() {
    struct Gone;
    impl HostBytes for Gone {
        fn nbytes(&self) -> u64 {
            100
        }
        fn with_bytes(&self, _: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
            Err(Error::backend("the device is gone"))
        }
    }
    let there = tempfile::tempdir().unwrap();
    let mut background = folder(there.path()).in_background().unwrap();
    let object = object_of(Storage::from_host(None, Location::cpu(), Gone));
    assert_eq!(background.save(1, None, &object).unwrap_err().kind(), ErrorKind::Backend);
    background.save(2, None, &filled(2)).unwrap();
    assert_eq!(steps(&background.finish().unwrap()), [2]);
}

/// Bytes that tell when they are copied.
struct Told(Sender<()>);

impl HostBytes for Told {
    fn nbytes(&self) -> u64 {
        100
    }

    fn with_bytes(&self, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        self.0.send(()).unwrap();
        take(&[7; 100])
    }
}

/// A pipe in place of the file holds the thread until somebody reads it.
#[cfg(unix)]
#[test]
fn who_saves_while_the_save_before_is_not_done_waits_before_copying() {
    let there = tempfile::tempdir().unwrap();
    let pipe = there.path().join("step-00000001.pt");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    if !made.is_ok_and(|status| status.success()) {
        println!("SKIPPED: no mkfifo, so nothing holds the thread up");
        return;
    }
    let mut background = folder(there.path()).in_background().unwrap();
    let (tell, told) = channel();
    let object = object_of(Storage::from_host(None, Location::cpu(), Told(tell)));
    background.save(1, None, &object).unwrap();
    told.recv().unwrap();
    assert!(!background.is_idle().unwrap());
    let saving = std::thread::spawn(move || {
        background.save(2, None, &object).unwrap();
        background.finish().unwrap()
    });
    // One copy was made and lies in memory; the second waits until the first is written.
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert!(told.try_recv().is_err());
    let bytes = std::fs::read(&pipe).unwrap();
    assert!(Checkpoint::from_bytes(bytes).is_ok());
    saving.join().unwrap();
    assert_eq!(told.iter().count(), 1);
    assert_eq!(filling(&Checkpoint::open(there.path().join("step-00000002.pt")).unwrap()), 7);
}
