//! The driver against a client on a thread, and against hand-made frames.

#![allow(
    clippy::disallowed_methods,
    reason = "peers are ordinary threads: they may sleep and look at the clock"
)]

use std::future::Future;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;

use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::Frame;

use super::*;
use crate::rt::start::{Plan, start};
use crate::rt::{self, Conn};

type Client = tungstenite::WebSocket<TcpStream>;

const PATIENCE: Duration = Duration::from_secs(30);

const SETTINGS: Settings = Settings {
    message_bytes_max: 1 << 20,
    ping_every: None,
};

/// Runs `serve` with the server's end of a connection on an executor, and `client` with the other
/// end on this thread; gives what both have found.
fn between<T: Send + 'static, U, F>(
    settings: Settings,
    serve: impl Fn(WebSocket) -> F + Clone + Send + 'static,
    client: impl FnOnce(TcpStream) -> U,
) -> (T, U)
where
    F: Future<Output = T> + 'static,
{
    between_behind(Bytes::new(), settings, serve, client)
}

/// As [`between`], with bytes that came with the opening.
fn between_behind<T: Send + 'static, U, F>(
    ahead: Bytes,
    settings: Settings,
    serve: impl Fn(WebSocket) -> F + Clone + Send + 'static,
    client: impl FnOnce(TcpStream) -> U,
) -> (T, U)
where
    F: Future<Output = T> + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    far.set_read_timeout(Some(PATIENCE)).unwrap();
    let (near, _) = listener.accept().unwrap();
    let (tx, rx) = mpsc::channel();
    let plan = Plan {
        cpu: None,
        spin: None,
    };
    let executors = start(&[plan], vec![(near, tx)], move |_, (near, tx)| {
        let socket = Socket::plain(Conn::from_std(near).unwrap());
        let control = ConnectionControl::new();
        let socket = WebSocket::with_settings(socket, ahead.clone(), settings, control);
        let running = serve(socket);
        async move {
            tx.send(running.await).unwrap();
        }
    });
    let found = client(far);
    let served = rx.recv_timeout(PATIENCE).expect("the server's side ends");
    executors.unwrap().join();
    (served, found)
}

fn speak(stream: TcpStream) -> Client {
    Client::from_raw_socket(stream, Role::Client, None)
}

async fn next(socket: &mut WebSocket) -> Option<Message> {
    std::future::poll_fn(|cx| {
        socket.serve_control(cx);
        socket.poll_message(cx)
    })
    .await
}

async fn send(socket: &mut WebSocket, text: String) -> Result<(), Gone> {
    std::future::poll_fn(|cx| socket.poll_room(cx)).await?;
    socket.send_text(text)
}

async fn flush(socket: &mut WebSocket) -> Result<(), Gone> {
    std::future::poll_fn(|cx| socket.poll_flush(cx)).await
}

/// Sends every message back; gives how it ended.
async fn echo(mut socket: WebSocket) -> Option<End> {
    while let Some(message) = next(&mut socket).await {
        let text = match message {
            Message::Text(text) => String::from_utf8(text.to_vec()).unwrap(),
            Message::Binary(bytes) => format!("{} bytes", bytes.len()),
        };
        if send(&mut socket, text).await.is_err() || flush(&mut socket).await.is_err() {
            break;
        }
    }
    let ended = socket.ended();
    socket.close(1000, "").await;
    ended
}

/// Reads until the end; the code and the reason of the close frame.
fn last_words(client: &mut Client) -> Option<(u16, String)> {
    loop {
        match client.read() {
            Ok(tungstenite::Message::Close(frame)) => {
                return frame.map(|frame| (frame.code.into(), frame.reason.to_string()));
            }
            Ok(_) => {}
            Err(error) => panic!("no close frame: {error}"),
        }
    }
}

#[test]
fn messages_go_both_ways_whole_and_in_order() {
    let (ended, ()) = between(SETTINGS, echo, |stream| {
        let mut client = speak(stream);
        for len in [0, 1, 125, 126, 65_535, 65_536, 900_000] {
            let text = "ä".repeat(len / 2);
            client.send(text.clone().into()).unwrap();
            assert_eq!(client.read().unwrap().into_text().unwrap().as_str(), text);
        }
        for number in 0..500 {
            client.write(format!("{number}").into()).unwrap();
        }
        client.flush().unwrap();
        for number in 0..500 {
            let text = client.read().unwrap().into_text().unwrap();
            assert_eq!(text.as_str(), format!("{number}"));
        }
        client.send(vec![0_u8, 255].into()).unwrap();
        let text = client.read().unwrap().into_text().unwrap();
        assert_eq!(text.as_str(), "2 bytes");
        client.close(None).unwrap();
        while client.read().is_ok() {}
    });
    assert_eq!(ended, Some(End::Closed { code: None }));
}

