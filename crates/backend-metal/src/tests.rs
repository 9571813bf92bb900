//! What becomes a buffer where it lies and what is read into one, over a simulated device.

use std::borrow::Cow;
use std::path::Path;

use ptser_core::{
    Availability, Backend, Checkpoint, DType, DeviceStorage, ErrorKind, HostStorage, LoadOptions, Location,
    Mmap, Object, Result, SaveOptions, Storage, Tensor,
};

use crate::pages::PAGE;
use crate::simulated::Simulated;
use crate::{Metal, PIECE};

fn bytes(nbytes: usize) -> Vec<u8> {
    (0..nbytes).map(|place| u8::try_from(place * 31 % 251).unwrap()).collect()
}

fn lent(bytes: Vec<u8>) -> Storage {
    Storage::from_bytes(None, Location::cpu(), bytes)
}

/// A file of two storages, the second of which ends where the data does.
fn save(path: &Path, alignment: u64, nbytes: usize) {
    let tensor = |bytes: Vec<u8>| {
        let count = bytes.len();
        Tensor::contiguous(lent(bytes), DType::UInt8, [count]).unwrap()
    };
    let object = Object::dict([("first", tensor(bytes(100))), ("second", tensor(bytes(nbytes)))]);
    SaveOptions::new().alignment(alignment).save(path, &object).unwrap();
}

fn open(path: &Path, mmap: Mmap) -> Checkpoint {
    LoadOptions::new().mmap(mmap).open(path).unwrap()
}

fn host(storage: &Storage) -> HostStorage<'_> {
    HostStorage::new(storage, DType::UInt8)
}

#[test]
fn records_of_a_private_mapping_that_begin_at_a_page_are_not_copied() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("aligned.pt");
    for nbytes in [1, PAGE - 1, PAGE, PAGE + 1, 3 * PIECE + 5] {
        save(&path, 16384, nbytes);
        let device = Simulated::new();
        let metal = Metal::of(device.clone());
        let checkpoint = open(&path, Mmap::Private);
        let placed: Vec<_> =
            checkpoint.storages().iter().map(|storage| metal.upload(host(storage)).unwrap()).collect();
        assert_eq!(device.buffers(), (0, 2), "{nbytes} bytes");
        // The file's own pages, and they stay when the checkpoint goes.
        let lie: Vec<*const u8> = checkpoint
            .storages()
            .iter()
            .map(|storage| host(storage).borrow().unwrap().unwrap().as_ptr())
            .collect();
        drop(checkpoint);
        for ((placed, lies), expected) in placed.iter().zip(lie).zip([bytes(100), bytes(nbytes)]) {
            let Cow::Borrowed(found) = placed.to_host().unwrap() else { panic!("copied") };
            assert_eq!(found.as_ptr(), lies);
            assert_eq!(*found, expected);
        }
        drop(placed);
        assert_eq!(device.buffers(), (0, 0));
    }
}

#[test]
fn all_others_are_read_into_a_buffer_once() {
    let folder = tempfile::tempdir().unwrap();
    let (aligned, plain) = (folder.path().join("aligned.pt"), folder.path().join("plain.pt"));
    let nbytes = 3 * PIECE + 5;
    save(&aligned, 16384, nbytes);
    save(&plain, 64, nbytes);
    let device = Simulated::new();
    let check = |metal: &Metal<Simulated>, checkpoint: &Checkpoint| {
        for (storage, expected) in checkpoint.storages().iter().zip([bytes(100), bytes(nbytes)]) {
            let placed = metal.upload(host(storage)).unwrap();
            assert_eq!(device.buffers(), (1, 0), "{storage:?}");
            assert!(*placed.to_host().unwrap() == expected, "{storage:?}");
        }
    };
    let metal = Metal::of(device.clone());
    // A mapping that writes go through may change under a buffer; what is read by `pread` or lies in a vector has no
    // pages of its own; a record inside a page has part of one.
    check(&metal, &open(&aligned, Mmap::Shared));
    check(&metal, &open(&aligned, Mmap::Off));
    check(&metal, &Checkpoint::from_bytes(std::fs::read(&aligned).unwrap()).unwrap());
    check(&metal, &open(&plain, Mmap::Private));
    // And where somebody says so.
    check(&Metal::of(device.clone()).in_place(false), &open(&aligned, Mmap::Private));
    check(&Metal::of(device.clone().without_wrapping()), &open(&aligned, Mmap::Private));
    assert_eq!(device.buffers(), (0, 0));
}

