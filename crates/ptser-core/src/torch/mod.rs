//! What the globals of a PyTorch pickle mean: storages, tensors and the values beside them. Knows pickles
//! and tensors, and no container.

mod globals;
mod interpret;
mod names;
mod persistent;
mod python2;
mod rebuild;
mod reduce;
mod sparse;

pub use globals::{Globals, Verdict};
pub(crate) use interpret::{Interpretation, Meaning, MappingKind, interpret};
pub(crate) use names::{Known, known};
pub(crate) use persistent::{StorageRef, StorageTable};
pub(crate) use python2::rename;
