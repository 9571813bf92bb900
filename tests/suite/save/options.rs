//! What saving does when told to: alignments, checksums, protocols, legacy streams, paths.

use ptser::{Checkpoint, DType, ErrorKind, Format, Object, SaveOptions};

use super::{check_all, difference, entries, expected, floats, raw, shared_views_on, small, small_on};

#[test]
fn options_do_what_pytorchs_do() {
    check_all(all());
}

pub(super) fn all() -> Vec<(String, SaveOptions, Object)> {
    let new = SaveOptions::new;
    let legacy = || new().format(Format::Legacy).unwrap();
    let mut all: Vec<(String, SaveOptions, Object)> = [1, 3, 16, 48, 128, 4096, 65496]
        .map(|alignment| (format!("alignment_{alignment}"), new().alignment(alignment), small()))
        .into();
    all.extend(
        [
            ("crc_off", new().crc32(false), small()),
            ("skip_data", new().skip_data(true), small()),
            ("skip_data_crc_off", new().skip_data(true).crc32(false), small()),
            ("byteorder_last", new().byteorder_record(false), small()),
            ("cuda", new(), small_on("cuda:0")),
            ("cuda_shared", new(), shared_views_on("cuda:1")),
            ("mps", new(), small_on("mps")),
            ("legacy_cuda", legacy(), small_on("cuda:0")),
            ("legacy_shared", legacy(), shared_views_on("cpu")),
            ("legacy_many", legacy(), many()),
        ]
        .map(|(name, options, object)| (name.to_owned(), options, object)),
    );
    for protocol in 2..=5 {
        for (name, make) in [("assorted", assorted as fn() -> Object), ("modules", modules), ("long", long)] {
            let with = |options: SaveOptions| options.protocol(protocol).unwrap();
            all.push((format!("{name}_protocol_{protocol}"), with(new()), make()));
            all.push((format!("{name}_legacy_{protocol}"), with(legacy()), make()));
        }
    }
    all
}

fn many() -> Object {
    Object::dict((0..12).map(|layer| (format!("layer{layer}"), floats(&[layer % 3 + 1]))))
}

fn assorted() -> Object {
    let mut wide = vec![0; 10];
    wide[8] = 1 << 6;
    Object::dict(entries![
        "t" => floats(&[2]),
        "u" => raw(DType::UInt16, &[2]),
        "s" => Object::set([1]),
        "b" => Object::bytes(*b"bytes"),
        "e" => Object::bytes(*b""),
        "a" => Object::byte_array(*b"ab"),
        "c" => Object::complex(0.0, 1.0),
        "o" => Object::ordered_dict([("k", 1)]),
        "i" => Object::big_int(&wide),
        "d" => DType::Float32,
        "z" => Object::size([1]),
        "x" => "x".repeat(300),
        "p" => floats(&[1]).with_parameter(true).with_requires_grad(true),
        "dev" => ptser::Location::cpu(),
        "l" => ptser::Layout::Strided,
    ])
}

/// Keys that are one text with the names of modules, where those are identifiers.
fn modules() -> Object {
    Object::dict(entries![
        "torch" => Object::size([1]),
        "collections" => Object::ordered_dict::<Object, Object>([]),
        "builtins" => Object::byte_array(*b"ab"),
        "torch._utils" => floats(&[1]),
        "dtypes" => Object::list([DType::Float32, DType::Int8, DType::QInt8]),
        "globals" => Object::list([
            Object::global("torch", "Tensor"),
            Object::global("torch", "per_tensor_affine"),
            Object::global("builtins", "set"),
            Object::global("collections", "OrderedDict"),
            ptser::Layout::Strided.into(),
        ]),
        "latin1" => Object::bytes(*b"abc"),
        "_codecs" => Object::set([1]),
    ])
}

/// More than one frame holds.
fn long() -> Object {
    Object::dict(entries![
        "bytes" => Object::bytes(vec![0; 70000]),
        "text" => "é".repeat(40000),
        "list" => Object::list(0..3000),
        "texts" => Object::list((0..9000).map(|number| format!("text {number}"))),
        "set" => Object::set(0..1500),
        "array" => Object::byte_array(vec![0; 70001]),
    ])
}

#[test]
fn what_is_no_path_has_the_root_folder_archive() {
    let written = SaveOptions::new().to_bytes(&small()).unwrap();
    assert_eq!(difference("buffer", &written, expected("buffer")), None);
    let mut sink = Vec::new();
    SaveOptions::new().write(&mut sink, &small()).unwrap();
    assert_eq!(sink, written);
}

#[test]
fn paths_name_the_root_folder_as_with_pytorch() {
    let folder = tempfile::tempdir().unwrap();
    for (path, told) in expected("paths").as_object().unwrap() {
        let file = folder.path().join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let saved = SaveOptions::new().save(&file, &small());
        if let Some(refusal) = told["refusal"].as_str() {
            assert!(refusal.contains("invalid file name"), "{refusal}");
            let error = saved.expect_err(path);
            assert_eq!(error.kind(), ErrorKind::Misuse, "{error}");
            assert!(!file.exists(), "{path}");
            continue;
        }
        saved.expect(path);
        assert_eq!(difference(path, &std::fs::read(&file).unwrap(), told), None);
        Checkpoint::open(&file).expect(path);
    }
}

#[test]
fn durable_or_not_the_bytes_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    for durable in [true, false] {
        let file = folder.path().join("skip_data.pt");
        SaveOptions::new().durable(durable).skip_data(true).save(&file, &small()).unwrap();
        assert_eq!(difference("skip_data", &std::fs::read(&file).unwrap(), expected("skip_data")), None);
    }
}
