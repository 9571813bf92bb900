//! The core's errors as candle's, in their own words.

use candle_core::Error;

/// Wraps an error of the core; `Error::Wrapped` shows its words.
pub(crate) fn wrap(error: ptser_core::Error) -> Error {
    Error::wrap(error)
}

/// An error about one tensor.
pub(crate) fn about(name: &str, what: impl std::fmt::Display) -> Error {
    Error::Msg(format!("tensor {name}: {what}")).bt()
}
