//! Big-endian files give the same numbers as little-endian ones, whatever the machine.

use ptser::{
    ByteOrder, Checkpoint, DType, ErrorKind, LoadOptions, Location, Reason, SaveOptions, StateDict, Storage,
    Tensor,
};

use crate::build;
use crate::fixtures;

const PAIRS: [(&str, &str); 2] = [("dtypes.pt", "dtypes_big.pt"), ("views.pt", "views_big.pt")];

#[test]
fn big_endian_files_hold_the_values_of_their_little_endian_twins() {
    for (little, big) in PAIRS {
        let (little, big) = (fixtures::open(little), fixtures::open(big));
        assert_eq!(big.byte_order(), ByteOrder::Big);
        assert_eq!(fixtures::contents(&little), fixtures::contents(&big));
        for order in [ByteOrder::Little, ByteOrder::Big] {
            let read = |checkpoint: &Checkpoint| -> Vec<Vec<u8>> {
                let values = |tensor: &Tensor| tensor.to_contiguous_in(order).unwrap().into_owned();
                checkpoint.tensors().map(|(_, tensor)| values(tensor)).collect()
            };
            assert_eq!(read(&little), read(&big), "{order:?}");
        }
    }
}

#[test]
fn the_other_order_is_the_number_reversed_and_halves_of_complex_numbers_keep_theirs() {
    let checkpoint = fixtures::open("dtypes.pt");
    for (name, tensor) in checkpoint.tensors() {
        let little = tensor.to_contiguous().unwrap();
        let mut big = tensor.to_contiguous_in(ByteOrder::Big).unwrap().into_owned();
        swap(&mut big, tensor.dtype().swap_unit());
        assert_eq!(*little, *big, "{name}");
    }
}

fn swap(bytes: &mut [u8], unit: usize) {
    bytes.chunks_exact_mut(unit).for_each(<[u8]>::reverse);
}

#[test]
fn signs_are_resolved_in_both_orders() {
    let checkpoint = fixtures::open("conj_neg.pt");
    for (name, tensor) in checkpoint.tensors() {
        let little = tensor.to_contiguous().unwrap();
        let mut big = tensor.to_contiguous_in(ByteOrder::Big).unwrap().into_owned();
        swap(&mut big, tensor.dtype().swap_unit());
        assert_eq!(*little, *big, "{name}");
    }
}

#[test]
fn without_a_byteorder_record_the_callers_order_holds() {
    let number = 1.5_f32;
    let pickle = build::dict_of("w", &build::tensor(&build::storage("0", 1), 0, &[1], &[1]));
    let data = number.to_be_bytes();
    let archive = build::archive("archive", &[("data.pkl", &pickle), ("data/0", &data), ("version", b"3\n")]);
    let read = |order| {
        let checkpoint = LoadOptions::new().default_byte_order(order).from_bytes(archive.clone()).unwrap();
        checkpoint.tensor("w").unwrap().to_contiguous().unwrap().into_owned()
    };
    assert_eq!(read(ByteOrder::Big), number.to_le_bytes());
    assert_eq!(read(ByteOrder::Little), number.to_be_bytes());
}

#[test]
fn an_unknown_byteorder_is_quoted() {
    for word in ["Little", "little\n", "middle", ""] {
        let archive =
            build::archive("archive", &[("data.pkl", b"\x80\x02N."), ("byteorder", word.as_bytes())]);
        let error = Checkpoint::from_bytes(archive).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed);
        assert_eq!(error.record(), Some("byteorder"));
        assert!(matches!(error.reason(), Reason::ByteOrder { found } if found == word), "{error}");
    }
}

#[test]
fn a_storage_that_is_viewed_as_numbers_of_two_sizes_keeps_its_order() {
    let other = if ByteOrder::NATIVE == ByteOrder::Little { ByteOrder::Big } else { ByteOrder::Little };
    let storage = Storage::from_bytes(None, Location::cpu(), (0..32).collect::<Vec<u8>>());
    let view = |dtype, count| Tensor::contiguous(storage.clone(), dtype, [count]).unwrap();
    let save = |second: Tensor, order| {
        let both = [("one", view(DType::UInt32, 8)), ("two", second)];
        SaveOptions::new().byte_order(order).to_bytes(&StateDict::from_iter(both))
    };
    for order in [ByteOrder::NATIVE, other] {
        save(view(DType::UInt32, 8), order).unwrap();
    }
    save(view(DType::UInt16, 16), ByteOrder::NATIVE).unwrap();
    let error = save(view(DType::UInt16, 16), other).expect_err("it is saved");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("of 4 and of 2 bytes"), "{error}");
}
