//! `ringmq … attach`.

use crate::program::{Line, broker};

#[test]
fn what_goes_through_a_channel_is_seen_and_not_taken() {
    let broker = broker();
    let mut view = broker.start(&["queues", "attach", "cli.view", "-o", "json", "--max", "2"]);
    view.told("connected");
    broker.ok(&["queues", "send", "cli.view", "first"]);
    broker.ok(&["queues", "send", "cli.view", "second"]);
    assert_eq!(view.json()["body"], "first");
    assert_eq!(view.json()["body"], "second");
    let (code, lines) = view.end();
    assert_eq!(code, Some(0), "{lines:?}");
    let taken = broker.json(&[
        "queues", "receive", "cli.view", "--max", "2", "--wait", "10s",
    ]);
    assert_eq!(taken.len(), 2);
}

#[test]
fn only_what_matches_is_shown() {
    let broker = broker();
    let line = [
        "events",
        "attach",
        "cli.filter",
        "--include",
        "keep",
        "--exclude",
        "not",
    ];
    let mut view = broker.start(&line);
    view.told("connected");
    for body in ["skip", "keep not", "keep me"] {
        broker.ok(&["events", "send", "cli.filter", body]);
    }
    let head = view.line();
    assert!(head.starts_with("cli.filter  "), "{head}");
    assert_eq!(view.line(), "keep me");
    view.interrupt();
    let (code, lines) = view.end();
    assert_eq!(code, Some(0), "{lines:?}");
    assert!(
        lines.contains(&Line::Err("1 message".to_owned())),
        "{lines:?}"
    );
}
