//! Channel management as the SDKs use it, and `QueuesInfo`.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prost::Message as _;
use ringmq_proto::kubemq::{QueueMessage, QueueMessagePolicy, QueuesDownstreamResponse};
use serde_json::{Value, json};

use rustix::process::Signal;

use crate::contract::{
    KINDS, MANAGEMENT, call, change, event, list, listed, manage, next_event, operation,
    queue_message, queues_info, receive, send_event, send_queue, subscribe_events,
    subscribe_stored, unary,
};
use crate::harness::Broker;
use crate::mock::kubemq::{self, path};
use crate::mock::peer::Peer;
use crate::mock::queues;

pub(crate) fn a_created_channel_is_listed_before_it_is_used(broker: &Broker) {
    let address = broker.grpc();
    for kind in KINDS {
        assert_eq!(list(address, kind, ""), [] as [Value; 0], "{kind}");
        let name = format!("created.{kind}");
        let response = change(address, "create-channel", kind, &name);
        assert_eq!(response.request_id, "manage-1");
        let item = listed(address, kind, &name);
        assert_eq!(
            (&item["type"], &item["isActive"]),
            (&json!(kind), &json!(false))
        );
        assert_eq!(item["incoming"]["messages"], 0);
        assert_eq!(list(address, kind, "").len(), 1, "{kind}");
    }
}

pub(crate) fn creating_what_is_there_and_deleting_what_is_not_succeeds(broker: &Broker) {
    let address = broker.grpc();
    for kind in KINDS {
        change(address, "delete-channel", kind, "again");
        change(address, "create-channel", kind, "again");
        change(address, "create-channel", kind, "again");
        assert_eq!(list(address, kind, "again").len(), 1, "{kind}");
        change(address, "delete-channel", kind, "again");
        change(address, "delete-channel", kind, "again");
        assert_eq!(list(address, kind, "again").len(), 0, "{kind}");
    }
}

pub(crate) fn an_empty_list_is_an_empty_array(broker: &Broker) {
    for kind in KINDS {
        let response = manage(broker.grpc(), "list-channels", &[("channel_type", kind)]);
        assert_eq!((response.executed, &*response.error), (true, ""), "{kind}");
        assert_eq!(&*response.body, b"[]", "{kind}");
    }
}

pub(crate) fn a_list_has_exactly_the_keys_of_its_kind(broker: &Broker) {
    let address = broker.grpc();
    for kind in KINDS {
        change(address, "create-channel", kind, "keys");
        let item = listed(address, kind, "keys");
        let keys = |value: &Value| {
            let object = value.as_object().expect("an object");
            let mut keys: Vec<_> = object.keys().cloned().collect();
            keys.sort_unstable();
            keys.join(" ")
        };
        assert_eq!(
            keys(&item),
            "incoming isActive lastActivity name outgoing type"
        );
        let counters = match kind {
            "queues" => "delayed expired messages volume waiting",
            "commands" | "queries" => "messages responses volume",
            _ => "messages volume",
        };
        for side in ["incoming", "outgoing"] {
            assert_eq!(keys(&item[side]), counters, "{kind}");
            let numbers = item[side].as_object().expect("an object").values();
            numbers.for_each(|number| assert!(number.is_u64(), "{kind}: {number}"));
        }
        assert!(item["name"].is_string() && item["isActive"].is_boolean());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let last = Duration::from_millis(item["lastActivity"].as_u64().expect("an integer"));
        assert!(
            now.abs_diff(last) < Duration::from_secs(60),
            "{kind}: {last:?}"
        );
    }
}

pub(crate) fn a_search_finds_names_that_hold_its_text(broker: &Broker) {
    let address = broker.grpc();
    for kind in KINDS {
        for name in ["find.one", "find.two", "other"] {
            change(address, "create-channel", kind, name);
        }
        for (search, count) in [("find", 2), ("find.one", 1), ("n", 2), ("", 3), ("Find", 0)] {
            assert_eq!(list(address, kind, search).len(), count, "{kind}: {search}");
        }
        let absent = manage(address, "list-channels", &[("channel_type", kind)]);
        let absent: Vec<Value> = serde_json::from_slice(&absent.body).unwrap();
        assert_eq!(absent.len(), 3, "{kind}");
    }
}

