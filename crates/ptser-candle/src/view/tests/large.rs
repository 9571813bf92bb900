//! Views in storages of more than 2^24 elements, where candle's `f32` miscounts the steps of an unfold: each one is
//! exact, or none and then copied.

use candle_core::{Device, Tensor};

use super::super::{as_strided, gather, storage_key};
use super::assert_views;
use super::{How, view_or_copy};

/// The number up to which `f32` counts each integer.
const EXACT: usize = 1 << 24;

/// A storage whose elements tell their positions apart, but for multiples of 251.
fn bytes(len: usize) -> Vec<u8> {
    (0..=250).cycle().take(len).collect()
}

fn base(bytes: &[u8]) -> Tensor {
    Tensor::from_slice(bytes, bytes.len(), &Device::Cpu).unwrap()
}

/// The bytes of a view of two axes.
fn expected(bytes: &[u8], size: [usize; 2], stride: [usize; 2], offset: usize) -> Vec<u8> {
    let row = |row| (0..size[1]).map(move |column| bytes[offset + row * stride[0] + column * stride[1]]);
    (0..size[0]).flat_map(row).collect()
}

/// Asserts that the view is exact if there is one and that the copy is right, and tells which of them is given.
fn check(bytes: &[u8], size: [usize; 2], stride: [usize; 2], offset: usize) -> How {
    let base = base(bytes);
    let copy = gather(&base, &size, &stride, offset).unwrap();
    let values = copy.flatten_all().unwrap().to_vec1::<u8>().unwrap();
    assert!(copy.dims() == size && values == expected(bytes, size, stride, offset));

    let (tensor, how) = view_or_copy(&base, &size, &stride, offset).unwrap();
    match how {
        How::View => assert_views(&tensor, &base, &size, &stride, offset),
        How::Copied => assert!(tensor.dims() == size && storage_key(&tensor) != storage_key(&base)),
    }
    how
}

#[test]
fn rows_and_columns_of_a_large_matrix_are_views() {
    let bytes = bytes(5000 * 5000);
    assert_eq!(check(&bytes, [5000, 3], [5000, 1], 4997), How::View);
    assert_eq!(check(&bytes, [5000, 1250], [5000, 4], 3), How::View);
    assert_eq!(check(&bytes, [5000, 4], [1, 5000], 0), How::View);
    assert_eq!(check(&bytes, [1, 5000], [1, 5001], 0), How::View);
    assert_eq!(check(&bytes, [5000, 2500], [1, 10_000], 5000), How::View);
}

#[test]
fn steps_that_unfold_loses_are_found_by_rows_where_the_storage_has_room() {
    assert_eq!(check(&bytes(EXACT + 2), [1, EXACT / 2 + 1], [1, 2], 0), How::View);
    // rows that start before the view does
    assert_eq!(check(&bytes(EXACT + 20), [1, 2_396_748], [1, 7], 6), How::View);
    // unfold inside a row
    assert_eq!(check(&bytes(EXACT + 17), [5_592_411, 2], [3, 2], 0), How::View);
}

#[test]
fn steps_that_unfold_loses_are_no_loss_where_it_makes_more_than_needed() {
    assert_eq!(check(&bytes(EXACT + 7), [1, 5_592_408], [1, 3], 0), How::View);
    assert_eq!(check(&bytes(EXACT + 22), [7, 1_525_199], [9, 11], 0), How::View);
}

#[test]
fn windows_longer_than_f32_counts_are_views() {
    assert_eq!(check(&bytes(EXACT + 2), [2, EXACT + 1], [1, 1], 0), How::View);
}

#[test]
fn a_view_that_unfold_misses_at_the_end_of_the_storage_is_copied() {
    let bytes = bytes(EXACT + 1);
    let steps = EXACT / 2 + 1;
    assert!(as_strided(&base(&bytes), &[steps], &[2], 0).unwrap().is_none());
    assert_eq!(check(&bytes, [1, steps], [7, 2], 0), How::Copied);
}

#[test]
fn a_repeated_axis_is_not_written_out_by_the_copy() {
    let bytes = bytes(EXACT + 1);
    let steps = EXACT / 2 + 1;
    let (copy, how) = view_or_copy(&base(&bytes), &[1 << 30, steps], &[0, 2], 0).unwrap();
    assert_eq!(how, How::Copied);
    assert_eq!((copy.dims(), copy.stride()), (&[1 << 30, steps][..], &[0, 1][..]));
}

#[test]
fn views_around_the_limit_of_f32_are_exact_or_copied() {
    for spare in [1, 6] {
        let bytes = bytes(EXACT + spare);
        for stride in [3, 1021] {
            for offset in [0, stride] {
                // to the last element: one per step, and windows of two that overlap or leave gaps
                let steps = (bytes.len() - 1 - offset) / stride + 1;
                check(&bytes, [1, steps], [1, stride], offset);
                let steps = (bytes.len() - 1 - offset - (stride + 1)) / stride + 1;
                check(&bytes, [steps, 2], [stride, stride + 1], offset);
            }
        }
    }
}
