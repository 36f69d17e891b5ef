//! Stored events: send, stream, start positions, groups, positions.

use std::time::{Duration, SystemTime};

use kubemq::{EventStore, EventStoreReceive, EventsStoreSubscription as Start};
use ringmq_sdk_suite::{channel, client, eventually, store, stored};

fn numbers(range: std::ops::Range<usize>) -> impl Iterator<Item = String> {
    range.map(|n| n.to_string())
}

fn bodies(events: &[EventStoreReceive]) -> Vec<String> {
    let bodies = events.iter().map(|event| event.body.clone());
    bodies
        .map(|body| String::from_utf8(body).unwrap())
        .collect()
}

fn sequences(events: &[EventStoreReceive]) -> Vec<u64> {
    events.iter().map(|event| event.sequence).collect()
}

#[tokio::test]
async fn stored_event_arrives_with_all_its_fields() {
    let (client, channel) = (client("rust-stored").await, channel("stored-fields"));
    let event = EventStore::builder()
        .id("id-1")
        .channel(&channel)
        .metadata("möta")
        .body(b"\x00hello\xff".to_vec())
        .add_tag("k", "v")
        .build();
    let result = client.send_event_store(event).await.unwrap();
    assert_eq!((result.id.as_str(), result.sent), ("id-1", true));
    let got = stored(&client, &channel, "", Start::StartFromFirst).await;
    let event = got.seen.wait(1).await.remove(0);
    assert_eq!(event.id, "id-1");
    assert_eq!(event.channel, channel);
    assert_eq!(event.metadata, "möta");
    assert_eq!(event.body, b"\x00hello\xff");
    assert_eq!((event.sequence, event.tags["k"].as_str()), (1, "v"));
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_nanos();
    let age = i128::try_from(now).unwrap() - i128::from(event.timestamp);
    assert!(
        age.abs() < 60_000_000_000,
        "nanoseconds: {}",
        event.timestamp
    );
    assert!(got.errors.all().is_empty());
}

#[tokio::test]
async fn streamed_stored_events_are_answered_and_arrive_in_order() {
    let (client, channel) = (client("rust-stored").await, channel("stored-stream"));
    let mut stream = client.send_event_store_stream().await.unwrap();
    for n in 0..500 {
        let event = EventStore::builder()
            .channel(&channel)
            .id(format!("id-{n}"))
            .body(n.to_string())
            .build();
        stream.send(event).await.unwrap();
        // Also the SDK's queue of results is bounded.
        let result = stream.results().recv().await.unwrap();
        assert_eq!((result.event_id, result.sent), (format!("id-{n}"), true));
        assert!(result.error.is_empty());
    }
    stream.close();
    let got = stored(&client, &channel, "", Start::StartFromFirst).await;
    let events = got.seen.wait(500).await;
    assert_eq!(bodies(&events), numbers(0..500).collect::<Vec<_>>());
    assert_eq!(sequences(&events), (1..=500).collect::<Vec<_>>());
}

#[tokio::test]
async fn refused_stored_event_is_an_error_with_the_text() {
    let client = client("rust-stored").await;
    // The SDK does not refuse empty tokens; the broker does.
    let event = EventStore::builder()
        .channel(format!("{}..x", channel("stored-refused")))
        .body("x")
        .build();
    let error = client.send_event_store(event).await.unwrap_err();
    assert!(error.to_string().contains("Error 119: "), "{error}");
}

#[tokio::test]
async fn start_positions_are_kept() {
    let (sender, channel) = (client("rust-sender").await, channel("stored-start"));
    store(&sender, &channel, numbers(1..5)).await;
    let now = SystemTime::now();
    let minutes = Duration::from_secs(300);
    let cases = [
        (Start::StartFromFirst, vec![1, 2, 3, 4, 5]),
        (Start::StartFromLast, vec![4, 5]),
        (Start::StartAtSequence(3), vec![3, 4, 5]),
        (Start::StartAtTime(now - minutes), vec![1, 2, 3, 4, 5]),
        (Start::StartAtTimeDelta(minutes), vec![1, 2, 3, 4, 5]),
    ];
    let mut readers = Vec::new();
    for (index, (start, expected)) in cases.into_iter().enumerate() {
        let reader = client(&format!("rust-start-{index}")).await;
        let got = stored(&reader, &channel, "", start).await;
        got.seen.wait(expected.len() - 1).await;
        readers.push((reader, got, expected));
    }
    store(&sender, &channel, numbers(5..6)).await;
    for (_, got, expected) in &readers {
        assert_eq!(&sequences(&got.seen.wait(expected.len()).await), expected);
    }
}

