//! Training checkpoints as one value: the layouts of PyTorch's scripts, and a loop that goes on bit for bit.

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{Optimizer, VarMap};
use ptser::candle::{
    AdamW, AdamWOptions, ResumeError, Sgd, SgdOptions, TrainingCheckpoint, TrainingKeys, TrainingState,
    VarsError, named_vars, named_vars_as,
};
use ptser::{Checkpoint, CheckpointFolder, Object, SaveOptions, Value};

use crate::fixtures::{bytes, path};

const LAYOUTS: [&str; 3] = ["customary.pt", "short.pt", "lightning.ckpt"];

fn open(name: &str) -> TrainingCheckpoint {
    TrainingCheckpoint::open(path("training").join(name)).unwrap()
}

/// The fixtures' linear layer, and an optimizer of it.
fn fresh() -> (VarMap, AdamW) {
    let vars = VarMap::new();
    for (name, shape) in [("weight", vec![2, 4]), ("bias", vec![2])] {
        let var = Var::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        vars.data().lock().unwrap().insert(name.to_owned(), var);
    }
    let named = named_vars_as(&vars, ["weight", "bias"]);
    let optimizer = AdamW::named(named, AdamWOptions::default()).unwrap();
    (vars, optimizer)
}

fn all(vars: &VarMap) -> Vec<(String, Vec<u8>)> {
    named_vars(vars).into_iter().map(|(name, var)| (name, bytes(&var))).collect()
}

fn saved(state: &TrainingState) -> TrainingCheckpoint {
    Checkpoint::from_bytes(SaveOptions::new().to_bytes(state).unwrap()).unwrap().into()
}

fn keys(value: Value<'_>) -> Vec<&str> {
    value.entries().map(|(key, _)| key.as_str().unwrap()).collect()
}

#[test]
fn every_layout_is_resumed() {
    for name in LAYOUTS {
        let checkpoint = open(name);
        let (vars, mut optimizer) = fresh();
        let report = checkpoint.resume(&vars, &mut optimizer).unwrap();
        assert!(report.is_complete(), "{name}");
        let expected = checkpoint.checkpoint().state_dict().unwrap();
        for (var_name, var) in named_vars(&vars) {
            let tensor = expected.get(&var_name).unwrap();
            assert_eq!(bytes(&var), &*tensor.to_contiguous().unwrap(), "{name} {var_name}");
        }
        // 0.125, halved twice by the schedule.
        assert_eq!(optimizer.learning_rates(), [0.03125]);
        assert_eq!(checkpoint.epoch(), Some(2));
        assert_eq!(checkpoint.scheduler().unwrap().get("last_epoch").unwrap().as_i64().unwrap(), 2);
        let steps = if name == "short.pt" { None } else { Some(20) };
        assert_eq!(checkpoint.step(), steps, "{name}");
    }
    // A tensor of one element is a number; the state of PyTorch's generator is a tensor.
    assert_eq!(open("customary.pt").loss(), Some(0.25));
    assert!(open("customary.pt").rng().unwrap().as_tensor().is_ok());
    assert_eq!(open("lightning.ckpt").get("hyper_parameters").unwrap().to_string(), "{'lr': 0.125}");
}

#[test]
fn what_is_saved_has_the_keys_of_its_layout() {
    let layouts = [TrainingKeys::customary(), TrainingKeys::short(), TrainingKeys::lightning()];
    for (name, layout) in LAYOUTS.into_iter().zip(layouts) {
        let (vars, mut optimizer) = fresh();
        let from_pytorch = open(name);
        from_pytorch.resume(&vars, &mut optimizer).unwrap();
        let schedule = Object::copies_of([from_pytorch.scheduler().unwrap()]).unwrap().remove(0);
        let state = TrainingState::new()
            .keys(layout.clone())
            .model(named_vars_as(&vars, ["weight", "bias"]))
            .unwrap()
            .optimizer(&optimizer)
            .unwrap()
            .scheduler(schedule)
            .epoch(2)
            .step(20);
        let checkpoint = saved(&state);
        let (found, expected) = (checkpoint.checkpoint().root(), from_pytorch.checkpoint().root());
        for key in [&layout.model, &layout.optimizer, &layout.scheduler, &layout.epoch] {
            // The same values: every number, in PyTorch's order.
            assert_eq!(
                found.get(key).unwrap().to_string(),
                expected.get(key).unwrap().to_string(),
                "{name} {key}"
            );
        }
        for (path, tensor) in
            from_pytorch.checkpoint().tensors().filter(|(path, _)| !["loss", "rng_state"].contains(path))
        {
            let found = checkpoint.checkpoint().tensor(path).unwrap();
            assert_eq!(found.to_contiguous().unwrap(), tensor.to_contiguous().unwrap(), "{name} {path}");
        }
        // Read back by its layout, and by looking.
        for checkpoint in [saved(&state), saved(&state).keys(layout)] {
            let (again, mut optimizer) = fresh();
            checkpoint.resume(&again, &mut optimizer).unwrap();
            assert_eq!(all(&again), all(&vars));
            assert_eq!((checkpoint.epoch(), checkpoint.step()), (Some(2), Some(20)));
        }
    }
}

