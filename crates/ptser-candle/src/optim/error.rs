//! What does not fit when an optimizer's state is loaded.

use std::fmt;

use candle_core::DType;

/// Why the state of an optimizer was not loaded. The optimizer is as it was.
#[derive(Debug)]
#[non_exhaustive]
pub enum StateError {
    /// The value is no state dict of an optimizer.
    NotAStateDict {
        /// What is wrong with it.
        found: String,
    },
    /// It is the state dict of another optimizer.
    OtherOptimizer {
        /// The optimizer that was to load it.
        expected: &'static str,
        /// How it shows.
        found: String,
    },
    /// It has another number of parameter groups.
    Groups {
        /// The groups of the optimizer.
        expected: usize,
        /// The groups of the state dict.
        found: usize,
    },
    /// A group has another number of parameters.
    GroupSize {
        /// The group's place.
        group: usize,
        /// The parameters of the optimizer's group.
        expected: usize,
        /// The parameters of the state dict's.
        found: usize,
    },
    /// A group has no parameter of this name.
    Parameter {
        /// The group's place.
        group: usize,
        /// The parameter's name in the optimizer.
        parameter: String,
        /// Names that the state dict's group has instead.
        found: Vec<String>,
    },
    /// A setting of a group has no meaning.
    Setting {
        /// The group's place.
        group: usize,
        /// The setting's key.
        key: String,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// A parameter's state lacks something.
    Missing {
        /// The parameter's name, or its place.
        parameter: String,
        /// The key that is not there.
        key: &'static str,
    },
    /// A parameter's state is of another shape.
    Shape {
        /// The parameter's name, or its place.
        parameter: String,
        /// The key of the tensor.
        key: &'static str,
        /// The parameter's shape.
        expected: Vec<usize>,
        /// The tensor's.
        found: Vec<usize>,
    },
    /// A parameter's state is of another element type.
    DType {
        /// The parameter's name, or its place.
        parameter: String,
        /// The key of the tensor.
        key: &'static str,
        /// The parameter's type.
        expected: DType,
        /// The tensor's.
        found: ptser_core::DType,
    },
    /// A value in a parameter's state is of another kind.
    Value {
        /// The parameter's name, or its place.
        parameter: String,
        /// The value's key.
        key: String,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// A tensor could not be read.
    Read {
        /// The parameter's name, or its place.
        parameter: String,
        /// The key of the tensor.
        key: &'static str,
        /// Why.
        error: Box<candle_core::Error>,
    },
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAStateDict { found } => write!(
                f,
                "not the state dict of an optimizer: {found}; expected a dict of state and param_groups"
            ),
            Self::OtherOptimizer { expected, found } => {
                write!(f, "the state dict of another optimizer than {expected}: {found}")
            }
            Self::Groups { expected, found } => {
                write!(f, "expected {expected} parameter groups, found {found} in the state dict")
            }
            Self::GroupSize { group, expected, found } => write!(
                f,
                "parameter group {group}: expected {expected} parameters, found {found} in the state dict"
            ),
            Self::Parameter { group, parameter, found } => {
                let found = if found.is_empty() { "no other".into() } else { found.join(", ") };
                write!(
                    f,
                    "parameter group {group}: expected a parameter {parameter}, found {found} in the state dict"
                )
            }
            Self::Setting { group, key, expected, found } => {
                write!(f, "parameter group {group}: {key}: expected {expected}, found {found}")
            }
            Self::Missing { parameter, key } => {
                write!(f, "{parameter}: expected {key} in its state, found none")
            }
            Self::Shape { parameter, key, expected, found } => {
                write!(f, "{parameter}: {key}: expected shape {expected:?}, found {found:?}")
            }
            Self::DType { parameter, key, expected, found } => write!(
                f,
                "{parameter}: {key}: expected {expected:?} as the parameter's, found {found}; load the parameter in that type"
            ),
            Self::Value { parameter, key, expected, found } => {
                write!(f, "{parameter}: {key}: expected {expected}, found {found}")
            }
            Self::Read { parameter, key, error } => write!(f, "{parameter}: {key}: {error}"),
        }
    }
}

impl std::error::Error for StateError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read { error, .. } => Some(error.as_ref()),
            _ => None,
        }
    }
}

impl From<StateError> for candle_core::Error {
    fn from(error: StateError) -> Self {
        Self::wrap(error)
    }
}
