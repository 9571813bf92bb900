//! Tensors on candle's CUDA devices: what they are on the host, and what they share there. Without a device each test
//! says that it was skipped.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Storage, Tensor};
use candle_nn::{Module, VarBuilder};
use ptser::candle::{PtOptions, PtTensors, VarBuilderExt, load, save};
use ptser::{Checkpoint, Object, SaveOptions};

use crate::fixtures::{bytes, path};

fn device(test: &str) -> Option<Device> {
    Device::new_cuda(0).map_err(|error| println!("{test}: skipped on CUDA: {error}")).ok()
}

fn storage(tensor: &Tensor) -> usize {
    let (storage, _) = tensor.storage_and_layout();
    std::ptr::from_ref::<Storage>(&storage).addr()
}

#[test]
fn tensors_on_a_device_are_those_on_the_host() {
    let Some(cuda) = device("tensors_on_a_device_are_those_on_the_host") else { return };
    for file in ["dtypes.pt", "dtypes_big.pt", "views.pt", "shared.pt", "deflated.pt", "many.pt"] {
        let supported = PtOptions::new().state_dict("").complex_as_real(true).only(|name| name != "uint64");
        let pt = supported.open(path("zip").join(file)).unwrap();
        let (here, there) = (pt.load_all(&Device::Cpu).unwrap(), pt.load_all(&cuda).unwrap());
        assert_eq!(here.report().to_string(), there.report().to_string());
        let mut storages = HashMap::new();
        for (name, here) in here.iter() {
            let there = there.get(name).unwrap();
            assert!(there.device().same_device(&cuda), "{file}: {name}");
            let (layout, expected) = (there.layout(), here.layout());
            assert_eq!((there.dtype(), layout.dims()), (here.dtype(), expected.dims()), "{file}: {name}");
            assert_eq!(layout.stride(), expected.stride(), "{file}: {name}");
            // Who shares there shares here.
            assert_eq!(*storages.entry(storage(here)).or_insert(storage(there)), storage(there), "{name}");
            let there = there.to_device(&Device::Cpu).unwrap();
            assert_eq!(bytes(&there), bytes(here), "{file}: {name}");
        }
    }
}

#[test]
fn casts_have_the_same_values_on_both_sides() {
    let Some(cuda) = device("casts_have_the_same_values_on_both_sides") else { return };
    let pt = PtTensors::open(path("zip/dtypes.pt")).unwrap();
    for name in ["float16", "bfloat16", "float32", "float64", "int64", "uint8", "bool"] {
        for dtype in [DType::F16, DType::F32, DType::F64] {
            let here = pt.get_as(name, dtype, &Device::Cpu).unwrap();
            let there = pt.get_as(name, dtype, &cuda).unwrap();
            assert_eq!(there.dtype(), dtype);
            let values = |tensor: &Tensor| {
                let tensor = tensor.to_device(&Device::Cpu).unwrap().to_dtype(DType::F64).unwrap();
                tensor.flatten_all().unwrap().to_vec1::<f64>().unwrap()
            };
            for (here, there) in values(&here).into_iter().zip(values(&there)) {
                // A device may have one NaN for all.
                let same = here.to_bits() == there.to_bits() || (here.is_nan() && there.is_nan());
                assert!(same, "{name} as {dtype:?}: {here} and {there}");
            }
        }
    }
}

