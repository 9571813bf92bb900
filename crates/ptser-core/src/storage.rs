//! A storage: the flat bytes that tensors are views of, read when asked for. Knows no container.

mod ahead;
mod host;
mod range;
mod record;

use std::fmt;
use std::mem::MaybeUninit;
use std::sync::Arc;

pub(crate) use self::ahead::Block;
pub use self::ahead::ReadAhead;
pub use self::host::HostBytes;
use self::host::{InMemory, OnHost};
use self::range::Part;
pub(crate) use self::range::Span;
pub(crate) use self::record::{OfRecord, Records};
use crate::byte_order::{ByteOrder, swap_in_place};
use crate::dtype::DType;
use crate::error::{Error, Reason, Result};
use crate::location::Location;
use crate::source::{MemorySource, Source};

/// The bytes behind one or more tensors: one per storage of the writer, however many tensors view it.
///
/// A handle: clones name the same storage. Nothing is read before it is asked for.
#[derive(Clone)]
pub struct Storage(Repr);

#[derive(Clone)]
enum Repr {
    Alone(Arc<Inner<dyn Content>>),
    Record(OfRecord),
}

struct Inner<C: ?Sized> {
    description: Description,
    content: C,
}

/// What a container knows of a storage's bytes.
pub(crate) trait Content: Send + Sync {
    /// Fills `buf` from `offset`, in the file's byte order.
    fn read<'b>(&self, offset: u64, buf: &'b mut [MaybeUninit<u8>]) -> Result<&'b mut [u8]>;

    /// As `read`, with neighbours where that saves calls.
    fn read_ahead<'b>(
        &self,
        _block: &mut Block,
        offset: u64,
        buf: &'b mut [MaybeUninit<u8>],
    ) -> Result<&'b mut [u8]> {
        self.read(offset, buf)
    }

    /// All bytes where they lie in memory, if they do.
    fn bytes(&self) -> Result<Option<&[u8]>>;

    /// Whether `bytes` lie in a private mapping of the file.
    fn is_mapped(&self) -> bool {
        false
    }

    /// The absolute offset in the file, if the bytes stand there as they are.
    fn file_offset(&self) -> Result<Option<u64>>;

    /// Writes through a shared mapping.
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()>;

    /// The record's name, for messages.
    fn record(&self) -> &str;

    /// The storage that this one is a part of, and the byte that it begins with there.
    fn whole(&self) -> Option<(&Storage, u64)> {
        None
    }

    /// Whether there is a size and no bytes: a storage of the `meta` device.
    fn is_meta(&self) -> bool {
        false
    }

    /// Whether the bytes are this machine's numbers, of whatever type they are taken for.
    fn is_of_host(&self) -> bool {
        false
    }

    /// Hands all bytes out in order, where they can be had cheaply only so.
    fn for_each_piece(&self, _take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Option<Result<()>> {
        None
    }

    /// Hands all bytes out at once, where they can be had so only for a while.
    fn lend(&self, _take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Option<Result<()>> {
        None
    }
}

/// What a container tells of a storage.
pub(crate) struct Description {
    pub(crate) key: Box<str>,
    pub(crate) nbytes: u64,
    pub(crate) facts: Facts,
}

/// What many storages have in common.
#[derive(Clone)]
pub(crate) struct Facts {
    pub(crate) dtype: Option<DType>,
    pub(crate) location: Location,
    pub(crate) byte_order: ByteOrder,
    /// Bytes that a view may copy out beyond the storage's own.
    pub(crate) expanded_bytes: u64,
}

impl Storage {
    pub(crate) fn new(description: Description, content: impl Content + 'static) -> Self {
        Self(Repr::Alone(Arc::new(Inner { description, content })))
    }

    /// A record of an archive.
    pub(crate) fn of_record(records: Arc<dyn Records>, place: usize) -> Self {
        Self(Repr::Record(OfRecord { records, place }))
    }

    #[inline]
    fn content(&self) -> &dyn Content {
        match &self.0 {
            Repr::Alone(inner) => &inner.content,
            Repr::Record(record) => record,
        }
    }

    /// What it may have in common with others.
    #[inline]
    pub(crate) fn facts(&self) -> &Facts {
        match &self.0 {
            Repr::Alone(inner) => &inner.description.facts,
            Repr::Record(OfRecord { records, .. }) => records.facts(),
        }
    }

    /// A storage that is part of another from byte `start` on, as torch 0.3 wrote them. The caller has checked
    /// that it lies inside.
    pub(crate) fn part(description: Description, whole: Self, start: u64) -> Self {
        // A part of a part is one of the whole, however often a file says so.
        let (whole, start) = match whole.whole() {
            Some((root, at)) => (root.clone(), at.saturating_add(start)),
            None => (whole, start),
        };
        let content = Part { whole, start, nbytes: description.nbytes };
        Self::new(description, content)
    }

    /// A storage whose bytes lie in the pickle itself, or were made from what does.
    pub(crate) fn in_memory(
        dtype: Option<DType>,
        byte_order: ByteOrder,
        bytes: impl AsRef<[u8]> + Send + Sync + 'static,
    ) -> Self {
        let source = MemorySource(bytes);
        let nbytes = source.size();
        let description = Description {
            key: "".into(),
            nbytes,
            facts: Facts { dtype, location: Location::cpu(), byte_order, expanded_bytes: 0 },
        };
        Self::new(description, Span { source: Arc::new(source), at: 0, nbytes, name: "in the pickle".into() })
    }

    /// The bytes of this storage from `start` on, as a storage by itself. The caller has checked that they lie inside.
    pub(crate) fn cut(&self, start: u64, nbytes: u64) -> Self {
        let description = Description { key: self.key().into(), nbytes, facts: self.facts().clone() };
        Self::part(description, self.clone(), start)
    }

    /// Some of the bytes as a storage by itself, which shares them with this one.
    ///
    /// # Errors
    /// `Misuse` where the range leaves the storage.
    pub fn slice(&self, start: u64, nbytes: u64) -> Result<Self> {
        if start.checked_add(nbytes).is_none_or(|end| end > self.nbytes()) {
            return Err(leaves(start, nbytes, self.nbytes()));
        }
        Ok(self.cut(start, nbytes))
    }

    /// A storage of bytes in memory, in this machine's byte order: of elements, or of bytes where there is no element
    /// type. They are not copied.
    ///
    /// ```
    /// use ptser_core::{DType, Location, Storage, Tensor};
    /// let ones: Vec<u8> = [1.0_f32; 6].iter().flat_map(|one| one.to_ne_bytes()).collect();
    /// let storage = Storage::from_bytes(Some(DType::Float32), Location::cpu(), ones);
    /// let tensor = Tensor::contiguous(storage, DType::Float32, [2, 3])?;
    /// # Ok::<(), ptser_core::Error>(())
    /// ```
    pub fn from_bytes(
        dtype: Option<DType>,
        location: Location,
        bytes: impl AsRef<[u8]> + Send + Sync + 'static,
    ) -> Self {
        Self::from_host(dtype, location, InMemory(bytes))
    }

    /// A storage of bytes that can be had on this host when they are asked for: behind a lock, or on a device.
    pub fn from_host(dtype: Option<DType>, location: Location, bytes: impl HostBytes + 'static) -> Self {
        let description = Description {
            key: "".into(),
            nbytes: bytes.nbytes(),
            facts: Facts { dtype, location, byte_order: ByteOrder::NATIVE, expanded_bytes: 0 },
        };
        Self::new(description, OnHost(bytes))
    }

    /// The storage that this one is a part of, and the byte that it begins with there; files of torch 0.3 have
    /// such parts.
    pub fn whole(&self) -> Option<(&Self, u64)> {
        self.content().whole()
    }

    /// The byte that elements begin with, and their bytes, if they lie inside.
    pub(crate) fn range_of(&self, offset: u64, numel: u64, dtype: Option<DType>) -> Option<(u64, u64)> {
        let size = element_bytes(dtype);
        let (start, nbytes) = (offset.checked_mul(size)?, numel.checked_mul(size)?);
        (start.checked_add(nbytes)? <= self.nbytes()).then_some((start, nbytes))
    }

    /// The key that the file gives it: `0`, `1`, … in zip archives.
    pub fn key(&self) -> &str {
        match &self.0 {
            Repr::Alone(inner) => &inner.description.key,
            Repr::Record(OfRecord { records, place }) => records.key(*place),
        }
    }

    /// The element type of the storage class in the file, such as `FloatStorage`; `None` for an untyped storage.
    pub fn dtype(&self) -> Option<DType> {
        self.facts().dtype
    }

    /// Size in bytes.
    pub fn nbytes(&self) -> u64 {
        match &self.0 {
            Repr::Alone(inner) => inner.description.nbytes,
            Repr::Record(OfRecord { records, place }) => records.nbytes(*place),
        }
    }

    /// Where it lived when it was saved.
    pub fn location(&self) -> &Location {
        &self.facts().location
    }

    /// The byte order of the file.
    pub fn byte_order(&self) -> ByteOrder {
        self.facts().byte_order
    }

    /// Whether a caller has its bytes, in memory or on a device; otherwise they lie in a file, or nowhere.
    pub(crate) fn is_of_host(&self) -> bool {
        self.content().is_of_host()
    }

    /// Whether it has a size and no bytes.
    pub(crate) fn is_meta(&self) -> bool {
        self.content().is_meta()
    }

    /// Whether both handles name the same storage.
    pub fn is(&self, other: &Self) -> bool {
        self.id() == other.id()
    }

    /// A number that is equal for handles of the same storage, and for no other while one of them lives.
    pub fn id(&self) -> usize {
        match &self.0 {
            Repr::Alone(inner) => Arc::as_ptr(inner).addr(),
            Repr::Record(OfRecord { records, place }) => records.id(*place),
        }
    }

    /// The absolute offset of the first byte in the file; `None` where the record is compressed.
    ///
    /// # Errors
    /// `Malformed` where the record's local header is damaged, `Io`.
    pub fn checkpoint_offset(&self) -> Result<Option<u64>> {
        self.content().file_offset().map_err(|error| self.blame(error))
    }

    /// Whether its bytes stand in the file as they are; otherwise any of them may cost as much as all.
    pub(crate) fn is_stored(&self) -> bool {
        matches!(self.checkpoint_offset(), Ok(Some(_)))
    }

    /// The bytes where they lie, as elements of `dtype` in the given order, if that takes no copy: the
    /// source is memory or a private mapping, the record is stored, and the order is the file's.
    ///
    /// # Errors
    /// `Malformed` where the record's local header is damaged.
    pub fn borrow_as(&self, dtype: DType, order: ByteOrder) -> Result<Option<&[u8]>> {
        if self.swap_unit(dtype, order) > 1 {
            return Ok(None);
        }
        let bytes = self.content().bytes().map_err(|error| self.blame(error))?;
        Ok(bytes.filter(|bytes| u64::try_from(bytes.len()).ok() == Some(self.nbytes())))
    }

    /// Whether what [`borrow_as`](Self::borrow_as) gives lies in a private mapping of the file.
    pub(crate) fn is_mapped(&self) -> bool {
        self.content().is_mapped()
    }

    /// Fills `buf` from byte `offset` on, as elements of `dtype` in the given order.
    ///
    /// A storage with a class of its own is swapped by that class, as PyTorch does; an untyped one by `dtype`.
    ///
    /// # Errors
    /// `Misuse` where the range leaves the storage, `Malformed` where the record is damaged, `Io`.
    pub fn read_as<'b>(
        &self,
        dtype: DType,
        order: ByteOrder,
        offset: u64,
        buf: &'b mut [MaybeUninit<u8>],
    ) -> Result<&'b mut [u8]> {
        self.read_by(None, dtype, order, offset, buf)
    }

    /// As [`read_as`](Self::read_as), by way of a block where there is one.
    fn read_by<'b>(
        &self,
        block: Option<&mut Block>,
        dtype: DType,
        order: ByteOrder,
        offset: u64,
        buf: &'b mut [MaybeUninit<u8>],
    ) -> Result<&'b mut [u8]> {
        let len = u64::try_from(buf.len()).unwrap_or(u64::MAX);
        if offset.checked_add(len).is_none_or(|end| end > self.nbytes()) {
            return Err(leaves(offset, len, self.nbytes()));
        }
        let unit = self.swap_unit(dtype, order);
        let step = u64::try_from(unit).unwrap_or(1);
        if !offset.is_multiple_of(step) || !len.is_multiple_of(step) {
            return self.read_across_units(dtype, order, offset, buf);
        }
        let bytes = match block {
            Some(block) => self.content().read_ahead(block, offset, buf),
            None => self.content().read(offset, buf),
        };
        let bytes = bytes.map_err(|error| self.blame(error))?;
        swap_in_place(bytes, unit);
        Ok(bytes)
    }

    /// As [`read_as`](Self::read_as), into bytes that are initialised already.
    pub(crate) fn read_into(
        &self,
        dtype: DType,
        order: ByteOrder,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<()> {
        self.read_as(dtype, order, offset, as_uninit(buf)).map(drop)
    }

    /// A range that begins or ends inside a unit that is swapped: whole units are read around it.
    fn read_across_units<'b>(
        &self,
        dtype: DType,
        order: ByteOrder,
        offset: u64,
        buf: &'b mut [MaybeUninit<u8>],
    ) -> Result<&'b mut [u8]> {
        let unit = u64::try_from(self.swap_unit(dtype, order)).unwrap_or(1);
        let len = u64::try_from(buf.len()).unwrap_or(u64::MAX);
        let start = offset.saturating_sub(offset.checked_rem(unit).unwrap_or(0));
        let end =
            offset.saturating_add(len).checked_next_multiple_of(unit).unwrap_or(u64::MAX).min(self.nbytes());
        let around = usize::try_from(end.saturating_sub(start)).map_err(|_| out_of_memory(end))?;
        // The last unit may be cut by the storage's end, and then is not swapped.
        let mut whole =
            fill_vec(around, |buf| self.content().read(start, buf).map_err(|error| self.blame(error)))?;
        swap_in_place(&mut whole, self.swap_unit(dtype, order));
        let skip = usize::try_from(offset.saturating_sub(start)).unwrap_or(usize::MAX);
        match whole.get(skip..).and_then(|rest| rest.get(..buf.len())) {
            Some(wanted) => Ok(buf.write_copy_of_slice(wanted)),
            None => Err(out_of_memory(len)),
        }
    }

    /// All bytes, as elements of `dtype` in the given order.
    ///
    /// # Errors
    /// As [`read_as`](Self::read_as), and `Io` where memory is short.
    pub fn to_vec_as(&self, dtype: DType, order: ByteOrder) -> Result<Vec<u8>> {
        self.read_range(dtype, order, 0, self.nbytes())
    }

    /// All bytes in this machine's byte order.
    ///
    /// # Errors
    /// As [`to_vec_as`](Self::to_vec_as).
    pub fn to_vec(&self) -> Result<Vec<u8>> {
        self.to_vec_as(self.facts().dtype.unwrap_or(DType::UInt8), ByteOrder::NATIVE)
    }

    /// All bytes in this machine's byte order, into memory that is there.
    ///
    /// # Errors
    /// As [`to_vec_as`](Self::to_vec_as).
    pub(crate) fn copy_into(&self, vec: &mut Vec<u8>) -> Result<()> {
        vec.clear();
        let len = usize::try_from(self.nbytes()).map_err(|_| out_of_memory(self.nbytes()))?;
        vec.try_reserve_exact(len).map_err(|_| out_of_memory(self.nbytes()))?;
        let dtype = self.facts().dtype.unwrap_or(DType::UInt8);
        self.for_each_chunk(dtype, ByteOrder::NATIVE, &mut |bytes| {
            vec.extend_from_slice(bytes);
            Ok(())
        })
    }

    /// All bytes in pieces, as elements of `dtype` in the given order; in one where they lie in memory so.
    pub(crate) fn for_each_chunk(
        &self,
        dtype: DType,
        order: ByteOrder,
        take: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        const CHUNK: u64 = 1 << 20;
        const PIECE: usize = 1 << 20;
        if let Some(bytes) = self.borrow_as(dtype, order)? {
            return take(bytes);
        }
        let unit = self.swap_unit(dtype, order);
        let mut take_swapped = |bytes: &[u8]| match unit {
            ..=1 => take(bytes),
            _ => bytes.chunks(PIECE).try_for_each(|piece| {
                let mut piece = piece.to_vec();
                swap_in_place(&mut piece, unit);
                take(&piece)
            }),
        };
        // What is costly to have is had once.
        if let Some(taken) = self.content().lend(&mut take_swapped) {
            return taken.map_err(|error| self.blame(error));
        }
        if let Some(taken) = self.content().for_each_piece(&mut take_swapped) {
            return taken.map_err(|error| self.blame(error));
        }
        let len = usize::try_from(self.nbytes().min(CHUNK)).unwrap_or(0);
        let mut buffer: Vec<MaybeUninit<u8>> = Vec::new();
        buffer.resize(len, MaybeUninit::uninit());
        let mut offset = 0_u64;
        while offset < self.nbytes() {
            let len = usize::try_from(self.nbytes().saturating_sub(offset).min(CHUNK)).unwrap_or(0);
            let piece = buffer.get_mut(..len).unwrap_or_default();
            take(self.read_as(dtype, order, offset, piece)?)?;
            offset = offset.saturating_add(CHUNK);
        }
        Ok(())
    }

    /// Bytes from `start` to `end`, as elements of `dtype` in the given order.
    ///
    /// # Errors
    /// As [`read_as`](Self::read_as), and `Io` where memory is short.
    pub(crate) fn read_range(&self, dtype: DType, order: ByteOrder, start: u64, end: u64) -> Result<Vec<u8>> {
        let len = end.saturating_sub(start);
        let len = usize::try_from(len).map_err(|_| out_of_memory(len))?;
        fill_vec(len, |buf| self.read_as(dtype, order, start, buf))
    }

    /// As [`for_each_chunk`](Self::for_each_chunk), of some of the bytes, which begin and end with elements.
    pub(crate) fn for_each_piece_of(
        &self,
        dtype: DType,
        order: ByteOrder,
        start: u64,
        end: u64,
        take: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        const PIECE: u64 = 1 << 20;
        let all = start == 0 && end == self.nbytes();
        if all || self.checkpoint_offset()?.is_none() {
            // What is deflated is read from its beginning on.
            let mut at = 0_u64;
            return self.for_each_chunk(dtype, order, &mut |chunk| {
                let behind = at.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
                let place = |offset: u64| usize::try_from(offset.clamp(at, behind).saturating_sub(at)).ok();
                let wanted = place(start).zip(place(end)).and_then(|(start, end)| chunk.get(start..end));
                at = behind;
                wanted.filter(|wanted| !wanted.is_empty()).map_or(Ok(()), &mut *take)
            });
        }
        let mut at = start;
        while at < end {
            let next = end.min(at.saturating_add(PIECE));
            take(&self.read_range(dtype, order, at, next)?)?;
            at = next;
        }
        Ok(())
    }

    /// Writes through to the file, where it was opened with [`Mmap::Shared`](crate::Mmap::Shared).
    ///
    /// # Errors
    /// `Misuse` where the range leaves the storage, `Io` for other sources.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if offset.checked_add(len).is_none_or(|end| end > self.nbytes()) {
            return Err(leaves(offset, len, self.nbytes()));
        }
        self.content().write(offset, bytes).map_err(|error| self.blame(error))
    }

    /// As in [`Facts`].
    pub(crate) fn expanded_bytes(&self) -> u64 {
        self.facts().expanded_bytes
    }

    /// How many bytes must be swapped together to get from the file's order to `order`; 1 for none.
    pub(crate) fn swap_unit(&self, dtype: DType, order: ByteOrder) -> usize {
        match self.facts().dtype {
            _ if self.facts().byte_order == order => 1,
            Some(own) if !self.content().is_of_host() => own.swap_unit(),
            _ => dtype.swap_unit(),
        }
    }

    fn blame(&self, error: Error) -> Error {
        error.in_record(self.content().record())
    }
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Facts { dtype, location, .. } = self.facts();
        let (key, dtype, nbytes) = (self.key(), dtype.map_or("untyped", DType::name), self.nbytes());
        write!(f, "Storage({key:?}, {dtype}, {nbytes} bytes, {location})")
    }
}

