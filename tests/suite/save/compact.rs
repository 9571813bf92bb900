//! Saving what is viewed, and no more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ptser::{
    ByteOrder, Checkpoint, DType, Format, Globals, HostBytes, LoadOptions, Location, Object,
    Result as PtserResult, SaveOptions, Storage, Tensor, Value, ValueKind,
};

use super::{entries, objects, storage};
use crate::build;

fn view(of: &Storage, dtype: DType, shape: &[usize], stride: &[usize], offset: usize) -> Tensor {
    Tensor::view(of.clone(), dtype, shape, stride, offset).unwrap()
}

/// Saved in both formats, and read again: the bytes of each storage.
fn sizes(object: &Object, check: impl Fn(&Checkpoint)) -> Vec<u64> {
    let mut all = Vec::new();
    for format in [Format::Zip, Format::Legacy] {
        let options = SaveOptions::new().format(format).unwrap().compact(true);
        let checkpoint = Checkpoint::from_bytes(options.to_bytes(object).unwrap()).unwrap();
        check(&checkpoint);
        let mut sizes: Vec<u64> = checkpoint.storages().iter().map(Storage::nbytes).collect();
        sizes.sort_unstable();
        all.push(sizes);
    }
    assert_eq!(all[0], all[1]);
    all.remove(0)
}

/// Each tensor of a list has the values that it had, and begins there.
fn same(tensors: &[Tensor], offsets: &[usize]) -> Vec<u64> {
    sizes(&Object::list(tensors.to_vec()), |checkpoint| {
        assert_eq!(checkpoint.tensors().count(), tensors.len());
        for (((name, found), tensor), offset) in checkpoint.tensors().zip(tensors).zip(offsets) {
            assert_eq!(found.to_contiguous().unwrap(), tensor.to_contiguous().unwrap(), "{name}");
            assert_eq!((found.stride(), found.storage_offset()), (tensor.stride(), *offset), "{name}");
        }
        let shared = |place: usize| {
            let storage = |tensor: &Tensor| tensor.storage().unwrap().id();
            let found: Vec<usize> = checkpoint.tensors().map(|(_, tensor)| storage(tensor)).collect();
            (found[0] == found[place], storage(&tensors[0]) == storage(&tensors[place]))
        };
        (1..tensors.len()).map(shared).for_each(|(found, was)| assert_eq!(found, was));
    })
}

#[test]
fn slices_are_cut_and_sharing_is_kept() {
    let (whole, other) = (storage(DType::Float32, 1000), storage(DType::Int64, 10));
    let of = |shape: &[usize], stride: &[usize], offset| view(&whole, DType::Float32, shape, stride, offset);
    assert_eq!(same(&[of(&[10], &[1], 10)], &[0]), [40]);
    assert_eq!(same(&[of(&[10], &[1], 10), of(&[15], &[1], 15)], &[0, 5]), [80]);
    assert_eq!(same(&[of(&[15], &[1], 15), of(&[10], &[1], 10)], &[5, 0]), [80]);
    // A transpose; a step; a repetition; a number.
    assert_eq!(same(&[of(&[3, 2], &[1, 3], 100)], &[0]), [24]);
    assert_eq!(same(&[of(&[3], &[7], 100)], &[0]), [60]);
    assert_eq!(same(&[of(&[3, 5], &[0, 1], 100)], &[0]), [20]);
    assert_eq!(same(&[of(&[], &[], 999)], &[0]), [4]);
    let longs = view(&other, DType::Int64, &[2], &[1], 4);
    assert_eq!(same(&[of(&[10], &[1], 10), longs], &[0, 0]), [16, 40]);
    // What is viewed as a whole stays as it is.
    assert_eq!(same(&[of(&[1], &[1], 5), of(&[1000], &[1], 0)], &[5, 0]), [4000]);
}

#[test]
fn views_without_elements_keep_nothing() {
    let whole = storage(DType::Float32, 100);
    let nothing = view(&whole, DType::Float32, &[0, 3], &[3, 1], 50);
    let slice = view(&whole, DType::Float32, &[2], &[1], 60);
    let object = Object::list([nothing.clone(), slice]);
    assert_eq!(sizes(&object, |checkpoint| assert_eq!(checkpoint.tensors().count(), 2)), [8]);
    let object = Object::list([nothing]);
    sizes(&object, |checkpoint| {
        assert_eq!(checkpoint.tensor("0").unwrap().shape(), [0, 3]);
    });
}

