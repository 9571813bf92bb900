//! What there is: tensors, the storages they view, and who shares with whom.

use std::collections::HashMap;

use ptser::{Checkpoint, DType, Entry, Storage, Tensor, layout};

/// Counts over a checkpoint.
///
/// A tensor that is reached by several paths is one tensor. Parts of sparse and quantized tensors are counted
/// apart, and view their storages as tensors do.
pub(crate) struct Tally<'c> {
    /// Paths to tensors.
    pub(crate) paths: usize,
    pub(crate) tensors: usize,
    pub(crate) parameters: usize,
    pub(crate) parts: usize,
    /// In order of first appearance.
    pub(crate) dtypes: Vec<(DType, usize)>,
    /// Every storage, in the order of the file.
    pub(crate) storages: Vec<Used<'c>>,
    /// [`Storage::id`] → place in `storages`.
    places: HashMap<usize, usize>,
}

/// A storage, and what is viewed of it.
pub(crate) struct Used<'c> {
    pub(crate) storage: &'c Storage,
    /// The tensors that view it, each by its first path.
    pub(crate) by: Vec<Entry<'c>>,
    /// Byte ranges from the first to the last element of each view.
    extents: Vec<(u64, u64)>,
}

/// What makes two tensors the same view of the same bytes.
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct View<'c> {
    storage: usize,
    dtype: DType,
    shape: &'c [usize],
    stride: &'c [usize],
    offset: usize,
    flags: (bool, bool),
}

impl<'c> View<'c> {
    /// `None` for tensors that view no storage.
    pub(crate) fn of(tensor: &'c Tensor) -> Option<Self> {
        Some(Self {
            storage: tensor.storage()?.id(),
            dtype: tensor.dtype(),
            shape: tensor.shape(),
            stride: tensor.stride(),
            offset: tensor.storage_offset(),
            flags: (tensor.is_conj(), tensor.is_neg()),
        })
    }
}

impl<'c> Tally<'c> {
    pub(crate) fn of(checkpoint: &'c Checkpoint) -> Self {
        let mut tally = Self {
            paths: 0,
            tensors: 0,
            parameters: 0,
            parts: 0,
            dtypes: Vec::new(),
            storages: Vec::new(),
            places: HashMap::new(),
        };
        for storage in checkpoint.storages() {
            tally.place(storage);
        }
        let mut seen = std::collections::HashSet::new();
        for entry in checkpoint.entries() {
            let Some(tensor) = entry.tensor() else { continue };
            if !entry.is_part() {
                tally.paths += 1;
            }
            if seen.insert(std::ptr::from_ref(tensor)) {
                tally.add(entry, tensor);
            }
        }
        tally
    }

    fn add(&mut self, entry: Entry<'c>, tensor: &'c Tensor) {
        if entry.is_part() {
            self.parts += 1;
        } else {
            self.tensors += 1;
            self.parameters += usize::from(tensor.is_parameter());
            let dtype = tensor.dtype();
            match self.dtypes.iter_mut().find(|(known, _)| *known == dtype) {
                Some((_, count)) => *count += 1,
                None => self.dtypes.push((dtype, 1)),
            }
        }
        let Some(storage) = tensor.storage() else { return };
        let place = self.place(storage);
        if let Some(used) = self.storages.get_mut(place) {
            used.by.push(entry);
            used.extents.extend(extent(tensor));
        }
    }

    fn place(&mut self, storage: &'c Storage) -> usize {
        *self.places.entry(storage.id()).or_insert_with(|| {
            self.storages.push(Used { storage, by: Vec::new(), extents: Vec::new() });
            self.storages.len() - 1
        })
    }

    /// The storage's use.
    pub(crate) fn used(&self, storage: &Storage) -> Option<&Used<'c>> {
        self.storages.get(*self.places.get(&storage.id())?)
    }

    /// The storages that more than one tensor views.
    pub(crate) fn shared(&self) -> impl Iterator<Item = &Used<'c>> {
        self.storages.iter().filter(|used| used.by.len() > 1)
    }
}

impl Used<'_> {
    /// Bytes that no tensor views. What lies between the elements of a strided view counts as viewed.
    pub(crate) fn slack(&self) -> u64 {
        let mut extents = self.extents.clone();
        extents.sort_unstable();
        let (mut viewed, mut reached) = (0_u64, 0_u64);
        for (start, end) in extents {
            let start = start.max(reached);
            viewed = viewed.saturating_add(end.saturating_sub(start));
            reached = reached.max(end);
        }
        self.storage.nbytes().saturating_sub(viewed)
    }
}

/// The bytes from the first to the last element; `None` where there are no elements.
pub(crate) fn extent(tensor: &Tensor) -> Option<(u64, u64)> {
    let end = layout::extent(tensor.shape(), tensor.stride(), tensor.storage_offset())?;
    let size = tensor.dtype().element_size();
    let in_bytes = |elements: usize| u64::try_from(elements.checked_mul(size)?).ok();
    let extent = (in_bytes(tensor.storage_offset())?, in_bytes(end)?);
    (extent.0 < extent.1).then_some(extent)
}
