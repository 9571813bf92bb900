//! Makes one tensor: reads its base, moves and casts it, and takes the view. Knows no names but for messages,
//! and keeps nothing.

use std::borrow::Cow;

use candle_core::{CpuStorage, DType, Device, Result, Tensor};
use ptser_core::{ByteOrder, DType as Torch, Storage, Tensor as Described, TensorKind};

use crate::base::{Batch, Located, Reading, Use, Window};
use crate::dtype::{Conversions, Means, Target, target};
use crate::error::{about, wrap};
use crate::fill::{self, HugePages};
use crate::inflated::Inflated;
use crate::report::Change;
use crate::view;

/// A flat tensor, and the element of the storage that it begins with.
#[derive(Clone)]
pub(crate) struct Base {
    pub(crate) tensor: Tensor,
    first: usize,
    /// Whether it has the shape of the only view already.
    is_view: bool,
}

/// A tensor, and what was done to it on the way.
#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) tensor: Tensor,
    pub(crate) changes: Vec<Change>,
    /// Bytes of a copy that was made because candle has no such view.
    pub(crate) gathered: usize,
}

/// One tensor of a state dict, and the type that is to be made of it.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'w> {
    pub(crate) name: &'w str,
    pub(crate) tensor: &'w Described,
    pub(crate) target: Target,
    /// The type that the caller wants, if not the target's.
    pub(crate) cast: Option<DType>,
    /// How its storage is viewed, where other tensors view it too.
    used: Option<&'w Use>,
}

/// Bytes that copied views may take beyond their storages' own.
pub(crate) const COPY_BEYOND: usize = 4 << 30;

impl<'w> Wanted<'w> {
    /// What can be made of a tensor.
    ///
    /// # Errors
    /// A tensor without plain values, or of a type that candle has no counterpart for.
    pub(crate) fn of(
        name: &'w str,
        tensor: &'w Described,
        cast: Option<DType>,
        conversions: Conversions,
    ) -> Result<Self> {
        match tensor.kind() {
            TensorKind::Strided | TensorKind::Quantized(_) => {}
            TensorKind::Meta => {
                let what = "a meta tensor has a shape and no values: leave it out with PtOptions::only";
                return Err(about(name, what));
            }
            TensorKind::Sparse(sparse) => {
                let layout = sparse.layout.name();
                let what = "leave it out with PtOptions::only, or read its parts from ptser::Checkpoint";
                return Err(about(name, format!("candle has no {layout} tensors: {what}")));
            }
            TensorKind::Nested(_) => {
                let what = "candle has no nested tensors: leave it out with PtOptions::only, or read its components from ptser::Checkpoint";
                return Err(about(name, what));
            }
            _ => {
                let what = "a tensor subclass holds its values in its attributes: leave it out with PtOptions::only, or read them from ptser::Checkpoint";
                return Err(about(name, what));
            }
        }
        let target = target(tensor.dtype(), conversions)
            .map_err(|choices| about(name, format!("its type is {}: {choices}", tensor.dtype())))?;
        Ok(Self { name, tensor, target, cast: cast.filter(|&cast| cast != target.dtype), used: None })
    }

    /// Among the tensors that are wanted, or may be.
    pub(crate) fn among(self, used: Option<&'w Use>) -> Self {
        Self { used, ..self }
    }

    /// How many tensors view its storage as it does.
    pub(crate) fn views(&self) -> usize {
        self.used.map_or(1, |used| used.views)
    }

