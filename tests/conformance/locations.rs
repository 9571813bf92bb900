//! Checkpoints of machines with accelerators, on one that has none.

use std::io::Cursor;

use ptser::{Availability, Checkpoint, ErrorKind, LoadOptions, Location, MapLocation, Registry};

use crate::given;

/// The ways to say that everything goes to the host, as PyTorch knows them.
fn to_the_host() -> Vec<MapLocation> {
    vec![
        MapLocation::with(|storage, location| {
            assert_eq!((storage.location(), location.as_str()), (location, "cuda:0"));
            Ok(Some(Location::cpu()))
        }),
        [("cuda:0", "cpu")].into(),
        "cpu".into(),
        Location::cpu().into(),
    ]
}

#[test]
fn test_serialization_map_location() {
    let registry = Registry::linked().unwrap();
    for name in ["gpu_tensors.pt", "gpu_tensors_legacy.pt"] {
        for map_location in to_the_host() {
            let options = LoadOptions::new().map_location(map_location);
            for checkpoint in [
                options.open(given::path(name)).unwrap(),
                options.from_bytes(given::bytes(name)).unwrap(),
                options.read(Cursor::new(given::bytes(name))).unwrap(),
            ] {
                let tensor = checkpoint.root().as_tensor().unwrap();
                assert_eq!(given::floats(tensor), [1.0, 2.0, 3.0, 4.0]);
                let storage = tensor.storage().unwrap();
                // The tag stays with the storage in the file; what is restored has a place of its own.
                assert_eq!(storage.location().as_str(), "cuda:0");
                let restored = checkpoint.restore(&registry, &MapLocation::recorded()).unwrap();
                let placed = restored.get(storage).unwrap();
                assert_eq!(placed.location(), Location::cpu());
                assert_eq!(registry.tag(&**placed).unwrap(), Location::cpu());
                assert_eq!(placed.to_host().unwrap(), storage.to_vec().unwrap());
            }
        }
    }
}

#[test]
fn test_load_nonexistent_device() {
    let registry = Registry::linked().unwrap();
    if let Some(cuda) = registry.backend(&"cuda".into())
        && matches!(cuda.availability(), Availability::Devices(1..))
    {
        println!("test_load_nonexistent_device: skipped, CUDA is there");
        return;
    }
    for name in ["gpu_tensors.pt", "gpu_tensors_legacy.pt"] {
        let told = given::facts(name)["refusal"].as_str().unwrap();
        assert!(told.contains("Attempting to deserialize object on a CUDA device"), "{told}");
        // The file opens and its data can be read: only placing it where it was cannot be done.
        let checkpoint = given::open(name);
        assert_eq!(given::floats(checkpoint.root().as_tensor().unwrap()), [1.0, 2.0, 3.0, 4.0]);
        let restore =
            |checkpoint: &Checkpoint| checkpoint.restore(&registry, &MapLocation::recorded()).map(drop);
        let error = restore(&checkpoint).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Backend);
        let text = error.to_string();
        assert!(text.contains("cuda:0") && text.contains("map_location(\"cpu\")"), "{text}");
        if cfg!(feature = "cuda") {
            assert!(text.contains("attempting to deserialize an object on a CUDA device"), "{text}");
            assert!(text.contains("cuda is not available"), "{text}");
        } else {
            assert!(text.contains("enable feature `cuda`"), "{text}");
        }
    }
}
