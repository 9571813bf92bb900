//! State dicts into variables: what fits, what does not, and what is left as it was.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};
use ptser::candle::{Alias, PtOptions, PtTensors, VarMapExt, VarsError, named_vars};
use ptser::{Location, SaveOptions, StateDict, Storage};

use crate::fixtures::{bytes, expected, path, sha256};

/// A map of variables, each filled with a number of its own.
fn vars(named: &[(&str, &[usize])]) -> VarMap {
    let vars = VarMap::new();
    for (place, (name, shape)) in named.iter().enumerate() {
        let tensor = (Tensor::ones(*shape, DType::F32, &Device::Cpu).unwrap() * place as f64).unwrap();
        vars.data().lock().unwrap().insert((*name).to_owned(), Var::from_tensor(&tensor).unwrap());
    }
    vars
}

fn numbers(vars: &VarMap, name: &str) -> Vec<f32> {
    vars.data().lock().unwrap()[name].flatten_all().unwrap().to_vec1().unwrap()
}

fn all(vars: &VarMap) -> Vec<(String, Vec<u8>)> {
    named_vars(vars).into_iter().map(|(name, var)| (name, bytes(&var))).collect()
}

/// A checkpoint of candle tensors.
fn saved(tensors: &[(&str, Tensor)]) -> PtTensors {
    let state_dict = ptser::candle::to_state_dict(tensors).unwrap();
    PtOptions::new().from_bytes(SaveOptions::new().to_bytes(&state_dict).unwrap()).unwrap()
}

/// The variables of the fixture's module: a convolution, a batch norm and a linear layer.
const MODULE: [(&str, &[usize]); 8] = [
    ("0.weight", &[2, 1, 3, 3]),
    ("0.bias", &[2]),
    ("1.weight", &[2]),
    ("1.bias", &[2]),
    ("1.running_mean", &[2]),
    ("1.running_var", &[2]),
    ("4.weight", &[3, 8]),
    ("4.bias", &[3]),
];

/// The hash of a tensor of the fixture's module.
fn of_pytorch(name: &str) -> String {
    let expected = expected();
    let tensors = expected["state_dict.pt"]["tensors"].as_array().unwrap();
    let tensor = tensors.iter().find(|tensor| tensor["name"] == name).unwrap();
    tensor["sha256"].as_str().unwrap().to_owned()
}

#[test]
fn every_variable_is_set_to_what_pytorch_saved() {
    let vars = vars(&MODULE);
    let report = vars.load_pt(path("zip/state_dict.pt")).unwrap();
    assert!(report.is_complete());
    // candle's batch norm has no counter.
    assert_eq!(report.ignored, ["1.num_batches_tracked"]);
    for (name, var) in named_vars(&vars) {
        assert_eq!(sha256(&var), of_pytorch(&name), "{name}");
    }
}

#[test]
fn a_new_map_has_every_tensor() {
    let (vars, report) = VarMap::from_pt(path("zip/state_dict.pt"), &Device::Cpu).unwrap();
    assert!(report.changes.is_empty() && report.aliases.is_empty());
    assert_eq!(named_vars(&vars).len(), MODULE.len() + 1);
    for (name, var) in named_vars(&vars) {
        assert_eq!(sha256(&var), of_pytorch(&name), "{name}");
        assert!(var.is_variable());
    }
    let weight = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu).get((3, 8), "4.weight").unwrap();
    assert_eq!(sha256(&weight), of_pytorch("4.weight"));
}

#[test]
fn what_does_not_fit_is_named_and_changes_nothing() {
    let mut other = MODULE.to_vec();
    other[0].1 = &[2, 1, 5, 5];
    other[6].0 = "4.weihgt";
    let vars = vars(&other);
    let before = all(&vars);
    let error = vars.load_pt(path("zip/state_dict.pt")).unwrap_err();
    let text = error.to_string();
    let VarsError::Mismatch(report) = error else { panic!("{text}") };
    assert_eq!(report.missing[0].name, "4.weihgt");
    assert!(report.missing[0].nearest.contains(&"4.weight".to_owned()));
    assert_eq!(report.unexpected, ["4.weight"]);
    assert_eq!(report.mismatched[0].found, [2, 1, 3, 3]);
    for words in [
        "4.weihgt: expected a tensor of shape [3, 8], found none (the nearest names are 4.weight",
        "0.weight: expected shape [2, 1, 5, 5], found [2, 1, 3, 3]",
        "4.weight: found a tensor, expected none",
    ] {
        assert!(text.contains(words), "{text}");
    }
    // Shapes must be equal in either way of loading, as in PyTorch.
    let tensors = PtTensors::open(path("zip/state_dict.pt")).unwrap();
    assert!(matches!(tensors.load_matching(&vars), Err(VarsError::Mismatch(_))));
    assert_eq!(all(&vars), before);
}

