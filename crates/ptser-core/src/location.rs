//! Where a storage lives: `cpu`, `cuda:0`, `mps`, `meta`, or a third party's device. Knows no device.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A location tag, as PyTorch writes it beside each storage.
///
/// Any text is a location: what no backend claims is found out when a storage is restored.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Location(Arc<str>);

impl Location {
    /// Takes a tag apart: `cuda:1` is device `cuda`, index 1. What is no index, as in `cuda:01`, is part of the name,
    /// which then no backend has.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The host's memory.
    pub fn cpu() -> Self {
        Self::new("cpu")
    }

    /// Shapes without data.
    pub fn meta() -> Self {
        Self::new("meta")
    }

    /// The device's name: `cuda` of `cuda:1`.
    pub fn device(&self) -> &str {
        self.parts().0
    }

    /// The device's index, where the tag has one.
    pub fn index(&self) -> Option<u32> {
        self.parts().1
    }

    /// The device and its index.
    fn parts(&self) -> (&str, Option<u32>) {
        let split = self.0.rsplit_once(':').and_then(|(device, index)| {
            // As PyTorch has them: digits, without a sign or leading zeros.
            let canonical =
                index.bytes().all(|b| b.is_ascii_digit()) && (index == "0" || !index.starts_with('0'));
            index.parse().ok().filter(|_| canonical).map(|index| (device, Some(index)))
        });
        split.unwrap_or((&self.0, None))
    }

    /// The tag as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Location({:?})", self.0)
    }
}

impl From<&str> for Location {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Location {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl FromStr for Location {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::new(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_digits_behind_the_last_colon() {
        let parts = |text| {
            let location = Location::new(text);
            (location.device().to_owned(), location.index())
        };
        assert_eq!(parts("cuda:1"), ("cuda".into(), Some(1)));
        assert_eq!(parts("cuda"), ("cuda".into(), None));
        for nonsense in
            ["cuda:+1", "cuda:-1", "cuda:01", "cuda:", "cuda:x", "cuda0", "cuda:1 ", "cuda:4294967296"]
        {
            assert_eq!(parts(nonsense), (nonsense.into(), None));
        }
        assert_eq!(parts("a:b:7"), ("a:b".into(), Some(7)));
        assert_eq!(parts(""), ("".into(), None));
    }
}
