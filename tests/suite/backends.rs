//! What every linked backend promises. Devices that are not there are left out aloud; the logic of their backends is
//! held to the same over simulated drivers.

use std::collections::HashMap;
use std::sync::Arc;

use ptser::{
    Availability, Checkpoint, DType, DeviceStorage, Error, ErrorKind, HostBytes, HostStorage, LoadOptions,
    Location, MapLocation, Object, Registry, Result, SaveOptions, Storage, Tensor,
};

use crate::{build, fixtures};

/// A registry and a device that is there by it.
type Device = (Registry, Location);

fn linked() -> Registry {
    Registry::linked().unwrap()
}

/// The devices of all linked backends, those without an index first; and those of simulated drivers.
fn devices(test: &str) -> Vec<Device> {
    let linked = linked();
    let mut devices = Vec::new();
    for backend in linked.backends() {
        match backend.availability() {
            Availability::Devices(count) => devices.extend(locations(backend.name(), count, &linked)),
            Availability::Unavailable(why) => println!("{test}: skipped on {}: {why}", backend.name()),
            other => panic!("{other:?}"),
        }
    }
    assert!(devices.len() >= 2, "the host is always there");
    devices.extend(simulated());
    devices
}

fn locations(name: &str, count: u32, registry: &Registry) -> Vec<Device> {
    let indexed = (0..count).map(|index| format!("{name}:{index}"));
    std::iter::once(name.to_owned())
        .chain(indexed)
        .map(|location| (registry.clone(), Location::new(location)))
        .collect()
}

/// Registries in which simulated drivers have the places of real ones.
fn simulated() -> Vec<Device> {
    #[cfg_attr(not(any(feature = "cuda", feature = "metal")), expect(unused_mut, reason = "none is linked"))]
    let mut devices = Vec::new();
    #[cfg(feature = "cuda")]
    {
        use ptser_backend_cuda::{Cuda, simulated::Simulated};
        // Staging buffers that most storages do not fit into.
        let cuda = Cuda::of(Simulated::new(2, 1 << 30)).chunk(1000);
        devices.extend(locations("cuda", 2, &linked().without("cuda").with(cuda).unwrap()));
    }
    #[cfg(feature = "metal")]
    {
        use ptser_backend_metal::{Metal, simulated::Simulated};
        let metal = Metal::of(Simulated::new());
        devices.extend(locations("mps", 1, &linked().without("mps").with(metal).unwrap()));
    }
    devices
}

/// Looks at a placed storage: where it is, what it is called, how long it is, and its bytes, if it has any.
fn check(what: &str, (registry, location): &Device, placed: &dyn DeviceStorage, expected: &[u8]) {
    for is in [placed.location(), registry.tag(placed).unwrap()] {
        assert_eq!(is.device(), location.device(), "{what}");
        assert_eq!(is.index().unwrap_or(0), location.index().unwrap_or(0), "{what}");
    }
    assert_eq!(placed.nbytes(), u64::try_from(expected.len()).unwrap(), "{what} on {location}");
    match placed.to_host() {
        Ok(bytes) => assert!(*bytes == *expected, "{what} on {location}: other bytes"),
        Err(error) => {
            assert_eq!((location.device(), error.kind()), ("meta", ErrorKind::Backend), "{what}: {error}");
        }
    }
}

fn bytes(nbytes: usize) -> Vec<u8> {
    (0..nbytes).map(|place| u8::try_from(place * 31 % 251).unwrap()).collect()
}

