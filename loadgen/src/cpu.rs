//! What the server spends, as the kernel counts it.

use std::time::Duration;

/// CPU time of all threads of a process. `schedstat` counts run time to the nanosecond; ticks
/// would be too coarse for a run of seconds.
pub(crate) fn time_of(pid: u32) -> Option<Duration> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let mut total_ns = 0_u64;
    for task in tasks.flatten() {
        let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        let run_ns = text
            .split_whitespace()
            .next()
            .and_then(|ns| ns.parse::<u64>().ok());
        total_ns += run_ns.unwrap_or(0);
    }
    Some(Duration::from_nanos(total_ns))
}

/// Resident memory of a process, in bytes.
pub(crate) fn resident_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace()
        .nth(1)?
        .parse::<u64>()
        .ok()
        .map(|kib| kib * 1024)
}
