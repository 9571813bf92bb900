//! Views against an oracle that knows nothing of candle: over a base whose elements are their own positions, the
//! elements of a view are the positions that plain arithmetic gives.

mod large;
mod random;

use candle_core::{DType, Device, Result, Tensor, Var};

use super::{as_strided, copy, gather, storage_key};

/// How a tensor came to have its elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    View,
    Copied,
}

/// What callers do: a view if candle can express it, else a copy.
fn view_or_copy(base: &Tensor, size: &[usize], stride: &[usize], offset: usize) -> Result<(Tensor, How)> {
    match as_strided(base, size, stride, offset)? {
        Some(view) => Ok((view, How::View)),
        None => Ok((copy(base, size, stride, offset)?, How::Copied)),
    }
}

/// A storage of `len` elements, each one its own position.
fn base(len: usize) -> Tensor {
    Tensor::arange(0, i64::try_from(len).unwrap(), &Device::Cpu).unwrap()
}

/// Where in the storage the elements of a view are, in row-major order.
fn positions(size: &[usize], stride: &[usize], offset: usize) -> Vec<usize> {
    let position = |mut element: usize| {
        let mut position = offset;
        for (size, stride) in size.iter().zip(stride).rev() {
            position += element % size * stride;
            element /= size;
        }
        position
    };
    (0..size.iter().product()).map(position).collect()
}

fn values(tensor: &Tensor) -> Vec<usize> {
    let values = tensor.to_dtype(DType::I64).unwrap().flatten_all().unwrap().to_vec1::<i64>().unwrap();
    values.into_iter().map(|value| usize::try_from(value).unwrap()).collect()
}

/// Asserts that `view` shares the storage of `base` and has the layout asked for.
fn assert_views(view: &Tensor, base: &Tensor, size: &[usize], stride: &[usize], offset: usize) {
    let asked = format!("size {size:?} stride {stride:?} offset {offset} of {:?}", base.dims());
    assert_eq!(storage_key(view), storage_key(base), "{asked}: storage");
    assert_eq!(view.dims(), size, "{asked}: size");
    if size.contains(&0) {
        return;
    }
    assert_eq!(view.layout().start_offset(), offset, "{asked}: offset");
    for (axis, &size) in size.iter().enumerate() {
        assert!(size == 1 || view.stride()[axis] == stride[axis], "{asked}: stride {:?}", view.stride());
    }
}

/// Asserts that the view is reached, and that it and its copy have the elements that the oracle names.
fn check(len: usize, size: &[usize], stride: &[usize], offset: usize) -> Tensor {
    let base = base(len);
    let expected = positions(size, stride, offset);
    let view = as_strided(&base, size, stride, offset).unwrap();
    let view =
        view.unwrap_or_else(|| panic!("size {size:?} stride {stride:?} offset {offset} of {len}: no view"));
    assert_views(&view, &base, size, stride, offset);
    assert_eq!(values(&view), expected, "view of size {size:?} stride {stride:?} offset {offset} of {len}");

    let copy = gather(&base, size, stride, offset).unwrap();
    assert_eq!(copy.dims(), size);
    assert!(copy.is_contiguous());
    assert_eq!(values(&copy), expected, "copy of size {size:?} stride {stride:?} offset {offset} of {len}");
    assert!(storage_key(&copy) != storage_key(&base) || expected.is_empty());
    view
}

/// Asserts that neither a view nor a copy is made, and that the message says why.
fn refuse(base: &Tensor, size: &[usize], stride: &[usize], offset: usize, why: &str) {
    let view = as_strided(base, size, stride, offset).unwrap_err().to_string();
    assert!(view.contains(why), "{view}");
    let copy = gather(base, size, stride, offset).unwrap_err().to_string();
    assert!(copy.contains(why), "{copy}");
}

#[test]
fn contiguous_elements_are_a_view_with_the_strides_of_a_fresh_tensor() {
    check(24, &[2, 3, 4], &[12, 4, 1], 0);
    let view = check(30, &[2, 1, 3], &[3, 99, 1], 7);
    assert_eq!(view.stride(), [3, 3, 1]);
}

