//! `VarBuilder::from_pt`: what candle models see.

use candle_core::{DType, Device};
use candle_nn::VarBuilder;
use ptser::candle::{PtOptions, PtTensors, VarBuilderExt};

use crate::fixtures::{expected, path};

#[test]
fn a_state_dict_is_found_wherever_training_loops_keep_it() {
    let entries = expected();
    let plain = &entries["state_dict.pt"]["tensors"];
    let names: Vec<&str> =
        plain.as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    let nested: Vec<&String> = entries.keys().filter(|file| file.starts_with("nested_")).collect();
    assert!(nested.len() >= 7);
    for file in nested {
        let pt = PtTensors::open(path("zip").join(file)).unwrap();
        assert_eq!(pt.names().collect::<Vec<_>>(), names, "{file}");
    }
}

#[test]
fn the_caller_chooses_another_state_dict() {
    let file = path("zip/nested_ema.pt");
    let chosen = PtOptions::new().state_dict("ema").open(&file).unwrap();
    assert!(chosen.names().len() > 0);
    let error = PtOptions::new().state_dict("emma").open(&file).unwrap_err().to_string();
    assert!(error.contains("emma") && error.contains("did you mean ema"), "{error}");
}

#[test]
fn dtypes_are_converted_as_candles_own_backends_do() {
    let vb = VarBuilder::from_pt(path("candle/shard_1.pt"), DType::F64, &Device::Cpu).unwrap();
    let weight = vb.pp("layers").pp("0").get((3, 4), "weight").unwrap();
    assert_eq!(weight.dtype(), DType::F64);
    let single = vb.to_dtype(DType::F32).get((3, 4), "layers.0.weight").unwrap();
    assert_eq!(
        single.to_dtype(DType::F64).unwrap().to_vec2::<f64>().unwrap(),
        weight.to_vec2::<f64>().unwrap()
    );
}

#[test]
fn a_missing_tensor_names_the_nearest() {
    let vb = VarBuilder::from_pt(path("candle/shard_1.pt"), DType::F32, &Device::Cpu).unwrap();
    assert!(vb.contains_tensor("layers.0.weight"));
    assert!(!vb.contains_tensor("layers.0.wieght"));
    let error = vb.get((3, 4), "layers.0.wieght").unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("layers.0.wieght (of shape [3, 4]; the nearest names are layers.0.weight"),
        "{text}"
    );
    let error = vb.pp("module").get((3, 4), "layers.0.weight").unwrap_err().to_string();
    assert!(error.contains("nearest names are layers.0.weight"), "{error}");
}

#[test]
fn a_wrong_shape_says_what_was_expected_and_found() {
    let vb = VarBuilder::from_pt(path("candle/shard_1.pt"), DType::F32, &Device::Cpu).unwrap();
    let error = vb.get((4, 3), "layers.0.weight").unwrap_err().to_string();
    let other = vb.get(3, "layers.0.weight").unwrap_err().to_string();
    assert!(other.contains("of the expected shape: layers.0.bias"), "{other}");
    assert!(error.contains("layers.0.weight"), "{error}");
    assert!(error.contains("expected: [4, 3], got: [3, 4]"), "{error}");
}

#[test]
fn prefixes_are_added_by_renaming() {
    let vb = VarBuilder::from_pt(path("zip/prefixed_module.pt"), DType::F32, &Device::Cpu).unwrap();
    let name = PtTensors::open(path("zip/state_dict.pt")).unwrap().names().next().unwrap().to_owned();
    assert!(!vb.contains_tensor(&name));
    let vb = vb.rename_f(|name| format!("module.{name}"));
    assert!(vb.contains_tensor(&name));
}

#[test]
fn several_files_are_one_and_a_name_in_two_is_an_error() {
    let shards = [path("candle/shard_1.pt"), path("candle/shard_2.pt")];
    let vb = VarBuilder::from_pts(&shards, DType::F32, &Device::Cpu).unwrap();
    assert!(vb.get((3, 4), "layers.0.weight").is_ok() && vb.get(2, "layers.1.bias").is_ok());
    let twice = [path("candle/shard_1.pt"), path("candle/shard_2_again.pt")];
    let error = VarBuilder::from_pts(&twice, DType::F32, &Device::Cpu).err().unwrap().to_string();
    assert!(error.contains("layers.0.bias") && error.contains("shard_2_again.pt"), "{error}");
}

#[test]
fn bytes_in_memory_are_as_good_as_a_file() {
    let bytes = std::fs::read(path("candle/shard_1.pt")).unwrap();
    let vb = VarBuilder::from_pt_bytes(bytes, DType::F32, &Device::Cpu).unwrap();
    assert!(vb.get(3, "layers.0.bias").is_ok());
}

#[test]
fn files_that_are_no_checkpoint_are_called_by_their_name() {
    let error =
        VarBuilder::from_pt_bytes(b"<!DOCTYPE html>".to_vec(), DType::F32, &Device::Cpu).err().unwrap();
    assert!(error.to_string().contains("web page"), "{error}");
    let error = VarBuilder::from_pt(path("no such file.pt"), DType::F32, &Device::Cpu).err().unwrap();
    assert!(error.to_string().contains("no such file.pt"), "{error}");
}
