//! How long: new rules count at once, also for what runs.

use ringmq_proto::kubemq::{
    QueuesDownstreamRequest, QueuesDownstreamRequestType, QueuesDownstreamResponse,
    Result as EventResult, StreamQueueMessagesRequest, StreamRequestType,
};

use crate::broker::{Broker, SECRET, asking_for_tokens, token_of};
use crate::client::{
    Client, DENIED, OK, PERMISSION_DENIED, UNAUTHENTICATED, UNAVAILABLE, event, method, next_event,
    queue_message, receive, stored, subscribe,
};
use crate::harness::poll;
use crate::mock::peer::PATIENCE;

const WITHDRAWN: &str = "credentials are no longer accepted";

/// Everything for everybody in these channels.
fn allowing(channels: &str) -> String {
    format!(
        r#"[{{"ClientID":".*","Events":true,"EventsStore":true,"Queues":true,"Commands":true,
            "Queries":true,"Channel":"{channels}","Read":true,"Write":true}}]"#
    )
}

fn poll_of(channel: &str) -> QueuesDownstreamRequest {
    QueuesDownstreamRequest {
        request_id: "poll".into(),
        client_id: "a".into(),
        request_type_data: QueuesDownstreamRequestType::Get.into(),
        channel: channel.into(),
        max_items: 10,
        wait_timeout: 600_000,
        auto_ack: true,
        ..QueuesDownstreamRequest::default()
    }
}

fn receive_one(channel: &str) -> StreamQueueMessagesRequest {
    StreamQueueMessagesRequest {
        request_id: "one".into(),
        client_id: "a".into(),
        stream_request_type_data: StreamRequestType::ReceiveMessage.into(),
        channel: channel.into(),
        wait_time_seconds: 600,
        ..StreamQueueMessagesRequest::default()
    }
}

#[test]
fn a_new_policy_ends_what_it_denies_and_nothing_else() {
    let broker = Broker::start("", Some(&allowing("(kept|lost).*")));
    let mut client = Client::nobody(broker.grpc());
    let open = |client: &mut Client, channel: &str| {
        let mut streams = Vec::new();
        for kind in 1..=4 {
            streams.push(client.subscribe(&subscribe(kind, "a", channel)));
        }
        streams.push(client.subscribe(&subscribe(1, "a", &format!("{channel}.>"))));
        let polls = client.open(method::QUEUES_DOWNSTREAM);
        client.say(polls, &poll_of(channel));
        let one = client.open(method::STREAM_QUEUE_MESSAGE);
        client.say(one, &receive_one(channel));
        let mut long = receive("a", channel);
        long.wait_time_seconds = 600;
        streams.extend([
            polls,
            one,
            client.call(method::RECEIVE_QUEUE_MESSAGES, &long),
        ]);
        streams
    };
    let (kept, lost) = (open(&mut client, "kept"), open(&mut client, "lost"));
    let publishing = client.open(method::SEND_EVENTS_STREAM);
    client.say(publishing, &stored("a", "lost"));
    let result: EventResult = client.next(publishing);
    assert!(result.sent, "{}", result.error);
    let _delivered = next_event(&mut client, lost[1]);

    broker.change_policy(&allowing("kept.*"));
    for stream in lost {
        client.ends(stream, PERMISSION_DENIED, DENIED);
    }
    for stream in &kept {
        assert!(client.goes_on(*stream));
    }
    // What was remembered of the old rules is forgotten.
    client.say(publishing, &stored("a", "lost"));
    let result: EventResult = client.next(publishing);
    assert_eq!((result.sent, &*result.error), (false, DENIED));
    client.denied(method::SEND_QUEUE_MESSAGE, &queue_message("a", "lost"));
    let sent = client.ask(method::SEND_EVENT, &event("a", "kept"));
    assert_eq!(sent.grpc_status(), Some(OK));
    assert_eq!(next_event(&mut client, kept[0]).channel, "kept");
    for number in 1..=3 {
        let sent = client.ask(method::SEND_QUEUE_MESSAGE, &queue_message("a", "kept"));
        assert_eq!(sent.grpc_status(), Some(OK), "{number}");
    }
    let got: QueuesDownstreamResponse = client.next(kept[5]);
    assert_eq!((got.is_error, got.messages.len()), (false, 1));

    broker.change_policy(&allowing("(kept|lost).*"));
    let allowed = poll(PATIENCE, || {
        client.say(publishing, &stored("a", "lost"));
        let result: EventResult = client.next(publishing);
        result.sent.then_some(())
    });
    assert!(allowed.is_some(), "it is allowed again");
    broker.end();
}

