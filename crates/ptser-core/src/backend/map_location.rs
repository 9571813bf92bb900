//! Where storages go, in PyTorch's four forms.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::Result;
use crate::location::Location;
use crate::storage::Storage;

/// Decides, once for each storage, where it goes.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum MapLocation {
    /// Where it was when it was saved.
    #[default]
    Recorded,
    /// Everything to one device.
    To(Location),
    /// From tag to tag; tags that are not in the table stay.
    Table(HashMap<String, Location>),
    /// A function of the storage and its tag; `None` leaves it where it was.
    With(Arc<Decide>),
}

/// The function form of [`MapLocation`].
pub type Decide = dyn Fn(&Storage, &Location) -> Result<Option<Location>> + Send + Sync;

impl MapLocation {
    /// Where each storage was when it was saved.
    pub fn recorded() -> Self {
        Self::Recorded
    }

    /// A function of the storage and its tag; `None` leaves the storage where it was.
    pub fn with(
        decide: impl Fn(&Storage, &Location) -> Result<Option<Location>> + Send + Sync + 'static,
    ) -> Self {
        Self::With(Arc::new(decide))
    }

    /// Where a storage goes.
    ///
    /// # Errors
    /// Those of the caller's function.
    pub fn apply(&self, storage: &Storage) -> Result<Location> {
        let recorded = storage.location();
        Ok(match self {
            Self::Recorded => recorded.clone(),
            Self::To(location) => location.clone(),
            Self::Table(table) => table.get(recorded.as_str()).unwrap_or(recorded).clone(),
            Self::With(decide) => decide(storage, recorded)?.unwrap_or_else(|| recorded.clone()),
        })
    }
}

impl std::fmt::Debug for MapLocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Recorded => f.write_str("Recorded"),
            Self::To(location) => write!(f, "To({location})"),
            Self::Table(table) => f.debug_tuple("Table").field(table).finish(),
            Self::With(_) => f.write_str("With(..)"),
        }
    }
}

impl From<&str> for MapLocation {
    fn from(location: &str) -> Self {
        Self::To(location.into())
    }
}

impl From<Location> for MapLocation {
    fn from(location: Location) -> Self {
        Self::To(location)
    }
}

impl<K: Into<String>, V: Into<Location>, const N: usize> From<[(K, V); N]> for MapLocation {
    fn from(table: [(K, V); N]) -> Self {
        Self::Table(table.into_iter().map(|(from, to)| (from.into(), to.into())).collect())
    }
}

impl From<HashMap<String, Location>> for MapLocation {
    fn from(table: HashMap<String, Location>) -> Self {
        Self::Table(table)
    }
}
