//! Every fixture's tensors in candle hold the bytes that PyTorch held.

use candle_core::Device;
use ptser::candle::{Change, PtOptions, PtTensors};

use crate::fixtures::{expected, path, sha256};

/// Loads what candle has a counterpart for; the rest must be refused by name.
fn check(file: &str, tensors: &[serde_json::Value]) -> usize {
    let options = PtOptions::new()
        .load_options(ptser::LoadOptions::new().globals(ptser::Globals::inert()))
        .state_dict("");
    let pt: PtTensors = options.open(path("zip").join(file)).unwrap();
    let mut compared = 0;
    for entry in tensors {
        let name = entry["name"].as_str().unwrap();
        if name.contains('#') {
            continue;
        }
        let shape: Vec<usize> =
            entry["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
        match pt.get(name, &Device::Cpu) {
            Ok(tensor) => {
                assert_eq!(tensor.dims(), shape, "{file}: {name}");
                // Converted types hold other bytes; tests/candle/dtypes.rs compares their values.
                let converted = pt.report().notes().any(|note| {
                    note.name == name
                        && matches!(note.change, Change::Converted { from, .. } if from != ptser::DType::Bool)
                });
                if !converted {
                    assert_eq!(sha256(&tensor), entry["sha256"], "{file}: {name}");
                    compared += 1;
                }
            }
            Err(error) => assert!(error.to_string().contains(name), "{file}: {name}: {error}"),
        }
    }
    compared
}

#[test]
fn every_fixture_has_pytorchs_bytes() {
    let mut compared = 0;
    for (file, entry) in expected() {
        compared += check(&file, entry["tensors"].as_array().unwrap());
    }
    assert!(compared > 500, "only {compared} tensors compared");
}

#[test]
fn load_all_gives_the_same_tensors_in_the_order_of_the_file() {
    let file = path("zip/state_dict.pt");
    let loaded = ptser::candle::load(&file, &Device::Cpu).unwrap();
    let expected = &expected()["state_dict.pt"]["tensors"];
    let names: Vec<&str> =
        expected.as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    assert_eq!(loaded.iter().map(|(name, _)| name).collect::<Vec<_>>(), names);
    for entry in expected.as_array().unwrap() {
        let tensor = loaded.get(entry["name"].as_str().unwrap()).unwrap();
        assert_eq!(sha256(tensor), entry["sha256"]);
    }
    assert!(loaded.report().is_empty());
    let buffer = ptser::candle::load_buffer(std::fs::read(&file).unwrap(), &Device::Cpu).unwrap();
    assert_eq!(buffer.len(), loaded.len());
}

#[test]
fn large_storages_are_read_in_pieces_and_whole() {
    // Above the size from which several threads read one storage; stored and deflated.
    let rows = 3_000_000_usize;
    let numbers: Vec<u8> = (0..rows).flat_map(|n| (n as f32).to_le_bytes()).collect();
    for method in [zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated] {
        let file = large_tensor(&numbers, rows, method);
        let loaded = ptser::candle::load_buffer(file, &Device::Cpu).unwrap();
        let (_, tensor) = loaded.into_iter().next().unwrap();
        let values = tensor.to_vec1::<f32>().unwrap();
        assert!(values.iter().enumerate().all(|(n, value)| *value == n as f32));
    }
}

/// An archive with one float tensor of `rows` elements, hand-made: the pickle is protocol 2.
fn large_tensor(numbers: &[u8], rows: usize, method: zip::CompressionMethod) -> Vec<u8> {
    use std::io::Write;
    let rows = u32::try_from(rows).unwrap().to_le_bytes();
    let mut pickle = Vec::new();
    pickle.extend_from_slice(b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n");
    pickle.extend_from_slice(b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuJ");
    pickle.extend_from_slice(&rows);
    pickle.extend_from_slice(b"tQK\x00J");
    pickle.extend_from_slice(&rows);
    pickle.extend_from_slice(b"\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtRs.");
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(method);
    for (name, content) in
        [("archive/data.pkl", pickle.as_slice()), ("archive/data/0", numbers), ("archive/version", b"3\n")]
    {
        archive.start_file(name, options).unwrap();
        archive.write_all(content).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// Files whose objects PyTorch's weights-only loading refuses.
fn inert() -> PtOptions {
    PtOptions::new().load_options(ptser::LoadOptions::new().globals(ptser::Globals::inert()))
}

fn expected_values(file: &str) -> serde_json::Value {
    let text = std::fs::read_to_string(path("values/expected.json")).unwrap();
    serde_json::from_str::<serde_json::Value>(&text).unwrap()[file].clone()
}

#[test]
fn a_pickled_module_loads_by_the_names_of_its_state_dict() {
    let loaded =
        inert().open(path("values/module_in_checkpoint.pt")).unwrap().load_all(&Device::Cpu).unwrap();
    let expected = expected_values("module_in_checkpoint.pt");
    let found: Vec<(&str, serde_json::Value)> =
        loaded.iter().map(|(name, tensor)| (name, sha256(tensor).into())).collect();
    let expected: Vec<(&str, serde_json::Value)> =
        expected.as_object().unwrap().iter().map(|(name, hash)| (name.as_str(), hash.clone())).collect();
    assert_eq!(found, expected);
}

#[test]
fn numpy_arrays_are_tensors_whatever_their_order() {
    let pt = inert().state_dict("arrays").open(path("values/numpy_protocol5.pt")).unwrap();
    let expected = &expected_values("numpy_protocol5.pt")["arrays"];
    for name in ["<f4", ">f4", "<f8", ">f8", ">i8", "fortran", "step", "transposed", "empty"] {
        assert_eq!(sha256(&pt.get(name, &Device::Cpu).unwrap()), expected[name]["sha256"], "{name}");
    }
}
