//! Single elements as numbers: read from their bytes, and cast as PyTorch casts them. Knows no tensors.

use half::{bf16, f16};

use crate::dtype::DType;

/// What an element of a tensor is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// Of `bool`.
    Bool(bool),
    /// Of a signed type.
    Int(i64),
    /// Of an unsigned type.
    UInt(u64),
    /// Of a type of real floats; a binary64 has room for all of them.
    Float(f64),
    /// Real, imaginary.
    Complex(f64, f64),
}

impl Number {
    /// Reads one element, little-endian; `None` for types that are no plain numbers: quantized ones, floats of 8 bits, `bits8` …
    pub fn read(dtype: DType, bytes: &[u8]) -> Option<Self> {
        Some(match dtype {
            DType::Bool => Self::Bool(u8::from_le_bytes(array(bytes)?) != 0),
            DType::UInt8 => Self::UInt(u8::from_le_bytes(array(bytes)?).into()),
            DType::UInt16 => Self::UInt(u16::from_le_bytes(array(bytes)?).into()),
            DType::UInt32 => Self::UInt(u32::from_le_bytes(array(bytes)?).into()),
            DType::UInt64 => Self::UInt(u64::from_le_bytes(array(bytes)?)),
            DType::Int8 => Self::Int(i8::from_le_bytes(array(bytes)?).into()),
            DType::Int16 => Self::Int(i16::from_le_bytes(array(bytes)?).into()),
            DType::Int32 => Self::Int(i32::from_le_bytes(array(bytes)?).into()),
            DType::Int64 => Self::Int(i64::from_le_bytes(array(bytes)?)),
            _ => match parts(dtype)? {
                (part, false) => Self::Float(part.read(bytes)?),
                (part, true) => {
                    let (re, im) = bytes.split_at_checked(dtype.swap_unit())?;
                    Self::Complex(part.read(re)?, part.read(im)?)
                }
            },
        })
    }

    /// Appends it as an element of `dtype`, little-endian, cast as `Tensor.to` casts; `None` for types that are
    /// no plain numbers.
    pub(crate) fn write(self, dtype: DType, out: &mut Vec<u8>) -> Option<()> {
        match dtype {
            DType::Bool => out.push(u8::from(self.is_nonzero())),
            DType::UInt8
            | DType::UInt16
            | DType::UInt32
            | DType::UInt64
            | DType::Int8
            | DType::Int16
            | DType::Int32
            | DType::Int64 => out.extend(self.integer().iter().take(dtype.element_size())),
            _ => match parts(dtype)? {
                (part, false) => part.write(self, out),
                (part, true) => {
                    part.write(self, out);
                    let imaginary = if let Self::Complex(_, im) = self { im } else { 0.0 };
                    part.write(Self::Float(imaginary), out);
                }
            },
        }
        Some(())
    }

    fn is_nonzero(self) -> bool {
        match self {
            Self::Bool(bool) => bool,
            Self::Int(int) => int != 0,
            Self::UInt(int) => int != 0,
            Self::Float(float) => float != 0.0,
            Self::Complex(re, im) => re != 0.0 || im != 0.0,
        }
    }

    /// The lowest 64 bits, little-endian; floats are cut towards zero.
    #[expect(
        clippy::as_conversions,
        clippy::cast_possible_truncation,
        reason = "cutting is what a cast does"
    )]
    fn integer(self) -> [u8; 8] {
        match self {
            Self::Bool(bool) => u64::from(bool).to_le_bytes(),
            Self::Int(int) => int.to_le_bytes(),
            Self::UInt(int) => int.to_le_bytes(),
            Self::Float(float) | Self::Complex(float, _) => (float as i64).to_le_bytes(),
        }
    }

    /// The nearest binary64; of a complex number the real part.
    #[expect(clippy::as_conversions, reason = "rounding is what a cast does")]
    pub fn double(self) -> f64 {
        match self {
            Self::Bool(bool) => f64::from(u8::from(bool)),
            Self::Int(int) => int as f64,
            Self::UInt(int) => int as f64,
            Self::Float(float) | Self::Complex(float, _) => float,
        }
    }

    /// The nearest binary32, not by way of a binary64 that rounds first.
    #[expect(
        clippy::as_conversions,
        clippy::cast_possible_truncation,
        reason = "rounding is what a cast does"
    )]
    pub(crate) fn single(self) -> f32 {
        match self {
            Self::Bool(bool) => f32::from(u8::from(bool)),
            Self::Int(int) => int as f32,
            Self::UInt(int) => int as f32,
            Self::Float(float) | Self::Complex(float, _) => float as f32,
        }
    }
}

/// The floats that elements are, or are made of.
enum Part {
    Half,
    Brain,
    Single,
    Double,
}

/// What a type's elements consist of, and whether of two.
fn parts(dtype: DType) -> Option<(Part, bool)> {
    Some(match dtype {
        DType::Float16 => (Part::Half, false),
        DType::BFloat16 => (Part::Brain, false),
        DType::Float32 => (Part::Single, false),
        DType::Float64 => (Part::Double, false),
        DType::Complex32 => (Part::Half, true),
        DType::BComplex32 => (Part::Brain, true),
        DType::Complex64 => (Part::Single, true),
        DType::Complex128 => (Part::Double, true),
        _ => return None,
    })
}

impl Part {
    fn read(&self, bytes: &[u8]) -> Option<f64> {
        Some(match self {
            Self::Half => f16::from_le_bytes(array(bytes)?).to_f64(),
            Self::Brain => bf16::from_le_bytes(array(bytes)?).to_f64(),
            Self::Single => f32::from_le_bytes(array(bytes)?).into(),
            Self::Double => f64::from_le_bytes(array(bytes)?),
        })
    }

