//! The built program, run over files with known contents.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

mod common;

use serde_json::Value;
use std::collections::HashMap;

use common::{command, damaged, folder, json, own, run, stdout, unreadable, zip};

/// What scripts rely on, in this order.
const KEYS: [&str; 13] = [
    "path",
    "name",
    "dtype",
    "shape",
    "stride",
    "storage_offset",
    "storage",
    "storage_nbytes",
    "nbytes",
    "requires_grad",
    "layout",
    "kind",
    "sha256",
];

#[test]
fn ls_json_tells_what_torch_finds_in_every_file() {
    let expected = std::fs::read_to_string(zip("expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&expected).unwrap();
    let files = expected.as_object().unwrap();
    for must in ["views.pt", "shared.pt", "params.pt", "sparse.pt", "quantized.pt", "meta.pt", "values.pt"] {
        assert!(files.contains_key(must), "{must}");
    }
    for (name, expected) in files {
        let found = json("ls", &zip(name), &["--sha256"]);
        assert_eq!(
            found.as_object().unwrap().keys().collect::<Vec<_>>(),
            ["file", "format", "byte_order", "tensors"]
        );
        assert_eq!(found["file"], zip(name).to_str().unwrap());
        assert_eq!(found["format"], expected["format"], "{name}");
        assert_eq!(found["byte_order"], expected["byte_order"], "{name}");
        compare(name, found["tensors"].as_array().unwrap(), expected["tensors"].as_array().unwrap());
    }
}

fn compare(file: &str, found: &[Value], expected: &[Value]) {
    assert_eq!(found.len(), expected.len(), "{file}");
    // The fixtures number the storages as they are met; the files give them keys.
    let mut numbers: HashMap<&str, &Value> = HashMap::new();
    let mut keys: HashMap<u64, &Value> = HashMap::new();
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.as_object().unwrap().keys().collect::<Vec<_>>(), KEYS, "{file}");
        for key in KEYS.into_iter().filter(|key| *key != "storage") {
            assert_eq!(found[key], expected[key], "{file}: {key} of {}", expected["name"]);
        }
        let (key, number) = (&found["storage"], &expected["storage"]);
        assert_eq!(key.is_null(), number.is_null(), "{file}: {}", expected["name"]);
        if let (Some(text), Some(place)) = (key.as_str(), number.as_u64()) {
            assert_eq!(*numbers.entry(text).or_insert(number), number, "{file}: {}", expected["name"]);
            assert_eq!(*keys.entry(place).or_insert(key), key, "{file}: {}", expected["name"]);
        }
    }
}

#[test]
fn hashes_are_there_only_when_asked_for() {
    let found = json("ls", &zip("views.pt"), &[]);
    let keys: Vec<&String> = found["tensors"][0].as_object().unwrap().keys().collect();
    assert_eq!(keys, KEYS[..12]);
    assert!(!stdout(&run("ls", &zip("views.pt"), &[])).contains("sha256"));
    let table = run("ls", &zip("root_tensor.pt"), &["--sha256"]);
    assert!(stdout(&table).contains("75664b4da1c08de9e8fad52303cc458b3e420edde6591e58761e138cc5e3f163"));
}

#[test]
fn the_table_shows_aliases_and_sharing() {
    let table = run("ls", &zip("shared.pt"), &[]);
    let lines: Vec<&str> = stdout(&table).lines().collect();
    assert_eq!(
        lines[0].split_whitespace().collect::<Vec<_>>(),
        ["name", "dtype", "shape", "stride", "offset", "storage", "size"]
    );
    let line = |name: &str| *lines.iter().find(|line| line.split("  ").next() == Some(name)).unwrap();
    assert!(line("view_first").contains("0 ×4"));
    assert!(line("same_tensor").ends_with("same tensor as tensor"));
    assert!(line("tied").contains("[1, 2]") && line("tied").contains("2 ×2"));
    assert!(!line("equal_but_apart").contains('×'));
    assert_eq!(
        *lines.last().unwrap(),
        "10 tensors at 15 paths in 5 storages, 112 B; 4 tensors share storage 0; 2 tensors share storage 1; \
         2 tensors share storage 2"
    );
}

