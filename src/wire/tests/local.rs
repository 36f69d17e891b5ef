//! Calls inside the process against the service of the tests.

use super::*;
use crate::wire::local::{LocalCall, LocalClient};

fn client() -> (LocalClient, Rc<TestService>) {
    let service = Rc::new(TestService::default());
    let served = Rc::new(Served(service.clone()));
    let peer = "127.0.0.1:9".parse().unwrap();
    let settings = Rc::new(Settings {
        stream_send_bytes_max: 8 << 10,
        ..Settings::default()
    });
    let control = ConnectionControl::new();
    (LocalClient::new(served, peer, settings, control), service)
}

async fn next(call: &mut LocalCall) -> Bytes {
    call.message().await.unwrap().expect("a message")
}

#[test]
fn one_message_is_answered_with_one() {
    on_executor(|| async {
        let (mut client, service) = client();
        client.add_metadata("x-seen", http::HeaderValue::from_static("yes"));
        for body in [Bytes::new(), Bytes::from(vec![7; 300_000])] {
            let answer = client.unary("/t/Unary", body.clone()).await;
            assert_eq!(answer.unwrap(), body);
        }
        assert_eq!(service.seen.borrow().as_deref(), Some("yes"));
    });
}

#[test]
fn a_refusal_and_a_call_that_is_dropped_are_told_as_they_are_on_the_wire() {
    on_executor(|| async {
        let (client, _service) = client();
        let refused = client.unary("/t/Refuse", Bytes::new()).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound);
        assert_eq!(refused.message(), "nothing here: 100 % gone");
        for method in ["/t/Drop", "/t/Panic"] {
            let dropped = client.unary(method, Bytes::new()).await.unwrap_err();
            assert_eq!(dropped.message(), "the call was abandoned", "{method}");
        }
        let mut call = client.call("/t/Refuse");
        assert_eq!(call.headers().await.unwrap_err().code(), Code::NotFound);
    });
}

#[test]
fn messages_go_both_ways_in_order_and_the_end_follows_them() {
    on_executor(|| async {
        let (client, _service) = client();
        let mut call = client.call("/t/Bidi");
        call.headers().await.unwrap();
        // Some are larger than the stream's buffer, and so come in pieces.
        let bodies: Vec<_> = (0..200_usize)
            .map(|n| Bytes::from(vec![u8::try_from(n).unwrap(); n * 151]))
            .collect();
        for body in &bodies {
            call.send(body.clone());
        }
        call.end();
        for body in &bodies {
            assert_eq!(next(&mut call).await, *body);
            // What has left makes room for what follows.
            call.written();
        }
        assert_eq!(call.message().await.unwrap(), None);
        assert_eq!(call.unwritten(), 0);
    });
}

#[test]
fn what_has_not_left_holds_the_service_back() {
    on_executor(|| async {
        let (client, service) = client();
        let mut call = client.call("/t/Flood");
        call.headers().await.unwrap();
        let mut taken = 0;
        while !is_pending(|cx| call.poll_message(cx)).await {
            taken += 1;
            assert!(taken < 1_000, "the service is never held back");
        }
        assert!(call.unwritten() >= 8 << 10);
        assert_eq!(service.written.get(), 0, "nothing was said to have left");
        call.written();
        eventually("it goes on", || service.written.get() > 0).await;
        drop(call);
        eventually("it sees the end", || service.responders_reset.get() == 1).await;
    });
}

#[test]
fn an_answer_has_gone_on_in_full_when_its_last_byte_was_written() {
    on_executor(|| async {
        let (client, service) = client();
        let mut call = client.call("/t/InFull");
        let answer = call.ask(Bytes::from_static(b"kept")).await.unwrap();
        assert_eq!(answer, "kept");
        rt::sleep(Duration::from_millis(5)).await;
        assert_eq!(service.answered_in_full.get(), None);
        call.written();
        eventually("it is told", || {
            service.answered_in_full.get() == Some(true)
        })
        .await;
        for taken in [true, false] {
            service.answered_in_full.set(None);
            let mut call = client.call("/t/InFull");
            if taken {
                call.ask(Bytes::from_static(b"lost")).await.unwrap();
            } else {
                call.send(Bytes::from_static(b"lost"));
                call.end();
                call.headers().await.unwrap();
            }
            drop(call);
            eventually("it is told", || {
                service.answered_in_full.get() == Some(false)
            })
            .await;
        }
    });
}

#[test]
fn a_call_that_is_dropped_is_reset_and_one_that_was_ended_is_not_cancelled() {
    on_executor(|| async {
        let (client, service) = client();
        drop(client.call("/t/Wait"));
        eventually("both halves know", || {
            service.readers_cancelled.get() == 1 && service.responders_reset.get() == 1
        })
        .await;
        let mut call = client.call("/t/Wait");
        call.end();
        drop(call);
        eventually("it knows", || service.responders_reset.get() == 2).await;
        assert_eq!(
            service.readers_cancelled.get(),
            1,
            "that was an orderly end"
        );
    });
}

#[test]
fn a_sender_is_held_back_while_much_is_unread() {
    on_executor(|| async {
        let (client, service) = client();
        let mut call = client.call("/t/Hold");
        let mut sent = 0;
        while !is_pending(|cx| call.poll_room(cx)).await {
            call.send(Bytes::from(vec![0; 64 << 10]));
            sent += 1;
            assert!(sent < 1_000, "the sender is never held back");
        }
        assert!(sent >= 16);
        let (mut reader, _responder) = service.held.borrow_mut().pop().expect("it is held");
        assert!(reader.message().await.unwrap().is_some());
        std::future::poll_fn(|cx| call.poll_room(cx)).await;
    });
}
