//! How a backend reads the storage that it is asked to place: piece by piece, wherever the bytes come from.

use ptser::{ByteOrder, Checkpoint, DType, Error, ErrorKind, HostStorage, LoadOptions, Location, Storage};

use crate::fixtures;

/// A fixture from a file, from memory, and from a mapping.
fn sources(file: &str) -> [Checkpoint; 3] {
    let mapped = LoadOptions::new().mmap(true).open(fixtures::path(file)).unwrap();
    [fixtures::open(file), Checkpoint::from_bytes(fixtures::bytes(file)).unwrap(), mapped]
}

/// Reads in pieces of so many bytes.
fn in_pieces(storage: HostStorage<'_>, piece: usize) -> Vec<u8> {
    let mut bytes = vec![0xA5; usize::try_from(storage.nbytes()).unwrap()];
    let mut at = 0;
    for piece in bytes.chunks_mut(piece) {
        storage.read_at(at, piece).unwrap();
        at += u64::try_from(piece.len()).unwrap();
    }
    bytes
}

#[test]
fn pieces_of_any_size_are_the_whole() {
    for file in ["dtypes.pt", "dtypes_big.pt", "views_big.pt", "deflated.pt", "mixed_deflate.pt"] {
        for checkpoint in sources(file) {
            for (name, tensor) in checkpoint.tensors() {
                let Some(storage) = tensor.storage() else { continue };
                let host = HostStorage::new(storage, tensor.dtype());
                // What a tensor over the whole storage has is what PyTorch found there.
                let whole = storage.to_vec_as(tensor.dtype(), ByteOrder::NATIVE).unwrap();
                for piece in [1, 3, 8, 13, whole.len().max(1)] {
                    assert_eq!(in_pieces(host, piece), whole, "{file}: {name} by {piece}");
                }
                let mut pieces = Vec::new();
                host.for_each_piece(&mut |piece| {
                    pieces.extend_from_slice(piece);
                    Ok(())
                })
                .unwrap();
                assert_eq!(pieces, whole, "{file}: {name}");
                let deflated = storage.checkpoint_offset().unwrap().is_none();
                assert_eq!(host.is_seekable().unwrap(), !deflated, "{file}: {name}");
            }
        }
    }
}

#[test]
fn a_slice_of_a_storage_is_its_bytes_from_there_on() {
    for file in ["dtypes_big.pt", "deflated.pt"] {
        for checkpoint in sources(file) {
            for (name, tensor) in checkpoint.tensors() {
                let (Some(storage), size) = (tensor.storage(), tensor.dtype().element_size()) else {
                    continue;
                };
                let whole = storage.to_vec_as(tensor.dtype(), ByteOrder::NATIVE).unwrap();
                if whole.len() < 2 * size {
                    continue;
                }
                let bytes = |amount: usize| u64::try_from(amount).unwrap();
                let slice = storage.slice(bytes(size), storage.nbytes() - bytes(size)).unwrap();
                let host = HostStorage::new(&slice, tensor.dtype());
                assert_eq!(in_pieces(host, 5), whole[size..], "{file}: {name}");
                assert_eq!(host.to_vec().unwrap(), whole[size..], "{file}: {name}");
                assert_eq!(slice.location(), storage.location());
            }
        }
    }
}

#[test]
fn ranges_that_leave_a_storage_are_refused() {
    let storage = Storage::from_bytes(None, Location::cpu(), vec![7; 10]);
    let host = HostStorage::new(&storage, DType::UInt8);
    host.read_at(10, &mut []).unwrap();
    for (start, len) in [(0, 11), (10, 1), (u64::MAX, 1)] {
        let error = host.read_at(start, &mut vec![0; len]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misuse, "{error}");
        let error = storage.slice(start, u64::try_from(len).unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misuse, "{error}");
    }
    assert_eq!(storage.slice(10, 0).unwrap().nbytes(), 0);
}

#[test]
fn who_takes_pieces_may_refuse() {
    let checkpoint = fixtures::open("dtypes.pt");
    let storage = checkpoint.storages().iter().find(|storage| storage.nbytes() > 0).unwrap();
    let error = HostStorage::new(storage, DType::UInt8)
        .for_each_piece(&mut |_| Err(Error::backend("no room")))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Backend);
    assert!(error.to_string().contains("no room"), "{error}");
}
