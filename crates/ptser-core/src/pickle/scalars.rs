//! Opcodes that push numbers, text and bytes.

use super::encoding::Encoding;
use super::graph::{Node, Span};
use super::machine::Machine;
use super::text::{self, Number, Utf8};
use crate::error::{Error, Reason, Result};
use crate::memory::reserve;

impl Machine<'_> {
    pub(super) fn long(&mut self, len: u64) -> Result<()> {
        let (bytes, span) = self.reader.take_claimed(len)?;
        self.push(match small_int(bytes) {
            Some(int) => Node::Int(int),
            None => Node::Long(span.cut_to(shortest(bytes))),
        })
    }

    pub(super) fn long4(&mut self, len: i32) -> Result<()> {
        let len = u64::try_from(len).map_err(|_| Reason::Pickle("an integer of negative length".into()))?;
        self.long(len)
    }

    pub(super) fn int_text(&mut self) -> Result<()> {
        let (line, _) = self.reader.line()?;
        match line {
            b"00" => self.push(Node::Bool(false)),
            b"01" => self.push(Node::Bool(true)),
            line => self.number(text::integer(line)?),
        }
    }

    pub(super) fn long_text(&mut self) -> Result<()> {
        let (line, _) = self.reader.line()?;
        self.number(text::integer(line)?)
    }

    fn number(&mut self, number: Number) -> Result<()> {
        match number {
            Number::Small(int) => self.push(Node::Int(int)),
            Number::Big(bytes) => {
                let span = self.keep(&bytes)?;
                self.push(Node::Long(span))
            }
        }
    }

    // Text and bytes.

    /// Keeps decoded bytes behind the pickle's own.
    fn keep(&mut self, bytes: &[u8]) -> Result<Span> {
        let start = self.pickle_len.saturating_add(self.heap.len());
        reserve(&mut self.heap, bytes.len())?;
        self.heap.extend_from_slice(bytes);
        Span::new(start, bytes.len())
    }

    pub(super) fn unicode(&mut self, len: u64) -> Result<()> {
        let (bytes, span) = self.reader.take_claimed(len)?;
        self.text(bytes, span)
    }

    pub(super) fn unicode_text(&mut self) -> Result<()> {
        let (line, _) = self.reader.line()?;
        let decoded = text::raw_unicode_escape(line)?;
        let span = self.keep(&decoded)?;
        self.text(&decoded, span)
    }

    pub(super) fn text(&mut self, bytes: &[u8], span: Span) -> Result<()> {
        self.push(match text::classify(bytes) {
            Utf8::Valid => Node::Str(span),
            Utf8::Surrogates => Node::Surrogates(span),
            Utf8::Invalid => return Err(Reason::Pickle("a string is not UTF-8".into()).into()),
        })
    }

    pub(super) fn binstring(&mut self) -> Result<()> {
        let len = self.reader.i32()?;
        let len = u64::try_from(len).map_err(|_| Reason::Pickle("a string of negative length".into()))?;
        self.python2_string(len)
    }

    pub(super) fn python2_string(&mut self, len: u64) -> Result<()> {
        let (bytes, span) = self.reader.take_claimed(len)?;
        self.python2_text(bytes, span)
    }

    pub(super) fn string_text(&mut self) -> Result<()> {
        let (line, _) = self.reader.line()?;
        let decoded = text::quoted(line)?;
        let span = self.keep(&decoded)?;
        self.python2_text(&decoded, span)
    }

    fn python2_text(&mut self, bytes: &[u8], span: Span) -> Result<()> {
        let utf8 = std::str::from_utf8(bytes);
        let node = match self.encoding {
            Encoding::Bytes => Node::Bytes(span),
            Encoding::Auto if utf8.is_err() => Node::Bytes(span),
            Encoding::Latin1 if !bytes.is_ascii() => {
                let text: String = bytes.iter().copied().map(char::from).collect();
                Node::Str(self.keep(text.as_bytes())?)
            }
            Encoding::Ascii if !bytes.is_ascii() => {
                let good = bytes.iter().take_while(|byte| byte.is_ascii()).count();
                return Err(self.not_encoded(bytes, good));
            }
            Encoding::Utf8 if let Err(error) = utf8 => {
                return Err(self.not_encoded(bytes, error.valid_up_to()));
            }
            Encoding::Auto | Encoding::Latin1 | Encoding::Ascii | Encoding::Utf8 => Node::Str(span),
        };
        self.push(node)
    }

    fn not_encoded(&self, bytes: &[u8], good: usize) -> Error {
        let byte = bytes.get(good).copied().unwrap_or(0);
        let [encoding, others @ ..] = [self.encoding, Encoding::Latin1, Encoding::Bytes, Encoding::Auto];
        let others = others.map(|other| other.name()).join(", ");
        Reason::Pickle(format!(
            "a string of Python 2 is not {encoding}: its byte {good} is {byte:#04x}; \
             open it with another encoding ({others})"
        ))
        .into()
    }

    pub(super) fn bytes(&mut self, len: u64, node: fn(Span) -> Node) -> Result<()> {
        let (_, span) = self.reader.take_claimed(len)?;
        self.push(node(span))
    }
}

/// A two's complement, little-endian integer that fits 64 bits.
fn small_int(bytes: &[u8]) -> Option<i64> {
    let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
    let fill = if negative { 0xFF } else { 0 };
    let mut word = [fill; 8];
    if let Some(excess) = bytes.get(8..) {
        let sign_kept = bytes.get(7).is_some_and(|&top| (top >= 0x80) == negative);
        if !sign_kept || excess.iter().any(|&byte| byte != fill) {
            return None;
        }
    }
    word.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    Some(i64::from_le_bytes(word))
}

/// The bytes that say which integer it is: those above only repeat its sign.
fn shortest(bytes: &[u8]) -> usize {
    let mut needed = bytes;
    while let [rest @ .., below, top] = needed
        && *top == if *below >= 0x80 { 0xFF } else { 0 }
    {
        needed = needed.get(..rest.len().saturating_add(1)).unwrap_or_default();
    }
    needed.len()
}

#[cfg(test)]
mod tests {
    use super::{shortest, small_int};

    #[test]
    fn bytes_that_repeat_the_sign_are_no_part_of_an_integer() {
        let big = [1; 9];
        for (sign, len) in [(0, 9), (0xFF, 10), (1, 10), (0x80, 10)] {
            assert_eq!(shortest(&[&big[..], &[sign]].concat()), len, "{sign}");
            assert_eq!(shortest(&[&big[..], &[sign, 0]].concat()), if sign < 0x80 { len } else { 11 });
        }
        assert_eq!(shortest(&[0, 0x80, 0xFF, 0xFF]), 2);
        assert_eq!(shortest(&[0, 0x80, 0]), 3);
    }

    #[test]
    fn integers_of_any_length_keep_their_sign() {
        assert_eq!(small_int(&[]), Some(0));
        assert_eq!(small_int(&[0xFF]), Some(-1));
        assert_eq!(small_int(&[0xFF, 0]), Some(255));
        assert_eq!(small_int(&[0, 0, 0, 0, 0, 0, 0, 0x80]), Some(i64::MIN));
        assert_eq!(small_int(&[0, 0, 0, 0, 0, 0, 0, 0x80, 0]), None);
        assert_eq!(small_int(&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F, 0, 0]), Some(i64::MAX));
    }
}
