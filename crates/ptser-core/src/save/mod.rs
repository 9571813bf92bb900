//! The front door for saving: options, and the files and streams that objects are written to.

mod archive;
mod atomic;
mod payload;
mod root;
mod sink;
mod stream;
mod write_back;

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

pub use self::atomic::Replacement;
pub(crate) use self::atomic::sync_folder;
use self::root::root_of;
use self::sink::{Sink, Stream};
use crate::archive::ALIGNMENTS;
use crate::byte_order::ByteOrder;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::format::Format;
use crate::load::LoadOptions;
use crate::object::Object;
use crate::pickle;
use crate::source::Mmap;
use crate::state_dict::StateDict;
use crate::tensor::{Tensor, TensorKind};
use crate::torch::{self, Globals, Outline, PidDialect};

/// How an object is saved. The defaults are those of `torch.save` in torch 2.15, and so are the bytes.
///
/// ```no_run
/// use ptser_core::{Object, SaveOptions};
///
/// let object = Object::dict([("epoch", Object::from(3)), ("lr", 0.1.into())]);
/// SaveOptions::new().alignment(4096).save("checkpoint.pt", &object)?;
/// # Ok::<(), ptser_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct SaveOptions {
    format: Container,
    protocol: u8,
    alignment: u64,
    crc32: bool,
    /// Whether storages have theirs too: not in files that were written without data.
    crc32_of_data: bool,
    byteorder_record: bool,
    skip_data: bool,
    byte_order: ByteOrder,
    root: Option<String>,
    durable: bool,
    compact: bool,
}

/// The containers that can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Container {
    Zip,
    Legacy,
}

impl Default for SaveOptions {
    fn default() -> Self {
        Self {
            format: Container::Zip,
            protocol: 2,
            alignment: 64,
            crc32: true,
            crc32_of_data: true,
            byteorder_record: true,
            skip_data: false,
            byte_order: ByteOrder::NATIVE,
            root: None,
            durable: true,
            compact: false,
        }
    }
}

impl SaveOptions {
    /// PyTorch's defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The options that a checkpoint was written with, as far as its file tells: written with them again, a file of
    /// torch 2.15 is the same file.
    ///
    /// # Errors
    /// `Unsupported` for TorchScript programs, whose code is no part of a checkpoint.
    pub fn like(checkpoint: &Checkpoint) -> Result<Self> {
        let mut options = Self::new();
        options.format = match checkpoint.format() {
            Format::Legacy => Container::Legacy,
            Format::TorchScript => return Err(Error::unsupported("saving a TorchScript program")),
            Format::Zip | Format::Tar | Format::Pickle | Format::Safetensors => Container::Zip,
        };
        options.protocol = checkpoint.protocol().clamp(2, 5);
        if checkpoint.format() != Format::Zip {
            return Ok(options);
        }
        options.byte_order = checkpoint.byte_order();
        options.root = Some(checkpoint.root_folder().to_owned()).filter(|root| !root.is_empty());
        let alignment = checkpoint.note(".storage_alignment").and_then(|text| text.trim().parse().ok());
        let alignment = alignment.filter(|alignment| ALIGNMENTS.contains(alignment));
        options.alignment = alignment.unwrap_or(options.alignment);
        let stored = || checkpoint.records().filter(|record| record.size > 0);
        options.crc32 = stored().next().is_none() || stored().any(|record| record.crc32 != 0);
        let mut data = stored().filter(|record| record.name.starts_with("data/")).peekable();
        options.crc32_of_data = data.peek().is_none() || data.any(|record| record.crc32 != 0);
        let place = |name: &str| checkpoint.records().position(|record| record.name == name);
        options.byteorder_record = match (place("byteorder"), place("version")) {
            (Some(byteorder), Some(version)) => byteorder < version,
            _ => true,
        };
        Ok(options)
    }

    /// The container: [`Format::Zip`], or [`Format::Legacy`] for torch before 1.6.
    ///
    /// # Errors
    /// `Misuse` for containers that are only read.
    pub fn format(mut self, format: Format) -> Result<Self> {
        self.format = match format {
            Format::Zip => Container::Zip,
            Format::Legacy => Container::Legacy,
            other => return Err(Error::misuse(format!("{other} files are read and not written"))),
        };
        Ok(self)
    }

    /// The pickle protocol, from 2 to 5. PyTorch's weights-only loading reads 2 alone.
    ///
    /// # Errors
    /// `Misuse` for others.
    pub fn protocol(mut self, protocol: u8) -> Result<Self> {
        if !(2..=5).contains(&protocol) {
            return Err(Error::misuse(format!("pickle protocol {protocol}, expected 2 to 5")));
        }
        self.protocol = protocol;
        Ok(self)
    }

    /// What the offset of every record in an archive is a multiple of, in bytes: 1 to 65,496; checked when saving.
    #[must_use]
    pub fn alignment(mut self, alignment: u64) -> Self {
        self.alignment = alignment;
        self
    }

    /// Whether archives hold the CRC-32 of their records; zeros otherwise, which PyTorch does not mind, and other
    /// readers of zip archives do.
    #[must_use]
    pub fn crc32(mut self, crc32: bool) -> Self {
        self.crc32 = crc32;
        self
    }

