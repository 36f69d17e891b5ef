//! Commands and queries: round trips, failures, timeouts, groups, the cache.

use std::time::{Duration, Instant};

use kubemq::{CommandReply, QueryReply};
use ringmq_sdk_suite::{
    LATE, assert_timeout, channel, client, command, commands, eventually, queries, query,
};

#[tokio::test]
async fn command_round_trip_carries_its_fields() {
    let (asker, responder) = (client("rust-asker").await, client("rust-responder").await);
    let channel = channel("command");
    let got = commands(&responder, &channel, "", |_| {
        let tags = [("r".to_owned(), "1".to_owned())].into();
        CommandReply::builder()
            .body("lost")
            .metadata("lost")
            .executed_at(12345)
            .tags(tags)
    })
    .await;
    let sent = command(&channel, b"do")
        .id("id-1")
        .metadata("m")
        .add_tag("t", "1")
        .build();
    let response = asker.send_command(sent).await.unwrap();
    assert_eq!(response.command_id, "id-1");
    assert_eq!(response.response_client_id, "rust-responder");
    assert_eq!((response.executed, response.executed_at), (true, 12345));
    assert_eq!(
        (response.error.as_str(), response.tags["r"].as_str()),
        ("", "1")
    );
    let seen = got.seen.wait(1).await.remove(0);
    assert_eq!(
        (seen.id.as_str(), seen.client_id.as_str()),
        ("id-1", "rust-asker")
    );
    assert_eq!(
        (seen.channel.as_str(), seen.metadata.as_str()),
        (channel.as_str(), "m")
    );
    assert_eq!(
        (seen.body.as_slice(), seen.tags["t"].as_str()),
        (b"do".as_slice(), "1")
    );
    assert!(
        seen.response_to.starts_with("_INBOX."),
        "{}",
        seen.response_to
    );
    assert!(got.errors.all().is_empty());
}

#[tokio::test]
async fn query_round_trip_carries_its_fields() {
    let (asker, responder) = (client("rust-asker").await, client("rust-responder").await);
    let channel = channel("query");
    let got = queries(&responder, &channel, "", |query| {
        let mut body = b"re: ".to_vec();
        body.extend(&query.body);
        QueryReply::builder()
            .body(body)
            .metadata("m2")
            .executed_at(777)
    })
    .await;
    let response = asker
        .send_query(query(&channel, b"ask").id("id-1").build())
        .await
        .unwrap();
    assert_eq!(response.query_id, "id-1");
    assert_eq!(response.response_client_id, "rust-responder");
    assert_eq!(
        (response.body.as_slice(), response.metadata.as_str()),
        (&b"re: ask"[..], "m2")
    );
    assert_eq!((response.executed, response.executed_at), (true, 777));
    assert!(!response.cache_hit);
    assert_eq!(got.seen.wait(1).await[0].body, b"ask");
}

#[tokio::test]
async fn failure_of_the_responder_is_data() {
    let (client, channel) = (client("rust-failure").await, channel("failure"));
    let _got = commands(&client, &channel, "", |_| {
        CommandReply::builder().error("no such thing")
    })
    .await;
    let response = client
        .send_command(command(&channel, b"x").build())
        .await
        .unwrap();
    assert!(!response.executed);
    assert_eq!(response.error, "no such thing");
    assert!(response.into_result().is_err());
}

#[tokio::test]
async fn request_without_a_responder_fails_at_its_timeout() {
    let client = client("rust-timeout").await;
    for timeout in [Duration::from_millis(300), Duration::from_secs(2)] {
        let start = Instant::now();
        let sent = command(&channel("nobody"), b"x").timeout(timeout).build();
        assert_timeout(&client.send_command(sent).await.unwrap_err());
        assert_on_time(start.elapsed(), timeout);
        let start = Instant::now();
        let sent = query(&channel("nobody"), b"x").timeout(timeout).build();
        assert_timeout(&client.send_query(sent).await.unwrap_err());
        assert_on_time(start.elapsed(), timeout);
    }
}

#[tokio::test]
async fn responders_that_left_are_not_asked() {
    let (client, channel) = (client("rust-left").await, channel("left"));
    let got = queries(&client, &channel, "", |_| QueryReply::builder()).await;
    client
        .send_query(query(&channel, b"1").build())
        .await
        .unwrap();
    got.handle.unsubscribe().await;
    let sent = query(&channel, b"2")
        .timeout(Duration::from_millis(500))
        .build();
    assert_timeout(&client.send_query(sent).await.unwrap_err());
    assert_eq!(got.seen.count(), 1);
}

