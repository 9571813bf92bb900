//! Saving 1 GiB of tensors beside safetensors, candle, PyTorch, and a plain write of the same bytes: same data, same
//! disk, one run.
//!
//! ```text
//! PTSER_PYTHON=python cargo bench --bench save -- DIR      # 2 GiB of disk, which are left as they were
//! ```
//!
//! Each measurement is a process of its own, that has its tensors in memory before it begins, and writes a new file;
//! what was written before has reached the disk by then. Subjects take turns, and the table shows medians. The peak is
//! memory beyond the tensors.

use std::collections::HashMap;
use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use candle_core::{Device, Tensor};
use ptser::SaveOptions;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

type Outcome<T> = Result<T, Box<dyn Error>>;

const RUNS: usize = 5;
const TENSORS: u32 = 300;
/// The largest tensor; the smallest has 1 KiB, and the sizes are spread evenly on a logarithmic scale.
const LARGEST: f64 = (36 << 20) as f64;

/// What is measured; each group is compared with its first.
const SUBJECTS: [Subject; 9] = [
    Subject { name: "plain write", group: "cached", how: How::Here("plain") },
    Subject { name: "ptser", group: "cached", how: How::Here("ptser") },
    Subject { name: "ptser, no CRC", group: "cached", how: How::Here("ptser-no-crc") },
    Subject { name: "safetensors", group: "cached", how: How::Here("safetensors") },
    Subject { name: "candle: safetensors::save", group: "cached", how: How::Here("candle") },
    Subject { name: "torch.save", group: "cached", how: How::Torch },
    Subject { name: "plain write, sync_all", group: "on disk", how: How::Here("plain-sync") },
    Subject { name: "ptser", group: "on disk", how: How::Here("ptser-sync") },
    Subject { name: "ptser, no CRC", group: "on disk", how: How::Here("ptser-no-crc-sync") },
];

struct Subject {
    name: &'static str,
    group: &'static str,
    how: How,
}

enum How {
    /// This program again.
    Here(&'static str),
    /// `torch_save.py`.
    Torch,
}

struct Measured {
    seconds: f64,
    peak_mib: f64,
}

fn main() -> Outcome<()> {
    // cargo bench adds --bench.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.as_slice() {
        [flag, what, folder] if flag == "--one" => one(what, Path::new(folder)),
        [folder] => compare(Path::new(folder)),
        _ => {
            println!("save: skipped, no folder given; see the head of benches/save.rs");
            Ok(())
        }
    }
}

/// Measures one subject in this process.
fn one(what: &str, folder: &Path) -> Outcome<()> {
    let (data, out) = (folder.join("data.pt"), folder.join("saved"));
    let options = SaveOptions::new().durable(what.ends_with("-sync")).crc32(!what.contains("no-crc"));
    let measured = match what {
        "plain" | "plain-sync" => {
            let bytes = fs::read(data)?;
            measure(|| {
                let mut file = File::create(out)?;
                file.write_all(&bytes)?;
                if what == "plain-sync" {
                    file.sync_all()?;
                }
                Ok(())
            })
        }
        "safetensors" => {
            let checkpoint = ptser::Checkpoint::open(data)?;
            let tensors = checkpoint.tensors().map(|(name, tensor)| {
                Ok((name.to_owned(), tensor.shape().to_vec(), tensor.to_contiguous()?.into_owned()))
            });
            let tensors = tensors.collect::<Outcome<Vec<_>>>()?;
            measure(|| {
                let views = tensors.iter().map(|(name, shape, bytes)| {
                    Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?))
                });
                let views = views.collect::<Outcome<Vec<_>>>()?;
                Ok(safetensors::serialize_to_file(views, None, &out)?)
            })
        }
        "candle" => {
            let tensors: HashMap<String, Tensor> = ptser::candle::load(data, &Device::Cpu)?.into_map();
            measure(|| Ok(candle_core::safetensors::save(&tensors, out)?))
        }
        _ => {
            let tensors = ptser::candle::load(data, &Device::Cpu)?;
            measure(|| Ok(ptser::candle::save_with(&options, &tensors, out)?))
        }
    }?;
    println!("{} {}", measured.seconds, measured.peak_mib);
    Ok(())
}

