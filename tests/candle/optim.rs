//! Optimizers: the same steps as PyTorch's, the same state dicts, each resumed from the other.

use std::io::Read;
use std::path::Path;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{Optimizer, VarMap};
use ptser::candle::{
    Adam, AdamOptions, AdamW, AdamWOptions, ParamGroup, Sgd, SgdOptions, StateError, named_vars,
    named_vars_as, to_state_dict,
};
use ptser::{Checkpoint, Object, SaveOptions, Value, ValueKind};

use crate::fixtures::{bytes, path};

/// The parameters of the fixtures, and the gradients of ten steps.
pub(crate) struct Given {
    pub(crate) vars: Vec<(String, Var)>,
    gradients: Vec<Vec<(String, Tensor)>>,
}

fn open(name: &str) -> Checkpoint {
    Checkpoint::open(path("optim").join(name)).unwrap()
}

fn tensors(value: Value<'_>) -> Vec<(String, Tensor)> {
    let tensor = |value: Value<'_>| {
        let tensor = value.as_tensor().unwrap();
        let dtype = match tensor.dtype() {
            ptser::DType::Float32 => DType::F32,
            ptser::DType::Float64 => DType::F64,
            ptser::DType::Float16 => DType::F16,
            ptser::DType::BFloat16 => DType::BF16,
            other => panic!("{other}"),
        };
        Tensor::from_raw_buffer(&tensor.to_contiguous().unwrap(), dtype, tensor.shape(), &Device::Cpu)
            .unwrap()
    };
    value.entries().map(|(name, value)| (name.as_str().unwrap().to_owned(), tensor(value))).collect()
}

pub(crate) fn given(dtype: &str) -> Given {
    let checkpoint = open(&format!("given_{dtype}.pt"));
    let root = checkpoint.root();
    let vars = tensors(root.get("start").unwrap());
    let vars = vars.into_iter().map(|(name, tensor)| (name, Var::from_tensor(&tensor).unwrap())).collect();
    Given { vars, gradients: root.get("gradients").unwrap().items().map(tensors).collect() }
}

impl Given {
    fn var(&self, name: &str) -> &Var {
        &self.vars.iter().find(|(known, _)| known == name).unwrap().1
    }

    /// The gradients of a step, as candle gives them.
    pub(crate) fn gradients(&self, step: usize) -> GradStore {
        let mut gradients = Tensor::new(0.0_f32, &Device::Cpu).unwrap().backward().unwrap();
        for (name, gradient) in &self.gradients[step] {
            gradients.insert(self.var(name), gradient.clone());
        }
        gradients
    }

    /// Sets the parameters to those of a checkpoint.
    fn set(&self, checkpoint: &Checkpoint) {
        for (name, tensor) in tensors(checkpoint.root().get("model_state_dict").unwrap()) {
            self.var(&name).set(&tensor).unwrap();
        }
    }

    pub(crate) fn checkpoint(&self, optimizer: &Any) -> Object {
        let model =
            to_state_dict(self.vars.iter().map(|(name, var)| (name, var.as_tensor())).collect::<Vec<_>>())
                .unwrap();
        let optimizer = optimizer.state_dict().unwrap();
        Object::dict([("model_state_dict", Object::from(model)), ("optimizer_state_dict", optimizer)])
    }
}

pub(crate) enum Any {
    Sgd(Sgd),
    Adam(Adam),
    AdamW(AdamW),
}

macro_rules! each {
    ($any:expr, $optimizer:ident => $result:expr) => {
        match $any {
            Any::Sgd($optimizer) => $result,
            Any::Adam($optimizer) => $result,
            Any::AdamW($optimizer) => $result,
        }
    };
}

impl Any {
    pub(crate) fn step(&mut self, gradients: &GradStore) {
        each!(self, optimizer => optimizer.step(gradients).unwrap());
    }

    fn state_dict(&self) -> Result<Object> {
        each!(self, optimizer => optimizer.state_dict())
    }

    fn load(&mut self, checkpoint: &Checkpoint) -> std::result::Result<(), StateError> {
        let value = checkpoint.root().get("optimizer_state_dict").unwrap();
        each!(self, optimizer => optimizer.load_state_dict(value))
    }
}

