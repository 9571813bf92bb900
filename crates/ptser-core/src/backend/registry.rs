//! The backends that are known, in the order they are asked.

use std::sync::Arc;

use super::{Availability, Backend, DeviceStorage, HostStorage, Registration};
use crate::error::{Error, Result, printable};
use crate::location::Location;

/// Backends in ascending order of priority, then name. A value: nothing global is changed by making one.
#[derive(Clone)]
pub struct Registry {
    backends: Vec<Entry>,
}

#[derive(Clone)]
enum Entry {
    Linked(&'static dyn Backend),
    Added(Arc<dyn Backend>),
}

impl Entry {
    fn backend(&self) -> &dyn Backend {
        match self {
            Self::Linked(backend) => *backend,
            Self::Added(backend) => &**backend,
        }
    }
}

impl Registry {
    /// Every backend that is linked into this program.
    ///
    /// # Errors
    /// `Misuse` where two of them have the same name.
    pub fn linked() -> Result<Self> {
        let backends =
            inventory::iter::<Registration>.into_iter().map(|registration| Entry::Linked(registration.0));
        Self { backends: backends.collect() }.sorted()
    }

    /// Adds a backend at run time.
    ///
    /// # Errors
    /// `Misuse` where its name is taken.
    pub fn with(mut self, backend: impl Backend + 'static) -> Result<Self> {
        self.backends.push(Entry::Added(Arc::new(backend)));
        self.sorted()
    }

    /// Leaves a backend out, so that another of its name can take its place.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.backends.retain(|entry| entry.backend().name() != name);
        self
    }

    fn sorted(mut self) -> Result<Self> {
        self.backends.sort_by(|a, b| {
            let (a, b) = (a.backend(), b.backend());
            a.priority().cmp(&b.priority()).then_with(|| a.name().cmp(b.name()))
        });
        let mut names: Vec<&str> = self.backends().map(Backend::name).collect();
        names.sort_unstable();
        let twice = names.windows(2).find_map(|pair| match pair {
            [a, b] if a == b => Some(*a),
            _ => None,
        });
        match twice {
            Some(name) => Err(Error::misuse(format!(
                "two backends are named {name:?}; one that is to be asked before another has a name of its own and a \
                 lower priority"
            ))),
            None => Ok(self),
        }
    }

    /// The backends, in the order they are asked.
    pub fn backends(&self) -> impl ExactSizeIterator<Item = &dyn Backend> {
        self.backends.iter().map(Entry::backend)
    }

    /// The backend whose device a location names.
    pub fn backend(&self, location: &Location) -> Option<&dyn Backend> {
        self.backends().find(|backend| backend.name() == location.device())
    }

    /// Names the location of a storage: PyTorch's `location_tag`.
    ///
    /// # Errors
    /// `Backend` where no backend knows the storage.
    pub fn tag(&self, storage: &dyn DeviceStorage) -> Result<Location> {
        self.backends().find_map(|backend| backend.tag(storage)).ok_or_else(|| {
            Error::backend(format!(
                "no backend knows a storage of {} bytes; {}",
                storage.nbytes(),
                self.linked_names()
            ))
        })
    }

    /// Places a storage: the first backend that does not decline. PyTorch's `default_restore_location`.
    ///
    /// # Errors
    /// `Backend` where none claims the location, or the one that does fails.
    pub fn restore(&self, storage: HostStorage<'_>, location: &Location) -> Result<Box<dyn DeviceStorage>> {
        for backend in self.backends() {
            if let Some(restored) = backend.restore(storage, location)? {
                return Ok(restored);
            }
        }
        Err(self.unclaimed(location))
    }

    fn unclaimed(&self, location: &Location) -> Error {
        let device = location.as_str().split(':').next().unwrap_or_default();
        let what = match (self.backend(&device.into()), device) {
            (Some(_), _) if location.device() != device => {
                format!("; an index is a number behind a colon, as in {device}:0")
            }
            (None, "cuda") => ", or enable feature `cuda`".into(),
            (None, "mps") => ", or enable feature `metal`".into(),
            (None, "meta") => ", or enable feature `meta`".into(),
            _ => String::new(),
        };
        Error::backend(format!(
            "no backend claims `{}`; {}; load with map_location(\"cpu\"){what}",
            printable(location.as_str()),
            self.linked_names()
        ))
    }

    fn linked_names(&self) -> String {
        let names: Vec<&str> = self.backends().map(Backend::name).collect();
        format!("linked: {}", names.join(", "))
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.backends().map(|backend| (backend.priority(), backend.name()))).finish()
    }
}

/// PyTorch's two refusals: the device is absent, or its index is beyond the count. Without an index the first is meant.
pub(super) fn validate(name: &str, availability: Availability, location: &Location) -> Result<()> {
    let shown = name.to_ascii_uppercase();
    match availability {
        Availability::Unavailable(why) => Err(Error::backend(format!(
            "attempting to deserialize an object on a {shown} device ({}), but {name} is not available: {why}; \
             load with map_location(\"cpu\") to place it on the host",
            printable(location.as_str())
        ))),
        Availability::Devices(count) => match location.index().unwrap_or(0) {
            index if index < count => Ok(()),
            index => Err(Error::backend(format!(
                "attempting to deserialize an object on {shown} device {index}, but the number of {name} devices is \
                 {count}; load with map_location to place it on one that exists"
            ))),
        },
    }
}
