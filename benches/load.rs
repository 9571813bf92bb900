//! Opening and loading beside PyTorch's and candle's own readers: same files, same machine, one run.
//!
//! ```text
//! python benches/make.py DIR                      # once: many.pt (20,000 tensors) and large.pt (1 GiB)
//! PTSER_PYTHON=python cargo bench --bench load -- DIR
//! ```
//!
//! Each measurement is a process of its own, so that its peak memory is its own; subjects take turns, and the
//! table shows medians. Files are read once before, so that all find them in the page cache.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use candle_core::Device;

type Outcome<T> = Result<T, Box<dyn Error>>;

const RUNS: usize = 5;

/// What is measured, on which file.
const SUBJECTS: [Subject; 7] = [
    Subject { name: "ptser: open and list", file: "many.pt", how: How::Here("open") },
    Subject { name: "torch.load(mmap=True)", file: "many.pt", how: How::Torch(&["--mmap"]) },
    Subject { name: "ptser: load into candle", file: "many.pt", how: How::Here("load") },
    Subject { name: "ptser: load into candle", file: "large.pt", how: How::Here("load") },
    Subject { name: "candle: pickle::read_all", file: "large.pt", how: How::Here("candle") },
    Subject { name: "torch.load", file: "large.pt", how: How::Torch(&[]) },
    Subject { name: "memcpy from a mapping", file: "large.pt", how: How::Here("memcpy") },
];

struct Subject {
    name: &'static str,
    file: &'static str,
    how: How,
}

enum How {
    /// This program again.
    Here(&'static str),
    /// `torch_load.py` with these flags.
    Torch(&'static [&'static str]),
}

struct Measured {
    seconds: f64,
    peak_mib: f64,
}

fn main() -> Outcome<()> {
    // cargo bench adds --bench.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.as_slice() {
        [flag, what, file] if flag == "--one" => one(what, Path::new(file)),
        [folder] => compare(Path::new(folder)),
        _ => {
            println!("load: skipped, no folder given; see the head of benches/load.rs");
            Ok(())
        }
    }
}

/// Measures one subject in this process.
fn one(what: &str, file: &Path) -> Outcome<()> {
    let before = peak_mib();
    let start = Instant::now();
    let tensors = match what {
        "open" => ptser::Checkpoint::open(file)?
            .tensors()
            .map(|(name, tensor)| name.len().min(tensor.numel()))
            .sum(),
        "load" => keep(ptser::candle::load(file, &Device::Cpu)?.into_map()),
        "candle" => keep(candle_core::pickle::read_all(file)?),
        "memcpy" => keep(
            ptser::LoadOptions::new().mmap(true).open(file)?.storages().iter().map(copy).collect::<Vec<_>>(),
        ),
        other => return Err(format!("there is no subject {other}").into()),
    };
    let seconds = start.elapsed().as_secs_f64();
    println!("{seconds} {} {tensors}", (peak_mib() - before).max(0.0));
    Ok(())
}

/// One plain copy of a storage's bytes out of the mapping.
fn copy(storage: &ptser::Storage) -> Vec<u8> {
    let bytes = storage.borrow_as(ptser::DType::UInt8, ptser::ByteOrder::NATIVE);
    bytes.ok().flatten().map_or_else(Vec::new, <[u8]>::to_vec)
}

/// Counts what was loaded, and keeps it until it is counted.
fn keep<T: IntoIterator>(loaded: T) -> usize {
    loaded.into_iter().map(std::hint::black_box).collect::<Vec<_>>().len()
}

fn compare(folder: &Path) -> Outcome<()> {
    let python = std::env::var_os("PTSER_PYTHON");
    for file in ["many.pt", "large.pt"] {
        std::io::copy(&mut std::fs::File::open(folder.join(file))?, &mut std::io::sink())?;
    }
    let mut results: Vec<Vec<Measured>> = SUBJECTS.iter().map(|_| Vec::new()).collect();
    for _ in 0..RUNS {
        for (subject, results) in SUBJECTS.iter().zip(&mut results) {
            let file = folder.join(subject.file);
            let output = match (&subject.how, &python) {
                (How::Here(what), _) => {
                    Command::new(std::env::current_exe()?).args(["--one", what]).arg(file).output()?
                }
                (How::Torch(flags), Some(python)) => {
                    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/torch_load.py");
                    Command::new(python).arg(script).arg(file).args(["--runs", "1"]).args(*flags).output()?
                }
                (How::Torch(_), None) => continue,
            };
            let text = String::from_utf8(output.stdout)?;
            let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
            let [seconds, peak_mib, ..] = *numbers.as_slice() else {
                return Err(
                    format!("{} failed: {}", subject.name, String::from_utf8_lossy(&output.stderr)).into()
                );
            };
            results.push(Measured { seconds, peak_mib });
        }
    }
    println!("{:<10} {:<26} {:>10} {:>12} {:>12}", "file", "subject", "median ms", "× the first", "peak MiB");
    let mut first = ("", 1.0);
    for (subject, results) in SUBJECTS.iter().zip(&results) {
        if results.is_empty() {
            println!(
                "{:<10} {:<26} not run: set PTSER_PYTHON to a Python that has torch",
                subject.file, subject.name
            );
            continue;
        }
        let seconds = median(results.iter().map(|one| one.seconds));
        if first.0 != subject.file {
            first = (subject.file, seconds);
        }
        let peak = median(results.iter().map(|one| one.peak_mib));
        let milliseconds = Duration::from_secs_f64(seconds).as_secs_f64() * 1e3;
        println!(
            "{:<10} {:<26} {milliseconds:>10.1} {:>12.2} {peak:>12.1}",
            subject.file,
            subject.name,
            seconds / first.1
        );
    }
    Ok(())
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The process's peak resident memory, where the system tells it.
fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok())
        .map_or(f64::NAN, |kib| kib / 1024.0)
}
