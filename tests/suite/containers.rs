//! Containers that are no zip archives: legacy streams, the first tar archives, pickles by themselves,
//! safetensors files.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::PathBuf;

use ptser::{Checkpoint, DType, Error, ErrorKind, Format, Globals, LoadOptions, Reason, ValueKind};
use serde_json::Value as Json;

use crate::build::{MAGIC, call, dict_of, good_pickle, int, ints, pickle, storage, stream, tensor, text};
use crate::fixtures::{self, check_tensors, expected_in, read_all};
use crate::swift::{SLOW, swift};
use crate::tree::check_value;

fn path(name: &str) -> PathBuf {
    fixtures::folder().join("legacy").join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(path(name)).expect(name)
}

fn open(name: &str) -> Checkpoint {
    Checkpoint::open(path(name)).expect(name)
}

/// What opens a file of the folder: PyTorch's policy, and what the description allows beyond it.
fn options(expected: &Json) -> LoadOptions {
    let allowed = expected["allow"].as_array().into_iter().flatten();
    let globals =
        allowed.fold(Globals::weights_only(), |globals, name| globals.allow(name.as_str().unwrap()));
    LoadOptions::new().globals(globals)
}

/// Opens checkpoints inside of pickles.
fn nesting() -> LoadOptions {
    LoadOptions::new().globals(Globals::weights_only().allow("torch.storage._load_from_bytes"))
}

fn refuse(bytes: Vec<u8>) -> Error {
    read_all(&LoadOptions::new(), bytes).map(drop).unwrap_err()
}

fn malformed(bytes: Vec<u8>) -> Error {
    let error = refuse(bytes);
    assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
    error
}

/// Compares tensors, and the value where the description has one or names another that is the same.
fn check(file: &str, checkpoint: &Checkpoint, expected: &Json) {
    check_tensors(file, checkpoint, &expected["tensors"]);
    let elsewhere = expected["value_of"].as_str().map(|name| {
        let (_, same) = fixtures::expected().into_iter().find(|(file, _)| file == name).unwrap();
        same["value"].clone()
    });
    if let Some(tree) = elsewhere.as_ref().or(expected.get("value")) {
        check_value(file, checkpoint, tree);
    }
}

#[test]
fn every_fixture_holds_what_pytorch_finds() {
    let files = expected_in("legacy");
    assert_eq!(files.len(), 30);
    for (file, expected) in files {
        let options = options(&expected);
        let checkpoint = options.open(path(&file)).unwrap();
        assert_eq!(checkpoint.format().name(), expected["format"], "{file}");
        assert_eq!(checkpoint.byte_order().name(), expected["byte_order"], "{file}");
        check(&file, &checkpoint, &expected);
        // The same without a file, and without a name.
        let again = options.from_bytes(bytes(&file)).unwrap();
        assert_eq!(fixtures::contents(&again), fixtures::contents(&checkpoint), "{file}");
        let mapped = options.clone().mmap(true).open(path(&file)).unwrap();
        assert_eq!(fixtures::contents(&mapped), fixtures::contents(&checkpoint), "{file}");
    }
}

#[test]
fn streams_and_pickles_tell_where_they_end_and_archives_do_not() {
    for (file, expected) in expected_in("legacy") {
        let checkpoint = options(&expected).open(path(&file)).unwrap();
        let size = std::fs::metadata(path(&file)).unwrap().len();
        let end = match checkpoint.format() {
            Format::Legacy | Format::Pickle => Some(expected["end"].as_u64().unwrap_or(size)),
            _ => None,
        };
        assert_eq!(checkpoint.end_offset(), end, "{file}");
    }
    assert_eq!(fixtures::open("root_tensor.pt").end_offset(), None);
}

