//! Shapes and sizes without data: nothing of a storage is read that nobody asks for.

use std::sync::{Arc, Mutex};

use ptser::backends::meta::MetaStorage;
use ptser::{Checkpoint, LoadOptions, Location, ReadAt, Registry};

use crate::given;
use crate::large::{Sparse, by_place};
use crate::readers::Counting;

/// What is read of a file, by what is done with it: offset and length.
fn reads_of(name: &str, work: impl FnOnce(Checkpoint)) -> Vec<(u64, u64)> {
    let reads = Arc::new(Mutex::new(Vec::new()));
    let source = Counting { source: Sparse::open(name, by_place), reads: Arc::clone(&reads) };
    assert!(source.size() > 1 << 25);
    work(LoadOptions::new().source(source).unwrap());
    reads.lock().unwrap().clone()
}

/// No read but those of blocks that end or begin beside a storage touches it.
fn check_untouched(name: &str, reads: &[(u64, u64)]) {
    let facts = given::facts(name);
    let largest = facts["offsets"].as_object().unwrap().values().next().unwrap().as_u64().unwrap();
    let block = 128 << 10;
    assert!(!reads.is_empty());
    for &(offset, len) in reads {
        assert!(offset + len < largest + block || offset > largest + (1 << 25), "{len} bytes at {offset}");
    }
    let total: u64 = reads.iter().map(|(_, len)| len).sum();
    assert!(total < 4 * block, "{total} bytes");
}

#[test]
fn test_map_location_meta_skips_storage_read() {
    let registry = Registry::linked().unwrap();
    for name in ["stress.segments", "two_gigabytes.segments", "four_gigabytes.segments"] {
        let facts = given::facts(name);
        let reads = reads_of(name, |checkpoint| {
            let restored = checkpoint.restore(&registry, &"meta".into()).unwrap();
            for (tensor_name, tensor) in checkpoint.tensors() {
                assert_eq!(serde_json::json!(tensor.shape()), facts["shapes"][tensor_name], "{tensor_name}");
                let placed = restored.get(tensor.storage().unwrap()).unwrap();
                assert_eq!(placed.location(), Location::meta());
                assert_eq!(placed.nbytes(), u64::try_from(tensor.nbytes()).unwrap());
                let meta = placed.as_any().downcast_ref::<MetaStorage>().unwrap();
                assert_eq!(serde_json::json!(meta.checkpoint_offset()), facts["offsets"][tensor_name]);
            }
        });
        check_untouched(name, &reads);
    }
}

/// A checkpoint without its data: sizes are right, and no data has been read.
#[test]
fn test_skip_data_load() {
    for name in ["stress.segments", "two_gigabytes.segments"] {
        let reads = reads_of(name, |checkpoint| {
            for (_, tensor) in checkpoint.tensors() {
                assert_eq!(tensor.storage().unwrap().nbytes(), u64::try_from(tensor.nbytes()).unwrap());
            }
            assert_eq!(checkpoint.state_dict().unwrap().len(), checkpoint.tensors().count());
        });
        check_untouched(name, &reads);
    }
    // The parts of a subclass have their sizes too.
    let two = given::inert("two_tensor_protocol2.pt");
    let sizes: Vec<(&str, u64)> =
        two.tensors().filter_map(|(name, tensor)| Some((name, tensor.storage()?.nbytes()))).collect();
    assert_eq!(sizes, [("t..a", 8), ("t..b", 8)]);
}
