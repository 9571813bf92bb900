//! Element types that candle lacks: the same values in another type and a note of it, or an error with choices.

use candle_core::{DType, Device};
use ptser::candle::{Change, PtOptions, PtTensors};
use ptser::{Location, SaveOptions, StateDict, Storage};

use crate::fixtures::{bytes, path};

fn dtypes(options: &PtOptions) -> PtTensors {
    options.open(path("zip/dtypes.pt")).unwrap()
}

#[test]
fn all_256_codes_of_each_small_float_have_pytorchs_values() {
    let pt = PtTensors::open(path("candle/small_floats.pt")).unwrap();
    for name in ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"] {
        let ours = pt.get_as(name, DType::F32, &Device::Cpu).unwrap().to_vec1::<f32>().unwrap();
        let torchs = pt.get(&format!("{name}.f32"), &Device::Cpu).unwrap().to_vec1::<f32>().unwrap();
        for (code, (ours, torchs)) in ours.iter().zip(&torchs).enumerate() {
            let same = ours.to_bits() == torchs.to_bits() || (ours.is_nan() && torchs.is_nan());
            assert!(same, "{name} code {code}: {ours} is not {torchs}");
        }
    }
}

#[test]
fn types_that_candle_lacks_are_noted() {
    let pt = dtypes(&PtOptions::new());
    let state_dict = pt.state_dict().clone();
    for (name, tensor) in state_dict.iter() {
        if pt.get(name, &Device::Cpu).is_err() {
            // Its uint64 values go up to 2^64 - 1.
            assert!(tensor.dtype().is_complex() || name == "uint64", "{name}");
        }
    }
    let report = pt.report();
    let to = |name: &str| {
        let note =
            report.notes().find(|note| note.name == name).unwrap_or_else(|| panic!("no note of {name}"));
        match note.change {
            Change::Converted { to, .. } | Change::Raw { to, .. } => to,
            ref other => panic!("{name}: {other:?}"),
        }
    };
    let noted = [
        ("bool", DType::U8),
        ("int8", DType::I16),
        ("uint16", DType::U32),
        ("uint64", DType::I64),
        ("float8_e5m2", DType::F16),
        ("float8_e4m3fnuz", DType::F32),
        ("bits8", DType::U8),
        ("bits16", DType::I16),
    ];
    for (name, dtype) in noted {
        if state_dict.find(name).is_some() && pt.get(name, &Device::Cpu).is_ok() {
            assert_eq!(to(name), dtype, "{name}");
        }
    }
    for name in ["float32", "float64", "int64", "uint8", "uint32", "float8_e4m3fn"] {
        assert!(report.notes().all(|note| note.name != name), "{name}");
    }
}

#[test]
fn widened_integers_keep_their_values() {
    let pt = PtTensors::open(path("candle/integers.pt")).unwrap();
    let fits = pt.get("fits", &Device::Cpu).unwrap();
    assert_eq!(fits.to_vec1::<i64>().unwrap(), [0, 1, i64::MAX]);
    let error = pt.get("too_large", &Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("too_large") && error.contains("9223372036854775808"), "{error}");
}

#[test]
fn only_the_elements_of_a_view_must_fit() {
    let pt = PtTensors::open(path("candle/windows.pt")).unwrap();
    assert_eq!(pt.get("small", &Device::Cpu).unwrap().to_vec1::<i64>().unwrap(), [1, 2, 3]);
    let error = pt.get("large", &Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("tensor large") && error.contains("PtOptions::only"), "{error}");
    assert!(pt.report().notes().all(|note| note.name != "large"), "a failure is no conversion");
    let all = PtOptions::new().only(|name| name != "large").open(path("candle/windows.pt")).unwrap();
    assert_eq!(all.load_all(&Device::Cpu).unwrap().names().collect::<Vec<_>>(), ["small"]);
}

#[test]
fn every_byte_but_0_is_true() {
    let pt = PtTensors::open(path("candle/bools.pt")).unwrap();
    assert_eq!(pt.get("truth", &Device::Cpu).unwrap().to_vec1::<u8>().unwrap(), [1, 0, 1, 1]);
}

#[test]
fn a_float8_becomes_a_double_by_way_of_a_float() {
    let pt = PtTensors::open(path("candle/small_floats.pt")).unwrap();
    let doubles = pt.get_as("float8_e4m3fn", DType::F64, &Device::Cpu).unwrap().to_vec1::<f64>().unwrap();
    let floats = pt.get("float8_e4m3fn.f32", &Device::Cpu).unwrap().to_vec1::<f32>().unwrap();
    assert!(doubles.iter().zip(floats).all(|(double, float)| *double == f64::from(float) || double.is_nan()));
}

