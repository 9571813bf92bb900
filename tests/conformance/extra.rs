//! What PyTorch's tests leave out, or PyTorch gets wrong.

use ptser::{ByteOrder, Checkpoint, DType, ErrorKind, LoadOptions, Mmap, Reason, SaveOptions, ValueKind};

use crate::build::{self, Record};
use crate::large::Sparse;
use crate::{fixtures, given, saved, tree};

/// The digits say what wrote a file and what is in it; a reader has no use for them, and judges nothing by them.
#[test]
fn serialization_id_is_told_and_not_judged() {
    for (file, id) in given::facts("serialization_id").as_object().unwrap() {
        let id = id.as_str().unwrap();
        assert!(id.len() == 40 && id.bytes().all(|byte| byte.is_ascii_digit()));
        assert_eq!(fixtures::open(file).note(".data/serialization_id").as_deref(), Some(id), "{file}");
        let mut bytes = fixtures::bytes(file);
        let at = bytes.windows(40).position(|window| window == id.as_bytes()).unwrap();
        bytes[at..at + 40].fill(b'7');
        let changed = Checkpoint::from_bytes(bytes).unwrap();
        assert_eq!(changed.note(".data/serialization_id"), Some("7".repeat(40)));
        assert_eq!(fixtures::contents(&changed), fixtures::contents(&fixtures::open(file)));
    }
    // Written, they are PyTorch's.
    for (file, id) in given::facts("serialization_id").as_object().unwrap() {
        let checkpoint = fixtures::open(file);
        let saved = SaveOptions::like(&checkpoint).unwrap().to_bytes(&checkpoint).unwrap();
        assert_eq!(saved::open(saved).note(".data/serialization_id").as_deref(), id.as_str(), "{file}");
    }
}

/// PyTorch maps a deflated record as if its bytes were the data, a short one with what lies behind it, and a long one
/// without its end.
#[test]
fn mapped_records_are_inflated_or_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let plain = fixtures::contents(&fixtures::open("state_dict.pt"));
    for mmap in [Mmap::Private, Mmap::Shared] {
        for name in ["deflated.pt", "mixed_deflate.pt"] {
            let mapped = LoadOptions::new().mmap(mmap).open(fixtures::path(name)).unwrap();
            assert_eq!(fixtures::contents(&mapped), plain, "{name}");
            let deflated =
                mapped.storages().iter().find(|storage| storage.checkpoint_offset().unwrap().is_none());
            let deflated = deflated.unwrap();
            assert!(deflated.borrow_as(DType::UInt8, ByteOrder::NATIVE).unwrap().is_none());
            assert!(deflated.write_at(0, &[1]).is_err());
        }
        for (name, size) in [("numel_more.pt", 20), ("numel_fewer.pt", 12), ("numel_huge.pt", 1 << 42)] {
            let error = LoadOptions::new().mmap(mmap).open(given::path(name)).unwrap_err();
            assert!(
                matches!(error.reason(), Reason::RecordSize { found: 16, expected, .. } if *expected == size),
                "{error}"
            );
        }
        // A record that the directory lets reach beyond the data.
        let mut bytes = build::around(&build::good_pickle());
        let name = b"archive/data/0";
        let entry = bytes.windows(name.len()).rposition(|window| window == name).unwrap() - 46;
        for field in [20, 24] {
            bytes[entry + field..entry + field + 4].copy_from_slice(&0x00FF_FFFF_u32.to_le_bytes());
        }
        std::fs::write(file.path(), &bytes).unwrap();
        let error = LoadOptions::new().mmap(mmap).open(file.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
        assert!(error.to_string().contains("data/0"), "{error}");
    }
}

/// PyTorch does not turn the bytes of types that have no storage class.
#[test]
fn big_endian_untyped_storages_are_swapped() {
    let (little, big) = (fixtures::open("dtypes.pt"), fixtures::open("dtypes_big.pt"));
    for name in ["uint16", "uint32", "uint64", "complex32", "bcomplex32", "bits16"] {
        let [little, big] = [&little, &big].map(|checkpoint| checkpoint.tensor(name).unwrap());
        assert_eq!(big.storage().unwrap().dtype(), None);
        assert_eq!(big.storage().unwrap().byte_order(), ByteOrder::Big);
        assert_eq!(little.to_contiguous().unwrap(), big.to_contiguous().unwrap(), "{name}");
        let raw = |tensor: &ptser::Tensor| {
            tensor.storage().unwrap().to_vec_as(DType::UInt8, tensor.storage().unwrap().byte_order()).unwrap()
        };
        assert_ne!(raw(little), raw(big), "{name}");
    }
}

