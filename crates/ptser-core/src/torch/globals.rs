//! Which globals a file may name: PyTorch's weights-only policy as a value.

use std::collections::{BTreeSet, HashSet};

use super::names::known;
use crate::error::{Reason, RefusedGlobal, Result};
use crate::pickle::Symbol;

/// The policy for the globals that a file names. Whatever it says, nothing is ever imported or executed:
/// a global that is allowed and whose meaning is unknown becomes an inert object.
///
/// ```
/// use ptser_core::Globals;
/// let strict = Globals::weights_only();
/// let with_namespace = Globals::weights_only().allow("argparse.Namespace");
/// let anything = Globals::inert();
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Globals {
    extra: BTreeSet<String>,
    inert: bool,
}

/// What a policy says of one global.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// Listed by PyTorch or by the caller.
    Allowed,
    /// Not listed, and let through as an inert object.
    Inert,
    /// Not listed.
    Unlisted,
    /// In a module that is refused under every policy.
    Blocked,
}

/// Modules that no list can allow, as in PyTorch.
const BLOCKED: [&str; 4] = ["sys", "os", "posix", "nt"];

impl Globals {
    /// PyTorch's `weights_only=True`: the 144 names of torch 2.15, and `bytes`.
    pub fn weights_only() -> Self {
        Self::default()
    }

    /// Every name but those of blocked modules, as inert objects: a pickled module, a Lightning or YOLO
    /// checkpoint gives up its tensors without Python.
    pub fn inert() -> Self {
        Self { extra: BTreeSet::new(), inert: true }
    }

    /// Adds one name, `module.name`.
    #[must_use]
    pub fn allow(mut self, name: impl Into<String>) -> Self {
        self.extra.insert(name.into());
        self
    }

    /// The names added to PyTorch's.
    pub fn allowed(&self) -> impl Iterator<Item = &str> {
        self.extra.iter().map(String::as_str)
    }

    /// Whether a name was added to PyTorch's.
    pub(crate) fn lists(&self, full: &str) -> bool {
        self.extra.contains(full)
    }

    /// Whether unlisted names are let through as inert objects.
    pub fn is_inert(&self) -> bool {
        self.inert
    }

    /// Judges one global by its module and its full name `module.name`.
    pub fn verdict(&self, module: &str, full: &str) -> Verdict {
        if BLOCKED.contains(&module) {
            Verdict::Blocked
        } else if known(full).is_some_and(super::Known::weights_only) || self.lists(full) {
            Verdict::Allowed
        } else if self.inert {
            Verdict::Inert
        } else {
            Verdict::Unlisted
        }
    }

    /// Refuses a pickle whose globals are not all allowed, naming every one that is not.
    pub(crate) fn check(&self, symbols: &[Symbol]) -> Result<()> {
        let mut globals: Vec<RefusedGlobal> = Vec::new();
        let mut seen = HashSet::new();
        for symbol in symbols {
            let verdict = self.verdict(&symbol.module, &symbol.full);
            if matches!(verdict, Verdict::Allowed | Verdict::Inert) {
                continue;
            }
            // Two names of Python 2 may be one of Python 3.
            if seen.insert((&symbol.full, verdict)) {
                globals.push(RefusedGlobal {
                    name: symbol.full.to_string(),
                    blocked: verdict == Verdict::Blocked,
                });
            }
        }
        if globals.is_empty() { Ok(()) } else { Err(Reason::Globals { globals }.into()) }
    }
}
