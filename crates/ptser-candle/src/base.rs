//! Base tensors: a storage, or the part of it that is viewed, as one flat candle tensor.

use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor, WithDType};
use ptser_core::{DType as Torch, Storage, layout};

use crate::decode;
use crate::dtype::{Means, Target};
use crate::error::{about, wrap};
use crate::fill::{self, HugePages, Plain};

/// A storage as elements of one type. Two tensors that view one storage as different types cannot share memory
/// in candle, whose storages are typed.
pub(crate) type BaseKey = (usize, Torch);

/// Which elements of each storage are viewed, and by how many tensors.
#[derive(Debug, Default)]
pub(crate) struct Uses(HashMap<BaseKey, Use>);

#[derive(Debug, Clone, Copy)]
struct Use {
    /// Elements: the first viewed, and one past the last.
    first: usize,
    end: usize,
    views: usize,
}

/// The elements that a base holds: counted from the start of the storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) first: usize,
    pub(crate) count: usize,
}

impl Uses {
    /// Notes every view of a state dict.
    pub(crate) fn of<'t>(tensors: impl Iterator<Item = &'t ptser_core::Tensor>) -> Self {
        let mut uses = Self::default();
        for tensor in tensors {
            let Some(storage) = tensor.storage() else { continue };
            let end = layout::extent(tensor.shape(), tensor.stride(), tensor.storage_offset()).unwrap_or(0);
            let first = tensor.storage_offset().min(end);
            let entry = uses.0.entry((storage.id(), tensor.dtype())).or_insert(Use { first, end, views: 0 });
            entry.views = entry.views.saturating_add(1);
            // A view without elements touches nothing.
            if end > first {
                if entry.end == entry.first {
                    (entry.first, entry.end) = (first, end);
                }
                entry.first = entry.first.min(first);
                entry.end = entry.end.max(end);
            }
        }
        uses
    }

    /// How many tensors view a storage as this type.
    pub(crate) fn views(&self, key: BaseKey) -> usize {
        self.0.get(&key).map_or(0, |found| found.views)
    }

    /// What to read of a storage: all of it, unless most of it is viewed by nobody.
    pub(crate) fn window(&self, storage: &Storage, dtype: Torch) -> Window {
        let nbytes = usize::try_from(storage.nbytes()).unwrap_or(usize::MAX);
        let whole = Window { first: 0, count: nbytes / dtype.element_size() };
        let Some(&Use { first, end, .. }) = self.0.get(&(storage.id(), dtype)) else { return whole };
        let count = end.saturating_sub(first);
        if count <= whole.count / 2 { Window { first, count } } else { whole }
    }
}

/// Reads a base into candle's memory on the host, in the target type.
pub(crate) fn read(
    name: &str,
    storage: &Storage,
    dtype: Torch,
    window: Window,
    target: Target,
    pages: &HugePages,
) -> Result<Tensor> {
    let reading = Reading { name, storage, dtype, window, pages };
    match (dtype, target.dtype) {
        (Torch::Float64 | Torch::Complex128, _) => reading.same::<f64>(target),
        (Torch::Float32 | Torch::Complex64, _) => reading.same::<f32>(target),
        (Torch::Float16 | Torch::Complex32, _) => reading.same::<half::f16>(target),
        (Torch::BFloat16 | Torch::BComplex32, _) => reading.same::<half::bf16>(target),
        (Torch::Int64, _) => reading.same::<i64>(target),
        (Torch::Int32, _) => reading.same::<i32>(target),
        (Torch::Int16 | Torch::Bits16, _) => reading.same::<i16>(target),
        (Torch::UInt32, _) => reading.same::<u32>(target),
        (Torch::Float8E4M3Fn, _) => reading.same::<float8::F8E4M3>(target),
        (Torch::Int8, _) => reading.each::<i8, i16>(|number| Ok(number.into())),
        (Torch::UInt16, _) => reading.each::<u16, u32>(|number| Ok(number.into())),
        (Torch::UInt64, _) => reading.each::<u64, i64>(|number| {
            i64::try_from(number)
                .map_err(|_| about(name, format!("the uint64 {number} does not fit candle's I64")))
        }),
        (Torch::Float8E5M2, _) => reading.each::<u8, half::f16>(|code| Ok(decode::e5m2(code))),
        (Torch::Float8E4M3Fnuz, _) => reading.each::<u8, f32>(|code| Ok(decode::e4m3fnuz(code))),
        (Torch::Float8E5M2Fnuz, _) => reading.each::<u8, f32>(|code| Ok(decode::e5m2fnuz(code))),
        (Torch::Float8E8M0Fnu, _) => reading.each::<u8, f32>(|code| Ok(decode::e8m0fnu(code))),
        (_, DType::U8) => reading.same::<u8>(target),
        (dtype, to) => Err(about(name, format!("{dtype} cannot become {to:?}"))),
    }
}

struct Reading<'r> {
    name: &'r str,
    storage: &'r Storage,
    dtype: Torch,
    window: Window,
    pages: &'r HugePages,
}

impl Reading<'_> {
    fn numbers<T: Plain>(&self, lanes: usize) -> Result<Vec<T>> {
        let start = self.window.first.saturating_mul(self.dtype.element_size());
        let count = self.window.count.saturating_mul(lanes);
        fill::read(self.storage, self.dtype, start, count, self.pages)
            .map_err(|error| wrap(error).context(format!("tensor {}", self.name)))
    }

    /// The bytes as they are.
    fn same<T: Plain + WithDType>(&self, target: Target) -> Result<Tensor> {
        debug_assert!(target.means != Means::Converted || target.lanes > 1 || self.dtype == Torch::Bool);
        let numbers = self.numbers::<T>(target.lanes)?;
        let count = numbers.len();
        Tensor::from_vec(numbers, count, &Device::Cpu)
    }

    /// Each number by itself.
    fn each<T: Plain, U: WithDType>(&self, convert: impl Fn(T) -> Result<U>) -> Result<Tensor> {
        let numbers: Result<Vec<U>> = self.numbers::<T>(1)?.into_iter().map(convert).collect();
        let numbers = numbers?;
        let count = numbers.len();
        Tensor::from_vec(numbers, count, &Device::Cpu)
    }
}
