//! Every command over files that are damaged or made to hurt, with little memory and little time: one line and an exit
//! code of the contract, nothing written but what was asked for, and never a crash.
//!
//! The files are those of the library's fixtures, cut and altered; and where the environment variable `PTSER_CORPUS`
//! names a folder with an `index.json`, those that are bad there.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use common::{folder, names, zip};

/// In KiB, of address space.
const MEMORY: u32 = 512 << 10;
const TIME: Duration = Duration::from_secs(10);

/// The commands with what comes behind the file, and the codes they may end with.
const VERBS: [(&str, &[&str], &[i32]); 10] = [
    ("ls", &["--json", "--sha256"], &[0, 5]),
    ("ls", &["--lenient", "--inert"], &[0, 5]),
    ("info", &["--json"], &[0, 5]),
    ("show", &[], &[0, 5]),
    ("scan", &["--json"], &[0, 3, 5]),
    ("verify", &[], &[0, 4, 5]),
    ("diff", &["CONTROL"], &[0, 1, 5]),
    ("convert", &["OUT/out.safetensors", "--inert"], &[0, 5]),
    ("convert", &["OUT/out.pt"], &[0, 5]),
    ("repack", &["OUT/out.pt", "--inert"], &[0, 5]),
];

/// Runs a command under both limits; `None` where it took too long.
fn limited(verb: &str, file: &Path, options: &[&str], out: &Path) -> Option<Output> {
    let control = zip("views.pt");
    let option = |option: &&str| match option.strip_prefix("OUT/") {
        Some(name) => out.join(name).into_os_string(),
        None if *option == "CONTROL" => control.clone().into_os_string(),
        None => (*option).into(),
    };
    let mut child = Command::new("sh")
        .arg("-c")
        .arg(format!("ulimit -v {MEMORY}; exec \"$@\""))
        .args(["sh", env!("CARGO_BIN_EXE_ptser"), verb])
        .arg(file)
        .args(options.iter().map(option))
        .current_dir(out)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // What it says may be more than a pipe holds.
    let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let drain = |pipe: &mut dyn std::io::Read| {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).map(|_| bytes).unwrap()
    };
    std::thread::scope(|scope| {
        let said = scope.spawn(move || (drain(&mut stdout), drain(&mut stderr)));
        let started = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                let (stdout, stderr) = said.join().unwrap();
                return Some(Output { status, stdout, stderr });
            }
            if started.elapsed() > TIME {
                child.kill().and_then(|()| child.wait()).unwrap();
                return None;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    })
}

/// What the index of a corpus says of a file: what should happen, and what PyTorch does.
struct Known {
    expect: String,
    pytorch: String,
}

impl Known {
    /// A global that PyTorch refuses; `bytes` is allowed here.
    fn refused_global(&self) -> bool {
        let global = ["Unsupported global: GLOBAL ", "unsupported GLOBAL "]
            .iter()
            .find_map(|words| self.pytorch.split_once(words));
        global.is_some_and(|(_, name)| name.trim() != "bytes" && !name.starts_with("bytes "))
    }
}

