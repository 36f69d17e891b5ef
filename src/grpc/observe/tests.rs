//! Every kind of access, by clients inside the process, over one core and over several.

mod bed;
mod records;

use std::rc::Rc;

use prost::Message as _;
use ringmq_proto::kubemq::subscribe::{EventsStoreType, SubscribeType};
use ringmq_proto::kubemq::{
    Event, QueueMessage, QueueMessagesBatchRequest, QueueMessagesBatchResponse,
    QueuesDownstreamRequest, QueuesDownstreamRequestType, QueuesDownstreamResponse,
    QueuesUpstreamRequest, QueuesUpstreamResponse, ReceiveQueueMessagesRequest,
    ReceiveQueueMessagesResponse, Request, Response, Result as EventResult, SendQueueMessageResult,
    Subscribe,
};
use ringmq_proto::method;

use crate::engine::clients::{ClientReport, Figures};
use crate::model::Kind;
use crate::notifications::Settings;
use crate::wire::local::{LocalCall, LocalClient};

use bed::{World, answer, bytes, open_call, run, unary};

fn event(client: &str, channel: &str) -> Event {
    Event {
        client_id: client.into(),
        channel: channel.into(),
        body: "a body".into(),
        ..Event::default()
    }
}

fn stored(client: &str, channel: &str) -> Event {
    Event {
        store: true,
        ..event(client, channel)
    }
}

fn queue_message(client: &str, channel: &str) -> QueueMessage {
    QueueMessage {
        client_id: client.into(),
        channel: channel.into(),
        body: "a body".into(),
        ..QueueMessage::default()
    }
}

fn receive(client: &str, channel: &str, wait_seconds: i32) -> ReceiveQueueMessagesRequest {
    ReceiveQueueMessagesRequest {
        client_id: client.into(),
        channel: channel.into(),
        max_number_of_messages: 100,
        wait_time_seconds: wait_seconds,
        ..ReceiveQueueMessagesRequest::default()
    }
}

fn subscribe(client: &str, kind: SubscribeType, channel: &str) -> Subscribe {
    let start = match kind {
        SubscribeType::EventsStore => EventsStoreType::StartFromFirst,
        _ => EventsStoreType::Undefined,
    };
    Subscribe {
        subscribe_type_data: kind.into(),
        client_id: client.into(),
        channel: channel.into(),
        events_store_type_data: start.into(),
        ..Subscribe::default()
    }
}

/// Subscribes; the subscription is live.
async fn subscribed(client: &LocalClient, subscribe: &Subscribe) -> LocalCall {
    let method = match SubscribeType::try_from(subscribe.subscribe_type_data) {
        Ok(SubscribeType::Commands | SubscribeType::Queries) => method::SUBSCRIBE_TO_REQUESTS,
        _ => method::SUBSCRIBE_TO_EVENTS,
    };
    let mut call = open_call(client, method, subscribe);
    call.end();
    call.headers().await.unwrap();
    call
}

fn poll(client: &str, channel: &str, auto_ack: bool) -> QueuesDownstreamRequest {
    QueuesDownstreamRequest {
        request_id: "poll".into(),
        client_id: client.into(),
        request_type_data: QueuesDownstreamRequestType::Get.into(),
        channel: channel.into(),
        max_items: 100,
        wait_timeout: 60_000,
        auto_ack,
        ..QueuesDownstreamRequest::default()
    }
}

fn command(client: &str, channel: &str) -> Request {
    Request {
        request_type_data: 1,
        client_id: client.into(),
        channel: channel.into(),
        body: "a body".into(),
        timeout: 60_000,
        ..Request::default()
    }
}

/// What a client did, and how many of its subscriptions and consumers are there.
fn client(report: &ClientReport, name: &str) -> (Figures, u64) {
    let found = report.clients.iter().find(|facts| *facts.name == *name);
    found.map_or((Figures::default(), 0), |facts| (facts.figures, facts.live))
}

/// What a client did to a channel, without the time.
fn used(report: &ClientReport, name: &str, kind: Kind, channel: &str) -> Figures {
    let mut uses = report
        .uses
        .iter()
        .filter(|facts| *facts.client == *name && facts.kind == kind && *facts.channel == *channel);
    let found = uses.next().map_or(Figures::default(), |used| used.figures);
    assert_eq!(uses.next(), None, "a use stands there once");
    Figures {
        last_ms: 0,
        ..found
    }
}