#[test]
fn what_has_the_other_byte_order_has_no_pages_to_use() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/zip");
    let metal = Metal::of(Simulated::new());
    // PyTorch's own tensors on machines of either order.
    for (file, lie_as_they_are) in
        [("dtypes.pt", cfg!(target_endian = "little")), ("dtypes_big.pt", cfg!(target_endian = "big"))]
    {
        let checkpoint = open(&folder.join(file), Mmap::Private);
        for (name, tensor) in checkpoint.tensors() {
            let storage = HostStorage::new(tensor.storage().unwrap(), tensor.dtype());
            let swapped = tensor.dtype().swap_unit() > 1 && !lie_as_they_are;
            assert_eq!(storage.mapped().unwrap().is_none(), swapped, "{file}: {name}");
            let placed = metal.upload(storage).unwrap();
            assert_eq!(*placed.to_host().unwrap(), storage.to_vec().unwrap(), "{file}: {name}");
        }
    }
}

#[test]
fn what_has_no_bytes_takes_no_buffer() {
    let device = Simulated::new();
    let placed = Metal::of(device.clone()).upload(host(&lent(Vec::new()))).unwrap();
    assert_eq!((placed.nbytes(), &*placed.to_host().unwrap()), (0, [].as_slice()));
    assert_eq!(device.buffers(), (0, 0));
}

#[test]
fn memory_that_is_not_there_is_an_error_with_the_bytes_asked_for() {
    let error = Metal::of(Simulated::new().largest(4096)).upload(host(&lent(bytes(4097)))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Backend);
    assert_eq!(error.to_string(), "mps has no memory for a storage of 4097 bytes: a buffer has 4096 at most");
}

#[test]
fn a_buffer_that_cannot_be_filled_is_freed() {
    struct Broken;
    impl ptser_core::HostBytes for Broken {
        fn nbytes(&self) -> u64 {
            10
        }

        fn with_bytes(&self, _: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
            Err(ptser_core::Error::misuse("they cannot be had"))
        }
    }

    let device = Simulated::new();
    let storage = Storage::from_host(None, Location::cpu(), Broken);
    let error = Metal::of(device.clone()).upload(host(&storage)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misuse);
    assert_eq!(device.buffers(), (0, 0));
}

#[test]
fn there_is_one_device_with_and_without_an_index() {
    let storage = lent(bytes(10));
    let metal = Metal::of(Simulated::new());
    assert_eq!(metal.availability(), Availability::Devices(1));
    for location in ["mps", "mps:0"] {
        let placed = metal.restore(host(&storage), &location.into()).unwrap().unwrap();
        // PyTorch writes no index.
        assert_eq!(metal.tag(&*placed), Some(Location::new("mps")));
        assert_eq!(placed.location(), Location::new("mps"));
    }
    let error = metal.restore(host(&storage), &"mps:1".into()).map(drop).unwrap_err().to_string();
    assert!(error.contains("MPS device 1, but the number of mps devices is 1"), "{error}");
    for location in ["cpu", "mpsx", "metal", "MPS"] {
        assert!(metal.restore(host(&storage), &location.into()).unwrap().is_none(), "{location}");
    }
}

#[test]
fn an_absent_device_says_why() {
    let metal = Metal::of(Simulated::absent());
    let storage = lent(bytes(10));
    assert_eq!(metal.upload(host(&storage)).unwrap_err().to_string(), "nothing is simulated");
    let error = metal.restore(host(&storage), &"mps".into()).map(drop).unwrap_err();
    assert_eq!(
        error.to_string(),
        "attempting to deserialize an object on a MPS device (mps), but mps is not available: nothing is simulated; \
         load with map_location(\"cpu\") to place it on the host"
    );
    #[cfg(not(target_os = "macos"))]
    assert_eq!(
        Metal::new().availability(),
        Availability::Unavailable(format!(
            "Metal is part of macOS, and this program was built for {}",
            std::env::consts::OS
        ))
    );
}
