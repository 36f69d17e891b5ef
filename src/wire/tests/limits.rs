//! What peers cannot make us do.

use std::task::{Context, Waker};

use super::raw::{
    CONTINUATION, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, Raw, SETTINGS, block,
    call, frame as raw_frame,
};
use super::*;

use crate::wire::client::CallOptions;

const ENHANCE_YOUR_CALM: u32 = 11;

fn options() -> CallOptions {
    CallOptions::default()
}

#[test]
fn slow_reader_is_bounded_and_does_not_disturb_others() {
    on_executor(|| async {
        let settings = Settings {
            stream_send_bytes_max: 50_000,
            ..Settings::default()
        };
        let (client, control, _, service) = pair(settings).await.client().await;
        let slow = client
            .server_stream("/t/Flood", Bytes::new(), &options())
            .unwrap();
        // It fills the stream's window (1 MiB), then the bound, then stops.
        eventually("the stream is full", || {
            service.buffered_max.get() >= 50_000
        })
        .await;
        rt::sleep(Duration::from_millis(50)).await;
        assert!(
            service.buffered_max.get() < 50_000 + 1_010,
            "{}",
            service.buffered_max.get()
        );
        assert!(control.waiting_bytes() < 50_000 + 1_010);
        let written = service.written.get();
        assert!(written > 1_000_000 && written < 1_100_000, "{written}");
        let answer = client
            .unary("/t/Unary", Bytes::from_static(b"quick"), &options())
            .await;
        assert_eq!(answer.unwrap(), "quick");
        drop(slow);
        eventually("the sender knows", || service.responders_reset.get() == 1).await;
        assert_eq!(control.waiting_bytes(), 0);
    });
}

#[test]
fn many_slow_readers_share_a_bound() {
    on_executor(|| async {
        let settings = Settings {
            connection_send_bytes_max: 1 << 20,
            ..Settings::default()
        };
        let (client, control, _, service) = pair(settings).await.client().await;
        let mut slow = Vec::new();
        for _ in 0..100 {
            slow.push(
                client
                    .server_stream("/t/Flood", Bytes::new(), &options())
                    .unwrap(),
            );
        }
        eventually("all calls run", || service.calls.get() == 100).await;
        // 8 MiB of connection window are used up long before 100 streams are.
        rt::sleep(Duration::from_millis(200)).await;
        let bound = (1 << 20) + 100 * (16 << 10) + (256 << 10);
        assert!(
            control.waiting_bytes() <= bound,
            "{}",
            control.waiting_bytes()
        );
        client.close();
        eventually("all senders know", || service.responders_reset.get() == 100).await;
    });
}

#[test]
fn reader_that_holds_back_holds_the_sender_back() {
    on_executor(|| async {
        let (client, _, _, service) = pair(Settings::default()).await.client().await;
        let (mut sender, _stream) = client.bidi("/t/Hold", &options()).unwrap();
        eventually("the call has arrived", || service.calls.get() == 1).await;
        let mut sent = 0;
        let mut out = BytesMut::new();
        frame(&[1; 10_000], &mut out);
        let message = out.freeze();
        let mut idle = 0;
        while idle < 50 {
            if is_pending(|cx| sender.poll_capacity(message.len(), cx)).await {
                idle += 1;
                rt::sleep(Duration::from_millis(2)).await;
            } else {
                idle = 0;
                sender.send_frames(message.clone()).unwrap();
                sent += message.len();
            }
        }
        // The window of 1 MiB, and what waits on the client's side.
        assert!(sent > 1 << 20 && sent < (1 << 20) + (300 << 10), "{sent}");
    });
}

#[test]
fn held_connection_brings_no_calls_until_it_is_let_go_or_too_long_has_passed() {
    on_executor(|| async {
        let (client, control, _, service) = pair(Settings::default()).await.client().await;
        let (first, second) = (control.hold(), control.hold());
        let options = options();
        let unary = || client.unary("/t/Unary", Bytes::from_static(b"hello"), &options);
        let mut early = Box::pin(unary());
        assert!(is_pending(|cx| early.as_mut().poll(cx)).await);
        rt::sleep(Duration::from_millis(100)).await;
        drop(first);
        rt::sleep(Duration::from_millis(100)).await;
        assert_eq!(service.calls.get(), 0, "one still holds it");
        drop(second);
        assert_eq!(early.await.unwrap(), "hello");
        let never_dropped = control.hold();
        assert_eq!(unary().await.unwrap(), "hello");
        drop(never_dropped);
        assert_eq!(unary().await.unwrap(), "hello");
    });
}

