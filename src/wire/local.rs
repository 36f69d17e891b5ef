//! Calls made inside the process: what another transport of the broker asks of the same service.
//!
//! REST, WebSocket and the management port make no rules of their own. They open calls here, which
//! the service takes as it takes those of a connection: the same checks, the same texts, the same
//! leases. What a connection knows and a socket of another protocol must tell is asked for:
//!
//! - [`LocalCall::written`] says that everything taken so far has left in full. Until then what it
//!   carries is not on its way: a lease stays, a position does not move.
//! - [`ConnectionControl::ping`] asks the peer for a sign of life, behind what was written. Whoever
//!   has the socket serves it ([`ConnectionControl::wants_ping`]).
//! - A call that is dropped before its end is reset, as by a client that vanished.
//!   [`LocalCall::end`] is the orderly end of the caller's half.

mod pipe;

use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::{HeaderValue, Request, Uri};

use super::control::ConnectionControl;
use super::framing::{Encoding, GatherLimit, MessageDecoder};
use super::outlet::Chunk;
use super::server::{Call, Calls, Service, Settings, Shared};
use super::status::{Code, Status};

use crate::model::identity::{CertificateNames, Identity};

pub(crate) use pipe::Pipe;

/// One client inside the process: to its calls it is what a connection is to those of the wire.
/// Clones are the same client.
#[derive(Clone)]
pub struct LocalClient {
    service: Rc<dyn Service>,
    shared: Rc<Shared>,
    metadata: Vec<(&'static str, HeaderValue)>,
    identity: Option<Rc<Identity>>,
}

impl std::fmt::Debug for LocalClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalClient")
            .field("peer", &self.shared.peer)
            .finish_non_exhaustive()
    }
}

impl LocalClient {
    /// Makes the client for what `peer` asks over another protocol. Of the settings those count
    /// that bound what a stream may have waiting, and say what an abandoned call is told.
    #[must_use]
    pub fn new(
        service: Rc<dyn Service>,
        peer: SocketAddr,
        settings: Rc<Settings>,
        control: ConnectionControl,
    ) -> Self {
        Self::certified(service, peer, None, settings, control)
    }

    /// As [`new`](Self::new), for a peer that has proved the names of a certificate.
    #[must_use]
    pub fn certified(
        service: Rc<dyn Service>,
        peer: SocketAddr,
        certificate: Option<Rc<CertificateNames>>,
        settings: Rc<Settings>,
        control: ConnectionControl,
    ) -> Self {
        let gather_limit = GatherLimit::new(settings.gather_bytes_max);
        let shared = Shared {
            peer,
            certificate,
            control,
            settings,
            gather_limit,
            calls: Calls::default(),
        };
        Self {
            service,
            shared: Rc::new(shared),
            metadata: Vec::new(),
            identity: None,
        }
    }

    /// Gives the calls to come this metadata; the key is lower case.
    pub fn add_metadata(&mut self, key: &'static str, value: HeaderValue) {
        self.metadata.push((key, value));
    }

    /// Makes the calls to come in the name of somebody who was recognised: the service does not
    /// look again.
    pub fn set_identity(&mut self, identity: Rc<Identity>) {
        self.identity = Some(identity);
    }

    /// The address of the peer.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.shared.peer
    }

    /// The names that the peer has proved by the certificate of its connection.
    #[must_use]
    pub fn certificate(&self) -> Option<&Rc<CertificateNames>> {
        self.shared.certificate.as_ref()
    }

    /// What unfinished messages of this client may hold together.
    pub(crate) fn gather_limit(&self) -> &Rc<GatherLimit> {
        &self.shared.gather_limit
    }

    /// What the service asks of the connection.
    #[must_use]
    pub fn control(&self) -> &ConnectionControl {
        &self.shared.control
    }

    /// Opens a call of a method, as `/package.Service/Method`. The service may run at once, before
    /// this returns: hold no borrow that it could want.
    #[must_use]
    pub fn call(&self, method: &'static str) -> LocalCall {
        let mut request = Request::new(());
        *request.uri_mut() = Uri::from_static(method);
        for (key, value) in &self.metadata {
            request.headers_mut().append(*key, value.clone());
        }
        let (head, ()) = request.into_parts();
        let pipe = Rc::new(Pipe::default());
        let call = Call::local(
            head,
            pipe.clone(),
            self.shared.clone(),
            self.identity.clone(),
        );
        let local = LocalCall {
            pipe,
            decoder: MessageDecoder::new(
                // What the service says itself has no limit but that of its prefix.
                usize::try_from(u32::MAX).unwrap_or(usize::MAX),
                self.shared.gather_limit.clone(),
                Encoding::Identity,
            ),
            unwritten: Vec::new(),
            unwritten_bytes: 0,
        };
        self.service.call(call);
        local
    }

    /// Calls a method with one message and one answer. The answer counts as written at once.
    ///
    /// # Errors
    /// What the service refuses with; `INTERNAL` when it answers with no message.
    pub async fn unary(&self, method: &'static str, message: Bytes) -> Result<Bytes, Status> {
        let mut call = self.call(method);
        let answer = call.ask(message).await?;
        call.written();
        Ok(answer)
    }
}

