//! The machine, as far as the configuration depends on it: processors, limits, memory, kernel.
//!
//! Read once at the start, from system calls, `/proc` and `/sys`. Whether io_uring itself works is
//! asked by `rt::probe`.

mod cgroup;
mod interrupts;
mod placement;

use std::fs;
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity};

pub use placement::CpuPlacement;

/// The oldest kernel that has what the broker needs of io_uring.
const KERNEL_MIN: Kernel = Kernel {
    major: 5,
    minor: 11,
};

/// Lockable memory below which the runtime refuses to make an executor.
const MEMLOCK_MIN: u64 = 512 << 10;

/// Lockable memory below which registered buffers are not possible for all executors.
const MEMLOCK_RECOMMENDED: u64 = 8 << 20;

/// Open files below which the broker serves few clients.
const NOFILE_RECOMMENDED: u64 = 4096;

/// Open files that are not for connections: the store, the log, listeners.
const FILES_RESERVED: u64 = 128;

/// Open files of one executor: its rings, timers, inbox.
const FILES_PER_CORE: u64 = 32;

/// Something that an operator should know, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How serious it is.
    pub level: Level,
    /// What was found, in one sentence without a full stop.
    pub what: String,
    /// What helps.
    pub remedy: String,
}

/// How serious a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The broker runs, worse than it could.
    Warning,
    /// The broker does not start.
    Refusal,
}

impl Finding {
    /// A finding with which the broker runs.
    #[must_use]
    pub const fn warning(what: String, remedy: String) -> Self {
        Self {
            level: Level::Warning,
            what,
            remedy,
        }
    }

    /// A finding with which it does not start.
    #[must_use]
    pub const fn refusal(what: String, remedy: String) -> Self {
        Self {
            level: Level::Refusal,
            what,
            remedy,
        }
    }

    /// Whether the broker does not start.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        self.level == Level::Refusal
    }
}

/// What was read of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The name of the host.
    pub host_name: String,
    /// Ids of the processors that this process may run on.
    pub cpus: Vec<usize>,
    /// Processors on which network cards interrupt.
    pub interrupt_cpus: Vec<usize>,
    /// Processor time that the control group allows, in thousandths of a processor.
    pub quota_millis: Option<u64>,
    /// Version of the kernel; `None` when it does not look like one.
    pub kernel: Option<Kernel>,
    /// Memory that may be locked; `None` is without limit.
    pub memlock_bytes: Option<u64>,
    /// Files that may be open once the soft limit is raised; `None` is without limit.
    pub files: Option<u64>,
    /// Memory of the machine or of the control group, whichever is less.
    pub memory_bytes: Option<u64>,
}

/// Version of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kernel {
    /// As the 6 of 6.1.
    pub major: u32,
    /// As the 1 of 6.1.
    pub minor: u32,
}

/// A made-up machine: one core, no limits but one of 4,096 files.
impl Default for Machine {
    fn default() -> Self {
        Self {
            host_name: "localhost".to_owned(),
            cpus: vec![0],
            interrupt_cpus: Vec::new(),
            quota_millis: None,
            kernel: Some(KERNEL_MIN),
            memlock_bytes: None,
            files: Some(NOFILE_RECOMMENDED),
            memory_bytes: None,
        }
    }
}

impl Machine {
    /// Reads this machine. What cannot be read counts as unlimited, and as one processor.
    #[must_use]
    pub fn read() -> Self {
        let names = rustix::system::uname();
        let control = cgroup::Limits::read(Path::new("/"));
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let memory = [memory_total(&memory), control.memory_bytes];
        Self {
            host_name: host_name(&names.nodename().to_string_lossy()),
            cpus: available_cpus(),
            interrupt_cpus: interrupts::network_cpus(Path::new("/")),
            quota_millis: control.cpu_millis,
            kernel: Kernel::parse(&names.release().to_string_lossy()),
            // The soft limits are raised to the hard ones before anything depends on them.
            memlock_bytes: getrlimit(Resource::Memlock).maximum,
            files: getrlimit(Resource::Nofile).maximum,
            memory_bytes: memory.into_iter().flatten().min(),
        }
    }

