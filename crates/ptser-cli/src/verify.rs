//! `ptser verify`: every record read and compared with its CRC, every tensor checked.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use owo_colors::OwoColorize;
use ptser::{Checkpoint, Checksum, Error, ErrorKind, Format, Globals, LoadOptions, Verification};

use crate::human;
use crate::open::Bounds;
use crate::output::{self, Failure, explain};
use crate::progress::Progress;
use crate::{DAMAGED, UNREADABLE};

/// Read all of a file: CRCs, bounds, overlaps, tensors; 4 where something is wrong.
///
/// Whether its classes and functions are allowed is another question: ptser scan.
#[derive(Args)]
#[command(after_help = "Example: ptser verify *.pt")]
pub(crate) struct Verify {
    /// The checkpoints
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    #[command(flatten)]
    bounds: Bounds,
}

/// Lines of damage shown of one file.
const SHOWN: usize = 100;

impl Verify {
    /// The exit code: the highest of any file.
    pub(crate) fn run(&self) -> Result<u8, Failure> {
        let options = LoadOptions::new().limits(self.bounds.limits());
        let mut code = 0;
        for file in &self.files {
            code = code.max(match verify(file, &options) {
                Ok(code) => code,
                Err(failure) if failure.is_output() => return Err(failure),
                Err(failure) => {
                    failure.complain();
                    UNREADABLE
                }
            });
        }
        Ok(code)
    }
}

fn verify(file: &Path, options: &LoadOptions) -> Result<u8, Failure> {
    let mut out = output::human();
    let name = file.to_string_lossy();
    let name = human::plain(&name);
    let (checkpoint, refusal) = open(file, options)?;
    let Some(checkpoint) = checkpoint else {
        output::or_closed(write_damage(&mut out, file, &refusal.iter().collect::<Vec<_>>()))?;
        return Ok(DAMAGED);
    };
    let mut progress = None;
    let mut before = 0;
    let verification = checkpoint.verify(|done, total| {
        progress.get_or_insert_with(|| Progress::new("verifying", total)).add(done - before);
        before = done;
    });
    drop(progress);
    // What opening refused, where a lenient look did not find it again.
    let refusal = refusal.filter(|_| verification.is_good());
    let errors: Vec<&Error> = verification.errors().chain(&refusal).collect();
    let Some(first) = errors.first() else {
        let line = writeln!(out, "{}: good, {}", name.bold(), extent(&verification, &checkpoint));
        output::or_closed(line.and_then(|()| out.flush()))?;
        return Ok(0);
    };
    // A disk that fails and a limit say nothing of the file.
    if !errors.iter().any(|error| is_damage(error)) {
        return Err(Failure::file(file, explain(first)));
    }
    output::or_closed(write_damage(&mut out, file, &errors))?;
    Ok(DAMAGED)
}

/// What can be opened of a file, and why not all of it.
fn open(file: &Path, options: &LoadOptions) -> Result<(Option<Checkpoint>, Option<Error>), Failure> {
    let inert = || options.clone().globals(Globals::inert());
    let opened = match options.open(file) {
        // Which names it may hold is not the question.
        Err(error) if !error.refused_globals().is_empty() => inert().open(file),
        opened => opened,
    };
    match opened {
        Ok(checkpoint) => Ok((Some(checkpoint), None)),
        Err(error) if error.kind() == ErrorKind::Malformed => {
            Ok((inert().lenient(true).open(file).ok(), Some(error)))
        }
        Err(error) => Err(error.into()),
    }
}

fn is_damage(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Malformed | ErrorKind::Unsupported)
}

fn write_damage(out: &mut impl Write, file: &Path, errors: &[&Error]) -> io::Result<()> {
    let prefix = format!("{}: ", file.display());
    writeln!(out, "{}: {}", human::plain(&file.to_string_lossy()).bold(), "damaged".red())?;
    for error in errors.iter().take(SHOWN) {
        let message = explain(error);
        writeln!(out, "  {}", human::message(message.strip_prefix(&prefix).unwrap_or(&message)))?;
    }
    if errors.len() > SHOWN {
        writeln!(out, "  and {} more", human::number(errors.len() - SHOWN))?;
    }
    out.flush()
}

/// `26 records, 1.3 MB; no CRC was computed for 3 of them when they were written`.
fn extent(verification: &Verification, checkpoint: &Checkpoint) -> String {
    let records = &verification.records;
    let archive = checkpoint.records().len() > 0;
    let bytes = records.iter().fold(0_u64, |sum, record| sum.saturating_add(record.size));
    let what = if archive { "record" } else { "storage" };
    let mut text = format!("{}, {}", human::count(records.len(), what), human::bytes(bytes));
    let without = records.iter().filter(|record| matches!(record.checksum, Checksum::NotComputed)).count();
    if !archive {
        text.push_str(&format!("; {} has no CRCs to compare with", article(checkpoint.format())));
    } else if without == records.len() {
        text.push_str("; no CRC was computed when they were written");
    } else if without > 0 {
        text.push_str(&format!(
            "; no CRC was computed for {} of them when they were written",
            human::number(without)
        ));
    }
    text
}

fn article(format: Format) -> String {
    match format {
        Format::Legacy => "a legacy stream".into(),
        Format::Tar => "a tar archive of torch 0.1".into(),
        Format::Pickle => "a plain pickle".into(),
        other => format!("a {} file", other.name()),
    }
}