/// Sends over every way there is; each message is of one of three sizes: of plain events, of
/// stored ones, of messages to queues.
async fn send_everywhere(client: &LocalClient, name: &str) {
    for _ in 0..5 {
        let sent = unary::<EventResult>(client, method::SEND_EVENT, &event(name, "orders1")).await;
        assert!(sent.unwrap().sent);
    }
    for _ in 0..3 {
        let sent = unary::<EventResult>(client, method::SEND_EVENT, &stored(name, "ledger1")).await;
        assert!(sent.unwrap().sent);
    }
    let mut stream = client.call(method::SEND_EVENTS_STREAM);
    for _ in 0..10 {
        stream.send(bytes(&event(name, "orders1")));
        stream.send(bytes(&event(name, "orders1")));
        stream.send(bytes(&stored(name, "ledger1")));
    }
    stream.end();
    for _ in 0..10 {
        assert!(answer::<EventResult>(&mut stream).await.sent);
    }
    assert_eq!(stream.message().await.unwrap(), None);
    for _ in 0..2 {
        let message = queue_message(name, "jobs1");
        let sent = unary::<SendQueueMessageResult>(client, method::SEND_QUEUE_MESSAGE, &message);
        assert!(!sent.await.unwrap().is_error);
    }
    let batch = QueueMessagesBatchRequest {
        batch_id: "b".into(),
        messages: vec![queue_message(name, "jobs1"); 3],
    };
    let method = method::SEND_QUEUE_MESSAGES_BATCH;
    let sent = unary::<QueueMessagesBatchResponse>(client, method, &batch).await;
    assert!(!sent.unwrap().have_errors);
    let request = QueuesUpstreamRequest {
        request_id: "u".into(),
        messages: vec![queue_message(name, "jobs1"); 4],
    };
    let mut upstream = open_call(client, method::QUEUES_UPSTREAM, &request);
    upstream.end();
    let sent = answer::<QueuesUpstreamResponse>(&mut upstream).await;
    assert_eq!(sent.results.len(), 4);
    // A route to two channels is two messages.
    let routed = event(name, "orders1;queues:jobs1");
    let sent = unary::<EventResult>(client, method::SEND_EVENT, &routed).await;
    assert!(sent.unwrap().sent);
}

#[test]
fn what_clients_send_and_get_is_counted_once_over_several_cores() {
    run(2, &Settings::default(), |world| async move {
        let client = world.client();
        let mut orders = None;
        if world.core == 0 {
            let subscription = subscribe("bob", SubscribeType::Events, "orders1");
            orders = Some(subscribed(&client, &subscription).await);
        }
        world.meet().await;
        send_everywhere(&client, "alice").await;
        world.meet().await;
        if world.core == 0 {
            let ledger = subscribe("bob", SubscribeType::EventsStore, "ledger1");
            let mut ledger = subscribed(&client, &ledger).await;
            for _ in 0..26 {
                let _stored: ringmq_proto::kubemq::EventReceive = answer(&mut ledger).await;
            }
            let method = method::RECEIVE_QUEUE_MESSAGES;
            let taken = unary::<ReceiveQueueMessagesResponse>(
                &client,
                method,
                &receive("worker", "jobs1", 5),
            );
            assert_eq!(taken.await.unwrap().messages.len(), 20);
            let report = world
                .until(async || {
                    let report = world.report().await;
                    let (bob, _) = self::client(&report, "bob");
                    (bob.messages_out >= 52 + 26).then_some(report)
                })
                .await;
            check_exact(&report);
        }
        world.meet().await;
        drop(orders);
        world
            .until(async || (world.report().await.live() == 0).then_some(()))
            .await;
    });
}

fn check_exact(report: &ClientReport) {
    let alice = |kind, channel| used(report, "alice", kind, channel);
    // The copies of a route have a tag more, and an id.
    let event_bytes = event("alice", "orders1").encoded_len();
    let orders = alice(Kind::Events, "orders1");
    assert_eq!(orders.messages_in, 2 * 26);
    assert!(orders.bytes_in > u64::try_from(52 * event_bytes).unwrap());
    let ledger = alice(Kind::EventsStore, "ledger1");
    let bytes = 26 * stored("alice", "ledger1").encoded_len();
    assert_eq!(ledger, Figures::sent(26, bytes));
    assert_eq!(alice(Kind::Queues, "jobs1").messages_in, 20);
    let (all, live) = client(report, "alice");
    assert_eq!((all.messages_in, all.errors, live), (52 + 26 + 20, 0, 0));
    assert!(all.last_ms > 0);
    let (bob, live) = client(report, "bob");
    assert_eq!((bob.messages_out, live), (52 + 26, 2));
    assert_eq!(client(report, "worker").0.messages_out, 20);
    let totals = report.totals();
    assert_eq!((totals.messages_in, totals.messages_out), (98, 98));
    assert_eq!(report.of_kind(Kind::Events).messages_in, 52);
    let found = report.clients.iter().find(|facts| &*facts.name == "alice");
    let address = found.and_then(|facts| facts.address).unwrap();
    assert!(address.to_string().starts_with("10.0.0.1:500"), "{address}");
}

