//! How much memory a piece of work takes at its peak, where the system tells.

/// Runs `work`, and tells the bytes that the process grew by at its peak; `None` where the system does not tell.
pub(crate) fn peak_of<T>(work: impl FnOnce() -> T) -> (T, Option<u64>) {
    let reset = std::fs::write("/proc/self/clear_refs", "5").is_ok();
    let before = status("VmRSS:");
    let value = work();
    let peak = before.zip(status("VmHWM:")).map(|(before, peak)| peak.saturating_sub(before));
    (value, peak.filter(|_| reset))
}

/// One line of the process's status, in bytes.
fn status(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}
