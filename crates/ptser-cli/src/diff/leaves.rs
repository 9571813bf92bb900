//! Values that hold no others, compared.

use ptser::{Value, ValueKind};

use crate::human;

/// The longest text of a value in a difference.
const SHOWN: usize = 60;

/// How two values of one type differ, if they do.
///
/// # Errors
/// Of reading a storage that was saved by itself.
pub(super) fn compare(a: Value<'_>, b: Value<'_>) -> ptser::Result<Option<String>> {
    let same = match (a.kind(), b.kind()) {
        (ValueKind::None, ValueKind::None) | (ValueKind::Object, ValueKind::Object) => true,
        (ValueKind::Bool(a), ValueKind::Bool(b)) => a == b,
        (ValueKind::Int(a), ValueKind::Int(b)) => a == b,
        (ValueKind::BigInt(a), ValueKind::BigInt(b)) => a == b,
        (ValueKind::Float(a), ValueKind::Float(b)) => same_float(a, b),
        (ValueKind::Complex(a, b), ValueKind::Complex(c, d)) => same_float(a, c) && same_float(b, d),
        (ValueKind::Str(a), ValueKind::Str(b))
        | (ValueKind::Path(a), ValueKind::Path(b))
        | (ValueKind::Time(a), ValueKind::Time(b))
        | (ValueKind::Global(a), ValueKind::Global(b)) => a == b,
        (ValueKind::Surrogates(a), ValueKind::Surrogates(b))
        | (ValueKind::Bytes(a), ValueKind::Bytes(b))
        | (ValueKind::ByteArray(a), ValueKind::ByteArray(b)) => a == b,
        (ValueKind::Device(a), ValueKind::Device(b)) => a == b,
        (ValueKind::DType(a), ValueKind::DType(b)) => a == b,
        (ValueKind::Layout(a), ValueKind::Layout(b)) => a == b,
        (ValueKind::Storage(a, first), ValueKind::Storage(b, second)) => {
            first == second && a.nbytes() == b.nbytes() && a.to_vec()? == b.to_vec()?
        }
        // Empty containers of one type; whatever else there may be, by how it looks.
        _ => a.to_string() == b.to_string(),
    };
    Ok((!same).then(|| change(a, b)))
}

/// Both, where they differ.
pub(super) fn change(a: Value<'_>, b: Value<'_>) -> String {
    let (first, second) = (human::shorten(&a.to_string(), SHOWN), human::shorten(&b.to_string(), SHOWN));
    if first == second {
        format!("{first}, and more of it that differs")
    } else {
        format!("{first} → {second}")
    }
}

/// Not a number is what it is.
fn same_float(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan())
}
