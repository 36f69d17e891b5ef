//! What the kernel counts of this process.

use rustix::process::{Resource, getrlimit};

use super::status::Memory;

/// Figures of the process at one moment; zeroes where the kernel does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessFigures {
    /// Time on a processor since the start, in its mode and the kernel's, in milliseconds.
    pub cpu_ms: u64,
    /// Threads.
    pub threads: u64,
    /// Resident memory.
    pub memory: Memory,
    /// Address space.
    pub virtual_bytes: u64,
    /// Open file descriptors.
    pub open_fds: u64,
    /// How many there may be.
    pub fds_max: u64,
    /// Memory of the machine.
    pub machine_bytes: u64,
    /// Processors of the machine.
    pub processors: u64,
}

impl ProcessFigures {
    /// Reads `/proc`. Takes time in proportion to the open files: not for an executor.
    #[must_use]
    pub fn read() -> Self {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let machine = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let processors = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let fds = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        // The look itself holds one.
        let open_fds = u64::try_from(fds).unwrap_or(u64::MAX).saturating_sub(1);
        Self {
            memory: Memory::read(),
            open_fds,
            fds_max: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
            machine_bytes: kibibytes(&machine, "MemTotal:"),
            processors: count_processors(&processors),
            ..Self::of_stat(&stat, rustix::param::clock_ticks_per_second())
        }
    }

    /// Reads the fields of `/proc/self/stat`; the name in front of them may hold anything.
    fn of_stat(stat: &str, ticks_a_second: u64) -> Self {
        let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
        // The first of these is field 3 of the documentation.
        let field = |number: usize| -> u64 {
            let text = fields.split_ascii_whitespace().nth(number - 3);
            text.and_then(|text| text.parse().ok()).unwrap_or_default()
        };
        let ticks = field(14).saturating_add(field(15));
        Self {
            cpu_ms: ticks.saturating_mul(1_000) / ticks_a_second.max(1),
            threads: field(20),
            virtual_bytes: field(23),
            ..Self::default()
        }
    }
}

/// Counts the lines like `cpu7 1 2 3`; that of all together has no number.
fn count_processors(stat: &str) -> u64 {
    let lines = stat.lines().filter_map(|line| line.strip_prefix("cpu"));
    let numbered = lines.filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    u64::try_from(numbered.count()).unwrap_or(u64::MAX)
}

fn kibibytes(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_ascii_whitespace().next());
    number
        .and_then(|number| number.parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_stand_behind_a_name_with_blanks_and_brackets() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 12 0 99 4096 5";
        let figures = ProcessFigures::of_stat(stat, 100);
        assert_eq!((figures.cpu_ms, figures.threads), (2_000, 12));
        assert_eq!(figures.virtual_bytes, 4_096);
        assert_eq!(ProcessFigures::of_stat("", 100), ProcessFigures::default());
    }

    #[test]
    fn the_own_process_has_threads_files_and_memory() {
        let figures = ProcessFigures::read();
        assert!(figures.threads > 0 && figures.processors > 0, "{figures:?}");
        assert!(
            figures.open_fds >= 3 && figures.fds_max >= figures.open_fds,
            "{figures:?}"
        );
        assert!(
            figures.machine_bytes >= figures.memory.resident_bytes,
            "{figures:?}"
        );
        assert!(
            figures.virtual_bytes >= figures.memory.resident_bytes,
            "{figures:?}"
        );
    }
}
