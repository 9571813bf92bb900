//! `ptser convert`: the same values in another format, as PyTorch and safetensors have them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use common::{command, damaged, folder, json, names, own, rewrite, stdout, tensors, unreadable, zip};
use ptser::{DType, Location, SaveOptions, StateDict, Storage, Tensor};
use serde_json::{Value, json};

fn convert(input: &Path, output: &Path, options: &[&str]) -> String {
    stdout(&rewrite("convert", input, output, options)).to_owned()
}

/// The header of a safetensors file.
fn header(file: &Path) -> Value {
    let bytes = fs::read(file).unwrap();
    let (length, rest) = bytes.split_first_chunk::<8>().unwrap();
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap();
    assert_eq!(length % 8, 0);
    serde_json::from_slice(&rest[..length]).unwrap()
}

fn storages(file: &Path) -> BTreeMap<String, String> {
    let found = json("ls", file, &[]);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    found["tensors"].as_array().unwrap().iter().map(|t| (text(&t["name"]), text(&t["storage"]))).collect()
}

#[test]
fn safetensors_files_are_those_that_the_library_writes() {
    let scratch = tempfile::tempdir().unwrap();
    let output = scratch.path().join("out.safetensors");
    let line = convert(&own("plain.pt"), &output, &[]);
    assert!(line.starts_with("22 tensors, 1.9 kB in 1 file: "), "{line}");
    assert!(fs::read(&output).unwrap() == fs::read(own("plain.safetensors")).unwrap());
    assert_eq!(names(scratch.path()), ["out.safetensors"]);
}

#[test]
fn values_survive_the_way_there_and_back() {
    let scratch = tempfile::tempdir().unwrap();
    let (there, back) = (scratch.path().join("there.safetensors"), scratch.path().join("back.bin"));
    for input in [own("plain.pt"), zip("state_dict.pt"), zip("shared.pt"), zip("params.pt")] {
        convert(&input, &there, &[]);
        convert(&there, &back, &[]);
        assert_eq!(tensors(&back, &[]), tensors(&input, &[]), "{}", input.display());
        assert_eq!(json("info", &back, &[])["root"]["type"], "collections.OrderedDict");
    }
}

/// What safetensors cannot hold (`complex128`, sparse, quantized, meta tensors) is told before anything is written;
/// everything else keeps its values, strided and big-endian tensors too.
#[test]
fn every_file_converts_or_names_the_tensor_that_does_not() {
    let scratch = tempfile::tempdir().unwrap();
    let output = scratch.path().join("out.safetensors");
    let mut refused = BTreeSet::new();
    for name in names(&folder("../../tests/fixtures/zip")) {
        let input = zip(&name);
        if !name.ends_with(".pt")
            || ["values_empty_bytes.pt", "root_tensor.pt", "values.pt"].contains(&&*name)
        {
            continue;
        }
        let done = rewrite("convert", &input, &output, &[]);
        if !done.status.success() {
            let message = unreadable(&done);
            assert!(
                message.contains(": tensor ") && message.contains("write a .pt file"),
                "{name}: {message}"
            );
            assert!(!output.exists());
            refused.insert(name);
            continue;
        }
        let left_out = stdout(&done).contains("left out");
        let (found, all) = (tensors(&output, &[]), tensors(&input, &[]));
        let values = |found: &BTreeMap<_, _>| found.values().map(|v| format!("{v:?}")).collect();
        let (found, all): (BTreeSet<String>, BTreeSet<String>) = (values(&found), values(&all));
        assert!(!found.is_empty() && found.is_subset(&all), "{name}");
        assert!(left_out || found == all, "{name}");
        fs::remove_file(&output).unwrap();
    }
    let expected: BTreeSet<String> = ["conj_neg", "dtypes", "dtypes_big", "meta", "quantized", "sparse"]
        .into_iter()
        .map(str::to_owned)
        .chain((1..=5).map(|protocol| format!("protocol{protocol}")))
        .map(|stem| stem + ".pt")
        .collect();
    assert_eq!(refused, expected);
}

#[test]
fn casts_are_pytorchs_and_leave_other_types_alone() {
    let scratch = tempfile::tempdir().unwrap();
    for dtype in ["float64", "float32", "float16", "bfloat16"] {
        let torch = tensors(&own(&format!("casts_{dtype}.pt")), &[]);
        assert_eq!(torch.len(), 11);
        for extension in ["pt", "safetensors"] {
            let output = scratch.path().join("out").with_extension(extension);
            convert(&own("casts.pt"), &output, &["--dtype", dtype]);
            assert_eq!(tensors(&output, &[]), torch, "{dtype}, {extension}");
        }
    }
}

