//! What the indices of a sparse tensor must satisfy, checked whenever they are read: whoever takes them for
//! positions without looking would write outside of their memory.

use crate::byte_order::ByteOrder;
use crate::dtype::DType;
use crate::error::{Reason, Result};

/// The rule for one index tensor.
#[derive(Debug)]
pub(crate) enum IndexRule {
    /// One row a dimension, its indices below the size of that dimension.
    Coordinates(Box<[usize]>),
    /// Rising from 0 to the number of stored elements, by at most `widest` at a time; in batches of `batch`.
    Pointers { batch: usize, elements: usize, widest: usize },
    /// Indices below a size.
    Below(usize),
}

impl IndexRule {
    /// Checks the values of an index tensor of `shape`, in C order and the given byte order.
    ///
    /// # Errors
    /// `Malformed` for the first value that breaks the rule.
    pub(crate) fn check(&self, dtype: DType, order: ByteOrder, shape: &[usize], bytes: &[u8]) -> Result<()> {
        let values = bytes.chunks_exact(dtype.element_size()).map(|bytes| integer(bytes, order));
        match self {
            Self::Coordinates(sizes) => {
                let stored = shape.last().copied().unwrap_or(0).max(1);
                let bounds = sizes.iter().flat_map(|&size| std::iter::repeat_n(size, stored));
                below(values.zip(bounds))
            }
            Self::Below(size) => below(values.map(|value| (value, *size))),
            Self::Pointers { batch, elements, widest } => {
                let mut last = 0;
                for (place, value) in values.enumerate() {
                    let in_batch = place.checked_rem(*batch).unwrap_or(0);
                    if in_batch == 0 {
                        last = 0;
                    }
                    let step = value.checked_sub(last).and_then(|step| usize::try_from(step).ok());
                    let allowed = if in_batch == 0 { 0 } else { *widest };
                    let end = in_batch.saturating_add(1) == *batch;
                    if step.is_none_or(|step| step > allowed)
                        || (end && usize::try_from(value) != Ok(*elements))
                    {
                        return wrong(format!(
                            "{value} after {last} among the pointers to {elements} elements"
                        ));
                    }
                    last = value;
                }
                Ok(())
            }
        }
    }
}

fn below(mut values: impl Iterator<Item = (i64, usize)>) -> Result<()> {
    match values.find(|&(value, size)| usize::try_from(value).map_or(true, |index| index >= size)) {
        Some((value, size)) => wrong(format!("index {value} in a dimension of {size}")),
        None => Ok(()),
    }
}

fn wrong(what: String) -> Result<()> {
    Err(Reason::Tensor(format!("{what} of a sparse tensor")).into())
}

/// A signed integer of at most 8 bytes.
fn integer(bytes: &[u8], order: ByteOrder) -> i64 {
    let push = |number: i64, byte: &u8| (number << 8) | i64::from(*byte);
    let unsigned = match order {
        ByteOrder::Big => bytes.iter().fold(0, push),
        ByteOrder::Little => bytes.iter().rev().fold(0, push),
    };
    let unused = i64::BITS.saturating_sub(u32::try_from(bytes.len().saturating_mul(8)).unwrap_or(i64::BITS));
    unsigned.wrapping_shl(unused).wrapping_shr(unused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: &IndexRule, shape: &[usize], values: &[i64]) -> bool {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_be_bytes()).collect();
        rule.check(DType::Int64, ByteOrder::Big, shape, &bytes).is_ok()
    }

    #[test]
    fn coordinates_stay_below_the_size_of_their_dimension() {
        let rule = IndexRule::Coordinates(Box::new([2, 5]));
        assert!(check(&rule, &[2, 2], &[0, 1, 4, 0]));
        assert!(!check(&rule, &[2, 2], &[0, 2, 4, 0]));
        assert!(!check(&rule, &[2, 2], &[0, 1, -1, 0]));
        assert!(check(&rule, &[2, 0], &[]));
    }

    #[test]
    fn pointers_rise_from_zero_to_the_number_of_elements() {
        let rule = IndexRule::Pointers { batch: 3, elements: 4, widest: 3 };
        assert!(check(&rule, &[2, 3], &[0, 3, 4, 0, 1, 4]));
        assert!(!check(&rule, &[3], &[0, 4, 4]));
        assert!(!check(&rule, &[3], &[0, 3, 2]));
        assert!(!check(&rule, &[3], &[1, 3, 4]));
        assert!(!check(&rule, &[3], &[0, i64::MIN, 4]));
    }

    #[test]
    fn narrow_integers_keep_their_sign() {
        assert_eq!(integer(&(-2_i32).to_le_bytes(), ByteOrder::Little), -2);
        assert_eq!(integer(&7_i32.to_be_bytes(), ByteOrder::Big), 7);
        assert_eq!(integer(&i64::MIN.to_le_bytes(), ByteOrder::Little), i64::MIN);
    }
}