fn sgd(vars: Vec<(String, Var)>, options: SgdOptions) -> Any {
    Any::Sgd(Sgd::named(vars, options).unwrap())
}

fn adam(vars: Vec<(String, Var)>, options: AdamOptions) -> Any {
    Any::Adam(Adam::named(vars, options).unwrap())
}

fn adamw(vars: Vec<(String, Var)>, options: AdamWOptions) -> Any {
    Any::AdamW(AdamW::named(vars, options).unwrap())
}

/// As `adamw_groups` of the fixtures.
fn grouped(vars: Vec<(String, Var)>) -> Any {
    let (weights, others): (Vec<_>, Vec<_>) = vars.into_iter().partition(|(_, var)| var.rank() > 1);
    let groups = [ParamGroup::named(weights), ParamGroup::named(others).weight_decay(0.0).lr(0.01)];
    Any::AdamW(AdamW::with_groups(groups, AdamWOptions { lr: 0.02, ..Default::default() }).unwrap())
}

pub(crate) const CASES: [(&str, &str); 17] = [
    ("sgd", "float32"),
    ("sgd_momentum", "float32"),
    ("sgd_dampened", "float32"),
    ("sgd_nesterov", "float32"),
    ("sgd_double", "float64"),
    ("sgd_bfloat16", "bfloat16"),
    ("adam", "float32"),
    ("adam_decay", "float32"),
    ("adam_amsgrad", "float32"),
    ("adam_float16", "float16"),
    ("adamw", "float32"),
    ("adamw_amsgrad", "float32"),
    ("adamw_double", "float64"),
    ("adamw_bfloat16", "bfloat16"),
    ("adamw_unnamed", "float32"),
    ("adamw_groups", "float32"),
    ("adamw_scheduled", "float32"),
];

/// The optimizer of a case of the fixtures' `make.py`.
pub(crate) fn optimizer(case: &str, vars: Vec<(String, Var)>) -> Any {
    let (sgd_default, adam_default, adamw_default) =
        (SgdOptions::default(), AdamOptions::default(), AdamWOptions::default());
    match case {
        "sgd" => sgd(vars, SgdOptions { lr: 0.1, ..sgd_default }),
        "sgd_momentum" => sgd(vars, SgdOptions { lr: 0.1, momentum: 0.9, weight_decay: 0.01, ..sgd_default }),
        "sgd_dampened" => {
            sgd(vars, SgdOptions { lr: 0.05, momentum: 0.8, dampening: 0.3, maximize: true, ..sgd_default })
        }
        "sgd_nesterov" | "sgd_double" => {
            let nesterov = SgdOptions { momentum: 0.9, nesterov: true, weight_decay: 0.1, ..sgd_default };
            sgd(vars, SgdOptions { lr: 0.05, ..nesterov })
        }
        "sgd_bfloat16" => sgd(vars, SgdOptions { lr: 0.05, momentum: 0.9, weight_decay: 0.1, ..sgd_default }),
        "adam" => adam(vars, adam_default),
        "adam_decay" => {
            let decay = AdamOptions { betas: (0.4, 0.95), eps: 1e-3, weight_decay: 0.05, ..adam_default };
            adam(vars, AdamOptions { lr: 0.01, ..decay })
        }
        "adam_amsgrad" => adam(vars, AdamOptions { lr: 0.01, amsgrad: true, maximize: true, ..adam_default }),
        "adam_float16" => adam(vars, AdamOptions { lr: 0.01, eps: 1e-3, weight_decay: 0.05, ..adam_default }),
        "adamw" => adamw(vars, adamw_default),
        "adamw_amsgrad" => {
            adamw(vars, AdamWOptions { lr: 0.02, amsgrad: true, weight_decay: 0.1, ..adamw_default })
        }
        "adamw_double" | "adamw_bfloat16" => {
            adamw(vars, AdamWOptions { lr: 0.02, weight_decay: 0.1, ..adamw_default })
        }
        "adamw_unnamed" => {
            let vars = vars.into_iter().map(|(_, var)| var).collect();
            Any::AdamW(AdamW::new(vars, AdamWOptions { lr: 0.02, ..adamw_default }).unwrap())
        }
        "adamw_groups" => grouped(vars),
        "adamw_scheduled" => adamw(vars, AdamWOptions { lr: 0.02, ..adamw_default }),
        other => panic!("{other}"),
    }
}