#[test]
fn permuted_views_keep_the_order_of_the_storage() {
    check(6, &[3, 2], &[1, 3], 0);
    check(24, &[4, 2, 3], &[1, 12, 4], 0);
    check(120, &[5, 3, 2, 4], &[1, 20, 60, 5], 0);
}

#[test]
fn channels_last_is_a_view() {
    check(2 * 3 * 4 * 5, &[2, 3, 4, 5], &[60, 1, 15, 3], 0);
    check(64 * 9, &[64, 1, 3, 3], &[9, 1, 3, 1], 0);
    check(2 * 3 * 4 * 5 * 6, &[2, 3, 4, 5, 6], &[360, 1, 90, 18, 3], 0);
}

#[test]
fn every_second_and_every_third_element_are_views() {
    check(10, &[5], &[2], 0);
    check(10, &[5], &[2], 1);
    check(11, &[4], &[3], 1);
    check(70, &[5, 4], &[14, 2], 1);
}

#[test]
fn slices_of_columns_are_views() {
    check(40, &[5, 3], &[8, 1], 0);
    check(40, &[5, 3], &[8, 1], 5);
    check(2 * 6 * 8, &[2, 3, 3], &[48, 8, 1], 21);
}

#[test]
fn diagonals_are_views() {
    check(25, &[5], &[6], 0);
    check(25, &[4], &[6], 1);
    check(3 * 25, &[3, 5], &[25, 6], 0);
    check(25, &[5], &[4], 4);
}

#[test]
fn expanded_axes_are_views_of_stride_zero() {
    check(3, &[4, 3], &[0, 1], 0);
    check(12, &[2, 5, 3], &[3, 0, 1], 6);
    check(9, &[2, 2], &[0, 0], 8);
    check(9, &[2, 1, 3, 2], &[0, 7, 2, 0], 3);
}

#[test]
fn overlapping_windows_are_views() {
    check(10, &[8, 3], &[1, 1], 0);
    check(10, &[4, 3], &[2, 1], 1);
    check(20, &[3, 3, 3], &[5, 2, 1], 2);
    check(7, &[2, 2, 2], &[1, 1, 1], 3);
}

#[test]
fn one_element_is_a_view_without_axes() {
    check(1, &[], &[], 0);
    check(9, &[], &[], 8);
}

#[test]
fn the_stride_of_an_axis_of_size_one_leads_nowhere() {
    check(6, &[1, 2, 1, 3, 1], &[usize::MAX, 3, 0, 1, 77], 0);
    check(6, &[1, 1], &[usize::MAX, usize::MAX], 5);
    check(12, &[1, 3, 1, 2], &[5, 1, usize::MAX, 6], 0);
}

#[test]
fn views_may_end_at_the_last_element() {
    check(9, &[3, 2], &[3, 2], 0);
    check(10, &[4], &[3], 0);
    check(14, &[3, 2], &[5, 3], 0);
    check(20, &[2, 3, 2], &[11, 3, 2], 0);
    check(8, &[2, 2], &[4, 2], 1);
}

#[test]
fn views_without_elements_are_valid_at_any_offset() {
    check(6, &[0], &[1], 6);
    check(6, &[2, 0, 3], &[3, 3, 1], 2);
    check(0, &[0], &[1], 0);
    check(10, &[0, 2], &[5, 1], 13);
    check(10, &[1 << 40, 0], &[usize::MAX, usize::MAX], usize::MAX);
}

#[test]
fn an_expand_of_more_elements_than_memory_is_a_view() {
    let base = base(3);
    let view = as_strided(&base, &[1 << 40, 3], &[0, 1], 0).unwrap().unwrap();
    assert_views(&view, &base, &[1 << 40, 3], &[0, 1], 0);
    assert_eq!(values(&view.get((1 << 40) - 1).unwrap()), [0, 1, 2]);
}

#[test]
fn a_copy_of_more_bytes_than_can_be_addressed_is_refused() {
    let error = gather(&base(1), &[1 << 60], &[0], 0).unwrap_err().to_string();
    assert!(error.contains("more bytes than can be addressed"), "{error}");
}

