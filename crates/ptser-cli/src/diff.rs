//! `ptser diff`: what two files hold, compared by name.

mod identity;
mod leaves;
mod values;
mod walk;

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use owo_colors::OwoColorize;

use self::walk::{Change, Walk};
use crate::describe::summary;
use crate::open::Policy;
use crate::output::{self, Failure};
use crate::{DIFFERENT, human};

/// Compare the tensors of two files by name, shape, dtype and values, and all else they hold; 1 where they differ.
///
/// Containers count for what they hold: how they are stored, in which order, what shares a storage, and whether a dict is
/// an ordered one, makes no difference.
#[derive(Args)]
#[command(after_help = "Example: ptser diff epoch_1.pt epoch_2.pt")]
pub(crate) struct Diff {
    /// A checkpoint
    #[arg(value_name = "A")]
    first: PathBuf,

    /// Another, of whatever format
    #[arg(value_name = "B")]
    second: PathBuf,

    #[command(flatten)]
    policy: Policy,
}

/// Differences that are told.
const MOST: usize = 20_000;

impl Diff {
    /// The exit code.
    pub(crate) fn run(&self) -> Result<u8, Failure> {
        let Self { first, second, policy } = self;
        let options = policy.options();
        let files = (first.as_path(), second.as_path());
        let open = |file: &PathBuf| {
            let checkpoint = options.open(file)?;
            checkpoint.check_views().map_err(|error| error.in_file(file))?;
            Ok::<_, Failure>(checkpoint)
        };
        let (first, second) = (open(first)?, open(second)?);
        let walk = Walk::new(files, (first.root(), second.root()));
        let mut differences = 0;
        match tell(walk, &mut differences) {
            Err(failure) if !failure.is_closed_pipe() => Err(failure),
            // Nobody reads the rest, and the first of them has decided.
            _ => Ok(if differences > 0 { DIFFERENT } else { 0 }),
        }
    }
}

/// Writes the differences, and counts them.
fn tell(mut walk: Walk<'_>, differences: &mut usize) -> Result<(), Failure> {
    let mut out = output::human();
    while let Some((name, change)) = walk.next_change()? {
        *differences += 1;
        if *differences > MOST {
            writeln!(out, "more than {} differences; the rest was not compared", human::number(MOST))?;
            break;
        }
        match change {
            Change::Only(0, value) => writeln!(out, "{} {name}: {}", "-".red(), summary(value))?,
            Change::Only(_, value) => writeln!(out, "{} {name}: {}", "+".green(), summary(value))?,
            Change::Changed(what) => writeln!(out, "{} {name}: {what}", "~".yellow())?,
        }
    }
    let compared = format!(
        "{} and {} compared",
        human::count(walk.tensors, "tensor"),
        human::count(walk.others, "other value")
    );
    if *differences > 0 {
        writeln!(out, "{compared}: {}", human::count(*differences, "difference"))?;
    } else {
        writeln!(out, "{compared}: no difference")?;
    }
    out.flush()?;
    Ok(())
}
