//! The same file reads the same from a path, from memory, through a mapping, and through any reader.

use std::io::{Cursor, Write};
use std::sync::Arc;

use ptser::{Checkpoint, ErrorKind, LoadOptions, Mmap, ReadAt};

use crate::build;
use crate::fixtures::{self, contents};
use crate::readers::{Memory, Stammering};

const FILES: [&str; 7] = [
    "buffer.pt",
    "dtypes_big.pt",
    "mixed_deflate.pt",
    "prefixed.pt",
    "quantized.pt",
    "sparse.pt",
    "views.pt",
];

#[test]
fn every_source_gives_the_same_tensors() {
    for file in FILES {
        let bytes = fixtures::bytes(file);
        let expected = contents(&fixtures::open(file));
        let options = LoadOptions::new();
        let leaked: &'static [u8] = bytes.clone().leak();
        let opened = [
            ("a private mapping", LoadOptions::new().mmap(true).open(fixtures::path(file))),
            ("a vector", options.from_bytes(bytes.clone())),
            ("static bytes", options.from_bytes(leaked)),
            ("shared bytes", options.from_bytes(Arc::<[u8]>::from(bytes.clone()))),
            ("a file", options.read(std::fs::File::open(fixtures::path(file)).unwrap())),
            ("a cursor", options.read(Cursor::new(bytes.clone()))),
            ("a reader that stammers", options.read(Stammering::new(Cursor::new(bytes.clone())))),
            ("a source of one's own", options.source(Memory(bytes.clone()))),
        ];
        for (source, checkpoint) in opened {
            assert_eq!(contents(&checkpoint.expect(source)), expected, "{file} from {source}");
        }
    }
}

#[test]
fn a_shared_mapping_gives_the_same_tensors() {
    let folder = tempfile::tempdir().unwrap();
    for file in FILES {
        let copy = folder.path().join("copy.pt");
        std::fs::write(&copy, fixtures::bytes(file)).unwrap();
        let checkpoint = LoadOptions::new().mmap(Mmap::Shared).open(&copy).unwrap();
        assert_eq!(contents(&checkpoint), contents(&fixtures::open(file)), "{file}");
    }
}

#[test]
fn a_reader_is_read_from_where_it_stands() {
    let bytes = fixtures::bytes("buffer.pt");
    let mut reader = Cursor::new([b"a header of its own", bytes.as_slice()].concat());
    reader.set_position(19);
    let checkpoint = Checkpoint::read(reader).unwrap();
    assert_eq!(checkpoint.archive_offset(), 0);
    assert_eq!(contents(&checkpoint), contents(&fixtures::open("buffer.pt")));
}

