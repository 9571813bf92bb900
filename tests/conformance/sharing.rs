//! What is one thing in the file is one thing here: tensors, storages, views, parts.

use std::io::Write;

use ptser::{
    Checkpoint, DType, Encoding, ErrorKind, Format, Globals, LoadOptions, Location, Mmap, Object, Reason,
    SaveOptions, Storage, Tensor, Value, ValueKind,
};

use crate::{fixtures, given, saved};

fn tensor(value: Value<'_>) -> &Tensor {
    value.as_tensor().unwrap()
}

fn storage(value: Value<'_>) -> &Storage {
    match value.kind() {
        ValueKind::Storage(storage, dtype) => {
            assert_eq!(dtype, Some(DType::Float32));
            storage
        }
        other => panic!("{other:?}"),
    }
}

/// A list in which tensors and storages stand several times, beside copies of them.
fn check_aliases(options: &LoadOptions) {
    for (name, format) in [("aliases.pt", Format::Zip), ("aliases_legacy.pt", Format::Legacy)] {
        let checkpoint = options.open(given::path(name)).unwrap();
        assert_eq!(checkpoint.format(), format);
        given::check(name, &checkpoint);
        let at = |index| checkpoint.root().index(index).unwrap();
        assert!(at(0).is(at(2)) && at(1).is(at(3)) && !at(0).is(at(1)));
        let first = tensor(at(0)).storage().unwrap();
        // Views of a storage are saved as the whole of it.
        for place in [4, 5, 8] {
            assert!(storage(at(place)).is(first), "{name}: {place}");
        }
        assert!(!tensor(at(1)).storage().unwrap().is(first));
        let twice = at(7);
        let [one, same, other] = [0, 1, 2].map(|index| storage(twice.index(index).unwrap()));
        assert!(one.is(same) && !one.is(other) && !one.is(first));
        assert_eq!(one.to_vec().unwrap(), other.to_vec().unwrap());
        assert_eq!(checkpoint.storages().len(), 5);
    }
    // What is written to a storage is seen by everything over it, and by nothing else.
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&given::bytes("aliases.pt")).unwrap();
    let checkpoint = options.clone().mmap(Mmap::Shared).open(file.path()).unwrap();
    let at = |index| checkpoint.root().index(index).unwrap();
    let tens = 10.0_f32.to_le_bytes().repeat(12);
    storage(at(4)).write_at(0, &tens).unwrap();
    assert!([0, 2].iter().all(|&place| *tensor(at(place)).to_contiguous().unwrap() == *tens));
    assert_eq!(given::floats(tensor(at(1)))[0], 12.0);
    assert_eq!(
        storage(at(7).index(0).unwrap()).to_vec().unwrap(),
        storage(at(7).index(2).unwrap()).to_vec().unwrap()
    );
}

/// Text of Python 2, which was bytes: those of UTF-8 are text.
fn check_python2(options: &LoadOptions) {
    let checkpoint = options.open(given::path("python2_text.pt")).unwrap();
    let [text, zeros, two] = [0, 1, 2].map(|index| checkpoint.root().index(index).unwrap());
    assert_eq!(given::facts("python2_text.pt")["utf8"], text.as_str().unwrap());
    assert_eq!(given::floats(tensor(zeros)), [0.0]);
    assert_eq!(two.as_i64().unwrap(), 2);
    // As PyTorch reads it by each encoding.
    let facts = given::facts("python2_text.pt");
    for (encoding, text) in [("utf-8", &facts["utf8"]), ("latin1", &facts["latin1"])] {
        let options = options.clone().encoding(encoding.parse().unwrap());
        let checkpoint = options.open(given::path("python2_text.pt")).unwrap();
        assert_eq!(*text, checkpoint.root().index(0).unwrap().as_str().unwrap(), "{encoding}");
    }
    let checkpoint = options.clone().encoding(Encoding::Bytes).open(given::path("python2_text.pt")).unwrap();
    let bytes = checkpoint.root().index(0).unwrap().as_bytes().unwrap();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(facts["bytes"], hex);
    assert_eq!(given::floats(checkpoint.tensor("1").unwrap()), [0.0]);
}

#[test]
fn test_serialization() {
    let options = LoadOptions::new().globals(Globals::inert());
    check_aliases(&options);
    check_python2(&options);
    saved::check("aliases.pt");
    saved::check("aliases_legacy.pt");
}

