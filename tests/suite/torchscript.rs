//! TorchScript programs: their state and their constants are what `torch.jit.load` finds, and nothing is run.

use std::path::PathBuf;

use ptser::{
    Checkpoint, CpuStorage, ErrorKind, Format, Globals, LoadOptions, MapLocation, Reason, Registry, Tensor,
    TensorKind, Value,
};
use serde_json::{Value as Json, json};

use crate::build::{archive, pickle};
use crate::fixtures::{self, expected_in};
use crate::support::sha256;

fn path(name: &str) -> PathBuf {
    fixtures::folder().join("torchscript").join(name)
}

fn open(name: &str) -> Checkpoint {
    Checkpoint::open(path(name)).expect(name)
}

fn describe(tensor: &Tensor) -> Json {
    let hash = tensor.storage().map(|_| sha256(&tensor.to_contiguous().unwrap()));
    json!({
        "dtype": tensor.dtype().name(),
        "shape": tensor.shape(),
        "stride": tensor.stride(),
        "storage_offset": tensor.storage_offset(),
        "requires_grad": tensor.requires_grad(),
        "sha256": hash,
    })
}

fn constants<'c>(checkpoint: &'c Checkpoint, name: &str) -> Vec<Value<'c>> {
    checkpoint.constants().expect(name).expect(name).items().collect()
}

#[test]
fn state_and_constants_are_those_that_pytorch_finds() {
    let files = expected_in("torchscript");
    assert_eq!(files.len(), 3);
    for (file, expected) in files {
        let checkpoint = open(&file);
        assert_eq!(checkpoint.format(), Format::TorchScript, "{file}");
        let state = expected["state"].as_object().unwrap();
        for (name, tensor) in state {
            assert_eq!(describe(checkpoint.tensor(name).expect(&file)), *tensor, "{file}: {name}");
        }
        assert_eq!(checkpoint.tensors().count(), state.len(), "{file}");
        let constants = constants(&checkpoint, &file);
        let expected = expected["constants"].as_object().unwrap();
        assert_eq!(constants.len(), expected.len(), "{file}");
        for (place, constant) in constants.iter().enumerate() {
            let tensor = constant.as_tensor().expect(&file);
            assert_eq!(describe(tensor), expected[&format!("c{place}")], "{file}: c{place}");
        }
        // Asked again, they are the same.
        let again = checkpoint.constants().unwrap().unwrap();
        assert!(constants.iter().zip(again.items()).all(|(one, other)| one.is(other)), "{file}");
    }
}

#[test]
fn constants_are_no_part_of_what_is_listed() {
    let checkpoint = open("frozen.pt");
    assert_eq!(checkpoint.tensors().count(), 0);
    assert!(checkpoint.storages().is_empty());
    let first = constants(&checkpoint, "frozen.pt")[0].as_tensor().unwrap().storage().unwrap();
    assert_eq!((first.key(), first.nbytes()), ("0", 24));
    let record = checkpoint.records().find(|record| record.name == "constants/0").unwrap();
    assert_eq!(record.size, 24);
    for file in ["state_dict.pt", "values.pt"] {
        assert!(fixtures::open(file).constants().unwrap().is_none(), "{file}");
    }
}

#[test]
fn damaged_constants_leave_the_rest_readable() {
    for (file, record) in [("cut.pt", "constants.pkl"), ("short.pt", "constants/1")] {
        let checkpoint = open(file);
        assert_eq!(checkpoint.root().class(), open("traced.pt").root().class());
        for _ in 0..2 {
            let error = checkpoint.constants().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed, "{file}: {error}");
            assert_eq!(error.record(), Some(record), "{file}: {error}");
        }
    }
    // The second reference to a storage is checked against the first, and named by its own record.
    let pid = |numel: u8| {
        let storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK".as_slice();
        [storage, &[numel], b"tQ"].concat()
    };
    let pickle = pickle(&[b"(", &pid(2), &pid(3), b"t"]);
    let records: [(&str, &[u8]); 3] =
        [("data.pkl", b"\x80\x02N."), ("constants.pkl", &pickle), ("constants/0", &[0; 8])];
    let error =
        Checkpoint::from_bytes(archive("model", &records)).unwrap().constants().map(drop).unwrap_err();
    assert!(matches!(error.reason(), Reason::RecordSize { found: 8, expected: 12, .. }), "{error}");
    assert_eq!(error.record(), Some("constants/0"));
}

#[test]
fn constants_that_import_are_refused_when_they_are_asked_for() {
    let constants = pickle(&[b"cos\nsystem\nX\x04\0\0\0true\x85R\x85"]);
    let records: [(&str, &[u8]); 2] = [("data.pkl", b"\x80\x02N."), ("constants.pkl", &constants)];
    let bytes = archive("model", &records);
    for globals in [Globals::weights_only(), Globals::inert().allow("os.system")] {
        let checkpoint = LoadOptions::new().globals(globals).from_bytes(bytes.clone()).unwrap();
        let error = checkpoint.constants().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        assert_eq!(error.refused_globals()[0].name, "os.system");
    }
}

#[test]
fn meta_tensors_of_a_program_have_shapes_and_no_storages() {
    let checkpoint = open("state.pt");
    for name in ["shape", "part"] {
        let tensor = checkpoint.tensor(name).unwrap();
        assert!(matches!(tensor.kind(), TensorKind::Meta), "{name}: {tensor:?}");
        assert!(tensor.storage().is_none(), "{name}");
        let error = tensor.to_contiguous().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{name}: {error}");
    }
    let keys: Vec<&str> = checkpoint.storages().iter().map(ptser::Storage::key).collect();
    assert_eq!(keys, ["0", "2", "3"]);
    // As in PyTorch, a map to the cpu leaves them as they are.
    let registry = Registry::linked().unwrap();
    let restored = checkpoint.restore(&registry, &MapLocation::from("cpu")).unwrap();
    assert_eq!(restored.iter().len(), 3);
    let scale = restored.get(checkpoint.tensor("scale").unwrap().storage().unwrap()).unwrap();
    assert_eq!(scale.as_any().downcast_ref::<CpuStorage>().unwrap().as_bytes().len(), 8);
    assert!(
        checkpoint.tensor("view").unwrap().storage().unwrap().is(checkpoint
            .tensor("scale")
            .unwrap()
            .storage()
            .unwrap())
    );
}

#[test]
fn a_view_that_leaves_a_meta_storage_is_malformed_too() {
    let bytes = std::fs::read(path("state.pt")).unwrap();
    // The size of the meta storage: ('storage', class, '1', 'meta', 6).
    let at = bytes.windows(7).position(|window| window == b"metaq\x0cK").unwrap() + 7;
    let mut changed = bytes.clone();
    changed[at] = 5;
    let error = Checkpoint::from_bytes(changed).unwrap_err();
    assert!(matches!(error.reason(), Reason::Tensor(_)), "{error}");
    assert_eq!(error.tensor(), Some("shape"));
}
