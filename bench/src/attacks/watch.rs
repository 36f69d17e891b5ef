//! What the broker shows meanwhile: its memory, and how long its tasks keep a core.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often memory is looked at.
const PERIOD: Duration = Duration::from_millis(20);

/// How long the management port may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Resident memory of a process, watched by a thread.
#[derive(Debug)]
pub struct Memory {
    peak: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    status: PathBuf,
    thread: Option<JoinHandle<()>>,
}

impl Memory {
    /// Watches a process from now on.
    #[allow(clippy::disallowed_methods, reason = "an ordinary thread may sleep")]
    #[must_use]
    pub fn watch(pid: u32) -> Self {
        let status = PathBuf::from(format!("/proc/{pid}/status"));
        let (peak, stop) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let watching = (Arc::clone(&peak), Arc::clone(&stop), status.clone());
        let thread = std::thread::spawn(move || {
            let (peak, stop, status) = watching;
            while !stop.load(Ordering::Relaxed) {
                peak.fetch_max(resident(&status).unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(PERIOD);
            }
        });
        Self {
            peak,
            stop,
            status,
            thread: Some(thread),
        }
    }

    /// What it holds now; `None` when it has ended.
    #[must_use]
    pub fn now(&self) -> Option<u64> {
        resident(&self.status)
    }

    /// The most since the last time this was asked.
    #[must_use]
    pub fn take_peak(&self) -> u64 {
        self.peak.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

/// `VmRSS`, which is told in KiB.
fn resident(status: &Path) -> Option<u64> {
    let status = std::fs::read_to_string(status).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// How many turns ended within each bound: the histogram of the metrics.
#[derive(Clone, Debug, Default)]
pub struct Turns(Vec<(String, u64)>);

/// The turns of all cores so far; `None` when the management port does not tell.
#[must_use]
pub fn turns(api: SocketAddr) -> Option<Turns> {
    let mut socket = TcpStream::connect_timeout(&api, PATIENCE).ok()?;
    socket.set_read_timeout(Some(PATIENCE)).ok()?;
    let ask = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    socket.write_all(ask).ok()?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8_lossy(&answer);
    let bounds = answer.lines().filter_map(|line| {
        let rest = line.strip_prefix("ringmq_core_turn_duration_seconds_bucket{le=\"")?;
        let (bound, count) = rest.split_once("\"}")?;
        Some((bound.to_owned(), count.trim().parse().ok()?))
    });
    let bounds: Vec<_> = bounds.collect();
    (!bounds.is_empty()).then_some(Turns(bounds))
}

/// The least bound within which all turns between the two ended, in seconds, and how many of them
/// took more than 5 ms.
#[must_use]
pub fn turn_bound(before: &Turns, after: &Turns) -> Option<(String, u64)> {
    let between: Vec<(&str, u64)> = (before.0.iter().zip(&after.0))
        .map(|((_, before), (bound, after))| (bound.as_str(), after.saturating_sub(*before)))
        .collect();
    let (_, all) = *between.last()?;
    let (bound, _) = between.iter().find(|(_, count)| *count == all)?;
    let within = between
        .iter()
        .find(|(bound, _)| bound.parse().is_ok_and(|bound: f64| bound >= 0.005));
    let late = within.map_or(0, |(_, count)| all - count);
    Some(((*bound).to_owned(), late))
}
