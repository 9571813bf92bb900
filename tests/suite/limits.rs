//! Limits hold, name themselves, and can be raised.

use std::io::Write;
use std::mem::MaybeUninit;
use std::time::Duration;

use ptser::{ByteOrder, Checkpoint, DType, Error, ErrorKind, Globals, Limits, LoadOptions, Reason};
use zip::write::SimpleFileOptions;

use crate::build::{archive, around, call, dict_of, good_pickle, int, pickle, storage, stream, tensor, text};
use crate::fixtures;
use crate::swift::swift;

fn with(limits: Limits, bytes: Vec<u8>) -> Result<Checkpoint, Error> {
    LoadOptions::new().limits(limits).from_bytes(bytes)
}

fn named(error: &Error) -> &'static str {
    match error.reason() {
        Reason::Limit { limit, .. } => limit,
        _ => panic!("{error}"),
    }
}

/// What refuses a file names the limit and the method that raises it.
#[track_caller]
fn refused(bytes: Vec<u8>, limits: Limits, limit: &str) {
    let error = with(limits, bytes).map(drop).unwrap_err();
    assert_eq!((error.kind(), named(&error)), (ErrorKind::LimitExceeded, limit));
    let message = error.to_string();
    assert!(message.contains(&format!("raise it with Limits::{limit}(..)")), "{message}");
}

/// A file opens within `enough`, and not within one less of it.
#[track_caller]
fn just_enough(bytes: &[u8], limit: &str, set: fn(Limits, u64) -> Limits, enough: u64) {
    with(set(Limits::default(), enough), bytes.to_vec()).unwrap();
    refused(bytes.to_vec(), set(Limits::default(), enough - 1), limit);
}

#[test]
fn each_limit_is_named_by_the_error_of_exceeding_it() {
    let bytes = fixtures::bytes("many.pt");
    let checkpoint = with(Limits::default(), bytes.clone()).unwrap();
    let pickle = checkpoint.records().find(|record| record.name == "data.pkl").unwrap().size;
    let records = u64::try_from(checkpoint.records().len()).unwrap();
    let names = checkpoint.tensors().map(|(name, _)| u64::try_from(name.len()).unwrap()).sum();
    just_enough(&bytes, "pickle_bytes", Limits::pickle_bytes, pickle);
    just_enough(&bytes, "records", Limits::records, records);
    just_enough(&bytes, "tensors_listed", Limits::tensors_listed, 200);
    just_enough(&bytes, "names_bytes", Limits::names_bytes, names);
    let nbytes = checkpoint.storages().iter().map(ptser::Storage::nbytes).sum();
    just_enough(&bytes, "tensor_bytes", Limits::tensor_bytes, nbytes);
    refused(bytes, Limits::default().objects(200), "objects");
}

#[test]
fn objects_are_counted_while_they_are_read() {
    // A list, a mark, and a thousand members, new ones or the same again.
    for member in [b"N".as_slice(), b"M\x00\x01", b"K\x01", b"h\x00", b"2"] {
        let first = if member == b"h\x00" { b"Nq\x000".as_slice() } else { b"" };
        let members = [first, b"](", b"N", &member.repeat(999), b"e"].concat();
        let count = 1002 + u64::from(!first.is_empty());
        just_enough(&around(&pickle(&[&members])), "objects", Limits::objects, count);
    }
    let numbers = [b"](".as_slice(), &b"M\x00\x01".repeat(1000), b"e"].concat();
    // The damage behind them is never seen.
    let damaged = [numbers.as_slice(), b"\x00"].concat();
    refused(around(&pickle(&[&damaged])), Limits::default().objects(1001), "objects");
    refused(stream(&pickle(&[&numbers]), &[], &[]), Limits::default().objects(1001), "objects");
    refused(pickle(&[&numbers]), Limits::default().objects(1001), "objects");
}

