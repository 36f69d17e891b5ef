//! The first command of the README.

use rustix::process::Signal;

use crate::harness::Broker;
use crate::mock::peer::PATIENCE;
use crate::mock::process::{FREE_PORTS, Process, program};

#[test]
fn the_demo_shows_an_event_a_command_and_a_query_and_stays_up() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = program(Broker::BINARY, directory.path());
    command
        .arg("demo")
        .args(FREE_PORTS)
        .arg("--data")
        .arg(directory.path().join("store"));
    let mut demo = Process::start(&mut command);
    for word in ["event", "command", "query"] {
        let arrived = demo.wait_line(PATIENCE, |line| {
            let line = line.to_lowercase();
            line.contains(word) && (line.contains("arrived") || line.contains("received"))
        });
        assert!(arrived.is_some(), "no {word} in:\n{}", demo.output());
    }
    assert!(!demo.has_ended(), "it stays up:\n{}", demo.output());
    demo.signal(Signal::INT);
    let status = demo.wait_end(PATIENCE);
    let output = demo.output();
    assert_eq!(status.code(), Some(0), "{output}");
    assert!(!output.contains("panicked"), "{output}");
}
