//! What a value is, whatever it looks like: by this keys and members of sets find each other.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use ptser::{PathElement, Result, Value, ValueKind};
use sha2::{Digest, Sha256};

/// The same for equal values, and another for others. Tensors, which are keys where an optimizer was pickled whole, count by
/// type and shape.
pub(super) type Identity = [u8; 32];

/// The step to a member. Keys that are no text may look like one: they have an identity.
pub(super) type Step = (PathElement, Option<Identity>);

/// Finds the identities of the values of one file.
#[derive(Default)]
pub(super) struct Identities {
    /// By [`Value::id`]: what is shared is looked at once, and cycles end.
    known: HashMap<usize, Identity>,
}

impl Identities {
    /// Tells the members of a value apart, its [`Value::children`].
    ///
    /// # Errors
    /// `Io` where memory is short.
    pub(super) fn members<'c>(
        &mut self,
        value: Value<'c>,
        children: impl ExactSizeIterator<Item = (PathElement, Value<'c>)>,
    ) -> Result<Vec<(Step, Value<'c>)>> {
        // Entries of a dict come before its attributes, those of a subclass of dict behind all else.
        let first = value.entries().map(|(key, _)| Some(key));
        let last: Vec<_> = value.assigned().map(|(key, _)| Some(key)).collect();
        let entries = if value.is_mapping() { value.len() } else { 0 };
        let between = children.len().saturating_sub(entries).saturating_sub(last.len());
        let keys = first.chain(std::iter::repeat_n(None, between)).chain(last);
        let member = |((element, value), key): (_, Option<Value<'c>>)| {
            let key = key.filter(|key| !matches!(key.kind(), ValueKind::Str(_)));
            Ok(((element, key.map(|key| self.of(key)).transpose()?), value))
        };
        children.zip(keys).map(member).collect()
    }

    /// The identities of the members of a set, which has no order.
    ///
    /// # Errors
    /// `Io` where memory is short.
    pub(super) fn set(&mut self, set: Value<'_>) -> Result<Vec<Identity>> {
        let mut members = set.items().map(|item| self.of(item)).collect::<Result<Vec<_>>>()?;
        members.sort_unstable();
        Ok(members)
    }

    fn of(&mut self, value: Value<'_>) -> Result<Identity> {
        // Each value twice: when it is met, and when what it holds is known.
        let mut open = vec![(value, false)];
        while let Some((value, ready)) = open.pop() {
            if ready {
                let identity = self.assemble(value)?;
                self.known.insert(value.id(), identity);
            } else if let Entry::Vacant(unknown) = self.known.entry(value.id()) {
                unknown.insert(Identity::default());
                open.push((value, true));
                open.extend(value.entries().map(|(key, _)| (key, false)));
                open.extend(value.children()?.map(|(_, child)| (child, false)));
            }
        }
        Ok(self.find(value))
    }

    fn find(&self, value: Value<'_>) -> Identity {
        self.known.get(&value.id()).copied().unwrap_or_default()
    }

    /// Of a value whose members are known.
    fn assemble(&self, value: Value<'_>) -> Result<Identity> {
        let mut hasher = Sha256::new();
        let mut add = |bytes: &[u8]| {
            hasher.update(bytes.len().to_le_bytes());
            hasher.update(bytes);
        };
        add(if value.is_mapping() { "dict" } else { value.type_name() }.as_bytes());
        match value.kind() {
            ValueKind::Str(text)
            | ValueKind::Path(text)
            | ValueKind::Time(text)
            | ValueKind::Global(text) => {
                add(text.as_bytes());
            }
            ValueKind::Surrogates(bytes) | ValueKind::Bytes(bytes) | ValueKind::ByteArray(bytes) => {
                add(bytes)
            }
            ValueKind::BigInt(int) => add(int.to_bytes()),
            ValueKind::Set | ValueKind::FrozenSet => {
                let mut members: Vec<Identity> = value.items().map(|item| self.find(item)).collect();
                members.sort_unstable();
                members.iter().for_each(|member| add(member));
            }
            _ if value.is_mapping() => {
                let entry = |(key, value)| [self.find(key), self.find(value)];
                let mut entries: Vec<[Identity; 2]> = value.entries().map(entry).collect();
                entries.sort_unstable();
                entries.iter().flatten().for_each(|identity| add(identity));
            }
            _ => {
                let children = value.children()?;
                if children.len() == 0 {
                    // Numbers, and what says itself what it is.
                    add(value.to_string().as_bytes());
                }
                for (step, child) in children {
                    add(step.to_string().as_bytes());
                    add(&self.find(child));
                }
            }
        }
        Ok(hasher.finalize().into())
    }
}