pub(crate) fn requests_of_every_sdk_are_accepted(broker: &Broker) {
    let address = broker.grpc();
    // One sends no id, one no client id among the tags of a delete.
    let tags = [("channel_type", "queues"), ("channel", "sdk")];
    for name in ["create-channel", "delete-channel"] {
        let mut request = operation(name, &tags);
        request.request_id = String::new();
        let response: ringmq_proto::kubemq::Response = unary(address, path::SEND_REQUEST, &request);
        assert_eq!((response.executed, &*response.error), (true, ""), "{name}");
        assert_eq!(response.request_id, "");
    }
}

pub(crate) fn what_cannot_be_done_is_an_error_in_an_ordinary_answer(broker: &Broker) {
    let queue = ("channel_type", "queues");
    type Tags = [(&'static str, &'static str)];
    let cases: [(&str, &Tags, &str); 8] = [
        ("no-such-op", &[queue], "unknown operation"),
        ("list-channels", &[], "the tag channel_type is missing"),
        ("create-channel", &[], "the tag channel_type is missing"),
        ("create-channel", &[queue], "the tag channel is missing"),
        (
            "delete-channel",
            &[("channel_type", "nope"), ("channel", "a")],
            "unknown channel_type",
        ),
        ("create-channel", &[queue, ("channel", "a b")], "Error 120"),
        (
            "create-channel",
            &[("channel_type", "events"), ("channel", "a.*")],
            "Error 107",
        ),
        (
            "purge-channel",
            &[("channel_type", "events"), ("channel", "a")],
            "keep no messages",
        ),
    ];
    for (name, tags, text) in cases {
        let response = manage(broker.grpc(), name, tags);
        assert!(!response.executed, "{name}");
        assert!(response.error.contains(text), "{name}: {}", response.error);
    }
}

pub(crate) fn a_command_is_told_to_be_a_query(broker: &Broker) {
    let mut request = operation("list-channels", &[("channel_type", "queues")]);
    request.request_type_data = i32::try_from(kubemq::COMMAND).unwrap();
    let answer: ringmq_proto::kubemq::Response = unary(broker.grpc(), path::SEND_REQUEST, &request);
    assert!(
        !answer.executed && answer.error.contains("queries"),
        "{}",
        answer.error
    );
}

pub(crate) fn nobody_else_serves_the_channel_of_management(broker: &Broker) {
    let mut peer = Peer::connect(broker.grpc());
    for kind in [kubemq::COMMANDS, kubemq::QUERIES] {
        let subscribe = kubemq::subscribe(kind, MANAGEMENT, "");
        let reply = peer.unary(path::SUBSCRIBE_TO_REQUESTS, &subscribe);
        assert_eq!(reply.grpc_status(), Some(13));
        assert!(reply.grpc_message().contains("belongs to the broker"));
    }
    // A pattern matches, and sees nothing of it.
    let everything = kubemq::subscribe(kubemq::QUERIES, ">", "");
    let stream = peer.subscribe(path::SUBSCRIBE_TO_REQUESTS, &everything);
    assert_eq!(list(broker.grpc(), "queues", ""), [] as [Value; 0]);
    assert!(!peer.wait_for(Duration::from_millis(100), |peer| peer.reply(stream).ended));
    assert!(peer.reply(stream).take_message().is_none());
}

