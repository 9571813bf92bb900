//! Values of checkpoints read into Rust types through serde.
#![cfg(feature = "serde")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod refusals;
mod written;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;
use std::path::PathBuf;

use ptser_core::{Checkpoint, ErrorKind, Globals, LoadOptions, Value};
use serde::Deserialize;

fn open(fixture: &str) -> Checkpoint {
    let path = format!("{}/../../{fixture}", env!("CARGO_MANIFEST_DIR"));
    LoadOptions::new().globals(Globals::inert()).open(path).unwrap()
}

fn training() -> Checkpoint {
    open("tests/fixtures/serde/training.pt")
}

fn values() -> Checkpoint {
    open("tests/fixtures/zip/values.pt")
}

/// The value that the keys and indexes of a path lead to, through subclasses of `dict` too.
fn at<'c>(checkpoint: &'c Checkpoint, path: &str) -> Value<'c> {
    path.split('.').fold(checkpoint.root(), |value, step| {
        let assigned = value.assigned().find(|(key, _)| key.as_str().is_ok_and(|key| key == step));
        let index = || step.parse().map_or_else(|_| value.get(step), |index| value.index(index)).unwrap();
        assigned.map_or_else(index, |(_, value)| value)
    })
}

#[track_caller]
fn check<'c, T: Deserialize<'c> + PartialEq + Debug>(value: Value<'c>, expected: T) {
    assert_eq!(value.deserialize::<T>().unwrap(), expected);
}

#[track_caller]
fn fails<'c, T: Deserialize<'c>>(value: Value<'c>, expected: &str) {
    let Err(error) = value.deserialize::<T>() else { panic!("{value} was read") };
    assert_eq!(error.kind(), ErrorKind::Misuse);
    assert_eq!(error.to_string(), expected);
}

#[derive(Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Schedule {
    Cosine,
    Linear,
}

#[derive(Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
enum Color {
    #[serde(rename = "1")]
    Red,
    #[serde(rename = "2")]
    Green,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Adam {
    lr: f64,
    betas: (f32, f64),
    schedule: Schedule,
    warmup: Option<u32>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Args<'c> {
    lr: f64,
    gpus: Option<u32>,
    #[serde(borrow)]
    name: &'c str,
    layers: Vec<usize>,
    resume: Option<String>,
    #[serde(default)]
    workers: u8,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Pair {
    width: u8,
    depth: u8,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Wrapped<T>(T);

/// Any plain value, as untagged enums see them.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(untagged)]
enum Any {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    List(Vec<Any>),
    Dict(BTreeMap<String, Any>),
}

// What a training framework saves.

#[test]
fn a_training_checkpoint_is_read_in_one_go() {
    #[derive(Deserialize)]
    struct Training<'c> {
        epoch: u8,
        #[serde(rename = "pytorch-lightning_version")]
        version: &'c str,
        #[serde(borrow)]
        hyper_parameters: Hyper<'c>,
        optimizers: Vec<Optimizer>,
    }
    #[derive(Deserialize)]
    struct Hyper<'c> {
        #[serde(borrow)]
        args: Args<'c>,
        optimizer: Adam,
        seed: i128,
        hash: u64,
    }
    #[derive(Debug, PartialEq, Deserialize)]
    struct Optimizer {
        state: HashMap<i64, HashMap<String, i64>>,
        param_groups: Vec<Group>,
    }
    #[derive(Debug, PartialEq, Deserialize)]
    struct Group {
        params: Vec<usize>,
    }

    let checkpoint = training();
    let read: Training<'_> = checkpoint.root().deserialize().unwrap();
    assert_eq!((read.epoch, read.version), (3, "2.5.0"));
    let Hyper { args, optimizer, seed, hash } = read.hyper_parameters;
    let expected = Args {
        lr: 0.001,
        gpus: None,
        name: "base",
        layers: vec![64, 32],
        resume: Some("last.ckpt".into()),
        workers: 0,
    };
    assert_eq!(args, expected);
    assert_eq!(optimizer, Adam { lr: 3e-4, betas: (0.9, 1.0), schedule: Schedule::Cosine, warmup: None });
    assert_eq!((seed, hash), (1 << 100, u64::MAX));
    let step = |step| HashMap::from([("step".to_owned(), step)]);
    let expected = Optimizer {
        state: HashMap::from([(0, step(12)), (1, step(13))]),
        param_groups: vec![Group { params: vec![0, 1] }],
    };
    assert_eq!(read.optimizers, [expected]);
}

#[test]
fn a_namespace_of_another_program_is_a_struct() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Lr {
        lr: f32,
    }
    let checkpoint = open("crates/ptser-cli/tests/fixtures/unlisted.pt");
    check(at(&checkpoint, "args"), Lr { lr: 0.5 });
    check(at(&checkpoint, "args"), HashMap::from([("lr", 0.5)]));
}

