//! Storages on their way to devices, each once however many tensors view it.

use std::collections::HashMap;
use std::sync::Arc;

use super::{DeviceStorage, MapLocation, Registry};
use crate::byte_order::ByteOrder;
use crate::dtype::DType;
use crate::error::Result;
use crate::location::Location;
use crate::storage::Storage;
use crate::tensor::Tensor;

/// A storage that a backend is asked to place. Nothing is read before the backend asks.
#[derive(Debug, Clone, Copy)]
pub struct HostStorage<'c> {
    storage: &'c Storage,
    dtype: DType,
}

impl<'c> HostStorage<'c> {
    /// A storage whose untyped bytes are to be read as elements of `dtype`.
    pub fn new(storage: &'c Storage, dtype: DType) -> Self {
        Self { storage, dtype: storage.dtype().unwrap_or(dtype) }
    }

    /// The storage in the file.
    pub fn storage(&self) -> &'c Storage {
        self.storage
    }

    /// The element type: of the storage's class, or of the first tensor that views it.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Size in bytes.
    pub fn nbytes(&self) -> u64 {
        self.storage.nbytes()
    }

    /// The bytes where they lie, in the host's byte order, if that takes no copy.
    ///
    /// # Errors
    /// `Malformed` where the record is damaged.
    pub fn borrow(&self) -> Result<Option<&'c [u8]>> {
        self.storage.borrow_as(self.dtype, ByteOrder::NATIVE)
    }

    /// The bytes as [`borrow`](Self::borrow) gives them, if they lie in a private mapping of the file
    /// ([`Mmap::Private`](crate::Mmap::Private)): in whole pages, all readable to their ends, that nothing writes to,
    /// and that stay where they are while a clone of the [`Storage`] lives.
    ///
    /// # Errors
    /// `Malformed` where the record is damaged.
    pub fn mapped(&self) -> Result<Option<&'c [u8]>> {
        if self.storage.is_mapped() { self.borrow() } else { Ok(None) }
    }

    /// The bytes in the host's byte order.
    ///
    /// # Errors
    /// `Malformed` where the record is damaged, `Io`.
    pub fn to_vec(&self) -> Result<Vec<u8>> {
        self.storage.to_vec_as(self.dtype, ByteOrder::NATIVE)
    }

    /// Whether [`read_at`](Self::read_at) takes what its range takes, so that several threads may share the work.
    /// A deflated record is read from its beginning each time, and bytes on another device come all at once.
    ///
    /// # Errors
    /// `Malformed` where the record is damaged, `Io`.
    pub fn is_seekable(&self) -> Result<bool> {
        Ok(self.storage.checkpoint_offset()?.is_some() || self.borrow()?.is_some())
    }

    /// Fills `buf` with the bytes from `offset` on, in the host's byte order.
    ///
    /// # Errors
    /// `Misuse` where the range leaves the storage, `Malformed` where the record is damaged, `Io`.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.storage.read_into(self.dtype, ByteOrder::NATIVE, offset, buf)
    }

    /// Hands all bytes to `take` in their order, in pieces of any size, in the host's byte order: the way to read a
    /// storage that is not [seekable](Self::is_seekable).
    ///
    /// # Errors
    /// `Malformed` where the record is damaged, `Io`, and those of `take`.
    pub fn for_each_piece(&self, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        self.storage.for_each_chunk(self.dtype, ByteOrder::NATIVE, take)
    }
}

/// The storages of a checkpoint on their devices.
pub struct Restored {
    storages: Vec<(Storage, Arc<dyn DeviceStorage>)>,
    /// Places in `storages` by [`Storage::id`], which the handles there keep alive.
    places: HashMap<usize, usize>,
}

impl Restored {
    /// Places each storage once.
    pub(crate) fn place<'c>(
        storages: &[Storage],
        tensors: impl Iterator<Item = &'c Tensor>,
        registry: &Registry,
        map_location: &MapLocation,
    ) -> Result<Self> {
        // Untyped storages are read as what their first tensor makes of them.
        let mut views: HashMap<usize, DType> = HashMap::new();
        for tensor in tensors {
            if let Some(storage) = tensor.storage() {
                views.entry(storage.id()).or_insert(tensor.dtype());
            }
        }
        let mut restored = Self { storages: Vec::with_capacity(storages.len()), places: HashMap::new() };
        for storage in storages {
            let location = map_location.apply(storage)?;
            let dtype = views.get(&storage.id()).copied().unwrap_or(DType::UInt8);
            let placed = registry
                .restore(HostStorage::new(storage, dtype), &location)
                .map_err(|error| error.in_record(&format!("data/{}", storage.key())))?;
            restored.places.insert(storage.id(), restored.storages.len());
            restored.storages.push((storage.clone(), Arc::from(placed)));
        }
        Ok(restored)
    }

    /// The placed storage of one in the file.
    pub fn get(&self, storage: &Storage) -> Option<&Arc<dyn DeviceStorage>> {
        let place = *self.places.get(&storage.id())?;
        self.storages.get(place).map(|(_, placed)| placed)
    }

    /// All of them, in the order of the file.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Storage, &Arc<dyn DeviceStorage>)> {
        self.storages.iter().map(|(storage, placed)| (storage, placed))
    }

    /// Where each went.
    pub fn locations(&self) -> impl ExactSizeIterator<Item = Location> {
        self.storages.iter().map(|(_, placed)| placed.location())
    }
}
