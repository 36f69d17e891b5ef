//! The sending half of a stream, with our own account of what waits in it.
//!
//! h2 grants capacity out of the connection's window; a stream that asks for more than it sends at
//! once starves the others. So we ask for nothing: what is handed to h2 asks for itself, and this
//! account bounds how much is handed over. The account also knows what has gone on to the socket's
//! buffer, which h2 does not tell.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use h2::SendStream;
use http::{HeaderMap, HeaderValue};

use crate::wire::framing::PREFIX_BYTES;
use crate::wire::local::Pipe;
use crate::wire::status::{Code, GRPC_MESSAGE, GRPC_RETRY_PUSHBACK_MS, GRPC_STATUS, Status};

/// The other side is gone: the call was reset, or the connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer is gone")]
pub struct Gone;

/// Below this a stream may always send, however much the connection's other streams hold.
const STREAM_FLOOR_BYTES: usize = 16 << 10;

/// What all streams of a connection have handed to h2 and h2 has not yet written.
#[derive(Debug, Default)]
pub(crate) struct ConnectionOutput {
    /// Data of streams that wait for capacity.
    pub(crate) streams_bytes: Cell<usize>,
    /// Data of unary answers, which do not wait.
    pub(crate) answers_bytes: Cell<usize>,
}

/// Limits of one connection's output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutputLimits {
    /// What one stream may hold.
    pub(crate) stream_bytes_max: usize,
    /// Above this sum each stream may hold no more than the floor.
    pub(crate) connection_bytes_max: usize,
}

/// The account of one stream.
#[derive(Debug)]
pub(crate) struct Account {
    /// Bytes handed over and bytes that went on, since the stream began.
    sent: Cell<u64>,
    written: Cell<u64>,
    /// The waiting task, and how little must be buffered before it is woken.
    waiter: RefCell<Option<Waker>>,
    wake_at_bytes: Cell<usize>,
    /// How much must be written before it is woken, whatever is buffered.
    wake_at_written: Cell<u64>,
    /// Some of what was handed over was thrown away: the stream was reset, or the connection died.
    lost: Cell<bool>,
    output: Rc<ConnectionOutput>,
    sort: Sort,
}

/// What a stream carries: its bytes are counted with those of its sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    /// Messages, as long as the call lives.
    Stream,
    /// One answer.
    Answer,
}

impl Account {
    /// What streams of this sort hold on this connection.
    fn pool(&self) -> &Cell<usize> {
        match self.sort {
            Sort::Stream => &self.output.streams_bytes,
            Sort::Answer => &self.output.answers_bytes,
        }
    }

    fn buffered(&self) -> usize {
        usize::try_from(self.sent.get() - self.written.get()).unwrap_or(usize::MAX)
    }

    fn went_on(&self, count: usize) {
        self.written.set(self.written.get() + count as u64);
        let pool = self.pool();
        pool.set(pool.get().saturating_sub(count));
        let reached = self.written.get() >= self.wake_at_written.get();
        if reached {
            self.wake_at_written.set(u64::MAX);
        }
        if reached || self.buffered() <= self.wake_at_bytes.get() {
            self.wake();
        }
    }

    fn register(&self, cx: &Context<'_>) {
        let mut waiter = self.waiter.borrow_mut();
        match waiter.as_ref() {
            Some(known) if known.will_wake(cx.waker()) => {}
            _ => *waiter = Some(cx.waker().clone()),
        }
    }

    fn wake(&self) {
        if let Some(waiter) = self.waiter.borrow_mut().take() {
            waiter.wake();
        }
    }
}

/// Who is told when a chunk's bytes go on.
#[derive(Debug)]
enum Owner {
    Stream(Rc<Account>),
    Answer(Rc<ConnectionOutput>),
}

/// What we hand to h2: bytes, perhaps behind a message prefix, that report their progress.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// The prefix's unwritten bytes are its last `prefix_left`.
    prefix: [u8; PREFIX_BYTES],
    prefix_left: u8,
    bytes: Bytes,
    owner: Owner,
}

impl Chunk {
    /// The data of a unary answer.
    pub(crate) fn answer(output: &Rc<ConnectionOutput>, bytes: Bytes, framed: bool) -> Self {
        let owner = Owner::Answer(Rc::clone(output));
        let chunk = Self::new(owner, bytes, framed);
        let answers = &output.answers_bytes;
        answers.set(answers.get() + chunk.remaining());
        chunk
    }

