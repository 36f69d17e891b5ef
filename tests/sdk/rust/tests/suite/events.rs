//! Events: send, stream, subscribe, wildcards, groups.

use std::time::{Duration, SystemTime};

use kubemq::Event;
use ringmq_sdk_suite::{channel, client, events, eventually};

#[tokio::test]
async fn event_arrives_with_all_its_fields() {
    let (client, channel) = (client("rust-events").await, channel("fields"));
    let got = events(&client, &channel, "", &channel).await;
    let event = Event::builder()
        .id("id-1")
        .channel(&channel)
        .metadata("möta")
        .body(b"\x00hello\xff".to_vec())
        .add_tag("k", "v")
        .add_tag("x-kubemq-client-id", "someone")
        .build();
    client.send_event(event).await.unwrap();
    let event = got.seen.wait(1).await.remove(0);
    assert_eq!(event.id, "id-1");
    assert_eq!(event.channel, channel);
    assert_eq!(event.metadata, "möta");
    assert_eq!(event.body, b"\x00hello\xff");
    assert_eq!(event.sequence, 0);
    assert_eq!(event.tags.len(), 2);
    assert_eq!(event.tags["x-kubemq-client-id"], "someone");
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
async fn streamed_events_arrive_in_order() {
    let (client, channel) = (client("rust-stream").await, channel("order"));
    let got = events(&client, &channel, "", &channel).await;
    let mut stream = client.send_event_stream().await.unwrap();
    for n in 0..1000 {
        let event = Event::builder()
            .channel(&channel)
            .body(n.to_string())
            .build();
        stream.send(event).await.unwrap();
    }
    let bodies: Vec<_> = got
        .seen
        .wait(1000)
        .await
        .into_iter()
        .map(|event| event.body)
        .collect();
    let expected: Vec<_> = (0..1000).map(|n| n.to_string().into_bytes()).collect();
    assert_eq!(bodies, expected);
    assert!(
        stream.errors().try_recv().is_err(),
        "a plain event is not answered"
    );
    stream.close();
}

#[tokio::test]
async fn refused_event_is_reported_and_the_stream_goes_on() {
    let (client, channel) = (client("rust-stream").await, channel("refused"));
    let got = events(&client, &channel, "", &channel).await;
    let mut stream = client.send_event_stream().await.unwrap();
    // The SDK does not refuse empty tokens; the broker does.
    let bad = Event::builder()
        .id("id-bad")
        .channel(format!("{channel}..x"))
        .body("x")
        .build();
    stream.send(bad).await.unwrap();
    let error = stream.errors().recv().await.unwrap();
    assert!(error.to_string().contains("Error 119: "), "{error}");
    stream
        .send(Event::builder().channel(&channel).body("good").build())
        .await
        .unwrap();
    assert_eq!(got.seen.wait(1).await[0].body, b"good");
}

#[tokio::test]
async fn refused_unary_event_is_fatal_with_the_text() {
    let client = client("rust-refused").await;
    let bad = Event::builder()
        .channel(format!("{}..x", channel("r")))
        .body("x")
        .build();
    let error = client.send_event(bad).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "fatal error: Error 119: invalid channel value, tokens cannot be empty"
    );
}

#[tokio::test]
async fn wildcards_match_whole_tokens() {
    let (client, base) = (client("rust-wild").await, channel("wild"));
    let probe = format!("{base}.x");
    let one = events(&client, &format!("{base}.*"), "", &probe).await;
    let many = events(&client, &format!("{base}.>"), "", &probe).await;
    for tail in ["a", "b", "a.b", "a.b.c"] {
        let name = format!("{base}.{tail}");
        client.publish_event(&name, tail, None, None).await.unwrap();
    }
    let bodies = |events: Vec<kubemq::EventReceive>| {
        let mut bodies: Vec<_> = events
            .iter()
            .map(|event| String::from_utf8(event.body.clone()).unwrap())
            .collect();
        bodies.sort();
        bodies
    };
    assert_eq!(bodies(many.seen.wait(4).await), ["a", "a.b", "a.b.c", "b"]);
    assert_eq!(bodies(one.seen.wait(2).await), ["a", "b"]);
}

#[tokio::test]
async fn group_gets_each_event_once() {
    let channel = channel("group");
    let (first, second, sender) = (
        client("rust-g1").await,
        client("rust-g2").await,
        client("rust-sender").await,
    );
    let members = [
        events(&first, &channel, "g", &channel).await,
        events(&second, &channel, "g", &channel).await,
    ];
    let alone = events(&second, &channel, "", &channel).await;
    for n in 0..60 {
        sender
            .publish_event(&channel, n.to_string(), None, None)
            .await
            .unwrap();
    }
    let mut expected: Vec<_> = (0..60).map(|n| n.to_string().into_bytes()).collect();
    let own: Vec<_> = alone
        .seen
        .wait(60)
        .await
        .into_iter()
        .map(|event| event.body)
        .collect();
    assert_eq!(own, expected);
    eventually("60 events in the group", || {
        (members[0].seen.count() + members[1].seen.count() >= 60).then_some(())
    })
    .await;
    let mut bodies: Vec<_> = members
        .iter()
        .flat_map(|m| m.seen.all())
        .map(|event| event.body)
        .collect();
    bodies.sort();
    expected.sort();
    assert_eq!(bodies, expected);
    assert!(
        members.iter().all(|member| member.seen.count() > 0),
        "both take part"
    );
}

#[tokio::test]
async fn unsubscribed_handle_gets_nothing_more() {
    let (client, channel) = (client("rust-unsubscribe").await, channel("unsubscribe"));
    let leaving = events(&client, &channel, "", &channel).await;
    let staying = events(&client, &channel, "", &channel).await;
    leaving.handle.unsubscribe().await;
    assert!(leaving.handle.is_done());
    client
        .publish_event(&channel, "late", None, None)
        .await
        .unwrap();
    staying.seen.wait(1).await;
    assert_eq!(leaving.seen.count(), 0);
}

#[tokio::test]
async fn events_of_three_megabytes_pass() {
    let (client, channel) = (client("rust-big").await, channel("big"));
    let got = events(&client, &channel, "", &channel).await;
    let body: Vec<u8> = (0..3 << 20).map(|n: u32| n.to_le_bytes()[0]).collect();
    client
        .publish_event(&channel, body.clone(), None, None)
        .await
        .unwrap();
    assert!(got.seen.wait(1).await[0].body == body);
}

#[tokio::test]
async fn idle_subscription_with_keepalive_stays() {
    let (client, channel) = (client("rust-idle").await, channel("idle"));
    let got = events(&client, &channel, "", &channel).await;
    // Longer than the SDK's keepalive interval of ten seconds.
    tokio::time::sleep(Duration::from_secs(25)).await;
    assert!(!got.handle.is_done());
    client
        .publish_event(&channel, "still there", None, None)
        .await
        .unwrap();
    got.seen.wait(1).await;
    assert!(got.errors.all().is_empty(), "{:?}", got.errors.all());
}
