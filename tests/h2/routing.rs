//! Routes: several targets in one name, and the routing table.

use std::fs;
use std::time::Duration;

use prost::Message as _;
use ringmq_proto::kubemq::{
    Event, QueueMessage, QueueMessagePolicy, QueueMessagesBatchRequest, QueueMessagesBatchResponse,
    QueuesUpstreamRequest, QueuesUpstreamResponse, Result,
};

use crate::contract::{
    call, event, next_event, queue_message, receive, send_event, send_queue, subscribe_events,
    subscribe_stored, tags, unary,
};
use crate::harness::{Broker, poll};
use crate::mock::kubemq::{self, path};
use crate::mock::peer::Peer;

const INTERNAL: Option<u32> = Some(13);
const ROUTED: (&str, &str) = ("X-KUBEMQ-ROUTED", "true");

fn tagged(channel: &str, store: bool) -> Event {
    Event {
        metadata: "meta".into(),
        tags: tags(&[("key", "value")]),
        ..event(channel, store)
    }
}

pub(crate) fn a_list_of_names_is_of_the_senders_kind(broker: &Broker) {
    let address = broker.grpc();
    let mut peer = Peer::connect(address);
    let streams = ["list.a", "list.b"].map(|name| subscribe_events(&mut peer, name));
    let result = send_event(address, &tagged("list.a;list.b", false));
    assert_eq!(
        (&*result.event_id, result.sent, &*result.error),
        ("event-1", true, "")
    );
    for (stream, name) in streams.into_iter().zip(["list.a", "list.b"]) {
        let event = next_event(&mut peer, stream);
        assert_eq!((&*event.channel, &*event.event_id), (name, "event-1"));
        assert_eq!((&*event.metadata, &*event.body), ("meta", &b"body"[..]));
        assert_eq!(event.tags, tags(&[("key", "value"), ROUTED]));
    }
    assert!(send_event(address, &event("list.s;list.t", true)).sent);
    for name in ["list.s", "list.t"] {
        let stream = subscribe_stored(&mut peer, name);
        assert_eq!(next_event(&mut peer, stream).sequence, 1);
    }
    let result = send_queue(address, &queue_message("list.q;list.r"));
    assert!(!result.is_error && result.sent_at > 0, "{}", result.error);
    for name in ["list.q", "list.r"] {
        assert_eq!(receive(address, name, false).len(), 1);
    }
}

pub(crate) fn each_prefix_leads_to_its_kind(broker: &Broker) {
    let address = broker.grpc();
    let mut peer = Peer::connect(address);
    let route = |name: &str| format!("events:{name};events_store:{name};queues:{name}");
    for (name, send) in [("of.events", 0), ("of.store", 1), ("of.queues", 2)] {
        let plain = subscribe_events(&mut peer, name);
        match send {
            0 => assert!(send_event(address, &tagged(&route(name), false)).sent),
            1 => assert!(send_event(address, &tagged(&route(name), true)).sent),
            _ => assert!(!send_queue(address, &queue_message(&route(name))).is_error),
        }
        let event = next_event(&mut peer, plain);
        assert_eq!((&*event.channel, event.sequence), (name, 0));
        assert_eq!(event.tags.get(ROUTED.0).map(String::as_str), Some(ROUTED.1));
        let stored = subscribe_stored(&mut peer, name);
        let event = next_event(&mut peer, stored);
        assert_eq!((&*event.channel, event.sequence), (name, 1));
        let messages = receive(address, name, false);
        let [message] = &messages[..] else {
            panic!("{messages:?}");
        };
        assert_eq!((&*message.channel, &*message.client_id), (name, "mock"));
        assert_eq!(
            message.tags.get(ROUTED.0).map(String::as_str),
            Some(ROUTED.1)
        );
        assert_eq!(&*message.body, b"body");
    }
}

