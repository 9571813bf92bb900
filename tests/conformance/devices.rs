//! Storages on devices: a test's own, and CUDA where there is one.

use std::sync::{Arc, Mutex};

use ptser::{Availability, Checkpoint, ErrorKind, LoadOptions, Location, MapLocation, Tensor};

use crate::given;
use crate::shelf::{places, registry};

/// The forms in which a device can be named for a checkpoint of `cuda:0`.
fn forms(device: &str) -> Vec<(MapLocation, Location)> {
    let (any, first) = (Location::new(device), Location::new(format!("{device}:0")));
    let to = first.clone();
    vec![
        ([("cuda:0", first.clone())].into(), first.clone()),
        (device.into(), any.clone()),
        (first.as_str().into(), first.clone()),
        (any.clone().into(), any),
        (first.clone().into(), first.clone()),
        (MapLocation::with(move |_, _| Ok(Some(to.clone()))), first),
    ]
}

/// The number of CUDA devices; where there is none it says that a test leaves it out.
fn cuda_devices(test: &str) -> u32 {
    match registry().backend(&"cuda".into()).map(ptser::Backend::availability) {
        Some(Availability::Devices(count @ 1..)) => count,
        Some(Availability::Unavailable(why)) => {
            println!("{test}: skipped on CUDA: {why}");
            0
        }
        _ => {
            println!("{test}: skipped on CUDA: the feature `cuda` is not enabled");
            0
        }
    }
}

fn check_at(checkpoint: &Checkpoint, map_location: &MapLocation, device: &Location) {
    let restored = checkpoint.restore(&registry(), map_location).unwrap();
    for (storage, placed) in restored.iter() {
        let (location, wanted) = (placed.location(), device.index().unwrap_or(0));
        assert_eq!((location.device(), location.index().unwrap_or(0)), (device.device(), wanted));
        assert_eq!(registry().tag(&**placed).unwrap(), location);
        assert_eq!(placed.to_host().unwrap(), storage.to_vec().unwrap());
    }
    assert_eq!(restored.iter().len(), checkpoint.storages().len());
}

#[test]
fn test_serialization_map_location() {
    let cuda = cuda_devices("test_serialization_map_location");
    for name in ["gpu_tensors.pt", "gpu_tensors_legacy.pt"] {
        for mmap in [false, true] {
            let checkpoint = LoadOptions::new().mmap(mmap).open(given::path(name)).unwrap();
            for device in ["cpu", "shelf"].into_iter().chain((cuda > 0).then_some("cuda")) {
                for (map_location, location) in forms(device) {
                    check_at(&checkpoint, &map_location, &location);
                }
            }
            check_at(&checkpoint, &"shelf:1".into(), &"shelf:1".into());
            if cuda > 0 {
                check_at(&checkpoint, &MapLocation::recorded(), &"cuda:0".into());
            }
        }
    }
}

#[test]
fn test_serialization_map_location_multi_device() {
    let checkpoint = given::open("many_devices.pt");
    let registry = registry();
    let tags: Vec<&str> = checkpoint.storages().iter().map(|storage| storage.location().as_str()).collect();
    assert_eq!(tags, ["cuda:0", "cuda:1", "cpu", "xpu:0"]);
    let restore = |map: &MapLocation| checkpoint.restore(&registry, map);
    // What a table does not have stays where it was.
    let table = [("cuda:0", "shelf:1"), ("cuda:1", "shelf:0"), ("xpu:0", "shelf")];
    let restored = restore(&table.into()).unwrap();
    assert_eq!(places(&restored), ["shelf:1", "shelf:0", "cpu", "shelf:0"]);
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let by_index = MapLocation::with(move |storage, location| {
        seen.lock().unwrap().push(storage.key().to_owned());
        Ok(location.index().map(|index| Location::new(format!("shelf:{index}"))))
    });
    let restored = restore(&by_index).unwrap();
    assert_eq!(places(&restored), ["shelf:0", "shelf:1", "cpu", "shelf:0"]);
    // Once for each storage, though two tensors view the second.
    assert_eq!(*asked.lock().unwrap(), ["0", "1", "2", "3"]);
    let placed = |name: &str| {
        let tensor: &Tensor = checkpoint.tensor(name).unwrap();
        restored.get(tensor.storage().unwrap()).unwrap()
    };
    assert!(Arc::ptr_eq(placed("1"), placed("4")));
    assert_eq!(placed("4").to_host().unwrap(), checkpoint.storages()[1].to_vec().unwrap());

    let error = restore(&"shelf:2".into()).map(drop).unwrap_err();
    assert_eq!((error.kind(), error.record()), (ErrorKind::Backend, Some("data/0")));
    let text = error.to_string();
    assert!(text.contains("SHELF device 2, but the number of shelf devices is 2"), "{text}");
    let error = restore(&[("cuda:0", "cpu"), ("cuda:1", "cpu")].into()).map(drop).unwrap_err();
    assert!(error.to_string().contains("no backend claims `xpu:0`"), "{error}");
    let cuda = cuda_devices("test_serialization_map_location_multi_device");
    for index in 0..cuda {
        let device = Location::new(format!("cuda:{index}"));
        check_at(&checkpoint, &device.clone().into(), &device);
    }
}

#[test]
fn test_tensor_subclass_map_location() {
    let class = "torch.testing._internal.two_tensor.TwoTensor";
    let checkpoint = given::allowing("two_tensor_protocol2.pt", &[class]).unwrap();
    let value = checkpoint.root().get("t").unwrap();
    let cuda = cuda_devices("test_tensor_subclass_map_location");
    for device in ["shelf:1"].into_iter().chain((cuda > 0).then_some("cuda:0")) {
        let restored = checkpoint.restore(&registry(), &device.into()).unwrap();
        for key in ["a", "b"] {
            let part = value.get(key).unwrap().as_tensor().unwrap().storage().unwrap();
            assert_eq!(restored.get(part).unwrap().location().as_str(), device);
        }
        // The next call is not told.
        let restored = checkpoint.restore(&registry(), &MapLocation::recorded()).unwrap();
        assert_eq!(places(&restored), ["cpu", "cpu"]);
    }
}

#[test]
fn test_serialization_mmap_loading_with_map_location() {
    let cuda = cuda_devices("test_serialization_mmap_loading_with_map_location");
    for name in ["gpu_tensors.pt", "gpu_tensors_legacy.pt"] {
        let mapped = LoadOptions::new().mmap(true).open(given::path(name)).unwrap();
        let storage = mapped.root().as_tensor().unwrap().storage().unwrap();
        assert_eq!(storage.location().as_str(), "cuda:0");
        for device in ["cpu", "shelf:0", "shelf:1"].into_iter().chain((cuda > 0).then_some("cuda:0")) {
            check_at(&mapped, &device.into(), &device.into());
        }
        if cfg!(feature = "meta") {
            let restored = mapped.restore(&registry(), &"meta".into()).unwrap();
            let placed = restored.get(storage).unwrap();
            assert_eq!((placed.location(), placed.nbytes()), (Location::meta(), 16));
            assert_eq!(placed.to_host().unwrap_err().kind(), ErrorKind::Backend);
        }
    }
}
