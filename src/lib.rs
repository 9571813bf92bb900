//! Reads PyTorch checkpoints (`.pt`, `.pth`, `.bin`, `.ckpt`) without executing anything, and restores them
//! onto devices and into candle.
//!
//! ```no_run
//! let checkpoint = ptser::Checkpoint::open("model.pt")?;
//! for (name, tensor) in checkpoint.tensors() {
//!     println!("{name} {} {:?}", tensor.dtype(), tensor.shape());
//! }
//! # Ok::<(), ptser::Error>(())
//! ```
//!
//! Features: `candle` and `meta` (both by default), `cuda`, `metal`, `candle-cuda`, `candle-metal`, and `serde`
//! for `Value::deserialize`, which reads what lies beside the tensors into your own types.

pub use ptser_core::{
    Availability, Backend, BigInt, ByteOrder, Checkpoint, CpuStorage, DType, Decide, DeviceStorage, Entry,
    Error, ErrorKind, Format, Globals, HostStorage, Layout, Limits, LoadOptions, Location, MapLocation, Mmap,
    PathElement, Quantized, QuantizedParameter, ReadAt, Reason, RecordInfo, RefusedGlobal, Registry,
    Restored, Result, Sparse, StateDict, Storage, Tensor, TensorKind, Value, ValueKind, Verdict, layout,
    submit,
};

/// Tensors and `VarBuilder`s for candle.
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

/// The README's examples, compiled and run as tests.
#[cfg(all(doctest, feature = "candle"))]
#[doc = include_str!("../README.md")]
struct Readme;
