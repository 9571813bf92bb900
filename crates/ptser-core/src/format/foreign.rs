//! What a file is that is no checkpoint, and what to do about it. Each message names the file and the way out.

use std::collections::BTreeSet;
use std::io::Read;

use super::legacy::LegacyStream;
use crate::archive;
use crate::error::{Error, Reason, printable};
use crate::limits::Limits;
use crate::source::{Cursor, MemorySource, Source};
use crate::storage::fill_vec;
use crate::tar;

/// Where the bytes stand, what they are, and what they say.
const KNOWN: &[(usize, &[u8], &str)] = &[
    // Models and arrays of others.
    (0, b"\x89HDF\r\n\x1a\n", "this is an HDF5 file, such as Keras writes; PyTorch cannot load it either"),
    (0, b"GGUF", "this is a GGUF file for llama.cpp"),
    (0, b"\x93NUMPY", "this is a NumPy array (.npy); read it with numpy.load"),
    (4, b"TFL3", "this is a TensorFlow Lite model (.tflite); PyTorch cannot load it either"),
    (
        4,
        b"PTMF",
        "this is a TorchScript program for mobile; save it with torch.jit.save and not for the lite interpreter",
    ),
    (
        4,
        b"ET12",
        "this is an ExecuTorch program (.pte); its weights are compiled in, go back to the checkpoint it was made from",
    ),
    (
        8,
        b"\x03\0\0\0V 1",
        "this is a file of Lua Torch (.t7); convert it in Python with the package torchfile",
    ),
    (
        0,
        b"PYTORCH1",
        "this archive format is of a preview release before torch 1.6, which nobody reads any more",
    ),
    // Wrappings.
    (0, b"\x28\xb5\x2f\xfd", "this is compressed by zstd; unpack it first (unzstd)"),
    (0, b"\xfd7zXZ\0", "this is compressed by xz; unpack it first (unxz; a .tar.xz with tar xJf)"),
    (0, b"BZh", "this is compressed by bzip2; unpack it first (bunzip2; a .tar.bz2 with tar xjf)"),
    (0, b"\x04\x22\x4d\x18", "this is compressed by lz4; unpack it first (unlz4)"),
    (0, b"7z\xbc\xaf\x27\x1c", "this is a 7z archive; unpack it first (7z x)"),
    (0, b"Rar!\x1a\x07", "this is a RAR archive; unpack it first (unrar x)"),
    (0, b"PK\x05\x06", "this is a zip archive without records; whatever was to be packed is not in it"),
    // Damage of transfers that take bytes for text.
    (
        0,
        b"\x80\x02\x8a\x0d\x0a\x6c\xfc\x9c",
        "this was a legacy checkpoint, and its line ends were changed on the way; transfer it as binary",
    ),
    (
        0,
        b"\xc2\x80\x02\xc2\x8a",
        "this was a legacy checkpoint, and was recoded to UTF-8 on the way; transfer it as binary",
    ),
    (0, b"\xef\xbf\xbd", "its bytes were recoded as text, and are lost; download it again as binary"),
    // Anything else that gets a wrong name.
    (0, b"\x89PNG\r\n\x1a\n", "this is a picture (PNG); the checkpoint is another file"),
    (0, b"\xff\xd8\xff", "this is a picture (JPEG); the checkpoint is another file"),
    (0, b"%PDF-", "this is a PDF document; the checkpoint is another file"),
    (0, b"\x7fELF", "this is a program or library for Linux; the checkpoint is another file"),
    (78, b"This program cannot be run", "this is a program for Windows; the checkpoint is another file"),
    (0, b"<!doctype html", "this is a web page; the download needs another address, or a login"),
    (0, b"<html", "this is a web page; the download needs another address, or a login"),
    (
        0,
        b"<?xml",
        "this is XML, such as a server's error message; the download needs another address, or a login",
    ),
];

