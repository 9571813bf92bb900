//! The table of tensors for people. A column that would be empty is left out.

use std::collections::HashMap;
use std::io::{self, Write};

use owo_colors::OwoColorize;
use ptser::{Checkpoint, Entry, Placement, Quantized, Tensor, TensorKind, ValueKind};

use crate::columns::{self, Side};
use crate::hash::Hash;
use crate::human;
use crate::tally::{Tally, View};

/// What one row shows, column by column.
#[derive(Default)]
struct Row {
    name: String,
    part: bool,
    dtype: String,
    shape: String,
    stride: String,
    offset: String,
    storage: String,
    size: String,
    sha256: String,
    notes: String,
}

/// A title, the side that its cells stand on, and where it finds them.
type Column = (&'static str, Side, fn(&Row) -> &str);

const COLUMNS: [Column; 9] = [
    ("name", Side::Left, |row| &row.name),
    ("dtype", Side::Left, |row| &row.dtype),
    ("shape", Side::Left, |row| &row.shape),
    ("stride", Side::Left, |row| &row.stride),
    ("offset", Side::Right, |row| &row.offset),
    ("storage", Side::Left, |row| &row.storage),
    ("size", Side::Right, |row| &row.size),
    ("sha256", Side::Left, |row| &row.sha256),
    // The last, so that it can be dimmed as the end of its line.
    ("", Side::Left, |row| &row.notes),
];

/// Writes the table, and an empty line below it; nothing where there are no tensors.
pub(super) fn write(
    out: &mut impl Write,
    checkpoint: &Checkpoint,
    tally: &Tally<'_>,
    hashes: Option<&[Hash]>,
) -> io::Result<()> {
    let mut notes = Notes { tally, objects: HashMap::new(), views: HashMap::new() };
    let mut rows = Vec::with_capacity(checkpoint.entries().len());
    for (place, entry) in super::rows(checkpoint).enumerate() {
        let Some(tensor) = entry.tensor() else {
            rows.push(damaged(entry));
            continue;
        };
        let mut notes = notes.on(place, entry, tensor);
        let hash = match hashes.and_then(|hashes| hashes.get(place)) {
            Some(Hash::Known(hash)) => hash.clone(),
            Some(Hash::Failed(error)) => {
                notes = unreadable(error);
                String::new()
            }
            Some(Hash::Absent) | None => String::new(),
        };
        rows.push(row(entry, tensor, tally, hash, notes));
    }
    if rows.is_empty() {
        return Ok(());
    }
    let columns: Vec<Column> =
        COLUMNS.into_iter().filter(|(_, _, cell)| rows.iter().any(|row| !cell(row).is_empty())).collect();
    let sides: Vec<Side> = columns.iter().map(|(_, side, _)| *side).collect();
    let titles = columns.iter().map(|(title, ..)| *title).collect();
    let cells = rows.iter().map(|row| columns.iter().map(|(_, _, cell)| cell(row)).collect());
    let mut lines = columns::lay_out(&sides, std::iter::once(titles).chain(cells)).into_iter();
    if let Some(titles) = lines.next() {
        writeln!(out, "{}", titles.bold())?;
    }
    for (line, row) in lines.zip(&rows) {
        write_line(out, &line, row)?;
    }
    writeln!(out)
}

/// Parts are dimmed, and so are notes.
fn write_line(out: &mut impl Write, line: &str, row: &Row) -> io::Result<()> {
    match line.strip_suffix(row.notes.as_str()) {
        _ if row.part => writeln!(out, "{}", line.dimmed()),
        Some(start) if !row.notes.is_empty() => writeln!(out, "{start}{}", row.notes.dimmed()),
        _ => writeln!(out, "{line}"),
    }
}

fn damaged(entry: Entry<'_>) -> Row {
    let error = entry.error().map(ToString::to_string).unwrap_or_default();
    Row { name: called(entry), part: entry.is_part(), notes: unreadable(&error), ..Row::default() }
}

fn unreadable(error: &str) -> String {
    format!("DAMAGED: {}", human::message(error))
}

fn row(entry: Entry<'_>, tensor: &Tensor, tally: &Tally<'_>, sha256: String, notes: String) -> Row {
    let storage = tensor.storage();
    let shared = storage.and_then(|storage| tally.used(storage)).map_or(0, |used| used.by.len());
    let key = storage.map_or_else(String::new, |storage| human::name(storage.key()));
    Row {
        name: called(entry),
        part: entry.is_part(),
        dtype: tensor.dtype().to_string(),
        shape: human::sizes(tensor.shape()),
        stride: if tensor.is_contiguous() || !super::is_strided(tensor) {
            String::new()
        } else {
            human::sizes(tensor.stride())
        },
        offset: if tensor.storage_offset() == 0 {
            String::new()
        } else {
            tensor.storage_offset().to_string()
        },
        storage: if shared > 1 { format!("{key} ×{shared}") } else { key },
        size: if storage.is_some() {
            human::bytes(u64::try_from(tensor.nbytes()).unwrap_or(u64::MAX))
        } else {
            String::new()
        },
        sha256,
        notes,
    }
}

/// The root has no name, and a key may be empty.
fn called(entry: Entry<'_>) -> String {
    match entry.name() {
        "" if entry.path().is_empty() => "(root)".into(),
        "" => "\"\"".into(),
        name => human::name(name),
    }
}

/// Remarks, and what they need to know of the rows above.
struct Notes<'c, 't> {
    tally: &'t Tally<'c>,
    /// Where each tensor was met first.
    objects: HashMap<*const Tensor, (usize, Entry<'c>)>,
    /// Where each view was met first.
    views: HashMap<View<'c>, (usize, Entry<'c>)>,
}

impl<'c> Notes<'c, '_> {
    fn on(&mut self, place: usize, entry: Entry<'c>, tensor: &'c Tensor) -> String {
        let mut notes: Vec<String> = Vec::new();
        if matches!(entry.value().kind(), ValueKind::Array(_)) {
            notes.push("NumPy array".into());
        }
        match (tensor.is_parameter(), tensor.requires_grad()) {
            (true, true) => notes.push("parameter".into()),
            (true, false) => notes.push("frozen parameter".into()),
            (false, true) => notes.push("requires grad".into()),
            (false, false) => {}
        }
        notes.extend(distributed(entry).or_else(|| kind(tensor)));
        notes.extend(tensor.is_conj().then(|| "conjugate".into()));
        notes.extend(tensor.is_neg().then(|| "negative".into()));
        notes.extend(self.alias(place, entry, tensor).or_else(|| self.within(tensor)));
        notes.join(", ")
    }

    /// The row above that shows the same tensor, or the same values.
    fn alias(&mut self, place: usize, entry: Entry<'c>, tensor: &'c Tensor) -> Option<String> {
        let here = (place, entry);
        let (first, same) = *self.objects.entry(std::ptr::from_ref(tensor)).or_insert(here);
        if first != place {
            return Some(format!("same tensor as {}", called(same)));
        }
        let view = View::of(tensor).filter(|_| tensor.numel() > 0)?;
        let (first, same) = *self.views.entry(view).or_insert(here);
        (first != place).then(|| format!("same values as {}", called(same)))
    }

    /// A view that keeps a storage alive of which nobody else sees the rest.
    fn within(&self, tensor: &Tensor) -> Option<String> {
        let storage = tensor.storage()?;
        let used = self.tally.used(storage).filter(|used| used.by.len() == 1)?;
        (used.slack() > 0).then(|| format!("of a storage of {}", human::bytes(storage.nbytes())))
    }
}

