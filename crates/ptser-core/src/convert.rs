//! Tensors as other numbers: dequantized, or cast to another element type.

use std::mem::MaybeUninit;
use std::sync::OnceLock;

use crate::byte_order::ByteOrder;
use crate::dtype::DType;
use crate::error::{Error, Reason, Result};
use crate::layout;
use crate::number::{Number, cast_floats};
use crate::source::zeroed;
use crate::storage::{Content, Description, Facts, Storage, fill_vec, out_of_memory};
use crate::tensor::{Fields, Quantized, QuantizedParameter, Tensor, TensorKind};

impl Tensor {
    /// The numbers that a quantized tensor stands for, in C order: `(q - zero_point) * scale`, rounded as PyTorch's
    /// `dequantize` rounds.
    ///
    /// # Errors
    /// `Misuse` for a tensor that is not quantized; as [`to_contiguous`](Self::to_contiguous).
    pub fn dequantize(&self) -> Result<Vec<f32>> {
        let TensorKind::Quantized(quantized) = self.kind() else {
            return Err(Error::misuse(format!("a tensor of {} is not quantized", self.dtype())));
        };
        let bytes = self.to_contiguous()?;
        let numel = self.numel();
        let mut values = Vec::new();
        values
            .try_reserve_exact(numel)
            .map_err(|_| out_of_memory(u64::try_from(numel).unwrap_or(u64::MAX).saturating_mul(4)))?;
        let integers = integers(self.dtype(), &bytes).take(numel);
        match &**quantized {
            Quantized::PerTensor { scale, zero_point } => {
                let scale = Number::Float(*scale).single();
                let zero_point = i32::try_from(*zero_point)
                    .map_err(|_| Reason::Tensor(format!("a zero point of {zero_point}, beyond 32 bits")))?;
                let away = |integer: i32| Number::Int(integer.wrapping_sub(zero_point).into()).single();
                values.extend(integers.map(|integer| away(integer) * scale));
            }
            Quantized::PerChannel { scales, zero_points, axis, float_qparams } => {
                let channels: Vec<(Number, Number)> =
                    parameters(scales)?.into_iter().zip(parameters(zero_points)?).collect();
                let inner = self.shape().get(axis.saturating_add(1)..).and_then(layout::numel).unwrap_or(1);
                let channel = |place: usize| {
                    place.checked_div(inner).and_then(|place| place.checked_rem(channels.len()))
                };
                for (place, integer) in integers.enumerate() {
                    let channel = channel(place).and_then(|channel| channels.get(channel));
                    let &(scale, zero_point) =
                        channel.ok_or_else(|| Reason::Tensor("a channel without a scale".into()))?;
                    let integer = Number::Int(integer.into());
                    values.push(if *float_qparams {
                        (integer.single() - zero_point.single()) * scale.single()
                    } else {
                        // In binary64, and rounded once.
                        Number::Float((integer.double() - zero_point.double()) * scale.double()).single()
                    });
                }
            }
        }
        Ok(values)
    }

    /// The same values as another type of number, cast as `Tensor.to` casts, when they are read: a storage of its own, in
    /// C order.
    ///
    /// # Errors
    /// `Unsupported` for tensors that are no views of a storage, and for types that are no plain numbers.
    pub fn cast(&self, dtype: DType) -> Result<Self> {
        if dtype == self.dtype() {
            return Ok(self.clone());
        }
        let castable = |dtype: DType| Number::Bool(false).write(dtype, &mut Vec::new()).is_some();
        let strided = matches!(self.kind(), TensorKind::Strided);
        if !strided {
            return Err(Reason::Unsupported(format!("a cast of {}", kind_name(self))).into());
        }
        if !(castable(self.dtype()) && castable(dtype)) {
            return Err(Reason::Unsupported(format!("a cast from {} to {dtype}", self.dtype())).into());
        }
        let nbytes = self.numel().checked_mul(dtype.element_size()).and_then(|nbytes| nbytes.try_into().ok());
        let nbytes = nbytes.ok_or_else(|| Reason::Tensor("the number of bytes overflows".into()))?;
        let inner = self.storage();
        let description = Description {
            key: inner.map_or("", Storage::key).into(),
            nbytes,
            facts: Facts {
                dtype: Some(dtype),
                location: inner.map_or_else(crate::Location::cpu, |storage| storage.location().clone()),
                byte_order: ByteOrder::Little,
                expanded_bytes: inner.map_or(0, Storage::expanded_bytes),
            },
        };
        let content = Cast { tensor: self.clone(), dtype, done: OnceLock::new() };
        let cast = Fields {
            dtype,
            stride: layout::contiguous_stride(self.shape()).as_slice().into(),
            storage_offset: 0,
            conj: false,
            neg: false,
            storage: Some(Storage::new(description, content)),
            ..self.clone().into_fields()
        };
        Ok(cast.into())
    }
}

