//! Subclasses of tensors: their class is a name, and their data is in their attributes.

use ptser::{Checkpoint, DType, TensorKind, Value, ValueKind};

use crate::{given, saved};

/// A file whose only class beyond PyTorch's list is this one.
fn open(file: &str, class: &str) -> Checkpoint {
    assert_eq!(given::refused_names(&given::refused(file)), [class]);
    given::allowing(file, &[class]).unwrap()
}

fn halves(value: Value<'_>) {
    assert_eq!(given::floats(value.as_tensor().unwrap()), [0.5, 0.25]);
}

#[test]
fn test_serialization_uintx_intx() {
    for (file, dtype) in [("uint4.pt", DType::UInt4), ("int4.pt", DType::Int4)] {
        let checkpoint = open(file, "classes.Nibbles");
        let root = checkpoint.root();
        assert_eq!(root.class(), Some("classes.Nibbles"));
        let tensor = root.as_tensor().unwrap();
        assert_eq!(
            (tensor.dtype(), tensor.shape(), tensor.stride()),
            (dtype, [2, 4].as_slice(), [4, 1].as_slice())
        );
        assert!(matches!(tensor.kind(), TensorKind::Wrapper { device, .. } if device.as_str() == "cpu"));
        let packed = root.get("packed").unwrap().as_tensor().unwrap();
        assert_eq!((packed.dtype(), packed.shape()), (DType::UInt8, [2, 2].as_slice()));
        assert_eq!(*packed.to_contiguous().unwrap(), [0x01, 0x23, 0x45, 0x67]);
        let error = tensor.to_contiguous().unwrap_err();
        assert!(error.to_string().contains("wrapper subclass"), "{error}");
    }
    saved::identical("uint4.pt");
    saved::identical("int4.pt");
}

#[test]
fn test_tensor_subclass_wrapper_serialization() {
    let checkpoint = open("wrapping.pt", "classes.Wrapping");
    let root = checkpoint.root();
    assert_eq!(root.class(), Some("classes.Wrapping"));
    let tensor = root.as_tensor().unwrap();
    assert!(matches!(tensor.kind(), TensorKind::Meta) && tensor.shape() == [2]);
    // One attribute is in the dict, the other in a slot.
    assert_eq!(root.get("label").unwrap().as_str().unwrap(), "left");
    halves(root.get("inner").unwrap());
    let names: Vec<&str> = checkpoint.tensors().map(|(name, _)| name).collect();
    assert_eq!(names, ["", ".inner"]);
    saved::identical("wrapping.pt");
}

/// A state that is what the class made of it: a tuple.
#[test]
fn test_tensor_subclass_getstate_overwrite() {
    let checkpoint = open("stateful.pt", "classes.Stateful");
    let root = checkpoint.root();
    assert_eq!(root.class(), Some("classes.Stateful"));
    let state = root.state().unwrap();
    assert!(matches!(state.kind(), ValueKind::Tuple) && state.len() == 3);
    assert_eq!(state.index(0).unwrap().as_str().unwrap(), "marker");
    halves(state.index(1).unwrap());
    assert_eq!(state.index(2).unwrap().get("label").unwrap().as_str().unwrap(), "left");
    // What it means is the class's business, so these are no attributes; the tensor in it is found.
    assert_eq!(root.attributes().count(), 0);
    let names: Vec<&str> = checkpoint.tensors().map(|(name, _)| name).collect();
    assert_eq!(names, ["", "#state.1"]);
    saved::identical("stateful.pt");
}

#[test]
fn test_empty_class_serialization() {
    let checkpoint = open("subclass.pt", "classes.Plain");
    for (value, numbers) in checkpoint.root().items().zip([vec![1.0], vec![]]) {
        assert_eq!(value.class(), Some("classes.Plain"));
        let tensor = value.as_tensor().unwrap();
        assert!(matches!(tensor.kind(), TensorKind::Strided));
        assert_eq!((given::floats(tensor), tensor.shape()), (numbers.clone(), [numbers.len()].as_slice()));
        assert_eq!(value.attributes().count(), 0);
    }
    saved::identical("subclass.pt");
}