fn measure(save: impl FnOnce() -> Outcome<()>) -> Outcome<Measured> {
    // The peak starts from here.
    fs::write("/proc/self/clear_refs", "5").ok();
    let before = memory_mib("VmRSS:");
    let start = Instant::now();
    save()?;
    let seconds = start.elapsed().as_secs_f64();
    Ok(Measured { seconds, peak_mib: (memory_mib("VmHWM:") - before).max(0.0) })
}

/// Writes the tensors that are saved: numbers that do not repeat.
fn make(data: &Path) -> Outcome<()> {
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 40) as f32
    };
    let rows =
        |place: u32| (4.0 * (LARGEST / 1024.0).powf(f64::from(place) / f64::from(TENSORS - 1))) as usize;
    let tensors = (0..TENSORS).map(|place| {
        let numbers: Vec<f32> = (0..rows(place) * 64).map(|_| next()).collect();
        Ok((format!("blocks.{place}.weight"), Tensor::from_vec(numbers, (rows(place), 64), &Device::Cpu)?))
    });
    Ok(ptser::candle::save(tensors.collect::<Outcome<Vec<_>>>()?, data)?)
}

fn compare(folder: &Path) -> Outcome<()> {
    let python = std::env::var_os("PTSER_PYTHON");
    let (data, out) = (folder.join("data.pt"), folder.join("saved"));
    make(&data)?;
    let mut results: Vec<Vec<Measured>> = SUBJECTS.iter().map(|_| Vec::new()).collect();
    for _ in 0..RUNS {
        for (subject, results) in SUBJECTS.iter().zip(&mut results) {
            if out.exists() {
                fs::remove_file(&out)?;
            }
            Command::new("sync").status()?;
            let output = match (&subject.how, &python) {
                (How::Here(what), _) => {
                    Command::new(std::env::current_exe()?).args(["--one", what]).arg(folder).output()?
                }
                (How::Torch, Some(python)) => {
                    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/torch_save.py");
                    Command::new(python).arg(script).arg(folder).output()?
                }
                (How::Torch, None) => continue,
            };
            let text = String::from_utf8(output.stdout)?;
            let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
            let &[seconds, peak_mib] = numbers.as_slice() else {
                return Err(
                    format!("{} failed: {}", subject.name, String::from_utf8_lossy(&output.stderr)).into()
                );
            };
            results.push(Measured { seconds, peak_mib });
        }
    }
    println!("{} bytes in {TENSORS} tensors, {RUNS} runs", fs::metadata(&data)?.len());
    fs::remove_file(&data)?;
    fs::remove_file(&out)?;
    println!(
        "{:<10} {:<26} {:>10} {:>8} {:>8} {:>12} {:>10}",
        "group", "subject", "median ms", "least", "most", "× the first", "peak MiB"
    );
    let mut first = ("", 1.0);
    for (subject, results) in SUBJECTS.iter().zip(&results) {
        if results.is_empty() {
            println!(
                "{:<10} {:<26} not run: set PTSER_PYTHON to a Python that has torch",
                subject.group, subject.name
            );
            continue;
        }
        let [least, median, most] = spread(results.iter().map(|one| one.seconds));
        let [_, peak, _] = spread(results.iter().map(|one| one.peak_mib));
        if first.0 != subject.group {
            first = (subject.group, median);
        }
        println!(
            "{:<10} {:<26} {:>10.1} {:>8.1} {:>8.1} {:>12.2} {:>10.1}",
            subject.group,
            subject.name,
            median * 1e3,
            least * 1e3,
            most * 1e3,
            median / first.1,
            peak
        );
    }
    Ok(())
}

/// The least, the median, and the most.
fn spread(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    [0, values.len() / 2, values.len().saturating_sub(1)]
        .map(|place| values.get(place).copied().unwrap_or(f64::NAN))
}

/// The process's resident memory, where the system tells it.
fn memory_mib(field: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok())
        .map_or(f64::NAN, |kib| kib / 1024.0)
}
