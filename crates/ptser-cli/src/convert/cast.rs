//! Floating tensors as another type, cast when they are read. Tensors that share a storage go on sharing.

use std::collections::HashMap;

use ptser::{DType, StateDict, Storage, Tensor, TensorKind};

use crate::tally::View;

/// The same state dict, its floating tensors of another type.
pub(super) fn cast(state_dict: &StateDict, dtype: DType) -> ptser::Result<StateDict> {
    // The type of all tensors of a storage, where it is one: then the whole storage can be cast.
    let mut types: HashMap<usize, Option<DType>> = HashMap::new();
    for (_, tensor) in state_dict {
        let Some(storage) = tensor.storage() else { continue };
        let plain = matches!(tensor.kind(), TensorKind::Strided) && !tensor.is_neg();
        let own = Some(tensor.dtype()).filter(|dtype| plain && is_floating(*dtype));
        types.entry(storage.id()).and_modify(|known| *known = known.filter(|_| *known == own)).or_insert(own);
    }
    let mut storages: HashMap<usize, Storage> = HashMap::new();
    let mut views: HashMap<View<'_>, Tensor> = HashMap::new();
    let mut one = |tensor| -> ptser::Result<Tensor> {
        let tensor: &Tensor = tensor;
        if tensor.dtype() == dtype || !is_floating(tensor.dtype()) {
            return Ok(tensor.clone());
        }
        let view = View::of(tensor);
        if let Some(known) = view.as_ref().and_then(|view| views.get(view)) {
            return Ok(like(known.clone(), tensor));
        }
        let whole = tensor.storage().filter(|storage| types.get(&storage.id()).copied().flatten().is_some());
        let cast = match whole {
            None => tensor.cast(dtype)?,
            Some(storage) => {
                let known = storages.get(&storage.id()).cloned();
                let cast = match known {
                    Some(cast) => cast,
                    None => whole_storage(storage, tensor.dtype(), dtype)?,
                };
                storages.insert(storage.id(), cast.clone());
                Tensor::view(cast, dtype, tensor.shape(), tensor.stride(), tensor.storage_offset())?
            }
        };
        if let Some(view) = view {
            views.insert(view, cast.clone());
        }
        Ok(like(cast, tensor))
    };
    state_dict
        .iter()
        .map(|(name, tensor)| Ok((name, one(tensor).map_err(|error| error.in_tensor(name))?)))
        .collect()
}

fn whole_storage(storage: &Storage, from: DType, to: DType) -> ptser::Result<Storage> {
    let elements = usize::try_from(storage.nbytes()).unwrap_or(usize::MAX) / from.element_size();
    let all = Tensor::contiguous(storage.clone(), from, [elements])?.cast(to)?;
    all.storage().cloned().ok_or_else(|| ptser::Error::misuse("a cast tensor without a storage"))
}

fn like(cast: Tensor, tensor: &Tensor) -> Tensor {
    cast.with_parameter(tensor.is_parameter()).with_requires_grad(tensor.requires_grad())
}

/// As `torch.dtype.is_floating_point`.
fn is_floating(dtype: DType) -> bool {
    matches!(
        dtype,
        DType::Float64
            | DType::Float32
            | DType::Float16
            | DType::BFloat16
            | DType::Float8E5M2
            | DType::Float8E4M3Fn
            | DType::Float8E5M2Fnuz
            | DType::Float8E4M3Fnuz
            | DType::Float8E8M0Fnu
            | DType::Float4E2M1FnX2
    )
}
