//! The command line: parses, dispatches, and turns what went wrong into one line and an exit code.

mod columns;
mod convert;
mod describe;
mod diff;
mod elements;
mod hash;
mod human;
mod info;
mod ls;
mod open;
mod output;
mod piped;
mod progress;
mod repack;
mod scan;
mod show;
mod tally;
mod verify;
mod written;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Two files differ.
const DIFFERENT: u8 = 1;
/// Options contradict each other or the files.
const USAGE: u8 = 2;
/// A file names what the policy does not allow.
const REFUSED: u8 = 3;
/// A file is not what was written.
const DAMAGED: u8 = 4;
/// A file could not be read, or the output not written.
const UNREADABLE: u8 = 5;

/// Looks into PyTorch checkpoints (.pt, .pth, .bin, .ckpt) and rewrites them, without executing anything.
#[derive(Parser)]
#[command(
    name = "ptser",
    version,
    after_help = "Example: ptser ls model.pt\n\nExit codes: 0 good; 1 different (diff); 2 wrong usage; 3 something is not allowed \
                  (scan); 4 damaged (verify); 5 a file that cannot be read or written, or exceeds a limit."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Ls(ls::Ls),
    Info(info::Info),
    Show(show::Show),
    Scan(scan::Scan),
    Verify(verify::Verify),
    Diff(diff::Diff),
    Convert(convert::Convert),
    Repack(repack::Repack),
}

fn main() -> ExitCode {
    let Cli { command } = Cli::parse();
    let good = |()| 0;
    let done = match command {
        Command::Ls(ls) => ls.run().map(good),
        Command::Info(info) => info.run().map(good),
        Command::Show(show) => show.run().map(good),
        Command::Scan(scan) => scan.run(),
        Command::Verify(verify) => verify.run(),
        Command::Diff(diff) => diff.run(),
        Command::Convert(convert) => convert.run().map(good),
        Command::Repack(repack) => repack.run().map(good),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        // `ptser ls model.pt | head` got what it wanted.
        Err(failure) if failure.is_closed_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            failure.complain();
            ExitCode::from(if failure.is_usage() { USAGE } else { UNREADABLE })
        }
    }
}
