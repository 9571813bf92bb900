//! Reads PyTorch checkpoints (`.pt`, `.pth`, `.bin`, `.ckpt`) without executing anything, and restores them
//! onto devices and into candle.
//!
//! Weights into a candle model:
//!
//! ```
//! # let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/quickstart");
//! # std::env::set_current_dir(folder)?;
//! use candle_core::{DType, Device};
//! use candle_nn::VarBuilder;
//! use ptser::candle::VarBuilderExt;
//!
//! let vb = VarBuilder::from_pt("model.pt", DType::F32, &Device::Cpu)?;   // read when a layer asks for it
//! let fc = candle_nn::linear(64, 10, vb.pp("fc2"))?;
//! # assert_eq!(fc.weight().dims(), [10, 64]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What is in a file:
//!
//! ```
//! # let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/zip");
//! # std::env::set_current_dir(folder)?;
//! let checkpoint = ptser::Checkpoint::open("nested_state_dict.pt")?;      // the pickle is read, no tensor data
//! for (name, tensor) in checkpoint.tensors() {
//!     println!("{name} {} {:?}", tensor.dtype(), tensor.shape());
//! }
//! let epoch = checkpoint.root().get("epoch")?.as_i64()?;                 // whatever else was saved
//! let weights = checkpoint.state_dict()?;                                 // found under its customary key
//! let (name, tensor) = weights.iter().next().ok_or("no tensors")?;
//! let bytes = tensor.to_contiguous()?;                                    // C order, little-endian
//! # assert_eq!(bytes.len(), tensor.nbytes());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Saved from candle:
//!
//! ```
//! # let folder = tempfile::tempdir()?;
//! # std::env::set_current_dir(&folder)?;
//! # use candle_core::{DType, Device};
//! # use candle_nn::VarBuilder;
//! let vars = candle_nn::VarMap::new();
//! let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
//! let model = candle_nn::linear(64, 10, vb.pp("fc"))?;
//! ptser::candle::save(&vars, "weights.pt")?;                             // for `torch.load`, weights only
//!
//! let weights = ptser::candle::to_state_dict(&vars)?;                    // or with what belongs to it
//! let checkpoint = ptser::Object::dict([("epoch", ptser::Object::from(3)), ("model_state_dict", weights.into())]);
//! ptser::SaveOptions::new().save("checkpoint.pt", &checkpoint)?;
//! # assert_eq!(ptser::Checkpoint::open("checkpoint.pt")?.state_dict()?.len(), 2);
//! # assert_eq!(ptser::Checkpoint::open("weights.pt")?.state_dict()?.len(), 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Features: `candle` and `meta` (both by default), `cuda`, `metal`, `candle-cuda`, `candle-metal`, and `serde`
//! for `Value::deserialize`, which reads what lies beside the tensors into your own types.

pub use ptser_core::{
    Availability, Backend, BackgroundFolder, BigInt, ByteOrder, CheckedRecord, Checkpoint, CheckpointFolder,
    Checksum, Content, CpuStorage, DTensor, DType, Decide, DeviceStorage, Encoding, Entry, Error, ErrorKind,
    Format, Found, GlobalScan, Globals, Goal, HostBytes, HostStorage, Layout, Limits, LoadOptions, Location,
    MapLocation, Mmap, Nested, Number, Object, PathElement, Placement, Quantized, QuantizedParameter,
    ReadAhead, ReadAt, Reason, RecordInfo, RefusedGlobal, Registry, Replacement, Restored, Result,
    SaveOptions, Saveable, Saved, ScannedGlobal, Sparse, StateDict, Storage, Tensor, TensorKind, Value,
    ValueKind, Verdict, Verification, layout, submit,
};

#[cfg(all(doctest, feature = "candle"))]
mod training;

/// Tensors, `VarBuilder`s and optimizers for candle.
#[cfg(feature = "candle")]
pub use ptser_candle as candle;

/// The backends that the enabled features link.
///
/// Naming them here is what links them: a crate that nobody names is left out, its registration with it.
pub mod backends {
    #[cfg(feature = "cuda")]
    pub use ptser_backend_cuda as cuda;
    #[cfg(feature = "meta")]
    pub use ptser_backend_meta as meta;
    #[cfg(feature = "metal")]
    pub use ptser_backend_metal as metal;
}
