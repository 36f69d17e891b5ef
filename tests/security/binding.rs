//! As whom: client ids that are bound to who calls.

use prost::Message as _;
use ringmq_proto::kubemq::{
    QueueMessagesBatchRequest, QueueMessagesBatchResponse, QueuesDownstreamRequest,
    QueuesDownstreamRequestType, QueuesDownstreamResponse, QueuesUpstreamRequest,
    QueuesUpstreamResponse, Request, Response, Result as EventResult, SendQueueMessageResult,
    StreamQueueMessagesRequest, StreamQueueMessagesResponse, StreamRequestType,
};

use crate::broker::{Broker, asking_for_tokens, now_seconds, token, token_of};
use crate::client::{
    Client, OK, PERMISSION_DENIED, event, method, queue_message, receive, request, response,
    stored, subscribe,
};

/// What alice is told who calls herself otherwise.
const BOUND: &str = "Error 412: access denied to resource, the client id must be \"alice\"";

/// What `ClientID` says, and whether alice may say so when it is checked.
const IDS: [(&str, bool); 3] = [("alice", true), ("", true), ("bob", false)];

fn broker(binding: &str) -> Broker {
    let binding = format!("client_id_binding = \"{binding}\"");
    Broker::start(&asking_for_tokens(&binding), None)
}

fn alice(broker: &Broker) -> Client {
    Client::with_token(broker.grpc(), &token_of("alice"))
}

#[test]
fn a_checked_id_is_filled_in_or_refused() {
    let broker = broker("checked");
    let mut alice = alice(&broker);
    for (id, allowed) in IDS {
        let calls = [
            (method::SEND_EVENT, event(id, "checked").encode_to_vec()),
            (method::SEND_EVENT, stored(id, "checked").encode_to_vec()),
            (
                method::SEND_QUEUE_MESSAGE,
                queue_message(id, "checked").encode_to_vec(),
            ),
            (
                method::RECEIVE_QUEUE_MESSAGES,
                receive(id, "checked").encode_to_vec(),
            ),
        ];
        for (method, message) in calls {
            let stream = alice.open(method);
            alice.peer.send_message(stream, &message, true);
            let reply = alice.peer.finish(stream);
            let told = (reply.grpc_status(), reply.grpc_message());
            let expected = match allowed {
                true => (Some(OK), ""),
                false => (Some(PERMISSION_DENIED), BOUND),
            };
            assert_eq!(told, expected, "{method} as {id:?}");
        }
    }
    broker.end();
}

/// What others find of the sender: in a queue message, a request, a response.
#[test]
fn a_forced_id_takes_the_place_of_what_a_message_says() {
    let broker = broker("forced");
    let mut alice = alice(&broker);
    let mut bob = Client::with_token(broker.grpc(), &token_of("bob"));
    for id in ["alice", "", "bob", "anybody"] {
        let sent: SendQueueMessageResult =
            alice.unary(method::SEND_QUEUE_MESSAGE, &queue_message(id, "forced"));
        assert!(!sent.is_error, "{}", sent.error);
    }
    let batch = QueueMessagesBatchRequest {
        batch_id: "batch".into(),
        messages: vec![queue_message("bob", "forced"), queue_message("", "forced")],
    };
    let sent: QueueMessagesBatchResponse = alice.unary(method::SEND_QUEUE_MESSAGES_BATCH, &batch);
    assert!(!sent.have_errors, "{sent:?}");
    let upstream = alice.open(method::QUEUES_UPSTREAM);
    let messages = QueuesUpstreamRequest {
        request_id: "up".into(),
        messages: batch.messages,
    };
    alice.say(upstream, &messages);
    let sent: QueuesUpstreamResponse = alice.next(upstream);
    assert!(!sent.is_error && sent.results.iter().all(|result| !result.is_error));
    let received = bob.receive("whoever", "forced");
    let senders: Vec<&str> = received.iter().map(|m| &*m.client_id).collect();
    assert_eq!(senders, ["alice"; 8]);

    let answering = bob.subscribe(&subscribe(4, "", "forced"));
    let asking = alice.call(method::SEND_REQUEST, &request(2, "carol", "forced"));
    let asked: Request = bob.next(answering);
    assert_eq!(asked.client_id, "alice");
    let answer = bob.ask(method::SEND_RESPONSE, &response("alice", &asked));
    assert_eq!(answer.grpc_status(), Some(OK), "{}", answer.grpc_message());
    let answer: Response = alice.next(asking);
    assert_eq!((&*answer.client_id, answer.executed), ("bob", true));
    broker.end();
}