#[test]
fn views_past_the_storage_are_refused() {
    let base = base(10);
    refuse(&base, &[11], &[1], 0, "reaches past its storage of 10 elements");
    refuse(&base, &[10], &[1], 1, "reaches past");
    refuse(&base, &[], &[], 10, "reaches past");
    refuse(&base, &[2, 2], &[8, 2], 0, "reaches past");
    refuse(&base, &[5], &[0], 10, "reaches past");
    refuse(&self::base(0), &[], &[], 0, "reaches past");
}

#[test]
fn arithmetic_that_overflows_is_refused() {
    let base = base(10);
    refuse(&base, &[3], &[usize::MAX], 0, "reaches past");
    refuse(&base, &[2, 2], &[usize::MAX, usize::MAX], 0, "reaches past");
    refuse(&base, &[2], &[usize::MAX], 1, "reaches past");
    refuse(&base, &[1], &[1], usize::MAX, "reaches past");
    refuse(&base, &[1 << 40, 1 << 40], &[0, 0], 0, "more elements than can be counted");
    refuse(&base, &[1 << 40, 1 << 40, 0], &[0, 0, 0], 0, "more elements than can be counted");
    refuse(&base, &[0, 1 << 40, 1 << 40], &[0, 0, 0], 0, "more elements than can be counted");
}

#[test]
fn sizes_and_strides_come_in_equal_number() {
    refuse(&base(10), &[2, 3], &[1], 0, "2 sizes cannot have 1 strides");
    refuse(&base(10), &[], &[1], 0, "0 sizes cannot have 1 strides");
}

#[test]
fn a_base_that_is_a_view_is_refused() {
    refuse(&base(10).narrow(0, 1, 5).unwrap(), &[2], &[1], 0, "must be its whole storage");
    refuse(
        &base(10).unfold(0, 1, 2).unwrap().squeeze(1).unwrap(),
        &[2],
        &[1],
        0,
        "must be its whole storage",
    );
    refuse(&base(10).reshape((2, 5)).unwrap(), &[2], &[1], 0, "unexpected rank");
}

#[test]
fn views_of_many_axes_are_reached_up_to_a_limit() {
    for rank in [10, 65, 1000] {
        let (mut size, mut stride) = (vec![1; rank], vec![3; rank]);
        (size[0], stride[0]) = (4, 1);
        (size[rank / 2], stride[rank / 2]) = (5, 0);
        (size[rank - 1], stride[rank - 1]) = (3, 7);
        check(30, &size, &stride, 2);
    }
    refuse(&base(1), &[1; 5000], &[1; 5000], 0, "5000 axes");
}

#[test]
fn a_write_through_a_view_is_seen_by_the_base() {
    let base = base(6);
    let (view, how) = view_or_copy(&base, &[3], &[2], 1).unwrap();
    assert_eq!(how, How::View);
    view.zero_set().unwrap();
    assert_eq!(values(&base), [0, 0, 2, 0, 4, 0]);
}

#[test]
fn views_of_a_variable_track_no_gradient() {
    let base = Var::from_vec(vec![1_f32, 2.0, 3.0], 3, &Device::Cpu).unwrap();
    let view = as_strided(&base, &[2], &[2], 0).unwrap().unwrap();
    assert_eq!(storage_key(&view), storage_key(&base));
    assert!(!view.track_op());
}

#[test]
fn elements_of_each_dtype_are_copied() {
    let dtypes = [DType::U8, DType::U32, DType::I16, DType::I32, DType::I64];
    for dtype in dtypes.into_iter().chain([DType::BF16, DType::F16, DType::F32, DType::F64, DType::F8E4M3]) {
        let base = base(8).to_dtype(dtype).unwrap();
        let copy = gather(&base, &[2, 3, 2], &[0, 2, 3], 0).unwrap();
        assert_eq!(copy.dtype(), dtype);
        assert_eq!(values(&copy), [0, 3, 2, 5, 4, 7, 0, 3, 2, 5, 4, 7], "{dtype:?}");
    }
}
