//! Types of a caller as objects that are saved, and read back.

use std::collections::BTreeMap;

use ptser_core::{Checkpoint, Object, SaveOptions};
use serde::ser::Error;
use serde::{Deserialize, Serialize, Serializer};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Schedule {
    Constant,
    Step(u32),
    Warmup(u64, f64),
    Cosine { period: u64, floor: Option<f64> },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Wrapped(String);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Config {
    name: Wrapped,
    letter: char,
    betas: (f64, f64),
    sizes: Vec<usize>,
    schedules: Vec<Schedule>,
    seed: u64,
    large: i128,
    nothing: (),
    maybe: Option<bool>,
    by_epoch: BTreeMap<i32, f32>,
}

#[test]
fn what_is_written_is_read_back() {
    let config = Config {
        name: Wrapped("digits".into()),
        letter: 'é',
        betas: (0.9, 0.999),
        sizes: vec![64, 10],
        schedules: vec![
            Schedule::Constant,
            Schedule::Step(3),
            Schedule::Warmup(100, 0.1),
            Schedule::Cosine { period: 7, floor: None },
        ],
        seed: u64::MAX,
        large: i128::MIN,
        nothing: (),
        maybe: Some(false),
        by_epoch: [(0, 0.5), (-1, 0.25)].into(),
    };
    let bytes = SaveOptions::new().to_bytes(&Object::of(&config).unwrap()).unwrap();
    let checkpoint = Checkpoint::from_bytes(bytes).unwrap();
    assert_eq!(checkpoint.root().get("seed").unwrap().to_string(), u64::MAX.to_string());
    assert_eq!(
        checkpoint.root().get("schedules").unwrap().to_string(),
        "['Constant', {'Step': 3}, {'Warmup': (100, 0.1)}, {'Cosine': {'period': 7, 'floor': None}}]"
    );
    assert_eq!(checkpoint.root().deserialize::<Config>().unwrap(), config);
}

#[test]
fn what_will_not_be_serialized_says_why() {
    struct Never;
    impl Serialize for Never {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(S::Error::custom("not today"))
        }
    }
    assert_eq!(Object::of(&[Never]).unwrap_err().to_string(), "not today");
}