pub(crate) fn queues_are_listed_with_what_is_in_them(broker: &Broker) {
    let address = broker.grpc();
    let with = |policy: QueueMessagePolicy| QueueMessage {
        policy: Some(policy),
        ..queue_message("figures")
    };
    send_queue(address, &queue_message("figures"));
    send_queue(address, &queue_message("figures"));
    let delayed = QueueMessagePolicy {
        delay_seconds: 3600,
        ..QueueMessagePolicy::default()
    };
    send_queue(address, &with(delayed));
    let item = listed(address, "queues", "figures");
    let incoming = &item["incoming"];
    assert_eq!(
        (&incoming["messages"], &incoming["waiting"]),
        (&json!(3), &json!(2))
    );
    assert_eq!(
        (&incoming["delayed"], &incoming["expired"]),
        (&json!(1), &json!(0))
    );
    assert!(incoming["volume"].as_u64().unwrap() >= 12, "{item}");
    assert_eq!(item["outgoing"]["messages"], 0);
    assert_eq!(item["isActive"], true, "a message came a moment ago");
    assert_eq!(receive(address, "figures", false).len(), 2);
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        // They are settled behind the answer.
        let item = listed(address, "queues", "figures");
        let (incoming, outgoing) = (&item["incoming"], &item["outgoing"]);
        if outgoing["messages"] == 2 {
            assert_eq!(
                (&incoming["messages"], &incoming["waiting"]),
                (&json!(3), &json!(0))
            );
            return;
        }
        assert!(Instant::now() < deadline, "{item}");
    }
}

pub(crate) fn stored_events_are_listed_with_what_came_and_went(broker: &Broker) {
    let address = broker.grpc();
    for _ in 0..3 {
        assert!(send_event(address, &event("stored", true)).sent);
    }
    let item = listed(address, "events_store", "stored");
    assert_eq!(
        (&item["incoming"]["messages"], &item["isActive"]),
        (&json!(3), &json!(true))
    );
    assert!(item["incoming"]["volume"].as_u64().unwrap() >= 12, "{item}");
    let mut peer = Peer::connect(address);
    let stream = subscribe_stored(&mut peer, "stored");
    (0..3).for_each(|_| drop(next_event(&mut peer, stream)));
    let item = listed(address, "events_store", "stored");
    assert_eq!(item["outgoing"]["messages"], 3);
    assert_eq!(item["isActive"], true);
}

pub(crate) fn events_are_listed_with_what_came_and_went(broker: &Broker) {
    let address = broker.grpc();
    let mut peers = [Peer::connect(address), Peer::connect(address)];
    let streams = peers.each_mut().map(|peer| subscribe_events(peer, "plain"));
    let item = listed(address, "events", "plain");
    assert_eq!(item["isActive"], true, "somebody is subscribed");
    assert_eq!(item["incoming"]["messages"], 0);
    for _ in 0..3 {
        assert!(send_event(address, &event("plain", false)).sent);
        for (peer, stream) in peers.iter_mut().zip(streams) {
            // What was delivered has been counted.
            next_event(peer, stream);
        }
    }
    let item = listed(address, "events", "plain");
    assert_eq!(item["incoming"]["messages"], 3);
    assert_eq!(item["outgoing"]["messages"], 6, "to two subscribers");
    let volume = |side: &str| item[side]["volume"].as_u64().unwrap();
    assert!(
        volume("incoming") >= 12 && volume("outgoing") == 2 * volume("incoming"),
        "{item}"
    );
}

