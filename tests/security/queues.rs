//! May they: queues, whose streams do many things, and messages that go on by themselves.

use ringmq_proto::kubemq::{
    QueueMessage, QueueMessagePolicy, QueueMessagesBatchRequest, QueueMessagesBatchResponse,
    QueuesDownstreamRequest, QueuesDownstreamRequestType, QueuesDownstreamResponse,
    QueuesInfoRequest, QueuesInfoResponse, QueuesUpstreamRequest, QueuesUpstreamResponse,
    Result as EventResult, SendQueueMessageResult, StreamQueueMessagesRequest,
    StreamQueueMessagesResponse, StreamRequestType,
};

use crate::broker::Broker;
use crate::client::{Client, DENIED, OK, PERMISSION_DENIED, event, method, queue_message};

/// A client that may do everything to queues in `mine`, and one that may do everything.
const POLICY: &str = r#"[
    {"ClientID":"user","Queues":true,"Events":true,"Channel":"mine\\..*","Read":true,"Write":true},
    {"ClientID":"root","Queues":true,"Channel":".*","Read":true,"Write":true}]"#;

fn start() -> (Broker, Client) {
    let broker = Broker::start("", Some(POLICY));
    let client = Client::nobody(broker.grpc());
    (broker, client)
}

fn messages(channels: &[&str]) -> Vec<QueueMessage> {
    let to = |channel: &&str| queue_message("user", channel);
    channels.iter().map(to).collect()
}

#[test]
fn a_batch_with_one_denied_message_stores_nothing() {
    let (broker, mut client) = start();
    let batch = QueueMessagesBatchRequest {
        batch_id: "batch".into(),
        messages: messages(&["mine.a", "yours.a", "mine.b"]),
    };
    client.denied(method::SEND_QUEUE_MESSAGES_BATCH, &batch);
    let upstream = client.open(method::QUEUES_UPSTREAM);
    let mut request = QueuesUpstreamRequest {
        request_id: "up".into(),
        messages: batch.messages,
    };
    client.say(upstream, &request);
    let answer: QueuesUpstreamResponse = client.next(upstream);
    assert_eq!(&*answer.ref_request_id, "up");
    assert_eq!((answer.is_error, &*answer.error), (true, DENIED));
    for queue in ["mine.a", "mine.b", "yours.a"] {
        assert_eq!(client.receive("root", queue), []);
    }
    // The stream is there for what is allowed.
    request.messages = messages(&["mine.a", "mine.b"]);
    client.say(upstream, &request);
    let answer: QueuesUpstreamResponse = client.next(upstream);
    assert!(!answer.is_error && answer.results.iter().all(|result| !result.is_error));
    broker.end();
}

fn one(request_type: StreamRequestType, channel: &str) -> StreamQueueMessagesRequest {
    StreamQueueMessagesRequest {
        request_id: "one".into(),
        client_id: "user".into(),
        stream_request_type_data: request_type.into(),
        channel: channel.into(),
        wait_time_seconds: 5,
        visibility_seconds: 600,
        ..StreamQueueMessagesRequest::default()
    }
}

#[test]
fn a_denied_stream_of_one_message_is_told_in_a_frame_and_ends() {
    let (broker, mut client) = start();
    let stream = client.open(method::STREAM_QUEUE_MESSAGE);
    client.say(stream, &one(StreamRequestType::ReceiveMessage, "yours.a"));
    let answer: StreamQueueMessagesResponse = client.next(stream);
    assert_eq!((answer.is_error, &*answer.error), (true, DENIED));
    client.ends(stream, PERMISSION_DENIED, DENIED);
    broker.end();
}

/// Who may receive is not to write elsewhere by sending on what came.
#[test]
fn a_message_is_sent_on_only_to_where_its_consumer_may_write() {
    let (broker, mut client) = start();
    let modified = |channel: &str| StreamQueueMessagesRequest {
        modified_message: Some(queue_message("user", channel)),
        ..one(StreamRequestType::SendModifiedMessage, "")
    };
    let table = [
        (one(StreamRequestType::ResendMessage, "yours.a"), false),
        (modified("yours.a"), false),
        (one(StreamRequestType::ResendMessage, "mine.b"), true),
        (modified("mine.b"), true),
    ];
    for (request, allowed) in table {
        let sent: SendQueueMessageResult =
            client.unary(method::SEND_QUEUE_MESSAGE, &queue_message("user", "mine.a"));
        assert!(!sent.is_error, "{}", sent.error);
        let stream = client.open(method::STREAM_QUEUE_MESSAGE);
        client.say(stream, &one(StreamRequestType::ReceiveMessage, "mine.a"));
        let answer: StreamQueueMessagesResponse = client.next(stream);
        assert!(answer.message.is_some(), "{}", answer.error);
        client.say(stream, &request);
        let answer: StreamQueueMessagesResponse = client.next(stream);
        let told = (answer.is_error, &*answer.error);
        match allowed {
            true => {
                assert_eq!(told, (false, ""));
                client.ends(stream, OK, "");
                assert_eq!(client.receive("root", "mine.b").len(), 1);
            }
            false => {
                assert_eq!(told, (true, DENIED));
                client.ends(stream, PERMISSION_DENIED, DENIED);
                assert_eq!(client.receive("root", "yours.a"), []);
                assert_eq!(client.receive("root", "mine.a").len(), 1, "it is back");
            }
        }
    }
    broker.end();
}

fn poll(channel: &str) -> QueuesDownstreamRequest {
    QueuesDownstreamRequest {
        request_id: "poll".into(),
        client_id: "user".into(),
        request_type_data: QueuesDownstreamRequestType::Get.into(),
        channel: channel.into(),
        max_items: 10,
        wait_timeout: 5_000,
        ..QueuesDownstreamRequest::default()
    }
}

