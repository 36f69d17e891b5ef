//! The records of accesses: published, stored, bounded.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use ringmq_proto::kubemq::subscribe::SubscribeType;
use ringmq_proto::kubemq::{
    AckAllQueueMessagesRequest, AckAllQueueMessagesResponse, Empty, EventReceive,
    QueuesDownstreamRequest, QueuesDownstreamRequestType, QueuesDownstreamResponse,
    ReceiveQueueMessagesRequest, ReceiveQueueMessagesResponse, Request, Response,
    Result as EventResult, SendQueueMessageResult, StreamQueueMessagesRequest,
    StreamQueueMessagesResponse, StreamRequestType,
};
use ringmq_proto::method;
use serde_json::Value;

use super::bed::{World, answer, bytes, open_call, run, unary};
use super::{
    command, event, poll, queue_message, receive, send_everywhere, stored, subscribe, subscribed,
};
use crate::notifications::Settings;
use crate::rt::{self, Queue};
use crate::wire::local::{LocalCall, LocalClient};

fn published() -> Settings {
    Settings {
        prefix: Some("reports".into()),
        ..Settings::default()
    }
}

/// The next record of a subscription, with the channel that it came on.
async fn record(reports: &mut LocalCall) -> (String, Value) {
    let event: EventReceive = answer(reports).await;
    assert!(!event.event_id.is_empty());
    let record: Value = serde_json::from_slice(&event.body).unwrap();
    assert_eq!(record["Id"], event.event_id);
    (event.channel, record)
}

/// What a record says, in one line.
fn line(record: &Value) -> String {
    let text = |field: &str| record[field].as_str().unwrap().to_owned();
    let fields = [
        "ClientID",
        "Resource",
        "Channel",
        "Action",
        "SubAction",
        "Result",
    ];
    fields.map(text).join(" ")
}

/// Does something of everything to queues.
async fn use_queues(client: &LocalClient) {
    let message = queue_message("alice", "jobs");
    for _ in 0..6 {
        let sent = unary::<SendQueueMessageResult>(client, method::SEND_QUEUE_MESSAGE, &message);
        assert!(!sent.await.unwrap().is_error);
    }
    let peek = ReceiveQueueMessagesRequest {
        is_peak: true,
        ..receive("peeker", "jobs", 1)
    };
    let one = ReceiveQueueMessagesRequest {
        max_number_of_messages: 1,
        ..receive("taker", "jobs", 1)
    };
    for request in [peek, one] {
        let method = method::RECEIVE_QUEUE_MESSAGES;
        unary::<ReceiveQueueMessagesResponse>(client, method, &request)
            .await
            .unwrap();
    }
    use_downstream(client).await;
    use_stream(client).await;
    let all = AckAllQueueMessagesRequest {
        client_id: "cleaner".into(),
        channel: "jobs".into(),
        ..AckAllQueueMessagesRequest::default()
    };
    unary::<AckAllQueueMessagesResponse>(client, method::ACK_ALL_QUEUE_MESSAGES, &all)
        .await
        .unwrap();
}

/// Takes three messages: one is done with, one goes back, one goes elsewhere.
async fn use_downstream(client: &LocalClient) {
    let poll = QueuesDownstreamRequest {
        max_items: 3,
        ..poll("worker", "jobs", false)
    };
    let mut stream = open_call(client, method::QUEUES_DOWNSTREAM, &poll);
    let taken = answer::<QueuesDownstreamResponse>(&mut stream).await;
    let sequences: Vec<i64> = taken
        .messages
        .iter()
        .map(|message| message.attributes.as_ref().unwrap().sequence.cast_signed())
        .collect();
    let verbs = [
        QueuesDownstreamRequestType::AckRange,
        QueuesDownstreamRequestType::NAckRange,
        QueuesDownstreamRequestType::ReQueueRange,
    ];
    for (verb, sequence) in verbs.into_iter().zip(sequences) {
        stream.send(bytes(&QueuesDownstreamRequest {
            client_id: "worker".into(),
            request_type_data: verb.into(),
            ref_transaction_id: taken.transaction_id.clone(),
            sequence_range: vec![sequence],
            re_queue_channel: "elsewhere".into(),
            ..QueuesDownstreamRequest::default()
        }));
    }
    // Nothing of it is open any more.
    stream.send(bytes(&QueuesDownstreamRequest {
        client_id: "worker".into(),
        request_type_data: QueuesDownstreamRequestType::AckAll.into(),
        ref_transaction_id: taken.transaction_id,
        ..QueuesDownstreamRequest::default()
    }));
    assert!(
        answer::<QueuesDownstreamResponse>(&mut stream)
            .await
            .is_error
    );
    stream.end();
    while stream.message().await.unwrap().is_some() {}
}

