//! `ptser repack`: what PyTorch wrote comes out again, and what others wrote holds the same.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

mod common;

use std::fs;
use std::path::PathBuf;

use common::{command, damaged, folder, json, names, own, rewrite, stdout, tensors, unreadable, zip};

/// Not as torch 2.15 on this machine wrote them: packed or changed by the scripts beside them, or by torch 0.3.
const OTHERS: [&str; 20] = [
    "comment.pt",
    "deflated.pt",
    "dtypes_big.pt",
    "legacy_build.pt",
    "mixed_deflate.pt",
    "no_byteorder.pt",
    "prefixed.pt",
    "protocol1.pt",
    "rebuild_v1.pt",
    "torch113_layout.pt",
    "torch16_layout.pt",
    "trailing.pt",
    "views_big.pt",
    "with_dirs.pt",
    "gzipped.pt",
    "python2.pt",
    "torch03_views.pt",
    "two.pt",
    "make.py",
    "expected.json",
];

fn fixtures(topic: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder("../../tests/fixtures").join(topic))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "pt"))
        .collect();
    files.sort();
    files
}

#[test]
fn what_torch_wrote_is_written_again_byte_for_byte() {
    let scratch = tempfile::tempdir().unwrap();
    let output = scratch.path().join("another name.pt");
    let mut same = 0;
    for input in ["zip", "legacy", "values"].into_iter().flat_map(fixtures) {
        if OTHERS.contains(&input.file_name().unwrap().to_str().unwrap()) {
            continue;
        }
        stdout(&rewrite("repack", &input, &output, &["--inert"]));
        assert!(fs::read(&input).unwrap() == fs::read(&output).unwrap(), "{}", input.display());
        same += 1;
    }
    assert!(same > 70, "{same}");
}

#[test]
fn what_others_wrote_holds_the_same_tensors() {
    let scratch = tempfile::tempdir().unwrap();
    let output = scratch.path().join("out.pt");
    let mut inputs: Vec<PathBuf> = ["zip", "legacy"]
        .into_iter()
        .flat_map(fixtures)
        .filter(|path| OTHERS.contains(&path.file_name().unwrap().to_str().unwrap()))
        .filter(|path| !path.ends_with("gzipped.pt"))
        .collect();
    inputs.push(own("plain.safetensors"));
    for input in inputs {
        stdout(&rewrite("repack", &input, &output, &[]));
        assert_eq!(tensors(&output, &[]), tensors(&input, &[]), "{}", input.display());
        let format = json("ls", &output, &[])["format"].clone();
        let expected = if input.to_string_lossy().contains("legacy/") { "legacy" } else { "zip" };
        assert_eq!(format, expected, "{}", input.display());
    }
}

#[test]
fn options_change_what_they_name_and_keep_the_tensors() {
    let scratch = tempfile::tempdir().unwrap();
    let output = scratch.path().join("out.pt");
    let input = zip("views.pt");
    let cases: [(&[&str], &str, &str); 6] = [
        (&["--format", "legacy"], "format", "legacy"),
        (&["--protocol", "4"], "protocol", "4"),
        (&["--alignment", "4096"], "alignment", "4096"),
        (&["--byte-order", "big"], "byte_order", "big"),
        (&["--no-crc32"], "root_folder", "views"),
        (&["--format", "zip", "--alignment", "1"], "storage_alignment", "1"),
    ];
    for (options, key, expected) in cases {
        stdout(&rewrite("repack", &input, &output, options));
        let found = &json("info", &output, &[])[key];
        assert_eq!(found.as_str().map_or_else(|| found.to_string(), str::to_owned), expected, "{options:?}");
        assert_eq!(tensors(&output, &[]), tensors(&input, &[]), "{options:?}");
    }
    assert_eq!(tensors(&zip("views_big.pt"), &[]), tensors(&zip("views.pt"), &[]));
}

/// Both were written by torch, one of them without CRCs.
#[test]
fn crcs_are_left_out_as_torch_leaves_them_out() {
    let scratch = tempfile::tempdir().unwrap();
    let output = scratch.path().join("out.pt");
    stdout(&rewrite("repack", &zip("state_dict.pt"), &output, &["--no-crc32"]));
    let (mut found, torch) = (fs::read(&output).unwrap(), fs::read(zip("crc_off.pt")).unwrap());
    let crc = |bytes: &[u8]| {
        let at = bytes.windows(4).position(|window| window == b"PK\x07\x08").unwrap();
        bytes[at + 4..at + 8].to_vec()
    };
    assert_eq!(crc(&torch), [0; 4]);
    assert_eq!(crc(&found), [0; 4]);
    stdout(&rewrite("repack", &zip("crc_off.pt"), &output, &[]));
    found = fs::read(&output).unwrap();
    assert!(found == torch);
}

#[test]
fn what_no_tensor_views_is_left_out() {
    let scratch = tempfile::tempdir().unwrap();
    let output = scratch.path().join("out.pt");
    let slack = |file: &PathBuf| json("info", file, &[])["slack"]["bytes"].as_u64().unwrap();
    stdout(&rewrite("repack", &own("names.pt"), &output, &["--compact"]));
    assert!(slack(&own("names.pt")) > 3000);
    assert_eq!(slack(&output), 0);
    assert_eq!(tensors(&output, &[]), tensors(&own("names.pt"), &[]));
}

