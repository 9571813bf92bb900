//! A tensor as the file describes it: a view of a storage, or parts that are such views.

mod fields;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use self::fields::Repr;
pub(crate) use self::fields::{Fields, Rows};
use crate::bounds::{check_inside, view_of};
use crate::byte_order::ByteOrder;
use crate::dtype::DType;
use crate::error::{Error, Reason, Result};
use crate::layout;
use crate::limits;
use crate::location::Location;
use crate::source::zeroed;
use crate::sparse::IndexRule;
use crate::storage::{Storage, fill_vec};

/// A tensor: element type, shape, and where its elements lie. Sizes, strides and offsets are in elements.
///
/// Every number was checked against the storage when the file was opened.
#[derive(Clone)]
pub struct Tensor(Repr);

/// How a tensor's elements are held.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum TensorKind {
    /// A view of one storage.
    Strided,
    /// A shape without data: a tensor of the `meta` device.
    Meta,
    /// Indices and values.
    Sparse(Arc<Sparse>),
    /// Integers with a scale and a zero point.
    Quantized(Arc<Quantized>),
    /// Components of different shapes.
    Nested(Arc<Nested>),
    /// A tensor subclass that holds its data in its attributes.
    Wrapper {
        /// The device that the subclass reports.
        device: Location,
        /// The layout that it reports.
        layout: Layout,
    },
}

/// PyTorch's tensor layouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Layout {
    /// A view of a storage.
    Strided,
    /// Coordinates.
    SparseCoo,
    /// Compressed rows.
    SparseCsr,
    /// Compressed columns.
    SparseCsc,
    /// Compressed rows of blocks.
    SparseBsr,
    /// Compressed columns of blocks.
    SparseBsc,
    /// Opaque to everything but MKL-DNN.
    Mkldnn,
    /// Ragged.
    Jagged,
}

/// The parts of a sparse tensor, each a tensor of its own.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Sparse {
    /// Which of the five layouts.
    pub layout: Layout,
    /// `indices`; or `crow_indices`/`ccol_indices` and `col_indices`/`row_indices`; then `values`.
    pub parts: Vec<(&'static str, Tensor)>,
    /// Whether coordinates are known to be unique and sorted; `None` where the file does not say.
    pub is_coalesced: Option<bool>,
}

/// The components of a nested tensor, and the buffer that they are views of.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Nested {
    /// All of it, one-dimensional.
    pub buffer: Tensor,
    /// Views of the buffer.
    pub components: Vec<Tensor>,
}

/// The parameters of a quantized tensor.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Quantized {
    /// One scale for all.
    PerTensor {
        /// The size of a step.
        scale: f64,
        /// The integer that stands for zero.
        zero_point: i64,
    },
    /// One scale for each index of an axis.
    PerChannel {
        /// One a channel, where the file holds a tensor.
        scales: QuantizedParameter,
        /// One a channel.
        zero_points: QuantizedParameter,
        /// The axis of the channels.
        axis: usize,
        /// Whether PyTorch calculates with them in binary32: `per_channel_affine_float_qparams`.
        float_qparams: bool,
    },
}

/// Scales or zero points, which files hold as a tensor or as a list.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum QuantizedParameter {
    /// A one-dimensional tensor.
    Tensor(Box<Tensor>),
    /// Plain numbers.
    List(Vec<f64>),
}

impl Layout {
    /// PyTorch's name without `torch.`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Strided => "strided",
            Self::SparseCoo => "sparse_coo",
            Self::SparseCsr => "sparse_csr",
            Self::SparseCsc => "sparse_csc",
            Self::SparseBsr => "sparse_bsr",
            Self::SparseBsc => "sparse_bsc",
            Self::Mkldnn => "_mkldnn",
            Self::Jagged => "jagged",
        }
    }

    const ALL: [Self; 8] = [
        Self::Strided,
        Self::SparseCoo,
        Self::SparseCsr,
        Self::SparseCsc,
        Self::SparseBsr,
        Self::SparseBsc,
        Self::Mkldnn,
        Self::Jagged,
    ];

    /// Parses PyTorch's name, with or without `torch.`.
    pub fn from_name(name: &str) -> Option<Self> {
        let name = name.strip_prefix("torch.").unwrap_or(name);
        Self::ALL.into_iter().find(|layout| layout.name() == name)
    }
}

