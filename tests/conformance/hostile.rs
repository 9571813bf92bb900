//! Pickles that no writer would write; PyTorch was asked what it says to each.

use ptser::{Checkpoint, Error, ErrorKind, Globals, LoadOptions, Quantized, Reason, TensorKind};

use crate::given;

/// The error of a file, the same under every policy and through a mapping.
fn check_malformed(name: &str) -> Error {
    let error = given::refused(name);
    assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
    for options in [LoadOptions::new().mmap(true), LoadOptions::new().globals(Globals::inert())] {
        let other = options.open(given::path(name)).unwrap_err();
        assert_eq!(other.to_string(), error.to_string());
    }
    error
}

#[test]
fn test_rebuild_qtensor_bounds() {
    for (name, channels) in [("qtensor_good.pt", false), ("qtensor_good_channels.pt", true)] {
        assert!(given::facts(name)["refusal"].is_null());
        let checkpoint = given::open(name);
        let tensor = checkpoint.tensor("q").unwrap();
        assert_eq!(tensor.shape(), [2, 4]);
        let TensorKind::Quantized(quantized) = tensor.kind() else { panic!("{tensor:?}") };
        assert_eq!(matches!(**quantized, Quantized::PerChannel { axis: 0, .. }), channels);
        assert_eq!(*tensor.to_contiguous().unwrap(), [0, 2, 4, 6, 8, 10, 12, 14]);
    }
    for (case, told, ours) in [
        ("offset", "out of bounds for storage of size 8", "needs 9 bytes, its storage has 8"),
        ("huge_offset", "out of bounds for storage of size 8", "its storage has 8"),
        ("stride", "out of bounds for storage of size 8", "needs 9 bytes, its storage has 8"),
        ("size", "out of bounds for storage of size 8", "needs 12 bytes, its storage has 8"),
        ("axis", "axis 2 out of range", "axis 2 of 2 dimensions"),
        ("negative_axis", "axis -3 out of range", "negative axis: -3"),
        ("scales", "must equal size[axis]=2", "1 quantization parameters for 2 channels"),
        ("zero_points", "must equal size[axis]=2", "3 quantization parameters for 2 channels"),
    ] {
        let name = format!("qtensor_{case}.pt");
        let pytorch = given::facts(&name)["refusal"].as_str().unwrap();
        assert!(pytorch.contains(told), "{pytorch}");
        let error = check_malformed(&name);
        assert!(matches!(error.reason(), Reason::Tensor(_)) && error.to_string().contains(ours), "{error}");
        assert_eq!(error.tensor(), Some("q"));
    }
}

#[test]
fn test_weights_only_setitem_on_non_dict_rejected() {
    for (name, opcode) in [("setitem.pt", "SETITEM"), ("setitems.pt", "SETITEMS")] {
        let told = given::facts(name)["refusal"].as_str().unwrap();
        assert!(told.contains(&format!("Can only {opcode} for dict")), "{told}");
        let error = check_malformed(name);
        assert!(error.to_string().contains("items are set on a torch._utils._rebuild_tensor_v2"), "{error}");
        assert_eq!(error.tensor(), Some("w"));
    }
}

/// A persistent id that claims more or less than its record holds; PyTorch does not notice when it maps the file.
#[test]
fn test_weights_only_arbitrary_numel_in_persistent_id_rejected() {
    for (case, numel, bytes) in [("more", 5, 20), ("fewer", 3, 12), ("huge", 1 << 40, 1 << 42)] {
        let name = format!("numel_{case}.pt");
        let told = given::facts(&name)["refusal"].as_str().unwrap();
        assert!(told.contains("record size (16 bytes) does not match expected size"), "{told}");
        // The tensor that is too large for what is left of its storage is what PyTorch notices there.
        assert_eq!(given::facts(&name)["refusal_of_mapping"].is_null(), case != "fewer", "{case}");
        let error = check_malformed(&name);
        let Reason::RecordSize { found: 16, expected, numel: claimed, dtype } = error.reason() else {
            panic!("{error}")
        };
        assert_eq!((*expected, *claimed, dtype.as_str()), (bytes, numel, "float32"));
        assert_eq!((error.record(), error.tensor()), (Some("data/0"), Some("w")));
    }
}

#[test]
fn test_weights_only_invalid_persistent_id_type_in_error_message() {
    for (case, told, ours) in [
        ("int", "but got <class 'int'>", "the integer 7"),
        ("text", "but got <class 'str'>", "the string \"module\""),
        ("none", "but got <class 'NoneType'>", "None"),
    ] {
        let name = format!("pid_{case}.pt");
        let pytorch = given::facts(&name)["refusal"].as_str().unwrap();
        assert!(pytorch.contains("Only persistent_load of storage is allowed") && pytorch.ends_with(told));
        let error = check_malformed(&name);
        let expected = format!("a persistent id begins with {ours}, expected \"storage\"");
        assert!(error.to_string().contains(&expected), "{error}");
        assert_eq!(error.tensor(), Some("w"));
    }
    assert!(Checkpoint::open(given::path("two_types.pt")).is_ok());
}