    /// Whether the record `byteorder` stands before the data; otherwise it stands at the end, as with PyTorch's
    /// `_disable_byteorder_record`.
    #[must_use]
    pub fn byteorder_record(mut self, before_data: bool) -> Self {
        self.byteorder_record = before_data;
        self
    }

    /// Leaves out the bytes of storages, which are zeros then, and holes in the file where the system has such; they
    /// can be written in place later, where [`Storage::checkpoint_offset`](crate::Storage::checkpoint_offset) says.
    /// Quantized and nested tensors are refused, as they are by PyTorch.
    #[must_use]
    pub fn skip_data(mut self, skip_data: bool) -> Self {
        self.skip_data = skip_data;
        self
    }

    /// The byte order of archives; this machine's by default.
    #[must_use]
    pub fn byte_order(mut self, byte_order: ByteOrder) -> Self {
        self.byte_order = byte_order;
        self
    }

    /// The name of an archive's root folder, which has no slash; checked when saving. By default it is what PyTorch makes
    /// of the path, and `archive` for what is no path.
    #[must_use]
    pub fn root_folder(mut self, root: impl Into<String>) -> Self {
        self.root = Some(root.into());
        self
    }

    /// The root folder that saving to a path would give, unless one is set; for [`write`](Self::write).
    ///
    /// # Errors
    /// `Misuse` for names that leave none, such as `.pt`.
    pub fn root_folder_of(mut self, path: impl AsRef<Path>) -> Result<Self> {
        if self.root.is_none() {
            self.root = Some(root_of(path.as_ref())?);
        }
        Ok(self)
    }

    /// Leaves out what no tensor views: of a slice of a large tensor the slice is saved, where PyTorch saves all of the
    /// large one. Tensors that share a storage still do.
    #[must_use]
    pub fn compact(mut self, compact: bool) -> Self {
        self.compact = compact;
        self
    }

    /// Whether saving to a path waits until the disk has the bytes, so that not even a power failure loses them; the
    /// default. What is at the path is whole either way.
    #[must_use]
    pub fn durable(mut self, durable: bool) -> Self {
        self.durable = durable;
        self
    }

    pub(crate) fn is_durable(&self) -> bool {
        self.durable
    }

    /// Saves to a path. What was there before stays until all of the new file is written, and stays whole where
    /// anything fails; then a new file takes its place, as [`Replacement`] says.
    ///
    /// # Errors
    /// `Io` where the file cannot be written, `Misuse` for options or objects that contradict themselves, `Unsupported`
    /// for objects that cannot be saved, and errors of reading what is saved.
    pub fn save(&self, path: impl AsRef<Path>, object: &(impl Saveable + ?Sized)) -> Result<()> {
        let path = path.as_ref();
        let save = || {
            let root = match &self.root {
                Some(root) => root.clone(),
                None => root_of(path)?,
            };
            let outline = self.outline(object)?;
            atomic::replace(path, self.durable, |replacement| self.emit(outline, &root, replacement))
        };
        save().map_err(|error: Error| error.in_file(path))
    }

    /// Saves without data, and opens the file for the data to be written: each storage by
    /// [`Storage::write_at`](crate::Storage::write_at), in whatever order, by whatever thread.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub fn reserve(&self, path: impl AsRef<Path>, object: &(impl Saveable + ?Sized)) -> Result<Checkpoint> {
        let path = path.as_ref();
        self.clone().skip_data(true).save(path, object)?;
        LoadOptions::new().globals(Globals::inert()).mmap(Mmap::Shared).open(path)
    }

    /// Writes the same bytes to any sink.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub fn write(&self, sink: impl Write, object: &(impl Saveable + ?Sized)) -> Result<()> {
        let root = self.root.as_deref().unwrap_or("archive");
        self.emit(self.outline(object)?, root, Stream(sink))
    }

    /// The same bytes in memory.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub fn to_bytes(&self, object: &(impl Saveable + ?Sized)) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.write(&mut bytes, object)?;
        Ok(bytes)
    }

    fn outline(&self, object: &(impl Saveable + ?Sized)) -> Result<Outline> {
        let content = object.content()?;
        if self.skip_data {
            content.can_skip_data()?;
        }
        let mut outline = content.outline(self.dialect())?;
        let order = match self.format {
            Container::Zip => self.byte_order,
            Container::Legacy => ByteOrder::Little,
        };
        if outline.storages.iter().any(|stored| stored.storage.byte_order() != order) {
            content.can_be_swapped(order)?;
        }
        if self.compact {
            content.compact(&mut outline)?;
        }
        Ok(outline)
    }

    fn dialect(&self) -> PidDialect {
        match self.format {
            Container::Zip => PidDialect::Zip,
            Container::Legacy => PidDialect::Legacy,
        }
    }

    fn emit(&self, outline: Outline, root: &str, sink: impl Sink) -> Result<()> {
        // A new option must be used here, or this line breaks.
        let Self {
            format,
            protocol,
            alignment,
            crc32,
            crc32_of_data,
            byteorder_record,
            skip_data,
            byte_order,
            root: _,
            durable: _,
            compact: _,
        } = *self;
        let Outline { mut graph, storages, literals } = outline;
        let pickle = pickle::write(&mut graph, protocol, literals, torch::unrename)?;
        drop(graph);
        match format {
            Container::Legacy if skip_data => Err(Error::misuse("legacy streams cannot leave data out")),
            Container::Legacy => stream::write(&pickle, &storages, protocol, sink),
            Container::Zip => {
                let layout = archive::Layout { root, alignment, byteorder_record, byte_order };
                let data = match (skip_data, crc32 && crc32_of_data) {
                    (true, _) => archive::Data::Skipped,
                    (false, true) => archive::Data::Checked,
                    (false, false) => archive::Data::Unchecked,
                };
                archive::write(&layout, crc32, data, pickle, &storages, sink)
            }
        }
    }
}