/// Every number of what was saved in Rust is PyTorch's to a millionth, or to one unit in the last place of a half.
fn equal(saved: &[u8], fixture: &str) {
    let saved = Checkpoint::from_bytes(saved.to_vec()).unwrap();
    let expected = open(fixture);
    let (mut found, mut count) = (saved.tensors(), 0);
    for (name, expected) in expected.tensors() {
        let (found_name, found) = found.next().unwrap();
        assert_eq!(found_name, name, "{fixture}");
        assert_eq!((found.dtype(), found.shape()), (expected.dtype(), expected.shape()), "{fixture} {name}");
        let numbers = |tensor: &ptser::Tensor| {
            let bytes = tensor.to_contiguous().unwrap().into_owned();
            match tensor.dtype() {
                ptser::DType::Float64 => {
                    let numbers = bytes.chunks_exact(8).map(|n| f64::from_le_bytes(n.try_into().unwrap()));
                    numbers.collect::<Vec<_>>()
                }
                ptser::DType::Float32 => {
                    bytes.chunks_exact(4).map(|n| f32::from_le_bytes(n.try_into().unwrap()).into()).collect()
                }
                ptser::DType::Float16 => {
                    let half = |n: &[u8]| half::f16::from_le_bytes(n.try_into().unwrap());
                    bytes.chunks_exact(2).map(|n| half(n).to_f64()).collect()
                }
                _ => {
                    let half = |n: &[u8]| half::bf16::from_le_bytes(n.try_into().unwrap());
                    bytes.chunks_exact(2).map(|n| half(n).to_f64()).collect()
                }
            }
        };
        let tolerance = match expected.dtype() {
            ptser::DType::Float64 => 1e-14,
            ptser::DType::Float32 => 1e-6,
            ptser::DType::Float16 => 1.0 / 1024.0,
            _ => 1.0 / 128.0,
        };
        for (found, expected) in numbers(found).into_iter().zip(numbers(expected)) {
            let close = (found - expected).abs() <= tolerance * expected.abs();
            assert!(close, "{fixture} {name}: {found} is not {expected}");
            count += 1;
        }
    }
    assert!(found.next().is_none(), "{fixture}");
    assert!(count > 400, "{fixture}: {count} numbers");
}

/// The pickle of an archive.
fn pickle(bytes: &[u8]) -> Vec<u8> {
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(bytes)).unwrap();
    let names: Vec<String> = archive.file_names().map(|name| name.unwrap().into_owned()).collect();
    let name = names.iter().find(|name| name.ends_with("/data.pkl")).unwrap();
    let mut pickle = Vec::new();
    archive.by_name(name).unwrap().read_to_end(&mut pickle).unwrap();
    pickle
}

pub(crate) fn save(object: &Object, name: &str) -> Vec<u8> {
    let name = Path::new(name).file_stem().unwrap().to_str().unwrap();
    SaveOptions::new().root_folder(name).to_bytes(object).unwrap()
}

#[test]
fn steps_from_the_beginning_are_pytorchs() {
    for (case, dtype) in CASES.iter().filter(|(case, _)| *case != "adamw_scheduled") {
        let given = given(dtype);
        let mut optimizer = optimizer(case, given.vars.clone());
        for step in 0..10 {
            optimizer.step(&given.gradients(step));
            if step == 4 {
                let (file, fixture) = (format!("{case}.pt"), path("optim").join(format!("{case}.pt")));
                let saved = save(&given.checkpoint(&optimizer), &file);
                equal(&saved, &file);
                // The objects are PyTorch's to the byte, whatever the last bits of the numbers are.
                assert!(
                    pickle(&saved) == pickle(&std::fs::read(fixture).unwrap()),
                    "{case}: not PyTorch's pickle"
                );
            }
        }
        equal(&save(&given.checkpoint(&optimizer), case), &format!("{case}_ten.pt"));
    }
}

