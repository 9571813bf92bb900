//! ptser beside its peers and beside what the machine can do: the same files, one run.
//!
//! ```text
//! PTSER_PYTHON=python cargo run --release --manifest-path benches/compare/Cargo.toml -- DIR
//! ```
//!
//! See docs/benchmarks.md.

mod arguments;
mod fixtures;
mod groups;
mod machine;
mod page;
mod plot;
mod sample;
mod subjects;
mod table;
mod turns;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use arguments::{Arguments, Asked};
use sample::Job;
use subjects::How;
use turns::Turns;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome<ExitCode> {
    match arguments::parse(std::env::args().skip(1))? {
        Asked::Compare(arguments) => compare(&arguments),
        Asked::One { group, subject, file, out } => one(&group, &subject, &file, &out),
    }
}

/// Measures one subject in this process.
fn one(group: &str, subject: &str, file: &Path, out: &Path) -> Outcome<ExitCode> {
    let group = groups::ALL.iter().find(|each| each.id == group).ok_or("no such group")?;
    let subject = group.subjects.iter().find(|each| each.name == subject).ok_or("no such subject")?;
    let How::Here(work) = subject.how else { return Err("peer.py measures this subject".into()) };
    for sample in work(&Job { file, out, tensors: subject.fixture.tensors(), rounds: group.rounds })? {
        println!("{sample}");
    }
    Ok(ExitCode::SUCCESS)
}

fn compare(arguments: &Arguments) -> Outcome<ExitCode> {
    let turns = Turns::new(arguments)?;
    let load_before = machine::load();
    let mut tables = Vec::new();
    for group in arguments.groups() {
        let table = turns.measure(group)?;
        println!("{table}");
        tables.push(table);
    }
    let machine = machine::describe(arguments, turns.torch(), &load_before);
    println!("{machine}");
    if arguments.write {
        page::write(&machine, &tables)?;
    }
    Ok(if tables.iter().any(table::Table::has_failed) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
