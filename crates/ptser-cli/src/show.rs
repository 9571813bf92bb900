//! `ptser show`: the object of a file as a tree, or one value of it.

mod path;
mod tree;

use std::io::{self, Write};

use clap::Args;
use owo_colors::OwoColorize;
use ptser::{Tensor, Value, ValueKind};

use self::tree::Tree;
use crate::elements::{self, First};
use crate::human;
use crate::open::Source;
use crate::output::{self, Failure, explain};

/// Show the object as a tree, or one value; of a tensor what it is and its first elements.
#[derive(Args)]
#[command(after_help = "Example: ptser show checkpoint.pt optimizer.param_groups.0")]
pub(crate) struct Show {
    #[command(flatten)]
    source: Source,

    /// The value: a name as ptser ls writes it, keys and indexes joined by dots
    path: Option<String>,

    /// Show so many levels
    #[arg(long, value_name = "N", default_value_t = tree::DEEPEST, hide_default_value = true,
          value_parser = clap::value_parser!(u64).range(1..=tree::DEEPEST))]
    depth: u64,

    /// Show all members of containers, not the first thousand
    #[arg(long)]
    all: bool,
}

/// Elements of a tensor that are shown.
const ELEMENTS: usize = 24;

impl Show {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let Self { source, path, depth, all } = self;
        let checkpoint = source.open()?;
        let name = path.as_deref().unwrap_or_default();
        let tree = Tree { depth: *depth, all: *all };
        let mut out = output::human();
        match path::find(checkpoint.root(), name)? {
            Ok(value) => {
                show(&mut out, value, &tree, name).map_err(|error| error.blame(source.path(), name))?
            }
            // Indices and values of sparse tensors and their like are no values.
            Err(missing) => {
                match checkpoint.entries().find(|entry| entry.is_part() && entry.name() == name) {
                    Some(part) => {
                        let part = part.tensor().ok_or_else(|| Failure::file(source.path(), &missing))?;
                        show_tensor(&mut out, "tensor", part)
                            .map_err(|error| error.blame(source.path(), name))?;
                    }
                    None => return Err(Failure::file(source.path(), missing)),
                }
            }
        }
        out.flush()?;
        Ok(())
    }
}

/// Why a value could not be shown.
enum Trouble {
    Reading(ptser::Error),
    Output(io::Error),
}

impl Trouble {
    fn blame(self, file: &std::path::Path, name: &str) -> Failure {
        match self {
            Self::Reading(error) => Failure::tensor(file, name, &explain(&error)),
            Self::Output(error) => error.into(),
        }
    }
}

impl From<ptser::Error> for Trouble {
    fn from(error: ptser::Error) -> Self {
        Self::Reading(error)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

fn show(out: &mut impl Write, value: Value<'_>, tree: &Tree, name: &str) -> Result<(), Trouble> {
    match value.kind() {
        ValueKind::Tensor(tensor) | ValueKind::Array(tensor) => {
            show_tensor(out, value.type_name(), tensor)?;
            tree.write_below(out, value, name)?;
        }
        // Text is shown whole, and as text where it is all that is shown.
        ValueKind::Str(text) if !name.is_empty() => {
            text.lines().try_for_each(|line| writeln!(out, "{}", human::plain(line)))?;
        }
        _ => tree.write(out, value, name)?,
    }
    Ok(())
}

fn show_tensor(out: &mut impl Write, kind: &str, tensor: &Tensor) -> Result<(), Trouble> {
    let line = |out: &mut dyn Write, label: &str, text: &str| {
        writeln!(out, "  {} {text}", format_args!("{label:<14}").dimmed())
    };
    // What cannot be read is known before anything is printed.
    let first = match elements::first(tensor, ELEMENTS) {
        Ok(first) => Ok(first),
        Err(error) if error.kind() == ptser::ErrorKind::Unsupported => Err(error.to_string()),
        Err(error) => return Err(Trouble::Reading(error)),
    };
    writeln!(out, "{} {} {}", human::name(kind).bold(), tensor.dtype(), human::sizes(tensor.shape()))?;
    if !tensor.stride().is_empty() {
        let contiguous = if tensor.is_contiguous() { ", contiguous" } else { "" };
        let stride = human::sizes(tensor.stride());
        line(out, "stride", &format!("{stride}, offset {}{contiguous}", tensor.storage_offset()))?;
    }
    if let Some(storage) = tensor.storage() {
        let (key, bytes) = (human::name(storage.key()), human::bytes(storage.nbytes()));
        let location = human::name(storage.location().as_str());
        line(out, "storage", format!("{key}, {bytes}, on {location}").trim_start_matches(", "))?;
    }
    if tensor.layout() != ptser::Layout::Strided {
        line(out, "layout", tensor.layout().name())?;
    }
    let flags = [
        (tensor.requires_grad(), "requires grad"),
        (tensor.is_conj(), "conjugate"),
        (tensor.is_neg(), "negative"),
    ];
    let flags: Vec<&str> = flags.into_iter().filter_map(|(set, flag)| set.then_some(flag)).collect();
    if !flags.is_empty() {
        line(out, "flags", &flags.join(", "))?;
    }
    let values = match first {
        Ok(First { shown, more }) => {
            format!("{}{}", shown.join(", "), if more { ", …" } else { "" })
        }
        Err(why) => format!("none: {}", human::message(&why)),
    };
    line(out, "values", &values)?;
    for (name, part) in tensor.parts().take(ELEMENTS) {
        line(out, &format!("#{name}"), &format!("{} {}", part.dtype(), human::sizes(part.shape())))?;
    }
    Ok(())
}
