//! The official Rust SDK over TLS, mutual TLS and with tokens: who is let in, and the error of each
//! that is not. Ignored but beside brokers with TLS, which `tests/sdk.rs` of the broker starts and
//! names as `tests/sdk/python/test_secure.py` says.

use std::time::Duration;

use kubemq::{ErrorCode, Event, KubemqClient, KubemqError, TlsConfig};

fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is set beside brokers with TLS"))
}

fn file(name: &str) -> Option<String> {
    Some(format!("{}/{name}.pem", setting("RINGMQ_IDENTITIES")))
}

async fn client(
    address: &str,
    token: Option<&str>,
    identity: Option<&str>,
    ca: &str,
) -> kubemq::Result<KubemqClient> {
    let address = setting(address);
    let (host, port) = address.rsplit_once(':').unwrap();
    let tls = TlsConfig {
        ca_cert_file: file(ca),
        cert_file: identity.and_then(file),
        key_file: identity.and_then(|name| file(&format!("{name}-key"))),
        ..TlsConfig::default()
    };
    let mut builder = KubemqClient::builder()
        .host(host)
        .port(port.parse().unwrap())
        .client_id("rust-secure")
        .connection_timeout(Duration::from_secs(20))
        .tls_config(tls)
        .check_connection(true);
    if let Some(token) = token {
        builder = builder.auth_token(setting(token));
    }
    builder.build().await
}

async fn publish(client: &KubemqClient, channel: &str) -> kubemq::Result<()> {
    let event = Event::builder()
        .channel(channel)
        .body(b"secret".to_vec())
        .build();
    client.send_event(event).await
}

fn code(error: &KubemqError) -> ErrorCode {
    error.code()
}

#[tokio::test]
#[ignore = "needs a broker with TLS"]
async fn a_token_publishes_over_tls() {
    let client = client("RINGMQ_TLS_ADDRESS", Some("RINGMQ_TOKEN"), None, "ca");
    let client = client.await.unwrap();
    publish(&client, "allowed").await.unwrap();
}

#[tokio::test]
#[ignore = "needs a broker with TLS"]
async fn a_certificate_publishes_over_mutual_tls() {
    let client = client("RINGMQ_MTLS_ADDRESS", None, Some("client"), "ca");
    let client = client.await.unwrap();
    publish(&client, "any").await.unwrap();
}

#[tokio::test]
#[ignore = "needs a broker with TLS"]
async fn without_a_good_token_it_is_an_authentication_error() {
    for token in [
        None,
        Some("RINGMQ_TOKEN_EXPIRED"),
        Some("RINGMQ_TOKEN_FORGED"),
    ] {
        let client = client("RINGMQ_TLS_ADDRESS", token, None, "ca")
            .await
            .unwrap();
        let error = publish(&client, "allowed").await.unwrap_err();
        assert_eq!(
            code(&error),
            ErrorCode::Authentication,
            "{token:?}: {error}"
        );
    }
}

#[tokio::test]
#[ignore = "needs a broker with TLS"]
async fn where_it_may_not_it_is_an_authorization_error() {
    let client = client("RINGMQ_TLS_ADDRESS", Some("RINGMQ_TOKEN"), None, "ca");
    let error = publish(&client.await.unwrap(), "denied").await.unwrap_err();
    assert_eq!(code(&error), ErrorCode::Authorization, "{error}");
    assert!(
        error
            .to_string()
            .contains("Error 412: access denied to resource"),
        "{error}"
    );
}

#[tokio::test]
#[ignore = "needs a broker with TLS"]
async fn without_good_certificates_there_is_no_connection() {
    for (identity, ca) in [
        (None, "ca"),
        (Some("stranger"), "ca"),
        (Some("client"), "stranger-ca"),
    ] {
        // With TLS 1.3 a client is through before the broker has seen what it shows: the first
        // call tells then.
        let published = match client("RINGMQ_MTLS_ADDRESS", None, identity, ca).await {
            Ok(client) => publish(&client, "any").await,
            Err(error) => Err(error),
        };
        let error = published
            .err()
            .unwrap_or_else(|| panic!("{identity:?} {ca} is let in"));
        let code = code(&error);
        let told = [ErrorCode::Authentication, ErrorCode::Authorization];
        assert!(
            !told.contains(&code),
            "{identity:?} {ca}: no call came through: {error}"
        );
    }
}
