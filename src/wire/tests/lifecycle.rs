//! How connections begin, stay alive and end.

use super::raw::{GOAWAY, PING, Raw, frame as raw_frame};
use super::*;
use crate::wire::client::CallOptions;

fn options() -> CallOptions {
    CallOptions::default()
}

fn quick_keepalive() -> Settings {
    Settings {
        keepalive_time: Duration::from_millis(60),
        keepalive_timeout: Duration::from_millis(60),
        ..Settings::default()
    }
}

#[test]
fn silent_peer_is_pinged_then_closed() {
    on_executor(|| async {
        let pair = pair(quick_keepalive()).await;
        let mut raw = Raw::open(pair.conn).await;
        let ping = raw.frame_of(PING).await;
        assert!(ping.is_some(), "a ping comes first");
        let goaway = raw.frame_of(GOAWAY).await.expect("a last word");
        assert_eq!(goaway.code(), 0);
        eventually("the connection ends", || label(&pair.ended).is_some()).await;
        assert_eq!(label(&pair.ended), Some("keepalive_timeout"));
    });
}

#[test]
fn idle_peer_that_answers_pings_stays() {
    on_executor(|| async {
        let (client, _, ended, _) = pair(quick_keepalive()).await.client().await;
        rt::sleep(Duration::from_millis(600)).await;
        assert_eq!(label(&ended), None);
        client
            .unary("/t/Unary", Bytes::from_static(b"hi"), &options())
            .await
            .unwrap();
    });
}

#[test]
fn client_notices_a_dead_server() {
    on_executor(|| async {
        // A server that accepts and says nothing.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let settings = ClientSettings {
            keepalive_time: Some(Duration::from_millis(50)),
            keepalive_timeout: Duration::from_millis(50),
            ..ClientSettings::default()
        };
        let address = listener.local_addr().unwrap();
        let client = Client::connect(address, settings).await.unwrap();
        let _silent = listener.accept().unwrap();
        let status = client
            .unary("/t/Unary", Bytes::new(), &options())
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert!(client.control().has_ended());
    });
}

#[test]
fn opening_that_never_comes_is_given_up() {
    on_executor(|| async {
        let settings = Settings {
            handshake_timeout: Duration::from_millis(50),
            ..Settings::default()
        };
        let pair = pair(settings).await;
        eventually("the connection ends", || label(&pair.ended).is_some()).await;
        assert_eq!(label(&pair.ended), Some("handshake_timeout"));
    });
}

#[test]
fn another_protocol_is_refused() {
    on_executor(|| async {
        let pair = pair(Settings::default()).await;
        let mut raw = Raw::over(pair.conn);
        raw.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        eventually("the connection ends", || label(&pair.ended).is_some()).await;
        assert_eq!(label(&pair.ended), Some("protocol"));
    });
}

#[test]
fn drain_lets_calls_end_and_then_closes() {
    on_executor(|| async {
        let (client, control, ended, service) = pair(Settings::default()).await.client().await;
        let (mut sender, mut stream) = client.bidi("/t/Bidi", &options()).unwrap();
        stream.headers().await.unwrap();
        control.drain();
        rt::sleep(Duration::from_millis(50)).await;
        assert_eq!(label(&ended), None, "a call is open");
        sender
            .send_message(Bytes::from_static(b"still here"))
            .unwrap();
        assert_eq!(stream.message().await.unwrap().unwrap(), "still here");
        let refused = client
            .unary("/t/Unary", Bytes::new(), &options())
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable);
        sender.finish();
        assert_eq!(stream.message().await, Ok(None));
        eventually("the connection ends", || label(&ended).is_some()).await;
        assert_eq!(label(&ended), Some("drained"));
        assert_eq!(service.calls.get(), 1);
    });
}

#[test]
fn idle_connection_drains_at_once() {
    on_executor(|| async {
        let (client, control, ended, _) = pair(Settings::default()).await.client().await;
        client
            .unary("/t/Unary", Bytes::new(), &options())
            .await
            .unwrap();
        control.drain();
        eventually("the connection ends", || label(&ended).is_some()).await;
        assert_eq!(label(&ended), Some("drained"));
    });
}