pub(crate) fn ids_are_kept_and_made_for_each_copy_where_there_is_none(broker: &Broker) {
    let address = broker.grpc();
    let message = QueueMessage {
        message_id: String::new(),
        ..queue_message("id.a;id.b")
    };
    let result = send_queue(address, &message);
    let ids = ["id.a", "id.b"].map(|name| receive(address, name, false)[0].message_id.clone());
    assert_eq!(result.message_id, ids[0], "the first one answers");
    assert!(
        ids.iter().all(|id| id.len() == 22) && ids[0] != ids[1],
        "{ids:?}"
    );
    send_queue(address, &queue_message("id.c;id.d"));
    for name in ["id.c", "id.d"] {
        assert_eq!(receive(address, name, false)[0].message_id, "message-1");
    }
}

pub(crate) fn policies_go_from_queue_to_queue(broker: &Broker) {
    let address = broker.grpc();
    let policy = QueueMessagePolicy {
        expiration_seconds: 600,
        max_receive_count: 3,
        max_receive_queue: "policy.dead".into(),
        ..QueueMessagePolicy::default()
    };
    let message = QueueMessage {
        policy: Some(policy),
        ..queue_message("policy.a;queues:policy.b")
    };
    let result = send_queue(address, &message);
    assert!(result.expiration_at > result.sent_at);
    for name in ["policy.a", "policy.b"] {
        let messages = receive(address, name, false);
        let policy = messages[0].policy.clone().expect("a policy");
        assert_eq!(
            (policy.max_receive_count, &*policy.max_receive_queue),
            (3, "policy.dead")
        );
    }
    send_event(address, &event("policy.e;queues:policy.f", false));
    let messages = receive(address, "policy.f", false);
    let attributes = messages[0].attributes.clone().expect("attributes");
    assert_eq!(attributes.expiration_at, 0, "events have no policy");
}

pub(crate) fn blanks_empty_parts_and_repetitions_do_not_count(broker: &Broker) {
    let address = broker.grpc();
    let route = "  queues: trim.a ; ;trim.a;queues:trim.a;; trim.b;";
    assert!(!send_queue(address, &queue_message(route)).is_error);
    for name in ["trim.a", "trim.b"] {
        assert_eq!(receive(address, name, false).len(), 1, "{name}");
    }
    // An unknown prefix is part of the name, with `;` and without.
    for route in ["odd:x;trim.c", "odd:x"] {
        assert!(!send_queue(address, &queue_message(route)).is_error);
        assert_eq!(receive(address, "odd:x", false).len(), 1, "{route}");
    }
}

pub(crate) fn a_target_of_the_senders_kind_is_needed(broker: &Broker) {
    let address = broker.grpc();
    for (route, store, kind) in [
        ("queues:own", false, "events"),
        ("events:own;queues:own", true, "events_store"),
        ("route:unknown", false, "events"),
        (";", true, "events_store"),
    ] {
        let reply = call(address, path::SEND_EVENT, &event(route, store));
        assert_eq!(reply.grpc_status(), INTERNAL, "{route}");
        let text = format!("no valid {kind} channel destination was found in routes");
        assert_eq!(reply.grpc_message(), text, "{route}");
    }
    let result = send_queue(address, &queue_message("events:own;events_store:own"));
    let text = "no valid queue message channel destination was found in routes";
    assert_eq!((result.is_error, &*result.error), (true, text));
    assert_eq!(result.message_id, "message-1");
    assert!(receive(address, "own", true).is_empty(), "nothing was sent");
}

pub(crate) fn a_failure_names_its_target_and_the_others_get_their_copies(broker: &Broker) {
    let address = broker.grpc();
    let queue_name = "Error 120: invalid queue name value, cannot be empty, contains wildcards ,\
                      white spaces and end with dot";
    let mut peer = Peer::connect(address);
    let stream = subscribe_events(&mut peer, "part.a");
    let result = send_event(
        address,
        &event("part.a;queues:p q;events_store:part.s", false),
    );
    let text = format!("routing: 1 of 3 failed: queues:p q: {queue_name}");
    assert_eq!((result.sent, &*result.error), (false, &*text));
    assert_eq!(result.event_id, "event-1");
    next_event(&mut peer, stream);
    let stored = subscribe_stored(&mut peer, "part.s");
    next_event(&mut peer, stored);
    let result = send_queue(address, &queue_message("part.q;events:a b;part..r"));
    let text = format!(
        "routing: 2 of 3 failed: events:a b: Error 108: invalid channel value, \
         no white spaces are allowed; queues:part..r: {queue_name}"
    );
    assert_eq!((result.is_error, &*result.error), (true, &*text));
    assert_eq!(receive(address, "part.q", false).len(), 1);
}

