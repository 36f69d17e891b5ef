//! Attacks on a running broker, at full speed and by hand-made bytes.
//!
//! Ordinary threads on blocking sockets, with no runtime: what is measured is the broker's. Nothing
//! here starts or ends one; it is told where one listens, and which process it is.

mod calls;
mod connections;
mod frames;
mod http;
mod peer;
mod quiet;
mod socket;
mod watch;
mod web_socket;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustls::ClientConfig;

pub use quiet::Quiet;
pub use socket::trusting;
pub use watch::{Memory, Turns, turn_bound, turns};

use peer::Peer;
use socket::Socket;

/// The port that an attack is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// The gRPC service.
    Grpc,
    /// REST and WebSocket.
    Rest,
    /// The management port.
    Api,
}

/// One way to be a nuisance.
#[derive(Clone, Copy, Debug)]
pub struct Attack {
    /// Its name, in words with hyphens.
    pub name: &'static str,
    /// Where it is aimed at.
    pub port: Port,
    /// Whether it speaks TLS itself, or garbage in its place: it needs a broker with TLS.
    pub tls: bool,
    /// Goes on until the time of its field is up. One thread of several.
    run: fn(&Field, SocketAddr),
}

impl Attack {
    /// Attacks from this thread until [`Field::end`].
    pub fn run(&self, field: &Field) {
        if let Some(address) = field.address(self.port) {
            (self.run)(field, address);
        }
    }
}

const fn on(port: Port, name: &'static str, run: fn(&Field, SocketAddr)) -> Attack {
    Attack {
        name,
        port,
        tls: false,
        run,
    }
}

/// All of them, in the order of the table.
#[must_use]
pub fn all() -> Vec<Attack> {
    [
        frames::ATTACKS,
        calls::ATTACKS,
        connections::ATTACKS,
        http::ATTACKS,
        web_socket::ATTACKS,
    ]
    .concat()
}

/// Why a connection is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// The time is up.
    Time,
    /// The broker has ended it.
    Refused,
}

/// A broker, and what is done to it.
#[derive(Debug)]
pub struct Field {
    /// Its gRPC service.
    pub grpc: SocketAddr,
    /// Its REST port.
    pub rest: Option<SocketAddr>,
    /// Its management port.
    pub api: Option<SocketAddr>,
    /// How it is spoken to on the first two, if by TLS.
    pub tls: Option<Arc<ClientConfig>>,
    over: AtomicBool,
    bytes: AtomicU64,
    connections: AtomicU64,
    refusals: AtomicU64,
}

/// What an attack has done.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Bytes that the broker's socket took.
    pub bytes: u64,
    /// Connections that were made.
    pub connections: u64,
    /// Connections that the broker ended.
    pub refusals: u64,
}

impl Field {
    /// The broker with these addresses.
    #[must_use]
    pub const fn new(
        grpc: SocketAddr,
        rest: Option<SocketAddr>,
        api: Option<SocketAddr>,
        tls: Option<Arc<ClientConfig>>,
    ) -> Self {
        Self {
            grpc,
            rest,
            api,
            tls,
            over: AtomicBool::new(false),
            bytes: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
        }
    }

    /// Where that port is, if it is served.
    #[must_use]
    pub const fn address(&self, port: Port) -> Option<SocketAddr> {
        match port {
            Port::Grpc => Some(self.grpc),
            Port::Rest => self.rest,
            Port::Api => self.api,
        }
    }

    /// Ends the attack: its threads return soon.
    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// What was done so far.
    #[must_use]
    pub fn effort(&self) -> Effort {
        Effort {
            bytes: self.bytes.load(Ordering::Relaxed),
            connections: self.connections.load(Ordering::Relaxed),
            refusals: self.refusals.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    pub(crate) fn check(&self) -> Result<(), Over> {
        if self.is_over() {
            Err(Over::Time)
        } else {
            Ok(())
        }
    }

    /// Connects; with TLS if the broker speaks it there.
    pub(crate) fn connect(&self, address: SocketAddr) -> Result<Socket, Over> {
        let tls = if Some(address) == self.api {
            None
        } else {
            self.tls.as_ref()
        };
        self.count_connection(Socket::connect(address, tls))
    }

    /// Connects without TLS, whatever the broker speaks.
    pub(crate) fn connect_plain(&self, address: SocketAddr) -> Result<Socket, Over> {
        self.count_connection(Socket::connect(address, None))
    }

    fn count_connection(&self, connected: std::io::Result<Socket>) -> Result<Socket, Over> {
        if let Ok(socket) = connected {
            self.connections.fetch_add(1, Ordering::Relaxed);
            Ok(socket)
        } else {
            // Its queue is full, or it takes none of us: not a reason to give up.
            self.pause(Duration::from_millis(1));
            Err(Over::Refused)
        }
    }

    /// Attacks over one socket after the other.
    pub(crate) fn sockets(
        &self,
        address: SocketAddr,
        mut attack: impl FnMut(Socket) -> Result<(), Over>,
    ) {
        while !self.is_over() {
            let outcome = self.connect(address).and_then(&mut attack);
            if outcome == Err(Over::Refused) {
                self.refusals.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Attacks over one connection of HTTP/2 after the other.
    pub(crate) fn peers(
        &self,
        address: SocketAddr,
        mut attack: impl FnMut(&mut Peer<'_>) -> Result<(), Over>,
    ) {
        self.sockets(address, |socket| {
            let mut peer = Peer::greet(self, socket, &[])?;
            attack(&mut peer)
        });
    }

    /// Lets some time pass.
    #[allow(clippy::disallowed_methods, reason = "an ordinary thread may sleep")]
    pub(crate) fn pause(&self, time: Duration) {
        if !self.is_over() {
            std::thread::sleep(time);
        }
    }
}
