//! What became of tensors that candle cannot hold as they were.

use std::fmt;

use candle_core::DType;
use indexmap::IndexSet;

/// What was done to tensors on their way, in the order it was done. Empty where all came as they were.
#[derive(Debug, Clone, Default)]
pub struct Report {
    notes: IndexSet<Note>,
}

/// What was done to one tensor.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Note {
    /// The tensor's name.
    pub name: String,
    /// What was done.
    pub change: Change,
}

/// A change that keeps every value, and what is lost with it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Change {
    /// candle has no such element type: the values are kept in another.
    Converted {
        /// PyTorch's type.
        from: ptser_core::DType,
        /// candle's.
        to: DType,
    },
    /// The bits are kept, and have no meaning to candle.
    Raw {
        /// PyTorch's type.
        from: ptser_core::DType,
        /// candle's.
        to: DType,
    },
    /// The tensor has memory of its own now, and no longer shares that of its storage.
    Copied {
        /// The key of the storage that it was a view of, cut where it is far longer than PyTorch's are.
        storage: String,
        /// Why candle cannot have it as a view.
        why: &'static str,
    },
}

impl Change {
    /// Characters of a storage's key: very many tensors may be views of one.
    pub(crate) const KEY: usize = 64;
}

impl Report {
    /// The notes.
    pub fn notes(&self) -> impl ExactSizeIterator<Item = &Note> {
        self.notes.iter()
    }

    /// Whether every tensor came as it was.
    pub fn is_empty(&self) -> bool {
        self.notes.is_empty()
    }

    pub(crate) fn extend(&mut self, other: &Self) {
        self.notes.extend(other.notes.iter().cloned());
    }

    pub(crate) fn add(&mut self, name: &str, change: Change) {
        self.notes.insert(Note { name: name.to_owned(), change });
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.change {
            Change::Converted { from, to } => {
                write!(f, "{}: {from} became {to:?}, every value kept", self.name)
            }
            Change::Raw { from, to } => write!(f, "{}: {from} is kept as raw bits in {to:?}", self.name),
            Change::Copied { storage, why } => {
                write!(f, "{}: copied, no longer shares storage {storage}: {why}", self.name)
            }
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        Ok(())
    }
}
