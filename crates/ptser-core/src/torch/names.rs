//! The globals whose meaning is known, and which of them PyTorch's weights-only policy allows.

use crate::dtype::DType;

/// A global whose meaning this crate knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    OrderedDict,
    Counter,
    DefaultDict,
    Deque,
    Set,
    FrozenSet,
    Bytes,
    ByteArray,
    Complex,
    CodecsEncode,
    Size,
    Device,
    GetLayout,
    DType(DType),
    QScheme(QScheme),
    /// `torch.FloatStorage` and its like.
    StorageClass(DType),
    /// `torch.UInt16Storage` and its like, which TorchScript alone names.
    ScriptStorageClass(DType),
    UntypedStorage,
    TypedStorage,
    /// `torch.FloatTensor` and its like: callable in legacy files.
    TensorClass {
        dtype: DType,
        sparse: bool,
    },
    /// `torch.storage._load_from_bytes`: how a storage is pickled without PyTorch's own format around it.
    LoadFromBytes,
    /// `torch.Tensor`.
    Tensor,
    /// `torch.nn.parameter.Parameter`.
    Parameter,
    Rebuild(Rebuild),
    Numpy(Numpy),
    /// A class of `pathlib`.
    Path {
        windows: bool,
    },
    Time(Moment),
    /// `getattr`: how nested classes and members of enumerations are named.
    GetAttr,
}

/// What NumPy's pickles call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numpy {
    Reconstruct,
    FromBuffer,
    Scalar,
    DType,
}

/// Points in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    Date,
    Clock,
    Both,
}

/// PyTorch's functions that rebuild tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rebuild {
    V1,
    V2,
    V3,
    Parameter,
    ParameterWithState,
    Quantized,
    Sparse,
    MetaNoStorage,
    WrapperSubclass,
    DeviceFromCpu,
    DeviceFromNumpy,
    FromType,
    FromTypeV2,
    Nested,
}

/// PyTorch's quantization schemes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::enum_variant_names, reason = "the names are PyTorch's")]
pub(crate) enum QScheme {
    PerTensorAffine,
    PerTensorSymmetric,
    PerChannelAffine,
    PerChannelSymmetric,
    PerChannelAffineFloatQParams,
}

/// Finds the meaning of `module.name`.
pub(crate) fn known(full: &str) -> Option<Known> {
    Some(match full {
        "collections.OrderedDict" => Known::OrderedDict,
        "collections.Counter" => Known::Counter,
        "collections.defaultdict" => Known::DefaultDict,
        "collections.deque" => Known::Deque,
        "builtins.set" => Known::Set,
        "builtins.frozenset" => Known::FrozenSet,
        "builtins.bytes" => Known::Bytes,
        "builtins.bytearray" => Known::ByteArray,
        "builtins.complex" => Known::Complex,
        "_codecs.encode" => Known::CodecsEncode,
        "torch.Size" => Known::Size,
        "torch.device" => Known::Device,
        "torch.serialization._get_layout" => Known::GetLayout,
        "torch.storage.UntypedStorage" => Known::UntypedStorage,
        "torch.storage.TypedStorage" => Known::TypedStorage,
        "torch.storage._load_from_bytes" => Known::LoadFromBytes,
        "torch.Tensor" => Known::Tensor,
        "torch.nn.parameter.Parameter" => Known::Parameter,
        "builtins.getattr" => Known::GetAttr,
        "datetime.datetime" => Known::Time(Moment::Both),
        "datetime.date" => Known::Time(Moment::Date),
        "datetime.time" => Known::Time(Moment::Clock),
        _ => {
            return rebuild(full)
                .map(Known::Rebuild)
                .or_else(|| in_torch(full.strip_prefix("torch.")?))
                .or_else(|| in_numpy(full.strip_prefix("numpy.")?).map(Known::Numpy))
                .or_else(|| in_pathlib(full.strip_prefix("pathlib.")?));
        }
    })
}

fn rebuild(full: &str) -> Option<Rebuild> {
    Some(match full {
        "torch._utils._rebuild_tensor" => Rebuild::V1,
        "torch._utils._rebuild_tensor_v2" => Rebuild::V2,
        "torch._utils._rebuild_tensor_v3" => Rebuild::V3,
        "torch._utils._rebuild_parameter" => Rebuild::Parameter,
        "torch._utils._rebuild_parameter_with_state" => Rebuild::ParameterWithState,
        "torch._utils._rebuild_qtensor" => Rebuild::Quantized,
        "torch._utils._rebuild_sparse_tensor" => Rebuild::Sparse,
        "torch._utils._rebuild_meta_tensor_no_storage" => Rebuild::MetaNoStorage,
        "torch._utils._rebuild_wrapper_subclass" => Rebuild::WrapperSubclass,
        "torch._utils._rebuild_device_tensor_from_cpu_tensor" => Rebuild::DeviceFromCpu,
        "torch._utils._rebuild_device_tensor_from_numpy" => Rebuild::DeviceFromNumpy,
        // Old files call the module torch.tensor.
        "torch._tensor._rebuild_from_type" | "torch.tensor._rebuild_from_type" => Rebuild::FromType,
        "torch._tensor._rebuild_from_type_v2" => Rebuild::FromTypeV2,
        "torch._utils._rebuild_nested_tensor" => Rebuild::Nested,
        _ => return None,
    })
}

