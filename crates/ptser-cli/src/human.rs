//! Numbers and names for people. Names come from files: what could steer a terminal is spelled out.

use std::borrow::Cow;

/// The longest name that a table shows whole.
const LONGEST: usize = 160;

/// A number of bytes in decimal units: `512 B`, `1.3 MB`.
pub(crate) fn bytes(bytes: u64) -> String {
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    // In tenths, rounded half up, without floats: 999,950 B are 1.0 MB.
    let mut tenths = u128::from(bytes) * 10;
    for unit in ["kB", "MB", "GB", "TB", "PB", "EB"] {
        tenths = (tenths + 500) / 1000;
        if tenths < 10_000 || unit == "EB" {
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes} B")
}

/// A number with a comma between groups of three digits.
pub(crate) fn number(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 tensor`, `26 tensors`.
pub(crate) fn count(count: usize, what: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{} {what}{s}", number(count))
}

/// Text on one line: control characters and marks that turn the direction of writing are escaped.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if steers(char) { out.extend(char.escape_default()) } else { out.push(char) }
    }
    Cow::Owned(out)
}

fn steers(char: char) -> bool {
    let turns = matches!(char, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || char.is_control()
}

/// A name on one line, without its middle where it is very long.
pub(crate) fn name(name: &str) -> String {
    shorten(name, LONGEST)
}

/// As [`name`], within a number of characters.
pub(crate) fn shorten(text: &str, longest: usize) -> String {
    let Some((cut, _)) = text.char_indices().nth(longest) else { return plain(text).into_owned() };
    let half = longest / 2;
    let first: String = text.get(..cut).unwrap_or(text).chars().take(half).collect();
    let mut last: Vec<char> = text.chars().rev().take(longest - half - 1).collect();
    last.reverse();
    let last: String = last.into_iter().collect();
    plain(&format!("{first}…{last}")).into_owned()
}

/// A message on one line. A name inside that no message needs whole loses its middle.
pub(crate) fn message(text: &str) -> String {
    const LONGEST_WORD: usize = 1000;
    text.split(' ').map(|word| shorten(word, LONGEST_WORD)).collect::<Vec<_>>().join(" ")
}

/// A shape, a stride: `[64, 3, 7, 7]`.
pub(crate) fn sizes(sizes: &[usize]) -> String {
    // PyTorch allows no more than 64 dimensions; more are nothing that anybody wants to read.
    let shown: Vec<String> = sizes.iter().take(64).map(usize::to_string).collect();
    let more = if sizes.len() > shown.len() { ", …" } else { "" };
    format!("[{}{more}]", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_one_decimal_and_carry_into_the_next_unit() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (1049, "1.0 kB"),
            (1050, "1.1 kB"),
            (999_949, "999.9 kB"),
            (999_950, "1.0 MB"),
            (1_299_999, "1.3 MB"),
            (46_827_520_000, "46.8 GB"),
            (u64::MAX, "18.4 EB"),
        ];
        for (given, expected) in cases {
            assert_eq!(bytes(given), expected, "{given}");
        }
    }

    #[test]
    fn counts_are_grouped_and_agree() {
        assert_eq!(count(1, "tensor"), "1 tensor");
        assert_eq!(count(0, "tensor"), "0 tensors");
        assert_eq!(count(20_000, "tensor"), "20,000 tensors");
        assert_eq!(number(1_234_567), "1,234,567");
        assert_eq!(number(999), "999");
    }

    #[test]
    fn names_cannot_steer_a_terminal() {
        assert_eq!(plain("layer.0.weight"), "layer.0.weight");
        assert_eq!(plain("naïve 模型"), "naïve 模型");
        assert_eq!(plain("a\u{1b}[2Jb\nc\u{202e}d"), "a\\u{1b}[2Jb\\nc\\u{202e}d");
    }

    #[test]
    fn long_names_lose_their_middle() {
        let long = format!("{}{}", "a".repeat(5000), "z".repeat(5000));
        let short = name(&long);
        assert_eq!(short.chars().count(), LONGEST);
        assert!(short.starts_with("aaa") && short.contains("a…z") && short.ends_with("zzz"), "{short}");
        assert_eq!(message(&format!("record {long} is missing")).chars().count(), 7 + 1000 + 11);
        assert_eq!(shorten("12345", 5), "12345");
        assert_eq!(shorten("123456", 5), "12…56");
    }
}