#[test]
fn what_fails_counts_for_its_client_and_for_a_channel_that_can_exist() {
    run(1, &Settings::default(), |world| async move {
        let client = world.client();
        let empty = Event {
            body: bytes::Bytes::new(),
            ..event("alice", "orders")
        };
        let refused = [
            empty.clone(),
            event("alice", "no channel"),
            event("", "orders"),
        ];
        for event in &refused {
            let sent = unary::<EventResult>(&client, method::SEND_EVENT, event).await;
            sent.expect_err("it is refused");
        }
        let mut stream = client.call(method::SEND_EVENTS_STREAM);
        for event in &refused {
            stream.send(bytes(event));
        }
        stream.send(vec![0xff].into());
        stream.end();
        for _ in 0..4 {
            assert!(!answer::<EventResult>(&mut stream).await.sent);
        }
        // Nobody is there to answer.
        let asked = unary::<Response>(&client, method::SEND_REQUEST, &command("alice", "doit"));
        asked.await.expect_err("nobody answers");
        let bad = subscribe("alice", SubscribeType::EventsStore, "a.*");
        let mut call = open_call(&client, method::SUBSCRIBE_TO_EVENTS, &bad);
        call.end();
        call.headers().await.expect_err("it is refused");
        let nothing = receive("alice", "a.*", 1);
        let method = method::RECEIVE_QUEUE_MESSAGES;
        let answer = unary::<ReceiveQueueMessagesResponse>(&client, method, &nothing).await;
        assert!(answer.unwrap().is_error);
        let report = world.report().await;
        assert_eq!(self::client(&report, "alice").0.errors, 2 * 2 + 3);
        assert_eq!(report.totals().errors, 2 * 3 + 3, "with those of nobody");
        assert_eq!(
            used(&report, "alice", Kind::Events, "orders"),
            Figures {
                errors: 2,
                ..Figures::default()
            }
        );
        let of = |kind, channel: &str| {
            let mut found = report.failures.iter();
            let found = found.find(|facts| facts.kind == kind && *facts.channel == *channel);
            found.map_or(0, |facts| facts.errors)
        };
        assert_eq!(
            of(Kind::Events, "orders"),
            4,
            "a client without a name, too"
        );
        assert_eq!(of(Kind::Commands, "doit"), 1);
        assert_eq!(report.failures.len(), 2);
        assert_eq!(report.totals().messages_in, 0);
    });
}

#[test]
fn requests_and_responses_count_on_both_sides() {
    run(2, &Settings::default(), |world| async move {
        let client = world.client();
        if world.core == 1 {
            let subscription = subscribe("responder", SubscribeType::Commands, "doit0");
            let mut requests = subscribed(&client, &subscription).await;
            world.meet().await;
            for _ in 0..3 {
                let request: Request = answer(&mut requests).await;
                let response = Response {
                    client_id: "responder".into(),
                    request_id: request.request_id,
                    reply_channel: request.reply_channel,
                    executed: true,
                    ..Response::default()
                };
                let method = method::SEND_RESPONSE;
                unary::<ringmq_proto::kubemq::Empty>(&client, method, &response)
                    .await
                    .unwrap();
            }
            world.meet().await;
            return;
        }
        world.meet().await;
        for _ in 0..3 {
            let asked =
                unary::<Response>(&client, method::SEND_REQUEST, &command("asker", "doit0"));
            assert!(asked.await.unwrap().executed);
        }
        let report = world
            .until(async || {
                let report = world.report().await;
                let (responder, _) = self::client(&report, "responder");
                (responder.messages_out == 3).then_some(report)
            })
            .await;
        let asker = used(&report, "asker", Kind::Commands, "doit0");
        let bytes = 3 * command("asker", "doit0").encoded_len();
        assert_eq!((asker.messages_in, asker.messages_out), (3, 3));
        assert_eq!(asker.bytes_in, u64::try_from(bytes).unwrap());
        let (responder, _) = self::client(&report, "responder");
        assert_eq!((responder.messages_in, responder.errors), (3, 0));
        world.meet().await;
    });
}

