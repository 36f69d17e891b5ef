//! The acceptor of one port.
//!
//! A thread of its own accepts and hands each socket to the executor with the fewest connections.
//! gRPC clients hold few, long-lived connections; the kernel's hash over several listening sockets
//! would pile them up on one core. The thread costs nothing while nobody connects, and accepting
//! there keeps the executors free of it.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::addresses::{Addresses, Held};
use crate::rt;

/// How long the acceptor rests after an error that will not pass at once, such as no free file
/// descriptors: accepting again in a loop would burn a core.
const ERROR_REST: Duration = Duration::from_millis(20);

/// Connections that are accepted before an executor may have the processor, where they share one:
/// the kernel would let this thread go on for milliseconds under a flood.
const TOGETHER: u64 = 16;

/// Connections that the kernel holds for us while we are busy.
const BACKLOG: i32 = 4096;

/// A port that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct BindError {
    /// The address that was asked for.
    pub address: SocketAddr,
    /// Why not.
    #[source]
    pub source: io::Error,
}

/// How many connections each executor serves; shared by the acceptors and the executors.
#[derive(Clone, Debug)]
pub struct Loads {
    counts: Arc<[AtomicUsize]>,
    refused: Arc<AtomicU64>,
    max: usize,
    addresses: Addresses,
}

impl Loads {
    /// Makes counts for `executors`; together they serve at most `max` connections.
    #[must_use]
    pub fn new(executors: usize, max: usize) -> Self {
        Self {
            counts: (0..executors).map(|_| AtomicUsize::new(0)).collect(),
            refused: Arc::default(),
            max,
            addresses: Addresses::default(),
        }
    }

    /// Sets who counts the connections of each address; otherwise an address has any number.
    #[must_use]
    pub fn with_addresses(mut self, addresses: Addresses) -> Self {
        self.addresses = addresses;
        self
    }

    /// Connections that are open on all executors.
    #[must_use]
    pub fn total(&self) -> usize {
        self.counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    }

    /// Connections that were turned away because all places were taken.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// The executor with the fewest connections and a hold on a place there; otherwise the key of
    /// the limit that was reached.
    fn admit(&self, peer: IpAddr) -> Result<(usize, Load), &'static str> {
        const ALL: &str = "max_connections";
        if self.total() >= self.max {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(ALL);
        }
        let held = self.addresses.admit(peer)?;
        let loads = self
            .counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        let fewest = loads.enumerate().min_by_key(|(_, load)| *load);
        let (executor, _) = fewest.ok_or(ALL)?;
        let count = self.counts.get(executor).ok_or(ALL)?;
        count.fetch_add(1, Ordering::Relaxed);
        Ok((
            executor,
            Load {
                loads: self.clone(),
                executor,
                _held: held,
            },
        ))
    }
}

/// One connection's place in the counts; given back when dropped, on whatever thread.
#[derive(Debug)]
pub struct Load {
    loads: Loads,
    executor: usize,
    /// Its place among those of its address.
    _held: Option<Held>,
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(count) = self.loads.counts.get(self.executor) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A listening port and the thread that accepts on it. Stops when dropped.
#[derive(Debug)]
pub struct Acceptor {
    listener: Arc<TcpListener>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    address: SocketAddr,
}

impl Acceptor {
    /// Binds the port, without accepting yet: a port in use is an error of the start. Port 0 picks
    /// a free one.
    ///
    /// # Errors
    /// [`BindError`] with the address.
    pub fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), BindError> {
        let listen = || -> io::Result<(TcpListener, SocketAddr)> {
            use socket2::{Domain, Protocol, Socket, Type};
            let socket = Socket::new(
                Domain::for_address(address),
                Type::STREAM,
                Some(Protocol::TCP),
            )?;
            // A restarted broker takes its port at once. Not SO_REUSEPORT: two brokers would
            // silently share it.
            socket.set_reuse_address(true)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            let listener = TcpListener::from(socket);
            let bound = listener.local_addr()?;
            Ok((listener, bound))
        };
        listen().map_err(|source| BindError { address, source })
    }