#[test]
fn a_second_checkpoint_opens_where_the_first_ends() {
    let (_, expected) = expected_in("legacy").into_iter().find(|(file, _)| file == "two.pt").unwrap();
    let end = open("two.pt").end_offset().unwrap();
    let mut file = File::open(path("two.pt")).unwrap();
    file.seek(SeekFrom::Start(end)).unwrap();
    let second = LoadOptions::new().read(file).unwrap();
    check("two.pt, the second", &second, &expected["next"]);
    // Counted from where the reader stood.
    let size = std::fs::metadata(path("two.pt")).unwrap().len();
    assert_eq!(second.end_offset(), Some(size - end));
}

#[test]
fn parts_of_storages_know_their_whole_and_where_in_it_they_begin() {
    let checkpoint = open("torch03_views.pt");
    let found = |name: &str| checkpoint.tensor(name).unwrap().storage().unwrap();
    let root = found("whole");
    assert!(root.whole().is_none());
    for (name, key, start, nbytes) in [("head", "94032", 0, 16), ("tail", "94064", 12, 20)] {
        let part = found(name);
        let (whole, at) = part.whole().unwrap();
        assert!(whole.is(root));
        assert_eq!((part.key(), at, part.nbytes()), (key, start, nbytes));
        let offsets = [part, root].map(|storage| storage.checkpoint_offset().unwrap().unwrap());
        assert_eq!(offsets[0], offsets[1] + start);
        let start = usize::try_from(start).unwrap();
        assert_eq!(part.to_vec().unwrap(), root.to_vec().unwrap()[start..][..part.to_vec().unwrap().len()]);
    }
    assert!(found("tail").is(found("tail_again")));
    let floats: Vec<f32> = checkpoint
        .tensor("tail")
        .unwrap()
        .to_contiguous()
        .unwrap()
        .chunks_exact(4)
        .map(|float| f32::from_le_bytes(float.try_into().unwrap()))
        .collect();
    assert_eq!(floats, [4.0, 5.0, 6.0, 7.0]);

    let archive = open("torch01.tar");
    let view = archive.tensor("view").unwrap().storage().unwrap();
    let (whole, at) = view.whole().unwrap();
    assert!(whole.is(archive.tensor("weight").unwrap().storage().unwrap()));
    assert_eq!(at, 8);
}

#[test]
fn a_class_comes_with_its_source_text_and_stays_inert() {
    let error = LoadOptions::new().open(path("module.pt")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.refused_globals().iter().any(|global| global.name == "net.Net"), "{error}");
    let checkpoint = LoadOptions::new().globals(Globals::inert()).open(path("module.pt")).unwrap();
    let root = checkpoint.root();
    assert!(matches!(root.kind(), ValueKind::Object), "{root}");
    assert_eq!(root.class(), Some("net.Net"));
    let (file, source) = root.source().unwrap();
    assert_eq!(file, "net.py");
    assert!(source.starts_with("class Net(torch.nn.Module):\n"), "{source}");
    let (name, weight) = checkpoint.tensors().next().unwrap();
    assert!(name.ends_with("weight") && weight.is_parameter(), "{name}");
    assert_eq!(checkpoint.tensors().count(), 1);
    assert!(checkpoint.root().state().unwrap().source().is_none());
}

#[test]
fn a_safetensors_file_opens_by_its_name_only() {
    let folder = tempfile::tempdir().unwrap();
    let renamed = folder.path().join("dtypes.pt");
    std::fs::copy(path("dtypes.safetensors"), &renamed).unwrap();
    let error = Checkpoint::open(&renamed).unwrap_err();
    assert!(matches!(error.reason(), Reason::NotACheckpoint { .. }), "{error}");
    assert!(error.to_string().contains(".safetensors"), "{error}");
    let upper = folder.path().join("dtypes.SafeTensors");
    std::fs::copy(path("dtypes.safetensors"), &upper).unwrap();
    assert_eq!(Checkpoint::open(&upper).unwrap().format(), Format::Safetensors);
    // Bytes and readers have no name that could be wrong.
    let checkpoint = Checkpoint::from_bytes(bytes("dtypes.safetensors")).unwrap();
    assert_eq!(checkpoint.state_dict().unwrap().len(), checkpoint.tensors().count());
    let empty = Checkpoint::from_bytes(b"\x02\0\0\0\0\0\0\0{}").unwrap();
    assert_eq!((empty.format(), empty.tensors().count()), (Format::Safetensors, 0));
}