#[test]
fn a_close_frame_is_answered_with_its_code_and_no_reason() {
    let (ended, words) = between(SETTINGS, echo, |stream| {
        let mut client = speak(stream);
        let frame = CloseFrame {
            code: 4000.into(),
            reason: "bye".into(),
        };
        client.close(Some(frame)).unwrap();
        last_words(&mut client)
    });
    assert_eq!(words, Some((4000, String::new())));
    assert_eq!(ended, Some(End::Closed { code: Some(4000) }));
}

#[test]
fn a_ping_is_answered_also_while_nothing_else_happens() {
    let (_, ()) = between(SETTINGS, echo, |stream| {
        let mut client = speak(stream);
        client
            .send(tungstenite::Message::Ping("hi".into()))
            .unwrap();
        assert_eq!(
            client.read().unwrap(),
            tungstenite::Message::Pong("hi".into())
        );
        client.close(None).unwrap();
        while client.read().is_ok() {}
    });
}

/// A frame of a client, masked with zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match u8::try_from(payload.len()) {
        Ok(len @ ..126) => bytes.push(0x80 | len),
        _ => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
        }
    }
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(payload);
    bytes
}

/// What the server's side sends until it closes.
fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    all
}

#[test]
fn fragments_with_a_ping_between_them_are_one_message() {
    let (_, all) = between(SETTINGS, echo, |mut stream| {
        stream.write_all(&frame(0x01, b"one ")).unwrap();
        stream.write_all(&frame(0x89, b"p")).unwrap();
        stream.write_all(&frame(0x00, b"two ")).unwrap();
        // Byte by byte, as a slow line brings it.
        for byte in frame(0x80, b"three") {
            stream.write_all(&[byte]).unwrap();
        }
        stream
            .write_all(&frame(0x88, &1000_u16.to_be_bytes()))
            .unwrap();
        read_all(&mut stream)
    });
    let mut expected = vec![0x8a, 1, b'p', 0x81, 13];
    expected.extend_from_slice(b"one two three");
    expected.extend_from_slice(&[0x88, 2, 0x03, 0xe8]);
    assert_eq!(all, expected);
}

#[test]
fn a_large_message_is_whole_whatever_its_fragments() {
    let settings = Settings {
        message_bytes_max: 8 << 20,
        ..SETTINGS
    };
    let text = "\u{e4}\u{20ac}\u{1f600}".repeat(500_000);
    let (ended, ()) = between(settings, echo, |stream| {
        let mut client = speak(stream);
        for step in [60_001, text.len()] {
            let count = text.len().div_ceil(step);
            for (number, part) in text.as_bytes().chunks(step).enumerate() {
                let opcode = match number {
                    0 => Data::Text,
                    _ => Data::Continue,
                };
                let is_last = number + 1 == count;
                let part = Bytes::copy_from_slice(part);
                let frame = Frame::message(part, OpCode::Data(opcode), is_last);
                client.write(tungstenite::Message::Frame(frame)).unwrap();
                if number % 7 == 0 {
                    client
                        .write(tungstenite::Message::Ping(Bytes::new()))
                        .unwrap();
                }
            }
            client.flush().unwrap();
            let back = loop {
                match client.read().unwrap() {
                    tungstenite::Message::Text(back) => break back,
                    tungstenite::Message::Pong(_) => {}
                    other => panic!("{other:?}"),
                }
            };
            assert!(back.as_str() == text, "{step}");
        }
        client.close(None).unwrap();
        while client.read().is_ok() {}
    });
    assert_eq!(ended, Some(End::Closed { code: None }));
}

