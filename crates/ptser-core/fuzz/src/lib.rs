//! What the fuzz targets share, with the tests and with each other.

#[path = "../../../../tests/support/again.rs"]
mod again;
#[path = "../../../../tests/support/build.rs"]
mod build;
#[path = "../../../../tests/support/look.rs"]
mod look;
mod program;
#[path = "../../../../tests/support/same.rs"]
mod same;
#[path = "../../../../tests/support/sources.rs"]
mod sources;

pub use program::Program;

/// The storages that a pickle finds around it: key and bytes.
const STORAGES: [(&str, usize); 4] = [("0", 24), ("1", 64), ("2", 1), ("3", 0)];

/// The input itself; and where it is a pickle, also an archive and a stream around it, whose storages it can name.
/// Pickles that grow and shrink leave the container whole.
fn containers(input: &[u8]) -> Vec<Vec<u8>> {
    let mut all = vec![input.to_vec()];
    if !input.starts_with(b"\x80") || input.starts_with(build::MAGIC) {
        return all;
    }
    let data =
        STORAGES.map(|(_, len)| (0..len).map(|place| (place as u8).wrapping_mul(37)).collect::<Vec<_>>());
    let names = STORAGES.map(|(key, _)| format!("data/{key}"));
    let mut records = vec![("data.pkl", input), ("byteorder", b"little".as_slice()), ("version", b"3\n")];
    records.extend(names.iter().zip(&data).map(|(name, data)| (name.as_str(), data.as_slice())));
    all.push(build::archive("archive", &records));
    let counts = STORAGES.map(|(_, len)| len as u64);
    let roots: Vec<build::Root<'_>> = STORAGES
        .iter()
        .zip(&data)
        .zip(counts)
        .map(|(((key, _), data), count)| (*key, count, &**data))
        .collect();
    all.push(build::stream(input, &STORAGES.map(|(key, _)| key), &roots));
    all
}

/// Opens an input under every policy, looks at all of it, and scans it.
pub fn open(input: &[u8]) {
    for file in containers(input) {
        look::open_every_way(&file);
    }
}

/// Saves what opens in every way, and reads that.
pub fn save(input: &[u8]) {
    containers(input).iter().for_each(|file| again::save_every_way(file));
}

/// Opens an input from every kind of source. Its last bytes say how large the pieces are that come at a time: most files
/// have an end that is no matter.
pub fn read_in_pieces(input: &[u8]) {
    let sizes = &input[input.len().saturating_sub(4)..];
    containers(input).iter().for_each(|file| sources::every_source_agrees(file, sizes));
}