#[test]
fn a_model_says_there_what_it_says_here() {
    let Some(cuda) = device("a_model_says_there_what_it_says_here") else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.pt");
    let random = |shape: &[usize]| Tensor::randn(0_f32, 1.0, shape, &Device::Cpu).unwrap();
    save([("fc.weight", random(&[10, 64])), ("fc.bias", random(&[10]))], &file).unwrap();
    let input = random(&[3, 64]);
    let output = |device: &Device| {
        let vb = VarBuilder::from_pt(&file, DType::F32, device).unwrap();
        let layer = candle_nn::linear(64, 10, vb.pp("fc")).unwrap();
        let output = layer.forward(&input.to_device(device).unwrap()).unwrap();
        output.to_device(&Device::Cpu).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    for (here, there) in output(&Device::Cpu).iter().zip(output(&cuda)) {
        // Sums of 64 products in another order.
        assert!((here - there).abs() < 1e-3, "{here} {there}");
    }
}

#[test]
fn what_is_written_on_a_device_is_seen_by_every_view_and_freed_once() {
    let Some(cuda) = device("what_is_written_on_a_device_is_seen_by_every_view_and_freed_once") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tied.pt");
    let table = Tensor::arange(0_f32, 12.0, &Device::Cpu).unwrap().reshape((3, 4)).unwrap();
    save([("base", table.clone()), ("row", table.get(1).unwrap())], &file).unwrap();
    for _ in 0..100 {
        let loaded = load(&file, &cuda).unwrap();
        loaded.get("base").unwrap().zero_set().unwrap();
        let row = loaded.get("row").unwrap().clone();
        // A view outlives the map, and the storage with it.
        drop(loaded);
        assert_eq!(row.to_vec1::<f32>().unwrap(), [0.0; 4]);
    }
}

/// Storages around the size of a staging buffer, and one at the end that candle has no tensor for.
fn large(folder: &Path, with_last: bool) -> PathBuf {
    let file = folder.join(format!("large_{with_last}.pt"));
    let one = |dtype: ptser::DType, bytes: Vec<u8>| {
        let shape = [bytes.len() / dtype.element_size()];
        let storage = ptser::Storage::from_bytes(None, ptser::Location::cpu(), bytes);
        ptser::Tensor::contiguous(storage, dtype, shape).unwrap()
    };
    let bytes =
        |step: usize| (0..(step << 22) + 4 * step).map(|at| (at * (2 * step + 1) % 251) as u8).collect();
    let mut tensors: Vec<_> =
        (0..6).map(|step| (step.to_string(), one(ptser::DType::Int32, bytes(step)))).collect();
    if with_last {
        tensors.push(("last".into(), one(ptser::DType::UInt64, vec![0xFF; 8])));
    }
    SaveOptions::new().save(&file, &Object::dict(tensors)).unwrap();
    file
}

#[test]
fn what_is_loaded_at_once_is_complete_for_every_thread() {
    let Some(cuda) = device("what_is_loaded_at_once_is_complete_for_every_thread") else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = large(folder.path(), false);
    let here = load(&file, &Device::Cpu).unwrap();
    for _ in 0..3 {
        let there = load(&file, &cuda).unwrap();
        std::thread::scope(|scope| {
            for (name, there) in there {
                let here = here.get(&name).unwrap();
                scope.spawn(move || {
                    assert_eq!(bytes(&there.to_device(&Device::Cpu).unwrap()), bytes(here), "{name}");
                });
            }
        });
    }
}

#[test]
fn a_load_that_fails_half_way_leaves_the_device_as_it_was() {
    let Some(cuda) = device("a_load_that_fails_half_way_leaves_the_device_as_it_was") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (whole, fails) = (large(folder.path(), false), large(folder.path(), true));
    let here = load(&whole, &Device::Cpu).unwrap();
    for _ in 0..3 {
        let error = load(&fails, &cuda).unwrap_err().to_string();
        assert!(error.contains("last") && error.contains("does not fit"), "{error}");
        // It takes the memory that the other gave back.
        for (name, there) in load(&whole, &cuda).unwrap() {
            let there = there.to_device(&Device::Cpu).unwrap();
            assert_eq!(bytes(&there), bytes(here.get(&name).unwrap()), "{name}");
        }
    }
}

#[test]
fn what_is_saved_from_a_device_bears_its_tag() {
    let Some(cuda) = device("what_is_saved_from_a_device_bears_its_tag") else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("there.pt");
    let here = load(path("zip/state_dict.pt"), &Device::Cpu).unwrap();
    save(&load(path("zip/state_dict.pt"), &cuda).unwrap(), &file).unwrap();
    let checkpoint = Checkpoint::open(&file).unwrap();
    assert!(checkpoint.storages().iter().all(|storage| storage.location().as_str() == "cuda:0"));
    let again = load(&file, &Device::Cpu).unwrap();
    assert_eq!(again.iter().len(), here.iter().len());
    for (name, here) in here.iter() {
        assert_eq!(bytes(again.get(name).unwrap()), bytes(here), "{name}");
    }
}
