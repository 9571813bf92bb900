//! Files of either byte order, with and without the record that says which: PyTorch was asked what it reads by each
//! default.

use ptser::{ByteOrder, Checkpoint, LoadOptions};
use serde_json::{Value as Json, json};

use crate::given;
use crate::support::sha256;

fn hashes(checkpoint: &Checkpoint) -> Json {
    let hash = |tensor: &ptser::Tensor| sha256(&tensor.to_contiguous().unwrap());
    json!(checkpoint.tensors().map(|(_, tensor)| hash(tensor)).collect::<Vec<_>>())
}

fn check(prefix: &str) {
    let facts = given::facts(&format!("byte_order/{prefix}"));
    let read = |variant: &str, options: &LoadOptions| {
        let checkpoint = options.open(given::path(&format!("byte_order/{prefix}_{variant}.pt"))).unwrap();
        let (_, first) = checkpoint.tensors().next().unwrap();
        assert_eq!(facts["dtype"], first.dtype().name());
        hashes(&checkpoint)
    };
    let orders = [
        ("native", ByteOrder::NATIVE, ByteOrder::NATIVE.name()),
        ("little", ByteOrder::Little, "little"),
        ("big", ByteOrder::Big, "big"),
    ];
    for variant in ["le", "be"] {
        let marked = format!("{variant}_marked");
        assert_eq!(read(&marked, &LoadOptions::new()), facts[&marked], "{marked}");
        for (name, order, told) in orders {
            let options = LoadOptions::new().default_byte_order(order);
            // The record weighs more than the default.
            assert_eq!(read(&marked, &options), facts[&marked], "{marked} by {name}");
            let told = &facts[format!("{variant}_{told}")];
            assert_eq!(read(variant, &options), *told, "{variant} by {name}");
        }
        assert_eq!(read(variant, &LoadOptions::new()), facts[format!("{variant}_little")], "{variant}");
    }
    // The two orders differ, but for types of one byte.
    let one_byte = facts["dtype"].as_str().unwrap().parse::<ptser::DType>().unwrap().element_size() == 1;
    assert_eq!(facts["le_big"] == facts["le_little"], one_byte);
    assert_eq!(facts["be_big"], facts["le_marked"]);
}

#[test]
fn test_serialization_load_bom_data() {
    check("lstm");
}

#[test]
fn test_serialization_load_bom_data_double() {
    check("double");
}

#[test]
fn test_serialization_load_bom_data_float() {
    check("float");
}

#[test]
fn test_serialization_load_bom_data_half() {
    check("half");
}

#[test]
fn test_serialization_load_bom_data_long() {
    check("long");
}

#[test]
fn test_serialization_load_bom_data_int() {
    check("int");
}

#[test]
fn test_serialization_load_bom_data_int16() {
    check("int16");
}

#[test]
fn test_serialization_load_bom_data_int8() {
    check("int8");
}

#[test]
fn test_serialization_load_bom_data_uint8() {
    check("uint8");
}

#[test]
fn test_serialization_load_bom_data_bool() {
    check("bool");
}

#[test]
fn test_serialization_load_bom_data_bfloat16() {
    check("bfloat16");
}

#[test]
fn test_serialization_load_bom_data_cdouble() {
    check("cdouble");
}

#[test]
fn test_serialization_load_bom_data_cfloat() {
    check("cfloat");
}