#[test]
fn what_shared_a_storage_shares_one_after_a_cast() {
    let scratch = tempfile::tempdir().unwrap();
    let output = scratch.path().join("out.pt");
    convert(&own("casts.pt"), &output, &["--dtype", "bfloat16"]);
    let found = storages(&output);
    assert_eq!(found["grid"], found["transposed"]);
    assert_eq!(found["grid"], found["column"]);
    assert_eq!(found.values().collect::<BTreeSet<_>>().len(), 9);
    let described = json("ls", &output, &[]);
    let transposed = described["tensors"].as_array().unwrap().iter().find(|t| t["name"] == "transposed");
    assert_eq!(transposed.unwrap()["stride"], json!([1, 8]));
}

#[test]
fn names_stay_in_their_order() {
    let scratch = tempfile::tempdir().unwrap();
    let output = scratch.path().join("out.pt");
    convert(&own("training.pt"), &output, &[]);
    let found = json("ls", &output, &[]);
    let found = found["tensors"].as_array().unwrap().iter().map(|tensor| tensor["name"].as_str().unwrap());
    // The first, the third and the last share a storage.
    let expected = ["embed.weight", "block.weight", "head.weight", "first_row"];
    assert_eq!(found.collect::<Vec<_>>(), expected);
}

#[test]
fn tied_tensors_are_written_once_and_tied_again() {
    let scratch = tempfile::tempdir().unwrap();
    let (there, back) = (scratch.path().join("model.safetensors"), scratch.path().join("model.pt"));
    let line = convert(&own("training.pt"), &there, &[]);
    assert!(
        line.contains("; 1 tied name in the metadata; 1 tensor beside the state dict left out"),
        "{line}"
    );
    let header = header(&there);
    assert_eq!(header["__metadata__"], json!({"format": "pt", "head.weight": "embed.weight"}));
    // Another view of the same storage is a copy.
    let keys: Vec<&str> = header.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["__metadata__", "block.weight", "embed.weight", "first_row"]);
    convert(&there, &back, &[]);
    let found = storages(&back);
    assert_eq!(found.len(), 4);
    assert_eq!(found["head.weight"], found["embed.weight"]);
    let again = scratch.path().join("again.safetensors");
    convert(&there, &again, &[]);
    assert!(fs::read(&again).unwrap() == fs::read(&there).unwrap());
}

/// The metadata says `format: pt` of every such file, whatever tensors are called.
#[test]
fn a_tensor_named_format_is_neither_tied_nor_made() {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name);
    let tied = Tensor::contiguous(
        Storage::from_bytes(Some(DType::UInt8), Location::cpu(), vec![1, 2, 3]),
        DType::UInt8,
        [3],
    );
    let tied = tied.unwrap();
    for names in [["pt", "format", "other"].as_slice(), &["pt"]] {
        let state_dict: StateDict = names.iter().map(|name| (*name, tied.clone())).collect();
        let [from, there, back] =
            ["in.pt", "there.safetensors", "back.pt"].map(|name| path(&format!("{}{name}", names.len())));
        SaveOptions::new().save(&from, &state_dict).unwrap();
        convert(&from, &there, &[]);
        assert_eq!(header(&there)["__metadata__"]["format"], "pt");
        convert(&there, &back, &[]);
        let found: Vec<String> = tensors(&back, &[]).into_keys().collect();
        let mut expected = names.to_vec();
        expected.sort_unstable();
        assert_eq!(found, expected);
    }
}

#[test]
fn a_state_dict_is_chosen_by_its_key() {
    let scratch = tempfile::tempdir().unwrap();
    let output = scratch.path().join("out.pt");
    convert(&own("training.pt"), &output, &["--state-dict", "optimizer"]);
    assert_eq!(tensors(&output, &[]).into_keys().collect::<Vec<_>>(), ["momentum"]);
    for (key, message) in [("optimiser", "did you mean optimizer"), ("epoch", "no tensors")] {
        let output = rewrite("convert", &own("training.pt"), &output, &["--state-dict", key]);
        assert!(unreadable(&output).contains(message), "{output:?}");
    }
    let by_itself = rewrite("convert", &zip("root_tensor.pt"), &output, &[]);
    assert!(unreadable(&by_itself).contains("no name"));
}

