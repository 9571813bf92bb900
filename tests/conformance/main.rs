//! What PyTorch's own tests of serialization check, a test for each, under PyTorch's names.
//!
//! `docs/conformance.md` is the table of them; `table.rs` holds it to what is here.

#[cfg(test)]
mod archives;
#[cfg(test)]
#[path = "../support/build.rs"]
mod build;
#[cfg(test)]
mod byte_order;
#[cfg(test)]
mod devices;
#[cfg(test)]
mod extra;
#[cfg(test)]
#[path = "../support/fixtures.rs"]
mod fixtures;
#[cfg(test)]
mod given;
#[cfg(test)]
mod globals;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod large;
#[cfg(test)]
mod legacy;
#[cfg(test)]
mod locations;
#[cfg(feature = "meta")]
#[cfg(test)]
mod meta;
#[cfg(feature = "cuda")]
#[cfg(test)]
mod pinned;
#[cfg(test)]
#[path = "../support/readers.rs"]
mod readers;
#[cfg(test)]
mod saved;
#[cfg(test)]
mod scans;
#[cfg(test)]
mod sharing;
#[cfg(test)]
mod shelf;
#[cfg(test)]
mod skip_data;
#[cfg(test)]
mod sources;
#[cfg(test)]
mod sparse;
#[cfg(test)]
mod subclasses;
#[cfg(test)]
#[path = "../support/mod.rs"]
mod support;
#[cfg(test)]
mod table;
#[cfg(test)]
#[path = "../support/tree.rs"]
mod tree;
#[cfg(test)]
mod values;
