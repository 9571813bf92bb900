//! The backend over a simulated driver: which calls come in which order, and what becomes of failures.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ptser_core::{
    Availability, Backend, Checkpoint, DType, DeviceStorage, ErrorKind, HostStorage, LoadOptions, Location,
    MapLocation, Object, ReadAt, Registry, SaveOptions, Storage, Tensor,
};

use crate::driver::{Driver, Stream};
use crate::simulated::{Call, Memory, Simulated, SimulatedStream};
use crate::{Cuda, Filling, Native};

const CHUNK: usize = 64;

/// No bytes, one, an odd number, one buffer and a byte less and more, several.
const SIZES: [usize; 10] = [0, 1, 7, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1, 5 * CHUNK, 1003];

fn cuda(driver: &Simulated) -> Cuda<Simulated> {
    Cuda::of(driver.clone()).chunk(CHUNK)
}

fn bytes(nbytes: usize) -> Vec<u8> {
    (0..nbytes).map(|place| u8::try_from(place * 31 % 251).unwrap()).collect()
}

/// Bytes that are handed out all at once.
fn lent(nbytes: usize) -> Storage {
    Storage::from_bytes(None, Location::cpu(), bytes(nbytes))
}

/// An archive with one storage of so many bytes.
fn archive(nbytes: usize) -> Vec<u8> {
    let tensor = Tensor::contiguous(lent(nbytes), DType::UInt8, [nbytes]).unwrap();
    SaveOptions::new().to_bytes(&Object::dict([("t", tensor)])).unwrap()
}

fn storage_of(checkpoint: &Checkpoint) -> Storage {
    checkpoint.storages().first().unwrap().clone()
}

/// A storage of each kind of source: lent, in memory, read from a file, from a mapping.
fn sources(nbytes: usize) -> Vec<(&'static str, Storage)> {
    let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    std::fs::write(&path, archive(nbytes)).unwrap();
    let file = storage_of(&Checkpoint::open(&path).unwrap());
    let mapping = storage_of(&LoadOptions::new().mmap(true).open(&path).unwrap());
    let memory = storage_of(&Checkpoint::from_bytes(archive(nbytes)).unwrap());
    vec![("lent", lent(nbytes)), ("memory", memory), ("file", file), ("mapping", mapping)]
}

fn host(storage: &Storage) -> HostStorage<'_> {
    HostStorage::new(storage, DType::UInt8)
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/zip").join(name)
}

#[test]
fn what_is_placed_comes_back_whatever_its_size_and_source() {
    let driver = Simulated::new(1, 1 << 20);
    for cuda in [cuda(&driver), cuda(&driver).pinned_downloads(false)] {
        for nbytes in SIZES {
            for (source, storage) in sources(nbytes) {
                let placed = cuda.restore(host(&storage), &"cuda:0".into()).unwrap().unwrap();
                assert_eq!(usize::try_from(placed.nbytes()).unwrap(), nbytes);
                assert_eq!(driver.used(0), nbytes);
                assert_eq!(*placed.to_host().unwrap(), bytes(nbytes), "{nbytes} bytes, {source}");
                drop(placed);
                assert_eq!(driver.used(0), 0);
            }
        }
    }
}