impl Tensor {
    /// A view of a storage; sizes, strides and the offset are in elements.
    ///
    /// # Errors
    /// `Malformed` where it leaves the storage, or has not as many strides as sizes.
    pub fn view(
        storage: Storage,
        dtype: DType,
        shape: impl AsRef<[usize]>,
        stride: impl AsRef<[usize]>,
        storage_offset: usize,
    ) -> Result<Self> {
        let (shape, stride) = (shape.as_ref(), stride.as_ref());
        if shape.len() != stride.len() {
            let (sizes, strides) = (shape.len(), stride.len());
            return Err(Reason::Tensor(format!("{sizes} sizes and {strides} strides")).into());
        }
        Ok(view_of(storage, dtype, shape.into(), stride.into(), storage_offset)?.into())
    }

    /// A view of a storage from its first element on, in C order.
    ///
    /// # Errors
    /// `Malformed` where it leaves the storage.
    pub fn contiguous(storage: Storage, dtype: DType, shape: impl AsRef<[usize]>) -> Result<Self> {
        let shape = shape.as_ref();
        let stride = layout::contiguous_stride(shape);
        Self::view(storage, dtype, shape, stride, 0)
    }

    /// The same view of another storage.
    ///
    /// # Errors
    /// `Malformed` where it leaves that storage, `Misuse` for a tensor that is no view of one.
    pub fn with_storage(self, storage: Storage) -> Result<Self> {
        if self.storage().is_none() {
            return Err(Error::misuse("the tensor is no view of a storage; its parts may be"));
        }
        check_inside(&storage, self.dtype(), self.shape(), self.stride(), self.storage_offset())?;
        Ok(Fields { storage: Some(storage), ..self.into_fields() }.into())
    }

    /// A view of the first elements in C order: at least so many of them where there are, and few more. They are read
    /// without the rest.
    ///
    /// # Errors
    /// `Unsupported` for what is no plain view of a storage.
    pub fn head(&self, elements: usize) -> Result<Self> {
        if !matches!(self.kind(), TensorKind::Strided) || self.dtype().packing() > 1 {
            return Err(Reason::Unsupported("a part of what is no plain view of a storage".into()).into());
        }
        let mut head = Fields { index_rule: None, ..self.clone().into_fields() };
        // Elements in all axes behind the current one.
        let mut inner = 1_usize;
        for size in head.shape.iter_mut().rev() {
            let whole = *size;
            *size = whole.min(elements.div_ceil(inner.max(1)));
            inner = inner.saturating_mul(whole);
        }
        Ok(head.into())
    }

    /// The same tensor with gradients recorded, or not.
    #[must_use]
    pub fn with_requires_grad(self, requires_grad: bool) -> Self {
        Fields { requires_grad, ..self.into_fields() }.into()
    }

    /// The same tensor as a `torch.nn.Parameter`, or not.
    #[must_use]
    pub fn with_parameter(self, parameter: bool) -> Self {
        Fields { parameter, ..self.into_fields() }.into()
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        match &self.0 {
            Repr::Own(fields) => fields.dtype,
            Repr::Row(rows, row) => rows.dtype(*row),
        }
    }

    /// The sizes; of a nested tensor the number of components alone.
    pub fn shape(&self) -> &[usize] {
        match &self.0 {
            Repr::Own(fields) => &fields.shape,
            Repr::Row(rows, row) => rows.shape(*row),
        }
    }

    /// Elements between neighbours along each axis; empty for a tensor that is no view of a storage.
    pub fn stride(&self) -> &[usize] {
        match &self.0 {
            Repr::Own(fields) => &fields.stride,
            Repr::Row(rows, row) => rows.stride(*row),
        }
    }

