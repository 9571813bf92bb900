//! The containers of checkpoints, and how to tell them from each other and from what is none.

mod container;
mod foreign;
mod legacy;
mod safetensors;
mod scan;
mod sniff;
mod tar;
mod zip;

pub(crate) use container::{Container, Opened, Terms};
pub(crate) use scan::scan;
pub use scan::{GlobalScan, ScannedGlobal};
#[cfg(test)]
pub(crate) use zip::ZipStorages;
pub(crate) use zip::{Inflation, ZipFile};

/// The container of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// The zip archive of torch 1.6 and later.
    Zip,
    /// A zip archive that holds a TorchScript program.
    TorchScript,
    /// The stream of torch 0.1.10 to 1.5.
    Legacy,
    /// The tar archive of torch 0.1 to 0.1.9.
    Tar,
    /// A pickle by itself.
    Pickle,
    /// A safetensors file.
    Safetensors,
}

impl Format {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zip => "zip",
            Self::TorchScript => "torchscript",
            Self::Legacy => "legacy",
            Self::Tar => "tar",
            Self::Pickle => "pickle",
            Self::Safetensors => "safetensors",
        }
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}
