//! A state dict as candle tensors, read when asked for or all at once.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Error, Result, Shape, Tensor};
use indexmap::IndexMap;
use ptser_core::{ByteOrder, DType as Torch, StateDict, Storage, Tensor as Described, TensorKind};
use rayon::prelude::*;

use crate::base::{self, BaseKey, Uses};
use crate::dtype::{Means, Target, target};
use crate::error::{about, wrap};
use crate::fill::HugePages;
use crate::options::{Conversions, PtOptions};
use crate::report::{Change, Report};
use crate::view::{self, How};

/// The tensors of a checkpoint's state dict: their description now, their data when asked for.
///
/// A handle: clones share what is read, and the report.
#[derive(Clone)]
pub struct PtTensors(Arc<Inner>);

struct Inner {
    state_dict: StateDict,
    uses: Uses,
    conversions: Conversions,
    /// Bases that several tensors view; others go to their one tensor and are not kept.
    shared: Mutex<Vec<SharedBase>>,
    report: Mutex<Report>,
    pages: HugePages,
}

/// A base on a device in a type, and the views made of it.
struct SharedBase {
    key: BaseKey,
    dtype: DType,
    base: Base,
    views: HashMap<ViewKey, Tensor>,
}

/// Shape, stride and storage offset: equal views are one tensor.
type ViewKey = (Vec<usize>, Vec<usize>, usize);

/// A flat tensor, and the element of the storage that it begins with.
#[derive(Clone)]
struct Base {
    tensor: Tensor,
    first: usize,
}

impl PtTensors {
    pub(crate) fn new(state_dict: StateDict, options: &PtOptions) -> Self {
        let uses = Uses::of(state_dict.iter().map(|(_, tensor)| tensor));
        let inner = Inner {
            state_dict,
            uses,
            conversions: options.conversions,
            shared: Mutex::default(),
            report: Mutex::default(),
            pages: HugePages::default(),
        };
        Self(Arc::new(inner))
    }

    /// Opens a checkpoint with the defaults; no tensor data is read.
    ///
    /// # Errors
    /// As [`PtOptions::open`].
    pub fn open<P: AsRef<Path>>(path: P) -> Result<Self> {
        PtOptions::new().open(path)
    }