/// NumPy 2 calls its `core` `_core`.
fn in_numpy(rest: &str) -> Option<Numpy> {
    Some(match rest {
        "core.multiarray._reconstruct" | "_core.multiarray._reconstruct" => Numpy::Reconstruct,
        "core.multiarray.scalar" | "_core.multiarray.scalar" => Numpy::Scalar,
        "core.numeric._frombuffer" | "_core.numeric._frombuffer" => Numpy::FromBuffer,
        "dtype" => Numpy::DType,
        _ => return None,
    })
}

/// Python 3.13 keeps the classes in `pathlib._local`.
fn in_pathlib(rest: &str) -> Option<Known> {
    Some(match rest.strip_prefix("_local.").unwrap_or(rest) {
        "Path" | "PosixPath" | "PurePath" | "PurePosixPath" => Known::Path { windows: false },
        "WindowsPath" | "PureWindowsPath" => Known::Path { windows: true },
        _ => return None,
    })
}

/// What lies directly in `torch`, `torch.cuda`, `torch.sparse` or `torch.cuda.sparse`.
fn in_torch(rest: &str) -> Option<Known> {
    let (cuda, rest) = rest.strip_prefix("cuda.").map_or((false, rest), |rest| (true, rest));
    let (sparse, name) = rest.strip_prefix("sparse.").map_or((false, rest), |name| (true, name));
    if let Some(dtype) = DType::from_tensor_class(name) {
        return (!sparse || dtype != DType::Bool).then_some(Known::TensorClass { dtype, sparse });
    }
    if sparse {
        return None;
    }
    if let Some(dtype) = DType::from_storage_class(name) {
        return (!cuda || !dtype.is_quantized()).then_some(Known::StorageClass(dtype));
    }
    if cuda {
        return None;
    }
    if let Some(dtype) = name.strip_suffix("Storage").and_then(script_dtype) {
        return Some(Known::ScriptStorageClass(dtype));
    }
    if let Some(dtype) = DType::ALL.iter().copied().find(|dtype| dtype.name() == name) {
        return Some(Known::DType(dtype));
    }
    Some(Known::QScheme(match name {
        "per_tensor_affine" => QScheme::PerTensorAffine,
        "per_tensor_symmetric" => QScheme::PerTensorSymmetric,
        "per_channel_affine" => QScheme::PerChannelAffine,
        "per_channel_symmetric" => QScheme::PerChannelSymmetric,
        "per_channel_affine_float_qparams" => QScheme::PerChannelAffineFloatQParams,
        _ => return None,
    }))
}

/// The types without a storage class of their own, by the names that C++ gives them.
fn script_dtype(name: &str) -> Option<DType> {
    let lower = match name {
        "ComplexHalf" => "complex32".to_owned(),
        "BComplex32" => "bcomplex32".to_owned(),
        _ => name.to_ascii_lowercase(),
    };
    DType::ALL.iter().copied().find(|dtype| dtype.storage_class().is_none() && dtype.name() == lower)
}

/// Functions of TorchScript that return what they are given, and tell only its type.
pub(crate) fn is_type_tag(full: &str) -> bool {
    full.strip_prefix("torch.jit._pickle.").is_some_and(|name| {
        matches!(
            name,
            "restore_type_tag" | "build_intlist" | "build_doublelist" | "build_boollist" | "build_tensorlist"
        )
    })
}

impl Known {
    /// Whether torch 2.15 allows it under `weights_only=True`. One name is allowed beyond PyTorch's 144:
    /// `bytes`, without which PyTorch cannot load the `b""` that it saves.
    pub(crate) fn weights_only(self) -> bool {
        match self {
            Self::LoadFromBytes
            | Self::DefaultDict
            | Self::Deque
            | Self::FrozenSet
            | Self::ScriptStorageClass(_)
            | Self::Rebuild(Rebuild::FromType | Rebuild::Nested)
            | Self::Numpy(_)
            | Self::Path { .. }
            | Self::Time(_)
            | Self::GetAttr => false,
            Self::OrderedDict
            | Self::Counter
            | Self::Set
            | Self::Bytes
            | Self::ByteArray
            | Self::Complex
            | Self::CodecsEncode
            | Self::Size
            | Self::Device
            | Self::GetLayout
            | Self::DType(_)
            | Self::QScheme(_)
            | Self::StorageClass(_)
            | Self::UntypedStorage
            | Self::TypedStorage
            | Self::TensorClass { .. }
            | Self::Tensor
            | Self::Parameter
            | Self::Rebuild(_) => true,
        }
    }
}
