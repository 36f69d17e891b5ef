//! The client side: calls over one connection, for the load generator, the demo and the tests.
//!
//! It stands on the same cork as the server side, so a generator on one core can load a server on
//! another. There is no pool, no name resolution and no retry: a connection that is lost stays
//! lost, and its calls end with `UNAVAILABLE`.
//!
//! With TLS 1.3 a server looks at the client's certificate after the client's handshake is done:
//! one that it refuses shows as the end of the first call, with the server's alert in the text.

mod call;
mod driver;

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header};

pub use call::{ClientSender, ClientStream};

use crate::rt::Conn;
use crate::wire::alarm::Alarm;
use crate::wire::control::ConnectionControl;
use crate::wire::cork::{TlsConn, Transport};
use crate::wire::framing::{GatherLimit, MESSAGE_BYTES_MAX};
use crate::wire::outlet::{Chunk, OutputLimits};
use crate::wire::status::{Code, GRPC_TIMEOUT, Status};
use crate::wire::timeout;
use crate::wire::tls::ClientTls;

/// How a client connects and what it bounds.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// How long connecting may take. 5 s.
    pub connect_timeout: Duration,
    /// Receive window of a stream. 1 MiB.
    pub stream_window_bytes: u32,
    /// Receive window of the connection. 8 MiB.
    pub connection_window_bytes: u32,
    /// The largest message that is received. 100 MiB.
    pub message_bytes_max: usize,
    /// What incomplete messages may hold together. 256 MiB.
    pub gather_bytes_max: usize,
    /// The largest frame that the server may send. 16 KiB.
    pub frame_bytes_max: u32,
    /// What one stream may have waiting for the server. 256 KiB.
    pub stream_send_bytes_max: usize,
    /// Above this sum over its streams, each may have no more than 16 KiB waiting. 8 MiB.
    pub connection_send_bytes_max: usize,
    /// Silence after which the server is asked whether it lives; `None`: never.
    pub keepalive_time: Option<Duration>,
    /// How long it may take to answer that. 10 s.
    pub keepalive_timeout: Duration,
    /// Value of the `user-agent` header.
    pub user_agent: &'static str,
    /// TLS with the server; `None`: in clear text.
    pub tls: Option<Arc<ClientTls>>,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            stream_window_bytes: 1 << 20,
            connection_window_bytes: 8 << 20,
            message_bytes_max: MESSAGE_BYTES_MAX,
            gather_bytes_max: 256 << 20,
            frame_bytes_max: 16 << 10,
            stream_send_bytes_max: 256 << 10,
            connection_send_bytes_max: 8 << 20,
            keepalive_time: None,
            keepalive_timeout: Duration::from_secs(10),
            user_agent: "grpc-ringmq/1",
            tls: None,
        }
    }
}

/// What goes with a call beside its messages.
#[derive(Clone, Debug, Default)]
pub struct CallOptions {
    /// When the call ends with `DEADLINE_EXCEEDED`; told to the server, too.
    pub timeout: Option<Duration>,
    /// Metadata; the keys are lower case.
    pub metadata: HeaderMap,
}

impl CallOptions {
    /// Options with a timeout.
    #[must_use]
    pub fn with_timeout(timeout: Duration) -> Self {
        Self {
            timeout: Some(timeout),
            metadata: HeaderMap::new(),
        }
    }

    /// Adds a metadata entry; one that HTTP does not allow is left out.
    #[must_use]
    pub fn metadata(mut self, key: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.metadata.append(HeaderName::from_static(key), value);
        }
        self
    }
}

/// Paths whose URIs are kept prepared; a client uses a handful.
const PREPARED_PATHS_MAX: usize = 64;

/// A connection to a server. Clones share it; it ends when the last clone and the last call are
/// gone, or by [`close`](Self::close).
#[derive(Clone, Debug)]
pub struct Client {
    requests: Rc<RefCell<SendRequest<Chunk>>>,
    control: ConnectionControl,
    shared: Rc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: ClientSettings,
    authority: Authority,
    user_agent: HeaderValue,
    gather_limit: Rc<GatherLimit>,
    paths: RefCell<Vec<(&'static str, Uri)>>,
}

impl Client {
    /// Connects, and starts the connection's driver on this executor.
    ///
    /// # Errors
    /// When the address does not answer in time, or not at all, or when TLS fails: then it holds a
    /// [`tls::Error`](crate::wire::tls::Error).
    pub async fn connect(address: SocketAddr, settings: ClientSettings) -> io::Result<Self> {
        let conn = Conn::connect(address, settings.connect_timeout).await?;
        Self::over(conn, address, settings).await
    }

    /// Speaks over a connected socket; `address` is what the `:authority` header says, with TLS
    /// the server's name and the port.
    ///
    /// # Errors
    /// When TLS fails, or the opening cannot be written.
    pub async fn over(
        conn: Conn,
        address: SocketAddr,
        settings: ClientSettings,
    ) -> io::Result<Self> {
        let (transport, authority) = match &settings.tls {
            None => (Transport::Plain(conn), address.to_string()),
            Some(tls) => {
                // Boxed: a connection in clear text should not carry the room for it.
                let conn = Box::pin(TlsConn::connect(conn, tls)).await?;
                let authority = tls.authority(address.port());
                (Transport::Tls(Box::new(conn)), authority)
            }
        };
        let authority: Authority = authority.parse().map_err(io::Error::other)?;
        let control = ConnectionControl::new();
        let requests = driver::start(transport, &settings, &control).await?;
        let user_agent = HeaderValue::from_static(settings.user_agent);
        let paths = RefCell::new(Vec::new());
        let gather_limit = GatherLimit::new(settings.gather_bytes_max);
        let shared = Rc::new(Shared {
            settings,
            authority,
            user_agent,
            gather_limit,
            paths,
        });
        Ok(Self {
            requests: Rc::new(RefCell::new(requests)),
            control,
            shared,
        })
    }

