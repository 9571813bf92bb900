//! The front door for reading: options, and the checkpoint that they open.

use std::io::{Read, Seek};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use crate::backend::{MapLocation, Registry, Restored};
use crate::byte_order::ByteOrder;
use crate::document::Document;
use crate::error::{Error, Reason, Result};
use crate::format::{self, Container, Format, GlobalScan, Opened, Terms};
use crate::limits::Limits;
use crate::listing::{Entry, Listing};
use crate::module;
use crate::pickle::Encoding;
use crate::source::{self, Foreign, MemorySource, Mmap, ReadAt, Source, Tail};
use crate::state_dict::{self, StateDict};
use crate::storage::Storage;
use crate::tensor::Tensor;
use crate::torch::{Faults, Globals, Verdict};
use crate::value::Value;

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
    /// change under the reader, and a read behind a truncated end kills the process.
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
    /// [`Storage::checkpoint_offset`] reads nothing, which matters where reads at far places are slow. PyTorch's
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

    fn terms(&self, safetensors: bool) -> Terms<'_> {
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
        } = self;
        Terms {
            byte_order: *default_byte_order,
            globals,
            limits,
            encoding: *encoding,
            computed_offsets: *computed_offsets,
            safetensors,
            faults: *faults,
        }
    }

    fn open_source(&self, source: Arc<dyn Source>, safetensors: bool) -> Result<Checkpoint> {
        let Self { limits, map_location, .. } = self;
        let opened = Container::open(self.begun(source), self.terms(safetensors))?;
        let Opened { container, document, globals } = opened;
        let listing = Listing::of(&document, document.graph.root(), limits)?;
        let all = &document.interpretation.storages;
        let with_bytes = || all.iter().filter(|storage| !storage.is_meta()).cloned().collect();
        Ok(Checkpoint {
            with_bytes: all.iter().any(Storage::is_meta).then(with_bytes),
            constants: OnceLock::new(),
            document,
            container,
            listing,
            limits: limits.clone(),
            globals,
            map_location: map_location.clone(),
        })
    }
}

/// A checkpoint: its values, its tensors and their storages. Tensor data is read when asked for.
///
/// ```no_run
/// let checkpoint = ptser_core::Checkpoint::open("model.pt")?;
/// for (name, tensor) in checkpoint.tensors() {
///     println!("{name} {} {:?}", tensor.dtype(), tensor.shape());
/// }
/// let bytes = checkpoint.tensor("fc.weight")?.to_contiguous()?;
/// # Ok::<(), ptser_core::Error>(())
/// ```
pub struct Checkpoint {
    document: Document,
    container: Container,
    /// The storages, where there are others too, which have none.
    with_bytes: Option<Vec<Storage>>,
    /// Those of a program, once asked for.
    constants: OnceLock<Document>,
    listing: Listing,
    limits: Limits,
    globals: Globals,
    map_location: MapLocation,
}

