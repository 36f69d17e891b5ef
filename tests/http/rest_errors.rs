//! What REST refuses, letter by letter as clients know it.

use serde_json::{Value, json};

use crate::broker::{HttpBroker, base64};

/// `base` with these members set; `null` takes one away.
fn with(base: &Value, members: &Value) -> Value {
    let mut changed = base.clone();
    let object = changed.as_object_mut().unwrap();
    for (name, value) in members.as_object().unwrap() {
        if value.is_null() {
            object.remove(name);
        } else {
            object.insert(name.clone(), value.clone());
        }
    }
    changed
}

const QUEUE_NAME: &str = "Error 120: invalid queue name value, cannot be empty, contains \
                          wildcards ,white spaces and end with dot";

#[test]
fn events_are_checked_in_the_known_order() {
    let broker = HttpBroker::start(1);
    let event = json!({"EventID": "e", "ClientID": "c", "Channel": "a.b", "Body": base64("x")});
    let refusals = [
        (
            json!({"ClientID": ""}),
            "Error 101: invalid clientID value, cannot be empty",
        ),
        (
            json!({"ClientID": "", "Channel": ""}),
            "Error 101: invalid clientID value, cannot be empty",
        ),
        (
            json!({"Channel": null}),
            "Error 102: invalid channel value, cannot be empty",
        ),
        (
            json!({"Channel": "a.*"}),
            "Error 107: invalid channel value, no wildcards are allowed",
        ),
        (
            json!({"Channel": "a.>"}),
            "Error 107: invalid channel value, no wildcards are allowed",
        ),
        (
            json!({"Channel": "a b"}),
            "Error 108: invalid channel value, no white spaces are allowed",
        ),
        (
            json!({"Channel": "a."}),
            "Error 119: invalid channel value, cannot end with `.`",
        ),
        (
            json!({"Channel": ".a"}),
            "Error 119: invalid channel value, tokens cannot be empty",
        ),
        (
            json!({"Body": null}),
            "Error 110: invalid message, cannot be empty",
        ),
        (
            json!({"Body": "", "Metadata": ""}),
            "Error 110: invalid message, cannot be empty",
        ),
    ];
    for store in [false, true] {
        for (members, text) in &refusals {
            let event = with(&with(&event, members), &json!({"Store": store}));
            assert_eq!(
                broker.post("/send/event", &event).failure(400),
                *text,
                "{event}"
            );
        }
    }
    broker.end();
}

#[test]
fn requests_are_checked_in_the_known_order() {
    let broker = HttpBroker::start(1);
    let request = json!({
        "RequestID": "r", "RequestTypeData": 2, "ClientID": "c", "Channel": "nobody.answers",
        "Body": base64("x"), "Timeout": 200,
    });
    let refusals = [
        (
            json!({"ClientID": ""}),
            "Error 101: invalid clientID value, cannot be empty",
        ),
        (
            json!({"Channel": ""}),
            "Error 102: invalid channel value, cannot be empty",
        ),
        (
            json!({"Channel": "a.*"}),
            "Error 107: invalid channel value, no wildcards are allowed",
        ),
        (
            json!({"Channel": "a b"}),
            "Error 108: invalid channel value, no white spaces are allowed",
        ),
        (
            json!({"Channel": "a."}),
            "Error 119: invalid channel value, cannot end with `.`",
        ),
        (
            json!({"RequestTypeData": 0}),
            "Error 206: invalid request type",
        ),
        (
            json!({"Timeout": 0}),
            "Error 109: invalid set timeout value, cannot be 0 or negative",
        ),
        (
            json!({"Timeout": -5}),
            "Error 109: invalid set timeout value, cannot be 0 or negative",
        ),
        (
            json!({"Body": null}),
            "Error 115: invalid request, cannot be empty",
        ),
        (
            json!({"CacheKey": "k"}),
            "Error 116: invalid cache ttl value, cannot be 0 or negative",
        ),
        (json!({}), "Error 301: timeout for request message"),
        (
            json!({"RequestTypeData": 1}),
            "Error 301: timeout for request message",
        ),
    ];
    for (members, text) in &refusals {
        let request = with(&request, members);
        assert_eq!(
            broker.post("/send/request", &request).failure(400),
            *text,
            "{request}"
        );
    }
    broker.end();
}