    /// The element of the storage that the view begins with.
    pub fn storage_offset(&self) -> usize {
        match &self.0 {
            Repr::Own(fields) => fields.storage_offset,
            Repr::Row(rows, row) => rows.storage_offset(*row),
        }
    }

    /// The storage it is a view of; `None` for meta and sparse tensors and for wrapper subclasses.
    pub fn storage(&self) -> Option<&Storage> {
        match &self.0 {
            Repr::Own(fields) => fields.storage.as_ref(),
            Repr::Row(rows, row) => rows.storage(*row),
        }
    }

    /// Whether gradients are to be recorded.
    pub fn requires_grad(&self) -> bool {
        match &self.0 {
            Repr::Own(fields) => fields.requires_grad,
            Repr::Row(rows, row) => rows.requires_grad(*row),
        }
    }

    /// Whether it is a `torch.nn.Parameter`.
    pub fn is_parameter(&self) -> bool {
        self.own().is_some_and(|fields| fields.parameter)
    }

    /// Whether the view stands for the complex conjugate of what is stored. Reading resolves it.
    pub fn is_conj(&self) -> bool {
        self.own().is_some_and(|fields| fields.conj)
    }

    /// Whether the view stands for the negative of what is stored. Reading resolves it.
    pub fn is_neg(&self) -> bool {
        self.own().is_some_and(|fields| fields.neg)
    }

    /// How its elements are held.
    pub fn kind(&self) -> &TensorKind {
        self.own().map_or(&TensorKind::Strided, |fields| &fields.kind)
    }

    /// For the indices of a sparse tensor, what they must satisfy.
    pub(crate) fn index_rule(&self) -> Option<&IndexRule> {
        self.own()?.index_rule.as_deref()
    }

    /// The layout, as PyTorch names it.
    pub fn layout(&self) -> Layout {
        match self.kind() {
            TensorKind::Strided | TensorKind::Meta | TensorKind::Quantized(_) | TensorKind::Nested(_) => {
                Layout::Strided
            }
            TensorKind::Sparse(sparse) => sparse.layout,
            TensorKind::Wrapper { layout, .. } => *layout,
        }
    }

    /// The number of elements.
    pub fn numel(&self) -> usize {
        match self.kind() {
            TensorKind::Nested(nested) => {
                nested.components.iter().map(Self::numel).fold(0, usize::saturating_add)
            }
            _ => layout::numel(self.shape()).unwrap_or(usize::MAX),
        }
    }

    /// Bytes of all elements once they lie side by side; what the tensor takes in its storage may be less
    /// (expanded views) or more. Packed types (`quint4x2`) stay packed.
    pub fn nbytes(&self) -> usize {
        self.numel().div_ceil(self.dtype().packing()).saturating_mul(self.dtype().element_size())
    }

    /// Whether the elements lie in C order without gaps.
    pub fn is_contiguous(&self) -> bool {
        layout::is_contiguous(self.shape(), self.stride())
    }

    /// The parts of a sparse, quantized or nested tensor by PyTorch's names, each a tensor of its own.
    pub fn parts(&self) -> impl Iterator<Item = (Cow<'static, str>, &Self)> + Clone {
        (0..).map_while(|place| self.part(place))
    }

    /// The part at a place.
    pub(crate) fn part(&self, place: usize) -> Option<(Cow<'static, str>, &Self)> {
        match self.kind() {
            TensorKind::Sparse(sparse) => sparse.parts.get(place).map(|(name, part)| ((*name).into(), part)),
            TensorKind::Quantized(quantized) => match &**quantized {
                Quantized::PerTensor { .. } => None,
                Quantized::PerChannel { scales, zero_points, .. } => {
                    let parameters = [("q_scales", scales), ("q_zero_points", zero_points)];
                    let mut tensors =
                        parameters.into_iter().filter_map(|(name, parameter)| match parameter {
                            QuantizedParameter::Tensor(tensor) => Some((name.into(), &**tensor)),
                            QuantizedParameter::List(_) => None,
                        });
                    tensors.nth(place)
                }
            },
            TensorKind::Nested(nested) => {
                nested.components.get(place).map(|part| (format!("component{place}").into(), part))
            }
            TensorKind::Strided | TensorKind::Meta | TensorKind::Wrapper { .. } => None,
        }
    }

