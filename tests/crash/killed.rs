//! Saving over a checkpoint, killed at any moment.

use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use ptser::{Checkpoint, SaveOptions};

use crate::tests::{child_of, file_of, filled, has_unnamed_files, litter};

/// Kills for each size, in bytes: 200 in all.
const ROUNDS: [(usize, u32); 3] = [(1 << 10, 100), (300 << 10, 60), (4 << 20, 40)];
/// The size of a round, by which the child knows what to save.
pub(crate) const SIZE: &str = "PTSER_CRASH_SIZE";

/// Saves one object and another over the same file until it is killed; writes a byte when it has begun.
pub(crate) fn save_for_ever(target: &Path) {
    let nbytes: usize = std::env::var(SIZE).unwrap().parse().unwrap();
    // Whether the disk has the bytes makes no difference to a process that is killed, only to the time between kills.
    let options = SaveOptions::new().durable(false);
    let objects = [filled(1, nbytes), filled(2, nbytes)];
    println!("\nbegun");
    for object in objects.iter().cycle() {
        options.save(target, object).unwrap();
    }
}

/// Numbers that are no pattern (xorshift).
pub(crate) fn next(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

/// Has a process save objects of a size, and kills it so many microseconds after it began.
pub(crate) fn kill_at_random(verb: &str, target: &Path, nbytes: usize, micros: u64) {
    let mut child =
        child_of(verb, target).env(SIZE, nbytes.to_string()).stdout(Stdio::piped()).spawn().unwrap();
    let mut told = Vec::new();
    let mut out = child.stdout.take().unwrap();
    while !told.ends_with(b"begun\n") {
        let mut byte = [0];
        out.read_exact(&mut byte).unwrap();
        told.push(byte[0]);
    }
    std::thread::sleep(Duration::from_micros(micros));
    // SIGKILL on Unix.
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_killed_save_leaves_the_old_file_or_the_new_one() {
    let mut seed = 0x9E37_79B9_7F4A_7C15 ^ u64::from(std::process::id());
    println!("seed {seed:#x}");
    let (mut seen, mut left, mut draws) = ([0_u32; 2], 0, 0_u32);
    for (nbytes, kills) in ROUNDS {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("model.pt");
        let tidy = has_unnamed_files(folder.path());
        if !tidy {
            println!("SKIPPED: no files without names here, so what killed processes leave is not counted");
        }
        let objects = [filled(1, nbytes), filled(2, nbytes)];
        let files = objects.each_ref().map(|object| file_of(&target, object));
        SaveOptions::new().save(&target, &objects[0]).unwrap();
        for _ in 0..kills {
            kill_at_random("save-for-ever", &target, nbytes, next(&mut seed) % 10_000);

            let found = std::fs::read(&target).unwrap();
            let which = files.iter().position(|file| *file == found).expect("neither of the two files");
            seen[which] += 1;
            draws += 1;
            let checkpoint = Checkpoint::open(&target).unwrap();
            for (name, tensor) in checkpoint.tensors() {
                let bytes = tensor.to_contiguous().unwrap();
                assert!(bytes.iter().all(|byte| usize::from(*byte) == which + 1), "{name} is mixed");
            }
            let litter = litter(&target);
            left += litter.len();
            if tidy {
                // A file without a name goes with its process; it has one, always the same, only for the moment
                // before it takes the target's place.
                assert!(litter.len() <= 1, "{litter:?}");
            }
        }
        // The next who saves takes away what the last one left.
        SaveOptions::new().save(&target, &objects[1]).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), files[1]);
        if tidy {
            assert_eq!(litter(&target), [""; 0]);
        }
    }
    println!("{draws} kills: {seen:?} of the two files, {left} times something was left beside them");
    assert_eq!(draws, 200);
    assert!(seen.iter().all(|times| *times > 0), "{seen:?}: killed at one moment only");
}

#[test]
fn two_who_save_to_one_path_both_succeed() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("model.pt");
    let objects = [filled(1, 2000), filled(2, 2000), filled(3, 2000)];
    std::thread::scope(|scope| {
        for object in &objects {
            let target = &target;
            scope.spawn(move || {
                for _ in 0..500 {
                    SaveOptions::new().durable(false).save(target, object).unwrap();
                }
            });
        }
    });
    let found = std::fs::read(&target).unwrap();
    assert!(objects.iter().any(|object| file_of(&target, object) == found));
    assert_eq!(litter(&target), [""; 0]);
}

/// What an earlier process left under the draft's name is in nobody's way, whoever may remove it.
#[test]
fn what_was_left_behind_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("model.pt");
    let draft = folder.path().join(".model.pt.ptser-tmp");
    SaveOptions::new().save(&target, &filled(1, 100)).unwrap();
    std::fs::write(&draft, "left").unwrap();
    SaveOptions::new().save(&target, &filled(2, 100)).unwrap();
    assert_eq!(std::fs::read(&target).unwrap(), file_of(&target, &filled(2, 100)));
    if has_unnamed_files(folder.path()) {
        assert_eq!(litter(&target), [""; 0]);
    } else {
        std::fs::remove_file(&draft).unwrap();
    }
    // A folder of that name cannot be removed as a file is.
    std::fs::create_dir(&draft).unwrap();
    SaveOptions::new().save(&target, &filled(1, 100)).unwrap();
    assert_eq!(std::fs::read(&target).unwrap(), file_of(&target, &filled(1, 100)));
    assert_eq!(litter(&target), [".model.pt.ptser-tmp"]);
    // The longest name that a file may have leaves no room for another beside it.
    let long = folder.path().join("x".repeat(252) + ".pt");
    for with in [1, 2] {
        SaveOptions::new().save(&long, &filled(with, 100)).unwrap();
        assert_eq!(std::fs::read(&long).unwrap(), file_of(&long, &filled(with, 100)));
    }
}