#[test]
fn one_buffer_is_filled_while_the_other_is_copied() {
    let driver = Simulated::new(1, 1 << 20);
    let cuda = cuda(&driver);
    let (_, file) = sources(2 * CHUNK + 5).swap_remove(2);
    let placed = cuda.upload(host(&file), 0).unwrap();
    let upload = |buffer, at, nbytes| Call::Upload { buffer, nbytes, at };
    assert_eq!(
        driver.calls(),
        [
            Call::Open { device: 0 },
            Call::Alloc { nbytes: 2 * CHUNK + 5 },
            Call::AllocPinned { buffer: 2, nbytes: CHUNK },
            upload(2, 0, CHUNK),
            Call::AllocPinned { buffer: 3, nbytes: CHUNK },
            upload(3, CHUNK, CHUNK),
            Call::Wait { buffer: 2 },
            upload(2, 2 * CHUNK, 5),
            Call::Mark,
        ]
    );
    // The next storage is read while the last copies of this one are under way.
    let next = cuda.upload(host(&file), 0).unwrap();
    assert_eq!(
        driver.calls(),
        [
            Call::Alloc { nbytes: 2 * CHUNK + 5 },
            Call::Wait { buffer: 3 },
            upload(3, 0, CHUNK),
            Call::Wait { buffer: 2 },
            upload(2, CHUNK, CHUNK),
            Call::Wait { buffer: 3 },
            upload(3, 2 * CHUNK, 5),
            Call::Mark,
        ]
    );
    // The way back, through the same buffers, once they are free.
    assert_eq!(*placed.to_host().unwrap(), bytes(2 * CHUNK + 5));
    let download = |buffer, at, nbytes| Call::Download { buffer, nbytes, at };
    assert_eq!(
        driver.calls(),
        [
            Call::Reach,
            Call::Wait { buffer: 2 },
            Call::Wait { buffer: 3 },
            download(3, 0, CHUNK),
            download(2, CHUNK, CHUNK),
            Call::Wait { buffer: 3 },
            download(3, 2 * CHUNK, 5),
            Call::Wait { buffer: 2 },
            Call::Wait { buffer: 3 },
        ]
    );
    assert_eq!(*next.to_host().unwrap(), bytes(2 * CHUNK + 5));
}

/// Copies that are under way when their storage goes, or is asked for by another thread.
#[test]
fn a_storage_is_complete_when_it_is_asked_for_and_goes_with_its_copies_under_way() {
    let driver = Simulated::new(1, 1 << 20);
    let cuda = cuda(&driver);
    let (_, file) = sources(3 * CHUNK).swap_remove(2);
    let first = cuda.upload(host(&file), 0).unwrap();
    let second = cuda.upload(host(&file), 0).unwrap();
    // Another stream than the one with the copies.
    let taken = cuda.devices().as_ref().unwrap()[0].take_idle();
    first.wait().unwrap();
    assert_eq!(*first.to_host().unwrap(), bytes(3 * CHUNK));
    assert_eq!(*second.to_host().unwrap(), bytes(3 * CHUNK));
    drop((first, second));
    assert_eq!(driver.used(0), 0);
    drop(taken);
}

/// Uploads a storage, and gives its memory to a stream that frees it, as candle does.
fn give(
    cuda: &Cuda<Simulated>,
    storage: &Storage,
    to: &SimulatedStream,
) -> ptser_core::Result<(Memory, Filling<Simulated>)> {
    let (memory, filling) = cuda.upload(host(storage), 0)?.give_to(to)?.unwrap();
    Ok((memory.freed_on(to), filling))
}

#[test]
fn storages_that_are_given_to_a_stream_are_read_while_the_last_one_is_copied() {
    let driver = Simulated::new(1, 1 << 20);
    let cuda = cuda(&driver);
    let (candle, other) = (driver.open(&0).unwrap(), driver.open(&0).unwrap());
    let (_, file) = sources(CHUNK).swap_remove(2);
    driver.calls();
    let given: Vec<_> = (0..3).map(|_| give(&cuda, &file, &candle).unwrap()).collect();
    let upload = |buffer| Call::Upload { buffer, nbytes: CHUNK, at: 0 };
    let alloc = Call::Alloc { nbytes: CHUNK };
    assert_eq!(
        driver.calls(),
        [
            Call::Open { device: 0 },
            alloc,
            Call::AllocPinned { buffer: 2, nbytes: CHUNK },
            upload(2),
            Call::Mark,
            Call::Follow,
            // The second is read while the first is copied.
            alloc,
            Call::AllocPinned { buffer: 4, nbytes: CHUNK },
            upload(4),
            Call::Mark,
            Call::Follow,
            // The third while the second is; it needs the buffer of the first.
            alloc,
            Call::Wait { buffer: 2 },
            upload(2),
            Call::Mark,
            Call::Follow,
        ]
    );
    let (last, filling) = &given[2];
    let seen = |stream: &SimulatedStream| {
        let mut seen = vec![0; CHUNK];
        stream.download_now(last, &mut seen).unwrap();
        seen
    };
    // Another stream finds the memory filled when the host has waited; the one that has it does so at once.
    assert_ne!(seen(&other), bytes(CHUNK));
    filling.wait().unwrap();
    assert_eq!(seen(&other), bytes(CHUNK));
    assert_eq!(seen(&candle), bytes(CHUNK));
    let (early, _) = give(&cuda, &file, &candle).unwrap();
    let mut seen = vec![0; CHUNK];
    candle.download_now(&early, &mut seen).unwrap();
    assert_eq!(seen, bytes(CHUNK));
}