#[test]
fn messages_that_are_begun_and_left_share_a_bound() {
    on_executor(|| async {
        let settings = Settings {
            gather_bytes_max: 300_000,
            ..Settings::default()
        };
        let (client, _, ended, _) = pair(settings).await.client().await;
        let mut begun = Vec::new();
        for _ in 0..10 {
            let (mut sender, stream) = client.bidi("/t/Unary", &options()).unwrap();
            let mut start = BytesMut::from(&crate::wire::framing::prefix(1 << 20)[..]);
            start.resize(start.len() + 100_000, 1);
            sender.send_frames(start.freeze()).unwrap();
            begun.push((sender, stream));
        }
        // All of them are under way before the first is finished: what it holds is free then.
        let mut refused = 0;
        let mut cx = Context::from_waker(Waker::noop());
        let began = rt::now();
        while refused < 7 && rt::now().since(began) < Duration::from_secs(10) {
            begun.retain_mut(|(_, stream)| match stream.poll_message(&mut cx) {
                Poll::Ready(Err(status)) if status.code() == Code::ResourceExhausted => {
                    refused += 1;
                    false
                }
                Poll::Ready(other) => panic!("{other:?}"),
                Poll::Pending => true,
            });
            rt::sleep(Duration::from_millis(2)).await;
        }
        for (sender, _) in begun {
            sender.finish();
        }
        assert!(refused >= 7, "{refused}");
        let answer = client
            .unary("/t/Unary", Bytes::from(vec![1; 200_000]), &options())
            .await;
        assert_eq!(answer.unwrap().len(), 200_000);
        assert_eq!(label(&ended), None);
    });
}

#[test]
fn thousands_of_unread_small_messages_are_no_attack() {
    on_executor(|| async {
        let (client, _, ended, service) = pair(Settings::default()).await.client().await;
        let (mut sender, _stream) = client.bidi("/t/Hold", &options()).unwrap();
        for _ in 0..5_000 {
            sender.send_message(Bytes::from_static(&[1; 31])).unwrap();
        }
        let answer = client
            .unary("/t/Unary", Bytes::from_static(b"quick"), &options())
            .await;
        assert_eq!(answer.unwrap(), "quick");
        assert_eq!((label(&ended), service.calls.get()), (None, 2));
    });
}

#[test]
fn ping_flood_ends_the_connection_with_a_reason() {
    on_executor(|| async {
        let pair = pair(Settings::default()).await;
        let mut raw = Raw::open(pair.conn).await;
        raw.write(&raw_frame(PING, 0, 0, &[0; 8]).repeat(20_000))
            .await;
        let goaway = raw.frame_of(GOAWAY).await.expect("a last word");
        assert_eq!(goaway.code(), ENHANCE_YOUR_CALM);
        eventually("the connection ends", || {
            label(&pair.ended) == Some("flood")
        })
        .await;
    });
}

#[test]
fn settings_flood_ends_the_connection_with_a_reason() {
    on_executor(|| async {
        let pair = pair(Settings::default()).await;
        let mut raw = Raw::open(pair.conn).await;
        let small = raw_frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 1]);
        let large = raw_frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]);
        raw.write(&[small, large].concat().repeat(1_000)).await;
        let goaway = raw.frame_of(GOAWAY).await.expect("a last word");
        assert_eq!(goaway.code(), ENHANCE_YOUR_CALM);
        eventually("the connection ends", || {
            label(&pair.ended) == Some("flood")
        })
        .await;
    });
}

#[test]
fn pings_that_wait_for_their_answers_are_no_flood() {
    on_executor(|| async {
        let pair = pair(Settings::default()).await;
        let mut raw = Raw::open(pair.conn).await;
        for _ in 0..3_000 {
            raw.write(&raw_frame(PING, 0, 0, &[9; 8])).await;
            loop {
                let frame = raw.next().await.expect("an answer");
                if frame.kind == PING && frame.flags == 1 {
                    break;
                }
            }
        }
        assert_eq!(label(&pair.ended), None);
    });
}