#[test]
fn a_denied_poll_is_told_and_the_stream_goes_on() {
    let (broker, mut client) = start();
    let polls = client.open(method::QUEUES_DOWNSTREAM);
    client.say(polls, &poll("yours.a"));
    let answer: QueuesDownstreamResponse = client.next(polls);
    assert_eq!((answer.is_error, &*answer.error), (true, DENIED));
    let sent: SendQueueMessageResult =
        client.unary(method::SEND_QUEUE_MESSAGE, &queue_message("user", "mine.a"));
    assert!(!sent.is_error);
    client.say(polls, &poll("mine.a"));
    let got: QueuesDownstreamResponse = client.next(polls);
    assert_eq!((got.is_error, got.messages.len()), (false, 1));
    // Some SDKs do not say who they are when they settle.
    let requeue = |channel: &str| QueuesDownstreamRequest {
        client_id: String::new(),
        request_type_data: QueuesDownstreamRequestType::ReQueueAll.into(),
        ref_transaction_id: got.transaction_id.clone(),
        re_queue_channel: channel.into(),
        ..poll("")
    };
    client.say(polls, &requeue("yours.a"));
    let answer: QueuesDownstreamResponse = client.next(polls);
    assert_eq!((answer.is_error, &*answer.error), (true, DENIED));
    client.say(polls, &requeue("mine.b"));
    client.say(polls, &poll("mine.b"));
    let got: QueuesDownstreamResponse = client.next(polls);
    assert_eq!((got.is_error, got.messages.len()), (false, 1));
    broker.end();
}

#[test]
fn a_queue_of_dead_letters_is_one_that_the_sender_may_write() {
    let (broker, mut client) = start();
    let dying = |dead_letters: &str| QueueMessage {
        policy: Some(QueueMessagePolicy {
            max_receive_count: 1,
            max_receive_queue: dead_letters.into(),
            ..QueueMessagePolicy::default()
        }),
        ..queue_message("user", "mine.a")
    };
    client.denied(method::SEND_QUEUE_MESSAGE, &dying("yours.dead"));
    let sent: SendQueueMessageResult =
        client.unary(method::SEND_QUEUE_MESSAGE, &dying("mine.dead"));
    assert!(!sent.is_error, "{}", sent.error);
    broker.end();
}

/// Whoever is not asked about a name need not be denied it: no rule is read for it.
#[test]
fn names_that_nothing_can_have_are_told_in_their_place() {
    let (broker, mut client) = start();
    let dying = |dead_letters: &str| QueueMessage {
        policy: Some(QueueMessagePolicy {
            max_receive_count: 1,
            max_receive_queue: dead_letters.into(),
            ..QueueMessagePolicy::default()
        }),
        ..queue_message("user", "mine.a")
    };
    let long = "x".repeat(1_000);
    let batch = QueueMessagesBatchRequest {
        batch_id: "batch".into(),
        messages: vec![
            queue_message("user", "mine.a"),
            dying("yours.*"),
            dying(&long),
            queue_message(&long, "mine.a"),
            queue_message("user", &long),
        ],
    };
    let answer: QueueMessagesBatchResponse =
        client.unary(method::SEND_QUEUE_MESSAGES_BATCH, &batch);
    let refused: Vec<_> = answer.results.iter().map(|it| it.is_error).collect();
    assert_eq!(refused, [false, true, true, true, true]);
    assert!(answer.results.iter().all(|it| it.error != DENIED));
    assert_eq!(client.receive("root", "mine.a").len(), 1);

    let info = |names: &str| QueuesInfoRequest {
        request_id: "info".into(),
        queue_name: names.into(),
    };
    client.denied(method::QUEUES_INFO, &info("mine.a"));
    let answer: QueuesInfoResponse = client.unary(method::QUEUES_INFO, &info("mine.*;>"));
    assert_eq!(answer.info.map_or(0, |info| info.queues.len()), 0);
    broker.end();
}

#[test]
fn each_target_of_a_route_is_asked_for_by_itself() {
    let (broker, mut client) = start();
    let failed = format!("routing: 1 of 2 failed: queues:yours.a: {DENIED}");
    let message = queue_message("user", "mine.a;yours.a");
    let sent: SendQueueMessageResult = client.unary(method::SEND_QUEUE_MESSAGE, &message);
    assert_eq!((sent.is_error, &*sent.error), (true, &*failed));
    assert_eq!(client.receive("root", "mine.a").len(), 1);
    assert_eq!(client.receive("root", "yours.a"), []);

    let failed = format!("routing: 1 of 2 failed: queues:yours.a: {DENIED}");
    let routed = event("user", "mine.e;queues:yours.a");
    let sent: EventResult = client.unary(method::SEND_EVENT, &routed);
    assert_eq!((sent.sent, &*sent.error), (false, &*failed));

    // In a batch too: what goes to one queue is all or nothing, what goes to a route is not.
    let upstream = client.open(method::QUEUES_UPSTREAM);
    let request = QueuesUpstreamRequest {
        request_id: "up".into(),
        messages: messages(&["mine.a", "mine.b;yours.b"]),
    };
    client.say(upstream, &request);
    let answer: QueuesUpstreamResponse = client.next(upstream);
    let failed = format!("routing: 1 of 2 failed: queues:yours.b: {DENIED}");
    let told: Vec<_> = answer.results.iter().map(|result| &*result.error).collect();
    assert_eq!(told, ["", &failed]);
    broker.end();
}