/// What can be saved: an [`Object`], a [`StateDict`], a [`Checkpoint`], and types of your own that become one of them.
pub trait Saveable {
    /// What is saved of it.
    ///
    /// # Errors
    /// The type's own.
    fn content(&self) -> Result<Content<'_>>;
}

/// What is saved: made from an [`Object`], a [`StateDict`] or a [`Checkpoint`].
pub struct Content<'s>(Source<'s>);

enum Source<'s> {
    Object(Object),
    StateDict(&'s StateDict),
    Checkpoint(&'s Checkpoint),
}

impl Content<'_> {
    /// All of it as one object.
    ///
    /// # Errors
    /// Those of [`Object::copies_of`].
    pub(crate) fn into_object(self) -> Result<Object> {
        match self.0 {
            Source::Object(object) => Ok(object),
            Source::StateDict(state_dict) => Ok(state_dict.into()),
            Source::Checkpoint(checkpoint) => {
                let copies = Object::copies_of([checkpoint.root()])?;
                copies.into_iter().next().ok_or_else(|| Error::unsupported("a checkpoint without an object"))
            }
        }
    }

    fn outline(&self, dialect: PidDialect) -> Result<Outline> {
        match &self.0 {
            Source::Object(object) => torch::outline_object(object, dialect),
            Source::StateDict(state_dict) => torch::outline_state_dict(state_dict, dialect),
            Source::Checkpoint(checkpoint) => {
                torch::outline_document(checkpoint.document().in_full()?, dialect)
            }
        }
    }

    fn tensors(&self) -> Result<Cow<'_, [Tensor]>> {
        Ok(match &self.0 {
            Source::Object(object) => object.tensors().into(),
            Source::StateDict(state_dict) => state_dict.iter().map(|(_, tensor)| tensor.clone()).collect(),
            Source::Checkpoint(checkpoint) => {
                (&checkpoint.document().in_full()?.interpretation.tensors).into()
            }
        })
    }

    fn compact(&self, outline: &mut Outline) -> Result<()> {
        torch::compact(outline, self.tensors()?.iter())
    }

    /// A storage without a type of its own is swapped by its tensors', which then must agree.
    fn can_be_swapped(&self, order: ByteOrder) -> Result<()> {
        let mut units = HashMap::new();
        for tensor in &*self.tensors()? {
            let Some(storage) = tensor.storage() else { continue };
            let unit = storage.swap_unit(tensor.dtype(), order);
            let other = *units.entry(storage.id()).or_insert(unit);
            if other != unit {
                return Err(Error::unsupported(format!(
                    "a storage that tensors view as numbers of {other} and of {unit} bytes, in another byte order; \
                     save it in the order that it has"
                )));
            }
        }
        Ok(())
    }

    /// PyTorch leaves no data out of these either.
    fn can_skip_data(&self) -> Result<()> {
        for tensor in &*self.tensors()? {
            let kind = match tensor.kind() {
                TensorKind::Quantized(_) => "quantized",
                TensorKind::Nested(_) => "nested",
                TensorKind::Strided
                | TensorKind::Meta
                | TensorKind::Sparse(_)
                | TensorKind::Wrapper { .. } => continue,
            };
            return Err(Error::misuse(format!(
                "{kind} tensors cannot be saved without data; save them with skip_data(false)"
            )));
        }
        Ok(())
    }
}

impl From<Object> for Content<'_> {
    fn from(object: Object) -> Self {
        Self(Source::Object(object))
    }
}

impl<'s> From<&'s StateDict> for Content<'s> {
    fn from(state_dict: &'s StateDict) -> Self {
        Self(Source::StateDict(state_dict))
    }
}

impl<'s> From<&'s Checkpoint> for Content<'s> {
    fn from(checkpoint: &'s Checkpoint) -> Self {
        Self(Source::Checkpoint(checkpoint))
    }
}

impl Saveable for Object {
    fn content(&self) -> Result<Content<'_>> {
        Ok(self.clone().into())
    }
}

impl Saveable for StateDict {
    fn content(&self) -> Result<Content<'_>> {
        Ok(self.into())
    }
}

impl Saveable for Checkpoint {
    fn content(&self) -> Result<Content<'_>> {
        Ok(self.into())
    }
}
