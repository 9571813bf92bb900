//! Tensors and storages of every kind.

use ptser::{Checkpoint, DType, Object, SaveOptions, Storage, Tensor};

use super::{by_default, check_all, entries, floats, objects, path_of, raw, shared_views_on, storage};

#[test]
fn tensors_are_written_as_pytorch_writes_them() {
    check_all(all());
}

pub(super) fn all() -> Vec<(String, SaveOptions, Object)> {
    let mut all = by_default([plain(), views(), parameters(), storages(), read()].concat());
    for dtype in untyped() {
        all.push((format!("of_{dtype}"), SaveOptions::new(), raw(dtype, &[1, 2]).into()));
    }
    all
}

/// The types without a storage class, as the fixture lists them.
fn untyped() -> Vec<DType> {
    use DType as D;
    vec![
        D::UInt16,
        D::UInt32,
        D::UInt64,
        D::Complex32,
        D::BComplex32,
        D::Float8E4M3Fn,
        D::Float8E4M3Fnuz,
        D::Float8E5M2,
        D::Float8E5M2Fnuz,
        D::Float8E8M0Fnu,
        D::Float4E2M1FnX2,
        D::Bits8,
        D::Bits16,
        D::Bits1x8,
        D::Bits2x4,
        D::Bits4x2,
    ]
}

fn numbers() -> Vec<DType> {
    use DType as D;
    vec![
        D::Float64,
        D::Float32,
        D::Float16,
        D::BFloat16,
        D::Int64,
        D::Int32,
        D::Int16,
        D::Int8,
        D::UInt8,
        D::Bool,
    ]
}

fn by_name(dtypes: impl IntoIterator<Item = DType>) -> Object {
    Object::dict(dtypes.into_iter().map(|dtype| (dtype.name(), raw(dtype, &[3]))))
}

fn plain() -> Vec<(&'static str, Object)> {
    let typed = [numbers(), vec![DType::Complex64, DType::Complex128]].concat();
    vec![
        ("tensor", floats(&[2, 3]).into()),
        ("scalar", raw(DType::Float64, &[]).into()),
        ("empty", Object::list([floats(&[0]), raw(DType::Int64, &[0, 3])])),
        ("typed", by_name(typed)),
        ("untyped", by_name(untyped())),
        ("gradients", {
            let with = |dtype| raw(dtype, &[2]).with_requires_grad(true);
            Object::list([with(DType::Float32), with(DType::Complex64), floats(&[2])])
        }),
        ("descriptor_in_data", {
            let of = |bytes: &'static [u8]| {
                let storage = Storage::from_bytes(Some(DType::UInt8), "cpu".into(), bytes);
                Tensor::contiguous(storage, DType::UInt8, [bytes.len()]).unwrap()
            };
            Object::list([of(b"PK\x07\x08abcdefgh"), of(b"PK\x07\x08abc"), of(b"PK\x07\x08abcd")])
        }),
    ]
}

/// A view of a storage.
fn view(of: &Storage, dtype: DType, shape: &[usize], stride: &[usize], offset: usize) -> Tensor {
    Tensor::view(of.clone(), dtype, shape, stride, offset).unwrap()
}

fn views() -> Vec<(&'static str, Object)> {
    let matrix = storage(DType::Int64, 12);
    let of = |shape: &[usize], stride: &[usize], offset| view(&matrix, DType::Int64, shape, stride, offset);
    let halves = storage(DType::UInt16, 8);
    let column = storage(DType::Float32, 2);
    let whole = Object::from(raw(DType::Int64, &[3, 4]));
    vec![
        (
            "views",
            Object::dict(entries![
                "t" => of(&[4, 3], &[1, 4], 0),
                "row" => of(&[4], &[1], 4),
                "step" => of(&[3, 2], &[4, 2], 0),
                "one" => of(&[], &[], 11),
                "expand" => view(&column, DType::Float32, &[2, 3], &[1, 0], 0),
                "none" => of(&[0, 4], &[4, 1], 12),
                "odd" => of(&[2, 1], &[5, 99], 1),
            ]),
        ),
        (
            "untyped_views",
            Object::list([
                view(&halves, DType::UInt16, &[6], &[1], 2),
                view(&halves, DType::Float8E5M2, &[2], &[1], 3),
                view(&halves, DType::UInt16, &[1], &[1], 0),
            ]),
        ),
        ("shared_views", shared_views_on("cpu")),
        ("one_tensor_twice", Object::list([whole.clone(), whole.clone(), Object::dict([("again", whole)])])),
    ]
}

