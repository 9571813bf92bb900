//! The command line: parses, dispatches, and turns what went wrong into one line and an exit code.

mod columns;
mod convert;
mod hash;
mod human;
mod info;
mod ls;
mod open;
mod output;
mod progress;
mod repack;
mod tally;
mod written;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Options contradict each other or the files.
const USAGE: u8 = 2;
/// A file could not be read, or the output not written.
const UNREADABLE: u8 = 5;

/// Looks into PyTorch checkpoints (.pt, .pth, .bin, .ckpt) and rewrites them, without executing anything.
#[derive(Parser)]
#[command(
    name = "ptser",
    version,
    after_help = "Example: ptser ls model.pt\n\nExit codes: 0 good, 2 wrong usage, 5 a file that cannot be read or written."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Ls(ls::Ls),
    Info(info::Info),
    Convert(convert::Convert),
    Repack(repack::Repack),
}

fn main() -> ExitCode {
    let Cli { command } = Cli::parse();
    let done = match command {
        Command::Ls(ls) => ls.run(),
        Command::Info(info) => info.run(),
        Command::Convert(convert) => convert.run(),
        Command::Repack(repack) => repack.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // `ptser ls model.pt | head` got what it wanted.
        Err(failure) if failure.is_closed_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody is left to tell where standard error is closed too.
            let _ = writeln!(std::io::stderr(), "ptser: {}", human::message(&failure.to_string()));
            ExitCode::from(if failure.is_usage() { USAGE } else { UNREADABLE })
        }
    }
}
