//! Tensors that shared a storage in PyTorch share one in candle.

use std::collections::HashMap;

use candle_core::{Device, Storage, Tensor};
use ptser::candle::{Change, PtOptions};

use crate::fixtures::{expected, path};

/// The identity of a tensor's storage while it lives.
fn storage(tensor: &Tensor) -> usize {
    let (storage, _) = tensor.storage_and_layout();
    std::ptr::from_ref::<Storage>(&storage).addr()
}

/// Loads all, and compares who shares with whom.
fn check(file: &str) {
    let loaded =
        PtOptions::new().state_dict("").open(path("zip").join(file)).unwrap().load_all(&Device::Cpu).unwrap();
    let expected = expected();
    let mut storages: HashMap<(u64, String), usize> = HashMap::new();
    let mut others: HashMap<usize, (u64, String)> = HashMap::new();
    for entry in expected[file]["tensors"].as_array().unwrap() {
        let (Some(number), name) = (entry["storage"].as_u64(), entry["name"].as_str().unwrap()) else {
            continue;
        };
        let copied = |change: &Change| matches!(change, Change::Copied { .. });
        if loaded.report().notes().any(|note| note.name == name && copied(&note.change)) {
            continue;
        }
        // One storage under two types cannot be shared in candle.
        let key = (number, entry["dtype"].as_str().unwrap().to_owned());
        let found = storage(loaded.get(name).unwrap());
        assert_eq!(*storages.entry(key.clone()).or_insert(found), found, "{file}: {name} shares no longer");
        assert_eq!(*others.entry(found).or_insert(key.clone()), key, "{file}: {name} shares with a stranger");
    }
}

#[test]
fn sharing_is_pytorchs() {
    for file in ["shared.pt", "views.pt", "state_dict.pt", "params.pt", "deflated.pt", "many.pt"] {
        check(file);
    }
}

#[test]
fn every_view_of_the_fixtures_is_a_view_in_candle() {
    let loaded =
        PtOptions::new().state_dict("").open(path("zip/views.pt")).unwrap().load_all(&Device::Cpu).unwrap();
    assert!(loaded.report().is_empty(), "{}", loaded.report());
    for entry in expected()["views.pt"]["tensors"].as_array().unwrap() {
        let tensor = loaded.get(entry["name"].as_str().unwrap()).unwrap();
        let numbers = |what: &str| -> Vec<usize> {
            entry[what].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect()
        };
        let moving = |strides: &[usize]| -> Vec<usize> {
            strides
                .iter()
                .zip(numbers("shape"))
                .filter(|(_, size)| *size > 1)
                .map(|(stride, _)| *stride)
                .collect()
        };
        if tensor.elem_count() > 0 {
            assert_eq!(moving(tensor.stride()), moving(&numbers("stride")), "{}", entry["name"]);
        }
    }
}

#[test]
fn a_write_through_one_name_is_seen_through_another() {
    let entries = expected();
    let tensors = entries["shared.pt"]["tensors"].as_array().unwrap();
    let loaded =
        PtOptions::new().state_dict("").open(path("zip/shared.pt")).unwrap().load_all(&Device::Cpu).unwrap();
    // The first contiguous float tensor, and another whole view of the same storage.
    let whole = |entry: &&serde_json::Value| {
        entry["storage_nbytes"] == entry["nbytes"]
            && entry["storage_offset"] == 0
            && entry["dtype"] == "float32"
    };
    let first = tensors.iter().find(whole).unwrap();
    let second = tensors
        .iter()
        .filter(whole)
        .find(|e| e["storage"] == first["storage"] && e["name"] != first["name"])
        .unwrap();
    let [first, second] = [first, second].map(|entry| loaded.get(entry["name"].as_str().unwrap()).unwrap());
    first.zero_set().unwrap();
    assert_eq!(second.abs().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap(), 0.0);
}

#[test]
fn a_negated_view_and_a_plain_one_of_the_same_place_keep_apart() {
    let loaded = ptser::candle::load(path("candle/imaginary.pt"), &Device::Cpu).unwrap();
    let pt = PtOptions::new().open(path("candle/imaginary.pt")).unwrap();
    let expected = [
        ("plain", [2.0, 4.0]),
        ("negated", [-2.0, -4.0]),
        ("negated_first", [-6.0, -8.0]),
        ("plain_second", [6.0, 8.0]),
    ];
    for (name, values) in expected {
        assert_eq!(loaded.get(name).unwrap().to_vec1::<f32>().unwrap(), values, "{name}");
        assert_eq!(pt.get(name, &Device::Cpu).unwrap().to_vec1::<f32>().unwrap(), values, "{name}");
        let copied =
            |note: &ptser::candle::Note| note.name == name && matches!(note.change, Change::Copied { .. });
        assert_eq!(loaded.report().notes().any(copied), name.starts_with("negated"), "{name}");
    }
}

