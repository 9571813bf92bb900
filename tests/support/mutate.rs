//! Damages files as disks, networks and attackers do: the same number of a case gives the same damage.

#![allow(dead_code, reason = "each test binary takes what it needs")]

use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use crate::build;

/// Files beyond this size would take the time of many small ones.
const LARGEST: u64 = 64 << 10;
/// Numbers at which arithmetic goes wrong.
const NUMBERS: [u64; 12] = [
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFF,
    0x7FFF_FFFF_FFFF_FFFF,
    0x8000_0000_0000_0000,
    u64::MAX,
];

/// The small files that tests read, in order: name and content.
pub(crate) fn originals() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut files = Vec::new();
    collect(&folder, &mut files);
    files.sort();
    let name = |path: &Path| path.strip_prefix(&folder).unwrap().display().to_string();
    files.iter().map(|path| (name(path), std::fs::read(path).unwrap())).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if !["py", "json", "md", "txt"]
            .iter()
            .any(|text| path.extension().is_some_and(|end| end == *text))
            && entry.metadata().unwrap().len() <= LARGEST
        {
            files.push(path);
        }
    }
}

/// Numbers that are no pattern (splitmix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64, case: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ case.wrapping_mul(0xD134_2543_DE82_EF95))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// One below a bound; none below zero.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % (bound.max(1) as u64)) as usize
    }

    /// A place, more often near either end of what is there than in the midst of it.
    fn place(&mut self, len: usize) -> usize {
        match self.below(4) {
            0 => self.below(len.min(64)),
            1 => len - 1 - self.below(len.min(128)),
            _ => self.below(len),
        }
    }
}

/// One of the originals with some damage, its name, and the damage in words.
pub(crate) fn mutated(originals: &[(String, Vec<u8>)], seed: u64, case: u64) -> (String, Vec<u8>) {
    let mut random = Random::new(seed, case);
    let (name, original) = &originals[(case % originals.len() as u64) as usize];
    let other = &originals[random.below(originals.len())].1;
    let (what, bytes) = match random.below(3) {
        // What holds the pickle stays whole, so that the damage is read.
        0 => match records(original) {
            Some((root, records)) => records_changed(&mut random, &root, records),
            None => ("its bytes changed".to_owned(), changed(&mut random, original, other)),
        },
        _ => ("its bytes changed".to_owned(), changed(&mut random, original, other)),
    };
    let bytes = if name.ends_with(".tar") && random.below(2) == 0 { checksummed(bytes) } else { bytes };
    (format!("{name}, {what}"), bytes)
}

/// One to four changes of the bytes.
fn changed(random: &mut Random, original: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for _ in 0..=random.below(4) {
        if bytes.is_empty() {
            break;
        }
        change(random, &mut bytes, other);
    }
    bytes
}

fn change(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    let len = bytes.len();
    let place = random.place(len);
    let run = 1 + random.below((len - place).min(64));
    match random.below(12) {
        0..=2 => bytes[place] ^= 1 << random.below(8),
        3 => bytes[place] = NUMBERS[random.below(6)] as u8,
        4 => bytes[place] = random.next() as u8,
        5 | 6 => {
            let number = NUMBERS[random.below(NUMBERS.len())].wrapping_sub(random.below(2) as u64);
            let width = [1, 2, 4, 8][random.below(4)].min(len - place);
            bytes[place..place + width].copy_from_slice(&number.to_le_bytes()[..width]);
        }
        7 => bytes.truncate(place),
        8 => drop(bytes.drain(place..place + run)),
        9 => bytes[place..place + run].fill(0),
        10 => {
            let again = bytes[place..place + run].to_vec();
            let to = random.below(bytes.len());
            bytes.splice(to..to, again);
        }
        _ if !other.is_empty() => {
            let from = random.below(other.len());
            let until = other.len().min(from + 1 + random.below(256));
            let end = (place + run).min(bytes.len());
            bytes.splice(place..end, other[from..until].iter().copied());
        }
        _ => {}
    }
}

type Records = Vec<(String, Vec<u8>)>;

/// The records of an archive below its root.
fn records(bytes: &[u8]) -> Option<(String, Records)> {
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).ok()?;
    let mut records = Vec::new();
    let mut root = None;
    for place in 0..archive.len().min(64) {
        let mut record = archive.by_index(place).ok()?;
        let full = record.name().ok()?.into_owned();
        let (folder, name) = full.split_once('/')?;
        root.get_or_insert_with(|| folder.to_owned());
        let name = name.to_owned();
        let mut content = Vec::new();
        (&mut record).take(LARGEST).read_to_end(&mut content).ok()?;
        records.push((name, content));
    }
    Some((root?, records))
}

/// An archive with a change of one record, or of which is which.
fn records_changed(random: &mut Random, root: &str, mut records: Records) -> (String, Vec<u8>) {
    let (one, other) = (random.below(records.len()), random.below(records.len()));
    let names = (records[one].0.clone(), records[other].0.clone());
    let what = match random.below(8) {
        0 => {
            let content = std::mem::take(&mut records[one].1);
            records[one].1 = std::mem::replace(&mut records[other].1, content);
            format!("{} and {} exchanged", names.0, names.1)
        }
        1 => {
            records.remove(one);
            format!("{} missing", names.0)
        }
        2 => {
            let again = records[one].clone();
            records.insert(other, again);
            format!("{} twice", names.0)
        }
        3 => {
            records[one].0 = names.0.to_uppercase();
            format!("{} in capitals", names.0)
        }
        4 => {
            let kept = random.below(records[one].1.len());
            records[one].1.truncate(kept);
            format!("{} cut to {kept} bytes", names.0)
        }
        _ => {
            let pickle = records.iter().position(|(name, _)| name == "data.pkl").unwrap_or(one);
            let other = records[other].1.clone();
            records[pickle].1 = changed(random, &records[pickle].1, &other);
            format!("{} changed", records[pickle].0)
        }
    };
    let records: Vec<build::Record<'_>> =
        records.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
    (what, build::archive(root, &records))
}

/// A tar archive whose headers have the checksums of what is in them.
fn checksummed(mut bytes: Vec<u8>) -> Vec<u8> {
    for header in bytes.chunks_exact_mut(512) {
        if header[257..].starts_with(b"ustar") {
            header[148..156].fill(b' ');
            let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
            header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    bytes
}
