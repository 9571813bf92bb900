//! Bases that several tensors view, kept until each of them has been asked for.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Result};

use crate::base::BaseKey;
use crate::make::{Base, Made};

/// Shape, stride and storage offset: equal views are one tensor.
pub(crate) type ViewKey = (Vec<usize>, Vec<usize>, usize);

/// The shared bases of one state dict. No lock is held while anything is read: a thread that reads may be given
/// other work that wants the same lock.
#[derive(Default)]
pub(crate) struct SharedBases(Mutex<HashMap<BaseKey, Vec<Shared>>>);

/// A base on a device in a type, and the views made of it.
struct Shared {
    dtype: DType,
    device: Device,
    base: Base,
    views: HashMap<ViewKey, Made>,
    /// The names that have been asked for.
    served: HashSet<String>,
}

/// What a base is looked up by.
pub(crate) struct Lookup<'l> {
    pub(crate) key: BaseKey,
    pub(crate) dtype: DType,
    pub(crate) device: &'l Device,
    /// How many names share the storage.
    pub(crate) names: usize,
}

impl SharedBases {
    /// One tensor of a shared base: `read` makes the base where it is not there, `view` takes the tensor out.
    pub(crate) fn serve(
        &self,
        lookup: &Lookup<'_>,
        name: &str,
        view_key: ViewKey,
        read: impl FnOnce() -> Result<Base>,
        view: impl FnOnce(&Base) -> Result<Made>,
    ) -> Result<Made> {
        let found = self.with(lookup, |shared| (shared.base.clone(), shared.views.get(&view_key).cloned()));
        let base = match found {
            Some((_, Some(made))) => {
                self.finish(lookup, name, view_key, made.clone());
                return Ok(made);
            }
            Some((base, None)) => base,
            // Two threads may read the same base; the first to be done is kept.
            None => self.keep(lookup, read()?),
        };
        let made = view(&base)?;
        self.finish(lookup, name, view_key, made.clone());
        Ok(made)
    }

    fn with<R>(&self, lookup: &Lookup<'_>, then: impl FnOnce(&mut Shared) -> R) -> Option<R> {
        let mut bases = self.lock();
        let shared = bases.get_mut(&lookup.key)?.iter_mut().find(|shared| shared.fits(lookup))?;
        Some(then(shared))
    }

    /// Keeps a base unless there is one; gives the one that is kept.
    fn keep(&self, lookup: &Lookup<'_>, base: Base) -> Base {
        let mut bases = self.lock();
        let shared = bases.entry(lookup.key).or_default();
        if let Some(first) = shared.iter().find(|shared| shared.fits(lookup)) {
            return first.base.clone();
        }
        let (dtype, device) = (lookup.dtype, lookup.device.clone());
        shared.push(Shared {
            dtype,
            device,
            base: base.clone(),
            views: HashMap::new(),
            served: HashSet::new(),
        });
        base
    }

    /// Notes that a name has its tensor; with the last name the base goes, and lives on in its tensors alone.
    fn finish(&self, lookup: &Lookup<'_>, name: &str, view_key: ViewKey, made: Made) {
        let mut bases = self.lock();
        let Some(shared) = bases.get_mut(&lookup.key) else { return };
        let Some(place) = shared.iter().position(|shared| shared.fits(lookup)) else { return };
        let done = shared.get_mut(place).is_some_and(|shared| {
            shared.views.entry(view_key).or_insert(made);
            shared.served.insert(name.to_owned());
            shared.served.len() >= lookup.names
        });
        if done {
            shared.swap_remove(place);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<BaseKey, Vec<Shared>>> {
        // A panic elsewhere leaves nothing half done behind this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn fits(&self, lookup: &Lookup<'_>) -> bool {
        self.dtype == lookup.dtype && self.device.same_device(lookup.device)
    }
}
