//! The element types of PyTorch and their names. Knows nothing of formats.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Reason};

/// One row a type: variant, torch's name, bytes an element, bytes that swap together, storage class.
macro_rules! dtypes {
    ($($(#[$doc:meta])* $variant:ident $name:literal $size:literal $unit:literal $class:expr;)*) => {
        /// The type of a tensor's elements, named as in PyTorch without `torch.`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum DType { $($(#[$doc])* $variant,)* }

        impl DType {
            /// Every element type that torch 2.15 knows.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// PyTorch's name, without `torch.`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Bytes of one element as PyTorch stores it. Types that pack several values in a byte
            /// (`quint4x2`, `float4_e2m1fn_x2`, `bits4x2`) count 1.
            pub fn element_size(self) -> usize {
                match self { $(Self::$variant => $size,)* }
            }

            /// Bytes that are swapped together between byte orders: half an element for complex types.
            pub fn swap_unit(self) -> usize {
                match self { $(Self::$variant => $unit,)* }
            }

            /// The storage class that PyTorch pickles, such as `FloatStorage`; types without one
            /// go through `torch.storage.UntypedStorage` and `_rebuild_tensor_v3`.
            pub fn storage_class(self) -> Option<&'static str> {
                match self { $(Self::$variant => $class,)* }
            }
        }
    };
}

dtypes! {
    /// IEEE 754 binary64.
    Float64 "float64" 8 8 Some("DoubleStorage");
    /// IEEE 754 binary32.
    Float32 "float32" 4 4 Some("FloatStorage");
    /// IEEE 754 binary16.
    Float16 "float16" 2 2 Some("HalfStorage");
    /// The upper half of a binary32.
    BFloat16 "bfloat16" 2 2 Some("BFloat16Storage");
    /// Signed, 64 bits.
    Int64 "int64" 8 8 Some("LongStorage");
    /// Signed, 32 bits.
    Int32 "int32" 4 4 Some("IntStorage");
    /// Signed, 16 bits.
    Int16 "int16" 2 2 Some("ShortStorage");
    /// Signed, 8 bits.
    Int8 "int8" 1 1 Some("CharStorage");
    /// Unsigned, 8 bits.
    UInt8 "uint8" 1 1 Some("ByteStorage");
    /// One byte, 0 or 1.
    Bool "bool" 1 1 Some("BoolStorage");
    /// Two binary32: real, imaginary.
    Complex64 "complex64" 8 4 Some("ComplexFloatStorage");
    /// Two binary64: real, imaginary.
    Complex128 "complex128" 16 8 Some("ComplexDoubleStorage");
    /// Quantized signed byte.
    QInt8 "qint8" 1 1 Some("QInt8Storage");
    /// Quantized unsigned byte.
    QUInt8 "quint8" 1 1 Some("QUInt8Storage");
    /// Quantized 32-bit integer.
    QInt32 "qint32" 4 4 Some("QInt32Storage");
    /// Two quantized values a byte.
    QUInt4x2 "quint4x2" 1 1 Some("QUInt4x2Storage");
    /// Four quantized values a byte.
    QUInt2x4 "quint2x4" 1 1 Some("QUInt2x4Storage");
    /// Unsigned, 16 bits.
    UInt16 "uint16" 2 2 None;
    /// Unsigned, 32 bits.
    UInt32 "uint32" 4 4 None;
    /// Unsigned, 64 bits.
    UInt64 "uint64" 8 8 None;
    /// Two binary16: real, imaginary.
    Complex32 "complex32" 4 2 None;
    /// Two bfloat16: real, imaginary.
    BComplex32 "bcomplex32" 4 2 None;
    /// 5 exponent bits, 2 mantissa bits.
    Float8E5M2 "float8_e5m2" 1 1 None;
    /// 4 exponent bits, 3 mantissa bits, finite and NaN only.
    Float8E4M3Fn "float8_e4m3fn" 1 1 None;
    /// As `float8_e5m2`, no infinities, one zero.
    Float8E5M2Fnuz "float8_e5m2fnuz" 1 1 None;
    /// As `float8_e4m3fn`, one zero.
    Float8E4M3Fnuz "float8_e4m3fnuz" 1 1 None;
    /// Powers of two.
    Float8E8M0Fnu "float8_e8m0fnu" 1 1 None;
    /// Two 4-bit floats a byte.
    Float4E2M1FnX2 "float4_e2m1fn_x2" 1 1 None;
    /// 8 bits without meaning.
    Bits8 "bits8" 1 1 None;
    /// 16 bits without meaning.
    Bits16 "bits16" 2 2 None;
    /// 8 times one bit.
    Bits1x8 "bits1x8" 1 1 None;
    /// 4 times two bits.
    Bits2x4 "bits2x4" 1 1 None;
    /// 2 times four bits.
    Bits4x2 "bits4x2" 1 1 None;
    /// Signed, 1 bit; names a type inside tensor subclasses only, as the others below.
    Int1 "int1" 1 1 None;
    /// Signed, 2 bits.
    Int2 "int2" 1 1 None;
    /// Signed, 3 bits.
    Int3 "int3" 1 1 None;
    /// Signed, 4 bits.
    Int4 "int4" 1 1 None;
    /// Signed, 5 bits.
    Int5 "int5" 1 1 None;
    /// Signed, 6 bits.
    Int6 "int6" 1 1 None;
    /// Signed, 7 bits.
    Int7 "int7" 1 1 None;
    /// Unsigned, 1 bit.
    UInt1 "uint1" 1 1 None;
    /// Unsigned, 2 bits.
    UInt2 "uint2" 1 1 None;
    /// Unsigned, 3 bits.
    UInt3 "uint3" 1 1 None;
    /// Unsigned, 4 bits.
    UInt4 "uint4" 1 1 None;
    /// Unsigned, 5 bits.
    UInt5 "uint5" 1 1 None;
    /// Unsigned, 6 bits.
    UInt6 "uint6" 1 1 None;
    /// Unsigned, 7 bits.
    UInt7 "uint7" 1 1 None;
}

impl DType {
    /// The type of a storage class such as `FloatStorage`.
    pub fn from_storage_class(class: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|dtype| dtype.storage_class() == Some(class))
    }

    /// The type of a tensor class such as `FloatTensor`, the way legacy files name tensors.
    pub fn from_tensor_class(class: &str) -> Option<Self> {
        let stem = class.strip_suffix("Tensor")?;
        Self::ALL.iter().copied().find(|dtype| {
            dtype.storage_class().and_then(|class| class.strip_suffix("Storage")) == Some(stem)
                && !dtype.is_quantized()
                && !dtype.is_complex()
        })
    }

    /// Values that shapes count one by one and one stored element packs: 2 for `quint4x2`, 4 for `quint2x4`.
    /// The shapes of other packed types count the bytes.
    pub fn packing(self) -> usize {
        match self {
            Self::QUInt4x2 => 2,
            Self::QUInt2x4 => 4,
            _ => 1,
        }
    }

    /// Whether an element is two numbers.
    pub fn is_complex(self) -> bool {
        matches!(self, Self::Complex32 | Self::BComplex32 | Self::Complex64 | Self::Complex128)
    }

    /// Whether the values need a scale and a zero point.
    pub fn is_quantized(self) -> bool {
        matches!(self, Self::QInt8 | Self::QUInt8 | Self::QInt32 | Self::QUInt4x2 | Self::QUInt2x4)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for DType {
    type Err = Error;

    /// Parses PyTorch's name, with or without `torch.`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let name = text.strip_prefix("torch.").unwrap_or(text);
        Self::ALL
            .iter()
            .copied()
            .find(|dtype| dtype.name() == name)
            .ok_or_else(|| Reason::Misuse(format!("no dtype is named {text:?}")).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_torchs_47_dtypes_and_17_storage_classes() {
        assert_eq!(DType::ALL.len(), 47);
        assert_eq!(DType::ALL.iter().filter(|d| d.storage_class().is_some()).count(), 17);
    }

    #[test]
    fn names_and_classes_lead_back() {
        for &dtype in DType::ALL {
            assert_eq!(dtype.name().parse::<DType>().unwrap(), dtype);
            if let Some(class) = dtype.storage_class() {
                assert_eq!(DType::from_storage_class(class), Some(dtype));
            }
        }
        assert_eq!(DType::from_tensor_class("HalfTensor"), Some(DType::Float16));
        assert_eq!(DType::from_tensor_class("QInt8Tensor"), None);
        assert_eq!(DType::from_tensor_class("Tensor"), None);
    }
}
