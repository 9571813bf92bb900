//! Writes safetensors files, a tensor at a time, as the library of that name lays them out; and the names that such a
//! file keeps of tensors that it leaves out.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use ptser::{ByteOrder, DType, StateDict, Tensor, TensorKind};
use serde_json::{Map, Value as Json, json};

use crate::output::Failure;
use crate::piped::write_beside;
use crate::progress::nbytes;
use crate::tally::View;
use crate::written::Watched;

/// Types by the size of their elements, in the order in which the library sorts them, and its names. The larger come
/// first in a file, so that all lie at multiples of their size.
const DTYPES: [(DType, &str); 19] = [
    (DType::Bool, "BOOL"),
    (DType::UInt8, "U8"),
    (DType::Int8, "I8"),
    (DType::Float8E5M2, "F8_E5M2"),
    (DType::Float8E4M3Fn, "F8_E4M3"),
    (DType::Float8E8M0Fnu, "F8_E8M0"),
    (DType::Float8E4M3Fnuz, "F8_E4M3FNUZ"),
    (DType::Float8E5M2Fnuz, "F8_E5M2FNUZ"),
    (DType::Int16, "I16"),
    (DType::UInt16, "U16"),
    (DType::Float16, "F16"),
    (DType::BFloat16, "BF16"),
    (DType::Int32, "I32"),
    (DType::UInt32, "U32"),
    (DType::Float32, "F32"),
    (DType::Complex64, "C64"),
    (DType::Float64, "F64"),
    (DType::Int64, "I64"),
    (DType::UInt64, "U64"),
];

const METADATA: &str = "__metadata__";
/// In the metadata: where a file comes from, which transformers wants to know.
const FORMAT: &str = "format";
/// The longest header that the library reads.
const HEADER_MAX: usize = 100_000_000;

/// What goes into safetensors files: each view once, and text.
pub(super) struct Content<'s> {
    tensors: Vec<(&'s str, &'s Tensor)>,
    by_name: HashMap<&'s str, &'s Tensor>,
    /// Names of tensors that have the same view, by the name that is kept.
    aliases: HashMap<&'s str, Vec<&'s str>>,
    metadata: BTreeMap<String, String>,
}

impl<'s> Content<'s> {
    /// Keeps the first name of each view.
    pub(super) fn new(state_dict: &'s StateDict, mut metadata: BTreeMap<String, String>) -> Self {
        metadata.retain(|name, _| state_dict.find(name).is_none());
        metadata.entry(FORMAT.into()).or_insert_with(|| "pt".into());
        let mut content =
            Self { tensors: Vec::new(), by_name: HashMap::new(), aliases: HashMap::new(), metadata };
        let mut kept: HashMap<View<'_>, &str> = HashMap::new();
        for (name, tensor) in state_dict {
            // Tensors without elements share nothing; one of this name cannot stand in the metadata.
            if let Some(view) = View::of(tensor).filter(|_| tensor.nbytes() > 0 && name != FORMAT) {
                if let Some(first) = kept.get(&view) {
                    content.aliases.entry(first).or_default().push(name);
                    continue;
                }
                kept.insert(view, name);
            }
            content.tensors.push((name, tensor));
            content.by_name.insert(name, tensor);
        }
        content
    }

    /// The tensors that are written, in the order of the state dict.
    pub(super) fn tensors(&self) -> impl Iterator<Item = (&'s str, &'s Tensor)> {
        self.tensors.iter().copied()
    }

    /// How many names are not those of tensors that are written.
    pub(super) fn aliases(&self) -> usize {
        self.aliases.values().map(Vec::len).sum()
    }

    /// Says what a safetensors file cannot hold.
    pub(super) fn check(&self) -> Result<(), String> {
        let mut wrong = self.tensors().filter_map(|(name, tensor)| Some((name, objection(name, tensor)?)));
        let Some((name, what)) = wrong.next() else { return Ok(()) };
        let more = match wrong.count() {
            0 => String::new(),
            more => format!(" (and {more} more such)"),
        };
        Err(format!("tensor {name}{more}: {what}"))
    }