#[test]
fn a_peer_that_breaks_the_protocol_is_told_how() {
    let settings = Settings {
        message_bytes_max: 1000,
        ..SETTINGS
    };
    let unmasked = vec![0x81, 2, b'h', b'i'];
    let mut announced = vec![0x81, 0xff];
    announced.extend_from_slice(&u64::MAX.to_be_bytes());
    announced.extend_from_slice(&[0; 4]);
    let mut fragments = frame(0x01, &[b'x'; 600]);
    fragments.extend(frame(0x80, &[b'x'; 600]));
    let mut within = frame(0x01, b"one");
    within.extend(frame(0x81, b"another"));
    let mut no_text = frame(0x01, b"a");
    no_text.extend(frame(0x00, &[0xe2, 0x82]));
    no_text.extend(frame(0x80, b"x"));
    let table: [(&str, Vec<u8>, u16); 11] = [
        ("not masked", unmasked, 1002),
        ("reserved bit", frame(0xc1, b"x"), 1002),
        ("unknown opcode", frame(0x83, b"x"), 1002),
        ("ping in pieces", frame(0x09, b"x"), 1002),
        ("rest without a start", frame(0x80, b"x"), 1002),
        ("one within another", within, 1002),
        ("no UTF-8", frame(0x81, &[0xff, 0xfe]), 1007),
        ("no UTF-8 together", no_text, 1007),
        ("too large", frame(0x81, &[b'x'; 1001]), 1009),
        ("too large together", fragments, 1009),
        ("announces too much", announced, 1009),
    ];
    for (what, bytes, code) in table {
        let (ended, all) = between(settings, echo, |mut stream| {
            stream.write_all(&bytes).unwrap();
            read_all(&mut stream)
        });
        let [high, low] = code.to_be_bytes();
        assert_eq!(all, [0x88, 2, high, low], "{what}");
        assert_eq!(ended, Some(End::Broken), "{what}");
    }
}

#[test]
fn a_peer_that_is_gone_without_a_word_has_broken_off() {
    let (ended, ()) = between(SETTINGS, echo, drop);
    assert_eq!(ended, Some(End::Broken));
    let (ended, ()) = between(SETTINGS, echo, |mut stream| {
        stream.write_all(&[0x81]).unwrap();
    });
    assert_eq!(ended, Some(End::Broken));
}

#[test]
fn who_does_not_read_is_not_written_to_without_end() {
    let fill = |mut socket: WebSocket| async move {
        let text = "x".repeat(1000);
        let (mut sent, mut full) = (0_usize, false);
        while !full {
            full = std::future::poll_fn(|cx| {
                let _flushed = socket.poll_flush(cx);
                Poll::Ready(socket.poll_room(cx).is_pending())
            })
            .await;
            if !full {
                socket.send_str(&text).unwrap();
                sent += 1;
            }
        }
        let waiting = socket.protocol.get_ref().out.bytes();
        assert!(waiting < OUT_BYTES_MAX + 2000, "{waiting}");
        // The peer reads now: there is room again, and all of it arrives.
        send(&mut socket, "room".into()).await.unwrap();
        flush(&mut socket).await.unwrap();
        socket.close(1001, "that was all").await;
        sent
    };
    let (sent, (received, words)) = between(SETTINGS, fill, |stream| {
        std::thread::sleep(Duration::from_millis(50));
        let mut client = speak(stream);
        let mut received = 0;
        while client.read().unwrap().into_text().unwrap().as_str() != "room" {
            received += 1;
        }
        (received, last_words(&mut client))
    });
    assert_eq!(sent, received);
    assert_eq!(words, Some((1001, "that was all".into())));
}

#[test]
fn a_flood_of_pings_that_reads_no_answer_is_not_read_on() {
    let serve = |mut socket: WebSocket| async move {
        let (mut waiting, mut looks) = (0, 0);
        // Until the peer's side of the line is full, and then for a while.
        while looks < 50 {
            std::future::poll_fn(|cx| Poll::Ready(socket.poll_message(cx).is_pending())).await;
            waiting = waiting.max(socket.protocol.get_ref().out.bytes());
            looks += usize::from(waiting >= OUT_BYTES_MAX);
            rt::sleep(Duration::from_millis(1)).await;
        }
        waiting
    };
    let (waiting, ()) = between(SETTINGS, serve, |mut stream| {
        let pings = frame(0x89, &[0; 125]).repeat(100);
        // It fails when the server's side has seen enough and is gone.
        while stream.write_all(&pings).is_ok() {}
    });
    assert!(waiting < OUT_BYTES_MAX + 1000, "{waiting}");
}

#[test]
fn a_reason_that_is_too_long_is_cut_between_characters() {
    let (_, words) = between(
        SETTINGS,
        |socket| async move { socket.close(1011, &"ä".repeat(100)).await },
        |stream| last_words(&mut speak(stream)),
    );
    assert_eq!(words, Some((1011, "ä".repeat(61))));
}

#[test]
fn nothing_follows_the_close_frame() {
    let (refused, ()) = between(
        SETTINGS,
        |mut socket| async move {
            while next(&mut socket).await.is_some() {}
            let refused = socket.send_str("late").is_err();
            socket.close(1000, "").await;
            refused
        },
        |stream| {
            let mut client = speak(stream);
            client.close(None).unwrap();
            while client.read().is_ok() {}
        },
    );
    assert!(refused);
}