fn parameters() -> Vec<(&'static str, Object)> {
    let parameter = |tensor: Tensor| tensor.with_parameter(true).with_requires_grad(true);
    let data = floats(&[2, 2]);
    let weight = Object::from(parameter(data.clone()));
    let slice = view(&storage(DType::Float32, 6), DType::Float32, &[2], &[1], 2);
    let marked = Object::tensor_with(
        parameter(floats(&[2])),
        entries!["note" => "sharded", "scale" => floats(&[1]), "parts" => Object::list([1, 2])],
    );
    let origin = Object::dict(entries!["file" => "a.bin", "mask" => raw(DType::Bool, &[2])]);
    let plain = Object::tensor_with(raw(DType::Int32, &[3]), [("origin", origin)]);
    let eighths = Object::tensor_with(raw(DType::Float8E5M2, &[3]), [("scale", 0.5)]);
    let note = Object::dict([("note", plain.clone())]);
    let pair = floats(&[2]);
    let second = view(pair.storage().unwrap(), DType::Float32, &[1], &[1], 1);
    vec![
        (
            "parameters",
            Object::dict(entries![
                "weight" => weight.clone(),
                "tied" => weight,
                "frozen" => floats(&[2]).with_parameter(true),
                "slice" => parameter(slice),
                "data" => data,
            ]),
        ),
        ("attributes", Object::list([marked.clone(), plain, marked, eighths, note])),
        (
            "attributes_of_one_storage",
            Object::tensor_with(pair, entries!["other" => floats(&[2]), "view_of" => second]),
        ),
    ]
}

fn storages() -> Vec<(&'static str, Object)> {
    let (short, octets) = (storage(DType::Int16, 6), storage(DType::UInt8, 5));
    let nothing = storage(DType::Float32, 0);
    vec![
        (
            "storages_untyped",
            Object::list([
                Object::storage(storage(DType::Float32, 6), None),
                Object::storage(storage(DType::UInt8, 3), None),
            ]),
        ),
        (
            "storages_typed",
            Object::list(objects![
                Object::storage(short.clone(), Some(DType::Int16)),
                view(&short, DType::Int16, &[6], &[1], 0),
                view(&short, DType::Int16, &[4], &[1], 2),
                Object::storage(storage(DType::Int32, 0), Some(DType::Int32)),
            ]),
        ),
        (
            "bytes_and_storage",
            Object::list(objects![view(&octets, DType::UInt8, &[5], &[1], 0), Object::storage(octets, None)]),
        ),
        ("empty_storages", Object::list(numbers().into_iter().map(|dtype| raw(dtype, &[0])))),
        (
            "empty_of_two_types",
            Object::list(objects![
                view(&nothing, DType::Float32, &[0], &[1], 0),
                view(&nothing, DType::Int32, &[0], &[1], 0),
                Object::storage(nothing, None),
            ]),
        ),
    ]
}

/// Tensors that no constructor makes are read, and put in new objects.
fn read() -> Vec<(&'static str, Object)> {
    let open = |name: &str| Checkpoint::open(path_of(name)).unwrap();
    let tensors = |name: &str, names: &[&'static str]| {
        let checkpoint = open(name);
        Object::dict(names.iter().map(|&name| (name, checkpoint.tensor(name).unwrap().clone())))
    };
    let sparse = open("sparse");
    let coo = Object::from(sparse.tensor("coo").unwrap().clone());
    let mut layouts: Vec<(Object, Object)> = vec![("coo".into(), coo.clone())];
    for name in ["coalesced", "csr", "csc", "bsr", "bsc"] {
        layouts.push((name.into(), sparse.tensor(name).unwrap().clone().into()));
    }
    layouts.push(("again".into(), coo));
    let halves = open("half_conj");
    vec![
        ("conj_neg", tensors("conj_neg", &["conj", "neg", "both", "plain"])),
        ("half_conj", Object::list(halves.tensors().map(|(_, tensor)| tensor.clone()))),
        ("meta", tensors("meta", &["a", "b", "p"])),
        ("sparse", Object::dict(layouts)),
        ("quantized", tensors("quantized", &["tensor", "wide", "channel", "float", "four"])),
    ]
}

/// Types without a storage class are saved by bytes, and so are storages of them.
#[test]
fn storages_of_types_without_a_class_are_saved_as_bytes() {
    let shorts = storage(DType::UInt16, 4);
    let view = view(&shorts, DType::UInt16, &[4], &[1], 0);
    let saved = |dtype| {
        let storage = Object::storage(shorts.clone(), dtype);
        SaveOptions::new().to_bytes(&Object::list(objects![view.clone(), storage])).unwrap()
    };
    assert!(saved(None) == saved(Some(DType::UInt16)));
    let checkpoint = Checkpoint::from_bytes(saved(Some(DType::UInt16))).unwrap();
    assert_eq!(checkpoint.storages()[0].nbytes(), 8);
}

/// In the other byte order numbers are turned by the type that they are saved as, whatever their storage was called.
#[test]
fn big_endian_files_hold_the_same_numbers() {
    let bytes: Vec<u8> = (0..16).collect();
    for own in [None, Some(DType::UInt8), Some(DType::Float32)] {
        let storage = Storage::from_bytes(own, "cpu".into(), bytes.clone());
        let tensor = Tensor::contiguous(storage, DType::Float32, [4]).unwrap();
        let half = view(&Storage::from_bytes(own, "cpu".into(), bytes.clone()), DType::UInt16, &[8], &[1], 0);
        let object = Object::list([tensor, half]);
        for order in [ptser::ByteOrder::Little, ptser::ByteOrder::Big] {
            let saved = SaveOptions::new().byte_order(order).to_bytes(&object).unwrap();
            let found = Checkpoint::from_bytes(saved).unwrap();
            assert_eq!(found.byte_order(), order);
            for (name, tensor) in found.tensors() {
                let native = tensor.to_contiguous_in(ptser::ByteOrder::NATIVE).unwrap();
                assert_eq!(*native, *bytes, "{name} of {own:?} {order:?}");
            }
        }
    }
}
