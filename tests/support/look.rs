//! Touches everything that an open checkpoint offers, within bounds that a careful caller would set: what the
//! fuzzers and the mutation tests do with whatever opens.

#![allow(dead_code, reason = "each test binary takes what it needs")]

use std::collections::VecDeque;
use std::hint::black_box;

use ptser::{
    ByteOrder, Checkpoint, DType, Error, ErrorKind, Globals, Limits, LoadOptions, MapLocation, Registry,
    Tensor, TensorKind, Value, ValueKind,
};

/// Values that are visited, at most.
const VALUES: usize = 2_000;
/// Bytes that are read of one storage or tensor, and of all.
const BYTES: usize = 1 << 20;
const BYTES_IN_ALL: usize = 8 << 20;

/// What a caller who expects small files allows.
pub(crate) fn limits() -> Limits {
    Limits::default()
        .pickle_bytes(1 << 20)
        .records(10_000)
        .tensors_listed(10_000)
        .names_bytes(1 << 20)
        .expanded_bytes(1 << 20)
}

/// Strict, lenient, inert, and one of everything. What the first opens, the second and third open too; the last
/// needs more of the file.
pub(crate) fn policies() -> [LoadOptions; 4] {
    let with = |globals, lenient| LoadOptions::new().limits(limits()).globals(globals).lenient(lenient);
    [
        with(Globals::weights_only(), false),
        with(Globals::weights_only(), true),
        with(Globals::inert(), false),
        with(Globals::inert(), true).computed_offsets(true).default_byte_order(ByteOrder::Big),
    ]
}

/// Opens a file under every policy, looks at all of it, and scans it. A laxer policy opens what a stricter one does,
/// and a scan finds all globals that opening finds. Tells whether the strictest opens it.
pub(crate) fn open_every_way(file: &[u8]) -> bool {
    let policies = policies();
    let [strict, lenient, inert, everything] = policies.each_ref().map(|options| {
        let opened = options.from_bytes(file.to_vec());
        match &opened {
            Ok(checkpoint) => look(checkpoint),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        opened
    });
    if let Ok(checkpoint) = &everything {
        deserialize(checkpoint);
    }
    let scan = policies[0].unsafe_globals_in_bytes(file.to_vec());
    let Ok(strict) = strict else { return false };
    for laxer in [lenient, inert] {
        assert!(laxer.is_ok(), "refused by the laxer policy: {:?}", laxer.err());
    }
    let scan = scan.expect("what opens can be scanned");
    for (name, verdict) in strict.globals() {
        let found = scan.globals.iter().any(|global| global.name == name && global.verdict == verdict);
        assert!(found, "{name}, {verdict:?}, is not in the scan: {:?}", scan.globals);
    }
    true
}

/// Lists and reads all that is there. Errors must be of a kind that reading can have.
pub(crate) fn look(checkpoint: &Checkpoint) {
    let mut left = BYTES_IN_ALL;
    for entry in checkpoint.entries().chain(checkpoint.arrays()) {
        assert!(entry.tensor().is_some() || entry.error().is_some(), "{} is nothing", entry.name());
        black_box((entry.path(), entry.is_part(), entry.error().map(ToString::to_string)));
        if let Some(tensor) = entry.tensor() {
            read_tensor(tensor, &mut left);
        }
    }
    for storage in checkpoint.storages() {
        black_box((storage.key(), storage.location(), storage.byte_order(), format!("{storage:?}")));
        expected(storage.checkpoint_offset());
        if take(&mut left, storage.nbytes()) {
            expected(storage.to_vec());
            expected(storage.to_vec_as(DType::Int32, ByteOrder::Big));
        }
    }
    values(checkpoint.root());
    if let Ok(Some(constants)) = checkpoint.constants() {
        values(constants);
    }
    black_box((checkpoint.globals().count(), checkpoint.protocol(), checkpoint.root_folder().len()));
    black_box((checkpoint.archive_offset(), checkpoint.end_offset(), checkpoint.byte_order()));
    for record in checkpoint.records().take(100) {
        black_box((checkpoint.note(record.name), record.size, record.crc32));
    }
    expected(checkpoint.tensor("no such tensor"));
    expected(checkpoint.state_dict_at("model.state_dict"));
    if let Ok(state_dict) = checkpoint.state_dict() {
        black_box((state_dict.names().count(), state_dict.nearest("weight").len()));
    }
    let on_meta = || checkpoint.restore(&Registry::linked()?, &MapLocation::from("meta"));
    expected(on_meta());
}

fn read_tensor(tensor: &Tensor, left: &mut usize) {
    black_box((format!("{tensor:?}"), tensor.layout(), tensor.is_contiguous(), tensor.numel()));
    for (_, part) in tensor.parts() {
        black_box((part.shape(), part.stride()));
    }
    let size = tensor.storage().map_or(0, |storage| storage.nbytes());
    let nbytes = u64::try_from(tensor.nbytes()).unwrap_or(u64::MAX);
    if !take(left, size) || !take(left, nbytes) {
        // A view of more than its storage is refused before anything is read.
        return if nbytes > size.saturating_add(1 << 20) {
            expected(tensor.to_contiguous())
        };
    }
    if let Ok(bytes) = tensor.to_contiguous() {
        assert_eq!(bytes.len(), tensor.nbytes());
        // Every byte is one that was read: a sanitizer sees those that are not.
        black_box(bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)));
    }
    expected(tensor.to_contiguous());
    expected(tensor.to_contiguous_in(ByteOrder::Big));
    if matches!(tensor.kind(), TensorKind::Quantized(_)) {
        expected(tensor.dequantize());
    }
    for dtype in [DType::Float32, DType::Float16, DType::Bool] {
        expected(tensor.cast(dtype).and_then(|cast| cast.to_contiguous().map(|bytes| bytes.len())));
    }
}

