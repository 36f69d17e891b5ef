//! Metrics of a real broker: every line is as the formats have it, and the figures are exact.

use std::process::Command;

use serde_json::json;

use crate::broker::{Answer, HttpBroker, PATIENCE, base64};
use crate::exposition::{Exposition, Format};
use crate::harness::{poll, root, say};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0";

fn scrape_as(broker: &HttpBroker, path: &str, accept: &str) -> Answer {
    let answer = broker.send(broker.api(), "GET", path, &[("Accept", accept)], b"");
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

fn scrape(broker: &HttpBroker, path: &str) -> Exposition {
    Exposition::read(&scrape_as(broker, path, "*/*").text, Format::Prometheus)
}

/// Scrapes until the figures are as wanted: what a core counts, it counts when it gets to it.
fn scrape_until(
    broker: &HttpBroker,
    path: &str,
    wanted: impl Fn(&Exposition) -> bool,
) -> Exposition {
    let mut last = Exposition::default();
    let found = poll(PATIENCE, || {
        last = scrape(broker, path);
        wanted(&last).then(|| last.clone())
    });
    found.unwrap_or_else(|| panic!("{last:?}"))
}

/// Sends messages to queues and events stores on many shards, and takes one out of each queue.
fn work(broker: &HttpBroker, channels: usize) {
    for number in 0..channels {
        let queue = format!("work.{number}");
        for id in ["1", "2", "3"] {
            let message = json!({
                "MessageID": id, "ClientID": "sender", "Channel": queue, "Body": base64("x"),
            });
            broker.post("/queue/send", &message).data();
        }
        let receive = json!({
            "ClientID": "receiver", "Channel": queue, "MaxNumberOfMessages": 1,
            "WaitTimeSeconds": 30,
        });
        let data = broker.post("/queue/receive", &receive).data();
        assert_eq!(data["MessagesReceived"], 1, "{data}");
        for store in [true, false] {
            let event = json!({
                "ClientID": "sender", "Channel": queue, "Body": base64("x"), "Store": store,
            });
            broker.post("/send/event", &event).data();
        }
    }
}

#[test]
fn both_formats_are_read_and_say_the_same_families() {
    let broker = HttpBroker::start(2);
    work(&broker, 3);
    let old = scrape_as(&broker, "/metrics", "text/plain");
    let plain = "text/plain; version=0.0.4; charset=utf-8";
    assert_eq!(old.header("content-type"), Some(plain));
    let old = Exposition::read(&old.text, Format::Prometheus);
    let new = scrape_as(&broker, "/metrics", OPENMETRICS);
    let open = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(new.header("content-type"), Some(open));
    let new = Exposition::read(&new.text, Format::OpenMetrics);
    let names = |exposition: &Exposition| -> Vec<String> {
        let samples = exposition.0.values().flat_map(|family| &family.samples);
        let mut names: Vec<_> = samples.map(|(name, ..)| name.clone()).collect();
        names.sort_unstable();
        names.dedup();
        names
    };
    assert_eq!(names(&old), names(&new));
    let documented = std::fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    for family in old.0.keys() {
        assert!(
            documented.contains(&format!("`{family}`")),
            "{family} is not documented"
        );
    }
    for family in [
        "kubemq_messages_count",
        "kubemq_messages_volume",
        "kubemq_messages_last_seen",
        "kubemq_clients_count",
        "kubemq_messages_delayed",
        "ringmq_queue_messages",
        "ringmq_method_duration_seconds",
        "ringmq_log_sync_duration_seconds",
        "ringmq_core_busy_seconds_total",
        "ringmq_build_info",
        "process_cpu_seconds_total",
    ] {
        let family = old
            .0
            .get(family)
            .unwrap_or_else(|| panic!("{family} is missing"));
        assert!(
            !family.samples.is_empty() && family.help.ends_with('.'),
            "{family:?}"
        );
    }
    assert_eq!(old.one("ringmq_ready", &[]), 1.0);
    assert_eq!(old.all("ringmq_core_stalls_total", &[]).len(), 2);
    broker.end();
}

#[test]
fn figures_are_those_of_the_traffic_over_all_shards() {
    const CHANNELS: usize = 9;
    let broker = HttpBroker::start(3);
    work(&broker, CHANNELS);
    let counted = |figures: &Exposition| {
        figures.sum(
            "kubemq_messages_count",
            &[("type", "queues"), ("side", "receive")],
        ) >= 9.0
            && figures.sum("kubemq_messages_count", &[("type", "events")]) >= 9.0
    };
    let figures = scrape_until(&broker, "/metrics", counted);
    for number in 0..CHANNELS {
        let channel = format!("work.{number}");
        let of = |kind: &'static str, side: &'static str| {
            let labels = [("channel", &*channel), ("type", kind), ("side", side)];
            figures.one("kubemq_messages_count", &labels)
        };
        assert_eq!((of("queues", "send"), of("queues", "receive")), (3.0, 1.0));
        assert_eq!(
            (of("events", "send"), of("events_store", "send")),
            (1.0, 1.0)
        );
        let waiting = [("channel", &*channel), ("state", "waiting")];
        assert_eq!(figures.one("ringmq_queue_messages", &waiting), 2.0);
        let kept = [("channel", &*channel), ("kind", "events_store")];
        assert_eq!(figures.one("ringmq_channel_stored_messages", &kept), 1.0);
    }
    assert_eq!(figures.one("ringmq_queue_waiting", &[]), 18.0);
    assert_eq!(figures.one("ringmq_queue_received_total", &[]), 27.0);
    assert_eq!(figures.one("ringmq_channels", &[("kind", "queues")]), 9.0);
    assert_eq!(
        figures.one("ringmq_channels_without_series", &[("kind", "queues")]),
        0.0
    );
    let clients = figures.0["kubemq_messages_count"].samples.iter();
    assert!(
        clients
            .clone()
            .all(|(_, labels, _)| labels["client_id"].is_empty())
    );
    broker.end();
}

#[test]
fn with_few_series_the_rest_is_summed_and_nothing_is_lost() {
    const CHANNELS: usize = 12;
    let broker = HttpBroker::start(2);
    work(&broker, CHANNELS);
    let counted = |figures: &Exposition| {
        figures.sum(
            "kubemq_messages_count",
            &[("type", "queues"), ("side", "receive")],
        ) >= 12.0
            && figures.sum("kubemq_messages_count", &[("type", "events")]) >= 12.0
    };
    let whole = scrape_until(&broker, "/metrics", counted);
    let few = scrape(&broker, "/metrics?channels=5");
    for name in [
        "kubemq_messages_count",
        "kubemq_messages_volume",
        "kubemq_messages_delayed",
        "ringmq_queue_messages",
        "ringmq_channel_stored_messages",
        "ringmq_channel_stored_bytes",
    ] {
        assert_eq!(few.sum(name, &[]), whole.sum(name, &[]), "{name}");
        assert!(!few.all(name, &[("channel", "")]).is_empty(), "{name}");
    }
    let series = |figures: &Exposition| {
        let samples = &figures.0["kubemq_clients_count"].samples;
        samples
            .iter()
            .filter(|(_, labels, _)| !labels["channel"].is_empty())
            .count()
    };
    assert_eq!((series(&whole), series(&few)), (3 * CHANNELS, 5));
    let rest = few.sum("ringmq_channels_without_series", &[]);
    assert_eq!(rest, few.sum("ringmq_channels", &[]) - 5.0);
    // The same ones come again: a scrape makes no new series.
    let again = scrape(&broker, "/metrics?channels=5");
    let names = |figures: &Exposition| -> Vec<_> {
        let samples = figures.0["kubemq_clients_count"].samples.iter();
        samples.map(|(_, labels, _)| labels.clone()).collect()
    };
    assert_eq!(names(&few), names(&again));
    let none = scrape(&broker, "/metrics?channels=0");
    assert!(
        !none.0.contains_key("kubemq_messages_count") && !none.0.contains_key("ringmq_channels")
    );
    assert_eq!(none.one("ringmq_queue_received_total", &[]), 36.0);
    let refused = broker.api_get("/metrics?channels=few");
    assert_eq!(refused.status, 400);
    broker.end();
}

#[test]
fn names_of_channels_are_escaped() {
    let broker = HttpBroker::start(1);
    let name = "odd\"name\\n{}";
    let event = json!({"ClientID": "c", "Channel": name, "Body": base64("x"), "Store": true});
    broker.post("/send/event", &event).data();
    let figures = scrape(&broker, "/metrics");
    assert_eq!(
        figures.sum("kubemq_messages_count", &[("channel", name)]),
        1.0
    );
    broker.end();
}

#[test]
fn failed_sends_are_counted_for_their_channel() {
    let broker = HttpBroker::start(2);
    let empty = json!({"ClientID": "c", "Channel": "failing"});
    for _ in 0..2 {
        let data = broker.post("/queue/send", &empty).data();
        assert_eq!(data["IsError"], true);
    }
    let labels = [("channel", "failing"), ("type", "queues"), ("side", "send")];
    let figures = scrape_until(&broker, "/metrics", |figures| {
        figures.sum("kubemq_errors_count", &labels) >= 2.0
    });
    assert_eq!(figures.one("kubemq_errors_count", &labels), 2.0);
    broker.end();
}

#[test]
fn promtool_finds_nothing_to_mend() {
    let tool = Command::new("promtool").arg("--version").output();
    if !tool.is_ok_and(|output| output.status.success()) {
        say("promtool is not installed: its check of the metrics was skipped");
        return;
    }
    let broker = HttpBroker::start(2);
    work(&broker, 2);
    let text = scrape_as(&broker, "/metrics", "text/plain").text;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &text).unwrap();
    let output = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(file.reopen().unwrap())
        .output()
        .unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    // Names of the reference are not ours to choose.
    let ours: Vec<_> = complaints
        .lines()
        .filter(|line| !line.starts_with("kubemq_"))
        .collect();
    assert!(ours.is_empty(), "{ours:#?}");
    broker.end();
}
