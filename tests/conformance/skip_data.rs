//! Archives that PyTorch wrote with sizes and without data: holes where the bytes would be, which read as zeros.

use ptser::{Checkpoint, ErrorKind, SaveOptions, Tensor, TensorKind};

use crate::{fixtures, given, saved};

fn zeros(tensor: &Tensor) -> bool {
    let bytes = tensor.to_contiguous().unwrap();
    !bytes.is_empty() && bytes.iter().all(|&byte| byte == 0)
}

/// Saved without data it is the file that PyTorch wrote so.
fn check_skipped(name: &str) {
    let checkpoint = given::inert(name);
    let options = SaveOptions::new().skip_data(true).root_folder(checkpoint.root_folder());
    assert!(options.to_bytes(&checkpoint).unwrap() == given::bytes(name), "{name}");
}

#[test]
fn test_filewriter_metadata_writing() {
    let checkpoint = given::open("metadata_only.pt");
    given::check("metadata_only.pt", &checkpoint);
    assert_eq!(checkpoint.tensor("weight").unwrap().shape(), [5, 3]);
    assert!(checkpoint.tensors().all(|(_, tensor)| zeros(tensor)));
    for (name, size) in [("data/0", 60), ("data/1", 20)] {
        let record = checkpoint.records().find(|record| record.name == name).unwrap();
        assert_eq!((record.size, record.stored_size, record.crc32), (size, size, 0), "{name}");
    }
    // Storages lie where they would with data, ready to be filled.
    let bytes = given::bytes("metadata_only.pt");
    for storage in checkpoint.storages() {
        let start = usize::try_from(storage.checkpoint_offset().unwrap().unwrap()).unwrap();
        let len = usize::try_from(storage.nbytes()).unwrap();
        assert!(start % 64 == 0 && bytes[start..start + len].iter().all(|&byte| byte == 0));
        assert_eq!(&bytes[start + len..start + len + 4], b"PK\x07\x08");
    }
    // Room is made for a state dict; once it is filled it is the file that is written with data.
    let (folder, full) = (tempfile::tempdir().unwrap(), fixtures::open("linear_align64.pt"));
    let path = folder.path().join("model.pt");
    let reserved = SaveOptions::new().reserve(&path, &full).unwrap();
    assert!(reserved.tensors().all(|(_, tensor)| zeros(tensor)));
    for (room, storage) in reserved.storages().iter().zip(full.storages()) {
        room.write_at(0, &storage.to_vec().unwrap()).unwrap();
    }
    assert_eq!(fixtures::contents(&Checkpoint::open(&path).unwrap()), fixtures::contents(&full));
}

#[test]
fn test_skip_data_serialization_preserves_views() {
    let checkpoint = given::open("skip_views.pt");
    given::check("skip_views.pt", &checkpoint);
    let storage = |name| checkpoint.tensor(name).unwrap().storage().unwrap();
    assert!(storage("t").is(storage("t_view")) && storage("t").is(storage("t_slice")));
    assert_eq!((checkpoint.storages().len(), storage("t").nbytes()), (1, 24));
    assert_eq!(checkpoint.tensor("t_slice").unwrap().storage_offset(), 3);
    assert!(checkpoint.tensors().all(|(_, tensor)| zeros(tensor)));
    saved::identical("skip_views.pt");
    check_skipped("skip_views.pt");
}

/// A meta tensor has no data that could be left out.
#[test]
fn test_skip_data_serialization_error_cases() {
    let checkpoint = given::open("skip_meta.pt");
    given::check("skip_meta.pt", &checkpoint);
    let tensor = checkpoint.root().as_tensor().unwrap();
    assert!(matches!(tensor.kind(), TensorKind::Meta) && tensor.shape() == [2, 3]);
    assert!(checkpoint.storages().is_empty());
    check_skipped("skip_meta.pt");
    let nested = fixtures::folder().join("values/nested.pt");
    let nested = ptser::LoadOptions::new().globals(ptser::Globals::inert()).open(nested).unwrap();
    for (refused, kind) in [(nested, "nested"), (fixtures::open("quantized.pt"), "quantized")] {
        let error = SaveOptions::new().skip_data(true).to_bytes(&refused).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misuse);
        assert!(error.to_string().contains(kind), "{error}");
    }
    let legacy = SaveOptions::new().format(ptser::Format::Legacy).unwrap().skip_data(true);
    assert_eq!(legacy.to_bytes(&checkpoint).unwrap_err().kind(), ErrorKind::Misuse);
}

#[test]
fn test_skip_data_serialization() {
    let class = "torch.testing._internal.two_tensor.TwoTensor";
    let checkpoint = given::allowing("skip_data.pt", &[class]).unwrap();
    let tensor = |name: &str| checkpoint.tensor(name).unwrap();
    for (name, dtype, shape) in [
        ("t_v2", "float32", [2, 3].as_slice()),
        ("t_v3", "complex32", &[2, 3]),
        ("tt..a", "float32", &[2]),
        ("tt..b", "float32", &[2]),
        ("st.#indices", "int64", &[2, 2]),
        ("st.#values", "float32", &[2]),
    ] {
        assert_eq!((tensor(name).dtype().name(), tensor(name).shape()), (dtype, shape), "{name}");
        assert!(zeros(tensor(name)), "{name}");
    }
    assert!(matches!(tensor("tt").kind(), TensorKind::Wrapper { .. }));
    assert!(matches!(tensor("st").kind(), TensorKind::Sparse(_)) && tensor("st").shape() == [2, 4]);
    assert_eq!(checkpoint.tensors().count(), 8);
    saved::identical("skip_data.pt");
    check_skipped("skip_data.pt");
}