pub(crate) fn what_is_wrong_with_the_message_itself_is_told_as_ever(broker: &Broker) {
    let address = broker.grpc();
    let empty = Event {
        body: Vec::new().into(),
        ..event("a;b", false)
    };
    let reply = call(address, path::SEND_EVENT, &empty);
    assert!(reply.grpc_message().starts_with("Error 110"));
    let nobody = QueueMessage {
        client_id: String::new(),
        ..queue_message("a;b")
    };
    assert!(send_queue(address, &nobody).error.starts_with("Error 101"));
}

pub(crate) fn a_stream_tells_stored_events_and_failures_in_order(broker: &Broker) {
    let mut peer = Peer::connect(broker.grpc());
    let stream = peer.open(path::SEND_EVENTS_STREAM);
    let with_id = |id: &str, event: Event| Event {
        event_id: id.into(),
        ..event
    };
    let sent = [
        with_id("1", event("stream.a;stream.b", true)),
        with_id("2", event("stream.a;stream.b", false)),
        with_id("3", event("stream.a;queues:stream.q", false)),
        with_id("4", event("stream.a;queues:s q", false)),
        with_id("5", event("stream.a", true)),
        with_id("6", event("queues:stream.q", true)),
        with_id("7", event("stream.a;queues:stream.q;events:stream.p", true)),
    ];
    for (at, event) in sent.iter().enumerate() {
        assert!(peer.send_message(stream, &event.encode_to_vec(), at == sent.len() - 1));
    }
    // Plain events that went through are silent.
    let expected = [
        ("1", ""),
        ("4", "routing: 1 of 2 failed: queues:s q: Error 120"),
        ("5", ""),
        (
            "6",
            "no valid events_store channel destination was found in routes",
        ),
        ("7", ""),
    ];
    for (id, error) in expected {
        let result = peer.next_message(stream).expect("a result");
        let result = Result::decode(&*result).unwrap();
        assert_eq!(
            (&*result.event_id, result.sent),
            (id, error.is_empty()),
            "{result:?}"
        );
        assert!(result.error.starts_with(error), "{}", result.error);
    }
    assert!(peer.next_message(stream).is_none());
    assert_eq!(peer.finish(stream).grpc_status(), Some(0));
    let ids: Vec<_> = receive(broker.grpc(), "stream.q", false)
        .into_iter()
        .map(|message| message.message_id)
        .collect();
    assert_eq!(ids, ["3", "7"]);
}

fn mixed() -> Vec<QueueMessage> {
    let routes = [
        "mixed.a",
        "mixed.a;mixed.b",
        "mixed.a;events:x y",
        "events:mixed.x",
        "mixed.b",
    ];
    let message = |(number, route): (usize, &&str)| QueueMessage {
        message_id: number.to_string(),
        ..queue_message(route)
    };
    routes.iter().enumerate().map(message).collect()
}

fn assert_mixed(broker: &Broker, results: &[ringmq_proto::kubemq::SendQueueMessageResult]) {
    let errors = [
        "",
        "",
        "routing: 1 of 2 failed: events:x y: Error 108",
        "no valid queue",
        "",
    ];
    assert_eq!(results.len(), errors.len());
    for (number, (result, error)) in results.iter().zip(errors).enumerate() {
        assert_eq!(result.message_id, number.to_string());
        assert_eq!(result.is_error, !error.is_empty(), "{result:?}");
        assert!(result.error.starts_with(error), "{}", result.error);
        assert_eq!(result.sent_at > 0, error.is_empty(), "{result:?}");
    }
    let ids = |queue: &str| {
        let messages = receive(broker.grpc(), queue, false);
        let ids: Vec<_> = messages
            .into_iter()
            .map(|message| message.message_id)
            .collect();
        ids.join(" ")
    };
    assert_eq!((&*ids("mixed.a"), &*ids("mixed.b")), ("0 1 2", "1 4"));
}

