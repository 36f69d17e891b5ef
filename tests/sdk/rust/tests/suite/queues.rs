//! Queues: send, receive, peek, polls and their settlements, dead letters, channels.

use std::time::{Duration, Instant, SystemTime};

use kubemq::{
    AckAllQueueMessagesRequest, KubemqClient, PollRequest, PollResponse, QueueDownstreamReceiver,
    QueueMessage, QueueMessageBuilder,
};
use ringmq_sdk_suite::{channel, client};

fn message(channel: &str, body: impl Into<Vec<u8>>) -> QueueMessageBuilder {
    QueueMessage::builder().channel(channel).body(body)
}

/// Sends messages with the bodies 0, 1, 2 and so on.
async fn send(client: &KubemqClient, channel: &str, count: usize) {
    let messages = (0..count).map(|n| message(channel, n.to_string()).build());
    let results = client
        .send_queue_messages(messages.collect())
        .await
        .unwrap();
    assert_eq!(results.len(), count);
    assert!(results.iter().all(|result| !result.is_error), "{results:?}");
}

async fn poll(
    receiver: &mut QueueDownstreamReceiver,
    channel: &str,
    max_items: i32,
    wait_timeout_seconds: i32,
    auto_ack: bool,
) -> PollResponse {
    let request = PollRequest {
        channel: channel.into(),
        max_items,
        wait_timeout_seconds,
        auto_ack,
    };
    let response = receiver.poll(request).await.unwrap();
    assert!(!response.is_error, "{}", response.error);
    response
}

fn bodies(response: &PollResponse) -> Vec<&str> {
    let bodies = response.messages.iter().map(|got| &got.message.body);
    bodies.map(|body| str::from_utf8(body).unwrap()).collect()
}

fn text(messages: &[QueueMessage]) -> Vec<&str> {
    let bodies = messages.iter().map(|message| &message.body);
    bodies.map(|body| str::from_utf8(body).unwrap()).collect()
}

#[tokio::test]
async fn message_arrives_with_all_its_fields() {
    let (client, channel) = (client("rust-queues").await, channel("fields"));
    let sent = message(&channel, b"\x00hello\xff".to_vec())
        .id("id-1")
        .metadata("möta")
        .add_tag("k", "v")
        .expiration_seconds(60)
        .max_receive_count(3)
        .max_receive_queue("dead")
        .build();
    let result = client.send_queue_message(sent).await.unwrap();
    assert_eq!(
        (result.message_id.as_str(), result.is_error),
        ("id-1", false)
    );
    assert!(result.expiration_at > result.sent_at && result.delayed_to == 0);
    let got = client
        .receive_queue_messages(&channel, 10, 2, false)
        .await
        .unwrap();
    let [got] = &got[..] else { panic!("{got:?}") };
    assert_eq!(
        (got.id.as_str(), got.client_id.as_str()),
        ("id-1", "rust-queues")
    );
    assert_eq!((&got.channel, got.metadata.as_str()), (&channel, "möta"));
    assert_eq!(
        (&got.body[..], got.tags["k"].as_str()),
        (&b"\x00hello\xff"[..], "v")
    );
    let policy = got.policy.as_ref().unwrap();
    assert_eq!(
        (policy.max_receive_count, policy.max_receive_queue.as_str()),
        (3, "dead")
    );
    let attributes = got.attributes.as_ref().unwrap();
    assert_eq!((attributes.sequence, attributes.receive_count), (1, 1));
    assert!(!attributes.re_routed && attributes.expiration_at > attributes.timestamp);
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    let age = i128::try_from(now.as_nanos()).unwrap() - i128::from(attributes.timestamp);
    assert!(
        age.abs() < 60_000_000_000,
        "nanoseconds: {}",
        attributes.timestamp
    );
}

#[tokio::test]
async fn received_messages_are_gone_and_peeked_ones_are_not() {
    let (client, channel) = (client("rust-queues").await, channel("peek"));
    send(&client, &channel, 3).await;
    for _ in 0..2 {
        let peeked = client
            .receive_queue_messages(&channel, 10, 1, true)
            .await
            .unwrap();
        assert_eq!(text(&peeked), ["0", "1", "2"]);
    }
    let taken = client
        .receive_queue_messages(&channel, 2, 1, false)
        .await
        .unwrap();
    assert_eq!(text(&taken), ["0", "1"]);
    let taken = client
        .receive_queue_messages(&channel, 2, 1, false)
        .await
        .unwrap();
    assert_eq!(text(&taken), ["2"]);
    let none = client
        .receive_queue_messages(&channel, 2, 1, false)
        .await
        .unwrap();
    assert!(none.is_empty());
}

#[tokio::test]
async fn ack_all_empties_a_queue_at_once() {
    let (client, channel) = (client("rust-queues").await, channel("ack-all"));
    send(&client, &channel, 20).await;
    let request = AckAllQueueMessagesRequest {
        request_id: "r".into(),
        client_id: String::new(),
        channel,
        wait_time_seconds: 30,
    };
    let began = Instant::now();
    let done = client.ack_all_queue_messages(&request).await.unwrap();
    assert_eq!((done.affected_messages, done.is_error), (20, false));
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "it does not wait"
    );
}

