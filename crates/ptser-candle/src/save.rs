//! Candle tensors as checkpoints: which of them share a storage, and how they view it.

use std::path::Path;
use std::sync::PoisonError;

use candle_core::{DeviceLocation, Result, Tensor, Var};
use candle_nn::VarMap;
use foldhash::{HashMap, HashMapExt};
use ptser_core::{Location, SaveOptions, StateDict, Storage, Tensor as Described, layout};

use crate::error::{about, wrap};
use crate::host::{TensorBytes, location, torch_dtype};
use crate::loaded::Loaded;
use crate::natural;
use crate::view::storage_key;

/// Saves tensors as `torch.save` would save this state dict: an ordered dict of tensors without gradients, which
/// `torch.load` reads under its default, weights-only policy.
///
/// Tensors over one storage are saved over one, once; views keep their strides and offsets. Tensors on the host are
/// written from where they lie. Whoever writes to a storage waits while its bytes are being saved; between one
/// storage and the next it does not, so stop the training step where all must be of one moment. What stands at
/// the path stays until the new file is complete.
///
/// # Arguments
/// * `tensors` - A [`VarMap`], a `HashMap`, or pairs of names and tensors; see [`NamedTensors`].
/// * `path` - Where to; the customary extension is `.pt`.
///
/// # Errors
/// An element type that PyTorch lacks, a name that stands there twice, and those of writing.
///
/// ```no_run
/// let vars = candle_nn::VarMap::new();
/// ptser_candle::save(&vars, "model.pt")?;
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn save<P: AsRef<Path>>(tensors: impl NamedTensors, path: P) -> Result<()> {
    save_with(&SaveOptions::new(), tensors, path)
}

/// Saves tensors as [`save`] does, as the options say: [`compact`](SaveOptions::compact) leaves out what no tensor
/// views, [`durable`](SaveOptions::durable) may be turned off.
///
/// # Errors
/// As [`save`].
pub fn save_with<P: AsRef<Path>>(options: &SaveOptions, tensors: impl NamedTensors, path: P) -> Result<()> {
    options.save(path, &to_state_dict(tensors)?).map_err(wrap)
}

/// Describes tensors for saving, as part of a larger [`Object`](ptser_core::Object) for example. Their bytes are
/// taken when they are saved.
///
/// They are plain tensors without gradients, as in the state dict of a module, variables too;
/// [`Tensor::with_parameter`](Described::with_parameter) makes parameters of them.
///
/// ```no_run
/// use ptser_core::{Object, SaveOptions};
///
/// let vars = candle_nn::VarMap::new();
/// let weights = ptser_candle::to_state_dict(&vars)?;
/// let checkpoint = Object::dict([("epoch", Object::from(3)), ("model_state_dict", weights.into())]);
/// SaveOptions::new().save("checkpoint.pt", &checkpoint).map_err(candle_core::Error::wrap)?;
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// An element type that PyTorch lacks, and a name that stands there twice.
pub fn to_state_dict(tensors: impl NamedTensors) -> Result<StateDict> {
    let named = tensors.named_tensors();
    let mut shared = Shared::of(named.iter().map(|(_, tensor)| tensor));
    let mut state_dict = StateDict::with_capacity(named.len());
    for (name, tensor) in named {
        let described = shared.describe(&tensor).map_err(|error| wrap(error.in_tensor(&name)))?;
        if state_dict.insert(name.as_str(), described).is_some() {
            return Err(about(&name, "there are two of this name"));
        }
    }
    Ok(state_dict)
}

/// Describes tensors without names as [`to_state_dict`] does, in their order; those over one storage share it.
///
/// # Errors
/// An element type that PyTorch lacks.
pub fn to_tensors<T: AsTensor>(tensors: &[T]) -> Result<Vec<Described>> {
    let mut shared = Shared::of(tensors.iter().map(AsTensor::as_tensor));
    tensors.iter().map(|tensor| shared.describe(tensor.as_tensor()).map_err(wrap)).collect()
}

/// Describes one tensor as [`to_state_dict`] does; it shares with no other.
///
/// # Errors
/// An element type that PyTorch lacks.
pub fn to_tensor(tensor: &Tensor) -> Result<Described> {
    Shared::of([tensor].into_iter()).describe(tensor).map_err(wrap)
}

/// A tensor or a variable, or a reference to one.
pub trait AsTensor {
    /// The tensor.
    fn as_tensor(&self) -> &Tensor;
}

impl AsTensor for Tensor {
    fn as_tensor(&self) -> &Tensor {
        self
    }
}

impl AsTensor for Var {
    fn as_tensor(&self) -> &Tensor {
        Self::as_tensor(self)
    }
}

impl<T: AsTensor + ?Sized> AsTensor for &T {
    fn as_tensor(&self) -> &Tensor {
        (**self).as_tensor()
    }
}