fn take(left: &mut usize, bytes: u64) -> bool {
    let bytes = usize::try_from(bytes).ok().filter(|bytes| bytes <= left && *bytes <= BYTES);
    *left -= bytes.unwrap_or(0);
    bytes.is_some()
}

fn expected<T>(result: Result<T, Error>) {
    if let Err(error) = result {
        assert!(!error.to_string().is_empty());
        assert_ne!(error.kind(), ErrorKind::Refused, "{error}");
    }
}

/// Every accessor of every value, breadth first; a cycle ends with the count.
fn values(root: Value<'_>) {
    let mut waiting = VecDeque::from([root]);
    for count in 0..VALUES {
        let Some(value) = waiting.pop_front() else { return };
        // What is shared and shared again is long wherever it is spelled.
        black_box((count < 4).then(|| value.to_string()));
        black_box((value.type_name(), value.len(), value.is_mapping()));
        black_box((value.class(), value.source(), value.is_empty(), value.is(root)));
        black_box((value.as_str().is_ok(), value.as_i64().is_ok(), value.as_f64().is_ok()));
        black_box((value.as_bool().is_ok(), value.as_bytes().is_ok(), value.as_tensor().is_ok()));
        black_box((value.find("model").is_some(), value.get("model").is_ok(), value.index(1).is_ok()));
        black_box(value.as_dtensor().is_some_and(|dtensor| dtensor.is_whole()));
        if let ValueKind::BigInt(int) = value.kind() {
            black_box(int.to_string());
        }
        waiting.extend(children(value).take(VALUES));
    }
}

/// Reads all values into one of a caller's own; not done for every policy, since lists that are shared and shared
/// again may take half a million members.
fn deserialize(checkpoint: &Checkpoint) {
    #[cfg(feature = "serde")]
    black_box(checkpoint.root().deserialize::<serde_json::Value>().is_ok());
    black_box(checkpoint);
}

/// What a value holds, in order.
pub(crate) fn children(value: Value<'_>) -> impl Iterator<Item = Value<'_>> {
    let pairs = value.entries().chain(value.attributes()).chain(value.assigned());
    let items = value.items().chain(value.args()).chain(value.appended()).chain(value.states());
    items.chain(value.kwargs()).chain(pairs.flat_map(|(key, value)| [key, value]))
}