    fn stream(account: &Rc<Account>, bytes: Bytes, framed: bool) -> Self {
        let chunk = Self::new(Owner::Stream(Rc::clone(account)), bytes, framed);
        let count = chunk.remaining();
        account.sent.set(account.sent.get() + count as u64);
        let pool = account.pool();
        pool.set(pool.get() + count);
        chunk
    }

    fn new(owner: Owner, bytes: Bytes, framed: bool) -> Self {
        if framed {
            return Self {
                prefix: [0; PREFIX_BYTES],
                prefix_left: 0,
                bytes,
                owner,
            };
        }
        let prefix = crate::wire::framing::prefix(bytes.len());
        Self {
            prefix,
            prefix_left: 5,
            bytes,
            owner,
        }
    }

    /// What is left of the prefix, and the bytes behind it.
    pub(crate) fn parts(&self) -> (&[u8], &Bytes) {
        let prefix = match self.prefix_left {
            0 => &[],
            _ => self.chunk(),
        };
        (prefix, &self.bytes)
    }

    fn went_on(&self, count: usize) {
        match &self.owner {
            Owner::Stream(account) => account.went_on(count),
            Owner::Answer(output) => {
                let answers = &output.answers_bytes;
                answers.set(answers.get().saturating_sub(count));
            }
        }
    }
}

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        usize::from(self.prefix_left) + self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        if self.prefix_left == 0 {
            return &self.bytes;
        }
        let start = PREFIX_BYTES.saturating_sub(usize::from(self.prefix_left));
        self.prefix.get(start..).unwrap_or_default()
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [std::io::IoSlice<'a>]) -> usize {
        let mut count = 0;
        let mut slices = slices.iter_mut();
        for part in [
            if self.prefix_left == 0 {
                &[]
            } else {
                self.chunk()
            },
            &self.bytes,
        ] {
            if part.is_empty() {
                continue;
            }
            let Some(slice) = slices.next() else { break };
            *slice = std::io::IoSlice::new(part);
            count += 1;
        }
        count
    }

    fn advance(&mut self, count: usize) {
        let of_prefix = count.min(usize::from(self.prefix_left));
        self.prefix_left -= u8::try_from(of_prefix).unwrap_or(self.prefix_left);
        self.bytes.advance(count - of_prefix);
        self.went_on(count);
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // What is left of a chunk when it goes was thrown away with its stream.
        let lost = self.remaining();
        if lost > 0 {
            if let Owner::Stream(account) = &self.owner {
                account.lost.set(true);
            }
            self.went_on(lost);
            if let Owner::Stream(account) = &self.owner {
                account.wake();
            }
        }
    }
}

/// Where what is sent goes.
#[derive(Debug)]
pub(crate) enum Sink {
    /// To a stream of HTTP/2.
    Stream(SendStream<Chunk>),
    /// To a caller inside the process.
    Local(Rc<Pipe>),
}

impl Sink {
    fn send(&mut self, chunk: Chunk) -> Result<(), Gone> {
        match self {
            Self::Stream(stream) => stream.send_data(chunk, false).map_err(|_| Gone),
            Self::Local(pipe) => pipe.answer(chunk),
        }
    }
}

/// The sending half of a stream.
#[derive(Debug)]
pub(crate) struct Outlet {
    sink: Sink,
    account: Rc<Account>,
    limits: OutputLimits,
}

impl Outlet {
    pub(crate) fn new(
        sink: Sink,
        output: &Rc<ConnectionOutput>,
        limits: OutputLimits,
        sort: Sort,
    ) -> Self {
        let account = Account {
            sent: Cell::new(0),
            written: Cell::new(0),
            waiter: RefCell::new(None),
            wake_at_bytes: Cell::new(0),
            wake_at_written: Cell::new(u64::MAX),
            lost: Cell::new(false),
            output: Rc::clone(output),
            sort,
        };
        Self {
            sink,
            account: Rc::new(account),
            limits,
        }
    }