/// A call that was opened inside the process. Dropped before its end, it is reset.
#[derive(Debug)]
pub struct LocalCall {
    pipe: Rc<Pipe>,
    decoder: MessageDecoder,
    /// What was taken and has not left the socket.
    unwritten: Vec<Chunk>,
    unwritten_bytes: usize,
}

impl LocalCall {
    /// Hands a message over. Never waits: see [`poll_room`](Self::poll_room).
    pub fn send(&mut self, message: Bytes) {
        self.pipe.send(message);
    }

    /// Ready while the service has read nearly all of what was sent: another message may follow.
    /// One who reads from a socket waits for it first, so that its peer is held back.
    pub fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.pipe.poll_room(cx)
    }

    /// Ends the caller's half in order: nothing more is sent.
    pub fn end(&mut self) {
        self.pipe.end();
    }

    /// Sends one message, ends this half and waits for the one answer, which is not yet
    /// [`written`](Self::written).
    ///
    /// # Errors
    /// What the service refuses with; `INTERNAL` when it answers with no message.
    pub async fn ask(&mut self, message: Bytes) -> Result<Bytes, Status> {
        self.send(message);
        self.end();
        let answer = self.message().await?;
        answer.ok_or_else(|| Status::new(Code::Internal, "the call ended without an answer"))
    }

    /// Ready when the service has taken the call: a subscription is live.
    ///
    /// # Errors
    /// When it refused.
    pub fn poll_headers(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.pipe.poll_started(cx)
    }

    /// Waits until the service has taken the call; see [`poll_headers`](Self::poll_headers).
    ///
    /// # Errors
    /// As there.
    pub async fn headers(&mut self) -> Result<(), Status> {
        std::future::poll_fn(|cx| self.poll_headers(cx)).await
    }

    /// The next message; `None` when the call has ended well.
    ///
    /// # Errors
    /// When it ended otherwise.
    pub fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Status>> {
        loop {
            if let Some(message) = self.decoder.next_message()? {
                return Poll::Ready(Ok(Some(message)));
            }
            let between = self.decoder.finish().is_ok();
            match std::task::ready!(self.pipe.poll_chunk(!between, cx)) {
                Ok(Some(chunk)) => {
                    let (prefix, bytes) = chunk.parts();
                    let whole = prefix.len() == super::framing::PREFIX_BYTES;
                    let bytes = bytes.clone();
                    if !whole || !between {
                        let prefix = Bytes::copy_from_slice(prefix);
                        self.decoder.push(prefix);
                        self.decoder.push(bytes.clone());
                    }
                    self.unwritten_bytes += chunk.remaining();
                    self.unwritten.push(chunk);
                    if whole && between {
                        return Poll::Ready(Ok(Some(bytes)));
                    }
                }
                Ok(None) => return Poll::Ready(Ok(None)),
                Err(status) => return Poll::Ready(Err(status)),
            }
        }
    }

    /// Waits for the next message; see [`poll_message`](Self::poll_message).
    ///
    /// # Errors
    /// As there.
    pub async fn message(&mut self) -> Result<Option<Bytes>, Status> {
        std::future::poll_fn(|cx| self.poll_message(cx)).await
    }

    /// All messages that were taken have left in full.
    pub fn written(&mut self) {
        self.unwritten_bytes = 0;
        for mut chunk in self.unwritten.drain(..) {
            let count = chunk.remaining();
            chunk.advance(count);
        }
    }

    /// Bytes of messages that were taken and are not said to be written.
    #[must_use]
    pub fn unwritten(&self) -> usize {
        self.unwritten_bytes
    }
}

impl Drop for LocalCall {
    fn drop(&mut self) {
        self.pipe.reset();
    }
}