#[test]
fn steps_go_on_where_pytorch_stopped() {
    for (case, dtype) in CASES {
        let given = given(dtype);
        let checkpoint = open(&format!("{case}.pt"));
        given.set(&checkpoint);
        let mut optimizer = optimizer(case, given.vars.clone());
        optimizer.load(&checkpoint).unwrap();
        for step in 5..10 {
            optimizer.step(&given.gradients(step));
        }
        equal(&save(&given.checkpoint(&optimizer), case), &format!("{case}_ten.pt"));
    }
}

#[test]
fn what_was_loaded_is_saved_as_pytorchs_bytes() {
    for (case, dtype) in CASES {
        let given = given(dtype);
        for name in [format!("{case}.pt"), format!("{case}_ten.pt")] {
            let checkpoint = open(&name);
            given.set(&checkpoint);
            let mut optimizer = optimizer(case, given.vars.clone());
            optimizer.load(&checkpoint).unwrap();
            let expected = std::fs::read(path("optim").join(&name)).unwrap();
            assert!(save(&given.checkpoint(&optimizer), &name) == expected, "{name}: not PyTorch's bytes");
        }
    }
}

#[test]
fn names_find_their_parameters_in_any_order() {
    let given = given("float32");
    let checkpoint = open("adamw.pt");
    given.set(&checkpoint);
    let mut turned = given.vars.clone();
    turned.reverse();
    let mut optimizer = adamw(turned, AdamWOptions::default());
    optimizer.load(&checkpoint).unwrap();
    for step in 5..10 {
        optimizer.step(&given.gradients(step));
    }
    let expected = open("adamw_ten.pt");
    for (name, expected) in tensors(expected.root().get("model_state_dict").unwrap()) {
        let off = (given.var(&name).as_tensor() - &expected).unwrap().abs().unwrap();
        let most: f32 = off.flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap();
        assert!(most <= 1e-6 * 3.0, "{name}: {most}");
    }
}

#[test]
fn states_of_older_versions_are_taken() {
    let given = given("float32");
    let (old, new) = (open("adam_old.pt"), open("adam.pt"));
    given.set(&new);
    let mut optimizer = optimizer("adam", given.vars.clone());
    optimizer.load(&old).unwrap();
    for step in 5..10 {
        optimizer.step(&given.gradients(step));
    }
    let saved = Checkpoint::from_bytes(save(&given.checkpoint(&optimizer), "adam")).unwrap();
    let state = saved.root().get("optimizer_state_dict").unwrap().get("state").unwrap();
    let (_, first) = state.entries().next().unwrap();
    let step = first.get("step").unwrap().as_tensor().unwrap();
    assert_eq!((step.dtype(), step.shape()), (ptser::DType::Float32, &[][..]));
    assert_eq!(step.to_contiguous().unwrap()[..], 10_f32.to_le_bytes());
    let expected = open("adam_ten.pt");
    for (name, expected) in tensors(expected.root().get("model_state_dict").unwrap()) {
        let off = (given.var(&name).as_tensor() - &expected).unwrap().abs().unwrap();
        assert!(off.flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap() <= 1e-6, "{name}");
    }

    let mut optimizer = sgd(given.vars.clone(), SgdOptions::default());
    optimizer.load(&open("sgd_old.pt")).unwrap();
    let Any::Sgd(optimizer) = optimizer else { unreachable!() };
    assert_eq!(optimizer.learning_rate(), 0.1);
}