/// PyTorch writes such streams and cannot read them.
#[test]
fn legacy_streams_of_untyped_storages_are_read() {
    for name in ["dtypes.pt", "storages.pt"] {
        let (_, told) = fixtures::expected_in("legacy").into_iter().find(|(file, _)| file == name).unwrap();
        let checkpoint = Checkpoint::open(fixtures::folder().join("legacy").join(name)).unwrap();
        fixtures::check_tensors(name, &checkpoint, &told["tensors"]);
        assert!(checkpoint.storages().iter().any(|storage| storage.dtype().is_none()), "{name}");
    }
}

/// A storage that is named and not listed is memory that nobody has written, in PyTorch.
#[test]
fn legacy_storage_without_bytes_is_an_error() {
    let six: &[u8] = &[0; 24];
    let two = build::pickle(&[
        b"(",
        &build::tensor(&build::storage("0", 6), 0, &[6], &[1]),
        &build::tensor(&build::storage("1", 6), 0, &[6], &[1]),
        b"t",
    ]);
    let both = build::stream(&two, &["0", "1"], &[("0", 6, six), ("1", 6, six)]);
    assert_eq!(fixtures::read_all(&LoadOptions::new(), both).unwrap(), 2);
    for roots in [&[("0", 6, six)][..], &[]] {
        let keys: Vec<&str> = roots.iter().map(|(key, ..)| *key).collect();
        let error = Checkpoint::from_bytes(build::stream(&two, &keys, roots)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
        assert!(error.to_string().contains(if keys.is_empty() { "\"0\"" } else { "\"1\"" }), "{error}");
    }
}

/// Lists in lists, and lists in themselves: PyTorch reads the second, and both without end of the stack.
#[test]
fn recursive_values_are_read_without_recursion() {
    let depth = 200_000;
    let weight = build::tensor(&build::storage("0", 6), 0, &[6], &[1]);
    let deep = build::pickle(&[&b"]".repeat(depth), &weight, &b"a".repeat(depth)]);
    let checkpoint = Checkpoint::from_bytes(build::around(&deep)).unwrap();
    assert_eq!(checkpoint.entries().next().unwrap().path().len(), depth);
    assert!(checkpoint.root().to_string().len() < 10_000);
    drop(checkpoint);
    let values = fixtures::open("values.pt");
    let itself = values.root().get("inside_itself").unwrap();
    assert!(itself.index(1).unwrap().is(itself));
    let tree = values.root().get("tree").unwrap();
    assert!(tree.get("children").unwrap().index(0).unwrap().get("parent").unwrap().is(tree));
}

/// PyTorch's weights-only unpickler reads protocol 2, and 3 in part.
#[test]
fn every_pickle_protocol_is_read() {
    given::check("protocol0.pt", &given::open("protocol0.pt"));
    for (file, told) in fixtures::expected().into_iter().filter(|(file, _)| file.starts_with("protocol")) {
        let checkpoint = fixtures::open(&file);
        fixtures::check_tensors(&file, &checkpoint, &told["tensors"]);
        tree::check_value(&file, &checkpoint, &told["value"]);
        // A pickle says its protocol from 2 on.
        let said = Some(checkpoint.protocol()).filter(|&protocol| protocol > 0).unwrap_or(1);
        assert_eq!(file, format!("protocol{said}.pt"));
    }
}

#[test]
fn integers_of_any_length_are_read() {
    let told = given::facts("long4.pt")["refusal"].as_str().unwrap();
    assert!(told.contains("Unsupported operand 139"), "{told}");
    let checkpoint = given::open("long4.pt");
    given::check("long4.pt", &checkpoint);
    let ValueKind::BigInt(large) = checkpoint.root().index(0).unwrap().kind() else { panic!() };
    assert!(large.to_bytes().len() > 255);
}

/// Half of a pair of surrogates is text to Python, and none to Rust.
#[test]
fn lone_surrogates_are_kept() {
    let checkpoint = given::open("surrogates.pt");
    given::check("surrogates.pt", &checkpoint);
    let kind = |index| checkpoint.root().index(index).unwrap().kind();
    assert!(matches!(kind(0), ValueKind::Surrogates(b"\xED\xA0\x80")));
    assert!(matches!(kind(3), ValueKind::Str("whole \u{1f525}")));
}

/// An archive whose record of its alignment says something else, as long as before.
fn with_alignment(mut bytes: Vec<u8>, len: usize, word: u8) -> Vec<u8> {
    let name = b"archive/.storage_alignment";
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap();
    let extra = usize::from(u16::from_le_bytes([bytes[at - 2], bytes[at - 1]]));
    bytes[at + name.len() + extra..][..len].fill(word);
    bytes
}

/// Where data lies is read from the headers: what `.storage_alignment` says makes no difference.
#[test]
fn alignments_of_every_size_are_read() {
    for alignment in [1, 3, 48, 32768, 65528] {
        let name = format!("align{alignment}.segments");
        let bytes = Sparse::open(&name, |_| b'Z').bytes();
        let digits = alignment.to_string();
        let len = digits.len();
        for (note, bytes) in [
            (digits, bytes.clone()),
            ("0".repeat(len), with_alignment(bytes.clone(), len, b'0')),
            ("x".repeat(len), with_alignment(bytes, len, b'x')),
        ] {
            let checkpoint = Checkpoint::from_bytes(bytes).unwrap();
            assert_eq!(checkpoint.note(".storage_alignment"), Some(note));
            let tensor = checkpoint.tensor("w").unwrap();
            assert_eq!(given::floats(tensor), [1.5, -2.5, 0.25]);
            let offset = tensor.storage().unwrap().checkpoint_offset().unwrap().unwrap();
            assert_eq!(given::facts(&name)["offset"], offset);
            assert!(offset.is_multiple_of(alignment));
        }
    }
    // The filling no longer fits the header's field: PyTorch writes such a file, and cannot read it.
    let name = "align131072.segments";
    assert!(given::facts(name)["refusal"].is_string());
    let bytes = Sparse::open(name, |_| b'Z').bytes();
    let error = fixtures::read_all(&LoadOptions::new(), bytes).unwrap_err();
    assert!(matches!(error.reason(), Reason::Version { found } if found == "ZZ"), "{error}");
    assert_eq!(error.record(), Some("version"));
    // Those that do not fit are not written.
    let checkpoint = fixtures::open("buffer.pt");
    for alignment in [1, 3, 48, 32_768, 65_496] {
        let saved = SaveOptions::new().alignment(alignment).to_bytes(&checkpoint).unwrap();
        let saved = saved::open(saved);
        assert_eq!(fixtures::contents(&saved), fixtures::contents(&checkpoint), "{alignment}");
        for storage in saved.storages() {
            assert!(storage.checkpoint_offset().unwrap().unwrap().is_multiple_of(alignment), "{alignment}");
        }
    }
    for alignment in [0, 65_497, 131_072] {
        let error = SaveOptions::new().alignment(alignment).to_bytes(&checkpoint).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misuse, "{alignment}");
    }
}