#[test]
fn close_breaks_calls_off() {
    on_executor(|| async {
        let (client, control, ended, service) = pair(Settings::default()).await.client().await;
        let (_sender, mut stream) = client.bidi("/t/Wait", &options()).unwrap();
        eventually("the call has arrived", || service.calls.get() == 1).await;
        control.close();
        let status = stream.message().await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        eventually("the server's half knows", || {
            service.readers_cancelled.get() == 1 && service.responders_reset.get() == 1
        })
        .await;
        eventually("the connection ends", || label(&ended).is_some()).await;
        assert_eq!(label(&ended), Some("closed"));
        assert!(control.has_ended());
    });
}

#[test]
fn lost_client_ends_its_calls() {
    on_executor(|| async {
        let (client, _, ended, service) = pair(Settings::default()).await.client().await;
        let (_sender, mut stream) = client.bidi("/t/Wait", &options()).unwrap();
        eventually("the call has arrived", || service.calls.get() == 1).await;
        client.close();
        assert_eq!(
            stream.message().await.unwrap_err().code(),
            Code::Unavailable
        );
        eventually("the server knows", || {
            service.readers_cancelled.get() == 1 && service.responders_reset.get() == 1
        })
        .await;
        eventually("the connection ends", || label(&ended).is_some()).await;
        assert_eq!(label(&ended), Some("peer_closed"));
    });
}

#[test]
fn old_connection_is_drained() {
    on_executor(|| async {
        let settings = Settings {
            connection_age_max: Some(Duration::from_millis(50)),
            ..Settings::default()
        };
        let (_client, _, ended, _) = pair(settings).await.client().await;
        eventually("the connection ends", || label(&ended).is_some()).await;
        assert_eq!(label(&ended), Some("drained"));
    });
}

#[test]
fn pings_are_answered_one_after_the_other() {
    on_executor(|| async {
        let (client, control, _, _) = pair(Settings::default()).await.client().await;
        client
            .unary("/t/Unary", Bytes::new(), &options())
            .await
            .unwrap();
        for _ in 0..20 {
            control.ping().await.unwrap();
            client.control().ping().await.unwrap();
        }
        let answered = Rc::new(Cell::new(0));
        for _ in 0..50 {
            let (ping, answered) = (control.ping(), Rc::clone(&answered));
            spawn(async move {
                ping.await.unwrap();
                answered.set(answered.get() + 1);
            });
        }
        eventually("all are answered", || answered.get() == 50).await;
    });
}

#[test]
fn ping_asked_for_while_one_is_under_way_waits_for_the_next() {
    on_executor(|| async {
        let pair = pair(Settings::default()).await;
        let mut raw = Raw::open(pair.conn).await;
        let mut first = Box::pin(pair.control.ping());
        assert!(is_pending(|cx| first.as_mut().poll(cx)).await);
        let one = raw.frame_of(PING).await.unwrap();
        let mut second = Box::pin(pair.control.ping());
        assert!(is_pending(|cx| second.as_mut().poll(cx)).await);
        raw.pong(&one).await;
        first.await.unwrap();
        assert!(
            is_pending(|cx| second.as_mut().poll(cx)).await,
            "it went out before"
        );
        let other = raw.frame_of(PING).await.unwrap();
        raw.pong(&other).await;
        second.await.unwrap();
    });
}

#[test]
fn ping_of_a_connection_that_dies_ends() {
    on_executor(|| async {
        let pair = pair(Settings::default()).await;
        let mut raw = Raw::open(pair.conn).await;
        let ping = pair.control.ping();
        assert!(raw.frame_of(PING).await.is_some());
        drop(raw);
        assert!(ping.await.is_err());
        assert!(
            pair.control.ping().await.is_err(),
            "also when asked after the end"
        );
    });
}

#[test]
fn ends_of_connections_stand_in_line() {
    on_executor(|| async {
        let pair = pair(Settings::default()).await;
        let mut raw = Raw::open(pair.conn).await;
        raw.write(&raw_frame(PING, 0, 0, &[1; 8])).await;
        while raw.next().await.expect("an answer").kind != PING {}
        let let_on = Rc::new(Cell::new(0));
        for _ in 0..200 {
            let let_on = Rc::clone(&let_on);
            spawn(async move {
                let mut place = rt::PlaceInLine::default();
                std::future::poll_fn(|cx| place.poll(cx)).await;
                let until = rt::now().after(Duration::from_micros(100));
                while rt::now() < until {
                    std::hint::spin_loop();
                }
                let_on.set(let_on.get() + 1);
            });
        }
        drop(raw);
        eventually("the connection has ended", || pair.control.has_ended()).await;
        assert_eq!(let_on.get(), 200);
    });
}
