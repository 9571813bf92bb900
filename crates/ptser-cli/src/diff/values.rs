//! Two tensors, compared element by element.

use ptser::{Error, Number, Result, Tensor, TensorKind};

use crate::human;

/// How two tensors differ in type, shape and values, if they do. Those that are made of parts have no values.
///
/// # Errors
/// Of reading the first (0) or the second (1).
pub(super) fn compare(a: &Tensor, b: &Tensor) -> std::result::Result<Option<String>, (usize, Error)> {
    let kinds = (kind(a), kind(b));
    if kinds.0 != kinds.1 || a.shape() != b.shape() {
        return Ok(Some(format!("{} → {}", describe(a), describe(b))));
    }
    let readable = |tensor: &Tensor| tensor.storage().is_some() || tensor.nbytes() == 0;
    let values = matches!(a.kind(), TensorKind::Strided | TensorKind::Quantized(_));
    let tally = if values && readable(a) && readable(b) { Some(tally(a, b)?) } else { None };
    let tally = tally.filter(|tally| tally.differing > 0).map(|tally| tally.to_string());
    Ok(match (a.dtype() == b.dtype(), tally) {
        (true, None) => None,
        (true, Some(tally)) => Some(tally),
        (false, None) => Some(format!("{} → {}", a.dtype(), b.dtype())),
        (false, Some(tally)) => Some(format!("{} → {}, {tally}", a.dtype(), b.dtype())),
    })
}

/// What is compared with nothing of another kind.
fn kind(tensor: &Tensor) -> (&'static str, &'static str) {
    let kind = match tensor.kind() {
        TensorKind::Strided => "",
        TensorKind::Meta => "meta",
        TensorKind::Sparse(_) => "sparse",
        TensorKind::Quantized(_) => "quantized",
        TensorKind::Nested(_) => "nested",
        _ => "other",
    };
    (kind, tensor.layout().name())
}

fn describe(tensor: &Tensor) -> String {
    let (kind, layout) = kind(tensor);
    let what = match (kind, layout) {
        ("", _) => "",
        ("sparse", layout) => layout,
        (kind, _) => kind,
    };
    format!("{} {} {what}", tensor.dtype(), human::sizes(tensor.shape())).trim_end().to_owned()
}

/// What was found of two tensors of one shape.
struct Tally {
    elements: usize,
    differing: usize,
    /// The largest difference of two numbers; none where they are none.
    most: Option<f64>,
    /// Elements that are not a number in one of the two.
    nans: usize,
}

fn tally(a: &Tensor, b: &Tensor) -> std::result::Result<Tally, (usize, Error)> {
    let mut tally = Tally { elements: a.numel(), differing: 0, most: None, nans: 0 };
    let quantized = matches!(a.kind(), TensorKind::Quantized(_));
    if quantized && let (Ok(first), Ok(second)) = (a.dequantize(), b.dequantize()) {
        for (first, second) in first.into_iter().zip(second) {
            tally.numbers(Number::Float(first.into()), Number::Float(second.into()));
        }
        return Ok(tally);
    }
    let read = |tensor: &Tensor| -> Result<_> { Ok(tensor.to_contiguous()?.into_owned()) };
    let (first, second) = (read(a).map_err(|error| (0, error))?, read(b).map_err(|error| (1, error))?);
    if a.dtype() == b.dtype() && first == second {
        return Ok(tally);
    }
    let sizes = (a.dtype().element_size(), b.dtype().element_size());
    for (one, other) in first.chunks_exact(sizes.0).zip(second.chunks_exact(sizes.1)) {
        if a.dtype() == b.dtype() && one == other {
            continue;
        }
        match (Number::read(a.dtype(), one), Number::read(b.dtype(), other)) {
            (Some(one), Some(other)) => tally.numbers(one, other),
            _ => tally.differing += 1,
        }
    }
    Ok(tally)
}

impl Tally {
    fn numbers(&mut self, one: Number, other: Number) {
        let distance = if one == other { 0.0 } else { distance(one, other) };
        if distance == 0.0 {
            return;
        }
        if distance.is_nan() {
            // Both may be.
            if one.double().is_nan() && other.double().is_nan() {
                return;
            }
            self.nans += 1;
        } else {
            self.most = Some(self.most.map_or(distance, |most| most.max(distance)));
        }
        self.differing += 1;
    }
}

/// How far apart two numbers are; not a number where one of them is not.
fn distance(one: Number, other: Number) -> f64 {
    match (one, other) {
        (Number::Complex(re, im), Number::Complex(other_re, other_im)) => {
            (re - other_re).hypot(im - other_im)
        }
        _ => match (integer(one), integer(other)) {
            #[expect(clippy::cast_precision_loss, reason = "it is shown, and not counted with")]
            (Some(one), Some(other)) => (one - other).unsigned_abs() as f64,
            // Also where both are infinite.
            _ if one.double() == other.double() => 0.0,
            _ => (one.double() - other.double()).abs(),
        },
    }
}

fn integer(number: Number) -> Option<i128> {
    match number {
        Number::Bool(bool) => Some(bool.into()),
        Number::Int(int) => Some(int.into()),
        Number::UInt(int) => Some(int.into()),
        Number::Float(_) | Number::Complex(..) => None,
    }
}

impl std::fmt::Display for Tally {
    /// `3 of 8 elements differ, by at most 0.25`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { elements, differing, most, nans } = self;
        let (differing, elements) = (human::number(*differing), human::count(*elements, "element"));
        write!(f, "{differing} of {elements} differ")?;
        if let Some(most) = most {
            write!(f, ", by at most {most:?}")?;
        }
        if *nans > 0 {
            write!(f, ", {} not a number in one of the two", human::number(*nans))?;
        }
        Ok(())
    }
}
