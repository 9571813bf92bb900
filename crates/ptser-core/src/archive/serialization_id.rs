//! The content of `.data/serialization_id`: two hashes that PyTorch writes and nobody checks, one of the names
//! of the records, one of their CRCs. The first follows the order in which libstdc++ walks a hash set.

use std::num::NonZeroU32;

/// Calculates the id while an archive is written.
#[derive(Debug, Default)]
pub(crate) struct SerializationId {
    names: NameSet,
    crcs: u64,
}

impl SerializationId {
    /// Notes a record by its name below the root folder.
    pub(crate) fn name(&mut self, name: &str) {
        self.names.insert(hash_bytes(name.as_bytes()));
    }

    /// Notes the CRC in a record's data descriptor. PyTorch takes every write that begins as a descriptor does for
    /// one, and so it notes what stands there in data too.
    pub(crate) fn crc(&mut self, crc32: u32) {
        self.crcs = combine(self.crcs, crc32.into());
    }

    /// Forty digits.
    pub(crate) fn finish(&self) -> String {
        let names = self.names.hashes().fold(0, combine);
        format!("{names:020}{:020}", self.crcs)
    }
}

/// Bytes of the id.
pub(crate) const LEN: usize = 40;

/// c10's `hash_combine`.
fn combine(seed: u64, value: u64) -> u64 {
    let mixed = 0x9E37_79B9_u64.wrapping_add(seed << 6).wrapping_add(seed >> 2);
    seed ^ value.wrapping_add(mixed)
}

/// libstdc++'s `std::hash<std::string>`, a Murmur hash.
fn hash_bytes(bytes: &[u8]) -> u64 {
    const MULTIPLIER: u64 = 0xC6A4_A793_5BD1_E995;
    const SEED: u64 = 0xC70F_6907;
    let mix = |value: u64| value ^ (value >> 47);
    let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let (words, tail) = bytes.as_chunks::<8>();
    let mut hash = SEED ^ len.wrapping_mul(MULTIPLIER);
    for word in words {
        let data = mix(u64::from_le_bytes(*word).wrapping_mul(MULTIPLIER)).wrapping_mul(MULTIPLIER);
        hash = (hash ^ data).wrapping_mul(MULTIPLIER);
    }
    if !tail.is_empty() {
        let mut word = [0; 8];
        word.iter_mut().zip(tail).for_each(|(to, from)| *to = *from);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(MULTIPLIER);
    }
    mix(mix(hash).wrapping_mul(MULTIPLIER))
}

/// The hashes of distinct strings in the order of libstdc++'s `unordered_set`: one list, in which each bucket's
/// members stand together, the newest bucket and the newest member first.
#[derive(Debug, Default)]
struct NameSet {
    /// Each string's hash, and the next in the list.
    nodes: Vec<(u64, Option<Place>)>,
    head: Option<Place>,
    /// For each bucket what stands before its first member; `Some(None)` is the list's head.
    buckets: Vec<Option<Option<Place>>>,
    grow_at: usize,
}

/// A node's place plus one: there are fewer records than 2^32, since their directory is shorter than 4 GiB.
type Place = NonZeroU32;

/// How many buckets libstdc++ takes, one after the other.
const PRIMES: [usize; 23] = [
    13,
    29,
    59,
    127,
    257,
    541,
    1_109,
    2_357,
    5_087,
    10_273,
    20_753,
    42_043,
    85_229,
    172_933,
    351_061,
    712_697,
    1_447_153,
    2_938_679,
    5_967_347,
    12_117_689,
    24_607_243,
    49_969_847,
    101_473_717,
];

impl NameSet {
    fn insert(&mut self, hash: u64) {
        if self.nodes.len() >= self.grow_at {
            self.grow();
        }
        self.nodes.push((hash, None));
        if let Some(place) = u32::try_from(self.nodes.len()).ok().and_then(Place::new) {
            self.place(place);
        }
    }

    /// Puts every member into more buckets, in the order of the list.
    fn grow(&mut self) {
        let count = PRIMES.into_iter().find(|&prime| prime > self.nodes.len());
        self.grow_at = count.unwrap_or(usize::MAX);
        let [.., last] = PRIMES;
        self.buckets = vec![None; count.unwrap_or(last)];
        let mut next = self.head.take();
        while let Some(place) = next {
            next = self.next(Some(place));
            self.place(place);
        }
    }

    fn bucket(&self, place: Place) -> Option<usize> {
        let count = u64::try_from(self.buckets.len()).ok()?;
        let (hash, _) = self.nodes.get(index(place))?;
        usize::try_from(hash.checked_rem(count)?).ok()
    }

    fn next(&self, place: Option<Place>) -> Option<Place> {
        match place {
            None => self.head,
            Some(place) => self.nodes.get(index(place))?.1,
        }
    }

    fn link(&mut self, from: Option<Place>, to: Option<Place>) {
        match from {
            None => self.head = to,
            Some(place) => {
                if let Some(node) = self.nodes.get_mut(index(place)) {
                    node.1 = to;
                }
            }
        }
    }

    fn place(&mut self, place: Place) {
        let Some(bucket) = self.bucket(place) else { return };
        match self.buckets.get(bucket).copied().flatten() {
            Some(before) => {
                let after = self.next(before);
                self.link(Some(place), after);
                self.link(before, Some(place));
            }
            None => {
                let first = self.head;
                self.link(Some(place), first);
                self.link(None, Some(place));
                if let Some(slot) = self.buckets.get_mut(bucket) {
                    *slot = Some(None);
                }
                // What was first now stands behind the new one.
                let moved = first.and_then(|first| self.bucket(first));
                if let Some(slot) = moved.and_then(|bucket| self.buckets.get_mut(bucket)) {
                    *slot = Some(Some(place));
                }
            }
        }
    }

    fn hashes(&self) -> impl Iterator<Item = u64> {
        let mut next = self.head;
        std::iter::from_fn(move || {
            let (hash, after) = *self.nodes.get(index(next?))?;
            next = after;
            Some(hash)
        })
    }
}

fn index(place: Place) -> usize {
    usize::try_from(place.get().saturating_sub(1)).unwrap_or(usize::MAX)
}