#[test]
fn what_is_there_is_loaded_where_that_is_asked_for() {
    let vars = vars(&[("1.bias", &[2]), ("head.bias", &[4])]);
    let report = PtTensors::open(path("zip/state_dict.pt")).unwrap().load_matching(&vars).unwrap();
    assert_eq!(report.missing.len(), 1);
    assert_eq!(report.unexpected.len(), 8);
    assert!(!report.is_complete());
    assert_eq!(numbers(&vars, "head.bias"), [1.0; 4]);
    let bias = vars.data().lock().unwrap()["1.bias"].clone();
    assert_eq!(sha256(&bias), of_pytorch("1.bias"));
}

/// `tied.pt` has an embedding and a projection over one storage.
#[test]
fn ties_are_aliases() {
    let tied = path("save/tied.pt");
    let names: Vec<String> = PtTensors::open(&tied).unwrap().names().map(str::to_owned).collect();
    let [first, second] = names.as_slice() else { panic!("{names:?}") };
    let alias = [Alias { name: second.clone(), of: first.as_str().into() }];

    let (made, report) = VarMap::from_pt(&tied, &Device::Cpu).unwrap();
    assert_eq!(report.aliases, alias);
    let found = named_vars(&made);
    assert_eq!(found.iter().map(|(name, _)| name).collect::<Vec<_>>(), [first]);
    let shape = found[0].1.dims().to_vec();

    // One variable under the first name, or under both: the second name is no tensor too many.
    let one = vars(&[(first, &shape)]);
    assert_eq!(one.load_pt(&tied).unwrap().aliases, alias);
    let both = vars(&[(first, &shape)]);
    let var = both.data().lock().unwrap()[first].clone();
    both.data().lock().unwrap().insert(second.clone(), var);
    assert_eq!(both.load_pt(&tied).unwrap().aliases, alias);
    // Two variables are set alike, and a step takes them apart.
    let two = vars(&[(first, &shape), (second, &shape)]);
    let report = two.load_pt(&tied).unwrap();
    assert_eq!((report.aliases.len(), report.untied), (0, alias.to_vec()));
    for vars in [&one, &both, &two] {
        assert_eq!(numbers(vars, first), numbers(&made, first));
    }
    assert_eq!(numbers(&two, second), numbers(&made, first));
}

#[test]
fn a_variable_of_two_names_has_one_value() {
    let tensor = |number: f32| Tensor::new(&[number; 3], &Device::Cpu).unwrap();
    let tied = vars(&[("a", &[3])]);
    let var = tied.data().lock().unwrap()["a"].clone();
    tied.data().lock().unwrap().insert("b".to_owned(), var);
    let error = saved(&[("a", tensor(1.0)), ("b", tensor(2.0))]).load_into(&tied).unwrap_err();
    assert!(matches!(&error, VarsError::Tied(alias) if alias.name == "b" && &*alias.of == "a"), "{error}");
    assert_eq!(numbers(&tied, "a"), [0.0; 3]);
    // Two tensors of equal values, and one for both.
    saved(&[("a", tensor(3.0)), ("b", tensor(3.0))]).load_into(&tied).unwrap();
    assert_eq!(numbers(&tied, "b"), [3.0; 3]);
    let report = saved(&[("b", tensor(4.0))]).load_into(&tied).unwrap();
    assert_eq!(report.aliases, [Alias { name: "a".to_owned(), of: "b".into() }]);
    assert_eq!(numbers(&tied, "a"), [4.0; 3]);
}

