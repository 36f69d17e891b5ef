//! The command line as a user meets it: help, the effective configuration, refusals, exit codes.
//!
//! The texts are in `tests/golden`; `UPDATE_GOLDEN=1 cargo test --test config` writes them anew.

#![allow(clippy::unwrap_used, reason = "a broken assumption is a failed test")]

#[path = "config/deploy.rs"]
mod deploy;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const USAGE: i32 = 64;
const CONFIG: i32 = 78;

/// The program in an empty environment and directory.
fn ringmq(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmq"));
    command
        .env_clear()
        .env("HOST", "node-1")
        .current_dir(directory)
        .args(arguments);
    command.stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

fn assert_golden(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, golden, "differs from {}", path.display());
}

/// Settings that would else depend on the machine.
const FIXED: &[&str] = &[
    "--cores",
    "1",
    "--set",
    "grpc.max_connections=100",
    "--set",
    "rest.max_connections=100",
];

#[test]
fn help_names_commands_and_settings() {
    let directory = tempfile::tempdir().unwrap();
    let (code, text, _) = run(&mut ringmq(directory.path(), &["--help"]));
    assert_eq!(code, Some(0));
    assert_golden("help.txt", &text);
}

#[test]
fn effective_configuration_shows_origins_in_every_format() {
    let directory = tempfile::tempdir().unwrap();
    let file = "[grpc]\nbodyLimit = \"16MiB\"\n[broker]\nmaxConn = 7\n";
    std::fs::write(directory.path().join("ringmq.toml"), file).unwrap();
    for format in ["table", "toml", "yaml", "json"] {
        let arguments = [&["config", "--format", format], FIXED].concat();
        let mut command = ringmq(directory.path(), &arguments);
        let (code, text, errors) = run(command.env("STORE_STORE_PATH", "/srv/ringmq"));
        assert_eq!(code, Some(0), "{errors}");
        assert!(errors.contains("without effect in this version: broker.max_conn"));
        assert_golden(&format!("config.{format}.txt"), &text);
    }
}

#[test]
fn settings_are_explained() {
    let directory = tempfile::tempdir().unwrap();
    let explain = |key: &str| run(&mut ringmq(directory.path(), &["config", "explain", key]));
    let (code, text, errors) = explain("rest.corsAllowOrigins");
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    assert_golden("explain.txt", &text);
    assert_eq!(explain("CONNECTORS_REST_CORS_ALLOW_ORIGINS").1, text);
    let (code, text, errors) = explain("grpc.prot");
    assert_eq!((code, text.as_str()), (Some(USAGE), ""));
    assert!(errors.contains("did you mean grpc.port?"), "{errors}");
}

#[test]
fn files_are_checked_before_a_broker_reads_them() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("new.yaml");
    let check = || {
        let mut command = ringmq(directory.path(), &["config", "check", "new.yaml"]);
        run(command.env("GRPC_PORT", "not for this"))
    };
    std::fs::write(&file, "grpc:\n  port: 7\n").unwrap();
    let (code, text, errors) = check();
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    assert_eq!(text, "new.yaml: nothing is wrong with it\n");
    std::fs::write(&file, "grpc:\n  port: many\n  prot: 7\n").unwrap();
    let (code, text, errors) = check();
    assert_eq!((code, text.as_str()), (Some(CONFIG), ""));
    for place in ["new.yaml:2", "new.yaml:3"] {
        assert!(errors.contains(place), "{errors}");
    }
}

#[test]
fn every_problem_is_told_at_once_with_its_remedy() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join("ringmq.toml"),
        "[grpc]\nprot = 1\nport = 70000\n",
    )
    .unwrap();
    let mut command = ringmq(directory.path(), &["--log-level", "loud"]);
    command
        .env("SECURITY_CERT_FILENAME", "/tls.crt")
        .env("AUTHENTICATION_ENABLE", "true")
        .env("CLUSTER_ENABLE", "true");
    let (code, text, errors) = run(&mut command);
    assert_eq!((code, text.as_str()), (Some(CONFIG), ""));
    assert_golden("refusal.txt", &errors);
}

#[test]
fn secrets_do_not_show() {
    let directory = tempfile::tempdir().unwrap();
    for command in ["config", "server"] {
        let mut command = ringmq(directory.path(), &[command]);
        command
            .env("SECURITY_KEY_DATA", "hunter2")
            .env("AUTHENTICATION_JWT_CONFIG_KEY", "hunter2");
        let (code, text, errors) = run(&mut command);
        assert_eq!(code, Some(CONFIG));
        assert!(
            !text.contains("hunter2") && !errors.contains("hunter2"),
            "{text}{errors}"
        );
    }
    let mut command = ringmq(directory.path(), &["config"]);
    let (code, text, errors) = run(command.env("AUTHENTICATION_JWT_CONFIG_KEY", "hunter2"));
    assert_eq!(code, Some(0));
    assert!(text.contains("authentication.jwt_config.key"), "{text}");
    assert!(
        !text.contains("hunter2") && !errors.contains("hunter2"),
        "{text}{errors}"
    );
}

#[test]
fn version_is_told_in_two_ways() {
    let directory = tempfile::tempdir().unwrap();
    let (code, text, _) = run(&mut ringmq(directory.path(), &["version"]));
    assert_eq!(code, Some(0));
    assert!(
        text.starts_with(concat!("ringmq ", env!("CARGO_PKG_VERSION"))),
        "{text}"
    );
    assert_eq!(run(&mut ringmq(directory.path(), &["--version"])).1, text);
}

#[test]
fn nonsense_on_the_command_line_is_a_usage_error() {
    let directory = tempfile::tempdir().unwrap();
    for arguments in [
        &["--cors", "1"][..],
        &["serv"],
        &["config", "--format", "xml"],
    ] {
        let (code, text, errors) = run(&mut ringmq(directory.path(), arguments));
        assert_eq!((code, text.as_str()), (Some(USAGE), ""), "{errors}");
        assert!(
            errors.contains("similar") || errors.contains("possible"),
            "{errors}"
        );
    }
}

/// Printing to a closed pipe must not end in a panic.
#[test]
fn closed_output_ends_quietly() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = ringmq(directory.path(), &[&["config"], FIXED].concat());
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let (_, _, errors) = run(command.stdout(writer));
    assert_eq!(errors, "");
}