#[test]
fn a_checkpoint_is_read_past_its_tensors() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Checkpoint<'c> {
        epoch: u32,
        best_loss: f64,
        #[serde(borrow)]
        args: Args<'c>,
    }
    #[derive(Debug, PartialEq, Deserialize)]
    struct Args<'c> {
        name: &'c str,
        lr: f64,
        layers: [u8; 2],
        resume: Option<&'c str>,
    }
    let expected = || Checkpoint {
        epoch: 12,
        best_loss: 0.125,
        args: Args { name: "demo", lr: 1e-3, layers: [2, 3], resume: None },
    };
    for key in ["ema", "model", "model_state_dict", "module", "params", "state_dict"] {
        check(open(&format!("tests/fixtures/zip/nested_{key}.pt")).root(), expected());
    }
}

#[test]
fn every_protocol_reads_the_same() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Assorted {
        counter: BTreeMap<char, u8>,
        set: BTreeSet<u16>,
        bytearray: Vec<u8>,
        integers: Vec<i128>,
        floats: Vec<f64>,
        complex: (f64, f64),
        tuples: Vec<Vec<u8>>,
        constants: (Option<u8>, bool, bool),
        torch: ([u8; 2], String, String, String),
        ordered: Ordered,
    }
    #[derive(Debug, PartialEq, Deserialize)]
    struct Ordered {
        b: u8,
    }
    let expected = || Assorted {
        counter: [('a', 2), ('b', 1), ('c', 1)].into(),
        set: [1, 20, 300].into(),
        bytearray: b"mutable".into(),
        integers: vec![0, 255, 256, 65535, 65536, -1, (1 << 31) - 1, 1 << 31, -(1 << 63), 1 << 64],
        floats: vec![0.0, -0.0, 1.5, f64::INFINITY],
        complex: (1.0, -2.0),
        tuples: vec![vec![], vec![1], vec![1, 2], vec![1, 2, 3], vec![1, 2, 3, 4]],
        constants: (None, true, false),
        torch: ([2, 3], "cuda:0".into(), "float16".into(), "strided".into()),
        ordered: Ordered { b: 1 },
    };
    for protocol in 1..=5 {
        check(open(&format!("tests/fixtures/zip/protocol{protocol}.pt")).root(), expected());
    }
}

// Scalars.

#[test]
fn text_and_bytes_are_borrowed_from_the_checkpoint() {
    let checkpoint = values();
    let text: Vec<&str> = at(&checkpoint, "text").deserialize().unwrap();
    assert_eq!(text[..4], ["", "plain", "naïve", "模型"]);
    let source = at(&checkpoint, "text").index(1).unwrap().as_str().unwrap();
    assert_eq!(text[1].as_ptr(), source.as_ptr());
    let bytes: Vec<&[u8]> = at(&checkpoint, "bytes").deserialize().unwrap();
    assert_eq!(bytes[..2], [&b"\0"[..], b"ascii"]);
    check(at(&checkpoint, "bytearrays"), vec![vec![], vec![0, 0x80, 0xFFu8]]);
    let checkpoint = training();
    check(at(&checkpoint, "blob"), &[0, 1, 0xFFu8][..]);
    check(at(&checkpoint, "blob"), (0u8, 1u32, 0xFFu64));
    check(at(&checkpoint, "letter"), 'é');
}

