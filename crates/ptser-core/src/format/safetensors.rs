//! safetensors files, opened as what `torch.load` makes of them: a dict of tensors.

use std::sync::Arc;

use safetensors::tensor::{Dtype, Metadata};

use crate::bounds::shaped;
use crate::byte_order::ByteOrder;
use crate::document::Document;
use crate::dtype::DType;
use crate::error::{Error, Reason, Result};
use crate::layout;
use crate::limits::{self, Limits};
use crate::location::Location;
use crate::source::Source;
use crate::storage::{Description, Facts, Span, Storage, fill_vec};
use crate::tensor::{Fields, Tensor};

/// Bytes of the length that stands before the header.
const LENGTH: u64 = 8;

/// Reads the header: names, shapes, and where the data lies.
///
/// # Errors
/// `Malformed` where the header is none or a tensor leaves the file; `Unsupported` for element types that
/// PyTorch lacks.
pub(super) fn open(source: &Arc<dyn Source>, limits: &Limits) -> Result<Document> {
    let mut length = [0; 8];
    source.read_exact_at(&mut length, 0)?;
    let data_at = u64::from_le_bytes(length).checked_add(LENGTH).filter(|&at| at <= source.size());
    let data_at = data_at.ok_or_else(|| malformed("its header is longer than the file"))?;
    limits::check("the header in bytes", "pickle_bytes", data_at, limits.pickle_bytes)?;
    let len = usize::try_from(data_at.saturating_sub(LENGTH))
        .map_err(|_| malformed("its header is larger than memory"))?;
    let header = fill_vec(len, |buf| Ok(source.read_uninit_at(buf, LENGTH)?))?;
    let metadata: Metadata =
        serde_json::from_slice(&header).map_err(|error| malformed(&error.to_string()))?;
    let mut names = Vec::new();
    let mut tensors = Vec::new();
    let mut total = 0_u64;
    for name in metadata.offset_keys() {
        let Some(info) = metadata.info(&name) else { continue };
        let dtype = dtype(info.dtype).ok_or_else(|| {
            let what = format!("safetensors element type {:?}, which PyTorch lacks", info.dtype);
            Error::from(Reason::Unsupported(what)).in_tensor(&name)
        })?;
        let (begin, end) = info.data_offsets;
        let begin = u64::try_from(begin).ok().and_then(|begin| begin.checked_add(data_at));
        let end = u64::try_from(end)
            .ok()
            .and_then(|end| end.checked_add(data_at))
            .filter(|&end| end <= source.size());
        let span = begin.zip(end).and_then(|(at, end)| Some((at, end.checked_sub(at)?)));
        let (at, nbytes) = span.ok_or_else(|| malformed("a tensor leaves the file").in_tensor(&name))?;
        let stride = layout::contiguous_stride(&info.shape);
        let shaped = shaped(dtype, info.shape.as_slice().into(), stride.as_slice().into())
            .map_err(|error| error.in_tensor(&name))?;
        let description = Description {
            key: name.as_str().into(),
            nbytes,
            facts: Facts {
                dtype: Some(dtype),
                location: Location::cpu(),
                byte_order: ByteOrder::Little,
                expanded_bytes: limits.expanded_bytes,
            },
        };
        let content = Span { source: Arc::clone(source), at, nbytes, name: format!("tensor {name}") };
        let storage = Some(Storage::new(description, content));
        let tensor = Tensor::from(Fields { storage, ..shaped });
        if u64::try_from(tensor.nbytes()).ok() != Some(nbytes) {
            return Err(malformed("the bytes of a tensor are not those of its shape").in_tensor(&name));
        }
        total = total.saturating_add(nbytes);
        limits::check("all storages in bytes", "tensor_bytes", total, limits.tensor_bytes)?;
        tensors.push(tensor);
        names.push(name);
    }
    Document::of_tensors(&names, tensors, limits)
}

fn dtype(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::BOOL => DType::Bool,
        Dtype::U8 => DType::UInt8,
        Dtype::I8 => DType::Int8,
        Dtype::I16 => DType::Int16,
        Dtype::U16 => DType::UInt16,
        Dtype::I32 => DType::Int32,
        Dtype::U32 => DType::UInt32,
        Dtype::I64 => DType::Int64,
        Dtype::U64 => DType::UInt64,
        Dtype::F16 => DType::Float16,
        Dtype::BF16 => DType::BFloat16,
        Dtype::F32 => DType::Float32,
        Dtype::F64 => DType::Float64,
        Dtype::C64 => DType::Complex64,
        Dtype::F8_E5M2 => DType::Float8E5M2,
        Dtype::F8_E4M3 => DType::Float8E4M3Fn,
        Dtype::F8_E8M0 => DType::Float8E8M0Fnu,
        Dtype::F8_E4M3FNUZ => DType::Float8E4M3Fnuz,
        Dtype::F8_E5M2FNUZ => DType::Float8E5M2Fnuz,
        _ => return None,
    })
}

fn malformed(what: &str) -> Error {
    Reason::Archive(format!("safetensors: {what}")).into()
}
