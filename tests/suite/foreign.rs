//! What is no checkpoint is called by its name, and the message says what to do.

use std::path::PathBuf;

use ptser::{Checkpoint, Error, ErrorKind, Reason};
use serde_json::Value as Json;

use crate::build::{archive, around, good_pickle};
use crate::fixtures;

fn path(name: &str) -> PathBuf {
    fixtures::folder().join("foreign").join(name)
}

fn refuse(bytes: &[u8]) -> Error {
    Checkpoint::from_bytes(bytes.to_vec()).map(drop).unwrap_err()
}

fn check(name: &str, error: &Error, words: &[&str]) {
    assert_eq!(error.kind(), ErrorKind::Malformed, "{name}: {error}");
    assert!(matches!(error.reason(), Reason::NotACheckpoint { .. }), "{name}: {error}");
    let message = error.to_string();
    assert!(!message.contains(char::is_control), "{name}: {message:?}");
    for word in words {
        assert!(message.contains(word), "{name}: {word:?} is not in {message:?}");
    }
}

#[test]
fn files_of_other_writers_are_named() {
    let json = std::fs::read(path("expected.json")).unwrap();
    let Ok(Json::Object(files)) = serde_json::from_slice(&json) else { panic!("expected.json") };
    assert!(files.len() > 30);
    for (name, words) in files {
        let words: Vec<&str> = words.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
        let error = Checkpoint::open(path(&name)).map(drop).unwrap_err();
        assert_eq!(error.file(), Some(path(&name).as_path()));
        check(&name, &error, &words);
        // A scan finds nothing else in it.
        let error = Checkpoint::unsafe_globals(path(&name)).unwrap_err();
        check(&name, &error, &words);
    }
}

#[test]
fn the_first_bytes_of_others_are_known() {
    let program = [b"MZ".as_slice(), &[0; 76], b"This program cannot be run in DOS mode.\r\r\n$"].concat();
    for (bytes, words) in [
        (b"".as_slice(), ["empty", "again"]),
        (&[0; 4096], ["zeros", "again"]),
        (b"<!DOCTYPE html><html>404</html>", ["web page", "login"]),
        (b"\n <HTML><head>", ["web page", "login"]),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1234\n",
            ["1234 bytes", "git lfs pull"],
        ),
        (b"\x89HDF\r\n\x1a\n....", ["HDF5", "Keras"]),
        (b"GGUF\x03\0\0\0", ["GGUF", "llama.cpp"]),
        (b"\x93NUMPY\x01\0", ["NumPy", "numpy.load"]),
        (b"\x1f\x8b\x08\0\0\0", ["gzip", "gunzip"]),
        (b"\x28\xb5\x2f\xfd\x24", ["zstd", "unzstd"]),
        (b"\x04\x22\x4d\x18\x60", ["lz4", "unlz4"]),
        (b"Rar!\x1a\x07\x01\0", ["RAR", "unrar"]),
        (b"7z\xbc\xaf\x27\x1c\0\x04", ["7z", "unpack"]),
        (b"\x1c\0\0\0TFL3\x14\0\x20\0", ["TensorFlow Lite", "cannot"]),
        (b"\x1c\0\0\0PTMF\x14\0\x20\0", ["TorchScript", "mobile"]),
        (b"\x1c\0\0\0ET12\x14\0\x20\0", ["ExecuTorch", "compiled"]),
        (b"\x04\0\0\0\x01\0\0\0\x03\0\0\0V 1\x11\0\0\0torch.FloatTensor", ["Lua", "torchfile"]),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", ["PNG", "another file"]),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", ["JPEG", "another file"]),
        (b"%PDF-1.7\n", ["PDF", "another file"]),
        (b"\x7fELF\x02\x01\x01\0", ["Linux", "another file"]),
        (&program, ["Windows", "another file"]),
        (b"{\"error\": \"not found\"}", ["JSON", "not found"]),
        (b"Repository not found", ["text", "Repository not found"]),
        ("Zugriff verweigert: für Sie gesperrt".as_bytes(), ["text", "für Sie"]),
        (b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", ["without records", "packed"]),
        (b"PYTORCH1", ["preview", "torch 1.6"]),
        (b"\x01\x02\x03\x04", ["no format", "damaged"]),
        (b"\x08", ["no format", "damaged"]),
        (b"\x08\x01\x12", ["no format", "damaged"]),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff", ["no format", "damaged"]),
    ] {
        check(&String::from_utf8_lossy(&bytes[..bytes.len().min(20)]), &refuse(bytes), &words);
    }
}

#[test]
fn an_archive_behind_anything_is_still_an_archive() {
    let good = around(&good_pickle());
    for before in [b"\x7fELF\x02\x01\x01\0".as_slice(), b"\x89PNG\r\n\x1a\n", b"{\"a\": 1}", b"some text"] {
        let checkpoint = Checkpoint::from_bytes([before, &good].concat()).unwrap();
        assert_eq!(checkpoint.archive_offset(), u64::try_from(before.len()).unwrap());
    }
}

#[test]
fn an_archive_that_lacks_its_pickle_lacks_a_record() {
    for record in [("version", b"3\n".as_slice()), ("data/0", &[0; 24]), ("byteorder", b"little")] {
        let error = refuse(&archive("archive", &[record]));
        assert!(matches!(error.reason(), Reason::MissingRecord { name } if name == "data.pkl"), "{error}");
    }
}

#[test]
fn names_from_a_file_are_shown_on_one_line_and_not_at_length() {
    let long = format!("x{}.pt", "y".repeat(5000));
    let records: [(&str, &[u8]); 2] = [("a\nb\x1b[31m.pt", b""), (&long, b"")];
    let message = refuse(&archive("folder", &records)).to_string();
    assert!(message.len() < 400 && !message.contains(char::is_control), "{message:?}");
    let index = format!("{{\"weight_map\": {{\"w\": \"a\x1b{}\"}}}}", "z".repeat(5000));
    let message = refuse(index.as_bytes()).to_string();
    assert!(message.len() < 400 && !message.contains(char::is_control), "{message:?}");
}
