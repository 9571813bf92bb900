//! PyTorch checkpoints, read without executing anything: the formats, the weights-only unpickler, and the
//! registry of device backends. Names no device library and no tensor library; most programs use it through
//! the `ptser` crate.

// Numbers from files: nothing overflows or is cut unnoticed.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::cast_possible_truncation)
)]

mod archive;
mod backend;
mod bounds;
mod byte_order;
mod checkpoint;
mod convert;
#[cfg(feature = "serde")]
mod deserialize;
mod document;
mod dtensor;
mod dtype;
mod error;
mod folder;
mod format;
pub mod layout;
mod limits;
mod listing;
mod load;
mod location;
mod memory;
mod module;
mod names;
mod number;
mod object;
mod object_storages;
mod pickle;
mod repr;
mod save;
#[cfg(feature = "serde")]
mod serialize;
mod sizes;
mod source;
mod sparse;
mod state_dict;
mod storage;
mod suggest;
mod tar;
mod tensor;
mod threads;
mod torch;
mod value;
mod verify;

pub use backend::{
    Availability, Backend, CpuStorage, Decide, DeviceStorage, HostStorage, MapLocation, Registration,
    Registry, Restored,
};
pub use byte_order::{ByteOrder, swap_in_place};
pub use checkpoint::{Checkpoint, RecordInfo};
pub use dtensor::{DTensor, Placement};
pub use dtype::DType;
pub use error::{Error, ErrorKind, Reason, RefusedGlobal, Result};
pub use folder::{BackgroundFolder, CheckpointFolder, Found, Goal, Saved};
pub use format::{Format, GlobalScan, ScannedGlobal};
pub use limits::Limits;
pub use listing::{Entry, PathElement};
pub use load::LoadOptions;
pub use location::Location;
pub use number::Number;
pub use object::Object;
pub use pickle::Encoding;
pub use save::{Content, Replacement, SaveOptions, Saveable};
pub use source::{Mmap, ReadAt};
pub use state_dict::StateDict;
pub use storage::{HostBytes, ReadAhead, Storage};
pub use tensor::{Layout, Nested, Quantized, QuantizedParameter, Sparse, Tensor, TensorKind};
pub use torch::{Globals, Verdict};
pub use value::{BigInt, Value, ValueKind};
pub use verify::{CheckedRecord, Checksum, Verification};

#[doc(hidden)]
pub use inventory;
// What `ptser-candle` loads shares them with the state dict.
#[doc(hidden)]
pub use names::Names;
