//! The file, and the policy it is opened under: what every command that reads files has in common.

use std::path::{Path, PathBuf};

use clap::Args;
use ptser::{Checkpoint, Encoding, Globals, Limits, LoadOptions};

/// Which file, and how it is read.
#[derive(Args)]
pub(crate) struct Source {
    /// The checkpoint
    file: PathBuf,

    #[command(flatten)]
    policy: Policy,
}

/// Which globals a file may name, and what its strings are.
#[derive(Args)]
pub(crate) struct Policy {
    /// Read classes and functions that PyTorch does not list as inert objects, whatever their name
    #[arg(long)]
    inert: bool,

    /// Allow a class or function by name, as in argparse.Namespace; may be given several times
    #[arg(long, value_name = "MODULE.NAME", value_parser = global)]
    allow: Vec<String>,

    /// Read strings of Python 2 as utf-8, latin1, ascii or bytes; auto: utf-8, and bytes where they are not
    #[arg(long, value_name = "NAME", default_value_t, hide_default_value = true)]
    encoding: Encoding,

    #[command(flatten)]
    bounds: Bounds,
}

/// How much a file may ask for.
#[derive(Args)]
pub(crate) struct Bounds {
    /// Raise or lower a limit, as in objects=64000000: what refuses a file names it
    #[arg(long, value_name = "NAME=N", value_parser = limit)]
    limit: Vec<(Raise, u64)>,
}

/// A method of [`Limits`].
type Raise = fn(Limits, u64) -> Limits;

const LIMITS: [(&str, Raise); 9] = [
    ("pickle_bytes", Limits::pickle_bytes),
    ("objects", Limits::objects),
    ("inflation_ratio", Limits::inflation_ratio),
    ("inflated_bytes", Limits::inflated_bytes),
    ("tensor_bytes", Limits::tensor_bytes),
    ("records", Limits::records),
    ("tensors_listed", Limits::tensors_listed),
    ("names_bytes", Limits::names_bytes),
    ("expanded_bytes", Limits::expanded_bytes),
];

impl Bounds {
    pub(crate) fn limits(&self) -> Limits {
        self.limit.iter().fold(Limits::default(), |limits, (raise, to)| raise(limits, *to))
    }
}

impl Source {
    /// The path as given.
    pub(crate) fn path(&self) -> &Path {
        &self.file
    }

    /// Reads the pickle; tensor data is read when asked for.
    pub(crate) fn open(&self) -> ptser::Result<Checkpoint> {
        self.options().open(&self.file)
    }

    /// The terms that the file is opened on.
    pub(crate) fn options(&self) -> LoadOptions {
        self.policy.options()
    }
}

impl Policy {
    /// The terms that a file is opened on.
    pub(crate) fn options(&self) -> LoadOptions {
        let Self { inert, allow, encoding, bounds } = self;
        let policy = if *inert { Globals::inert() } else { Globals::weights_only() };
        let policy = allow.iter().fold(policy, Globals::allow);
        LoadOptions::new().globals(policy).encoding(*encoding).limits(bounds.limits())
    }
}

fn global(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split('.').collect();
    if parts.len() < 2 || parts.iter().any(|part| part.is_empty() || part.contains(char::is_whitespace)) {
        return Err("expected a module and a name, as in argparse.Namespace".into());
    }
    Ok(text.into())
}

fn limit(text: &str) -> Result<(Raise, u64), String> {
    let (name, to) = text.split_once('=').ok_or("expected a name and a number, as in objects=64000000")?;
    let to = to.parse().map_err(|_| format!("{to} is not a number"))?;
    let found = LIMITS.iter().find(|(known, _)| *known == name);
    let (_, raise) = found.ok_or_else(|| {
        let known: Vec<&str> = LIMITS.iter().map(|(name, _)| *name).collect();
        format!("there is no limit {name}; there are {}", known.join(", "))
    })?;
    Ok((*raise, to))
}
