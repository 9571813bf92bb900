//! A state dict as candle tensors, read when asked for or all at once.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Error, Result, Shape, Tensor};
use ptser_core::{DType as Torch, StateDict, Tensor as Described};

use crate::all;
use crate::base::{BaseKey, Located, Uses};
use crate::dtype::Conversions;
use crate::error::wrap;
use crate::fill::HugePages;
use crate::inflated::Inflated;
use crate::loaded::Loaded;
use crate::make::{Base, Wanted, each_once};
use crate::options::PtOptions;
use crate::report::{Change, Report};
use crate::shared::{Lookup, SharedBases, ViewKey};

/// The tensors of a checkpoint's state dict: their description now, their data when asked for.
///
/// A storage that several tensors view is read once, and kept until each of them has been asked for; what the
/// tensors hold then lives on in them alone. A handle: clones share what is read, and the report.
#[derive(Clone)]
pub struct PtTensors(Arc<Inner>);

struct Inner {
    state_dict: StateDict,
    uses: Uses,
    conversions: Conversions,
    shared: SharedBases,
    report: Mutex<Report>,
    pages: HugePages,
}

impl PtTensors {
    pub(crate) fn new(state_dict: StateDict, options: &PtOptions) -> Self {
        Self::over(state_dict, options.conversions)
    }