    /// The logical values in C order, little-endian, conjugation and negation resolved; quantized tensors
    /// give their integers. Borrowed where they lie so in memory already.
    ///
    /// # Errors
    /// `Unsupported` for meta, sparse and nested tensors and wrapper subclasses, which have no such bytes;
    /// `LimitExceeded` where an expanded view would take more memory than
    /// [`Limits::expanded_bytes`](crate::Limits::expanded_bytes) allows; `Malformed` where the record is damaged
    /// or the indices of a sparse tensor leave it; `Io`.
    pub fn to_contiguous(&self) -> Result<Cow<'_, [u8]>> {
        self.to_contiguous_in(ByteOrder::Little)
    }

    /// As [`to_contiguous`](Self::to_contiguous), in the given byte order.
    ///
    /// # Errors
    /// As [`to_contiguous`](Self::to_contiguous).
    pub fn to_contiguous_in(&self, order: ByteOrder) -> Result<Cow<'_, [u8]>> {
        let values = self.values(order)?;
        if let Some(rule) = self.index_rule() {
            rule.check(self.dtype(), order, self.shape(), &values)?;
        }
        Ok(values)
    }

    /// The values of [`to_contiguous_in`](Self::to_contiguous_in) in order, in pieces of whole elements: a tensor whose
    /// elements lie in C order is read piece by piece and never held whole.
    ///
    /// # Errors
    /// As [`to_contiguous`](Self::to_contiguous); those of `take`.
    pub fn for_each_piece(&self, order: ByteOrder, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        match self.window().filter(|_| self.is_contiguous() && self.index_rule().is_none()) {
            Some((storage, start, end)) => {
                storage.for_each_piece_of(self.dtype(), order, start, end, &mut |piece| {
                    if !(self.is_conj() || self.is_neg()) {
                        return take(piece);
                    }
                    let mut piece = piece.to_vec();
                    self.resolve_signs(&mut piece, order);
                    take(&piece)
                })
            }
            None => take(&self.to_contiguous_in(order)?),
        }
    }

    /// The bytes of the storage that the elements lie in, if they have any and lie there unpacked.
    fn window(&self) -> Option<(&Storage, u64, u64)> {
        let size = self.dtype().element_size();
        let storage = self.storage().filter(|_| self.dtype().packing() == 1 && self.nbytes() > 0)?;
        let start = self.storage_offset().checked_mul(size)?;
        let end = start.checked_add(self.nbytes())?;
        Some((storage, u64::try_from(start).ok()?, u64::try_from(end).ok()?))
    }

    fn values(&self, order: ByteOrder) -> Result<Cow<'_, [u8]>> {
        let size = self.dtype().element_size();
        let nbytes = self.nbytes();
        if nbytes == 0 && matches!(self.kind(), TensorKind::Strided | TensorKind::Quantized(_)) {
            return Ok(Cow::Borrowed(&[]));
        }
        let Some(storage) = self.storage() else { return Err(self.no_bytes()) };
        let nbytes_u64 = u64::try_from(nbytes).unwrap_or(u64::MAX);
        let allowed = storage.nbytes().saturating_add(storage.expanded_bytes());
        limits::check("the copy of an expanded view", "expanded_bytes", nbytes_u64, allowed)?;

        let contiguous = self.is_contiguous();
        let packing = self.dtype().packing();
        if (packing > 1 && !contiguous) || self.storage_offset().checked_rem(packing) != Some(0) {
            return Err(Reason::Unsupported(format!("a view across packed {} elements", self.dtype())).into());
        }
        let bytes_to = |element: usize| element.div_ceil(packing).checked_mul(size);
        let end = layout::extent(self.shape(), self.stride(), self.storage_offset()).and_then(bytes_to);
        let (start, end) = bytes_to(self.storage_offset()).zip(end).ok_or_else(|| self.leaves_storage())?;

        let mut bytes = if let Some(all) = storage.borrow_as(self.dtype(), order)? {
            let window = all.get(start..end).ok_or_else(|| self.leaves_storage())?;
            if contiguous && !self.is_conj() && !self.is_neg() {
                return Ok(Cow::Borrowed(window));
            }
            if contiguous { window.to_vec() } else { self.gather(window, nbytes)? }
        } else {
            let offset = u64::try_from(start).unwrap_or(u64::MAX);
            let window =
                fill_vec(end.saturating_sub(start), |buf| storage.read_as(self.dtype(), order, offset, buf))?;
            if contiguous { window } else { self.gather(&window, nbytes)? }
        };
        self.resolve_signs(&mut bytes, order);
        Ok(Cow::Owned(bytes))
    }

    fn gather(&self, window: &[u8], nbytes: usize) -> Result<Vec<u8>> {
        fill_vec(nbytes, |buf| {
            let out = zeroed(buf);
            layout::gather(window, self.shape(), self.stride(), 0, self.dtype().element_size(), out)
                .ok_or_else(|| self.leaves_storage())?;
            Ok(out)
        })
    }

    /// Negates numbers: imaginary parts for a conjugate, all of them for a negative.
    fn resolve_signs(&self, bytes: &mut [u8], order: ByteOrder) {
        if !(self.is_conj() || self.is_neg()) {
            return;
        }
        for (place, number) in bytes.chunks_exact_mut(self.dtype().swap_unit()).enumerate() {
            let imaginary = self.dtype().is_complex() && place % 2 == 1;
            if self.is_neg() ^ (self.is_conj() && imaginary) {
                match order {
                    ByteOrder::Little => negate(self.dtype(), number.iter_mut()),
                    ByteOrder::Big => negate(self.dtype(), number.iter_mut().rev()),
                }
            }
        }
    }

    fn no_bytes(&self) -> Error {
        let what = match self.kind() {
            TensorKind::Meta => "a meta tensor has a shape and no values".to_owned(),
            TensorKind::Sparse(sparse) => {
                format!("a {} tensor has no values in C order; read its parts", sparse.layout.name())
            }
            TensorKind::Nested(_) => "a nested tensor has no values in C order; read its parts".to_owned(),
            TensorKind::Wrapper { .. } => "a wrapper subclass holds its values in its attributes".to_owned(),
            TensorKind::Strided | TensorKind::Quantized(_) => "the tensor has no storage".to_owned(),
        };
        Reason::Unsupported(what).into()
    }

    fn leaves_storage(&self) -> Error {
        Reason::Tensor("the view leaves its storage".into()).into()
    }
}

/// Negates one number whose bytes come least significant first: two's complement for integers, the sign bit
/// for floats.
fn negate<'b>(dtype: DType, mut bytes: impl DoubleEndedIterator<Item = &'b mut u8>) {
    let integer = matches!(
        dtype,
        DType::Int64
            | DType::Int32
            | DType::Int16
            | DType::Int8
            | DType::UInt8
            | DType::UInt16
            | DType::UInt32
            | DType::UInt64
    );
    if integer {
        let mut carry = true;
        for byte in bytes {
            (*byte, carry) = (!*byte).overflowing_add(u8::from(carry));
        }
    } else if let Some(top) = bytes.next_back() {
        *top ^= 0x80;
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({}, {:?}", self.dtype(), self.shape())?;
        match self.kind() {
            TensorKind::Strided if self.is_contiguous() => {}
            TensorKind::Strided => write!(f, ", stride {:?}", self.stride())?,
            TensorKind::Meta => write!(f, ", meta")?,
            kind => write!(f, ", {kind:?}")?,
        }
        match self.storage() {
            Some(storage) => write!(f, ", offset {} in {storage:?})", self.storage_offset()),
            None => write!(f, ")"),
        }
    }
}
