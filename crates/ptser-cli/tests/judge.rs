//! `ptser scan` and `ptser verify`: what they find, and the exit code that scripts go by.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};

use common::{command, folder, own, run, stdout, unreadable, zip};

/// Runs a command over several files: its exit code, and what it says on standard output and on standard error.
fn over(verb: &str, files: &[&Path], options: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command().arg(verb).args(files).args(options).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// `views.pt` with another byte in the middle of a record's content.
fn flipped(into: &Path) -> PathBuf {
    let mut bytes = std::fs::read(zip("many.pt")).unwrap();
    let name = b"many/data/7";
    let header = bytes.windows(name.len()).position(|window| window == name).unwrap() - 30;
    let lengths =
        [header + 26, header + 28].map(|at| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]])));
    bytes[header + 30 + lengths[0] + lengths[1]] ^= 1;
    let file = into.join("flipped.pt");
    std::fs::write(&file, bytes).unwrap();
    file
}

#[test]
fn verify_says_what_was_read_and_what_could_be_compared() {
    let cases = [
        (zip("many.pt"), "good, 206 records, 18.2 kB"),
        (zip("crc_off.pt"), "; no CRC was computed for 9 of them when they were written"),
        (zip("deflated.pt"), "good, "),
        (folder("../../tests/fixtures/legacy/views.pt"), "11 storages, 490 B; a legacy stream has no CRCs"),
        (folder("../../tests/fixtures/legacy/torch2016.tar"), "a tar archive of torch 0.1 has no CRCs"),
        // Which names it holds is not the question.
        (own("unlisted.pt"), "good, "),
    ];
    for (file, expected) in cases {
        let output = run("verify", &file, &[]);
        assert!(stdout(&output).contains(expected), "{output:?}");
        assert_eq!(stdout(&output).lines().count(), 1);
    }
}

#[test]
fn verify_finds_a_flipped_bit_that_nothing_else_finds() {
    let scratch = tempfile::tempdir().unwrap();
    let file = flipped(scratch.path());
    assert!(run("ls", &file, &["--sha256"]).status.success());
    let (code, out, err) = over("verify", &[&file], &[]);
    assert_eq!((code, err.as_str()), (4, ""));
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], format!("{}: damaged", file.display()));
    assert!(lines[1].contains("CRC-32") && lines[1].ends_with("(record data/7)"), "{out}");
    assert_eq!(lines.len(), 2);
}

#[test]
fn verify_calls_what_contradicts_itself_damaged() {
    let scratch = tempfile::tempdir().unwrap();
    let whole = std::fs::read(zip("views.pt")).unwrap();
    let cut = scratch.path().join("cut.pt");
    std::fs::write(&cut, &whole[..whole.len() - 100]).unwrap();
    let sparse = folder("../../tests/fixtures/conformance/sparse_invalid.pt");
    let numel = folder("../../tests/fixtures/conformance/numel_more.pt");
    for (file, expected) in [
        (&cut, "truncated"),
        (&sparse, "index 3 in a dimension of 3"),
        (&numel, "bytes"),
        (&common::damaged(scratch.path()), "inflate"),
    ] {
        let (code, out, err) = over("verify", &[file], &[]);
        assert_eq!((code, err.as_str()), (4, ""), "{out}");
        assert!(out.contains(": damaged\n  ") && out.contains(expected), "{out}");
        assert_eq!(out.matches(file.file_name().unwrap().to_str().unwrap()).count(), 1, "{out}");
    }
}

#[test]
fn what_cannot_be_verified_is_unreadable() {
    let missing = unreadable(&run("verify", &zip("missing.pt"), &[]));
    assert!(missing.contains("missing.pt"), "{missing}");
    let blocked = unreadable(&run("verify", &own("blocked.pt"), &[]));
    assert!(blocked.contains("posix.getcwd"), "{blocked}");
}

#[test]
fn a_limit_is_named_with_the_option_that_raises_it() {
    for verb in ["verify", "ls", "info", "show"] {
        let refused = unreadable(&run(verb, &zip("many.pt"), &["--limit", "objects=100"]));
        assert!(refused.contains("the limit `objects` is 100; raise it with --limit objects=N"), "{refused}");
        assert!(run(verb, &zip("many.pt"), &["--limit=objects=100000"]).status.success());
    }
    let (code, _, err) = over("scan", &[&zip("many.pt")], &["--limit", "records=3"]);
    assert!(code == 5 && err.contains("--limit records=N"), "{err}");
    for wrong in ["objects", "objects=many", "stars=3"] {
        assert_eq!(over("ls", &[&zip("many.pt")], &["--limit", wrong]).0, 2, "{wrong}");
    }
    let known = over("ls", &[&zip("many.pt")], &["--limit", "stars=3"]).2;
    assert!(known.contains("pickle_bytes, objects, inflation_ratio"), "{known}");
}