#[test]
fn checkpoints_inside_others_are_counted_with_them() {
    // A list that is dropped again, and a tensor.
    let weight = tensor(&storage("0", 6), 0, &[6], &[1]);
    let inner = pickle(&[b"](", &b"M\x00\x01".repeat(1000), b"e0", &weight]);
    let whole = stream(&inner, &["0"], &[("0", 6, &[0; 24])]);
    let bytes = [b"B", u32::try_from(whole.len()).unwrap().to_le_bytes().as_slice(), &whole].concat();
    let outer = pickle(&[&call("torch.storage._load_from_bytes", &[&bytes])]);
    let open = |limits| {
        let globals = Globals::weights_only().allow("torch.storage._load_from_bytes");
        LoadOptions::new().globals(globals).limits(limits).from_bytes(around(&outer)).map(drop)
    };
    let both = u64::try_from(outer.len() + inner.len()).unwrap();
    open(Limits::default().pickle_bytes(both)).unwrap();
    assert_eq!(named(&open(Limits::default().pickle_bytes(both - 1)).unwrap_err()), "pickle_bytes");
    assert_eq!(named(&open(Limits::default().objects(1002)).unwrap_err()), "objects");
}

#[test]
fn the_bytes_of_storages_are_limited_in_every_container() {
    for (bytes, enough) in [
        // Views and aliases of a storage count once.
        (fixtures::bytes("shared.pt"), 112),
        (stream(&good_pickle(), &["0"], &[("0", 6, &[0; 24])]), 24),
        (fixtures::bytes("../legacy/torch2016.tar"), 0),
    ] {
        let all = with(Limits::default(), bytes.clone()).unwrap();
        let all: u64 = all.storages().iter().map(ptser::Storage::nbytes).sum();
        let enough = if enough == 0 { all } else { enough };
        just_enough(&bytes, "tensor_bytes", Limits::tensor_bytes, enough);
    }
    let open = |limits| {
        let file = fixtures::path("../legacy/dtypes.safetensors");
        LoadOptions::new().limits(limits).open(file).map(drop)
    };
    open(Limits::default()).unwrap();
    assert_eq!(named(&open(Limits::default().tensor_bytes(3)).unwrap_err()), "tensor_bytes");
}

/// A pickle of one long text, deflated.
fn inflating(len: usize) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let deflated = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    writer.start_file("archive/data.pkl", deflated).unwrap();
    writer.write_all(&pickle(&[&text(&"A".repeat(len))])).unwrap();
    writer.finish().unwrap().into_inner()
}

#[test]
fn a_pickle_that_inflates_out_of_proportion_is_refused() {
    assert!(with(Limits::default(), inflating(1 << 19)).is_ok());
    let bomb = inflating(8 << 20);
    assert_eq!(named(&with(Limits::default(), bomb.clone()).map(drop).unwrap_err()), "inflation_ratio");
    assert!(with(Limits::default().inflation_ratio(5000), bomb).is_ok());
}

#[test]
fn deflated_storages_are_limited_all_together() {
    let bytes = fixtures::bytes("deflated.pt");
    let all = with(Limits::default(), bytes.clone()).unwrap();
    let all = all.storages().iter().map(ptser::Storage::nbytes).sum();
    just_enough(&bytes, "inflated_bytes", Limits::inflated_bytes, all);
    // What is not deflated is not counted.
    with(Limits::default().inflated_bytes(0), fixtures::bytes("many.pt")).unwrap();
}

#[test]
fn storages_that_inflate_out_of_proportion_are_refused() {
    // Two GiB in a few bytes: what the directory claims, and the pickle with it.
    let numel = 1_i64 << 29;
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let deflated = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    let weight = tensor(&storage("0", numel), 0, &[numel], &[1]);
    for (name, content) in [("data.pkl", dict_of("w", &weight)), ("data/0", vec![0; 24])] {
        writer.start_file(format!("archive/{name}"), deflated).unwrap();
        writer.write_all(&content).unwrap();
    }
    let mut bytes = writer.finish().unwrap().into_inner();
    let entry = (0..bytes.len()).rfind(|&at| bytes[at..].starts_with(b"PK\x01\x02")).unwrap();
    bytes[entry + 24..entry + 28].copy_from_slice(&(4 * u32::try_from(numel).unwrap()).to_le_bytes());
    refused(bytes.clone(), Limits::default(), "inflation_ratio");
    refused(bytes.clone(), Limits::default().inflated_bytes(1 << 30), "inflated_bytes");
    // Whoever lets it pass finds out when it is read.
    let checkpoint = with(Limits::default().inflation_ratio(u64::MAX), bytes).unwrap();
    let mut buffer = [MaybeUninit::uninit()];
    let read = checkpoint.storages()[0].read_as(DType::UInt8, ByteOrder::Little, 1000, &mut buffer);
    assert_eq!(read.map(drop).unwrap_err().kind(), ErrorKind::Malformed);
}

