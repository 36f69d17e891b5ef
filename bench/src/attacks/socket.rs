//! A socket that is written to as fast as the other side takes it.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::{Field, Over};

/// How long a connection may take to be made.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a full socket is left alone.
const FULL: Duration = Duration::from_micros(100);

/// The settings of TLS that believe the authorities of a PEM file.
///
/// # Errors
/// When there are none in it.
pub fn trusting(authorities: &Path) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    let found = CertificateDer::pem_file_iter(authorities).map_err(|error| error.to_string())?;
    for certificate in found {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    let config = builder.with_root_certificates(roots).with_no_client_auth();
    Ok(Arc::new(config))
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// Never blocks, but where it says so.
#[derive(Debug)]
pub(crate) struct Socket(Stream);

impl Socket {
    pub(super) fn connect(
        address: SocketAddr,
        tls: Option<&Arc<ClientConfig>>,
    ) -> io::Result<Self> {
        let socket = TcpStream::connect_timeout(&address, PATIENCE)?;
        socket.set_nodelay(true)?;
        let Some(config) = tls else {
            socket.set_nonblocking(true)?;
            return Ok(Self(Stream::Plain(socket)));
        };
        let mut config = ClientConfig::clone(config);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let name = ServerName::from(address.ip());
        let session = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let mut stream = StreamOwned::new(session, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        stream.sock.set_nonblocking(true)?;
        Ok(Self(Stream::Tls(Box::new(stream))))
    }

    /// Blocks from now on, for as long.
    pub(super) fn set_patient(&mut self, patience: Duration) -> io::Result<()> {
        let socket = match &self.0 {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => &stream.sock,
        };
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(patience))?;
        socket.set_write_timeout(Some(patience))
    }

    /// Writes what the other side takes now.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Stream::Plain(stream) => stream.write(bytes),
            Stream::Tls(stream) => {
                let written = stream.write(bytes)?;
                match stream.flush() {
                    Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
                    _ => Ok(written),
                }
            }
        }
    }

    /// Reads what is there; `None` when there is nothing, zero at the end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let read = match &mut self.0 {
            Stream::Plain(stream) => stream.read(buffer),
            Stream::Tls(stream) => stream.read(buffer),
        };
        match read {
            Ok(count) => Ok(Some(count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes some of the bytes, as many as are taken at once. `None`: none.
    pub(super) fn write_some(
        &mut self,
        field: &Field,
        bytes: &[u8],
    ) -> Result<Option<usize>, Over> {
        field.check()?;
        match self.write(bytes) {
            Ok(0) => Err(Over::Refused),
            Ok(count) => {
                let counted = u64::try_from(count).unwrap_or(u64::MAX);
                field.bytes.fetch_add(counted, Ordering::Relaxed);
                Ok(Some(count))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                field.pause(FULL);
                Ok(None)
            }
            Err(_) => Err(Over::Refused),
        }
    }

    /// Writes all, as fast as it is taken; what comes meanwhile is thrown away, if it is read.
    pub(crate) fn send(&mut self, field: &Field, bytes: &[u8], reads: bool) -> Result<(), Over> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if let Some(count) = self.write_some(field, rest)? {
                rest = rest.get(count..).unwrap_or_default();
            }
            if reads {
                self.drain()?;
            }
        }
        Ok(())
    }

    /// Throws away what has come.
    pub(crate) fn drain(&mut self) -> Result<(), Over> {
        let mut thrown_away = [0; 16 << 10];
        loop {
            match self.read(&mut thrown_away) {
                Ok(None) => return Ok(()),
                Ok(Some(0)) | Err(_) => return Err(Over::Refused),
                Ok(Some(_)) => {}
            }
        }
    }

    /// Waits until something has come.
    pub(crate) fn wait_for_some(&mut self, field: &Field) -> Result<(), Over> {
        let mut some = [0; 64];
        loop {
            field.check()?;
            match self.read(&mut some) {
                Ok(None) => field.pause(FULL),
                Ok(Some(0)) | Err(_) => return Err(Over::Refused),
                Ok(Some(_)) => return Ok(()),
            }
        }
    }
}
