//! Values as Python's `repr` writes them, cut where they are long.

use std::fmt::Write;

use crate::value::{Value, ValueKind};

/// Writes one value, within a budget of characters and of depth.
pub(crate) struct Repr {
    out: String,
    budget: usize,
    /// Whether objects are written with what they were to be made from, or by their class alone.
    objects: bool,
}

const DEPTH: usize = 8;

impl Repr {
    /// For messages and listings.
    pub(crate) fn short(value: Value<'_>) -> String {
        Self::within(value, 200, true)
    }

    /// For dictionary keys in paths, where two keys must not look alike.
    pub(crate) fn key(value: Value<'_>) -> String {
        Self::within(value, 4000, false)
    }

    fn within(value: Value<'_>, budget: usize, objects: bool) -> String {
        let mut repr = Self { out: String::new(), budget, objects };
        repr.value(value, 0);
        repr.out
    }

    fn full(&self) -> bool {
        self.out.len() >= self.budget
    }

    fn value(&mut self, value: Value<'_>, depth: usize) {
        match value.kind() {
            ValueKind::None => self.out.push_str("None"),
            ValueKind::Bool(true) => self.out.push_str("True"),
            ValueKind::Bool(false) => self.out.push_str("False"),
            ValueKind::Int(int) => self.display(int),
            ValueKind::BigInt(int) => self.display(int),
            ValueKind::Float(float) => self.out.push_str(&python_float(float)),
            ValueKind::Complex(re, im) => self.complex(re, im),
            ValueKind::Str(text) => self.text(text.chars().map(Ok)),
            ValueKind::Surrogates(bytes) => self.text(wtf8(bytes)),
            ValueKind::Bytes(bytes) => self.bytes(bytes, false),
            ValueKind::ByteArray(bytes) => {
                self.out.push_str("bytearray(");
                // Python escapes single quotes here, whichever quotes stand around them.
                self.bytes(bytes, true);
                self.out.push(')');
            }
            ValueKind::Device(location) => {
                self.out.push_str("device(type='");
                self.out.push_str(location.device());
                self.out.push('\'');
                if let Some(index) = location.index() {
                    let _ = write!(self.out, ", index={index}");
                }
                self.out.push(')');
            }
            ValueKind::DType(dtype) => {
                let _ = write!(self.out, "torch.{dtype}");
            }
            ValueKind::Layout(layout) => {
                let _ = write!(self.out, "torch.{}", layout.name());
            }
            ValueKind::Tensor(tensor) => {
                let what = if tensor.is_parameter() { "parameter" } else { "tensor" };
                let _ = write!(self.out, "<{what} {} {:?}>", tensor.dtype(), tensor.shape());
            }
            ValueKind::Array(array) => {
                let _ = write!(self.out, "<array {} {:?}>", array.dtype(), array.shape());
            }
            ValueKind::Path(text) | ValueKind::Time(text) => {
                let class = value.class().unwrap_or_default();
                self.out.push_str(class.rsplit('.').next().unwrap_or(class));
                self.out.push('(');
                self.text(text.chars().map(Ok));
                self.out.push(')');
            }
            ValueKind::Storage(storage, dtype) => {
                let dtype = dtype.map_or("untyped", crate::DType::name);
                let _ = write!(self.out, "<storage {dtype}, {} bytes>", storage.nbytes());
            }
            ValueKind::Global(name) => {
                let _ = write!(self.out, "<{name}>");
            }
            ValueKind::Damaged(_) => self.out.push_str("<damaged>"),
            ValueKind::Tuple => {
                let one = value.len() == 1;
                self.sequence(value, depth, "(", if one { ",)" } else { ")" });
            }
            ValueKind::List => self.sequence(value, depth, "[", "]"),
            ValueKind::Deque => self.sequence(value, depth, "deque([", "])"),
            ValueKind::Size => self.sequence(value, depth, "torch.Size([", "])"),
            ValueKind::Set if value.is_empty() => self.out.push_str("set()"),
            ValueKind::Set => self.sequence(value, depth, "{", "}"),
            ValueKind::FrozenSet if value.is_empty() => self.out.push_str("frozenset()"),
            ValueKind::FrozenSet => self.sequence(value, depth, "frozenset({", "})"),
            ValueKind::Dict => self.mapping(value, depth, "{", "}"),
            ValueKind::OrderedDict => self.mapping(value, depth, "OrderedDict({", "})"),
            ValueKind::Counter => self.mapping(value, depth, "Counter({", "})"),
            ValueKind::DefaultDict => self.mapping(value, depth, "defaultdict({", "})"),
            ValueKind::Object if self.objects => self.object(value, depth),
            ValueKind::Object => {
                let _ = write!(self.out, "<{}>", value.class().unwrap_or("object"));
            }
        }
    }