#[test]
fn a_conversion_that_the_caller_asked_for_is_not_noted() {
    let pt = PtTensors::open(path("candle/bools.pt")).unwrap();
    assert!(pt.get_as("truth", DType::F32, &Device::Cpu).is_ok());
    assert!(pt.report().is_empty());
}

#[test]
fn complex_numbers_are_an_error_with_a_choice_and_pairs_on_request() {
    let error = dtypes(&PtOptions::new()).get("complex64", &Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("complex64") && error.contains("complex_as_real"), "{error}");
    let pt = dtypes(&PtOptions::new().complex_as_real(true));
    for (name, real) in [("complex64", DType::F32), ("complex128", DType::F64)] {
        let tensor = pt.get(name, &Device::Cpu).unwrap();
        let described = pt.state_dict().get(name).unwrap();
        assert_eq!(tensor.dtype(), real);
        assert_eq!(tensor.dims(), [described.shape(), &[2]].concat());
        assert_eq!(bytes(&tensor), described.to_contiguous().unwrap().as_ref(), "{name}");
    }
}

#[test]
fn conjugates_and_negatives_are_resolved_and_said_to_be_copies() {
    let pt = PtOptions::new().complex_as_real(true).open(path("zip/conj_neg.pt")).unwrap();
    let mut resolved = 0;
    for (name, described) in pt.state_dict().iter() {
        let tensor = pt.get(name, &Device::Cpu).unwrap();
        assert_eq!(bytes(&tensor), described.to_contiguous().unwrap().as_ref(), "{name}");
        let note =
            pt.report().notes().any(|note| note.name == name && matches!(note.change, Change::Copied { .. }));
        assert_eq!(note, described.is_conj() || described.is_neg(), "{name}");
        resolved += usize::from(note);
    }
    assert!(resolved >= 3);
}

#[test]
fn big_endian_files_have_the_same_values() {
    let little = dtypes(&PtOptions::new().complex_as_real(true));
    let big = PtOptions::new().complex_as_real(true).open(path("zip/dtypes_big.pt")).unwrap();
    let mut compared = 0;
    for name in little.names() {
        if let Ok(tensor) = little.get(name, &Device::Cpu) {
            assert_eq!(bytes(&tensor), bytes(&big.get(name, &Device::Cpu).unwrap()), "{name}");
            compared += 1;
        }
    }
    assert!(compared > 20);
}

#[test]
fn tensors_without_plain_values_are_refused_by_name() {
    for (file, kind) in [("sparse.pt", "sparse"), ("meta.pt", "meta"), ("quantized.pt", "quantized")] {
        let pt = PtOptions::new().state_dict("").open(path("zip").join(file)).unwrap();
        let name = pt
            .state_dict()
            .iter()
            .find(|(_, tensor)| tensor.numel() > 0)
            .map(|(name, _)| name.to_owned())
            .unwrap();
        let error = pt.get(&name, &Device::Cpu).unwrap_err().to_string();
        assert!(error.contains(&name) && error.contains(kind), "{file}: {error}");
    }
}

#[test]
fn integers_of_64_bits_are_looked_at_once_however_often_a_view_repeats_them() {
    let pt = |numbers: [u64; 2], views: &[([usize; 2], [usize; 2])]| {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_ne_bytes()).collect();
        let storage = Storage::from_bytes(Some(ptser::DType::UInt64), Location::cpu(), bytes);
        let view = |(size, stride): &([usize; 2], [usize; 2])| {
            ptser::Tensor::view(storage.clone(), ptser::DType::UInt64, *size, *stride, 0).unwrap()
        };
        let named = views.iter().enumerate().map(|(place, size)| (place.to_string(), view(size)));
        let state_dict: StateDict = named.collect();
        PtOptions::new().from_bytes(SaveOptions::new().to_bytes(&state_dict).unwrap()).unwrap()
    };
    // 8 TiB, were they written out.
    let expanded = ([1 << 39, 2], [0, 1]);
    let pt_of = |numbers| pt(numbers, &[expanded, ([2, 1], [1, 1])]);
    let loaded = pt_of([3, 5]).load_all(&Device::Cpu).unwrap();
    assert_eq!(loaded.get("0").unwrap().dims(), [1 << 39, 2]);
    let error = pt_of([3, u64::MAX]).load_all(&Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("18446744073709551615"), "{error}");
}
