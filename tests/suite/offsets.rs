//! Computed offsets are those that PyTorch computes, cost no reads, and are never trusted with data.

use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use ptser::{Checkpoint, ErrorKind, LoadOptions, ReadAt, Reason};
use serde_json::Value as Json;
use zip::write::SimpleFileOptions;

use crate::build::{archive, dict_of, good_pickle, storage, tensor};
use crate::fixtures::{self, contents, expected_in};

fn path(name: &str) -> PathBuf {
    fixtures::folder().join("offsets").join(name)
}

fn computed() -> LoadOptions {
    LoadOptions::new().computed_offsets(true)
}

fn offsets(checkpoint: &Checkpoint) -> Vec<(String, Option<u64>)> {
    let storages = checkpoint.storages().iter();
    storages.map(|storage| (storage.key().to_owned(), storage.checkpoint_offset().unwrap())).collect()
}

fn expected_offsets(json: &Json) -> Vec<(String, Option<u64>)> {
    json.as_object().unwrap().iter().map(|(key, offset)| (key.clone(), offset.as_u64())).collect()
}

/// Notes where it is read.
#[derive(Clone)]
struct Noting<S> {
    inner: S,
    reads: Arc<Mutex<Vec<(u64, u64)>>>,
}

impl<S: ReadAt> Noting<S> {
    fn new(inner: S) -> Self {
        Self { inner, reads: Arc::default() }
    }

    fn taken(&self) -> Vec<(u64, u64)> {
        std::mem::take(&mut self.reads.lock().unwrap())
    }
}

impl<S: ReadAt> ReadAt for Noting<S> {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<()> {
        self.reads.lock().unwrap().push((offset, u64::try_from(buf.len()).unwrap()));
        self.inner.read_exact_at(buf, offset)
    }
}

/// Zeros, but for some pieces.
#[derive(Clone)]
struct Sparse {
    size: u64,
    pieces: Vec<(u64, Vec<u8>)>,
}

impl ReadAt for Sparse {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<()> {
        buf.fill(0);
        let end = offset + u64::try_from(buf.len()).unwrap();
        if end > self.size {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        for (at, bytes) in &self.pieces {
            let (from, to) = (offset.max(*at), end.min(at + u64::try_from(bytes.len()).unwrap()));
            if from < to {
                let range =
                    |start: u64| usize::try_from(from - start).unwrap()..usize::try_from(to - start).unwrap();
                buf[range(offset)].copy_from_slice(&bytes[range(*at)]);
            }
        }
        Ok(())
    }
}

fn in_memory(bytes: Vec<u8>) -> Noting<Sparse> {
    Noting::new(Sparse { size: u64::try_from(bytes.len()).unwrap(), pieces: vec![(0, bytes)] })
}

/// PyTorch's archive of more than 4 GiB, whose data is zeros.
fn large() -> (Noting<Sparse>, Json) {
    let json: Json = serde_json::from_slice(&std::fs::read(path("large.json")).unwrap()).unwrap();
    let hex = |text: &str| -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    };
    let pieces = json["pieces"].as_array().unwrap().iter();
    let pieces = pieces.map(|piece| (piece[0].as_u64().unwrap(), hex(piece[1].as_str().unwrap()))).collect();
    (Noting::new(Sparse { size: json["size"].as_u64().unwrap(), pieces }), json["offsets"].clone())
}

#[test]
fn offsets_at_every_alignment_are_those_that_pytorch_computes() {
    let files = expected_in("offsets");
    assert_eq!(files.len(), 7);
    for (file, expected) in files {
        let expected = expected_offsets(&expected);
        assert_eq!(expected.len(), 6);
        let read = Checkpoint::open(path(&file)).unwrap();
        let without = computed().open(path(&file)).unwrap();
        assert_eq!(offsets(&without), expected, "{file}");
        assert_eq!(offsets(&read), expected, "{file}");
        assert_eq!(contents(&without), contents(&read), "{file}");
        let mapped = computed().mmap(true).open(path(&file)).unwrap();
        assert_eq!(contents(&mapped), contents(&read), "{file}");
    }
}

