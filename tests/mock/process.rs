//! Child processes whose output is read while they run: refused starts, the demo, clients.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::Broker;

const POLL: Duration = Duration::from_millis(5);

/// Flags that bind nothing but free ports of the loopback.
pub(crate) const FREE_PORTS: [&str; 8] = [
    "--bind",
    "127.0.0.1",
    "--grpc-port",
    "0",
    "--rest-port",
    "0",
    "--api-port",
    "0",
];

/// A program that sees none of this process's environment, which may hold settings of a broker,
/// and none of its files.
pub(crate) fn program(path: &str, directory: &Path) -> Command {
    let mut command = Command::new(path);
    command
        .env_clear()
        .env("NO_COLOR", "1")
        .current_dir(directory);
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

/// A command line of the broker with its store at `data`.
pub(crate) fn server_command(cores: usize, data: &Path) -> Command {
    let directory = data.parent().expect("a store in a directory");
    let mut command = program(Broker::BINARY, directory);
    command
        .arg("server")
        .args(FREE_PORTS)
        .args(["--cores", &cores.to_string()]);
    command.arg("--data").arg(data);
    command
}

/// A child process whose output is collected.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    lines: mpsc::Receiver<String>,
    seen: Vec<String>,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self::spawn(command.stdin(Stdio::null()))
    }

    /// Starts a broker that writes its addresses to the file, and waits until it listens.
    pub(crate) fn serve(
        command: &mut Command,
        addresses: &Path,
        patience: Duration,
    ) -> (Self, SocketAddr) {
        let mut broker = Self::begin_to_serve(command, addresses);
        let address = broker.grpc_address(addresses, patience);
        (broker, address)
    }

    /// The same without waiting; an earlier life's file is gone when this returns.
    pub(crate) fn begin_to_serve(command: &mut Command, addresses: &Path) -> Self {
        let _none_of_an_earlier_life = std::fs::remove_file(addresses);
        Self::start(command.arg("--addresses-file").arg(addresses))
    }

    /// Waits for the file with a broker's addresses; that of its gRPC service.
    pub(crate) fn grpc_address(&mut self, addresses: &Path, patience: Duration) -> SocketAddr {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            assert!(!self.has_ended(), "it starts:\n{}", self.output());
            if let Some(address) = read_grpc_address(addresses) {
                return address;
            }
            std::thread::sleep(POLL);
        }
        panic!("no address in time:\n{}", self.output());
    }

    /// Starts a program that lives as long as its input stays open: as long as this process, even
    /// if that is killed.
    pub(crate) fn start_fed(command: &mut Command) -> Self {
        Self::spawn(command.stdin(Stdio::piped()))
    }

    fn spawn(command: &mut Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let (tx, lines) = mpsc::channel();
        collect(child.stdout.take(), tx.clone());
        collect(child.stderr.take(), tx);
        Self {
            child,
            lines,
            seen: Vec::new(),
        }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the process runs");
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("the process runs");
        self.child.wait().expect("a child");
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_some()
    }

    /// Waits for the end; the exit status, or a panic when time is up.
    pub(crate) fn wait_end(&mut self, patience: Duration) -> ExitStatus {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "still running\n{}",
                self.output()
            );
            std::thread::sleep(POLL);
        }
    }

    /// Waits for a line of the output that satisfies `wanted`; lines seen before don't count.
    pub(crate) fn wait_line(
        &mut self,
        patience: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Option<String> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.checked_duration_since(Instant::now())?;
            let line = self.lines.recv_timeout(left).ok()?;
            self.seen.push(line.clone());
            if wanted(&line) {
                return Some(line);
            }
        }
    }

    /// All of the output so far. After the end of the process: all of it.
    pub(crate) fn output(&mut self) -> String {
        if self.has_ended() {
            self.seen.extend(self.lines.iter());
        } else {
            self.seen.extend(self.lines.try_iter());
        }
        self.seen.iter().fold(String::new(), |mut all, line| {
            writeln!(all, "{line}").expect("a string takes it");
            all
        })
    }
}

fn read_grpc_address(addresses: &Path) -> Option<SocketAddr> {
    let text = std::fs::read_to_string(addresses).ok()?;
    let addresses: serde_json::Value = serde_json::from_str(&text).ok()?;
    addresses.get("grpc")?.as_str()?.parse().ok()
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped_already = self.child.wait();
    }
}

fn collect(source: Option<impl Read + Send + 'static>, into: mpsc::Sender<String>) {
    let Some(source) = source else { return };
    std::thread::spawn(move || {
        for line in BufReader::new(source).lines().map_while(Result::ok) {
            if into.send(line).is_err() {
                return;
            }
        }
    });
}