#[test]
fn a_checked_id_counts_on_streams_too_and_they_go_on() {
    let broker = broker("checked");
    let mut alice = alice(&broker);
    let events = alice.open(method::SEND_EVENTS_STREAM);
    alice.say(events, &stored("bob", "checked.stream"));
    let result: EventResult = alice.next(events);
    assert_eq!((&*result.event_id, &*result.error), ("event-1", BOUND));
    alice.say(events, &stored("", "checked.stream"));
    let result: EventResult = alice.next(events);
    assert!(result.sent, "{}", result.error);

    // All or nothing, as for a batch.
    let upstream = alice.open(method::QUEUES_UPSTREAM);
    let mixed = |ids: [&str; 2]| QueuesUpstreamRequest {
        request_id: "up".into(),
        messages: ids.map(|id| queue_message(id, "checked.queue")).to_vec(),
    };
    alice.say(upstream, &mixed(["alice", "bob"]));
    let answer: QueuesUpstreamResponse = alice.next(upstream);
    assert_eq!((answer.is_error, &*answer.error), (true, BOUND));
    alice.say(upstream, &mixed(["alice", ""]));
    let answer: QueuesUpstreamResponse = alice.next(upstream);
    assert!(!answer.is_error, "{}", answer.error);

    let polls = alice.open(method::QUEUES_DOWNSTREAM);
    let poll = |id: &str| QueuesDownstreamRequest {
        request_id: "poll".into(),
        client_id: id.into(),
        request_type_data: QueuesDownstreamRequestType::Get.into(),
        channel: "checked.queue".into(),
        max_items: 10,
        wait_timeout: 1_000,
        auto_ack: true,
        ..QueuesDownstreamRequest::default()
    };
    alice.say(polls, &poll("bob"));
    let answer: QueuesDownstreamResponse = alice.next(polls);
    assert_eq!((answer.is_error, &*answer.error), (true, BOUND));
    alice.say(polls, &poll(""));
    let answer: QueuesDownstreamResponse = alice.next(polls);
    assert_eq!((answer.is_error, answer.messages.len()), (false, 2));
    broker.end();
}

#[test]
fn a_stream_of_one_message_ends_behind_a_refused_id() {
    let broker = broker("checked");
    let mut alice = alice(&broker);
    let stream = alice.open(method::STREAM_QUEUE_MESSAGE);
    let asked = StreamQueueMessagesRequest {
        request_id: "one".into(),
        client_id: "bob".into(),
        stream_request_type_data: StreamRequestType::ReceiveMessage.into(),
        channel: "checked.one".into(),
        wait_time_seconds: 1,
        ..StreamQueueMessagesRequest::default()
    };
    alice.say(stream, &asked);
    let answer: StreamQueueMessagesResponse = alice.next(stream);
    assert_eq!((answer.is_error, &*answer.error), (true, BOUND));
    alice.ends(stream, PERMISSION_DENIED, BOUND);
    broker.end();
}

#[test]
fn a_subscription_is_in_the_name_of_who_calls() {
    for (binding, refused) in [("checked", true), ("forced", false)] {
        let broker = broker(binding);
        let mut alice = alice(&broker);
        for kind in 1..=4 {
            let as_bob = subscribe(kind, "bob", "named");
            match refused {
                true => {
                    let method = crate::client::subscription_method(&as_bob);
                    alice.refused(method, &as_bob, PERMISSION_DENIED, BOUND);
                }
                false => {
                    alice.subscribe(&as_bob);
                }
            }
            alice.subscribe(&subscribe(kind, "", &format!("named.{kind}")));
        }
        broker.end();
    }
}

#[test]
fn the_claim_of_the_id_may_be_another_one() {
    let settings = "client_id_binding = \"checked\"\nclient_id_claim = \"client\"";
    let broker = Broker::start(&asking_for_tokens(settings), None);
    let end = now_seconds() + 3_600;
    let claims = format!(r#"{{"sub":"a person","client":"alice","exp":{end}}}"#);
    let mut alice = Client::with_token(broker.grpc(), &token(&claims));
    let sent: EventResult = alice.unary(method::SEND_EVENT, &event("alice", "claim"));
    assert!(sent.sent);
    let stolen = event("a person", "claim");
    alice.refused(method::SEND_EVENT, &stolen, PERMISSION_DENIED, BOUND);
    broker.end();
}
