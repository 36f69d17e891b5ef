//! `ringmq events` and `ringmq events-store`.

use std::time::Duration;

use crate::harness::poll;
use crate::program::{Line, broker};

#[test]
fn events_reach_a_subscriber_with_wildcards() {
    let broker = broker();
    let line = ["events", "subscribe", "cli.sensors.*", "--output", "json"];
    let mut subscriber = broker.start(&line);
    subscriber.told("subscribed to cli.sensors.*");
    let text = broker.ok(&[
        "events",
        "send",
        "cli.sensors.hall",
        "21.5",
        "--tag",
        "unit=C",
    ]);
    assert!(
        text.starts_with("sent ") && text.ends_with(" to cli.sensors.hall\n"),
        "{text}"
    );
    let event = subscriber.json();
    assert_eq!(event["channel"], "cli.sensors.hall");
    assert_eq!(event["body"], "21.5");
    assert_eq!(event["tags"]["unit"], "C");
    subscriber.interrupt();
    let (code, lines) = subscriber.end();
    assert_eq!(code, Some(0), "{lines:?}");
    let is_summary =
        |line: &Line| matches!(line, Line::Err(text) if text.starts_with("1 event in"));
    assert!(lines.iter().any(is_summary), "{lines:?}");
}

#[test]
fn a_subscription_ends_after_so_many_events_or_a_silence() {
    let broker = broker();
    let line = [
        "events",
        "receive",
        "cli.bounded",
        "--max",
        "3",
        "--lines",
        "--group",
        "g",
    ];
    let mut subscriber = broker.start(&line);
    subscriber.told("subscribed");
    broker.ok(&[
        "events",
        "send",
        "cli.bounded",
        "x",
        "--count",
        "3",
        "--stream",
    ]);
    let (code, lines) = subscriber.end();
    assert_eq!(code, Some(0));
    let bodies = lines
        .iter()
        .filter(|line| **line == Line::Out("x".to_owned()));
    assert_eq!(bodies.count(), 3, "{lines:?}");

    let ended = broker.run(&["events", "receive", "cli.silent", "--wait", "100ms"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("nothing came"), "{ended:?}");
}

#[test]
fn stored_events_are_replayed_from_where_one_says() {
    let broker = broker();
    let lines = b"one\ntwo\nthree\n";
    let line = ["events-store", "send", "cli.audit", "--lines", "--stream"];
    assert_eq!(broker.ok_with(&line, lines), "3 events sent to cli.audit\n");
    let sent = broker.json(&["events-store", "send", "cli.audit", "four", "--stream"]);
    assert_eq!((sent.len(), &sent[0]["sent"]), (1, &true.into()));

    let replayed = |start: &[&str]| {
        let line = [
            "events-store",
            "receive",
            "cli.audit",
            "--wait",
            "1s",
            "--lines",
        ];
        broker.ok(&[&line[..], start].concat())
    };
    assert_eq!(replayed(&["--start-first"]), "one\ntwo\nthree\nfour\n");
    assert_eq!(replayed(&["--start-first", "--max", "2"]), "one\ntwo\n");
    assert_eq!(replayed(&["--start-last"]), "four\n");
    assert_eq!(replayed(&["--start-sequence", "3"]), "three\nfour\n");
    assert_eq!(
        replayed(&["--start-duration", "1h"]),
        "one\ntwo\nthree\nfour\n"
    );
    assert_eq!(
        replayed(&["--start-time", "2020-01-01 00:00:00", "--max", "1"]),
        "one\n"
    );
    let line = [
        "events-store",
        "receive",
        "cli.audit",
        "--start-new",
        "--wait",
        "200ms",
    ];
    assert_eq!(broker.run(&line).code, Some(1));
}

#[test]
fn a_reader_with_a_name_goes_on_where_it_stopped() {
    let broker = broker();
    broker.ok_with(
        &["events-store", "send", "cli.named", "--lines"],
        b"1\n2\n3\n",
    );
    let read = || {
        let line = [
            "events-store",
            "receive",
            "cli.named",
            "--start-first",
            "--client-id",
        ];
        let ended = broker.run(&[&line[..], &["reader", "--wait", "2s", "--lines"]].concat());
        String::from_utf8(ended.stdout).unwrap()
    };
    assert_eq!(read(), "1\n2\n3\n");
    // Until the broker knows that all has been read, a part of it comes again.
    let end = poll(Duration::from_secs(60), || read().is_empty().then_some(()));
    assert!(end.is_some());
    broker.ok(&["events-store", "send", "cli.named", "4"]);
    assert_eq!(read(), "4\n");
    let listed = broker.json(&["events-store", "list", "--search", "cli.named"]);
    assert_eq!(listed[0]["kind"], "events_store");
    assert_eq!(listed[0]["messages_in"], 4);
}

#[test]
fn refused_events_are_told() {
    let broker = broker();
    let ended = broker.run(&["events", "send", "cli.*", "x"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("Error 107"), "{ended:?}");
    for stream in [&[][..], &["--stream"]] {
        let line = [
            &["events", "send", "cli.*", "x", "--count", "2"][..],
            stream,
        ]
        .concat();
        let ended = broker.run(&line);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains("2 of 2 were refused"), "{ended:?}");
    }
    let ended = broker.run(&["events-store", "receive", "cli.>"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("Error 107"), "{ended:?}");
}
