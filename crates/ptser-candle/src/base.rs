//! Base tensors: a storage, or the part of it that is viewed, as one candle tensor: flat, or in the shape of the only
//! view, where that is all of it. Knows nothing else of views.

use candle_core::{DType, Device, Result, Tensor, Var, WithDType};
use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};
use ptser_core::{DType as Torch, ReadAhead, Storage, layout};

use crate::cuda::{self, Copies, Number};
use crate::decode;
use crate::dtype::Target;
use crate::error::{about, wrap};
use crate::fill::{self, HugePages, Plain};

/// A storage as elements of one type. Two tensors that view one storage as different types cannot share memory
/// in candle, whose storages are typed.
pub(crate) type BaseKey = (usize, Torch);

/// Where a tensor lies: parts of storages (torch 0.3) are placed in their wholes, so that they share.
#[derive(Clone, Copy)]
pub(crate) struct Located<'t> {
    pub(crate) storage: &'t Storage,
    pub(crate) dtype: Torch,
    /// Elements from the start of the storage to the view's first.
    pub(crate) offset: usize,
}

impl<'t> Located<'t> {
    pub(crate) fn of(tensor: &'t ptser_core::Tensor) -> Option<Self> {
        let storage = tensor.storage()?;
        let (dtype, offset) = (tensor.dtype(), tensor.storage_offset());
        let size = u64::try_from(dtype.element_size()).ok()?;
        let whole = storage.whole().filter(|(_, start)| start.checked_rem(size) == Some(0));
        let placed = whole.and_then(|(whole, start)| {
            let before = usize::try_from(start.checked_div(size)?).ok()?;
            Some(Self { storage: whole, dtype, offset: before.checked_add(offset)? })
        });
        Some(placed.unwrap_or(Self { storage, dtype, offset }))
    }

    pub(crate) fn key(self) -> BaseKey {
        (self.storage.id(), self.dtype)
    }

    /// What to read of the storage: all of it, unless most of it is viewed by nobody.
    pub(crate) fn window(self, used: Use) -> Window {
        let nbytes = usize::try_from(self.storage.nbytes()).unwrap_or(usize::MAX);
        let whole = Window { first: 0, count: nbytes.checked_div(self.dtype.element_size()).unwrap_or(0) };
        let Use { first, end, .. } = used;
        let count = end.saturating_sub(first);
        if count <= whole.count / 2 { Window { first, count } } else { whole }
    }
}

/// How storages are viewed that several tensors view.
#[derive(Debug, Default)]
pub(crate) struct Uses {
    uses: Vec<Use>,
    /// For each tensor in such a storage, by its place, that of its use.
    of: HashMap<usize, usize>,
}

/// The views of a storage as one type.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Use {
    dtype: Torch,
    /// Elements: the first viewed, and one past the last.
    first: usize,
    end: usize,
    /// How many tensors.
    pub(crate) views: usize,
    /// Whether an earlier tensor views the storage as another type, and has it.
    pub(crate) is_second_type: bool,
    /// The place of the next type that the storage is viewed as.
    next: Option<usize>,
}

/// The elements that a base holds: counted from the start of the storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) first: usize,
    pub(crate) count: usize,
}

impl Uses {
    /// Looks at every view of a state dict.
    pub(crate) fn of<'t>(tensors: impl ExactSizeIterator<Item = &'t ptser_core::Tensor> + Clone) -> Self {
        let mut seen = HashSet::with_capacity(tensors.len());
        let ids = tensors.clone().filter_map(Located::of).map(|located| located.storage.id());
        let shared: HashSet<usize> = ids.filter(|id| !seen.insert(*id)).collect();
        let mut all = Self::default();
        if shared.is_empty() {
            return all;
        }
        // The first type's, by the storage's id.
        let mut firsts: HashMap<usize, usize> = HashMap::new();
        for (at, tensor) in tensors.enumerate() {
            let Some(located) = Located::of(tensor) else { continue };
            let id = located.storage.id();
            if !shared.contains(&id) {
                continue;
            }
            let mut one = Use::of(tensor, located);
            let new = all.uses.len();
            let mut place = *firsts.entry(id).or_insert(new);
            one.is_second_type = place != new;
            while let Some(other) = all.uses.get_mut(place).filter(|other| other.dtype != one.dtype) {
                place = *other.next.get_or_insert(new);
            }
            match all.uses.get_mut(place) {
                Some(other) => other.add(one),
                None => all.uses.push(one),
            }
            all.of.insert(at, place);
        }
        all
    }

    /// How the storage of a tensor, by its place, is viewed; `None` where no other tensor views it.
    pub(crate) fn at(&self, place: usize) -> Option<&Use> {
        self.uses.get(*self.of.get(&place)?)
    }
}

