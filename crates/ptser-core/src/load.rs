//! The front door for reading: how a checkpoint is opened.

use std::io::{Read, Seek};
use std::path::Path;
use std::sync::Arc;

use crate::backend::MapLocation;
use crate::byte_order::ByteOrder;
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::format::{self, Container, GlobalScan, Terms};
use crate::limits::Limits;
use crate::pickle::Encoding;
use crate::source::{self, Foreign, MemorySource, Mmap, ReadAt, Source, Tail};
use crate::torch::{Faults, Globals};

/// How to open a checkpoint.
///
/// ```no_run
/// use ptser_core::{Globals, LoadOptions};
///
/// let checkpoint = LoadOptions::new()
///     .map_location("cpu")
///     .mmap(true)
///     .globals(Globals::weights_only().allow("argparse.Namespace"))
///     .open("checkpoint.pt")?;
/// # Ok::<(), ptser_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct LoadOptions {
    map_location: MapLocation,
    mmap: Mmap,
    globals: Globals,
    limits: Limits,
    default_byte_order: ByteOrder,
    encoding: Encoding,
    computed_offsets: bool,
    offset: u64,
    faults: Faults,
    verify_crc: bool,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            map_location: MapLocation::Recorded,
            mmap: Mmap::Off,
            globals: Globals::weights_only(),
            limits: Limits::default(),
            default_byte_order: ByteOrder::Little,
            encoding: Encoding::Auto,
            computed_offsets: false,
            offset: 0,
            faults: Faults::Refused,
            verify_crc: false,
        }
    }
}

impl LoadOptions {
    /// PyTorch's defaults: weights only, storages where they were, nothing mapped.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where storages go when they are [restored](Checkpoint::restore): a device, a table, a function.
    #[must_use]
    pub fn map_location(mut self, map_location: impl Into<MapLocation>) -> Self {
        self.map_location = map_location.into();
        self
    }

    /// Maps a file that is opened by path, instead of reading it piece by piece: `true` or
    /// [`Mmap::Private`], or [`Mmap::Shared`] to write through. Sources other than paths are not mapped.
    ///
    /// As with every mapping, nobody may change or truncate the file while it is in use: the bytes would
    /// change under the reader, and a read behind a truncated end kills the process (`SIGBUS`), which no program can
    /// turn into an error. So mapping is asked for, and never the default: a file that is read piece by piece and
    /// truncated meanwhile is an [`Io`](crate::ErrorKind::Io) error.
    #[must_use]
    pub fn mmap(mut self, mmap: impl Into<Mmap>) -> Self {
        self.mmap = mmap.into();
        self
    }

    /// Which globals the file may name. Nothing is executed whatever the policy.
    #[must_use]
    pub fn globals(mut self, globals: Globals) -> Self {
        self.globals = globals;
        self
    }

    /// How much the file may ask for.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The byte order of archives without a `byteorder` record; little-endian by default, as in PyTorch.
    #[must_use]
    pub fn default_byte_order(mut self, order: ByteOrder) -> Self {
        self.default_byte_order = order;
        self
    }

    /// What strings are that Python 2 wrote; by default text where they are UTF-8, and bytes where they are not.
    #[must_use]
    pub fn encoding(mut self, encoding: Encoding) -> Self {
        self.encoding = encoding;
        self
    }

    /// Computes where storages begin in an archive, instead of reading each record's local header: with this,
    /// [`Storage::checkpoint_offset`](crate::Storage::checkpoint_offset) reads nothing, which matters where reads at far places are slow. PyTorch's
    /// `calculate_storage_offsets`.
    ///
    /// It takes an archive that tells its layout (`.format_version`, torch 2.7 and later); one whose directory does not
    /// fit that layout is looked up as ever. Before data is read, the local header must agree.
    #[must_use]
    pub fn computed_offsets(mut self, computed: bool) -> Self {
        self.computed_offsets = computed;
        self
    }

    /// The byte of the source that the checkpoint begins with; several legacy streams may lie in one file.
    /// Offsets that the checkpoint tells count from there.
    #[must_use]
    pub fn offset(mut self, offset: u64) -> Self {
        self.offset = offset;
        self
    }

    /// Opens a checkpoint although some of its tensors contradict themselves or their storages, as after a transfer
    /// that was cut short: those are [marked](crate::Entry::error), and the others are read.
    ///
    /// A container or a pickle that cannot be read at all is an error nevertheless, and so is what the policy
    /// refuses or a limit forbids.
    #[must_use]
    pub fn lenient(mut self, lenient: bool) -> Self {
        self.faults = if lenient { Faults::Kept } else { Faults::Refused };
        self
    }

    /// Checks the CRC-32 of each record of an archive when it is read: of the pickle while opening, of a storage as soon
    /// as all of its bytes have been read, in one piece or in several, by one thread or by many. No byte is read twice for
    /// it. PyTorch never checks; off by default.
    ///
    /// * A part of a storage that is read and nothing else of it goes unchecked: a CRC is of the whole record.
    ///   [`Checkpoint::verify`] reads and checks all of them.
    /// * Where several reads make up a storage, the last one tells; what the others gave may be wrong then.
    /// * Bytes lent by a mapping are all checked before the first is lent.
    /// * A stored CRC of 0 says that none was computed, as `torch.save` has it with `compute_crc32` off or with skipped
    ///   data: nothing is checked there. Nor is it in legacy streams, tar archives, pickles and safetensors files, which
    ///   have no CRCs.
    ///
    /// A CRC tells accidents. Whoever changes a file on purpose changes its CRC too.
    #[must_use]
    pub fn verify_crc(mut self, verify: bool) -> Self {
        self.verify_crc = verify;
        self
    }