#[test]
fn the_table_marks_what_is_special() {
    let cases = [
        ("params.pt", "frozen_integers", "frozen parameter"),
        ("params.pt", "tied_data", "same values as tied"),
        ("meta.pt", "parameter", "parameter, meta, no data"),
        ("sparse.pt", "coo_coalesced", "sparse_coo, coalesced"),
        ("quantized.pt", "qint8", "scale 0.1, zero point -3"),
        ("conj_neg.pt", "conj", "conjugate"),
        ("root_tensor.pt", "(root)", "12 B"),
    ];
    for (file, name, mark) in cases {
        let output = run("ls", &zip(file), &[]);
        let line = stdout(&output).lines().find(|line| line.split("  ").next() == Some(name));
        assert!(line.is_some_and(|line| line.ends_with(mark)), "{file}: {line:?}");
    }
    assert_eq!(stdout(&run("ls", &zip("values.pt"), &[])), "0 tensors\n");
}

#[test]
fn colours_are_for_terminals() {
    assert!(!stdout(&run("ls", &zip("shared.pt"), &[])).contains('\u{1b}'));
    let forced = command().arg("ls").arg(zip("shared.pt")).env("CLICOLOR_FORCE", "1").output().unwrap();
    assert!(stdout(&forced).contains("\u{1b}[1mname"));
    let forced =
        command().arg("ls").arg(zip("shared.pt")).arg("--json").env("CLICOLOR_FORCE", "1").output().unwrap();
    assert!(!stdout(&forced).contains('\u{1b}'));
}

#[test]
fn names_cannot_steer_the_terminal() {
    for verb in ["ls", "info"] {
        let output = run(verb, &own("names.pt"), &[]);
        let text = stdout(&output);
        assert!(!text.contains(|char: char| char.is_control() && char != '\n'), "{text:?}");
        assert!(text.contains("[2Jgone"), "{text}");
    }
    // In JSON they are what they are.
    assert_eq!(json("ls", &own("names.pt"), &[])["tensors"][0]["path"][0], "\u{1b}[2Jgone\n");
    assert_eq!(json("ls", &own("names.pt"), &[])["tensors"][1]["path"][0], "");
}

#[test]
fn info_tells_the_layout() {
    let cases = [
        ("align1.pt", "storage_alignment", Value::from("1")),
        ("align16.pt", "alignment", 16.into()),
        ("align4096.pt", "alignment", 4096.into()),
        ("deflated.pt", "alignment", Value::Null),
        ("prefixed.pt", "archive_offset", 17.into()),
        ("views.pt", "version", "3".into()),
        ("views.pt", "format_version", "1".into()),
        ("views.pt", "protocol", 2.into()),
        ("protocol5.pt", "protocol", 5.into()),
        ("views_big.pt", "byte_order", "big".into()),
        ("torch16_layout.pt", "serialization_id", Value::Null),
        ("checkpoint_epoch_0100.pt", "format", "zip".into()),
    ];
    for (file, key, expected) in cases {
        assert_eq!(json("info", &zip(file), &[])[key], expected, "{file}: {key}");
    }
    let deflated = json("info", &zip("deflated.pt"), &[]);
    assert_eq!(deflated["records"]["deflated"], deflated["records"]["count"]);
    assert_eq!(deflated["size"], std::fs::metadata(zip("deflated.pt")).unwrap().len());
    let text = run("info", &zip("align4096.pt"), &[]);
    assert!(stdout(&text).contains("4,096 bytes, as recorded"), "{text:?}");
}

#[test]
fn info_tells_slack_sharing_and_the_root() {
    let names = json("info", &own("names.pt"), &[]);
    assert_eq!(names["slack"]["bytes"], 4000 - 12);
    assert_eq!(names["slack"]["storages"][0]["storage"], "2");
    assert_eq!(names["storages"]["bytes"], 4008);

    let shared = json("info", &zip("shared.pt"), &[]);
    assert_eq!(shared["tensors"]["count"], 10);
    assert_eq!(shared["tensors"]["paths"], 15);
    assert_eq!(shared["tensors"]["by_dtype"], serde_json::json!({ "float32": 7, "int64": 3 }));
    assert_eq!(
        shared["sharing"][2],
        serde_json::json!({ "storage": "2", "tensors": ["encoder.weight", "tied"] })
    );
    assert_eq!(shared["slack"], serde_json::json!({ "bytes": 0, "storages": [] }));
    assert_eq!(shared["locations"], serde_json::json!({ "cpu": 5 }));

    let nested = json("info", &zip("nested_model.pt"), &[]);
    assert_eq!(nested["root"]["type"], "dict");
    assert_eq!(nested["root"]["keys"][2]["key"], "model");
    assert_eq!(nested["root"]["keys"][2]["len"], 9);
    assert_eq!(
        nested["globals"][0],
        serde_json::json!({ "name": "collections.OrderedDict", "verdict": "allowed" })
    );
}

