//! What a state dict and a map of variables have in common, and what does not fit.

use std::fmt;
use std::sync::Arc;

use crate::report::Report;

/// What became of loading a state dict into a `VarMap`, as PyTorch's `load_state_dict` tells it.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct VarsReport {
    /// Variables that the state dict has no tensor for.
    pub missing: Vec<Missing>,
    /// Tensors that the map has no variable for.
    pub unexpected: Vec<String>,
    /// Variables whose tensor is of another shape.
    pub mismatched: Vec<Mismatched>,
    /// Names that are the same tensor, or the same variable, as another name: tied weights. In a map that was made here
    /// the other name stands for both.
    pub aliases: Vec<Alias>,
    /// Names that are one tensor in the state dict and two variables in the map, which a step takes apart.
    pub untied: Vec<Alias>,
    /// The `num_batches_tracked` of batch norms, which candle does not count.
    pub ignored: Vec<String>,
    /// What was done to tensors that candle cannot hold as they were.
    pub changes: Report,
}

/// A variable that a state dict has no tensor for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The variable's name.
    pub name: String,
    /// Its shape.
    pub expected: Vec<usize>,
    /// Names in the state dict that are like it.
    pub nearest: Vec<String>,
}

/// A variable whose tensor in the state dict is of another shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatched {
    /// The name of both.
    pub name: String,
    /// The variable's shape.
    pub expected: Vec<usize>,
    /// The tensor's shape.
    pub found: Vec<usize>,
}

/// A second name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// The name.
    pub name: String,
    /// The name that it is an alias of. It may be that of very many.
    pub of: Arc<str>,
}

impl VarsReport {
    /// Whether each variable has its tensor, and each tensor its variable.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.mismatched.is_empty()
    }
}

/// Why a state dict was not loaded into a map of variables. The variables are as they were.
#[derive(Debug)]
#[non_exhaustive]
pub enum VarsError {
    /// It is that of another model.
    Mismatch(Box<VarsReport>),
    /// Two names are one variable in the map, and have different values in the state dict.
    Tied(Alias),
    /// The file cannot be opened, or a tensor not be read.
    Read(candle_core::Error),
}

/// Names in a message; there may be thousands.
const SHOWN: usize = 8;

fn list<T>(
    f: &mut fmt::Formatter<'_>,
    items: &[T],
    mut show: impl FnMut(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for item in items.iter().take(SHOWN) {
        f.write_str("; ")?;
        show(f, item)?;
    }
    match items.len().saturating_sub(SHOWN) {
        0 => Ok(()),
        more => write!(f, "; and {more} more"),
    }
}

impl fmt::Display for VarsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mismatch(report) => {
                f.write_str("the state dict does not fit the variables")?;
                list(f, &report.missing, |f, Missing { name, expected, nearest }| {
                    write!(f, "{name}: expected a tensor of shape {expected:?}, found none")?;
                    match nearest.as_slice() {
                        [] => Ok(()),
                        nearest => write!(f, " (the nearest names are {})", nearest.join(", ")),
                    }
                })?;
                list(f, &report.mismatched, |f, Mismatched { name, expected, found }| {
                    write!(f, "{name}: expected shape {expected:?}, found {found:?}")
                })?;
                list(f, &report.unexpected, |f, name| write!(f, "{name}: found a tensor, expected none"))
            }
            Self::Tied(Alias { name, of }) => write!(
                f,
                "{name} and {of}: expected equal tensors, as they are one variable, found different ones; leave one out with PtOptions::only"
            ),
            Self::Read(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for VarsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read(error) => Some(error),
            Self::Mismatch(_) | Self::Tied(_) => None,
        }
    }
}

impl From<candle_core::Error> for VarsError {
    fn from(error: candle_core::Error) -> Self {
        Self::Read(error)
    }
}

impl From<ptser_core::Error> for VarsError {
    fn from(error: ptser_core::Error) -> Self {
        Self::Read(crate::error::wrap(error))
    }
}

impl From<VarsError> for candle_core::Error {
    fn from(error: VarsError) -> Self {
        match error {
            VarsError::Read(error) => error,
            other => Self::wrap(other),
        }
    }
}
