//! Limits hold, name themselves, and can be raised.

use std::io::Write;

use ptser::{Checkpoint, Error, ErrorKind, Limits, LoadOptions, Reason};
use zip::write::SimpleFileOptions;

use crate::build::{archive, around, good_pickle, pickle, text};
use crate::fixtures;

fn with(limits: Limits, bytes: Vec<u8>) -> Result<Checkpoint, Error> {
    LoadOptions::new().limits(limits).from_bytes(bytes)
}

fn named(error: &Error) -> &'static str {
    match error.reason() {
        Reason::Limit { limit, .. } => limit,
        _ => panic!("{error}"),
    }
}

#[test]
fn each_limit_is_named_by_the_error_of_exceeding_it() {
    let bytes = || fixtures::bytes("many.pt");
    let error = |limits| with(limits, bytes()).map(drop).unwrap_err();
    let limits = Limits::default();
    assert_eq!(named(&error(limits.clone().pickle_bytes(1000))), "pickle_bytes");
    assert_eq!(named(&error(limits.clone().records(100))), "records");
    assert_eq!(named(&error(limits.clone().tensors_listed(199))), "tensors_listed");
    assert_eq!(named(&error(limits.clone().names_bytes(1000))), "names_bytes");
    assert!(with(limits.tensors_listed(200), bytes()).is_ok());
    let text = error(Limits::default().pickle_bytes(1000)).to_string();
    assert!(text.contains("Limits::pickle_bytes(..)") && text.contains("1000"), "{text}");
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
