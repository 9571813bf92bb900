//! What reading a checkpoint promises, a file for each kind of promise.

#[cfg(test)]
mod ahead;
#[cfg(test)]
mod backends;
#[cfg(test)]
#[path = "../support/build.rs"]
mod build;
#[cfg(test)]
mod byte_order;
#[cfg(test)]
mod containers;
#[cfg(feature = "cuda")]
#[cfg(test)]
mod cuda;
#[cfg(test)]
#[path = "../support/fixtures.rs"]
mod fixtures;
#[cfg(test)]
mod folder;
#[cfg(test)]
mod foreign;
#[cfg(test)]
mod globals;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod lenient;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod nesting;
#[cfg(test)]
mod offsets;
#[cfg(test)]
mod pieces;
#[cfg(test)]
mod python2;
#[cfg(test)]
mod read_zip;
#[cfg(test)]
#[path = "../support/readers.rs"]
mod readers;
#[cfg(test)]
mod registry;
#[cfg(test)]
mod save;
#[cfg(test)]
mod scan;
#[cfg(test)]
mod sources;
#[cfg(test)]
mod stems;
#[cfg(test)]
#[path = "../support/mod.rs"]
mod support;
#[cfg(test)]
mod swift;
#[cfg(test)]
mod torchscript;
#[cfg(test)]
#[path = "../support/tree.rs"]
mod tree;
#[cfg(test)]
mod unlisted;
#[cfg(test)]
mod values;
#[cfg(test)]
mod verify;