/// Weights and their biases: the second weight is read while the first is copied.
#[test]
fn small_storages_leave_the_two_buffers_to_the_others() {
    let driver = Simulated::new(1, 1 << 20);
    let cuda = cuda(&driver);
    let (_, weight) = sources(CHUNK).swap_remove(2);
    let (_, bias) = sources(CHUNK / 16).swap_remove(2);
    let place = |storage| cuda.upload(host(storage), 0).unwrap();
    let mut placed: Vec<_> = [&weight, &bias, &weight, &bias, &weight].map(place).into();
    let copies = |call: &Call| match *call {
        Call::Upload { buffer, nbytes, .. } => Some((buffer, nbytes)),
        Call::Wait { buffer } => Some((buffer, 0)),
        _ => None,
    };
    let calls: Vec<_> = driver.calls().iter().filter_map(copies).collect();
    assert_eq!(calls, [(2, CHUNK), (4, 4), (6, CHUNK), (8, 4), (2, 0), (2, CHUNK)]);
    // More of them than there are small buffers.
    placed.extend((0..20).map(|_| place(&bias)));
    assert_eq!(driver.buffers(), 2 + 16);
    for placed in placed {
        assert_eq!(*placed.to_host().unwrap(), bytes(usize::try_from(placed.nbytes()).unwrap()));
    }
}

#[test]
fn a_copy_that_fails_after_its_memory_was_given_away_is_named_when_it_is_waited_for() {
    let driver = Simulated::new(1, 1 << 20);
    let cuda = cuda(&driver);
    let candle = driver.open(&0).unwrap();
    let given =
        [5, 7, 0].map(|nbytes| cuda.upload(host(&lent(nbytes)), 0).unwrap().give_to(&candle).unwrap());
    let [Some(first), Some(second), None] = given else { panic!("no memory for bytes, or some for none") };
    driver.fail_after(Some(1));
    first.1.wait().unwrap();
    let error = second.1.wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Backend);
    assert_eq!(error.to_string(), "cuda:0 cannot fill a storage of 7 bytes: Reach was made to fail");
}

/// The simulated driver panics where memory is freed under a copy.
#[test]
fn a_load_that_fails_half_way_frees_what_it_gave_away_behind_the_copies() {
    let (_, file) = sources(3 * CHUNK).swap_remove(2);
    let driver = Simulated::new(1, 1 << 20);
    let candle = driver.open(&0).unwrap();
    for failures in 0.. {
        let cuda = cuda(&driver);
        driver.fail_after(Some(failures));
        let given: Result<Vec<_>, _> = (0..3).map(|_| give(&cuda, &file, &candle)).collect();
        driver.fail_after(None);
        let done = given.is_ok();
        if let Err(error) = &given {
            assert!(error.to_string().contains("made to fail"), "{error}");
        }
        drop(given);
        assert_eq!(driver.used(0), 0, "call {failures}");
        drop(cuda);
        assert_eq!(driver.buffers(), 0, "call {failures}");
        if done {
            assert!(failures > 15, "{failures}");
            break;
        }
    }
}

