//! Which tensors go into which shard, the names of shards, and their index: as Hugging Face's libraries have them.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json, json};

use crate::output::Failure;

/// Tensors that stay together, and the bytes that they take.
pub(super) struct Piece<'n> {
    pub(super) names: Vec<&'n str>,
    pub(super) bytes: u64,
}

/// Parses `5GB`, `500 MB`, `2GiB`, or a number of bytes.
pub(super) fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 8] = [
        ("KIB", 1 << 10),
        ("MIB", 1 << 20),
        ("GIB", 1 << 30),
        ("TIB", 1 << 40),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
    ];
    let upper = text.trim().to_uppercase();
    let unit = UNITS.iter().find_map(|(unit, bytes)| Some((upper.strip_suffix(unit)?, *bytes)));
    let (number, unit) = unit.unwrap_or((upper.strip_suffix('B').unwrap_or(&upper), 1));
    let size = number.trim().parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    size.filter(|size| *size > 0).ok_or_else(|| "expected a size, as in 5GB, 500MB or 2GiB".into())
}

/// The names of each shard, in order: a shard is closed by the tensor that no longer fits, and a tensor that is larger
/// than a shard may be has one of its own.
pub(super) fn split<'n>(pieces: &[Piece<'n>], max: Option<u64>) -> Vec<Vec<&'n str>> {
    let max = max.unwrap_or(u64::MAX);
    let mut shards = Vec::new();
    let mut current: Vec<&str> = Vec::new();
    let mut bytes = 0_u64;
    for piece in pieces {
        if piece.bytes > max {
            shards.push(piece.names.clone());
            continue;
        }
        if bytes.saturating_add(piece.bytes) > max {
            shards.push(std::mem::take(&mut current));
            bytes = 0;
        }
        current.extend(&piece.names);
        bytes = bytes.saturating_add(piece.bytes);
    }
    if !current.is_empty() {
        shards.push(current);
    }
    shards
}

/// Where shards and their index go; or the one file that there is.
pub(super) struct Files {
    output: PathBuf,
    data: Vec<PathBuf>,
    index: Option<PathBuf>,
}

impl Files {
    pub(super) fn new(output: &Path, shards: usize) -> Self {
        let output = output.to_owned();
        if shards <= 1 {
            return Self { data: vec![output.clone()], output, index: None };
        }
        let (stem, extension) = stem_and_extension(&output);
        let shard = |number| output.with_file_name(format!("{stem}-{number:05}-of-{shards:05}.{extension}"));
        Self { data: (1..=shards).map(shard).collect(), index: Some(index_beside(&output)), output }
    }

    /// The files that hold tensors.
    pub(super) fn data(&self) -> &[PathBuf] {
        &self.data
    }

    /// The file that names them, where there are several.
    pub(super) fn index(&self) -> Option<&Path> {
        self.index.as_deref()
    }

    /// Loaders prefer one of a single file and an index, and not always the newer: with both there, or with shards of two
    /// models, nobody knows what is loaded. What is there is the user's, and not removed.
    pub(super) fn refuse_others(&self) -> Result<(), Failure> {
        let refuse = |file: &Path, what: &str| {
            Err(Failure::file(file, format!("exists {what}; move it away, or name another OUT")))
        };
        let Some(index) = &self.index else {
            let index = index_beside(&self.output);
            return if index.exists() { refuse(&index, "and names shards of this model") } else { Ok(()) };
        };
        if self.output.exists() {
            return refuse(&self.output, "and would be taken for the model in place of its shards");
        }
        let (stem, extension) = stem_and_extension(&self.output);
        let folder = index.parent().filter(|folder| !folder.as_os_str().is_empty());
        // A folder that cannot be listed will not be written to either.
        let Ok(entries) = std::fs::read_dir(folder.unwrap_or(Path::new("."))) else { return Ok(()) };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let numbers = name.strip_prefix(&format!("{stem}-")).and_then(|rest| {
                let (number, count) = rest.strip_suffix(&format!(".{extension}"))?.split_once("-of-")?;
                Some([number, count])
            });
            let digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
            let ours = self.data.iter().any(|path| path.file_name() == Some(&entry.file_name()));
            if numbers.is_some_and(|numbers| numbers.into_iter().all(digits)) && !ours {
                return refuse(
                    &self.output.with_file_name(name),
                    "and is a shard of another model of this name",
                );
            }
        }
        Ok(())
    }

    /// The index of shards.
    pub(super) fn index_of(&self, shards: &[Vec<&str>], total_size: u64) -> String {
        let file = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
        let mut names: Vec<(&str, Option<String>)> = shards
            .iter()
            .zip(&self.data)
            .flat_map(|(names, path)| names.iter().map(move |name| (*name, file(path))))
            .collect();
        names.sort_unstable();
        let weight_map: Map<String, Json> =
            names.into_iter().map(|(name, file)| (name.to_owned(), json!(file))).collect();
        let index = json!({"metadata": {"total_size": total_size}, "weight_map": weight_map});
        format!("{index:#}\n")
    }
}

fn stem_and_extension(path: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    (text(path.file_stem()), text(path.extension()))
}

fn index_beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".index.json");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_decimal_unless_they_say_otherwise() {
        for (text, expected) in [
            ("5GB", 5_000_000_000),
            ("500 mb", 500_000_000),
            ("2GiB", 2 << 30),
            ("1TB", 1_000_000_000_000),
            ("10KB", 10_000),
            ("7", 7),
            ("7B", 7),
        ] {
            assert_eq!(size(text), Ok(expected), "{text}");
        }
        for text in ["", "0", "GB", "-1", "1.5GB", "1PB", "99999999999999999TB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    /// Expected shards are those of `huggingface_hub.split_torch_state_dict_into_shards`, read from its rules: a tensor
    /// over the limit closes no shard.
    #[test]
    fn a_large_tensor_stands_before_the_shard_that_is_open() {
        let piece = |name, bytes| Piece { names: vec![name], bytes };
        let pieces = [piece("a", 4), piece("large", 11), piece("b", 6), piece("c", 1), piece("d", 9)];
        assert_eq!(split(&pieces, Some(10)), [vec!["large"], vec!["a", "b"], vec!["c", "d"]]);
        assert_eq!(split(&pieces, None), [vec!["a", "large", "b", "c", "d"]]);
    }
}
