//! `ptser info`: what kind of file it is, how it is laid out, and what is in it besides tensors.

mod text;

use std::io::{self, Write};

use clap::Args;
use ptser::{Checkpoint, Verdict};
use serde_json::{Map, Value as Json, json};

use crate::describe;
use crate::open::Source;
use crate::output::{self, Failure};
use crate::tally::Tally;

/// Tell the format, versions, alignment, records, slack, sharing, globals, and the keys of the root.
///
/// Slack is bytes stored that no tensor views; a strided view counts from its first to its last element.
#[derive(Args)]
#[command(after_help = "Example: ptser info model.pt --json | jq .alignment")]
pub(crate) struct Info {
    #[command(flatten)]
    source: Source,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Info {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let Self { source, json } = self;
        let checkpoint = source.open()?;
        let file = source.path();
        let size = std::fs::metadata(file).map(|metadata| metadata.len()).ok();
        let facts = Facts::of(file.to_string_lossy().into_owned(), size, &checkpoint)?;
        if *json {
            let mut out = output::machine();
            write_json(&mut out, &facts.json())?;
            out.flush()?;
        } else {
            let mut out = output::human();
            text::write(&mut out, &facts)?;
            out.flush()?;
        }
        Ok(())
    }
}

/// One object, with a line for each key.
fn write_json(out: &mut impl Write, object: &Map<String, Json>) -> io::Result<()> {
    let mut separator = "{\n";
    for (key, value) in object {
        write!(out, "{separator}  {}: {value}", json!(key))?;
        separator = ",\n";
    }
    writeln!(out, "\n}}")
}