    /// Makes a call with one message each way.
    ///
    /// # Errors
    /// The server's status; `UNAVAILABLE` when the connection is lost; `DEADLINE_EXCEEDED`.
    pub async fn unary(
        &self,
        path: &'static str,
        message: Bytes,
        options: &CallOptions,
    ) -> Result<Bytes, Status> {
        let mut stream = self.server_stream(path, message, options)?;
        match options.timeout {
            None => stream.only_message().await,
            Some(timeout) => within(timeout, stream.only_message()).await,
        }
    }

    /// Makes a call with one message out and a stream of them in. The timeout is told to the
    /// server and not watched here.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the connection is lost.
    pub fn server_stream(
        &self,
        path: &'static str,
        message: Bytes,
        options: &CallOptions,
    ) -> Result<ClientStream, Status> {
        let (response, mut stream) = self.open(path, options)?;
        // One message, which nobody can hold back: it counts as an answer does.
        let chunk = Chunk::answer(self.control.output(), message, false);
        stream
            .send_data(chunk, true)
            .map_err(|error| call::lost(&error))?;
        let outlet = call::outlet(stream, &self.control, self.limits());
        Ok(self.receiver(response, outlet))
    }

    /// Makes a call with a stream of messages each way.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the connection is lost.
    pub fn bidi(
        &self,
        path: &'static str,
        options: &CallOptions,
    ) -> Result<(ClientSender, ClientStream), Status> {
        let (response, stream) = self.open(path, options)?;
        let outlet = call::outlet(stream, &self.control, self.limits());
        let sender = ClientSender::new(Rc::clone(&outlet));
        Ok((sender, self.receiver(response, outlet)))
    }

    /// Closes the connection; open calls end with `UNAVAILABLE`.
    pub fn close(&self) {
        self.control.close();
    }

    /// The handle to the connection: pings, end.
    #[must_use]
    pub const fn control(&self) -> &ConnectionControl {
        &self.control
    }

    fn receiver(
        &self,
        response: h2::client::ResponseFuture,
        outlet: call::SharedOutlet,
    ) -> ClientStream {
        let gather_limit = Rc::clone(&self.shared.gather_limit);
        let message_bytes_max = self.shared.settings.message_bytes_max;
        ClientStream::new(response, outlet, (message_bytes_max, gather_limit))
    }

    fn limits(&self) -> OutputLimits {
        OutputLimits {
            stream_bytes_max: self.shared.settings.stream_send_bytes_max,
            connection_bytes_max: self.shared.settings.connection_send_bytes_max,
        }
    }

    fn open(
        &self,
        path: &'static str,
        options: &CallOptions,
    ) -> Result<(h2::client::ResponseFuture, h2::SendStream<Chunk>), Status> {
        let mut requests = self.requests.borrow_mut();
        let opened = requests.send_request(self.shared.request(path, options)?, false);
        match opened {
            // More calls than the server admits at a time: h2 keeps one handle waiting for its
            // stream to open. A fresh handle queues behind it.
            Err(error) if error.get_io().is_none() && error.reason().is_none() => {
                let mut fresh = requests.clone();
                let opened = fresh.send_request(self.shared.request(path, options)?, false);
                *requests = fresh;
                opened.map_err(|error| call::lost(&error))
            }
            opened => opened.map_err(|error| call::lost(&error)),
        }
    }
}

impl Shared {
    fn request(&self, path: &'static str, options: &CallOptions) -> Result<Request<()>, Status> {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = self.uri(path)?;
        let headers = request.headers_mut();
        if options.metadata.is_empty() {
            headers.reserve(4);
        } else {
            headers.clone_from(&options.metadata);
        }
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/grpc"),
        );
        headers.insert(header::USER_AGENT, self.user_agent.clone());
        if let Some(timeout) = options.timeout
            && let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(timeout::format(timeout)))
        {
            headers.insert(GRPC_TIMEOUT, value);
        }
        Ok(request)
    }

    fn uri(&self, path: &'static str) -> Result<Uri, Status> {
        let mut paths = self.paths.borrow_mut();
        if let Some((_, uri)) = paths.iter().find(|(known, _)| *known == path) {
            return Ok(uri.clone());
        }
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(match self.settings.tls {
            None => Scheme::HTTP,
            Some(_) => Scheme::HTTPS,
        });
        parts.authority = Some(self.authority.clone());
        let malformed = |_| Status::new(Code::Internal, "malformed method name");
        let path_and_query = PathAndQuery::from_maybe_shared(Bytes::from_static(path.as_bytes()));
        parts.path_and_query = Some(path_and_query.map_err(malformed)?);
        let uri = Uri::from_parts(parts)
            .map_err(|_| Status::new(Code::Internal, "malformed method name"))?;
        if paths.len() < PREPARED_PATHS_MAX {
            paths.push((path, uri.clone()));
        }
        Ok(uri)
    }
}

async fn within<T>(
    timeout: Duration,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let mut call = std::pin::pin!(call);
    let mut limit = Alarm::new(timeout);
    std::future::poll_fn(|cx| {
        if let std::task::Poll::Ready(result) = call.as_mut().poll(cx) {
            return std::task::Poll::Ready(result);
        }
        limit.poll(cx).map(|()| {
            Err(Status::from_static(
                Code::DeadlineExceeded,
                "context deadline exceeded",
            ))
        })
    })
    .await
}
