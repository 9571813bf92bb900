//! Which names a file may use, and what becomes of objects that PyTorch's list does not know.

use ptser::{Checkpoint, Error, ErrorKind, Globals, LoadOptions, Value, ValueKind, Verdict};

use crate::given;

const TWO_TENSOR: &str = "torch.testing._internal.two_tensor.TwoTensor";

/// PyTorch refuses a file because of the first of some names; ptser names all of them.
fn check_refused(file: &str, names: &[&str]) -> Error {
    let error = given::refused(file);
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert_eq!(given::refused_names(&error), names, "{file}");
    assert!(error.refused_globals().iter().all(|global| !global.blocked));
    let text = error.to_string();
    for name in names {
        assert!(text.contains(name), "{text}");
    }
    assert!(text.contains("Globals::allow") && text.contains("nothing is ever executed"), "{text}");
    let told = given::facts(file)["refusal"].as_str().unwrap();
    let first = names[0].trim_start_matches("builtins.");
    assert!(told.contains(&format!("Unsupported global: GLOBAL {first} ")), "{told}");
    error
}

/// The object at the root of a file, once its class is allowed.
fn check_allowed(file: &str, class: &str, look: impl Fn(Value<'_>)) {
    check_refused(file, &[class]);
    for checkpoint in [given::allowing(file, &[class]).unwrap(), given::inert(file)] {
        let root = checkpoint.root();
        assert!(matches!(root.kind(), ValueKind::Object), "{root}");
        assert_eq!(root.class(), Some(class));
        look(root);
    }
}

#[test]
fn test_serialization_dill() {
    let checkpoint = given::open("dill.pt");
    given::check("dill.pt", &checkpoint);
    assert_eq!(checkpoint.root().get("n").unwrap().as_i64().unwrap(), 3);
    // What dill alone can pickle has dill's own names in it.
    check_refused("dill_type.pt", &["dill._dill._load_type"]);
    let checkpoint = given::inert("dill_type.pt");
    assert_eq!(given::floats(checkpoint.tensor("w").unwrap()), [0.0, 1.0]);
    let object = checkpoint.root().get("type").unwrap();
    assert_eq!(object.class(), Some("dill._dill._load_type"));
    assert_eq!(object.args().next().unwrap().as_str().unwrap(), "NoneType");
}

/// A class inside another has no name of its own in protocol 2: it is looked up with `getattr`.
#[test]
fn test_serialization_nested_class() {
    let names = ["builtins.getattr", "classes.First", "classes.Second"];
    check_refused("nested_class.pt", &names);
    let error = given::allowing("nested_class.pt", &names[..2]).unwrap_err();
    assert_eq!(given::refused_names(&error), ["classes.Second"]);
    for checkpoint in [given::allowing("nested_class.pt", &names).unwrap(), given::inert("nested_class.pt")] {
        for (key, outer) in [("a_nested", "classes.First"), ("b_nested", "classes.Second")] {
            let object = checkpoint.root().get(key).unwrap();
            assert!(matches!(object.kind(), ValueKind::Object));
            assert_eq!(object.class(), Some(format!("{outer}.Inner").as_str()));
        }
    }
}

/// A file that would print while it is loaded.
#[test]
fn test_weights_only_assert() {
    check_allowed("print.pt", "builtins.print", |root| {
        let args: Vec<&str> = root.args().map(|arg| arg.as_str().unwrap()).collect();
        assert_eq!(args, ["a file that prints while it is loaded"]);
    });
}

#[test]
fn test_weights_only_safe_globals_newobj() {
    check_allowed("point.pt", "classes.Point", |root| {
        let args: Vec<i64> = root.args().map(|arg| arg.as_i64().unwrap()).collect();
        assert_eq!(args, [1, 2]);
        assert!(root.state().is_none());
    });
}

#[test]
fn test_weights_only_safe_globals_build() {
    check_allowed("built.pt", "classes.Built", |root| {
        let args: Vec<i64> = root.args().map(|arg| arg.as_i64().unwrap()).collect();
        assert_eq!(args, [2]);
        // Attributes, or what a `__setstate__` would be given: there is one state either way.
        assert_eq!(root.get("note").unwrap().as_str().unwrap(), "from the state");
        let state = root.state().unwrap();
        assert!(matches!(state.kind(), ValueKind::Dict) && state.len() == 1 && root.states().count() == 1);
    });
}

#[test]
fn test_weights_only_safe_globals_build_with_slots() {
    for (file, class, title) in
        [("slotted.pt", "classes.Slotted", None), ("half_slotted.pt", "classes.HalfSlotted", Some("half"))]
    {
        check_allowed(file, class, |root| {
            assert_eq!(root.get("x").unwrap().as_i64().unwrap(), 2);
            assert_eq!(root.get("y").unwrap().as_i64().unwrap(), 3);
            assert_eq!(root.get("title").ok().map(|title| title.as_str().unwrap()), title);
            // (attributes or None, slots)
            let state = root.state().unwrap();
            assert!(matches!(state.kind(), ValueKind::Tuple) && state.len() == 2);
            assert_eq!(state.index(0).unwrap().is_none(), title.is_none());
        });
    }
}

#[test]
fn test_weights_only_safe_globals_blocklist() {
    let facts = given::facts("execv.pt");
    assert_eq!(facts["refusal"], facts["refusal_although_allowed"]);
    assert!(facts["refusal"].as_str().unwrap().contains("whose module posix is blocked"));
    let inert = LoadOptions::new().globals(Globals::inert().allow("posix.execv"));
    for error in [
        given::refused("execv.pt"),
        given::allowing("execv.pt", &["posix.execv"]).unwrap_err(),
        inert.open(given::path("execv.pt")).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert_eq!(given::refused_names(&error), ["posix.execv"]);
        assert!(error.refused_globals()[0].blocked);
        assert!(error.to_string().contains("no policy allows"), "{error}");
    }
}

/// Two reasons for which PyTorch refuses a file; to ptser a protocol is none.
#[test]
fn test_weights_only_error() {
    check_refused("two_tensor_protocol2.pt", &[TWO_TENSOR]);
    let told = given::facts("two_tensor_protocol5.pt")["refusal"].as_str().unwrap();
    assert!(told.contains("Unsupported operand 149"), "{told}");
    for (file, protocol) in [("two_tensor_protocol2.pt", 2), ("two_tensor_protocol5.pt", 5)] {
        let error = given::refused(file);
        assert_eq!(given::refused_names(&error), [TWO_TENSOR]);
        let checkpoint = given::allowing(file, &[TWO_TENSOR]).unwrap();
        assert_eq!(checkpoint.protocol(), protocol);
        assert_eq!(given::floats(checkpoint.tensor("t..b").unwrap()), [3.0, 4.0]);
    }
}

const CLOCK: [&str; 3] = ["datetime.datetime", "builtins.getattr", "zoneinfo.ZoneInfo"];

fn check_clock(checkpoint: &Checkpoint) {
    let tensor = checkpoint.tensor("a").unwrap().to_contiguous().unwrap();
    assert_eq!(tensor.iter().filter(|&&byte| byte != 0).copied().collect::<Vec<_>>(), [4, 5, 6]);
    let clock = checkpoint.root().get("b").unwrap();
    assert_eq!(clock.class(), Some("datetime.datetime"));
    let [time, zone] = [0, 1].map(|place| clock.args().nth(place).unwrap());
    assert_eq!(time.as_bytes().unwrap(), [0x07, 0xE8, 2, 29, 13, 37, 0, 0, 0, 0]);
    assert_eq!(zone.class(), Some("zoneinfo.ZoneInfo._unpickle"));
    assert_eq!(zone.args().next().unwrap().as_str().unwrap(), "UTC");
}

/// A function that is looked up with `getattr` and then called: PyTorch must be told of it too, because it would run.
#[test]
fn test_weights_only_blocked_func_error_msg() {
    let told = given::facts("zoneinfo.pt")["refusal_of_the_call"].as_str().unwrap();
    assert!(told.contains("_unpickle") && told.contains("zoneinfo.ZoneInfo"), "{told}");
    check_refused("zoneinfo.pt", &CLOCK);
    for missing in CLOCK {
        let allowed: Vec<&str> = CLOCK.into_iter().filter(|&name| name != missing).collect();
        let error = given::allowing("zoneinfo.pt", &allowed).unwrap_err();
        assert_eq!(given::refused_names(&error), [missing]);
    }
}

#[test]
fn test_weights_only_with_zoneinfo_unpickle_registration_success() {
    check_clock(&given::allowing("zoneinfo.pt", &CLOCK).unwrap());
    check_clock(&given::inert("zoneinfo.pt"));
}

/// A jagged tensor: PyTorch wants modules imported first, or refuses it; its parts are tensors like others.
#[test]
fn test_load_njt_weights_only() {
    let names = [
        "torch.nested._internal.nested_tensor._rebuild_njt",
        "torch.nested._internal.nested_tensor.NestedTensor",
    ];
    check_refused("jagged.pt", &names);
    for checkpoint in [given::allowing("jagged.pt", &names).unwrap(), given::inert("jagged.pt")] {
        let read = |end: &str| -> Vec<i64> {
            let (_, tensor) = checkpoint.tensors().find(|(name, _)| name.ends_with(end)).unwrap();
            let bytes = tensor.to_contiguous().unwrap();
            bytes.chunks_exact(8).map(|int| i64::from_le_bytes(int.try_into().unwrap())).collect()
        };
        assert_eq!(read("#args/0.values"), [7, 8, 9, 10, 11]);
        assert_eq!(read("#args/0.offsets"), [0, 2, 5]);
        let parts = checkpoint.root().args().nth(2).unwrap().index(0).unwrap();
        assert_eq!(parts.get("_ragged_idx").unwrap().as_i64().unwrap(), 1);
    }
}

fn check_two_tensors(checkpoint: &Checkpoint) {
    for (name, parameter) in [("t", false), ("p", true)] {
        let value = checkpoint.root().get(name).unwrap();
        assert_eq!(value.class(), Some(TWO_TENSOR));
        let part = |key| given::floats(value.get(key).unwrap().as_tensor().unwrap());
        assert_eq!((part("a"), part("b")), (vec![1.0, 2.0], vec![3.0, 4.0]));
        // PyTorch makes a parameter of a subclass again by this mark.
        assert_eq!(value.get("_is_param").is_ok_and(|mark| mark.as_bool().unwrap()), parameter);
    }
}

/// Names are added to a list, the list can be looked at, and a new one begins without them.
#[test]
fn test_safe_globals_for_weights_only() {
    let file = given::path("two_tensor.pt");
    let default = Globals::weights_only();
    assert_eq!(default.allowed().count(), 0);
    check_refused("two_tensor.pt", &[TWO_TENSOR]);
    let added = default.clone().allow(TWO_TENSOR);
    assert_eq!(added.allowed().collect::<Vec<_>>(), [TWO_TENSOR]);
    let checkpoint = LoadOptions::new().globals(added).open(&file).unwrap();
    check_two_tensors(&checkpoint);
    assert!(checkpoint.globals().any(|it| it == (TWO_TENSOR, Verdict::Allowed)));
    let error = LoadOptions::new().globals(default).open(&file).unwrap_err();
    assert_eq!(given::refused_names(&error), [TWO_TENSOR]);
}

/// A list holds where it is given, and nowhere else.
#[test]
fn test_safe_globals_context_manager_weights_only() {
    let file = given::path("two_tensor.pt");
    let outside = Globals::weights_only().allow("classes.Plain");
    {
        let inside = LoadOptions::new().globals(outside.clone().allow(TWO_TENSOR));
        check_two_tensors(&inside.open(&file).unwrap());
    }
    assert_eq!(outside.allowed().collect::<Vec<_>>(), ["classes.Plain"]);
    for options in [LoadOptions::new().globals(outside), LoadOptions::new()] {
        assert_eq!(given::refused_names(&options.open(&file).unwrap_err()), [TWO_TENSOR]);
    }
}
