//! Shape, stride and storage-offset arithmetic, all of it checked. Units are elements.

/// The number of elements of a shape; `None` where the product overflows.
///
/// A shape with a zero has none, however large its other sizes.
pub fn numel(shape: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size))
}

/// One past the last element that a view touches, counted from the start of the storage; 0 where it
/// has no elements, `None` where the arithmetic overflows.
pub fn extent(shape: &[usize], stride: &[usize], storage_offset: usize) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    let mut last = storage_offset;
    for (&size, &stride) in shape.iter().zip(stride) {
        last = last.checked_add(size.checked_sub(1)?.checked_mul(stride)?)?;
    }
    last.checked_add(1)
}

/// The strides of a dense tensor in C order.
pub fn contiguous_stride(shape: &[usize]) -> Vec<usize> {
    let mut stride = vec![1_usize; shape.len()];
    let mut step = 1_usize;
    for (stride, &size) in stride.iter_mut().zip(shape).rev() {
        *stride = step;
        step = step.saturating_mul(size.max(1));
    }
    stride
}

/// Whether the elements lie in C order without gaps; axes of one element may have any stride.
pub fn is_contiguous(shape: &[usize], stride: &[usize]) -> bool {
    if shape.contains(&0) {
        return true;
    }
    let mut expected = 1_usize;
    for (&size, &stride) in shape.iter().zip(stride).rev() {
        if size != 1 && stride != expected {
            return false;
        }
        expected = expected.saturating_mul(size);
    }
    true
}

/// Copies the elements of a view into `out` in C order. `storage` starts at element 0, and both are in
/// units of `element_size` bytes.
///
/// Returns `None`, with `out` partly written, where the view leaves the storage or `out` has another size.
pub fn gather(
    storage: &[u8],
    shape: &[usize],
    stride: &[usize],
    storage_offset: usize,
    element_size: usize,
    out: &mut [u8],
) -> Option<()> {
    if numel(shape)?.checked_mul(element_size)? != out.len() {
        return None;
    }
    if out.is_empty() {
        return Some(());
    }
    // Runs of elements that lie side by side are copied whole.
    let mut run = 1_usize;
    let mut axes = shape.len();
    for (&size, &stride) in shape.iter().zip(stride).rev() {
        if size != 1 && stride != run {
            break;
        }
        run = run.checked_mul(size)?;
        axes = axes.checked_sub(1)?;
    }
    let run_bytes = run.checked_mul(element_size)?;
    let outer: Vec<(usize, usize)> = shape.iter().copied().zip(stride.iter().copied()).take(axes).collect();
    let mut counters = vec![0_usize; axes];
    let mut position = storage_offset;
    for target in out.chunks_exact_mut(run_bytes) {
        let start = position.checked_mul(element_size)?;
        target.copy_from_slice(storage.get(start..start.checked_add(run_bytes)?)?);
        for (counter, &(size, stride)) in counters.iter_mut().zip(&outer).rev() {
            *counter = counter.checked_add(1)?;
            if *counter < size {
                position = position.checked_add(stride)?;
                break;
            }
            position = position.checked_sub(size.checked_sub(1)?.checked_mul(stride)?)?;
            *counter = 0;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_sizes_win_over_overflow() {
        assert_eq!(numel(&[usize::MAX, usize::MAX, 0]), Some(0));
        assert_eq!(numel(&[usize::MAX, 2]), None);
        assert_eq!(numel(&[]), Some(1));
        assert_eq!(extent(&[0], &[usize::MAX], usize::MAX), Some(0));
        assert_eq!(extent(&[2], &[usize::MAX], 1), None);
        assert_eq!(extent(&[1000], &[0], 3), Some(4));
    }

    #[test]
    fn gather_follows_strides() {
        let storage: Vec<u8> = (0..12).collect();
        let mut out = [0; 6];
        gather(&storage, &[3, 2], &[1, 3], 2, 1, &mut out).unwrap();
        assert_eq!(out, [2, 5, 3, 6, 4, 7]);
        let mut out = [0; 6];
        gather(&storage, &[3, 2], &[0, 1], 10, 1, &mut out).unwrap();
        assert_eq!(out, [10, 11, 10, 11, 10, 11]);
        assert_eq!(gather(&storage, &[3, 2], &[1, 6], 5, 1, &mut out), None);
    }

    #[test]
    fn contiguity_ignores_axes_of_one() {
        assert!(is_contiguous(&[1, 3], &[7, 1]));
        assert!(!is_contiguous(&[2, 3], &[1, 2]));
        assert_eq!(contiguous_stride(&[2, 0, 3]), [3, 3, 1]);
    }
}
