//! Scans find every global that loading would import, and say what the policy makes of each.

use std::collections::HashSet;
use std::path::PathBuf;

use ptser::{
    Checkpoint, ErrorKind, Format, GlobalScan, Globals, Limits, LoadOptions, ScannedGlobal, Verdict,
};
use serde_json::Value as Json;

use crate::build::{archive, around, good_pickle};
use crate::fixtures;

fn path(name: &str) -> PathBuf {
    fixtures::folder().join("scan").join(name)
}

/// The entries of a list of names and descriptions.
fn entries(name: &str) -> Vec<(String, Json)> {
    let json = std::fs::read(path(name)).expect(name);
    let Json::Object(entries) = serde_json::from_slice(&json).unwrap() else { panic!("{name}") };
    entries.into_iter().collect()
}

fn pickle(entry: &Json) -> Vec<u8> {
    let hex = entry["hex"].as_str().unwrap().as_bytes();
    let digit = |byte: u8| u8::try_from(char::from(byte).to_digit(16).unwrap()).unwrap();
    hex.chunks(2).map(|pair| digit(pair[0]) * 16 + digit(pair[1])).collect()
}

fn strings(json: &Json) -> Vec<&str> {
    json.as_array().into_iter().flatten().map(|name| name.as_str().unwrap()).collect()
}

fn names(scan: &GlobalScan) -> Vec<&str> {
    scan.globals.iter().map(|global| global.name.as_str()).collect()
}

fn scan(bytes: Vec<u8>) -> GlobalScan {
    LoadOptions::new().unsafe_globals_in_bytes(bytes).unwrap()
}

/// A legacy stream whose object is this pickle.
fn stream(object: &[u8]) -> Vec<u8> {
    let magic = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.";
    [magic.as_slice(), object, b"\x80\x02]."].concat()
}

/// What a scan finds is what CPython imports, in order, and what it can only tell in part beside it.
fn check(name: &str, scan: &GlobalScan, expected: &Json) {
    let (imports, unspelled) = (strings(&expected["imports"]), strings(&expected["unspelled"]));
    let (whole, partly): (Vec<&str>, Vec<&str>) = names(scan)
        .into_iter()
        .partition(|name| !name.contains('?') && !name.starts_with("copyreg extension"));
    assert_eq!(partly, unspelled, "{name}: {scan:?}");
    if expected["complete"] == true {
        assert_eq!(whole, imports, "{name}: {scan:?}");
    } else {
        // CPython stopped; the scan goes on.
        assert_eq!(whole[..imports.len()], imports, "{name}: {scan:?}");
    }
    let known = HashSet::from(["os", "sys", "posix", "nt"]);
    for global in &scan.globals {
        let module = global.name.rsplit_once('.').map_or("", |(module, _)| module);
        assert_eq!(global.verdict == Verdict::Blocked, known.contains(module), "{name}: {global:?}");
    }
    if expected["torch"].is_array() {
        // PyTorch does not look into the bytes of a pickle.
        let outside = scan.refused().filter(|global| !is_inside(global));
        let mut refused: Vec<&str> = outside.map(|global| global.name.as_str()).collect();
        refused.sort_unstable();
        assert_eq!(refused, strings(&expected["torch"]), "{name}");
    }
}

fn is_inside(global: &ScannedGlobal) -> bool {
    global.record.as_deref().is_some_and(|record| record.contains('>'))
}

#[test]
fn every_way_to_name_a_global_is_seen_in_every_container() {
    let pickles = entries("pickles.json");
    assert!(pickles.len() > 50);
    for (name, expected) in &pickles {
        let pickle = pickle(expected);
        for (container, bytes, at) in [
            ("zip", around(&pickle), 0),
            ("legacy", stream(&pickle), stream(b"").len() - 4),
            ("pickle", pickle.clone(), 0),
        ] {
            let found = scan(bytes);
            assert_eq!(found.format.name(), container, "{name}");
            check(&format!("{name} in {container}"), &found, expected);
            // The offset is that of an opcode that names it.
            for global in found.globals.iter().filter(|global| !is_inside(global)) {
                let opcode = pickle[usize::try_from(global.offset).unwrap() - at];
                assert!(
                    b"ci\x93\x82\x83\x84P".contains(&opcode),
                    "{name} in {container}: {global:?} {opcode:#x}"
                );
                assert_eq!(global.record.as_deref(), (container == "zip").then_some("data.pkl"), "{name}");
            }
        }
    }
}