/// Every copy of a buffer is waited for before the next begins.
fn check_turns(calls: &[Call]) {
    let mut busy: HashMap<usize, bool> = HashMap::new();
    for call in calls {
        match *call {
            Call::AllocPinned { buffer, .. } | Call::Wait { buffer } => {
                busy.insert(buffer, false);
            }
            Call::Upload { buffer, .. } | Call::Download { buffer, .. } => {
                assert_eq!(busy.insert(buffer, true), Some(false), "{call:?} in {calls:?}");
            }
            _ => {}
        }
    }
    assert!(busy.values().all(|busy| !busy), "{calls:?}");
    // Two, and small ones for what is left over at the ends: up, and down.
    assert!(busy.len() <= 3, "{calls:?}");
}

#[test]
fn a_buffer_is_used_again_only_after_its_copy() {
    for nbytes in SIZES {
        for (_, storage) in sources(nbytes) {
            let driver = Simulated::new(1, 1 << 20);
            let placed = cuda(&driver).upload(host(&storage), 0).unwrap();
            placed.to_host().unwrap();
            check_turns(&driver.calls());
        }
    }
}

#[test]
fn buffers_are_kept_for_the_next_storage() {
    let driver = Simulated::new(2, 1 << 20);
    let cuda = cuda(&driver);
    let storage = lent(1003);
    let first = cuda.upload(host(&storage), 0).unwrap();
    driver.calls();
    let second = cuda.upload(host(&storage), 0).unwrap();
    let taken = |call: &Call| matches!(call, Call::Open { .. } | Call::AllocPinned { .. });
    assert!(!driver.calls().iter().any(taken));
    assert_eq!((driver.buffers(), driver.used(0), driver.used(1)), (2, 2006, 0));
    drop((first, second));
    assert_eq!(driver.used(0), 0);
    // Another device has buffers of its own; with the backend all of them go.
    let other = cuda.upload(host(&storage), 1).unwrap();
    assert_eq!((driver.buffers(), driver.used(1)), (4, 1003));
    drop(cuda);
    assert_eq!(*other.to_host().unwrap(), bytes(1003));
    drop(other);
    assert_eq!((driver.buffers(), driver.used(1)), (0, 0));
}

#[test]
fn whatever_fails_everything_is_freed_and_the_next_try_succeeds() {
    for nbytes in [1, CHUNK, 4 * CHUNK + 1] {
        for (source, storage) in sources(nbytes) {
            for pinned in [true, false] {
                let driver = Simulated::new(1, 1 << 20);
                let cuda = cuda(&driver).pinned_downloads(pinned);
                let mut failures = 0;
                let placed = loop {
                    driver.fail_after(Some(failures));
                    match cuda.upload(host(&storage), 0) {
                        Ok(placed) => break placed,
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::Backend);
                            let text = error.to_string();
                            assert!(text.contains("cuda:0") && text.contains("made to fail"), "{text}");
                        }
                    }
                    assert_eq!((driver.used(0), driver.buffers()), (0, 0), "{source}, call {failures}");
                    failures += 1;
                };
                assert!(failures > 4, "{failures}");
                for failures in 0.. {
                    driver.fail_after(Some(failures));
                    let came = placed.to_host();
                    driver.fail_after(None);
                    match came {
                        Ok(came) => {
                            assert_eq!(*came, bytes(nbytes));
                            break;
                        }
                        Err(error) => assert!(error.to_string().contains("cannot fetch"), "{error}"),
                    }
                    assert_eq!(driver.used(0), nbytes);
                    // A stream that failed is not kept.
                    assert!(driver.buffers() <= 2);
                }
            }
        }
    }
}

/// Fails in the data of an archive, from a certain read on.
struct Torn {
    bytes: Vec<u8>,
    reads: Arc<AtomicUsize>,
}