/// Takes one message and hands it back.
async fn use_stream(client: &LocalClient) {
    let request = |request_type: StreamRequestType, sequence: u64| StreamQueueMessagesRequest {
        client_id: "single".into(),
        channel: "jobs".into(),
        stream_request_type_data: request_type.into(),
        wait_time_seconds: 5,
        ref_sequence: sequence,
        ..StreamQueueMessagesRequest::default()
    };
    let take = request(StreamRequestType::ReceiveMessage, 0);
    let mut stream = open_call(client, method::STREAM_QUEUE_MESSAGE, &take);
    let taken = answer::<StreamQueueMessagesResponse>(&mut stream).await;
    let attributes = taken.message.unwrap().attributes.unwrap();
    let reject = request(StreamRequestType::RejectMessage, attributes.sequence);
    stream.send(bytes(&reject));
    assert!(
        !answer::<StreamQueueMessagesResponse>(&mut stream)
            .await
            .is_error
    );
}

/// Asks, answers, and manages channels.
async fn use_requests(client: &LocalClient) {
    let subscription = subscribe("responder", SubscribeType::Commands, "do.*");
    let mut requests = subscribed(client, &subscription).await;
    let responder = client.clone();
    rt::spawn(Queue::Serve, "responder", async move {
        let request: Request = answer(&mut requests).await;
        let response = Response {
            client_id: "responder".into(),
            request_id: request.request_id,
            reply_channel: request.reply_channel,
            executed: true,
            ..Response::default()
        };
        unary::<Empty>(&responder, method::SEND_RESPONSE, &response)
            .await
            .unwrap();
    });
    let asked = unary::<Response>(client, method::SEND_REQUEST, &command("asker", "do.it"));
    assert!(asked.await.unwrap().executed);
    let unanswered = unary::<Response>(client, method::SEND_REQUEST, &command("asker", "nothing"));
    unanswered.await.expect_err("nobody is there");
    let list = Request {
        request_type_data: 2,
        metadata: "list-channels".into(),
        tags: [("channel_type".to_owned(), "queues".to_owned())].into(),
        ..command("admin", "kubemq.cluster.internal.requests")
    };
    unary::<Response>(client, method::SEND_REQUEST, &list)
        .await
        .unwrap();
}

/// Everything that [`use_everything`] does, as its records say it.
const EVERYTHING: [&str; 26] = [
    "sender events orders Send  OK",
    "sender events no channel Send  Error 108: invalid channel value, no white spaces are allowed",
    "sender events_store ledger Send  OK",
    "sender events orders Receive Connect OK",
    "sender events >.x Receive Connect OK",
    "sender events_store ledger Receive Connect OK",
    "sender events_store a.* Receive Connect Error 107: invalid channel value, no wildcards are \
     allowed",
    "alice queues jobs Send  OK",
    "alice queues jobs Send  OK",
    "alice queues jobs Send  OK",
    "alice queues jobs Send  OK",
    "alice queues jobs Send  OK",
    "alice queues jobs Send  OK",
    "peeker queues jobs Receive Peek OK",
    "taker queues jobs Receive  OK",
    "worker queues jobs Stream  OK",
    "worker queues jobs Ack  OK",
    "worker queues jobs Ack Reject OK",
    "worker queues jobs Ack Requeue OK",
    "single queues jobs Stream  OK",
    "single queues jobs Ack Reject OK",
    "cleaner queues jobs Ack All OK",
    "responder commands do.* Receive Connect OK",
    "asker commands do.it Send  OK",
    "responder responses  Send  OK",
    "admin queries kubemq.cluster.internal.requests Send Manage OK",
];