#[test]
fn a_file_is_replaced_by_itself() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("model.pt");
    fs::copy(zip("views.pt"), &file).unwrap();
    let line = stdout(&rewrite("repack", &file, &file, &[])).to_owned();
    assert!(line.ends_with("model.pt\n") && line.contains(" in 1 file: "), "{line}");
    assert!(fs::read(&file).unwrap() == fs::read(zip("views.pt")).unwrap());
    stdout(&rewrite("repack", &file, &file, &["--format", "legacy"]));
    assert_eq!(tensors(&file, &[]), tensors(&zip("views.pt"), &[]));
    assert_eq!(names(scratch.path()), ["model.pt"]);
}

#[test]
fn globals_must_be_allowed_and_stay() {
    let scratch = tempfile::tempdir().unwrap();
    let output = scratch.path().join("out.pt");
    let message = unreadable(&rewrite("repack", &own("unlisted.pt"), &output, &[]));
    assert!(message.contains("--allow") && message.contains("--inert"), "{message}");
    assert!(
        unreadable(&rewrite("repack", &own("blocked.pt"), &output, &["--inert"])).contains("posix.getcwd")
    );
    assert!(!output.exists());
    let allowed = ["--allow", "argparse.Namespace", "--allow", "models.net.Net"];
    for options in [&["--inert"][..], &allowed] {
        stdout(&rewrite("repack", &own("unlisted.pt"), &output, options));
        assert!(fs::read(&output).unwrap() == fs::read(own("unlisted.pt")).unwrap());
    }
}

#[test]
fn programs_are_refused_with_a_way_out() {
    let scratch = tempfile::tempdir().unwrap();
    let program = folder("../../tests/fixtures/torchscript/traced.pt");
    let message = unreadable(&rewrite("repack", &program, &scratch.path().join("out.pt"), &[]));
    assert!(message.contains("TorchScript") && message.contains("ptser convert"), "{message}");
    assert!(names(scratch.path()).is_empty());
}

#[test]
fn what_follows_the_first_object_of_a_stream_is_told() {
    let scratch = tempfile::tempdir().unwrap();
    let two = folder("../../tests/fixtures/legacy/two.pt");
    let output = rewrite("repack", &two, &scratch.path().join("one.pt"), &[]);
    assert!(stdout(&output).contains("behind the first object left out"), "{output:?}");
}

#[test]
fn wrong_usage_is_2() {
    let (input, output) = (zip("views.pt"), PathBuf::from("never.pt"));
    let cases: [&[&str]; 7] = [
        &["--protocol", "6"],
        &["--alignment", "0"],
        &["--alignment", "65497"],
        &["--format", "tar"],
        &["--byte-order", "middle"],
        &["--format", "legacy", "--alignment", "64"],
        &["--format", "legacy", "--byte-order", "big"],
    ];
    for options in cases {
        let found = rewrite("repack", &input, &output, options);
        assert_eq!(found.status.code(), Some(2), "{options:?}");
        assert!(found.stdout.is_empty() && !output.exists(), "{options:?}");
    }
    assert_eq!(command().arg("repack").arg(&input).output().unwrap().status.code(), Some(2));
}

#[test]
fn what_cannot_be_written_is_named_and_leaves_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("model.pt");
    fs::copy(zip("views.pt"), &file).unwrap();
    let message = unreadable(&rewrite("repack", &file, scratch.path(), &[]));
    assert!(message.contains("folder"), "{message}");
    let missing = scratch.path().join("missing/out.pt");
    assert!(unreadable(&rewrite("repack", &file, &missing, &[])).contains("missing"));
    unreadable(&rewrite("repack", &file, &file.join("out.pt"), &[]));
    assert!(
        unreadable(&rewrite("repack", &own("plain.safetensors"), &scratch.path().join(".pt"), &[]))
            .contains("name")
    );
    let broken = damaged(scratch.path());
    let message = unreadable(&rewrite("repack", &broken, &file, &[]));
    assert!(message.contains("damaged.pt: ") && message.contains("data/7"), "{message}");
    assert!(fs::read(&file).unwrap() == fs::read(zip("views.pt")).unwrap());
    assert_eq!(names(scratch.path()), ["damaged.pt", "model.pt"]);
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_named() {
    let output = rewrite("repack", &zip("many.pt"), &PathBuf::from("/dev/full"), &[]);
    assert!(unreadable(&output).starts_with("/dev/full: "), "{output:?}");
}

#[test]
#[cfg(unix)]
fn a_folder_that_is_read_only_stays_as_it_is() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("model.pt");
    fs::copy(zip("views.pt"), &file).unwrap();
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let may_write = fs::write(scratch.path().join("probe"), b"").is_ok();
    if may_write {
        println!("skipped: this user may write to folders that are read-only");
    } else {
        let message = unreadable(&rewrite("repack", &file, &file, &[]));
        assert!(message.contains("model.pt: "), "{message}");
        assert_eq!(names(scratch.path()), ["model.pt"]);
    }
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).unwrap();
}

/// The file is whole, whoever listens.
#[test]
fn a_closed_pipe_is_no_error() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("model.pt");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command().arg("repack").arg(zip("views.pt")).arg(&file).stdout(writer).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert!(fs::read(&file).unwrap() == fs::read(zip("views.pt")).unwrap());
}

#[test]
#[cfg(target_os = "linux")]
fn standard_output_takes_the_file_and_no_line() {
    let output = rewrite("repack", &zip("views.pt"), &PathBuf::from("/dev/stdout"), &[]);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert!(output.stdout == fs::read(zip("views.pt")).unwrap());
}
