//! The element types that optimizers step, and their arithmetic as PyTorch rounds it on the CPU.

use candle_core::CpuStorage;
use half::{bf16, f16};

/// What arithmetic is done in: `f64` for `f64`, `f32` for all others.
pub(super) trait Wide: Copy + Send + Sync + PartialOrd {
    fn rounded(number: f64) -> Self;
    fn plus(self, other: Self) -> Self;
    fn minus(self, other: Self) -> Self;
    fn times(self, other: Self) -> Self;
    fn over(self, other: Self) -> Self;
    /// `self * factor + term`, rounded once.
    fn times_plus(self, factor: Self, term: Self) -> Self;
    fn root(self) -> Self;
    fn negative(self) -> Self;
    fn is_nan(self) -> bool;
}

macro_rules! wide {
    ($number:ty, $number_of:ident => $rounded:expr) => {
        impl Wide for $number {
            #[inline(always)]
            fn rounded($number_of: f64) -> Self {
                $rounded
            }
            #[inline(always)]
            fn plus(self, other: Self) -> Self {
                self + other
            }
            #[inline(always)]
            fn minus(self, other: Self) -> Self {
                self - other
            }
            #[inline(always)]
            fn times(self, other: Self) -> Self {
                self * other
            }
            #[inline(always)]
            fn over(self, other: Self) -> Self {
                self / other
            }
            #[inline(always)]
            fn times_plus(self, factor: Self, term: Self) -> Self {
                self.mul_add(factor, term)
            }
            #[inline(always)]
            fn root(self) -> Self {
                self.sqrt()
            }
            #[inline(always)]
            fn negative(self) -> Self {
                -self
            }
            #[inline(always)]
            fn is_nan(self) -> bool {
                self.is_nan()
            }
        }
    };
}

wide!(f32, number => to_f32(number));
wide!(f64, number => number);

/// Rounds to the nearest, which std gives no other name.
#[expect(clippy::as_conversions, clippy::cast_possible_truncation, reason = "rounds to the nearest float")]
fn to_f32(number: f64) -> f32 {
    number as f32
}

/// An element of a parameter.
pub(super) trait Element: Copy + Send + Sync + 'static {
    type Wide: Wide;
    /// Whether PyTorch multiplies and adds in one rounding, as it does where it does not round to an element after
    /// each operation anyway.
    const FUSED: bool;

    fn widen(self) -> Self::Wide;
    fn narrow(number: Self::Wide) -> Self;
    fn slice(storage: &CpuStorage) -> Option<&[Self]>;
    fn slice_mut(storage: &mut CpuStorage) -> Option<&mut [Self]>;

    /// What is left of a number once it is an element.
    #[inline(always)]
    fn kept(number: Self::Wide) -> Self::Wide {
        Self::narrow(number).widen()
    }

    /// `a * b + c`.
    #[inline(always)]
    fn multiply_add(a: Self::Wide, b: Self::Wide, c: Self::Wide) -> Self::Wide {
        if Self::FUSED { a.times_plus(b, c) } else { a.times(b).plus(c) }
    }
}

macro_rules! element {
    ($element:ty, $variant:ident, $wide:ty, $fused:expr, $this:ident => $widen:expr, $narrow:expr) => {
        impl Element for $element {
            type Wide = $wide;
            const FUSED: bool = $fused;

            #[inline(always)]
            fn widen(self) -> $wide {
                let $this = self;
                $widen
            }
            #[inline(always)]
            fn narrow(number: $wide) -> Self {
                $narrow(number)
            }
            fn slice(storage: &CpuStorage) -> Option<&[Self]> {
                match storage {
                    CpuStorage::$variant(numbers) => Some(numbers),
                    _ => None,
                }
            }
            fn slice_mut(storage: &mut CpuStorage) -> Option<&mut [Self]> {
                match storage {
                    CpuStorage::$variant(numbers) => Some(numbers),
                    _ => None,
                }
            }
        }
    };
}

element!(f32, F32, f32, true, this => this, std::convert::identity);
element!(f64, F64, f64, true, this => this, std::convert::identity);
element!(f16, F16, f32, false, this => this.to_f32(), Self::from_f32);
element!(bf16, BF16, f32, false, this => this.to_f32(), Self::from_f32);
