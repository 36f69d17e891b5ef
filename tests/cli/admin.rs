//! `ringmq channels`, `status`, `top`, `completions` and the help texts.

use serde_json::Value;

use crate::program::{broker, program, run};

#[test]
fn channels_are_made_listed_purged_and_deleted() {
    let broker = broker();
    let text = broker.ok(&["channels", "create", "queues", "cli.ch.a", "cli.ch.b"]);
    assert_eq!(text, "queues cli.ch.a created\nqueues cli.ch.b created\n");
    let made = broker.json(&["channels", "create", "events-store", "cli.ch.c"]);
    assert_eq!(made[0]["done"], "created");
    broker.ok(&["events-store", "send", "cli.ch.c", "x", "--count", "2"]);

    let listed = broker.json(&["channels", "list", "--search", "cli.ch."]);
    let names: Vec<_> = listed
        .iter()
        .map(|channel| channel["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["cli.ch.c", "cli.ch.a", "cli.ch.b"],
        "sorted by kind: {listed:?}"
    );
    let queues = broker.json(&[
        "channels", "list", "--kind", "queues", "--search", "cli.ch.",
    ]);
    assert_eq!(queues.len(), 2);
    assert_eq!(queues[0]["waiting"], 0);
    let table = broker.ok(&["channels", "list", "--search", "cli.ch.c"]);
    assert!(table.contains("events_store"), "{table}");

    let purged = broker.json(&["channels", "purge", "events_store", "cli.ch.c"]);
    assert_eq!(purged[0]["removed"], 2);
    broker.ok(&["channels", "delete", "queues", "cli.ch.a"]);
    assert_eq!(
        broker.json(&["channels", "list", "--search", "cli.ch.a"]),
        [Value::Null; 0]
    );
    let refused = broker.run(&["channels", "purge", "events", "cli.ch.e"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("keep no messages"), "{refused:?}");
}

#[test]
fn status_says_whether_the_broker_is_well() {
    let broker = broker();
    let status = broker.json(&["status"]);
    assert_eq!(status[0]["health"], "serving");
    assert_eq!(status[0]["version"], "v2.6.0");
    assert!(
        status[0]["channels"]["queues"]["channels"].is_u64(),
        "{status:?}"
    );
    let text = broker.ok(&["status"]);
    for word in ["serving", "uptime", "management", "events_store"] {
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn top_prints_one_frame_where_there_is_no_terminal() {
    let broker = broker();
    broker.ok(&["queues", "send", "cli.top", "x", "--count", "3"]);
    let line = [
        "top",
        "--interval",
        "100ms",
        "--search",
        "cli.top",
        "--sort",
        "waiting",
    ];
    let frame = broker.json(&line);
    assert_eq!(frame.len(), 1);
    assert_eq!(frame[0]["channels"][0]["name"], "cli.top");
    assert_eq!(frame[0]["channels"][0]["waiting"], 3);
    assert!(frame[0]["total"]["in_per_second"].is_number(), "{frame:?}");
    let text = broker.ok(&line);
    assert!(
        text.contains("cli.top") && text.contains("waiting*"),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'), "no terminal, no colours: {text}");
}

#[test]
fn colours_are_for_those_who_want_them() {
    let broker = broker();
    let colored = |command: &str| {
        broker
            .ok(&[command, "--color", "always"])
            .contains('\u{1b}')
    };
    assert!(colored("status"));
    let address = broker.json(&["status"])[0]["address"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut command = program(&["status", "--color", "always", "--address", &address]);
    let ended = run(command.env("NO_COLOR", "1"), b"");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!ended.stdout.contains(&0x1b));
}

#[test]
fn shells_get_their_completions() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let ended = run(&mut program(&["completions", shell]), b"");
        assert_eq!(ended.code, Some(0));
        let text = String::from_utf8(ended.stdout).unwrap();
        assert!(
            text.contains("events-store") && text.contains("redrive"),
            "{shell}"
        );
    }
}

#[test]
fn help_of_every_family_has_examples() {
    let families = [
        "queues",
        "events",
        "events-store",
        "commands",
        "queries",
        "channels",
    ];
    for family in families
        .into_iter()
        .chain(["status", "top", "store", "config"])
    {
        let ended = run(&mut program(&[family, "--help"]), b"");
        assert_eq!(ended.code, Some(0));
        let text = String::from_utf8(ended.stdout).unwrap();
        assert!(
            text.contains(&format!("EXAMPLES\n  ringmq {family}")),
            "{text}"
        );
    }
}
