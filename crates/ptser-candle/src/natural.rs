//! The order of names that come from a map: numbers in them count as numbers.

/// Sorts what has names, so that `layers.2` comes before `layers.10`.
pub(crate) fn sorted<T>(named: impl Iterator<Item = (String, T)>) -> Vec<(String, T)> {
    let mut named: Vec<(Key, T)> = named.map(|(name, value)| (Key::of(name), value)).collect();
    named.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    named.into_iter().map(|(key, value)| (key.name, value)).collect()
}

/// A name in its order.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    /// Its bytes, but of a number without zeros in front, and before it how many digits these are.
    bytes: Vec<u8>,
    /// Those of equal bytes differ in zeros.
    name: String,
}

impl Key {
    fn of(name: String) -> Self {
        let mut bytes = Vec::with_capacity(name.len().saturating_mul(2));
        let mut rest = name.as_str();
        while !rest.is_empty() {
            let (text, behind) = split_where(rest, |c| c.is_ascii_digit());
            let (digits, behind) = split_where(behind, |c| !c.is_ascii_digit());
            bytes.extend_from_slice(text.as_bytes());
            if !digits.is_empty() {
                let digits = digits.trim_start_matches('0');
                // To what is no digit all digits compare alike.
                bytes.push(b'0');
                bytes.extend(u32::try_from(digits.len()).unwrap_or(u32::MAX).to_be_bytes());
                bytes.extend_from_slice(digits.as_bytes());
            }
            rest = behind;
        }
        Self { bytes, name }
    }
}

/// Splits in front of the first character of a kind.
fn split_where(text: &str, is_it: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(is_it).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use super::*;

    fn compare(a: &str, b: &str) -> Ordering {
        Key::of(a.to_owned()).cmp(&Key::of(b.to_owned()))
    }

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
