//! Calls as clients make them.

use std::io::Write as _;

use super::*;
use crate::wire::client::CallOptions;

fn options() -> CallOptions {
    CallOptions::default()
}

/// Bytes that differ from place to place, so that a lost or doubled piece shows.
fn noise(length: usize, seed: u64) -> Bytes {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    Bytes::from(bytes)
}

#[test]
fn unary_echoes_every_size_from_nothing_to_twenty_mebibytes() {
    on_executor(|| async {
        let (client, ..) = pair(Settings::default()).await.client().await;
        let sizes = [
            0,
            1,
            251,
            252,
            1024,
            16_379,
            16_384,
            65_535,
            65_536,
            1 << 20,
            (20 << 20) + 3,
        ];
        for size in sizes {
            let message = noise(size, size as u64);
            let answer = client
                .unary("/t/Unary", message.clone(), &options())
                .await
                .unwrap();
            assert!(answer == message, "{size}");
        }
    });
}

#[test]
fn peers_that_ask_for_huge_frames_get_them() {
    on_executor(|| async {
        let settings = ClientSettings {
            frame_bytes_max: (16 << 20) - 1,
            stream_window_bytes: 64 << 20,
            connection_window_bytes: 64 << 20,
            ..ClientSettings::default()
        };
        let (client, ..) = pair(Settings::default()).await.client_with(settings).await;
        let message = noise((20 << 20) + 3, 5);
        let answer = client
            .unary("/t/Unary", message.clone(), &options())
            .await
            .unwrap();
        assert!(answer == message);
    });
}

#[test]
fn bidi_keeps_every_message_and_their_order() {
    on_executor(|| async {
        let (client, ..) = pair(Settings::default()).await.client().await;
        let (mut sender, mut stream) = client.bidi("/t/Bidi", &options()).unwrap();
        stream.headers().await.unwrap();
        let sizes = [0, 3, 1024, 200, 40, 17_000, 1, 300, 100_000, 80];
        let messages = move || {
            (0..5_000_usize).map(move |i| {
                let size = if i == 2_500 {
                    3 << 20
                } else {
                    sizes[i % sizes.len()] / (1 + i % 7)
                };
                noise(size, i as u64)
            })
        };
        spawn(async move {
            let mut out = BytesMut::new();
            for message in messages() {
                frame(&message, &mut out);
                if out.len() > 10_000 {
                    sender.send_all(out.split().freeze()).await.unwrap();
                }
            }
            sender.send_all(out.freeze()).await.unwrap();
            sender.finish();
        });
        for (i, message) in messages().enumerate() {
            let answer = stream
                .message()
                .await
                .unwrap()
                .expect("as many come back as were sent");
            assert!(answer == message, "message {i}");
        }
        assert_eq!(stream.message().await, Ok(None));
    });
}

#[test]
fn more_calls_at_once_than_streams_are_allowed_are_all_answered() {
    on_executor(|| async {
        let settings = Settings {
            concurrent_streams_max: 50,
            ..Settings::default()
        };
        let (client, ..) = pair(settings).await.client().await;
        // The server's limit is known once it has answered something.
        client
            .unary("/t/Unary", Bytes::new(), &options())
            .await
            .unwrap();
        let answered = Rc::new(Cell::new(0));
        for i in 0..2_000_usize {
            let (client, answered) = (client.clone(), Rc::clone(&answered));
            spawn(async move {
                let message = noise(100 + i, i as u64);
                let answer = client
                    .unary("/t/Unary", message.clone(), &options())
                    .await
                    .unwrap();
                assert!(answer == message);
                answered.set(answered.get() + 1);
            });
        }
        eventually("all calls are answered", || answered.get() == 2_000).await;
    });
}

#[test]
fn refusals_carry_code_and_text() {
    on_executor(|| async {
        let (client, ..) = pair(Settings::default()).await.client().await;
        let status = client
            .unary("/t/Refuse", Bytes::new(), &options())
            .await
            .unwrap_err();
        assert_eq!(
            status,
            Status::new(Code::NotFound, "nothing here: 100 % gone")
        );
        let status = client
            .unary("/t/None", Bytes::new(), &options())
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented);
    });
}