#[tokio::test]
async fn upstream_results_are_those_of_their_requests() {
    let (client, channel) = (client("rust-queues").await, channel("upstream"));
    let mut upstream = client.queue_upstream().await.unwrap();
    for request in 0..20 {
        let messages = (0..5).map(|n| message(&channel, format!("{request}.{n}")).build());
        let id = request.to_string();
        upstream.send(&id, messages.collect()).await.unwrap();
    }
    let mut answered = Vec::new();
    for _ in 0..20 {
        let result = upstream.results().recv().await.unwrap();
        assert!(!result.is_error && result.results.len() == 5, "{result:?}");
        assert!(result.results.iter().all(|result| !result.is_error));
        answered.push(result.ref_request_id.parse::<usize>().unwrap());
    }
    answered.sort_unstable();
    assert_eq!(answered, (0..20).collect::<Vec<_>>());
    upstream.close();
    let mut receiver = client.new_queue_downstream_receiver().await.unwrap();
    let mut seen = 0;
    while seen < 100 {
        seen += poll(&mut receiver, &channel, 100, 5, true)
            .await
            .messages
            .len();
    }
    assert_eq!(seen, 100);
}

#[tokio::test]
async fn settlements_are_silent_and_the_next_poll_sees_their_effect() {
    let (client, channel) = (client("rust-queues").await, channel("settle"));
    let target = format!("{channel}-target");
    send(&client, &channel, 4).await;
    let mut receiver = client.new_queue_downstream_receiver().await.unwrap();
    let first = poll(&mut receiver, &channel, 10, 2, false).await;
    assert_eq!(bodies(&first), ["0", "1", "2", "3"]);
    first.messages[0].ack().await.unwrap();
    first.messages[1].nack().await.unwrap();
    first.messages[2].re_queue(&target).await.unwrap();
    first.messages[3].ack().await.unwrap();
    // This client takes whatever comes for the answer to its next poll.
    let again = poll(&mut receiver, &channel, 10, 2, false).await;
    assert_eq!(bodies(&again), ["1"]);
    let attributes = again.messages[0].message.attributes.as_ref().unwrap();
    assert_eq!(attributes.receive_count, 2);
    again.ack_all().await.unwrap();
    let moved = poll(&mut receiver, &target, 10, 10, true).await;
    assert_eq!(bodies(&moved), ["2"]);
    let none = poll(&mut receiver, &channel, 10, 1, true).await;
    assert!(none.messages.is_empty());
    receiver.close().await.unwrap();
}

#[tokio::test]
async fn message_received_too_often_is_a_dead_letter() {
    let (client, channel) = (client("rust-queues").await, channel("poison"));
    let dead = format!("{channel}-dead");
    let poison = message(&channel, "poison")
        .max_receive_count(2)
        .max_receive_queue(&dead)
        .build();
    client.send_queue_message(poison).await.unwrap();
    let mut receiver = client.new_queue_downstream_receiver().await.unwrap();
    for count in 1..=2 {
        let got = poll(&mut receiver, &channel, 1, 5, false).await;
        let attributes = got.messages[0].message.attributes.as_ref().unwrap();
        assert_eq!(attributes.receive_count, count);
        got.nack_all().await.unwrap();
    }
    let got = poll(&mut receiver, &dead, 1, 20, true).await;
    assert_eq!(bodies(&got), ["poison"]);
    let attributes = got.messages[0].message.attributes.as_ref().unwrap();
    assert!(attributes.re_routed && attributes.re_routed_from_queue == channel);
}

#[tokio::test]
async fn unsettled_messages_return_in_order_when_the_receiver_closes() {
    let (client, channel) = (client("rust-queues").await, channel("closed"));
    send(&client, &channel, 3).await;
    let mut receiver = client.new_queue_downstream_receiver().await.unwrap();
    assert_eq!(
        poll(&mut receiver, &channel, 2, 2, false)
            .await
            .messages
            .len(),
        2
    );
    receiver.close().await.unwrap();
    drop(receiver);
    let mut other = client.new_queue_downstream_receiver().await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let got = poll(&mut other, &channel, 10, 20, true).await;
        seen.extend(bodies(&got).into_iter().map(str::to_owned));
    }
    seen.sort();
    assert_eq!(seen, ["0", "1", "2"]);
}

#[tokio::test]
async fn long_poll_wakes_for_a_message_and_delays_are_kept() {
    let (client, channel) = (client("rust-queues").await, channel("delay"));
    let delayed = message(&channel, "late").delay_seconds(2).build();
    let sent = client.send_queue_message(delayed).await.unwrap();
    let mut receiver = client.new_queue_downstream_receiver().await.unwrap();
    let got = poll(&mut receiver, &channel, 5, 20, true).await;
    assert_eq!(bodies(&got), ["late"]);
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    assert!(i128::try_from(now.as_nanos()).unwrap() >= i128::from(sent.delayed_to));
}

#[tokio::test]
async fn invalid_messages_are_refused_in_their_results() {
    let client = client("rust-queues").await;
    let good = channel("good");
    let messages = vec![
        message(&good, "fits").build(),
        message(&good, "too late").delay_seconds(43_201).build(),
    ];
    let results = client.send_queue_messages(messages).await.unwrap();
    assert!(!results[0].is_error && results[1].is_error);
    assert!(
        results[1].error.starts_with("Error 135:"),
        "{}",
        results[1].error
    );
}

#[tokio::test]
async fn channels_of_each_kind_are_created_listed_and_deleted() {
    let client = client("rust-channels").await;
    for kind in ["queues", "events", "events_store", "commands", "queries"] {
        let channel = channel(kind);
        client.create_channel(&channel, kind).await.unwrap();
        let listed = client.list_channels(kind, &channel).await.unwrap();
        let names: Vec<_> = listed.iter().map(|listed| &listed.name).collect();
        assert_eq!(names, [&channel], "{kind}");
        client.delete_channel(&channel, kind).await.unwrap();
        assert!(
            client
                .list_channels(kind, &channel)
                .await
                .unwrap()
                .is_empty()
        );
    }
}
