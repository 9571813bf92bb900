//! Scans: of every file bounded and without a panic; of those that open, the globals that opening found; of
//! attacks, the payload.

use std::path::Path;
use std::time::{Duration, Instant};

use ptser::{Checkpoint, Globals, LoadOptions};
use serde_json::Value as Json;

use crate::bad;
use crate::memory::peak_of;
use crate::oracle::text;

const SLOW: Duration = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 2 });
const LARGE: u64 = 256 << 20;

pub(crate) fn check(file: &Path, entry: &Json) -> Result<(), String> {
    let started = Instant::now();
    let (scan, peak) = peak_of(|| Checkpoint::unsafe_globals(file));
    let took = started.elapsed();
    if took > SLOW {
        return Err(format!("it took {took:?}"));
    }
    if let Some(peak) = peak.filter(|&peak| peak > LARGE) {
        return Err(format!("it took {peak} bytes"));
    }
    let opened = LoadOptions::new().globals(Globals::inert()).open(file);
    let scan = match (scan, opened) {
        (Err(error), Ok(_)) => return Err(format!("it opens, and a scan fails: {error}")),
        (Err(_), Err(_)) => return Ok(()),
        (Ok(scan), Err(_)) => scan,
        (Ok(scan), Ok(checkpoint)) => {
            let missed = checkpoint
                .globals()
                .find(|(name, _)| !scan.globals.iter().any(|global| global.name == *name));
            if let Some((name, _)) = missed {
                return Err(format!("{name} is not found: {scan:?}"));
            }
            if let Some(error) = scan.error {
                return Err(format!("it opens, and a scan finds damage: {error}"));
            }
            scan
        }
    };
    if text(entry, "expect") == "noexec" {
        let names: Vec<&str> = scan.refused().map(|global| global.name.as_str()).collect();
        if !bad::is_payload(&names, text(entry, "pytorch")) {
            return Err(format!("the payload is not among {names:?}"));
        }
    }
    Ok(())
}
