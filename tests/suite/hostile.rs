//! Damaged and hostile files: an error of the right kind that says where, and never a panic.

use ptser::{Checkpoint, Error, ErrorKind, Globals, LoadOptions, Reason};

use crate::build::{self, archive, around, call, dict_of, good_pickle, int, pickle, storage, tensor, text};
use crate::fixtures::{self, read_all};

fn refuse(bytes: Vec<u8>) -> Error {
    read_all(&LoadOptions::new(), bytes).map(drop).unwrap_err()
}

/// Refuses a pickle around a storage of 24 bytes, as malformed.
fn malformed(pickle: &[u8]) -> Error {
    let error = refuse(around(pickle));
    assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
    error
}

#[test]
fn the_archive_that_the_bad_ones_vary_is_good() {
    assert_eq!(read_all(&LoadOptions::new(), around(&good_pickle())).unwrap(), 1);
}

#[test]
fn a_file_cut_at_any_byte_is_an_error() {
    for file in ["root_tensor.pt", "deflated.pt", "legacy_build.pt"] {
        let bytes = fixtures::bytes(file);
        for len in 0..bytes.len() {
            let error = refuse(bytes[..len].to_vec());
            assert!(
                matches!(error.kind(), ErrorKind::Malformed | ErrorKind::Io),
                "{file} cut at {len}: {error:?}"
            );
        }
    }
}

#[test]
fn no_single_changed_byte_panics() {
    for file in ["root_tensor.pt", "deflated.pt"] {
        let bytes = fixtures::bytes(file);
        for place in 0..bytes.len() {
            for changed in [bytes[place] ^ 1, bytes[place] ^ 0x80, 0, 0xFF] {
                let mut bytes = bytes.clone();
                bytes[place] = changed;
                let _ = read_all(&LoadOptions::new(), bytes);
            }
        }
    }
}

#[test]
fn no_changed_byte_of_a_pickle_panics_under_the_inert_policy() {
    for file in ["protocol5.pt", "quantized.pt"] {
        let checkpoint = fixtures::open(file);
        let archive = fixtures::bytes(file);
        let record = checkpoint.records().find(|record| record.name == "data.pkl").unwrap();
        let (size, stem) = (usize::try_from(record.size).unwrap(), checkpoint.root_folder().len());
        // The first record's content lies behind its local header.
        let extra = usize::from(u16::from_le_bytes([archive[28], archive[29]]));
        let start = 30 + stem + 1 + "data.pkl".len() + extra;
        let options = LoadOptions::new().globals(Globals::inert());
        for place in start..start + size {
            for changed in [archive[place].wrapping_add(1), b'b', b'0', b'h', b'R'] {
                let mut bytes = archive.clone();
                bytes[place] = changed;
                let _ = read_all(&options, bytes);
            }
        }
    }
}

#[test]
fn a_storage_whose_record_has_another_size_is_refused_and_the_tensor_named() {
    let error = malformed(&dict_of("layer", &tensor(&storage("0", 7), 0, &[2, 3], &[3, 1])));
    assert!(
        matches!(error.reason(), Reason::RecordSize { found: 24, expected: 28, numel: 7, .. }),
        "{error}"
    );
    assert_eq!((error.record(), error.tensor()), (Some("data/0"), Some("layer")));
}

#[test]
fn missing_records_are_named() {
    let error = refuse(archive("archive", &[("data/0", &[0; 24]), ("version", b"3\n")]));
    assert!(matches!(error.reason(), Reason::MissingRecord { name } if name == "data.pkl"), "{error}");
    let error = malformed(&dict_of("w", &tensor(&storage("1", 6), 0, &[6], &[1])));
    assert!(matches!(error.reason(), Reason::MissingRecord { name } if name == "data/1"), "{error}");
    assert_eq!(error.tensor(), Some("w"));
    // A name out of the folder leads nowhere.
    let error = malformed(&dict_of("w", &tensor(&storage("../data.pkl", 6), 0, &[6], &[1])));
    assert!(matches!(error.reason(), Reason::MissingRecord { .. }), "{error}");
}

#[test]
fn records_of_unknown_compression_or_encrypted_are_not_supported() {
    let good = around(&good_pickle());
    let entries: Vec<usize> = positions(&good, b"PK\x01\x02");
    let data = *entries.iter().find(|&&at| good[at + 46..].starts_with(b"archive/data/0")).unwrap();
    for (field, value) in [(10, 1), (10, 12), (10, 14), (10, 95), (8, 1), (8, 0x40), (9, 0x20)] {
        let mut bytes = good.clone();
        bytes[data + field] = value;
        let error = refuse(bytes);
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{field} {value}: {error}");
        assert_eq!(error.record(), Some("data/0"));
    }
}

