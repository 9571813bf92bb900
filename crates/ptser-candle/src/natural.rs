//! The order of names that come from a map: numbers in them count as numbers.

use std::cmp::Ordering;

/// Compares names so that `layers.2` comes before `layers.10`.
pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    // What both begin with says nothing, but for a number that goes on behind it.
    let common = a.bytes().zip(b.bytes()).take_while(|(one, other)| one == other).count();
    let common = a.floor_char_boundary(common);
    let start = a.split_at(common).0.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let (mut left, mut right) = (a.split_at(start).1, b.split_at(start).1);
    loop {
        let order = match (number(left), number(right)) {
            (Some((one, rest)), Some((other, other_rest))) => {
                (left, right) = (rest, other_rest);
                (one.len(), one).cmp(&(other.len(), other))
            }
            _ => {
                let (mut ones, mut others) = (left.chars(), right.chars());
                let (one, other) = (ones.next(), others.next());
                if one.is_none() && other.is_none() {
                    // They differ in zeros at most.
                    return a.cmp(b);
                }
                (left, right) = (ones.as_str(), others.as_str());
                one.cmp(&other)
            }
        };
        if order.is_ne() {
            return order;
        }
    }
}

/// The number that a text begins with, without zeros in front, and the rest. Numbers of any length compare by their
/// lengths and then digit by digit.
fn number(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end).filter(|(digits, _)| !digits.is_empty())?;
    Some((digits.trim_start_matches('0'), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_count_as_numbers() {
        let sorted = [
            "",
            "2",
            "10",
            "bias",
            "fc.weight",
            "fc2.weight",
            "layers",
            "layers.0.weight",
            "layers.2.bias",
            "layers.2.weight",
            "layers.02.weight.1",
            "layers.10.bias",
            "layers.100.bias",
            "layers.18446744073709551616.bias",
            "layers.x",
            "è",
            "é",
            "é2",
            "é10",
        ];
        for (place, a) in sorted.iter().enumerate() {
            for (other, b) in sorted.iter().enumerate() {
                assert_eq!(compare(a, b), place.cmp(&other), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn names_that_differ_in_zeros_only_keep_one_order() {
        assert_eq!(compare("a.01", "a.1"), Ordering::Less);
        assert_eq!(compare("a.1", "a.01"), Ordering::Greater);
        assert_eq!(compare("a.01", "a.01"), Ordering::Equal);
    }
}