#[test]
fn responses_are_checked_in_the_known_order() {
    let broker = HttpBroker::start(1);
    let response = json!({"ClientID": "c", "RequestID": "r", "ReplyChannel": "_REPLY.abc"});
    let refusals = [
        (
            json!({"ClientID": ""}),
            "Error 101: invalid clientID value, cannot be empty",
        ),
        (
            json!({"RequestID": ""}),
            "Error 117: invalid request id, cannot be empty",
        ),
        (
            json!({"ReplyChannel": ""}),
            "Error 102: invalid channel value, cannot be empty",
        ),
    ];
    for (members, text) in &refusals {
        let response = with(&response, members);
        assert_eq!(
            broker.post("/send/response", &response).failure(400),
            *text,
            "{response}"
        );
    }
    broker.end();
}

/// What a queue refuses with; the envelope says that the call was made.
fn refused(broker: &HttpBroker, path: &str, body: &Value) -> String {
    let data = broker.post(path, body).data();
    assert_eq!(data["IsError"], true, "{path} {body}: {data}");
    data["Error"].as_str().unwrap().to_owned()
}

#[test]
fn what_a_queue_refuses_to_take_is_in_the_data_of_a_success() {
    let broker = HttpBroker::start(1);
    let message = json!({
        "MessageID": "m", "ClientID": "c", "Channel": "q.refusals", "Body": base64("x"),
    });
    let sends = [
        (
            json!({"ClientID": ""}),
            "Error 101: invalid clientID value, cannot be empty",
        ),
        (json!({"Channel": ""}), QUEUE_NAME),
        (json!({"Channel": "a b"}), QUEUE_NAME),
        (json!({"Channel": "a.*"}), QUEUE_NAME),
        (json!({"Channel": "a."}), QUEUE_NAME),
        (
            json!({"Body": null}),
            "Error 110: invalid message, cannot be empty",
        ),
        (
            json!({"Policy": {"DelaySeconds": 99_999_999}}),
            "Error 135: invalid delay seconds, exceed max delay seconds setting in kubemq config",
        ),
        (
            json!({"Policy": {"ExpirationSeconds": 99_999_999}}),
            "Error 133: invalid expiration seconds, exceed max expiration seconds setting in \
             kubemq config",
        ),
        (
            json!({"Policy": {"MaxReceiveCount": 99_999}}),
            "Error 134: invalid max received count, cannot be negative or exceed max receive \
             count setting in kubemq config",
        ),
    ];
    for (members, text) in &sends {
        let message = with(&message, members);
        assert_eq!(
            refused(&broker, "/queue/send", &message),
            *text,
            "{message}"
        );
        let data = broker.post("/queue/send", &message).data();
        assert_eq!(data["MessageID"], "m");
    }
    broker.end();
}

#[test]
fn what_a_queue_refuses_to_give_is_in_the_data_of_a_success() {
    let broker = HttpBroker::start(1);
    let receive = json!({
        "RequestID": "r", "ClientID": "c", "Channel": "q.refusals", "MaxNumberOfMessages": 1,
        "WaitTimeSeconds": 1,
    });
    let items = "Error 122: max messages should be between 1 and max message setting in kubemq \
                 config  ";
    let wait = "Error 136: invalid wait timeout, value cannot be negative or exceed max wait \
                timeout seconds setting in kubemq config";
    let receives = [
        (
            json!({"ClientID": ""}),
            "Error 101: invalid clientID value, cannot be empty",
        ),
        (json!({"Channel": ""}), QUEUE_NAME),
        (json!({"MaxNumberOfMessages": 0}), items),
        (json!({"MaxNumberOfMessages": 5_000}), items),
        (json!({"WaitTimeSeconds": -1}), wait),
        (json!({"WaitTimeSeconds": 3_601}), wait),
    ];
    for (members, text) in &receives {
        assert_eq!(
            refused(&broker, "/queue/receive", &with(&receive, members)),
            *text,
            "{members}"
        );
    }
    let ack_all = json!({"RequestID": "r", "ClientID": "c", "Channel": "q", "WaitTimeSeconds": 1});
    for (members, text) in &receives[..2] {
        assert_eq!(
            refused(&broker, "/queue/ack_all", &with(&ack_all, members)),
            *text,
            "{members}"
        );
    }
    broker.end();
}