fn kind_name(tensor: &Tensor) -> String {
    match tensor.kind() {
        TensorKind::Strided => "a tensor".into(),
        TensorKind::Meta => "a meta tensor".into(),
        TensorKind::Quantized(_) => "a quantized tensor".into(),
        TensorKind::Nested(_) => "a nested tensor".into(),
        TensorKind::Wrapper { .. } => "a wrapper subclass".into(),
        TensorKind::Sparse(sparse) => format!("a {} tensor", sparse.layout.name()),
    }
}

/// The integers of a quantized type, the lower bits of a byte first.
fn integers(dtype: DType, bytes: &[u8]) -> Box<dyn Iterator<Item = i32> + '_> {
    let packed = |bits: u32| {
        let mask = u8::MAX.checked_shr(u8::BITS.saturating_sub(bits)).unwrap_or(u8::MAX);
        bytes.iter().flat_map(move |&byte| {
            let shifts = (0..u8::BITS).step_by(usize::try_from(bits).unwrap_or(8));
            shifts.map(move |shift| i32::from(byte.checked_shr(shift).unwrap_or(0) & mask))
        })
    };
    match dtype {
        DType::QInt8 => Box::new(bytes.iter().map(|byte| i32::from(byte.cast_signed()))),
        DType::QInt32 => {
            let (words, _) = bytes.as_chunks::<4>();
            Box::new(words.iter().map(|&word| i32::from_le_bytes(word)))
        }
        DType::QUInt4x2 => Box::new(packed(4)),
        DType::QUInt2x4 => Box::new(packed(2)),
        _ => Box::new(bytes.iter().map(|&byte| byte.into())),
    }
}

fn parameters(parameter: &QuantizedParameter) -> Result<Vec<Number>> {
    match parameter {
        QuantizedParameter::List(numbers) => {
            Ok(numbers.iter().map(|&number| Number::Float(number)).collect())
        }
        QuantizedParameter::Tensor(tensor) => {
            let bytes = tensor.to_contiguous()?;
            let number = |bytes: &[u8]| {
                Number::read(tensor.dtype(), bytes).ok_or_else(|| {
                    Error::from(Reason::Tensor(format!("quantization parameters of {}", tensor.dtype())))
                })
            };
            bytes.chunks_exact(tensor.dtype().element_size()).map(number).collect()
        }
    }
}

/// The values of a tensor as another type, in C order.
struct Cast {
    tensor: Tensor,
    dtype: DType,
    /// Kept once they were asked for, where they cannot be cast piece by piece.
    done: OnceLock<Vec<u8>>,
}

/// Elements that are cast together.
const PIECE: usize = 16 << 10;

impl Cast {
    /// The storage of a tensor whose elements lie there in order, and which can so be cast piece by piece.
    fn in_order(&self) -> Option<&Storage> {
        let tensor = &self.tensor;
        let as_stored = !tensor.is_conj() && !tensor.is_neg() && tensor.index_rule().is_none();
        tensor.storage().filter(|_| as_stored && tensor.is_contiguous())
    }