#[test]
fn writes_through_a_shared_mapping_reach_the_file_and_through_others_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.pt");
    std::fs::write(&path, fixtures::bytes("buffer.pt")).unwrap();
    {
        let checkpoint = LoadOptions::new().mmap(Mmap::Shared).open(&path).unwrap();
        let bias = checkpoint.tensor("bias").unwrap();
        bias.storage().unwrap().write_at(4, &7.5_f32.to_le_bytes()).unwrap();
        let expected: Vec<u8> = [0.5_f32, 7.5, 2.0].iter().flat_map(|number| number.to_le_bytes()).collect();
        assert_eq!(*bias.to_contiguous().unwrap(), *expected);
        assert_eq!(bias.storage().unwrap().write_at(9, &[0; 4]).unwrap_err().kind(), ErrorKind::Misuse);
    }
    let again = Checkpoint::open(&path).unwrap();
    assert_eq!(again.tensor("bias").unwrap().to_contiguous().unwrap()[4..8], 7.5_f32.to_le_bytes());
    for mmap in [Mmap::Off, Mmap::Private] {
        let checkpoint = LoadOptions::new().mmap(mmap).open(&path).unwrap();
        let error = checkpoint.storages()[0].write_at(0, &[0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    }
}

#[test]
fn contiguous_tensors_in_memory_are_borrowed() {
    use std::borrow::Cow;

    let mapped = LoadOptions::new().mmap(true).open(fixtures::path("views.pt")).unwrap();
    let borrowed = |checkpoint: &Checkpoint, name: &str| {
        matches!(checkpoint.tensor(name).unwrap().to_contiguous().unwrap(), Cow::Borrowed(_))
    };
    assert!(borrowed(&mapped, "contiguous"));
    assert!(borrowed(&mapped, "row"));
    assert!(!borrowed(&mapped, "transpose"));
    assert!(!borrowed(&fixtures::open("views.pt"), "contiguous"));
}

#[test]
fn a_source_that_ends_early_is_an_error_of_reading() {
    let bytes = fixtures::bytes("buffer.pt");
    let checkpoint = LoadOptions::new().source(Cut { bytes: bytes.clone(), readable: bytes.len() }).unwrap();
    let offset =
        checkpoint.tensor("weight").unwrap().storage().unwrap().checkpoint_offset().unwrap().unwrap();
    assert!(offset > 0);
    for readable in [0, 100, bytes.len() - 1] {
        let error = LoadOptions::new().source(Cut { bytes: bytes.clone(), readable }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    }
}

#[test]
fn what_cannot_be_read_is_no_sign_of_another_format() {
    for file in ["prefixed.pt", "legacy_build.pt", "protocol1.pt", "root_tensor.pt"] {
        let bytes = fixtures::bytes(file);
        for readable in 0..bytes.len() {
            let opened = LoadOptions::new().source(Cut { bytes: bytes.clone(), readable });
            if let Err(error) = opened {
                assert_eq!(error.kind(), ErrorKind::Io, "{file}, {readable} bytes: {error}");
            }
        }
    }
}

#[test]
fn a_folder_and_a_missing_file_are_named() {
    let error = Checkpoint::open(fixtures::folder()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("folder"), "{error}");
    let error = Checkpoint::open("no/such/file.pt").unwrap_err();
    assert_eq!((error.kind(), error.file()), (ErrorKind::Io, Some("no/such/file.pt".as_ref())));
}

/// Claims a size of which only a part can be read.
struct Cut {
    bytes: Vec<u8>,
    readable: usize,
}

impl ReadAt for Cut {
    fn size(&self) -> u64 {
        u64::try_from(self.bytes.len()).unwrap()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        let bytes = self.bytes[..self.readable].get(start..start + buf.len());
        buf.copy_from_slice(bytes.ok_or(std::io::ErrorKind::ConnectionReset)?);
        Ok(())
    }
}

#[test]
fn a_record_of_another_size_is_refused_through_a_mapping_too() {
    let pickle = build::dict_of("w", &build::tensor(&build::storage("0", 7), 0, &[7], &[1]));
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&build::around(&pickle)).unwrap();
    for mmap in [Mmap::Off, Mmap::Private, Mmap::Shared] {
        let error = LoadOptions::new().mmap(mmap).open(file.path()).unwrap_err();
        assert!(error.to_string().contains("record size (24 bytes)"), "{mmap:?}: {error}");
        assert_eq!((error.tensor(), error.file()), (Some("w"), Some(file.path())));
    }
}

#[test]
fn a_deflated_record_is_read_through_a_mapping_and_not_written_through() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("deflated.pt");
    std::fs::write(&copy, fixtures::bytes("deflated.pt")).unwrap();
    let checkpoint = LoadOptions::new().mmap(Mmap::Shared).open(&copy).unwrap();
    assert_eq!(contents(&checkpoint), contents(&fixtures::open("deflated.pt")));
    let storage = checkpoint.storages().first().unwrap();
    assert_eq!(storage.write_at(0, &[1]).unwrap_err().kind(), ErrorKind::Misuse);
    assert_eq!(std::fs::read(&copy).unwrap(), fixtures::bytes("deflated.pt"));
}
