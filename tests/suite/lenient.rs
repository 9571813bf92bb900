//! A checkpoint of which some is damaged still gives the rest.

use ptser::{Checkpoint, Entry, ErrorKind, LoadOptions, ValueKind};

use crate::build::{archive, call, dict_of, int, ints, pickle, storage, tensor, text};
use crate::fixtures::{bytes, folder};

fn lenient() -> LoadOptions {
    LoadOptions::new().lenient(true)
}

/// Each entry's name, and whether it is there.
fn listed(checkpoint: &Checkpoint) -> Vec<(&str, bool)> {
    let is_there = |entry: &Entry<'_>| {
        assert_ne!(entry.tensor().is_some(), entry.error().is_some(), "{}", entry.name());
        entry.tensor().is_some()
    };
    checkpoint.entries().map(|entry| (entry.name(), is_there(&entry))).collect()
}

#[test]
fn tensors_of_missing_and_short_records_are_marked() {
    let entries: Vec<Vec<u8>> = ["a", "gone", "short", "b", "outside"]
        .iter()
        .zip(["0", "1", "2", "0", "0"])
        .map(|(name, key)| {
            let offset = i64::from(*name == "outside") * 3;
            [text(name), tensor(&storage(key, 2), offset, &[2], &[1])].concat()
        })
        .collect();
    let pickle = pickle(&[b"}(", &entries.concat(), b"u"]);
    let records: [(&str, &[u8]); 4] =
        [("data.pkl", &pickle), ("data/0", &[0; 8]), ("data/2", &[0; 7]), ("version", b"3\n")];
    let file = archive("archive", &records);
    assert_eq!(Checkpoint::from_bytes(file.clone()).unwrap_err().kind(), ErrorKind::Malformed);

    let checkpoint = lenient().from_bytes(file).unwrap();
    let expected = [("a", true), ("gone", false), ("short", false), ("b", true), ("outside", false)];
    assert_eq!(listed(&checkpoint), expected);
    assert_eq!(checkpoint.tensors().map(|(name, _)| name).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(checkpoint.tensor("b").unwrap().to_contiguous().unwrap().len(), 8);
    let error = |name: &str| checkpoint.tensor(name).unwrap_err().to_string();
    assert!(error("gone").contains("data/1"), "{}", error("gone"));
    assert!(error("short").contains("7 bytes"), "{}", error("short"));
    assert!(error("outside").contains("needs 20 bytes"), "{}", error("outside"));
    assert!(matches!(checkpoint.root().get("gone").unwrap().kind(), ValueKind::Damaged(_)));
    assert_eq!(checkpoint.state_dict().unwrap().names().collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn what_is_made_from_something_damaged_has_its_error() {
    let broken = tensor(&storage("0", 6), 0, &[100], &[1]);
    let hooks = call("collections.OrderedDict", &[]);
    let parameter = call("torch._utils._rebuild_parameter", &[&broken, b"\x88", &hooks]);
    let layout = call("torch.serialization._get_layout", &[&text("torch.sparse_coo")]);
    let indices = tensor(&storage("0", 6), 0, &[1, 2], &[2, 1]);
    let parts = [b"(", indices.as_slice(), &broken, &call("torch.Size", &[&ints(&[9])]), b"t"].concat();
    let sparse = call("torch._utils._rebuild_sparse_tensor", &[&layout, &parts]);
    let root = [&b"}("[..], &text("p"), &parameter, &text("s"), &sparse, &text("n"), &int(7), b"u"].concat();
    let checkpoint = lenient().from_bytes(crate::build::around(&pickle(&[&root]))).unwrap();
    assert_eq!(listed(&checkpoint), [("p", false), ("s", false)]);
    for entry in checkpoint.entries() {
        let error = entry.error().unwrap().to_string();
        assert!(error.contains("shape [100]"), "{}: {error}", entry.name());
    }
    assert_eq!(checkpoint.root().get("n").unwrap().as_i64().unwrap(), 7);
}

#[test]
fn a_legacy_stream_that_is_cut_gives_the_storages_before_the_cut() {
    let whole = std::fs::read(folder().join("legacy/state_dict.pt")).unwrap();
    let names = |checkpoint: &Checkpoint| -> Vec<String> {
        checkpoint.tensors().map(|(name, _)| name.to_owned()).collect()
    };
    let all = names(&Checkpoint::from_bytes(whole.clone()).unwrap());
    let cut = whole[..whole.len() - 1].to_vec();
    let error = Checkpoint::from_bytes(cut.clone()).unwrap_err();
    let checkpoint = lenient().from_bytes(cut).unwrap();
    assert_eq!(checkpoint.entries().len(), all.len());
    let left = names(&checkpoint);
    assert!(!left.is_empty() && left.len() < all.len(), "{left:?}");
    let marked = checkpoint.entries().find_map(Entry::error).unwrap();
    assert_eq!(marked.reason().to_string(), error.reason().to_string());
    for (_, tensor) in checkpoint.tensors() {
        assert_eq!(tensor.to_contiguous().unwrap().len(), tensor.nbytes());
    }
}

#[test]
fn a_tar_archive_marks_the_tensors_that_leave_their_storages() {
    let whole = std::fs::read(folder().join("legacy/torch01.tar")).unwrap();
    let all = Checkpoint::from_bytes(whole.clone()).unwrap().entries().len();
    // Wherever a size or an offset becomes too large, one tensor is damaged, or two that are one.
    let marked = (512..whole.len()).filter(|&at| {
        let mut file = whole.clone();
        file[at] |= 0x40;
        let strict = Checkpoint::from_bytes(file.clone());
        let Ok(checkpoint) = lenient().from_bytes(file) else { return false };
        let damaged = checkpoint.entries().filter(|entry| entry.error().is_some()).count();
        assert_eq!(damaged > 0, strict.is_err());
        damaged > 0 && checkpoint.entries().len() == all && checkpoint.tensors().count() > 0
    });
    assert!(marked.count() > 10);
}

#[test]
fn refusals_limits_and_broken_pickles_stay_errors() {
    let blocked = dict_of("x", &call("os.system", &[&text("true")]));
    let error = lenient().from_bytes(crate::build::around(&blocked)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    let unlisted = dict_of("x", &call("builtins.print", &[&text("true")]));
    assert_eq!(lenient().from_bytes(crate::build::around(&unlisted)).unwrap_err().kind(), ErrorKind::Refused);
    let file = bytes("nested_state_dict.pt");
    let limits = ptser::Limits::default().tensors_listed(1);
    assert_eq!(
        lenient().limits(limits).from_bytes(file.clone()).unwrap_err().kind(),
        ErrorKind::LimitExceeded
    );
    let cut = file[..file.len() - 30].to_vec();
    assert_eq!(lenient().from_bytes(cut).unwrap_err().kind(), ErrorKind::Malformed);
}

#[test]
fn a_sound_checkpoint_is_the_same() {
    for (name, _) in crate::fixtures::expected() {
        let strict = crate::fixtures::open(&name);
        let checkpoint = lenient().open(crate::fixtures::path(&name)).unwrap();
        assert_eq!(crate::fixtures::contents(&checkpoint), crate::fixtures::contents(&strict), "{name}");
    }
}