pub(crate) fn requests_are_listed_with_their_responses(broker: &Broker) {
    let address = broker.grpc();
    for (kind, name, subscribe, request) in [
        (
            kubemq::COMMAND,
            "commands",
            kubemq::COMMANDS,
            "ask.commands",
        ),
        (kubemq::QUERY, "queries", kubemq::QUERIES, "ask.queries"),
    ] {
        let mut responder = Peer::connect(address);
        let subscribe = kubemq::subscribe(subscribe, request, "");
        let stream = responder.subscribe(path::SUBSCRIBE_TO_REQUESTS, &subscribe);
        let mut caller = Peer::connect(address);
        let asked = caller.call(
            path::SEND_REQUEST,
            &kubemq::request(kind, request, b"body", 5_000),
        );
        let delivered = responder.next_message(stream).expect("a request");
        responder.unary(path::SEND_RESPONSE, &kubemq::response(&delivered));
        assert_eq!(caller.finish(asked).grpc_status(), Some(0));
        // One that nobody answers has no response.
        let asked = kubemq::request(kind, request, b"body", 1);
        Peer::connect(address).unary(path::SEND_REQUEST, &asked);
        let item = listed(address, name, request);
        let (incoming, outgoing) = (&item["incoming"], &item["outgoing"]);
        assert_eq!(
            (&incoming["messages"], &incoming["responses"]),
            (&json!(2), &json!(1))
        );
        assert_eq!(
            (&outgoing["messages"], &outgoing["responses"]),
            (&json!(2), &json!(1))
        );
        assert_eq!(item["isActive"], true);
    }
}

pub(crate) fn a_deleted_channel_is_gone_with_all_it_had(broker: &Broker) {
    let address = broker.grpc();
    send_queue(address, &queue_message("gone"));
    send_event(address, &event("gone", true));
    let mut peer = Peer::connect(address);
    let stream = subscribe_stored(&mut peer, "gone");
    next_event(&mut peer, stream);
    for kind in ["queues", "events_store"] {
        change(address, "delete-channel", kind, "gone");
        assert_eq!(list(address, kind, "gone"), [] as [Value; 0], "{kind}");
    }
    let ended = peer.finish(stream);
    assert_eq!(ended.grpc_status(), Some(14), "its subscriptions end");
    assert!(receive(address, "gone", true).is_empty());
    send_queue(address, &queue_message("gone"));
    let messages = receive(address, "gone", true);
    let sequence = messages[0].attributes.as_ref().map(|found| found.sequence);
    assert_eq!(sequence, Some(1), "it is another one");
    // What went over a channel that is not stored is forgotten too.
    send_event(address, &event("gone", false));
    change(address, "delete-channel", "events", "gone");
    let deadline = Instant::now() + Duration::from_secs(5);
    while !list(address, "events", "gone").is_empty() {
        assert!(Instant::now() < deadline, "it is listed still");
    }
}

