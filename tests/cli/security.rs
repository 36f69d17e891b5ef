//! Policies and audit logs, as an operator checks them.

use std::fs;
use std::path::Path;

use rustix::process::Signal;

use crate::harness::{Broker, poll};
use crate::program::{Ended, program, run};

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

const POLICY: &str = r#"[
  {"ClientID": "billing-.*", "Channel": "orders\\..*",
   "Queues": true, "Events": true, "Read": true},
  {"ClientID": ".*", "Channel": "orders\\.secret", "Events": true, "Read": true, "Deny": true}
]"#;

fn ended(arguments: &[&str]) -> Ended {
    run(&mut program(arguments), b"")
}

fn text(ended: &Ended) -> String {
    String::from_utf8_lossy(&ended.stdout).into_owned()
}

#[test]
fn a_decision_is_explained_and_is_the_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.json");
    fs::write(&path, POLICY).unwrap();
    let path = path.to_str().unwrap();
    let check = |arguments: &[&str]| {
        let ended = ended(&[&["auth", "check", "--policy", path], arguments].concat());
        (ended.code, text(&ended))
    };
    let (code, told) = check(&[]);
    assert_eq!(code, Some(0));
    assert!(told.contains("2 rules, nothing is wrong with it"), "{told}");
    let ask = |on| check(&["--as", "billing-1", "--can", "read", "--on", on]);
    let (code, told) = ask("queues:orders.eu");
    assert_eq!(code, Some(0), "{told}");
    assert!(
        told.starts_with("allowed: billing-1 may read queues:orders.eu"),
        "{told}"
    );
    let (code, told) = ask("events:orders.*");
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains(":4:3) denies orders.secret"), "{told}");

    fs::write(path, "[\n {\"ClientID\": \"a\", \"Channel\": \"a(\"}]").unwrap();
    let bad = ended(&["auth", "check", "--policy", path]);
    assert_eq!(bad.code, Some(78), "{bad:?}");
    assert!(
        bad.stderr
            .contains("line 2, column 31: no regular expression"),
        "{bad:?}"
    );
    assert_eq!(ended(&["auth", "check", "--as", "a"]).code, Some(64));
    assert_eq!(
        ended(&["auth", "check", "--policy", "/nowhere"]).code,
        Some(66)
    );
}

fn verify(path: &Path) -> (Option<i32>, String) {
    let ended = ended(&["audit", "verify", path.to_str().unwrap()]);
    (ended.code, text(&ended))
}

#[test]
fn the_log_of_a_broker_is_sound_after_a_crash_and_not_after_a_change() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let setting = format!("audit.log_file={}", path.display());
    let arguments = ["--set", &setting];
    let mut broker = Broker::start_with(1, arguments);
    let grpc = broker.grpc().to_string();
    let made = ended(&["channels", "create", "queues", "orders", "--address", &grpc]);
    assert_eq!(made.code, Some(0), "{made:?}");
    broker.signal(Signal::HUP);
    let has = |what: &str| {
        let text = fs::read_to_string(&path).unwrap();
        let what = format!(r#""what":"{what}""#);
        text.lines().any(|line| line.contains(&what)).then_some(())
    };
    for what in ["audit.begin", "channel.create", "settings.reload"] {
        assert!(
            poll(PATIENCE, || has(what)).is_some(),
            "{what}:\n{}",
            broker.log()
        );
    }
    broker.kill();
    assert!(has("audit.end").is_none());

    broker.start_again(1, arguments);
    broker.stop();
    assert!(has("audit.end").is_some());
    let (code, told) = verify(&path);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("nothing is wrong with it"), "{told}");

    let sound = fs::read_to_string(&path).unwrap();
    fs::write(&path, sound.replace("channel.create", "channel.delete")).unwrap();
    let (code, told) = verify(&path);
    assert_eq!(code, Some(1), "{told}");
    assert!(
        told.contains("is not tied to what stands before it"),
        "{told}"
    );
}

#[test]
fn a_broker_does_not_write_into_something_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("letter.txt");
    fs::write(&path, "dear all\n").unwrap();
    let data = folder.path().join("data");
    let setting = format!("audit.log_file={}", path.display());
    let refused = ended(&[
        "server",
        "--data",
        data.to_str().unwrap(),
        "--set",
        &setting,
    ]);
    assert_eq!(refused.code, Some(78), "{refused:?}");
    assert!(refused.stderr.contains("audit.log_file"), "{refused:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "dear all\n");
}
