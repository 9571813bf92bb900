//! Persistent ids: how a pickle names the storages that lie outside it.

use super::interpret::{Reading, Spelling};
use super::names::Known;
use crate::dtype::DType;
use crate::error::{Error, Reason, Result};
use crate::location::Location;
use crate::pickle::{Node, NodeId};
use crate::storage::{Storage, element_bytes};
use crate::tensor::Tensor;

/// What a persistent id says of a storage: `('storage', class, key, location, numel)`.
#[derive(Debug)]
pub(crate) struct StorageRef<'g> {
    /// `None` for `torch.storage.UntypedStorage`, whose elements are bytes.
    pub(crate) dtype: Option<DType>,
    pub(crate) key: &'g str,
    pub(crate) location: Location,
    /// Elements of `dtype`.
    pub(crate) numel: u64,
    /// A part of it that is asked for, as torch 0.3 names them.
    pub(crate) view: Option<PartRef<'g>>,
}

/// A part of a storage: `(key, offset, numel)`, in elements.
#[derive(Debug)]
pub(crate) struct PartRef<'g> {
    pub(crate) key: &'g str,
    pub(crate) offset: u64,
    pub(crate) numel: u64,
}

/// What a persistent id names.
pub(super) enum Pid<'g> {
    Storage(StorageRef<'g>),
    /// A class, with the source text that it had: files of torch before 1.6.
    Class(NodeId),
    /// Something that the container knows by this name: tar archives.
    Named(String),
}

impl<'g> Pid<'g> {
    /// The storage that it names.
    pub(super) fn reference(&self) -> Option<&StorageRef<'g>> {
        match self {
            Self::Storage(reference) => Some(reference),
            Self::Class(_) | Self::Named(_) => None,
        }
    }
}

/// A container's answer to a reference.
pub(crate) struct Given {
    pub(crate) storage: Storage,
    /// Whether it was surely never given before.
    pub(crate) is_new: bool,
}

impl From<Storage> for Given {
    fn from(storage: Storage) -> Self {
        Self { storage, is_new: false }
    }
}

/// What a container knows by a name.
pub(crate) enum Named {
    Storage(Storage),
    Tensor(Tensor),
}

impl StorageRef<'_> {
    /// Bytes that the storage must have.
    pub(crate) fn nbytes(&self) -> Result<u64> {
        self.element_size()
            .checked_mul(self.numel)
            .ok_or_else(|| Reason::Object(format!("a storage of {} elements overflows", self.numel)).into())
    }

    /// Bytes of one element.
    pub(crate) fn element_size(&self) -> u64 {
        element_bytes(self.dtype)
    }

    /// The name of its element type, for messages.
    pub(crate) fn dtype_name(&self) -> &'static str {
        self.dtype.map_or("uint8 (untyped)", DType::name)
    }
}

/// A container's answer to persistent ids.
pub(crate) trait StorageTable {
    /// Whether it must see every reference before the first is asked for.
    fn wants_all(&self) -> bool {
        false
    }

