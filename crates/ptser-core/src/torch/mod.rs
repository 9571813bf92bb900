//! What the globals of a PyTorch pickle mean: storages, tensors and the values beside them. Knows pickles
//! and tensors, and no container.

mod compact;
mod globals;
mod interpret;
mod names;
mod nested;
mod numpy;
mod outline;
mod outline_document;
mod outline_object;
mod persistent;
mod pids;
mod python2;
mod rebuild;
mod reduce;
mod sparse;
mod stdlib;
mod to_python2;
mod views;

pub(crate) use compact::compact;
pub use globals::{Globals, Verdict};
pub(crate) use interpret::{Faults, Interpretation, MappingKind, Meaning, Place, interpret};
pub(crate) use names::{Known, is_type_tag, known};
pub(crate) use outline::{Outline, PidDialect, Stored};
pub(crate) use outline_document::outline_document;
pub(crate) use outline_object::{outline_object, outline_state_dict};
pub(crate) use persistent::{Given, Named, StorageRef, StorageTable};
pub(crate) use pids::PidMeaning;
pub(crate) use python2::rename;
pub(crate) use to_python2::unrename;
pub(crate) use views::makes_views;
