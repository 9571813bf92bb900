//! A folder of checkpoints whose process is killed while it saves in the background, or whose disk is full.

use std::io::ErrorKind as IoKind;
use std::path::Path;

use ptser::{CheckpointFolder, Found, Reason, SaveOptions};

use crate::killed::{SIZE, kill_at_random, next};
use crate::tests::filled;

/// What is killed for each size in bytes, and how often.
const ROUNDS: [(usize, u32); 2] = [(1 << 10, 60), (4 << 20, 40)];

fn folder(path: &Path) -> CheckpointFolder {
    // Whether the disk has the bytes makes no difference to a process that is killed.
    let options = SaveOptions::new().durable(false);
    CheckpointFolder::create(path).unwrap().keep_last(2).save_options(options)
}

/// What is saved of a step.
fn filling(step: u64) -> u8 {
    u8::try_from(step % 251).unwrap()
}

fn check(found: &Found) {
    let Found { checkpoint, saved, skipped, .. } = found;
    assert!(skipped.is_empty(), "{skipped:?}");
    let version = checkpoint.root().get("version").unwrap().as_i64().unwrap();
    assert_eq!(version, i64::from(filling(saved.step)));
    for (name, tensor) in checkpoint.tensors() {
        let bytes = tensor.to_contiguous().unwrap();
        assert!(
            bytes.iter().all(|byte| *byte == filling(saved.step)),
            "{name} of step {} is mixed",
            saved.step
        );
    }
}

/// Saves one step after the other until it is killed.
pub(crate) fn save_steps_for_ever(target: &Path) {
    let nbytes: usize = std::env::var(SIZE).unwrap().parse().unwrap();
    let folder = folder(target);
    let last = folder.latest().unwrap().unwrap().saved.step;
    let mut background = folder.in_background().unwrap();
    println!("\nbegun");
    for step in last + 1.. {
        background.save(step, None, &filled(filling(step), nbytes)).unwrap();
    }
}

#[test]
fn a_process_killed_while_it_saves_behind_leaves_a_loadable_latest() {
    let mut seed = 0x9E37_79B9_7F4A_7C15 ^ u64::from(std::process::id());
    println!("seed {seed:#x}");
    let mut went_on = 0;
    for (nbytes, kills) in ROUNDS {
        let there = tempfile::tempdir().unwrap();
        let folder = folder(there.path());
        folder.save(0, None, &filled(filling(0), nbytes)).unwrap();
        let mut last = 0;
        for _ in 0..kills {
            kill_at_random("save-steps-for-ever", there.path(), nbytes, next(&mut seed) % 20_000);
            let found = folder.latest().unwrap().expect("nothing is left");
            check(&found);
            assert!(found.saved.step >= last, "{} after {last}", found.saved.step);
            went_on += u32::from(found.saved.step > last);
            last = found.saved.step;
        }
        // What it was killed before it could remove is removed by the next save.
        folder.save(last + 1, None, &filled(filling(last + 1), nbytes)).unwrap();
        assert_eq!(folder.list().unwrap().len(), 2);
        println!("{kills} kills at {nbytes} bytes: {last} steps were saved");
    }
    assert!(went_on > 0, "killed before anything was saved, each time");
}

/// Saves in the background what does not fit.
pub(crate) fn save_large_behind(target: &Path) {
    let there = target.with_extension("runs");
    let folder = CheckpointFolder::create(&there).unwrap().keep_last(1);
    folder.save(1, None, &filled(filling(1), 10_000)).unwrap();
    let mut background = folder.clone().in_background().unwrap();
    background.save(2, None, &filled(filling(2), 4 << 20)).unwrap();
    let error = background.save(3, None, &filled(filling(3), 10_000)).unwrap_err();
    let Reason::Io(reason) = error.reason() else { panic!("{error:?}") };
    assert!(matches!(reason.kind(), IoKind::StorageFull | IoKind::FileTooLarge), "{error:?}");
    assert_eq!(error.file(), Some(there.join("step-00000002.pt").as_path()));
    let found = folder.latest().unwrap().unwrap();
    check(&found);
    assert_eq!(found.saved.step, 1);
    assert_eq!(std::fs::read_dir(&there).unwrap().count(), 1, "something is left");
    // What fits is saved, by the same thread.
    background.save(3, None, &filled(filling(3), 10_000)).unwrap();
    background.finish().unwrap();
    let found = folder.latest().unwrap().unwrap();
    check(&found);
    assert_eq!(found.saved.step, 3);
}