#[test]
fn bodies_that_are_no_message_are_told_why() {
    let broker = HttpBroker::start(1);
    let json_type = [("Content-Type", "application/json")];
    let post = |path: &str, headers: &[(&str, &str)], body: &str| {
        let answer = broker.send(broker.rest(), "POST", path, headers, body.as_bytes());
        answer.failure(400)
    };
    let syntax = "code=400, message=Syntax error: offset=2, error=invalid character 'b' looking \
                  for beginning of object key string, internal=invalid character 'b' looking for \
                  beginning of object key string";
    let posted = [
        "/send/event",
        "/send/request",
        "/send/response",
        "/queue/send",
        "/queue/send_batch",
        "/queue/receive",
        "/queue/ack_all",
    ];
    for path in posted {
        assert_eq!(post(path, &json_type, "{bad"), syntax, "{path}");
        let cut = "code=400, message=unexpected EOF, internal=unexpected EOF";
        assert_eq!(post(path, &json_type, "{\"ClientID\":"), cut, "{path}");
        let list = post(path, &json_type, "[]");
        assert!(list.starts_with("code=400, message=Unmarshal type error: expected=kubemq."));
        let media = post(path, &[("Content-Type", "text/plain")], "{}");
        assert_eq!(media, "code=415, message=Unsupported Media Type", "{path}");
    }
    assert_eq!(
        post(
            "/send/event",
            &json_type,
            r#"{"EventID":123,"ClientID":"c1"}"#
        ),
        "code=400, message=Unmarshal type error: expected=string, got=number, field=EventID, \
         offset=14, internal=json: cannot unmarshal number into Go struct field Event.EventID of \
         type string"
    );
    assert_eq!(
        post("/send/event", &json_type, r#"{"Body":"not base64!"}"#),
        "code=400, message=illegal base64 data at input byte 3, internal=illegal base64 data at \
         input byte 3"
    );
    let answer = broker.send(broker.rest(), "GET", "/queue/info", &json_type, b"{bad");
    assert_eq!(answer.failure(400), syntax);
    broker.end();
}

#[test]
fn a_body_that_is_nothing_or_a_form_is_the_empty_message() {
    let broker = HttpBroker::start(1);
    let empty = "Error 101: invalid clientID value, cannot be empty";
    let json_type = [("Content-Type", "application/json")];
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let event = br#"{"ClientID":"c","Channel":"a","Metadata":"m"}"#;
    for (headers, body) in [
        (&json_type[..], &b"null"[..]),
        (&json_type[..], b"{}"),
        (&json_type[..], b""),
        (&[], b""),
        (&form[..], event),
    ] {
        let answer = broker.send(broker.rest(), "POST", "/send/event", headers, body);
        assert_eq!(answer.failure(400), empty, "{headers:?}");
    }
    broker.end();
}

#[test]
fn an_empty_batch_has_the_text_of_rest() {
    let broker = HttpBroker::start(1);
    let answer = broker.post(
        "/queue/send_batch",
        &json!({"BatchID": "b", "Messages": []}),
    );
    assert_eq!(answer.failure(400), "no messages to send");
    let answer = broker.post("/queue/send_batch", &json!({"BatchID": "b"}));
    assert_eq!(answer.failure(400), "no messages to send");
    broker.end();
}