#[test]
fn integers_keep_their_value_or_fail() {
    let checkpoint = values();
    let integers = at(&checkpoint, "integers");
    let big: Vec<_> = integers.items().map(|int| int.deserialize::<i128>()).collect();
    let expected =
        [i64::MAX.into(), 1 << 63, -(1 << 63), -(1 << 63) - 1, u64::MAX.into(), 1 << 64, -(1 << 100)];
    assert_eq!(big[14..21].iter().flatten().copied().collect::<Vec<i128>>(), expected);
    check(integers.index(18).unwrap(), u64::MAX);
    check(integers.index(18).unwrap(), u128::from(u64::MAX));
    fails::<u8>(integers.index(2).unwrap(), "expected u8, found the integer -1");
    fails::<i64>(integers.index(15).unwrap(), "expected i64, found the integer 9223372036854775808");
    fails::<bool>(integers.index(0).unwrap(), "expected a boolean, found the integer 0");
    let huge = integers.index(21).unwrap().deserialize::<i128>().unwrap_err().to_string();
    assert!(huge.starts_with("expected i128, found the integer 1000000") && huge.len() < 160, "{huge}");
    assert!(huge.ends_with("…, which is beyond 128 bits"), "{huge}");
}

#[test]
fn integers_are_floats_where_that_is_exact() {
    let checkpoint = training();
    check(at(&checkpoint, "hyper_parameters.dropout"), 1.0f32);
    check(at(&checkpoint, "hyper_parameters.exact"), 2f64.powi(70));
    check(at(&checkpoint, "hyper_parameters.exact"), 2f32.powi(70));
    check(at(&checkpoint, "global_step"), 2f32.powi(40));
    check(at(&checkpoint, "color"), 2.0);
    fails::<f64>(
        at(&checkpoint, "hyper_parameters.unheard"),
        "expected f64, found the integer 9007199254740993, which it cannot hold exactly",
    );
    fails::<f32>(
        at(&checkpoint, "hyper_parameters.hash"),
        "expected f32, found the integer 18446744073709551615, which it cannot hold exactly",
    );
    let huge = at(&checkpoint, "hyper_parameters.huge").deserialize::<f64>().unwrap_err().to_string();
    assert!(huge.ends_with("…, which it cannot hold exactly"), "{huge}");
    let checkpoint = values();
    let exact: Vec<_> =
        at(&checkpoint, "integers").items().map(|int| int.deserialize::<f64>().ok()).collect();
    assert_eq!(exact[13], Some(-2147483649.0));
    assert_eq!(exact[14..18], [None, Some(2f64.powi(63)), Some(-(2f64.powi(63))), None]);
    fails::<f64>(at(&checkpoint, "text").index(1).unwrap(), r#"expected f64, found the string "plain""#);
}

#[test]
fn names_of_torch_are_text() {
    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum DType {
        BFloat16,
    }
    #[derive(Debug, PartialEq, Deserialize)]
    enum Class {
        Adam,
    }
    let checkpoint = training();
    let torch = HashMap::from([("device", "cuda:0"), ("dtype", "bfloat16"), ("layout", "strided")]);
    check(at(&checkpoint, "torch"), torch);
    check(at(&checkpoint, "torch.dtype"), DType::BFloat16);
    check(at(&checkpoint, "class"), "recipe.Adam");
    check(at(&checkpoint, "class"), Class::Adam);
}

// Sequences and mappings.

#[test]
fn sequences_of_every_kind_are_sequences() {
    let checkpoint = values();
    check(at(&checkpoint, "sizes"), vec![vec![], vec![3], vec![1, 2, 3, 4u64]]);
    check(at(&checkpoint, "sets").index(2).unwrap(), BTreeSet::from([1, 2, 3]));
    check(at(&checkpoint, "twice"), ([1, 2], (1u8, 2i64)));
    check(at(&checkpoint, "complex").index(1).unwrap(), (1.0, 2.0));
    check(at(&checkpoint, "complex").index(1).unwrap(), vec![1f32, 2.0]);
    check(at(&training(), "pairs"), vec![("a".to_owned(), 1), ("b".to_owned(), 2)]);
    check(at(&checkpoint, "thousand"), (0..1000).collect::<Vec<u16>>());
    fails::<(u8,)>(at(&checkpoint, "twice").index(0).unwrap(), "expected 1 item, found 2 in a list");
    fails::<(u8, u8, u8)>(
        at(&checkpoint, "sizes").index(1).unwrap(),
        "expected a tuple of size 3, found 1 item",
    );
    fails::<[u8; 2]>(
        at(&checkpoint, "sizes").index(0).unwrap(),
        "expected an array of length 2, found 0 items",
    );
}

#[test]
fn keys_keep_their_type() {
    let checkpoint = values();
    check(at(&checkpoint, "ordered"), BTreeMap::from([("z", 1), ("a", 2)]));
    assert_eq!(at(&checkpoint, "thousand_pairs").deserialize::<HashMap<u64, bool>>().unwrap().len(), 1000);
    fails::<BTreeMap<i8, ()>>(
        at(&checkpoint, "thousand_and_one"),
        "#key: expected i8, found the integer 128",
    );
    let checkpoint = training();
    check(at(&checkpoint, "by_bool"), HashMap::from([(true, "yes"), (false, "no")]));
    check(at(&checkpoint, "by_color"), HashMap::from([(1u8, 0.5), (2, 0.25)]));
    check(at(&checkpoint, "by_color"), HashMap::from([(Color::Red, 0.5), (Color::Green, 0.25)]));
    check(at(&checkpoint, "by_schedule"), HashMap::from([(Schedule::Cosine, 1)]));
    check(at(&checkpoint, "by_schedule"), HashMap::from([("cosine", 1)]));
    check(
        at(&checkpoint, "overridden"),
        HashMap::from([("lr", Any::Float(0.2)), ("name", Any::Str("base".into()))]),
    );
}

#[test]
fn fields_are_found_among_keys_of_any_type() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Keys<'c> {
        naïve: &'c str,
        #[serde(rename = "")]
        empty: &'c str,
        #[serde(rename = "-3")]
        negative: &'c str,
    }
    check(at(&values(), "keys"), Keys { naïve: "text", empty: "empty", negative: "negative" });
}

