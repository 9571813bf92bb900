//! What a value is to serde: which entries, members, names and content it has.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::value::{Value, ValueKind};

pub(super) type Entries<'c> = Vec<(Value<'c>, Value<'c>)>;

/// The entries of a dict of any kind.
pub(super) fn mapping(value: Value<'_>) -> Entries<'_> {
    let entries = value.entries().collect();
    if matches!(value.kind(), ValueKind::Dict) { entries } else { settled(entries) }
}

/// What an object stands for, where it has neither fields nor members: its state, or else its one argument.
pub(super) fn content(value: Value<'_>) -> Option<Value<'_>> {
    let object = matches!(value.kind(), ValueKind::Object);
    if !object || value.assigned().next().is_some() || value.appended().next().is_some() {
        return None;
    }
    match value.state() {
        Some(state) => Some(state).filter(|state| attributes(*state).is_none()),
        None if value.kwargs().is_some() => None,
        None => {
            let mut args = value.args();
            args.next().filter(|_| args.next().is_none())
        }
    }
}

/// The fields of an object: the entries of a subclass of `dict`, or else its attributes, or else the keyword
/// arguments that it was made with. An object with nothing inside has none of them.
pub(super) fn fields(value: Value<'_>) -> Option<Entries<'_>> {
    if !matches!(value.kind(), ValueKind::Object) {
        return None;
    }
    let assigned: Entries<'_> = value.assigned().collect();
    if !assigned.is_empty() {
        return Some(assigned);
    }
    if let Some(state) = value.state() {
        return attributes(state)
            .map(|dicts| settled(dicts.into_iter().flatten().flat_map(mapping).collect()));
    }
    if let Some(kwargs) = value.kwargs() {
        return Some(mapping(kwargs));
    }
    is_bare(value).then(Vec::new)
}

/// Whether an object was made from nothing, and nothing was put into it.
pub(super) fn is_bare(value: Value<'_>) -> bool {
    matches!(value.kind(), ValueKind::Object)
        && value.args().next().is_none()
        && value.kwargs().is_none()
        && value.state().is_none()
        && value.appended().next().is_none()
        && value.assigned().next().is_none()
}

/// The dicts of a state: itself, or those of a class with slots, where one may be `None`.
///
/// [`Value::attributes`] goes through every state; a pickle that repeats one without end is stopped by counting
/// entries, and so nothing but the last is read here.
fn attributes(state: Value<'_>) -> Option<[Option<Value<'_>>; 2]> {
    if state.is_mapping() {
        return Some([Some(state), None]);
    }
    let mut items = state.items().filter(|_| matches!(state.kind(), ValueKind::Tuple));
    let (Some(dict), Some(slots), None) = (items.next(), items.next(), items.next()) else { return None };
    let parts = [dict, slots];
    let fits = parts.iter().all(|part| part.is_mapping() || part.is_none());
    (fits && parts.iter().any(|part| part.is_mapping())).then_some(parts.map(Some))
}

/// The members of an object: those of a subclass of `list`, or else the arguments that it was made from.
pub(super) fn parts(value: Value<'_>) -> Vec<Value<'_>> {
    let appended: Vec<Value<'_>> = value.appended().collect();
    if appended.is_empty() && value.state().is_none() { value.args().collect() } else { appended }
}

/// Of entries with the same text for a key, the last value stands at the first place, as in Python.
fn settled(entries: Entries<'_>) -> Entries<'_> {
    let mut places = HashMap::new();
    let mut kept: Entries<'_> = Vec::with_capacity(entries.len());
    for entry in entries {
        if let ValueKind::Str(text) = entry.0.kind() {
            match places.entry(text) {
                Entry::Vacant(vacant) => {
                    vacant.insert(kept.len());
                }
                Entry::Occupied(place) => {
                    if let Some(kept) = kept.get_mut(*place.get()) {
                        kept.1 = entry.1;
                    }
                    continue;
                }
            }
        }
        kept.push(entry);
    }
    kept
}

/// Whether a value has no parts.
pub(super) fn is_single(value: Value<'_>) -> bool {
    matches!(
        value.kind(),
        ValueKind::None
            | ValueKind::Bool(_)
            | ValueKind::Int(_)
            | ValueKind::BigInt(_)
            | ValueKind::Float(_)
            | ValueKind::Str(_)
            | ValueKind::Path(_)
            | ValueKind::Time(_)
    )
}

/// The name that a value is: of a field, of a variant.
pub(super) fn tag(value: Value<'_>) -> Option<Cow<'_, str>> {
    Some(match value.kind() {
        ValueKind::Str(text) | ValueKind::Global(text) | ValueKind::Path(text) | ValueKind::Time(text) => {
            text.into()
        }
        ValueKind::Device(location) => location.as_str().into(),
        ValueKind::DType(dtype) => dtype.name().into(),
        ValueKind::Layout(layout) => layout.name().into(),
        ValueKind::Int(int) => int.to_string().into(),
        ValueKind::BigInt(int) => int.to_string().into(),
        _ => return None,
    })
}

/// The class of an object without its module; so too of a class itself.
pub(super) fn class_name(value: Value<'_>) -> Option<&str> {
    let full = match value.kind() {
        ValueKind::Object => value.class()?,
        ValueKind::Global(full) => full,
        _ => return None,
    };
    full.rsplit('.').next()
}