    /// Halves are rounded twice, by way of a binary32, as PyTorch does.
    fn write(&self, number: Number, out: &mut Vec<u8>) {
        match self {
            Self::Half => out.extend(f16::from_f32(number.single()).to_le_bytes()),
            Self::Brain => out.extend(bf16::from_f32(number.single()).to_le_bytes()),
            Self::Single => out.extend(number.single().to_le_bytes()),
            Self::Double => out.extend(number.double().to_le_bytes()),
        }
    }
}

/// Casts elements from one type of real floats to another, little-endian, as many as fit in `out`; `None` for other
/// types. The same as reading and writing each [`Number`], and many times faster.
pub(crate) fn cast_floats(from: DType, to: DType, bytes: &[u8], out: &mut [u8]) -> Option<()> {
    match from {
        DType::Float16 => cast_from(bytes, to, out, |bytes| f16::from_le_bytes(bytes).to_f32()),
        DType::BFloat16 => cast_from(bytes, to, out, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        DType::Float32 => cast_from(bytes, to, out, f32::from_le_bytes),
        // Every type but its own goes by way of a binary32.
        DType::Float64 if to != from => {
            cast_from(bytes, to, out, |bytes| Number::Float(f64::from_le_bytes(bytes)).single())
        }
        _ => None,
    }
}

fn cast_from<const N: usize>(
    bytes: &[u8],
    to: DType,
    out: &mut [u8],
    read: impl Fn([u8; N]) -> f32,
) -> Option<()> {
    match to {
        DType::Float16 => each(bytes, out, |bytes| f16::from_f32(read(bytes)).to_le_bytes()),
        DType::BFloat16 => each(bytes, out, |bytes| bf16::from_f32(read(bytes)).to_le_bytes()),
        DType::Float32 => each(bytes, out, |bytes| read(bytes).to_le_bytes()),
        DType::Float64 => each(bytes, out, |bytes| f64::from(read(bytes)).to_le_bytes()),
        _ => return None,
    }
    Some(())
}

fn each<const N: usize, const M: usize>(bytes: &[u8], out: &mut [u8], cast: impl Fn([u8; N]) -> [u8; M]) {
    let (from, _) = bytes.as_chunks();
    let (to, _) = out.as_chunks_mut();
    for (from, to) in from.iter().zip(to) {
        *to = cast(*from);
    }
}

fn array<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plain_type_reads_what_it_wrote() {
        let mut plain = 0;
        for &dtype in DType::ALL {
            let mut bytes = Vec::new();
            if Number::Int(1).write(dtype, &mut bytes).is_none() {
                assert_eq!(Number::read(dtype, &vec![0; dtype.element_size()]), None, "{dtype}");
                continue;
            }
            plain += 1;
            assert_eq!(bytes.len(), dtype.element_size(), "{dtype}");
            let number = Number::read(dtype, &bytes).unwrap();
            assert_eq!(number.double(), 1.0, "{dtype}");
            assert_eq!(Number::read(dtype, &bytes[1..]), None, "{dtype}");
        }
        assert_eq!(plain, 17);
    }

    /// Expected values from torch 2.15: `torch.tensor(x, dtype=a).to(b)`.
    #[test]
    fn casts_are_pytorchs() {
        let cast = |number: Number, dtype| {
            let mut bytes = Vec::new();
            number.write(dtype, &mut bytes).unwrap();
            Number::read(dtype, &bytes).unwrap()
        };
        assert_eq!(cast(Number::Int(300), DType::UInt8), Number::UInt(44));
        assert_eq!(cast(Number::Int(-1), DType::UInt16), Number::UInt(65535));
        assert_eq!(cast(Number::Float(-2.7), DType::Int32), Number::Int(-2));
        assert_eq!(cast(Number::Float(0.1), DType::Bool), Number::Bool(true));
        assert_eq!(cast(Number::Float(1.0 + 2.0_f64.powi(-8)), DType::BFloat16), Number::Float(1.0));
        assert_eq!(cast(Number::Float(70000.0), DType::Float16), Number::Float(f64::INFINITY));
        assert_eq!(cast(Number::Int(16_777_217), DType::Float32), Number::Float(16_777_216.0));
        assert_eq!(cast(Number::Complex(1.5, 2.0), DType::Float32), Number::Float(1.5));
        assert_eq!(cast(Number::Float(1.5), DType::Complex64), Number::Complex(1.5, 0.0));
    }

    #[test]
    fn floats_cast_together_are_those_cast_one_by_one() {
        let floats = [DType::Float16, DType::BFloat16, DType::Float32, DType::Float64];
        let numbers = [0.0, -0.0, 1.0, 0.1, -65519.999, 65520.0, 1e-7, 1e-45, 3.4e38, 1e39, f64::INFINITY];
        for from in floats {
            let mut bytes = Vec::new();
            numbers.iter().for_each(|&number| Number::Float(number).write(from, &mut bytes).unwrap());
            for to in floats.into_iter().filter(|&to| to != from) {
                let (mut one_by_one, mut together) = (Vec::new(), vec![0; numbers.len() * to.element_size()]);
                for element in bytes.chunks_exact(from.element_size()) {
                    Number::read(from, element).unwrap().write(to, &mut one_by_one).unwrap();
                }
                cast_floats(from, to, &bytes, &mut together).unwrap();
                assert_eq!(together, one_by_one, "{from} to {to}");
            }
        }
        assert_eq!(cast_floats(DType::Float32, DType::Int8, &[0; 4], &mut [0]), None);
        assert_eq!(cast_floats(DType::Int8, DType::Float32, &[0], &mut [0; 4]), None);
    }
}