#[test]
fn a_bad_policy_changes_nothing() {
    let broker = Broker::start("", Some(&allowing("kept")));
    let mut client = Client::nobody(broker.grpc());
    let stream = client.subscribe(&subscribe(1, "a", "kept"));
    broker.try_policy(r#"[{"ClientID":"a","Channel":"(","Events":true,"Read":true}]"#);
    assert!(client.goes_on(stream));
    let sent = client.ask(method::SEND_EVENT, &event("a", "kept"));
    assert_eq!(sent.grpc_status(), Some(OK));
    client.denied(method::SEND_EVENT, &event("a", "lost"));
    assert_eq!(next_event(&mut client, stream).channel, "kept");
    broker.end();
}

#[test]
fn a_new_key_ends_the_streams_of_tokens_that_it_does_not_verify() {
    let broker = Broker::start(&asking_for_tokens(""), None);
    let mut alice = Client::with_token(broker.grpc(), &token_of("alice"));
    let streams = [
        alice.subscribe(&subscribe(1, "alice", "key")),
        alice.subscribe(&subscribe(2, "alice", "key")),
        alice.subscribe(&subscribe(3, "alice", "key")),
        alice.open(method::SEND_EVENTS_STREAM),
        alice.open(method::QUEUES_UPSTREAM),
        alice.open(method::QUEUES_DOWNSTREAM),
        alice.open(method::STREAM_QUEUE_MESSAGE),
        alice.open(method::REFLECTION),
    ];
    broker.change_settings(&asking_for_tokens("require_exp = true"));
    for stream in streams {
        assert!(alice.goes_on(stream), "the token still counts");
    }
    let new_key = asking_for_tokens("").replace(SECRET, "a new secret, as long as the old one was");
    broker.change_settings(&new_key);
    for stream in streams {
        alice.ends(stream, UNAVAILABLE, WITHDRAWN);
    }
    let reply = alice.ask(method::SEND_EVENT, &event("alice", "key"));
    assert_eq!(reply.grpc_status(), Some(UNAUTHENTICATED));
    broker.end();
}

/// Who came while nobody was asked is asked now; a token that was shown then counts.
#[test]
fn authentication_that_is_switched_on_asks_those_who_are_there() {
    let broker = Broker::start("", None);
    let mut nobody = Client::nobody(broker.grpc());
    let mut alice = Client::with_token(broker.grpc(), &token_of("alice"));
    let stays = alice.subscribe(&subscribe(1, "alice", "asked"));
    let ends = nobody.subscribe(&subscribe(1, "nobody", "asked"));
    broker.change_settings(&asking_for_tokens(""));
    nobody.ends(ends, UNAVAILABLE, WITHDRAWN);
    assert!(alice.goes_on(stays));
    broker.change_settings("");
    let taken = poll(PATIENCE, || {
        let sent = nobody.ask(method::SEND_EVENT, &event("nobody", "asked"));
        (sent.grpc_status() == Some(OK)).then_some(())
    });
    assert!(taken.is_some(), "nobody is asked any more");
    assert_eq!(next_event(&mut alice, stays).channel, "asked");
    broker.end();
}

#[test]
fn a_binding_that_is_switched_on_ends_subscriptions_in_other_names() {
    let broker = Broker::start(&asking_for_tokens(""), None);
    let mut alice = Client::with_token(broker.grpc(), &token_of("alice"));
    let own = alice.subscribe(&subscribe(1, "alice", "own"));
    let other = alice.subscribe(&subscribe(1, "bob", "other"));
    broker.change_settings(&asking_for_tokens("client_id_binding = \"checked\""));
    let bound = "Error 412: access denied to resource, the client id must be \"alice\"";
    alice.ends(other, PERMISSION_DENIED, bound);
    assert!(alice.goes_on(own));
    broker.end();
}