    /// Opens a file. Tensor data is read when asked for.
    ///
    /// # Errors
    /// Every kind but `Backend`: see [`ErrorKind`](crate::ErrorKind).
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Checkpoint> {
        let path = path.as_ref();
        let open = || {
            // As in PyTorch, the name decides: a safetensors file that is called .pt is a mistake somewhere.
            let safetensors =
                path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("safetensors"));
            self.open_source(self.file(path)?, safetensors)
        };
        open().map_err(|error| error.in_file(path))
    }

    /// Opens bytes in memory, which are not copied: a `Vec<u8>`, a `&'static [u8]`, an `Arc<[u8]>`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_bytes(&self, bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Result<Checkpoint> {
        self.open_source(Arc::new(MemorySource(bytes)), true)
    }

    /// Opens what a reader holds from its current position on.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn read(&self, reader: impl Read + Seek + Send + 'static) -> Result<Checkpoint> {
        self.open_source(Arc::new(source::from_reader(reader)?), true)
    }

    /// Opens any source of bytes.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn source(&self, source: impl ReadAt + 'static) -> Result<Checkpoint> {
        self.open_source(Arc::new(Foreign(source)), true)
    }

    /// Lists every global that a file names, and what the policy says of each, without opening the file: every
    /// pickle that loading it would run is looked through, whatever it does, and nothing is refused.
    ///
    /// # Errors
    /// `Malformed` where the file is no checkpoint or its container is damaged, `LimitExceeded`, `Io`. A damaged
    /// pickle is told in [`GlobalScan::error`], beside the globals that were found.
    pub fn unsafe_globals(&self, path: impl AsRef<Path>) -> Result<GlobalScan> {
        let path = path.as_ref();
        let scan = self.file(path).and_then(|source| self.scan_source(source));
        let mut scan = scan.map_err(|error| error.in_file(path))?;
        scan.error = scan.error.map(|error| error.in_file(path));
        Ok(scan)
    }

    /// As [`unsafe_globals`](Self::unsafe_globals), of bytes in memory, which are not copied.
    ///
    /// # Errors
    /// As [`unsafe_globals`](Self::unsafe_globals).
    pub fn unsafe_globals_in_bytes(
        &self,
        bytes: impl AsRef<[u8]> + Send + Sync + 'static,
    ) -> Result<GlobalScan> {
        self.scan_source(Arc::new(MemorySource(bytes)))
    }

    /// As [`unsafe_globals`](Self::unsafe_globals), of any source of bytes.
    ///
    /// # Errors
    /// As [`unsafe_globals`](Self::unsafe_globals).
    pub fn unsafe_globals_in_source(&self, source: impl ReadAt + 'static) -> Result<GlobalScan> {
        self.scan_source(Arc::new(Foreign(source)))
    }

    fn scan_source(&self, source: Arc<dyn Source>) -> Result<GlobalScan> {
        format::scan(self.begun(source), self.terms(true))
    }

    fn file(&self, path: &Path) -> Result<Arc<dyn Source>> {
        Ok(source::open_file(path, self.mmap)?.into())
    }

    fn begun(&self, source: Arc<dyn Source>) -> Arc<dyn Source> {
        match self.offset {
            0 => source,
            start => Arc::new(Tail { source, start }),
        }
    }

    pub(crate) fn terms(&self, safetensors: bool) -> Terms<'_> {
        // A new option must be used here or where a checkpoint is opened, or this line breaks.
        let Self {
            map_location: _,
            mmap: _,
            globals,
            limits,
            default_byte_order,
            encoding,
            computed_offsets,
            offset: _,
            faults,
            verify_crc,
        } = self;
        Terms {
            byte_order: *default_byte_order,
            globals,
            limits,
            encoding: *encoding,
            computed_offsets: *computed_offsets,
            safetensors,
            faults: *faults,
            verify_crc: *verify_crc,
        }
    }

    fn open_source(&self, source: Arc<dyn Source>, safetensors: bool) -> Result<Checkpoint> {
        let Self { limits, map_location, .. } = self;
        let opened = Container::open(self.begun(source), self.terms(safetensors))?;
        Checkpoint::new(opened, limits, map_location)
    }
}

impl Checkpoint {
    /// Opens a file with PyTorch's defaults; tensor data is read when asked for.
    ///
    /// # Errors
    /// As [`LoadOptions::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        LoadOptions::new().open(path)
    }

    /// Opens bytes in memory, which are not copied.
    ///
    /// # Errors
    /// As [`LoadOptions::open`].
    pub fn from_bytes(bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Result<Self> {
        LoadOptions::new().from_bytes(bytes)
    }

    /// Opens what a reader holds from its current position on.
    ///
    /// # Errors
    /// As [`LoadOptions::open`].
    pub fn read(reader: impl Read + Seek + Send + 'static) -> Result<Self> {
        LoadOptions::new().read(reader)
    }

    /// Lists every global that a file names, and what PyTorch's policy says of each, without opening the file.
    ///
    /// # Errors
    /// As [`LoadOptions::unsafe_globals`].
    pub fn unsafe_globals(path: impl AsRef<Path>) -> Result<GlobalScan> {
        LoadOptions::new().unsafe_globals(path)
    }
}
