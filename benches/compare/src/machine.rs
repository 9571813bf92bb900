//! Where and with what was measured, in a paragraph.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::arguments::Arguments;

/// Of these the lock file tells the versions.
const PEERS: [&str; 3] = ["candle-core", "pytorch-reader", "safetensors"];
const LOCK: &str = include_str!("../Cargo.lock");

/// The load of the last minute.
pub fn load() -> String {
    first_word("/proc/loadavg")
}

/// The paragraph.
pub fn describe(arguments: &Arguments, torch: Option<&str>, load_before: &str) -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let model = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".into());
    let memory = field("/proc/meminfo", "MemTotal");
    let kib: Option<f64> = memory.and_then(|text| text.split_whitespace().next()?.parse().ok());
    let kernel = first_word("/proc/sys/kernel/osrelease");
    let pages = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    let pages = pages
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'))
        .map_or("absent", |(chosen, _)| chosen);
    let rustc = Command::new("rustc").arg("--version").current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let rustc = rustc.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let peers = PEERS.map(|peer| format!("{peer} {}", version(peer).unwrap_or("?")));
    format!(
        "{cores} cores ({model}), {:.0} GiB of memory, Linux {kernel}, huge pages: {pages}, {}; {}, {}, PyTorch {}. \
         Large files of {} MiB, runs: {}. Load of the machine: {load_before} before, {} after.\n",
        kib.map_or(f64::NAN, |kib| kib / f64::from(1 << 20)),
        file_system(&arguments.folder),
        rustc.unwrap_or_else(|_| "rustc unknown".into()),
        peers.join(", "),
        torch.unwrap_or("not measured"),
        arguments.mib,
        arguments.runs,
        load(),
    )
}

fn first_word(file: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}

/// What stands behind `name:` in a file.
fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
}

/// The version of a crate in the lock file.
fn version(name: &str) -> Option<&str> {
    let entry = LOCK.split("[[package]]").find(|entry| entry.contains(&format!("name = \"{name}\"\n")))?;
    entry.split_once("version = \"")?.1.split('"').next()
}

/// The kind of file system that a folder is on.
fn file_system(folder: &Path) -> String {
    let folder = fs::canonicalize(folder).unwrap_or_default();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?, words.next()?))
    });
    let around = mounts.filter(|(place, _)| folder.starts_with(place));
    around.max_by_key(|(place, _)| place.len()).map_or("unknown file system", |(_, kind)| kind).to_owned()
}
