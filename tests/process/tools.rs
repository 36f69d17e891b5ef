//! The operator's tools on the store of a real broker: refused while it runs, right afterwards.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use serde_json::Value;

use crate::harness::Broker;
use crate::mock::process::{Process, program, server_command};
use crate::mock::stored::life::Clients;

const PATIENCE: Duration = Duration::from_secs(60);
const STORE: i32 = 77;

fn start(data: &Path, cores: usize) -> (Process, SocketAddr) {
    let mut command = server_command(cores, data);
    command.args(["--set", "store.segment_bytes=1MiB"]);
    Process::serve(&mut command, &data.with_extension("addresses"), PATIENCE)
}

fn tool(data: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = program(Broker::BINARY, data.parent().unwrap());
    command.arg("--data").arg(data).arg("store").args(arguments);
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

fn sound(data: &Path, arguments: &[&str]) -> String {
    let (code, text, errors) = tool(data, arguments);
    assert_eq!(code, Some(0), "{text}{errors}");
    text
}

#[test]
fn tools_leave_the_store_of_a_running_broker_alone() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (mut broker, _) = start(&data, 1);
    let tasks = [
        &["info"][..],
        &["verify"],
        &["dump", "--channel", "a"],
        &["reshard", "--logs", "2"],
    ];
    for task in tasks {
        let (code, text, errors) = tool(&data, task);
        assert_eq!((code, text.as_str()), (Some(STORE), ""), "{task:?}");
        let pid = broker.pid().as_raw_nonzero();
        assert!(errors.contains("is locked by another broker"), "{errors}");
        assert!(errors.contains(&pid.to_string()), "who has it: {errors}");
    }
    broker.kill();
    assert!(sound(&data, &["verify"]).contains("sound"));
}

/// Killed under load, rewritten into more logs and into one: every acknowledged event, every
/// sequence and every position stays.
#[test]
fn killed_store_is_sound_and_can_be_rewritten() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut clients = Clients::new(6, 3);
    for (cores, logs) in [(2, "5"), (5, "1"), (1, "3")] {
        let (mut broker, address) = start(&data, cores);
        assert_eq!(clients.verify(address), Ok(()));
        let lived = clients.live(address, 2_000, Duration::ZERO, || broker.kill());
        assert_eq!(lived, Ok(()), "{}", broker.output());

        assert!(sound(&data, &["verify"]).contains("sound"));
        let before: Value = serde_json::from_str(&sound(&data, &["info", "--json"])).unwrap();
        let text = sound(&data, &["reshard", "--logs", logs]);
        assert!(text.contains(&format!("into {logs}")), "{text}");
        assert!(sound(&data, &["verify"]).contains("sound"));
        let after: Value = serde_json::from_str(&sound(&data, &["info", "--json"])).unwrap();
        let channels = |report: &Value| {
            let fields = [
                "name",
                "messages",
                "first",
                "last",
                "bytes",
                "last_timestamp_ns",
            ];
            let channels = report["channels"].as_array().unwrap().iter();
            let rows = channels.map(|channel| fields.map(|field| channel[field].clone()));
            rows.collect::<Vec<_>>()
        };
        assert_eq!(channels(&before).len(), 6);
        assert_eq!(channels(&before), channels(&after));
        assert_eq!(before["live_bytes"], after["live_bytes"]);
    }
    let (mut broker, address) = start(&data, 2);
    assert_eq!(clients.verify(address), Ok(()));
    assert_eq!(clients.catch_up(address), Ok(()));
    // A life may be too short for one of them to have its position moved.
    let mut lives = clients.followers.iter().flat_map(|it| &it.began_at);
    assert!(
        lives.any(|first| *first > 1),
        "positions survive: {:?}",
        clients.followers
    );
    broker.kill();

    let lines = sound(
        &data,
        &["dump", "--channel", "stored.0", "--from", "1", "--to", "3"],
    );
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["sequence"], 1);
    assert_eq!(lines[0]["encoding"], 1);
    assert_eq!(lines[0]["id"], "stored.0-0");
}