    /// The names, in the order of the file.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.state_dict.names()
    }

    /// The descriptions of the tensors.
    pub fn state_dict(&self) -> &StateDict {
        &self.0.state_dict
    }

    /// Whether there is a tensor of this name; reads nothing.
    pub fn contains(&self, name: &str) -> bool {
        self.0.state_dict.find(name).is_some()
    }

    /// What was done so far to tensors that candle cannot hold as they were.
    pub fn report(&self) -> Report {
        lock(&self.0.report).clone()
    }

    /// Reads a tensor in candle's counterpart of its type.
    ///
    /// # Errors
    /// A name that is not there, a type without a counterpart, errors of reading.
    pub fn get(&self, name: &str, device: &Device) -> Result<Tensor> {
        self.read(name, None, device)
    }

    /// Reads a tensor and converts it to a type.
    ///
    /// # Errors
    /// As [`get`](Self::get), and conversions that candle does not have.
    pub fn get_as(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        self.read(name, Some(dtype), device)
    }

    /// Reads a tensor of an expected shape, which is compared before anything is read.
    ///
    /// # Errors
    /// As [`get_as`](Self::get_as), and another shape.
    pub fn get_shaped(&self, shape: &Shape, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        let found = self.described(name)?;
        let target = self.target(name, found)?;
        let mut dims = found.shape().to_vec();
        if target.lanes > 1 {
            dims.push(target.lanes);
        }
        if dims != shape.dims() {
            let (expected, got) = (shape.clone(), Shape::from(dims));
            return Err(
                Error::UnexpectedShape { msg: format!("shape mismatch for {name}"), expected, got }.bt()
            );
        }
        self.read(name, Some(dtype), device)
    }

    /// Reads all tensors: each storage once, several at a time.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn load_all(&self, device: &Device) -> Result<Loaded> {
        let mut wanted: Vec<(&str, &Described, Target)> = Vec::new();
        let mut seen: HashMap<BaseKey, usize> = HashMap::new();
        for (name, tensor) in self.0.state_dict.iter() {
            let target = self.target(name, tensor)?;
            let Some(storage) = tensor.storage() else { continue };
            seen.entry((storage.id(), tensor.dtype())).or_insert_with(|| {
                wanted.push((name, tensor, target));
                wanted.len().saturating_sub(1)
            });
        }
        let read = |&(name, tensor, target): &(&str, &Described, Target)| match tensor.storage() {
            Some(storage) => self.base(name, storage, tensor.dtype(), target, None, device).map(Some),
            None => Ok(None),
        };
        // One after the other where each passes through the host on its way to a device.
        let bases: Result<Vec<Option<Base>>> = match device {
            Device::Cpu => wanted.par_iter().map(read).collect(),
            _ => wanted.iter().map(read).collect(),
        };
        let bases = bases?;
        let mut made: HashMap<(usize, ViewKey), Tensor> = HashMap::new();
        let mut tensors = IndexMap::with_capacity(self.0.state_dict.len());
        for (name, tensor) in self.0.state_dict.iter() {
            let target = self.target(name, tensor)?;
            let key = tensor.storage().map(|storage| (storage.id(), tensor.dtype()));
            let place = key.and_then(|key| seen.get(&key).copied());
            let base = place.and_then(|place| bases.get(place)).and_then(Option::as_ref);
            let shared = key.is_some_and(|key| self.0.uses.views(key) > 1);
            let value = match (base, place.filter(|_| shared)) {
                (Some(base), Some(place)) => {
                    let key = (place, view_key(tensor));
                    match made.get(&key).filter(|_| is_plain(tensor)) {
                        Some(same) => same.clone(),
                        None => {
                            let value = self.view(name, tensor, target, base)?;
                            made.entry(key).or_insert(value).clone()
                        }
                    }
                }
                (Some(base), None) => self.view(name, tensor, target, base)?,
                (None, _) => self.without_storage(name, tensor, target, device)?,
            };
            tensors.insert(name.to_owned(), value);
        }
        Ok(Loaded { tensors, report: self.report() })
    }

    fn described(&self, name: &str) -> Result<&Described> {
        self.0.state_dict.find(name).ok_or_else(|| {
            // The nearest names stand behind the path, where candle's message shows them.
            let why = self.0.state_dict.no_tensor(name).to_string();
            let nearest = why.split_once("; ").map_or(why.as_str(), |(_, nearest)| nearest);
            Error::CannotFindTensor { path: format!("{name} ({nearest})") }.bt()
        })
    }

    fn target(&self, name: &str, tensor: &Described) -> Result<Target> {
        match tensor.kind() {
            TensorKind::Strided | TensorKind::Quantized(_) => {}
            TensorKind::Meta => return Err(about(name, "a meta tensor has a shape and no values")),
            TensorKind::Sparse(sparse) => {
                let layout = sparse.layout.name();
                return Err(about(
                    name,
                    format!("candle has no {layout} tensors: read its parts from ptser::Checkpoint"),
                ));
            }
            _ => {
                return Err(about(
                    name,
                    "a tensor subclass holds its values in its attributes: read them from ptser::Checkpoint",
                ));
            }
        }
        let target = target(tensor.dtype(), self.0.conversions)
            .map_err(|choices| about(name, format!("its type is {}: {choices}", tensor.dtype())))?;
        let (from, to) = (tensor.dtype(), target.dtype);
        match target.means {
            Means::Same => {}
            Means::Converted => lock(&self.0.report).add(name, Change::Converted { from, to }),
            Means::Raw => lock(&self.0.report).add(name, Change::Raw { from, to }),
        }
        Ok(target)
    }

    fn read(&self, name: &str, dtype: Option<DType>, device: &Device) -> Result<Tensor> {
        let tensor = self.described(name)?;
        let target = self.target(name, tensor)?;
        let Some(storage) = tensor.storage() else {
            return convert(self.without_storage(name, tensor, target, device)?, dtype);
        };
        let key = (storage.id(), tensor.dtype());
        if self.0.uses.views(key) <= 1 {
            let base = self.base(name, storage, tensor.dtype(), target, dtype, device)?;
            return convert(self.view(name, tensor, target, &base)?, dtype);
        }
        // Held while reading: whoever wants the same base waits for it instead of reading it again.
        let mut shared = lock(&self.0.shared);
        let wanted = dtype.unwrap_or(target.dtype);
        let fits = |shared: &SharedBase| {
            shared.key == key && shared.dtype == wanted && shared.base.tensor.device().same_device(device)
        };
        let place = match shared.iter().position(fits) {
            Some(place) => place,
            None => {
                let base = self.base(name, storage, tensor.dtype(), target, dtype, device)?;
                shared.push(SharedBase { key, dtype: wanted, base, views: HashMap::new() });
                shared.len().saturating_sub(1)
            }
        };
        let Some(shared) = shared.get_mut(place) else { return Err(about(name, "its storage was lost")) };
        if !is_plain(tensor) {
            return convert(self.view(name, tensor, target, &shared.base)?, dtype);
        }
        let view_key = view_key(tensor);
        if let Some(same) = shared.views.get(&view_key) {
            return Ok(same.clone());
        }
        let view = self.view(name, tensor, target, &shared.base)?;
        shared.views.insert(view_key, view.clone());
        Ok(view)
    }

    /// Reads a storage, moves it to the device and casts it there: before views are made of it, which would
    /// each move and cast a copy of their own.
    fn base(
        &self,
        name: &str,
        storage: &Storage,
        dtype: Torch,
        target: Target,
        cast: Option<DType>,
        device: &Device,
    ) -> Result<Base> {
        let window = self.0.uses.window(storage, dtype);
        let tensor = base::read(name, storage, dtype, window, target, &self.0.pages)?.to_device(device)?;
        Ok(Base { tensor: convert(tensor, cast)?, first: window.first })
    }

    /// One tensor of a base.
    fn view(&self, name: &str, tensor: &Described, target: Target, base: &Base) -> Result<Tensor> {
        if !is_plain(tensor) {
            let why = "candle has no lazy conjugate or negative";
            self.note_copy(name, tensor, why);
            return self.resolved(name, tensor, target, base.tensor.device());
        }
        // A view without elements may begin anywhere, also before the window.
        let offset = tensor.storage_offset().saturating_sub(base.first);
        let (mut shape, mut stride, mut first) = (tensor.shape().to_vec(), tensor.stride().to_vec(), offset);
        if target.lanes > 1 {
            let lanes = target.lanes;
            let wide = stride.iter().map(|stride| stride.checked_mul(lanes)).collect::<Option<Vec<_>>>();
            let (Some(wide), Some(start)) = (wide, first.checked_mul(lanes)) else {
                return Err(about(name, "its strides overflow as pairs of real numbers"));
            };
            (stride, first) = (wide, start);
            shape.push(lanes);
            stride.push(1);
        }
        if tensor.numel() == 0 {
            first = 0;
        }
        match view::as_strided(&base.tensor, &shape, &stride, first)
            .map_err(|error| error.context(format!("tensor {name}")))?
        {
            Some(view) => Ok(view),
            None => {
                self.refuse_large_copy(name, tensor)?;
                let (copy, how) = view::view_or_copy(&base.tensor, &shape, &stride, first)?;
                if how == How::Copied {
                    self.note_copy(name, tensor, "candle has no chain of views that leads to this one");
                }
                Ok(copy)
            }
        }
    }

    /// Overlapping windows can make a tensor of terabytes out of a small storage.
    fn refuse_large_copy(&self, name: &str, tensor: &Described) -> Result<()> {
        let stored = tensor.storage().map_or(0, Storage::nbytes);
        let wanted = u64::try_from(tensor.nbytes()).unwrap_or(u64::MAX);
        if wanted > stored.saturating_add(4 << 30) {
            return Err(about(
                name,
                format!("its view of a storage of {stored} bytes would take {wanted} bytes as a copy"),
            ));
        }
        Ok(())
    }

    fn note_copy(&self, name: &str, tensor: &Described, why: &'static str) {
        let storage = tensor.storage().map_or_else(String::new, |storage| storage.key().to_owned());
        lock(&self.0.report).add(name, Change::Copied { storage, why });
    }

    /// Conjugates and negatives, worked out by the core.
    fn resolved(&self, name: &str, tensor: &Described, target: Target, device: &Device) -> Result<Tensor> {
        let bytes = tensor.to_contiguous_in(ByteOrder::NATIVE).map_err(wrap)?;
        let mut shape = tensor.shape().to_vec();
        if target.lanes > 1 {
            shape.push(target.lanes);
        }
        if target.lanes == 1 && target.means != Means::Same {
            return Err(about(name, format!("a lazy negative of {}", tensor.dtype())));
        }
        Tensor::from_raw_buffer(&bytes, target.dtype, &shape, device)
    }

    /// Tensors without a storage have no elements, or no values.
    fn without_storage(
        &self,
        name: &str,
        tensor: &Described,
        target: Target,
        device: &Device,
    ) -> Result<Tensor> {
        if tensor.numel() != 0 {
            return Err(about(name, "it has no storage"));
        }
        Tensor::zeros(tensor.shape(), target.dtype, device)
    }

    /// What candle's GPU kernels take: contiguous tensors and whole transposes. Views of other kinds are copied
    /// there, unless the options keep them.
    pub(crate) fn for_kernels(&self, name: &str, tensor: Tensor) -> Result<Tensor> {
        let on_host = matches!(tensor.device(), Device::Cpu);
        if on_host || self.0.conversions.keep_views || tensor.is_contiguous() {
            return Ok(tensor);
        }
        let transposed = tensor.rank() >= 2 && tensor.t().is_ok_and(|transposed| transposed.is_contiguous());
        if transposed {
            return Ok(tensor);
        }
        if let Ok(described) = self.described(name) {
            self.note_copy(name, described, "candle's GPU kernels take contiguous tensors and transposes");
        }
        tensor.contiguous()
    }
}

