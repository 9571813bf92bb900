//! Candle tensors saved for PyTorch: its bytes, sharing kept, in a set order, whole whatever happens.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Shape, Storage, Tensor, Var};
use candle_nn::VarMap;
use ptser::candle::{NamedTensors, load, save, save_with, to_state_dict, to_tensor, to_tensors};
use ptser::{Checkpoint, Object, SaveOptions};

use crate::fixtures::{bytes, path};

/// The identity of a tensor's storage while it lives.
fn storage(tensor: &Tensor) -> usize {
    let (storage, _) = tensor.storage_and_layout();
    std::ptr::from_ref::<Storage>(&storage).addr()
}

fn numbers(count: u32, shape: impl Into<Shape>) -> Tensor {
    let numbers: Vec<f32> = (0..count).map(|n| n as f32).collect();
    Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap()
}

/// Saves under the name of a fixture, which gives the archive's folder its name, and compares all bytes.
fn is_pytorchs(tensors: impl NamedTensors, fixture: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(fixture);
    save(tensors, &file).unwrap();
    let expected = std::fs::read(path("candle").join(fixture)).unwrap();
    assert!(std::fs::read(file).unwrap() == expected, "{fixture}: not the bytes that PyTorch writes");
}

/// The state dict of `saved_views.pt`.
fn views() -> Vec<(&'static str, Tensor)> {
    let table = numbers(12, (3, 4));
    let column = Tensor::new(&[[1.5_f64], [-2.5]], &Device::Cpu).unwrap();
    let long = Tensor::arange(0_i64, 1000, &Device::Cpu).unwrap();
    vec![
        ("embed.weight", table.clone()),
        ("head.weight", table.clone()),
        ("transposed", table.t().unwrap()),
        ("row", table.get(1).unwrap()),
        ("slice", table.narrow(1, 1, 2).unwrap()),
        ("column", column.clone()),
        ("expanded", column.broadcast_as((2, 5)).unwrap()),
        ("lone_slice", long.narrow(0, 500, 3).unwrap()),
    ]
}

#[test]
fn views_and_tied_weights_are_pytorchs_bytes() {
    is_pytorchs(views(), "saved_views.pt");
}

#[test]
fn every_element_type_is_pytorchs_bytes() {
    let all = [
        DType::U8,
        DType::U32,
        DType::I16,
        DType::I32,
        DType::I64,
        DType::BF16,
        DType::F16,
        DType::F32,
        DType::F64,
    ];
    let names = ["uint8", "uint32", "int16", "int32", "int64", "bfloat16", "float16", "float32", "float64"];
    let of = |dtype| numbers(6, (2, 3)).to_dtype(dtype).unwrap();
    let mut tensors: Vec<(&str, Tensor)> = names.into_iter().zip(all.map(of)).collect();
    let codes = [0x00, 0x38, 0xB8, 0x7E];
    let float8 = Tensor::from_raw_buffer(&codes, DType::F8E4M3, &[4], &Device::Cpu).unwrap();
    tensors.push(("float8_e4m3fn", float8));
    tensors.push(("scalar", Tensor::new(0.25_f32, &Device::Cpu).unwrap()));
    tensors.push(("empty", Tensor::zeros((2, 0, 3), DType::F32, &Device::Cpu).unwrap()));
    is_pytorchs(tensors, "saved_types.pt");
}

#[test]
fn maps_are_saved_in_natural_order() {
    let names =
        ["fc.bias", "fc.weight", "fc2.weight", "layers.0.weight", "layers.2.weight", "layers.10.weight"];
    let tensor = |place: usize| Tensor::new(&[place as f32], &Device::Cpu).unwrap();
    let map: HashMap<String, Tensor> =
        names.iter().enumerate().map(|(place, name)| ((*name).to_owned(), tensor(place))).collect();
    is_pytorchs(&map, "saved_order.pt");

    let vars = VarMap::new();
    for (name, tensor) in &map {
        vars.data().lock().unwrap().insert(name.clone(), Var::from_tensor(tensor).unwrap());
    }
    is_pytorchs(&vars, "saved_order.pt");
}

#[test]
fn what_is_saved_loads_equal_and_shares() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("views.pt");
    let saved = views();
    save(&saved, &file).unwrap();
    let loaded = load(&file, &Device::Cpu).unwrap();
    assert!(loaded.report().is_empty(), "{}", loaded.report());
    assert_eq!(loaded.names().collect::<Vec<_>>(), saved.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    let mut places = HashMap::new();
    for (name, tensor) in &saved {
        let again = loaded.get(name).unwrap();
        assert_eq!(again.dtype(), tensor.dtype(), "{name}");
        assert_eq!(again.dims(), tensor.dims(), "{name}");
        assert_eq!(bytes(again), bytes(tensor), "{name}");
        if *name != "lone_slice" {
            assert_eq!(again.stride(), tensor.stride(), "{name}");
            assert_eq!(*places.entry(storage(tensor)).or_insert(storage(again)), storage(again), "{name}");
        }
    }
    assert_eq!(places.len(), 2);
}

#[test]
fn what_was_loaded_is_saved_as_the_same_file() {
    for fixture in ["saved_order.pt", "saved_types.pt"] {
        is_pytorchs(&load(path("candle").join(fixture), &Device::Cpu).unwrap(), fixture);
    }
}