#[test]
fn test_serialization_safe() {
    let options = LoadOptions::new().globals(Globals::weights_only());
    check_aliases(&options);
    check_python2(&options);
    saved::check("aliases.pt");
    saved::check("aliases_legacy.pt");
}

#[test]
fn test_serialization_storage_slice() {
    let checkpoint = given::open("storage_slice.pt");
    let [head, tail] = [0, 1].map(|index| storage(checkpoint.root().index(index).unwrap()));
    assert_eq!((head.nbytes(), tail.nbytes()), (4, 4));
    assert_eq!(
        (head.to_vec().unwrap(), tail.to_vec().unwrap()),
        (1.5_f32.to_ne_bytes().into(), (-2.5_f32).to_ne_bytes().into())
    );
    let (whole, start) = head.whole().unwrap();
    let (same, behind) = tail.whole().unwrap();
    assert!(whole.is(same) && !head.is(tail));
    assert_eq!((start, behind, whole.nbytes()), (0, 4, 8));
    let at = |storage: &Storage| storage.checkpoint_offset().unwrap().unwrap();
    assert_eq!(at(head) + 4, at(tail));
}

/// Types without a storage class of their own: every second element, seen through two views.
#[test]
fn test_serialization_dtype() {
    for options in [LoadOptions::new(), LoadOptions::new().globals(Globals::inert())] {
        let checkpoint = options.open(given::path("v3_views.pt")).unwrap();
        given::check("v3_views.pt", &checkpoint);
    }
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("v3_views.pt");
    std::fs::write(&copy, given::bytes("v3_views.pt")).unwrap();
    let checkpoint = LoadOptions::new().mmap(Mmap::Shared).open(&copy).unwrap();
    for name in ["float8_e5m2", "float8_e4m3fn", "complex32", "uint16", "uint32", "uint64"] {
        let [x, even, odd] =
            ["x", "even", "odd"].map(|view| checkpoint.tensor(&format!("{name}.{view}")).unwrap());
        assert_eq!((x.dtype().name(), even.stride(), odd.storage_offset()), (name, [2].as_slice(), 1));
        let shared = x.storage().unwrap();
        assert!(shared.is(even.storage().unwrap()) && shared.is(odd.storage().unwrap()));
        assert_eq!(shared.dtype(), None);
        // Written through one view, seen through the other.
        let size = x.dtype().element_size();
        let mark: Vec<u8> = (1..).take(size).collect();
        let offset = u64::try_from(odd.storage_offset() * size).unwrap();
        odd.storage().unwrap().write_at(offset, &mark).unwrap();
        assert_eq!(x.to_contiguous().unwrap()[size..2 * size], mark);
        assert_eq!(odd.to_contiguous().unwrap()[..size], mark);
        assert_ne!(even.to_contiguous().unwrap()[..size], mark);
    }
    saved::check("v3_views.pt");
}

/// An empty storage is of every type at once.
#[test]
fn test_save_different_dtype_unallocated() {
    let checkpoint = given::open("unallocated.pt");
    given::check("unallocated.pt", &checkpoint);
    assert_eq!(checkpoint.root().len(), 12 * 13);
    assert_eq!(checkpoint.storages().len(), 12);
    assert!(checkpoint.storages().iter().all(|storage| storage.nbytes() == 0));
    let items: Vec<Value<'_>> = checkpoint.root().items().collect();
    for group in items.chunks_exact(13) {
        let shared = tensor(group[0]).storage().unwrap();
        let mut dtypes = Vec::new();
        for value in &group[1..] {
            let ValueKind::Storage(storage, dtype) = value.kind() else { panic!("{value}") };
            assert!(storage.is(shared));
            assert!(storage.to_vec().unwrap().is_empty());
            dtypes.push(dtype.unwrap());
        }
        dtypes.sort_unstable();
        dtypes.dedup();
        assert_eq!(dtypes.len(), 12);
    }
    saved::check("unallocated.pt");
}

