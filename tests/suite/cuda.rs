//! Storages on this machine's CUDA devices, beside what `backends` asks of every device. Where there are none, each test
//! says that it skipped them, and the first looks at the answer.

use ptser::backends::cuda::driver::{Driver, Stream};
use ptser::backends::cuda::{Cuda, Native, backend};
use ptser::{
    Availability, Backend, Checkpoint, DType, DeviceStorage, ErrorKind, HostBytes, HostStorage, LoadOptions,
    Location, Object, Registry, Result, SaveOptions, Storage, Tensor,
};

use crate::fixtures;

/// Bytes of a staging buffer.
const CHUNK: usize = 16 << 20;

/// The number of devices; where there are none it says that a test leaves them out.
fn devices(test: &str) -> u32 {
    match backend().availability() {
        Availability::Devices(count) => count,
        Availability::Unavailable(why) => {
            println!("{test}: skipped on CUDA: {why}");
            0
        }
        other => panic!("{other:?}"),
    }
}

fn registry() -> Registry {
    Registry::linked().unwrap()
}

fn bytes(nbytes: usize) -> Vec<u8> {
    (0..nbytes).map(|place| u8::try_from(place * 31 % 251).unwrap()).collect()
}

fn host(storage: &Storage) -> HostStorage<'_> {
    HostStorage::new(storage, DType::UInt8)
}

#[test]
fn an_absent_device_is_an_answer_that_says_what_to_do() {
    let checkpoint = fixtures::open("state_dict.pt");
    let place = |location: &str| checkpoint.restore(&registry(), &location.into()).map(drop);
    match backend().availability() {
        Availability::Unavailable(why) => {
            let error = place("cuda:0").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Backend);
            assert_eq!(
                error.to_string(),
                format!(
                    "attempting to deserialize an object on a CUDA device (cuda:0), but cuda is not available: {why}; load \
                     with map_location(\"cpu\") to place it on the host (record data/0)"
                )
            );
            assert!(why.contains("CUDA driver"), "{why}");
        }
        Availability::Devices(count) => {
            let error = place(&format!("cuda:{count}")).unwrap_err().to_string();
            let said = format!("CUDA device {count}, but the number of cuda devices is {count}");
            assert!(error.contains(&said), "{error}");
            place("cuda").unwrap();
        }
        other => panic!("{other:?}"),
    }
    // The host is there, whatever else is.
    place("cpu").unwrap();
}

#[test]
fn what_is_placed_comes_back_whatever_its_size_and_source() {
    let count = devices("what_is_placed_comes_back_whatever_its_size_and_source");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.pt");
    for nbytes in [0, 1, 4095, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 1, 5 * CHUNK + 4097] {
        if count == 0 {
            return;
        }
        let expected = bytes(nbytes);
        let lent = Storage::from_bytes(None, Location::cpu(), expected.clone());
        let tensor = Tensor::contiguous(lent.clone(), DType::UInt8, [nbytes]).unwrap();
        SaveOptions::new().save(&path, &Object::dict([("t", tensor)])).unwrap();
        let file = Checkpoint::open(&path).unwrap();
        let mapping = LoadOptions::new().mmap(true).open(&path).unwrap();
        for storage in [&lent, &file.storages()[0], &mapping.storages()[0]] {
            for cuda in [Cuda::new(), Cuda::new().pinned_downloads(false)] {
                for index in 0..count {
                    let placed = cuda.upload(host(storage), index).unwrap();
                    assert_eq!(placed.location().as_str(), format!("cuda:{index}"));
                    assert!(*placed.to_host().unwrap() == expected, "{nbytes} bytes of {storage:?}");
                }
            }
        }
    }
}

#[test]
fn threads_place_storages_beside_each_other() {
    let count = devices("threads_place_storages_beside_each_other");
    if count == 0 {
        return;
    }
    let expected = bytes(3 * CHUNK + 1);
    let storage = Storage::from_bytes(None, Location::cpu(), expected.clone());
    std::thread::scope(|scope| {
        for thread in 0..count * 4 {
            let (storage, expected) = (&storage, &expected);
            scope.spawn(move || {
                for _ in 0..5 {
                    let placed = backend().upload(host(storage), thread % count).unwrap();
                    assert!(*placed.to_host().unwrap() == **expected);
                }
            });
        }
    });
}

/// So many bytes as no device has, none of which is ever asked for.
struct Petabyte;

impl HostBytes for Petabyte {
    fn nbytes(&self) -> u64 {
        1 << 50
    }

    fn with_bytes(&self, _: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        panic!("they were asked for")
    }
}

#[test]
fn a_device_without_room_says_what_was_asked_and_what_is_free() {
    if devices("a_device_without_room_says_what_was_asked_and_what_is_free") == 0 {
        return;
    }
    let storage = Storage::from_host(None, Location::cpu(), Petabyte);
    let error = backend().upload(host(&storage), 0).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Backend);
    let text = error.to_string();
    assert!(text.contains("cuda:0") && text.contains("1125899906842624 bytes"), "{text}");
    assert!(text.contains("are free") && text.contains("CUDA_ERROR_OUT_OF_MEMORY"), "{text}");
    // And it goes on.
    let small = Storage::from_bytes(None, Location::cpu(), bytes(100));
    assert_eq!(*backend().upload(host(&small), 0).unwrap().to_host().unwrap(), bytes(100));
}

#[test]
fn memory_that_was_dropped_can_be_taken_again_and_pinned_memory_is_known() {
    for index in 0..devices("memory_that_was_dropped_can_be_taken_again_and_pinned_memory_is_known") {
        let stream = Native.open(&Native.context(index).unwrap()).unwrap();
        let (free, total) = stream.room().unwrap();
        assert!(free <= total);
        for _ in 0..3 {
            // More than half: two of them do not fit.
            drop(stream.alloc(free / 5 * 3).unwrap());
        }
        let pinned = stream.alloc_pinned(4096).unwrap();
        assert!(stream.is_pinned(pinned.as_ref()));
        assert!(!stream.is_pinned(&bytes(4096)));
        // From there to the device and back, without a buffer between.
        let mut memory = stream.alloc(4096).unwrap();
        stream.upload_now(&bytes(4096), &mut memory).unwrap();
        let mut back = vec![0; 4096];
        stream.download_now(&memory, &mut back).unwrap();
        assert_eq!(back, bytes(4096));
    }
}
