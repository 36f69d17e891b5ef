//! Connecting, pinging, closing.

use std::time::{Duration, SystemTime};

use kubemq::{ConnectionState, KubemqClient};
use ringmq_sdk_suite::{channel, client};

#[tokio::test]
async fn client_connects_pings_and_closes() {
    let client = client("rust-ping").await;
    assert_eq!(client.state(), ConnectionState::Ready);
    let info = client.ping().await.unwrap();
    assert!(!info.host.is_empty());
    assert!(info.version.starts_with("v2."), "{}", info.version);
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let now = i64::try_from(now).unwrap();
    assert!(
        (now - info.server_start_time - info.server_up_time_seconds).abs() < 5,
        "seconds"
    );
    client.close().await.unwrap();
    assert_eq!(client.state(), ConnectionState::Closed);
}

#[tokio::test]
async fn many_pings_at_once_are_answered() {
    let client = client("rust-pings").await;
    let pings: Vec<_> = (0..50)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.ping().await })
        })
        .collect();
    for ping in pings {
        ping.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn token_and_shortest_keepalive_are_accepted() {
    let address = std::env::var("RINGMQ_ADDRESS").unwrap();
    let (host, port) = address.rsplit_once(':').unwrap();
    let client = KubemqClient::builder()
        .host(host)
        .port(port.parse().unwrap())
        .client_id("rust-token")
        .auth_token("some-token")
        .keepalive_time(Duration::from_secs(5))
        .permit_keepalive_without_stream(true)
        .check_connection(true)
        .build()
        .await
        .unwrap();
    client
        .publish_event(&channel("token"), "body", None, None)
        .await
        .unwrap();
}
