//! Byte order, and swapping between the two. Knows nothing of formats.

/// The order in which the bytes of a number lie in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ByteOrder {
    /// Least significant byte first, as x86-64 and nearly every arm64 system.
    Little,
    /// Most significant byte first, as s390x.
    Big,
}

impl ByteOrder {
    /// The order of the machine that this code runs on.
    pub const NATIVE: Self = if cfg!(target_endian = "big") { Self::Big } else { Self::Little };

    /// The word PyTorch writes in the `byteorder` record.
    pub fn name(self) -> &'static str {
        match self {
            Self::Little => "little",
            Self::Big => "big",
        }
    }
}

/// Reverses the bytes of each `unit` bytes of `bytes`; a unit of 0 or 1 changes nothing.
pub fn swap_in_place(bytes: &mut [u8], unit: usize) {
    if unit > 1 {
        for word in bytes.chunks_exact_mut(unit) {
            word.reverse();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complex_halves_swap_apart() {
        let mut bytes = [1, 2, 3, 4, 5, 6, 7, 8];
        swap_in_place(&mut bytes, 4);
        assert_eq!(bytes, [4, 3, 2, 1, 8, 7, 6, 5]);
    }
}