#[test]
fn so_many_records_are_refused_before_they_are_read() {
    // Four thousand million of them, says the end of the directory.
    let mut bytes = around(&good_pickle());
    let end = (0..bytes.len()).rfind(|&at| bytes[at..].starts_with(b"PK\x06\x06")).unwrap();
    for field in [24, 32] {
        bytes[end + field..end + field + 8].copy_from_slice(&u64::from(u32::MAX).to_le_bytes());
    }
    swift(Duration::from_secs(1), "refusing", || refused(bytes.clone(), Limits::default(), "records"));
}

#[test]
fn a_record_that_lies_about_its_size_takes_no_memory() {
    // The pickle claims to inflate to 4 GiB less one byte.
    let mut bytes = inflating(100);
    let entry = (0..bytes.len()).rfind(|&at| bytes[at..].starts_with(b"PK\x01\x02")).unwrap();
    bytes[entry + 24..entry + 28].copy_from_slice(&0xFFFF_FFFE_u32.to_le_bytes());
    let error = with(Limits::default().pickle_bytes(u64::MAX).inflation_ratio(u64::MAX), bytes)
        .map(drop)
        .unwrap_err();
    assert_eq!((error.kind(), error.record()), (ErrorKind::Malformed, Some("data.pkl")), "{error}");
}

#[test]
fn an_unused_record_is_never_inflated() {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let deflated = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    for (name, content) in
        [("data.pkl", good_pickle()), ("data/0", vec![0; 24]), ("unused", vec![0; 32 << 20])]
    {
        writer.start_file(format!("archive/{name}"), deflated).unwrap();
        writer.write_all(&content).unwrap();
    }
    assert!(with(Limits::default(), writer.finish().unwrap().into_inner()).is_ok());
}

#[test]
fn bytes_behind_the_pickles_end_are_ignored() {
    let padded = [good_pickle(), vec![0; 1000]].concat();
    assert!(with(Limits::default(), around(&padded)).is_ok());
    let alone = archive("archive", &[("data.pkl", b"\x80\x02N.")]);
    assert!(with(Limits::default(), alone).unwrap().root().is_none());
}

#[test]
fn views_that_are_small_each_and_large_together_are_refused() {
    let views = |shapes: &[i64]| {
        let view = |&size: &i64| tensor(&storage("0", 6), 0, &[size, 6], &[0, 1]);
        with(
            Limits::default(),
            around(&pickle(&[b"(", &shapes.iter().flat_map(view).collect::<Vec<_>>(), b"t"])),
        )
        .unwrap()
    };
    // 960 MB, which is less than the limit.
    views(&[40_000_000]).check_views().unwrap();
    // And the same view again and again.
    views(&[40_000_000; 100]).check_views().unwrap();
    let error = views(&[40_000_000, 40_000_001]).check_views().unwrap_err();
    assert_eq!(named(&error), "expanded_bytes");
}

/// As torch 0.3 saved views: each lies in all of one storage of a megabyte, and is fifteen times as large.
#[test]
fn parts_of_one_storage_are_stored_once() {
    let count = 1 << 18;
    let views = |views: usize| {
        let view = |place: usize| {
            let part = [b"(", text(&format!("part{place}")).as_slice(), &int(0), &int(count), b"t"].concat();
            let whole = storage("0", count);
            let part = [whole.strip_suffix(b"tQ").unwrap(), &part, b"tQ"].concat();
            tensor(&part, 0, &[15, count], &[0, 1])
        };
        let object = pickle(&[b"(", &(0..views).flat_map(view).collect::<Vec<_>>(), b"t"]);
        with(Limits::default(), stream(&object, &["0"], &[("0", 1 << 18, &vec![0; 1 << 20])])).unwrap()
    };
    views(60).check_views().unwrap();
    assert_eq!(named(&views(90).check_views().unwrap_err()), "expanded_bytes");
}
