//! Every fixture reads as PyTorch reads it: tensors, sharing, values.

use std::collections::HashMap;

use ptser::{Checkpoint, DType, Storage, Tensor};
use serde_json::json;

use crate::{build, fixtures};

#[test]
fn every_fixture_holds_the_tensors_that_pytorch_finds() {
    for (file, expected) in fixtures::expected() {
        let checkpoint = fixtures::open(&file);
        assert_eq!(checkpoint.format().name(), expected["format"], "{file}");
        assert_eq!(checkpoint.byte_order().name(), expected["byte_order"], "{file}");
        fixtures::check_tensors(&file, &checkpoint, &expected["tensors"]);
    }
}

#[test]
fn every_tensor_of_the_fixtures_is_found_by_its_name() {
    for (file, _) in fixtures::expected() {
        let checkpoint = fixtures::open(&file);
        let tensors: HashMap<&str, &Tensor> = checkpoint.tensors().collect();
        for (name, tensor) in &tensors {
            assert!(std::ptr::eq(checkpoint.tensor(name).unwrap(), *tensor), "{file}: {name}");
        }
        assert!(checkpoint.tensor("not there").is_err(), "{file}");
    }
}

#[test]
fn a_tensor_made_of_one_in_the_file_differs_from_it_in_nothing_else() {
    let seen = |tensor: &Tensor| {
        let id = tensor.storage().map(Storage::id);
        (tensor.dtype(), tensor.shape().to_vec(), tensor.stride().to_vec(), tensor.storage_offset(), id)
    };
    for file in ["views.pt", "params.pt", "dtypes.pt"] {
        for (name, tensor) in fixtures::open(file).tensors() {
            let (grad, parameter) = (tensor.requires_grad(), tensor.is_parameter());
            let other = tensor.clone().with_requires_grad(!grad);
            assert_eq!((other.requires_grad(), other.is_parameter()), (!grad, parameter), "{file}: {name}");
            assert_eq!(seen(&other), seen(tensor), "{file}: {name}");
            let other = tensor.clone().with_parameter(!parameter);
            assert_eq!((other.requires_grad(), other.is_parameter()), (grad, !parameter), "{file}: {name}");
            assert_eq!(seen(&other), seen(tensor), "{file}: {name}");
        }
    }
}

#[test]
fn the_same_tensor_twice_is_the_same_value_and_equal_tensors_are_not() {
    let checkpoint = fixtures::open("shared.pt");
    let root = checkpoint.root();
    let get = |key| root.get(key).unwrap();
    assert!(get("tensor").is(get("same_tensor")));
    assert!(get("encoder").is(get("decoder")));
    assert!(!get("tensor").is(get("equal_but_apart")));
    let storage = |name| checkpoint.tensor(name).unwrap().storage().unwrap();
    assert!(storage("base").is(storage("view_first")));
    assert!(storage("base").is(storage("reshaped")));
    assert!(!storage("tensor").is(storage("equal_but_apart")));
}

#[test]
fn the_state_dict_is_found_under_the_customary_keys() {
    let names = |checkpoint: &Checkpoint| -> Vec<String> {
        checkpoint.state_dict().unwrap().names().map(str::to_owned).collect()
    };
    let bare = names(&fixtures::open("state_dict.pt"));
    assert_eq!(bare.first().map(String::as_str), Some("0.weight"));
    for key in ["state_dict", "model", "model_state_dict", "module", "params", "params_ema", "ema"] {
        let checkpoint = fixtures::open(&format!("nested_{key}.pt"));
        assert_eq!(names(&checkpoint), bare, "{key}");
        let at: Vec<String> = checkpoint.state_dict_at(key).unwrap().names().map(str::to_owned).collect();
        assert_eq!(at, bare, "{key}");
    }
    let wrapped = fixtures::open("prefixed_module.pt").state_dict().unwrap();
    let renamed = wrapped.rename(|name| name.trim_start_matches("module.").to_owned()).unwrap();
    assert_eq!(renamed.names().collect::<Vec<_>>(), bare);
}

#[test]
fn storages_know_where_their_bytes_lie_in_the_file() {
    let mut checked = 0;
    for (file, expected) in fixtures::expected() {
        let Some(offsets) = expected["offsets"].as_array() else { continue };
        let checkpoint = fixtures::open(&file);
        let found: Vec<u64> = checkpoint
            .storages()
            .iter()
            .map(|storage| storage.checkpoint_offset().unwrap().unwrap())
            .collect();
        assert_eq!(json!(found), json!(offsets), "{file}");
        let bytes = fixtures::bytes(&file);
        for storage in checkpoint.storages() {
            let start = usize::try_from(storage.checkpoint_offset().unwrap().unwrap()).unwrap();
            let content = storage.to_vec().unwrap();
            assert_eq!(bytes[start..start + content.len()], content, "{file}");
        }
        checked += 1;
    }
    assert_eq!(checked, 2);
    let deflated = fixtures::open("deflated.pt");
    assert_eq!(deflated.storages()[0].checkpoint_offset().unwrap(), None);
}

