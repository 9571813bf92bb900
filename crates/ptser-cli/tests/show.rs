//! `ptser show` and `ptser diff`: values by their paths, and what differs of them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

mod common;

use std::path::Path;

use common::{command, folder, own, run, stdout, unreadable, zip};

fn show(file: &Path, options: &[&str]) -> String {
    stdout(&run("show", file, options)).to_owned()
}

/// The lines of a tensor's description: label and text.
fn described(file: &Path, name: &str) -> Vec<(String, String)> {
    let shown = show(file, &[name]);
    let line = |line: &str| {
        let (label, text) = line.trim_start().split_once(' ').unwrap();
        (label.to_owned(), text.trim_start().to_owned())
    };
    shown.lines().skip(1).map(line).collect()
}

#[test]
fn the_object_is_a_tree() {
    let expected = "dict of 3\n  model: dict of 4\n    embed.weight: torch.Tensor float32 [3, 4]\n    \
                    block.weight: torch.Tensor float32 [8]\n    head.weight: torch.Tensor float32 [3, 4]\n    \
                    first_row: torch.Tensor float32 [4]\n  optimizer: dict of 1\n    \
                    momentum: torch.Tensor float32 [3]\n  epoch: 7\n";
    assert_eq!(show(&own("training.pt"), &[]), expected);
    assert_eq!(
        show(&own("training.pt"), &["--depth", "1"]),
        "dict of 3\n  model: dict of 4\n    and 4 more\n  optimizer: dict of 1\n    and 1 more\n  epoch: 7\n"
    );
    assert_eq!(
        show(&own("training.pt"), &["optimizer"]),
        "dict of 1\n  momentum: torch.Tensor float32 [3]\n"
    );
    assert_eq!(show(&zip("root_tensor.pt"), &[]), show(&zip("root_tensor.pt"), &[""]));
}

#[test]
fn plain_values_stand_as_python_writes_them() {
    let values = zip("values.pt");
    let tree = show(&values, &[]);
    let has = |line: &str| assert!(tree.lines().any(|found| found == line), "{line:?} in {tree}");
    has("  none: None");
    has("  bools: list [True, False]");
    has("  bytearrays: list of 2");
    has("    1: bytearray(b'\\x00\\x80\\xff')");
    has("    1: tuple (1,)");
    has("    \"7\": 'digits'");
    has("    (1, 'two'): 'tuple'");
    has("    ._metadata: collections.OrderedDict of 1");
    // Text is shown as text.
    for (path, expected) in [
        ("keys.7", "integer"),
        ("keys.-3", "negative"),
        ("keys.(1, 'two')", "tuple"),
        ("ordered..note", "attribute"),
        ("tree.name", "root"),
        ("tuples.1.0", "1"),
        ("bools", "list [True, False]"),
    ] {
        assert_eq!(show(&values, &[path]), format!("{expected}\n"), "{path}");
    }
    // An empty key.
    assert_eq!(show(&values, &["ordered.._metadata..version"]), "1\n");
}

#[test]
fn what_is_shared_and_what_contains_itself_is_shown_once() {
    let tree = show(&zip("values.pt"), &[]);
    for line in
        ["    1: the same as twice.0", "    1: the same as inside_itself", "        parent: the same as tree"]
    {
        assert!(tree.lines().any(|found| found == line), "{line:?} in {tree}");
    }
    assert_eq!(
        show(&zip("values.pt"), &["inside_itself"]),
        "list of 2\n  0: 1\n  1: the same as inside_itself\n"
    );
}

#[test]
fn long_containers_are_cut_unless_all_is_asked_for() {
    let file = zip("values.pt");
    let short = show(&file, &["thousand_and_one"]);
    assert_eq!(short.lines().count(), 1 + 1000 + 1);
    assert!(short.ends_with("  and 1 more\n"), "{short}");
    assert_eq!(show(&file, &["thousand_and_one", "--all"]).lines().count(), 1 + 1001);
}

