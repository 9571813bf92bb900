//! The pickle language, protocols 0 to 5: syntax and an inert graph, nothing of torch and nothing executed.

mod finish;
mod graph;
mod machine;
mod opcode;
mod reader;
mod text;

pub(crate) use graph::{Call, Graph, Node, NodeId, Object, Symbol};
pub(crate) use machine::run;
