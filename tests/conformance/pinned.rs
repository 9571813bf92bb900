//! Storages on their way from CUDA devices into files: through pinned memory or not, over a simulated driver.

use std::sync::Arc;

use ptser::{Checkpoint, Object, Registry, SaveOptions};
use ptser_backend_cuda::Cuda;
use ptser_backend_cuda::simulated::{Call, Simulated};

use crate::given;

/// Saves what a checkpoint has from a device, and gives the file and what the driver was asked for meanwhile.
fn saved_from_device(given: &Checkpoint, pinned: bool) -> (Vec<u8>, Vec<Call>) {
    let driver = Simulated::new(1, 1 << 20);
    let cuda = Cuda::of(driver.clone()).chunk(16).pinned_downloads(pinned);
    let registry = Registry::linked().unwrap().without("cuda").with(cuda).unwrap();
    let restored = given.restore(&registry, &"cuda:0".into()).unwrap();
    let moved: Vec<_> = given
        .tensors()
        .map(|(name, tensor)| {
            let storage = tensor.storage().unwrap();
            let placed = Arc::clone(restored.get(storage).unwrap());
            let storage = registry.storage(placed, storage.dtype()).unwrap();
            (name.to_owned(), tensor.clone().with_storage(storage).unwrap())
        })
        .collect();
    driver.calls();
    let file = SaveOptions::new().to_bytes(&Object::dict(moved)).unwrap();
    (file, driver.calls())
}

#[test]
fn test_use_pinned_memory_for_d2h() {
    // The parameters of a linear layer, and what else PyTorch's own tests keep in one list.
    for name in ["many_devices.pt", "both_new.pt"] {
        let given = given::open(name);
        let (pinned, calls) = saved_from_device(&given, true);
        let nbytes = |call: &Call| match *call {
            Call::Download { nbytes, .. } => nbytes,
            Call::DownloadNow { .. } => panic!("{name}: {call:?} is not pinned"),
            _ => 0,
        };
        let read: usize = calls.iter().map(nbytes).sum();
        let (unpinned, calls) = saved_from_device(&given, false);
        let nbytes = |call: &Call| match *call {
            Call::DownloadNow { nbytes } => nbytes,
            Call::Reach => 0,
            _ => panic!("{name}: {call:?}"),
        };
        assert_eq!(calls.iter().map(nbytes).sum::<usize>(), read);
        assert!(read > 0);
        // The same file either way, with what PyTorch had saved.
        assert!(pinned == unpinned, "{name}");
        let again = Checkpoint::from_bytes(pinned).unwrap();
        assert!(again.storages().iter().all(|storage| storage.location().as_str() == "cuda:0"));
        assert_eq!(again.tensors().count(), given.tensors().count());
        for (name, tensor) in given.tensors() {
            let came = again.tensor(name).unwrap();
            assert_eq!(came.to_contiguous().unwrap(), tensor.to_contiguous().unwrap(), "{name}");
        }
    }
}