/// PyTorch's writer refuses one storage under two types, and its reader takes it where both are of one size.
#[test]
fn test_save_different_dtype_error() {
    let checkpoint = given::open("two_types.pt");
    given::check("two_types.pt", &checkpoint);
    let [floats, longs] = ["floats", "longs"].map(|name| checkpoint.tensor(name).unwrap());
    assert_eq!((floats.dtype(), longs.dtype()), (DType::Float32, DType::Int64));
    assert!(floats.storage().unwrap().is(longs.storage().unwrap()));
    let error = given::refused("two_sizes.pt");
    assert!(
        matches!(error.reason(), Reason::RecordSize { found: 16, expected: 32, numel: 4, .. }),
        "{error}"
    );
    assert_eq!(
        (error.kind(), error.record(), error.tensor()),
        (ErrorKind::Malformed, Some("data/0"), Some("longs"))
    );
    // Writing them is refused, made here or read.
    let bytes = Storage::from_bytes(None, Location::cpu(), [0; 8]);
    let view = |dtype: DType| Tensor::contiguous(bytes.clone(), dtype, [8 / dtype.element_size()]).unwrap();
    let both = Object::list([view(DType::Float32), view(DType::Int64)]);
    let other =
        Object::list([view(DType::Float32).into(), Object::storage(bytes.clone(), Some(DType::Int16))]);
    for refused in [
        SaveOptions::new().to_bytes(&both),
        SaveOptions::new().to_bytes(&other),
        SaveOptions::new().to_bytes(&checkpoint),
    ] {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misuse);
        assert!(error.to_string().contains("view the same data as different types"), "{error}");
    }
}

#[test]
fn test_serialization_mmap_loading_options() {
    let path = fixtures::path("state_dict.pt");
    let plain = LoadOptions::new().mmap(false).open(&path).unwrap();
    for globals in [Globals::weights_only(), Globals::inert()] {
        let options = LoadOptions::new().mmap(true).globals(globals);
        for mapped in [options.open(path.to_str().unwrap()).unwrap(), options.open(path.clone()).unwrap()] {
            assert_eq!(fixtures::contents(&mapped), fixtures::contents(&plain));
            // A mapping lends its bytes, where a file is read by copy.
            let lends = |checkpoint: &Checkpoint| {
                let storage = checkpoint.tensor("0.weight").unwrap().storage().unwrap();
                storage.borrow_as(DType::Float32, storage.byte_order()).unwrap().is_some()
            };
            assert!(lends(&mapped) && !lends(&plain));
        }
    }
}

/// Private mappings keep what is changed to themselves, shared ones write it to the file.
#[test]
fn test_serialization_mmap_loading() {
    let original = fixtures::bytes("linear_align64.pt");
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&original).unwrap();
    let first = |mmap: Mmap| {
        let checkpoint = LoadOptions::new().mmap(mmap).open(file.path()).unwrap();
        given::floats(checkpoint.tensor("weight").unwrap())[0]
    };
    let before = first(Mmap::Private);
    assert_ne!(before, 0.0);
    {
        let checkpoint = LoadOptions::new().mmap(Mmap::Private).open(file.path()).unwrap();
        let weight = checkpoint.tensor("weight").unwrap();
        weight.to_contiguous().unwrap().to_mut()[..4].fill(0);
        let error = weight.storage().unwrap().write_at(0, &[0; 4]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().contains("shared mapping"), "{error}");
    }
    assert_eq!(first(Mmap::Private), before);
    assert_eq!(std::fs::read(file.path()).unwrap(), original);
    {
        let checkpoint = LoadOptions::new().mmap(Mmap::Shared).open(file.path()).unwrap();
        let weight = checkpoint.tensor("weight").unwrap();
        weight.storage().unwrap().write_at(0, &[0; 4]).unwrap();
        assert_eq!(given::floats(weight)[0], 0.0);
    }
    for mmap in [Mmap::Shared, Mmap::Private, Mmap::Off] {
        assert_eq!(first(mmap), 0.0, "{mmap:?}");
    }
}

/// How a file is mapped is said by options, which are values: nothing else changes with them.
#[test]
fn test_serialization_mmap_loading_ctx() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&fixtures::bytes("linear_align64.pt")).unwrap();
    let default = LoadOptions::new();
    let shared = default.clone().mmap(Mmap::Shared);
    let (here, there) = (shared.open(file.path()).unwrap(), shared.open(file.path()).unwrap());
    let weight = |checkpoint: &Checkpoint| given::floats(checkpoint.tensor("weight").unwrap());
    let before = weight(&here);
    here.tensor("weight").unwrap().storage().unwrap().write_at(0, &[0; 4]).unwrap();
    assert_ne!(weight(&there), before);
    assert_eq!((weight(&there)[0], weight(&there)), (0.0, weight(&here)));
    let after = default.open(file.path()).unwrap();
    assert_eq!(weight(&after), weight(&here));
    assert_eq!(after.storages()[0].write_at(0, &[1]).unwrap_err().kind(), ErrorKind::Io);
}