/// What begins a file that is no checkpoint, where that is known.
pub(super) fn name(head: &[u8], source: &dyn Source) -> Option<String> {
    if head.is_empty() {
        return Some("the file is empty; download it again".into());
    }
    if head.iter().all(|&byte| byte == 0) {
        return Some(
            "the file begins with zeros only; it was reserved and never written, download it again".into(),
        );
    }
    if head.starts_with(b"\x1f\x8b") {
        return Some(gzip(source));
    }
    let text = head.trim_ascii_start();
    if let Some(pointer) = text.strip_prefix(b"version https://git-lfs.github.com/spec/") {
        return Some(lfs_pointer(pointer));
    }
    if text.starts_with(b"{") || text.starts_with(b"[") {
        return Some(json(text, source));
    }
    let known = KNOWN.iter().find(|(at, magic, _)| {
        let is_there = |from: &[u8], same: fn(&[u8], &[u8]) -> bool| {
            from.get(*at..).and_then(|rest| rest.get(..magic.len())).is_some_and(|found| same(found, magic))
        };
        // Markup may stand behind blanks, in either case.
        is_there(head, <[u8]>::eq) || magic.starts_with(b"<") && is_there(text, <[u8]>::eq_ignore_ascii_case)
    });
    known.map(|(_, _, what)| (*what).to_owned()).or_else(|| protobuf(head).map(str::to_owned))
}

/// What a file is that nothing was recognised in.
pub(super) fn unknown(head: &[u8]) -> String {
    match excerpt(head) {
        Some(text) => format!(
            "this is text that begins with {text:?}, perhaps an error message of the server; download it again"
        ),
        None => {
            "its first bytes are those of no format that is known here; it may be damaged from the start on"
                .into()
        }
    }
}

/// The beginning of text; `None` where it is none.
fn excerpt(head: &[u8]) -> Option<String> {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // A character may be cut by the end of the head.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(head.get(..error.valid_up_to())?).ok()?
        }
        Err(_) => return None,
    };
    let plain = |char: char| !char.is_control() || matches!(char, '\n' | '\r' | '\t');
    let text = text.trim();
    if text.is_empty() || !text.chars().all(plain) {
        return None;
    }
    Some(text.chars().take(EXCERPT).collect())
}

const EXCERPT: usize = 60;

/// Says what is in a file that gzip compressed, as far as its first bytes tell.
fn gzip(source: &dyn Source) -> String {
    let mut head = Vec::new();
    // A short or damaged file gives less.
    let _ = flate2::read::GzDecoder::new(Cursor::new(source)).take(HEAD).read_to_end(&mut head);
    let inside = if tar::begins(&head) {
        return "this is a tar archive compressed by gzip (.tar.gz); unpack it first (tar xzf)".into();
    } else if head.starts_with(b"PK\x03\x04") {
        ", and what is inside begins like a checkpoint of torch 1.6 or later"
    } else if matches!(LegacyStream::begins(&MemorySource(head.as_slice()), 0), Ok(true)) {
        ", and what is inside begins like a checkpoint of torch before 1.6"
    } else if head.starts_with(b"\x80") {
        ", and what is inside begins like a pickle"
    } else {
        ""
    };
    format!("this is compressed by gzip{inside}; unpack it first (gunzip)")
}

/// Bytes that tell what a stream is.
const HEAD: u64 = 4096;

fn lfs_pointer(pointer: &[u8]) -> String {
    let text = String::from_utf8_lossy(pointer);
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("?").trim();
    format!(
        "this is a Git-LFS pointer, which stands for a file of {} bytes ({}); fetch it with `git lfs pull`",
        field("size "),
        field("oid ")
    )
}

/// The largest index that is looked into.
const INDEX_MAX: u64 = 16 << 20;