#[test]
fn peer_that_reads_nothing_is_not_read_for_ever() {
    on_executor(|| async {
        let settings = Settings {
            keepalive_time: Duration::from_millis(300),
            keepalive_timeout: Duration::from_millis(300),
            ..Settings::default()
        };
        let pair = pair(settings).await;
        let mut raw = Raw::open(pair.conn).await;
        // Each call is answered, nothing is read: the answers fill the sockets, the cork, h2. They
        // are short, and the system takes ten megabytes of them.
        let mut flood = Vec::new();
        for id in 0..800_000_u32 {
            let head = call("/t/Refuse");
            flood.extend(raw_frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                2 * id + 1,
                &head,
            ));
        }
        let pushed = raw.push(&flood, Duration::from_millis(200)).await;
        assert!(pushed < flood.len(), "all {pushed} bytes were taken");
        // Too many calls are open by then, or the peer does not answer for too long.
        eventually("the connection ends", || label(&pair.ended).is_some()).await;
        let ended = pair.ended.borrow();
        assert!(
            matches!(
                &*ended,
                Some(
                    Ended::KeepaliveTimeout
                        | Ended::Protocol {
                            code: ENHANCE_YOUR_CALM,
                            by_peer: false,
                            ..
                        }
                )
            ),
            "{ended:?}"
        );
    });
}

#[test]
fn rapid_resets_end_the_connection() {
    on_executor(|| async {
        let pair = pair(Settings::default()).await;
        let mut raw = Raw::open(pair.conn).await;
        let mut flood = Vec::new();
        for id in 0..5_000_u32 {
            flood.extend(raw_frame(
                HEADERS,
                END_HEADERS,
                2 * id + 1,
                &call("/t/Hold"),
            ));
            flood.extend(raw_frame(RST_STREAM, 0, 2 * id + 1, &8_u32.to_be_bytes()));
        }
        raw.write(&flood).await;
        let goaway = raw.frame_of(GOAWAY).await.expect("a last word");
        assert_eq!(goaway.code(), ENHANCE_YOUR_CALM);
        eventually("the connection ends", || {
            label(&pair.ended) == Some("flood")
        })
        .await;
        assert!(
            pair.service.calls.get() < 1_000,
            "{}",
            pair.service.calls.get()
        );
    });
}

#[test]
fn continuation_flood_ends_the_connection() {
    on_executor(|| async {
        let pair = pair(Settings::default()).await;
        let mut raw = Raw::open(pair.conn).await;
        raw.write(&raw_frame(HEADERS, 0, 1, &call("/t/Unary")))
            .await;
        let more = block(&[("x-more", "more of the same")]);
        raw.write(&raw_frame(CONTINUATION, 0, 1, &more).repeat(10_000))
            .await;
        let goaway = raw.frame_of(GOAWAY).await.expect("a last word");
        assert_eq!(goaway.code(), ENHANCE_YOUR_CALM);
        assert_eq!(pair.service.calls.get(), 0);
    });
}

#[test]
fn too_many_headers_are_refused_without_a_call() {
    on_executor(|| async {
        let pair = pair(Settings::default()).await;
        let mut raw = Raw::open(pair.conn).await;
        let value = "v".repeat(900);
        let mut head = call("/t/Unary");
        for _ in 0..18 {
            head.extend(block(&[("x-large", &value)]));
        }
        let (start, rest) = head.split_at(10_000);
        raw.write(&raw_frame(HEADERS, END_STREAM, 1, start)).await;
        raw.write(&raw_frame(CONTINUATION, END_HEADERS, 1, rest))
            .await;
        let answer = raw.frame_of(HEADERS).await.expect("an answer");
        assert_eq!(answer.stream, 1);
        assert_eq!(pair.service.calls.get(), 0);
        raw.write(&raw_frame(
            HEADERS,
            END_HEADERS | END_STREAM,
            3,
            &call("/t/Refuse"),
        ))
        .await;
        assert_eq!(raw.frame_of(HEADERS).await.expect("an answer").stream, 3);
        assert_eq!(pair.service.calls.get(), 1);
    });
}

#[test]
fn requests_that_are_not_grpc_are_answered_without_a_call() {
    on_executor(|| async {
        let pair = pair(Settings::default()).await;
        let mut raw = Raw::open(pair.conn).await;
        let heads = [
            ("POST", Some("application/json"), "415"),
            ("POST", Some("application/grpcweb"), "415"),
            ("POST", None, "415"),
            ("GET", Some("application/grpc"), "405"),
        ];
        for (i, (method, content_type, expected)) in heads.into_iter().enumerate() {
            let mut headers = vec![
                (":method", method),
                (":scheme", "http"),
                (":path", "/t/Unary"),
            ];
            headers.extend(content_type.map(|value| ("content-type", value)));
            let id = 2 * u32::try_from(i).unwrap() + 1;
            let flags = END_HEADERS | END_STREAM;
            raw.write(&raw_frame(HEADERS, flags, id, &block(&headers)))
                .await;
            let answer = raw.frame_of(HEADERS).await.expect("an answer");
            // Digits may be compressed; three of them compress to two bytes and a half.
            assert_eq!(answer.stream, id, "{expected}");
            assert_eq!(answer.flags & END_STREAM, END_STREAM);
        }
        assert_eq!(pair.service.calls.get(), 0);
        let with_parameters = block(&[
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/t/Refuse"),
            ("content-type", "application/grpc+proto; charset=utf-8"),
        ]);
        raw.write(&raw_frame(
            HEADERS,
            END_HEADERS | END_STREAM,
            9,
            &with_parameters,
        ))
        .await;
        assert!(raw.frame_of(HEADERS).await.is_some());
        assert_eq!(pair.service.calls.get(), 1);
    });
}