#[test]
fn unlisted_globals_are_refused_all_at_once() {
    for verb in ["ls", "info"] {
        let message = unreadable(&run(verb, &own("unlisted.pt"), &[]));
        assert!(message.contains("argparse.Namespace, models.net.Net"), "{message}");
        let message = unreadable(&run(verb, &own("unlisted.pt"), &["--allow", "argparse.Namespace"]));
        assert!(message.contains("models.net.Net") && !message.contains("argparse.Namespace"), "{message}");
    }
    let allow = ["--allow", "argparse.Namespace", "--allow", "models.net.Net"];
    for options in [&allow[..], &["--inert"]] {
        let found = json("ls", &own("unlisted.pt"), options);
        assert_eq!(found["tensors"][0]["path"], serde_json::json!(["model", "weight"]));
        assert_eq!(found["tensors"][0]["kind"], "parameter");
    }
    let verdicts = |options: &[&str]| {
        let info = json("info", &own("unlisted.pt"), options);
        (info["globals"][0]["verdict"].clone(), info["globals"][1]["verdict"].clone())
    };
    assert_eq!(verdicts(&["--inert"]), ("inert".into(), "inert".into()));
    assert_eq!(verdicts(&["--inert", "--allow", "argparse.Namespace"]), ("allowed".into(), "inert".into()));
}

#[test]
fn blocked_modules_are_refused_under_every_policy() {
    for options in [&[][..], &["--inert"], &["--allow", "posix.getcwd"]] {
        let message = unreadable(&run("ls", &own("blocked.pt"), options));
        assert!(message.contains("posix.getcwd"), "{message}");
    }
}

#[test]
fn what_is_no_checkpoint_is_one_line_on_stderr() {
    let scratch = tempfile::tempdir().unwrap();
    let whole = std::fs::read(zip("views.pt")).unwrap();
    // Not every system has such names.
    let awkward = if cfg!(unix) { "two\nlines.pt" } else { "two lines.pt" };
    let cases: [(&str, &[u8]); 4] = [
        ("empty.pt", b""),
        ("page.pt", b"<!DOCTYPE html>\n<html>"),
        ("cut.pt", &whole[..whole.len() / 2]),
        (awkward, b"x"),
    ];
    for (name, content) in cases {
        let file = scratch.path().join(name);
        std::fs::write(&file, content).unwrap();
        for (verb, options) in [("ls", &[][..]), ("ls", &["--json", "--sha256"]), ("info", &["--json"])] {
            unreadable(&run(verb, &file, options));
        }
    }
    assert!(unreadable(&run("ls", scratch.path(), &[])).contains("folder"));
    let missing = scratch.path().join("missing.pt");
    assert!(unreadable(&run("info", &missing, &[])).contains("missing.pt"));
}

#[test]
fn a_tensor_that_cannot_be_hashed_is_named() {
    let scratch = tempfile::tempdir().unwrap();
    let file = damaged(scratch.path());
    let message = unreadable(&run("ls", &file, &["--sha256"]));
    assert!(message.contains("damaged.pt: tensor 4.weight: "), "{message}");
    assert!(run("ls", &file, &[]).status.success());
}