/// `embed.weight` and its kin take 48 bytes, `block.weight` 32, `first_row` 16 where it is a copy.
#[test]
fn shards_have_an_index_as_hugging_face_writes_it() {
    let scratch = tempfile::tempdir().unwrap();
    let output = scratch.path().join("model.safetensors");
    let line = convert(&own("training.pt"), &output, &["--max-shard-size", "48B"]);
    let shard = |number| format!("model-{number:05}-of-00002.safetensors");
    assert!(line.starts_with("3 tensors, ") && line.contains(" in 3 files: "), "{line}");
    assert_eq!(names(scratch.path()), [shard(1), shard(2), "model.safetensors.index.json".into()]);
    let index = fs::read_to_string(scratch.path().join("model.safetensors.index.json")).unwrap();
    let expected = concat!(
        "{\n  \"metadata\": {\n    \"total_size\": 96\n  },\n  \"weight_map\": {\n",
        "    \"block.weight\": \"model-00002-of-00002.safetensors\",\n",
        "    \"embed.weight\": \"model-00001-of-00002.safetensors\",\n",
        "    \"first_row\": \"model-00002-of-00002.safetensors\"\n  }\n}\n"
    );
    assert_eq!(index, expected);
    let mut found = tensors(&scratch.path().join(shard(1)), &[]);
    assert_eq!(header(&scratch.path().join(shard(1)))["__metadata__"]["head.weight"], "embed.weight");
    assert_eq!(header(&scratch.path().join(shard(2)))["__metadata__"], json!({"format": "pt"}));
    found.extend(tensors(&scratch.path().join(shard(2)), &[]));
    let all = tensors(&own("training.pt"), &[]);
    assert_eq!(found.len(), 3);
    assert!(found.iter().all(|(name, values)| all[&format!("model.{name}")] == *values));
}

