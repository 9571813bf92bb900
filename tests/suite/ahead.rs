//! Small storages that are read with their neighbours are those that are read by themselves.

use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ptser::{ByteOrder, Checkpoint, LoadOptions, ReadAhead, ReadAt, Result, Storage, Tensor};

use crate::fixtures;

const FILES: [&str; 8] = [
    "many.pt",
    "views.pt",
    "views_big.pt",
    "dtypes_big.pt",
    "deflated.pt",
    "mixed_deflate.pt",
    "prefixed.pt",
    "legacy_build.pt",
];

fn ahead(by: &mut ReadAhead, tensor: &Tensor, storage: &Storage) -> Result<Vec<u8>> {
    let mut buffer = vec![MaybeUninit::uninit(); usize::try_from(storage.nbytes()).unwrap()];
    let bytes = by.read_as(storage, tensor.dtype(), ByteOrder::NATIVE, 0, &mut buffer);
    bytes.map(|bytes| bytes.to_vec())
}

/// Compares what is read ahead with what is read by itself, errors too.
fn check(file: &str, checkpoints: &[Checkpoint]) {
    let expected = fixtures::open(file);
    let mut by = ReadAhead::default();
    let mut tensors: Vec<(String, Tensor)> = checkpoints
        .iter()
        .flat_map(|checkpoint| checkpoint.tensors().map(|(name, tensor)| (name.to_owned(), tensor.clone())))
        .collect();
    for _ in 0..2 {
        for (name, tensor) in &tensors {
            let Some(storage) = tensor.storage() else { continue };
            let of_it = expected.tensor(name).unwrap().storage().unwrap();
            let alone = of_it.to_vec_as(tensor.dtype(), ByteOrder::NATIVE).unwrap();
            assert_eq!(ahead(&mut by, tensor, storage).unwrap(), alone, "{file}: {name}");
        }
        // Against the order of the file, and from one file to the other.
        tensors.reverse();
        let (even, odd): (Vec<_>, Vec<_>) = tensors.drain(..).enumerate().partition(|(at, _)| at % 2 == 0);
        tensors = even.into_iter().chain(odd).map(|(_, tensor)| tensor).collect();
    }
}

#[test]
fn storages_read_ahead_are_those_read_by_themselves() {
    for file in FILES {
        let (path, options) = (fixtures::path(file), LoadOptions::new());
        check(
            file,
            &[
                options.open(&path).unwrap(),
                options.read(std::fs::File::open(&path).unwrap()).unwrap(),
                options.from_bytes(fixtures::bytes(file)).unwrap(),
                LoadOptions::new().verify_crc(true).open(&path).unwrap(),
                LoadOptions::new().computed_offsets(true).open(&path).unwrap(),
                LoadOptions::new().mmap(true).open(&path).unwrap(),
            ],
        );
    }
}

/// Counts calls, and gives no more bytes than it is told.
struct Counting {
    bytes: Vec<u8>,
    calls: Arc<AtomicUsize>,
    readable: Arc<AtomicUsize>,
}

impl ReadAt for Counting {
    fn size(&self) -> u64 {
        u64::try_from(self.bytes.len()).unwrap()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<()> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let start = usize::try_from(offset).unwrap();
        let bytes = self.bytes[..self.readable.load(Ordering::Relaxed)].get(start..start + buf.len());
        buf.copy_from_slice(bytes.ok_or(std::io::ErrorKind::ConnectionReset)?);
        Ok(())
    }
}

fn counting(bytes: Vec<u8>) -> (Checkpoint, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let (calls, readable) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(bytes.len())));
    let source = Counting { bytes, calls: calls.clone(), readable: readable.clone() };
    let checkpoint = LoadOptions::new().source(source).unwrap();
    calls.store(0, Ordering::Relaxed);
    (checkpoint, calls, readable)
}

#[test]
fn small_neighbours_take_one_call() {
    let (checkpoint, calls, _) = counting(fixtures::bytes("many.pt"));
    let small = checkpoint.storages().iter().filter(|storage| storage.nbytes() <= ReadAhead::SMALL).count();
    assert!(small > 100, "{small}");
    let mut by = ReadAhead::default();
    for (_, tensor) in checkpoint.tensors() {
        ahead(&mut by, tensor, tensor.storage().unwrap()).unwrap();
    }
    let calls = calls.load(Ordering::Relaxed);
    assert!(calls < small / 10, "{calls} calls for {small} storages");
}

#[test]
fn what_cannot_be_read_with_its_neighbours_is_read_by_itself() {
    let (checkpoint, _, readable) = counting(fixtures::bytes("many.pt"));
    let tensors: Vec<&Tensor> = checkpoint.tensors().map(|(_, tensor)| tensor).collect();
    let (first, last) = (tensors[0], tensors[tensors.len() - 1]);
    let storage = first.storage().unwrap();
    let end = storage.checkpoint_offset().unwrap().unwrap() + storage.nbytes();
    readable.store(usize::try_from(end).unwrap(), Ordering::Relaxed);
    let mut by = ReadAhead::default();
    assert_eq!(ahead(&mut by, first, storage).unwrap(), storage.to_vec().unwrap());
    let error = ahead(&mut by, last, last.storage().unwrap()).unwrap_err();
    assert_eq!(error.to_string(), last.storage().unwrap().to_vec().unwrap_err().to_string());
}

#[test]
fn a_damaged_local_header_is_found_among_neighbours_too() {
    let mut bytes = fixtures::bytes("many.pt");
    let record = b"data/7";
    let at = (0..bytes.len()).find(|&at| {
        bytes[at..].starts_with(b"PK\x03\x04") && {
            let name = usize::from(u16::from_le_bytes([bytes[at + 26], bytes[at + 27]]));
            bytes[at + 30..at + 30 + name].ends_with(record)
        }
    });
    bytes[at.unwrap()] ^= 1;
    let (checkpoint, ..) = counting(bytes);
    let mut by = ReadAhead::default();
    for (name, tensor) in checkpoint.tensors() {
        let storage = tensor.storage().unwrap();
        match (ahead(&mut by, tensor, storage), storage.to_vec()) {
            (Ok(ahead), Ok(alone)) => assert_eq!(ahead, alone, "{name}"),
            (Err(ahead), Err(alone)) => {
                assert_eq!((ahead.to_string(), storage.key()), (alone.to_string(), "7"), "{name}");
            }
            (ahead, alone) => panic!("{name}: {ahead:?} and {alone:?}"),
        }
    }
}