pub(crate) fn a_batch_has_one_result_for_each_message(broker: &Broker) {
    let batch = QueueMessagesBatchRequest {
        batch_id: "batch-1".into(),
        messages: mixed(),
    };
    let path = path::SEND_QUEUE_MESSAGES_BATCH;
    let answer: QueueMessagesBatchResponse = unary(broker.grpc(), path, &batch);
    assert!(answer.have_errors && answer.batch_id == "batch-1");
    assert_mixed(broker, &answer.results);
}

pub(crate) fn an_upstream_has_one_result_for_each_message(broker: &Broker) {
    let request = QueuesUpstreamRequest {
        request_id: "up-1".into(),
        messages: mixed(),
    };
    let mut peer = Peer::connect(broker.grpc());
    let stream = peer.open(path::QUEUES_UPSTREAM);
    peer.send_message(stream, &request.encode_to_vec(), true);
    let answer = peer.next_message(stream).expect("an answer");
    let answer = QueuesUpstreamResponse::decode(&*answer).unwrap();
    assert!(!answer.is_error && answer.ref_request_id == "up-1");
    assert_mixed(broker, &answer.results);
    assert_eq!(peer.finish(stream).grpc_status(), Some(0));
}

pub(crate) fn requests_and_receivers_are_never_routed(broker: &Broker) {
    let mut peer = Peer::connect(broker.grpc());
    for kind in [kubemq::COMMAND, kubemq::QUERY] {
        let request = kubemq::request(kind, "a;b", b"body", 1_000);
        let reply = peer.unary(path::SEND_REQUEST, &request);
        assert_eq!(reply.grpc_status(), INTERNAL);
        assert!(
            reply.grpc_message().starts_with("Error 107"),
            "{}",
            reply.grpc_message()
        );
    }
    // A prefix is part of the name there.
    let subscribe = kubemq::subscribe(kubemq::QUERIES, "queues:x", "");
    let responder = peer.subscribe(path::SUBSCRIBE_TO_REQUESTS, &subscribe);
    let mut caller = Peer::connect(broker.grpc());
    let request = kubemq::request(kubemq::QUERY, "queues:x", b"body", 5_000);
    let asked = caller.call(path::SEND_REQUEST, &request);
    let delivered = peer.next_message(responder).expect("the request");
    peer.unary(path::SEND_RESPONSE, &kubemq::response(&delivered));
    assert_eq!(caller.finish(asked).grpc_status(), Some(0));
    let subscribe = kubemq::subscribe(kubemq::EVENTS, "a;b", "");
    let reply = peer.unary(path::SUBSCRIBE_TO_EVENTS, &subscribe);
    assert!(reply.grpc_message().starts_with("Error 107"));
}

pub(crate) fn a_dead_letter_queue_is_one_queue(broker: &Broker) {
    let policy = QueueMessagePolicy {
        max_receive_count: 1,
        max_receive_queue: "a;b".into(),
        ..QueueMessagePolicy::default()
    };
    let message = QueueMessage {
        policy: Some(policy),
        ..queue_message("dead")
    };
    let result = send_queue(broker.grpc(), &message);
    assert!(
        result.is_error && result.error.starts_with("Error 120"),
        "{result:?}"
    );
}

pub(crate) fn a_route_has_its_bounds(broker: &Broker) {
    let names: Vec<_> = (0..257).map(|number| format!("b{number}")).collect();
    let reply = call(
        broker.grpc(),
        path::SEND_EVENT,
        &event(&names.join(";"), false),
    );
    assert_eq!(reply.grpc_message(), "routing: more than 256 targets");
    assert!(send_event(broker.grpc(), &event(&names[1..].join(";"), false)).sent);
}