    /// Starts to accept. `hand_over` gives a socket to an executor and says whether it took it.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(
        listener: TcpListener,
        loads: Loads,
        hand_over: impl Fn(usize, TcpStream, SocketAddr, Load) -> bool + Send + 'static,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let listener = Arc::new(listener);
        let stop = Arc::new(AtomicBool::new(false));
        let (accepting, stopping) = (listener.clone(), stop.clone());
        let thread = std::thread::Builder::new()
            .name(format!("accept-{}", address.port()))
            .spawn(move || {
                rt::step_aside();
                run(&accepting, &loads, &stopping, hand_over);
            })?;
        Ok(Self {
            listener,
            stop,
            thread: Some(thread),
            address,
        })
    }

    /// The address that clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // On Linux a shutdown of the listening socket ends an `accept` that waits on it.
        if let Err(error) = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both) {
            tracing::warn!(%error, "cannot stop listening");
            return;
        }
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "this thread is no executor: it may sleep"
)]
fn run(
    listener: &TcpListener,
    loads: &Loads,
    stop: &AtomicBool,
    hand_over: impl Fn(usize, TcpStream, SocketAddr, Load) -> bool,
) {
    let mut errors: u64 = 0;
    let mut refused: u64 = 0;
    let mut accepted: u64 = 0;
    while !stop.load(Ordering::Relaxed) {
        accepted += 1;
        if accepted.is_multiple_of(TOGETHER) {
            std::thread::yield_now();
        }
        match listener.accept() {
            Ok(_) if stop.load(Ordering::Relaxed) => return,
            Ok((stream, peer)) => match loads.admit(peer.ip()) {
                Ok((executor, load)) => {
                    if !hand_over(executor, stream, peer, load) {
                        return;
                    }
                }
                // Dropping the socket closes it: the client sees at once that it is refused.
                Err(limit) => {
                    refused += 1;
                    if refused.is_power_of_two() {
                        tracing::warn!(%peer, limit, refused, "connections refused: limit reached");
                    }
                }
            },
            Err(_) if stop.load(Ordering::Relaxed) => return,
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                errors += 1;
                if errors.is_power_of_two() {
                    tracing::error!(%error, errors, "cannot accept connections");
                }
                std::thread::sleep(ERROR_REST);
            }
        }
    }
}

/// Errors that belong to the connection that was to be accepted, not to the listening socket.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn the_executor_with_the_fewest_connections_gets_the_next_one() {
        let loads = Loads::new(2, 3);
        let admit = || loads.admit([127, 0, 0, 1].into());
        let (first, held) = admit().expect("room");
        let (second, _kept) = admit().expect("room");
        assert_eq!((first, second), (0, 1));
        let (third, _also_kept) = admit().expect("room");
        assert!(admit().is_err(), "the bound holds");
        drop(held);
        let (fourth, _last) = admit().expect("room again");
        assert_eq!((third, fourth), (0, 0));
        assert_eq!(loads.refused(), 1);
    }

    #[test]
    fn a_connection_that_ends_makes_room_for_one_of_its_address() {
        let addresses = Addresses::default();
        addresses.set(1, 0);
        let ports = [(); 2].map(|()| Loads::new(1, 10).with_addresses(addresses.clone()));
        let [grpc, rest] = &ports;
        let (_, load) = grpc.admit([10, 0, 0, 1].into()).expect("room");
        let refused = rest.admit([10, 0, 0, 1].into()).err();
        assert_eq!(refused, Some("limits.connections_per_address"));
        assert!(rest.admit([10, 0, 0, 2].into()).is_ok());
        drop(load);
        assert!(rest.admit([10, 0, 0, 1].into()).is_ok());
    }

    #[test]
    fn a_port_in_use_is_refused_and_named() {
        let (held, address) = Acceptor::bind(([127, 0, 0, 1], 0).into()).expect("a free port");
        let error = Acceptor::bind(address).expect_err("the port is taken");
        assert_eq!(error.to_string(), format!("cannot listen on {address}"));
        assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
        drop(held);
    }

    #[test]
    fn connections_are_handed_over_until_the_acceptor_is_dropped() {
        let (listener, address) = Acceptor::bind(([127, 0, 0, 1], 0).into()).expect("a free port");
        let (tx, rx) = mpsc::channel();
        let loads = Loads::new(1, 10);
        let acceptor =
            Acceptor::start(listener, loads.clone(), move |executor, stream, _, load| {
                tx.send((executor, stream, load)).is_ok()
            })
            .expect("a thread");
        let client = TcpStream::connect(address).expect("accepted");
        let (executor, _stream, load) = rx.recv_timeout(Duration::from_secs(5)).expect("handed");
        assert_eq!((executor, loads.total()), (0, 1));
        drop(load);
        assert_eq!(loads.total(), 0);
        drop((acceptor, client));
        assert!(
            TcpStream::connect(address).is_err(),
            "nobody listens any more"
        );
    }
}
