//! `ptser scan`: what loading a file in Python would import, found without opening it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use owo_colors::OwoColorize;
use ptser::{GlobalScan, ScannedGlobal};
use serde_json::json;

use crate::human;
use crate::info::word;
use crate::open::Policy;
use crate::output::{self, Failure};
use crate::{REFUSED, UNREADABLE};

/// List the classes and functions that loading would import; 3 where one is not allowed.
///
/// The file is not opened: one that is damaged, or that PyTorch would refuse, is scanned as far as it goes.
#[derive(Args)]
#[command(after_help = "Example: ptser scan downloads/*.pt || echo do not load these")]
pub(crate) struct Scan {
    /// The checkpoints
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    #[command(flatten)]
    policy: Policy,

    /// Print one JSON object a file, each on one line
    #[arg(long)]
    json: bool,
}

impl Scan {
    /// The exit code: the highest of any file.
    pub(crate) fn run(&self) -> Result<u8, Failure> {
        let Self { files, policy, json } = self;
        let options = policy.options();
        let mut code = 0;
        for file in files {
            let scan = match options.unsafe_globals(file) {
                Ok(scan) => scan,
                Err(error) => {
                    Failure::from(error).complain();
                    code = UNREADABLE;
                    continue;
                }
            };
            output::or_closed(if *json {
                let mut out = output::machine();
                write_json(&mut out, file, &scan).and_then(|()| out.flush())
            } else {
                let mut out = output::human();
                write_text(&mut out, file, &scan).and_then(|()| out.flush())
            })?;
            let refused = scan.refused().next().is_some();
            if let Some(error) = scan.error {
                Failure::from(error).complain();
                // Of what lies behind the damage nobody knows; what was found is enough.
                code = code.max(if refused { REFUSED } else { UNREADABLE });
            } else if refused {
                code = code.max(REFUSED);
            }
        }
        Ok(code)
    }
}

fn write_json(out: &mut impl Write, file: &Path, scan: &GlobalScan) -> io::Result<()> {
    let global = |global: &ScannedGlobal| {
        let ScannedGlobal { name, verdict, record, offset, .. } = global;
        json!({ "name": name, "verdict": word(*verdict), "record": record, "offset": offset })
    };
    let line = json!({
        "file": file.to_string_lossy(),
        "format": scan.format.name(),
        "safe": scan.is_safe(),
        "globals": scan.globals.iter().map(global).collect::<Vec<_>>(),
        "error": scan.error.as_ref().map(ToString::to_string),
    });
    writeln!(out, "{line}")
}

/// One line a file, and one for each global that is out of the ordinary.
fn write_text(out: &mut impl Write, file: &Path, scan: &GlobalScan) -> io::Result<()> {
    let name = file.to_string_lossy();
    let count = human::count(scan.globals.len(), "global");
    let refused = scan.refused().count();
    let outcome = match (refused, &scan.error) {
        (0, None) => format!("{count}, all allowed"),
        (0, Some(_)) => {
            format!("{count}, all allowed, {}", "and damage behind which there may be others".red())
        }
        (refused, _) => format!("{count}, {}", format_args!("{} not allowed", human::number(refused)).red()),
    };
    writeln!(out, "{}: {outcome}", human::plain(&name).bold())?;
    for global in scan.globals.iter().filter(|global| word(global.verdict) != "allowed") {
        let ScannedGlobal { name, verdict, record, offset, .. } = global;
        let record =
            record.as_ref().map_or_else(String::new, |record| format!("record {}, ", human::name(record)));
        writeln!(out, "  {:<8} {}  {record}byte {offset}", word(*verdict).yellow(), human::name(name))?;
    }
    Ok(())
}