/// Makes each kind of access once.
async fn use_everything(client: &LocalClient) {
    let events = [event("sender", "orders"), event("sender", "no channel")];
    for event in events.into_iter().chain([stored("sender", "ledger")]) {
        let _refused_or_not = unary::<EventResult>(client, method::SEND_EVENT, &event).await;
    }
    let subscriptions = [
        subscribe("sender", SubscribeType::Events, "orders"),
        subscribe("sender", SubscribeType::Events, ">.x"),
        subscribe("sender", SubscribeType::EventsStore, "ledger"),
    ];
    for subscription in subscriptions {
        subscribed(client, &subscription).await;
    }
    let bad = subscribe("sender", SubscribeType::EventsStore, "a.*");
    let mut call = open_call(client, method::SUBSCRIBE_TO_EVENTS, &bad);
    call.end();
    call.headers().await.expect_err("it is refused");
    use_queues(client).await;
    use_requests(client).await;
}

/// The lines of everything, and of what fails in it with texts of their own.
fn expected() -> Vec<String> {
    let mut lines: Vec<String> = EVERYTHING.map(str::to_owned).into();
    lines.push("asker commands nothing Send  Error 301: timeout for request message".into());
    lines.push(format!(
        "worker queues  Ack  {}",
        crate::wire_error::QueueStreamRefusal::AckCompleted.text()
    ));
    lines.sort_unstable();
    lines
}

#[test]
fn every_kind_of_access_has_its_record_on_its_channel() {
    run(1, &published(), |world| async move {
        let client = world.client();
        let subscription = subscribe("auditor", SubscribeType::Events, "reports.>");
        let mut reports = subscribed(&client, &subscription).await;
        use_everything(&client).await;
        let last = event("last", "orders");
        unary::<EventResult>(&client, method::SEND_EVENT, &last)
            .await
            .unwrap();
        let (mut lines, mut channels) = (Vec::new(), BTreeSet::new());
        // A record follows the answer, which may let the next access go before it.
        for _ in 0..=expected().len() {
            let (channel, record) = record(&mut reports).await;
            if record["ClientID"] == "last" {
                continue;
            }
            assert!(record["Timestamp"].as_i64() <= record["ResultTimestamp"].as_i64());
            lines.push(line(&record));
            channels.insert(channel);
        }
        lines.sort_unstable();
        assert_eq!(lines, expected());
        world.notifications.finish(Duration::from_secs(30)).await;
        let published = world.counters().await.notifications_published;
        assert_eq!(usize::try_from(published).unwrap(), lines.len() + 1);
        let expected = [
            "reports.commands.do.%2A",
            "reports.commands.do.it",
            "reports.commands.nothing",
            "reports.events.%3E.x",
            "reports.events.%invalid",
            "reports.events.orders",
            "reports.events_store.a.%2A",
            "reports.events_store.ledger",
            "reports.queries.kubemq.cluster.internal.requests",
            "reports.queues",
            "reports.queues.jobs",
            "reports.responses",
        ];
        let channels: Vec<_> = channels.iter().map(String::as_str).collect();
        assert_eq!(channels, expected);
    });
}

#[test]
fn records_of_several_cores_come_to_one_subscriber() {
    run(2, &published(), |world| async move {
        let client = world.client();
        let mut reports = None;
        if world.core == 0 {
            let subscription = subscribe("auditor", SubscribeType::Events, "reports.*.*");
            reports = Some(subscribed(&client, &subscription).await);
        }
        world.meet().await;
        send_everywhere(&client, &format!("client-{}", world.core)).await;
        if let Some(mut reports) = reports {
            let mut of = [0, 0];
            // 49 messages of each: what it sends, and the second copy of a route.
            while of != [49, 49] {
                let (_, record) = record(&mut reports).await;
                assert_eq!(record["Action"], "Send");
                let first = record["ClientID"] == "client-0";
                let [zero, one] = &mut of;
                *(if first { zero } else { one }) += 1;
            }
            let counters = world.counters().await;
            assert_eq!(counters.notifications_published, 98);
            assert_eq!(counters.notifications_stored, 0);
        }
        world.meet().await;
    });
}