pub(crate) fn a_purged_channel_is_empty_and_numbers_on(broker: &Broker) {
    let address = broker.grpc();
    for _ in 0..3 {
        send_queue(address, &queue_message("purged"));
        send_event(address, &event("purged", true));
    }
    for kind in ["queues", "events_store"] {
        let response = change(address, "purge-channel", kind, "purged");
        assert_eq!(&*response.body, br#"{"removed":3}"#, "{kind}");
        let response = change(address, "purge-channel", kind, "purged");
        assert_eq!(&*response.body, br#"{"removed":0}"#, "{kind}");
        let missing = change(address, "purge-channel", kind, "missing");
        assert_eq!(&*missing.body, br#"{"removed":0}"#, "{kind}");
        assert!(list(address, kind, "missing").is_empty());
    }
    send_event(address, &event("purged", true));
    let mut peer = Peer::connect(address);
    let stream = subscribe_stored(&mut peer, "purged");
    assert_eq!(next_event(&mut peer, stream).sequence, 4);
    send_queue(address, &queue_message("purged"));
    let messages = receive(address, "purged", true);
    assert_eq!(
        messages[0].attributes.as_ref().map(|found| found.sequence),
        Some(4)
    );
}

pub(crate) fn queues_info_is_exact(broker: &Broker) {
    let address = broker.grpc();
    for _ in 0..3 {
        send_queue(address, &queue_message("QUEUE_x"));
    }
    let info = queues_info(address, "QUEUE_x");
    assert_eq!(
        (info.total_queue, info.sent, info.delivered, info.waiting),
        (1, 3, 0, 3)
    );
    let [queue] = &info.queues[..] else {
        panic!("{info:?}");
    };
    assert_eq!(queue.name, "QUEUE_x", "as it was written");
    assert_eq!(
        (queue.messages, queue.first_sequence, queue.last_sequence),
        (3, 1, 3)
    );
    assert_eq!((queue.sent, queue.delivered, queue.waiting), (3, 0, 3));
    assert!(queue.bytes >= 12 && queue.subscribers == 0, "{queue:?}");
    let mut peer = Peer::connect(address);
    let stream = peer.open(path::QUEUES_DOWNSTREAM);
    peer.send_message(
        stream,
        &queues::get("get-1", "QUEUE_x", 2, 1_000, false),
        false,
    );
    let got = peer.next_message(stream).expect("two messages");
    assert_eq!(
        QueuesDownstreamResponse::decode(&*got)
            .unwrap()
            .messages
            .len(),
        2
    );
    let held = queues_info(address, "QUEUE_x");
    let queue = &held.queues[0];
    assert_eq!((queue.messages, queue.delivered, queue.waiting), (3, 2, 1));
}

pub(crate) fn queues_info_takes_names_and_leaves_out_unknown_ones(broker: &Broker) {
    let address = broker.grpc();
    for name in ["info.a", "info.b", "info.c"] {
        send_queue(address, &queue_message(name));
    }
    let names = |asked: &str| {
        let info = queues_info(address, asked);
        let mut names: Vec<_> = info.queues.into_iter().map(|queue| queue.name).collect();
        names.sort_unstable();
        assert_eq!(usize::try_from(info.total_queue), Ok(names.len()));
        names.join(" ")
    };
    assert_eq!(names(""), "info.a info.b info.c");
    assert_eq!(names("info.a;info.c"), "info.a info.c");
    assert_eq!(names("info.a;unknown;info.a;"), "info.a");
    assert_eq!(
        queues_info(address, "unknown"),
        ringmq_proto::kubemq::QueuesInfo::default()
    );
    // To look into a queue makes none.
    assert!(receive(address, "touched", false).is_empty());
    assert_eq!(names("touched"), "");
}

pub(crate) fn a_long_list_is_one_answer(broker: &Broker) {
    const QUEUES: usize = 300;
    let address = broker.grpc();
    let mut peer = Peer::connect(address);
    let long = "x".repeat(200);
    for number in 0..QUEUES {
        let message = queue_message(&format!("many.{number}.{long}"));
        let reply = peer.unary(path::SEND_QUEUE_MESSAGE, &message.encode_to_vec());
        assert_eq!(reply.grpc_status(), Some(0));
    }
    let mut names: Vec<_> = list(address, "queues", "many.")
        .into_iter()
        .map(|item| item["name"].to_string())
        .collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), QUEUES);
    assert_eq!(queues_info(address, "").total_queue, 300);
}

/// Not one of the cases that run on a broker they share: it is stopped in between.
pub(crate) fn created_channels_survive_a_restart_and_a_kill(cores: usize) {
    let mut broker = Broker::start(cores);
    for kind in KINDS {
        change(broker.grpc(), "create-channel", kind, "kept");
        change(broker.grpc(), "create-channel", kind, "dropped");
        change(broker.grpc(), "delete-channel", kind, "dropped");
    }
    broker.kill();
    broker.start_again(cores, [""; 0]);
    for kind in KINDS {
        assert_eq!(list(broker.grpc(), kind, "").len(), 1, "{kind}");
        listed(broker.grpc(), kind, "kept");
    }
    broker.signal(Signal::TERM);
    broker.assert_exits_0();
    // Another number of cores finds them all the same.
    broker.start_again(3, [""; 0]);
    for kind in KINDS {
        listed(broker.grpc(), kind, "kept");
    }
    let missing = call(broker.grpc(), path::SEND_REQUEST, &operation("", &[]));
    assert_eq!(
        missing.grpc_status(),
        Some(13),
        "an empty request is refused as ever"
    );
}
