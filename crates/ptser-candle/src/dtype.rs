//! Which of candle's element types holds each of PyTorch's without loss.

use candle_core::DType;
use ptser_core::DType as Torch;

/// What may be done to tensors on their way.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Conversions {
    pub(crate) complex_as_real: bool,
    pub(crate) keep_views: bool,
}

/// How a PyTorch element becomes candle's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) dtype: DType,
    pub(crate) means: Means,
    /// Elements of candle for one of PyTorch: two for complex numbers as real ones.
    pub(crate) lanes: usize,
}

/// What the bytes go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Means {
    /// They are the same.
    Same,
    /// The values are the same in another type.
    Converted,
    /// The bits are the same, without meaning.
    Raw,
}

/// The lossless target of an element type, or what a caller can choose where there is none.
pub(crate) fn target(torch: Torch, conversions: Conversions) -> Result<Target, &'static str> {
    let one = |dtype, means| Ok(Target { dtype, means, lanes: 1 });
    let pair = |dtype| {
        if conversions.complex_as_real {
            return Ok(Target { dtype, means: Means::Converted, lanes: 2 });
        }
        Err(
            "candle has no complex numbers: take them as pairs of real ones with PtOptions::complex_as_real(true)",
        )
    };
    match torch {
        Torch::Float64 => one(DType::F64, Means::Same),
        Torch::Float32 => one(DType::F32, Means::Same),
        Torch::Float16 => one(DType::F16, Means::Same),
        Torch::BFloat16 => one(DType::BF16, Means::Same),
        Torch::Int64 => one(DType::I64, Means::Same),
        Torch::Int32 => one(DType::I32, Means::Same),
        Torch::Int16 => one(DType::I16, Means::Same),
        Torch::UInt8 => one(DType::U8, Means::Same),
        Torch::UInt32 => one(DType::U32, Means::Same),
        Torch::Float8E4M3Fn => one(DType::F8E4M3, Means::Same),
        // As candle's own comparisons give them: 0 or 1.
        Torch::Bool => one(DType::U8, Means::Converted),
        Torch::Int8 => one(DType::I16, Means::Converted),
        // candle's own rule for safetensors.
        Torch::UInt16 => one(DType::U32, Means::Converted),
        Torch::UInt64 => one(DType::I64, Means::Converted),
        Torch::Float8E5M2 => one(DType::F16, Means::Converted),
        Torch::Float8E4M3Fnuz | Torch::Float8E5M2Fnuz | Torch::Float8E8M0Fnu => {
            one(DType::F32, Means::Converted)
        }
        // candle's F4 counts zero bytes an element.
        Torch::Float4E2M1FnX2 | Torch::Bits8 | Torch::Bits1x8 | Torch::Bits2x4 | Torch::Bits4x2 => {
            one(DType::U8, Means::Raw)
        }
        Torch::Bits16 => one(DType::I16, Means::Raw),
        Torch::Complex64 => pair(DType::F32),
        Torch::Complex128 => pair(DType::F64),
        Torch::Complex32 => pair(DType::F16),
        Torch::BComplex32 => pair(DType::BF16),
        Torch::QInt8 | Torch::QUInt8 | Torch::QInt32 | Torch::QUInt4x2 | Torch::QUInt2x4 => Err(
            "candle has no quantized tensors of PyTorch's kind: leave it out with PtOptions::only, or dequantize it \
                 from ptser::Checkpoint, which gives its integers, scales and zero points",
        ),
        _ => Err("no tensor of this type is saved by PyTorch"),
    }
}
