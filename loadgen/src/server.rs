//! Processes as the kernel sees them: what the server costs, and what the generator does.

use std::ffi::OsString;
use std::time::Duration;

use ringmq::rt;

use crate::outcome::{Machine, ServerUse, number};

/// CPU time of each thread of a process. `schedstat` counts run time to the nanosecond; ticks
/// would be too coarse for a run of seconds. `None` when there is no such process, or not for us.
fn thread_times(pid: u32) -> Option<Vec<(OsString, Duration)>> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let times = tasks.flatten().filter_map(|task| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        Some((task.file_name(), run_time(&text)))
    });
    Some(times.collect())
}

/// The part of a core from which on it counts as used up.
pub(crate) const SATURATED: f64 = 0.95;

/// The first figure of `schedstat`.
fn run_time(schedstat: &str) -> Duration {
    let run_ns = schedstat.split_whitespace().next();
    Duration::from_nanos(run_ns.and_then(|ns| ns.parse().ok()).unwrap_or(0))
}

/// Resident memory of a process, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    pub resident: u64,
    /// The part that is the process's own.
    pub anonymous: u64,
    /// The part that mirrors files.
    pub file: u64,
}

/// The memory of a process; `None` when there is no such process.
pub(crate) fn memory(pid: u32) -> Option<Memory> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(Memory {
        resident: kibibytes(&status, "VmRSS:")?,
        anonymous: kibibytes(&status, "RssAnon:")?,
        file: kibibytes(&status, "RssFile:")?,
    })
}

/// Bytes that a process has caused to be written to storage. Pages that are written back of a
/// mapping count when they are dirtied.
fn written_bytes(pid: u32) -> Option<u64> {
    let io = std::fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    let line = io
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes:"))?;
    line.trim().parse().ok()
}

fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// Processors that a process may use.
fn allowed_processors(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed:"))?;
    let digits = mask.chars().filter_map(|digit| digit.to_digit(16));
    Some(digits.map(u32::count_ones).sum())
}

/// A process's account at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pid: u32,
    at: rt::Instant,
    threads: Vec<(OsString, Duration)>,
    written_bytes: Option<u64>,
}

impl Account {
    /// Reads it; `None` when there is no such process.
    pub(crate) fn read(pid: u32) -> Option<Self> {
        Some(Self {
            pid,
            at: rt::now(),
            threads: thread_times(pid)?,
            written_bytes: written_bytes(pid),
        })
    }

    /// Reads that of the same process again.
    pub(crate) fn now(&self) -> Option<Self> {
        Self::read(self.pid)
    }

    /// Processors in use since an earlier account.
    fn cores(&self, earlier: &Self) -> f64 {
        self.cpu_since(earlier).as_secs_f64() / self.seconds_since(earlier)
    }

    fn seconds_since(&self, earlier: &Self) -> f64 {
        self.at.since(earlier.at).as_secs_f64().max(1e-9)
    }

    /// Threads that ended meanwhile are left out.
    fn cpu_since(&self, earlier: &Self) -> Duration {
        self.threads
            .iter()
            .map(|thread| thread_since(thread, earlier))
            .sum()
    }

    /// CPU time since an earlier account, in microseconds for each of so many messages.
    pub(crate) fn cpu_us_each(&self, earlier: &Self, messages: u64) -> f64 {
        self.cpu_since(earlier).as_secs_f64() * 1e6 / number(messages.max(1))
    }

    /// What the process used since an earlier account, for so many messages.
    pub(crate) fn used_since(&self, earlier: &Self, messages: u64) -> ServerUse {
        let written = self.written_bytes.zip(earlier.written_bytes);
        ServerUse {
            cpu_us_each: self.cpu_us_each(earlier, messages),
            cores: self.cores(earlier),
            resident_bytes: memory(self.pid).unwrap_or_default().resident,
            written_bytes_each: written
                .map(|(now, before)| number(now.saturating_sub(before)) / number(messages.max(1))),
        }
    }

    /// Whether the process could not have done more since an earlier account: one of its threads
    /// had a core to itself all the time, or it used all processors that it may use.
    pub(crate) fn was_saturated(&self, earlier: &Self) -> bool {
        let busiest = self
            .threads
            .iter()
            .map(|thread| thread_since(thread, earlier).as_secs_f64())
            .fold(0.0, f64::max);
        let allowed = allowed_processors(self.pid).map_or(f64::INFINITY, f64::from);
        busiest >= SATURATED * self.seconds_since(earlier)
            || self.cores(earlier) >= SATURATED * allowed
    }
}

/// CPU time of a thread since an earlier account of its process.
fn thread_since((name, now): &(OsString, Duration), earlier: &Account) -> Duration {
    let before = earlier.threads.iter().find(|(other, _)| other == name);
    now.saturating_sub(before.map_or(Duration::ZERO, |(_, time)| *time))
}

/// The machine that we run on.
pub(crate) fn machine() -> Machine {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let described = read("/proc/cpuinfo");
    let model = described.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == "model name").then(|| value.trim().to_owned())
    });
    let memory = read("/proc/meminfo");
    Machine {
        processors,
        model: model.unwrap_or_default(),
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        memory_bytes: kibibytes(&memory, "MemTotal:").unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ringmq::rt;

    use super::{Account, machine};

    #[test]
    fn a_process_that_works_spends_time() {
        let own = std::process::id();
        let before = Account::read(own).unwrap();
        let worked = || Account::read(own).unwrap().cpu_since(&before);
        let until = rt::now().after(Duration::from_secs(30));
        while worked() < Duration::from_millis(20) && rt::now() < until {}
        let used = Account::read(own).unwrap().used_since(&before, 1000);
        assert!(used.cpu_us_each >= 20.0, "{used:?}");
        assert!(used.cores > 0.0 && used.resident_bytes > 0, "{used:?}");
    }

    #[test]
    fn a_process_that_is_not_there_has_no_account() {
        assert!(Account::read(u32::MAX).is_none());
    }

    #[test]
    fn the_machine_is_described() {
        let machine = machine();
        assert!(machine.processors > 0 && machine.memory_bytes > 1 << 20);
        assert!(!machine.kernel.is_empty());
    }
}
