//! The program under test, and the broker that the tests share.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Weak, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::{Broker, poll};

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(60);

static SHARED: Mutex<Weak<Shared>> = Mutex::new(Weak::new());

/// A broker that lives as long as a test uses it. Each test has channels of its own.
pub(crate) struct Shared(Broker);

/// The broker that runs, or a new one.
pub(crate) fn broker() -> Arc<Shared> {
    let mut shared = SHARED
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(running) = shared.upgrade() {
        return running;
    }
    let started = Arc::new(Shared(Broker::start(1)));
    *shared = Arc::downgrade(&started);
    started
}

impl Shared {
    /// The program with these arguments, aimed at the broker.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let api = self.0.address("api").unwrap();
        let mut command = program(&arguments[..1]);
        command
            .arg("--address")
            .arg(self.0.grpc().to_string())
            .arg("--api")
            .arg(api.to_string())
            .args(&arguments[1..]);
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        run(&mut self.command(arguments), b"")
    }

    /// Runs a command that must go well, and gives what it wrote.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        self.ok_with(arguments, b"")
    }

    /// The same with a standard input.
    pub(crate) fn ok_with(&self, arguments: &[&str], input: &[u8]) -> String {
        let ended = run(&mut self.command(arguments), input);
        assert_eq!(ended.code, Some(0), "{arguments:?}: {ended:?}");
        String::from_utf8(ended.stdout).unwrap()
    }

    /// The same with JSON, one object a line.
    pub(crate) fn json(&self, arguments: &[&str]) -> Vec<Value> {
        objects(&self.ok(&[arguments, &["--output", "json"]].concat()))
    }

    /// Starts a command that goes on until it is stopped.
    pub(crate) fn start(&self, arguments: &[&str]) -> Live {
        Live::start(self.command(arguments))
    }
}

/// The program, away from the settings of whoever runs the tests.
pub(crate) fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(Broker::BINARY);
    command.args(arguments).current_dir(std::env::temp_dir());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("RINGMQ_")) {
        command.env_remove(name);
    }
    command.env_remove("NO_COLOR");
    command
}

/// JSON, one object a line.
pub(crate) fn objects(text: &str) -> Vec<Value> {
    let object = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
    text.lines().map(object).collect()
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Ended {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = thread::spawn(move || {
        // A command that is refused does not read.
        let _it_did_not_read = stdin.write_all(&input);
    });
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let stdout = thread::spawn(move || {
        let mut bytes = Vec::new();
        out.read_to_end(&mut bytes).unwrap();
        bytes
    });
    let stderr = thread::spawn(move || {
        let mut text = String::new();
        err.read_to_string(&mut text).unwrap();
        text
    });
    let status = poll(PATIENCE, || child.try_wait().unwrap());
    if status.is_none() {
        child.kill().unwrap();
    }
    let ended = Ended {
        code: status.and_then(|status| status.code()),
        stdout: stdout.join().unwrap(),
        stderr: stderr.join().unwrap(),
    };
    writer.join().unwrap();
    assert!(status.is_some(), "the command did not end: {ended:?}");
    ended
}

/// A command that goes on until it is stopped.
pub(crate) struct Live {
    child: Child,
    lines: mpsc::Receiver<Line>,
    seen: Vec<Line>,
}

/// What it writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Out(String),
    Err(String),
}

impl Live {
    fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (tx, lines) = mpsc::channel();
        read_lines(child.stdout.take().unwrap(), tx.clone(), Line::Out);
        read_lines(child.stderr.take().unwrap(), tx, Line::Err);
        Self {
            child,
            lines,
            seen: Vec::new(),
        }
    }

    fn next(&mut self, until: Instant) -> Line {
        let left = until.saturating_duration_since(Instant::now());
        let line = self.lines.recv_timeout(left);
        let line = line.unwrap_or_else(|_| panic!("no such line; before: {:?}", self.seen));
        self.seen.push(line.clone());
        line
    }

    /// Waits for a line of the standard error that holds this text.
    pub(crate) fn told(&mut self, text: &str) {
        let until = Instant::now() + PATIENCE;
        while !matches!(self.next(until), Line::Err(line) if line.contains(text)) {}
    }

    /// The next line of the standard output.
    pub(crate) fn line(&mut self) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Line::Out(line) = self.next(until) {
                return line;
            }
        }
    }

    /// The same as JSON.
    pub(crate) fn json(&mut self) -> Value {
        objects(&self.line()).remove(0)
    }

    /// Writes a line to its standard input.
    pub(crate) fn type_line(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(format!("{text}\n").as_bytes()).unwrap();
    }

    /// Ctrl-C.
    pub(crate) fn interrupt(&self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
    }

    /// Waits for its end; gives the exit code and the lines that it has written.
    pub(crate) fn end(mut self) -> (Option<i32>, Vec<Line>) {
        drop(self.child.stdin.take());
        let status = poll(PATIENCE, || self.child.try_wait().unwrap());
        let status = status.unwrap_or_else(|| panic!("it did not end: {:?}", self.seen));
        let mut lines = std::mem::take(&mut self.seen);
        lines.extend(self.lines.iter());
        (status.code(), lines)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _gone = self.child.kill();
            let _reaped = self.child.wait();
        }
    }
}

fn read_lines(
    from: impl Read + Send + 'static,
    to: mpsc::Sender<Line>,
    make: impl Fn(String) -> Line + Send + 'static,
) {
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if to.send(make(line)).is_err() {
                return;
            }
        }
    });
}