#[test]
fn files_name_the_globals_that_cpython_imports() {
    for (name, expected) in entries("expected.json") {
        let found = Checkpoint::unsafe_globals(path(&name)).unwrap();
        check(&name, &found, &expected);
        let bytes = std::fs::read(path(&name)).unwrap();
        assert_eq!(scan(bytes).globals, found.globals, "{name}");
        let safe = strings(&expected["imports"]).iter().all(|name| {
            let (module, _) = name.rsplit_once('.').unwrap();
            Globals::weights_only().verdict(module, name) == Verdict::Allowed
        });
        assert_eq!(found.is_safe(), safe, "{name}: {found:?}");
    }
}

#[test]
fn no_random_pickle_imports_what_is_not_found() {
    let mut complete = 0;
    for (name, expected) in entries("random.json") {
        let found = scan(around(&pickle(&expected)));
        let found = names(&found);
        for import in strings(&expected["imports"]) {
            assert!(found.contains(&import), "{name}: {import} is not among {found:?}");
        }
        complete += usize::from(expected["complete"] == true);
    }
    assert!(complete > 100, "{complete}");
}

#[test]
fn damage_is_told_beside_the_globals_before_it() {
    for (name, byte) in [("cut_in_text", 24), ("no_opcode", 24), ("memo_missing", 24), ("no_stop", 24)] {
        let (_, entry) = entries("pickles.json").into_iter().find(|(entry, _)| entry == name).unwrap();
        let found = scan(around(&pickle(&entry)));
        assert!(names(&found).contains(&"os.system"), "{name}");
        let error = found.error.expect(name);
        assert_eq!(error.kind(), ErrorKind::Malformed, "{name}: {error}");
        assert_eq!((error.record(), error.offset()), (Some("data.pkl"), Some(byte)), "{name}: {error}");
    }
    let found = Checkpoint::unsafe_globals(path("legacy_cut.pt")).unwrap();
    assert_eq!(names(&found), ["evil.object"]);
    let error = found.error.unwrap();
    assert_eq!((error.kind(), error.file()), (ErrorKind::Malformed, Some(path("legacy_cut.pt").as_path())));
    // Behind damage that opcodes can be read across, the search goes on.
    let (_, entry) = entries("pickles.json").into_iter().find(|(name, _)| name == "underflow").unwrap();
    assert_eq!(names(&scan(around(&pickle(&entry)))), ["os.system", "behind.damage"]);
}

#[test]
fn a_scan_judges_by_the_policy_it_is_given() {
    let verdicts = |options: &LoadOptions, file: &str| -> Vec<(String, Verdict)> {
        let found = options.unsafe_globals(path(file)).unwrap();
        found.globals.into_iter().map(|global| (global.name, global.verdict)).collect()
    };
    let of = |verdicts: &[(String, Verdict)], wanted: &str| {
        verdicts.iter().find(|(name, _)| name == wanted).map(|(_, verdict)| *verdict).unwrap()
    };
    let linear = "torch.nn.modules.linear.Linear";
    let strict = verdicts(&LoadOptions::new(), "module.pt");
    assert_eq!(of(&strict, linear), Verdict::Unlisted);
    assert_eq!(of(&strict, "builtins.set"), Verdict::Allowed);
    let listed = LoadOptions::new().globals(Globals::weights_only().allow(linear));
    assert_eq!(of(&verdicts(&listed, "module.pt"), linear), Verdict::Allowed);
    let inert = LoadOptions::new().globals(Globals::inert());
    assert_eq!(of(&verdicts(&inert, "module.pt"), linear), Verdict::Inert);
    assert!(inert.unsafe_globals(path("module.pt")).unwrap().is_safe());

    // A program names its own classes; what else it names is judged as elsewhere.
    let script = verdicts(&LoadOptions::new(), "script.pt");
    for (name, verdict) in [
        ("__torch__.Net", Verdict::Inert),
        ("torch.jit._pickle.build_intlist", Verdict::Inert),
        ("builtins.eval", Verdict::Unlisted),
        ("os.system", Verdict::Blocked),
        ("sys.exit", Verdict::Blocked),
    ] {
        assert_eq!(of(&script, name), verdict, "{name}");
    }
}

#[test]
fn what_is_not_spelled_out_is_never_allowed() {
    for pickle in [&b"\x80\x04\x82\x05."[..], b"\x80\x04N\x8c\x01x\x93."] {
        for globals in [
            Globals::inert(),
            Globals::inert().allow("copyreg extension 5").allow("?.x"),
            Globals::weights_only().allow("copyreg extension 5").allow("?.x"),
        ] {
            let options = LoadOptions::new().globals(globals);
            let found = options.unsafe_globals_in_bytes(around(pickle)).unwrap();
            assert_eq!(found.globals[0].verdict, Verdict::Unlisted, "{found:?}");
            assert!(!found.is_safe());
        }
    }
}

