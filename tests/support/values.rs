//! Compares the values beside the tensors with what PyTorch found, each at its typed path.

use ptser::{Checkpoint, Value, ValueKind};
use serde_json::Value as Json;

use crate::compare::{Sharing, same, same_if_told};
use crate::oracle::{Oracle, is_below, text};
use crate::support::sha256;

/// Containers, numbers, texts and the like: by type, by size, and by Python's `repr` or a hash of the content.
pub(crate) fn same_values(
    checkpoint: &Checkpoint,
    oracle: &Oracle,
    sharing: &mut Sharing,
) -> Result<(), String> {
    let rebuilt = oracle.of_types(&["stub:torch._tensor._rebuild_from_type_v2"]);
    for entry in oracle.entries() {
        // An oracle may make the calls that rebuild tensor subclasses: it names the parts after what came of it,
        // or notes the subclass as an attribute.
        let renamed = keys(entry).last() == Some(&"a:_stub_class");
        if renamed || is_part(entry) || rebuilt.iter().any(|above| is_below(entry, above)) {
            continue;
        }
        let value = match resolve(checkpoint.root(), &keys(entry)) {
            Some(Resolved::Value(value)) => value,
            // Oracles may leave NumPy's numbers and points in time as the calls that would make them.
            Some(Resolved::Decoded) => continue,
            None => return Err(format!("{}: there is no value at {:?}", text(entry, "path"), keys(entry))),
        };
        let twin = ["to", "same_as"].iter().find_map(|field| oracle.at(entry[field].as_str()?));
        let same = match (text(entry, "kind"), twin) {
            (_, Some(twin)) => match resolve(checkpoint.root(), &keys(twin)) {
                Some(Resolved::Value(twin)) if twin.is(value) => Ok(()),
                _ => Err(format!("it is not the object at {}", text(twin, "path"))),
            },
            ("leaf", _) => same_leaf(value, entry),
            ("container", _) => same_container(value, entry),
            ("object", _) => same_object(value, entry),
            ("tensor", _) => match entry["subclass"].as_str() {
                Some(name) => same("class", value.class(), Some(name)),
                None => Ok(()),
            },
            ("storage", _) => same_storage(value, entry, sharing),
            _ => Ok(()),
        };
        same.map_err(|why| format!("{}: {why}", text(entry, "path")))?;
    }
    Ok(())
}

/// Whether an entry is a part of a tensor, which is no value of its own.
fn is_part(entry: &Json) -> bool {
    let last = text(entry, "path").rsplit('/').next().unwrap_or_default();
    text(entry, "kind") == "tensor" && last.starts_with('#')
}

fn keys(entry: &Json) -> Vec<&str> {
    entry["keys"].as_array().into_iter().flatten().filter_map(Json::as_str).collect()
}

fn same_container(value: Value<'_>, entry: &Json) -> Result<(), String> {
    let known = ["dict", "list", "tuple", "collections."];
    if known.iter().any(|known| text(entry, "type").starts_with(known)) {
        same("type", value.type_name(), text(entry, "type"))?;
    }
    same_if_told("len", value.len(), &entry["len"])
}

fn same_object(value: Value<'_>, entry: &Json) -> Result<(), String> {
    if let Some(name) = text(entry, "type").strip_prefix("stub:") {
        same("class", value.class(), Some(class(name).as_str()))?;
    }
    same_if_told("number of arguments", value.args().count(), &entry["len"])
}

fn same_leaf(value: Value<'_>, leaf: &Json) -> Result<(), String> {
    let repr = text(leaf, "repr");
    match text(leaf, "type") {
        "set" | "frozenset" => {
            let mut items: Vec<String> = value.items().map(|item| item.to_string()).collect();
            items.sort();
            same("type", value.type_name(), text(leaf, "type"))?;
            same(
                "value",
                format!("{{{}}}", items.join(", ")).chars().take(repr.chars().count()).collect::<String>(),
                repr,
            )
        }
        "global" => same("class", value.to_string(), format!("<{}>", class(repr))),
        "int" | "float" | "bool" | "str" | "NoneType" | "complex" | "bytes" | "bytearray" | "torch.Size"
        | "torch.dtype" | "torch.device" | "torch.layout" => {
            if let Some(expected) = leaf["sha256"].as_str() {
                let content = content(value).ok_or_else(|| format!("{value} has no content"))?;
                same("sha256 of the content", sha256(content).as_str(), expected)?;
            }
            if let (Some(bits), ValueKind::Float(float)) = (leaf["bits"].as_str(), value.kind()) {
                same("bits", format!("{:016x}", float.to_bits()).as_str(), bits)?;
            }
            // Both sides cut what is long.
            if repr.chars().count() > 150 { Ok(()) } else { same("value", value.to_string().as_str(), repr) }
        }
        _ => Ok(()),
    }
}

