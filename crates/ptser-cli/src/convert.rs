//! `ptser convert`: the state dict of a file, written in another format, in another type, or in shards.

mod cast;
mod safetensors;
mod shards;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use ptser::{Checkpoint, DType, Format, SaveOptions, StateDict, Tensor};

use self::shards::{Files, Piece};
use crate::human;
use crate::open::Policy;
use crate::output::Failure;
use crate::progress::nbytes;
use crate::tally::{self, Tally};
use crate::written::{ALIGNMENTS, Container, Outputs};

/// Convert the state dict between .pt, .pth, .bin, .ckpt and .safetensors, as the ending of OUT says.
///
/// Of a training checkpoint the model is taken, and what else it holds is left out; `ptser repack` keeps all of it. Of
/// tensors that are the same view of the same bytes a safetensors file holds the first, and names the others in its
/// metadata, as Hugging Face's save_model does; reading it back restores them.
#[derive(Args)]
#[command(
    after_help = "Example: ptser convert model.pt model.safetensors --dtype bfloat16 --max-shard-size 5GB"
)]
pub(crate) struct Convert {
    /// The checkpoint
    #[arg(value_name = "IN")]
    input: PathBuf,

    /// The file to write: .safetensors, or .pt, .pth, .bin, .ckpt
    #[arg(value_name = "OUT")]
    output: PathBuf,

    #[command(flatten)]
    policy: Policy,

    /// The container of PyTorch's files
    #[arg(long, value_name = "NAME")]
    format: Option<Container>,

    /// Cast floating tensors
    #[arg(long, value_name = "NAME", value_parser = floats())]
    dtype: Option<DType>,

    /// Leave out bytes that no tensor views; safetensors files hold none of them anyway
    #[arg(long)]
    compact: bool,

    /// Begin the data of each record at a multiple of so many bytes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(ALIGNMENTS))]
    alignment: Option<u64>,

    /// Write shards of no more than so many bytes of data, as in 5GB or 500MB, and an index
    #[arg(long, value_name = "SIZE", value_parser = shards::size)]
    max_shard_size: Option<u64>,

    /// Where the state dict is: a key, or keys joined by dots; found by its customary names without it
    #[arg(long, value_name = "KEY")]
    state_dict: Option<String>,
}

/// What can be written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    PyTorch,
    Safetensors,
}

impl Kind {
    fn of(path: &Path) -> Result<Self, Failure> {
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
        match extension.as_deref() {
            Some("safetensors") => Ok(Self::Safetensors),
            Some("pt" | "pth" | "bin" | "ckpt") => Ok(Self::PyTorch),
            _ => Err(Failure::Usage(format!(
                "{}: the name says what to write: .safetensors, or .pt, .pth, .bin, .ckpt",
                path.display()
            ))),
        }
    }
}

