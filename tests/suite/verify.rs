//! CRCs are checked where that is asked for, and everything else of a checkpoint with them.

use std::collections::BTreeMap;
use std::io::Write;

use ptser::{ByteOrder, Checkpoint, Checksum, DType, ErrorKind, Limits, LoadOptions, Mmap, Reason};
use zip::write::SimpleFileOptions;

use crate::build::{archive, around, good_pickle};
use crate::fixtures;

/// Where the content of a record lies.
fn place_of(bytes: &[u8], record: &str) -> usize {
    let checkpoint = Checkpoint::from_bytes(bytes.to_vec()).unwrap();
    let key = record.strip_prefix("data/").unwrap();
    let storage = checkpoint.storages().iter().find(|storage| storage.key() == key).unwrap();
    usize::try_from(storage.checkpoint_offset().unwrap().unwrap()).unwrap()
}

/// `views.pt` with another byte in its largest storage, the key of that, and its size.
fn flipped() -> (Vec<u8>, String, usize) {
    let mut bytes = fixtures::bytes("views.pt");
    let checkpoint = Checkpoint::from_bytes(bytes.clone()).unwrap();
    let storage = checkpoint.storages().iter().max_by_key(|storage| storage.nbytes()).unwrap();
    let (key, nbytes) = (storage.key().to_owned(), usize::try_from(storage.nbytes()).unwrap());
    let at = place_of(&bytes, &format!("data/{key}"));
    bytes[at + nbytes / 2] ^= 0x10;
    (bytes, key, nbytes)
}

fn verifying() -> LoadOptions {
    LoadOptions::new().verify_crc(true)
}

#[test]
fn sound_files_read_alike_with_and_without_their_crcs() {
    for file in ["views.pt", "deflated.pt", "many.pt", "crc_off.pt", "views_big.pt", "mixed_deflate.pt"] {
        let checked = verifying().from_bytes(fixtures::bytes(file)).unwrap();
        assert_eq!(fixtures::contents(&checked), fixtures::contents(&fixtures::open(file)), "{file}");
    }
}

#[test]
fn a_flipped_bit_is_found_when_the_storage_is_read() {
    let (bytes, key, _) = flipped();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("flipped.pt");
    std::fs::write(&file, &bytes).unwrap();
    let sources = [
        verifying().from_bytes(bytes.clone()).unwrap(),
        verifying().open(&file).unwrap(),
        verifying().mmap(true).open(&file).unwrap(),
        verifying().mmap(Mmap::Shared).open(&file).unwrap(),
        verifying().read(std::io::Cursor::new(bytes.clone())).unwrap(),
        verifying().computed_offsets(true).open(&file).unwrap(),
    ];
    for checkpoint in &sources {
        let damaged = checkpoint.storages().iter().find(|storage| storage.key() == key).unwrap();
        let error = damaged.to_vec().unwrap_err();
        assert!(matches!(error.reason(), Reason::Checksum { .. }), "{error}");
        assert_eq!((error.kind(), error.record()), (ErrorKind::Malformed, Some(&*format!("data/{key}"))));
        // Once known, it stays known.
        assert!(damaged.to_vec().is_err());
        let sound = checkpoint.storages().iter().filter(|storage| storage.key() != key);
        sound.for_each(|storage| drop(storage.to_vec().unwrap()));
    }
    // PyTorch does not look, and neither does a load that was not asked to.
    fixtures::contents(&Checkpoint::from_bytes(bytes).unwrap());
}

#[test]
fn a_flipped_bit_is_found_when_the_last_of_several_parts_is_read() {
    let (bytes, key, nbytes) = flipped();
    let checkpoint = verifying().from_bytes(bytes).unwrap();
    let damaged = checkpoint.storages().iter().find(|storage| storage.key() == key).unwrap();
    let read = |from: usize, to: usize| {
        let mut part = vec![std::mem::MaybeUninit::uninit(); to - from];
        damaged.read_as(DType::UInt8, ByteOrder::Little, u64::try_from(from).unwrap(), &mut part).map(drop)
    };
    let cuts = [0, nbytes / 4, nbytes / 2, nbytes];
    read(cuts[2], cuts[3]).unwrap();
    read(cuts[0], cuts[1]).unwrap();
    assert!(matches!(read(cuts[1], cuts[2]).unwrap_err().reason(), Reason::Checksum { .. }));
}

#[test]
fn a_flipped_bit_of_the_pickle_is_found_while_opening() {
    let bytes = fixtures::bytes("many.pt");
    // A name of a tensor, which no other check would miss.
    let at = bytes.windows(5).position(|window| window == b"torch").unwrap();
    let name = (at..bytes.len()).find(|&at| bytes[at..].starts_with(b"weight")).unwrap_or(at);
    let mut bytes = bytes;
    bytes[name] ^= 1;
    let error = verifying().from_bytes(bytes).map(drop).unwrap_err();
    assert!(matches!(error.reason(), Reason::Checksum { .. }), "{error}");
    assert_eq!(error.record(), Some("data.pkl"));
}