#[tokio::test]
async fn new_only_gets_what_is_stored_from_then_on() {
    let (client, channel) = (client("rust-new").await, channel("stored-new"));
    store(&client, &channel, numbers(0..3)).await;
    let got = stored(&client, &channel, "", Start::StartNewOnly).await;
    // The SDK does not say when the subscription is active: events tell.
    let mut sent = 3;
    while got.seen.count() == 0 {
        store(&client, &channel, ["probe".into()]).await;
        sent += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let events = eventually("the last probe", || {
        let events = got.seen.all();
        (events.last()?.sequence == sent).then_some(events)
    })
    .await;
    assert!(events.iter().all(|event| event.body == b"probe"));
    let first = events[0].sequence;
    assert_eq!(sequences(&events), (first..=sent).collect::<Vec<_>>());
}

#[tokio::test]
async fn returning_client_reads_on_behind_its_position() {
    let channel = channel("stored-returns");
    let before = client("rust-returns").await;
    store(&before, &channel, numbers(0..3)).await;
    let got = stored(&before, &channel, "", Start::StartFromFirst).await;
    got.seen.wait(3).await;
    // The position moves when the client's connection has confirmed.
    tokio::time::sleep(Duration::from_millis(500)).await;
    got.handle.unsubscribe().await;
    before.close().await.unwrap();
    let after = client("rust-returns").await;
    store(&after, &channel, numbers(3..5)).await;
    let got = stored(&after, &channel, "", Start::StartFromFirst).await;
    assert_eq!(sequences(&got.seen.wait(2).await), [4, 5]);
}

#[tokio::test]
async fn group_gets_each_stored_event_once() {
    let channel = channel("stored-group");
    let (first, second) = (client("rust-sg1").await, client("rust-sg2").await);
    let members = [
        stored(&first, &channel, "g", Start::StartFromFirst).await,
        stored(&second, &channel, "g", Start::StartFromFirst).await,
    ];
    let mut sent = 0;
    while members.iter().any(|member| member.seen.count() == 0) {
        store(&first, &channel, ["probe".into()]).await;
        sent += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    store(&first, &channel, numbers(0..60)).await;
    let total = sent + 60;
    let count = || {
        members
            .iter()
            .map(|member| member.seen.count())
            .sum::<usize>()
    };
    eventually("all events in the group", || {
        (count() >= total).then_some(())
    })
    .await;
    let all = members.iter().flat_map(|member| member.seen.all());
    let mut all: Vec<_> = all.map(|event| event.sequence).collect();
    all.sort_unstable();
    let expected = 1..=u64::try_from(total).unwrap();
    assert_eq!(all, expected.collect::<Vec<_>>());
    assert!(members.iter().all(|member| member.seen.count() > 20));
}

#[tokio::test]
async fn client_id_in_use_is_an_error() {
    let channel = channel("stored-held");
    let (first, second) = (client("rust-held").await, client("rust-held").await);
    store(&first, &channel, numbers(0..1)).await;
    let held = stored(&first, &channel, "", Start::StartFromFirst).await;
    held.seen.wait(1).await;
    let refused = stored(&second, &channel, "", Start::StartFromFirst).await;
    let error = refused.errors.wait(1).await.remove(0);
    assert!(
        error.contains("stan: clientID already registered"),
        "{error}"
    );
    store(&first, &channel, numbers(1..2)).await;
    held.seen.wait(2).await;
    assert_eq!(refused.seen.count(), 0);
}

#[tokio::test]
async fn stored_events_of_three_megabytes_pass() {
    let (client, channel) = (client("rust-stored-big").await, channel("stored-big"));
    let body: Vec<u8> = (0..3 << 20).map(|n: u32| n.to_le_bytes()[0]).collect();
    let event = EventStore::builder()
        .channel(&channel)
        .body(body.clone())
        .build();
    assert!(client.send_event_store(event).await.unwrap().sent);
    let got = stored(&client, &channel, "", Start::StartFromFirst).await;
    assert!(got.seen.wait(1).await[0].body == body);
}