#[test]
fn compact_leaves_out_what_no_tensor_views() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("compact.pt");
    save_with(&SaveOptions::new().compact(true), views(), &file).unwrap();
    let checkpoint = Checkpoint::open(&file).unwrap();
    assert_eq!(checkpoint.tensor("lone_slice").unwrap().storage().unwrap().nbytes(), 24);
    let loaded = load(&file, &Device::Cpu).unwrap();
    for (name, tensor) in views() {
        assert_eq!(bytes(loaded.get(name).unwrap()), bytes(&tensor), "{name}");
    }
}

#[test]
fn the_other_byte_order_is_written_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("big.pt");
    save_with(&SaveOptions::new().byte_order(ptser::ByteOrder::Big), views(), &file).unwrap();
    let first = Checkpoint::open(&file).unwrap();
    let offset = first.tensor("column").unwrap().storage().unwrap().checkpoint_offset().unwrap().unwrap();
    let start = usize::try_from(offset).unwrap();
    assert_eq!(std::fs::read(&file).unwrap()[start..start + 8], 1.5_f64.to_be_bytes());
    let loaded = load(&file, &Device::Cpu).unwrap();
    for (name, tensor) in views() {
        assert_eq!(bytes(loaded.get(name).unwrap()), bytes(&tensor), "{name}");
    }
}

#[test]
fn a_checkpoint_with_other_values_shares_over_all_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("checkpoint.pt");
    let weights = numbers(6, (2, 3));
    let vars = VarMap::new();
    vars.data().lock().unwrap().insert("weight".to_owned(), Var::from_tensor(&weights).unwrap());
    let described = to_tensors(&[&weights, &weights.t().unwrap()]).unwrap();
    let [plain, transposed] = described.as_slice() else { panic!("{described:?}") };
    let state_dict = to_state_dict(&vars).unwrap();
    let parameters: ptser::StateDict = state_dict
        .iter()
        .map(|(name, tensor)| (name, tensor.clone().with_parameter(true).with_requires_grad(true)))
        .collect();
    let object = Object::dict([
        ("epoch", Object::from(3)),
        ("model_state_dict", state_dict.into()),
        ("parameters", parameters.into()),
        ("pair", Object::list([plain.clone(), transposed.clone()])),
        ("alone", to_tensor(&weights).unwrap().into()),
    ]);
    SaveOptions::new().save(&file, &object).unwrap();

    let checkpoint = Checkpoint::open(&file).unwrap();
    assert_eq!(checkpoint.root().get("epoch").unwrap().as_i64().unwrap(), 3);
    let of = |name: &str| checkpoint.tensor(name).unwrap().storage().unwrap().id();
    assert_eq!(of("pair.0"), of("pair.1"));
    assert_ne!(of("pair.0"), of("alone"));
    let [variable, parameter] =
        ["model_state_dict.weight", "parameters.weight"].map(|name| checkpoint.tensor(name).unwrap());
    assert!(!variable.requires_grad() && !variable.is_parameter());
    assert!(parameter.requires_grad() && parameter.is_parameter());
    let loaded = load(&file, &Device::Cpu).unwrap();
    assert_eq!(bytes(loaded.get("weight").unwrap()), bytes(&weights));
}

/// A write waits while a storage is being saved: what is saved of it is of one moment.
#[test]
fn saving_goes_on_beside_readers_and_writers() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("live.pt");
    let vars = VarMap::new();
    let filled = |with: f32| Tensor::full(with, 300_000, &Device::Cpu).unwrap();
    for name in ["a", "b"] {
        vars.data().lock().unwrap().insert(name.to_owned(), Var::from_tensor(&filled(0.0)).unwrap());
    }
    let of = |name: &str| vars.data().lock().unwrap().get(name).unwrap().clone();
    let done = std::sync::atomic::AtomicBool::new(false);
    let is_done = || done.load(std::sync::atomic::Ordering::Relaxed);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let values = [filled(1.0), filled(2.0)];
            for value in values.iter().cycle().take_while(|_| !is_done()) {
                of("a").set(value).unwrap();
            }
        });
        scope.spawn(|| {
            while !is_done() {
                assert_eq!(of("b").max_all().unwrap().to_scalar::<f32>().unwrap(), 0.0);
            }
        });
        for _ in 0..20 {
            save_with(&SaveOptions::new().durable(false), &vars, &file).unwrap();
            let loaded = load(&file, &Device::Cpu).unwrap();
            for name in ["a", "b"] {
                let values = loaded.get(name).unwrap().to_vec1::<f32>().unwrap();
                assert!(values.iter().all(|value| *value == values[0]), "{name} is torn");
            }
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// Saving fails, its message says why, and what was there before stays.
fn fails(tensors: impl NamedTensors, file: &Path, why: &str) {
    let before = std::fs::read(file).ok();
    let message = save(tensors, file).unwrap_err().to_string();
    assert!(message.contains(why), "{message}");
    assert_eq!(std::fs::read(file).ok(), before);
}

#[test]
fn errors_name_the_tensor_and_keep_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.pt");
    save([("x", numbers(3, 3))], &file).unwrap();
    let dummy = Tensor::from_raw_buffer(&[0; 4], DType::F8E8M0, &[4], &Device::Cpu).unwrap();
    fails(
        [("x", numbers(3, 3)), ("scales", dummy)],
        &file,
        "tensor scales: candle's F8E8M0 has no counterpart",
    );
    fails(vec![("x", numbers(3, 3)), ("x", numbers(2, 2))], &file, "tensor x: there are two of this name");
    fails([("x", numbers(3, 3))], &folder.path().join("absent/model.pt"), "absent");
    fails([("x", numbers(3, 3))], &folder.path().join(".pt"), "name the file otherwise");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
