//! The file, and the policy it is opened under: what every command that reads files has in common.

use std::path::{Path, PathBuf};

use clap::Args;
use ptser::{Checkpoint, Encoding, Globals, LoadOptions};

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
        let Self { inert, allow, encoding } = self;
        let policy = if *inert { Globals::inert() } else { Globals::weights_only() };
        LoadOptions::new().globals(allow.iter().fold(policy, Globals::allow)).encoding(*encoding)
    }
}

fn global(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split('.').collect();
    if parts.len() < 2 || parts.iter().any(|part| part.is_empty() || part.contains(char::is_whitespace)) {
        return Err("expected a module and a name, as in argparse.Namespace".into());
    }
    Ok(text.into())
}
