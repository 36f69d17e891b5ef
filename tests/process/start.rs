//! Starts that must fail: with a clear text, an exit code, and no panic.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use crate::harness::{Broker, say};
use crate::mock::broker::Watched;
use crate::mock::peer::PATIENCE;
use crate::mock::process::{Process, program, server_command};

/// Exit codes of `sysexits.h`, as the broker uses them.
const UNAVAILABLE: i32 = 69;
const NO_PERMISSION: i32 = 77;
const CONFIG: i32 = 78;

/// Runs a command that must refuse: its exit code and all that it said.
fn refusal(command: &mut Command) -> (i32, String) {
    let mut process = Process::start(command);
    let status = process.wait_end(PATIENCE);
    let output = process.output();
    let code = status
        .code()
        .unwrap_or_else(|| panic!("ended by a signal: {status}\n{output}"));
    assert_ne!(code, 0, "{output}");
    assert!(!output.contains("panicked"), "{output}");
    assert!(!output.contains("RUST_BACKTRACE"), "{output}");
    (code, output)
}

fn assert_says(output: &str, words: &[&str]) {
    for word in words {
        assert!(output.contains(word), "{word:?} is not in:\n{output}");
    }
}

#[test]
fn a_port_in_use_is_named_with_its_remedy() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let directory = tempfile::tempdir().unwrap();
    let mut command = server_command(2, &directory.path().join("store"));
    command.args(["--grpc-port", &port]);
    let (code, output) = refusal(&mut command);
    assert_eq!(code, UNAVAILABLE, "{output}");
    assert_says(&output, &[&port, "--grpc-port", "GRPC_PORT"]);
}

#[test]
fn a_store_of_another_broker_is_refused() {
    let first = Broker::start(1);
    let (code, output) = refusal(&mut server_command(1, &first.data()));
    assert_eq!(code, NO_PERMISSION, "{output}");
    assert_says(&output, &["store", "lock"]);
    first.assert_serves();
    first.end();
}

#[test]
fn a_store_is_free_again_after_a_broker_was_killed() {
    let mut first = Broker::start(1);
    first.kill();
    let mut command = server_command(1, &first.data());
    let mut second = Process::start(&mut command);
    let said = second.wait_line(PATIENCE, |line| line.contains("127.0.0.1"));
    assert!(said.is_some(), "{}", second.output());
}

#[test]
fn every_wrong_value_of_a_file_is_named_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ringmq.toml");
    std::fs::write(&file, "[grpc]\nport = 70000\n\n[engin]\ncores = 1\n").unwrap();
    let mut command = program(Broker::BINARY, directory.path());
    command.args(["server", "--config"]).arg(&file);
    let (code, output) = refusal(&mut command);
    assert_eq!(code, CONFIG, "{output}");
    assert_says(&output, &["70000", "engin", "ringmq.toml"]);
}

#[test]
fn a_missing_configuration_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = program(Broker::BINARY, directory.path());
    command.args(["server", "--config", "/nowhere/ringmq.toml"]);
    let (_, output) = refusal(&mut command);
    assert_says(&output, &["/nowhere/ringmq.toml"]);
}

#[test]
fn wrong_flags_and_variables_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (_, output) =
        refusal(server_command(1, &directory.path().join("store")).args(["--grpc-port", "70000"]));
    assert_says(&output, &["70000", "--grpc-port"]);
    let (_, output) =
        refusal(server_command(1, &directory.path().join("store")).arg("--no-such-flag"));
    assert_says(&output, &["--no-such-flag"]);
    let mut command = server_command(1, &directory.path().join("store"));
    let (_, output) = refusal(command.env("GRPC_BODY_LIMIT", "many"));
    assert_says(&output, &["GRPC_BODY_LIMIT", "many"]);
}

#[test]
fn a_store_that_cannot_be_made_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join("store"),
        "a file where a directory must be",
    )
    .unwrap();
    let (code, output) = refusal(&mut server_command(1, &directory.path().join("store")));
    assert_eq!(code, NO_PERMISSION, "{output}");
    assert_says(&output, &["store"]);
}

#[test]
fn too_little_lockable_memory_is_refused_with_its_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let server = server_command(1, &directory.path().join("store"));
    let mut command = program("sh", directory.path());
    command.args(["-c", "ulimit -l 64 && exec \"$@\"", "sh"]);
    command.arg(server.get_program()).args(server.get_args());
    let (code, output) = refusal(&mut command);
    assert_eq!(code, CONFIG, "{output}");
    assert_says(&output, &["memlock", "ulimit -l"]);
}

/// Installs a seccomp filter that answers `io_uring_setup` with the errno of its first argument,
/// as container runtimes do, and becomes the command that follows.
const DENY_IO_URING: &str = r#"
import ctypes, os, struct, sys
LOAD, EQUAL, RETURN, ALLOW, ERRNO = 0x20, 0x15, 0x06, 0x7fff0000, 0x00050000
IO_URING_SETUP = 425
program = b"".join(struct.pack("HBBI", *instruction) for instruction in [
    (LOAD, 0, 0, 0),
    (EQUAL, 0, 1, IO_URING_SETUP),
    (RETURN, 0, 0, ERRNO | int(sys.argv[1])),
    (RETURN, 0, 0, ALLOW),
])
class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]
libc = ctypes.CDLL(None, use_errno=True)
NO_NEW_PRIVS, SET_SECCOMP, FILTER = 38, 22, 2
if libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
    SET_SECCOMP, FILTER, ctypes.byref(Filter(len(program) // 8, program)), 0, 0
):
    sys.exit("no seccomp here: " + os.strerror(ctypes.get_errno()))
os.execv(sys.argv[2], sys.argv[2:])
"#;

/// The refusal of a broker whose `io_uring_setup` fails with this errno.
fn denied(errno: u32, directory: &Path) -> Option<(i32, String)> {
    let server = server_command(2, &directory.join("store"));
    let mut command = program("python3", directory);
    command.args(["-c", DENY_IO_URING, &errno.to_string()]);
    command.arg(server.get_program()).args(server.get_args());
    if Command::new("python3").arg("--version").output().is_err() {
        say("skipped: python3, which installs the seccomp filter, is not there");
        return None;
    }
    let (code, output) = refusal(&mut command);
    if output.contains("no seccomp here") {
        say(&format!("skipped: {output}"));
        return None;
    }
    Some((code, output))
}

#[test]
fn a_denied_io_uring_names_the_container_and_the_pod_option() {
    let directory = tempfile::tempdir().unwrap();
    let Some((code, output)) = denied(1, directory.path()) else {
        return;
    };
    assert_eq!(code, CONFIG, "{output}");
    assert_says(
        &output,
        &["io_uring", "--security-opt seccomp=", "seccompProfile"],
    );
}

#[test]
fn a_kernel_without_io_uring_is_refused_with_the_version_needed() {
    let directory = tempfile::tempdir().unwrap();
    let Some((code, output)) = denied(38, directory.path()) else {
        return;
    };
    assert_eq!(code, CONFIG, "{output}");
    assert_says(&output, &["io_uring", "Linux"]);
}