    /// The shape that candle sees.
    pub(crate) fn dims(&self) -> Cow<'w, [usize]> {
        match self.target.lanes {
            ..=1 => self.tensor.shape().into(),
            lanes => [self.tensor.shape(), &[lanes]].concat().into(),
        }
    }

    /// The strides that it sees; `None` where they overflow.
    fn stride(&self) -> Option<Cow<'w, [usize]>> {
        match self.target.lanes {
            ..=1 => Some(self.tensor.stride().into()),
            lanes => {
                let outer = self.tensor.stride().iter().map(|stride| stride.checked_mul(lanes));
                outer.chain([Some(1)]).collect::<Option<Vec<_>>>().map(Cow::from)
            }
        }
    }

    /// Where the tensor lies, if the stored values are its values: conjugates and negatives are worked out.
    pub(crate) fn located(&self) -> Option<Located<'w>> {
        Located::of(self.tensor).filter(|_| !self.tensor.is_conj() && !self.tensor.is_neg())
    }

    /// The type of the tensor once it is made.
    pub(crate) fn dtype(&self) -> DType {
        self.cast.unwrap_or(self.target.dtype)
    }

    /// Reads a storage, moves it to the device and casts it: before views are made of it, which would each move
    /// and cast a copy of their own. What is read in a batch is to be waited for with it.
    pub(crate) fn base(
        &self,
        located: Located<'_>,
        pages: &HugePages,
        batch: Option<&mut Batch>,
        device: &Device,
    ) -> Result<Base> {
        let window = located.window(self.used.copied().unwrap_or_else(|| Use::of(self.tensor, located)));
        // candle's kernels count in 32 bits, and Metal's lack some types: such casts are the host's.
        let reach =
            u32::try_from(window.count.saturating_mul(self.target.lanes)).is_ok_and(|count| count < 1 << 31);
        let narrower = self.dtype().size_in_bytes() <= self.target.dtype.size_in_bytes();
        let on_host = self.cast.is_some() && (!matches!(device, Device::Cuda(_)) || narrower || !reach);
        let read_to = if on_host { &Device::Cpu } else { device };
        let shape = self.is_all(located, window).then(|| self.dims());
        let reading = Reading {
            name: self.name,
            located,
            window,
            shape: shape.as_deref(),
            target: self.target,
            pages,
            batch,
            device: read_to,
            is_variable: false,
        };
        let tensor = convert(reading.read()?.to_device(read_to)?, self.cast)?.to_device(device)?;
        // What is read into a device's memory is flat.
        let is_view = shape.is_some_and(|shape| *shape == *tensor.dims());
        Ok(Base { tensor, first: window.first, is_view })
    }

    /// Whether it is all of what is read of its storage, one element after the other, and alone there.
    fn is_all(&self, located: Located<'_>, window: Window) -> bool {
        let count = self.tensor.numel();
        let begins = self.used.is_none() && located.offset == window.first;
        begins && count == window.count && count > 0 && self.tensor.is_contiguous()
    }

    /// Takes the tensor out of its base.
    pub(crate) fn view(&self, located: Located<'_>, base: &Base) -> Result<Made> {
        // A view without elements may begin anywhere, also before the window.
        let empty = self.tensor.numel() == 0;
        let first = if empty { 0 } else { located.offset.saturating_sub(base.first) };
        if located.dtype == Torch::UInt64 && self.cast.is_none() && !empty {
            self.refuse_large_integers(base, first)?;
        }
        let mut changes = self.conversions();
        if self.used.is_some_and(|used| used.is_second_type) {
            changes.push(
                self.copied("candle's storages have one type, and another tensor views this one as another"),
            );
        }
        if base.is_view {
            return Ok(Made { tensor: base.tensor.clone(), changes, gathered: 0 });
        }
        let shape = self.dims();
        let (Some(stride), Some(first)) = (self.stride(), first.checked_mul(self.target.lanes)) else {
            return Err(about(self.name, "its strides overflow as pairs of real numbers"));
        };
        let in_tensor = |error: candle_core::Error| about(self.name, error);
        if let Some(tensor) = view::as_strided(&base.tensor, &shape, &stride, first).map_err(in_tensor)? {
            return Ok(Made { tensor, changes, gathered: 0 });
        }
        let gathered = self.bounded(base, &shape, &stride)?;
        changes.push(self.copied("candle has no chain of views that leads to this one"));
        let tensor = view::copy(&base.tensor, &shape, &stride, first).map_err(in_tensor)?;
        Ok(Made { tensor, changes, gathered })
    }

    /// Makes a tensor by itself: a conjugate or a negative, or one without elements.
    pub(crate) fn alone(&self, device: &Device, inflated: &mut Inflated) -> Result<Made> {
        if self.tensor.storage().is_none() {
            if self.tensor.numel() != 0 {
                return Err(about(self.name, "it has no storage"));
            }
            let tensor = Tensor::zeros(&*self.dims(), self.dtype(), device)?;
            return Ok(Made { tensor, changes: self.conversions(), gathered: 0 });
        }
        if self.target.means != Means::Same && self.target.lanes == 1 {
            let what = "candle cannot convert a lazy negative of this type: save it with resolve_neg()";
            return Err(about(self.name, format!("{}: {what}", self.tensor.dtype())));
        }
        let tensor = inflated.over(self.tensor).map_err(|error| wrap(error.in_tensor(self.name)))?;
        let bytes = tensor.to_contiguous_in(ByteOrder::NATIVE);
        let bytes = bytes.map_err(|error| wrap(error.in_tensor(self.name)))?;
        fill::room(bytes.len(), DType::U8)?;
        let tensor = Tensor::from_raw_buffer(&bytes, self.target.dtype, &self.dims(), &Device::Cpu)?;
        drop(bytes);
        let mut changes = self.conversions();
        changes.push(self.copied("candle has no lazy conjugates and negatives"));
        Ok(Made { tensor: convert(tensor, self.cast)?.to_device(device)?, changes, gathered: 0 })
    }

    /// The conversion that the caller did not ask for.
    fn conversions(&self) -> Vec<Change> {
        let (from, to) = (self.tensor.dtype(), self.target.dtype);
        match self.target.means {
            _ if self.cast.is_some() => Vec::new(),
            Means::Same => Vec::new(),
            Means::Converted => vec![Change::Converted { from, to }],
            Means::Raw => vec![Change::Raw { from, to }],
        }
    }

    pub(crate) fn copied(&self, why: &'static str) -> Change {
        let key = self.tensor.storage().map_or("", Storage::key);
        let storage = key.chars().take(Change::KEY).collect();
        Change::Copied { storage, why }
    }

    /// How many bytes a copy of a view takes, if that is in proportion to its base.
    fn bounded(&self, base: &Base, shape: &[usize], stride: &[usize]) -> Result<usize> {
        let wanted =
            view::distinct(shape, stride).and_then(|count| count.checked_mul(self.dtype().size_in_bytes()));
        let held = base.tensor.elem_count().saturating_mul(self.dtype().size_in_bytes());
        wanted.filter(|&wanted| wanted <= held.saturating_add(COPY_BEYOND)).ok_or_else(|| {
            let what =
                "candle cannot have it as a view, and its overlapping windows are too large for a copy";
            about(self.name, format!("{what}: read it from ptser::Checkpoint"))
        })
    }

    /// candle has no integers beyond 63 bits: those that the view meets are looked at where they were read to.
    fn refuse_large_integers(&self, base: &Base, first: usize) -> Result<()> {
        let (shape, stride) = (self.tensor.shape(), self.tensor.stride());
        let met = if base.is_view {
            base.tensor.clone()
        } else {
            self.bounded(base, shape, stride)?;
            let gathered = view::gather(&base.tensor, &view::once(shape, stride), stride, first);
            gathered.map_err(|error| about(self.name, error))?
        };
        let met = met.to_device(&Device::Cpu)?;
        let (storage, _) = met.storage_and_layout();
        let numbers = match &*storage {
            candle_core::Storage::Cpu(CpuStorage::I64(numbers)) => numbers.as_slice(),
            _ => &[],
        };
        let largest = numbers.iter().map(|number| number.cast_unsigned()).max();
        match largest.filter(|&largest| i64::try_from(largest).is_err()) {
            None => Ok(()),
            Some(largest) => Err(about(
                self.name,
                format!(
                    "the uint64 {largest} does not fit candle's I64, its largest integer: leave it out with \
                     PtOptions::only, or read it from ptser::Checkpoint"
                ),
            )),
        }
    }
}

/// The elements of a tensor, those that an axis of stride 0 repeats taken once.
pub(crate) fn each_once(tensor: &Described) -> Option<Described> {
    let (shape, stride) = (view::once(tensor.shape(), tensor.stride()), tensor.stride());
    Described::view(tensor.storage()?.clone(), tensor.dtype(), shape, stride, tensor.storage_offset()).ok()
}

/// candle's cast, around one that it cannot do.
pub(crate) fn convert(tensor: Tensor, dtype: Option<DType>) -> Result<Tensor> {
    let Some(dtype) = dtype.filter(|&dtype| dtype != tensor.dtype()) else { return Ok(tensor) };
    if (tensor.dtype(), dtype) == (DType::F8E4M3, DType::F64) {
        // Candle 0.11's cast of a float8 to F64 calls itself without end; F32 holds every float8.
        return convert(convert(tensor, Some(DType::F32))?, Some(dtype));
    }
    if tensor.device().is_cpu() {
        fill::room(tensor.elem_count(), dtype)?;
    }
    tensor.to_dtype(dtype)
}