#[test]
fn answers_that_nobody_takes_hold_back_new_calls() {
    on_executor(|| async {
        let settings = Settings {
            answers_bytes_max: 100_000,
            ..Settings::default()
        };
        let small = ClientSettings {
            connection_window_bytes: 65_535,
            ..ClientSettings::default()
        };
        let (client, control, ended, service) = pair(settings).await.client_with(small).await;
        let message = Bytes::from(vec![b'm'; 20_000]);
        // One by one: calls that come together are all taken before the first is answered.
        let mut unread = Vec::new();
        for _ in 0..40 {
            let stream = client.server_stream("/t/Unary", message.clone(), &options());
            unread.push(stream.unwrap());
            rt::sleep(Duration::from_millis(2)).await;
        }
        // The window takes three answers and a part; five or six more are the bound.
        eventually("answers wait", || control.waiting_bytes() > 60_000).await;
        rt::sleep(Duration::from_millis(50)).await;
        assert!(service.calls.get() < 40, "{}", service.calls.get());
        let read = Rc::new(Cell::new(0));
        for mut stream in unread {
            let (message, read) = (message.clone(), Rc::clone(&read));
            spawn(async move {
                assert_eq!(stream.message().await.unwrap().unwrap(), message);
                assert_eq!(stream.message().await, Ok(None));
                read.set(read.get() + 1);
            });
        }
        eventually("all are answered", || read.get() == 40).await;
        assert_eq!(control.waiting_bytes(), 0);
        assert_eq!((label(&ended), service.calls.get()), (None, 40));
    });
}

/// Opens as many calls as it may without a message, then one more: how many the service got.
async fn calls_without_a_message(pair: Pair) -> (usize, Raw, Rc<TestService>) {
    const CALLS: u32 = 99;
    let mut raw = Raw::open(pair.conn).await;
    let mut heads = Vec::new();
    for id in 0..CALLS {
        let head = call("/t/Unary");
        heads.extend(raw_frame(HEADERS, END_HEADERS, 2 * id + 1, &head));
    }
    let last = 2 * CALLS + 1;
    let flags = END_HEADERS | END_STREAM;
    heads.extend(raw_frame(HEADERS, flags, last, &call("/t/Refuse")));
    raw.write(&heads).await;
    // It is answered, by whomever: all before it have been taken, or refused.
    while raw.frame_of(HEADERS).await.expect("an answer").stream != last {}
    assert_eq!(label(&pair.ended), None);
    (pair.service.calls.get(), raw, pair.service)
}

#[test]
fn calls_without_a_message_are_few_over_all_connections() {
    on_executor(|| async {
        let settings = || Settings {
            concurrent_streams_max: 100,
            ..Settings::default()
        };
        let (first, held, _) = calls_without_a_message(pair(settings()).await).await;
        assert_eq!(first, 100, "one connection has as many as it may");
        let mut connections = Vec::new();
        for _ in 0..5 {
            let (calls, raw, _) = calls_without_a_message(pair(settings()).await).await;
            assert!((32..90).contains(&calls), "{calls}");
            connections.push(raw);
        }
        // Who has few is served, also by a connection that was made later.
        let (client, ..) = pair(settings()).await.client().await;
        let message = Bytes::from_static(b"all of it");
        let answer = client.unary("/t/Unary", message.clone(), &options()).await;
        assert_eq!(answer.unwrap(), message);
        drop((held, connections));
        let began = rt::now();
        let calls_of_one = loop {
            let (calls, ..) = calls_without_a_message(pair(settings()).await).await;
            if calls == 100 || rt::now().since(began) > Duration::from_secs(10) {
                break calls;
            }
            rt::sleep(Duration::from_millis(5)).await;
        };
        assert_eq!(calls_of_one, 100, "what is gone counts no longer");
    });
}