#[test]
fn learning_rates_are_loaded_and_set() {
    let given = given("float32");
    let Any::AdamW(mut optimizer) = grouped(given.vars.clone()) else { unreachable!() };
    assert_eq!(optimizer.learning_rates(), [0.02, 0.01]);
    let checkpoint = open("adamw_groups.pt");
    optimizer.load_state_dict(checkpoint.root().get("optimizer_state_dict").unwrap()).unwrap();
    optimizer.set_group_learning_rate(1, 0.5).unwrap();
    assert_eq!(optimizer.learning_rates(), [0.02, 0.5]);
    let message = optimizer.set_group_learning_rate(2, 0.5).unwrap_err().to_string();
    assert!(message.contains("there is no parameter group 2"), "{message}");
    optimizer.set_learning_rate(0.25);
    assert_eq!((optimizer.learning_rate(), optimizer.learning_rates()), (0.25, vec![0.25, 0.25]));

    let scheduled = open("adamw_scheduled.pt");
    let mut optimizer = adamw(given.vars.clone(), AdamWOptions::default());
    optimizer.load(&scheduled).unwrap();
    let again = Checkpoint::from_bytes(save(&given.checkpoint(&optimizer), "x")).unwrap();
    let group =
        again.root().get("optimizer_state_dict").unwrap().get("param_groups").unwrap().index(0).unwrap();
    assert_eq!(group.get("initial_lr").unwrap().as_f64().unwrap(), 0.02);
    assert!(
        matches!(group.get("lr").unwrap().kind(), ValueKind::Float(lr) if (lr - 0.02 * 0.9_f64.powi(5)).abs() < 1e-12)
    );
}

/// Loading fails in these words, and the optimizer goes on as if it had not been tried.
#[track_caller]
fn refused(mut optimizer: Any, checkpoint: &Checkpoint, why: &str) {
    let before = save(&optimizer.state_dict().unwrap(), "before");
    let error = optimizer.load(checkpoint).unwrap_err();
    assert!(error.to_string().contains(why), "{error}");
    assert!(save(&optimizer.state_dict().unwrap(), "before") == before, "changed by: {error}");
}

/// An optimizer that has made a step.
fn stepped(case: &str, given: &Given) -> Any {
    let mut optimizer = optimizer(case, given.vars.clone());
    optimizer.step(&given.gradients(0));
    optimizer
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let given = given("float32");
    let from = |case: &str| stepped(case, &given);
    refused(
        from("adamw"),
        &open("sgd_momentum.pt"),
        "another optimizer than AdamW: parameter group 0 has no",
    );
    refused(
        from("sgd"),
        &open("adam.pt"),
        "another optimizer than SGD: parameter group 0 has no \"momentum\"",
    );
    refused(from("adam"), &open("adamw.pt"), "its decoupled_weight_decay is that of AdamW");
    refused(from("adamw"), &open("adam.pt"), "its decoupled_weight_decay is that of Adam");
    refused(from("adamw"), &open("adamw_groups.pt"), "expected 1 parameter groups, found 2");
    refused(
        from("adamw"),
        &open("adamw_double.pt"),
        "parameter layers.0.weight: exp_avg: expected F32 as the parameter's, found float64",
    );
    let fewer = given.vars[..6].to_vec();
    refused(adamw(fewer, AdamWOptions::default()), &open("adamw.pt"), "expected 6 parameters, found 7");
    let mut other = given.vars.clone();
    other[1].0 = "head.bias".into();
    refused(
        adamw(other, AdamWOptions::default()),
        &open("adamw.pt"),
        "parameter group 0: expected a parameter head.bias, found layers.0.bias",
    );
    // Without names the order counts, and shapes tell.
    let mut turned = given.vars.clone();
    turned.reverse();
    refused(
        adamw(turned, AdamWOptions::default()),
        &open("adamw_unnamed.pt"),
        "parameter late: exp_avg: expected shape [5], found [20, 17]",
    );
}

/// A state dict of Adam for one parameter of three elements.
fn one(state: Vec<(&'static str, Object)>, group: Vec<(&'static str, Object)>) -> Checkpoint {
    let mut settings = vec![
        ("lr", Object::from(1)),
        ("betas", Object::list([0.9, 0.99])),
        ("eps", Object::from(1e-8)),
        ("weight_decay", Object::from(0)),
    ];
    settings.retain(|(key, _)| group.iter().all(|(other, _)| other != key));
    settings.extend(group);
    settings.push(("params", Object::list([7])));
    let optimizer = Object::dict([
        ("state", Object::dict([(7, Object::dict(state))])),
        ("param_groups", Object::list([Object::dict(settings)])),
    ]);
    let bytes = SaveOptions::new().to_bytes(&Object::dict([("optimizer_state_dict", optimizer)])).unwrap();
    Checkpoint::from_bytes(bytes).unwrap()
}

