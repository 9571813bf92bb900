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
    // The innermost axis that is left is a loop of its own, the others count like an odometer.
    let (&(inner_size, inner_stride), outer) = outer.split_last().unwrap_or((&(1, 0), &[]));
    let step = inner_stride.checked_mul(element_size)?;
    let row_bytes = inner_size.checked_mul(run_bytes)?;
    let reach = inner_size.checked_sub(1)?.checked_mul(step)?.checked_add(run_bytes)?;
    let mut counters = vec![0_usize; outer.len()];
    let mut position = storage_offset;
    for row in out.chunks_exact_mut(row_bytes) {
        let start = position.checked_mul(element_size)?;
        gather_row(storage.get(start..start.checked_add(reach)?)?, step, run_bytes, row);
        for (counter, &(size, stride)) in counters.iter_mut().zip(outer).rev() {
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

/// Fills `row` with runs of `run` bytes that begin every `step` bytes of `source`.
fn gather_row(source: &[u8], step: usize, run: usize, row: &mut [u8]) {
    match (step, run) {
        (0, _) => repeat(source, row),
        // With their length known, runs of one element are moved by single instructions.
        (1.., 1) => gather_runs::<1>(source, step, row),
        (2.., 2) => gather_runs::<2>(source, step, row),
        (4.., 4) => gather_runs::<4>(source, step, row),
        (8.., 8) => gather_runs::<8>(source, step, row),
        (16.., 16) => gather_runs::<16>(source, step, row),
        // Longer runs, and runs that overlap.
        _ => {
            let starts = (0_usize..).map(|place| place.saturating_mul(step));
            for (target, start) in row.chunks_exact_mut(run).zip(starts) {
                if let Some(bytes) = source.get(start..start.saturating_add(run)) {
                    target.copy_from_slice(bytes);
                }
            }
        }
    }
}

/// As [`gather_row`] for runs that do not overlap.
fn gather_runs<const RUN: usize>(source: &[u8], step: usize, row: &mut [u8]) {
    let (targets, _) = row.as_chunks_mut::<RUN>();
    for (target, bytes) in targets.iter_mut().zip(source.chunks(step)) {
        if let Some(bytes) = bytes.first_chunk() {
            *target = *bytes;
        }
    }
}

/// Fills `row` with the same bytes over and over, doubling what is there.
fn repeat(source: &[u8], row: &mut [u8]) {
    let Some((first, _)) = row.split_at_mut_checked(source.len()) else { return };
    first.copy_from_slice(source);
    let mut filled = source.len();
    while let Some((done, rest)) =
        row.split_at_mut_checked(filled).filter(|(done, rest)| !done.is_empty() && !rest.is_empty())
    {
        let more = done.len().min(rest.len());
        if let Some((target, bytes)) = rest.get_mut(..more).zip(done.get(..more)) {
            target.copy_from_slice(bytes);
        }
        filled = filled.saturating_add(more);
    }
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
    fn gather_of_every_width_agrees_with_the_definition() {
        let storage: Vec<u8> = (0..=255).cycle().take(4000).collect();
        let views: [(&[usize], &[usize], usize); 11] = [
            (&[5, 4], &[2, 1], 1),
            (&[5, 2], &[1, 1], 1),
            (&[3, 4, 5], &[1, 3, 12], 2),
            (&[3, 4, 5], &[20, 5, 1], 0),
            (&[3, 4, 5], &[0, 0, 0], 7),
            (&[3, 4, 5], &[0, 5, 1], 7),
            (&[4, 3], &[7, 0], 1),
            (&[2, 3], &[1, 1], 0),
            (&[5, 2, 3], &[9, 3, 1], 3),
            (&[6], &[7], 0),
            (&[], &[], 9),
        ];
        for element_size in [1, 2, 3, 4, 8, 16] {
            for (shape, stride, offset) in views {
                let mut expected: Vec<u8> = Vec::new();
                for flat in 0..numel(shape).unwrap() {
                    let mut rest = flat;
                    let mut position = offset;
                    for (&size, &stride) in shape.iter().zip(stride).rev() {
                        position += rest % size * stride;
                        rest /= size;
                    }
                    let start = position * element_size;
                    expected.extend(&storage[start..start + element_size]);
                }
                let mut out = vec![0; expected.len()];
                gather(&storage, shape, stride, offset, element_size, &mut out).unwrap();
                assert_eq!(out, expected, "{shape:?} {stride:?} {element_size}");
            }
        }
    }

    #[test]
    fn contiguity_ignores_axes_of_one() {
        assert!(is_contiguous(&[1, 3], &[7, 1]));
        assert!(!is_contiguous(&[2, 3], &[1, 2]));
        assert_eq!(contiguous_stride(&[2, 0, 3]), [3, 3, 1]);
    }
}
