//! The fixtures, what PyTorch says is in them, and a look at candle's bytes.

use std::path::PathBuf;

use candle_core::{DType, Tensor};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// A file below `tests/fixtures`.
pub(crate) fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// What PyTorch found in `zip/NAME`, by the file's name.
pub(crate) fn expected() -> serde_json::Map<String, Value> {
    let text = std::fs::read_to_string(path("zip/expected.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap().as_object().unwrap().clone()
}

/// SHA-256 of a tensor's values in C order, little-endian.
pub(crate) fn sha256(tensor: &Tensor) -> String {
    let digest = Sha256::digest(bytes(tensor));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A tensor's values in C order, little-endian.
pub(crate) fn bytes(tensor: &Tensor) -> Vec<u8> {
    macro_rules! le {
        ($number:ty) => {
            tensor
                .flatten_all()
                .unwrap()
                .to_vec1::<$number>()
                .unwrap()
                .iter()
                .flat_map(|n| n.to_le_bytes())
                .collect()
        };
    }
    match tensor.dtype() {
        DType::U8 => le!(u8),
        DType::U32 => le!(u32),
        DType::I16 => le!(i16),
        DType::I32 => le!(i32),
        DType::I64 => le!(i64),
        DType::F16 => le!(half::f16),
        DType::BF16 => le!(half::bf16),
        DType::F32 => le!(f32),
        DType::F64 => le!(f64),
        DType::F8E4M3 => {
            let numbers = tensor.flatten_all().unwrap().to_vec1::<float8::F8E4M3>().unwrap();
            numbers.iter().map(|number| number.to_bits()).collect()
        }
        other => panic!("no bytes of {other:?}"),
    }
}
