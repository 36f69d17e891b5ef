//! The set of sockets, on executors that sleep at once and on such that look before.

#![allow(
    clippy::disallowed_methods,
    reason = "peers are ordinary threads: they may sleep"
)]

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::task::Poll;

use super::*;
use crate::rt::{Conn, Instant, sleep_until};

/// Sleeps at once; looks for a while; looks for longer than any of these tests takes.
const LOOKS: [Option<Duration>; 3] = [
    None,
    Some(Duration::from_micros(200)),
    Some(Duration::from_secs(60)),
];

/// Runs `main` with one end of a socket pair on each kind of executor, and `peer` with the other
/// end on a thread.
fn on_each<F>(main: impl Fn(Conn) -> F + Clone + Send + 'static, peer: fn(UnixStream))
where
    F: Future<Output = ()> + 'static,
{
    for spin in LOOKS {
        let (near, far) = UnixStream::pair().unwrap();
        let (tx, done) = mpsc::channel();
        let plan = Plan { cpu: None, spin };
        let main = main.clone();
        let executors = start(&[plan], vec![(near, tx)], move |_, (near, tx)| {
            let running = Conn::from_socket(near.into()).map(&main);
            async move {
                running.unwrap().await;
                tx.send(()).unwrap();
            }
        });
        let peer = std::thread::spawn(move || peer(far));
        done.recv_timeout(PATIENCE).unwrap();
        executors.unwrap().join();
        peer.join().unwrap();
    }
}

async fn read(conn: &mut Conn, buf: &mut [u8]) -> usize {
    let read = std::future::poll_fn(|cx| conn.poll_read(cx, buf)).await;
    read.unwrap()
}

#[test]
fn every_answer_finds_its_reader() {
    let main = |mut conn: Conn| async move {
        for number in 0..2_000_u32 {
            let sent = std::future::poll_fn(|cx| conn.poll_write(cx, &number.to_le_bytes())).await;
            assert_eq!(sent.unwrap(), 4);
            let mut answer = [0; 64];
            assert_eq!(read(&mut conn, &mut answer).await, 4);
            assert_eq!(answer[..4], number.to_le_bytes());
        }
    };
    on_each(main, |mut peer| {
        let mut question = [0; 4];
        while peer.read_exact(&mut question).is_ok() {
            peer.write_all(&question).unwrap();
        }
    });
}

#[test]
fn the_end_is_read_behind_the_bytes_that_came_with_it() {
    let main = |mut conn: Conn| async move {
        // Both are there before the first look.
        sleep(Duration::from_millis(20)).await;
        let mut buf = [0; 64];
        assert_eq!(read(&mut conn, &mut buf).await, 10);
        assert_eq!(read(&mut conn, &mut buf).await, 0);
        assert_eq!(read(&mut conn, &mut buf).await, 0);
    };
    on_each(main, |mut peer| {
        peer.write_all(&[7; 10]).unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(peer.read(&mut [0]).unwrap_or(0), 0);
    });
}

#[test]
fn a_full_socket_takes_more_once_its_peer_has_read() {
    const BYTES: usize = 4 << 20;
    let main = |mut conn: Conn| async move {
        let (mut left, mut waited) = (BYTES, false);
        while left > 0 {
            let piece = vec![1; left.min(64 << 10)];
            let written = std::future::poll_fn(|cx| {
                let written = conn.poll_write(cx, &piece);
                waited |= written.is_pending();
                written
            });
            left -= written.await.unwrap();
        }
        assert!(waited, "the socket was never full");
        conn.shutdown(Shutdown::Write);
        assert_eq!(read(&mut conn, &mut [0; 8]).await, 1);
    };
    on_each(main, |mut peer| {
        std::thread::sleep(Duration::from_millis(20));
        let mut all = Vec::new();
        assert_eq!(peer.read_to_end(&mut all).unwrap(), BYTES);
        peer.write_all(&[1]).unwrap();
    });
}

#[test]
fn a_reset_wakes_both_directions() {
    let main = |mut conn: Conn| async move {
        let piece = vec![1; 64 << 10];
        // Until it is full, and then until the peer is gone.
        let broken = std::future::poll_fn(|cx| match conn.poll_write(cx, &piece) {
            Poll::Ready(Ok(_)) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            other => other,
        });
        assert!(broken.await.is_err());
        let mut buf = [0; 8];
        let ended = std::future::poll_fn(|cx| conn.poll_read(cx, &mut buf)).await;
        assert!(matches!(ended, Ok(0) | Err(_)));
    };
    on_each(main, |peer| {
        std::thread::sleep(Duration::from_millis(50));
        drop(peer);
    });
}

#[test]
fn alarms_do_not_ring_before_their_time() {
    let main = |_conn: Conn| async move {
        let began = now();
        let rung: Rc<RefCell<Vec<(u64, Instant)>>> = Rc::default();
        for tenths in [7_u64, 1, 3, 30, 0] {
            let rung = rung.clone();
            spawn(Queue::Serve, "alarm", async move {
                sleep_until(began.after(Duration::from_micros(100 * tenths))).await;
                rung.borrow_mut().push((tenths, now()));
            });
        }
        while rung.borrow().len() < 5 {
            sleep(Duration::from_millis(1)).await;
        }
        for (tenths, at) in rung.borrow().iter() {
            assert!(at.since(began) >= Duration::from_micros(100 * tenths));
        }
    };
    on_each(main, drop);
}

#[test]
fn timers_and_blocking_work_go_on_while_an_executor_looks() {
    let main = |_conn: Conn| async move {
        for _ in 0..20 {
            sleep(Duration::from_micros(300)).await;
            assert_eq!(rt::blocking(|| 7).await, Some(7));
        }
    };
    on_each(main, drop);
}