fn json(head: &[u8], source: &dyn Source) -> String {
    let len = usize::try_from(source.size().min(INDEX_MAX)).unwrap_or(0);
    let whole = fill_vec(len, |buf| Ok(source.read_uninit_at(buf, 0)?)).unwrap_or_default();
    let shards = shards(&String::from_utf8_lossy(&whole));
    if shards.is_empty() {
        let begin = excerpt(head).map(|text| format!(" that begins with {text:?}")).unwrap_or_default();
        return format!(
            "this is JSON text{begin}, perhaps a configuration or an error message of the server"
        );
    }
    format!(
        "this is the index of a model in {} files beside it: open {}",
        shards.len(),
        few(shards.iter().map(String::as_str), shards.len())
    )
}

/// The files that the `weight_map` of an index names.
fn shards(json: &str) -> BTreeSet<String> {
    let Some((_, map)) = json.split_once("\"weight_map\"") else { return BTreeSet::new() };
    let map = map.split_once('}').map_or(map, |(map, _)| map);
    // Between quotes: a key, a colon, a value, a comma.
    let strings = map.split('"').skip(1).step_by(2);
    strings.skip(1).step_by(2).map(str::to_owned).collect()
}

/// A model that is one message of protobuf: tells from its first fields whose.
fn protobuf(head: &[u8]) -> Option<&'static str> {
    // Field 1, a small number: the version of the format.
    if let [0x08, 1..=0x7F, rest @ ..] = head {
        let (tag, len, content) = field(rest)?;
        // ONNX: the producer's name or version, its domain, or the graph.
        let named = len <= 64
            && content.iter().take(usize::try_from(len).ok()?).all(|byte| matches!(byte, b' '..=b'~'));
        return match (tag, content.first()?) {
            (0x3A, 0x0A | 0x12) => Some(ONNX),
            (0x12 | 0x1A | 0x22, _) if named => Some(ONNX),
            (0x12, 0x0A) => Some(
                "this is a saved_model.pb of TensorFlow or a Core ML model; PyTorch cannot load it either",
            ),
            _ => None,
        };
    }
    // A list of nodes, each of which begins with its name and its operation.
    let (0x0A, _, node) = field(head)? else { return None };
    let (0x0A, len, name) = field(node)? else { return None };
    let name_len = usize::try_from(len).ok()?;
    let (0x12, len, operation) = field(name.get(name_len..)?)? else { return None };
    let operation = operation.get(..usize::try_from(len).ok()?)?;
    let text = |bytes: &[u8]| !bytes.is_empty() && bytes.iter().all(|byte| matches!(byte, b'!'..=b'~'));
    (text(name.get(..name_len)?) && text(operation))
        .then_some("this is a graph of TensorFlow (.pb); PyTorch cannot load it either")
}

const ONNX: &str =
    "this is an ONNX model; its weights are read by the package onnx, and PyTorch cannot load it either";

/// The tag of a field with a length, that length, and what follows.
fn field(bytes: &[u8]) -> Option<(u8, u64, &[u8])> {
    let (&tag, mut rest) = bytes.split_first()?;
    let mut len = 0_u64;
    for shift in (0..35).step_by(7) {
        let (&byte, behind) = rest.split_first()?;
        rest = behind;
        len |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Some((tag, len, rest));
        }
    }
    None
}

/// What tells a kind of zip archive by its records.
type IsOne = fn(&Names<'_>) -> bool;

/// Zip archives of others, and what to do with them.
const ARCHIVES: &[(IsOne, &str)] = &[
    (
        |names| !names.0.is_empty() && names.0.iter().all(|name| name.ends_with(".npy")),
        "NumPy arrays (.npz); read them with numpy.load",
    ),
    (
        |names| names.has("config.json") && names.has("metadata.json") && names.has("model.weights.h5"),
        "a Keras model (.keras); PyTorch cannot load it either",
    ),
    (|names| names.has("saved_model.pb"), "a SavedModel of TensorFlow; PyTorch cannot load it either"),
    (
        |names| names.has("com.apple.CoreML/model.mlmodel"),
        "a Core ML package (.mlpackage); PyTorch cannot load it either",
    ),
    (|names| names.has("[Content_Types].xml"), "an office document; the checkpoint is another file"),
];

/// The names of all records.
struct Names<'n>(Vec<&'n str>);