    /// Cores that executors can have: the processors of this process, or fewer by the quota, which
    /// is rounded up because a part of a core still serves.
    #[must_use]
    pub fn usable_cores(&self) -> usize {
        let quota = self.quota_millis.map_or(usize::MAX, |millis| {
            usize::try_from(millis.div_ceil(1000)).unwrap_or(usize::MAX)
        });
        self.cpus.len().min(quota).max(1)
    }

    /// Connections that the limit of open files leaves room for.
    #[must_use]
    pub fn connections_max(&self, cores: usize) -> usize {
        let cores = u64::try_from(cores).unwrap_or(u64::MAX);
        let reserved = FILES_PER_CORE
            .saturating_mul(cores)
            .saturating_add(FILES_RESERVED);
        // Without a limit of files, a million connections are one all the same.
        let files = self.files.unwrap_or(u64::MAX).min(1_000_000);
        usize::try_from(files.saturating_sub(reserved))
            .unwrap_or(usize::MAX)
            .max(1)
    }

    /// What is wrong with it for a broker.
    #[must_use]
    pub fn checks(&self) -> Vec<Finding> {
        [
            self.check_kernel(),
            self.check_memlock(),
            self.check_files(),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn check_kernel(&self) -> Option<Finding> {
        let Kernel { major, minor } = self.kernel.filter(|kernel| *kernel < KERNEL_MIN)?;
        Some(Finding::refusal(
            format!("kernel {major}.{minor} is too old for io_uring as RingMQ uses it"),
            "RingMQ needs Linux 5.11 or newer; 6.1 or newer is recommended (uname -r)".to_owned(),
        ))
    }

    fn check_memlock(&self) -> Option<Finding> {
        let bytes = self
            .memlock_bytes
            .filter(|bytes| *bytes < MEMLOCK_RECOMMENDED)?;
        let remedy = "raise it to 8 MiB or more: `ulimit -l 8192`, LimitMEMLOCK=8M in a systemd \
                      unit, --ulimit memlock=8388608 for a container";
        let what = |means: &str| format!("the memlock limit is {} KiB: {means}", bytes >> 10);
        Some(if bytes < MEMLOCK_MIN {
            Finding::refusal(what("io_uring needs at least 512 KiB"), remedy.to_owned())
        } else {
            Finding::warning(what("less than the recommended 8 MiB"), remedy.to_owned())
        })
    }

    fn check_files(&self) -> Option<Finding> {
        let files = self.files.filter(|files| *files < NOFILE_RECOMMENDED)?;
        Some(Finding::warning(
            format!("the nofile limit is {files}: each connection takes one open file"),
            "raise it: `ulimit -n 65536`, LimitNOFILE=65536 in a systemd unit, \
             --ulimit nofile=65536 for a container"
                .to_owned(),
        ))
    }
}

impl Kernel {
    /// Reads a release as `6.1.0-18-amd64`.
    fn parse(release: &str) -> Option<Self> {
        let mut parts = release.split(|c: char| !c.is_ascii_digit());
        let major = parts.next()?.parse().ok()?;
        let minor = parts.next()?.parse().ok()?;
        Some(Self { major, minor })
    }
}

/// What is wrong with this machine for a broker.
#[must_use]
pub fn checks() -> Vec<Finding> {
    Machine::read().checks()
}

/// Ids of the processors that this process may run on, ascending; 0 alone if that is unknown.
#[must_use]
pub fn available_cpus() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else {
        return vec![0];
    };
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU)
        .filter(|cpu| set.is_set(*cpu))
        .collect();
    if cpus.is_empty() { vec![0] } else { cpus }
}

/// Raises the soft limits of open files and of lockable memory to the hard ones. To be called
/// before executors and connections are made.
///
/// A limit that cannot be raised stays as it is: the checks then say whether it is too low.
pub fn raise_limits() {
    for resource in [Resource::Nofile, Resource::Memlock] {
        let Rlimit { current, maximum } = getrlimit(resource);
        if current != maximum {
            let raised = Rlimit {
                current: maximum,
                maximum,
            };
            if let Err(error) = setrlimit(resource, raised) {
                tracing::debug!(?resource, %error, "cannot raise a limit");
            }
        }
    }
}

