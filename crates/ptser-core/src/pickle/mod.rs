//! The pickle language, protocols 0 to 5: syntax and an inert graph, nothing of torch and nothing executed.

mod build;
mod encoding;
mod extent;
mod finish;
mod frames;
mod graph;
mod machine;
mod memo;
mod opcode;
mod reader;
mod scalars;
mod scan;
mod spelling;
mod text;
mod views;
mod writer;

pub use encoding::Encoding;
pub(crate) use extent::pickle_len;
pub(crate) use graph::{Call, Graph, More, Node, NodeId, Object, Symbol, SymbolId, index};
pub(crate) use machine::{run, run_abridged};
pub(crate) use scan::scan;
pub(crate) use spelling::Literals;
pub(crate) use views::{Style, View, Views};
pub(crate) use writer::write;