#[test]
fn values_are_cast_to_the_variables_type() {
    let vars = vars(&[("a", &[2])]);
    let half = Tensor::new(&[0.5_f32, -3.0], &Device::Cpu).unwrap().to_dtype(DType::BF16).unwrap();
    saved(&[("a", half)]).load_into(&vars).unwrap();
    assert_eq!(numbers(&vars, "a"), [0.5, -3.0]);
}

#[test]
fn views_become_variables_with_memory_of_their_own() {
    let base = Tensor::arange(0_f32, 12.0, &Device::Cpu).unwrap();
    let rows = base.reshape((3, 4)).unwrap();
    let (vars, report) =
        saved(&[("base", base), ("first", rows.get(0).unwrap()), ("turned", rows.t().unwrap())])
            .to_vars(&Device::Cpu)
            .unwrap();
    let copied: Vec<&str> = report.changes.notes().map(|note| note.name.as_str()).collect();
    assert_eq!(copied, ["first", "turned"]);
    assert_eq!(numbers(&vars, "first"), [0.0, 1.0, 2.0, 3.0]);
    assert_eq!(numbers(&vars, "turned")[..4], [0.0, 4.0, 8.0, 1.0]);
    let first = vars.data().lock().unwrap()["first"].clone();
    first.set(&Tensor::zeros(4, DType::F32, &Device::Cpu).unwrap()).unwrap();
    assert_eq!(numbers(&vars, "base")[..4], [0.0, 1.0, 2.0, 3.0]);
}

/// In candle it is a view that takes no memory; a variable would hold 16 TiB.
#[test]
fn an_expanded_view_that_is_too_large_for_a_variable_is_refused() {
    let storage = Storage::from_bytes(Some(ptser::DType::Float32), Location::cpu(), vec![0; 4]);
    let tensor =
        |count| ptser::Tensor::view(storage.clone(), ptser::DType::Float32, [count], [0], 0).unwrap();
    let pt = |count| {
        let state_dict = StateDict::from_iter([("expanded", tensor(count))]);
        PtOptions::new().from_bytes(SaveOptions::new().to_bytes(&state_dict).unwrap()).unwrap()
    };
    assert_eq!(pt(1 << 42).load_all(&Device::Cpu).unwrap().get("expanded").unwrap().dims(), [1 << 42]);
    let error = pt(1 << 42).to_vars(&Device::Cpu).err().unwrap();
    assert!(matches!(error, VarsError::Read(_)) && error.to_string().contains("expanded_bytes"), "{error}");
    let (vars, _) = pt(5).to_vars(&Device::Cpu).unwrap();
    assert_eq!(numbers(&vars, "expanded"), [0.0; 5]);
}

/// A text that is one in the file may be the other name of every tensor.
#[test]
fn aliases_hold_the_name_that_they_share_once() {
    let tensor = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
    let tensors: [(&str, Tensor); 3] = ["first", "second", "third"].map(|name| (name, tensor.clone()));
    let (_, report) = saved(&tensors).to_vars(&Device::Cpu).unwrap();
    let [second, third] = report.aliases.as_slice() else { panic!("{:?}", report.aliases) };
    assert_eq!((&*second.name, &*third.name, &*second.of), ("second", "third", "first"));
    assert!(Arc::ptr_eq(&second.of, &third.of));
}

/// The header of one record is not its own: the other variable is not set either.
#[test]
fn a_tensor_that_cannot_be_read_changes_nothing() {
    let vars = vars(&[("a", &[2]), ("b", &[2])]);
    let before = all(&vars);
    let tensor = |number: f32| Tensor::new(&[number; 2], &Device::Cpu).unwrap();
    let state_dict = ptser::candle::to_state_dict([("a", tensor(5.0)), ("b", tensor(6.0))]).unwrap();
    let mut file = SaveOptions::new().to_bytes(&state_dict).unwrap();
    // The name stands behind 30 bytes of header.
    let place = file.windows(14).position(|bytes| bytes == b"archive/data/1").unwrap();
    file[place - 30] = b'x';
    let error = PtOptions::new().from_bytes(file).unwrap().load_into(&vars).unwrap_err();
    assert!(matches!(error, VarsError::Read(_)) && error.to_string().contains("tensor b"), "{error}");
    assert_eq!(all(&vars), before);
}
