//! Elements of tensors: read from their bytes, and as text.

use ptser::{DType, Number, Tensor};

/// The first elements in C order as text; `None` where there are more of them than `most`.
pub(crate) struct First {
    pub(crate) shown: Vec<String>,
    pub(crate) more: bool,
}

/// A tensor whose elements cannot be read apart is read whole, if it is no larger.
const WHOLE: usize = 64 << 20;

/// The first elements of a tensor.
///
/// # Errors
/// `Unsupported` for tensors without elements of their own; errors of reading.
pub(crate) fn first(tensor: &Tensor, most: usize) -> ptser::Result<First> {
    let head = match tensor.head(most) {
        Err(_) if tensor.nbytes() <= WHOLE => tensor.clone(),
        head => head?,
    };
    let bytes = head.to_contiguous()?;
    let dtype = tensor.dtype();
    let elements = bytes.chunks_exact(dtype.element_size()).take(most);
    let shown: Vec<String> = elements.map(|element| text(dtype, element)).collect();
    Ok(First { more: shown.len() < tensor.numel(), shown })
}

/// One element, little-endian; bytes in hexadecimal where they are no number that this program knows.
fn text(dtype: DType, element: &[u8]) -> String {
    match Number::read(dtype, element) {
        Some(Number::Bool(bool)) => (if bool { "True" } else { "False" }).into(),
        Some(Number::Int(int)) => int.to_string(),
        Some(Number::UInt(int)) => int.to_string(),
        Some(Number::Float(float)) => real(dtype, float),
        Some(Number::Complex(re, im)) => {
            let sign = if im.is_sign_negative() && !im.is_nan() { "" } else { "+" };
            format!("{}{sign}{}j", real(dtype, re), real(dtype, im))
        }
        None if dtype == DType::QInt8 => element.iter().map(|byte| byte.cast_signed().to_string()).collect(),
        None if dtype == DType::QUInt8 => element.iter().map(u8::to_string).collect(),
        None if dtype == DType::QInt32 => match element.try_into() {
            Ok(word) => i32::from_le_bytes(word).to_string(),
            Err(_) => String::new(),
        },
        None => format!("0x{}", element.iter().rev().map(|byte| format!("{byte:02x}")).collect::<String>()),
    }
}

/// The shortest digits that tell a float from its neighbours; of halves, which PyTorch too shows cut, five.
fn real(dtype: DType, float: f64) -> String {
    let text = match dtype {
        DType::Float16 | DType::BFloat16 | DType::Complex32 | DType::BComplex32 => {
            let cut: f64 = format!("{float:.4e}").parse().unwrap_or(float);
            format!("{cut:?}")
        }
        #[expect(clippy::cast_possible_truncation, reason = "it was one before")]
        DType::Float32 | DType::Complex64 => format!("{:?}", float as f32),
        _ => format!("{float:?}"),
    };
    if text == "NaN" { "nan".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_look_as_python_shows_them() {
        let cases: [(DType, &[u8], &str); 12] = [
            (DType::Float32, &0.1_f32.to_le_bytes(), "0.1"),
            (DType::Float64, &0.1_f64.to_le_bytes(), "0.1"),
            (DType::Float16, &[0x66, 0x2e], "0.099976"),
            (DType::BFloat16, &[0x80, 0x3f], "1.0"),
            (DType::Float32, &f32::NEG_INFINITY.to_le_bytes(), "-inf"),
            (DType::Float64, &f64::NAN.to_le_bytes(), "nan"),
            (DType::Int8, &[0xff], "-1"),
            (DType::UInt64, &[0xff; 8], "18446744073709551615"),
            (DType::Bool, &[1], "True"),
            (DType::Complex64, &[0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0], "1.0-2.0j"),
            (DType::QInt8, &[0xfe], "-2"),
            (DType::Float8E4M3Fn, &[0x38], "0x38"),
        ];
        for (dtype, bytes, expected) in cases {
            assert_eq!(text(dtype, bytes), expected, "{dtype}");
        }
    }
}