#[test]
fn what_is_put_in_is_there_in_order() {
    let (vars, optimizer) = fresh();
    let state = TrainingState::new()
        .with("config", Object::dict([("layers", 4)]))
        .rng(u64::MAX)
        .loss(0.5)
        .model(&vars)
        .unwrap()
        .optimizer(&optimizer)
        .unwrap()
        .epoch(7);
    let checkpoint = saved(&state);
    let expected = ["epoch", "model_state_dict", "optimizer_state_dict", "loss", "rng_state", "config"];
    assert_eq!(keys(checkpoint.checkpoint().root()), expected);
    assert_eq!((checkpoint.epoch(), checkpoint.loss()), (Some(7), Some(0.5)));
    assert_eq!(checkpoint.rng().unwrap().to_string(), u64::MAX.to_string());
    assert_eq!(checkpoint.get("config").unwrap().get("layers").unwrap().as_i64().unwrap(), 4);
    assert!(
        checkpoint.step().is_none() && checkpoint.scheduler().is_none() && checkpoint.get("other").is_none()
    );
}

/// The optimizer's state, as bytes.
fn state_of(optimizer: &AdamW) -> Vec<u8> {
    SaveOptions::new().to_bytes(&optimizer.state_dict().unwrap()).unwrap()
}

#[test]
fn what_does_not_fit_changes_neither_model_nor_optimizer() {
    let (vars, mut optimizer) = fresh();
    open("customary.pt").resume(&vars, &mut optimizer).unwrap();
    let before = (all(&vars), state_of(&optimizer));
    let refused = |checkpoint: TrainingCheckpoint, optimizer: &mut AdamW| {
        let error = checkpoint.resume(&vars, optimizer).unwrap_err();
        assert_eq!((all(&vars), state_of(optimizer)), before, "{error}");
        error
    };

    // The optimizer's state fits, and the model's does not.
    let tensor = |shape: &[usize]| Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap();
    let other = [("weight", tensor(&[2, 4])), ("bias", tensor(&[3]))];
    let state = TrainingState::new().model(other).unwrap().optimizer(&fresh().1).unwrap();
    let error = refused(saved(&state), &mut optimizer);
    assert!(matches!(error, ResumeError::Model(VarsError::Mismatch(_))), "{error}");
    assert!(error.to_string().contains("bias: expected shape [2], found [3]"), "{error}");

    // The model's fits, and the optimizer's does not.
    let sgd = Sgd::named(named_vars(&vars), SgdOptions::default()).unwrap();
    let other = fresh().0;
    let state = TrainingState::new().model(&other).unwrap().optimizer(&sgd).unwrap();
    let error = refused(saved(&state), &mut optimizer);
    assert!(matches!(error, ResumeError::Optimizer(_)), "{error}");

    // There is none, or not where it was looked for.
    let error = refused(saved(&TrainingState::new().model(&other).unwrap()), &mut optimizer);
    assert!(error.to_string().contains("optimizer_state_dict, optimizer, optimizer_states"), "{error}");
    let error = refused(open("customary.pt").keys(TrainingKeys::short()), &mut optimizer);
    assert!(matches!(error, ResumeError::Missing { .. }), "{error}");
}

/// One step on the batch of its number; gives the bits of the loss.
fn step(vars: &VarMap, optimizer: &mut AdamW, number: u64) -> u32 {
    let inputs: Vec<f32> = (0..20_u64).map(|n| ((n * 7 + number * 13) % 17) as f32 / 8.0 - 1.0).collect();
    let inputs = Tensor::from_vec(inputs, (5, 4), &Device::Cpu).unwrap();
    let [weight, bias] = ["weight", "bias"].map(|name| vars.data().lock().unwrap()[name].clone());
    let outputs = inputs.matmul(&weight.t().unwrap()).unwrap().broadcast_add(&bias).unwrap();
    let loss = (outputs - 0.5).unwrap().sqr().unwrap().mean_all().unwrap();
    optimizer.backward_step(&loss).unwrap();
    loss.to_scalar::<f32>().unwrap().to_bits()
}

#[test]
fn a_loop_goes_on_bit_for_bit_from_any_of_its_background_saves() {
    let (vars, mut optimizer) = fresh();
    open("customary.pt").resume(&vars, &mut optimizer).unwrap();
    let there = tempfile::tempdir().unwrap();
    let mut background = CheckpointFolder::create(there.path()).unwrap().in_background().unwrap();
    let mut losses = Vec::new();
    for number in 0..12 {
        losses.push(step(&vars, &mut optimizer, number));
        let state =
            TrainingState::new().model(&vars).unwrap().optimizer(&optimizer).unwrap().step(number + 1);
        background.save(number + 1, None, &state).unwrap();
    }
    let folder = background.finish().unwrap();
    let end = (all(&vars), state_of(&optimizer));
    for file in folder.list().unwrap() {
        let checkpoint = TrainingCheckpoint::open(&file.path).unwrap();
        let (vars, mut optimizer) = fresh();
        checkpoint.resume(&vars, &mut optimizer).unwrap();
        let done = checkpoint.step().unwrap();
        assert_eq!(done, file.step);
        for number in done..12 {
            let loss = step(&vars, &mut optimizer, number);
            assert_eq!(loss, losses[usize::try_from(number).unwrap()], "step {number} from {done}");
        }
        assert_eq!((all(&vars), state_of(&optimizer)), end, "from {done}");
    }
}
