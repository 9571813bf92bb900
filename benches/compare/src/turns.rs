//! Subjects take turns, each measurement in a process of its own.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nix::unistd::sync;

use crate::Outcome;
use crate::arguments::Arguments;
use crate::groups::Group;
use crate::sample::Sample;
use crate::subjects::{How, Subject, ptser};
use crate::table::{Row, Table};

const PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peer.py");
const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");

/// What measurements need.
pub struct Turns<'a> {
    arguments: &'a Arguments,
    python: Option<OsString>,
    torch: Option<String>,
    cli: PathBuf,
}

impl<'a> Turns<'a> {
    /// Looks for PyTorch, and builds the program `ptser` where it is measured.
    pub fn new(arguments: &'a Arguments) -> Outcome<Self> {
        let python = std::env::var_os("PTSER_PYTHON");
        let mut torch = None;
        match &python {
            Some(python) => torch = Some(text(&Command::new(python).args([PEER, "version"]).output()?)?),
            None => eprintln!("PyTorch is not measured: set PTSER_PYTHON to a Python that has torch"),
        }
        let mut turns = Self { arguments, python, torch, cli: PathBuf::new() };
        if arguments.groups().any(|group| group.id == "H") {
            turns.cli = build_cli()?;
        }
        Ok(turns)
    }

    /// PyTorch's version.
    pub fn torch(&self) -> Option<&str> {
        self.torch.as_deref()
    }

    /// Measures a group.
    pub fn measure(&self, group: &'static Group) -> Outcome<Table> {
        let mut rows = Vec::new();
        for subject in group.subjects {
            let file = subject.fixture.file(&self.arguments.folder, self.arguments.mib)?;
            if subject.fixture.is_warmed() {
                io::copy(&mut File::open(&file)?, &mut io::sink())?;
            }
            rows.push((file, Row { subject, samples: Vec::new(), failure: self.absence(subject) }));
        }
        // Files that were just made are on their way to the disk.
        sync();
        for run in 1..=self.arguments.runs * group.repeats {
            for (file, row) in rows.iter_mut().filter(|(_, row)| row.failure.is_none()) {
                eprintln!("{} {run}: {}", group.id, row.subject.name);
                match self.one(group, row.subject, file) {
                    Ok(samples) => row.samples.extend(samples),
                    Err(error) => row.failure = Some(format!("failed: {error}")),
                }
            }
        }
        Ok(Table { group, rows: rows.into_iter().map(|(_, row)| row).collect() })
    }

    /// Why a subject is not measured at all.
    fn absence(&self, subject: &Subject) -> Option<String> {
        let is_absent = matches!(subject.how, How::Torch(_)) && self.python.is_none();
        is_absent.then(|| "not measured: PyTorch was not there".to_owned())
    }

    fn one(&self, group: &Group, subject: &Subject, file: &Path) -> Outcome<Vec<Sample>> {
        let out = self.arguments.folder.join("written");
        let mut command = match (subject.how, &self.python) {
            (How::Torch(work), Some(python)) => {
                let mut command = Command::new(python);
                command.args([PEER, work, &group.rounds.to_string()]);
                command
            }
            _ => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["--one", group.id, subject.name]).env(ptser::CLI, &self.cli);
                command
            }
        };
        let output = command.arg(file).arg(&out).output();
        if fs::remove_file(&out).is_ok() {
            // The next one shall not wait for what this one wrote.
            sync();
        }
        let samples = text(&output?)?.lines().map(str::parse).collect::<Outcome<Vec<Sample>>>()?;
        let expected = subject.fixture.tensors();
        match samples.iter().find(|sample| sample.tensors != expected) {
            None => Ok(samples),
            Some(sample) => Err(format!("{} tensors of {expected}", sample.tensors).into()),
        }
    }
}

/// What a process printed; its last words where it failed.
fn text(output: &Output) -> Outcome<String> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(words.lines().last().unwrap_or("without a word").into())
}

/// Builds the program `ptser` beside this one.
fn build_cli() -> Outcome<PathBuf> {
    let this = std::env::current_exe()?;
    let target = this.ancestors().nth(2).ok_or("this program lies in no target folder")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    eprintln!("builds the program ptser");
    let status = Command::new(cargo)
        .args(["build", "--release", "--quiet", "--package", "ptser-cli", "--manifest-path", WORKSPACE])
        .arg("--target-dir")
        .arg(target)
        .status()?;
    if !status.success() {
        return Err("the program ptser could not be built".into());
    }
    Ok(target.join("release/ptser"))
}