/// Bytes of one element of a storage; an untyped one counts bytes.
pub(crate) fn element_bytes(dtype: Option<DType>) -> u64 {
    u64::try_from(dtype.map_or(1, DType::element_size)).unwrap_or(1)
}

/// A vector of `len` bytes that `fill` writes, without zeroing it first.
pub(crate) fn fill_vec(
    len: usize,
    fill: impl FnOnce(&mut [MaybeUninit<u8>]) -> Result<&mut [u8]>,
) -> Result<Vec<u8>> {
    let mut vec = Vec::new();
    vec.try_reserve_exact(len).map_err(|_| out_of_memory(u64::try_from(len).unwrap_or(u64::MAX)))?;
    let spare = vec.spare_capacity_mut().get_mut(..len).unwrap_or_default();
    let filled = fill(spare)?.len();
    set_len(&mut vec, filled.min(len));
    Ok(vec)
}

#[expect(unsafe_code, reason = "the bytes were read into the vector's spare capacity")]
fn set_len(vec: &mut Vec<u8>, len: usize) {
    // SAFETY: `fill_vec` hands the first `len` bytes of this empty vector's spare capacity to a function
    // that returns them as initialised bytes, and no more than those are claimed.
    unsafe { vec.set_len(len) }
}

#[expect(unsafe_code, reason = "initialised bytes are handed to those who fill memory that is not")]
fn as_uninit(bytes: &mut [u8]) -> &mut [MaybeUninit<u8>] {
    // SAFETY: the same memory, with the same layout, for as long as it is borrowed. `read_into` gives it to
    // `read_as`, whose contents and sources only ever write bytes into it, so that it stays initialised.
    unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len()) }
}

fn leaves(start: u64, nbytes: u64, of: u64) -> Error {
    Error::misuse(format!("{nbytes} bytes from {start} leave the storage's {of} bytes"))
}

pub(crate) fn out_of_memory(bytes: u64) -> Error {
    Reason::Io(std::io::Error::new(
        std::io::ErrorKind::OutOfMemory,
        format!("{bytes} bytes do not fit in memory"),
    ))
    .into()
}
