//! Views drawn by chance from a fixed seed: layouts of any kind, and those that chains of PyTorch's view operations
//! make. In storages of this size each one must be reached.

use super::check;

const VIEWS: usize = 3000;

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    /// A number from 0 to `bound`, without it.
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let bound = u64::try_from(bound).unwrap();
        usize::try_from((bits ^ (bits >> 31)) % bound).unwrap()
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

/// A layout, changed as PyTorch's view operations change one.
#[derive(Debug)]
struct View {
    size: Vec<usize>,
    stride: Vec<usize>,
    offset: usize,
}

impl View {
    fn contiguous(size: Vec<usize>) -> Self {
        let stride = (1..=size.len()).map(|axis| size[axis..].iter().product()).collect();
        Self { size, stride, offset: 0 }
    }

    /// The place behind the last element.
    fn end(&self) -> usize {
        if self.size.contains(&0) {
            return 0;
        }
        self.size
            .iter()
            .zip(&self.stride)
            .fold(self.offset + 1, |end, (size, stride)| end + (size - 1) * stride)
    }

    fn insert(&mut self, axis: usize, size: usize, stride: usize) {
        self.size.insert(axis, size);
        self.stride.insert(axis, stride);
    }

    fn remove(&mut self, axis: usize) -> (usize, usize) {
        (self.size.remove(axis), self.stride.remove(axis))
    }

    /// One view operation, on an axis drawn by chance.
    fn step(&mut self, random: &mut Random) {
        let rank = self.size.len();
        let operation = random.below(9);
        if operation == 0 {
            return self.insert(random.below(rank + 1), 1, random.below(9));
        }
        if rank == 0 {
            return;
        }
        let (axis, other) = (random.below(rank), random.below(rank));
        let (size, stride) = (self.size[axis], self.stride[axis]);
        match operation {
            // transpose
            1 | 2 => {
                self.size.swap(axis, other);
                self.stride.swap(axis, other);
            }
            // narrow, chunk
            3 => {
                let start = random.below(size + 1);
                self.offset += start * stride;
                self.size[axis] =
                    if random.one_in(20) { 0 } else { (size - start).min(1 + random.below(size + 1)) };
            }
            // x[first::by]
            4 if size > 0 => {
                let (first, by) = (random.below(size), 1 + random.below(3));
                self.offset += first * stride;
                self.size[axis] = (size - first).div_ceil(by);
                self.stride[axis] = stride * by;
            }
            // select
            5 if size > 0 => {
                self.offset += random.below(size) * stride;
                self.remove(axis);
            }
            // diagonal
            6 if axis != other => {
                let (larger, smaller) = (axis.max(other), axis.min(other));
                let (a, b) = (self.remove(larger), self.remove(smaller));
                self.insert(rank - 2, a.0.min(b.0), a.1 + b.1);
            }
            // unfold
            7 if size > 0 => {
                let (window, by) = (1 + random.below(size), 1 + random.below(3));
                self.size[axis] = (size - window) / by + 1;
                self.stride[axis] = stride * by;
                self.insert(rank, window, stride);
            }
            // expand
            8 if size == 1 => (self.size[axis], self.stride[axis]) = (1 + random.below(4), 0),
            _ => (),
        }
    }
}

#[test]
fn views_of_random_size_stride_and_offset_are_reached() {
    let mut random = Random(1);
    for _ in 0..VIEWS {
        let rank = random.below(6);
        let size = (0..rank).map(|_| if random.one_in(60) { 0 } else { 1 + random.below(5) }).collect();
        let stride = (0..rank).map(|_| {
            let largest = [1, 3, 10, 60][random.below(4)];
            random.below(largest + 1)
        });
        let stride = stride.collect();
        let view = View { size, stride, offset: random.below(20) };
        let spare = if random.one_in(2) { 0 } else { random.below(100) };
        check(view.end() + spare, &view.size, &view.stride, view.offset);
    }
}

#[test]
fn views_made_by_chains_of_view_operations_are_reached() {
    let mut random = Random(2);
    for _ in 0..VIEWS {
        let size: Vec<usize> = (0..1 + random.below(4)).map(|_| 1 + random.below(7)).collect();
        let len = size.iter().product();
        let mut view = View::contiguous(size);
        for _ in 0..random.below(7) {
            view.step(&mut random);
        }
        check(len, &view.size, &view.stride, view.offset);
    }
}