#[test]
fn a_silent_peer_is_asked_and_one_that_answers_stays() {
    let settings = Settings {
        ping_every: Some(Duration::from_millis(20)),
        ..SETTINGS
    };
    let serve = move |mut socket: WebSocket| async move {
        socket.vitals = Vitals::new(settings.ping_every, Duration::from_secs(2));
        echo(socket).await
    };
    let (ended, pings) = between(settings, serve, |stream| {
        let mut client = speak(stream);
        let mut pings = 0;
        while pings < 2 {
            // The client answers by itself.
            if let tungstenite::Message::Ping(_) = client.read().unwrap() {
                pings += 1;
            }
        }
        client.close(None).unwrap();
        while client.read().is_ok() {}
        pings
    });
    assert_eq!(pings, 2);
    assert_eq!(ended, Some(End::Closed { code: None }));
}

#[test]
fn a_peer_that_answers_no_ping_is_ended() {
    let settings = Settings {
        ping_every: Some(Duration::from_millis(10)),
        ..SETTINGS
    };
    let serve = move |mut socket: WebSocket| async move {
        socket.vitals = Vitals::new(settings.ping_every, Duration::from_millis(10));
        echo(socket).await
    };
    let (ended, all) = between(settings, serve, |mut stream| read_all(&mut stream));
    assert_eq!(ended, Some(End::Broken));
    assert_eq!(all.first(), Some(&0x89), "it was asked first");
}

#[test]
fn a_ping_of_the_service_is_answered_behind_what_was_flushed() {
    let serve = |mut socket: WebSocket| async move {
        let control = socket.control().clone();
        socket.send_str("before").unwrap();
        flush(&mut socket).await.unwrap();
        let mut ping = std::pin::pin!(control.ping());
        std::future::poll_fn(|cx| {
            socket.serve_control(cx);
            let _quiet = socket.poll_message(cx);
            let _flushed = socket.poll_flush(cx);
            ping.as_mut().poll(cx)
        })
        .await
        .unwrap();
        socket.close(1000, "").await;
    };
    let ((), seen) = between(SETTINGS, serve, |stream| {
        let mut client = speak(stream);
        let mut seen = Vec::new();
        while let Ok(message) = client.read() {
            seen.push(match message {
                tungstenite::Message::Text(text) => text.to_string(),
                tungstenite::Message::Ping(_) => "ping".into(),
                tungstenite::Message::Close(_) => "close".into(),
                other => format!("{other:?}"),
            });
        }
        seen
    });
    assert_eq!(seen, ["before", "ping", "close"]);
}

#[test]
fn a_peer_that_reads_nothing_lives_and_one_that_is_gone_does_not() {
    let serve = |mut socket: WebSocket| async move {
        let control = socket.control().clone();
        let patience = Duration::from_millis(20);
        let mut lives = std::pin::pin!(control.answers_within(patience));
        let lives = std::future::poll_fn(|cx| {
            socket.serve_control(cx);
            let _quiet = socket.poll_message(cx);
            let _flushed = socket.poll_flush(cx);
            lives.as_mut().poll(cx)
        })
        .await;
        assert!(!control.is_doubted(), "the question is over");
        drop(socket);
        control.mark_ended();
        (lives, control.answers_within(patience).await)
    };
    let (lives, all) = between(SETTINGS, serve, |mut stream| read_all(&mut stream));
    assert_eq!(lives, (true, false));
    assert_eq!(all.first(), Some(&0x89), "it was asked");
}

#[test]
fn a_connection_that_is_to_be_closed_ends_its_socket() {
    let serve = |mut socket: WebSocket| async move {
        socket.control().close();
        assert_eq!(next(&mut socket).await, None);
        let ended = socket.ended();
        socket.close(1000, "").await;
        ended
    };
    let (ended, all) = between(SETTINGS, serve, |mut stream| read_all(&mut stream));
    assert_eq!(ended, Some(End::Broken));
    assert!(all.is_empty());
}

#[test]
fn what_came_with_the_opening_is_read_first() {
    let serve =
        |mut socket: WebSocket| async move { [next(&mut socket).await, next(&mut socket).await] };
    let mut late = frame(0x81, b"early");
    let early: Bytes = late.drain(..3).collect();
    late.extend(frame(0x81, b"late"));
    let (texts, ()) = between_behind(early, SETTINGS, serve, |mut stream| {
        stream.write_all(&late).unwrap();
        let _reset_or_closed = stream.read_to_end(&mut Vec::new());
    });
    let text = |text: &'static str| Some(Message::Text(Bytes::from(text).into()));
    assert_eq!(texts, [text("early"), text("late")]);
}