#[test]
fn every_element_type_comes_back_and_what_shares_there_shares_here() {
    let files = [
        ("zip", ["dtypes.pt", "dtypes_big.pt", "views.pt", "shared.pt", "deflated.pt", "mixed_deflate.pt"]),
        (
            "legacy",
            ["dtypes.pt", "shared.pt", "views.pt", "torch01.tar", "torch03_views.pt", "dtypes.safetensors"],
        ),
    ];
    let paths: Vec<_> = files
        .iter()
        .flat_map(|(folder, names)| names.iter().map(move |name| fixtures::folder().join(folder).join(name)))
        .collect();
    for device in devices("every_element_type_comes_back_and_what_shares_there_shares_here") {
        for path in &paths {
            let checkpoint = Checkpoint::open(path).unwrap();
            let restored = checkpoint.restore(&device.0, &device.1.clone().into()).unwrap();
            assert_eq!(restored.iter().len(), checkpoint.storages().len());
            let mut places = HashMap::new();
            for (name, tensor) in checkpoint.tensors() {
                let Some(storage) = tensor.storage() else { continue };
                let placed = restored.get(storage).unwrap();
                let first = *places.entry(storage.id()).or_insert(Arc::as_ptr(placed).cast::<()>());
                assert_eq!(first, Arc::as_ptr(placed).cast(), "{}: {name}", path.display());
                let expected = HostStorage::new(storage, tensor.dtype()).to_vec().unwrap();
                check(&format!("{}: {name}", path.display()), &device, &**placed, &expected);
            }
            let mut apart: Vec<_> = places.values().collect();
            apart.sort_unstable();
            apart.dedup();
            assert_eq!(apart.len(), places.len(), "{}", path.display());
        }
        for &dtype in DType::ALL {
            let expected = bytes(dtype.element_size() * 7);
            let storage = Storage::from_bytes(None, Location::cpu(), expected.clone());
            let placed = device.0.restore(HostStorage::new(&storage, dtype), &device.1).unwrap();
            check(dtype.name(), &device, &*placed, &expected);
        }
    }
}

#[test]
fn every_size_comes_back_from_memory_from_files_and_from_mappings() {
    let folder = tempfile::tempdir().unwrap();
    let devices = devices("every_size_comes_back_from_memory_from_files_and_from_mappings");
    for nbytes in [0, 1, 2, 3, 63, 999, 1000, 1001, 4095, 4096, 4097, 16383, 16384, 16385, (1 << 20) + 1] {
        let expected = bytes(nbytes);
        let lent = Storage::from_bytes(None, Location::cpu(), expected.clone());
        let tensor = Tensor::contiguous(lent.clone(), DType::UInt8, [nbytes]).unwrap();
        let mut sources = vec![("memory", lent)];
        // Records that begin where pages do can be used where they lie.
        for (name, alignment) in [("at 64", 64), ("at pages", 16384)] {
            let path = folder.path().join(format!("{nbytes}_{alignment}.pt"));
            let object = Object::dict([("t", tensor.clone())]);
            SaveOptions::new().alignment(alignment).save(&path, &object).unwrap();
            for mmap in [false, true] {
                let checkpoint = LoadOptions::new().mmap(mmap).open(&path).unwrap();
                sources.push((name, checkpoint.storages()[0].clone()));
            }
        }
        for device in &devices {
            for (name, storage) in &sources {
                let placed = device.0.restore(HostStorage::new(storage, DType::UInt8), &device.1).unwrap();
                check(&format!("{nbytes} bytes, {name}"), device, &*placed, &expected);
            }
        }
    }
}

/// What is placed needs nothing of the checkpoint that it came from.
#[test]
fn what_is_placed_outlives_its_checkpoint_and_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.pt");
    let expected = bytes(100_000);
    let storage = Storage::from_bytes(None, Location::cpu(), expected.clone());
    let object = Object::dict([("t", Tensor::contiguous(storage, DType::UInt8, [expected.len()]).unwrap())]);
    for device in devices("what_is_placed_outlives_its_checkpoint_and_its_file") {
        SaveOptions::new().alignment(16384).save(&path, &object).unwrap();
        let checkpoint = LoadOptions::new().mmap(true).open(&path).unwrap();
        let placed = Arc::clone(
            checkpoint.restore(&device.0, &device.1.clone().into()).unwrap().iter().next().unwrap().1,
        );
        drop(checkpoint);
        std::fs::remove_file(&path).unwrap();
        check("an orphan", &device, &*placed, &expected);
    }
}