/// PyTorch finds records by their names in any case.
#[test]
fn names_of_records_are_found_in_any_case() {
    let pickle = build::good_pickle();
    let data: Vec<u8> = (0_u8..6).flat_map(|number| f32::from(number).to_le_bytes()).collect();
    let records: [Record<'_>; 4] =
        [("DATA.PKL", &pickle), ("ByteOrder", b"little"), ("Data/0", &data), ("VERSION", b"3\n")];
    let bytes = build::archive("archive", &records);
    let checkpoint = Checkpoint::from_bytes(bytes).unwrap();
    assert_eq!(*checkpoint.tensor("w").unwrap().to_contiguous().unwrap(), *data);
    assert_eq!(checkpoint.note("version").as_deref(), Some("3\n"));
    assert_eq!(checkpoint.note("byteorder").as_deref(), Some("little"));
    // The record is told by the name that it has.
    assert!(checkpoint.records().any(|record| record.name == "DATA.PKL"));
}

/// PyTorch takes one of two records of a name, in silence: another reader may take the other.
#[test]
fn two_records_of_one_name_are_refused() {
    let (one, other) = (build::good_pickle(), build::pickle(&[b"K\x01"]));
    let data: &[u8] = &[0; 24];
    let good: [Record<'_>; 2] = [("data.pkl", &one), ("data/0", data)];
    assert!(Checkpoint::from_bytes(build::archive("archive", &good)).is_ok());
    for twice in [("data.pkl", other.as_slice()), ("data/0", data), ("Data.pkl", &other), ("DATA/0", data)] {
        let error =
            Checkpoint::from_bytes(build::archive("archive", &[good[0], good[1], twice])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
        assert!(error.to_string().contains("two records"), "{error}");
    }
}

#[test]
fn crcs_are_checked_where_that_is_asked_for() {
    let mut bytes = fixtures::bytes("root_tensor.pt");
    let sound = Checkpoint::from_bytes(bytes.clone()).unwrap();
    let at = usize::try_from(sound.storages()[0].checkpoint_offset().unwrap().unwrap()).unwrap();
    bytes[at] ^= 1;
    let read = |verify: bool| {
        let checkpoint = LoadOptions::new().verify_crc(verify).from_bytes(bytes.clone()).unwrap();
        checkpoint.storages()[0].to_vec().map(drop)
    };
    read(false).unwrap();
    assert!(matches!(read(true).unwrap_err().reason(), Reason::Checksum { .. }));
    let verified = Checkpoint::from_bytes(bytes).unwrap().verify(|_, _| {});
    assert_eq!(verified.errors().count(), 1);
    assert!(sound.verify(|_, _| {}).is_good());
}

#[test]
fn bytes_before_and_behind_an_archive_are_no_part_of_it() {
    let whole = fixtures::bytes("buffer.pt");
    let expected = fixtures::contents(&fixtures::open("buffer.pt"));
    for before in [0, 1, 6, 4095, 70_000] {
        for behind in [0, 1, 22, 60_000] {
            let bytes = [vec![b'#'; before], whole.clone(), vec![0; behind]].concat();
            let checkpoint = Checkpoint::from_bytes(bytes).unwrap();
            assert_eq!(checkpoint.archive_offset(), u64::try_from(before).unwrap());
            assert_eq!(fixtures::contents(&checkpoint), expected, "{before} before, {behind} behind");
        }
    }
    // As far from the end as a comment can be long, and no farther; so it is in PyTorch.
    let far = [whole, vec![0; 70_000]].concat();
    let error = Checkpoint::from_bytes(far).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(error.to_string().contains("central directory"), "{error}");
}

/// Python's pickler writes a dict of thousands in batches of 1,000, the last of which may be empty.
#[test]
fn dicts_of_a_thousand_entries_end_with_an_empty_batch() {
    let checkpoint = given::open("thousand.pt");
    given::check("thousand.pt", &checkpoint);
    assert_eq!(checkpoint.root().get("pairs").unwrap().len(), 1000);
    assert_eq!(checkpoint.root().get("after").unwrap().len(), 2000);
    let bytes = given::bytes("thousand.pt");
    assert_eq!(bytes.windows(3).filter(|window| window == b"u(u").count(), 2);
}

/// Deterministic, and the same bytes: `tests/suite/save` builds many more objects, in Rust.
#[test]
fn files_are_pytorchs_byte_for_byte() {
    for name in [
        "dtypes.pt",
        "views.pt",
        "shared.pt",
        "params.pt",
        "sparse.pt",
        "quantized.pt",
        "values.pt",
        "many.pt",
    ] {
        saved::identical_zip(name, |options| options);
        saved::identical_zip(name, |options| options);
    }
    for protocol in [2, 3, 4, 5] {
        saved::identical_zip(&format!("protocol{protocol}.pt"), |options| {
            options.protocol(protocol).unwrap()
        });
    }
}