    /// Writes the file that has the tensors of some names.
    pub(super) fn write(&self, sink: &mut Watched<'_>, names: &[&str]) -> ptser::Result<()> {
        let mut tensors: Vec<(usize, &str, &Tensor)> = names
            .iter()
            .filter_map(|&name| {
                let (name, tensor) = self.by_name.get_key_value(name)?;
                Some((place(tensor.dtype())?, *name, *tensor))
            })
            .collect();
        tensors.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
        let header = self.header(&tensors);
        if header.len() > HEADER_MAX {
            return Err(ptser::Error::misuse(format!(
                "a header of {} bytes, of which readers take {HEADER_MAX}; write shards",
                header.len()
            )));
        }
        let len = size_of::<u64>().saturating_add(header.len());
        let data = tensors.iter().map(|(_, _, tensor)| nbytes(tensor.nbytes()));
        sink.reserve(data.fold(nbytes(len), u64::saturating_add))?;
        write_beside(sink, |pipe| {
            pipe.write_all(&nbytes(header.len()).to_le_bytes())?;
            pipe.write_all(&header)?;
            // Pieces of the data lie across pages then, for which the page cache takes small blocks of memory. A virtual
            // machine whose host has taken large ones back waits ten times as long for them.
            pipe.flush()?;
            tensors.into_iter().try_for_each(|(_, name, tensor)| {
                let write = |piece: &[u8]| Ok(pipe.write_all(piece)?);
                tensor.for_each_piece(ByteOrder::Little, write).map_err(|error| error.in_tensor(name))
            })
        })
    }

    fn header(&self, tensors: &[(usize, &str, &Tensor)]) -> Vec<u8> {
        let mut metadata = self.metadata.clone();
        for (_, name, _) in tensors {
            for alias in self.aliases.get(name).into_iter().flatten() {
                metadata.insert((*alias).to_owned(), (*name).to_owned());
            }
        }
        let mut header = Map::from_iter([(METADATA.to_owned(), json!(metadata))]);
        let mut offset = 0_usize;
        for (place, name, tensor) in tensors {
            let end = offset.saturating_add(tensor.nbytes());
            let dtype = DTYPES.get(*place).map(|(_, name)| name);
            let info = json!({"dtype": dtype, "shape": tensor.shape(), "data_offsets": [offset, end]});
            header.insert((*name).to_owned(), info);
            offset = end;
        }
        let mut header = Json::Object(header).to_string().into_bytes();
        header.resize(header.len().next_multiple_of(8), b' ');
        header
    }
}

fn place(dtype: DType) -> Option<usize> {
    DTYPES.iter().position(|(known, _)| *known == dtype)
}

/// Why a tensor cannot be written, and what to do.
fn objection(name: &str, tensor: &Tensor) -> Option<String> {
    const INSTEAD: &str = "leave it out, or write a .pt file";
    let dtype = tensor.dtype();
    let what = match tensor.kind() {
        TensorKind::Strided if name == METADATA => "safetensors files have another use for this name".into(),
        TensorKind::Strided if place(dtype).is_none() => format!("safetensors has no type {dtype}"),
        TensorKind::Strided => return None,
        TensorKind::Meta => "a meta tensor has no values".into(),
        TensorKind::Quantized(_) => format!("safetensors has no quantized tensors ({dtype})"),
        TensorKind::Sparse(_) => format!("safetensors has no {} tensors", tensor.layout().name()),
        TensorKind::Nested(_) => "safetensors has no nested tensors".into(),
        _ => "safetensors has no tensor subclasses that hold others".into(),
    };
    Some(format!("{what}; {INSTEAD}"))
}

/// The text in a file's header. The file was opened as such before.
pub(super) fn metadata(path: &Path) -> Result<BTreeMap<String, String>, Failure> {
    let read = || -> std::io::Result<BTreeMap<String, String>> {
        let mut file = File::open(path)?;
        let mut length = [0; 8];
        file.read_exact(&mut length)?;
        let mut header = Vec::new();
        file.take(u64::from_le_bytes(length)).read_to_end(&mut header)?;
        let header: Json = serde_json::from_slice(&header)?;
        let text = |(name, text): (&String, &Json)| Some((name.clone(), text.as_str()?.to_owned()));
        Ok(header.get(METADATA).and_then(Json::as_object).into_iter().flatten().filter_map(text).collect())
    };
    read().map_err(|error| Failure::file(path, error))
}

/// Adds the names that were left out because another stands for the same tensor.
pub(super) fn restore_aliases(state_dict: &mut StateDict, metadata: &BTreeMap<String, String>) {
    for (alias, kept) in metadata {
        if alias != FORMAT
            && state_dict.find(alias).is_none()
            && let Some(tensor) = state_dict.find(kept).cloned()
        {
            state_dict.insert(alias.as_str(), tensor);
        }
    }
}
