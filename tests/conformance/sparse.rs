//! Sparse tensors: the five layouts, and indices that leave them.

use ptser::{
    ByteOrder, Checkpoint, Error, ErrorKind, Globals, Layout, LoadOptions, Reason, Tensor, TensorKind,
};

use serde_json::json;

use crate::support::sha256;
use crate::{fixtures, given, saved};

fn check_layouts(options: &LoadOptions) {
    let checkpoint = options.open(given::path("sparse_layouts.pt")).unwrap();
    given::check("sparse_layouts.pt", &checkpoint);
    for (name, layout, parts) in [
        ("coo", Layout::SparseCoo, ["indices", "values", ""]),
        ("csr", Layout::SparseCsr, ["crow_indices", "col_indices", "values"]),
        ("csc", Layout::SparseCsc, ["ccol_indices", "row_indices", "values"]),
        ("bsr", Layout::SparseBsr, ["crow_indices", "col_indices", "values"]),
        ("bsc", Layout::SparseBsc, ["ccol_indices", "row_indices", "values"]),
    ] {
        let tensor = checkpoint.tensor(name).unwrap();
        assert_eq!((tensor.layout(), tensor.shape()), (layout, [3, 3].as_slice()));
        let names: Vec<String> = tensor.parts().map(|(name, _)| name.into_owned()).collect();
        let there: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        assert_eq!(names, there);
        let TensorKind::Sparse(sparse) = tensor.kind() else { panic!("{tensor:?}") };
        assert_eq!(sparse.is_coalesced, (name == "coo").then_some(true));
        assert_eq!(tensor.to_contiguous().unwrap_err().kind(), ErrorKind::Unsupported);
        let (_, values) = tensor.parts().last().unwrap();
        assert_eq!(given::floats(values), [1.0]);
    }
    // Hybrid, empty, of other types, not coalesced; in the legacy format as well.
    for folder in ["zip", "legacy"] {
        let checkpoint = options.open(fixtures::folder().join(folder).join("sparse.pt")).unwrap();
        let told = fixtures::expected_in(folder).into_iter().find(|(file, _)| file == "sparse.pt").unwrap();
        fixtures::check_tensors("sparse.pt", &checkpoint, &told.1["tensors"]);
    }
}

#[test]
fn test_serialization_sparse() {
    check_layouts(&LoadOptions::new().globals(Globals::inert()));
    saved::check("sparse_layouts.pt");
}

#[test]
fn test_serialization_sparse_safe() {
    check_layouts(&LoadOptions::new());
    saved::check("sparse_layouts.pt");
}

/// Opens a file, and reads the indices of its only sparse tensor: neither gives a value.
fn check_invalid(name: &str, part: &str, told: &str) -> Error {
    let refusal = given::facts(name)["refusal"].as_str().unwrap();
    assert!(refusal.contains(told), "{refusal}");
    let checkpoint = given::open(name);
    let (_, tensor) = checkpoint.tensors().next().unwrap();
    let (_, indices) = tensor.parts().find(|(name, _)| *name == part).unwrap();
    let error = indices.to_contiguous().unwrap_err();
    let other = indices.to_contiguous_in(ByteOrder::Big).unwrap_err();
    assert_eq!(error.to_string(), other.to_string());
    assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
    assert!(matches!(error.reason(), Reason::Tensor(_)), "{error}");
    error
}

#[test]
fn test_serialization_sparse_invalid() {
    let error = check_invalid("sparse_invalid.pt", "indices", "size is 3 but found index 3");
    assert!(error.to_string().contains("index 3 in a dimension of 3"), "{error}");
    let error = check_invalid("sparse_negative.pt", "indices", "negative index -1");
    assert!(error.to_string().contains("index -1"), "{error}");
}

#[test]
fn test_serialization_sparse_invalid_legacy_ctor() {
    let checkpoint = given::open("sparse_legacy_ctor.pt");
    let made = checkpoint.tensor("made").unwrap();
    let told = &given::facts("sparse_legacy_ctor.pt")["tensors"];
    assert_eq!(
        (told[0]["layout"].as_str(), &told[0]["shape"]),
        (Some(made.layout().name()), &json!(made.shape()))
    );
    assert_eq!(made.parts().count(), 2);
    for (place, (name, part)) in [1, 2].into_iter().zip(made.parts()) {
        assert_eq!(told[place]["name"], format!("made.#{name}"));
        assert_eq!(told[place]["sha256"], sha256(&part.to_contiguous().unwrap()), "{name}");
    }
    let error = check_invalid("sparse_invalid_legacy_ctor.pt", "indices", "size is 3 but found index 3");
    assert!(error.to_string().contains("index 3 in a dimension of 3"), "{error}");
}

fn check_compressed(layout: &str) {
    let name = format!("sparse_{layout}_invalid.pt");
    let part = if layout.ends_with('r') { "crow_indices" } else { "ccol_indices" };
    let error = check_invalid(&name, part, &format!("`{part}[..., 0] == 0` is not satisfied"));
    assert!(error.to_string().contains("3 after 0 among the pointers to 1 elements"), "{error}");
    // The other parts are good, and stay readable.
    let checkpoint = given::open(&name);
    let parts: Vec<(&str, &Tensor)> = checkpoint.tensors().collect();
    let readable = parts.iter().filter(|(_, tensor)| tensor.to_contiguous().is_ok()).count();
    assert_eq!((parts.len(), readable), (4, 2));
}

#[test]
fn test_serialization_sparse_csr_invalid() {
    check_compressed("csr");
}

#[test]
fn test_serialization_sparse_csc_invalid() {
    check_compressed("csc");
}

#[test]
fn test_serialization_sparse_bsr_invalid() {
    check_compressed("bsr");
}

#[test]
fn test_serialization_sparse_bsc_invalid() {
    check_compressed("bsc");
}

/// Indices are checked whatever the policy, the source and the order asked for; there is no switch.
#[test]
fn test_weights_only_validate_sparse() {
    for name in [
        "sparse_invalid.pt",
        "sparse_negative.pt",
        "sparse_csr_invalid.pt",
        "sparse_csc_invalid.pt",
        "sparse_bsr_invalid.pt",
        "sparse_bsc_invalid.pt",
    ] {
        assert!(given::facts(name)["refusal"].is_string());
        for globals in [Globals::weights_only(), Globals::inert()] {
            let options = LoadOptions::new().globals(globals);
            for checkpoint in [
                options.open(given::path(name)).unwrap(),
                options.clone().mmap(true).open(given::path(name)).unwrap(),
                options.from_bytes(given::bytes(name)).unwrap(),
            ] {
                let bad = |checkpoint: &Checkpoint| {
                    let outcomes = checkpoint.tensors().map(|(_, tensor)| tensor.to_contiguous());
                    outcomes
                        .filter_map(Result::err)
                        .filter(|error| error.kind() == ErrorKind::Malformed)
                        .count()
                };
                assert_eq!(bad(&checkpoint), 1, "{name}");
            }
        }
    }
}