#[test]
fn what_is_saved_from_a_device_goes_back_there() {
    for device in devices("what_is_saved_from_a_device_goes_back_there") {
        let (registry, location) = &device;
        let checkpoint = fixtures::open("shared.pt");
        let restored = checkpoint.restore(registry, &location.clone().into()).unwrap();
        if location.device() == "meta" {
            // No bytes, nothing to save: `registry::storages_on_devices_are_saved_where_they_are`.
            continue;
        }
        let moved = restored.iter().map(|(storage, placed)| {
            let moved = registry.storage(Arc::clone(placed), storage.dtype()).unwrap();
            (storage.id(), moved)
        });
        let moved: HashMap<usize, Storage> = moved.collect();
        let tensors = checkpoint.tensors().map(|(name, tensor)| {
            let storage = moved[&tensor.storage().unwrap().id()].clone();
            (name.to_owned(), tensor.clone().with_storage(storage).unwrap())
        });
        let saved = SaveOptions::new().to_bytes(&Object::dict(tensors)).unwrap();
        let again = Checkpoint::from_bytes(saved).unwrap();
        assert_eq!(again.storages().len(), checkpoint.storages().len());
        let restored = again.restore(registry, &MapLocation::recorded()).unwrap();
        for (storage, placed) in restored.iter() {
            assert_eq!(*storage.location(), registry.tag(&**placed).unwrap());
            check("saved again", &device, &**placed, &storage.to_vec().unwrap());
        }
    }
}

#[test]
fn an_index_beyond_the_count_and_an_absent_device_are_refused_and_placed_nowhere() {
    let storage = Storage::from_bytes(None, Location::cpu(), bytes(4));
    let refused = |registry: &Registry, location: &str, said: &str| {
        let placed = registry.restore(HostStorage::new(&storage, DType::UInt8), &location.into());
        let error = placed.map(drop).expect_err(location);
        assert_eq!(error.kind(), ErrorKind::Backend, "{location}");
        let text = error.to_string();
        assert!(text.starts_with(said), "{text}");
        assert!(text.contains("load with map_location"), "{text}");
    };
    let check = |registry: &Registry| {
        for backend in registry.backends() {
            let (name, shown) = (backend.name(), backend.name().to_uppercase());
            match backend.availability() {
                Availability::Devices(count) => {
                    for index in [count, u32::MAX] {
                        let said = format!(
                            "attempting to deserialize an object on {shown} device {index}, but the number of {name} \
                             devices is {count}"
                        );
                        refused(registry, &format!("{name}:{index}"), &said);
                    }
                }
                Availability::Unavailable(why) => {
                    for location in [name.to_owned(), format!("{name}:0"), format!("{name}:7")] {
                        let said = format!(
                            "attempting to deserialize an object on a {shown} device ({location}), but {name} is not \
                             available: {why}"
                        );
                        refused(registry, &location, &said);
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    };
    check(&linked());
    for (registry, _) in simulated() {
        check(&registry);
    }
}

#[test]
fn a_backend_declines_what_is_not_its_own() {
    struct Foreign;
    impl DeviceStorage for Foreign {
        fn location(&self) -> Location {
            Location::new("elsewhere")
        }

        fn nbytes(&self) -> u64 {
            0
        }

        fn to_host(&self) -> Result<std::borrow::Cow<'_, [u8]>> {
            panic!("nobody asked")
        }

        fn as_any(&self) -> &dyn std::any::Any {
            self
        }
    }

    let storage = Storage::from_host(None, Location::cpu(), Broken);
    let registry = linked();
    for backend in registry.backends() {
        assert_eq!(backend.tag(&Foreign), None, "{}", backend.name());
        for location in ["elsewhere", "elsewhere:0", "", &format!("{}x", backend.name())] {
            // Nothing is read of what is declined.
            let placed = backend.restore(HostStorage::new(&storage, DType::UInt8), &location.into()).unwrap();
            assert!(placed.is_none(), "{} took {location:?}", backend.name());
        }
        for other in registry.backends().filter(|other| other.name() != backend.name()) {
            let location = Location::new(other.name());
            assert!(backend.restore(HostStorage::new(&storage, DType::UInt8), &location).unwrap().is_none());
        }
    }
}

/// Bytes that cannot be had.
struct Broken;

impl HostBytes for Broken {
    fn nbytes(&self) -> u64 {
        5000
    }

    fn with_bytes(&self, _: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        Err(Error::misuse("they cannot be had"))
    }
}

#[test]
fn a_storage_that_cannot_be_read_is_an_error_of_its_own_and_the_device_goes_on() {
    for device in devices("a_storage_that_cannot_be_read_is_an_error_of_its_own_and_the_device_goes_on") {
        let broken = Storage::from_host(None, Location::cpu(), Broken);
        match device.0.restore(HostStorage::new(&broken, DType::UInt8), &device.1) {
            Ok(placed) => assert_eq!((device.1.device(), placed.nbytes()), ("meta", 5000)),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Misuse, "{error}");
                assert!(error.to_string().contains("they cannot be had"), "{error}");
            }
        }
        let whole = Storage::from_bytes(None, Location::cpu(), bytes(5000));
        let placed = device.0.restore(HostStorage::new(&whole, DType::UInt8), &device.1).unwrap();
        check("after an error", &device, &*placed, &bytes(5000));
    }
}

#[test]
fn threads_place_and_fetch_beside_each_other() {
    let expected = bytes(100_001);
    let storage = Storage::from_bytes(None, Location::cpu(), expected.clone());
    for device in devices("threads_place_and_fetch_beside_each_other") {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let (device, storage, expected) = (&device, &storage, &expected);
                scope.spawn(move || {
                    let placed =
                        device.0.restore(HostStorage::new(storage, DType::UInt8), &device.1).unwrap();
                    check("beside others", device, &*placed, expected);
                });
            }
        });
    }
}

