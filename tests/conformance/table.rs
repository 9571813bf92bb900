//! `docs/conformance.md` is the table of the tests here: each of them is in it, and it names no other.

use std::collections::BTreeSet;
use std::path::Path;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `module::name` of every test here but those of this file.
fn tests() -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    for entry in std::fs::read_dir(root().join("tests/conformance")).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let module = path.file_stem().unwrap().to_str().unwrap();
        if module == "table" {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("#[ignore"), "{module} leaves a test out");
        for after in text.split("#[test]\n").skip(1) {
            let name = after.strip_prefix("fn ").and_then(|rest| rest.split_once('(')).unwrap().0;
            assert!(tests.insert(format!("{module}::{name}")), "{module}::{name} is there twice");
        }
    }
    tests
}

/// The rows of a table that have so many cells, without its head.
fn rows(cells: usize) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(root().join("docs/conformance.md")).unwrap();
    let cells_of = |line: &str| -> Option<Vec<String>> {
        let inner = line.strip_prefix("| ")?.strip_suffix(" |")?;
        let cells: Vec<String> = inner.split(" | ").map(str::to_owned).collect();
        Some(cells)
    };
    let rows: Vec<Vec<String>> = text.lines().filter_map(cells_of).filter(|row| row.len() == cells).collect();
    rows.into_iter().filter(|row| row.last().is_some_and(|status| status != "status")).collect()
}

fn code(cell: &str) -> Option<&str> {
    cell.strip_prefix('`')?.strip_suffix('`')
}

fn check_status(status: &str, test: &str) {
    assert_eq!(status, "pass", "{test}");
}

#[test]
fn the_table_and_the_tests_agree() {
    let mut named = BTreeSet::new();
    let mut last = 0;
    for row in rows(5) {
        let [number, pytorch, checked, test, status] = row.as_slice() else { panic!("{row:?}") };
        let number: u32 = number.parse().unwrap();
        assert!(number > last && number <= 118, "row {number} after {last}");
        last = number;
        let pytorch = code(pytorch).unwrap_or_else(|| panic!("row {number}: {pytorch}"));
        assert!(!checked.is_empty());
        if let Some(reason) = test.strip_prefix("by design: ") {
            assert!(!reason.is_empty() && status == "by design", "row {number}");
            continue;
        }
        let test = code(test).unwrap_or_else(|| panic!("row {number}: {test}"));
        // Ours bears PyTorch's name.
        assert!(test.ends_with(&format!("::{pytorch}")), "row {number}: {test}");
        check_status(status, test);
        assert!(named.insert(test.to_owned()), "row {number}: {test} is there twice");
    }
    assert_eq!(last, 118);
    for row in rows(4) {
        let [_, test, _, status] = row.as_slice() else { panic!("{row:?}") };
        let test = code(test).unwrap_or_else(|| panic!("{test}"));
        check_status(status, test);
        assert!(named.insert(test.to_owned()), "{test} is there twice");
    }
    let tests = tests();
    let untold: Vec<&String> = tests.difference(&named).collect();
    let gone: Vec<&String> = named.difference(&tests).collect();
    assert!(untold.is_empty(), "not in the table: {untold:?}");
    assert!(gone.is_empty(), "in the table, and there is no such test: {gone:?}");
    assert!(tests.len() > 100);
}

#[test]
fn the_readme_leads_to_the_table() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.contains("](docs/conformance.md)"));
}
