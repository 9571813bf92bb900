//! The sizes of a tensor, or its strides: up to two lie in place, since there are checkpoints of many small tensors.

use std::ops::{Deref, DerefMut};

/// One number for each axis.
#[derive(Debug, Clone)]
pub(crate) enum Sizes {
    /// As many of them as there are axes.
    Few(u8, [usize; 2]),
    Many(Box<[usize]>),
}

impl FromIterator<usize> for Sizes {
    fn from_iter<I: IntoIterator<Item = usize>>(sizes: I) -> Self {
        let mut sizes = sizes.into_iter().fuse();
        match (sizes.next(), sizes.next(), sizes.next()) {
            (Some(first), Some(second), Some(third)) => {
                Self::Many([first, second, third].into_iter().chain(sizes).collect())
            }
            (Some(first), Some(second), None) => Self::Few(2, [first, second]),
            (Some(only), None, _) => Self::Few(1, [only, 0]),
            (None, ..) => Self::Few(0, [0, 0]),
        }
    }
}

impl<const AXES: usize> From<[usize; AXES]> for Sizes {
    fn from(sizes: [usize; AXES]) -> Self {
        sizes.into_iter().collect()
    }
}

impl From<&[usize]> for Sizes {
    fn from(sizes: &[usize]) -> Self {
        sizes.iter().copied().collect()
    }
}

impl From<Box<[usize]>> for Sizes {
    fn from(sizes: Box<[usize]>) -> Self {
        if sizes.len() > 2 { Self::Many(sizes) } else { (*sizes).into() }
    }
}

impl Deref for Sizes {
    type Target = [usize];

    #[inline]
    fn deref(&self) -> &[usize] {
        match self {
            Self::Few(axes, sizes) => sizes.get(..usize::from(*axes)).unwrap_or_default(),
            Self::Many(sizes) => sizes,
        }
    }
}

impl DerefMut for Sizes {
    fn deref_mut(&mut self) -> &mut [usize] {
        match self {
            Self::Few(axes, sizes) => sizes.get_mut(..usize::from(*axes)).unwrap_or_default(),
            Self::Many(sizes) => sizes,
        }
    }
}