/// The full name of a class: oracles may leave the module of builtins out, or name it as Python 2 does.
fn class(name: &str) -> String {
    let name = name.strip_prefix("__builtin__.").unwrap_or(name);
    if name.contains('.') { name.to_owned() } else { format!("builtins.{name}") }
}

/// The bytes of a text or of bytes, and those of an integer beyond 64 bits.
fn content(value: Value<'_>) -> Option<&[u8]> {
    Some(match value.kind() {
        ValueKind::Str(text) => text.as_bytes(),
        ValueKind::Surrogates(bytes) | ValueKind::Bytes(bytes) | ValueKind::ByteArray(bytes) => bytes,
        ValueKind::BigInt(int) => int.to_bytes(),
        _ => return None,
    })
}

fn same_storage(value: Value<'_>, entry: &Json, sharing: &mut Sharing) -> Result<(), String> {
    let ValueKind::Storage(storage, dtype) = value.kind() else {
        return Err(format!("{value} is not a storage"));
    };
    let dtype = dtype.map_or("torch.uint8".to_owned(), |dtype| format!("torch.{dtype}"));
    same("dtype", dtype.as_str(), text(entry, "dtype"))?;
    same_if_told("nbytes", storage.nbytes(), &entry["nbytes"])?;
    if let Some(number) = entry["storage"].as_u64() {
        sharing.check(storage, number)?;
    }
    let Some(expected) = entry["sha256"].as_str() else { return Ok(()) };
    let bytes = storage.to_vec().map_err(|error| error.to_string())?;
    same("sha256", sha256(&bytes).as_str(), expected)
}

/// Where the oracle's keys lead.
enum Resolved<'c> {
    Value(Value<'c>),
    /// Into the arguments of a call that has a value here.
    Decoded,
}

/// Follows the oracle's typed keys.
fn resolve<'c>(mut value: Value<'c>, mut keys: &[&str]) -> Option<Resolved<'c>> {
    while let Some((key, rest)) = keys.split_first() {
        keys = rest;
        let (kind, name) = key.split_once(':')?;
        let foreign = |class: &str| {
            ["numpy.", "datetime.", "pathlib.", "builtins.getattr"].iter().any(|part| class.starts_with(part))
        };
        if kind == "a" && !matches!(value.kind(), ValueKind::Object) && value.class().is_some_and(foreign) {
            return Some(Resolved::Decoded);
        }
        value = match (kind, name) {
            ("a", "args" | "items" | "state" | "kwargs" | "dict")
                if matches!(value.kind(), ValueKind::Object) =>
            {
                match (name, keys.split_first()) {
                    ("state", None) => return value.state().map(Resolved::Value),
                    ("state", Some(_)) => match value.state()? {
                        state if state.is_mapping() || keys[0].starts_with("x:") => state,
                        _ => return None,
                    },
                    (_, None) => return None,
                    (part, Some((key, rest))) => {
                        keys = rest;
                        let (kind, name) = key.split_once(':')?;
                        match part {
                            "args" => value.args().nth(name.parse().ok()?)?,
                            "items" => value.appended().nth(name.parse().ok()?)?,
                            "kwargs" => value.kwargs()?.find(name)?,
                            _ => value.assigned().find(|(key, _)| is_key(*key, kind, name))?.1,
                        }
                    }
                }
            }
            ("a", name) => value.attributes().find(|(key, _)| is_key(*key, "s", name))?.1,
            ("x", index) => value.items().nth(index.parse().ok()?)?,
            (kind, name) => value.entries().find(|(key, _)| is_key(*key, kind, name))?.1,
        };
    }
    Some(Resolved::Value(value))
}

fn is_key(key: Value<'_>, kind: &str, name: &str) -> bool {
    match (kind, key.kind()) {
        ("s", ValueKind::Str(text)) => text == name,
        ("i", ValueKind::Int(int)) => int.to_string() == name,
        ("i", ValueKind::BigInt(int)) => int.to_string() == name,
        // The oracle's words for a class that it replaced.
        ("r", ValueKind::Global(class)) => name == format!("<stub {class}>"),
        ("r" | "sr", _) => key.to_string() == name,
        _ => false,
    }
}
