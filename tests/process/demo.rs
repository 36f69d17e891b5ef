//! The first command of the README.

use rustix::process::Signal;

use crate::harness::Broker;
use crate::mock::peer::PATIENCE;
use crate::mock::process::{FREE_PORTS, Process, program};

#[test]
fn the_demo_shows_each_kind_of_message_and_stays_up() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = program(Broker::BINARY, directory.path());
    command
        .arg("demo")
        .args(FREE_PORTS)
        .arg("--data")
        .arg(directory.path().join("store"));
    let mut demo = Process::start(&mut command);
    for (kind, progress) in [
        ("event", "received"),
        ("stored", "acknowledged"),
        ("stored", "replayed"),
        ("queue", "acknowledged"),
        ("queue", "taken"),
        ("command", "answered"),
        ("query", "answered"),
    ] {
        let shown = demo.wait_line(PATIENCE, |line| {
            line.contains(kind) && line.contains(progress)
        });
        assert!(
            shown.is_some(),
            "no {kind} {progress} in:\n{}",
            demo.output()
        );
    }
    let output = demo.output();
    assert_eq!(
        output.matches("received on").count(),
        3,
        "each is shown as it arrives:\n{output}"
    );
    assert!(!demo.has_ended(), "it stays up:\n{}", demo.output());
    demo.signal(Signal::INT);
    let status = demo.wait_end(PATIENCE);
    let output = demo.output();
    assert_eq!(status.code(), Some(0), "{output}");
    assert!(!output.contains("panicked"), "{output}");
}