#[tokio::test]
async fn group_of_responders_shares_the_requests() {
    let channel = channel("group");
    let (first, second, asker) = (
        client("rust-r1").await,
        client("rust-r2").await,
        client("rust-asker").await,
    );
    let members = [
        queries(&first, &channel, "g", |_| QueryReply::builder()).await,
        queries(&second, &channel, "g", |_| QueryReply::builder()).await,
    ];
    // The second member is active when it has been asked.
    let mut sent = 0;
    while sent < 40 || members.iter().any(|member| member.seen.count() == 0) {
        assert!(
            asker
                .send_query(query(&channel, b"x").build())
                .await
                .unwrap()
                .executed
        );
        sent += 1;
    }
    eventually("each request at one member", || {
        (members[0].seen.count() + members[1].seen.count() == sent).then_some(())
    })
    .await;
}

#[tokio::test]
async fn second_query_is_answered_from_the_cache() {
    let (client, channel) = (client("rust-cache").await, channel("cache"));
    let got = queries(&client, &channel, "", |query| {
        QueryReply::builder().body(query.body.clone()).metadata("m")
    })
    .await;
    let cached = |body: &[u8], id: &str| {
        query(&channel, body)
            .id(id)
            .cache_key("k")
            .cache_ttl(Duration::from_secs(600))
            .build()
    };
    let first = client.send_query(cached(b"1", "id-1")).await.unwrap();
    let second = client.send_query(cached(b"2", "id-2")).await.unwrap();
    assert_eq!((first.cache_hit, first.query_id.as_str()), (false, "id-1"));
    assert_eq!((second.cache_hit, second.query_id.as_str()), (true, "id-2"));
    assert_eq!(
        (second.body.as_slice(), second.metadata.as_str()),
        (&b"1"[..], "m")
    );
    assert!(second.executed);
    assert_eq!(got.seen.count(), 1);
    let other = client
        .send_query(query(&channel, b"3").build())
        .await
        .unwrap();
    assert_eq!((other.cache_hit, other.body.as_slice()), (false, &b"3"[..]));
}

#[tokio::test]
async fn cached_answer_lives_for_its_seconds() {
    let (client, channel) = (client("rust-cache").await, channel("lifetime"));
    let _got = queries(&client, &channel, "", |query| {
        QueryReply::builder().body(query.body.clone())
    })
    .await;
    let lifetime = Duration::from_secs(2);
    let cached = |n: u32| {
        query(&channel, n.to_string().as_bytes())
            .cache_key("k")
            .cache_ttl(lifetime)
            .build()
    };
    let before = Instant::now();
    assert!(!client.send_query(cached(0)).await.unwrap().cache_hit);
    let filled = Instant::now();
    let mut n = 0;
    loop {
        n += 1;
        let response = client.send_query(cached(n)).await.unwrap();
        if !response.cache_hit {
            break;
        }
        assert_eq!(response.body, b"0");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(n > 1, "there was a hit");
    assert!(
        before.elapsed() + Duration::from_millis(5) >= lifetime,
        "expired early"
    );
    assert!(filled.elapsed() <= lifetime + LATE, "expired late");
}

#[tokio::test]
async fn requests_at_once_get_their_own_answers() {
    let (asker, responder) = (client("rust-asker").await, client("rust-responder").await);
    let channel = channel("at-once");
    let _got = queries(&responder, &channel, "", |query| {
        QueryReply::builder().body(query.body.clone())
    })
    .await;
    let asking: Vec<_> = (0..100)
        .map(|n| {
            let (asker, sent) = (
                asker.clone(),
                query(&channel, n.to_string().as_bytes()).build(),
            );
            tokio::spawn(async move { asker.send_query(sent).await })
        })
        .collect();
    for (n, answer) in asking.into_iter().enumerate() {
        assert_eq!(
            answer.await.unwrap().unwrap().body,
            n.to_string().into_bytes()
        );
    }
}

#[tokio::test]
async fn response_to_an_unknown_reply_channel_is_accepted() {
    let client = client("rust-late").await;
    let reply = CommandReply::builder()
        .request_id("id")
        .response_to("_INBOX.nobody.1")
        .build();
    client.send_command_response(reply).await.unwrap();
}

fn assert_on_time(elapsed: Duration, expected: Duration) {
    assert!(
        elapsed + Duration::from_millis(5) >= expected,
        "early: {elapsed:?} of {expected:?}"
    );
    assert!(
        elapsed <= expected + LATE,
        "late: {elapsed:?} of {expected:?}"
    );
}