#[test]
fn what_shares_a_storage_stays_in_one_shard() {
    let scratch = tempfile::tempdir().unwrap();
    let output = scratch.path().join("pytorch_model.bin");
    convert(&own("training.pt"), &output, &["--max-shard-size", "48"]);
    let index = fs::read(scratch.path().join("pytorch_model.bin.index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    let (first, second) = ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin");
    let map =
        json!({"embed.weight": first, "first_row": first, "head.weight": first, "block.weight": second});
    assert_eq!(index, json!({"metadata": {"total_size": 80}, "weight_map": map}));
    let found = storages(&scratch.path().join(first));
    assert_eq!(found.values().collect::<BTreeSet<_>>().len(), 1);
    let root = json("info", &scratch.path().join(second), &[])["root_folder"].clone();
    assert_eq!(root, "pytorch_model-00002-of-00002");
}

#[test]
fn one_shard_is_a_file_without_an_index() {
    let scratch = tempfile::tempdir().unwrap();
    convert(&own("training.pt"), &scratch.path().join("m.safetensors"), &["--max-shard-size", "5GB"]);
    assert_eq!(names(scratch.path()), ["m.safetensors"]);
}

#[test]
fn other_models_of_the_same_name_are_not_mixed_up() {
    let scratch = tempfile::tempdir().unwrap();
    let output = scratch.path().join("model.safetensors");
    let input = own("training.pt");
    let sharded = |size| rewrite("convert", &input, &output, &["--max-shard-size", size]);
    stdout(&sharded("48"));
    let before = names(scratch.path());
    // The same shards again are no other model; one file beside an index, or other shards, are.
    stdout(&sharded("48"));
    assert!(unreadable(&rewrite("convert", &input, &output, &[])).contains("index.json: exists"));
    assert!(unreadable(&sharded("32")).contains("a shard of another model"));
    assert_eq!(names(scratch.path()), before);

    let scratch = tempfile::tempdir().unwrap();
    let output = scratch.path().join("model.safetensors");
    convert(&input, &output, &[]);
    let again = rewrite("convert", &input, &output, &["--max-shard-size", "48"]);
    assert!(unreadable(&again).contains("in place of its shards"));
    assert_eq!(names(scratch.path()), ["model.safetensors"]);
}

#[test]
fn a_file_is_replaced_by_itself() {
    let scratch = tempfile::tempdir().unwrap();
    for (source, name, dtype) in [
        ("casts.pt", "model.pt", &["--dtype", "float16"][..]),
        ("plain.safetensors", "model.safetensors", &[]),
    ] {
        let file = scratch.path().join(name);
        fs::copy(own(source), &file).unwrap();
        let expected = scratch.path().join("expected").with_extension(file.extension().unwrap());
        convert(&file, &expected, dtype);
        convert(&file, &file, dtype);
        assert_eq!(tensors(&file, &[]), tensors(&expected, &[]));
        fs::remove_file(expected).unwrap();
    }
    assert_eq!(names(scratch.path()), ["model.pt", "model.safetensors"]);
}

#[test]
fn options_of_pytorchs_files_are_kept() {
    let scratch = tempfile::tempdir().unwrap();
    let output = scratch.path().join("out.ckpt");
    convert(&own("names.pt"), &output, &["--alignment", "4096", "--compact"]);
    let info = json("info", &output, &[]);
    assert_eq!((&info["alignment"], &info["slack"]["bytes"]), (&json!(4096), &json!(0)));
    convert(&own("names.pt"), &output, &["--format", "legacy"]);
    assert_eq!(json("info", &output, &[])["format"], "legacy");
    assert_eq!(tensors(&output, &[]), tensors(&own("names.pt"), &[]));
    // The tensors of a program, and of a module that is pickled whole.
    convert(&folder("../../tests/fixtures/torchscript/state.pt"), &output, &[]);
    assert!(!tensors(&output, &[]).is_empty());
    convert(&own("unlisted.pt"), &output, &["--inert"]);
    assert!(!tensors(&output, &[]).is_empty());
}

#[test]
fn wrong_usage_is_2() {
    let input = own("plain.pt");
    let cases: [(&str, &[&str]); 9] = [
        ("never", &[]),
        ("never.onnx", &[]),
        ("never.safetensors", &["--format", "zip"]),
        ("never.safetensors", &["--alignment", "64"]),
        ("never.pt", &["--format", "legacy", "--alignment", "64"]),
        ("never.pt", &["--dtype", "int8"]),
        ("never.pt", &["--dtype", "float"]),
        ("never.pt", &["--max-shard-size", "0"]),
        ("never.pt", &["--max-shard-size", "big"]),
    ];
    for (output, options) in cases {
        let found = rewrite("convert", &input, &PathBuf::from(output), options);
        assert_eq!(found.status.code(), Some(2), "{output} {options:?}");
        assert!(found.stdout.is_empty() && !Path::new(output).exists(), "{output} {options:?}");
    }
}

#[test]
fn what_fails_in_the_middle_leaves_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let input = damaged(scratch.path());
    for (name, options) in [
        ("out.safetensors", &[][..]),
        ("out.pt", &[]),
        ("out.safetensors", &["--max-shard-size", "100"]),
        ("out.bin", &["--max-shard-size", "100", "--dtype", "float16"]),
    ] {
        let message = unreadable(&rewrite("convert", &input, &scratch.path().join(name), options));
        assert!(message.contains("damaged.pt: "), "{message}");
        assert_eq!(names(scratch.path()), ["damaged.pt"], "{name} {options:?}");
    }
    let frozen = rewrite("convert", &zip("../torchscript/frozen.pt"), &scratch.path().join("f.pt"), &[]);
    assert!(unreadable(&frozen).contains("constants of a frozen program"), "{frozen:?}");
    let quantized = rewrite("convert", &zip("quantized.pt"), &scratch.path().join("q.safetensors"), &[]);
    assert!(unreadable(&quantized).contains("quantized"), "{quantized:?}");
    let sparse = rewrite("convert", &zip("sparse.pt"), &scratch.path().join("s.pt"), &["--dtype", "float16"]);
    assert!(unreadable(&sparse).contains(": tensor "), "{sparse:?}");
    fs::create_dir(scratch.path().join("folder.pt")).unwrap();
    let folder = rewrite("convert", &own("plain.pt"), &scratch.path().join("folder.pt"), &[]);
    assert!(unreadable(&folder).contains("folder"));
    assert_eq!(names(scratch.path()), ["damaged.pt", "folder.pt"]);
}

#[test]
fn a_closed_pipe_is_no_error() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("model.safetensors");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command().arg("convert").arg(own("plain.pt")).arg(&file).stdout(writer).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert!(fs::read(&file).unwrap() == fs::read(own("plain.safetensors")).unwrap());
}