impl std::fmt::Debug for PtTensors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PtTensors({} tensors)", self.0.state_dict.len())
    }
}

fn convert(tensor: Tensor, dtype: Option<DType>) -> Result<Tensor> {
    match dtype {
        Some(dtype) => tensor.to_dtype(dtype),
        None => Ok(tensor),
    }
}

/// Whether the stored values are the tensor's.
fn is_plain(tensor: &Described) -> bool {
    !tensor.is_conj() && !tensor.is_neg()
}

fn view_key(tensor: &Described) -> ViewKey {
    (tensor.shape().to_vec(), tensor.stride().to_vec(), tensor.storage_offset())
}

/// A panic elsewhere leaves nothing half done behind these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All tensors of a state dict, in the order of the file.
#[derive(Debug, Clone)]
pub struct Loaded {
    tensors: IndexMap<String, Tensor>,
    report: Report,
}

impl Loaded {
    /// The tensor of a name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// Names and tensors, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// The number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// What was done to tensors that candle cannot hold as they were.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The tensors as candle's own loaders give them.
    pub fn into_map(self) -> HashMap<String, Tensor> {
        self.tensors.into_iter().collect()
    }
}

impl IntoIterator for Loaded {
    type Item = (String, Tensor);
    type IntoIter = Box<dyn ExactSizeIterator<Item = (String, Tensor)>>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.tensors.into_iter())
    }
}
