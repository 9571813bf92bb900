//! A device of one's own in one file: folders on a disk hold storages, and stand in for GPUs that are not there.
//!
//! `cargo run --example custom_backend`

use std::any::Any;
use std::borrow::Cow;
use std::error::Error;
use std::fs;
use std::io::{BufWriter, Write};
use std::sync::Arc;

use ptser::{
    Availability, Backend, Checkpoint, DType, DeviceStorage, HostStorage, Location, MapLocation, Object,
    Registry, Result, SaveOptions, Storage, Tensor,
};
use tempfile::NamedTempFile;

/// The device `disk`: storages are files in the folder for temporary ones.
struct Disk;

static DISK: Disk = Disk;
// Every program that this is linked into has the device. In a crate of its own, programs name it: `use disk as _;`.
ptser::submit!(DISK);

/// A storage in a file of its own, which goes when this is dropped.
struct DiskStorage {
    file: NamedTempFile,
    nbytes: u64,
    /// The device that it stands in for.
    instead_of: Option<Location>,
}

impl DiskStorage {
    fn write(storage: HostStorage<'_>, instead_of: Option<Location>) -> Result<Self> {
        let mut file = BufWriter::new(NamedTempFile::new()?);
        // Never all of it in memory; whatever the file's byte order, the pieces have the machine's.
        storage.for_each_piece(&mut |piece| Ok(file.write_all(piece)?))?;
        let file = file.into_inner().map_err(|error| error.into_error())?;
        Ok(Self { file, nbytes: storage.nbytes(), instead_of })
    }
}

impl DeviceStorage for DiskStorage {
    fn location(&self) -> Location {
        Location::new("disk")
    }

    fn nbytes(&self) -> u64 {
        self.nbytes
    }

    fn to_host(&self) -> Result<Cow<'_, [u8]>> {
        Ok(Cow::Owned(fs::read(self.file.path())?))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Backend for Disk {
    fn name(&self) -> &str {
        "disk"
    }

    fn priority(&self) -> i32 {
        30
    }

    fn tag(&self, storage: &dyn DeviceStorage) -> Option<Location> {
        storage.as_any().downcast_ref::<DiskStorage>().map(DeviceStorage::location)
    }

    fn availability(&self) -> Availability {
        match NamedTempFile::new() {
            Ok(_) => Availability::Devices(1),
            Err(error) => Availability::Unavailable(format!("no file can be made: {error}")),
        }
    }

    fn restore(
        &self,
        storage: HostStorage<'_>,
        location: &Location,
    ) -> Result<Option<Box<dyn DeviceStorage>>> {
        if location.device() != self.name() {
            return Ok(None);
        }
        self.validate(location)?;
        Ok(Some(Box::new(DiskStorage::write(storage, None)?)))
    }
}

/// Asked before all others, as its number is lower: what was saved on a GPU goes to the disk, and is saved with the
/// tag that it had. It has no devices of its own.
struct InsteadOfGpus;

impl Backend for InsteadOfGpus {
    fn name(&self) -> &str {
        "instead of GPUs"
    }

    fn priority(&self) -> i32 {
        5
    }

    fn tag(&self, storage: &dyn DeviceStorage) -> Option<Location> {
        storage.as_any().downcast_ref::<DiskStorage>()?.instead_of.clone()
    }

    fn availability(&self) -> Availability {
        Availability::Devices(0)
    }

    fn restore(
        &self,
        storage: HostStorage<'_>,
        location: &Location,
    ) -> Result<Option<Box<dyn DeviceStorage>>> {
        if !["cuda", "mps"].contains(&location.device()) {
            return Ok(None);
        }
        Ok(Some(Box::new(DiskStorage::write(storage, Some(location.clone()))?)))
    }
}

/// A checkpoint as a machine with a GPU writes it: one tensor there, one on the host.
fn saved_elsewhere() -> Result<Vec<u8>> {
    let tensor = |location: &str, numbers: [f32; 3]| {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_ne_bytes()).collect();
        Tensor::contiguous(
            Storage::from_bytes(Some(DType::Float32), location.into(), bytes),
            DType::Float32,
            [3],
        )
    };
    let (weight, bias) = (tensor("cuda:1", [1.0, 2.0, 3.0])?, tensor("cpu", [0.5; 3])?);
    SaveOptions::new().to_bytes(&Object::dict([("weight", weight), ("bias", bias)]))
}

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let checkpoint = Checkpoint::from_bytes(saved_elsewhere()?)?;
    let show = |registry: &Registry, map_location: &MapLocation| -> Result<()> {
        let restored = checkpoint.restore(registry, map_location)?;
        for (storage, placed) in restored.iter() {
            let (is, tag) = (placed.location(), registry.tag(&**placed)?);
            println!("  saved on {}, now on {is}, saved again as {tag}", storage.location());
            assert_eq!(*placed.to_host()?, storage.to_vec()?);
        }
        Ok(())
    };

    let linked = Registry::linked()?;
    println!("linked: {linked:?}");
    println!("to the disk:");
    show(&linked, &"disk".into())?;
    println!("where they were, without the override:");
    match show(&linked, &MapLocation::recorded()) {
        Ok(()) => {}
        Err(error) => println!("  {error}"),
    }

    let registry = linked.with(InsteadOfGpus)?;
    println!("where they were, with it: {registry:?}");
    show(&registry, &MapLocation::recorded())?;

    // Back into a file: the backend names the place, and gives the bytes when they are written.
    let restored = checkpoint.restore(&registry, &MapLocation::recorded())?;
    let mut again = Vec::new();
    for (name, tensor) in checkpoint.tensors() {
        let storage = tensor.storage().ok_or("no storage")?;
        let placed = restored.get(storage).ok_or("not placed")?;
        let storage = registry.storage(Arc::clone(placed), storage.dtype())?;
        again.push((name.to_owned(), tensor.clone().with_storage(storage)?));
    }
    let again = Checkpoint::from_bytes(SaveOptions::new().to_bytes(&Object::dict(again))?)?;
    for (name, tensor) in again.tensors() {
        let storage = tensor.storage().ok_or("no storage")?;
        println!("{name} is saved on {}", storage.location());
        assert_eq!(tensor.to_contiguous()?, checkpoint.tensor(name)?.to_contiguous()?);
    }
    Ok(())
}
