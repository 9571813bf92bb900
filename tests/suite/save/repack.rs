//! Checkpoints that were read, saved again: with the options they were saved with, the same file; with others, the
//! same content.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use ptser::{ByteOrder, Checkpoint, Format, Globals, LoadOptions, SaveOptions};

use crate::{build, fixtures};

/// Files that no `torch.save` of today wrote as they stand: protocols 0 and 1, PyTorch of old, other packers, damage.
const OTHERS: [&str; 30] = [
    "conformance/gpu_tensors.pt",
    "conformance/header.pt",
    "conformance/many_devices.pt",
    "conformance/metadata_only.pt",
    "conformance/protocol0.pt",
    "conformance/python2_module.pt",
    "conformance/python2_text.pt",
    "conformance/storage_slice.pt",
    "conformance/utils.pt",
    "legacy/protocol1.pt",
    "legacy/python2.pt",
    "legacy/torch03_views.pt",
    "legacy/trailing.pt",
    "legacy/two.pt",
    "offsets/deflated.pt",
    "offsets/repacked.pt",
    "zip/comment.pt",
    "zip/deflated.pt",
    "zip/dtypes_big.pt",
    "zip/legacy_build.pt",
    "zip/mixed_deflate.pt",
    "zip/no_byteorder.pt",
    "zip/prefixed.pt",
    "zip/protocol1.pt",
    "zip/rebuild_v1.pt",
    "zip/torch113_layout.pt",
    "zip/torch16_layout.pt",
    "zip/trailing.pt",
    "zip/views_big.pt",
    "zip/with_dirs.pt",
];

/// The fixtures of some folders that open, but for TorchScript.
pub(super) fn files(folders: &[&str]) -> Vec<(String, PathBuf, Checkpoint)> {
    let mut files = Vec::new();
    for folder in folders {
        for entry in std::fs::read_dir(fixtures::folder().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{folder}/{}", path.file_name().unwrap().to_str().unwrap());
            if !name.ends_with(".pt") {
                continue;
            }
            let options = LoadOptions::new().globals(Globals::inert());
            if let Some(checkpoint) =
                options.open(&path).ok().filter(|checkpoint| checkpoint.format() != Format::TorchScript)
            {
                files.push((name, path, checkpoint));
            }
        }
    }
    files.sort_by(|(a, ..), (b, ..)| a.cmp(b));
    files
}

/// PyTorch reads this file, and writes no such: one storage under two types.
const TWO_TYPES: &str = "conformance/two_types.pt";

#[test]
fn pytorchs_files_are_the_same_when_they_are_saved_again() {
    let (mut same, mut others) = (0, Vec::new());
    for (name, path, checkpoint) in files(&["zip", "legacy", "save", "values", "conformance", "offsets"]) {
        let saved = SaveOptions::like(&checkpoint).and_then(|options| options.to_bytes(&checkpoint));
        if name == TWO_TYPES {
            assert!(saved.is_err());
        } else if saved.expect(&name) == std::fs::read(&path).unwrap() {
            same += 1;
        } else {
            others.push(name);
        }
    }
    assert_eq!(others, OTHERS);
    assert!(same > 200, "{same}");
}

/// Everything that a checkpoint says: its value as text, and each tensor with what it shares. Where storages are cut,
/// offsets are others.
pub(super) fn told(checkpoint: &Checkpoint, cut: bool) -> Vec<String> {
    let mut numbers = HashMap::new();
    let mut lines = Vec::new();
    for entry in checkpoint.entries() {
        let tensor = entry.tensor().unwrap();
        // Parts of storages, as torch 0.3 wrote them, become views of the whole.
        let (number, offset) = tensor.storage().map_or((None, 0), |storage| {
            let (whole, start) = storage.whole().unwrap_or((storage, 0));
            let next = numbers.len();
            let start = start as usize / tensor.dtype().element_size();
            (Some(*numbers.entry(whole.id()).or_insert(next)), start + tensor.storage_offset())
        });
        let (offset, location) = match tensor.storage() {
            Some(storage) if !cut => (Some(offset), Some(storage.location().to_string())),
            _ => (None, None),
        };
        lines.push(format!(
            "{} {} {:?} {:?} {offset:?} {number:?} {location:?} {} {} {} {} {:?} {}",
            entry.name(),
            tensor.dtype(),
            tensor.shape(),
            tensor.stride(),
            tensor.requires_grad(),
            tensor.is_parameter(),
            tensor.is_conj(),
            tensor.is_neg(),
            tensor.layout(),
            tensor.to_contiguous().map_or_else(|_| "no bytes".into(), |bytes| crate::support::sha256(&bytes)),
        ));
    }
    lines.push(checkpoint.root().to_string());
    lines
}

pub(super) fn reopened(name: &str, bytes: Vec<u8>) -> Checkpoint {
    LoadOptions::new().globals(Globals::inert()).from_bytes(bytes).expect(name)
}

/// Files with nested tensors, or with tensors that are cast while they are loaded.
const NEED_DATA_AT_ONCE: [&str; 2] = ["values/devices.pt", "values/nested.pt"];