#[test]
fn the_last_of_equal_keys_counts() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Overridden {
        lr: f64,
        name: String,
    }
    check(at(&training(), "overridden"), Overridden { lr: 0.2, name: "base".into() });
}

// Objects.

#[test]
fn objects_are_what_they_hold() {
    let checkpoint = training();
    check(at(&checkpoint, "slotted"), Pair { width: 1, depth: 2 });
    check(at(&checkpoint, "frozen"), Pair { width: 3, depth: 4 });
    check(at(&checkpoint, "frozen"), (3, 4));
    check(at(&checkpoint, "point"), (0.5, 2.0));
    check(at(&checkpoint, "tagged"), [1, 2, 3]);
    check(at(&checkpoint, "tagged"), HashMap::from([("tag", "primes, nearly")]));
    check(at(&checkpoint, "path"), "runs");
    check(at(&checkpoint, "path"), PathBuf::from("runs"));
    check(at(&checkpoint, "long_path"), PathBuf::from("/data/runs"));
    check(at(&checkpoint, "marker"), ());
    check(at(&checkpoint, "marker"), HashMap::<u8, u8>::new());
    check(at(&checkpoint, "color"), 2);
    check(at(&checkpoint, "schedule"), Wrapped(Wrapped("linear")));
    fails::<Vec<u8>>(at(&checkpoint, "slotted"), "expected a sequence, found an object of recipe.Slotted");
}