#[test]
fn subscriptions_and_consumers_are_there_until_they_vanish() {
    run(2, &Settings::default(), |world| async move {
        let client = world.client();
        let name = format!("client-{}", world.core);
        let mut calls = Vec::new();
        let kinds = [
            (SubscribeType::Events, "orders1"),
            (SubscribeType::Events, "orders.>"),
            (SubscribeType::EventsStore, "ledger1"),
            (SubscribeType::Commands, "doit1"),
            (SubscribeType::Queries, "find.*"),
        ];
        for (kind, channel) in kinds {
            let subscription = subscribe(&name, kind, channel);
            calls.push(subscribed(&client, &subscription).await);
        }
        let poll = poll(&name, "jobs1", false);
        calls.push(open_call(&client, method::QUEUES_DOWNSTREAM, &poll));
        // A second poll on a stream is the same consumer, while it is for the same queue.
        calls.last_mut().unwrap().send(bytes(&poll));
        let waiting = receive(&name, "jobs0", 3_600);
        let mut call = open_call(&client, method::RECEIVE_QUEUE_MESSAGES, &waiting);
        call.end();
        calls.push(call);
        world
            .until(async || {
                let report = world.report().await;
                (report.live() == 14).then_some(())
            })
            .await;
        let report = world.report().await;
        assert_eq!(self::client(&report, &name).1, 7);
        let wild = report
            .uses
            .iter()
            .filter(|used| &*used.channel == "orders.>");
        assert_eq!(wild.map(|used| used.live).sum::<u64>(), 2);
        world.meet().await;
        // Some end in order, the others are gone.
        for mut call in calls.drain(..3) {
            call.end();
        }
        drop(calls);
        world
            .until(async || (world.report().await.live() == 0).then_some(()))
            .await;
        let report = world.report().await;
        assert!(report.uses.iter().all(|used| used.live == 0));
        world.meet().await;
    });
}

/// A publisher that goes before its receipts come has sent all the same.
#[test]
fn messages_whose_sender_has_gone_are_counted() {
    run(1, &Settings::default(), |world| async move {
        let client = world.client();
        let mut stream = client.call(method::SEND_EVENTS_STREAM);
        for _ in 0..50 {
            stream.send(bytes(&stored("alice", "ledger")));
        }
        let taken = async || {
            let counters = world.counters().await;
            (counters.events_store_received_bytes > 0).then_some(())
        };
        world.until(taken).await;
        drop(stream);
        world
            .until(async || {
                let report = world.report().await;
                let (alice, _) = self::client(&report, "alice");
                (alice.messages_in == 50).then_some(())
            })
            .await;
    });
}

#[test]
fn what_a_stream_of_polls_brings_counts_for_its_consumer() {
    run(1, &Settings::default(), |world: Rc<World>| async move {
        let client = world.client();
        for _ in 0..3 {
            let message = queue_message("alice", "jobs");
            let method = method::SEND_QUEUE_MESSAGE;
            let sent = unary::<SendQueueMessageResult>(&client, method, &message);
            assert!(!sent.await.unwrap().is_error);
        }
        let peek = ReceiveQueueMessagesRequest {
            is_peak: true,
            ..receive("looker", "jobs", 1)
        };
        let method = method::RECEIVE_QUEUE_MESSAGES;
        let seen = unary::<ReceiveQueueMessagesResponse>(&client, method, &peek).await;
        assert_eq!(seen.unwrap().messages.len(), 3);
        let poll = poll("worker", "jobs", true);
        let mut polls = open_call(&client, method::QUEUES_DOWNSTREAM, &poll);
        let taken = answer::<QueuesDownstreamResponse>(&mut polls).await;
        assert_eq!(taken.messages.len(), 3);
        let report = world.report().await;
        let worker = used(&report, "worker", Kind::Queues, "jobs");
        assert_eq!(worker.messages_out, 3);
        assert!(worker.bytes_out > 0);
        let (looker, _) = self::client(&report, "looker");
        assert_eq!(looker.messages_out, 0, "a look takes nothing");
        assert!(looker.last_ms > 0);
    });
}