impl ReadAt for Torn {
    fn size(&self) -> u64 {
        u64::try_from(self.bytes.len()).unwrap()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        if self.reads.fetch_sub(1, Ordering::Relaxed) == 0 {
            return Err(io::Error::other("the disk is gone"));
        }
        let start = usize::try_from(offset).unwrap();
        buf.copy_from_slice(&self.bytes[start..start + buf.len()]);
        Ok(())
    }
}

#[test]
fn a_file_that_fails_keeps_its_error_and_the_device_is_freed() {
    let reads = Arc::new(AtomicUsize::new(usize::MAX / 2));
    let source = Torn { bytes: archive(5 * CHUNK), reads: Arc::clone(&reads) };
    let checkpoint = LoadOptions::new().source(source).unwrap();
    let storage = storage_of(&checkpoint);
    let driver = Simulated::new(1, 1 << 20);
    let cuda = cuda(&driver);
    cuda.upload(host(&storage), 0).unwrap();
    for left in 0..5 {
        reads.store(left, Ordering::Relaxed);
        let error = cuda.upload(host(&storage), 0).unwrap_err();
        assert_eq!((error.kind(), error.record()), (ErrorKind::Io, Some("data/0")), "{error}");
        assert!(error.to_string().contains("the disk is gone"), "{error}");
        assert_eq!((driver.used(0), driver.buffers()), (0, 0));
    }
}

#[test]
fn a_device_without_room_is_named_with_what_was_asked_and_what_is_free() {
    let driver = Simulated::new(2, 1500);
    let cuda = cuda(&driver);
    let storage = lent(1003);
    let first = cuda.upload(host(&storage), 1).unwrap();
    let error = cuda.upload(host(&storage), 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Backend);
    assert_eq!(
        error.to_string(),
        "cuda:1 cannot take memory for a storage of 1003 bytes (497 of its 1500 bytes are free): \
         CUDA_ERROR_OUT_OF_MEMORY (out of memory)"
    );
    drop(first);
    cuda.upload(host(&storage), 1).unwrap();
}

#[test]
fn what_is_pinned_already_is_copied_from_where_it_lies() {
    let driver = Simulated::new(1, 1 << 20).all_pinned(true);
    let storage = storage_of(&Checkpoint::from_bytes(archive(1003)).unwrap());
    let placed = cuda(&driver).upload(host(&storage), 0).unwrap();
    let alloc = Call::Alloc { nbytes: 1003 };
    let upload = Call::UploadNow { nbytes: 1003 };
    assert_eq!(driver.calls(), [Call::Open { device: 0 }, alloc, upload, Call::Mark]);
    assert_eq!(*placed.to_host().unwrap(), bytes(1003));
}

#[test]
fn without_pinned_downloads_nothing_is_pinned_for_them() {
    let driver = Simulated::new(1, 1 << 20).all_pinned(true);
    let storage = storage_of(&Checkpoint::from_bytes(archive(1003)).unwrap());
    let placed = cuda(&driver).pinned_downloads(false).upload(host(&storage), 0).unwrap();
    driver.calls();
    assert_eq!(*placed.to_host().unwrap(), bytes(1003));
    assert_eq!(driver.calls(), [Call::Reach, Call::DownloadNow { nbytes: 1003 }]);
    assert_eq!(driver.buffers(), 0);
}

#[test]
fn threads_place_storages_beside_each_other() {
    let driver = Simulated::new(2, 1 << 20);
    let cuda = cuda(&driver);
    std::thread::scope(|scope| {
        for thread in 0..8_usize {
            let cuda = &cuda;
            scope.spawn(move || {
                for round in 0..20 {
                    let nbytes = SIZES[(thread + round) % SIZES.len()];
                    let storage = storage_of(&Checkpoint::from_bytes(archive(nbytes)).unwrap());
                    let index = u32::try_from(thread % 2).unwrap();
                    let placed = cuda.upload(host(&storage), index).unwrap();
                    assert_eq!(*placed.to_host().unwrap(), bytes(nbytes));
                }
            });
        }
    });
    assert_eq!((driver.used(0), driver.used(1)), (0, 0));
    // Two lanes of two buffers and sixteen small ones are kept for each device.
    assert!(driver.buffers() <= 72);
}