/// A host name that can be the name of a node: never empty, no white space.
fn host_name(name: &str) -> String {
    let plain: String = name
        .chars()
        .filter(|c| !c.is_whitespace() && !c.is_control())
        .collect();
    if plain.is_empty() {
        "localhost".to_owned()
    } else {
        plain
    }
}

/// Reads the line `MemTotal:  16384 kB`.
fn memory_total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(machine: &Machine) -> Vec<Level> {
        machine
            .checks()
            .into_iter()
            .map(|finding| finding.level)
            .collect()
    }

    #[test]
    fn quota_rounds_up_and_never_below_one() {
        let cores = |count: usize, quota_millis: Option<u64>| {
            let cpus = (0..count).collect();
            Machine {
                cpus,
                quota_millis,
                ..Machine::default()
            }
            .usable_cores()
        };
        let none: Option<u64> = None;
        assert_eq!(
            [cores(8, none), cores(8, Some(2000)), cores(8, Some(2001))],
            [8, 2, 3]
        );
        assert_eq!(
            [
                cores(2, Some(64_000)),
                cores(8, Some(100)),
                cores(8, Some(0))
            ],
            [2, 1, 1]
        );
    }

    #[test]
    fn kernel_releases_are_read_and_compared() {
        let kernel = |release| Kernel::parse(release);
        assert_eq!(
            kernel("6.1.0-18-amd64"),
            Some(Kernel { major: 6, minor: 1 })
        );
        assert_eq!(
            kernel("5.10-rc1"),
            Some(Kernel {
                major: 5,
                minor: 10
            })
        );
        assert_eq!(kernel("mainframe"), None);
        let old = Machine {
            kernel: kernel("5.10.200"),
            ..Machine::default()
        };
        assert_eq!(levels(&old), [Level::Refusal]);
        assert!(old.checks()[0].what.contains("kernel 5.10"));
        for fine in ["5.11.0", "6.18.44", "mainframe"] {
            let machine = Machine {
                kernel: kernel(fine),
                ..Machine::default()
            };
            assert_eq!(levels(&machine), [], "{fine}");
        }
    }

    #[test]
    fn memlock_is_refused_below_half_a_mebibyte_and_warned_of_below_eight() {
        let memlock = |bytes: Option<u64>| {
            levels(&Machine {
                memlock_bytes: bytes,
                ..Machine::default()
            })
        };
        assert_eq!(memlock(Some(64 << 10)), [Level::Refusal]);
        assert_eq!(memlock(Some(512 << 10)), [Level::Warning]);
        assert_eq!(memlock(Some(8 << 20)), []);
        assert_eq!(memlock(None), []);
    }

    #[test]
    fn few_open_files_bound_the_connections() {
        let machine = |files| Machine {
            files,
            ..Machine::default()
        };
        assert_eq!(levels(&machine(Some(1024))), [Level::Warning]);
        assert_eq!(machine(Some(20_000)).connections_max(2), 20_000 - 128 - 64);
        assert_eq!(machine(Some(100)).connections_max(2), 1);
        assert_eq!(machine(None).connections_max(1), 1_000_000 - 160);
    }

    #[test]
    fn this_machine_can_be_read() {
        raise_limits();
        let machine = Machine::read();
        assert!(
            !machine.host_name.is_empty() && machine.kernel.is_some(),
            "{machine:?}"
        );
        assert!(
            machine.memory_bytes.is_some_and(|bytes| bytes > 1 << 20),
            "{machine:?}"
        );
        assert!(machine.usable_cores() <= machine.cpus.len());
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }

    #[test]
    fn odd_host_names_and_memory_lines_are_survived() {
        assert_eq!(host_name("node 1\n"), "node1");
        assert_eq!(host_name(" "), "localhost");
        assert_eq!(
            memory_total("MemFree: 1 kB\nMemTotal:   16 kB\n"),
            Some(16_384)
        );
        assert_eq!(memory_total("MemTotal: much"), None);
    }
}
