//! Decodes the text forms of protocols 0 to 2: quoted strings, raw-unicode-escape, numbers.

use num_bigint::BigInt;

use crate::error::{Reason, Result};

/// Python refuses longer literals, since the conversion is quadratic.
const DIGITS_MAX: usize = 4300;

/// What a text integer is.
pub(super) enum Number {
    Small(i64),
    /// Two's complement, little-endian.
    Big(Vec<u8>),
}

/// Parses `INT` and `LONG` arguments: decimal digits, an optional sign, an optional `L`.
pub(super) fn integer(line: &[u8]) -> Result<Number> {
    let malformed = || Reason::Pickle(format!("{:?} is not an integer", String::from_utf8_lossy(clip(line))));
    let text = std::str::from_utf8(line).map_err(|_| malformed())?.trim();
    let digits = text.strip_suffix('L').unwrap_or(text);
    if digits.len() > DIGITS_MAX {
        return Err(Reason::Pickle(format!("an integer of more than {DIGITS_MAX} digits")).into());
    }
    if let Ok(small) = digits.parse() {
        return Ok(Number::Small(small));
    }
    let big: BigInt = digits.parse().map_err(|_| malformed())?;
    Ok(Number::Big(big.to_signed_bytes_le()))
}

/// Parses a `FLOAT` argument.
pub(super) fn float(line: &[u8]) -> Result<f64> {
    std::str::from_utf8(line).ok().and_then(|text| text.trim().parse().ok()).ok_or_else(|| {
        Reason::Pickle(format!("{:?} is not a float", String::from_utf8_lossy(clip(line)))).into()
    })
}

/// Parses a memo index of `GET` and `PUT`.
pub(super) fn memo_index(line: &[u8]) -> Result<u64> {
    std::str::from_utf8(line).ok().and_then(|text| text.trim().parse().ok()).ok_or_else(|| {
        Reason::Pickle(format!("{:?} is not a memo index", String::from_utf8_lossy(clip(line)))).into()
    })
}

/// Decodes a `STRING` argument: a Python string literal in quotes.
pub(super) fn quoted(line: &[u8]) -> Result<Vec<u8>> {
    let inner = match line.trim_ascii_end() {
        [b'\'', inner @ .., b'\''] | [b'"', inner @ .., b'"'] => inner,
        _ => return Err(Reason::Pickle("a STRING argument is not in quotes".into()).into()),
    };
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let escape = rest.next().ok_or_else(|| Reason::Pickle("a string ends in a backslash".into()))?;
        match escape {
            b'\\' | b'\'' | b'"' => out.push(escape),
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'r' => out.push(b'\r'),
            b'a' => out.push(7),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'v' => out.push(11),
            b'\n' => {}
            b'x' => {
                let (high, low) = (rest.next().and_then(hex), rest.next().and_then(hex));
                let (Some(high), Some(low)) = (high, low) else {
                    return Err(Reason::Pickle(r"a \x escape without two hexadecimal digits".into()).into());
                };
                out.push(u8::try_from(high.wrapping_mul(16).wrapping_add(low)).unwrap_or(u8::MAX));
            }
            b'0'..=b'7' => {
                let mut value = u32::from(escape.wrapping_sub(b'0'));
                for _ in 0..2 {
                    let Some(digit) = rest.next_if(|digit| (b'0'..=b'7').contains(digit)) else { break };
                    value = value.wrapping_mul(8).wrapping_add(u32::from(digit.wrapping_sub(b'0')));
                }
                // Python keeps the low eight bits of \400 and above.
                let [low, ..] = value.to_le_bytes();
                out.push(low);
            }
            other => out.extend([b'\\', other]),
        }
    }
    Ok(out)
}