fn three() -> Object {
    ptser::candle::to_tensor(&Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap()).unwrap().into()
}

#[test]
fn damaged_states_are_refused_by_name() {
    let x = Var::zeros(3, DType::F32, &Device::Cpu).unwrap();
    let adam =
        |amsgrad| adam(vec![("x".into(), x.clone())], AdamOptions { amsgrad, ..AdamOptions::default() });
    let moments = |step: Object| vec![("step", step), ("exp_avg", three()), ("exp_avg_sq", three())];
    adam(true).load(&one(moments(3.into()), vec![])).unwrap();
    let refuse = |state, group, why| refused(adam(false), &one(state, group), why);
    refuse(
        vec![("step", 3.into()), ("exp_avg", three())],
        vec![],
        "parameter x: expected exp_avg_sq in its state, found none",
    );
    refuse(
        vec![("exp_avg", three()), ("exp_avg_sq", three())],
        vec![],
        "parameter x: expected step in its state",
    );
    refuse(
        moments("five".into()),
        vec![],
        "parameter x: step: expected a number, or a tensor of one, found 'five'",
    );
    refuse(moments((-1).into()), vec![], "parameter x: step: expected zero or more, found -1");
    refuse(moments(3.into()), vec![("amsgrad", true.into())], "parameter x: expected max_exp_avg_sq");
    refuse(moments(3.into()), vec![("lr", "fast".into())], "parameter group 0: lr: expected a number");
    refuse(moments(3.into()), vec![("lr", (-1.0).into())], "lr: expected zero or more, found -1");
    refuse(
        moments(3.into()),
        vec![("betas", Object::list([0.9]))],
        "betas: expected two numbers, found [0.9]",
    );
    refuse(
        moments(3.into()),
        vec![("betas", Object::list([0.9, 1.0]))],
        "betas: expected numbers from 0 to below 1",
    );
    refuse(vec![("momentum_buffer", three())], vec![], "parameter x has 'momentum_buffer' in its state");
    refuse(
        vec![("step", 3.into()), ("exp_avg", 1.into()), ("exp_avg_sq", three())],
        vec![],
        "parameter x: exp_avg: expected a tensor, found 1",
    );
    let not = |object: Object| {
        let root = Object::dict([("optimizer_state_dict", object)]);
        Checkpoint::from_bytes(SaveOptions::new().to_bytes(&root).unwrap()).unwrap()
    };
    refused(adam(false), &not(Object::from(3)), "not the state dict of an optimizer: there is no \"state\"");
    let stray = [("state", Object::dict([(9, 1)])), ("param_groups", Object::list([0; 0]))];
    refused(adam(false), &not(Object::dict(stray)), "expected 1 parameter groups, found 0");
}

#[test]
fn tied_weights_are_stepped_once() {
    let x = Var::new(&[1_f32], &Device::Cpu).unwrap();
    let vars = vec![("embed.weight".to_owned(), x.clone()), ("head.weight".to_owned(), x.clone())];
    let mut optimizer = Sgd::named(vars, SgdOptions { lr: 0.1, ..SgdOptions::default() }).unwrap();
    assert_eq!(format!("{optimizer:?}"), "Sgd(1 parameters in 1 groups)");
    optimizer.backward_step(&x.sum_all().unwrap()).unwrap();
    assert_eq!(x.to_vec1::<f32>().unwrap(), [0.9]);

    let group = |name: &str| ParamGroup::named([(name.to_owned(), x.clone())]);
    let message =
        |groups: Vec<ParamGroup>| Sgd::with_groups(groups, SgdOptions::default()).unwrap_err().to_string();
    let tied = message(vec![group("a"), group("b")]);
    assert!(tied.contains("parameter b is in parameter groups 0 and 1"), "{tied}");
    let y = Var::new(&[1_f32], &Device::Cpu).unwrap();
    let unnamed = message(vec![group("a"), ParamGroup::new(vec![y])]);
    assert!(unnamed.contains("expected names in all groups or in none"), "{unnamed}");
    let betas = message(vec![group("a").betas(0.9, 0.99)]);
    assert!(betas.contains("SGD has no setting betas"), "{betas}");
    let nesterov = message(vec![group("a").nesterov(true)]);
    assert!(nesterov.contains("nesterov: expected a momentum and no dampening"), "{nesterov}");
}

