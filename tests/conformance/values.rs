//! Values and tensors as they are saved every day.

use ptser::{DType, ErrorKind, Globals, Layout, LoadOptions, Location, TensorKind, ValueKind};

use crate::{fixtures, given, saved};

#[test]
fn test_serialize_device() {
    let checkpoint = given::open("devices.pt");
    given::check("devices.pt", &checkpoint);
    let expected = [
        ("cpu", "cpu", None),
        ("cpu:0", "cpu", Some(0)),
        ("cuda", "cuda", None),
        ("cuda:0", "cuda", Some(0)),
    ];
    for (value, (text, device, index)) in checkpoint.root().items().zip(expected) {
        let ValueKind::Device(location) = value.kind() else { panic!("{value}") };
        let copy: Location = location.to_string().parse().unwrap();
        assert_eq!(copy, *location);
        assert_eq!((copy.as_str(), copy.device(), copy.index()), (text, device, index));
    }
    assert_eq!(checkpoint.root().index(3).unwrap().to_string(), "device(type='cuda', index=0)");
}

#[test]
fn test_safe_load_basic_types() {
    let checkpoint = given::open("basic_types.pt");
    given::check("basic_types.pt", &checkpoint);
    let get = |key| checkpoint.root().get(key).unwrap();
    assert_eq!(get("int").as_i64().unwrap(), -77);
    assert_eq!(get("str").as_str().unwrap(), "words");
    assert_eq!(get("float").as_f64().unwrap().to_bits(), 0.3_f64.to_bits());
    assert!(!get("bool").as_bool().unwrap());
    for (key, wrong) in [("int", get("int").as_str().err()), ("bool", get("bool").as_i64().err())] {
        assert_eq!(wrong.unwrap().kind(), ErrorKind::Misuse, "{key}");
    }
}

/// Terabytes of shapes, in a small file.
#[test]
fn test_meta_serialization() {
    for options in [LoadOptions::new(), LoadOptions::new().globals(Globals::inert())] {
        let checkpoint = options.open(given::path("meta_linear.pt")).unwrap();
        given::check("meta_linear.pt", &checkpoint);
        let weight = checkpoint.tensor("weight").unwrap();
        assert_eq!(weight.shape(), [1 << 21, 1 << 20]);
        assert_eq!(weight.nbytes(), 1 << 43);
        assert!(matches!(weight.kind(), TensorKind::Meta) && weight.storage().is_none());
        assert!(checkpoint.storages().is_empty());
        assert!(checkpoint.records().all(|record| !record.name.starts_with("data/")));
        let error = weight.to_contiguous().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("meta"), "{error}");
    }
    saved::check("meta_linear.pt");
}

#[test]
fn test_lr_scheduler_serialization() {
    let checkpoint = given::open("lr_scheduler.pt");
    given::check("lr_scheduler.pt", &checkpoint);
    let rates: Vec<f64> =
        checkpoint.root().get("base_lrs").unwrap().items().map(|rate| rate.as_f64().unwrap()).collect();
    assert_eq!(serde_json::json!(rates), given::facts("lr_scheduler.pt")["base_lrs"]);
    // The way of annealing is a word, and no method that would bring the optimizer along.
    assert_eq!(checkpoint.root().get("_anneal_func_type").unwrap().as_str().unwrap(), "cos");
    assert_eq!((checkpoint.tensors().count(), checkpoint.globals().count()), (0, 0));
}

#[test]
fn test_serialization_python_attr() {
    for options in [LoadOptions::new(), LoadOptions::new().globals(Globals::inert())] {
        let checkpoint = options.open(given::path("python_attr.pt")).unwrap();
        given::check("python_attr.pt", &checkpoint);
        for (name, parameter) in [("tensor", false), ("parameter", true)] {
            let value = checkpoint.root().get(name).unwrap();
            assert_eq!(value.as_tensor().unwrap().is_parameter(), parameter);
            assert_eq!(value.get("label").unwrap().as_str().unwrap(), "left");
            assert_eq!(value.get("rate").unwrap().as_f64().unwrap().to_bits(), 0.3_f64.to_bits());
            assert_eq!(value.attributes().count(), 2);
        }
    }
    saved::check("python_attr.pt");
}

