//! States of optimizers that are made to take time or memory.

use candle_core::{DType, Device, Tensor, Var};
use ptser::candle::{Adam, AdamOptions, ParamGroup, Sgd, SgdOptions};
use ptser::{Checkpoint, Object, SaveOptions};

use crate::fixtures::path;

fn zeros() -> Object {
    ptser::candle::to_tensor(&Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap()).unwrap().into()
}

/// A dict that is the state of every parameter may have millions of keys.
#[test]
fn a_state_has_no_keys_but_its_own() {
    let x = Var::zeros(3, DType::F32, &Device::Cpu).unwrap();
    let mut adam = Adam::named([("x".to_owned(), x)], AdamOptions::default()).unwrap();
    let state = [("step", 3.into()), ("exp_avg", zeros()), ("exp_avg_sq", zeros())];
    let state =
        state.map(|(key, value)| (Object::from(key), value)).into_iter().chain([(0.into(), 1.into())]);
    let group = ["lr", "eps", "weight_decay"].map(|key| (key, Object::from(0.1)));
    let group =
        group.into_iter().chain([("betas", Object::list([0.9, 0.99])), ("params", Object::list([7]))]);
    let optimizer = Object::dict([
        ("state", Object::dict([(7, Object::dict(state))])),
        ("param_groups", Object::list([Object::dict(group)])),
    ]);
    let bytes = SaveOptions::new().to_bytes(&optimizer).unwrap();
    let error = adam.load_state_dict(Checkpoint::from_bytes(bytes).unwrap().root()).unwrap_err();
    assert!(error.to_string().contains("parameter x has 0 in its state"), "{error}");
}

/// A text that is one in the file may be the name of every parameter, which each keep it.
#[test]
fn names_without_end_are_refused() {
    let vars = (0..140).map(|_| Var::zeros(1, DType::F32, &Device::Cpu).unwrap()).collect();
    let mut optimizer = Sgd::with_groups([ParamGroup::new(vars)], SgdOptions::default()).unwrap();
    let group = |length: usize| {
        let name = Object::from("n".repeat(length));
        let settings = ["lr", "momentum", "dampening", "weight_decay"].map(|key| (key, Object::from(0.1)));
        let params = [("params", Object::list(0..140)), ("param_names", Object::list(vec![name; 140]))];
        Object::dict(settings.into_iter().chain(params))
    };
    let saved = |length| {
        let empty = Object::dict([(0, 0); 0]);
        let optimizer = Object::dict([("state", empty), ("param_groups", Object::list([group(length)]))]);
        Checkpoint::from_bytes(SaveOptions::new().to_bytes(&optimizer).unwrap()).unwrap()
    };
    optimizer.load_state_dict(saved(100).root()).unwrap();
    let error = optimizer.load_state_dict(saved(1 << 20).root()).unwrap_err().to_string();
    assert!(error.contains("the names in its groups are 146800"), "{error}");
}

#[test]
fn moments_that_are_parts_of_a_deflated_storage_have_their_values() {
    let vars = (0..2).map(|_| Var::zeros(3, DType::F32, &Device::Cpu).unwrap()).collect();
    let mut optimizer = Adam::with_groups([ParamGroup::new(vars)], AdamOptions::default()).unwrap();
    optimizer
        .load_state_dict(
            Checkpoint::open(path("candle/deflated.pt")).unwrap().root().get("optimizer_state_dict").unwrap(),
        )
        .unwrap();
    let saved = SaveOptions::new().to_bytes(&optimizer.state_dict().unwrap()).unwrap();
    let saved = Checkpoint::from_bytes(saved).unwrap();
    for (place, (_, state)) in saved.root().get("state").unwrap().entries().enumerate() {
        for (key, first) in [("exp_avg", 6 * place), ("exp_avg_sq", 6 * place + 3)] {
            let found = state.get(key).unwrap().as_tensor().unwrap().to_contiguous().unwrap();
            let expected: Vec<u8> =
                (first..first + 3).flat_map(|number| (number as f32).to_le_bytes()).collect();
            assert_eq!(*found, *expected, "{place} {key}");
        }
        let step = state.get("step").unwrap().as_tensor().unwrap().to_contiguous().unwrap();
        assert_eq!(*step, 2_f32.to_le_bytes());
    }
}