impl Convert {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let kind = Kind::of(&self.output)?;
        let options = self.options(kind)?;
        let checkpoint = self.policy.options().open(&self.input)?;
        checkpoint.check_views().map_err(|error| error.in_file(&self.input))?;
        let mut metadata = BTreeMap::new();
        if checkpoint.format() == Format::Safetensors {
            metadata = safetensors::metadata(&self.input)?;
        }
        let mut state_dict = self.state_dict(&checkpoint, &metadata)?;
        let note = left_out(&checkpoint, &state_dict);
        if let Some(dtype) = self.dtype {
            state_dict = cast::cast(&state_dict, dtype).map_err(|error| error.in_file(&self.input))?;
        }
        match kind {
            Kind::PyTorch => self.to_pytorch(&state_dict, &options, &note),
            Kind::Safetensors => self.to_safetensors(&state_dict, metadata, &note),
        }
    }

    /// Options of PyTorch's files; none of them has a meaning for safetensors.
    fn options(&self, kind: Kind) -> Result<SaveOptions, Failure> {
        let usage = |message: &str| Err(Failure::Usage(message.into()));
        if kind == Kind::Safetensors && (self.format.is_some() || self.alignment.is_some()) {
            return usage("--format and --alignment are for PyTorch's files, and OUT is a safetensors file");
        }
        if self.format == Some(Container::Legacy) && self.alignment.is_some() {
            return usage("--alignment is for archives; with it goes --format zip");
        }
        let mut options = SaveOptions::new().compact(self.compact);
        if let Some(format) = self.format {
            options = options.format(format.into())?;
        }
        if let Some(alignment) = self.alignment {
            options = options.alignment(alignment);
        }
        Ok(options)
    }

    fn state_dict(
        &self,
        checkpoint: &Checkpoint,
        metadata: &BTreeMap<String, String>,
    ) -> Result<StateDict, Failure> {
        let found = match &self.state_dict {
            Some(key) => checkpoint.state_dict_at(key),
            None => checkpoint.state_dict(),
        };
        let mut state_dict = found.map_err(|error| error.in_file(&self.input))?;
        if self.state_dict.is_none() && checkpoint.root().as_tensor().is_ok() {
            return Err(Failure::file(&self.input, "a tensor by itself is no state dict: it has no name"));
        }
        if state_dict.is_empty() {
            let constants = checkpoint.constants().ok().flatten();
            let is_frozen = constants.is_some_and(|all| all.items().any(|one| one.as_tensor().is_ok()));
            let why = if is_frozen {
                "its tensors are constants of a frozen program, and have no names: convert what it was frozen from"
            } else {
                "no tensors in it; --state-dict KEY says where they are"
            };
            return Err(Failure::file(&self.input, why));
        }
        if self.state_dict.is_none() {
            safetensors::restore_aliases(&mut state_dict, metadata);
        }
        Ok(state_dict)
    }

    fn to_safetensors(
        &self,
        state_dict: &StateDict,
        metadata: BTreeMap<String, String>,
        note: &str,
    ) -> Result<(), Failure> {
        let content = safetensors::Content::new(state_dict, metadata);
        content.check().map_err(|what| Failure::file(&self.input, what))?;
        let pieces: Vec<Piece<'_>> = content
            .tensors()
            .map(|(name, tensor)| Piece { names: vec![name], bytes: nbytes(tensor.nbytes()) })
            .collect();
        let tied = match content.aliases() {
            0 => String::new(),
            tied => format!("; {} in the metadata{note}", human::count(tied, "tied name")),
        };
        let note = if tied.is_empty() { note } else { &tied };
        self.write(&pieces, note, |sink, names, _| content.write(sink, names))
    }

    fn to_pytorch(&self, state_dict: &StateDict, options: &SaveOptions, note: &str) -> Result<(), Failure> {
        self.write(&self.pieces(state_dict), note, |sink, names, path| {
            // In the order of the state dict; what shares a storage stands together in `names`.
            let names: HashSet<&str> = names.iter().copied().collect();
            let part: StateDict = state_dict
                .iter()
                .filter(|(name, _)| names.contains(name))
                .map(|(name, tensor)| (name, tensor.clone()))
                .collect();
            options.clone().root_folder_of(path)?.write(sink, &part)
        })
    }

    /// Tensors that share a storage stay together.
    fn pieces<'s>(&self, state_dict: &'s StateDict) -> Vec<Piece<'s>> {
        let mut pieces: Vec<Piece<'_>> = Vec::new();
        let mut extents: HashMap<usize, (usize, Option<(u64, u64)>)> = HashMap::new();
        for (name, tensor) in state_dict {
            let Some(storage) = tensor.storage() else {
                pieces.push(Piece { names: vec![name], bytes: parts_bytes(tensor) });
                continue;
            };
            let (place, known) = extents.entry(storage.id()).or_insert_with(|| {
                pieces.push(Piece { names: Vec::new(), bytes: storage.nbytes() });
                (pieces.len() - 1, None)
            });
            let viewed = tally::extent(tensor);
            *known = match (*known, viewed) {
                (Some(known), Some(new)) => Some((known.0.min(new.0), known.1.max(new.1))),
                (known, new) => known.or(new),
            };
            let Some(piece) = pieces.get_mut(*place) else { continue };
            piece.names.push(name);
            if let (true, Some((start, end))) = (self.compact, *known) {
                piece.bytes = storage.nbytes().min(end - start);
            }
        }
        pieces
    }

    /// Writes one file, or shards and their index: `write` writes the tensors of some names to a path.
    fn write(
        &self,
        pieces: &[Piece<'_>],
        note: &str,
        write: impl Fn(&mut crate::written::Watched<'_>, &[&str], &Path) -> ptser::Result<()>,
    ) -> Result<(), Failure> {
        let shards = shards::split(pieces, self.max_shard_size);
        let files = Files::new(&self.output, shards.len());
        files.refuse_others()?;
        let total = pieces.iter().map(|piece| piece.bytes).fold(0, u64::saturating_add);
        let mut outputs = Outputs::new(&self.input, total);
        let mut tensors = 0;
        for (names, path) in shards.iter().zip(files.data()) {
            tensors += names.len();
            outputs.add(path, |sink| write(sink, names, path))?;
        }
        if let Some(index) = files.index() {
            let content = files.index_of(&shards, total);
            outputs.add(index, |sink| Ok(std::io::Write::write_all(sink, content.as_bytes())?))?;
        }
        outputs.publish(tensors, note)
    }
}

/// Bytes of a tensor that is no view of a storage.
fn parts_bytes(tensor: &Tensor) -> u64 {
    tensor.parts().map(|(_, part)| nbytes(part.nbytes())).fold(0, u64::saturating_add)
}

/// Says that there is more in the file.
fn left_out(checkpoint: &Checkpoint, state_dict: &StateDict) -> String {
    let all = Tally::of(checkpoint).paths + checkpoint.arrays().len();
    match all.saturating_sub(state_dict.len()) {
        0 => String::new(),
        more => format!("; {} beside the state dict left out", human::count(more, "tensor")),
    }
}

fn floats() -> impl TypedValueParser<Value = DType> {
    let floats = [DType::Float64, DType::Float32, DType::Float16, DType::BFloat16];
    PossibleValuesParser::new(floats.map(DType::name)).try_map(|name| name.parse())
}
