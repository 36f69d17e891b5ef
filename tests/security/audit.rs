//! What is written down of refusals, and of those who manage.

use std::fs;

use serde_json::Value;

use ringmq_proto::kubemq::{Request, Response};

use crate::broker::{Broker, asking_for_tokens, token_of};
use crate::client::{Client, DENIED, UNAUTHENTICATED, event, method, request};
use crate::harness::poll;
use crate::mock::peer::PATIENCE;

#[test]
fn refusals_and_changes_of_channels_are_written_down() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.log");
    let policy = r#"[{"ClientID":"alice","Management":true,"Channel":".*","Write":true}]"#;
    let settings = format!(
        "{}[audit]\nlog_file = {:?}\n",
        asking_for_tokens("client_id_binding = \"checked\""),
        file.to_str().unwrap()
    );
    let broker = Broker::start(&settings, Some(policy));
    let mut nobody = Client::nobody(broker.grpc());
    let missing = "Authorization token is not supplied";
    nobody.refused(
        method::SEND_EVENT,
        &event("a", "a"),
        UNAUTHENTICATED,
        missing,
    );
    let mut alice = Client::with_token(broker.grpc(), &token_of("alice"));
    alice.denied(method::SEND_EVENT, &event("alice", "secret"));
    let _refused = alice.ask(method::SEND_EVENT, &event("bob", "secret"));
    let tags = [("channel_type", "queues"), ("channel", "orders")];
    let create = Request {
        channel: "kubemq.cluster.internal.requests".into(),
        metadata: "create-channel".into(),
        tags: tags
            .map(|(key, value)| (key.into(), value.into()))
            .into_iter()
            .collect(),
        ..request(2, "alice", "")
    };
    let created: Response = alice.unary(method::SEND_REQUEST, &create);
    assert!(created.executed, "{}", created.error);

    let expected = [
        ("auth.refused", "", "", method::SEND_EVENT, Some(missing)),
        (
            "access.denied",
            "alice",
            "alice",
            "write events:secret",
            Some(DENIED),
        ),
        ("client_id.refused", "alice", "bob", "", None),
        ("channel.create", "alice", "alice", "queues:orders", None),
    ];
    for (what, who, client, target, reason) in expected {
        let found = poll(PATIENCE, || {
            let lines = fs::read_to_string(&file).unwrap_or_default();
            let lines = lines
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok());
            lines.into_iter().find(|line: &Value| line["what"] == what)
        });
        let line = found.unwrap_or_else(|| panic!("no {what}:\n{}", broker.log()));
        let told = (&line["who"], &line["client_id"], &line["target"]);
        assert_eq!(
            told,
            (&who.into(), &client.into(), &target.into()),
            "{line}"
        );
        if let Some(reason) = reason {
            assert_eq!(line["reason"], reason);
        }
        assert!(
            line["peer"]
                .as_str()
                .is_some_and(|peer| peer.starts_with("127.0.0.1:"))
        );
    }
    broker.end();
}
