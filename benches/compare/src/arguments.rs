//! The command line.

use std::path::PathBuf;

use crate::Outcome;
use crate::groups::{self, Group};

const USAGE: &str = "compare DIR [--only A,D] [--runs 5] [--mib 1024] [--write]

DIR is where files are kept that are measured with: about 2.4 GB, and 1.1 GB more while files are written.
--only   the groups of these letters
--runs   how often everything is measured
--mib    the size of the large files
--write  puts the tables into docs/benchmarks.md, and draws docs/benchmarks.svg
PTSER_PYTHON is a Python that has torch, numpy and safetensors; without it PyTorch is left out.";

/// What is asked for.
pub enum Asked {
    Compare(Arguments),
    /// One measurement of one subject, in this process.
    One {
        group: String,
        subject: String,
        file: PathBuf,
        out: PathBuf,
    },
}

/// What is compared, and how.
pub struct Arguments {
    pub folder: PathBuf,
    only: Vec<String>,
    pub runs: usize,
    pub mib: u32,
    pub write: bool,
}

/// The size of the large files in what is published.
const MIB: u32 = 1024;

/// Reads the command line.
pub fn parse(mut words: impl Iterator<Item = String>) -> Outcome<Asked> {
    let mut folder = None;
    let mut arguments =
        Arguments { folder: PathBuf::new(), only: Vec::new(), runs: 5, mib: MIB, write: false };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(USAGE);
        match word.as_str() {
            "--one" => {
                let (group, subject) = (value()?, value()?);
                return Ok(Asked::One { group, subject, file: value()?.into(), out: value()?.into() });
            }
            "--only" => arguments.only = value()?.split(',').map(str::to_uppercase).collect(),
            "--runs" => arguments.runs = value()?.parse()?,
            "--mib" => arguments.mib = value()?.parse()?,
            "--write" => arguments.write = true,
            _ if word.starts_with('-') || folder.is_some() => return Err(USAGE.into()),
            _ => folder = Some(PathBuf::from(word)),
        }
    }
    arguments.folder = folder.ok_or(USAGE)?;
    let known = |letter: &String| groups::ALL.iter().any(|group| group.is_in(letter));
    if let Some(unknown) = arguments.only.iter().find(|letter| !known(letter)) {
        return Err(format!("there is no group {unknown}").into());
    }
    if arguments.runs == 0 || arguments.mib == 0 {
        return Err("--runs and --mib are at least 1".into());
    }
    if arguments.write && (!arguments.only.is_empty() || arguments.mib != MIB) {
        return Err("--write is of one whole run: neither --only nor --mib goes with it".into());
    }
    Ok(Asked::Compare(arguments))
}

impl Arguments {
    /// The groups that are measured.
    pub fn groups(&self) -> impl Iterator<Item = &'static Group> {
        let wanted =
            |group: &&Group| self.only.is_empty() || self.only.iter().any(|letter| group.is_in(letter));
        groups::ALL.iter().filter(wanted)
    }
}
