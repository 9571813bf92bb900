//! Python's plain values, in every size, and which of them are one object.

use ptser::{DType, Layout, Location, Object, SaveOptions};

use super::{by_default, check_all, entries, floats, objects};

#[test]
fn values_are_written_as_pytorch_writes_them() {
    check_all(all());
}

pub(super) fn all() -> Vec<(String, SaveOptions, Object)> {
    let mut all = by_default([scalars(), texts(), bytes(), containers(), identities(), torchs()].concat());
    for count in [0, 1, 2, 999, 1000, 1001, 2000, 2001] {
        let none = || (0..count).map(|key| (Object::from(key), Object::none()));
        for (kind, object) in [
            ("list", Object::list(0..count)),
            ("dict", Object::dict(none())),
            ("ordered", Object::ordered_dict(none())),
        ] {
            all.push((format!("{kind}_{count}"), SaveOptions::new(), object));
        }
    }
    all
}

fn scalars() -> Vec<(&'static str, Object)> {
    vec![
        ("none", Object::none()),
        ("flags", Object::list(objects![true, false, Object::none()])),
        ("integers", Object::list(integers())),
        ("floats", Object::list([0.0, -0.0, 1.5, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1e308, 5e-324])),
        ("complexes", Object::list([Object::complex(1.0, 2.0), Object::complex(0.0, f64::NEG_INFINITY)])),
    ]
}

/// Around each power of two at which the spelling of integers changes.
fn integers() -> Vec<Object> {
    let mut integers: Vec<Object> = [0, 1, -1, 255, 256, 65535, 65536, -128, -129].map(Object::from).into();
    for bits in [31, 32, 63, 64, 127, 128, 2032, 2039, 2040, 2047] {
        // Two's complement, a byte longer than it needs to be.
        let mut power = vec![0; bits / 8 + 2];
        power[bits / 8] = 1_u8 << (bits % 8);
        let mut below = vec![0xFF; bits / 8];
        below.extend([power[bits / 8] - 1, 0]);
        let complement = |bytes: &[u8]| bytes.iter().map(|byte| !byte).collect::<Vec<u8>>();
        let (minus, beyond) = (complement(&below), complement(&power));
        integers.extend([below, power, minus, beyond].map(|bytes| Object::big_int(&bytes)));
    }
    integers
}

fn texts() -> Vec<(&'static str, Object)> {
    let long = |letter: &str, count| Object::from(letter.repeat(count));
    vec![
        (
            "texts",
            Object::list(objects![
                "",
                "a",
                "é",
                "模型",
                "😀",
                "two words\n\\",
                long("x", 300),
                long("y", 70000)
            ]),
        ),
        ("texts_once", Object::list(objects!["lr", "lr", String::from("lr"), String::from("lr")])),
        // CPython has one text of each of the first 256 letters, and one without any.
        ("texts_of_one_letter", Object::list(["", "", "a", "a", "é", "模", "模"].map(str::to_owned))),
    ]
}

fn bytes() -> Vec<(&'static str, Object)> {
    let every: Vec<u8> = (0..=255).collect();
    let one = |bytes: &[u8]| Object::bytes(bytes);
    let array = |bytes: &[u8]| Object::byte_array(bytes);
    vec![
        ("bytes", Object::list([one(b""), one(b"a"), one(&every), one(&[0; 300])])),
        ("bytes_alone", one(b"alone")),
        ("bytes_empty", one(b"")),
        (
            "bytes_once",
            Object::list(objects![
                "latin1",
                one(b"ab"),
                one(b"cd"),
                one(b"a"),
                one(b"a"),
                one(b""),
                one(b"")
            ]),
        ),
        ("byte_arrays", Object::list([array(b""), array(b"abc"), array(&every), array(b"")])),
    ]
}

fn containers() -> Vec<(&'static str, Object)> {
    let (empty, no_ints) = (Object::tuple::<Object>([]), Vec::<i64>::new());
    let deep = Object::dict([("c", Object::list(no_ints))]);
    vec![
        ("set", Object::set([7])),
        ("sets", Object::list([Object::set::<i64>([]), Object::set([1, 2, 3]), Object::set(0..2001)])),
        (
            "tuples",
            Object::list([
                Object::tuple::<i64>([]),
                Object::tuple([1]),
                Object::tuple([1, 2]),
                Object::tuple([1, 2, 3]),
                Object::tuple([1, 2, 3, 4]),
                Object::tuple([empty]),
                Object::tuple(0..1001),
            ]),
        ),
        (
            "nested",
            Object::dict(entries![
                "a" => Object::list([Object::dict([("b", Object::tuple([deep]))])]),
                "d" => Object::dict::<Object, Object>([]),
            ]),
        ),
        ("ordered", Object::ordered_dict(entries!["a" => 1, "b" => Object::list([2])])),
        (
            "ordered_attributes",
            Object::ordered_dict_with([("a", 1)], entries!["note" => "kept", "version" => 3]),
        ),
    ]
}

fn identities() -> Vec<(&'static str, Object)> {
    let one = Object::list([1, 2]);
    let again = Object::dict([("again", one.clone())]);
    let both = Object::tuple([one.clone(), one.clone()]);
    let pair = Object::tuple(objects![1, "pair"]);
    let inner = Object::dict([("x", 1)]);
    let mut ladder = Object::list([inner.clone(), inner]);
    for _ in 0..20 {
        ladder = Object::list([ladder.clone(), ladder]);
    }
    vec![
        ("one_list_twice", Object::list([one.clone(), one, again, both])),
        ("one_tuple_twice", Object::list([pair.clone(), pair.clone(), Object::dict([(pair.clone(), pair)])])),
        ("ladder", ladder),
    ]
}

fn torchs() -> Vec<(&'static str, Object)> {
    let dtypes = [
        DType::Float32,
        DType::BFloat16,
        DType::Int4,
        DType::UInt7,
        DType::QUInt8,
        DType::Float8E4M3Fn,
        DType::Float32,
    ];
    let layouts = [Layout::Strided, Layout::SparseCoo, Layout::SparseCsr, Layout::Strided, Layout::Jagged];
    vec![
        (
            "names_of_pytorch",
            Object::dict(entries![
                "storage" => floats(&[2]),
                "cpu" => floats(&[1]),
                "0" => floats(&[1]),
                "neg" => 1,
                "torch.strided" => 2,
            ]),
        ),
        ("dtypes", Object::list(dtypes)),
        ("sizes", Object::list([Object::size([]), Object::size([2, 3]), Object::size([4])])),
        ("devices", Object::list(["cpu", "cuda:0", "cuda", "meta"].map(Location::from))),
        ("layouts", Object::list(layouts)),
        (
            "globals",
            Object::list([
                Object::global("torch", "Tensor"),
                Object::global("collections", "OrderedDict"),
                Object::global("torch", "per_tensor_affine"),
                Object::global("builtins", "set"),
                Object::global("collections", "OrderedDict"),
            ]),
        ),
    ]
}