/// Decodes a `UNICODE` argument: Latin-1 with `\uXXXX` and `\UXXXXXXXX`, to UTF-8 with surrogates passed.
pub(super) fn raw_unicode_escape(line: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(line.len());
    let mut rest = line.iter().copied().peekable();
    let mut backslashes = 0_usize;
    while let Some(byte) = rest.next() {
        if byte == b'\\' {
            backslashes = backslashes.wrapping_add(1);
        }
        // Only an odd run of backslashes starts an escape.
        let digits = match rest.peek() {
            Some(b'u') if byte == b'\\' && backslashes % 2 == 1 => 4,
            Some(b'U') if byte == b'\\' && backslashes % 2 == 1 => 8,
            _ => {
                push_code_point(&mut out, u32::from(byte));
                if byte != b'\\' {
                    backslashes = 0;
                }
                continue;
            }
        };
        backslashes = 0;
        rest.next();
        let code = (0..digits).try_fold(0_u32, |code, _| {
            let digit = rest.next().and_then(hex)?;
            Some(code.wrapping_mul(16).wrapping_add(digit))
        });
        let Some(code) = code.filter(|&code| code <= 0x10_FFFF) else {
            return Err(
                Reason::Pickle(format!("a unicode escape without {digits} hexadecimal digits")).into()
            );
        };
        push_code_point(&mut out, code);
    }
    Ok(out)
}

/// UTF-8, surrogates included.
fn push_code_point(out: &mut Vec<u8>, code: u32) {
    if let Some(char) = char::from_u32(code) {
        out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
        return;
    }
    let [low, middle, ..] = code.to_le_bytes();
    let six_high = u8::wrapping_add(0x80, (middle & 0x0F) << 2) | (low >> 6);
    out.extend_from_slice(&[0xE0 | (middle >> 4), six_high, 0x80 | (low & 0x3F)]);
}

fn hex(digit: u8) -> Option<u32> {
    char::from(digit).to_digit(16)
}

fn clip(line: &[u8]) -> &[u8] {
    line.get(..40).unwrap_or(line)
}

/// What bytes are as text.
pub(super) enum Utf8 {
    Valid,
    /// UTF-8 but for surrogates, which Python's `surrogatepass` lets through.
    Surrogates,
    Invalid,
}

/// Classifies text as Python's UTF-8 decoder with `surrogatepass` would.
pub(super) fn classify(mut bytes: &[u8]) -> Utf8 {
    if bytes.is_ascii() {
        return Utf8::Valid;
    }
    let mut surrogates = false;
    loop {
        let Err(error) = std::str::from_utf8(bytes) else {
            return if surrogates { Utf8::Surrogates } else { Utf8::Valid };
        };
        match bytes.get(error.valid_up_to()..) {
            Some([0xED, 0xA0..=0xBF, 0x80..=0xBF, rest @ ..]) => {
                surrogates = true;
                bytes = rest;
            }
            _ => return Utf8::Invalid,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_strings_decode_as_python_does() {
        assert_eq!(quoted(br"'a\x41\n\101\q'").unwrap(), b"aA\nA\\q");
        assert!(quoted(b"'half").is_err());
        assert!(quoted(b"'").is_err());
        assert!(quoted(br"'\x4'").is_err());
    }

    #[test]
    fn raw_unicode_escapes_decode_as_python_does() {
        assert_eq!(raw_unicode_escape(b"\xe9\\u00e9\\\\u0041").unwrap(), "éé\\\\u0041".as_bytes());
        assert_eq!(raw_unicode_escape(br"\ud800").unwrap(), [0xED, 0xA0, 0x80]);
        assert_eq!(raw_unicode_escape(br"\udfff").unwrap(), [0xED, 0xBF, 0xBF]);
        assert_eq!(raw_unicode_escape(br"\U0001F600").unwrap(), "😀".as_bytes());
        assert!(raw_unicode_escape(br"\u12").is_err());
        assert!(raw_unicode_escape(br"\U00110000").is_err());
    }

    #[test]
    fn overlong_utf8_is_invalid_and_surrogates_are_not() {
        assert!(matches!(classify(b"\xc0\x80"), Utf8::Invalid));
        assert!(matches!(classify(b"a\xed\xa0\x80b"), Utf8::Surrogates));
        assert!(matches!(classify("é".as_bytes()), Utf8::Valid));
    }
}