/// Types of different sizes over one untyped storage count from its first byte in units of their own.
#[test]
fn views_of_several_sizes_stay_where_they_are() {
    let whole = storage(DType::UInt16, 20);
    let shorts = view(&whole, DType::UInt16, &[2], &[1], 5);
    let octets = view(&whole, DType::Float8E5M2, &[3], &[1], 15);
    assert_eq!(same(&[shorts.clone(), octets.clone()], &[5, 15]), [18]);
    assert_eq!(same(&[octets, shorts], &[15, 5]), [18]);
}

#[test]
fn storages_that_stand_by_themselves_stay_whole() {
    let whole = storage(DType::Float32, 100);
    let slice = view(&whole, DType::Float32, &[2], &[1], 10);
    let storage = Object::storage(whole.clone(), Some(DType::Float32));
    let check = |checkpoint: &Checkpoint| {
        assert_eq!(checkpoint.tensor("0").unwrap().storage_offset(), 10);
    };
    assert_eq!(sizes(&Object::list(objects![slice.clone(), storage.clone()]), check), [400]);
    // Such a tuple is the user's, and says nothing of views.
    let tuple = Object::tuple(objects![storage, 10, Object::tuple([2]), Object::tuple([1])]);
    assert_eq!(sizes(&Object::list(objects![slice, tuple]), check), [400]);
}

#[test]
fn parameters_and_attributes_are_cut_too() {
    let whole = storage(DType::Float32, 100);
    let slice = |offset| view(&whole, DType::Float32, &[2], &[1], offset);
    let parameter = slice(20).with_parameter(true).with_requires_grad(true);
    let marked = Object::tensor_with(slice(30), entries!["part" => slice(28), "note" => "x"]);
    let object = Object::list(objects![parameter, marked]);
    let found = sizes(&object, |checkpoint| {
        let offsets: Vec<usize> = checkpoint.tensors().map(|(_, tensor)| tensor.storage_offset()).collect();
        assert_eq!(offsets, [0, 10, 8]);
        assert!(checkpoint.tensor("0").unwrap().is_parameter());
    });
    assert_eq!(found, [48]);
}

/// By default all of a storage is saved, as PyTorch saves it.
#[test]
fn without_being_asked_nothing_is_cut() {
    let slice = view(&storage(DType::Float32, 100), DType::Float32, &[2], &[1], 10);
    let saved = SaveOptions::new().to_bytes(&Object::from(slice)).unwrap();
    assert_eq!(Checkpoint::from_bytes(saved).unwrap().storages()[0].nbytes(), 400);
}

/// Bytes that are costly to have, and are counted.
struct Costly(Vec<u8>, Arc<AtomicUsize>);

impl HostBytes for Costly {
    fn nbytes(&self) -> u64 {
        u64::try_from(self.0.len()).unwrap()
    }

    fn with_bytes(&self, take: &mut dyn FnMut(&[u8]) -> PtserResult<()>) -> PtserResult<()> {
        self.1.fetch_add(1, Ordering::Relaxed);
        take(&self.0)
    }
}

/// However many bytes there are, whole or cut, turned round or not.
#[test]
fn bytes_of_devices_are_asked_for_once() {
    let bytes: Vec<u8> = (0_u32..5 << 20).map(|byte| byte.to_le_bytes()[0] ^ byte.to_le_bytes()[1]).collect();
    for compact in [false, true] {
        for order in [ByteOrder::Little, ByteOrder::Big] {
            let asked = Arc::new(AtomicUsize::new(0));
            let host = Costly(bytes.clone(), Arc::clone(&asked));
            let storage = Storage::from_host(Some(DType::Float32), Location::cpu(), host);
            let slice = view(&storage, DType::Float32, &[1 << 20], &[1], 3);
            let options = SaveOptions::new().compact(compact).byte_order(order);
            let saved = options.to_bytes(&Object::from(slice)).unwrap();
            assert_eq!(asked.load(Ordering::Relaxed), 1, "{compact} {order:?}");
            let found = Checkpoint::from_bytes(saved).unwrap();
            let native = found.tensor("").unwrap().to_contiguous_in(ByteOrder::NATIVE).unwrap().into_owned();
            assert!(native == bytes[12..12 + (4 << 20)], "{compact} {order:?}");
        }
    }
}