fn check_content(variants: &[(&str, SaveOptions)], cut: bool) {
    let mut checked = 0;
    for (name, _, checkpoint) in files(&["zip", "legacy", "values", "conformance"]) {
        if name == TWO_TYPES {
            continue;
        }
        let before = told(&checkpoint, cut);
        for (variant, options) in variants {
            let saved = match options.to_bytes(&checkpoint) {
                // Streams hold their data where PyTorch reads it too late for what these files do with it.
                Err(error) if NEED_DATA_AT_ONCE.contains(&name.as_str()) => {
                    assert!(
                        error.to_string().contains("save as a zip archive"),
                        "{name} as {variant}: {error}"
                    );
                    continue;
                }
                saved => saved.unwrap_or_else(|error| panic!("{name}: {error}")),
            };
            let after = told(&reopened(&name, saved), cut);
            for (before, after) in before.iter().zip(&after) {
                assert_eq!(before, after, "{name} as {variant}");
            }
            assert_eq!(before.len(), after.len(), "{name} as {variant}");
            checked += 1;
        }
    }
    assert!(checked > 100 * variants.len(), "{checked}");
}

#[test]
fn saved_with_any_options_the_content_is_the_same() {
    let new = SaveOptions::new;
    let legacy = || new().format(Format::Legacy).unwrap();
    check_content(
        &[
            ("default", new()),
            ("protocol 3", new().protocol(3).unwrap()),
            ("protocol 4", new().protocol(4).unwrap()),
            ("protocol 5", new().protocol(5).unwrap().alignment(1)),
            ("legacy", legacy()),
            ("legacy of protocol 4", legacy().protocol(4).unwrap()),
            ("big-endian", new().byte_order(ByteOrder::Big)),
        ],
        false,
    );
}

#[test]
fn saved_compactly_the_content_is_the_same() {
    let legacy = SaveOptions::new().format(Format::Legacy).unwrap();
    check_content(&[("zip", SaveOptions::new().compact(true)), ("legacy", legacy.compact(true))], true);
}

#[test]
fn torchscript_is_not_saved() {
    let folder = fixtures::folder().join("torchscript");
    let checkpoint = Checkpoint::open(Path::new(&folder).join("traced.pt")).unwrap();
    assert_eq!(SaveOptions::like(&checkpoint).expect_err("options").kind(), ptser::ErrorKind::Unsupported);
}

/// A stream within a value of a stream has keys of its own, which may be those of the outer one.
#[test]
fn storages_of_one_key_in_two_streams_stay_two() {
    let of = |first: f32| [first, first + 1.0].map(f32::to_le_bytes).concat();
    let tensor = build::tensor(&build::storage("0", 2), 0, &[2], &[1]);
    let inner = build::stream(&build::pickle(&[&build::storage("0", 2)]), &["0"], &[("0", 2, &of(7.0))]);
    let latin1: String = inner.iter().map(|&byte| char::from(byte)).collect();
    let bytes = build::call("_codecs.encode", &[&build::text(&latin1), &build::text("latin1")]);
    let loaded = build::call("torch.storage._load_from_bytes", &[&bytes]);
    let outer = build::pickle(&[b"](", &tensor, &loaded, b"e"]);
    let checkpoint = reopened("outer", build::stream(&outer, &["0"], &[("0", 2, &of(1.0))]));
    for format in [Format::Zip, Format::Legacy] {
        let saved = SaveOptions::new().format(format).unwrap().to_bytes(&checkpoint).unwrap();
        let again = reopened("again", saved);
        let found: Vec<Vec<u8>> = again.storages().iter().map(|storage| storage.to_vec().unwrap()).collect();
        assert_eq!(found, [of(1.0), of(7.0)], "{format:?}");
    }
}

/// PyTorch takes `torch` and `cuda.FloatStorage` for `torch.cuda.FloatStorage`; CPython writes the module that it is in.
#[test]
fn a_name_that_is_divided_elsewhere_is_written_with_its_module() {
    let storage = build::storage("0", 6);
    let found = storage.windows(19).position(|bytes| bytes == b"ctorch\nFloatStorage").unwrap();
    let (before, behind) = (&storage[..found], &storage[found + 19..]);
    let tensor = |class: &[u8]| build::tensor(&[before, class, behind].concat(), 0, &[6], &[1]);
    let [wrong, right] = [b"ctorch\ncuda.FloatStorage".as_slice(), b"ctorch.cuda\nFloatStorage"]
        .map(|class| reopened("divided", build::around(&build::pickle(&[&tensor(class)]))));
    for format in [Format::Zip, Format::Legacy] {
        for protocol in 2..=5 {
            let options = SaveOptions::new().format(format).unwrap().protocol(protocol).unwrap();
            let saved = options.to_bytes(&wrong).unwrap();
            assert!(saved == options.to_bytes(&right).unwrap(), "{format:?} {protocol}");
            assert_eq!(reopened("again", saved).tensor("").unwrap().shape(), [6]);
        }
    }
}