#[test]
fn wrong_usage_is_2() {
    let cases: [&[&str]; 6] = [
        &[],
        &["ls"],
        &["list", "x.pt"],
        &["ls", "x.pt", "--yes"],
        &["ls", "x.pt", "--allow", "Namespace"],
        &["info"],
    ];
    for arguments in cases {
        let output = command().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn help_has_an_example() {
    let verbs = ["ls", "info", "show", "scan", "verify", "diff", "convert", "repack"]
        .map(|verb| vec![verb, "--help"]);
    for arguments in [vec!["--help"]].into_iter().chain(verbs) {
        let output = command().args(&arguments).output().unwrap();
        assert!(stdout(&output).contains("\nExample: ptser "), "{arguments:?}");
    }
    let version = command().arg("--version").output().unwrap();
    assert_eq!(stdout(&version), concat!("ptser ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn strings_of_python_2_are_read_in_the_encoding_that_is_asked_for() {
    let file = folder("../../tests/fixtures/python2/stream.pt");
    let names = |options: &[&str]| json("ls", &file, options)["tensors"][0]["name"].clone();
    assert_eq!(names(&[]), "weight");
    assert_eq!(names(&["--encoding", "latin1"]), "weight");
    assert_eq!(names(&["--encoding=bytes"]), "b'weight'");
    let error = unreadable(&run("ls", &file, &["--encoding", "utf-8"]));
    assert!(error.contains("is not utf-8") && error.contains("byte"), "{error}");
    assert_eq!(json("info", &file, &["--encoding", "BYTES"])["root"]["keys"][0]["key"], "b'weight'");
    let wrong = run("info", &file, &["--encoding", "rot13"]);
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("there are auto, utf-8"), "{wrong:?}");
}

#[test]
fn a_closed_pipe_is_no_error() {
    for arguments in
        [&["ls"][..], &["ls", "--json"], &["info"], &["info", "--json"], &["show"], &["scan"], &["verify"]]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command().args(arguments).arg(zip("many.pt")).stdout(writer).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        assert!(output.stderr.is_empty(), "{arguments:?}: {output:?}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_an_error() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = command().arg("ls").arg(zip("many.pt")).stdout(full).output().unwrap();
    assert!(unreadable(&output).starts_with("standard output"), "{output:?}");
}

#[test]
fn a_damaged_file_lists_what_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let whole = std::fs::read(common::folder("../../tests/fixtures/legacy/state_dict.pt")).unwrap();
    let file = folder.path().join("cut.pt");
    std::fs::write(&file, &whole[..whole.len() - 1]).unwrap();
    assert!(unreadable(&run("ls", &file, &[])).contains("are left"));

    let shown = run("ls", &file, &["--lenient"]);
    assert!(stdout(&shown).contains("DAMAGED: "), "{}", stdout(&shown));
    assert!(stdout(&shown).contains("; 1 damaged"), "{}", stdout(&shown));
    let json = json("ls", &file, &["--lenient", "--sha256"]);
    let tensors = json["tensors"].as_array().unwrap();
    let (damaged, sound): (Vec<&Value>, Vec<&Value>) =
        tensors.iter().partition(|tensor| tensor.get("error").is_some());
    assert_eq!(damaged.len(), 1);
    assert!(damaged[0]["error"].as_str().unwrap().contains("are left"), "{damaged:?}");
    assert!(
        damaged[0]["name"].is_string() && damaged[0]["path"].is_array() && damaged[0].get("shape").is_none()
    );
    assert!(sound.iter().all(|tensor| tensor["sha256"].is_string()));
}

#[test]
fn values_that_cannot_be_read_are_marked_by_hashing() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = std::fs::read(zip("deflated.pt")).unwrap();
    // The directory is whole; the deflated bytes of some storage are not.
    let at = bytes.windows(6).position(|window| window == b"data/0").unwrap() + 6;
    bytes[at..at + 8].fill(0xFF);
    let file = folder.path().join("damaged.pt");
    std::fs::write(&file, bytes).unwrap();
    assert!(!unreadable(&run("ls", &file, &["--sha256"])).is_empty());
    let json = json("ls", &file, &["--sha256", "--lenient"]);
    let tensors = json["tensors"].as_array().unwrap();
    let damaged =
        tensors.iter().filter(|tensor| tensor["error"].is_string() && tensor["sha256"].is_null()).count();
    assert!((1..tensors.len()).contains(&damaged), "{damaged} of {}", tensors.len());
    assert!(stdout(&run("ls", &file, &["--sha256", "--lenient"])).contains("DAMAGED: "));
}

#[test]
fn arrays_stand_below_the_tensors() {
    let file = folder("../../tests/fixtures/values/numpy_protocol2.pt");
    let json = json("ls", &file, &["--inert", "--sha256"]);
    assert_eq!(json["tensors"].as_array().unwrap().len(), 0);
    let arrays = json["arrays"].as_array().unwrap();
    assert!(arrays.iter().all(|array| array["kind"] == "array" && array["sha256"].is_string()));
    assert!(arrays.iter().all(|array| array["storage"].is_null()));
    assert!(stdout(&run("ls", &file, &["--inert"])).contains("NumPy array"));
}