#[test]
fn dropped_and_panicked_calls_are_answered_all_the_same() {
    on_executor(|| async {
        let abandoned = (Code::Unknown, "somebody forgot".into());
        let settings = Settings {
            abandoned,
            ..Settings::default()
        };
        let (client, ..) = pair(settings).await.client().await;
        for path in ["/t/Drop", "/t/Panic"] {
            let status = client
                .unary(path, Bytes::new(), &options())
                .await
                .unwrap_err();
            assert_eq!(status, Status::new(Code::Unknown, "somebody forgot"));
        }
    });
}

#[test]
fn cancel_is_seen_by_reader_and_responder() {
    on_executor(|| async {
        let (client, _, _, service) = pair(Settings::default()).await.client().await;
        let (sender, stream) = client.bidi("/t/Wait", &options()).unwrap();
        eventually("the call has arrived", || service.calls.get() == 1).await;
        drop(stream);
        eventually("both halves know", || {
            service.readers_cancelled.get() == 1 && service.responders_reset.get() == 1
        })
        .await;
        drop(sender);
    });
}

#[test]
fn an_answer_is_known_to_have_gone_on_in_full() {
    on_executor(|| async {
        let (client, control, _, service) = pair(Settings::default()).await.client().await;
        for size in [0, 1, 100_000, 3 << 20] {
            let message = noise(size, 9);
            let answer = client
                .unary("/t/InFull", message.clone(), &options())
                .await
                .unwrap();
            assert!(answer == message, "{size}");
            eventually("it is known", || service.answered_in_full.get().is_some()).await;
            assert_eq!(service.answered_in_full.take(), Some(true));
        }
        assert_eq!(control.output().answers_bytes.get(), 0);
    });
}

#[test]
fn an_answer_that_is_thrown_away_is_known_to_be_lost() {
    on_executor(|| async {
        let (client, control, _, service) = pair(Settings::default()).await.client().await;
        // More than the window of a stream: the rest waits for a reader.
        let open = || {
            client
                .server_stream("/t/InFull", noise(3 << 20, 9), &options())
                .unwrap()
        };
        let waits = || control.output().answers_bytes.get() > 0;
        let unread = open();
        eventually("the answer waits", waits).await;
        rt::sleep(Duration::from_millis(20)).await;
        assert_eq!(service.answered_in_full.get(), None);
        drop(unread);
        eventually("it is known", || service.answered_in_full.get().is_some()).await;
        assert_eq!(service.answered_in_full.take(), Some(false));
        assert_eq!(control.output().answers_bytes.get(), 0);

        let unread = open();
        eventually("the answer waits", waits).await;
        client.close();
        eventually("it is known", || service.answered_in_full.get().is_some()).await;
        assert_eq!(service.answered_in_full.take(), Some(false));
        drop(unread);
    });
}

#[test]
fn deadline_counts_from_the_arrival() {
    on_executor(|| async {
        let (client, _, _, service) = pair(Settings::default()).await.client().await;
        let before = rt::now();
        let timeout = Duration::from_millis(1_500);
        let with_timeout = CallOptions::with_timeout(timeout);
        client
            .unary("/t/Unary", Bytes::new(), &with_timeout)
            .await
            .unwrap();
        let deadline = service.deadline.get().unwrap();
        assert!(deadline >= before.after(timeout) && deadline <= rt::now().after(timeout));
        client
            .unary("/t/Unary", Bytes::new(), &options())
            .await
            .unwrap();
        assert_eq!(service.deadline.get(), None);

        let short = CallOptions::with_timeout(Duration::from_millis(20));
        let status = client
            .unary("/t/Hold", Bytes::new(), &short)
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded);
    });
}

#[test]
fn malformed_timeout_is_refused_as_go_does() {
    on_executor(|| async {
        let (client, _, _, service) = pair(Settings::default()).await.client().await;
        let malformed = options().metadata("grpc-timeout", "5x");
        let status = client
            .unary("/t/Unary", Bytes::new(), &malformed)
            .await
            .unwrap_err();
        let text = r#"malformed grpc-timeout: transport: timeout unit is not recognized: "5x""#;
        assert_eq!(status, Status::new(Code::Internal, text));
        assert_eq!(service.calls.get(), 0);
    });
}

