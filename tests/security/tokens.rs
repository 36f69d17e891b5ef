//! Who is it: the tokens of a call.

use ringmq_proto::health::HealthCheckRequest;
use ringmq_proto::kubemq::{PingResult, Result as EventResult};

use crate::broker::{Broker, SECRET, asking_for_tokens, now_seconds, token, token_of, token_with};
use crate::client::{Client, OK, UNAUTHENTICATED, event, method, queue_message};

const MISSING: &str = "Authorization token is not supplied";
const REFUSED: &str = "Error 421: authentication verification failed, ";

/// Every method that asks who calls.
const ASKING: [&str; 15] = [
    method::SEND_EVENT,
    method::SEND_EVENTS_STREAM,
    method::SUBSCRIBE_TO_EVENTS,
    method::SUBSCRIBE_TO_REQUESTS,
    method::SEND_REQUEST,
    method::SEND_RESPONSE,
    method::SEND_QUEUE_MESSAGE,
    method::SEND_QUEUE_MESSAGES_BATCH,
    method::RECEIVE_QUEUE_MESSAGES,
    method::ACK_ALL_QUEUE_MESSAGES,
    method::STREAM_QUEUE_MESSAGE,
    method::QUEUES_UPSTREAM,
    method::QUEUES_DOWNSTREAM,
    method::QUEUES_INFO,
    method::REFLECTION,
];

/// What a call with these tokens is told; `None` when it is served.
fn told(client: &mut Client, tokens: &[&str]) -> Option<String> {
    let stream = client.open_with(method::SEND_EVENT, tokens);
    client.say_last(stream, &event("anybody", "tokens"));
    let reply = client.peer.finish(stream);
    match reply.grpc_status() {
        Some(OK) => None,
        Some(UNAUTHENTICATED) => Some(reply.grpc_message().to_owned()),
        other => panic!("{other:?}: {}", reply.grpc_message()),
    }
}

#[test]
fn every_method_but_ping_and_health_asks_who_calls() {
    let broker = Broker::start(&asking_for_tokens(""), None);
    let mut nobody = Client::nobody(broker.grpc());
    for method in ASKING {
        let stream = nobody.call(method, &());
        nobody.ends(stream, UNAUTHENTICATED, MISSING);
    }
    let ping: PingResult = nobody.unary(method::PING, &());
    assert!(!ping.version.is_empty());
    let health = nobody.ask(method::HEALTH, &HealthCheckRequest::default());
    assert_eq!(health.grpc_status(), Some(OK));

    let mut somebody = Client::with_token(broker.grpc(), &token_of("alice"));
    let sent: EventResult = somebody.unary(method::SEND_EVENT, &event("alice", "tokens"));
    assert!(sent.sent);
    let reflection = somebody.open(method::REFLECTION);
    assert!(somebody.goes_on(reflection));
    broker.end();
}

#[test]
fn the_raw_token_is_taken_and_one_behind_bearer_is_not() {
    let broker = Broker::start(&asking_for_tokens(""), None);
    let mut client = Client::nobody(broker.grpc());
    let token = token_of("alice");
    assert_eq!(told(&mut client, &[&token]), None);
    let bearer = format!("{REFUSED}tokenstring should not contain 'bearer '");
    for scheme in ["Bearer", "bearer"] {
        let shown = format!("{scheme} {token}");
        assert_eq!(told(&mut client, &[&shown]).as_deref(), Some(&*bearer));
    }
    broker.end();
}

/// A retry of the Go SDK shows the old token and behind it the new one.
#[test]
fn of_several_tokens_the_last_one_counts() {
    let broker = Broker::start(&asking_for_tokens(""), None);
    let mut client = Client::nobody(broker.grpc());
    let (good, bad) = (token_of("alice"), "no token");
    assert_eq!(told(&mut client, &[bad, &good]), None);
    assert!(told(&mut client, &[&good, bad]).is_some());
    broker.end();
}

#[test]
fn a_token_that_does_not_count_is_refused_with_the_known_text() {
    let broker = Broker::start(&asking_for_tokens(""), None);
    let mut client = Client::nobody(broker.grpc());
    let now = now_seconds();
    let claims = format!(r#"{{"sub":"alice","exp":{}}}"#, now + 3_600);
    let head = r#"{"alg":"HS256","typ":"JWT"}"#;
    let other_key = token_with(head, &claims, "another secret");
    let other_algorithm = token_with(r#"{"alg":"HS512","typ":"JWT"}"#, &claims, SECRET);
    let good = token(&claims);
    let (signed, _) = good.rsplit_once('.').unwrap();
    let table = [
        (other_key, "signature is invalid"),
        (other_algorithm, "unexpected signing method: HS512"),
        (
            token(&format!(r#"{{"nbf":{}}}"#, now + 3_600)),
            "token is not valid yet",
        ),
        (
            token(&format!(r#"{{"iat":{}}}"#, now + 3_600)),
            "token used before issued",
        ),
        (
            signed.to_owned(),
            "token contains an invalid number of segments",
        ),
        (
            "one".to_owned(),
            "token contains an invalid number of segments",
        ),
    ];
    for (token, reason) in table {
        let expected = format!("{REFUSED}{reason}");
        assert_eq!(told(&mut client, &[&token]), Some(expected), "{token}");
    }
    let unsigned = token_with(r#"{"alg":"none"}"#, &claims, SECRET);
    assert!(told(&mut client, &[&unsigned]).is_some());
    let expired = token(&format!(r#"{{"exp":{}}}"#, now - 103));
    let told = told(&mut client, &[&expired]).expect("it is refused");
    let late = told.strip_prefix(&format!("{REFUSED}token is expired by 1m"));
    let late = late.and_then(|late| late.strip_suffix('s'));
    assert!(
        late.is_some_and(|late| late.parse::<u32>().is_ok()),
        "{told}"
    );
    broker.end();
}

#[test]
fn a_token_without_an_end_counts_for_ever_unless_ends_are_required() {
    let endless = token(r#"{"sub":"alice"}"#);
    for (settings, counts) in [("", true), ("require_exp = true", false)] {
        let broker = Broker::start(&asking_for_tokens(settings), None);
        let mut client = Client::nobody(broker.grpc());
        assert_eq!(told(&mut client, &[&endless]).is_none(), counts);
        broker.end();
    }
}

/// As the reference has it: who calls is one thing, who sends another, unless they are bound.
#[test]
fn a_token_does_not_bind_the_client_id_by_itself() {
    let broker = Broker::start(&asking_for_tokens(""), None);
    let mut alice = Client::with_token(broker.grpc(), &token_of("alice"));
    let sent = alice.ask(method::SEND_QUEUE_MESSAGE, &queue_message("bob", "as.bob"));
    assert_eq!(sent.grpc_status(), Some(OK));
    let received = alice.receive("carol", "as.bob");
    let [message] = &received[..] else {
        panic!("{received:?}");
    };
    assert_eq!(message.client_id, "bob");
    broker.end();
}
