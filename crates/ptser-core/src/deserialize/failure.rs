//! What does not fit a type, in the words of Python, and the path there.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Expected, Unexpected};

use crate::error::{Error, Reason};
use crate::repr::{Repr, python_float};
use crate::value::{Value, ValueKind};

/// What does not fit, and the way there.
#[derive(Debug)]
pub(super) struct Failure(Box<Inner>);

#[derive(Debug)]
struct Inner {
    what: What,
    /// From the innermost step outwards.
    path: Vec<String>,
}

#[derive(Debug)]
enum What {
    Misfit {
        expected: String,
        found: String,
    },
    /// More levels than so many.
    TooDeep(u64),
    Other(String),
}

impl Failure {
    fn new(what: What) -> Self {
        Self(Box::new(Inner { what, path: Vec::new() }))
    }

    pub(super) fn misfit(expected: &dyn Expected, found: String) -> Self {
        Self::new(What::Misfit { expected: expected.to_string(), found })
    }

    pub(super) fn too_deep(levels: u64) -> Self {
        Self::new(What::TooDeep(levels))
    }

    pub(super) fn is_misfit(&self) -> bool {
        matches!(self.0.what, What::Misfit { .. })
    }

    /// Names the value that was found, which serde calls a sequence or a map.
    pub(super) fn of(mut self, value: Value<'_>) -> Self {
        if let What::Misfit { found, .. } = &mut self.0.what {
            *found = describe(value);
        }
        self
    }

    /// Adds the step that led to where it was found.
    pub(super) fn under(mut self, step: String) -> Self {
        self.0.path.push(step);
        self
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let message = failure.to_string();
        match failure.0.what {
            What::TooDeep(allowed) => Reason::Nesting { path: message, allowed }.into(),
            What::Misfit { .. } | What::Other(_) => Self::misuse(message),
        }
    }
}

impl serde::de::Error for Failure {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(What::Other(message.to_string()))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::misfit(expected, spell(found))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::misfit(expected, spell(found))
    }

    fn invalid_length(found: usize, expected: &dyn Expected) -> Self {
        Self::misfit(expected, items(found))
    }
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whoever nests 128 levels reads the first and the last of them.
        const ENDS: usize = 8;
        let Inner { what, path } = &*self.0;
        let hidden = path.len().saturating_sub(ENDS.saturating_mul(2));
        for (place, step) in path.iter().rev().enumerate() {
            let dot = if place == 0 { "" } else { "." };
            match place.checked_sub(ENDS) {
                Some(0) if hidden > 0 => write!(f, "{dot}…")?,
                Some(within) if within < hidden => {}
                _ => write!(f, "{dot}{step}")?,
            }
        }
        let colon = if path.is_empty() { "" } else { ": " };
        match what {
            What::Misfit { expected, found } => write!(f, "{colon}expected {expected}, found {found}"),
            What::TooDeep(_) => Ok(()),
            What::Other(message) => write!(f, "{colon}{message}"),
        }
    }
}

/// A key as a step of a path.
pub(super) fn step(key: Value<'_>) -> String {
    match key.kind() {
        ValueKind::Str("") => "\"\"".to_owned(),
        ValueKind::Str(text) => {
            let quoted = format!("{:?}", short(text));
            let inner = quoted.strip_prefix('"').and_then(|quoted| quoted.strip_suffix('"'));
            inner.unwrap_or(&quoted).to_owned()
        }
        _ => short(&Repr::short(key)).into_owned(),
    }
}

/// A value in a message.
pub(super) fn describe(value: Value<'_>) -> String {
    match value.kind() {
        ValueKind::None => "None".into(),
        ValueKind::Bool(bool) => spell(Unexpected::Bool(bool)),
        ValueKind::Int(int) => spell(Unexpected::Signed(int)),
        ValueKind::BigInt(int) => format!("the integer {}", short(&int.to_string())),
        ValueKind::Float(float) => spell(Unexpected::Float(float)),
        ValueKind::Complex(..) => format!("the complex number {}", Repr::short(value)),
        ValueKind::Str(text) => spell(Unexpected::Str(text)),
        ValueKind::Surrogates(_) => {
            "a string with lone surrogates, which UTF-8 lacks; read it as bytes".into()
        }
        ValueKind::Bytes(_) | ValueKind::ByteArray(_) => spell(Unexpected::Bytes(&[])),
        ValueKind::List
        | ValueKind::Tuple
        | ValueKind::Deque
        | ValueKind::Size
        | ValueKind::Set
        | ValueKind::FrozenSet
        | ValueKind::Dict
        | ValueKind::OrderedDict
        | ValueKind::Counter
        | ValueKind::DefaultDict => format!("a {}", value.type_name()),
        ValueKind::Device(location) => format!("the device {:?}", short(location.as_str())),
        ValueKind::DType(dtype) => format!("the dtype {dtype}"),
        ValueKind::Layout(layout) => format!("the layout {}", layout.name()),
        ValueKind::Tensor(_) => "a tensor; read it with as_tensor".into(),
        ValueKind::Storage(..) => "a storage; read it with kind".into(),
        ValueKind::Global(name) => format!("the global {}", short(name)),
        ValueKind::Damaged(error) => format!("what is damaged: {error}"),
        ValueKind::Path(path) => format!("the path {}", short(path)),
        ValueKind::Time(time) => format!("the time {time}"),
        ValueKind::Array(array) => format!("an array of {} of shape {:?}", array.dtype(), array.shape()),
        ValueKind::Object => format!("an object of {}", short(value.class().unwrap_or("no class"))),
    }
}

/// What serde found in a message.
fn spell(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Unit | Unexpected::Option => "None".into(),
        Unexpected::Bool(true) => "True".into(),
        Unexpected::Bool(false) => "False".into(),
        Unexpected::Unsigned(int) => format!("the integer {int}"),
        Unexpected::Signed(int) => format!("the integer {int}"),
        Unexpected::Float(float) => format!("the float {}", python_float(float)),
        Unexpected::Char(char) => format!("the character {char:?}"),
        Unexpected::Str(text) => format!("the string {:?}", short(text)),
        Unexpected::Bytes(_) => "bytes".into(),
        Unexpected::Seq => "a sequence".into(),
        Unexpected::Map => "a dict".into(),
        other => other.to_string(),
    }
}

/// The first characters of a long text.
fn short(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()).into(),
        None => text.into(),
    }
}

pub(super) fn items(count: usize) -> String {
    if count == 1 { "1 item".to_owned() } else { format!("{count} items") }
}
