//! Storages onto a CUDA device and back, beside one copy between pinned memory and the device, and PyTorch: same file,
//! same machine, one run.
//!
//! ```text
//! python benches/make.py DIR                      # once: large.pt has 1 GiB in 300 storages
//! PTSER_PYTHON=python cargo bench --features cuda --bench cuda -- DIR
//! ```
//!
//! The device is in use before anything is timed, and all copies to it are done when a time ends. Subjects take turns,
//! and the table shows medians. The file is read once before, so that all find it in the page cache.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use ptser::backends::cuda::driver::{Driver, Failure, Stream};
use ptser::backends::cuda::{Cuda, CudaStorage, Native, backend};
use ptser::{Availability, Backend, Checkpoint, LoadOptions, Registry, Restored};

type Outcome<T> = Result<T, Box<dyn Error>>;

const RUNS: usize = 5;
const FILE: &str = "large.pt";
const TORCH: &str = "torch.load(map_location=\"cuda\")";

/// Subjects with the seconds that each of their runs took. The first of a direction is what the others are compared with.
type Table = Vec<(&'static str, Vec<f64>)>;

fn main() -> Outcome<()> {
    // cargo bench adds --bench.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let [folder] = args.as_slice() else {
        println!("cuda: skipped, no folder given; see the head of benches/cuda.rs");
        return Ok(());
    };
    match backend().availability() {
        Availability::Devices(_) => compare(&Path::new(folder).join(FILE)),
        other => {
            println!("cuda: skipped: {other:?}");
            Ok(())
        }
    }
}

fn compare(file: &Path) -> Outcome<()> {
    std::io::copy(&mut std::fs::File::open(file)?, &mut std::io::sink())?;
    let checkpoint = Checkpoint::open(file)?;
    let mapped = LoadOptions::new().mmap(true).open(file)?;
    let nbytes = usize::try_from(checkpoint.storages().iter().map(ptser::Storage::nbytes).sum::<u64>())?;
    let unpinned = Registry::linked()?.without("cuda").with(Cuda::new().pinned_downloads(false))?;
    let registry = Registry::linked()?;
    drop((place(&checkpoint, &registry)?, place(&checkpoint, &unpinned)?));

    let (mut up, mut down) = (Table::new(), Table::new());
    for _ in 0..RUNS {
        let (there, back) = plain_copies(nbytes).map_err(|Failure(why)| why)?;
        note(&mut up, "one copy from pinned memory", there);
        note(&mut down, "one copy to pinned memory", back);
        for (name, checkpoint) in [("ptser, from a file", &checkpoint), ("ptser, from a mapping", &mapped)] {
            let start = Instant::now();
            let placed = place(checkpoint, &registry)?;
            note(&mut up, name, start.elapsed().as_secs_f64());
            if name == "ptser, from a file" {
                note(&mut down, "ptser, pinned", fetch(&placed)?);
            }
        }
        note(&mut down, "ptser, not pinned", fetch(&place(&checkpoint, &unpinned)?)?);
        match std::env::var_os("PTSER_PYTHON") {
            Some(python) => note(&mut up, TORCH, torch(&python, file)?),
            None => note(&mut up, "torch: not run, PTSER_PYTHON is not set", f64::NAN),
        }
    }
    println!("{nbytes} bytes in {} storages\n", checkpoint.storages().len());
    println!("{:<42} {:>10} {:>10} {:>22}", "onto the device", "median ms", "GB/s", "rate / the first's");
    show(&up, nbytes);
    println!("{:<42} {:>10} {:>10} {:>22}", "\nand back", "median ms", "GB/s", "rate / the first's");
    show(&down, nbytes);
    Ok(())
}

/// Places all storages, and waits for the last copy.
fn place(checkpoint: &Checkpoint, registry: &Registry) -> Outcome<Restored> {
    let placed = checkpoint.restore(registry, &"cuda:0".into())?;
    for (_, storage) in placed.iter() {
        storage.as_any().downcast_ref::<CudaStorage>().map_or(Ok(()), CudaStorage::wait)?;
    }
    Ok(placed)
}

/// The seconds that it takes to have all storages on the host, each for a moment.
fn fetch(placed: &Restored) -> Outcome<f64> {
    let start = Instant::now();
    for (_, storage) in placed.iter() {
        drop(std::hint::black_box(storage.to_host()?));
    }
    Ok(start.elapsed().as_secs_f64())
}

/// The seconds of one copy to the device, and of one back.
fn plain_copies(nbytes: usize) -> Result<(f64, f64), Failure> {
    let stream = Native.open(&Native.context(0)?)?;
    let (mut pinned, mut memory) = (stream.alloc_pinned(nbytes)?, stream.alloc(nbytes)?);
    // The memory is there when the first copy is timed.
    stream.upload_now(pinned.as_ref(), &mut memory)?;
    let start = Instant::now();
    stream.upload_now(pinned.as_ref(), &mut memory)?;
    let there = start.elapsed().as_secs_f64();
    let start = Instant::now();
    stream.download_now(&memory, pinned.as_mut())?;
    Ok((there, start.elapsed().as_secs_f64()))
}

/// The seconds of PyTorch's load, in a process of its own, the import and the device's beginning left out.
fn torch(python: &std::ffi::OsStr, file: &Path) -> Outcome<f64> {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/torch_load.py");
    let output =
        Command::new(python).arg(script).arg(file).args(["--runs", "2", "--device", "cuda"]).output()?;
    let text = String::from_utf8(output.stdout)?;
    let seconds = text.split_whitespace().find_map(|word| word.parse().ok().filter(|_| word.contains('.')));
    seconds.ok_or_else(|| format!("torch.load failed: {}", String::from_utf8_lossy(&output.stderr)).into())
}

fn note(table: &mut Table, name: &'static str, seconds: f64) {
    match table.iter_mut().find(|(noted, _)| *noted == name) {
        Some((_, runs)) => runs.push(seconds),
        None => table.push((name, vec![seconds])),
    }
}

fn show(table: &Table, nbytes: usize) {
    let gigabytes = nbytes as f64 / 1e9;
    let first = table.first().map_or(f64::NAN, |(_, runs)| median(runs));
    for (name, runs) in table {
        let seconds = median(runs);
        println!(
            "{name:<42} {:>10.1} {:>10.2} {:>22.2}",
            seconds * 1e3,
            gigabytes / seconds,
            first / seconds
        );
    }
}

fn median(runs: &[f64]) -> f64 {
    let mut runs = runs.to_vec();
    runs.sort_by(f64::total_cmp);
    runs.get(runs.len() / 2).copied().unwrap_or(f64::NAN)
}
