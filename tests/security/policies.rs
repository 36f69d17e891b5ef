//! May they: how rules are matched, and what a subscription with wildcards needs.

use ringmq_proto::kubemq::{Request, Response, Result as EventResult};

use crate::broker::{Broker, asking_for_tokens, now_seconds, token};
use crate::client::{
    Client, OK, PERMISSION_DENIED, event, method, next_event, request, response, stored, subscribe,
};

/// Whether a client may send to a channel.
fn may_send(peer: &mut Client, client: &str, channel: &str) -> bool {
    let reply = peer.ask(method::SEND_EVENT, &event(client, channel));
    match reply.grpc_status() {
        Some(OK) => true,
        Some(PERMISSION_DENIED) => false,
        other => panic!("{other:?}: {}", reply.grpc_message()),
    }
}

/// Whether a client may subscribe; tried until it is live or refused.
fn may_subscribe(peer: &mut Client, kind: i32, client: &str, channel: &str) -> bool {
    let subscribe = subscribe(kind, client, channel);
    let method = crate::client::subscription_method(&subscribe);
    let stream = peer.call(method, &subscribe);
    let answered = |peer: &mut crate::mock::peer::Peer| {
        let reply = peer.reply(stream);
        reply.ended || reply.headers.is_some()
    };
    assert!(peer.peer.wait(answered), "it is answered");
    match peer.peer.reply(stream).grpc_status() {
        None => true,
        Some(PERMISSION_DENIED) => false,
        other => panic!("{other:?}"),
    }
}

const ALICE: &str = r#"[{"ClientID":"alice","Events":true,"Channel":"foo.bar","Write":true}]"#;

#[test]
fn a_rule_means_whole_names() {
    let broker = Broker::start("", Some(ALICE));
    let mut peer = Client::nobody(broker.grpc());
    let table = [
        ("alice", "foo.bar", true),
        ("xalicex", "foo.bar", false),
        ("alice", "foo.bar.2", false),
        // A dot of an expression is any character, as ever.
        ("alice", "fooXbar", true),
        ("bob", "foo.bar", false),
    ];
    for (client, channel, allowed) in table {
        assert_eq!(
            may_send(&mut peer, client, channel),
            allowed,
            "{client} to {channel}"
        );
    }
    broker.end();
}

#[test]
fn an_old_policy_may_mean_parts_of_names_which_is_warned_of() {
    let broker = Broker::start("[authorization]\nunanchored = true\n", Some(ALICE));
    let mut peer = Client::nobody(broker.grpc());
    for (client, channel, allowed) in [
        ("xalicex", "foo.bar", true),
        ("alice", "foo.bar.2", true),
        ("alice", "fooXbar", true),
        ("bob", "foo.bar", false),
    ] {
        assert_eq!(
            may_send(&mut peer, client, channel),
            allowed,
            "{client} to {channel}"
        );
    }
    assert!(
        broker.log().contains("authorization.unanchored"),
        "{}",
        broker.log()
    );
    broker.end();
}

#[test]
fn any_rule_is_enough_and_one_that_denies_counts_more() {
    let policy = r#"[
        {"ClientID":"alice","Events":true,"Channel":"a","Write":true},
        {"ClientID":"alice","Events":true,"Channel":"b","Write":true},
        {"ClientID":"alice","Events":true,"Channel":"a","Read":false,"Write":false},
        {"ClientID":".*","Events":true,"Channel":"b","Write":true,"Deny":true}]"#;
    let broker = Broker::start("", Some(policy));
    let mut peer = Client::nobody(broker.grpc());
    for (channel, allowed) in [("a", true), ("b", false), ("c", false)] {
        assert_eq!(may_send(&mut peer, "alice", channel), allowed, "{channel}");
    }
    broker.end();
}

#[test]
fn a_wildcard_subscription_needs_rules_for_all_that_it_matches() {
    let policy = r#"[
        {"ClientID":"all","Events":true,"Commands":true,"Channel":".*","Read":true},
        {"ClientID":"some","Events":true,"Commands":true,"Channel":"orders\\..+","Read":true},
        {"ClientID":"word","Events":true,"Commands":true,"Channel":">","Read":true},
        {"ClientID":"but","Events":true,"Commands":true,"Channel":".*","Read":true},
        {"ClientID":"but","Events":true,"Commands":true,"Channel":"orders\\.secret",
         "Read":true,"Deny":true}]"#;
    let broker = Broker::start("", Some(policy));
    let mut peer = Client::nobody(broker.grpc());
    for kind in [1, 3] {
        let table = [
            ("all", ">", true),
            ("all", "orders.>", true),
            ("some", "orders.>", true),
            ("some", "orders.*", true),
            ("some", "orders.a.*", true),
            ("some", ">", false),
            ("some", "*.a", false),
            // The reference compares the text; this one reads no channel of any name.
            ("word", ">", false),
            ("but", "orders.*", false),
            ("but", "orders.>", false),
            ("but", ">", false),
            ("but", "bills.>", true),
            ("but", "orders.secret.*", true),
        ];
        for (client, channel, allowed) in table {
            let may = may_subscribe(&mut peer, kind, client, channel);
            assert_eq!(may, allowed, "{client} of {channel}");
        }
    }
    broker.end();
}