#[test]
fn a_tensor_shows_what_it_is_and_its_first_elements() {
    let found = described(&own("training.pt"), "model.first_row");
    let expected = [
        ("stride", "[1], offset 0, contiguous"),
        ("storage", "0, 48 B, on cpu"),
        ("values", "0.0, 1.0, 2.0, 3.0"),
    ];
    assert_eq!(found, expected.map(|(label, text)| (label.to_owned(), text.to_owned())));
    let values = |file: &Path, name: &str| {
        described(file, name).into_iter().find(|(label, _)| label == "values").unwrap().1
    };
    // PyTorch: transpose of arange(12).reshape(3, 4) and so on; conj and neg resolved.
    assert!(values(&own("casts.pt"), "complex").starts_with("1.0-2.5j, 3.0+0.1j"));
    assert_eq!(values(&own("casts.pt"), "expanded"), "0.1, 0.1, 0.1, 0.1, 0.1");
    assert_eq!(values(&own("casts.pt"), "integers"), "0, 1, 2, 3, 4");
    assert_eq!(values(&own("plain.pt"), "z.bool"), "True, True, True, True, True, True");
    assert_eq!(values(&own("plain.pt"), "empty"), "");
    assert_eq!(values(&own("plain.pt"), "a.float16"), "0.25, 0.5, 0.75, 1.0, 1.25");
    let grid = values(&own("casts.pt"), "grid");
    assert!(grid.ends_with(", …") && grid.split(", ").count() == 25, "{grid}");
    // The first of the transposed grid are those of its first column.
    let transposed = values(&own("casts.pt"), "transposed");
    assert_eq!(transposed.split(", ").nth(1), grid.split(", ").nth(8));
    let sparse = described(&zip("sparse.pt"), "coo_coalesced");
    assert!(sparse.contains(&("layout".into(), "sparse_coo".into())), "{sparse:?}");
    assert!(sparse.contains(&("#indices".into(), "int64 [2, 6]".into())), "{sparse:?}");
    assert_eq!(values(&zip("sparse.pt"), "coo_coalesced.#indices").split(", ").count(), 12);
    assert!(values(&zip("meta.pt"), "parameter").starts_with("none: "));
    assert_eq!(values(&zip("quantized.pt"), "qint32").split(", ").count(), 6);
}

#[test]
fn a_path_that_leads_nowhere_says_what_is_there() {
    let message = unreadable(&run("show", &own("training.pt"), &["model.head.bias"]));
    assert!(
        message.contains("there is no model.head.bias: model, a dict, holds embed.weight, "),
        "{message}"
    );
    let message = unreadable(&run("show", &own("training.pt"), &["epoch.first"]));
    assert!(message.contains("epoch, a int, holds nothing"), "{message}");
    let scratch = tempfile::tempdir().unwrap();
    let file = common::damaged(scratch.path());
    let message = unreadable(&run("show", &file, &["4.weight"]));
    assert!(message.contains("damaged.pt: tensor 4.weight: "), "{message}");
    assert!(run("show", &file, &[]).status.success());
}

#[test]
fn names_from_files_cannot_steer_a_terminal() {
    for arguments in [vec!["show"], vec!["diff"]] {
        let mut command = command();
        command.args(&arguments).arg(own("names.pt"));
        if arguments == ["diff"] {
            command.arg(own("training.pt"));
        }
        let output = command.output().unwrap();
        assert!(!output.stdout.contains(&0x1b), "{output:?}");
    }
}

#[test]
fn numbers_are_quoted_where_they_are_text() {
    let lines = |name: &str| stdout(&run("show", &own(name), &["--inert"])).to_owned();
    assert!(lines("keys.pt").contains("\n  1.5: 1\n"), "{}", lines("keys.pt"));
    assert!(lines("keys_other.pt").contains("\n  \"1.5\": 1\n"), "{}", lines("keys_other.pt"));
}

/// The exit code of a comparison, and its lines.
fn diff(a: &Path, b: &Path, options: &[&str]) -> (i32, Vec<String>) {
    let output = command().arg("diff").arg(a).arg(b).args(options).output().unwrap();
    assert!(output.stderr.is_empty(), "{output:?}");
    let lines = std::str::from_utf8(&output.stdout).unwrap().lines().map(str::to_owned).collect();
    (output.status.code().unwrap(), lines)
}