/// Runs every command over a file: what is wrong with what they did.
fn survive(file: &Path, known: &Known) -> Result<(), String> {
    let expect = known.expect.as_str();
    for (verb, options, allowed) in VERBS {
        let folder = tempfile::tempdir().unwrap();
        let output =
            limited(verb, file, options, folder.path()).ok_or(format!("{verb} {options:?} hangs"))?;
        let code = output.status.code();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let wrong = |what: &str| Err(format!("{verb} {options:?} {what}: {:?}: {stderr}", output.status));
        if !code.is_some_and(|code| allowed.contains(&code)) {
            return wrong("ends otherwise than it may");
        }
        if code == Some(5) && stderr.is_empty() {
            return wrong("gives no reason");
        }
        if stderr.lines().any(|line| !line.starts_with("ptser: ") || line.contains(char::is_control)) {
            return wrong("says more than a line");
        }
        if code != Some(0) && !names(folder.path()).is_empty() {
            return wrong("leaves a file behind");
        }
        if !names(folder.path()).iter().all(|name| name.starts_with("out")) {
            return wrong("writes what was not asked for");
        }
        if verb == "scan" && expect == "noexec" && known.refused_global() && code != Some(3) {
            return wrong("lets it pass");
        }
        if verb == "ls" && !options.contains(&"--lenient") && expect == "error" && code == Some(0) {
            // The values are those that were written; what is wrong of them is their CRC.
            let crc =
                ["zip/flip_data_byte.pt", "zip/crc_cd_wrong.pt"].iter().any(|name| file.ends_with(name));
            if !crc {
                return wrong("reads it");
            }
        }
        if verb == "verify" && expect == "error" && code == Some(0) {
            return wrong("calls it good");
        }
    }
    Ok(())
}

/// Runs every command over each file, a few files at a time.
fn survive_all(files: &[(PathBuf, Known)]) {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut failures = Vec::new();
        while let Some((file, known)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(why) = survive(file, known) {
                failures.push(format!("{}: {why}", file.display()));
            }
        }
        failures
    };
    let failures: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    println!("{} files, {} failures", files.len(), failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn bad_files_of_the_corpus_end_in_an_exit_code() {
    let Some(corpus) = std::env::var_os("PTSER_CORPUS").map(PathBuf::from) else {
        println!("bad files of the corpus: skipped, PTSER_CORPUS names no corpus");
        return;
    };
    let index: Value = serde_json::from_slice(&std::fs::read(corpus.join("index.json")).unwrap()).unwrap();
    let bad = index.as_array().unwrap().iter().filter(|entry| entry["set"] == "bad");
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap().to_owned();
    let file = |entry: &Value| {
        let known = Known { expect: text(entry, "expect"), pytorch: text(entry, "pytorch") };
        (corpus.join(text(entry, "file")), known)
    };
    survive_all(&bad.map(file).collect::<Vec<_>>());
}

#[test]
fn cut_altered_and_foreign_files_end_in_an_exit_code() {
    let scratch = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    let mut add = |name: &str, expect: &str, bytes: &[u8]| {
        let file = scratch.path().join(name);
        std::fs::write(&file, bytes).unwrap();
        files.push((file, Known { expect: expect.to_owned(), pytorch: String::new() }));
    };
    let whole = std::fs::read(zip("deflated.pt")).unwrap();
    for part in 1..8 {
        add(&format!("cut_{part}.pt"), "error", &whole[..whole.len() * part / 8]);
        let mut altered = whole.clone();
        altered[whole.len() * part / 8..][..4].fill(0xff);
        add(&format!("altered_{part}.pt"), "bounded", &altered);
    }
    let stream = std::fs::read(folder("../../tests/fixtures/legacy/state_dict.pt")).unwrap();
    add("cut_stream.pt", "error", &stream[..stream.len() - 1]);
    add("empty.pt", "error", b"");
    add("page.pt", "error", b"<!DOCTYPE html>\n<html>");
    // A list of lists without end, and one that is shared without end.
    let nested = [b"\x80\x02".as_slice(), &b"]".repeat(200_000), &b"a".repeat(199_999), b"."].concat();
    add("nested.pkl", "bounded", &nested);
    let laughs: Vec<u8> =
        (0..60_u8).flat_map(|level| [b'h', level, b'h', level, 0x86, b'q', level + 1]).collect();
    add("laughs.pkl", "bounded", &[b"\x80\x02K\x01q\x00".as_slice(), &laughs, b"."].concat());
    add("bytes.pkl", "error", b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f");
    for name in ["blocked.pt", "unlisted.pt"] {
        let pytorch = "Unsupported global: GLOBAL posix.getcwd".to_owned();
        files.push((common::own(name), Known { expect: "noexec".into(), pytorch }));
    }
    survive_all(&files);
}
