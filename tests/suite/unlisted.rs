//! Values that PyTorch's weights-only loading refuses, read without running anything: NumPy's, Python's paths and
//! times, distributed and nested tensors, whole modules. Expected values come from NumPy and PyTorch.

use ptser::{Checkpoint, DType, ErrorKind, Globals, LoadOptions, Placement, TensorKind, Value, ValueKind};
use serde_json::{Value as Json, json};

use crate::build::{around, call, pickle, storage, tensor};
use crate::fixtures::{expected_in, folder};
use crate::support::sha256;

fn open(name: &str) -> Checkpoint {
    let path = folder().join("values").join(name);
    LoadOptions::new().globals(Globals::inert()).open(path).expect(name)
}

fn expected(name: &str) -> Json {
    let mut files = expected_in("values").into_iter();
    files.find(|(file, _)| file == name).expect(name).1
}

/// The files whose names begin so, with what is in them.
fn files(start: &str) -> Vec<(String, Checkpoint, Json)> {
    let files = expected_in("values").into_iter().filter(|(name, _)| name.starts_with(start));
    let files: Vec<_> = files.map(|(name, json)| (name.clone(), open(&name), json)).collect();
    assert!(!files.is_empty());
    files
}

fn entries(json: &Json) -> impl Iterator<Item = (&str, &Json)> {
    json.as_object().unwrap().iter().map(|(name, json)| (name.as_str(), json))
}

fn hash(tensor: &ptser::Tensor) -> Json {
    json!(sha256(&tensor.to_contiguous().unwrap()))
}

#[test]
fn numpy_arrays_are_tensors_in_every_protocol_and_container() {
    for (file, checkpoint, expected) in files("numpy_") {
        let arrays = checkpoint.root().get("arrays").unwrap();
        for (name, expected) in entries(&expected["arrays"]) {
            let array = arrays.get(name).unwrap().as_tensor().unwrap();
            let found = json!({"dtype": array.dtype().name(), "shape": array.shape(), "sha256": hash(array)});
            assert_eq!(found, *expected, "{file}: {name}");
            assert!(std::ptr::eq(checkpoint.tensor(&format!("arrays.{name}")).unwrap(), array));
        }
        let count = expected["arrays"].as_object().unwrap().len();
        assert_eq!(checkpoint.arrays().len(), count, "{file}");
        assert_eq!(checkpoint.entries().len(), 0, "{file}: arrays are no tensors of PyTorch's");
        assert_eq!(checkpoint.state_dict().unwrap().len(), count, "{file}");
        assert!(matches!(arrays.get("number").unwrap().kind(), ValueKind::Array(_)));
    }
}

#[test]
fn numpy_scalars_and_types_are_plain_values() {
    for (file, checkpoint, expected) in files("numpy_") {
        let root = checkpoint.root();
        for (name, expected) in entries(&expected["scalars"]) {
            let value = root.get("scalars").unwrap().get(name).unwrap();
            assert_eq!(value.to_string(), expected.as_str().unwrap(), "{file}: {name}");
            assert!(value.class().unwrap().ends_with("multiarray.scalar"), "{file}: {name}");
        }
        for (name, expected) in entries(&expected["dtypes"]) {
            match root.get("dtypes").unwrap().get(name).unwrap().kind() {
                ValueKind::DType(dtype) => assert_eq!(dtype.name(), expected, "{file}: {name}"),
                other => panic!("{file}: {name} is {other:?}"),
            }
        }
    }
}

#[test]
fn numpy_arrays_of_anything_but_numbers_stay_calls() {
    for (file, checkpoint, _) in files("numpy_") {
        for (name, value) in checkpoint.root().get("objects").unwrap().entries() {
            assert!(matches!(value.kind(), ValueKind::Object), "{file}: {name} is {value}");
            assert!(value.class().unwrap().starts_with("numpy."), "{file}: {name}");
        }
    }
}