    fn display(&mut self, value: impl std::fmt::Display) {
        let _ = write!(self.out, "{value}");
    }

    fn sequence(&mut self, value: Value<'_>, depth: usize, open: &str, close: &str) {
        self.out.push_str(open);
        if depth >= DEPTH {
            self.out.push('…');
        } else {
            for (place, item) in value.items().enumerate() {
                if !self.separate(place) {
                    break;
                }
                self.value(item, depth.saturating_add(1));
            }
        }
        self.out.push_str(close);
    }

    fn mapping(&mut self, value: Value<'_>, depth: usize, open: &str, close: &str) {
        self.out.push_str(open);
        if depth >= DEPTH {
            self.out.push('…');
        } else {
            for (place, (key, value)) in value.entries().enumerate() {
                if !self.separate(place) {
                    break;
                }
                self.value(key, depth.saturating_add(1));
                self.out.push_str(": ");
                self.value(value, depth.saturating_add(1));
            }
        }
        self.out.push_str(close);
    }

    /// The call that would make it: arguments, keyword arguments, then its attributes.
    fn object(&mut self, value: Value<'_>, depth: usize) {
        self.out.push_str(value.class().unwrap_or("object"));
        self.out.push('(');
        if depth >= DEPTH {
            self.out.push_str("…)");
            return;
        }
        let partial = partial(value);
        let (args, kwargs): (Vec<_>, _) = match partial {
            Some([function, args, kwargs]) => {
                (std::iter::once(function).chain(args.items()).collect(), Some(kwargs))
            }
            None => (value.args().take(self.budget).collect(), value.kwargs()),
        };
        let attributes = if partial.is_some() { None } else { Some(value.attributes()) };
        let named = kwargs.into_iter().flat_map(Value::entries).chain(attributes.into_iter().flatten());
        let all =
            args.into_iter().map(|arg| (None, arg)).chain(named.map(|(name, value)| (Some(name), value)));
        for (place, (name, value)) in all.enumerate() {
            if !self.separate(place) {
                break;
            }
            match name.map(Value::kind) {
                Some(ValueKind::Str(name)) => {
                    let _ = write!(self.out, "{name}=");
                }
                Some(_) => self.out.push_str("…="),
                None => {}
            }
            self.value(value, depth.saturating_add(1));
        }
        self.out.push(')');
    }

    /// Writes the comma before all but the first; says whether there is room for more.
    fn separate(&mut self, place: usize) -> bool {
        if place > 0 {
            self.out.push_str(", ");
        }
        if self.full() {
            self.out.push('…');
        }
        !self.full()
    }

    fn complex(&mut self, re: f64, im: f64) {
        let part = |float: f64| python_float(float).trim_end_matches(".0").to_owned();
        if re == 0.0 && re.is_sign_positive() {
            let _ = write!(self.out, "{}j", part(im));
        } else {
            let sign = if im.is_sign_negative() && !im.is_nan() { "" } else { "+" };
            let _ = write!(self.out, "({}{sign}{}j)", part(re), part(im));
        }
    }

    /// Characters, or lone surrogates, in quotes as Python chooses and escapes them.
    fn text(&mut self, chars: impl Iterator<Item = Result<char, u16>> + Clone) {
        let has = |wanted| chars.clone().any(|char| char == Ok(wanted));
        let quote = if has('\'') && !has('"') { '"' } else { '\'' };
        self.out.push(quote);
        for char in chars {
            if self.full() {
                self.out.push('…');
                break;
            }
            match char {
                Ok('\\') => self.out.push_str("\\\\"),
                Ok('\n') => self.out.push_str("\\n"),
                Ok('\r') => self.out.push_str("\\r"),
                Ok('\t') => self.out.push_str("\\t"),
                Ok(char) if char == quote => self.out.extend(['\\', char]),
                Ok(char) if is_printable(char) => self.out.push(char),
                Ok(char) => {
                    let _ = match u32::from(char) {
                        code @ ..0x100 => write!(self.out, "\\x{code:02x}"),
                        code @ ..0x1_0000 => write!(self.out, "\\u{code:04x}"),
                        code => write!(self.out, "\\U{code:08x}"),
                    };
                }
                Err(surrogate) => {
                    let _ = write!(self.out, "\\u{surrogate:04x}");
                }
            }
        }
        self.out.push(quote);
    }