/// What a class of the file's own makes of a storage is its own affair: it may look anywhere in it.
#[test]
fn a_storage_that_unknown_code_is_given_is_kept_whole() {
    let known = build::tensor(&build::storage("0", 6), 2, &[2], &[1]);
    let own = build::call("mine.rebuild", &[&build::storage("0", 6), &build::int(4)]);
    let sizes = |own: &[u8]| -> Vec<u64> {
        let options = LoadOptions::new().globals(Globals::inert());
        let bytes = build::around(&build::pickle(&[b"](", &known, own, b"e"]));
        let saved = SaveOptions::new().compact(true).to_bytes(&options.from_bytes(bytes).unwrap()).unwrap();
        options.from_bytes(saved).unwrap().storages().iter().map(Storage::nbytes).collect()
    };
    assert_eq!(sizes(&own), [24]);
    assert_eq!(sizes(b"N"), [8]);
}

/// Integers in a value, and how many bytes storages have, in their order.
fn seen(value: Value<'_>) -> Vec<u64> {
    match value.kind() {
        ValueKind::Int(int) => vec![int.try_into().unwrap()],
        ValueKind::Storage(storage, _) => vec![storage.nbytes()],
        ValueKind::Object => value.args().flat_map(seen).collect(),
        _ => value.items().flat_map(seen).collect(),
    }
}

/// In files that others wrote, what makes a view may be a value too: it is what it was.
#[test]
fn arguments_that_are_values_too_are_kept() {
    let slice = build::tensor(&build::storage("0", 6), 2, &[2], &[1]);
    let arguments = slice.strip_suffix(b"R").unwrap();
    let of_type = |inner: &[u8], outer: &[u8]| {
        let arguments =
            slice.strip_prefix(b"ctorch._utils\n_rebuild_tensor_v2\n").unwrap().strip_suffix(b"R");
        let before = b"ctorch._tensor\n_rebuild_from_type_v2\n(ctorch._utils\n_rebuild_tensor_v2\n\
            ctorch.nn.parameter\nBuffer\n";
        [before, arguments.unwrap(), inner, b"}t", outer, b"R"].concat()
    };
    let named = build::storage("0", 6);
    let named = [named.strip_suffix(b"Q").unwrap(), b"q\x05Q"].concat();
    let again = [b"ctorch._utils\n_rebuild_tensor_v2\nh\x05\x81".as_slice(), b"h\x05"];
    let whole = [24, 2, 2, 1];
    // A tensor, what stands beside it, what that holds, and how many bytes are kept of the storage.
    type Case<'c> = (Vec<u8>, &'c [u8], &'c [u64], u64);
    let cases: [Case<'_>; 6] = [
        ([arguments, b"q\x05R"].concat(), again[1], &whole, 24),
        // What no function makes of them, but `__new__`.
        ([arguments, b"q\x05R"].concat(), again[0], &whole, 24),
        (of_type(b"q\x05", b""), again[1], &whole, 24),
        (of_type(b"", b"q\x05"), again[1], &whole, 24),
        (of_type(b"", b""), b"]", &[], 8),
        // Of a persistent id, which the new file has its own of.
        (build::tensor(&named, 2, &[2], &[1]), again[1], &[6], 8),
    ];
    let options = LoadOptions::new().globals(Globals::inert());
    for (tensor, value, expected, kept) in cases {
        let file = build::around(&build::pickle(&[b"](", &tensor, value, b"e"]));
        let saved =
            SaveOptions::new().compact(true).to_bytes(&options.from_bytes(file.clone()).unwrap()).unwrap();
        for (file, kept) in [(file, 24), (saved, kept)] {
            let checkpoint = options.from_bytes(file).unwrap();
            let (_, tensor) = checkpoint.tensors().next().unwrap();
            assert_eq!(
                *tensor.to_contiguous().unwrap(),
                *[2_f32, 3_f32].map(f32::to_le_bytes).as_flattened()
            );
            assert_eq!(tensor.storage().unwrap().nbytes(), kept);
            assert_eq!(seen(checkpoint.root().items().nth(1).unwrap()), expected);
        }
    }
}
