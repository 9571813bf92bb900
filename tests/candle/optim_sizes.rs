//! Optimizers at sizes that vector loops leave something of, and of a bare layer.

use candle_core::{Device, Tensor, Var};
use candle_nn::Optimizer;
use ptser::candle::{Adam, AdamOptions, AdamW, AdamWOptions, Sgd, SgdOptions, StatefulOptimizer};
use ptser::{Checkpoint, SaveOptions, Value};

use crate::fixtures::path;

fn floats(value: Value<'_>) -> Vec<f32> {
    let bytes = value.as_tensor().unwrap().to_contiguous().unwrap().into_owned();
    bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

fn tensor(value: Value<'_>) -> Tensor {
    let floats = floats(value);
    let count = floats.len();
    Tensor::from_vec(floats, count, &Device::Cpu).unwrap()
}

/// Five steps from where PyTorch began, compared with where it came to.
fn check<O: Optimizer + StatefulOptimizer>(fixture: &str, make: impl FnOnce(Vec<(String, Var)>) -> O) {
    let checkpoint = Checkpoint::open(path("optim").join(fixture)).unwrap();
    let root = checkpoint.root();
    let start = root.get("start").unwrap().entries();
    let vars: Vec<(String, Var)> = start
        .map(|(name, value)| (name.as_str().unwrap().to_owned(), Var::from_tensor(&tensor(value)).unwrap()))
        .collect();
    let mut optimizer = make(vars.clone());
    for given in root.get("gradients").unwrap().items() {
        let mut gradients = Tensor::new(0.0_f32, &Device::Cpu).unwrap().backward().unwrap();
        for (name, var) in &vars {
            gradients.insert(var, tensor(given.get(name).unwrap()));
        }
        optimizer.step(&gradients).unwrap();
    }
    let bytes = SaveOptions::new().to_bytes(&optimizer.state_dict().unwrap()).unwrap();
    let saved = Checkpoint::from_bytes(bytes).unwrap();
    let states = root.get("optimizer").unwrap().get("state").unwrap().entries();
    let found_states = saved.root().get("state").unwrap().entries();
    let mut compared = Vec::new();
    for ((_, expected), (_, found)) in states.zip(found_states) {
        for (key, expected) in expected.entries() {
            compared.push((floats(found.get(key.as_str().unwrap()).unwrap()), floats(expected)));
        }
    }
    assert!(compared.len() >= vars.len());
    for (name, var) in &vars {
        let expected = floats(root.get("end").unwrap().get(name).unwrap());
        compared.push((var.to_vec1().unwrap(), expected));
    }
    for (found, expected) in compared {
        assert_eq!(found.len(), expected.len());
        for (place, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let close = (found - expected).abs() <= 1e-6 * expected.abs();
            assert!(close, "{fixture}: at {place}: {found} is not {expected}");
        }
    }
}

#[test]
fn steps_at_odd_sizes_are_pytorchs() {
    let sgd = SgdOptions { lr: 0.05, momentum: 0.9, weight_decay: 0.1, ..SgdOptions::default() };
    check("sgd_odd.pt", |vars| Sgd::named(vars, sgd).unwrap());
    let adam = AdamOptions { lr: 0.02, weight_decay: 0.05, amsgrad: true, ..AdamOptions::default() };
    check("adam_odd.pt", |vars| Adam::named(vars, adam).unwrap());
    let adamw = AdamWOptions { lr: 0.02, weight_decay: 0.1, ..AdamWOptions::default() };
    check("adamw_odd.pt", |vars| AdamW::named(vars, adamw).unwrap());
}

/// An `nn.Linear` by itself, its optimizer without names, its state without a model beside it.
#[test]
fn the_state_of_a_bare_layer_is_saved_as_pytorchs_bytes() {
    let path = path("optim/linear.pt");
    let checkpoint = Checkpoint::open(&path).unwrap();
    let zeros = |shape: &[usize]| Var::zeros(shape, candle_core::DType::F32, &Device::Cpu).unwrap();
    let mut optimizer = AdamW::new(vec![zeros(&[3, 5]), zeros(&[3])], AdamWOptions::default()).unwrap();
    optimizer.load_state_dict(checkpoint.root()).unwrap();
    let saved = SaveOptions::new().root_folder("linear").to_bytes(&optimizer.state_dict().unwrap()).unwrap();
    assert!(saved == std::fs::read(&path).unwrap(), "not PyTorch's bytes");
}
