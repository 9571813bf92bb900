//! A measurement in this process: the time that something takes, and the memory.

use std::fmt;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::str::FromStr;
use std::time::Instant;

use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::unistd::{Pid, sync};

use crate::Outcome;

/// What a subject works on.
pub struct Job<'j> {
    /// What is read.
    pub file: &'j Path,
    /// What may be written.
    pub out: &'j Path,
    /// How many tensors are in the file.
    pub tensors: usize,
    /// How often the work is done. Of several, the first time is not looked at.
    pub rounds: usize,
}

/// What was measured.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    pub seconds: f64,
    /// By how much the most memory exceeds that before; pages of a mapped file count.
    pub peak_mib: f64,
    /// By how much anonymous memory has grown in the end; unknown of a child.
    pub anonymous_mib: Option<f64>,
    /// How many tensors there were.
    pub tensors: usize,
}

/// Measures `work`, which tells how many tensors there were, and gives what is to be kept until memory is measured.
///
/// Named as it is for valgrind: see docs/benchmarks.md.
#[inline(never)]
pub fn measure<T>(job: &Job, mut work: impl FnMut() -> Outcome<(usize, T)>) -> Outcome<Vec<Sample>> {
    let first = once(&mut work)?;
    if job.rounds == 1 {
        return Ok(vec![first]);
    }
    let rounds = (1..job.rounds).map(|_| {
        // The next one shall not wait for what the last one wrote.
        fs::remove_file(job.out)?;
        sync();
        // Memory is looked at the first time: later ones find there what the first has left.
        Ok(Sample { seconds: once(&mut work)?.seconds, ..first })
    });
    rounds.collect()
}

fn once<T>(work: impl FnOnce() -> Outcome<(usize, T)>) -> Outcome<Sample> {
    // The peak starts from here.
    fs::write("/proc/self/clear_refs", "5").ok();
    let (before, anonymous_before) = (memory_mib("VmRSS:"), memory_mib("RssAnon:"));
    let start = Instant::now();
    let (tensors, kept) = work()?;
    let seconds = start.elapsed().as_secs_f64();
    let peak_mib = (memory_mib("VmHWM:") - before).max(0.0);
    let anonymous_mib = Some((memory_mib("RssAnon:") - anonymous_before).max(0.0));
    // What it takes to give memory back is not measured.
    drop(black_box(kept));
    Ok(Sample { seconds, peak_mib, anonymous_mib, tensors })
}

/// Keeps this process, and the threads that it will start, to one core.
pub fn on_one_core() -> Outcome<()> {
    let mut one = CpuSet::new();
    one.set(sched_getcpu()?)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &one)?)
}

/// A field of this process's status.
fn memory_mib(field: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok())
        .map_or(f64::NAN, |kib| kib / 1024.0)
}

/// As one process tells another; so does peer.py.
impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seconds, peak_mib, anonymous_mib, tensors } = self;
        write!(f, "{seconds} {peak_mib} {} {tensors}", anonymous_mib.unwrap_or(f64::NAN))
    }
}

impl FromStr for Sample {
    type Err = Box<dyn std::error::Error>;

    fn from_str(text: &str) -> Outcome<Self> {
        let mut words = text.split_whitespace();
        let mut word = || words.next().ok_or("a measurement has four numbers");
        let (seconds, peak_mib, anonymous) = (word()?.parse()?, word()?.parse()?, word()?.parse::<f64>()?);
        let anonymous_mib = Some(anonymous).filter(|mib| mib.is_finite());
        Ok(Self { seconds, peak_mib, anonymous_mib, tensors: word()?.parse()? })
    }
}
