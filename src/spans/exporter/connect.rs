//! A connection to the collector.

use std::cell::Cell;
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::rt::{self, Conn, inbox};
use crate::spans::setup::Target;

/// How long each address of the collector may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Addresses that are tried.
const ADDRESSES_MAX: usize = 4;

/// Resolves the target's name and connects to the first address that answers.
///
/// On a thread of its own, which ends by itself: a name server or a host that does not answer takes
/// seconds, and the executor's blocking threads belong to the log.
pub(super) async fn connect(target: &Target) -> io::Result<(Conn, SocketAddr)> {
    let (sender, receiver) = inbox::inbox()?;
    let (host, port) = (target.host.to_string(), target.port);
    std::thread::Builder::new()
        .name("otlp connect".into())
        .spawn(move || {
            rt::step_aside();
            let _nobody_waits_any_more = sender.send(attempt(&host, port));
        })?;
    let answer = Cell::new(None);
    receiver.run(|result| answer.set(Some(result))).await;
    let result = answer.take();
    let (stream, address) = result.ok_or_else(|| io::Error::other("connecting panicked"))??;
    Ok((Conn::from_std(stream)?, address))
}

fn attempt(host: &str, port: u16) -> io::Result<(TcpStream, SocketAddr)> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs()?.take(ADDRESSES_MAX) {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok((stream, address)),
            Err(error) => last = error,
        }
    }
    Err(last)
}