#[test]
fn offsets_beyond_32_bits_are_those_that_pytorch_computes() {
    let (source, expected) = large();
    let expected = expected_offsets(&expected);
    assert!(expected.iter().any(|(_, offset)| *offset > Some(0xFFFF_FFFF)));
    let checkpoint = computed().source(source.clone()).unwrap();
    source.taken();
    assert_eq!(offsets(&checkpoint), expected);
    assert_eq!(source.taken(), []);
    assert_eq!(offsets(&LoadOptions::new().source(source.clone()).unwrap()), expected);
    // Reading agrees with the local headers.
    for storage in checkpoint.storages().iter().filter(|storage| storage.nbytes() < 1000) {
        assert_eq!(storage.to_vec().unwrap(), vec![0; usize::try_from(storage.nbytes()).unwrap()]);
    }
}

#[test]
fn no_storages_header_is_read_before_its_data() {
    // Storages beyond the block that the directory is read in.
    let (source, _) = large();
    let checkpoint = computed().source(source.clone()).unwrap();
    let opening = source.taken();
    let end = source.size();
    for storage in checkpoint.storages().iter().take(2) {
        let at = storage.checkpoint_offset().unwrap().unwrap();
        let near =
            |&(offset, len): &(u64, u64)| offset < at && offset + len > at - 30 && offset + (64 << 10) < end;
        assert!(!opening.iter().skip(1).any(near), "{opening:?} around {at}");
    }
    assert_eq!(source.taken(), []);

    let source = in_memory(std::fs::read(path("align64.pt")).unwrap());
    let plain = LoadOptions::new().source(source.clone()).unwrap();
    let opening = source.taken();
    offsets(&plain);
    assert_eq!(source.taken().len(), plain.storages().len());
    let without = computed().source(source.clone()).unwrap();
    // Two small records more tell the layout: a header and a content each.
    assert_eq!(source.taken().len(), opening.len() + 4);
    offsets(&without);
    assert_eq!(source.taken(), []);
    contents(&without);
    assert!(!source.taken().is_empty());
}

#[test]
fn every_archive_has_the_offsets_that_its_headers_tell() {
    let mut without_reads = 0;
    for (file, _) in fixtures::expected() {
        let source = in_memory(fixtures::bytes(&file));
        let checkpoint = computed().source(source.clone()).unwrap();
        source.taken();
        let found = offsets(&checkpoint);
        without_reads += usize::from(source.taken().is_empty() && !found.is_empty());
        assert_eq!(found, offsets(&fixtures::open(&file)), "{file}");
        assert_eq!(contents(&checkpoint), contents(&fixtures::open(&file)), "{file}");
    }
    assert!(without_reads > 25, "{without_reads}");
    // Behind a prefix the writer did not count it.
    for prefix in [1, 17, 64, 5000] {
        let bytes = [vec![b'#'; prefix], std::fs::read(path("align4096.pt")).unwrap()].concat();
        let source = in_memory(bytes.clone());
        let checkpoint = computed().source(source.clone()).unwrap();
        source.taken();
        let found = offsets(&checkpoint);
        assert_eq!(source.taken(), [], "{prefix}");
        assert_eq!(found, offsets(&Checkpoint::from_bytes(bytes).unwrap()), "{prefix}");
    }
}

#[test]
fn an_archive_that_was_packed_again_is_looked_up_as_ever() {
    for file in ["repacked.pt", "deflated.pt"] {
        let checkpoint = computed().open(path(file)).unwrap();
        let plain = Checkpoint::open(path(file)).unwrap();
        assert!(checkpoint.note(".format_version").is_some(), "{file}");
        assert_eq!(offsets(&checkpoint), offsets(&plain), "{file}");
        assert_eq!(contents(&checkpoint), contents(&plain), "{file}");
    }
    // By chance, a record may end where it would if PyTorch had written it.
    for len in 1..=130 {
        let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let pickle = dict_of("w", &tensor(&storage("0", len), 0, &[len], &[1]));
        let data = vec![7; usize::try_from(len * 4).unwrap()];
        let records: [(&str, &[u8]); 4] =
            [(".format_version", b"1"), ("data.pkl", &pickle), ("data/0", &data), ("version", b"3\n")];
        for (name, content) in records {
            let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
            writer.start_file(format!("a/{name}"), stored).unwrap();
            writer.write_all(content).unwrap();
        }
        let bytes = writer.finish().unwrap().into_inner();
        let checkpoint = computed().from_bytes(bytes.clone()).unwrap();
        assert_eq!(offsets(&checkpoint), offsets(&Checkpoint::from_bytes(bytes).unwrap()), "{len}");
        assert_eq!(checkpoint.storages()[0].to_vec().unwrap(), data, "{len}");
    }
    // Containers without records are not concerned.
    let legacy = fixtures::folder().join("legacy/views.pt");
    assert_eq!(contents(&computed().open(&legacy).unwrap()), contents(&Checkpoint::open(&legacy).unwrap()));
}