/// What is told of a file, in either form.
struct Facts<'c> {
    file: String,
    size: Option<u64>,
    checkpoint: &'c Checkpoint,
    /// Words in small records: what it is called here, what it holds.
    notes: Vec<(&'static str, Option<String>)>,
    alignment: Option<u64>,
    records: Records,
    unreferenced: Records,
    tally: Tally<'c>,
    /// In order of first appearance.
    locations: Vec<(&'c str, usize)>,
}

#[derive(Default)]
struct Records {
    count: usize,
    bytes: u64,
    stored_bytes: u64,
    deflated: usize,
}

const STORAGE_ALIGNMENT: &str = "storage_alignment";

/// The name here, and the records that may hold it.
const NOTES: [(&str, &[&str]); 4] = [
    ("version", &["version", ".data/version"]),
    ("format_version", &[".format_version"]),
    (STORAGE_ALIGNMENT, &[".storage_alignment"]),
    ("serialization_id", &[".data/serialization_id"]),
];

impl<'c> Facts<'c> {
    fn of(file: String, size: Option<u64>, checkpoint: &'c Checkpoint) -> ptser::Result<Self> {
        let note = |records: &[&str]| records.iter().find_map(|record| checkpoint.note(record));
        let tally = Tally::of(checkpoint);
        let mut records = Records::default();
        let mut unreferenced = Records::default();
        let keys: std::collections::HashSet<&str> =
            checkpoint.storages().iter().map(ptser::Storage::key).collect();
        for record in checkpoint.records() {
            records.add(&record);
            if record.name.strip_prefix("data/").is_some_and(|key| !keys.contains(key)) {
                unreferenced.add(&record);
            }
        }
        let mut locations: Vec<(&str, usize)> = Vec::new();
        for storage in checkpoint.storages() {
            let location = storage.location().as_str();
            match locations.iter_mut().find(|(known, _)| *known == location) {
                Some((_, count)) => *count += 1,
                None => locations.push((location, 1)),
            }
        }
        Ok(Self {
            file,
            size,
            checkpoint,
            notes: NOTES
                .iter()
                .map(|(name, records)| (*name, note(records).map(|note| note.trim().to_owned())))
                .collect(),
            alignment: alignment(checkpoint)?,
            records,
            unreferenced,
            tally,
            locations,
        })
    }

    /// The keys are documented in this crate's README.
    fn json(&self) -> Map<String, Json> {
        let Self { file, size, checkpoint, notes, alignment, records, unreferenced, tally, locations } = self;
        let mut object = Map::new();
        let mut put = |key: &str, value: Json| object.insert(key.to_owned(), value);
        put("file", json!(file));
        put("size", json!(size));
        put("format", json!(checkpoint.format().name()));
        put("root_folder", json!(Some(checkpoint.root_folder()).filter(|root| !root.is_empty())));
        put("archive_offset", json!(checkpoint.archive_offset()));
        for (name, note) in notes {
            put(name, json!(note));
        }
        put("byte_order", json!(checkpoint.byte_order().name()));
        put("protocol", json!(checkpoint.protocol()));
        put("alignment", json!(alignment));
        put("records", records.json());
        put("unreferenced", unreferenced.json());
        put("storages", json!({ "count": tally.storages.len(), "bytes": self.stored() }));
        put("tensors", self.tensors_json());
        put("slack", self.slack_json());
        put("sharing", self.sharing_json());
        put(
            "locations",
            locations.iter().map(|(location, count)| ((*location).to_owned(), json!(count))).collect(),
        );
        put(
            "globals",
            checkpoint
                .globals()
                .map(|(name, verdict)| json!({ "name": name, "verdict": word(verdict) }))
                .collect(),
        );
        put("root", self.root_json());
        object
    }

    fn tensors_json(&self) -> Json {
        let Tally { paths, tensors, parameters, parts, dtypes, .. } = &self.tally;
        let by_dtype: Map<String, Json> =
            dtypes.iter().map(|(dtype, count)| (dtype.to_string(), json!(count))).collect();
        json!({ "count": tensors, "paths": paths, "parameters": parameters, "parts": parts, "by_dtype": by_dtype })
    }

    fn slack_json(&self) -> Json {
        let storages: Vec<Json> =
            self.slack().map(|(key, bytes)| json!({ "storage": key, "bytes": bytes })).collect();
        let bytes = self.slack().fold(0_u64, |sum, (_, bytes)| sum.saturating_add(bytes));
        json!({ "bytes": bytes, "storages": storages })
    }

    fn sharing_json(&self) -> Json {
        let names = |used: &crate::tally::Used<'_>| {
            used.by.iter().map(|entry| json!(entry.name())).collect::<Vec<_>>()
        };
        self.tally
            .shared()
            .map(|used| json!({ "storage": used.storage.key(), "tensors": names(used) }))
            .collect()
    }

    fn root_json(&self) -> Json {
        let root = self.checkpoint.root();
        let keys = describe::keys(root).map(|(key, value)| {
            let key = match key.kind() {
                ptser::ValueKind::Str(text) => json!(text),
                ptser::ValueKind::Int(int) => json!(int),
                _ => json!(key.to_string()),
            };
            json!({ "key": key, "type": value.type_name(), "len": describe::len(value) })
        });
        json!({ "type": root.type_name(), "len": describe::len(root), "keys": keys.collect::<Vec<_>>() })
    }

    /// Bytes in all storages.
    fn stored(&self) -> u64 {
        self.tally.storages.iter().fold(0, |sum, used| sum.saturating_add(used.storage.nbytes()))
    }

    /// Storages with bytes that no tensor views, and how many.
    fn slack(&self) -> impl Iterator<Item = (&str, u64)> {
        self.tally
            .storages
            .iter()
            .map(|used| (used.storage.key(), used.slack()))
            .filter(|(_, bytes)| *bytes > 0)
    }
}

impl Records {
    fn add(&mut self, record: &ptser::RecordInfo<'_>) {
        self.count += 1;
        self.bytes = self.bytes.saturating_add(record.size);
        self.stored_bytes = self.stored_bytes.saturating_add(record.stored_size);
        self.deflated += usize::from(record.deflated);
    }

    fn json(&self) -> Json {
        let Self { count, bytes, stored_bytes, deflated } = self;
        json!({ "count": count, "bytes": bytes, "stored_bytes": stored_bytes, "deflated": deflated })
    }
}

/// The largest power of two, up to a page, that divides the file offset of every storage that is not deflated.
fn alignment(checkpoint: &Checkpoint) -> ptser::Result<Option<u64>> {
    const PAGE: u64 = 4096;
    let mut alignment = None;
    for storage in checkpoint.storages() {
        if let Some(offset) = storage.checkpoint_offset()? {
            let divides = 1_u64.checked_shl(offset.trailing_zeros()).unwrap_or(PAGE);
            alignment = Some(divides.min(alignment.unwrap_or(PAGE)));
        }
    }
    Ok(alignment)
}

/// The policy's word on a global.
pub(crate) fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allowed => "allowed",
        Verdict::Inert => "inert",
        Verdict::Unlisted => "unlisted",
        Verdict::Blocked => "blocked",
        _ => "unknown",
    }
}
