//! A checkpoint that is open: what it holds, and where that lies.

use std::sync::OnceLock;

use crate::backend::{MapLocation, Registry, Restored};
use crate::bounds::check_copies;
use crate::byte_order::ByteOrder;
use crate::document::Document;
use crate::error::{Error, Reason, Result};
use crate::format::{Container, Format, Opened, ZipFile};
use crate::limits::Limits;
use crate::listing::{Entry, Listing};
use crate::module;
use crate::state_dict::{self, StateDict};
use crate::storage::Storage;
use crate::tensor::Tensor;
use crate::torch::{Globals, Verdict};
use crate::value::Value;

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
    /// CRC-32 of the content, as the directory has it; 0 also means that none was computed. It is compared with the
    /// content by [`LoadOptions::verify_crc`](crate::LoadOptions::verify_crc) and [`Checkpoint::verify`].
    pub crc32: u32,
}

impl Checkpoint {
    /// Walks what was opened.
    pub(crate) fn new(opened: Opened, limits: &Limits, map_location: &MapLocation) -> Result<Self> {
        let Opened { container, document, globals } = opened;
        let listing = Listing::of(&document, document.graph.root(), limits)?;
        let all = &document.interpretation.storages;
        let with_bytes = || all.iter().filter(|storage| !storage.is_meta()).cloned().collect();
        Ok(Self {
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

    pub(crate) fn zip(&self) -> Option<&ZipFile> {
        self.container.zip()
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn document(&self) -> &Document {
        &self.document
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
    /// `torch.nn.Module.state_dict` would give them; what code of its class would add or rename is not known.
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
    /// As [`LoadOptions::open`](crate::LoadOptions::open), of the record `constants.pkl` and those in `constants/`.
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

    /// Refuses tensors that are out of proportion once all of them are copied out: each may be a small one of many
    /// expanded views. Whoever copies all of them asks first; opening and lending copies none.
    ///
    /// # Errors
    /// `LimitExceeded` where they take more than sixteen times their storages and
    /// [`Limits::expanded_bytes`] together. The same view of the same bytes counts once.
    pub fn check_views(&self) -> Result<()> {
        let tensors = self.entries().filter_map(Entry::tensor);
        check_copies(tensors, self.storages().iter(), self.limits.expanded_bytes)
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
        Restored::place(self.storages(), self.document.tensors(), registry, map_location)
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
    /// with [`LoadOptions::read`](crate::LoadOptions::read) by a reader that stands there. `None` for archives and safetensors files.
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