#[test]
fn gradients_that_do_not_fit_change_nothing() {
    let (x, y) = (Var::new(&[1_f32], &Device::Cpu).unwrap(), Var::new(&[1_f32, 2.0], &Device::Cpu).unwrap());
    let vars = vec![("x".to_owned(), x.clone()), ("y".to_owned(), y.clone())];
    let mut optimizer = Sgd::named(vars, SgdOptions::default()).unwrap();
    let mut gradients = x.sum_all().unwrap().backward().unwrap();
    gradients.insert(&y, Tensor::new(&[1_f32], &Device::Cpu).unwrap());
    let message = optimizer.step(&gradients).unwrap_err().to_string();
    assert!(message.contains("parameter y: gradient: expected shape [2], found [1]"), "{message}");
    assert_eq!(x.to_vec1::<f32>().unwrap(), [1.0]);
}

/// Gradients that are broadcast, transposed, or the variable itself.
#[test]
fn gradients_of_any_layout_are_taken() {
    let x = Var::new(&[[1_f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
    let options = SgdOptions { lr: 1.0, ..SgdOptions::default() };
    let mut optimizer = Sgd::named([("x".to_owned(), x.clone())], options).unwrap();
    let mut gradients = x.sum_all().unwrap().backward().unwrap();
    gradients.insert(&x, Tensor::new(&[[0_f32, 1.0], [2.0, 3.0]], &Device::Cpu).unwrap().t().unwrap());
    optimizer.step(&gradients).unwrap();
    assert_eq!(x.to_vec2::<f32>().unwrap(), [[1.0, 0.0], [2.0, 1.0]]);
    gradients.insert(&x, Tensor::new(&[1_f32, 2.0], &Device::Cpu).unwrap().broadcast_as((2, 2)).unwrap());
    optimizer.step(&gradients).unwrap();
    assert_eq!(x.to_vec2::<f32>().unwrap(), [[0.0, -2.0], [1.0, -1.0]]);
    gradients.insert(&x, x.as_tensor().clone());
    optimizer.step(&gradients).unwrap();
    assert_eq!(x.to_vec2::<f32>().unwrap(), [[0.0, 0.0], [0.0, 0.0]]);
}

#[test]
fn variables_of_a_map_come_in_an_order() {
    let given = given("float32");
    let vars = VarMap::new();
    for (name, var) in &given.vars {
        vars.data().lock().unwrap().insert(name.clone(), var.clone());
    }
    let names = |named: Vec<(String, Var)>| named.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(named_vars(&vars))[..3], ["late", "layers.0.bias", "layers.0.weight"]);
    // Without names in the file the module's order is that of its state dict.
    let checkpoint = open("adamw_unnamed.pt");
    let state_dict = checkpoint.state_dict().unwrap();
    let named = named_vars_as(&vars, state_dict.names());
    assert_eq!(names(named.clone()), given.vars.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>());
    given.set(&checkpoint);
    let mut optimizer = adamw(named, AdamWOptions::default());
    optimizer.load(&checkpoint).unwrap();
    for step in 5..10 {
        optimizer.step(&given.gradients(step));
    }
    let expected = open("adamw_unnamed_ten.pt");
    let (_, expected) = tensors(expected.root().get("model_state_dict").unwrap()).remove(4);
    let scale = given.var("scale").as_tensor();
    assert_eq!(bytes(scale).len(), 4);
    let off = (scale - &expected).unwrap().abs().unwrap().to_scalar::<f32>().unwrap();
    assert!(off <= 1e-6, "{off}");
}
