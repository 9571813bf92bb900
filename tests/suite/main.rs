//! What reading a checkpoint promises, a file for each kind of promise.

#[cfg(test)]
mod build;
#[cfg(test)]
mod byte_order;
#[cfg(test)]
mod containers;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod foreign;
#[cfg(test)]
mod globals;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod nesting;
#[cfg(test)]
mod offsets;
#[cfg(test)]
mod python2;
#[cfg(test)]
mod read_zip;
#[cfg(test)]
mod registry;
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
mod torchscript;
#[cfg(test)]
mod values;