#[test]
fn large_buffers_are_filled_by_several_threads() {
    let nbytes = (9 << 20) + 3;
    let driver = Simulated::new(1, 1 << 30);
    let storage = storage_of(&Checkpoint::from_bytes(archive(nbytes)).unwrap());
    let placed = Cuda::of(driver.clone()).chunk(5 << 20).upload(host(&storage), 0).unwrap();
    assert_eq!(*placed.to_host().unwrap(), bytes(nbytes));
}

#[test]
fn other_byte_orders_and_deflated_records_arrive_in_this_machines_order() {
    for name in ["dtypes.pt", "dtypes_big.pt", "views_big.pt", "deflated.pt", "mixed_deflate.pt"] {
        let checkpoint = Checkpoint::open(fixture(name)).unwrap();
        // A buffer that cuts elements in two.
        for chunk in [10, CHUNK] {
            let cuda = Cuda::of(Simulated::new(1, 1 << 20)).chunk(chunk);
            for (_, tensor) in checkpoint.tensors() {
                let Some(storage) = tensor.storage() else { continue };
                let host = HostStorage::new(storage, tensor.dtype());
                let placed = cuda.upload(host, 0).unwrap();
                assert_eq!(*placed.to_host().unwrap(), host.to_vec().unwrap(), "{name}, {storage:?}");
            }
        }
    }
}

#[test]
fn the_registry_places_each_storage_once_and_tags_it() {
    let driver = Simulated::new(2, 1 << 20);
    let registry = Registry::linked().unwrap().without("cuda").with(cuda(&driver)).unwrap();
    let checkpoint = Checkpoint::open(fixture("shared.pt")).unwrap();
    let restored = checkpoint.restore(&registry, &"cuda:1".into()).unwrap();
    let allocated = driver.calls().iter().filter(|call| matches!(call, Call::Alloc { .. })).count();
    assert_eq!(allocated, checkpoint.storages().iter().filter(|storage| storage.nbytes() > 0).count());
    assert!(checkpoint.tensors().count() > checkpoint.storages().len());
    for (_, placed) in restored.iter() {
        assert_eq!(registry.tag(&**placed).unwrap().as_str(), "cuda:1");
    }
    // No index is the first.
    let restored = checkpoint.restore(&registry, &"cuda".into()).unwrap();
    assert!(restored.locations().all(|location| location.as_str() == "cuda:0"));
    let refused = |location: &str| {
        checkpoint.restore(&registry, &MapLocation::from(location)).map(drop).unwrap_err().to_string()
    };
    let text = refused("cuda:2");
    assert!(text.contains("CUDA device 2, but the number of cuda devices is 2"), "{text}");
    assert!(refused("cuda:x").contains("no backend claims"));
}

#[test]
fn an_absent_driver_is_an_answer() {
    let cuda = cuda(&Simulated::new(0, 0));
    assert_eq!(cuda.availability(), Availability::Unavailable("no driver is simulated".into()));
    let storage = lent(4);
    let error = cuda.restore(host(&storage), &"cuda:0".into()).map(drop).unwrap_err().to_string();
    assert!(error.contains("cuda is not available: no driver is simulated"), "{error}");
    assert!(cuda.upload(host(&storage), 0).is_err());
    assert!(cuda.restore(host(&storage), &"cpu".into()).unwrap().is_none());
    // The machine's own: whatever it answers, it does not panic.
    match Cuda::<Native>::new().availability() {
        Availability::Devices(count) => assert!(count > 0),
        Availability::Unavailable(why) => {
            println!("skipped on CUDA: {why}");
            assert!(why.contains("driver"), "{why}");
        }
        other => panic!("{other:?}"),
    }
}
