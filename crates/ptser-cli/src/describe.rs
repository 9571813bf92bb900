//! One value in a few words. Knows no command.

use ptser::{Value, ValueKind};

use crate::human;

/// The longest value shown beside its key.
const VALUE: usize = 60;

/// What a value holds by name: the entries of a dict, the attributes of an object.
pub(crate) fn keys(value: Value<'_>) -> Box<dyn Iterator<Item = (Value<'_>, Value<'_>)> + '_> {
    match value.kind() {
        ValueKind::Object => Box::new(value.attributes()),
        _ => Box::new(value.entries()),
    }
}

/// How much is in a container; nothing for what is none.
pub(crate) fn len(value: Value<'_>) -> Option<usize> {
    match value.kind() {
        ValueKind::Dict | ValueKind::OrderedDict | ValueKind::Counter | ValueKind::DefaultDict => {
            Some(value.len())
        }
        ValueKind::List | ValueKind::Tuple | ValueKind::Size | ValueKind::Set | ValueKind::FrozenSet => {
            Some(value.len())
        }
        _ => None,
    }
}

/// A key beside its value.
pub(crate) fn spelled(key: Value<'_>) -> String {
    match key.kind() {
        // What could be taken for something else is quoted.
        ValueKind::Str(text) if is_plain(text) => human::name(text),
        _ => human::name(&key.to_string()),
    }
}

/// `collections.OrderedDict of 26`, `int 3`, `torch.Tensor float32 [64, 3]`.
pub(crate) fn summary(value: Value<'_>) -> String {
    let kind = human::name(value.type_name());
    match (value.kind(), len(value)) {
        (_, Some(len)) => format!("{kind} of {}", human::number(len)),
        (ValueKind::Tensor(tensor), _) => {
            format!("{kind} {} {}", tensor.dtype(), human::sizes(tensor.shape()))
        }
        (ValueKind::None, _) => kind,
        (ValueKind::Object, _) => format!("inert {kind}"),
        // These say themselves what they are.
        (
            ValueKind::Global(_)
            | ValueKind::Device(_)
            | ValueKind::DType(_)
            | ValueKind::Layout(_)
            | ValueKind::Storage(..),
            _,
        ) => human::shorten(&value.to_string(), VALUE),
        _ => format!("{kind} {}", human::shorten(&value.to_string(), VALUE)),
    }
}

/// Whether text without quotes is taken for nothing else.
pub(crate) fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.trim() == text && text.parse::<f64>().is_err()
}