/// Tensors with names, in the order in which they are saved.
///
/// Maps have none, so their names are sorted, numbers as numbers: `layers.2` comes before `layers.10`. Of an iterator
/// collect the pairs into a `Vec`; to clone a tensor copies no data.
pub trait NamedTensors {
    /// The names and the tensors.
    fn named_tensors(self) -> Vec<(String, Tensor)>;
}

impl NamedTensors for &VarMap {
    fn named_tensors(self) -> Vec<(String, Tensor)> {
        // A thread that panicked has not torn a map of names.
        let vars = self.data().lock().unwrap_or_else(PoisonError::into_inner);
        natural::sorted(vars.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())))
    }
}

impl<K: AsRef<str>, T: AsTensor, S> NamedTensors for &std::collections::HashMap<K, T, S> {
    fn named_tensors(self) -> Vec<(String, Tensor)> {
        natural::sorted(pairs(self).into_iter())
    }
}

impl<K: AsRef<str>, T: AsTensor> NamedTensors for &[(K, T)] {
    fn named_tensors(self) -> Vec<(String, Tensor)> {
        pairs(self.iter().map(|(name, tensor)| (name, tensor)))
    }
}

impl<K: AsRef<str>, T: AsTensor> NamedTensors for Vec<(K, T)> {
    fn named_tensors(self) -> Vec<(String, Tensor)> {
        pairs(self)
    }
}

impl<K: AsRef<str>, T: AsTensor> NamedTensors for &Vec<(K, T)> {
    fn named_tensors(self) -> Vec<(String, Tensor)> {
        self.as_slice().named_tensors()
    }
}

impl<K: AsRef<str>, T: AsTensor, const N: usize> NamedTensors for [(K, T); N] {
    fn named_tensors(self) -> Vec<(String, Tensor)> {
        pairs(self)
    }
}

impl<K: AsRef<str>, T: AsTensor, const N: usize> NamedTensors for &[(K, T); N] {
    fn named_tensors(self) -> Vec<(String, Tensor)> {
        self.as_slice().named_tensors()
    }
}

/// In the order of the file that they came from.
impl NamedTensors for &Loaded {
    fn named_tensors(self) -> Vec<(String, Tensor)> {
        pairs(self.iter())
    }
}

fn pairs<K: AsRef<str>, T: AsTensor>(tensors: impl IntoIterator<Item = (K, T)>) -> Vec<(String, Tensor)> {
    tensors.into_iter().map(|(name, tensor)| (name.as_ref().to_owned(), tensor.as_tensor().clone())).collect()
}

/// The storages of tensors that are saved together, by [`storage_key`].
struct Shared {
    known: HashMap<usize, Known>,
    locations: Vec<(DeviceLocation, Location)>,
}

/// A storage that is to be saved.
#[derive(Default)]
struct Known {
    /// Elements from the beginning to the last that is viewed, on devices.
    extent: usize,
    /// Once it is described.
    storage: Option<Storage>,
}

impl Shared {
    /// A tensor lives until it is described, and then in its description, so that keys stay true.
    fn of<'t>(tensors: impl ExactSizeIterator<Item = &'t Tensor>) -> Self {
        let mut known: HashMap<usize, Known> = HashMap::with_capacity(tensors.len());
        // The host knows how large its storages are.
        for tensor in tensors.filter(|tensor| !tensor.device().is_cpu()) {
            let (dims, stride) = (tensor.dims(), tensor.stride());
            let end = layout::extent(dims, stride, tensor.layout().start_offset()).unwrap_or(0);
            let known = known.entry(storage_key(tensor)).or_default();
            known.extent = known.extent.max(end);
        }
        Self { known, locations: Vec::new() }
    }

    fn describe(&mut self, tensor: &Tensor) -> ptser_core::Result<Described> {
        let dtype = torch_dtype(tensor.dtype())?;
        let location = self.location(tensor);
        let known = self.known.entry(storage_key(tensor)).or_default();
        let storage = match &known.storage {
            Some(storage) => storage.clone(),
            None => {
                let bytes = TensorBytes::of(tensor, known.extent)?;
                // Types without a storage class have untyped storages.
                let class = dtype.storage_class().map(|_| dtype);
                known.storage.insert(Storage::from_host(class, location, bytes)).clone()
            }
        };
        let shape = tensor.dims();
        if shape.contains(&0) {
            // Without elements it lies nowhere, and candle's strides say less than PyTorch's.
            return Described::contiguous(storage, dtype, shape);
        }
        Described::view(storage, dtype, shape, tensor.stride(), tensor.layout().start_offset())
    }

    fn location(&mut self, tensor: &Tensor) -> Location {
        let device = tensor.device().location();
        match self.locations.iter().find(|(known, _)| *known == device) {
            Some((_, location)) => location.clone(),
            None => {
                let location = location(device);
                self.locations.push((device, location.clone()));
                location
            }
        }
    }
}