#[test]
fn files_of_the_same_contents_do_not_differ_whatever_holds_them() {
    let legacy = |name: &str| folder("../../tests/fixtures/legacy").join(name);
    let cases = [
        (own("plain.pt"), own("plain.safetensors"), "22 tensors"),
        (zip("views.pt"), zip("views.pt"), ""),
        (zip("views.pt"), zip("views_big.pt"), ""),
        (zip("views.pt"), legacy("views.pt"), ""),
        (zip("quantized.pt"), legacy("quantized.pt"), ""),
        (zip("sparse.pt"), zip("sparse.pt"), ""),
        (zip("values.pt"), legacy("values.pt"), "0 tensors"),
        (zip("align16.pt"), zip("align4096.pt"), ""),
    ];
    for (a, b, expected) in cases {
        let (code, lines) = diff(&a, &b, &[]);
        assert_eq!(code, 0, "{} {}: {lines:?}", a.display(), b.display());
        let [line] = lines.as_slice() else { panic!("{lines:?}") };
        assert!(line.starts_with(expected) && line.ends_with(" compared: no difference"), "{line}");
    }
}

#[test]
fn differences_are_told_by_name() {
    let (code, lines) = diff(&own("casts_float32.pt"), &own("casts_float16.pt"), &[]);
    assert_eq!(code, 1);
    let grid = lines.iter().find(|line| line.starts_with("~ grid: ")).unwrap();
    assert!(
        grid.starts_with("~ grid: float32 → float16, ")
            && grid.contains(" of 48 elements differ, by at most 0.000")
    );
    assert!(!lines.iter().any(|line| line.contains("integers")), "{lines:?}");

    let (code, lines) = diff(&own("training.pt"), &own("names.pt"), &[]);
    assert_eq!(code, 1);
    assert_eq!(lines[0], "- model: dict of 4");
    assert!(
        lines.contains(&"- epoch: int 7".to_owned())
            && lines.contains(&"+ \"\": torch.Tensor float32 [1]".to_owned())
    );
    assert_eq!(lines.last().unwrap(), "0 tensors and 0 other values compared: 6 differences");
}

#[test]
fn keys_and_members_of_sets_are_compared_whatever_they_look_like() {
    let (code, lines) = diff(&own("keys.pt"), &own("keys_reordered.pt"), &["--inert"]);
    assert_eq!(code, 0, "{lines:?}");
    let (code, lines) = diff(&own("keys.pt"), &own("keys_other.pt"), &["--inert"]);
    assert_eq!(code, 1);
    for (key, value) in [("1.5", 1), ("None", 2), ("<fractions.Fraction>", 4)] {
        for side in ["-", "+"] {
            assert!(lines.contains(&format!("{side} {key}: int {value}")), "{lines:?}");
        }
    }
    assert!(lines.iter().any(|line| line.starts_with("~ tags: {'xxx") && line.ends_with(" that differs")));
    assert_eq!(lines.last().unwrap(), "0 tensors and 2 other values compared: 7 differences");
}

#[test]
fn the_largest_difference_of_values_and_changed_values_are_told() {
    let scratch = tempfile::tempdir().unwrap();
    // Another step, another moment. Tied weights are one tensor.
    let mut bytes = std::fs::read(own("training.pt")).unwrap();
    let epoch = bytes.windows(7).position(|window| window == b"\x05\0\0\0epo").unwrap();
    let seven = (epoch..).find(|&at| bytes[at..].starts_with(b"K\x07")).unwrap();
    bytes[seven + 1] = 9;
    let name = b"training/data/2";
    let header = bytes.windows(name.len()).position(|window| window == name).unwrap() - 30;
    let lengths =
        [header + 26, header + 28].map(|at| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]])));
    let data = header + 30 + lengths[0] + lengths[1];
    bytes[data..data + 4].copy_from_slice(&1.25_f32.to_le_bytes());
    let file = scratch.path().join("later.pt");
    std::fs::write(&file, bytes).unwrap();
    let (code, lines) = diff(&own("training.pt"), &file, &[]);
    assert_eq!(code, 1);
    assert_eq!(
        lines,
        [
            "~ optimizer.momentum: 1 of 3 elements differ, by at most 0.25",
            "~ epoch: 7 → 9",
            "4 tensors and 1 other value compared: 2 differences"
        ]
    );
}

#[test]
fn a_file_that_cannot_be_compared_is_unreadable() {
    let output = command().arg("diff").arg(zip("views.pt")).arg(zip("missing.pt")).output().unwrap();
    assert!(unreadable(&output).contains("missing.pt"));
    let scratch = tempfile::tempdir().unwrap();
    let damaged = common::damaged(scratch.path());
    let output = command().arg("diff").arg(zip("deflated.pt")).arg(&damaged).output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("damaged.pt: tensor 4.weight: "), "{message}");
}