#[test]
fn numpy_is_read_under_the_names_that_the_caller_allows() {
    let path = folder().join("values/numpy_protocol2.pt");
    let error = Checkpoint::open(&path).unwrap_err();
    let refused: Vec<&str> = error.refused_globals().iter().map(|global| global.name.as_str()).collect();
    let names = [
        "numpy._core.multiarray._reconstruct",
        "numpy.ndarray",
        "numpy.dtype",
        "numpy._core.multiarray.scalar",
    ];
    assert_eq!(refused, names);
    let globals = names.into_iter().fold(Globals::weights_only(), Globals::allow);
    let checkpoint = LoadOptions::new().globals(globals).open(&path).unwrap();
    assert_eq!(checkpoint.root().get("scalars").unwrap().get("u1").unwrap().as_i64().unwrap(), 200);
}

#[test]
fn times_are_iso_8601_and_paths_are_text() {
    for (file, checkpoint, expected) in files("library_") {
        let root = checkpoint.root();
        for (kind, read) in [("times", is_time as fn(Value<'_>) -> bool), ("paths", is_path)] {
            for (name, expected) in entries(&expected[kind]) {
                let value = root.get(kind).unwrap().get(name).unwrap();
                assert_eq!(value.as_str().unwrap(), expected, "{file}: {name}");
                assert!(read(value), "{file}: {name}");
            }
        }
    }
}

fn is_time(value: Value<'_>) -> bool {
    matches!(value.kind(), ValueKind::Time(_)) && value.class().unwrap().starts_with("datetime.")
}

fn is_path(value: Value<'_>) -> bool {
    matches!(value.kind(), ValueKind::Path(_)) && value.class().unwrap().starts_with("pathlib.")
}

#[test]
fn other_objects_of_the_library_show_what_would_make_them() {
    for (file, checkpoint, _) in files("library_") {
        let others = checkpoint.root().get("others").unwrap();
        let shown = |name: &str| others.get(name).unwrap().to_string();
        assert_eq!(shown("namespace"), "argparse.Namespace(lr=0.1, layers=[1, 2])", "{file}");
        assert_eq!(
            shown("partial"),
            "functools.partial(<torch.nn.functional.relu>, 3, inplace=True)",
            "{file}"
        );
        assert_eq!(shown("colour"), "__main__.Colour(1)", "{file}");
        assert_eq!(shown("inner"), "__main__.Outer.Inner(depth=2)", "{file}");
        assert_eq!(shown("default"), "defaultdict({'a': [1]})", "{file}");
        assert_eq!(shown("deque"), "deque([1, 2])", "{file}");
        assert_eq!(shown("delta"), "datetime.timedelta(1, 2, 3)", "{file}");
        assert_eq!(shown("slice"), "builtins.slice(1, None, 2)", "{file}");
        assert_eq!(shown("range"), "builtins.range(0, 3, 1)", "{file}");
        assert_eq!(others.get("namespace").unwrap().get("lr").unwrap().as_f64().unwrap(), 0.1);
        assert_eq!(others.get("inner").unwrap().class(), Some("__main__.Outer.Inner"));
        assert_eq!(others.get("colour").unwrap().args().next().unwrap().as_i64().unwrap(), 1);
    }
}

#[test]
fn components_of_nested_tensors_are_views_of_one_buffer() {
    let (checkpoint, expected) = (open("nested.pt"), expected("nested.pt"));
    let mut names = Vec::new();
    for (name, expected) in entries(&expected) {
        let tensor = checkpoint.tensor(name).unwrap();
        let TensorKind::Nested(nested) = tensor.kind() else { panic!("{tensor:?}") };
        let expected = expected.as_array().unwrap();
        names.push(name.to_owned());
        assert_eq!(tensor.shape(), [expected.len()]);
        assert_eq!(tensor.numel(), nested.components.iter().map(ptser::Tensor::numel).sum::<usize>());
        assert_eq!(nested.components.len(), expected.len(), "{name}");
        for (place, (part, expected)) in nested.components.iter().zip(expected).enumerate() {
            let found = json!({
                "shape": part.shape(),
                "stride": part.stride(),
                "storage_offset": part.storage_offset(),
                "sha256": hash(part),
            });
            assert_eq!(found, *expected, "{name} {place}");
            assert!(part.storage().unwrap().is(nested.buffer.storage().unwrap()));
            names.push(format!("{name}.#component{place}"));
        }
        assert_eq!(tensor.to_contiguous().unwrap_err().kind(), ErrorKind::Unsupported);
    }
    names.sort();
    let mut found: Vec<&str> = checkpoint.tensors().map(|(name, _)| name).collect();
    found.sort_unstable();
    assert_eq!(found, names);
    assert!(matches!(
        Checkpoint::open(folder().join("values/nested.pt")).unwrap_err().kind(),
        ErrorKind::Refused
    ));
}

#[test]
fn distributed_tensors_tell_their_part_and_their_placements() {
    let (checkpoint, expected) = (open("distributed.pt"), expected("distributed.pt"));
    for (name, expected) in entries(&expected) {
        let tensor = checkpoint.root().get(name).unwrap().as_dtensor().expect(name);
        let placements = tensor.placements.iter().map(|placement| match placement {
            Placement::Shard { .. } => "Shard",
            Placement::Replicate => "Replicate",
            Placement::Partial => "Partial",
            other => panic!("{other:?}"),
        });
        let found = json!({
            "shape": tensor.shape,
            "local": hash(tensor.local),
            "placements": placements.collect::<Vec<_>>(),
        });
        assert_eq!(found, *expected, "{name}");
        assert_eq!(tensor.is_whole(), name != "partial", "{name}");
    }
    let mixed = checkpoint.root().get("mixed").unwrap().as_dtensor().unwrap();
    assert_eq!(mixed.placements, [Placement::Replicate, Placement::Shard { dim: 1 }]);
    let state_dict = checkpoint.state_dict().unwrap();
    assert!(state_dict.get("sharded").unwrap().storage().is_some(), "a whole tensor is its part");
    assert!(state_dict.get("partial").unwrap().storage().is_none());
}

#[test]
fn tensors_of_devices_without_storages_are_cast_as_pytorch_casts() {
    let (checkpoint, expected) = (open("devices.pt"), expected("devices.pt"));
    for (name, expected) in entries(&expected) {
        let tensor = checkpoint.tensor(name).expect(name);
        let found = json!({"dtype": tensor.dtype().name(), "shape": tensor.shape(), "sha256": hash(tensor)});
        assert_eq!(found, *expected, "{name}");
    }
}

#[test]
fn quantized_tensors_dequantize_to_pytorchs_very_bits() {
    let (checkpoint, expected) = (open("quantized.pt"), expected("quantized.pt"));
    for (name, expected) in entries(&expected) {
        let values = checkpoint.tensor(name).unwrap().dequantize().unwrap();
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(sha256(&bytes), expected.as_str().unwrap(), "{name}");
    }
    let plain = checkpoint.tensor("qint8_channels.#q_scales").unwrap();
    assert_eq!(plain.dtype(), DType::Float64);
    assert_eq!(plain.dequantize().unwrap_err().kind(), ErrorKind::Misuse);
}

#[test]
fn pickled_modules_give_the_state_dict_that_pytorch_gives() {
    for (file, checkpoint, expected) in files("module").into_iter().chain(files("legacy_module")) {
        let state_dict = checkpoint.state_dict().unwrap();
        let found: Vec<(&str, Json)> = state_dict.iter().map(|(name, tensor)| (name, hash(tensor))).collect();
        let expected: Vec<(&str, Json)> =
            entries(&expected).map(|(name, hash)| (name, hash.clone())).collect();
        assert_eq!(found, expected, "{file}");
    }
    let whole = open("module_in_checkpoint.pt").state_dict_at("model").unwrap();
    assert_eq!(whole.len(), open("module.pt").state_dict().unwrap().len());
}

/// Protocols 2 and 3 have no opcode for constructors with keyword arguments: a partial is called instead.
#[test]
fn tensors_inside_what_is_called_are_listed() {
    let inner = tensor(&storage("0", 6), 0, &[2], &[1]);
    let partial = [&call("functools.partial", &[&inner])[..], b"("].concat();
    let root = pickle(&[&partial, b"tR"]);
    let options = LoadOptions::new().globals(Globals::inert());
    let checkpoint = options.from_bytes(around(&root)).unwrap();
    let names: Vec<&str> = checkpoint.tensors().map(|(name, _)| name).collect();
    assert_eq!(names, ["#callable.#args/0"]);
}
