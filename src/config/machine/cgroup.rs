//! Limits of the control group: processor time and memory, versions 1 and 2.
//!
//! A group's limit holds together with those of all groups above it, so that the least one counts.
//! Inside a container the path in `/proc/self/cgroup` may be that of the host while the mount shows
//! the container's own group as the root: a path that is not there is simply skipped.

use std::fs;
use std::path::{Path, PathBuf};

/// What the control groups of this process allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// Processor time, in thousandths of a processor.
    pub(super) cpu_millis: Option<u64>,
    /// Memory.
    pub(super) memory_bytes: Option<u64>,
}

impl Limits {
    /// Reads the limits of this process in the file system at `root`.
    pub(super) fn read(root: &Path) -> Self {
        let mount = root.join("sys/fs/cgroup");
        let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
        let mut limits = Self::default();
        for (controllers, path) in groups.lines().filter_map(parse_group) {
            limits.lower(&Self::of_group(&mount, controllers, path));
        }
        limits
    }

    fn of_group(mount: &Path, controllers: &str, path: &str) -> Self {
        let has = |name: &str| controllers.split(',').any(|controller| controller == name);
        let mut limits = Self::default();
        if controllers.is_empty() {
            for group in ancestors(mount, path) {
                limits.lower(&Self {
                    cpu_millis: read(&group, "cpu.max").and_then(|text| parse_cpu_max(&text)),
                    memory_bytes: read_number(&group, "memory.max"),
                });
            }
        }
        if has("cpu") {
            for group in hierarchies(mount, controllers, "cpu", path) {
                let quota = read_number(&group, "cpu.cfs_quota_us");
                let period = read_number(&group, "cpu.cfs_period_us");
                limits.lower(&Self {
                    cpu_millis: millis(quota, period),
                    memory_bytes: None,
                });
            }
        }
        if has("memory") {
            for group in hierarchies(mount, controllers, "memory", path) {
                let memory_bytes = read_number(&group, "memory.limit_in_bytes");
                limits.lower(&Self {
                    cpu_millis: None,
                    memory_bytes,
                });
            }
        }
        limits
    }

    fn lower(&mut self, other: &Self) {
        let least = |a: Option<u64>, b: Option<u64>| a.into_iter().chain(b).min();
        self.cpu_millis = least(self.cpu_millis, other.cpu_millis);
        self.memory_bytes = least(self.memory_bytes, other.memory_bytes);
    }
}

/// The groups of a version 1 controller, mounted under its own name or together with others.
fn hierarchies(mount: &Path, controllers: &str, controller: &str, path: &str) -> Vec<PathBuf> {
    let mounts = [controller, controllers].map(|name| mount.join(name));
    mounts
        .iter()
        .flat_map(|mount| ancestors(mount, path))
        .collect()
}

/// The group itself and all above it, up to the root of the mount.
fn ancestors(mount: &Path, path: &str) -> Vec<PathBuf> {
    let relative = Path::new(path.trim_start_matches('/'));
    relative.ancestors().map(|part| mount.join(part)).collect()
}

/// Splits `4:cpu,cpuacct:/system.slice` into controllers and path; version 2 has no controllers.
fn parse_group(line: &str) -> Option<(&str, &str)> {
    let (_hierarchy, rest) = line.split_once(':')?;
    rest.split_once(':')
}

/// Reads `150000 100000`, quota and period in microseconds; the quota may be `max`.
fn parse_cpu_max(text: &str) -> Option<u64> {
    let (quota, period) = text.trim().split_once(' ')?;
    millis(quota.parse().ok(), period.parse().ok())
}

/// Thousandths of a processor, rounded up so that a limit never vanishes.
fn millis(quota_us: Option<u64>, period_us: Option<u64>) -> Option<u64> {
    let (quota, period) = (quota_us?, period_us?);
    (period > 0).then(|| quota.saturating_mul(1000).div_ceil(period))
}

fn read(group: &Path, file: &str) -> Option<String> {
    fs::read_to_string(group.join(file)).ok()
}

/// A number; `max` and `-1` are none. Version 1 writes "no limit" of memory as a number near the
/// largest one, which the size of the machine undercuts anyway.
fn read_number(group: &Path, file: &str) -> Option<u64> {
    read(group, file)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file system with these files.
    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn limits(files: &[(&str, &str)]) -> (Option<u64>, Option<u64>) {
        let limits = Limits::read(machine(files).path());
        (limits.cpu_millis, limits.memory_bytes)
    }

    #[test]
    fn container_with_its_own_view_of_version_2() {
        let files = [
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/cpu.max", "150000 100000\n"),
            ("sys/fs/cgroup/memory.max", "1073741824\n"),
        ];
        assert_eq!(limits(&files), (Some(1500), Some(1 << 30)));
    }

    #[test]
    fn least_limit_on_the_way_up_counts_in_version_2() {
        let files = [
            ("proc/self/cgroup", "0::/system.slice/ringmq.service\n"),
            ("sys/fs/cgroup/system.slice/cpu.max", "50000 100000\n"),
            ("sys/fs/cgroup/system.slice/memory.max", "max\n"),
            (
                "sys/fs/cgroup/system.slice/ringmq.service/cpu.max",
                "max 100000\n",
            ),
            (
                "sys/fs/cgroup/system.slice/ringmq.service/memory.max",
                "4096\n",
            ),
        ];
        assert_eq!(limits(&files), (Some(500), Some(4096)));
    }

    #[test]
    fn version_1_with_joined_controllers_and_the_path_of_the_host() {
        let files = [
            (
                "proc/self/cgroup",
                "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n0::/\n",
            ),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "200000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
            (
                "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes",
                "2097152\n",
            ),
            (
                "sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
        ];
        assert_eq!(limits(&files), (Some(2000), Some(2 << 20)));
    }

    #[test]
    fn version_1_without_a_quota() {
        let files = [
            ("proc/self/cgroup", "3:cpu:/\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
        ];
        assert_eq!(limits(&files), (None, None));
    }

    #[test]
    fn nonsense_is_no_limit() {
        let files = [
            ("proc/self/cgroup", "nonsense\n0::/\n"),
            ("sys/fs/cgroup/cpu.max", "1000 0\n"),
            ("sys/fs/cgroup/memory.max", "much\n"),
        ];
        assert_eq!(limits(&files), (None, None));
        assert_eq!(limits(&[]), (None, None));
    }
}
