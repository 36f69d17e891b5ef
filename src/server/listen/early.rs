//! The management port while the store is being opened.
//!
//! A store of many gigabytes takes its time, and whoever watches the broker must see that it
//! lives and is not ready, rather than a port that does not answer. A thread of its own tells them
//! so until the executors take over; who connects to another port meanwhile waits in its queue.

use std::io::{self, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::rt::{self, Instant};
use crate::wire::tls::ServerTls;

/// How often it is looked whether the executors are there.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How long one client may take; the start waits for it.
const PATIENCE: Duration = Duration::from_millis(200);

/// What is read of a request: its first line is enough.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// Answers until it is dropped.
#[derive(Debug)]
pub(in crate::server) struct Early {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Early {
    /// Starts to answer on a clone of `listener`, over TLS if there is an identity to show.
    ///
    /// # Errors
    /// When no thread can be started, or no socket be had.
    pub(in crate::server) fn start(
        listener: &TcpListener,
        tls: Option<Arc<ServerTls>>,
    ) -> io::Result<Self> {
        let listener = listener.try_clone()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::Builder::new()
            .name("early answers".into())
            .spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    if !is_readable(&listener) {
                        continue;
                    }
                    match listener.accept() {
                        Ok((stream, _)) => {
                            let _client_may_be_gone = answer(stream, tls.as_deref());
                        }
                        // No descriptors are free, as a rule: not again at once.
                        Err(_) => std::thread::park_timeout(LOOK_EVERY),
                    }
                }
            })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Early {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _panicked_and_was_told = thread.join();
        }
    }
}

/// Waits a moment for somebody to connect. The listener itself stays blocking: its mode is shared
/// with the one that the acceptor has.
fn is_readable(listener: &TcpListener) -> bool {
    let mut wanted = [PollFd::new(listener, PollFlags::IN)];
    let wait = Timespec {
        tv_sec: 0,
        tv_nsec: i64::from(LOOK_EVERY.subsec_nanos()),
    };
    poll(&mut wanted, Some(&wait)).is_ok_and(|ready| ready > 0)
}

fn answer(stream: TcpStream, tls: Option<&ServerTls>) -> io::Result<()> {
    let limited = Limited {
        stream,
        began: rt::now(),
    };
    let Some(tls) = tls else {
        return converse(limited);
    };
    let session = rustls::ServerConnection::new(tls.config()).map_err(io::Error::other)?;
    let mut stream = rustls::StreamOwned::new(session, limited);
    converse(&mut stream)?;
    stream.conn.send_close_notify();
    stream.flush()
}

fn converse(mut stream: impl io::Read + io::Write) -> io::Result<()> {
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < HEAD_BYTES_MAX {
        match stream.read(&mut piece)? {
            0 => return Ok(()),
            count => head.extend_from_slice(piece.get(..count).unwrap_or_default()),
        }
    }
    stream.write_all(response(&head).as_bytes())
}

/// A socket with one limit for all that is said on it: the start waits for it.
struct Limited {
    stream: TcpStream,
    began: Instant,
}

impl Limited {
    fn left(&self) -> io::Result<Duration> {
        let left = PATIENCE.saturating_sub(rt::now().since(self.began));
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(left)
    }
}

impl io::Read for Limited {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(buf)
    }
}

impl io::Write for Limited {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// What health checks expect of a broker that is not there yet.
fn response(head: &[u8]) -> String {
    let (status, content, body) = if head.starts_with(b"GET /health") {
        ("500 Internal Server Error", "text/plain", "not healthy")
    } else if head.starts_with(b"GET /ready") {
        (
            "500 Internal Server Error",
            "application/json",
            "{\"is_healthy\":false,\"is_ready\":false}",
        )
    } else {
        let text = "the broker is starting: its store is being opened";
        ("503 Service Unavailable", "text/plain", text)
    };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content}; charset=UTF-8\r\nContent-Length: {}\r\n\
         Retry-After: 1\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a broken assumption is a failed test")]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn ask(address: std::net::SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn a_broker_that_starts_is_neither_healthy_nor_ready() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let early = Early::start(&listener, None).unwrap();
        for (path, status, body) in [
            ("/health", "500", "not healthy"),
            ("/ready", "500", "{\"is_healthy\":false,\"is_ready\":false}"),
            ("/metrics", "503", "being opened"),
        ] {
            let answer = ask(address, path);
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{answer}"
            );
            assert!(answer.ends_with(body), "{answer}");
        }
        drop(early);
        // Who comes now waits for the next who accepts.
        let _waiting = TcpStream::connect(address).unwrap();
        assert!(is_readable(&listener));
    }

    #[test]
    fn a_client_that_says_nothing_does_not_hold_the_start_up_for_long() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let early = Early::start(&listener, None).unwrap();
        let _silent = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        drop(early);
    }
}