/// Where a name first stands in a file, which is in its local header.
fn position(bytes: &[u8], name: &[u8]) -> usize {
    bytes.windows(name.len()).position(|window| window == name).unwrap()
}

#[test]
fn data_is_not_read_where_the_local_header_says_otherwise() {
    let good = std::fs::read(path("align64.pt")).unwrap();
    let name = b"align64/data/2";
    let extra_len = position(&good, name) - 2;
    for change in [-1, 1, 4, 64] {
        let mut bytes = good.clone();
        let len = u16::from_le_bytes([bytes[extra_len], bytes[extra_len + 1]]);
        let changed = len.checked_add_signed(change).unwrap();
        bytes[extra_len..extra_len + 2].copy_from_slice(&changed.to_le_bytes());
        let checkpoint = computed().from_bytes(bytes).unwrap();
        let storage = &checkpoint.storages()[2];
        assert_eq!(storage.checkpoint_offset().unwrap(), Some(1280));
        for error in
            [storage.to_vec().map(drop), checkpoint.tensor("floats").unwrap().to_contiguous().map(drop)]
        {
            let error = error.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
            assert_eq!(error.record(), Some("data/2"), "{error}");
            assert!(error.to_string().contains("without computed offsets"), "{error}");
        }
        assert!(storage.write_at(0, &[0]).is_err());
    }
    // A header that is none is found when data is read, as without the option.
    let mut bytes = good;
    let header = position(&bytes, name) - 30;
    bytes[header] = b'X';
    let checkpoint = computed().from_bytes(bytes).unwrap();
    assert_eq!(offsets(&checkpoint).len(), 6);
    let error = checkpoint.storages()[2].to_vec().unwrap_err();
    assert!(error.to_string().contains("local header"), "{error}");
}

/// What says how an archive is laid out is read before anything is computed.
#[test]
fn a_record_that_was_read_before_lies_where_its_local_header_says() {
    let mut bytes = std::fs::read(path("align64.pt")).unwrap();
    let extra_len = position(&bytes, b"align64/.format_version") - 2;
    bytes[extra_len] -= 1;
    for options in [LoadOptions::new(), computed()] {
        let checkpoint = options.verify_crc(false).from_bytes(bytes.clone()).unwrap();
        assert_eq!(checkpoint.note(".format_version").unwrap(), "Z");
        assert_eq!(checkpoint.storages()[2].checkpoint_offset().unwrap(), Some(1280));
    }
}

#[test]
fn only_archives_that_tell_their_layout_are_computed() {
    let data = [0; 24];
    let options = computed();
    let with = |version: Option<&'static str>, alignment: Option<&'static str>| {
        let pickle = good_pickle();
        let mut records: Vec<(&str, &[u8])> = vec![("data.pkl", &pickle), ("data/0", &data)];
        records.extend(version.map(|version| (".format_version", version.as_bytes())));
        records.extend(alignment.map(|alignment| (".storage_alignment", alignment.as_bytes())));
        options.from_bytes(archive("archive", &records))
    };
    for (version, alignment) in [
        (None, Some("junk")),
        (Some("0"), Some("junk")),
        (Some(""), Some("junk")),
        (Some("1"), None),
        (Some("1"), Some(" 64\n")),
        (Some("12"), Some("65535")),
    ] {
        assert!(with(version, alignment).is_ok(), "{version:?} {alignment:?}");
    }
    for alignment in ["", "x", "0", "-64", "65536", "64.0", "99999999999999999999999"] {
        let error = with(Some("1"), Some(alignment)).unwrap_err();
        assert!(matches!(error.reason(), Reason::Alignment { found } if found == alignment), "{error}");
        assert_eq!(
            (error.kind(), error.record()),
            (ErrorKind::Malformed, Some(".storage_alignment")),
            "{error}"
        );
    }
}