/// As PyTorch saves `[torch.zeros(2, dtype=torch.uint8), x, x.view(torch.uint8)]`, where `x` is of uint16: its storage has
/// no type, and its numbers are turned round as such whichever of the calls are read at once.
#[test]
fn an_untyped_storage_is_what_the_first_tensor_makes_of_it() {
    let pickle = b"\x80\x02]q\0(ctorch._utils\n_rebuild_tensor_v2\nq\x01((X\x07\0\0\0storageq\x02ctorch\nByteStorage\n\
        q\x03X\x01\0\0\x000q\x04X\x03\0\0\0cpuq\x05K\x02tq\x06QK\0K\x02\x85q\x07K\x01\x85q\x08\x89ccollectio\
        ns\nOrderedDict\nq\x09)Rq\ntq\x0bRq\x0cctorch._utils\n_rebuild_tensor_v3\nq\x0d((h\x02ctorch.stora\
        ge\nUntypedStorage\nq\x0eX\x01\0\0\x001q\x0fh\x05K\x08tq\x10QK\0K\x04\x85q\x11K\x01\x85q\x12\x89h\x09\
        )Rq\x13ctorch\nuint16\nq\x14tq\x15Rq\x16h\x01((h\x02h\x03h\x0fh\x05K\x08tq\x17QK\0K\x08\x85q\x18K\x01\
        \x85q\x19\x89h\x09)Rq\x1atq\x1bRq\x1ce.";
    let records: [build::Record<'_>; 5] = [
        ("data.pkl", pickle),
        ("byteorder", b"big"),
        ("data/0", &[0; 2]),
        ("data/1", &[0, 1, 0, 2, 0, 3, 0, 4]),
        ("version", b"3\n"),
    ];
    let checkpoint = Checkpoint::from_bytes(build::archive("archive", &records)).unwrap();
    let restored = checkpoint.restore(&linked(), &"cpu".into()).unwrap();
    let placed = restored.get(checkpoint.tensor("1").unwrap().storage().unwrap()).unwrap();
    assert_eq!(*placed.to_host().unwrap(), *[1_u16, 2, 3, 4].map(u16::to_ne_bytes).as_flattened());
}