#[test]
fn test_serialization_math_bits() {
    let checkpoint = given::open("math_bits.pt");
    given::check("math_bits.pt", &checkpoint);
    // What is stored is 1.5-2.5j, once.
    assert_eq!(checkpoint.storages().len(), 1);
    for (name, conj, neg, re, im) in
        [("conj", true, false, 1.5, 2.5), ("neg", false, true, -1.5, 2.5), ("both", true, true, -1.5, -2.5)]
    {
        let tensor = checkpoint.tensor(name).unwrap();
        assert_eq!((tensor.is_conj(), tensor.is_neg()), (conj, neg), "{name}");
        let expected: Vec<u8> = [re, im].iter().flat_map(|number: &f32| number.to_le_bytes()).collect();
        assert_eq!(*tensor.to_contiguous().unwrap(), *expected, "{name}");
        let stored: Vec<u8> = [1.5, -2.5].iter().flat_map(|number: &f32| number.to_ne_bytes()).collect();
        assert_eq!(tensor.storage().unwrap().to_vec().unwrap(), stored, "{name}");
    }
    for folder in ["zip", "legacy"] {
        let path = fixtures::folder().join(folder).join("conj_neg.pt");
        let (_, told) =
            fixtures::expected_in(folder).into_iter().find(|(file, _)| file == "conj_neg.pt").unwrap();
        let checkpoint = LoadOptions::new().open(path).unwrap();
        fixtures::check_tensors("conj_neg.pt", &checkpoint, &told["tensors"]);
    }
    saved::check("math_bits.pt");
}

#[test]
fn test_serialization_byte_literal() {
    for options in [LoadOptions::new(), LoadOptions::new().globals(Globals::inert())] {
        let bytes = options.open(given::path("bytes.pt")).unwrap();
        given::check("bytes.pt", &bytes);
        assert!(matches!(bytes.root().kind(), ValueKind::Bytes(b"byte")));
        let array = options.open(given::path("bytearray.pt")).unwrap();
        given::check("bytearray.pt", &array);
        assert!(matches!(array.root().kind(), ValueKind::ByteArray(b"bytearray")));
        assert_eq!(array.root().as_bytes().unwrap(), b"bytearray");
        // PyTorch saves these, and refuses to load them as weights only.
        let empty = options.open(fixtures::path("values_empty_bytes.pt")).unwrap();
        assert!(matches!(empty.root().get("empty").unwrap().kind(), ValueKind::Bytes(b"")));
    }
    saved::check("bytes.pt");
    saved::check("bytearray.pt");
}

#[test]
fn test_save_load_preserves_dtype() {
    for options in [LoadOptions::new(), LoadOptions::new().globals(Globals::inert())] {
        let checkpoint = options.open(given::path("preserves_dtype.pt")).unwrap();
        given::check("preserves_dtype.pt", &checkpoint);
        assert_eq!(checkpoint.root().len(), 12);
        for (name, value) in checkpoint.root().entries() {
            let dtype: DType = name.as_str().unwrap().parse().unwrap();
            let tensor = value.get("t").unwrap().as_tensor().unwrap();
            let parameter = value.get("p").unwrap().as_tensor().unwrap();
            let in_dict = value.get("sd").unwrap().get("param").unwrap().as_tensor().unwrap();
            for found in [tensor, parameter, in_dict] {
                assert_eq!((found.dtype(), found.layout()), (dtype, Layout::Strided));
                assert!(found.storage().unwrap().is(tensor.storage().unwrap()), "{dtype}");
            }
            let differentiable = dtype.is_complex() || dtype.name().contains("float");
            assert!(parameter.is_parameter() && parameter.requires_grad() == differentiable, "{dtype}");
            let item = value.get("i").unwrap();
            assert!(
                match item.kind() {
                    ValueKind::Bool(_) => dtype == DType::Bool,
                    ValueKind::Int(_) => !differentiable && dtype != DType::Bool,
                    ValueKind::Float(_) => differentiable && !dtype.is_complex(),
                    ValueKind::Complex(..) => dtype.is_complex(),
                    _ => false,
                },
                "{dtype}: {item}"
            );
        }
    }
    saved::check("preserves_dtype.pt");
}

#[test]
fn test_sets_are_loadable_with_weights_only() {
    let checkpoint = given::open("set.pt");
    given::check("set.pt", &checkpoint);
    assert!(matches!(checkpoint.root().kind(), ValueKind::Set));
    let mut items: Vec<i64> = checkpoint.root().items().map(|item| item.as_i64().unwrap()).collect();
    items.sort_unstable();
    assert_eq!(items, [1, 2, 3]);
    saved::check("set.pt");
}

/// PyTorch hands such a path to the safetensors package.
#[test]
fn test_load_safetensors() {
    let path = fixtures::folder().join("legacy/dtypes.safetensors");
    let (_, told) =
        fixtures::expected_in("legacy").into_iter().find(|(file, _)| file == "dtypes.safetensors").unwrap();
    for options in [LoadOptions::new(), LoadOptions::new().mmap(true)] {
        let checkpoint = options.open(&path).unwrap();
        assert_eq!(checkpoint.format(), ptser::Format::Safetensors);
        fixtures::check_tensors("dtypes.safetensors", &checkpoint, &told["tensors"]);
        let registry = ptser::Registry::linked().unwrap();
        let restored = checkpoint.restore(&registry, &"cpu".into()).unwrap();
        assert!(restored.locations().all(|location| location == Location::cpu()));
        assert_eq!(restored.iter().len(), checkpoint.storages().len());
    }
}