    fn bytes(&mut self, bytes: &[u8], escape_single: bool) {
        let quote = if bytes.contains(&b'\'') && !bytes.contains(&b'"') { '"' } else { '\'' };
        self.out.extend(['b', quote]);
        for &byte in bytes {
            if self.full() {
                self.out.push('…');
                break;
            }
            match byte {
                b'\\' => self.out.push_str("\\\\"),
                b'\n' => self.out.push_str("\\n"),
                b'\r' => self.out.push_str("\\r"),
                b'\t' => self.out.push_str("\\t"),
                byte if char::from(byte) == quote => self.out.extend(['\\', quote]),
                b'\'' if escape_single => self.out.push_str("\\'"),
                0x20..=0x7E => self.out.push(char::from(byte)),
                byte => {
                    let _ = write!(self.out, "\\x{byte:02x}");
                }
            }
        }
        self.out.push(quote);
    }
}

/// The function, arguments and keyword arguments of a `functools.partial`, which its state holds.
fn partial(value: Value<'_>) -> Option<[Value<'_>; 3]> {
    let mut state = value.state().filter(|_| value.class() == Some("functools.partial"))?.items();
    Some([state.next()?, state.next()?, state.next()?])
}

/// Whether Python's `repr` writes a character as it is: Unicode's spaces, controls and unassigned are not.
fn is_printable(char: char) -> bool {
    if char.is_ascii() {
        return matches!(char, ' '..='~');
    }
    // Rust's escapes follow the same rule, but for a combining character at the start of a string.
    format!("a{char}").escape_debug().nth(1) == Some(char)
}

/// Characters of UTF-8 with surrogates passed.
fn wtf8(bytes: &[u8]) -> impl Iterator<Item = Result<char, u16>> + Clone + '_ {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if let [0xED, middle @ 0xA0..=0xBF, last, tail @ ..] = rest {
            rest = tail;
            return Some(Err(0xD000 | (u16::from(middle & 0x3F) << 6) | u16::from(last & 0x3F)));
        }
        let width = match rest.first()? {
            0..=0x7F => 1,
            0xC0..=0xDF => 2,
            0xE0..=0xEF => 3,
            _ => 4,
        };
        let (head, tail) = rest.split_at_checked(width)?;
        rest = tail;
        std::str::from_utf8(head).ok()?.chars().next().map(Ok)
    })
}

/// The shortest digits that read back, with an exponent where Python writes one.
pub(crate) fn python_float(float: f64) -> String {
    if float.is_nan() {
        return "nan".into();
    }
    if float.is_infinite() {
        return if float > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let exponential = format!("{float:e}");
    let (digits, exponent) = exponential.split_once('e').unwrap_or((&exponential, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let shortest = format!("{float:?}");
        let decimals = decimals(&shortest);
        return even(float, format!("{float:.decimals$}"), shortest);
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    let decimals = decimals(digits);
    let exponential = even(float, format!("{float:.decimals$e}"), exponential.clone());
    let digits = exponential.split('e').next().unwrap_or_default();
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}

fn decimals(digits: &str) -> usize {
    digits.split_once('.').map_or(0, |(_, decimals)| decimals.len())
}

/// Of two shortest texts that are equally near, Python takes the even one, which is what rounding to as many
/// digits gives; it may not read back.
fn even(float: f64, rounded: String, shortest: String) -> String {
    if rounded.parse() == Ok(float) { rounded } else { shortest }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_look_as_in_python() {
        let cases = [
            (0.1, "0.1"),
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (1e16, "1e+16"),
            (1e15, "1000000000000000.0"),
            (1e-5, "1e-05"),
            (0.0001, "0.0001"),
            (1.5e300, "1.5e+300"),
            (5e-324, "5e-324"),
            (1e22, "1e+22"),
            (123_456_789_012_345_680.0, "1.2345678901234568e+17"),
            // Half-way between two texts of as many digits.
            (158_151_171_529_570.5 / 8.0, "19768896441196.312"),
            (9_007_199_254_740_993.0, "9007199254740992.0"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (float, expected) in cases {
            assert_eq!(python_float(float), expected);
        }
    }

    #[test]
    fn characters_are_escaped_where_python_escapes_them() {
        for char in ['a', '~', 'é', '模', '\u{301}', '😀'] {
            assert!(is_printable(char), "{char:?}");
        }
        for char in [
            '\0',
            '\x7f',
            '\u{80}',
            '\u{a0}',
            '\u{ad}',
            '\u{378}',
            '\u{200b}',
            '\u{2028}',
            '\u{e000}',
            '\u{e0001}',
        ] {
            assert!(!is_printable(char), "{char:?}");
        }
    }

    #[test]
    fn surrogates_come_out_of_their_three_bytes() {
        let chars: Vec<_> = wtf8(b"a\xed\xa0\x80\xc3\xa9\xed\xbf\xbf").collect();
        assert_eq!(chars, [Ok('a'), Err(0xD800), Ok('é'), Err(0xDFFF)]);
    }
}
