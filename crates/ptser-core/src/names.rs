//! Names in order, each once: one text and not an allocation each.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// Names in order, each once. What holds tensors by name keeps these beside a list of them, and may share them with what
/// holds others by the same names.
#[derive(Clone, Default)]
pub struct Names {
    /// One behind the other.
    text: String,
    /// Where each ends.
    ends: Vec<usize>,
    /// The places of names.
    places: HashTable<usize>,
    hasher: RandomState,
}

impl Names {
    /// No names, and room for so many.
    pub(crate) fn with_capacity(names: usize) -> Self {
        let (ends, places) = (Vec::with_capacity(names), HashTable::with_capacity(names));
        Self { ends, places, ..Self::default() }
    }

    /// The place of a name, which is the next one if it is new.
    pub(crate) fn insert(&mut self, name: &str) -> usize {
        let Self { text, ends, places, hasher } = self;
        let is_it = |place: &usize| name_at(text, ends, *place) == name;
        let hash = |place: &usize| hasher.hash_one(name_at(text, ends, *place));
        match places.entry(hasher.hash_one(name), is_it, hash) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                let place = ends.len();
                new.insert(place);
                text.push_str(name);
                ends.push(text.len());
                place
            }
        }
    }

    /// The place of a name that is there.
    pub fn place(&self, name: &str) -> Option<usize> {
        let is_it = |place: &usize| name_at(&self.text, &self.ends, *place) == name;
        self.places.find(self.hasher.hash_one(name), is_it).copied()
    }

    /// The name at a place; empty where there is none.
    pub fn at(&self, place: usize) -> &str {
        name_at(&self.text, &self.ends, place)
    }

    /// All of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        (0..self.ends.len()).map(|place| self.at(place))
    }
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

fn name_at<'t>(text: &'t str, ends: &[usize], place: usize) -> &'t str {
    let start = place.checked_sub(1).and_then(|before| ends.get(before)).map_or(0, |end| *end);
    ends.get(place).and_then(|end| text.get(start..*end)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_one_place() {
        let mut names = Names::with_capacity(1);
        let written: Vec<String> = (0..100).map(|place| format!("layers.{place}")).collect();
        for name in [written.clone(), written.clone()].concat() {
            let place = names.insert(&name);
            assert_eq!((names.at(place), names.place(&name)), (name.as_str(), Some(place)));
        }
        assert!(names.iter().eq(written.iter()));
        assert_eq!(names.place("layers."), None);
    }

    #[test]
    fn a_name_may_be_empty() {
        let mut names = Names::default();
        assert_eq!(names.place(""), None);
        assert_eq!(["a", "", "b", ""].map(|name| names.insert(name)), [0, 1, 2, 1]);
        assert_eq!(names.iter().collect::<Vec<_>>(), ["a", "", "b"]);
    }
}