#[test]
fn named_tuples_are_structs_by_place() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Point {
        x: f64,
        y: f64,
    }
    #[derive(Debug, PartialEq, Deserialize)]
    struct Single {
        only: u8,
    }
    let checkpoint = training();
    check(at(&checkpoint, "point"), Point { x: 0.5, y: 2.0 });
    check(at(&checkpoint, "single"), Single { only: 7 });
    check(at(&checkpoint, "single"), (7,));
    fails::<Single>(at(&checkpoint, "point"), "0: expected u8, found the float 0.5");
    fails::<Adam>(at(&checkpoint, "single"), "expected struct Adam with 4 elements, found 1 item");
}

// Enums.

#[derive(Debug, PartialEq, Deserialize)]
enum Either {
    Off,
    Fixed(u8),
    Range(u8, u8),
    Box { width: u8, depth: u8 },
}

#[test]
fn variants_are_named_by_text_or_by_the_one_key() {
    let checkpoint = training();
    let expected = vec![
        Either::Fixed(3),
        Either::Range(1, 2),
        Either::Box { width: 4, depth: 5 },
        Either::Off,
        Either::Off,
    ];
    check(at(&checkpoint, "either"), expected);
    fails::<Vec<Schedule>>(
        at(&checkpoint, "either"),
        "0: unknown variant `Fixed`, expected `cosine` or `linear`",
    );
    fails::<Either>(at(&checkpoint, "slotted"), "expected enum Either, found an object of recipe.Slotted");
    fails::<Either>(
        at(&checkpoint, "epoch"),
        "unknown variant `3`, expected one of `Off`, `Fixed`, `Range`, `Box`",
    );
}

#[test]
fn variants_are_named_by_the_value_of_an_enum() {
    let checkpoint = training();
    check(at(&checkpoint, "schedule"), Schedule::Linear);
    check(at(&checkpoint, "color"), Color::Green);
    check(at(&checkpoint, "colors"), [Color::Red, Color::Green, Color::Green]);
}

#[test]
fn variants_are_named_by_the_class_of_an_object() {
    #[derive(Debug, PartialEq, Deserialize)]
    enum Object {
        Adam { lr: f64 },
        Slotted(Pair),
        Frozen(u8, u8),
        Color(u8),
        Marker,
        Tagged,
    }
    let checkpoint = training();
    check(at(&checkpoint, "hyper_parameters.optimizer"), Object::Adam { lr: 3e-4 });
    check(at(&checkpoint, "slotted"), Object::Slotted(Pair { width: 1, depth: 2 }));
    check(at(&checkpoint, "frozen"), Object::Frozen(3, 4));
    check(at(&checkpoint, "color"), Object::Color(2));
    check(at(&checkpoint, "marker"), Object::Marker);
    fails::<Object>(at(&checkpoint, "tagged"), "expected unit, found an object of recipe.Tagged");
    fails::<Object>(at(&checkpoint, "class"), "expected a variant with fields, found its name alone");
}

#[test]
fn enums_by_content_see_values_as_they_are() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Flat {
        lr: f64,
        #[serde(flatten)]
        rest: BTreeMap<String, Any>,
    }
    let checkpoint = training();
    let rest = BTreeMap::from([
        ("gpus".to_owned(), Any::None),
        ("layers".to_owned(), Any::List(vec![Any::Int(64), Any::Int(32)])),
        ("name".to_owned(), Any::Str("base".into())),
        ("resume".to_owned(), Any::Str("last.ckpt".into())),
    ]);
    check(at(&checkpoint, "hyper_parameters.args"), Flat { lr: 0.001, rest });
}

// Errors.
