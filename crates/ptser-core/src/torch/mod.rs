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
pub(crate) use interpret::{Interpretation, MappingKind, Meaning, PidMeaning, Place, interpret};
pub(crate) use names::{Known, is_type_tag, known};
pub(crate) use persistent::{Named, StorageRef, StorageTable};
pub(crate) use python2::rename;
pub(crate) use rebuild::{check_inside, shaped};