#[test]
fn of_several_files_the_highest_code_counts_and_all_are_looked_at() {
    let scratch = tempfile::tempdir().unwrap();
    let (good, flipped, missing) = (zip("views.pt"), flipped(scratch.path()), zip("missing.pt"));
    let (code, out, err) = over("verify", &[&missing, &flipped, &good], &[]);
    assert_eq!((code, out.lines().count(), err.lines().count()), (5, 3, 1));
    assert_eq!(over("verify", &[&flipped, &good], &[]).0, 4);
    let (unlisted, blocked) = (own("unlisted.pt"), own("blocked.pt"));
    assert_eq!(over("scan", &[&good, &unlisted, &good], &[]).0, 3);
    let (code, out, err) = over("scan", &[&missing, &blocked, &good], &[]);
    assert_eq!((code, err.lines().count()), (5, 1));
    assert!(out.contains("posix.getcwd") && out.contains("views.pt: "), "{out}");
}

/// `ptser scan model.pt | head` under `pipefail` must not call a file good.
#[test]
fn a_closed_pipe_changes_no_verdict() {
    let scratch = tempfile::tempdir().unwrap();
    let (good, unlisted, flipped) = (zip("many.pt"), own("unlisted.pt"), flipped(scratch.path()));
    let cases: [(&[&str], [&Path; 2], i32); 5] = [
        (&["scan"], [&unlisted, &good], 3),
        (&["scan", "--json"], [&good, &unlisted], 3),
        (&["scan"], [&unlisted, &zip("missing.pt")], 5),
        (&["verify"], [&flipped, &good], 4),
        (&["diff"], [&flipped, &good], 1),
    ];
    for (arguments, files, expected) in cases {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command().args(arguments).args(files).stdout(writer).output().unwrap();
        assert_eq!(output.status.code(), Some(expected), "{arguments:?}: {output:?}");
        assert_eq!(output.stderr.is_empty(), expected != 5, "{arguments:?}: {output:?}");
    }
}

#[test]
fn scan_lists_what_the_policy_does_not_allow() {
    let good = run("scan", &zip("many.pt"), &[]);
    assert!(stdout(&good).ends_with("5 globals, all allowed\n"), "{good:?}");
    let (code, out, err) = over("scan", &[&own("unlisted.pt")], &[]);
    assert_eq!((code, err.as_str()), (3, ""));
    assert!(out.contains("6 globals, 2 not allowed\n"), "{out}");
    assert!(out.contains("\n  unlisted argparse.Namespace  record data.pkl, byte 17\n"), "{out}");
    let allow = ["--allow", "argparse.Namespace"];
    assert_eq!(over("scan", &[&own("unlisted.pt")], &allow).0, 3);
    let allow = [&allow[..], &["--allow", "models.net.Net"]].concat();
    assert_eq!(over("scan", &[&own("unlisted.pt")], &allow).0, 0);
    let (code, out, _) = over("scan", &[&own("unlisted.pt")], &["--inert"]);
    assert!(code == 0 && out.contains("inert    models.net.Net"), "{out}");
    assert_eq!(over("scan", &[&own("blocked.pt")], &["--inert"]).0, 3);
}

#[test]
fn scan_json_is_one_object_a_line() {
    let (code, out, _) = over("scan", &[&own("blocked.pt"), &zip("views.pt")], &["--json"]);
    assert_eq!(code, 3);
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [blocked, views] = lines.as_slice() else { panic!("{out}") };
    let keys: Vec<&String> = blocked.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["file", "format", "safe", "globals", "error"]);
    assert_eq!(blocked["file"], own("blocked.pt").to_str().unwrap());
    assert_eq!(
        (&blocked["format"], &blocked["safe"], &blocked["error"]),
        (&json!("zip"), &json!(false), &Value::Null)
    );
    let posix = json!({ "name": "posix.getcwd", "verdict": "blocked", "record": "data.pkl", "offset": 178 });
    assert_eq!(blocked["globals"].as_array().unwrap().last(), Some(&posix));
    assert_eq!(views["safe"], true);
}

#[test]
fn a_scan_of_a_damaged_file_tells_what_it_found_and_that_there_may_be_more() {
    // PyTorch would refuse the name; the stream ends too early.
    let (code, out, err) = over("scan", &[&folder("../../tests/fixtures/scan/legacy_cut.pt")], &[]);
    assert!(code == 3 && out.contains("evil.object") && err.contains("truncated"), "{out}{err}");
    // Nothing is refused, and nothing can be said of what is missing.
    let scratch = tempfile::tempdir().unwrap();
    let cut = scratch.path().join("cut.pkl");
    std::fs::write(&cut, b"\x80\x02](K\x01X\xff\0\0\0text").unwrap();
    let (code, _, err) = over("scan", &[&cut], &[]);
    assert!(code == 5 && err.starts_with("ptser: ") && err.lines().count() == 1, "{code} {err}");
    assert_eq!(over("scan", &[&folder("../../README.md")], &[]).0, 5);
}
