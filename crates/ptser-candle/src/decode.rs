//! Small floats that candle lacks, decoded to ones it has without loss.

use half::f16;

/// `float8_e5m2` is the upper byte of a binary16.
pub(crate) fn e5m2(code: u8) -> f16 {
    f16::from_bits(u16::from(code) << 8)
}

/// `float8_e4m3fnuz`: exponent bias 8, one NaN where negative zero would be, no infinities.
pub(crate) fn e4m3fnuz(code: u8) -> f32 {
    fnuz(code, 3, 8)
}

/// `float8_e5m2fnuz`: exponent bias 16, likewise.
pub(crate) fn e5m2fnuz(code: u8) -> f32 {
    fnuz(code, 2, 16)
}

/// `float8_e8m0fnu`: powers of two from 2^-127 to 2^127, then NaN.
pub(crate) fn e8m0fnu(code: u8) -> f32 {
    match code {
        u8::MAX => f32::NAN,
        // 2^-127 is subnormal in binary32.
        0 => f32::from_bits(1 << 22),
        code => f32::from_bits(u32::from(code) << 23),
    }
}

fn fnuz(code: u8, mantissa_bits: u32, bias: i32) -> f32 {
    if code == 0x80 {
        return f32::NAN;
    }
    let magnitude = code & 0x7F;
    let mantissa = f32::from(magnitude & ((1_u8 << mantissa_bits).wrapping_sub(1)));
    let exponent = i32::from(magnitude >> mantissa_bits);
    let steps = f32::from(1_u8 << mantissa_bits);
    let value = if exponent == 0 {
        mantissa / steps * 2_f32.powi(1_i32.saturating_sub(bias))
    } else {
        (1.0 + mantissa / steps) * 2_f32.powi(exponent.saturating_sub(bias))
    };
    if code >= 0x80 { -value } else { value }
}