/// With the reference they cannot: no rule grants what it asks for.
#[test]
fn a_responder_that_may_read_requests_may_answer_them() {
    let policy = r#"[
        {"ClientID":"asks","Commands":true,"Queries":true,"Channel":"served","Write":true},
        {"ClientID":"serves","Commands":true,"Queries":true,"Channel":"served","Read":true}]"#;
    let broker = Broker::start("", Some(policy));
    let mut asking = Client::nobody(broker.grpc());
    let mut serving = Client::nobody(broker.grpc());
    for (kind, subscription) in [(1, 3), (2, 4)] {
        let requests = serving.subscribe(&subscribe(subscription, "serves", "served"));
        let asked = asking.call(method::SEND_REQUEST, &request(kind, "asks", "served"));
        let came: Request = serving.next(requests);
        let answered = serving.ask(method::SEND_RESPONSE, &response("serves", &came));
        assert_eq!(
            answered.grpc_status(),
            Some(OK),
            "{}",
            answered.grpc_message()
        );
        let answer: Response = asking.next(asked);
        assert!(answer.executed);
        // A reply channel counts once: what comes behind is dropped.
        let again = serving.ask(method::SEND_RESPONSE, &response("serves", &came));
        assert_eq!(again.grpc_status(), Some(OK));
    }
    broker.end();
}

#[test]
fn a_remembered_answer_is_only_for_those_who_may_ask() {
    let policy = r#"[
        {"ClientID":"asks","Queries":true,"Channel":"served","Write":true},
        {"ClientID":"serves","Queries":true,"Channel":"served","Read":true}]"#;
    let broker = Broker::start("", Some(policy));
    let mut asking = Client::nobody(broker.grpc());
    let mut serving = Client::nobody(broker.grpc());
    let query = |client: &str| Request {
        cache_key: "key".into(),
        cache_ttl: 600,
        ..request(2, client, "served")
    };
    let requests = serving.subscribe(&subscribe(4, "serves", "served"));
    let asked = asking.call(method::SEND_REQUEST, &query("asks"));
    let came: Request = serving.next(requests);
    serving.ask(method::SEND_RESPONSE, &response("serves", &came));
    let answer: Response = asking.next(asked);
    assert!(!answer.cache_hit);
    let answer: Response = asking.unary(method::SEND_REQUEST, &query("asks"));
    assert!(answer.cache_hit, "it is remembered");
    asking.denied(method::SEND_REQUEST, &query("others"));
    broker.end();
}

#[test]
fn a_publish_stream_tells_what_was_denied_and_goes_on() {
    let policy = r#"[{"ClientID":"a","EventsStore":true,"Events":true,"Channel":"mine","Read":true,
        "Write":true}]"#;
    let broker = Broker::start("", Some(policy));
    let mut client = Client::nobody(broker.grpc());
    let subscription = client.subscribe(&subscribe(1, "a", "mine"));
    let events = client.open(method::SEND_EVENTS_STREAM);
    // One that is taken is silent.
    for sent in [
        event("a", "yours"),
        stored("a", "yours"),
        stored("b", "mine"),
    ] {
        client.say(events, &event("a", "mine"));
        client.say(events, &sent);
        let result: EventResult = client.next(events);
        let told = (&*result.event_id, result.sent, &*result.error);
        assert_eq!(told, ("event-1", false, crate::client::DENIED));
        assert_eq!(next_event(&mut client, subscription).channel, "mine");
    }
    client.say(events, &stored("a", "mine"));
    let result: EventResult = client.next(events);
    assert!(result.sent, "{}", result.error);
    broker.end();
}

#[test]
fn a_rule_may_name_the_roles_of_a_token() {
    let policy = r#"[{"Roles":["clerk"],"Events":true,"Channel":"orders","Write":true}]"#;
    let broker = Broker::start(&asking_for_tokens(""), Some(policy));
    let end = now_seconds() + 3_600;
    for (roles, allowed) in [
        (r#"["clerk","other"]"#, true),
        (r#"["other"]"#, false),
        ("[]", false),
    ] {
        let claims = format!(r#"{{"sub":"a","roles":{roles},"exp":{end}}}"#);
        let mut peer = Client::with_token(broker.grpc(), &token(&claims));
        assert_eq!(may_send(&mut peer, "whoever", "orders"), allowed, "{roles}");
    }
    broker.end();
}