fn positions(bytes: &[u8], wanted: &[u8]) -> Vec<usize> {
    (0..bytes.len()).filter(|&at| bytes[at..].starts_with(wanted)).collect()
}

#[test]
fn versions_that_pytorch_never_wrote_are_refused() {
    for (version, good) in [
        ("1", true),
        ("10\n", true),
        (" 3xyz", true),
        ("0", false),
        ("11", false),
        ("-3", false),
        ("x", false),
    ] {
        let bytes = archive("archive", &[("data.pkl", b"\x80\x02N."), ("version", version.as_bytes())]);
        match Checkpoint::from_bytes(bytes) {
            Ok(_) => assert!(good, "{version}"),
            Err(error) => {
                assert!(!good && matches!(error.reason(), Reason::Version { .. }), "{version}: {error}");
                assert_eq!(error.record(), Some("version"));
            }
        }
    }
}

#[test]
fn archives_that_could_be_read_in_two_ways_are_refused() {
    let pickle: &[u8] = b"\x80\x02N.";
    let twice: [build::Record<'_>; 2] = [("data.pkl", pickle), ("data.pkl", b"\x80\x02K\x01.")];
    let case: [build::Record<'_>; 2] = [("data.pkl", pickle), ("DATA.pkl", b"\x80\x02K\x01.")];
    for records in [twice, case] {
        let error = refuse(archive("archive", &records));
        assert!(matches!(error.reason(), Reason::Archive(_)), "{error}");
    }
}

#[test]
fn archives_of_two_checkpoints_are_refused() {
    let of = |other: &str| {
        let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for name in ["archive/data.pkl", other] {
            writer.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
            std::io::Write::write_all(&mut writer, b"\x80\x02N.").unwrap();
        }
        writer.finish().unwrap().into_inner()
    };
    let error = refuse(of("other/data.pkl"));
    assert!(error.to_string().contains("two root folders"), "{error}");
    // Records of another folder are none of the checkpoint's.
    assert_eq!(read_all(&LoadOptions::new(), of("other/data/0")).unwrap(), 0);
}

#[test]
fn a_pickle_error_has_the_record_and_the_byte() {
    let error = malformed(&pickle(&[b"N", b"\x00"]));
    assert_eq!((error.record(), error.offset()), (Some("data.pkl"), Some(3)));
    assert!(error.to_string().contains("record data.pkl, byte 3"), "{error}");
    for (opcodes, what) in [
        (b"h\x05".as_slice(), "memo 5"),
        (b"a", "more values"),
        (b"e", "MARK"),
        (b"X\xFF\xFF\xFF\xFFab", "bytes are needed"),
        (b"\x8d\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", "bytes are needed"),
        (b"\x8e\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F", "bytes are needed"),
        (b"\x8b\xFF\xFF\xFF\xFF", "negative"),
        (b"X\x02\0\0\0\xC0\x80", "UTF-8"),
        (b"}]Ns", "key"),
        (b"}(NNNu", "without a value"),
        (b"K\x01Na", "not a list"),
        (b"\x80\x06", "protocol 6"),
        (b"I12x\n", "integer"),
        (b"Fx\n", "float"),
    ] {
        let error = malformed(&[b"\x80\x02", opcodes, b"."].concat());
        assert_eq!(error.record(), Some("data.pkl"), "{error}");
        assert!(error.to_string().contains(what), "{opcodes:?}: {error}");
    }
}

#[test]
fn extension_codes_and_buffers_are_not_supported() {
    for opcodes in [b"\x82\x01".as_slice(), b"\x83\x01\x00", b"\x84\x01\0\0\0", b"\x97", b"N\x98"] {
        let error = refuse(around(&[b"\x80\x05", opcodes, b"."].concat()));
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
}

#[test]
fn tensors_that_do_not_fit_are_refused_by_name() {
    let six = storage("0", 6);
    for (offset, shape, stride) in [
        (0, vec![7], vec![1]),
        (1, vec![6], vec![1]),
        (6, vec![], vec![]),
        (0, vec![2, 3], vec![4, 1]),
        (0, vec![3], vec![i64::MAX]),
        (i64::MAX, vec![1], vec![1]),
        (-1, vec![1], vec![1]),
        (0, vec![-1], vec![1]),
        (0, vec![2], vec![-1]),
        (0, vec![2, 3], vec![1]),
        (0, vec![1 << 32, 1 << 32], vec![0, 0]),
        (0, vec![i64::MAX, 2], vec![0, 0]),
    ] {
        let error = malformed(&dict_of("w", &tensor(&six, offset, &shape, &stride)));
        assert!(matches!(error.reason(), Reason::Tensor(_)), "{error}");
        assert_eq!(error.tensor(), Some("w"), "{error}");
    }
    // No element is read, so nothing leaves the storage.
    let empty = dict_of("w", &tensor(&six, 1 << 40, &[0, 1 << 40, 1 << 40], &[1, 1, 1]));
    assert!(read_all(&LoadOptions::new(), around(&empty)).is_ok());
}

#[test]
fn persistent_ids_that_are_none_are_malformed() {
    let class = b"ctorch\nFloatStorage\n".as_slice();
    let (kind, key, cpu) = (text("storage"), text("0"), text("cpu"));
    for members in [
        vec![],
        vec![kind.as_slice(), class],
        vec![b"K\x01", class, &key, &cpu, b"K\x06"],
        vec![&text("module"), class, &key, &cpu, b"K\x06"],
        vec![&kind, b"ctorch\nfloat32\n", &key, &cpu, b"K\x06"],
        vec![&kind, &text("FloatStorage"), &key, &cpu, b"K\x06"],
        vec![&kind, class, b"N", &cpu, b"K\x06"],
        vec![&kind, class, &key, b"]", b"K\x06"],
        vec![&kind, class, &key, &text(&"x".repeat(1000)), b"K\x06"],
        vec![&kind, class, &key, &cpu, b"N"],
        vec![&kind, class, &key, &cpu, b"J\xFF\xFF\xFF\xFF"],
        vec![&kind, class, &key, &cpu, b"G@\x18\0\0\0\0\0\0"],
    ] {
        let members: Vec<&[u8]> = members;
        malformed(&dict_of("w", &[b"(", members.concat().as_slice(), b"tQ"].concat()));
    }
    for pid in [b"K\x00".as_slice(), b"N", b"]", b"}", b"U\x010"] {
        malformed(&dict_of("w", &[pid, b"Q"].concat()));
    }
}

#[test]
fn the_second_reference_to_a_storage_must_fit_it_too() {
    let first = tensor(&storage("0", 6), 0, &[6], &[1]);
    let second = tensor(&storage("0", 12), 0, &[12], &[1]);
    let error = malformed(&pickle(&[b"(", &first, &second, b"t"]));
    assert!(matches!(error.reason(), Reason::RecordSize { .. }), "{error}");
    assert_eq!(error.tensor(), Some("1"));
}

#[test]
fn values_that_their_class_cannot_hold_are_malformed() {
    for value in [
        call("collections.OrderedDict", &[b"](K\x01le"]),
        call("collections.OrderedDict", &[b"K\x01"]),
        call("collections.Counter", &[b"]"]),
        call("builtins.set", &[b"]]a"]),
        call("builtins.set", &[b"K\x01"]),
        call("builtins.bytearray", &[b"J\xFF\xFF\xFF\x7F"]),
        call("builtins.bytes", &[b"J\xFF\xFF\xFF\x7F"]),
        call("builtins.complex", &[b"]"]),
        call("_codecs.encode", &[&text("\u{100}"), &text("latin1")]),
        call("torch.Size", &[b"](Nle"]),
        call("torch.device", &[&text(&"d".repeat(1000))]),
        call("torch.serialization._get_layout", &[&text("torch.evil")]),
        call("torch._utils._rebuild_parameter", &[b"K\x01", b"\x88", b"N"]),
        call("torch._utils._rebuild_tensor_v2", &[b"K\x01"]),
    ] {
        malformed(&dict_of("x", &value));
    }
    let error = refuse(around(&dict_of("x", &call("_codecs.encode", &[&text("bf"), &text("rot13")]))));
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
}

#[test]
fn indices_of_sparse_tensors_are_checked_when_they_are_read() {
    // One storage for both parts: as integers, 0 and 0x3F80000000000000 and so on, far outside of any size.
    let class = b"ctorch\nLongStorage\n".as_slice();
    let pid = [b"(", text("storage").as_slice(), class, &text("0"), &text("cpu"), b"K\x03tQ"].concat();
    let indices = tensor(&pid, 0, &[1, 3], &[3, 1]);
    let layout = call("torch.serialization._get_layout", &[&text("torch.sparse_coo")]);
    let size = call("torch.Size", &[&build::ints(&[100])]);
    let data = [b"(", indices.as_slice(), &tensor(&pid, 0, &[3], &[1]), &size, b"t"].concat();
    let bytes = around(&dict_of("s", &call("torch._utils._rebuild_sparse_tensor", &[&layout, &data])));
    let checkpoint = Checkpoint::from_bytes(bytes).unwrap();
    assert_eq!(checkpoint.tensor("s").unwrap().shape(), [100]);
    let error = checkpoint.tensor("s.#indices").unwrap().to_contiguous().unwrap_err();
    assert!(matches!(error.reason(), Reason::Tensor(_)), "{error}");
    assert!(checkpoint.tensor("s.#values").unwrap().to_contiguous().is_ok());
}

#[test]
fn integers_keep_all_their_digits_up_to_pythons_own_limit() {
    let digits = "9".repeat(4000);
    let bytes = around(&pickle(&[b"I", digits.as_bytes(), b"\n"]));
    assert_eq!(Checkpoint::from_bytes(bytes).unwrap().root().to_string(), digits);
    malformed(&pickle(&[b"I", "9".repeat(5000).as_bytes(), b"\n"]));
    let bytes = around(&pickle(&[&int(i64::MIN)]));
    assert_eq!(Checkpoint::from_bytes(bytes).unwrap().root().as_i64().unwrap(), i64::MIN);
}

#[test]
fn records_whose_local_headers_lead_into_others_are_not_read() {
    let good = around(&good_pickle());
    let name = good.windows(14).position(|window| window == b"archive/data/0").unwrap();
    let extra_len = name - 2;
    for more in [24, 64, u16::MAX] {
        let mut bytes = good.clone();
        let len = u16::from_le_bytes([bytes[extra_len], bytes[extra_len + 1]]).saturating_add(more);
        bytes[extra_len..extra_len + 2].copy_from_slice(&len.to_le_bytes());
        let error = refuse(bytes);
        assert_eq!((error.kind(), error.record()), (ErrorKind::Malformed, Some("data/0")));
        assert!(error.to_string().contains("what follows it"), "{error}");
    }
}

#[test]
fn records_are_read_in_whatever_order_the_directory_has_them() {
    let pickle = good_pickle();
    let good = archive("archive", &[("data.pkl", &pickle), ("data/1", &[0; 24]), ("data/0", &[0; 24])]);
    let [first, second, third] = positions(&good, b"PK\x01\x02")[..] else { panic!("not three entries") };
    let [end] = positions(&good, b"PK\x06\x06")[..] else { panic!("not one end") };
    let [a, b, c] = [first..second, second..third, third..end].map(|entry| &good[entry]);
    for order in [[a, c, b], [b, a, c], [b, c, a], [c, a, b], [c, b, a]] {
        let bytes = [&good[..first], &order.concat(), &good[end..]].concat();
        assert_eq!(read_all(&LoadOptions::new(), bytes).unwrap(), 1);
    }
}

#[test]
fn two_records_of_one_name_are_refused_whatever_its_case() {
    for (one, other, but) in [
        ("data/7", "data/7", ""),
        ("data/7", "DATA/7", " but for case"),
        ("data/70000", "Data/70000", " but for case"),
        ("data/x", "data/x", ""),
        ("data/x", "data/X", " but for case"),
    ] {
        let pickle = good_pickle();
        let records = [("data.pkl", pickle.as_slice()), ("data/0", &[0; 24]), (one, &[]), (other, &[])];
        let error = refuse(archive("archive", &records));
        assert!(error.to_string().contains(&format!("two records are named {other}{but}")), "{error}");
    }
    // Other numbers than Python writes are other names.
    let pickle = good_pickle();
    let records = [("data.pkl", pickle.as_slice()), ("data/0", &[0; 24]), ("data/00", &[]), ("data/+0", &[])];
    assert_eq!(read_all(&LoadOptions::new(), archive("archive", &records)).unwrap(), 1);
}

#[test]
fn records_over_the_same_bytes_are_refused() {
    let pickle = good_pickle();
    let good = archive("archive", &[("data.pkl", &pickle), ("data/0", &[0; 24]), ("data/1", &[0; 24])]);
    let entries = positions(&good, b"PK\x01\x02");
    let header = |entry: usize| good[entry + 42..entry + 46].to_vec();
    // One record, named twice; and one that begins inside another.
    for (entry, at) in [(entries[2], header(entries[1])), (entries[2], header(entries[0]))] {
        let mut bytes = good.clone();
        bytes[entry + 42..entry + 46].copy_from_slice(&at);
        let error = refuse(bytes);
        assert!(error.to_string().contains("overlap"), "{error}");
    }
}