#[test]
fn a_negated_view_under_several_names_is_worked_out_once() {
    let small = PtOptions::new().only(|name| !name.starts_with("large"));
    let loaded = small.open(path("candle/lazy.pt")).unwrap().load_all(&Device::Cpu).unwrap();
    let [one, same, equal] = ["one", "same", "equal"].map(|name| loaded.get(name).unwrap());
    assert_eq!(equal.to_vec1::<f32>().unwrap(), [-2.0, -4.0]);
    assert_eq!([storage(same), storage(equal)], [storage(one); 2]);
    assert_eq!(loaded.report().notes().count(), 3);
}

#[test]
fn negated_views_that_are_large_together_are_refused_before_they_are_worked_out() {
    let pt = PtOptions::new().open(path("candle/lazy.pt")).unwrap();
    let error = pt.load_all(&Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("expanded_bytes"), "{error}");
}

#[test]
fn negated_parts_of_a_deflated_storage_have_their_values() {
    let loaded = ptser::candle::load(path("candle/deflated.pt"), &Device::Cpu).unwrap();
    for (name, expected) in
        [("first", [-1.0, -3.0]), ("middle", [-101.0, -103.0]), ("last", [-197.0, -199.0])]
    {
        assert_eq!(loaded.get(name).unwrap().to_vec1::<f32>().unwrap(), expected, "{name}");
    }
    let copied = |note: &ptser::candle::Note| match &note.change {
        Change::Copied { storage, .. } => storage == "0",
        _ => false,
    };
    assert!(loaded.report().notes().len() == 3 && loaded.report().notes().all(copied));
}

#[test]
fn a_long_key_of_a_storage_is_cut_in_the_report() {
    let loaded = ptser::candle::load(path("candle/long_key.pt"), &Device::Cpu).unwrap();
    let changes: Vec<&Change> = loaded.report().notes().map(|note| &note.change).collect();
    let [Change::Copied { storage, .. }] = changes.as_slice() else { panic!("{changes:?}") };
    assert_eq!(*storage, "k".repeat(64));
}

#[test]
fn a_storage_under_two_types_is_two_in_candle_and_said_so() {
    let loaded = ptser::candle::load(path("candle/two_types.pt"), &Device::Cpu).unwrap();
    let notes: Vec<&str> = loaded.report().notes().map(|note| note.name.as_str()).collect();
    assert_eq!(notes, ["bytes"]);
}

#[test]
fn names_asked_for_one_by_one_share_until_all_have_been() {
    let pt = PtOptions::new().open(path("candle/tied.pt")).unwrap();
    let [a, b] = ["0.a", "0.b"].map(|name| pt.get(name, &Device::Cpu).unwrap());
    assert_eq!(storage(&a), storage(&b));
    // Both have been asked for: nothing is kept, and the next reader gets memory of its own.
    assert_ne!(storage(&pt.get("0.a", &Device::Cpu).unwrap()), storage(&a));
}

#[test]
fn many_threads_may_ask_at_once() {
    for _ in 0..50 {
        let pt = PtOptions::new().open(path("candle/tied.pt")).unwrap();
        std::thread::scope(|scope| {
            for name in pt.names() {
                let pt = &pt;
                scope.spawn(move || {
                    let expected: f32 = name.split('.').next().unwrap().parse().unwrap();
                    let tensor = pt.get(name, &Device::Cpu).unwrap();
                    assert_eq!(tensor.max_all().unwrap().to_scalar::<f32>().unwrap(), expected);
                });
            }
        });
    }
}

#[test]
fn a_storage_of_which_little_is_viewed_is_read_in_part() {
    // 40 kB of storage, 20 numbers of it viewed.
    let pt = PtOptions::new().open(path("candle/slice.pt")).unwrap();
    let slice = pt.get("slice", &Device::Cpu).unwrap();
    assert_eq!(slice.to_vec1::<f32>().unwrap(), (5000..5020).map(|n| n as f32).collect::<Vec<_>>());
    let (storage, _) = slice.storage_and_layout();
    let Storage::Cpu(candle_core::CpuStorage::F32(numbers)) = &*storage else {
        panic!("not f32 on the host")
    };
    assert_eq!(numbers.len(), 20);
}

#[test]
fn parts_of_a_storage_share_it() {
    // PyTorch makes a storage of each part; candle's tensors are views of the whole.
    let file = path("legacy/torch03_views.pt");
    let loaded = ptser::candle::load(&file, &Device::Cpu).unwrap();
    let checkpoint = ptser::Checkpoint::open(&file).unwrap();
    let whole = storage(loaded.get("whole").unwrap());
    for name in ["head", "tail", "tail_again"] {
        let tensor = loaded.get(name).unwrap();
        assert_eq!(storage(tensor), whole, "{name}");
        let expected = checkpoint.tensor(name).unwrap().to_contiguous().unwrap().into_owned();
        assert_eq!(crate::fixtures::bytes(tensor), expected, "{name}");
    }
    assert_ne!(storage(loaded.get("longs").unwrap()), whole);
}
