//! Exit codes, and texts that say what to do.

use std::process::Stdio;
use std::time::Duration;

use crate::harness::poll;
use crate::program::{broker, program, run};

fn fails(arguments: &[&str], code: i32) -> String {
    let ended = run(&mut program(arguments), b"");
    assert_eq!(ended.code, Some(code), "{arguments:?}: {ended:?}");
    ended.stderr
}

#[test]
fn a_broker_that_is_not_there_is_named() {
    // A port that nobody listens on: it was ours a moment ago.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    for command in ["status", "top"] {
        let text = fails(&[command, "--address", &address], 69);
        let expected = format!("cannot reach {address}: connection refused");
        assert!(text.contains(&expected), "{text}");
        assert!(text.contains("`ringmq server` starts one"), "{text}");
    }
    let text = fails(&["events", "attach", "a", "--api", &address], 69);
    assert!(text.contains("management service"), "{text}");
}

#[test]
fn wrong_usage_says_what_is_right() {
    let text = fails(&["queues", "sned", "a"], 64);
    assert!(text.contains("send"), "{text}");
    assert!(fails(&["queues", "send", "a"], 64).contains("no body"));
    assert!(fails(&["queues", "receive", "a", "--wait", "soon"], 64).contains("30s"));
    assert!(fails(&["status", "--address", "127.0.0.1:x"], 64).contains("is no address"));
    assert!(fails(&["status", "--ca", "/nowhere/ca.pem"], 64).contains("/nowhere/ca.pem"));
    let text = fails(&["events", "send", "a", "--file", "/nowhere/body"], 66);
    assert!(text.contains("/nowhere/body"), "{text}");
}

#[test]
fn nobody_who_answers_is_a_timeout() {
    let broker = broker();
    let ended = broker.run(&["commands", "send", "cli.nobody", "x", "--timeout", "200ms"]);
    assert_eq!(ended.code, Some(75), "{ended:?}");
    assert!(ended.stderr.contains("Error 301"), "{ended:?}");
}

#[test]
fn a_closed_output_ends_quietly() {
    let broker = broker();
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = broker.command(&["events", "receive", "cli.closed", "--lines"]);
    let mut subscriber = command.stdin(Stdio::null()).stdout(writer).spawn().unwrap();
    drop(command);
    drop(reader);
    let ended = poll(Duration::from_secs(60), || {
        broker.ok(&["events", "send", "cli.closed", "x"]);
        subscriber.try_wait().unwrap()
    });
    if ended.is_none() {
        subscriber.kill().unwrap();
    }
    assert_eq!(ended.and_then(|status| status.code()), Some(0));
}
