//! The containers of checkpoints, and how to tell them from each other and from what is none.

mod sniff;
mod zip;

pub(crate) use sniff::{Sniffed, sniff};
pub(crate) use zip::{ZipFile, ZipStorages};

/// The container of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// The zip archive of torch 1.6 and later.
    Zip,
    /// A zip archive that holds a TorchScript program.
    TorchScript,
}

impl Format {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zip => "zip",
            Self::TorchScript => "torchscript",
        }
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}