#[test]
fn safetensors_headers_that_lie_are_malformed() {
    let file = |header: &str, data: usize| {
        let len = u64::try_from(header.len()).unwrap().to_le_bytes();
        [len.as_slice(), header.as_bytes(), &vec![0; data]].concat()
    };
    let one = |dtype: &str, shape: &str, end: u64| {
        format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,{end}]}}}}"#)
    };
    assert_eq!(read_all(&LoadOptions::new(), file(&one("F32", "[2,3]", 24), 24)).unwrap(), 1);
    for (header, data) in [
        (one("F32", "[2,3]", 24), 23),
        (one("F32", "[2,3]", 20), 24),
        (one("F32", "[2,-3]", 24), 24),
        (one("F32", "[4294967296,4294967296,4294967296]", 24), 24),
        (one("F99", "[6]", 24), 24),
        (r#"{"w":{"dtype":"U8","shape":[0],"data_offsets":[8,4]}}"#.to_owned(), 24),
        (r#"{"w":{"dtype":"U8","shape":[1],"data_offsets":[18446744073709551615,0]}}"#.to_owned(), 24),
        (r#"{"w":3}"#.to_owned(), 24),
        ("{".to_owned(), 0),
    ] {
        malformed(file(&header, data));
    }
}

#[test]
fn a_compressed_stream_is_called_by_its_name() {
    let error = Checkpoint::open(path("gzipped.pt")).unwrap_err();
    assert!(matches!(error.reason(), Reason::NotACheckpoint { .. }), "{error}");
    assert!(error.to_string().contains("gunzip"), "{error}");
}

#[test]
fn a_file_cut_at_any_byte_is_an_error() {
    for file in [
        "root_tensor.pt",
        "torch03_views.pt",
        "python2.pt",
        "python2_protocol0.pkl",
        "tensors_protocol2.pkl",
        "dtypes.safetensors",
    ] {
        let bytes = bytes(file);
        for len in 0..bytes.len() {
            let error = read_all(&nesting(), bytes[..len].to_vec()).unwrap_err();
            assert!(
                matches!(error.kind(), ErrorKind::Malformed | ErrorKind::Io),
                "{file} cut at {len}: {error:?}"
            );
        }
    }
}

#[test]
fn a_tar_archive_cut_before_the_end_of_its_last_member_is_an_error() {
    let bytes = bytes("torch01.tar");
    let content = bytes.iter().rposition(|&byte| byte != 0).unwrap() + 1;
    for len in 0..bytes.len() {
        match read_all(&LoadOptions::new(), bytes[..len].to_vec()) {
            // The marks of the end and the filling before them hold nothing.
            Ok(_) => assert!(len >= content, "cut at {len}"),
            Err(error) => assert!(
                matches!(error.kind(), ErrorKind::Malformed | ErrorKind::Io),
                "cut at {len}: {error:?}"
            ),
        }
    }
}

#[test]
fn no_single_changed_byte_panics() {
    for file in ["torch03_views.pt", "tensors_protocol4.pkl", "dtypes.safetensors", "torch01.tar"] {
        let bytes = bytes(file);
        for place in (0..bytes.len()).filter(|&place| bytes[place] != 0 || place % 32 == 0) {
            for changed in [bytes[place] ^ 1, bytes[place] ^ 0x80, 0, 0xFF] {
                let mut bytes = bytes.clone();
                bytes[place] = changed;
                let _ = read_all(&LoadOptions::new().globals(Globals::inert()), bytes);
            }
        }
    }
}

const SIX: &[u8] = &[0; 24];

#[test]
fn keys_and_references_must_agree() {
    let good = stream(&good_pickle(), &["0"], &[("0", 6, SIX)]);
    assert_eq!(read_all(&LoadOptions::new(), good).unwrap(), 1);
    let unreferenced = malformed(stream(&good_pickle(), &["0", "1"], &[("0", 6, SIX), ("1", 6, SIX)]));
    assert!(unreferenced.to_string().contains("\"1\""), "{unreferenced}");
    let unlisted = malformed(stream(&good_pickle(), &[], &[]));
    assert!(unlisted.to_string().contains("\"0\""), "{unlisted}");
    let twice = malformed(stream(&good_pickle(), &["0", "0"], &[("0", 6, SIX), ("0", 6, SIX)]));
    assert!(twice.to_string().contains("twice"), "{twice}");
    // What follows the object is no list of text.
    for keys in [pickle(&[b"N"]), pickle(&[b"](K\x01e"]), pickle(&[b"}"])] {
        let start = stream(&good_pickle(), &[], &[]);
        let start = &start[..start.len() - pickle(&[b"](e"]).len()];
        malformed([start, &keys].concat());
    }
}

#[test]
fn sizes_in_a_stream_that_lie_are_malformed() {
    for count in [0, 5, 7, 1 << 32, u64::MAX, (1 << 62) + 6] {
        let error = malformed(stream(&good_pickle(), &["0"], &[("0", count, SIX)]));
        assert!(matches!(error.reason(), Reason::RecordSize { numel: 6, .. }), "{count}: {error}");
    }
    malformed(stream(&good_pickle(), &["0"], &[("0", 6, &SIX[1..])]));
    // The same lie twice: nothing is read, and nothing reserved, beyond the file.
    for numel in [7, 1 << 40, (1 << 62) + 6, i64::MAX] {
        let object = dict_of("w", &tensor(&storage("0", numel), 0, &[6], &[1]));
        malformed(stream(&object, &["0"], &[("0", numel.unsigned_abs(), SIX)]));
    }
    malformed(stream(&dict_of("w", &storage("0", -1)), &["0"], &[("0", u64::MAX, SIX)]));
}

#[test]
fn a_storage_named_with_two_classes_is_one_where_they_are_of_one_size() {
    let named = |class: &str, numel: i64| {
        let class = format!("ctorch\n{class}\n");
        let id = [text("storage"), class.into_bytes(), text("0"), text("cpu"), int(numel)].concat();
        tensor(&[b"(".as_slice(), &id, b"tQ"].concat(), 0, &[numel], &[1])
    };
    let both = |class: &str, numel: i64| {
        let object = pickle(&[b"(", &named("FloatStorage", 6), &named(class, numel), b"t"]);
        stream(&object, &["0"], &[("0", 6, SIX)])
    };
    let checkpoint = Checkpoint::from_bytes(both("LongStorage", 3)).unwrap();
    let found = |name: &str| checkpoint.tensor(name).unwrap();
    assert!(found("0").storage().unwrap().is(found("1").storage().unwrap()));
    assert_eq!((found("0").dtype(), found("1").dtype()), (DType::Float32, DType::Int64));
    let error = malformed(both("LongStorage", 6));
    assert!(matches!(error.reason(), Reason::RecordSize { found: 24, expected: 48, .. }), "{error}");
}

/// The persistent id of a part of storage `0`, which has six elements.
fn part(key: &str, offset: i64, numel: i64) -> Vec<u8> {
    let view = [b"(", text(key).as_slice(), &int(offset), &int(numel), b"t"].concat();
    let id = storage("0", 6);
    [id.strip_suffix(b"tQ").unwrap(), &view, b"tQ"].concat()
}

#[test]
fn parts_stay_inside_their_root() {
    let open = |offset, numel| {
        let object = dict_of("w", &tensor(&part("1", offset, numel), 0, &[numel], &[1]));
        stream(&object, &["0"], &[("0", 6, SIX)])
    };
    for (offset, numel) in [(0, 6), (5, 1), (6, 0), (2, 3)] {
        assert_eq!(read_all(&LoadOptions::new(), open(offset, numel)).unwrap(), 1, "{offset} {numel}");
    }
    for (offset, numel) in
        [(0, 7), (6, 1), (7, 0), (-1, 2), (0, -1), (i64::MAX, 1), (1, i64::MAX), (1 << 62, 1 << 62)]
    {
        malformed(open(offset, numel));
    }
    // A part is not the root: a tensor that needs more leaves it.
    let object = dict_of("w", &tensor(&part("1", 2, 3), 0, &[4], &[1]));
    let error = malformed(stream(&object, &["0"], &[("0", 6, SIX)]));
    assert!(matches!(error.reason(), Reason::Tensor(_)), "{error}");
}

#[test]
fn the_pickles_before_the_object_are_checked() {
    let stream =
        |version: &[u8], system: &[u8]| [MAGIC, version, system, b"\x80\x02N.", b"\x80\x02]."].concat();
    let good = b"\x80\x02M\xe9\x03.".as_slice();
    for system in [b"\x80\x02}.".as_slice(), b"\x80\x02N.", b"}."] {
        assert!(read_all(&LoadOptions::new(), stream(good, system)).is_ok());
    }
    for version in
        [b"\x80\x02M\xea\x03.".as_slice(), b"\x80\x02N.", b"\x80\x02X\x04\0\0\x001001.", b"\x80\x02."]
    {
        malformed(stream(version, b"\x80\x02}."));
    }
    // A pickle of something else altogether, and another number than the magic one.
    assert_eq!(Checkpoint::from_bytes(pickle(&[&int(1001)])).unwrap().format(), Format::Pickle);
    // Any damaged bit of the magic number makes no checkpoint of that number.
    for bit in 0..80 {
        let mut stream = stream(good, b"\x80\x02}.");
        stream[4 + bit / 8] ^= 1 << (bit % 8);
        let error = malformed(stream);
        assert!(error.to_string().contains("magic number"), "{bit}: {error}");
    }
    for version in
        [&b"\x80\x02M\xe9\x03.}."[..], b"\x80\x02\x8a\x0b\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19..}."]
    {
        assert!(malformed(version.to_vec()).to_string().contains("magic number"));
    }
    // Globals of the small pickles meet the policy as well.
    let error = refuse(stream(good, b"\x80\x02cos\nsystem\n."));
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
}

/// A pickle of bytes, of protocol 3 and later.
fn binary(bytes: &[u8]) -> Vec<u8> {
    [b"B", u32::try_from(bytes.len()).unwrap().to_le_bytes().as_slice(), bytes].concat()
}

/// A stream of one storage, `levels` pickles deep.
fn nested(levels: usize) -> Vec<u8> {
    let innermost = stream(&pickle(&[&storage("0", 6)]), &["0"], &[("0", 6, SIX)]);
    (0..levels)
        .fold(innermost, |inner, _| pickle(&[&call("torch.storage._load_from_bytes", &[&binary(&inner)])]))
}

#[test]
fn checkpoints_inside_each_other_have_a_limit() {
    for levels in 0..=4 {
        let checkpoint = nesting().from_bytes(nested(levels)).unwrap();
        let ValueKind::Storage(storage, _) = checkpoint.root().kind() else { panic!("{levels}") };
        assert_eq!(storage.to_vec().unwrap(), SIX);
    }
    for levels in [5, 6, 50] {
        let error = read_all(&nesting(), nested(levels)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
        assert!(error.to_string().contains("inside each other"), "{error}");
    }
}

#[test]
fn what_lies_in_a_pickle_as_bytes_must_be_a_storage_or_a_tensor() {
    let load = |argument: &[u8]| {
        let object = dict_of("w", &call("torch.storage._load_from_bytes", &[argument]));
        // PyTorch's policy has no place for it.
        assert_eq!(refuse(object.clone()).kind(), ErrorKind::Refused);
        read_all(&nesting(), object)
    };
    let good = stream(&pickle(&[&storage("0", 6)]), &["0"], &[("0", 6, SIX)]);
    assert!(load(&binary(&good)).is_ok());
    for inner in [
        b"".as_slice(),
        b"not a checkpoint",
        b"\x80\x02N.",
        &stream(b"\x80\x02}.", &[], &[]),
        &stream(&good_pickle(), &["0"], &[("0", 7, SIX)]),
        &good[..good.len() - 1],
    ] {
        let error = load(&binary(inner)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
    }
    for argument in [text("x"), b"N".to_vec(), ints(&[1])] {
        let error = load(&argument).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
    }
    // The policy holds inside too.
    let error = load(&binary(&dict_of("w", b"cos\nsystem\n"))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.refused_globals().iter().any(|global| global.name == "os.system"), "{error}");
}

#[test]
fn an_error_in_the_object_of_a_stream_is_told_by_its_byte_in_the_file() {
    let object = pickle(&[b"N", b"\x00"]);
    let bytes = stream(&object, &["0"], &[("0", 6, SIX)]);
    let at = bytes.windows(object.len()).position(|window| window == object).unwrap() + 3;
    let error = malformed(bytes);
    assert_eq!((error.record(), error.offset()), (None, Some(u64::try_from(at).unwrap())), "{error}");
}

#[test]
fn a_pickle_by_itself_has_no_storages() {
    let error = malformed(good_pickle());
    assert!(error.to_string().contains("\"0\""), "{error}");
}

/// A tar archive of the given members.
fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, data) in members {
        let mut header = [0_u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[124..135].copy_from_slice(format!("{:011o}", data.len()).as_bytes());
        header[148..156].copy_from_slice(b"        ");
        header[156] = b'0';
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        out.extend(header);
        out.extend(*data);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

/// The member `storages`: one storage `1` with its claim of a size, and the parts of it.
fn tar_storages(numel: i64, parts: &[[i64; 4]]) -> Vec<u8> {
    let parts: Vec<u8> = parts.iter().flat_map(|part| ints(part)).collect();
    [
        pickle(&[b"K\x01"]).as_slice(),
        &pickle(&[b"(K\x01", &text("cpu"), b"ctorch\nFloatStorage\nt"]),
        &numel.to_le_bytes(),
        SIX,
        &pickle(&[b"](", &parts, b"e"]),
    ]
    .concat()
}

/// The member `tensors`: one tensor `2` over a storage.
fn tar_tensors(storage: &[u8], rank: u32, numbers: &[i64]) -> Vec<u8> {
    [
        pickle(&[b"K\x01"]).as_slice(),
        &pickle(&[b"(K\x02", storage, b"ctorch\nFloatTensor\nt"]),
        &rank.to_le_bytes(),
        b"junk",
        &numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>(),
    ]
    .concat()
}

fn tar_of(storages: &[u8], tensors: &[u8]) -> Vec<u8> {
    let object = dict_of("w", &[text("2").as_slice(), b"Q"].concat());
    tar(&[("pickle", &object), ("tensors", tensors), ("storages", storages)])
}

#[test]
fn numbers_in_a_tar_archive_that_lie_are_malformed() {
    let storages = tar_storages(6, &[[3, 1, 2, 4]]);
    let tensors = tar_tensors(b"K\x03", 2, &[2, 2, 2, 1, 0]);
    assert_eq!(read_all(&LoadOptions::new(), tar_of(&storages, &tensors)).unwrap(), 1);

    for numel in [-1, 1 << 20, 1 << 62, i64::MAX, i64::MIN] {
        malformed(tar_of(&tar_storages(numel, &[]), &tensors));
    }
    for part in [[3, 1, 3, 4], [3, 1, -1, 2], [3, 1, 0, -1], [3, 1, i64::MAX, 1], [3, 9, 0, 1], [3, 3, 0, 1]]
    {
        malformed(tar_of(&tar_storages(6, &[part]), &tensors));
    }
    for (storage, rank, numbers) in [
        (b"K\x03".as_slice(), 2, vec![2, 3, 3, 1, 0]),
        (b"K\x03", 2, vec![2, 2, 2, 1, 1]),
        (b"K\x03", 1, vec![1, 1, i64::MAX]),
        (b"K\x03", 1, vec![1, 1, -1]),
        (b"K\x03", 1, vec![-1, 1, 0]),
        (b"K\x03", 1, vec![4]),
        (b"K\x03", u32::MAX, vec![2, 2, 2, 1, 0]),
        (b"K\x09", 1, vec![1, 1, 0]),
        (b"N", 1, vec![3, 1, 0]),
    ] {
        malformed(tar_of(&storages, &tar_tensors(storage, rank, &numbers)));
    }
    // A tensor that never had a storage has no elements.
    let bare = Checkpoint::from_bytes(tar_of(&storages, &tar_tensors(b"N", 0, &[0]))).unwrap();
    assert_eq!(bare.tensor("w").unwrap().shape(), [0]);
}

#[test]
fn a_part_of_a_part_is_a_part_of_the_whole_however_deep() {
    let chain = |depth: i64| (1..=depth).map(|key| [key + 1, key, 0, 6]).collect::<Vec<_>>();
    let storages = tar_storages(6, &[chain(100_000), vec![[3, 100_001, 2, 4]]].concat());
    let bytes = tar_of(&storages, &tar_tensors(b"K\x03", 2, &[2, 2, 2, 1, 0]));
    let checkpoint = Checkpoint::from_bytes(bytes).unwrap();
    let (whole, start) = checkpoint.tensor("w").unwrap().storage().unwrap().whole().unwrap();
    assert!(whole.whole().is_none());
    assert_eq!((whole.nbytes(), start), (24, 8));
}

#[test]
fn a_class_in_a_tar_archive_has_its_source_text_too() {
    let class = [b"(cnet\nNet\n".as_slice(), &text("net.py"), &text("class Net: pass"), b"tQ"].concat();
    let object = pickle(&[&class, b")\x81}", &text("epoch"), b"K\x03sb"]);
    let bytes = tar(&[("pickle", &object), ("storages", &tar_storages(6, &[]))]);
    assert_eq!(refuse(bytes.clone()).kind(), ErrorKind::Refused);
    let checkpoint = LoadOptions::new().globals(Globals::inert()).from_bytes(bytes).unwrap();
    let root = checkpoint.root();
    assert_eq!((root.class(), root.source()), (Some("net.Net"), Some(("net.py", "class Net: pass"))));
    assert_eq!(root.attributes().next().unwrap().1.as_i64().unwrap(), 3);
}

#[test]
fn members_and_names_that_are_missing_are_named() {
    let storages = tar_storages(6, &[]);
    let error = malformed(tar(&[("storages", &storages)]));
    assert!(matches!(error.reason(), Reason::MissingRecord { name } if name == "pickle"), "{error}");
    let error = malformed(tar(&[("pickle", b"\x80\x02N.")]));
    assert!(matches!(error.reason(), Reason::MissingRecord { name } if name == "storages"), "{error}");
    let error = malformed(tar(&[("pickle", &dict_of("w", b"X\x01\0\0\x007Q")), ("storages", &storages)]));
    assert!(error.to_string().contains("\"7\""), "{error}");
    let twice = tar(&[("pickle", b"\x80\x02N."), ("pickle", b"\x80\x02K\x01."), ("storages", &storages)]);
    malformed(twice);
    let mut damaged = tar(&[("pickle", b"\x80\x02N."), ("storages", &storages)]);
    damaged[0] ^= 1;
    assert!(malformed(damaged).to_string().contains("checksum"));
}

#[test]
fn the_same_bytes_inside_each_other_cannot_ask_for_work_without_end() {
    let mut inner = stream(&pickle(&[&storage("0", 6)]), &["0"], &[("0", 6, SIX)]);
    for calls in [2000, 50, 50, 50] {
        // The bytes and the function are remembered; every call but the last is thrown away.
        let remember = [binary(&inner), b"q\x00ctorch.storage\n_load_from_bytes\nq\x0100".to_vec()].concat();
        inner = pickle(&[&remember, &b"h\x01h\x00\x85R0".repeat(calls), b"h\x01h\x00\x85R"]);
    }
    let error = swift(SLOW, "reading", || read_all(&nesting(), inner.clone()).unwrap_err());
    assert!(error.to_string().contains("would not end"), "{error}");
}
