//! Strings of Python 2 are what PyTorch makes of them under each encoding.

use std::path::PathBuf;

use ptser::{Checkpoint, Encoding, Error, ErrorKind, LoadOptions, ValueKind};
use serde_json::Value as Json;

use crate::build::{around, dict_of, tensor};
use crate::fixtures::{self, expected_in};
use crate::support::sha256;
use crate::tree::check_value;

fn path(name: &str) -> PathBuf {
    fixtures::folder().join("python2").join(name)
}

fn open(name: &str, encoding: Encoding) -> Result<Checkpoint, Error> {
    LoadOptions::new().encoding(encoding).open(path(name))
}

#[test]
fn every_encoding_gives_what_pytorch_finds_with_it() {
    let files = expected_in("python2");
    assert_eq!(files.len(), 11);
    let mut failed = 0;
    for (file, expected) in files {
        for encoding in Encoding::ALL {
            let place = format!("{file} as {encoding}");
            let expected_here = &expected["encodings"][encoding.name()];
            let opened = open(&file, encoding);
            if expected_here.is_null() {
                failed += 1;
                let error = opened.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Malformed, "{place}: {error}");
                let message = error.to_string();
                assert!(message.contains(&format!("is not {encoding}: its byte")), "{place}: {error}");
                assert!(error.offset().is_some(), "{place}: {error}");
                continue;
            }
            let checkpoint = opened.expect(&place);
            assert_eq!(checkpoint.format().name(), expected["format"], "{place}");
            check_value(&place, &checkpoint, &expected_here["value"]);
            let tensors = checkpoint.tensors();
            let hashes: Vec<Json> =
                tensors.map(|(_, tensor)| sha256(&tensor.to_contiguous().unwrap()).into()).collect();
            assert_eq!(Json::from(hashes), expected_here["tensors"], "{place}");
        }
    }
    assert!(failed > 10, "{failed}");
}

#[test]
fn the_default_is_text_where_it_is_text_and_bytes_where_it_is_not() {
    let checkpoint = Checkpoint::open(path("raw_protocol2.pkl")).unwrap();
    let kind = |key: &str| checkpoint.root().get(key).unwrap().kind();
    assert!(matches!(kind("name"), ValueKind::Str("plain")));
    assert!(matches!(kind("all"), ValueKind::Bytes(bytes) if bytes.len() == 256));
    assert!(matches!(kind("surrogate"), ValueKind::Bytes(b"\xed\xa0\x80")));
}

#[test]
fn keys_that_are_bytes_are_spelled_as_in_python() {
    let checkpoint = open("stream.pt", Encoding::Bytes).unwrap();
    assert_eq!(checkpoint.tensors().next().unwrap().0, "b'weight'");
    let whole = checkpoint.tensor("b'tail'").unwrap().storage().unwrap().whole();
    assert_eq!(whole.map(|(whole, start)| (whole.key(), start)), Some(("94000", 4)));
}

/// PyTorch looks for the record `data/b'0'`.
#[test]
fn keys_and_locations_of_storages_in_an_archive_may_be_bytes() {
    let pid = b"(U\x07storagectorch\nFloatStorage\nU\x010U\x06cuda:1K\x06tQ".as_slice();
    let bytes = around(&dict_of("w", &tensor(pid, 0, &[6], &[1])));
    let checkpoint = LoadOptions::new().encoding(Encoding::Bytes).from_bytes(bytes).unwrap();
    assert_eq!(checkpoint.storages()[0].location().as_str(), "cuda:1");
    assert_eq!(checkpoint.tensor("w").unwrap().to_contiguous().unwrap().len(), 24);
}

#[test]
fn a_string_that_does_not_fit_is_told_with_its_byte_and_what_to_do() {
    for (encoding, opcodes, byte) in [
        (Encoding::Ascii, b"U\x03ab\xe9".as_slice(), "byte 2 is 0xe9"),
        (Encoding::Ascii, b"T\x03\0\0\0\xe9ab", "byte 0 is 0xe9"),
        (Encoding::Utf8, b"S'ab\\xe9c'\n", "byte 2 is 0xe9"),
        (Encoding::Utf8, b"U\x03\xed\xa0\x80", "byte 0 is 0xed"),
    ] {
        let bytes = around(&dict_of("w", opcodes));
        let error = LoadOptions::new().encoding(encoding).from_bytes(bytes).unwrap_err();
        assert_eq!((error.record(), error.offset()), (Some("data.pkl"), Some(9)), "{error}");
        for word in [byte, encoding.name(), "latin1", "bytes"] {
            assert!(error.to_string().contains(word), "{word}: {error}");
        }
    }
}

#[test]
fn names_of_encodings_are_pythons() {
    for encoding in Encoding::ALL {
        assert_eq!(encoding.name().parse::<Encoding>().unwrap(), encoding);
    }
    for (name, encoding) in [
        ("UTF-8", Encoding::Utf8),
        ("utf_8", Encoding::Utf8),
        ("latin-1", Encoding::Latin1),
        ("ISO-8859-1", Encoding::Latin1),
        ("US-ASCII", Encoding::Ascii),
    ] {
        assert_eq!(name.parse::<Encoding>().unwrap(), encoding, "{name}");
    }
    let error = "rot13".parse::<Encoding>().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misuse);
    assert!(error.to_string().contains("latin1"), "{error}");
}
