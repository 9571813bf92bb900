//! Integers beyond 64 bits, and integers where floats are asked for.

use num_bigint::BigInt as Big;
use serde::de::{Deserializer, Visitor};

use super::At;
use super::failure::{Failure, describe};
use crate::value::{BigInt, ValueKind};

impl<'c> At<'c, '_> {
    pub(super) fn big_integer<V: Visitor<'c>>(
        self,
        int: BigInt<'_>,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        let int = Big::from_signed_bytes_le(int.to_bytes());
        if let Ok(int) = u64::try_from(&int) {
            visitor.visit_u64(int)
        } else if let Ok(int) = i128::try_from(&int) {
            visitor.visit_i128(int)
        } else if let Ok(int) = u128::try_from(&int) {
            visitor.visit_u128(int)
        } else {
            let found = format!("{}, which is beyond 128 bits", describe(self.value));
            Err(Failure::misfit(&visitor, found))
        }
    }

    /// An integer is a float of so many binary digits and so large an exponent, if that is exact.
    pub(super) fn float<V: Visitor<'c>>(
        self,
        digits: u64,
        exponent: u64,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        let at = self.unwrapped()?;
        let int = match at.value.kind() {
            ValueKind::Int(int) => Big::from(int),
            ValueKind::BigInt(int) => Big::from_signed_bytes_le(int.to_bytes()),
            _ => return at.deserialize_any(visitor),
        };
        match exact_float(&int, digits, exponent) {
            Some(float) => visitor.visit_f64(float),
            None => {
                let found = format!("{}, which it cannot hold exactly", describe(at.value));
                Err(Failure::misfit(&visitor, found))
            }
        }
    }
}

fn exact_float(int: &Big, digits: u64, exponent: u64) -> Option<f64> {
    let significant = int.bits().saturating_sub(int.trailing_zeros().unwrap_or(0));
    // Through text: there is no lossless conversion in std.
    let fits = significant <= digits && int.bits() <= exponent;
    fits.then(|| int.to_string().parse().ok()).flatten()
}
