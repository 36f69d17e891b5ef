//! A broker under test: started on free ports with a data directory of its own, always ended.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::poll;

const START_DEADLINE: Duration = Duration::from_secs(60);
const STOP_DEADLINE: Duration = Duration::from_secs(60);
const STATUS_DEADLINE: Duration = Duration::from_secs(20);

/// A running broker. Dropping it ends the process; a failed test prints its log.
#[derive(Debug)]
pub(crate) struct Broker {
    child: Child,
    folder: TempDir,
    addresses: serde_json::Value,
}

impl Broker {
    /// The binary that is tested.
    pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_ringmq");

    /// Starts a broker with `cores` shards and waits until it listens.
    pub(crate) fn start(cores: usize) -> Self {
        Self::start_with(cores, [""; 0])
    }

    /// Like [`Broker::start`], with further arguments for `ringmq server`.
    pub(crate) fn start_with<A: AsRef<OsStr>>(
        cores: usize,
        args: impl IntoIterator<Item = A>,
    ) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("ringmq-test-")
            .tempdir()
            .unwrap();
        let child = spawn(folder.path(), cores, args);
        let mut broker = Self {
            child,
            folder,
            addresses: serde_json::Value::Null,
        };
        broker.wait_for_addresses();
        broker
    }

    /// Starts a broker that has ended again, on the same data. Its log goes on, its ports change.
    pub(crate) fn start_again<A: AsRef<OsStr>>(
        &mut self,
        cores: usize,
        args: impl IntoIterator<Item = A>,
    ) {
        assert!(self.exited().is_some(), "one broker holds the data");
        fs::remove_file(addresses_path(self.folder.path())).unwrap();
        self.child = spawn(self.folder.path(), cores, args);
        self.wait_for_addresses();
    }

    fn wait_for_addresses(&mut self) {
        let path = addresses_path(self.folder.path());
        let found = poll(START_DEADLINE, || {
            if let Some(status) = self.exited() {
                panic!(
                    "the broker ended at its start with {status}:\n{}",
                    self.log()
                );
            }
            // Not written yet, or half written: try again.
            serde_json::from_str(&fs::read_to_string(&path).ok()?).ok()
        });
        self.addresses = found.unwrap_or_else(|| panic!("no addresses in time:\n{}", self.log()));
    }

    /// Returns where gRPC is served.
    pub(crate) fn grpc(&self) -> SocketAddr {
        self.address("grpc")
            .unwrap_or_else(|| panic!("no gRPC address:\n{}", self.log()))
    }

    /// Returns where the listener of that name is served, if there is one.
    pub(crate) fn address(&self, listener: &str) -> Option<SocketAddr> {
        self.addresses.get(listener)?.as_str()?.parse().ok()
    }

    /// Returns the process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Returns all that the broker has logged.
    pub(crate) fn log(&self) -> String {
        let bytes = fs::read(log_path(self.folder.path())).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    /// Returns what the broker counts, as it reports it now.
    pub(crate) fn status(&self) -> serde_json::Value {
        let before = reports(&self.log()).len();
        self.signal(Signal::USR1);
        poll(STATUS_DEADLINE, || {
            reports(&self.log()).into_iter().nth(before)
        })
        .unwrap_or_else(|| panic!("no status report in time:\n{}", self.log()))
    }

    /// Checks that the clients, all gone by now, have left nothing behind.
    pub(crate) fn assert_nothing_left(&self) {
        const EMPTY: [&str; 4] = ["connections", "subscriptions", "pending", "task_panics"];
        let mut last = serde_json::Value::Null;
        let empty = poll(STATUS_DEADLINE, || {
            last = self.status();
            let is_0 = |name: &&str| last.get(name).and_then(serde_json::Value::as_u64) == Some(0);
            EMPTY.iter().all(is_0).then_some(())
        });
        assert!(empty.is_some(), "{EMPTY:?} should be 0:\n{last:#}");
    }

    /// Ends the broker by SIGTERM and checks that it exits 0.
    pub(crate) fn stop(mut self) {
        self.signal(Signal::TERM);
        self.assert_exits_0();
    }

    /// Waits for the end of the process, and checks that it exits 0.
    pub(crate) fn assert_exits_0(&mut self) {
        let Some(status) = poll(STOP_DEADLINE, || self.exited()) else {
            panic!("the broker did not end in time:\n{}", self.log());
        };
        assert!(
            status.success(),
            "the broker ended with {status}:\n{}",
            self.log()
        );
    }

    /// Kills the broker, as a crash would end it.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        poll(STOP_DEADLINE, || self.exited());
    }

    fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("log of the broker:\n{}", self.log());
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            // Still our child, not reaped: the process id cannot mean another process.
            let _gone = kill_process(Pid::from_child(&self.child), Signal::TERM);
            if poll(STOP_DEADLINE, || self.child.try_wait().ok().flatten()).is_none() {
                let _gone = self.child.kill();
                let _reaped = self.child.wait();
            }
        }
    }
}

/// Starts the process with everything it has in `folder`.
fn spawn<A: AsRef<OsStr>>(folder: &Path, cores: usize, args: impl IntoIterator<Item = A>) -> Child {
    let log = File::options()
        .create(true)
        .append(true)
        .open(log_path(folder))
        .unwrap();
    Command::new(Broker::BINARY)
        .args(["server", "--bind", "127.0.0.1"])
        .args(["--grpc-port", "0", "--rest-port", "0", "--api-port", "0"])
        .args(["--log-level", "info", "--cores", &cores.to_string()])
        .arg("--data")
        .arg(folder.join("data"))
        .arg("--addresses-file")
        .arg(addresses_path(folder))
        .args(args)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn addresses_path(folder: &Path) -> PathBuf {
    folder.join("addresses.json")
}

fn log_path(folder: &Path) -> PathBuf {
    folder.join("log.txt")
}

/// Returns the status reports in a log, oldest first. They are fields of log lines, quoted.
fn reports(log: &str) -> Vec<serde_json::Value> {
    log.lines()
        .filter_map(|line| report(line.split_once("status=")?.1))
        .collect()
}

fn report(field: &str) -> Option<serde_json::Value> {
    let first = |text: &str| {
        serde_json::Deserializer::from_str(text)
            .into_iter::<serde_json::Value>()
            .next()?
            .ok()
    };
    let mut value = first(field)?;
    if let Some(quoted) = value.as_str() {
        value = first(quoted)?;
    }
    value.get("status").cloned()
}