#[test]
fn a_name_that_is_not_there_brings_the_nearest() {
    let checkpoint = fixtures::open("state_dict.pt");
    let error = checkpoint.tensor("0.wieght").unwrap_err();
    assert_eq!(error.kind(), ptser::ErrorKind::Misuse);
    assert!(error.to_string().contains("0.weight"), "{error}");
    let error = checkpoint.root().get("0.biass").map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("0.bias"), "{error}");
}

#[test]
fn what_surrounds_the_records_is_told() {
    let checkpoint = fixtures::open("buffer.pt");
    assert_eq!(checkpoint.root_folder(), "archive");
    assert_eq!(checkpoint.archive_offset(), 0);
    assert_eq!(checkpoint.protocol(), 2);
    assert_eq!(checkpoint.note("version").as_deref(), Some("3\n"));
    assert_eq!(checkpoint.note(".data/serialization_id").map(|id| id.len()), Some(40));
    assert!(
        checkpoint.records().any(|record| record.name == "data/0" && record.size == 48 && !record.deflated)
    );
    assert_eq!(fixtures::open("prefixed.pt").archive_offset(), 17);
    assert!(fixtures::open("deflated.pt").records().all(|record| record.deflated));
    let globals: Vec<&str> = checkpoint.globals().map(|(name, _)| name).collect();
    assert!(globals.contains(&"torch._utils._rebuild_tensor_v2"), "{globals:?}");
}

#[test]
fn an_expanded_view_is_copied_out_within_its_limit_only() {
    let bytes = fixtures::bytes("views.pt");
    let limits = ptser::Limits::default().expanded_bytes(2);
    let checkpoint = ptser::LoadOptions::new().limits(limits).from_bytes(bytes).unwrap();
    let refuse = |tensor: &Tensor| tensor.to_contiguous().map(drop).unwrap_err().kind();
    assert_eq!(refuse(checkpoint.tensor("expand").unwrap()), ptser::ErrorKind::LimitExceeded);
    assert!(checkpoint.tensor("transpose").unwrap().to_contiguous().is_ok());
}

#[test]
fn an_archive_needs_no_version() {
    let pickle = build::good_pickle();
    let data: Vec<u8> = (0_u8..6).flat_map(|number| f32::from(number).to_le_bytes()).collect();
    let plain = build::archive("archive", &[("data.pkl", &pickle), ("data/0", &data)]);
    let checkpoint = Checkpoint::from_bytes(plain).unwrap();
    assert_eq!(*checkpoint.tensor("w").unwrap().to_contiguous().unwrap(), *data);
}

/// PyTorch 2.15 finds one storage for each key, too.
#[test]
fn keys_that_differ_in_case_are_storages_of_one_record() {
    let of = |class: &[u8], key| {
        let (kind, key, cpu, numel) =
            (build::text("storage"), build::text(key), build::text("cpu"), build::int(6));
        let pid = [b"(", kind.as_slice(), b"ctorch\n", class, b"\n", &key, &cpu, &numel, b"tQ"].concat();
        build::tensor(&pid, 0, &[6], &[1])
    };
    let tensors =
        [of(b"FloatStorage", "a"), of(b"FloatStorage", "A"), of(b"IntStorage", "a"), of(b"IntStorage", "A")];
    let pickle = build::pickle(&[b"](", &tensors.concat(), b"e"]);
    let data: Vec<u8> = (0..24).collect();
    let bytes = build::archive("archive", &[("data.pkl", &pickle), ("data/a", &data), ("version", b"3\n")]);
    let checkpoint = Checkpoint::from_bytes(bytes).unwrap();
    let found: Vec<_> = checkpoint
        .tensors()
        .map(|(_, tensor)| (tensor.dtype(), tensor.storage().unwrap()))
        .map(|(dtype, storage)| (dtype, storage.key(), storage.dtype(), storage.id()))
        .collect();
    let [lower, upper] = [0, 1].map(|place| checkpoint.storages()[place].id());
    let (float, int) = (DType::Float32, DType::Int32);
    let expected = [
        (float, "a", Some(float), lower),
        (float, "A", Some(float), upper),
        (int, "a", Some(float), lower),
        (int, "A", Some(float), upper),
    ];
    assert_eq!(found, expected);
    assert_ne!(lower, upper);
    for (name, tensor) in checkpoint.tensors() {
        assert_eq!(*tensor.to_contiguous().unwrap(), *data, "{name}");
    }
}
