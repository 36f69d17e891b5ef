//! `ringmq queues`.

use serde_json::json;

use crate::program::{Line, broker, objects};

#[test]
fn a_message_is_sent_looked_at_and_taken() {
    let broker = broker();
    let sent = broker.json(&[
        "queues",
        "send",
        "cli.tea",
        "one tea",
        "--metadata",
        "m",
        "--tag",
        "a=1",
        "--tag",
        "b=2",
        "--expiration",
        "1h",
        "--id",
        "tea-1",
    ]);
    assert_eq!(sent[0]["channel"], "cli.tea");
    assert_eq!(sent[0]["id"], "tea-1");
    assert_eq!(sent[0]["sent"], true);
    assert!(sent[0]["expires"].as_str().unwrap() > sent[0]["time"].as_str().unwrap());

    let peeked = broker.json(&["queues", "peek", "cli.tea"]);
    let taken = broker.json(&["queues", "receive", "cli.tea"]);
    for found in [&peeked[0], &taken[0]] {
        assert_eq!(found["body"], "one tea");
        assert_eq!(found["metadata"], "m");
        assert_eq!(found["tags"], json!({"a": "1", "b": "2"}));
        assert_eq!(found["sequence"], 1);
        assert_eq!(found["client"], "ringmq-cli");
    }
    let ended = broker.run(&["queues", "receive", "cli.tea", "--wait", "1s"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("no message in cli.tea"), "{ended:?}");
}

#[test]
fn people_read_a_line_of_facts_and_the_body() {
    let broker = broker();
    let text = broker.ok(&["queues", "send", "cli.people", "hello", "--id", "x"]);
    assert_eq!(text, "sent x to cli.people\n");
    let text = broker.ok(&["queues", "receive", "cli.people"]);
    let (head, body) = text.split_once('\n').unwrap();
    assert!(
        head.starts_with("cli.people #1  ") && head.contains("id x"),
        "{text}"
    );
    assert_eq!(body, "hello\n");
    let quiet = broker.ok(&["queues", "send", "cli.people", "hello", "--quiet"]);
    assert_eq!(quiet, "");
}

#[test]
fn bodies_come_from_the_input_and_go_out_as_bytes() {
    let broker = broker();
    let bytes = [0xff, 0, b'\n', 7];
    broker.ok_with(&["queues", "send", "cli.bytes", "-"], &bytes);
    broker.ok_with(&["queues", "send", "cli.bytes", "--file", "-"], &bytes);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("body");
    std::fs::write(&path, bytes).unwrap();
    broker.ok(&[
        "queues",
        "send",
        "cli.bytes",
        "--file",
        path.to_str().unwrap(),
    ]);

    let peeked = broker.json(&["queues", "peek", "cli.bytes"]);
    assert_eq!(peeked.len(), 3);
    for message in &peeked {
        assert_eq!(message["body_base64"], "/wAKBw==");
        assert_eq!(message.get("body"), None);
    }
    let raw = broker.run(&["queues", "receive", "cli.bytes", "--raw"]);
    assert_eq!(
        (raw.code, raw.stdout.as_slice()),
        (Some(0), bytes.as_slice())
    );
}

#[test]
fn each_line_of_the_input_is_a_message() {
    let broker = broker();
    let lines: String = (1..=250)
        .map(|number| format!("line {number}\r\n\n"))
        .collect();
    let text = broker.ok_with(
        &["queues", "send", "cli.lines", "--lines"],
        lines.as_bytes(),
    );
    assert_eq!(text, "250 messages sent to cli.lines\n");
    let text = broker.ok(&["queues", "receive", "cli.lines", "--max", "250", "--lines"]);
    let expected: String = (1..=250).map(|number| format!("line {number}\n")).collect();
    assert_eq!(text, expected);
    let sent = broker.json(&[
        "queues",
        "send",
        "cli.lines",
        "x",
        "--count",
        "3",
        "--rate",
        "100",
    ]);
    assert_eq!(sent.len(), 3);
}

#[test]
fn a_delayed_message_and_its_policy_are_the_brokers_business() {
    let broker = broker();
    let line = [
        "queues",
        "send",
        "cli.delay",
        "x",
        "--delay",
        "1h",
        "--max-receives",
        "3",
    ];
    let sent = broker.json(&[&line[..], &["--dead-letter-queue", "cli.delay.dead"]].concat());
    assert!(sent[0]["delayed_to"].as_str().unwrap() > sent[0]["time"].as_str().unwrap());
    let ended = broker.run(&["queues", "send", "cli.delay", "x", "--delay", "999d"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("Error 135"), "{ended:?}");
}

#[test]
fn queues_are_listed_told_emptied_and_purged() {
    let broker = broker();
    broker.ok(&["queues", "send", "cli.admin", "x", "--count", "5"]);
    let listed = broker.json(&["queues", "list", "--search", "cli.admin"]);
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["name"], "cli.admin");
    assert_eq!(listed[0]["waiting"], 5);
    let info = broker.json(&["queue", "info", "cli.admin"]);
    assert_eq!(info[0], listed[0]);
    let table = broker.ok(&["queues", "list", "--search", "cli.admin"]);
    assert!(
        table.contains("waiting") && table.contains("cli.admin"),
        "{table}"
    );
    let facts = broker.ok(&["queues", "info", "cli.admin"]);
    assert!(facts.contains("last sequence"), "{facts}");

    let removed = broker.json(&["queues", "ack", "cli.admin"]);
    assert_eq!(removed[0], json!({"queue": "cli.admin", "removed": 5}));
    broker.ok(&["queues", "send", "cli.admin", "x", "--count", "2"]);
    let text = broker.ok(&["queues", "purge", "cli.admin"]);
    assert_eq!(text, "2 messages removed from cli.admin\n");
    assert_eq!(broker.run(&["queues", "info", "cli.none"]).code, Some(1));
}

#[test]
fn messages_are_settled_as_flags_say() {
    let broker = broker();
    broker.ok(&["queues", "send", "cli.auto", "x", "--count", "3"]);
    let line = [
        "queues", "stream", "cli.auto", "--auto", "ack", "--wait", "1s", "--max", "2",
    ];
    let taken = broker.json(&line);
    assert_eq!(taken.len(), 2);
    let line = [
        "queues",
        "stream",
        "cli.auto",
        "--auto",
        "resend",
        "--to",
        "cli.auto.to",
    ];
    assert_eq!(
        broker.json(&[&line[..], &["--wait", "1s"]].concat()).len(),
        1
    );
    assert_eq!(
        broker.json(&["queues", "receive", "cli.auto.to"])[0]["body"],
        "x"
    );
    let line = [
        "queues", "stream", "cli.auto", "--auto", "ack", "--wait", "1s",
    ];
    assert_eq!(broker.run(&line).code, Some(1), "nothing is left");
}

#[test]
fn messages_are_settled_as_somebody_types() {
    let broker = broker();
    let lines = broker.ok_with(&["queues", "send", "cli.ask", "--lines"], b"1\n2\n3\n");
    assert!(lines.contains('3'));
    let mut stream = broker.start(&["queues", "stream", "cli.ask", "-o", "json"]);
    assert_eq!(stream.json()["body"], "1");
    stream.type_line("what?");
    stream.told("answer with one of");
    stream.type_line("extend 1m");
    stream.told("extended");
    stream.type_line("ack");
    assert_eq!(stream.json()["body"], "2");
    stream.type_line("reject");
    assert_eq!(stream.json()["body"], "3");
    stream.type_line("quit");
    let (code, lines) = stream.end();
    assert_eq!(code, Some(0), "{lines:?}");
    let summary = Line::Err("2 messages: 1 acknowledged, 1 rejected".to_owned());
    assert!(lines.contains(&summary), "{lines:?}");
    let left = broker.json(&[
        "queues", "receive", "cli.ask", "--max", "2", "--wait", "10s",
    ]);
    let mut bodies: Vec<_> = left
        .iter()
        .map(|message| message["body"].as_str().unwrap())
        .collect();
    bodies.sort_unstable();
    assert_eq!(bodies, ["2", "3"]);
}

/// The answer that was awaited when a message's time was over is that to the next message.
#[test]
fn no_answer_is_lost_when_a_messages_time_is_over() {
    let broker = broker();
    broker.ok_with(&["queues", "send", "cli.late", "--lines"], b"1\n");
    let line = [
        "queues",
        "stream",
        "cli.late",
        "-o",
        "json",
        "--visibility",
        "1s",
    ];
    let mut stream = broker.start(&[&line[..], &["--max", "2"]].concat());
    assert_eq!(stream.json()["receives"], 1);
    stream.told("Error 129");
    assert_eq!(stream.json()["receives"], 2);
    stream.type_line("ack");
    let (code, lines) = stream.end();
    assert_eq!(code, Some(0), "{lines:?}");
    let is_summary =
        |line: &Line| matches!(line, Line::Err(text) if text.starts_with("2 messages"));
    assert!(lines.iter().any(is_summary), "{lines:?}");
}

#[test]
fn dead_letters_go_back() {
    let broker = broker();
    let send = ["queues", "send", "cli.work", "x", "--max-receives", "1"];
    broker.ok(&[&send[..], &["--dead-letter-queue", "cli.work.dead"]].concat());
    let reject = [
        "queues", "stream", "cli.work", "--auto", "reject", "--max", "1",
    ];
    broker.ok(&reject);
    let dead = broker.json(&[
        "queues",
        "peek",
        "cli.work.dead",
        "--wait",
        "20s",
        "--max",
        "1",
    ]);
    assert_eq!(dead[0]["dead_letter_of"], "cli.work");
    let moved = broker.json(&[
        "queue",
        "redrive",
        "--from",
        "cli.work.dead",
        "--rate",
        "10/s",
    ]);
    assert_eq!(moved[0]["moved"], 1);
    let back = broker.json(&["queues", "receive", "cli.work", "--wait", "20s"]);
    assert_eq!(back[0]["body"], "x");
}

#[test]
fn watching_goes_on_until_it_is_stopped() {
    let broker = broker();
    let mut watching = broker.start(&["queues", "receive", "cli.watch", "--watch", "--lines"]);
    watching.told("receiving from cli.watch");
    for body in ["first", "second"] {
        broker.ok(&["queues", "send", "cli.watch", body]);
        assert_eq!(watching.line(), body);
    }
    watching.interrupt();
    let (code, lines) = watching.end();
    assert_eq!(code, Some(0), "{lines:?}");
    assert!(
        lines.contains(&Line::Err("2 messages received".to_owned())),
        "{lines:?}"
    );
}

#[test]
fn refused_messages_do_not_stop_those_behind_them() {
    let broker = broker();
    let ended = broker.run(&["queues", "send", "cli.*", "x", "--count", "2", "-o", "json"]);
    assert_eq!(ended.code, Some(1));
    let results = objects(std::str::from_utf8(&ended.stdout).unwrap());
    assert_eq!(results.len(), 2);
    assert_eq!(results[0]["sent"], false);
    assert!(
        results[0]["error"]
            .as_str()
            .unwrap()
            .starts_with("Error 120"),
        "{ended:?}"
    );
}
