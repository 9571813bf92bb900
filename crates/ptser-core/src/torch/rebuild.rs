//! PyTorch's functions that rebuild tensors, and the legacy ways to the same end. Each number is checked
//! against the storage here, when the file is opened.

use std::sync::Arc;

use super::interpret::{Meaning, Reading, Spelling, TensorMeaning};
use super::names::{Known, QScheme, Rebuild};
use crate::bounds::{shaped, view_of};
use crate::dtype::DType;
use crate::error::{Error, Reason, Result};
use crate::location::Location;
use crate::pickle::{Node, NodeId, Object};
use crate::sizes::Sizes;
use crate::tensor::{Fields, Quantized, QuantizedParameter, Tensor, TensorKind};

/// PyTorch's operators take tensors of at most so many dimensions.
const DIMENSIONS_MAX: usize = 64;

impl Reading<'_> {
    /// The meaning of a rebuild function's call.
    pub(super) fn rebuild(&mut self, function: Rebuild, args: &[NodeId]) -> Result<Meaning> {
        match function {
            Rebuild::FromType | Rebuild::FromTypeV2 => self.subclass(args),
            Rebuild::ParameterWithState => {
                let &[tensor, requires_grad, _hooks, state] = args else {
                    return Err(self.wrong_count(function, args));
                };
                let mut meaning = self.parameter_of(tensor, requires_grad)?;
                meaning.attributes = self.state(state)?;
                Ok(Meaning::Tensor(meaning))
            }
            Rebuild::Parameter => {
                let &[tensor, requires_grad, _hooks] = args else {
                    return Err(self.wrong_count(function, args));
                };
                Ok(Meaning::Tensor(self.parameter_of(tensor, requires_grad)?))
            }
            _ => {
                let tensor = self.plain(function, args)?;
                Ok(self.add(tensor))
            }
        }
    }

    /// The functions that make a tensor from scratch.
    fn plain(&self, function: Rebuild, args: &[NodeId]) -> Result<Fields> {
        match (function, args) {
            (Rebuild::V1, &[storage, offset, size, stride]) => self.view(storage, None, offset, size, stride),
            (Rebuild::V2, &[storage, offset, size, stride, requires_grad, _hooks]) => {
                let tensor = self.view(storage, None, offset, size, stride)?;
                self.with_flags(tensor, requires_grad, None)
            }
            (Rebuild::V2, &[storage, offset, size, stride, requires_grad, _hooks, metadata]) => {
                let tensor = self.view(storage, None, offset, size, stride)?;
                self.with_flags(tensor, requires_grad, Some(metadata))
            }
            (Rebuild::V3, &[storage, offset, size, stride, requires_grad, _hooks, dtype]) => {
                let tensor = self.view(storage, Some(self.dtype(dtype)?), offset, size, stride)?;
                self.with_flags(tensor, requires_grad, None)
            }
            (Rebuild::V3, &[storage, offset, size, stride, requires_grad, _hooks, dtype, metadata]) => {
                let tensor = self.view(storage, Some(self.dtype(dtype)?), offset, size, stride)?;
                self.with_flags(tensor, requires_grad, Some(metadata))
            }
            (Rebuild::Quantized, &[storage, offset, size, stride, parameters, requires_grad, _hooks]) => {
                let tensor = self.view(storage, None, offset, size, stride)?;
                let mut tensor = self.with_flags(tensor, requires_grad, None)?;
                tensor.kind = TensorKind::Quantized(Arc::new(self.quantizer(&tensor, parameters)?));
                Ok(tensor)
            }
            (Rebuild::Sparse, &[layout, data]) => self.sparse(layout, data),
            (Rebuild::Sparse, &[layout, size, requires_grad, ref parts @ .., _hooks]) => {
                let tensor = self.script_sparse(layout, size, parts)?;
                self.with_flags(tensor, requires_grad, None)
            }
            (Rebuild::MetaNoStorage, &[dtype, size, stride, requires_grad]) => {
                let (shape, stride) = self.shape_and_stride(size, stride)?;
                let tensor = Fields { kind: TensorKind::Meta, ..shaped(self.dtype(dtype)?, shape, stride)? };
                self.with_flags(tensor, requires_grad, None)
            }
            (
                Rebuild::WrapperSubclass,
                &[_class, dtype, size, stride, offset, layout, device, requires_grad],
            ) => {
                let (shape, stride) = self.shape_and_stride(size, stride)?;
                let mut tensor = shaped(self.dtype(dtype)?, shape, stride)?;
                tensor.storage_offset = self.index(offset, "storage offset")?;
                let layout = match self.meaning_of(layout) {
                    Some(Meaning::Layout(layout)) => *layout,
                    _ => return Err(self.wrong(layout, "a layout")),
                };
                let device = match self.meaning_of(device) {
                    Some(Meaning::Device(device)) => device.clone(),
                    _ => self
                        .graph
                        .str(device)
                        .map(Location::new)
                        .ok_or_else(|| self.wrong(device, "a device"))?,
                };
                tensor.kind = TensorKind::Wrapper { device, layout };
                self.with_flags(tensor, requires_grad, None)
            }
            // The device is one without storages of its own, such as xla.
            (Rebuild::DeviceFromCpu, &[tensor, dtype, _device, requires_grad]) => {
                let tensor = self.tensor(tensor)?.cast(self.dtype(dtype)?)?;
                self.with_flags(tensor.into_fields(), requires_grad, None)
            }
            (Rebuild::DeviceFromNumpy, &[array, dtype, _device, requires_grad]) => {
                let tensor = self.array_of(array)?.cast(self.dtype(dtype)?)?;
                self.with_flags(tensor.into_fields(), requires_grad, None)
            }
            (Rebuild::Nested, &[buffer, sizes, strides, offsets]) => {
                self.nested_tensor(buffer, sizes, strides, offsets)
            }
            _ => Err(self.wrong_count(function, args)),
        }
    }

    /// `(function, type, args, state)`: a tensor with a class or attributes of its own.
    fn subclass(&mut self, args: &[NodeId]) -> Result<Meaning> {
        let &[function, class, inner, state] = args else {
            return Err(self.wrong_args("torch._tensor._rebuild_from_type_v2", args));
        };
        let Some(inner) = self.graph.tuple(inner) else {
            return Err(self.wrong(inner, "a tuple of arguments"));
        };
        let function = match self.known_global(function) {
            Some(Known::Rebuild(Rebuild::FromType | Rebuild::FromTypeV2)) => None,
            Some(Known::Rebuild(function)) => Some(function),
            // A subclass with a rebuild function of its own: what the policy let through stays an object.
            _ if matches!(self.graph.node(function), Node::Global(_)) => return Ok(Meaning::Opaque),
            _ if matches!(self.meaning_of(function), Some(Meaning::Member(_))) => return Ok(Meaning::Opaque),
            _ => None,
        };
        let Some(function) = function else {
            return Err(self.wrong_args("torch._tensor._rebuild_from_type_v2", args));
        };
        let Meaning::Tensor(mut meaning) = self.rebuild(function, inner)? else { return Ok(Meaning::Opaque) };
        meaning.class = (self.known_global(class) != Some(Known::Tensor)).then_some(class);
        meaning.attributes = self.state(state)?;
        Ok(Meaning::Tensor(meaning))
    }

    /// `torch.FloatTensor()` and its like, given a storage by `BUILD`.
    pub(super) fn legacy_tensor(
        &mut self,
        object: &Object,
        dtype: Option<DType>,
        args: &[NodeId],
    ) -> Result<Meaning> {
        if !args.is_empty() {
            return Err(self.wrong_args("a tensor class", args));
        }
        let tensor = match object.more.as_deref().and_then(|more| more.states.last()) {
            None => shaped(dtype.unwrap_or(DType::Float32), [0].into(), [1].into())?,
            Some(&state) => {
                let Some(&[storage, offset, size, stride]) = self.graph.tuple(state) else {
                    return Err(self.wrong(state, "(storage, storage_offset, size, stride)"));
                };
                self.view(storage, None, offset, size, stride)?
            }
        };
        Ok(self.add(tensor))
    }

    /// `torch.nn.parameter.Parameter(data[, requires_grad])`, with the state of torch 0.1 to 0.3 where there is one.
    pub(super) fn parameter(&mut self, object: &Object, args: &[NodeId]) -> Result<Meaning> {
        let (tensor, requires_grad) = match *args {
            [tensor] => (tensor, None),
            [tensor, requires_grad] => (tensor, Some(requires_grad)),
            _ => return Err(self.wrong_args("torch.nn.parameter.Parameter", args)),
        };
        let state = object.more.as_deref().and_then(|more| more.states.last());
        // (requires_grad, volatile, hooks), or with data and grad before them.
        let state = state.and_then(|&state| self.graph.tuple(state)).and_then(|state| match state {
            &[requires_grad, _, _] | &[_, _, _, requires_grad, _] => Some(requires_grad),
            _ => None,
        });
        let meaning = match requires_grad.or(state) {
            Some(requires_grad) => self.parameter_of(tensor, requires_grad)?,
            None => self.parameter_with(tensor, true)?,
        };
        Ok(Meaning::Tensor(meaning))
    }

    fn parameter_of(&mut self, tensor: NodeId, requires_grad: NodeId) -> Result<TensorMeaning> {
        let requires_grad = self.flag(requires_grad, "requires_grad")?;
        self.parameter_with(tensor, requires_grad)
    }

    /// A parameter of the same class; a wrapper subclass keeps what it wraps.
    fn parameter_with(&mut self, tensor: NodeId, requires_grad: bool) -> Result<TensorMeaning> {
        let inner = self.tensor(tensor)?.clone().into_fields();
        let parameter = Fields { parameter: true, requires_grad, ..inner };
        let wrapper = matches!(parameter.kind, TensorKind::Wrapper { .. });
        let mut meaning = self.place(parameter);
        if let Some(&Meaning::Tensor(inner)) = self.meaning_of(tensor) {
            meaning.class = inner.class;
            meaning.attributes = inner.attributes.filter(|_| wrapper);
        }
        Ok(meaning)
    }

    pub(super) fn add(&mut self, tensor: Fields) -> Meaning {
        Meaning::Tensor(self.place(tensor))
    }

    fn place(&mut self, tensor: Fields) -> TensorMeaning {
        self.tensors.push(tensor.into());
        TensorMeaning { place: self.tensors.len().saturating_sub(1), class: None, attributes: None }
    }

    // Arguments.

    /// A view, checked against its storage. Without a `dtype` it has the storage's.
    fn view(
        &self,
        storage: NodeId,
        dtype: Option<DType>,
        offset: NodeId,
        size: NodeId,
        stride: NodeId,
    ) -> Result<Fields> {
        let Some((storage, recorded)) = self.storage(storage) else {
            return Err(self.wrong(storage, "a storage"));
        };
        let dtype = dtype.or(recorded).unwrap_or(DType::UInt8);
        let storage_offset = self.index(offset, "storage offset")?;
        let (shape, stride) = self.shape_and_stride(size, stride)?;
        let view = view_of(storage.clone(), dtype, shape, stride, storage_offset)?;
        if storage.is_meta() {
            return Ok(Fields { kind: TensorKind::Meta, storage: None, ..view });
        }
        Ok(view)
    }

    fn with_flags(
        &self,
        mut tensor: Fields,
        requires_grad: NodeId,
        metadata: Option<NodeId>,
    ) -> Result<Fields> {
        tensor.requires_grad = self.flag(requires_grad, "requires_grad")?;
        let Some(metadata) = metadata else { return Ok(tensor) };
        match self.graph.node(metadata) {
            Node::None => {}
            Node::Dict(_) => {
                self.charge(self.graph.members(metadata).len())?;
                for entry in self.graph.members(metadata).chunks_exact(2) {
                    let &[name, value] = entry else { continue };
                    match self.graph.str(name) {
                        Some("conj") => tensor.conj = self.flag(value, "conj")?,
                        Some("neg") => tensor.neg = self.flag(value, "neg")?,
                        // Python attributes of its own; PyTorch ignores what it does not know.
                        _ => {}
                    }
                }
            }
            _ => return Err(self.wrong(metadata, "a dict of math bits")),
        }
        if tensor.conj && !tensor.dtype.is_complex() {
            return Err(Reason::Tensor(format!("the conj bit is set on a tensor of {}", tensor.dtype)).into());
        }
        Ok(tensor)
    }

    fn shape_and_stride(&self, size: NodeId, stride: NodeId) -> Result<(Sizes, Sizes)> {
        let shape = self.dims(size, "size")?;
        let stride = self.dims(stride, "stride")?;
        if shape.len() != stride.len() {
            let (size, stride) = (shape.len(), stride.len());
            return Err(Reason::Tensor(format!("{size} sizes and {stride} strides")).into());
        }
        Ok((shape, stride))
    }

    /// A tuple, list or `torch.Size` of integers from zero up.
    pub(super) fn dims(&self, id: NodeId, what: &str) -> Result<Sizes> {
        let id = match self.meaning_of(id) {
            Some(Meaning::Size(sizes)) => *sizes,
            _ => id,
        };
        if !matches!(self.graph.node(id), Node::Tuple(_) | Node::List(_)) {
            return Err(self.wrong(id, &format!("a tuple of integers for the {what}")));
        }
        let members = self.graph.members(id);
        if members.len() > DIMENSIONS_MAX {
            let found = members.len();
            return Err(Reason::Unsupported(format!(
                "a tensor of {found} dimensions, more than {DIMENSIONS_MAX}"
            ))
            .into());
        }
        self.indices(id, what)
    }

    /// Integers from zero up, however many.
    pub(super) fn indices<T: FromIterator<usize>>(&self, id: NodeId, what: &str) -> Result<T> {
        let members = self.graph.members(id);
        self.charge(members.len())?;
        members.iter().map(|&index| self.index(index, what)).collect()
    }

    #[inline]
    fn index(&self, id: NodeId, what: &str) -> Result<usize> {
        match self.graph.node(id) {
            Node::Int(int) => {
                usize::try_from(int).map_err(|_| Reason::Tensor(format!("a negative {what}: {int}")).into())
            }
            _ => Err(self.wrong(id, &format!("an integer for the {what}"))),
        }
    }

    #[inline]
    pub(super) fn flag(&self, id: NodeId, what: &str) -> Result<bool> {
        match self.graph.node(id) {
            Node::Bool(flag) => Ok(flag),
            _ => Err(self.wrong(id, &format!("True or False for {what}"))),
        }
    }

    fn dtype(&self, id: NodeId) -> Result<DType> {
        match self.known_global(id) {
            Some(Known::DType(dtype)) => Ok(dtype),
            _ => Err(self.wrong(id, "a dtype")),
        }
    }

    pub(super) fn tensor(&self, id: NodeId) -> Result<&Tensor> {
        let tensor = self.tensor_place(id).and_then(|place| self.tensors.get(place));
        tensor.ok_or_else(|| self.wrong(id, "a tensor"))
    }

    /// A tensor that can be part of another: a view of a storage.
    pub(super) fn part(&self, id: NodeId) -> Result<&Tensor> {
        let tensor = self.tensor(id)?;
        match tensor.kind() {
            TensorKind::Strided | TensorKind::Meta => Ok(tensor),
            _ => Err(self.wrong(id, "a strided tensor for a part of another")),
        }
    }

    fn number(&self, id: NodeId) -> Result<f64> {
        match self.graph.node(id) {
            Node::Float(float) => Ok(float),
            Node::Int(int) => i32::try_from(int).map(f64::from).map_err(|_| self.wrong(id, "a number")),
            _ => Err(self.wrong(id, "a number")),
        }
    }

    /// A state other than `None`.
    fn state(&self, id: NodeId) -> Result<Option<NodeId>> {
        self.charge_state(id)?;
        Ok((!matches!(self.graph.node(id), Node::None)).then_some(id))
    }

    fn quantizer(&self, tensor: &Fields, parameters: NodeId) -> Result<Quantized> {
        let members = self.graph.tuple(parameters).unwrap_or_default();
        let scheme = match members.first().map(|&scheme| self.known_global(scheme)) {
            Some(Some(Known::QScheme(scheme))) => scheme,
            _ => return Err(self.wrong(parameters, "a quantization scheme with its parameters")),
        };
        match (scheme, members) {
            (QScheme::PerTensorAffine, &[_, scale, zero_point]) => {
                let Node::Int(zero_point) = self.graph.node(zero_point) else {
                    return Err(self.wrong(zero_point, "an integer zero point"));
                };
                Ok(Quantized::PerTensor { scale: self.number(scale)?, zero_point })
            }
            (
                QScheme::PerChannelAffine | QScheme::PerChannelAffineFloatQParams,
                &[_, scales, zero_points, axis],
            ) => {
                let axis = self.index(axis, "axis")?;
                let Some(&channels) = tensor.shape.get(axis) else {
                    return Err(
                        Reason::Tensor(format!("axis {axis} of {} dimensions", tensor.shape.len())).into()
                    );
                };
                let scales = self.per_channel(scales, channels)?;
                let zero_points = self.per_channel(zero_points, channels)?;
                // PyTorch names the other scheme whichever it saves; the scales tell.
                let float_qparams = match &scales {
                    QuantizedParameter::Tensor(scales) => scales.dtype() == DType::Float32,
                    QuantizedParameter::List(_) => scheme == QScheme::PerChannelAffineFloatQParams,
                };
                Ok(Quantized::PerChannel { scales, zero_points, axis, float_qparams })
            }
            (QScheme::PerTensorSymmetric | QScheme::PerChannelSymmetric, _) => Err(Reason::Unsupported(
                "a symmetric quantization scheme, which PyTorch cannot load either".into(),
            )
            .into()),
            _ => Err(self.wrong_args("a quantizer", members)),
        }
    }

    fn per_channel(&self, id: NodeId, channels: usize) -> Result<QuantizedParameter> {
        let parameter = match self.graph.node(id) {
            _ if self.tensor_place(id).is_some() => {
                QuantizedParameter::Tensor(Box::new(self.part(id)?.clone()))
            }
            Node::List(_) | Node::Tuple(_) => {
                self.charge(self.graph.members(id).len())?;
                let numbers: Result<Vec<f64>> =
                    self.graph.members(id).iter().map(|&id| self.number(id)).collect();
                QuantizedParameter::List(numbers?)
            }
            _ => return Err(self.wrong(id, "one number a channel")),
        };
        let found = match &parameter {
            QuantizedParameter::Tensor(tensor) => tensor.numel(),
            QuantizedParameter::List(numbers) => numbers.len(),
        };
        if found != channels {
            return Err(
                Reason::Tensor(format!("{found} quantization parameters for {channels} channels")).into()
            );
        }
        Ok(parameter)
    }

    pub(super) fn wrong(&self, id: NodeId, expected: &str) -> Error {
        Reason::Tensor(format!("expected {expected}, found {}", self.describe(id))).into()
    }

    fn wrong_count(&self, function: Rebuild, args: &[NodeId]) -> Error {
        Reason::Tensor(format!("the rebuild function {function:?} cannot take {} arguments", args.len()))
            .into()
    }
}