    /// Some of the tensors, by their names.
    pub(crate) fn part<'n>(&self, names: impl Iterator<Item = &'n str>) -> Self {
        let found = names.filter_map(|name| Some((name, self.0.state_dict.find(name)?.clone())));
        Self::over(found.collect(), self.0.conversions)
    }

    pub(crate) fn conversions(&self) -> Conversions {
        self.0.conversions
    }

    fn over(state_dict: StateDict, conversions: Conversions) -> Self {
        let uses = Uses::of(state_dict.iter().map(|(_, tensor)| tensor));
        let inner = Inner {
            state_dict,
            uses,
            conversions,
            shared: SharedBases::default(),
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

    /// What was done so far to tensors that candle cannot hold as they were, one by one.
    pub fn report(&self) -> Report {
        self.0.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads a tensor in candle's counterpart of its type.
    ///
    /// # Errors
    /// A name that is not there, a type without a counterpart, errors of reading.
    pub fn get(&self, name: &str, device: &Device) -> Result<Tensor> {
        self.read(self.wanted(name, None)?, device)
    }

    /// Reads a tensor and converts it to a type.
    ///
    /// # Errors
    /// As [`get`](Self::get), and conversions that candle does not have.
    pub fn get_as(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        self.read(self.wanted(name, Some(dtype))?, device)
    }

    /// Reads a tensor of an expected shape, which is compared before anything is read.
    ///
    /// # Errors
    /// As [`get_as`](Self::get_as), and another shape.
    pub fn get_shaped(&self, shape: &Shape, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        let wanted = self.find(name, Some(dtype))?.ok_or_else(|| self.missing(name, Some(shape)))?;
        let dims = wanted.dims();
        if *dims != *shape.dims() {
            let msg = match self.of_shape(shape).as_slice() {
                [] => format!("shape mismatch for {name}"),
                names => format!("shape mismatch for {name} (of the expected shape: {})", names.join(", ")),
            };
            return Err(
                Error::UnexpectedShape { msg, expected: shape.clone(), got: Shape::from(&*dims) }.bt()
            );
        }
        self.read(wanted, device)
    }

    /// Reads all tensors: each storage once, several at a time.
    ///
    /// # Errors
    /// As [`get`](Self::get), and lazy conjugates and negatives, which are worked out, and 64-bit unsigned integers,
    /// which are looked at, that are [out of proportion](StateDict::check_views) together.
    pub fn load_all(&self, device: &Device) -> Result<Loaded> {
        let Inner { state_dict, uses, conversions, pages, .. } = &*self.0;
        let copied = state_dict.iter().filter_map(|(name, tensor)| match tensor.dtype() {
            _ if tensor.is_conj() || tensor.is_neg() => Some((name, tensor.clone())),
            Torch::UInt64 => Some((name, each_once(tensor)?)),
            _ => None,
        });
        copied.collect::<StateDict>().check_views().map_err(wrap)?;
        let wanted = state_dict.iter().enumerate().map(|(place, (name, tensor))| {
            Ok(Wanted::of(name, tensor, None, *conversions)?.among(uses.at(place)))
        });
        all::load(wanted, state_dict.shared_names(), pages, device)
    }

    fn wanted<'s>(&'s self, name: &'s str, cast: Option<DType>) -> Result<Wanted<'s>> {
        self.find(name, cast)?.ok_or_else(|| self.missing(name, None))
    }

    fn find<'s>(&'s self, name: &'s str, cast: Option<DType>) -> Result<Option<Wanted<'s>>> {
        let Inner { state_dict, uses, conversions, .. } = &*self.0;
        let Some((place, tensor)) = state_dict.find_full(name) else { return Ok(None) };
        Ok(Some(Wanted::of(name, tensor, cast, *conversions)?.among(uses.at(place))))
    }

    /// The error for a name that is not there: what was expected, and the nearest names stand behind the path,
    /// where candle's message shows them.
    fn missing(&self, name: &str, shape: Option<&Shape>) -> Error {
        let nearest = self.0.state_dict.nearest(name);
        let there = match (nearest.is_empty(), self.0.state_dict.len()) {
            (false, _) => format!("the nearest names are {}", nearest.join(", ")),
            (true, 0) => "there are no tensors at all".to_owned(),
            (true, count) => format!("among {count}, none of a similar name"),
        };
        let expected = shape.map_or_else(String::new, |shape| format!("of shape {:?}; ", shape.dims()));
        Error::CannotFindTensor { path: format!("{name} ({expected}{there})") }.bt()
    }

    /// Some names of tensors of a shape, for the error about another shape.
    fn of_shape(&self, shape: &Shape) -> Vec<&str> {
        let fits = self.0.state_dict.iter().filter(|(_, tensor)| tensor.shape() == shape.dims());
        fits.map(|(name, _)| name).take(3).collect()
    }

    fn read(&self, wanted: Wanted<'_>, device: &Device) -> Result<Tensor> {
        let Inner { shared, pages, .. } = &*self.0;
        let made = match wanted.located() {
            None => wanted.alone(device, &mut Inflated::default())?,
            Some(located) => {
                let key = located.key();
                let read = || wanted.base(located, pages, None, device);
                let view = |base: &Base| wanted.view(located, base);
                match wanted.views() {
                    ..=1 => view(&read()?)?,
                    names => {
                        let lookup = Lookup { key, dtype: wanted.dtype(), device, names };
                        shared.serve(&lookup, wanted.name, view_key(wanted.tensor, located), read, view)?
                    }
                }
            }
        };
        made.changes.into_iter().for_each(|change| self.note(wanted.name, change));
        Ok(made.tensor)
    }

    fn note(&self, name: &str, change: Change) {
        self.0.report.lock().unwrap_or_else(PoisonError::into_inner).add(name, change);
    }

    /// What candle's GPU kernels take: contiguous tensors and whole transposes. Views of other kinds are copied
    /// there, unless the options keep them.
    pub(crate) fn for_kernels(&self, name: &str, tensor: Tensor) -> Result<Tensor> {
        let on_host = matches!(tensor.device(), Device::Cpu);
        if on_host || self.0.conversions.keep_views || tensor.is_contiguous() {
            return Ok(tensor);
        }
        if tensor.rank() >= 2 && tensor.t().is_ok_and(|transposed| transposed.is_contiguous()) {
            return Ok(tensor);
        }
        if let Ok(wanted) = self.wanted(name, None) {
            let alone = StateDict::from_iter([(name, wanted.tensor.clone())]);
            alone.check_views().map_err(wrap)?;
            self.note(name, wanted.copied("candle's GPU kernels take contiguous tensors and transposes"));
        }
        tensor.contiguous()
    }
}

impl std::fmt::Debug for PtTensors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PtTensors({} tensors)", self.0.state_dict.len())
    }
}

/// Where a tensor lies and how: those of which this is equal are one tensor.
pub(crate) type ViewOf = (BaseKey, ViewKey, bool, bool);

/// The same of a tensor that has elements.
pub(crate) fn view_of(tensor: &Described) -> Option<ViewOf> {
    let located = Located::of(tensor).filter(|_| tensor.numel() > 0)?;
    Some((located.key(), view_key(tensor, located), tensor.is_conj(), tensor.is_neg()))
}

pub(crate) fn view_key(tensor: &Described, located: Located<'_>) -> ViewKey {
    (tensor.shape().to_vec(), tensor.stride().to_vec(), located.offset)
}