#[test]
fn last_value_of_repeated_metadata_counts() {
    on_executor(|| async {
        let (client, _, _, service) = pair(Settings::default()).await.client().await;
        let repeated = options()
            .metadata("x-seen", "first")
            .metadata("x-seen", "last");
        client
            .unary("/t/Unary", Bytes::new(), &repeated)
            .await
            .unwrap();
        assert_eq!(service.seen.borrow().as_deref(), Some("last"));
    });
}

#[test]
fn message_above_the_limit_is_refused_with_its_size() {
    on_executor(|| async {
        let settings = Settings {
            message_bytes_max: 1_000,
            ..Settings::default()
        };
        let (client, ..) = pair(settings).await.client().await;
        let status = client
            .unary("/t/Unary", noise(1_001, 1), &options())
            .await
            .unwrap_err();
        let text = "grpc: received message larger than max (1001 vs. 1000)";
        assert_eq!(status, Status::new(Code::ResourceExhausted, text));
        client
            .unary("/t/Unary", noise(1_000, 1), &options())
            .await
            .unwrap();
    });
}

#[test]
fn no_request_and_two_requests_are_refused() {
    on_executor(|| async {
        let (client, ..) = pair(Settings::default()).await.client().await;
        let (sender, mut stream) = client.bidi("/t/Unary", &options()).unwrap();
        sender.finish();
        let status = stream.message().await.unwrap_err();
        assert_eq!(status.code(), Code::Internal);
        assert!(status.message().contains("no request message"), "{status}");

        let (mut sender, mut stream) = client.bidi("/t/Unary", &options()).unwrap();
        sender.send_message(noise(5, 1)).unwrap();
        sender.send_message(noise(5, 2)).unwrap();
        let status = stream.message().await.unwrap_err();
        assert!(
            status.message().contains("multiple request messages"),
            "{status}"
        );
    });
}

#[test]
fn half_close_inside_a_message_is_an_error() {
    on_executor(|| async {
        let (client, ..) = pair(Settings::default()).await.client().await;
        let (mut sender, mut stream) = client.bidi("/t/Unary", &options()).unwrap();
        sender
            .send_frames(Bytes::from_static(&[0, 0, 0, 0, 9, 1]))
            .unwrap();
        sender.finish();
        assert_eq!(
            stream.message().await.unwrap_err(),
            Status::new(Code::Internal, "unexpected EOF")
        );
    });
}

#[test]
fn gzip_requests_are_inflated() {
    on_executor(|| async {
        let (client, ..) = pair(Settings::default()).await.client().await;
        let plain = vec![b'z'; 100_000];
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(&plain).unwrap();
        let body = encoder.finish().unwrap();
        let mut framed = BytesMut::new();
        frame(&body, &mut framed);
        framed[0] = 1;
        let gzip = options().metadata("grpc-encoding", "gzip");
        let (mut sender, mut stream) = client.bidi("/t/Unary", &gzip).unwrap();
        sender.send_frames(framed.freeze()).unwrap();
        sender.finish();
        assert_eq!(stream.message().await.unwrap().unwrap(), plain);
    });
}

#[test]
fn batch_reader_takes_what_is_there_and_misses_nothing() {
    on_executor(|| async {
        let (client, _, _, service) = pair(Settings::default()).await.client().await;
        let (mut sender, mut stream) = client.bidi("/t/Batch", &options()).unwrap();
        for _ in 0..200 {
            let mut out = BytesMut::new();
            for i in 0..50 {
                frame(&noise(i * 3, i as u64), &mut out);
            }
            sender.send_all(out.freeze()).await.unwrap();
        }
        sender.finish();
        assert_eq!(stream.message().await.unwrap().unwrap(), "10000");
        assert_eq!(stream.message().await, Ok(None));
        assert_eq!(service.messages.get(), 10_000);
    });
}
