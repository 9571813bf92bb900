//! Names in order, each once: one text and not an allocation each.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// Names in order, each once. Who holds something by name may share them with who holds something else by the same.
#[derive(Clone, Default)]
pub struct Names {
    /// One behind the other.
    text: String,
    /// Where each ends.
    ends: Vec<usize>,
    /// By name.
    places: HashTable<usize>,
    hasher: RandomState,
}

impl Names {
    /// None, and room for so many.
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
