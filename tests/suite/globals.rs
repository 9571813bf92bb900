//! The weights-only policy is PyTorch's, name by name.

use ptser::{Checkpoint, DType, ErrorKind, Globals, LoadOptions, Verdict};

use crate::build::{archive, around, call, dict_of, good_pickle, pickle, text};
use crate::fixtures;

fn verdict(globals: &Globals, name: &str) -> Verdict {
    // The longest module that makes sense: classes in classes are not pickled by name.
    let (module, _) = name.rsplit_once('.').unwrap();
    globals.verdict(module, name)
}

fn torchs_names() -> Vec<String> {
    let list = std::fs::read_to_string(fixtures::folder().join("weights_only_globals.txt")).unwrap();
    list.lines().map(str::to_owned).collect()
}

#[test]
fn the_names_that_pytorch_allows_are_allowed() {
    let names = torchs_names();
    assert_eq!(names.len(), 144);
    for name in names {
        assert_eq!(verdict(&Globals::weights_only(), &name), Verdict::Allowed, "{name}");
    }
}

/// Names like those of the list, made from its parts, and names that attacks and real files mention.
#[test]
fn no_other_name_is_allowed_but_bytes() {
    let torchs = torchs_names();
    let mut candidates: Vec<String> = Vec::new();
    let stems: Vec<&str> =
        torchs.iter().filter_map(|name| name.rsplit_once('.').map(|(_, stem)| stem)).collect();
    let modules: Vec<&str> =
        torchs.iter().filter_map(|name| name.rsplit_once('.').map(|(module, _)| module)).collect();
    for module in
        modules.iter().copied().chain(["torch.cuda", "torch.cuda.sparse", "torch.storage", "numpy", ""])
    {
        candidates.extend(stems.iter().map(|stem| format!("{module}.{stem}")));
    }
    for dtype in DType::ALL {
        candidates.push(format!("torch.{}Storage", dtype.name()));
    }
    let others = [
        "builtins.eval",
        "builtins.getattr",
        "builtins.frozenset",
        "builtins.bytes",
        "builtins.int",
        "builtins.slice",
        "collections.defaultdict",
        "collections.deque",
        "collections.OrderedDict.__init__",
        "argparse.Namespace",
        "torch.UntypedStorage",
        "torch.storage.FloatStorage",
        "torch.float",
        "torch.half",
        "torch.Generator",
        "torch._C.Generator",
        "torch.memory_format",
        "torch.channels_last",
        "torch.UInt16Storage",
        "torch.Float8_e5m2Storage",
        "torch.ComplexHalfStorage",
        "torch._utils._rebuild_nested_tensor",
        "torch._utils._rebuild_xla_tensor",
        "torch._utils._rebuild_parameter_v2",
        "torch._tensor._rebuild_from_type",
        "torch.tensor._rebuild_from_type",
        "torch.storage._load_from_bytes",
        "torch.jit._pickle.restore_type_tag",
        "torch.nn.parameter.Buffer",
        "torch.nn.modules.linear.Linear",
        "torch._utils._rebuild_tensor_v２",
        "numpy.core.multiarray._reconstruct",
        "os.path.join",
        "_io.open",
        "torch.sparse.BoolTensor",
    ];
    candidates.extend(others.map(str::to_owned));
    for name in candidates {
        let allowed = verdict(&Globals::weights_only(), &name) == Verdict::Allowed;
        // PyTorch writes b"" as a call of `bytes`, and then cannot load it.
        assert_eq!(allowed, torchs.contains(&name) || name == "builtins.bytes", "{name}");
    }
}

#[test]
fn blocked_modules_stay_blocked_whatever_is_allowed() {
    for module in ["os", "sys", "posix", "nt"] {
        let name = format!("{module}.system");
        for globals in [
            Globals::weights_only().allow(name.as_str()),
            Globals::inert(),
            Globals::inert().allow(name.as_str()),
        ] {
            assert_eq!(verdict(&globals, &name), Verdict::Blocked, "{name}");
        }
    }
    assert_eq!(verdict(&Globals::inert(), "os.path.join"), Verdict::Inert);
}