/// Not one of the cases that run on a broker they share: it has a table.
pub(crate) fn a_table_names_the_targets_of_keys_and_is_read_again(cores: usize) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("routes.json");
    fs::write(
        &path,
        r#"[{"Key":"orders\\..*","Routes":"queues:t.{2}; t.all"},
            {"Key":"orders.eu","Routes":"queues:t.audit;route:again"},
            {"Key":"again","Routes":"queues:t.never"},
            {"Key":"order","Routes":"queues:t.part"}]"#,
    )
    .unwrap();
    let arguments = [
        "--set".to_owned(),
        "routing.enable=true".to_owned(),
        "--set".to_owned(),
        format!("routing.file_path={}", path.display()),
        "--set".to_owned(),
        "routing.auto_reload=1".to_owned(),
    ];
    let broker = Broker::start_with(cores, &arguments);
    let address = broker.grpc();
    let count = |queue: &str| receive(address, queue, true).len();
    for (sent, key) in ["route:orders.eu", " routes: orders.eu ; t.own"]
        .into_iter()
        .enumerate()
    {
        let result = send_queue(address, &queue_message(&format!("{key};")));
        assert!(!result.is_error, "{}", result.error);
        for queue in ["t.eu", "t.all", "t.audit"] {
            assert_eq!(count(queue), sent + 1, "{queue}");
        }
    }
    assert_eq!(
        (count("t.own"), count("t.never"), count("t.part")),
        (1, 0, 0)
    );
    let unknown = send_queue(address, &queue_message("route:again2"));
    assert!(
        unknown.error.starts_with("no valid queue message"),
        "{}",
        unknown.error
    );
    // A bad table is refused, and told once.
    fs::write(&path, "[{\"Key\":\"*\",\"Routes\":\"a\"}]").unwrap();
    let told = || {
        broker
            .log()
            .matches("the routing table is not replaced")
            .count()
    };
    assert!(poll(Duration::from_secs(10), || (told() > 0).then_some(())).is_some());
    assert!(
        broker.log().contains("the Key of entry 1"),
        "{}",
        broker.log()
    );
    assert!(!send_queue(address, &queue_message("route:orders.us")).is_error);
    assert_eq!(count("t.us"), 1);
    fs::write(&path, r#"[{"Key":"orders.us","Routes":"t.new"}]"#).unwrap();
    let replaced = poll(Duration::from_secs(10), || {
        let result = send_queue(address, &queue_message("route:orders.us"));
        assert!(!result.is_error, "{}", result.error);
        (count("t.new") > 0).then_some(())
    });
    assert!(replaced.is_some(), "the new table counts");
    assert_eq!(told(), 1);
    broker.stop();
}

/// Not one of the cases that run on a broker they share: these do not start.
pub(crate) fn a_table_stands_in_the_configuration_and_a_bad_one_is_no_start() {
    let table = r#"[{"Key":"k.*y","Routes":"inline.q"}]"#;
    let set = |value: String| {
        [
            "--set".to_owned(),
            "routing.enable=true".to_owned(),
            "--set".to_owned(),
            value,
        ]
    };
    for anchored in [true, false] {
        let mut arguments = set(format!("routing.data={table}")).to_vec();
        arguments.extend(["--set".to_owned(), format!("routing.anchored={anchored}")]);
        let broker = Broker::start_with(1, &arguments);
        assert!(!send_queue(broker.grpc(), &queue_message("route:key")).is_error);
        let part = send_queue(broker.grpc(), &queue_message("route:a key that is longer"));
        assert_eq!(part.is_error, anchored);
        broker.stop();
    }
    for (value, text) in [
        ("routing.data=[1]".to_owned(), "the table is no JSON array"),
        (
            "routing.file_path=/nowhere/routes.json".to_owned(),
            "/nowhere/routes.json",
        ),
        (
            "routing.url=http://a/b".to_owned(),
            "fetches no routing table",
        ),
    ] {
        let mut command = std::process::Command::new(Broker::BINARY);
        let folder = tempfile::tempdir().unwrap();
        command
            .arg("server")
            .args(["--grpc-port", "0", "--data"])
            .arg(folder.path());
        let output = command.args(set(value)).output().unwrap();
        assert_eq!(output.status.code(), Some(78), "{text}");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains(text), "{told}");
    }
}