impl Use {
    /// How one tensor views its storage.
    pub(crate) fn of(tensor: &ptser_core::Tensor, located: Located<'_>) -> Self {
        let Located { dtype, offset, .. } = located;
        let end = layout::extent(tensor.shape(), tensor.stride(), offset).unwrap_or(0);
        Self { dtype, first: offset.min(end), end, views: 1, is_second_type: false, next: None }
    }

    /// Counts another view.
    fn add(&mut self, other: Self) {
        let Self { first, end, .. } = other;
        self.views = self.views.saturating_add(1);
        // A view without elements touches nothing.
        if end > first {
            if self.end == self.first {
                (self.first, self.end) = (first, end);
            }
            self.first = self.first.min(first);
            self.end = self.end.max(end);
        }
    }
}

/// What storages have in common that are read one after the other, for tensors that are given out together.
#[derive(Default)]
pub(crate) struct Batch {
    ahead: ReadAhead,
    /// To memory of the device, while the next storages are read.
    copies: Copies,
}

impl Batch {
    /// Waits for what may be under way. Then the tensors are complete for every thread.
    pub(crate) fn wait(&self) -> Result<()> {
        self.copies.wait().map_err(wrap)
    }
}

/// Reads a tensor that is all of its storage into a variable's memory, in the type that the storage has.
pub(crate) fn read_variable(
    name: &str,
    located: Located<'_>,
    shape: &[usize],
    target: Target,
    pages: &HugePages,
    batch: &mut Batch,
) -> Result<Var> {
    let window = Window { first: 0, count: shape.iter().product() };
    let (batch, device) = (Some(batch), &Device::Cpu);
    let reading = Reading {
        name,
        located,
        window,
        shape: Some(shape),
        target,
        pages,
        batch,
        device,
        is_variable: true,
    };
    // A variable's tensor becomes that variable.
    Var::from_tensor(&reading.read()?)
}

/// What is to be read, and where to.
pub(crate) struct Reading<'r> {
    pub(crate) name: &'r str,
    pub(crate) located: Located<'r>,
    pub(crate) window: Window,
    /// Of what is made in the host's memory; without one it is flat.
    pub(crate) shape: Option<&'r [usize]>,
    pub(crate) target: Target,
    pub(crate) pages: &'r HugePages,
    /// Where there is one, what is read may not be complete before that has been waited for.
    pub(crate) batch: Option<&'r mut Batch>,
    pub(crate) device: &'r Device,
    /// Whether a variable is made, and no mere tensor.
    pub(crate) is_variable: bool,
}