    /// Casts what `buf` asks for and no more.
    fn read_in_order(&self, storage: &Storage, offset: u64, buf: &mut [u8]) -> Result<()> {
        let overflow = || Error::from(Reason::Tensor("the range leaves the tensor".into()));
        let (from, to) = (self.tensor.dtype(), self.dtype);
        let start = usize::try_from(offset).map_err(|_| overflow())?;
        let mut element = start.checked_div(to.element_size()).ok_or_else(overflow)?;
        // The range may begin inside an element.
        let mut skip = start.checked_rem(to.element_size()).unwrap_or(0);
        let mut rest = buf;
        let mut cast = Vec::new();
        while !rest.is_empty() {
            let wanted = rest.len().saturating_add(skip).div_ceil(to.element_size()).min(PIECE);
            let at = self.tensor.storage_offset().checked_add(element).ok_or_else(overflow)?;
            let at = at.checked_mul(from.element_size()).and_then(|at| at.try_into().ok());
            let at = at.ok_or_else(overflow)?;
            let nbytes = wanted.saturating_mul(from.element_size());
            let bytes = fill_vec(nbytes, |buf| storage.read_as(from, ByteOrder::Little, at, buf))?;
            cast_elements(from, to, &bytes, &mut cast)?;
            let fresh = cast.get(skip..).unwrap_or_default();
            let len = fresh.len().min(rest.len());
            let (now, later) = rest.split_at_mut_checked(len).ok_or_else(overflow)?;
            now.copy_from_slice(fresh.get(..len).unwrap_or_default());
            (rest, skip) = (later, 0);
            element = element.saturating_add(wanted);
        }
        Ok(())
    }

    fn all(&self) -> Result<&[u8]> {
        if let Some(done) = self.done.get() {
            return Ok(done);
        }
        let bytes = self.tensor.to_contiguous()?;
        let nbytes = self.tensor.numel().saturating_mul(self.dtype.element_size());
        let mut cast = Vec::new();
        cast.try_reserve_exact(nbytes)
            .map_err(|_| out_of_memory(u64::try_from(nbytes).unwrap_or(u64::MAX)))?;
        cast_elements(self.tensor.dtype(), self.dtype, &bytes, &mut cast)?;
        Ok(self.done.get_or_init(|| cast))
    }
}

/// Replaces what is in `out`.
fn cast_elements(from: DType, to: DType, bytes: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let elements = bytes.len().checked_div(from.element_size()).unwrap_or(0);
    out.clear();
    out.resize(elements.saturating_mul(to.element_size()), 0);
    if cast_floats(from, to, bytes, out).is_some() {
        return Ok(());
    }
    out.clear();
    for element in bytes.chunks_exact(from.element_size()) {
        Number::read(from, element)
            .and_then(|number| number.write(to, out))
            .ok_or_else(|| Reason::Unsupported(format!("a cast to {to}")))?;
    }
    Ok(())
}

impl Content for Cast {
    fn read<'b>(&self, offset: u64, buf: &'b mut [MaybeUninit<u8>]) -> Result<&'b mut [u8]> {
        if let Some(storage) = self.in_order() {
            let buf = zeroed(buf);
            self.read_in_order(storage, offset, buf)?;
            return Ok(buf);
        }
        let all = self.all()?;
        let start = usize::try_from(offset).ok();
        let range = start.and_then(|start| all.get(start..start.checked_add(buf.len())?));
        // The caller has checked that it lies inside.
        let range = range.ok_or_else(|| Reason::Tensor("the range leaves the tensor".into()))?;
        Ok(buf.write_copy_of_slice(range))
    }

    fn bytes(&self) -> Result<Option<&[u8]>> {
        if self.in_order().is_some() { Ok(None) } else { self.all().map(Some) }
    }

    fn file_offset(&self) -> Result<Option<u64>> {
        Ok(None)
    }

    fn write(&self, _offset: u64, _bytes: &[u8]) -> Result<()> {
        Err(Error::misuse("a tensor that is cast when it is read cannot be written in place"))
    }

    fn record(&self) -> &str {
        self.tensor.storage().map_or("", Storage::key)
    }
}