#[test]
fn a_scan_reads_the_pickles_of_its_own_kind_of_file_only() {
    assert_eq!(
        Checkpoint::unsafe_globals(fixtures::folder().join("legacy/dtypes.safetensors")).unwrap().globals,
        []
    );
    let error = LoadOptions::new().unsafe_globals_in_bytes(b"<html>".to_vec()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
    let error = LoadOptions::new().unsafe_globals_in_bytes(archive("a", &[("x.bin", b"")])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
    let error = Checkpoint::unsafe_globals("no/such/file.pt").unwrap_err();
    assert_eq!((error.kind(), error.file()), (ErrorKind::Io, Some("no/such/file.pt".as_ref())));
    let small = LoadOptions::new().limits(Limits::default().pickle_bytes(10));
    let error = small.unsafe_globals_in_bytes(around(&good_pickle())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error}");
    // Records that opening would refuse do not matter.
    let odd = archive("a", &[("data.pkl", b"\x80\x02N."), ("version", b"99"), ("byteorder", b"middle")]);
    assert!(scan(odd).is_safe());
}

#[test]
fn a_scan_agrees_with_opening_on_every_checkpoint_of_the_fixtures() {
    for (folder, files) in [("zip", fixtures::expected()), ("legacy", fixtures::expected_in("legacy"))] {
        for (file, expected) in files {
            let path = fixtures::folder().join(folder).join(&file);
            let found = Checkpoint::unsafe_globals(&path).unwrap();
            assert_eq!(found.format.name(), expected["format"], "{file}");
            assert!(found.error.is_none(), "{file}: {found:?}");
            let globals =
                strings(&expected["allow"]).into_iter().fold(Globals::weights_only(), Globals::allow);
            let checkpoint = LoadOptions::new().globals(globals).open(&path).unwrap();
            // Members of a tar archive, and checkpoints inside, have more.
            let found = names(&found);
            let mut opened: Vec<&str> = Vec::new();
            checkpoint.globals().for_each(|(name, _)| {
                if !opened.contains(&name) {
                    opened.push(name);
                }
            });
            if checkpoint.format() == Format::Zip || checkpoint.format() == Format::Legacy {
                assert_eq!(found, opened, "{file}");
            } else {
                assert!(opened.iter().all(|name| found.contains(name)), "{file}: {found:?}");
            }
        }
    }
}

#[test]
fn checkpoints_inside_are_looked_at_once_and_not_without_end() {
    let (_, deep) = entries("pickles.json").into_iter().find(|(name, _)| name == "inside_deep").unwrap();
    let found = scan(around(&pickle(&deep)));
    assert_eq!(names(&found), ["torch.storage._load_from_bytes", "os.system"]);
    let place = found.globals[1].record.as_deref();
    assert_eq!(place, Some("data.pkl > data.pkl > data.pkl > data.pkl"));
    assert!(found.error.is_none());

    let mut inner = pickle(&deep);
    for _ in 0..4 {
        let bytes = [b"B", u32::try_from(inner.len()).unwrap().to_le_bytes().as_slice(), &inner].concat();
        inner = [b"ctorch.storage\n_load_from_bytes\n".as_slice(), &bytes, b"\x85R."].concat();
    }
    let found = scan(around(&inner));
    assert!(!found.is_safe() && found.error.is_some(), "{found:?}");
    // The same bytes at many places.
    let calls = b"h\x01h\x00\x85R0".repeat(10_000);
    let bytes = [b"B", u32::try_from(inner.len()).unwrap().to_le_bytes().as_slice(), &inner].concat();
    let load = b"q\x00ctorch.storage\n_load_from_bytes\nq\x0100".as_slice();
    assert!(!scan(around(&[&bytes, load, &calls, b"N."].concat())).is_safe());
}

#[test]
fn names_without_number_are_given_up_and_told() {
    let globals: String = (0..100_010).map(|number| format!("ca\n{number}\n0")).collect();
    let codes: Vec<u8> =
        (0..100_010_u32).flat_map(|code| [&[0x84], &code.to_le_bytes()[..], b"0"].concat()).collect();
    for opcodes in [globals.as_bytes(), &codes] {
        let found = scan(around(&[opcodes, b"N."].concat()));
        assert!(found.globals.len() > 100_000);
        assert!(found.error.unwrap().to_string().contains("more than 100000 globals"));
    }
}