/// Of a tensor that was distributed, how.
fn distributed(entry: Entry<'_>) -> Option<String> {
    let tensor = entry.value().as_dtensor()?;
    let placements = tensor.placements.iter().map(|placement| match placement {
        Placement::Shard { dim } => format!("sharded by dimension {dim}"),
        Placement::Replicate => "replicated".into(),
        Placement::Partial => "partial".into(),
        _ => "placed otherwise".into(),
    });
    Some(format!("DTensor, {}", placements.collect::<Vec<_>>().join(" and ")))
}

/// What is special about how the elements are held.
fn kind(tensor: &Tensor) -> Option<String> {
    match tensor.kind() {
        TensorKind::Strided => None,
        TensorKind::Meta => Some("meta, no data".into()),
        TensorKind::Sparse(sparse) => Some(match sparse.is_coalesced {
            Some(true) => format!("{}, coalesced", sparse.layout.name()),
            _ => sparse.layout.name().into(),
        }),
        TensorKind::Quantized(quantized) => Some(match &**quantized {
            Quantized::PerTensor { scale, zero_point } => format!("scale {scale:?}, zero point {zero_point}"),
            Quantized::PerChannel { axis, .. } => format!("scales by axis {axis}"),
            _ => "quantized".into(),
        }),
        TensorKind::Nested(nested) => {
            Some(format!("nested, {}", human::count(nested.components.len(), "component")))
        }
        TensorKind::Wrapper { device, .. } => {
            Some(format!("wrapper subclass on {}", human::name(device.as_str())))
        }
        _ => Some(tensor.layout().name().into()),
    }
}
