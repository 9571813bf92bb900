//! Makes all tensors of a state dict at once. Small storages are read one after the other, with their neighbours; the
//! others by themselves, several at a time.

use std::sync::Arc;

use candle_core::{Device, Result};
use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};
use ptser_core::{Names, ReadAhead};
use rayon::prelude::*;

use crate::base::{BaseKey, Batch, Located};
use crate::fill::HugePages;
use crate::loaded::Loaded;
use crate::make::{Base, Made, Wanted};
use crate::report::Report;
use crate::shared::ViewKey;
use crate::tensors::view_key;

/// Reads all that are wanted, each storage once; their names are these, in the same order.
///
/// # Errors
/// Those of what is wanted, before anything is read; those of reading, and of making the tensors.
pub(crate) fn load<'w>(
    wanted: impl ExactSizeIterator<Item = Result<Wanted<'w>>> + Clone,
    names: Arc<Names>,
    pages: &HugePages,
    device: &Device,
) -> Result<Loaded> {
    let large = large(wanted.clone())?;
    let bases = match device {
        Device::Cpu => {
            let read = |(one, located): (Wanted<'_>, Located<'_>)| {
                Ok((located.key(), one.base(located, pages, None, &Device::Cpu)?))
            };
            large.into_par_iter().map(read).collect::<Result<_>>()?
        }
        // One after the other where each passes through the host on its way to a device, which copies the last meanwhile.
        _ => HashMap::new(),
    };
    let mut loading = Loading { pages, device, bases, made: HashMap::new(), batch: Batch::default() };
    let mut tensors = Vec::with_capacity(wanted.len());
    let mut report = Report::default();
    for one in wanted {
        let one = one?;
        let Made { tensor, changes } = loading.make(&one)?;
        changes.into_iter().for_each(|change| report.add(one.name, change));
        tensors.push(tensor);
    }
    // Nobody has a tensor yet.
    loading.batch.wait()?;
    Ok(Loaded { names, tensors, report })
}

/// The first tensor in each storage that is not small.
fn large<'w>(wanted: impl Iterator<Item = Result<Wanted<'w>>>) -> Result<Vec<(Wanted<'w>, Located<'w>)>> {
    let mut seen = HashSet::new();
    let mut large = Vec::new();
    for one in wanted {
        let one = one?;
        let is_large = |located: &Located<'_>| located.storage.nbytes() > ReadAhead::SMALL;
        if let Some(located) = one.located().filter(is_large)
            && seen.insert(located.key())
        {
            large.push((one, located));
        }
    }
    Ok(large)
}

struct Loading<'l> {
    pages: &'l HugePages,
    device: &'l Device,
    /// Those that are there: large ones, and those that several tensors view.
    bases: HashMap<BaseKey, Base>,
    /// Views of storages that several tensors view: equal ones are one tensor.
    made: HashMap<(BaseKey, ViewKey), Made>,
    batch: Batch,
}

impl Loading<'_> {
    fn make(&mut self, one: &Wanted<'_>) -> Result<Made> {
        let Some(located) = one.located() else { return one.alone(self.device) };
        let key = located.key();
        if one.views() < 2 {
            return one.view(located, &self.base(one, located)?);
        }
        let view_key = (key, view_key(one.tensor, located));
        if let Some(same) = self.made.get(&view_key) {
            return Ok(same.clone());
        }
        let base = self.base(one, located)?;
        let made = one.view(located, &base)?;
        self.bases.insert(key, base);
        self.made.insert(view_key, made.clone());
        Ok(made)
    }

    fn base(&mut self, one: &Wanted<'_>, located: Located<'_>) -> Result<Base> {
        match self.bases.get(&located.key()) {
            Some(base) => Ok(base.clone()),
            None => one.base(located, self.pages, Some(&mut self.batch), self.device),
        }
    }
}
