//! What does not fit a type, nests too deeply, or is shared without end.

use std::collections::HashMap;

use ptser_core::{ErrorKind, Limits, LoadOptions, Object, SaveOptions, Value};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::*;

#[test]
fn errors_name_the_path() {
    #[derive(Deserialize)]
    struct Root {
        #[expect(dead_code, reason = "never read")]
        hyper_parameters: Hyper,
    }
    #[derive(Deserialize)]
    struct Hyper {
        #[expect(dead_code, reason = "never read")]
        args: HashMap<String, Option<f64>>,
    }
    let checkpoint = training();
    fails::<Root>(checkpoint.root(), r#"hyper_parameters.args.name: expected f64, found the string "base""#);
    let message = "0.param_groups.0.lr: expected a string, found the float 0.0003";
    fails::<Vec<Groups>>(at(&checkpoint, "optimizers"), message);
    fails::<Adam>(at(&checkpoint, "hyper_parameters.args"), "missing field `betas`");
    fails::<Vec<Strict>>(at(&checkpoint, "pairs"), "0.0: expected u8, found the string \"a\"");
    fails::<Strict>(at(&checkpoint, "slotted"), "unknown field `depth`, expected `width`");
    fails::<u8>(checkpoint.root(), "expected u8, found a dict");
    fails::<String>(at(&checkpoint, "surrogate"), {
        "expected a string, found a string with lone surrogates, which UTF-8 lacks; read it as bytes"
    });
    check(at(&checkpoint, "surrogate"), &b"\xed\xa0\x80"[..]);
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Strict {
    #[expect(dead_code, reason = "never read")]
    width: u8,
}

#[derive(Deserialize)]
struct Groups {
    #[expect(dead_code, reason = "never read")]
    param_groups: Vec<HashMap<String, String>>,
}

#[test]
fn tensors_and_storages_are_errors_unless_ignored() {
    let checkpoint = training();
    let message = "weight: expected f64, found a tensor; read it with as_tensor";
    fails::<HashMap<String, f64>>(at(&checkpoint, "state_dict"), message);
    at(&checkpoint, "state_dict").deserialize::<HashMap<String, IgnoredAny>>().unwrap();
    let checkpoint = open("tests/fixtures/zip/storages.pt");
    fails::<Vec<u8>>(at(&checkpoint, "untyped"), "expected a sequence, found a storage; read it with kind");
    fails::<Option<u8>>(at(&checkpoint, "tensor"), "expected u8, found a tensor; read it with as_tensor");
}

// What a hostile file does.

/// A type that goes as deep as the file does.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
#[expect(dead_code, reason = "never read")]
enum Tree {
    Leaf(i64),
    Text(String),
    List(Vec<Tree>),
    Dict(HashMap<String, Tree>),
}

#[derive(Debug, Deserialize)]
struct Nested(#[expect(dead_code, reason = "never read")] Vec<Nested>);

#[derive(Debug, Deserialize)]
struct Endless(#[expect(dead_code, reason = "never read")] Option<Box<Endless>>);

#[derive(Debug, PartialEq, Deserialize)]
struct Beside {
    beside: u8,
}

#[track_caller]
fn is_endless<'c, T: Deserialize<'c>>(value: Value<'c>, kind: ErrorKind, expected: &str) {
    let Err(error) = value.deserialize::<T>() else { panic!("{value} was read") };
    assert_eq!(error.kind(), kind);
    let message = error.to_string();
    assert!(message.contains(expected) && message.len() < 300, "{message}");
}

#[test]
fn what_nests_too_deeply_is_refused() {
    let hostile = open("tests/fixtures/serde/hostile.pt");
    let expected =
        "0.0.0.0.0.0.0.0.….0.0.0.0.0.0.0.0: values nest deeper than 128 levels, or contain themselves";
    is_endless::<Nested>(at(&hostile, "deep"), ErrorKind::LimitExceeded, expected);
    is_endless::<Tree>(at(&hostile, "deep"), ErrorKind::LimitExceeded, "nest deeper than 128 levels");
    is_endless::<Tree>(
        at(&hostile, "inside_itself"),
        ErrorKind::LimitExceeded,
        "nest deeper than 128 levels",
    );
    is_endless::<Tree>(
        at(&hostile, "own_attribute"),
        ErrorKind::LimitExceeded,
        "nest deeper than 128 levels",
    );
    is_endless::<Endless>(at(&hostile, "beside"), ErrorKind::LimitExceeded, "nest deeper than 128 levels");
    check(hostile.root(), Beside { beside: 7 });
}

#[test]
fn how_deep_values_may_nest_is_the_callers_limit() {
    let with = |levels| {
        let options = LoadOptions::new().limits(Limits::default().nesting(levels));
        options.from_bytes(SaveOptions::new().to_bytes(&Object::list([Object::list([1])])).unwrap()).unwrap()
    };
    assert_eq!(with(3).root().deserialize::<Vec<Vec<u8>>>().unwrap(), [[1]]);
    let shallow = with(1);
    let error = shallow.root().deserialize::<Vec<Vec<u8>>>().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    assert!(error.to_string().contains("Limits::nesting(..)"), "{error}");
}

#[test]
fn what_is_shared_without_end_is_refused() {
    let hostile = open("tests/fixtures/serde/hostile.pt");
    for key in ["laughs", "objects"] {
        is_endless::<Tree>(at(&hostile, key), ErrorKind::Misuse, "shared so often");
    }
    is_endless::<Vec<String>>(at(&hostile, "texts"), ErrorKind::Misuse, "shared so often");
    at(&hostile, "laughs").deserialize::<IgnoredAny>().unwrap();
}
