//! Clients that do nothing wrong, and notice.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use super::peer::{Peer, call, flag, framed, kind, put};
use super::{Field, Over};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The pause between two calls of a client.
const PAUSE: Duration = Duration::from_millis(2);

/// Publishes an event: client, channel, body.
const EVENT: &[u8] = b"\x12\x05quiet\x1a\x05quiet\x2a\x05hello";

/// Quiet clients, each on a connection and a thread of its own.
#[derive(Debug)]
pub struct Quiet {
    took: mpsc::Receiver<Option<Duration>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// What quiet clients saw in some time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Calls that were answered.
    pub answered: usize,
    /// Calls that were not, and connections that could not be made.
    pub failed: usize,
    /// The median of the times that an answer took.
    pub p50: Duration,
    /// What one answer in a hundred took longer than.
    pub p99: Duration,
}

impl Quiet {
    /// Starts as many clients, which go on until this is dropped.
    #[must_use]
    pub fn start(address: SocketAddr, tls: Option<&Arc<ClientConfig>>, clients: usize) -> Self {
        let (tell, took) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..clients).map(|_| {
            let (tell, stop, tls) = (tell.clone(), Arc::clone(&stop), tls.cloned());
            std::thread::spawn(move || run(address, tls, &tell, &stop))
        });
        Self {
            took,
            threads: threads.collect(),
            stop,
        }
    }

    /// What they saw since this was asked before.
    #[must_use]
    pub fn seen(&self) -> Seen {
        let all: Vec<_> = self.took.try_iter().collect();
        let mut took: Vec<_> = all.iter().copied().flatten().collect();
        took.sort_unstable();
        let at = |part: usize| took.get(took.len() * part / 100).copied();
        Seen {
            answered: took.len(),
            failed: all.len() - took.len(),
            p50: at(50).unwrap_or_default(),
            p99: at(99).unwrap_or_default(),
        }
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _panicked = thread.join();
        }
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "an ordinary thread may wait and read the clock"
)]
fn run(
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    tell: &mpsc::Sender<Option<Duration>>,
    stop: &AtomicBool,
) {
    let field = Field::new(address, None, None, tls);
    while !stop.load(Ordering::Relaxed) {
        let ended = field.connect(address).and_then(|socket| {
            let mut peer = Peer::greet(&field, socket, &[])?;
            peer.set_patient(PATIENCE)?;
            while !stop.load(Ordering::Relaxed) {
                let began = Instant::now();
                publish(&mut peer)?;
                let _nobody_asks = tell.send(Some(began.elapsed()));
                std::thread::sleep(PAUSE);
            }
            Ok(())
        });
        if ended.is_err() {
            let _nobody_asks = tell.send(None);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn publish(peer: &mut Peer<'_>) -> Result<(), Over> {
    let stream = peer.next_stream()?;
    let mut bytes = Vec::new();
    let head = call("/kubemq.kubemq/SendEvent");
    put(&mut bytes, kind::HEADERS, flag::END_HEADERS, stream, &head);
    put(
        &mut bytes,
        kind::DATA,
        flag::END_STREAM,
        stream,
        &framed(EVENT),
    );
    peer.send_deaf(&bytes)?;
    peer.wait_answer()
}
