//! Thousands of damaged files: whatever the bytes, opening, listing, scanning, reading and saving end with a value or an
//! error, in time, and in little memory.
//!
//! The test runs this program again as children that may have 512 MiB each, and tells which case ended one.
//! `PTSER_MUTATIONS` says how many cases (10,000 by default), `PTSER_MUTATIONS_SEED` which.

#![cfg(unix)]

#[cfg(test)]
#[path = "../support/again.rs"]
mod again;
#[cfg(test)]
#[path = "../support/build.rs"]
mod build;
#[cfg(test)]
#[path = "../support/look.rs"]
mod look;
#[cfg(test)]
#[path = "../support/mutate.rs"]
mod mutate;
#[cfg(test)]
#[path = "../support/same.rs"]
mod same;
#[cfg(test)]
#[path = "../support/sources.rs"]
mod sources;

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::path::Path;
    use std::process::{Child, Command, Stdio};
    use std::sync::Mutex;
    use std::time::{Duration, Instant};

    use crate::again::save_every_way;
    use crate::look::open_every_way;
    use crate::mutate::{mutated, originals};
    use crate::sources::every_source_agrees;

    /// What a child takes: its number, and of how many; and where it writes which case it is at.
    const SHARE: &str = "PTSER_MUTATIONS_SHARE";
    const AT: &str = "PTSER_MUTATIONS_AT";
    /// No case takes a tenth of it.
    const SLOW: Duration = Duration::from_secs(if cfg!(debug_assertions) { 40 } else { 10 });

    fn number(name: &str, default: u64) -> u64 {
        std::env::var(name).map_or(default, |number| number.parse().expect(name))
    }

    #[test]
    fn damaged_files_end_with_a_value_or_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let children = std::thread::available_parallelism().map_or(1, usize::from).min(16);
        let started = Instant::now();
        let running: Vec<Child> = (0..children).map(|child| spawn(child, children, folder.path())).collect();
        let (mut failures, mut opened) = (Vec::new(), 0_u64);
        for (number, child) in running.into_iter().enumerate() {
            let output = child.wait_with_output().unwrap();
            let told = String::from_utf8_lossy(&output.stdout);
            failures.extend(told.lines().filter(|line| line.starts_with("FAILED")).map(str::to_owned));
            if let Some(line) = told.lines().find_map(|line| line.strip_suffix(" of its share open")) {
                opened += line.parse::<u64>().unwrap();
            } else {
                let at = std::fs::read(folder.path().join(number.to_string())).unwrap();
                failures.push(format!(
                    "the process ended ({}) at {}:\n{}",
                    output.status,
                    String::from_utf8_lossy(&at),
                    String::from_utf8_lossy(&output.stderr)
                ));
            }
        }
        let (cases, seed) = (number("PTSER_MUTATIONS", 10_000), number("PTSER_MUTATIONS_SEED", 1));
        let (took, count) = (started.elapsed(), failures.len());
        println!(
            "{cases} damaged files of seed {seed}, {opened} of which open, in {took:?}: {count} failures"
        );
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    }

    /// This program again, with a share of the cases and an address space of 512 MiB. Arenas would take more.
    fn spawn(child: usize, children: usize, folder: &Path) -> Child {
        let script = r#"ulimit -v 524288 || echo "SKIPPED: memory is not limited here"; exec "$0" "$@""#;
        Command::new("sh")
            .args(["-c", script])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "--test-threads=1", "tests::share"])
            .envs([("MALLOC_ARENA_MAX", "1"), ("RAYON_NUM_THREADS", "2")])
            .env(SHARE, format!("{child}/{children}"))
            .env(AT, folder.join(child.to_string()))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Does nothing but in a child.
    #[test]
    fn share() {
        let (Ok(share), Some(at)) = (std::env::var(SHARE), std::env::var_os(AT)) else { return };
        let (child, children) = share.split_once('/').unwrap();
        let (child, children): (u64, usize) = (child.parse().unwrap(), children.parse().unwrap());
        let (cases, seed) = (number("PTSER_MUTATIONS", 10_000), number("PTSER_MUTATIONS_SEED", 1));
        let originals = originals();
        assert!(originals.len() > 400, "only {} files to damage", originals.len());
        let at = File::create(at).unwrap();
        let begun = Mutex::new(Instant::now());
        let begun: &'static Mutex<Instant> = Box::leak(Box::new(begun));
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_millis(200));
                if begun.lock().unwrap().elapsed() > SLOW {
                    eprintln!("it takes longer than {SLOW:?}");
                    std::process::abort();
                }
            }
        });
        let mut opened = 0;
        for case in (child..cases).step_by(children) {
            at.write_all_at(format!("case {case:<12}").as_bytes(), 0).unwrap();
            *begun.lock().unwrap() = Instant::now();
            let (name, bytes) = mutated(&originals, seed, case);
            match catch_unwind(AssertUnwindSafe(|| check(case, &bytes))) {
                Ok(opens) => opened += u64::from(opens),
                Err(panic) => {
                    let why = panic.downcast_ref::<String>().cloned();
                    let why = why.unwrap_or_else(|| format!("{:?}", panic.downcast_ref::<&str>()));
                    println!("FAILED case {case} of seed {seed}, {name}: {}", why.replace('\n', " "));
                }
            }
        }
        println!("\n{opened} of its share open");
    }

    /// Saving takes longer than reading; so do all the kinds of sources.
    fn check(case: u64, bytes: &[u8]) -> bool {
        let opens = open_every_way(bytes);
        match case % 10 {
            0 => save_every_way(bytes),
            1 => every_source_agrees(bytes, &bytes[bytes.len().saturating_sub(4)..]),
            _ => {}
        }
        opens
    }
}
