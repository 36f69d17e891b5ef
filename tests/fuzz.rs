//! The fuzz targets of `tests/fuzz` for what comes from a peer or an operator, a few seconds each,
//! on random and mutated bytes from a seeded generator: the same bytes in every run. A failure
//! names the seed. `RINGMQ_FUZZ_FACTOR=100` runs a hundred times as many.

#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "ordinary threads and deadlines; a broken assumption is a failed test"
)]

#[allow(unused_imports, reason = "each test binary uses a part of the harness")]
mod harness;
mod mock;

#[path = "fuzz/live.rs"]
mod live;
#[path = "fuzz/peer.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz targets")]
mod peer;
#[path = "fuzz/random.rs"]
mod random;
#[path = "fuzz/web_socket.rs"]
mod web_socket;

use std::thread;

use ringmq::security::authentication::{Algorithm, SigningKey};

use harness::Broker;
use mock::broker::Watched as _;
use mock::kubemq;
use mock::peer::grpc_framed;
use mock::queues;
use random::Random;

/// Says which input it was when a check fails.
struct Case(u64);

impl Drop for Case {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the input was made from seed {}", self.0);
        }
    }
}

fn cases(usual: u64) -> u64 {
    let factor = std::env::var("RINGMQ_FUZZ_FACTOR").ok();
    usual * factor.and_then(|factor| factor.parse().ok()).unwrap_or(1)
}

/// Runs a check on the examples, which must mean something, and on what becomes of them.
fn run(check: fn(&[u8]) -> bool, examples: &[Vec<u8>], usual: u64, meaningful: u64) {
    for example in examples {
        assert!(check(example), "{:?}", String::from_utf8_lossy(example));
    }
    let mut meant = 0;
    for seed in 0..cases(usual) {
        let case = Case(seed);
        meant += u64::from(check(&Random::new(case.0).input(examples)));
    }
    let least = cases(usual) / meaningful;
    assert!(
        meant > least,
        "only {meant} of {} inputs got anywhere",
        cases(usual)
    );
}

fn texts<const N: usize>(texts: [&str; N]) -> Vec<Vec<u8>> {
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

fn messages() -> Vec<Vec<u8>> {
    let request = kubemq::request(kubemq::QUERY, "fuzz", b"{}", 5);
    let message = queues::message("id", "fuzz", b"body");
    vec![
        kubemq::event("fuzz", b"body"),
        kubemq::stored_event("id", "fuzz", b"body"),
        kubemq::subscribe(kubemq::EVENTS, "fuzz.>", "group"),
        kubemq::response(&request),
        request,
        queues::upstream("id", [message.as_slice()]),
        queues::get("id", "fuzz", 1, 5, false),
        message,
    ]
}

#[test]
fn any_message_can_be_read_as_any_of_the_contract() {
    run(peer::contract, &messages(), 20_000, 4);
}

#[test]
fn any_bytes_can_be_cut_into_messages() {
    // A member of gzip that holds "hello".
    let gzip = b"\x1f\x8b\x08\0\0\0\0\0\0\xff\xcb\x48\xcd\xc9\xc9\x07\0\x86\xa6\x10\x36\x05\0\0\0";
    let mut compressed = grpc_framed(gzip);
    compressed[0] = 1;
    let mut examples: Vec<_> = messages()
        .iter()
        .map(|message| grpc_framed(message))
        .collect();
    examples.push(compressed);
    // The first byte says how the rest is cut.
    examples.iter_mut().for_each(|example| example.insert(0, 8));
    run(peer::frames, &examples, 20_000, 8);
}

#[test]
fn only_signed_tokens_are_taken() {
    let key = SigningKey::new(Algorithm::HS256, peer::TOKEN_KEY).unwrap();
    let claims = serde_json::json!({ "sub": "somebody", "exp": 1_900_000_000, "roles": ["a"] });
    let token = key.token(None, claims.as_object().unwrap()).unwrap();
    let unchanged = cases(20_000) / 100;
    // One in a hundred at least stays as it is; the others are no tokens.
    assert!(unchanged > 0);
    run(peer::token, &[token.into_bytes()], 20_000, 100);
}

#[test]
fn any_file_can_be_read_as_keys() {
    let set = r#"{"keys":[{"kty":"oct","alg":"HS256","kid":"a",
        "k":"c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IDEyMzQ"}]}"#;
    run(peer::keys, &texts([set]), 10_000, 100);
}

#[test]
fn any_file_can_be_read_as_rules() {
    let policy = r#"[{"ClientID":"a.*","Events":true,"Queues":true,
        "Channel":"foo\\..*","Read":true,"Write":true}]"#;
    let routes = r#"[{"Key":"^foo$","Routes":"events:bar;queues:baz"}]"#;
    run(peer::rules, &texts([policy, routes]), 1_500, 100);
}

#[test]
fn any_file_can_be_read_as_a_configuration() {
    let toml = "[grpc]\nport = 50001\n[log]\nlevel = \"info\"\n";
    let yaml = "grpc:\n  port: 50001\nlog:\n  level: info\n";
    run(peer::configuration, &texts([toml, yaml]), 1_500, 100);
}

/// A broker that lives on, whatever it is told.
fn with_broker(fuzz: fn(&Broker)) {
    let broker = Broker::start(2);
    fuzz(&broker);
    broker.assert_serves();
    broker.end();
}

#[test]
fn any_message_of_a_unary_call_is_answered() {
    with_broker(live::unary_calls);
}

#[test]
fn any_message_of_a_stream_is_answered_or_ends_it() {
    with_broker(live::streaming_calls);
}

#[test]
fn any_bytes_of_http2_do_no_harm() {
    with_broker(live::http2);
}

#[test]
fn any_bytes_of_http1_do_no_harm() {
    with_broker(live::http1);
}

#[test]
fn any_json_is_answered_with_json() {
    with_broker(live::json);
}

#[test]
fn any_frames_of_web_sockets_do_no_harm() {
    with_broker(live::web_sockets);
}