#[test]
fn every_refused_global_is_named_at_once() {
    let calls =
        [call("posix.system", &[&text("true")]), call("a.b", &[]), call("c.d.e", &[b"N"]), call("a.b", &[])];
    let bytes = around(&pickle(&[b"(", &calls.concat(), b"l"]));
    let error = Checkpoint::from_bytes(bytes.clone()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    let refused: Vec<(&str, bool)> =
        error.refused_globals().iter().map(|global| (&*global.name, global.blocked)).collect();
    assert_eq!(refused, [("posix.system", true), ("a.b", false), ("c.d.e", false)]);
    for name in ["posix.system", "a.b", "c.d.e"] {
        assert!(error.to_string().contains(name), "{error}");
    }
    let error = LoadOptions::new().globals(Globals::inert()).from_bytes(bytes).unwrap_err();
    assert_eq!(error.refused_globals().len(), 1, "{error}");
}

#[test]
fn a_global_behind_the_damage_is_refused_before_the_damage_is_reported() {
    let cut = pickle(&[&call("posix.system", &[&text("true")]), b"X\xFF\xFF\xFF\x7F"]);
    assert_eq!(Checkpoint::from_bytes(around(&cut)).unwrap_err().kind(), ErrorKind::Refused);
}

#[test]
fn allowed_names_become_inert_objects() {
    let namespace = call("argparse.Namespace", &[]);
    let state = [b"}".as_slice(), &text("lr"), b"K\x05sb"].concat();
    let bytes = around(&dict_of("args", &[namespace, state].concat()));
    let error = Checkpoint::from_bytes(bytes.clone()).unwrap_err();
    assert_eq!(error.refused_globals()[0].name, "argparse.Namespace");
    let options = LoadOptions::new().globals(Globals::weights_only().allow("argparse.Namespace"));
    let checkpoint = options.from_bytes(bytes).unwrap();
    let args = checkpoint.root().get("args").unwrap();
    assert_eq!(args.class(), Some("argparse.Namespace"));
    assert_eq!(args.get("lr").unwrap().as_i64().unwrap(), 5);
    let verdicts: Vec<(&str, Verdict)> = checkpoint.globals().collect();
    assert_eq!(verdicts, [("argparse.Namespace", Verdict::Allowed)]);
}

#[test]
fn python_2_names_are_judged_by_their_python_3_names() {
    let set = around(&dict_of("s", &call("__builtin__.set", &[b"]K\x01a"])));
    assert_eq!(Checkpoint::from_bytes(set).unwrap().root().get("s").unwrap().len(), 1);
    let intern = around(&dict_of("s", &call("__builtin__.intern", &[&text("x")])));
    let error = Checkpoint::from_bytes(intern).unwrap_err();
    assert_eq!((&*error.refused_globals()[0].name, error.refused_globals()[0].blocked), ("sys.intern", true));
}

#[test]
fn calling_what_is_allowed_and_not_callable_is_refused() {
    for what in
        ["torch.float32", "torch.FloatStorage", "torch.storage.UntypedStorage", "torch.per_tensor_affine"]
    {
        let error = Checkpoint::from_bytes(around(&dict_of("x", &call(what, &[b"K\x05"])))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{what}: {error}");
        assert_eq!(error.tensor(), Some("x"), "{what}");
    }
}

#[test]
fn a_torchscript_program_is_read_with_its_classes_inert() {
    let module = [call("__torch__.Model", &[]).as_slice(), b"}", &text("w"), &good_weight(), b"sb"].concat();
    let data = [0; 24];
    let records = [
        ("data.pkl", pickle(&[&module])),
        ("data/0", data.to_vec()),
        ("constants.pkl", b"\x80\x02).".to_vec()),
    ];
    let records: Vec<(&str, &[u8])> =
        records.iter().map(|(name, content)| (*name, content.as_slice())).collect();
    let checkpoint = Checkpoint::from_bytes(archive("model", &records)).unwrap();
    assert_eq!(checkpoint.format().name(), "torchscript");
    assert_eq!(checkpoint.tensor("w").unwrap().shape(), [2, 3]);
}

fn good_weight() -> Vec<u8> {
    let pickle = good_pickle();
    let start = pickle.windows(13).position(|window| window == b"ctorch._utils").unwrap();
    pickle[start..pickle.len() - 2].to_vec()
}
