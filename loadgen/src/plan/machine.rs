//! The machine that is measured on: who runs where, and what the kernel counts.

use std::path::Path;
use std::time::Duration;

use ringmq::rt;
use rustix::thread::sched_getaffinity;

use crate::run::Options;

/// Which processors the broker gets and which the generator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Of the generator; never empty.
    generator: Vec<usize>,
    /// All that this process may run on, those of the generator last.
    all: Vec<usize>,
}

impl Place {
    /// The generator where the options put it, or on the last processor.
    pub(crate) fn of(options: &Options) -> Self {
        let pinned: Vec<usize> = options.cpus.iter().copied().flatten().collect();
        Self::among(allowed(), pinned)
    }

    fn among(allowed: Vec<usize>, pinned: Vec<usize>) -> Self {
        let generator = match (pinned.is_empty(), allowed.last()) {
            (true, Some(&last)) => vec![last],
            _ => pinned,
        };
        let (of_generator, mut all): (Vec<usize>, Vec<usize>) =
            allowed.into_iter().partition(|cpu| generator.contains(cpu));
        all.extend(of_generator);
        Self { generator, all }
    }

    pub(crate) const fn processors(&self) -> usize {
        self.all.len()
    }

    /// The processors of a broker with so many executors; empty when there are not enough.
    pub(crate) fn of_broker(&self, executors: u32) -> Vec<usize> {
        let wanted = usize::try_from(executors).unwrap_or(usize::MAX);
        self.all.get(..wanted).map_or(Vec::new(), <[usize]>::to_vec)
    }

    /// Whether a broker with so many executors leaves the generator alone.
    pub(crate) fn is_apart(&self, executors: u32) -> bool {
        let broker = self.of_broker(executors);
        !broker.is_empty() && broker.iter().all(|cpu| !self.generator.contains(cpu))
    }

    /// The generator's options beside such a broker: on its own processors it spins as it was told
    /// to; where it shares one, it must not.
    pub(crate) fn generator(&self, options: &Options, executors: u32) -> Options {
        let mut options = options.clone();
        if self.is_apart(executors) {
            options.cpus = self.generator.iter().copied().map(Some).collect();
        } else {
            options.spin = None;
        }
        options
    }

    /// What a reader should know of it.
    pub(crate) fn notes(&self, executors: &[u32]) -> Vec<String> {
        let shared = executors
            .iter()
            .filter(|&&executors| !self.is_apart(executors));
        shared
            .map(|executors| {
                format!(
                    "This machine has {} processors for this: a broker with {executors} \
                     executor(s) shared one with the generator. Its CPU time for each message is \
                     counted all the same; its rates and latencies are not the broker's alone.",
                    self.all.len()
                )
            })
            .collect()
    }
}

/// Processors that this process may run on.
fn allowed() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else {
        return Vec::new();
    };
    (0..rustix::thread::CpuSet::MAX_CPU)
        .filter(|&cpu| set.is_set(cpu))
        .collect()
}

/// Bytes that the loopback interface has sent since the machine started; all of this machine's.
pub(crate) fn loopback_bytes() -> Option<u64> {
    sent_by(&std::fs::read_to_string("/proc/net/dev").ok()?, "lo")
}

/// The ninth figure behind the name is what was sent.
fn sent_by(table: &str, interface: &str) -> Option<u64> {
    let figures = table.lines().find_map(|line| {
        let (name, figures) = line.split_once(':')?;
        (name.trim() == interface).then_some(figures)
    })?;
    figures.split_whitespace().nth(8)?.parse().ok()
}

/// Resident memory of a process.
pub(crate) fn resident_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// Whether a directory lies in memory, where a sync does nothing.
pub(crate) fn is_memory(directory: &Path) -> bool {
    const TMPFS: u64 = 0x0102_1994;
    let kind = rustix::fs::statfs(directory).map(|stat| u64::try_from(stat.f_type));
    matches!(kind, Ok(Ok(TMPFS)))
}

/// Unix milliseconds.
pub(crate) fn unix_ms() -> u64 {
    u64::try_from(rt::unix_ns()).unwrap_or(0) / 1_000_000
}

/// Lets the broker be alone for a while.
#[allow(
    clippy::disallowed_methods,
    reason = "this is the main thread, on which no executor runs"
)]
pub(crate) fn wait(time: Duration) {
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generator_gets_the_last_processor_and_the_broker_the_first_ones() {
        let place = Place::among(vec![0, 1, 2, 3], Vec::new());
        assert_eq!(place.of_broker(2), [0, 1]);
        assert!(place.is_apart(1) && place.is_apart(3) && !place.is_apart(4));
        let options = place.generator(&Options::default(), 1);
        assert_eq!(options.cpus, [Some(3)]);
    }

    #[test]
    fn pinned_generator_keeps_its_processors() {
        let place = Place::among(vec![0, 1, 2, 3], vec![0]);
        assert_eq!(place.of_broker(2), [1, 2]);
        assert!(place.is_apart(3) && !place.is_apart(4));
    }

    #[test]
    fn where_processors_are_shared_nobody_spins_and_the_page_says_so() {
        let place = Place::among(vec![0, 1], Vec::new());
        let options = Options {
            spin: Some(Duration::from_millis(1)),
            ..Options::default()
        };
        assert_eq!(place.generator(&options, 1).spin, options.spin);
        assert_eq!(place.generator(&options, 2).spin, None);
        assert_eq!(place.notes(&[1, 2]).len(), 1);
        assert_eq!(place.of_broker(3), [0_usize; 0]);
    }

    #[test]
    fn sent_bytes_are_read_from_the_kernels_table() {
        let table = "Inter-|   Receive    |  Transmit\n face |bytes\n    lo: 11 2 0 0 0 0 0 0 77 2 \
                     0 0 0 0 0 0\n  eth0: 5 1 0 0 0 0 0 0 6 1 0 0 0 0 0 0\n";
        assert_eq!(sent_by(table, "lo"), Some(77));
        assert_eq!(sent_by(table, "wlan0"), None);
    }
}