/// One record of an archive.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct RecordInfo<'c> {
    /// The name below the root folder.
    pub name: &'c str,
    /// Bytes once read.
    pub size: u64,
    /// Bytes in the archive.
    pub stored_size: u64,
    /// Whether it is deflated.
    pub deflated: bool,
    /// CRC-32 of the content, as the directory has it; 0 also means that none was computed.
    pub crc32: u32,
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

    /// The container.
    pub fn format(&self) -> Format {
        self.container.format()
    }

    /// The byte order of the data.
    pub fn byte_order(&self) -> ByteOrder {
        self.container.byte_order()
    }

    /// The value that was saved.
    pub fn root(&self) -> Value<'_> {
        Value { document: &self.document, id: self.document.graph.root() }
    }

    /// Every tensor by name, in the order of the file: a tensor that is reached by several paths stands at
    /// each; parts of sparse and quantized tensors follow their whole, as `name.#indices`.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.entries().filter_map(|entry| Some((entry.name(), entry.tensor()?)))
    }

    /// Every tensor with its path; also those that are [damaged](Entry::error).
    pub fn entries(&self) -> impl ExactSizeIterator<Item = Entry<'_>> {
        self.listing.tensors(&self.document)
    }

    /// Every NumPy array of numbers with its path, in the order of the file.
    pub fn arrays(&self) -> impl ExactSizeIterator<Item = Entry<'_>> {
        self.listing.arrays(&self.document)
    }

    /// The tensor of a name, as [`tensors`](Self::tensors) gives them, or the array.
    ///
    /// # Errors
    /// `Misuse` with the nearest names that are there, `Malformed` for a tensor that is damaged.
    pub fn tensor(&self, name: &str) -> Result<&Tensor> {
        let entry = self.listing.find(&self.document, name);
        if let Some(error) = entry.and_then(Entry::error) {
            return Err(Error::from(Reason::Damaged(error.to_string())).in_tensor(name));
        }
        entry.and_then(Entry::tensor).ok_or_else(|| {
            let names: Vec<&str> = self.listing.all(&self.document).map(Entry::name).collect();
            Error::misuse(state_dict::missing(name, names.into_iter()))
        })
    }

    /// The model's tensors: the root's, or those under a customary key (`state_dict`, `model_state_dict`,
    /// `model`, `module`, `params_ema`, `params`, `ema`, …), the first in this order that holds any. NumPy arrays
    /// are tensors here.
    ///
    /// A pickled `torch.nn.Module`, read with [`Globals::inert`], gives its parameters and buffers by the names that
    /// its own `state_dict()` would give them.
    ///
    /// # Errors
    /// `LimitExceeded` where too many paths lead to tensors.
    pub fn state_dict(&self) -> Result<StateDict> {
        self.state_dict_below(state_dict::find(self.root()))
    }

    /// The tensors under a key, or under a path of keys joined by dots.
    ///
    /// # Errors
    /// `Misuse` where the path leads nowhere; as [`state_dict`](Self::state_dict).
    pub fn state_dict_at(&self, path: &str) -> Result<StateDict> {
        self.state_dict_below(state_dict::at(self.root(), path)?)
    }

    fn state_dict_below(&self, value: Value<'_>) -> Result<StateDict> {
        if let Some(state_dict) = module::state_dict(value, &self.limits)? {
            return Ok(state_dict);
        }
        if value.is(self.root()) {
            return Ok(StateDict::of(&self.document, &self.listing));
        }
        Ok(StateDict::of(&self.document, &Listing::of(&self.document, value.id, &self.limits)?))
    }

    /// Every storage, in the order of the file.
    pub fn storages(&self) -> &[Storage] {
        self.with_bytes.as_deref().unwrap_or(&self.document.interpretation.storages)
    }

    /// The constants of a TorchScript program, a tuple: what its code calls `CONSTANTS.c0`, `CONSTANTS.c1`, …; `None`
    /// for anything else. They are read when first asked for, and their tensors are listed nowhere else.
    ///
    /// # Errors
    /// As [`LoadOptions::open`], of the record `constants.pkl` and those in `constants/`.
    pub fn constants(&self) -> Result<Option<Value<'_>>> {
        let document = match self.constants.get() {
            Some(document) => document,
            None => match self.container.constants(&self.limits)? {
                Some(document) => self.constants.get_or_init(|| document),
                None => return Ok(None),
            },
        };
        Ok(Some(Value { document, id: document.graph.root() }))
    }

    /// Every global that the file names, in order of appearance, and what the policy says of it.
    pub fn globals(&self) -> impl Iterator<Item = (&str, Verdict)> {
        let symbols = self.document.graph.symbols().iter();
        symbols.map(|symbol| (&*symbol.full, self.globals.verdict(&symbol.module, &symbol.full)))
    }

    /// The pickle protocol.
    pub fn protocol(&self) -> u8 {
        self.document.graph.protocol
    }

    /// Puts each storage on a device, once however many tensors view it: where the options' `map_location`
    /// says, or else where it was.
    ///
    /// # Errors
    /// `Backend` where no backend claims a location or the one that does fails; errors of reading.
    pub fn restore(&self, registry: &Registry, map_location: &MapLocation) -> Result<Restored> {
        let map_location = match map_location {
            MapLocation::Recorded => &self.map_location,
            other => other,
        };
        Restored::place(self.storages(), &self.document.interpretation.tensors, registry, map_location)
    }

    /// The name of the archive's root folder; empty for containers without records.
    pub fn root_folder(&self) -> &str {
        self.container.zip().map_or("", |file| file.archive().root())
    }

    /// Bytes in the file before the archive.
    pub fn archive_offset(&self) -> u64 {
        self.container.zip().map_or(0, |file| file.archive().start())
    }

    /// Where a legacy stream or a pickle ends, counted from where it began: another may follow it, to be opened
    /// with [`LoadOptions::read`] by a reader that stands there. `None` for archives and safetensors files.
    pub fn end_offset(&self) -> Option<u64> {
        self.container.end()
    }

    /// The records below an archive's root folder, in the order of the directory; none for other containers.
    pub fn records(&self) -> impl ExactSizeIterator<Item = RecordInfo<'_>> {
        let records = self.container.zip().map_or(&[][..], |file| file.archive().records());
        records.iter().map(|record| RecordInfo {
            name: &record.name,
            size: record.size,
            stored_size: record.stored_size,
            deflated: record.compression == crate::archive::Compression::Deflated,
            crc32: record.crc32,
        })
    }

    /// The content of a small record of text, such as `version` or `.data/serialization_id`.
    pub fn note(&self, record: &str) -> Option<String> {
        self.container.zip().and_then(|file| file.note(record))
    }
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Checkpoint({}, {} tensors, {} storages)",
            self.format(),
            self.entries().len(),
            self.storages().len()
        )
    }
}
