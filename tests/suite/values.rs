//! Plain values come out as they went in, down to the bits of floats and lone surrogates.

use ptser::Checkpoint;

use crate::tree::check_value;
use crate::{build, fixtures};

#[test]
fn value_trees_are_those_that_pytorch_loads() {
    let mut checked = 0;
    for (file, expected) in fixtures::expected() {
        let Some(tree) = expected.get("value") else { continue };
        let checkpoint = fixtures::open(&file);
        check_value(&file, &checkpoint, tree);
        checked += 1;
    }
    assert!(checked >= 8, "{checked}");
}

#[test]
fn a_path_of_keys_and_indexes_leads_to_a_number() {
    let checkpoint = fixtures::open("nested_model.pt");
    let root = checkpoint.root();
    let group = root.get("optimizer").unwrap().get("param_groups").unwrap().index(0).unwrap();
    assert_eq!(group.get("lr").unwrap().as_f64().unwrap(), 1e-3);
    assert_eq!(root.get("epoch").unwrap().as_i64().unwrap(), 12);
    assert_eq!(root.get("args").unwrap().get("name").unwrap().as_str().unwrap(), "demo");
    assert!(root.get("args").unwrap().get("resume").unwrap().is_none());
    let error = root.get("epoch").unwrap().as_str().unwrap_err();
    assert_eq!(error.kind(), ptser::ErrorKind::Misuse);
    assert!(error.to_string().contains("12"), "{error}");
}

#[test]
fn a_state_dict_is_found_behind_numbers_too() {
    let checkpoint = fixtures::open("nested_model.pt");
    let names = |path: &str| -> Vec<String> {
        checkpoint.state_dict_at(path).unwrap().names().map(str::to_owned).collect()
    };
    // x["optimizer"]["state"][0], whose keys are integers.
    assert_eq!(names("optimizer.state.0"), ["step", "exp_avg", "exp_avg_sq"]);
    assert_eq!(names("optimizer.param_groups.0"), [""; 0]);
    for path in ["optimizer.state.99", "optimizer.state.01x", "optimizer.param_groups.7"] {
        let error = checkpoint.state_dict_at(path).unwrap_err();
        assert_eq!(error.kind(), ptser::ErrorKind::Misuse, "{error}");
    }
}

#[test]
fn values_print_as_in_python() {
    let checkpoint = fixtures::open("protocol2.pt");
    let shown = |key: &str| checkpoint.root().get(key).unwrap().to_string();
    assert_eq!(shown("tuples"), "[(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)]");
    assert_eq!(shown("floats"), "[0.0, -0.0, 1.5, inf]");
    assert_eq!(shown("complex"), "(1-2j)");
    assert_eq!(
        shown("torch"),
        "[torch.Size([2, 3]), device(type='cuda', index=0), torch.float16, torch.strided]"
    );
    assert_eq!(shown("bytearray"), "bytearray(b'mutable')");
    assert_eq!(shown("constants"), "[None, True, False]");
    let quote = build::pickle(&[&build::call("builtins.bytearray", &[b"C\x01'"])]);
    let checkpoint = Checkpoint::from_bytes(build::around(&quote)).unwrap();
    assert_eq!(checkpoint.root().to_string(), r#"bytearray(b"\'")"#);
}

#[test]
fn a_frozenset_has_what_python_keeps_of_its_members() {
    let read = |members: &[u8]| Checkpoint::from_bytes([b"\x80\x04(", members, b"\x91."].concat());
    for (members, shown) in [
        // 1, True, 2: as `pickle.loads` has it.
        (&b"K\x01\x88K\x02"[..], "frozenset({1, 2})"),
        (b"\x8c\x01a\x8c\x01b\x8c\x01a", "frozenset({'a', 'b'})"),
        (b"K\x01\x85K\x01\x85N", "frozenset({(1,), None})"),
        (b"", "frozenset()"),
    ] {
        assert_eq!(read(members).unwrap().root().to_string(), shown);
    }
    for members in [&b"]"[..], b"K\x01}", b"]\x85"] {
        let error = read(members).err().unwrap();
        assert_eq!(error.kind(), ptser::ErrorKind::Malformed);
        assert!(error.to_string().contains("a member of a set"), "{error}");
    }
}