impl Reading<'_> {
    /// Reads it into candle's memory, in the target type: into that of the device where there is a way that does not
    /// lead through the host's, else into the host's.
    pub(crate) fn read(mut self) -> Result<Tensor> {
        let target = self.target;
        match self.located.dtype {
            Torch::Float64 | Torch::Complex128 => self.same::<f64>(),
            Torch::Float32 | Torch::Complex64 => self.same::<f32>(),
            Torch::Float16 | Torch::Complex32 => self.same::<half::f16>(),
            Torch::BFloat16 | Torch::BComplex32 => self.same::<half::bf16>(),
            // Those beyond 63 bits are found out view by view.
            Torch::Int64 | Torch::UInt64 => self.same::<i64>(),
            Torch::Int32 => self.same::<i32>(),
            Torch::Int16 | Torch::Bits16 => self.same::<i16>(),
            Torch::UInt32 => self.same::<u32>(),
            Torch::Float8E4M3Fn => self.same::<float8::F8E4M3>(),
            // Any byte but 0 is true to PyTorch.
            Torch::Bool => self.each::<u8, u8>(|byte| u8::from(byte != 0)),
            Torch::Int8 => self.each::<i8, i16>(i16::from),
            Torch::UInt16 => self.each::<u16, u32>(u32::from),
            Torch::Float8E5M2 => self.each::<u8, half::f16>(decode::e5m2),
            Torch::Float8E4M3Fnuz => self.each::<u8, f32>(decode::e4m3fnuz),
            Torch::Float8E5M2Fnuz => self.each::<u8, f32>(decode::e5m2fnuz),
            Torch::Float8E8M0Fnu => self.each::<u8, f32>(decode::e8m0fnu),
            dtype if target.dtype == DType::U8 && dtype.element_size() == 1 => self.same::<u8>(),
            dtype => Err(about(self.name, format!("{dtype} cannot become {:?}", target.dtype))),
        }
    }

    /// The byte that the window begins with, and the numbers in it.
    fn range(&self) -> (usize, usize) {
        let start = self.window.first.saturating_mul(self.located.dtype.element_size());
        (start, self.window.count.saturating_mul(self.target.lanes))
    }

    /// The bytes as they are.
    fn same<T: Number>(&mut self) -> Result<Tensor> {
        let (start, count) = self.range();
        let Located { storage, dtype, .. } = self.located;
        match self.upload::<T>(start, count).map_err(|error| wrap(error.in_tensor(self.name)))? {
            Some(tensor) => Ok(tensor),
            None => {
                let ahead = self.batch.as_deref_mut().map(|batch| &mut batch.ahead);
                let numbers = fill::read::<T>(storage, dtype, start, count, self.pages, ahead);
                self.tensor(numbers)
            }
        }
    }

    /// The bytes as they are, in memory of the device. `None` where they go there by way of the host's.
    fn upload<T: Number>(&mut self, start: usize, count: usize) -> ptser_core::Result<Option<Tensor>> {
        let Located { storage, dtype, .. } = self.located;
        if self.device.is_cpu() {
            return Ok(None);
        }
        let bytes = |amount: usize| u64::try_from(amount).unwrap_or(u64::MAX);
        let (start, nbytes) = (bytes(start), bytes(count.saturating_mul(size_of::<T>())));
        let part;
        let wanted = if nbytes == storage.nbytes() {
            storage
        } else if storage.checkpoint_offset()?.is_none() {
            // Part of what is deflated is best read at once.
            return Ok(None);
        } else {
            part = storage.slice(start, nbytes)?;
            &part
        };
        match self.device {
            Device::Cpu => Ok(None),
            Device::Cuda(device) => {
                let copies = self.batch.as_deref_mut().map(|batch| &mut batch.copies);
                cuda::upload::<T>(self.name, wanted, dtype, count, device, copies)
            }
            #[cfg(all(feature = "candle-metal", target_os = "macos"))]
            Device::Metal(device) => crate::metal::upload::<T>(wanted, dtype, count, device),
            #[cfg(not(all(feature = "candle-metal", target_os = "macos")))]
            Device::Metal(_) => Ok(None),
        }
    }

    /// Each number by itself.
    fn each<T: Plain, U: WithDType>(&self, convert: fn(T) -> U) -> Result<Tensor> {
        let (start, count) = self.range();
        let numbers = fill::read_each(self.located.storage, self.located.dtype, start, count, convert);
        self.tensor(numbers)
    }

    fn tensor<T: WithDType>(&self, numbers: ptser_core::Result<Vec<T>>) -> Result<Tensor> {
        let numbers = numbers.map_err(|error| wrap(error.in_tensor(self.name)))?;
        let flat = [numbers.len()];
        let shape = self.shape.unwrap_or(&flat);
        if self.is_variable {
            return Ok(Var::from_vec(numbers, shape, &Device::Cpu)?.into_inner());
        }
        Tensor::from_vec(numbers, shape, &Device::Cpu)
    }
}
