//! One checkpoint that `make.py` made: opens it in every way, and compares each with what PyTorch found.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use ptser::{ByteOrder, Checkpoint, Globals, LoadOptions, Result as PtserResult};
use serde_json::Value as Json;

use crate::compare::{same, same_contents};
use crate::oracle::{Oracle, text};

/// A line of `expected.jsonl`, described in `make.py`.
pub(crate) struct Case {
    /// Which line.
    line: usize,
    fields: Json,
    oracle: Oracle,
}

impl Case {
    /// Those in a folder that are asked for.
    pub(crate) fn all(folder: &Path) -> Vec<Self> {
        let only = std::env::var("PTSER_INTEROP_ONLY").unwrap_or_default();
        let lines = std::fs::read_to_string(folder.join("expected.jsonl")).unwrap_or_default();
        let parse = |line| serde_json::from_str(line).expect("a line of expected.jsonl is JSON");
        let fields = lines.lines().map(parse).enumerate();
        fields
            .filter(|(_, fields)| text(fields, "file").contains(&only))
            .map(|(line, mut fields): (_, Json)| Self {
                line,
                oracle: Oracle::new(fields["contents"].take()),
                fields,
            })
            .collect()
    }

    pub(crate) fn name(&self) -> String {
        match self.offset() {
            0 => text(&self.fields, "file").to_owned(),
            offset => format!("{} from byte {offset}", text(&self.fields, "file")),
        }
    }

    pub(crate) fn line(&self) -> usize {
        self.line
    }

    /// Whether it is TorchScript, which is not saved.
    pub(crate) fn is_program(&self) -> bool {
        text(&self.fields, "format") == "torchscript"
    }

    /// Opens it whatever it names.
    pub(crate) fn open(&self, folder: &Path) -> Result<Checkpoint, String> {
        let options = self.options(Globals::inert());
        options.open(folder.join(text(&self.fields, "file"))).map_err(|error| error.to_string())
    }

    fn offset(&self) -> u64 {
        self.fields["offset"].as_u64().unwrap_or_default()
    }

    pub(crate) fn check(&self, folder: &Path) -> Result<(), String> {
        let checked = catch_unwind(AssertUnwindSafe(|| self.check_all(folder)));
        checked.unwrap_or_else(|_| Err("it panics".into()))
    }

    fn check_all(&self, folder: &Path) -> Result<(), String> {
        let path = folder.join(text(&self.fields, "file"));
        let unlisted = self.unlisted();
        // Other protocols may spell the same objects by other names.
        if !unlisted.is_empty() && text(&self.fields, "writer") == "zip" {
            refuses(&self.options(Globals::weights_only()), &path, &unlisted)?;
        }
        // What PyTorch reads with `weights_only` is read without any leave.
        let globals = if unlisted.is_empty() { Globals::weights_only() } else { Globals::inert() };
        let options = self.options(globals);
        let bytes = || std::fs::read(&path).map_err(|error| error.to_string());
        let opened = [
            ("a path", options.open(&path)),
            ("a private mapping", options.clone().mmap(true).open(&path)),
            ("bytes", options.from_bytes(bytes()?)),
            ("a reader", self.read(&options, &path)),
        ];
        for (way, checkpoint) in opened {
            let checkpoint = checkpoint.map_err(|error| error.to_string());
            checkpoint
                .and_then(|found| self.compare(&found))
                .map_err(|why| format!("through {way}: {why}"))?;
        }
        Ok(())
    }

    /// The globals in the file that PyTorch does not allow with `weights_only`.
    fn unlisted(&self) -> BTreeSet<&str> {
        self.fields["unlisted"].as_array().into_iter().flatten().filter_map(Json::as_str).collect()
    }

    fn options(&self, globals: Globals) -> LoadOptions {
        let order = match text(&self.fields, "default_byte_order") {
            "big" => ByteOrder::Big,
            _ => ByteOrder::Little,
        };
        LoadOptions::new().globals(globals).offset(self.offset()).default_byte_order(order)
    }

    /// Through a reader that stands where the checkpoint begins.
    fn read(&self, options: &LoadOptions, path: &Path) -> PtserResult<Checkpoint> {
        let mut file = File::open(path).expect("the file was opened before");
        file.seek(SeekFrom::Start(self.offset())).expect("a file can be sought");
        options.clone().offset(0).read(file)
    }

    fn compare(&self, checkpoint: &Checkpoint) -> Result<(), String> {
        same("format", checkpoint.format().name(), text(&self.fields, "format"))?;
        let order = match checkpoint.byte_order() {
            ByteOrder::Little => "little",
            ByteOrder::Big => "big",
        };
        same("byte order", order, text(&self.fields, "byte_order"))?;
        if let Some(end) = self.fields["end"].as_u64() {
            same("end", checkpoint.end_offset(), Some(end - self.offset()))?;
        }
        if let Some(location) = self.fields["location"].as_str() {
            for storage in checkpoint.storages() {
                same("location", storage.location().as_str(), location)?;
            }
        }
        same_contents(checkpoint, &self.oracle)
    }
}

/// The default policy names every global that PyTorch does not allow.
fn refuses(options: &LoadOptions, path: &Path, unlisted: &BTreeSet<&str>) -> Result<(), String> {
    let Err(error) = options.open(path) else { return Err("it opens with weights_only".into()) };
    let refused: BTreeSet<&str> = error.refused_globals().iter().map(|global| &*global.name).collect();
    same("refused globals", &refused, unlisted).map_err(|why| format!("{why}: {error}"))
}
