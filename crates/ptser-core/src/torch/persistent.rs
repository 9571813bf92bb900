//! Persistent ids: how a pickle names the storages that lie outside it.

use super::interpret::{Reading, Spelling};
use super::names::Known;
use crate::dtype::DType;
use crate::error::{Error, Reason, Result};
use crate::location::Location;
use crate::pickle::{Node, NodeId};
use crate::storage::Storage;

/// What a persistent id says of a storage: `('storage', class, key, location, numel)`.
#[derive(Debug)]
pub(crate) struct StorageRef {
    /// `None` for `torch.storage.UntypedStorage`, whose elements are bytes.
    pub(crate) dtype: Option<DType>,
    pub(crate) key: String,
    pub(crate) location: Location,
    /// Elements of `dtype`.
    pub(crate) numel: u64,
}

impl StorageRef {
    /// Bytes that the storage must have.
    pub(crate) fn nbytes(&self) -> Result<u64> {
        let size = self.dtype.map_or(1, DType::element_size);
        u64::try_from(size)
            .ok()
            .and_then(|size| size.checked_mul(self.numel))
            .ok_or_else(|| Reason::Object(format!("a storage of {} elements overflows", self.numel)).into())
    }

    /// The name of its element type, for messages.
    pub(crate) fn dtype_name(&self) -> &'static str {
        self.dtype.map_or("uint8 (untyped)", DType::name)
    }
}

/// A container's answer to persistent ids.
pub(crate) trait StorageTable {
    /// Finds the storage of a reference, and checks that it holds what the reference claims.
    fn storage(&mut self, reference: &StorageRef) -> Result<Storage>;
}

impl Reading<'_> {
    /// Reads one persistent id.
    pub(super) fn storage_ref(&self, pid: NodeId) -> Result<StorageRef> {
        if let Some(text) = self.graph.str(pid) {
            return parse_text(text);
        }
        let Some(members) = self.graph.tuple(pid) else {
            return Err(malformed(format!("a persistent id must be a tuple, found {}", self.describe(pid))));
        };
        match members.first().map(|&kind| self.graph.str(kind).ok_or(kind)) {
            Some(Ok("storage")) => {}
            Some(Ok(other)) => return Err(malformed(format!("a persistent id of kind {other:?}, expected \"storage\""))),
            Some(Err(kind)) => return Err(malformed(format!("a persistent id begins with {}", self.describe(kind)))),
            None => return Err(malformed("a persistent id is empty".into())),
        }
        // TorchScript of torch 1.4 and 1.5 adds a sixth member, always None.
        let &([_, class, key, location, numel] | [_, class, key, location, numel, _]) = members else {
            return Err(malformed(format!("a storage's persistent id has {} members, expected 5", members.len())));
        };
        let dtype = match self.known_global(class) {
            Some(Known::StorageClass(dtype)) => Some(dtype),
            Some(Known::UntypedStorage) => None,
            _ => return Err(malformed(format!("{} is not a storage class", self.describe(class)))),
        };
        let Some(key) = self.graph.str(key) else {
            return Err(malformed(format!("a storage's key must be a string, found {}", self.describe(key))));
        };
        let location = match self.graph.node(location) {
            Node::Str(span) => Location::new(self.graph.text(span)),
            Node::None => Location::cpu(),
            _ => return Err(malformed(format!("a storage's location is {}", self.describe(location)))),
        };
        let Node::Int(numel) = self.graph.node(numel) else {
            return Err(malformed(format!("a storage's size must be an integer, found {}", self.describe(numel))));
        };
        let numel = u64::try_from(numel).map_err(|_| malformed(format!("a storage of {numel} elements")))?;
        Ok(StorageRef { dtype, key: key.to_owned(), location, numel })
    }
}

/// Protocol 0 writes the tuple as its `repr`: `('storage', <class 'torch.FloatStorage'>, '0', 'cpu', 12)`.
fn parse_text(text: &str) -> Result<StorageRef> {
    let unreadable = || malformed(format!("a persistent id {text:?}, expected ('storage', class, key, location, numel)"));
    let parse = || {
        let inner = text.strip_prefix("('storage', <class '")?.strip_suffix(')')?;
        let (class, rest) = inner.split_once("'>, '")?;
        let (key, rest) = rest.split_once("', '")?;
        let (location, numel) = rest.split_once("', ")?;
        let dtype = match super::names::known(class)? {
            Known::StorageClass(dtype) => Some(dtype),
            Known::UntypedStorage => None,
            _ => return None,
        };
        Some(StorageRef { dtype, key: key.to_owned(), location: Location::new(location), numel: numel.parse().ok()? })
    };
    parse().ok_or_else(unreadable)
}

fn malformed(message: String) -> Error {
    Reason::Object(message).into()
}
