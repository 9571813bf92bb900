//! Members and entries, handed out one after the other.

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess};

use super::At;
use super::failure::{Failure, describe, items, step};
use super::shape::Entries;
use crate::value::Value;

/// The members of a sequence, one after the other.
pub(super) struct Items<'c, 'b, I> {
    at: At<'c, 'b>,
    items: I,
    taken: usize,
    /// Whether the visitor has asked for any.
    pub(super) begun: bool,
}

impl<'c, 'b, I: Iterator<Item = Value<'c>>> Items<'c, 'b, I> {
    pub(super) fn new(at: At<'c, 'b>, items: I) -> Self {
        Self { at, items, taken: 0, begun: false }
    }

    /// Refuses what was not asked for: a tuple takes as many as it has places.
    pub(super) fn end(self) -> Result<(), Failure> {
        match self.items.count() {
            0 => Ok(()),
            left => Err(Failure::misfit(
                &items(self.taken).as_str(),
                format!("{} in {}", self.taken.saturating_add(left), describe(self.at.value)),
            )),
        }
    }
}

impl<'c, I: Iterator<Item = Value<'c>>> SeqAccess<'c> for Items<'c, '_, I> {
    type Error = Failure;

    fn next_element_seed<S: DeserializeSeed<'c>>(&mut self, seed: S) -> Result<Option<S::Value>, Failure> {
        self.begun = true;
        let Some(item) = self.items.next() else { return Ok(None) };
        let place = self.taken;
        self.taken = place.saturating_add(1);
        let read = self.at.inner(item).and_then(|item| seed.deserialize(item));
        read.map(Some).map_err(|failure| failure.under(place.to_string()))
    }

    fn size_hint(&self) -> Option<usize> {
        let (least, most) = self.items.size_hint();
        most.filter(|&most| most == least)
    }
}

/// The entries of a mapping, one after the other.
pub(super) struct Map<'c, 'b> {
    at: At<'c, 'b>,
    entries: std::vec::IntoIter<(Value<'c>, Value<'c>)>,
    pending: Option<(Value<'c>, Value<'c>)>,
    /// Whether the visitor has asked for any.
    pub(super) begun: bool,
}

impl<'c, 'b> Map<'c, 'b> {
    pub(super) fn new(at: At<'c, 'b>, entries: Entries<'c>) -> Self {
        Self { at, entries: entries.into_iter(), pending: None, begun: false }
    }
}

impl<'c> MapAccess<'c> for Map<'c, '_> {
    type Error = Failure;

    fn next_key_seed<S: DeserializeSeed<'c>>(&mut self, seed: S) -> Result<Option<S::Value>, Failure> {
        self.begun = true;
        self.pending = self.entries.next();
        let Some((key, _)) = self.pending else { return Ok(None) };
        let read = self.at.inner(key).and_then(|key| seed.deserialize(key));
        // Whatever else is wrong with a key, as with a field that is not known, names the key itself.
        let under =
            |failure: Failure| if failure.is_misfit() { failure.under("#key".into()) } else { failure };
        read.map(Some).map_err(under)
    }

    fn next_value_seed<S: DeserializeSeed<'c>>(&mut self, seed: S) -> Result<S::Value, Failure> {
        let Some((key, value)) = self.pending.take() else {
            return Err(Failure::custom("a value of a map was asked for before its key"));
        };
        let read = self.at.inner(value).and_then(|value| seed.deserialize(value));
        read.map_err(|failure| failure.under(step(key)))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}