    /// Is shown every reference, in order of appearance, where it wants to.
    fn prepare(&mut self, _references: &[&StorageRef<'_>]) -> Result<()> {
        Ok(())
    }

    /// Finds the storage of a reference, and checks that it holds what the reference claims.
    fn storage(&mut self, reference: &StorageRef<'_>) -> Result<Given>;

    /// Finds what it knows by a name, where it names things.
    fn named(&mut self, _name: &str) -> Result<Option<Named>> {
        Ok(None)
    }

    /// Opens a checkpoint that lies in the pickle as bytes: the storage or tensor that it holds.
    fn nested(&mut self, _bytes: &[u8]) -> Result<Named> {
        Err(Reason::Unsupported("a checkpoint inside a pickle".into()).into())
    }
}

/// Bytes of a location tag, which names a device.
pub(super) const LOCATION_MAX: usize = 256;

impl<'g> Reading<'g> {
    /// Reads one persistent id.
    pub(super) fn pid(&self, pid: NodeId) -> Result<Pid<'g>> {
        if let Some(text) = self.graph.ascii(pid) {
            return if text.starts_with("('") {
                parse_text(text).map(Pid::Storage)
            } else {
                Ok(Pid::Named(text.to_owned()))
            };
        }
        if let Node::Int(number) = self.graph.node(pid) {
            return Ok(Pid::Named(number.to_string()));
        }
        let Some(members) = self.graph.tuple(pid) else {
            return Err(malformed(format!("a persistent id must be a tuple, found {}", self.describe(pid))));
        };
        let is_text = |id: NodeId| matches!(self.graph.node(id), Node::Str(_) | Node::Bytes(_) | Node::None);
        match members {
            [kind, ..] if self.graph.is_text(*kind, b"storage") => {
                self.storage_ref(members).map(Pid::Storage)
            }
            &[kind, class, file, source]
                if self.is_class(class)
                    && self.graph.ascii(kind) == Some("module")
                    && is_text(file)
                    && is_text(source) =>
            {
                Ok(Pid::Class(class))
            }
            // The tar of torch 0.1 leaves the kind out.
            &[class, file, source] if self.is_class(class) && is_text(file) && is_text(source) => {
                Ok(Pid::Class(class))
            }
            [kind, ..] => Err(malformed(format!(
                "a persistent id begins with {}, expected \"storage\"",
                self.describe(*kind)
            ))),
            [] => Err(malformed("a persistent id is empty".into())),
        }
    }

    /// A location, that of the storage before where both are the same.
    pub(super) fn location(&self, id: NodeId) -> Result<Location> {
        let mut last = self.last_location.borrow_mut();
        if !self.graph.is_text(id, last.as_str().as_bytes()) {
            *last = match self.graph.ascii(id).filter(|tag| tag.len() <= LOCATION_MAX) {
                Some(tag) => Location::new(tag),
                None => return Err(malformed(format!("a storage's location is {}", self.describe(id)))),
            };
        }
        Ok(last.clone())
    }

    fn is_class(&self, id: NodeId) -> bool {
        matches!(self.graph.node(id), Node::Global(_))
    }

    /// The element type of a storage class; `None` for bytes.
    pub(super) fn storage_class(&self, class: NodeId) -> Result<Option<DType>> {
        match self.known_global(class) {
            Some(Known::StorageClass(dtype) | Known::ScriptStorageClass(dtype)) => Ok(Some(dtype)),
            Some(Known::UntypedStorage) => Ok(None),
            _ => Err(malformed(format!("{} is not a storage class", self.describe(class)))),
        }
    }

    fn storage_ref(&self, members: &[NodeId]) -> Result<StorageRef<'g>> {
        // Legacy streams and TorchScript of torch 1.4 and 1.5 have a sixth member, None but for torch 0.3.
        let (&[_, class, key, location, numel], view) = (match members {
            [five @ .., view] if members.len() == 6 => (five, Some(*view)),
            _ => (members, None),
        }) else {
            return Err(malformed(format!(
                "a storage's persistent id has {} members, expected 5",
                members.len()
            )));
        };
        let dtype = self.storage_class(class)?;
        let Some(key) = self.graph.ascii(key) else {
            return Err(malformed(format!("a storage's key must be a string, found {}", self.describe(key))));
        };
        // Many ids can share one key, and each is looked up.
        self.charge(key.len())?;
        let location = match self.graph.node(location) {
            Node::None => Location::cpu(),
            _ => self.location(location)?,
        };
        let Node::Int(numel) = self.graph.node(numel) else {
            return Err(malformed(format!(
                "a storage's size must be an integer, found {}",
                self.describe(numel)
            )));
        };
        let numel = u64::try_from(numel).map_err(|_| malformed(format!("a storage of {numel} elements")))?;
        let view = match view {
            Some(view) if !matches!(self.graph.node(view), Node::None) => Some(self.part_ref(view)?),
            _ => None,
        };
        Ok(StorageRef { dtype, key, location, numel, view })
    }

    fn part_ref(&self, view: NodeId) -> Result<PartRef<'g>> {
        let number = |id: NodeId| match self.graph.node(id) {
            Node::Int(int) => u64::try_from(int).ok(),
            _ => None,
        };
        let part = match self.graph.tuple(view) {
            Some(&[key, offset, numel]) => self.graph.ascii(key).zip(number(offset)).zip(number(numel)),
            _ => None,
        };
        let part = part.map(|((key, offset), numel)| PartRef { key, offset, numel });
        self.charge(part.as_ref().map_or(0, |part| part.key.len()))?;
        part.ok_or_else(|| {
            malformed(format!(
                "a part of a storage is {}, expected (key, offset, numel)",
                self.describe(view)
            ))
        })
    }
}

/// Protocol 0 writes the tuple as its `repr`: `('storage', <class 'torch.FloatStorage'>, '0', 'cpu', 12)`.
fn parse_text(text: &str) -> Result<StorageRef<'_>> {
    let unreadable =
        || malformed(format!("a persistent id {text:?}, expected ('storage', class, key, location, numel)"));
    let parse = || {
        let inner = text.strip_prefix("('storage', <class '")?.strip_suffix(')')?;
        let inner = inner.strip_suffix(", None").unwrap_or(inner);
        let (class, rest) = inner.split_once("'>, '")?;
        let (key, rest) = rest.split_once("', '")?;
        let (location, numel) = rest.split_once("', ")?;
        let dtype = match super::names::known(class)? {
            Known::StorageClass(dtype) => Some(dtype),
            Known::UntypedStorage => None,
            _ => return None,
        };
        let location = Location::new(location);
        Some(StorageRef { dtype, key, location, numel: numel.parse().ok()?, view: None })
    };
    parse().ok_or_else(unreadable)
}

fn malformed(message: String) -> Error {
    Reason::Object(message).into()
}