fn checksums(checkpoint: &Checkpoint) -> BTreeMap<String, &'static str> {
    let verification = checkpoint.verify(|done, total| assert!(done <= total));
    let word = |checksum: &Checksum| match checksum {
        Checksum::Matches => "matches",
        Checksum::NotComputed => "not computed",
        Checksum::Absent => "absent",
        Checksum::Failed(_) => "failed",
        _ => unreachable!(),
    };
    let records = verification.records.iter();
    records.map(|record| (record.name.clone(), word(&record.checksum))).collect()
}

#[test]
fn verification_reads_every_record_of_every_sound_file() {
    for (file, _) in fixtures::expected() {
        let checkpoint = fixtures::open(&file);
        let verification = checkpoint.verify(|_, _| {});
        assert!(verification.is_good(), "{file}: {:?}", verification.errors().collect::<Vec<_>>());
        assert_eq!(verification.records.len(), checkpoint.records().len(), "{file}");
        let other = if file == "crc_off.pt" { "not computed" } else { "matches" };
        for (record, checksum) in checksums(&checkpoint) {
            assert!(checksum == other || checksum == "matches", "{file}: {record} {checksum}");
        }
    }
    let without = checksums(&fixtures::open("crc_off.pt"));
    assert!(without.values().filter(|&&checksum| checksum == "not computed").count() > 1, "{without:?}");
    for file in ["../legacy/views.pt", "../legacy/torch2016.tar"] {
        let found = checksums(&fixtures::open(file));
        assert!(
            !found.is_empty() && found.values().all(|&checksum| checksum == "absent"),
            "{file}: {found:?}"
        );
    }
}

#[test]
fn verification_names_the_record_that_was_altered_and_no_other() {
    let (bytes, key, _) = flipped();
    let found = checksums(&Checkpoint::from_bytes(bytes).unwrap());
    for (record, checksum) in found {
        assert_eq!(checksum == "failed", record == format!("data/{key}"), "{record}: {checksum}");
    }
}

#[test]
fn verification_looks_at_records_that_nothing_uses() {
    let pickle = good_pickle();
    let data = [0; 24];
    let mut bytes = archive("archive", &[("data.pkl", &pickle), ("data/0", &data), ("data/9", b"unused")]);
    // With a CRC, of other bytes.
    let entry = (0..bytes.len()).rfind(|&at| bytes[at..].starts_with(b"PK\x01\x02")).unwrap();
    bytes[entry + 16..entry + 20].copy_from_slice(&7_u32.to_le_bytes());
    let found = checksums(&Checkpoint::from_bytes(bytes).unwrap());
    assert_eq!(found["data/9"], "failed");
    assert_eq!(found["data/0"], "not computed");
}

#[test]
fn verification_compares_the_directory_with_the_local_headers() {
    let good = around(&good_pickle());
    assert!(Checkpoint::from_bytes(good.clone()).unwrap().verify(|_, _| {}).is_good());
    let local = good.windows(14).position(|window| window == b"archive/data/0").unwrap();
    // Another name; another method.
    for (at, byte) in [(local + 13, b'1'), (local - 30 + 8, 8)] {
        let mut bytes = good.clone();
        bytes[at] = byte;
        let found = checksums(&Checkpoint::from_bytes(bytes).unwrap());
        assert_eq!(found["data/0"], "failed");
        assert_eq!(found.values().filter(|&&checksum| checksum == "failed").count(), 1);
    }
}

#[test]
fn verification_finds_tensors_that_contradict_themselves() {
    let sparse = std::fs::read(fixtures::path("../conformance/sparse_invalid.pt")).unwrap();
    let checkpoint = LoadOptions::new().lenient(true).from_bytes(sparse).unwrap();
    let verification = checkpoint.verify(|_, _| {});
    assert!(!verification.is_good());
    assert!(verification.errors().all(|error| error.tensor().is_some()));
}

#[test]
fn verification_inflates_no_more_than_the_limits_allow() {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let deflated = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    for (name, content) in
        [("data.pkl", good_pickle()), ("data/0", vec![0; 24]), ("unused", vec![0; 8 << 20])]
    {
        writer.start_file(format!("archive/{name}"), deflated).unwrap();
        writer.write_all(&content).unwrap();
    }
    let bytes = writer.finish().unwrap().into_inner();
    let open = |limits| LoadOptions::new().limits(limits).from_bytes(bytes.clone()).unwrap();
    assert!(open(Limits::default()).verify(|_, _| {}).is_good());
    // Opening needs none of it.
    let verification = open(Limits::default().inflated_bytes(1 << 20)).verify(|_, _| {});
    let errors: Vec<_> = verification.errors().collect();
    let [error] = errors.as_slice() else { panic!("{errors:?}") };
    assert_eq!((error.kind(), error.record()), (ErrorKind::LimitExceeded, Some("unused")));
}
