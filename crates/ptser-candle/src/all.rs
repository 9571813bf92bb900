//! Makes all tensors of a state dict at once. Small storages are read one after the other, with their neighbours; the
//! others by themselves, several at a time.

use std::sync::Arc;

use candle_core::{Device, Result};
use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};
use ptser_core::{Names, ReadAhead};
use rayon::prelude::*;

use crate::base::{BaseKey, Batch, Located};
use crate::error::about;
use crate::fill::HugePages;
use crate::inflated::Inflated;
use crate::loaded::Loaded;
use crate::make::{Base, COPY_BEYOND, Made, Wanted};
use crate::report::Report;
use crate::shared::ViewKey;
use crate::tensors::{ViewOf, view_key, view_of};

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
    let (made, alone) = (HashMap::new(), HashMap::new());
    let (inflated, gathered, batch) = (Inflated::default(), Gathered::default(), Batch::default());
    let mut loading = Loading { pages, device, bases, made, alone, inflated, gathered, batch };
    let mut tensors = Vec::with_capacity(wanted.len());
    let mut report = Report::default();
    for one in wanted {
        let one = one?;
        let Made { tensor, changes, .. } = loading.make(&one)?;
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
    /// Likewise what is made by itself.
    alone: HashMap<ViewOf, Made>,
    inflated: Inflated,
    gathered: Gathered,
    batch: Batch,
}

impl Loading<'_> {
    fn make(&mut self, one: &Wanted<'_>) -> Result<Made> {
        let Some(located) = one.located() else { return self.alone(one) };
        let key = located.key();
        if one.views() < 2 {
            let made = one.view(located, &self.base(one, located)?)?;
            self.gathered.add(one, located, made.gathered)?;
            return Ok(made);
        }
        let view_key = (key, view_key(one.tensor, located));
        if let Some(same) = self.made.get(&view_key) {
            return Ok(same.clone());
        }
        let base = self.base(one, located)?;
        let made = one.view(located, &base)?;
        self.gathered.add(one, located, made.gathered)?;
        self.bases.insert(key, base);
        self.made.insert(view_key, made.clone());
        Ok(made)
    }

    fn alone(&mut self, one: &Wanted<'_>) -> Result<Made> {
        let view = view_of(one.tensor);
        if let Some(same) = view.as_ref().and_then(|view| self.alone.get(view)) {
            return Ok(same.clone());
        }
        let made = one.alone(self.device, &mut self.inflated)?;
        if let Some(view) = view {
            self.alone.insert(view, made.clone());
        }
        Ok(made)
    }

    fn base(&mut self, one: &Wanted<'_>, located: Located<'_>) -> Result<Base> {
        match self.bases.get(&located.key()) {
            Some(base) => Ok(base.clone()),
            None => one.base(located, self.pages, Some(&mut self.batch), self.device),
        }
    }
}

/// What was copied because candle has no such view.
#[derive(Default)]
struct Gathered {
    /// Those it was copied from, and their bytes.
    storages: HashSet<BaseKey>,
    held: u64,
    copied: u64,
}

impl Gathered {
    /// Counts a copy of so many bytes.
    ///
    /// # Errors
    /// Copies that are out of proportion to their storages together: a small file may ask for many.
    fn add(&mut self, one: &Wanted<'_>, located: Located<'_>, bytes: usize) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        if self.storages.insert(located.key()) {
            self.held = self.held.saturating_add(located.storage.nbytes());
        }
        let number = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
        self.copied = self.copied.saturating_add(number(bytes));
        if self.copied.saturating_sub(self.held.saturating_mul(16)) <= number(COPY_BEYOND) {
            return Ok(());
        }
        let what =
            "candle cannot have it as a view, and with what was copied before, its copy is out of proportion";
        Err(about(
            one.name,
            format!("{what}: leave tensors out with PtOptions::only, or load them one by one"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::Conversions;
    use ptser_core::{DType, Location, Storage, Tensor};

    #[test]
    fn copies_are_counted_together() {
        let storage = |bytes: usize| Storage::from_bytes(None, Location::cpu(), vec![0_u8; bytes]);
        let tensor = |storage| Tensor::contiguous(storage, DType::UInt8, [1]).unwrap();
        let (one, other) = (tensor(storage(1 << 10)), tensor(storage(1 << 20)));
        let mut gathered = Gathered::default();
        let mut add = |tensor: &Tensor, bytes| {
            let wanted = Wanted::of("windows", tensor, None, Conversions::default()).unwrap();
            gathered.add(&wanted, wanted.located().unwrap(), bytes)
        };
        // Each storage allows sixteen times its bytes, however often it is copied from.
        add(&one, COPY_BEYOND).unwrap();
        add(&one, 16 << 10).unwrap();
        let error = add(&one, 1).unwrap_err().to_string();
        assert!(error.contains("windows") && error.contains("out of proportion"), "{error}");
        add(&other, 1 << 20).unwrap();
        add(&one, 15 << 20).unwrap_err();
    }
}
