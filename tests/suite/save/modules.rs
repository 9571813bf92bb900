//! State dicts of modules, optimizers and schedulers, and checkpoints of all of them.

use ptser::{DType, Object, SaveOptions, Tensor};

use super::{by_default, check_all, entries, floats, objects, raw};

#[test]
fn state_dicts_are_written_as_pytorch_writes_them() {
    check_all(all());
}

pub(super) fn all() -> Vec<(String, SaveOptions, Object)> {
    let parameters = [("0.weight", floats(&[2, 3])), ("0.bias", floats(&[2])), ("1.weight", floats(&[2]))]
        .into_iter()
        .chain([("1.bias", floats(&[2])), ("2.0.weight", floats(&[2, 2]))])
        .map(|(name, tensor)| (name.to_owned(), tensor.with_parameter(true).with_requires_grad(true)));
    let many = (0..300).map(|layer| (format!("layers.{layer}.weight"), raw(DType::Float16, &[layer % 5])));
    by_default(vec![
        ("linear", state_dict(vec![("weight", floats(&[2, 3])), ("bias", floats(&[2]))], &[("", 1)])),
        ("sequential", sequential()),
        ("tied", tied()),
        ("named_parameters", Object::dict(parameters)),
        ("adamw", adamw(false)),
        ("sgd", sgd()),
        ("scheduler", scheduler()),
        (
            "checkpoint",
            Object::dict(entries![
                "epoch" => 3,
                "model" => sequential(),
                // A scheduler has been made by then.
                "optimizer" => adamw(true),
                "best" => 0.75,
                "tag" => Object::none(),
            ]),
        ),
        ("many_tensors", Object::ordered_dict(many)),
    ])
}

/// What `state_dict()` gives: names that are put together, and the version of each module.
fn state_dict(tensors: Vec<(&str, Tensor)>, versions: &[(&str, i64)]) -> Object {
    let version = |version: i64| Object::dict([("version", version)]);
    let versions = versions.iter().map(|&(module, number)| (module.to_owned(), version(number)));
    let metadata = Object::ordered_dict(versions);
    let tensors = tensors.into_iter().map(|(name, tensor)| (name.to_owned(), tensor));
    Object::ordered_dict_with(tensors, [("_metadata", metadata)])
}

fn sequential() -> Object {
    let tensors = vec![
        ("0.weight", floats(&[2, 3])),
        ("0.bias", floats(&[2])),
        ("1.weight", floats(&[2])),
        ("1.bias", floats(&[2])),
        ("1.running_mean", floats(&[2])),
        ("1.running_var", floats(&[2])),
        ("1.num_batches_tracked", raw(DType::Int64, &[])),
        ("2.0.weight", floats(&[2, 2])),
    ];
    state_dict(tensors, &[("", 1), ("0", 1), ("1", 2), ("2", 1), ("2.0", 1)])
}

/// Two tensors of one storage.
fn tied() -> Object {
    let weight = floats(&[3, 2]);
    state_dict(vec![("0.weight", weight.clone()), ("1.weight", weight)], &[("", 1), ("0", 1), ("1", 1)])
}

/// The shapes of the parameters of the model.
const SHAPES: [&[usize]; 5] = [&[2, 3], &[2], &[2], &[2], &[2, 2]];

fn optimizer(state: impl Fn(&[usize]) -> Object, groups: [Object; 2]) -> Object {
    let state = (0..).zip(SHAPES).map(|(place, shape)| (Object::from(place), state(shape)));
    Object::dict(entries!["state" => Object::dict(state), "param_groups" => Object::list(groups)])
}

fn adamw(scheduled: bool) -> Object {
    let state = |shape: &[usize]| {
        Object::dict([("step", floats(&[])), ("exp_avg", floats(shape)), ("exp_avg_sq", floats(shape))])
    };
    // The defaults are one object for all groups.
    let betas = Object::tuple([0.9, 0.999]);
    let group = |lr: f64, parameters: Vec<i64>| {
        let mut group = Vec::from(entries![
            "lr" => lr,
            "betas" => betas.clone(),
            "eps" => 1e-8,
            "weight_decay" => 0.01,
            "amsgrad" => false,
            "maximize" => false,
            "foreach" => Object::none(),
            "capturable" => false,
            "differentiable" => false,
            "fused" => Object::none(),
            "decoupled_weight_decay" => true,
        ]);
        if scheduled {
            group.push(("initial_lr".into(), lr.into()));
        }
        group.push(("params".into(), parameters.into()));
        Object::dict(group)
    };
    optimizer(state, [group(0.25, vec![0, 1]), group(0.5, vec![2, 3, 4])])
}

fn sgd() -> Object {
    let state = |shape: &[usize]| Object::dict([("momentum_buffer", floats(shape))]);
    let group = |lr: f64, parameters: Vec<i64>| {
        Object::dict(entries![
            "lr" => lr,
            "momentum" => 0.5,
            "dampening" => 0,
            "weight_decay" => 0,
            "nesterov" => false,
            "maximize" => false,
            "foreach" => Object::none(),
            "differentiable" => false,
            "fused" => Object::none(),
            "params" => parameters,
        ])
    };
    optimizer(state, [group(0.25, vec![0, 1]), group(0.5, vec![2, 3, 4])])
}

fn scheduler() -> Object {
    let rates = || Object::list(objects![0.25, 0.5]);
    Object::dict(entries![
        "step_size" => 2,
        "gamma" => 0.1,
        "base_lrs" => rates(),
        "last_epoch" => 0,
        "_step_count" => 1,
        "_is_initial" => false,
        "_get_lr_called_within_step" => false,
        "_last_lr" => rates(),
    ])
}
