//! PyTorch checkpoints as candle tensors, and candle tensors as PyTorch checkpoints: storages are read and written
//! once, and tensors that share one on one side share one on the other.
//!
//! ```no_run
//! use candle_core::{DType, Device};
//! use candle_nn::VarBuilder;
//! use ptser_candle::VarBuilderExt;
//!
//! let vb = VarBuilder::from_pt("model.pt", DType::F32, &Device::Cpu)?; // a tensor is read when asked for
//! let tensors = ptser_candle::load("model.pt", &Device::Cpu)?; // all of them, in the order of the file
//! ptser_candle::save(&tensors, "copy.pt")?; // and back
//! # Ok::<(), candle_core::Error>(())
//! ```

// Numbers from files: nothing overflows or is cut unnoticed.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::cast_possible_truncation)
)]

mod all;
mod base;
#[cfg_attr(not(feature = "candle-cuda"), path = "cuda_absent.rs")]
mod cuda;
mod decode;
mod dtype;
mod error;
mod fill;
mod host;
mod inflated;
mod loaded;
mod make;
#[cfg(all(feature = "candle-metal", target_os = "macos"))]
mod metal;
mod natural;
mod optim;
mod options;
mod report;
mod save;
mod shared;
mod tensors;
mod training;
mod var_builder;
mod vars;
mod view;

use std::path::Path;

use candle_core::{Device, Result};

pub use loaded::Loaded;
pub use optim::{
    Adam, AdamOptions, AdamW, AdamWOptions, ParamGroup, Sgd, SgdOptions, StateError, StatefulOptimizer,
    named_vars, named_vars_as,
};
pub use options::PtOptions;
pub use report::{Change, Note, Report};
pub use save::{AsTensor, NamedTensors, save, save_with, to_state_dict, to_tensor, to_tensors};
pub use tensors::PtTensors;
pub use training::{ResumeError, TrainingCheckpoint, TrainingKeys, TrainingState};
pub use var_builder::VarBuilderExt;
pub use vars::{Alias, Mismatched, Missing, VarMapExt, VarsError, VarsReport};

/// Loads all tensors of a checkpoint's state dict, sharing preserved, in the order of the file.
///
/// # Arguments
/// * `path` - A checkpoint. The state dict is found at the root or under a customary key such as `state_dict`;
///   choose another with [`PtOptions::state_dict`].
/// * `device` - Where the tensors go.
///
/// # Errors
/// Those of opening the file, and of an element type that candle has no lossless counterpart for.
pub fn load<P: AsRef<Path>>(path: P, device: &Device) -> Result<Loaded> {
    PtOptions::new().open(path)?.load_all(device)
}

/// Loads all tensors of a checkpoint in memory, as [`load`] does.
///
/// # Errors
/// As [`load`].
pub fn load_buffer(bytes: impl AsRef<[u8]> + Send + Sync + 'static, device: &Device) -> Result<Loaded> {
    PtOptions::new().from_bytes(bytes)?.load_all(device)
}