#[test]
fn accesses_to_the_channels_of_reports_are_not_reported() {
    run(1, &published(), |world| async move {
        let client = world.client();
        let subscription = subscribe("auditor", SubscribeType::Events, "reports.>");
        let mut reports = subscribed(&client, &subscription).await;
        let others = [
            event("forger", "reports.events.orders"),
            event("sender", "orders"),
        ];
        for event in &others {
            unary::<EventResult>(&client, method::SEND_EVENT, event)
                .await
                .unwrap();
        }
        // What the forger has sent is an event as any other.
        let forged: EventReceive = answer(&mut reports).await;
        assert_eq!(&forged.body[..], b"a body");
        let (channel, record) = record(&mut reports).await;
        assert_eq!(channel, "reports.events.orders");
        assert_eq!(line(&record), "sender events orders Send  OK");
        world.notifications.finish(Duration::from_secs(30)).await;
        let counters = world.counters().await;
        assert_eq!(counters.notifications_published, 1, "and none of itself");
    });
}

/// A stream brings more in one turn than the buffer takes: every event is accepted, the records
/// that do not fit are dropped and counted.
#[test]
fn a_flood_of_accesses_drops_records_and_holds_up_nobody() {
    const EVENTS: u64 = 20_000;
    run(1, &published(), |world| async move {
        let client = world.client();
        let mut stream = client.call(method::SEND_EVENTS_STREAM);
        for _ in 0..EVENTS {
            stream.send(bytes(&event("alice", "orders")));
        }
        stream.end();
        assert_eq!(stream.message().await.unwrap(), None, "nothing is refused");
        world.notifications.finish(Duration::from_secs(30)).await;
        let counters = world.counters().await;
        assert_eq!(counters.events_received, EVENTS);
        let dropped = counters.notification_drops_buffer_full;
        assert!(dropped > 0, "they all fit");
        assert!(counters.notifications_published > 0);
        assert_eq!(counters.notifications_published + dropped, EVENTS);
        let report = world.report().await;
        assert_eq!(report.totals().messages_in, EVENTS);
    });
}

#[test]
fn the_audit_channel_keeps_every_record_to_be_replayed() {
    let settings = Settings {
        audit: Some("audit".into()),
        ..Settings::default()
    };
    run(1, &settings, |world| async move {
        let client = world.client();
        use_everything(&client).await;
        world.notifications.finish(Duration::from_secs(30)).await;
        let expected = expected();
        let all = u64::try_from(expected.len()).unwrap();
        let stored = world
            .until(async || {
                let stored = world.counters().await.notifications_stored;
                (stored >= all).then_some(stored)
            })
            .await;
        assert_eq!(stored, all);
        let replay = subscribe("auditor", SubscribeType::EventsStore, "audit");
        let mut replay = subscribed(&client, &replay).await;
        let mut lines = Vec::new();
        for number in 1..=stored {
            let event: EventReceive = answer(&mut replay).await;
            assert_eq!(event.sequence, number);
            assert!(event.timestamp > 0);
            lines.push(line(&serde_json::from_slice(&event.body).unwrap()));
        }
        lines.sort_unstable();
        assert_eq!(lines, expected);
        // Who reads the audit is in the audit.
        let event: EventReceive = answer(&mut replay).await;
        let record: Value = serde_json::from_slice(&event.body).unwrap();
        assert_eq!(
            line(&record),
            "auditor events_store audit Receive Connect OK"
        );
    });
}

#[test]
fn settings_change_while_the_broker_runs() {
    run(1, &Settings::default(), |world: Rc<World>| async move {
        let client = world.client();
        let subscription = subscribe("auditor", SubscribeType::Events, "reports.>");
        let mut reports = subscribed(&client, &subscription).await;
        let clients = RefCell::new(Vec::new());
        for (name, settings) in [
            ("before", Settings::default()),
            ("while", published()),
            ("after", Settings::default()),
            ("again", published()),
        ] {
            world.notifications.set_settings(settings);
            unary::<EventResult>(&client, method::SEND_EVENT, &event(name, "orders"))
                .await
                .unwrap();
            // A record goes where the settings say when it is written.
            world.notifications.finish(Duration::from_secs(30)).await;
        }
        for _ in 0..2 {
            let (_, record) = record(&mut reports).await;
            let name = record["ClientID"].as_str().unwrap().to_owned();
            clients.borrow_mut().push(name);
        }
        assert_eq!(clients.take(), ["while", "again"]);
    });
}
