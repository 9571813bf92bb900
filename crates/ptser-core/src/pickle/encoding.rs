//! What the strings of Python 2 are taken for: it wrote text and bytes by the same opcodes.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// How strings are read that Python 2 wrote (`STRING`, `BINSTRING`, `SHORT_BINSTRING`): PyTorch's
/// `torch.load(encoding=…)`. What is text in Python 3 or was `unicode` in Python 2 is not touched.
///
/// ```
/// use ptser_core::Encoding;
///
/// let encoding: Encoding = "latin1".parse()?;
/// assert_eq!(encoding, Encoding::Latin1);
/// # Ok::<(), ptser_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Encoding {
    /// Text where it is UTF-8, and bytes where it is not. PyTorch's default, `utf-8`, fails on the latter.
    #[default]
    Auto,
    /// UTF-8; anything else is an error.
    Utf8,
    /// Each byte is the character of that number: also what lets NumPy read its own arrays of Python 2.
    Latin1,
    /// ASCII; anything else is an error.
    Ascii,
    /// Bytes as they are, keys of dictionaries too.
    Bytes,
}

impl Encoding {
    /// Every encoding.
    pub const ALL: [Self; 5] = [Self::Auto, Self::Utf8, Self::Latin1, Self::Ascii, Self::Bytes];

    /// The name in Python, and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Utf8 => "utf-8",
            Self::Latin1 => "latin1",
            Self::Ascii => "ascii",
            Self::Bytes => "bytes",
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Encoding {
    type Err = Error;

    /// Reads a name as Python spells it: case, `-` and `_` do not matter.
    ///
    /// # Errors
    /// `Misuse` for names of other encodings.
    fn from_str(name: &str) -> Result<Self, Error> {
        let plain: String = name.to_ascii_lowercase().replace(['-', '_'], "");
        match plain.as_str() {
            "auto" => Ok(Self::Auto),
            "utf8" => Ok(Self::Utf8),
            "latin1" | "iso88591" | "latin" | "l1" => Ok(Self::Latin1),
            "ascii" | "usascii" => Ok(Self::Ascii),
            "bytes" => Ok(Self::Bytes),
            _ => {
                let names = Self::ALL.map(Self::name).join(", ");
                Err(Error::misuse(format!("unknown encoding {name:?}; there are {names}")))
            }
        }
    }
}
