//! `ringmq commands` and `ringmq queries`.

use crate::program::{Line, broker};

#[test]
fn a_command_is_executed_by_a_text() {
    let broker = broker();
    let line = [
        "commands",
        "receive",
        "cli.lights",
        "--response",
        "done",
        "--max",
        "1",
    ];
    let mut responder = broker.start(&[&line[..], &["-o", "json"]].concat());
    responder.told("subscribed to cli.lights");
    let answer = broker.json(&["commands", "send", "cli.lights", "on", "--metadata", "hall"]);
    assert_eq!(answer[0]["executed"], true);
    assert!(answer[0]["took_ms"].as_f64().unwrap() > 0.0);
    let request = responder.json();
    assert_eq!(request["body"], "on");
    assert_eq!(request["metadata"], "hall");
    assert_eq!(request["timeout_ms"], 30_000);
    assert_eq!(responder.end().0, Some(0));
}

#[test]
fn a_query_is_answered_by_a_program() {
    let broker = broker();
    let command = "tr a-z A-Z; printf ' on %s' \"$RINGMQ_CHANNEL\"";
    let mut responder = broker.start(&["queries", "receive", "cli.upper", "--exec", command]);
    responder.told("subscribed");
    let answer = broker.ok(&["queries", "send", "cli.upper", "hello", "--raw"]);
    assert_eq!(answer, "HELLO on cli.upper");
    let line = ["queries", "send", "cli.upper", "kept", "--cache-key", "k"];
    broker.ok(&line);
    let kept = broker.json(&line);
    assert_eq!(kept[0]["cache_hit"], true);
    assert_eq!(kept[0]["body"], "KEPT on cli.upper");
    responder.interrupt();
    let (code, lines) = responder.end();
    assert_eq!(code, Some(0), "{lines:?}");
    let is_summary =
        |line: &Line| matches!(line, Line::Err(text) if text.starts_with("2 requests"));
    assert!(lines.iter().any(is_summary), "{lines:?}");
}

#[test]
fn a_program_that_fails_or_takes_too_long_is_an_error() {
    let broker = broker();
    let mut failing = broker.start(&["commands", "receive", "cli.bad", "--exec", "exit 3"]);
    failing.told("subscribed");
    let ended = broker.run(&["commands", "send", "cli.bad", "x"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("exit status: 3"), "{ended:?}");

    let mut slow = broker.start(&["commands", "receive", "cli.slow", "--exec", "sleep 600"]);
    slow.told("subscribed");
    let ended = broker.run(&["commands", "send", "cli.slow", "x", "--timeout", "1s"]);
    assert_eq!(ended.code, Some(75), "{ended:?}");
    slow.told("took longer");
}

#[test]
fn a_person_answers_line_by_line() {
    let broker = broker();
    let mut person = broker.start(&["queries", "receive", "cli.person", "-o", "json"]);
    person.told("subscribed");
    let mut asking = broker.start(&["queries", "send", "cli.person", "name?", "--lines"]);
    assert_eq!(person.json()["body"], "name?");
    person.type_line("Ada");
    assert_eq!(asking.line(), "Ada");
    assert_eq!(asking.end().0, Some(0));
}

#[test]
fn an_error_of_the_responder_is_a_refusal() {
    let broker = broker();
    let line = [
        "commands",
        "receive",
        "cli.fail",
        "--fail",
        "out of order",
        "--max",
        "1",
    ];
    let mut responder = broker.start(&line);
    responder.told("subscribed");
    let ended = broker.run(&["commands", "send", "cli.fail", "x"]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("not executed: out of order"),
        "{ended:?}"
    );
    assert_eq!(responder.end().0, Some(0));
}