impl Names<'_> {
    /// Whether a record has this name at the top or in any folder.
    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|full| {
            full.strip_suffix(name).is_some_and(|folder| folder.is_empty() || folder.ends_with('/'))
        })
    }
}

/// Why a zip archive is no checkpoint: `otherwise`, unless its records tell more.
pub(super) fn archive_error(source: &dyn Source, limits: &Limits, otherwise: Error) -> Error {
    let Ok(names) = archive::names(source, limits) else { return otherwise };
    let files = Names(names.iter().map(String::as_str).filter(|name| !name.ends_with('/')).collect());
    match archive_found(&files) {
        Some(found) => Reason::NotACheckpoint { found }.into(),
        None => otherwise,
    }
}

fn archive_found(names: &Names<'_>) -> Option<String> {
    if let Some((_, what)) = ARCHIVES.iter().find(|(is, _)| is(names)) {
        return Some(format!("this is a zip archive of {what}"));
    }
    let mut pickles = names.0.iter().filter(|name| Names(vec![name]).has("data.pkl"));
    if let Some(pickle) = pickles.next() {
        // In a folder of its own it is a checkpoint, damaged or one of several.
        return (pickle.split('/').count() != 2).then(|| {
            format!(
                "this is a zip archive whose data.pkl lies at {:?}, and a checkpoint has it in one folder at the \
                 top: it was packed again otherwise; pack the folder that holds data.pkl, by its name",
                printable(pickle)
            )
        });
    }
    let checkpoints: Vec<&str> = names.0.iter().copied().filter(|name| is_checkpoint(name)).collect();
    if !checkpoints.is_empty() {
        let few = few(checkpoints.iter().copied(), checkpoints.len());
        return Some(format!("this is a zip archive that holds {few}; unpack it first (unzip)"));
    }
    // What only lacks its pickle was a checkpoint.
    let is_record = |name: &&str| match name.rsplit_once('/') {
        Some((folder, key)) if folder.ends_with("/data") => key.bytes().all(|byte| byte.is_ascii_digit()),
        Some((_, name)) => ["version", "byteorder"].contains(&name),
        None => false,
    };
    if names.0.iter().any(is_record) {
        return None;
    }
    Some(match names.0.len() {
        0 => "this is a zip archive without files; whatever was to be packed is not in it".into(),
        len => format!(
            "this is a zip archive without a checkpoint; it holds {}",
            few(names.0.iter().copied(), len)
        ),
    })
}

/// Whether a record is named like a checkpoint.
fn is_checkpoint(name: &str) -> bool {
    let endings = [".pt", ".pth", ".bin", ".ckpt", ".safetensors"];
    endings.iter().any(|ending| name.to_ascii_lowercase().ends_with(ending))
}

/// The first names of a list, and how many more there are.
fn few<'n>(names: impl Iterator<Item = &'n str>, len: usize) -> String {
    const SHOWN: usize = 4;
    let shown: Vec<String> =
        names.take(SHOWN).map(|name| printable(&name.chars().take(EXCERPT).collect::<String>())).collect();
    let more = len.saturating_sub(shown.len());
    let shown = shown.join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

/// Why a tar archive is no checkpoint: one of torch 0.1 has at least one of these members.
pub(super) fn tar_error(names: &[&str], otherwise: Error) -> Error {
    if names.iter().any(|name| ["storages", "tensors", "pickle", "sys_info"].contains(name)) {
        return otherwise;
    }
    let found = match names.len() {
        0 => "this is a tar archive without files; whatever was to be packed is not in it".into(),
        len => format!(
            "this is a tar archive that holds {}; unpack it first (tar xf)",
            few(names.iter().copied(), len)
        ),
    };
    Reason::NotACheckpoint { found }.into()
}