    /// Bytes that may be handed over now, at least one.
    pub(crate) fn poll_capacity(
        &mut self,
        want: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, Gone>> {
        if let Sink::Local(pipe) = &self.sink
            && pipe.poll_starves(cx).is_ready()
        {
            return Poll::Ready(Ok(want.max(1)));
        }
        let buffered = self.account.buffered();
        let crowded = self.account.output.streams_bytes.get() >= self.limits.connection_bytes_max;
        let limit = if crowded {
            STREAM_FLOOR_BYTES.min(self.limits.stream_bytes_max)
        } else {
            self.limits.stream_bytes_max
        };
        if buffered < limit {
            return Poll::Ready(Ok((limit - buffered).min(want.max(1))));
        }
        // The wait ends when the stream is reset, too.
        if self.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(Gone));
        }
        // Half, not the first byte: small refills would undo the batching.
        self.account.wake_at_bytes.set(limit / 2);
        self.account.register(cx);
        Poll::Pending
    }

    /// Ready when `count` bytes have been written towards the socket since the beginning.
    pub(crate) fn poll_written(&self, count: u64, cx: &Context<'_>) -> Poll<()> {
        if self.account.written.get() >= count {
            return Poll::Ready(());
        }
        self.account.wake_at_written.set(count);
        self.account.register(cx);
        Poll::Pending
    }

    /// Ready when all that was handed over has been written towards the socket.
    ///
    /// # Errors
    /// [`Gone`]: some of it never will be.
    pub(crate) fn poll_all_written(&self, cx: &Context<'_>) -> Poll<Result<(), Gone>> {
        if self.account.lost.get() {
            return Poll::Ready(Err(Gone));
        }
        self.poll_written(self.account.sent.get(), cx).map(Ok)
    }

    /// Hands data over; more than the granted capacity is taken, too, and counts.
    pub(crate) fn send(&mut self, bytes: Bytes, framed: bool) -> Result<(), Gone> {
        let chunk = Chunk::stream(&self.account, bytes, framed);
        self.sink.send(chunk)
    }

    /// Ends a call with its outcome.
    pub(crate) fn finish_with(&mut self, status: Status) -> Result<(), Gone> {
        match &mut self.sink {
            Sink::Stream(stream) => stream.send_trailers(trailers(status)).map_err(|_| Gone),
            Sink::Local(pipe) => pipe.finish(status),
        }
    }

    /// Ends this half.
    pub(crate) fn finish(&mut self) -> Result<(), Gone> {
        match &mut self.sink {
            Sink::Stream(stream) => {
                let chunk = Chunk::stream(&self.account, Bytes::new(), true);
                stream.send_data(chunk, true).map_err(|_| Gone)
            }
            Sink::Local(pipe) => pipe.finish(Status::OK),
        }
    }

    /// Ready when the other side has reset the stream, or the connection is dead.
    pub(crate) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.sink {
            Sink::Stream(stream) => stream.poll_reset(cx).map(|_| ()),
            Sink::Local(pipe) => pipe.poll_reset(cx),
        }
    }

    /// Resets the stream as cancelled.
    pub(crate) fn cancel(&mut self) {
        if let Sink::Stream(stream) = &mut self.sink {
            stream.send_reset(h2::Reason::CANCEL);
        }
    }

    /// Bytes handed over and not yet written towards the socket.
    pub(crate) fn buffered(&self) -> usize {
        self.account.buffered()
    }

    /// Bytes handed over since the beginning.
    pub(crate) fn sent(&self) -> u64 {
        self.account.sent.get()
    }

    /// Bytes written towards the socket (or thrown away by a reset) since the beginning.
    pub(crate) fn written(&self) -> u64 {
        self.account.written.get()
    }
}

/// The trailers of a call that ended so.
pub(crate) fn trailers(status: Status) -> HeaderMap {
    if status.is_ok() {
        let mut trailers = HeaderMap::with_capacity(1);
        trailers.insert(GRPC_STATUS, Code::Ok.header_value());
        return trailers;
    }
    let mut trailers = HeaderMap::with_capacity(2);
    add_status(&mut trailers, status);
    trailers
}

/// Adds code and text to headers.
pub(crate) fn add_status(headers: &mut HeaderMap<HeaderValue>, status: Status) {
    headers.insert(GRPC_STATUS, status.code().header_value());
    if let Some(after) = status.retry_after() {
        let ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        headers.insert(GRPC_RETRY_PUSHBACK_MS, ms.into());
    }
    if let Some(message) = status.into_message_header_value() {
        headers.insert(GRPC_MESSAGE, message);
    }
}
