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
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) resident: u64,
    /// The part that is the process's own.
    pub(crate) anonymous: u64,
    /// The part that mirrors files.
    pub(crate) file: u64,
}

/// The memory of a process; `None` when there is no such process.
pub(crate) fn memory_of(pid: u32) -> Option<Memory> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        let kib = line.split_whitespace().nth(1)?.parse::<u64>().ok()?;
        Some(kib * 1024)
    };
    Some(Memory {
        resident: field("VmRSS:")?,
        anonymous: field("RssAnon:")?,
        file: field("RssFile:")?,
    })
}

/// Resident memory of a process, in bytes.
pub(crate) fn resident_bytes(pid: u32) -> Option<u64> {
    memory_of(pid).map(|memory| memory.resident)
}
