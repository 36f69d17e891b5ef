//! One HTTP/2 connection of the mock peer.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::frame::{Frame, PREFACE, be_u32, flag, kind, setting};
use super::hpack::{self, Fields};

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Window that the peer grants for each stream and for the connection.
const WINDOW_BYTES: u32 = 1 << 20;
const DATA_FRAME_BYTES_MAX: usize = 16 * 1024;
const READ_CHUNK_BYTES: usize = 64 * 1024;

/// How the broker ended the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// End of file.
    Closed,
    /// TCP reset.
    Reset,
}

/// A GOAWAY that came in.
#[derive(Clone, Debug)]
pub(crate) struct Goaway {
    pub(crate) code: u32,
    pub(crate) debug: String,
}

/// What became of a flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flooded {
    /// Everything was taken.
    Taken,
    /// The broker stopped reading: back-pressure.
    Stalled,
    /// The broker ended the connection.
    Refused,
}

/// What came back on one stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) headers: Option<Fields>,
    pub(crate) trailers: Option<Fields>,
    pub(crate) reset: Option<u32>,
    /// The broker has ended its side.
    pub(crate) ended: bool,
    data: Vec<u8>,
    ungranted_bytes: u32,
}

impl Reply {
    /// The `grpc-status`, as its number.
    pub(crate) fn grpc_status(&self) -> Option<u32> {
        self.trailers.as_ref()?.get("grpc-status")?.parse().ok()
    }

    pub(crate) fn grpc_message(&self) -> &str {
        self.trailers
            .as_ref()
            .and_then(|t| t.get("grpc-message"))
            .unwrap_or_default()
    }

    pub(crate) fn http_status(&self) -> Option<&str> {
        self.headers.as_ref()?.get(":status")
    }

    /// Takes the next whole gRPC message.
    pub(crate) fn take_message(&mut self) -> Option<Vec<u8>> {
        let (prefix, rest) = self.data.split_at_checked(5)?;
        let length = be_u32(&prefix[1..5]) as usize;
        let message = rest.get(..length)?.to_vec();
        self.data.drain(..5 + length);
        Some(message)
    }
}

/// The connection. Whatever it does wrong, a test asked for.
#[derive(Debug)]
pub(crate) struct Peer {
    socket: TcpStream,
    input: Vec<u8>,
    input_taken: usize,
    decoder: hpack::Decoder,
    header_block: Option<(u32, bool, Vec<u8>)>,
    next_stream: u32,
    replies: HashMap<u32, Reply>,
    ungranted_bytes: u32,
    connection_window: i64,
    stream_windows: HashMap<u32, i64>,
    /// What the broker announced.
    pub(crate) settings: HashMap<u16, u32>,
    pub(crate) goaway: Option<Goaway>,
    pub(crate) ended: Option<Ended>,
    /// Pings of ours that were answered.
    pub(crate) pongs: usize,
    /// Grants new windows for what was read.
    pub(crate) replenishes: bool,
    /// Answers pings of the broker.
    pub(crate) answers_pings: bool,
}

impl Peer {
    /// Connects without saying anything.
    pub(crate) fn silent(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).expect("the broker listens"))
    }

    fn over(socket: TcpStream) -> Self {
        socket.set_nodelay(true).expect("a TCP socket");
        socket
            .set_write_timeout(Some(Duration::from_secs(10)))
            .expect("not zero");
        Self {
            socket,
            input: Vec::new(),
            input_taken: 0,
            decoder: hpack::Decoder::default(),
            header_block: None,
            next_stream: 1,
            replies: HashMap::new(),
            ungranted_bytes: 0,
            connection_window: 65_535,
            stream_windows: HashMap::new(),
            settings: HashMap::new(),
            goaway: None,
            ended: None,
            pongs: 0,
            replenishes: true,
            answers_pings: true,
        }
    }

    /// Connects and exchanges settings; `None` when nobody listens any more, or not for long.
    pub(crate) fn try_connect(address: SocketAddr) -> Option<Self> {
        let socket = TcpStream::connect(address).ok()?;
        let mut peer = Self::over(socket);
        let greeted = peer.greet_with(&[(setting::INITIAL_WINDOW_SIZE, WINDOW_BYTES)]);
        (greeted && peer.wait(|peer| !peer.settings.is_empty())).then_some(peer)
    }

    /// Connects and exchanges settings.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::connect_with(address, &[(setting::INITIAL_WINDOW_SIZE, WINDOW_BYTES)])
    }

    /// Connects with settings of the test's choice.
    pub(crate) fn connect_with(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut peer = Self::silent(address);
        assert!(peer.greet_with(settings), "the broker takes the preface");
        assert!(
            peer.wait(|p| !p.settings.is_empty()),
            "the broker sends its settings: {peer:?}"
        );
        peer
    }

    /// Sends the preface; false when the connection is gone.
    pub(crate) fn greet(&mut self) -> bool {
        self.greet_with(&[])
    }

    fn greet_with(&mut self, settings: &[(u16, u32)]) -> bool {
        let mut hello = PREFACE.to_vec();
        Frame::settings(settings).encode(&mut hello);
        Frame::window_update(0, WINDOW_BYTES).encode(&mut hello);
        self.write(&hello)
    }

    /// Writes bytes; false when the connection is gone.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> bool {
        self.socket.write_all(bytes).is_ok()
    }

    pub(crate) fn send(&mut self, frame: &Frame) -> bool {
        self.write(&frame.to_bytes())
    }

    /// Writes `chunk` again and again. With `reads`, it takes in the answers in between.
    pub(crate) fn flood(&mut self, chunk: &[u8], times: usize, reads: bool) -> Flooded {
        let timeout = Some(Duration::from_secs(2));
        self.socket.set_write_timeout(timeout).expect("not zero");
        for _ in 0..times {
            match self.socket.write_all(chunk) {
                Ok(()) => {}
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Flooded::Stalled;
                }
                Err(_) => return Flooded::Refused,
            }
            if reads {
                self.wait_for(Duration::ZERO, |p| p.goaway.is_some());
                if self.goaway.is_some() || self.ended.is_some() {
                    return Flooded::Refused;
                }
            }
        }
        Flooded::Taken
    }

    /// The fields of a well-formed call.
    pub(crate) fn call_fields(path: &str) -> Vec<(&str, &str)> {
        vec![
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ]
    }

    /// The id of the next stream.
    pub(crate) fn next_stream(&mut self) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        stream
    }

    /// Opens a call.
    pub(crate) fn open(&mut self, path: &str) -> u32 {
        self.open_with(&Self::call_fields(path), false)
    }

    pub(crate) fn open_with(&mut self, fields: &[(&str, &str)], end_stream: bool) -> u32 {
        let stream = self.next_stream();
        self.send(&Frame::headers(stream, hpack::encode(fields), end_stream));
        stream
    }

    /// Sends a gRPC message as the windows allow; false when the connection is gone.
    pub(crate) fn send_message(&mut self, stream: u32, message: &[u8], end_stream: bool) -> bool {
        self.send_framed(stream, &grpc_framed(message), end_stream)
    }

    /// Sends bytes that have their gRPC prefixes, as the windows allow.
    pub(crate) fn send_framed(&mut self, stream: u32, framed: &[u8], end_stream: bool) -> bool {
        let mut chunks = framed.chunks(DATA_FRAME_BYTES_MAX).peekable();
        while let Some(chunk) = chunks.next() {
            if !self.reserve(stream, chunk.len()) {
                return false;
            }
            if !self.send(&Frame::data(
                stream,
                chunk,
                end_stream && chunks.peek().is_none(),
            )) {
                return false;
            }
        }
        true
    }

    /// Whether the windows allow so much now.
    pub(crate) fn can_send(&mut self, stream: u32, bytes: usize) -> bool {
        let bytes = i64::try_from(bytes).expect("a length in memory");
        self.connection_window >= bytes && *self.stream_window(stream) >= bytes
    }

    /// Waits until the windows allow so much at once, and takes it from them: for a test that
    /// writes frames of its own. False when they do not open, or the connection is gone.
    pub(crate) fn reserve(&mut self, stream: u32, bytes: usize) -> bool {
        let opened = self.wait(|p| p.can_send(stream, bytes));
        if opened {
            let bytes = i64::try_from(bytes).expect("a length in memory");
            self.connection_window -= bytes;
            *self.stream_window(stream) -= bytes;
        }
        opened
    }

    fn stream_window(&mut self, stream: u32) -> &mut i64 {
        let initial = self
            .settings
            .get(&setting::INITIAL_WINDOW_SIZE)
            .copied()
            .unwrap_or(65_535);
        self.stream_windows
            .entry(stream)
            .or_insert(i64::from(initial))
    }

    /// Opens a call with one message and ends our side: a unary call or a subscription.
    pub(crate) fn call(&mut self, path: &str, message: &[u8]) -> u32 {
        let stream = self.open(path);
        self.send_message(stream, message, true);
        stream
    }

    /// A call and its whole answer.
    pub(crate) fn unary(&mut self, path: &str, message: &[u8]) -> Reply {
        let stream = self.call(path, message);
        self.finish(stream)
    }

    /// Subscribes and waits for the response headers: the subscription is active.
    pub(crate) fn subscribe(&mut self, path: &str, message: &[u8]) -> u32 {
        let stream = self.call(path, message);
        assert!(
            self.wait(|p| p.reply(stream).headers.is_some()),
            "headers come at once: {self:?}"
        );
        assert!(
            !self.reply(stream).ended,
            "the subscription stays: {:?}",
            self.reply(stream)
        );
        stream
    }

    pub(crate) fn reply(&mut self, stream: u32) -> &mut Reply {
        self.replies.entry(stream).or_default()
    }

    /// Waits until the broker has ended the stream; takes its reply.
    pub(crate) fn finish(&mut self, stream: u32) -> Reply {
        let ended = self.wait(|p| p.reply(stream).ended);
        assert!(
            ended,
            "stream {stream} ends; connection {:?}, {:?}",
            self.ended, self.goaway
        );
        self.stream_windows.remove(&stream);
        self.replies.remove(&stream).unwrap_or_default()
    }

    /// Waits for the next message of a stream.
    pub(crate) fn next_message(&mut self, stream: u32) -> Option<Vec<u8>> {
        let mut message = None;
        self.wait(|p| {
            message = p.reply(stream).take_message();
            message.is_some() || p.reply(stream).ended
        });
        message
    }

    /// Waits until the broker has ended the connection or said that it will.
    pub(crate) fn wait_refused(&mut self, patience: Duration) -> bool {
        self.wait_for(patience, |p| p.goaway.is_some()) || self.ended.is_some()
    }

    pub(crate) fn wait(&mut self, condition: impl FnMut(&mut Self) -> bool) -> bool {
        self.wait_for(PATIENCE, condition)
    }

    /// Takes frames in until the condition holds, the connection ends, or time is up. The
    /// condition's last answer.
    pub(crate) fn wait_for(
        &mut self,
        patience: Duration,
        mut condition: impl FnMut(&mut Self) -> bool,
    ) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            if condition(self) {
                return true;
            }
            if let Some((frame, length)) =
                Frame::decode(self.input.get(self.input_taken..).unwrap_or_default())
            {
                self.input_taken += length;
                self.take_in(&frame);
            } else if self.ended.is_some() || !self.fill(deadline) {
                return false;
            }
        }
    }

    /// Reads once; false at the deadline.
    fn fill(&mut self, deadline: Instant) -> bool {
        self.input.drain(..self.input_taken);
        self.input_taken = 0;
        let left = deadline.saturating_duration_since(Instant::now());
        // The kernel rounds a timeout up to its tick: with no time left, don't wait at all.
        if left.is_zero() {
            self.socket.set_nonblocking(true).expect("a TCP socket");
        } else {
            self.socket.set_read_timeout(Some(left)).expect("not zero");
        }
        let filled = self.input.len();
        self.input.resize(filled + READ_CHUNK_BYTES, 0);
        let outcome = self.socket.read(&mut self.input[filled..]);
        if left.is_zero() {
            self.socket.set_nonblocking(false).expect("a TCP socket");
        }
        self.input
            .truncate(filled + outcome.as_ref().copied().unwrap_or(0));
        match outcome {
            Ok(0) => self.ended = Some(Ended::Closed),
            Ok(_) => {}
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return false;
            }
            Err(_) => self.ended = Some(Ended::Reset),
        }
        true
    }

    fn take_in(&mut self, frame: &Frame) {
        match frame.kind {
            kind::DATA => self.take_data(frame),
            kind::HEADERS => self.take_headers(frame),
            kind::CONTINUATION => self.take_continuation(frame),
            kind::RST_STREAM => {
                let reply = self.reply(frame.stream);
                reply.reset = Some(be_u32(&frame.payload));
                reply.ended = true;
            }
            kind::SETTINGS if !frame.has(flag::ACK) => self.take_settings(frame),
            kind::PING if frame.has(flag::ACK) => self.pongs += 1,
            kind::PING if self.answers_pings => {
                self.send(&Frame::ping_ack(&frame.payload));
            }
            kind::GOAWAY => {
                let debug = frame.payload.get(8..).unwrap_or_default();
                let debug = String::from_utf8_lossy(debug).into_owned();
                self.goaway = Some(Goaway {
                    code: be_u32(&frame.payload[4..8]),
                    debug,
                });
            }
            kind::WINDOW_UPDATE => {
                let increment = i64::from(be_u32(&frame.payload));
                if frame.stream == 0 {
                    self.connection_window += increment;
                } else {
                    *self.stream_window(frame.stream) += increment;
                }
            }
            _ => {}
        }
    }

    fn take_settings(&mut self, frame: &Frame) {
        let before = self
            .settings
            .get(&setting::INITIAL_WINDOW_SIZE)
            .copied()
            .unwrap_or(65_535);
        self.settings.extend(frame.settings_values());
        let after = self
            .settings
            .get(&setting::INITIAL_WINDOW_SIZE)
            .copied()
            .unwrap_or(65_535);
        for window in self.stream_windows.values_mut() {
            *window += i64::from(after) - i64::from(before);
        }
        self.send(&Frame::settings_ack());
    }

    fn take_data(&mut self, frame: &Frame) {
        let bytes = u32::try_from(frame.payload.len()).expect("a frame's length");
        let replenishes = self.replenishes;
        self.ungranted_bytes += bytes;
        let reply = self.reply(frame.stream);
        reply.data.extend_from_slice(&frame.payload);
        reply.ended |= frame.has(flag::END_STREAM);
        reply.ungranted_bytes += bytes;
        let mut grants = Vec::new();
        if replenishes && reply.ungranted_bytes >= WINDOW_BYTES / 4 {
            let grant = std::mem::take(&mut reply.ungranted_bytes);
            Frame::window_update(frame.stream, grant).encode(&mut grants);
        }
        // The connection's window is at least the initial 65,535 bytes.
        if replenishes && self.ungranted_bytes >= 16 * 1024 {
            let grant = std::mem::take(&mut self.ungranted_bytes);
            Frame::window_update(0, grant).encode(&mut grants);
        }
        if !grants.is_empty() {
            self.write(&grants);
        }
    }

    fn take_headers(&mut self, frame: &Frame) {
        let mut block = frame.payload.as_slice();
        if frame.flags & flag::PADDED != 0 {
            let padding = usize::from(block[0]);
            block = &block[1..block.len() - padding];
        }
        if frame.flags & flag::PRIORITY != 0 {
            block = &block[5..];
        }
        let ends = frame.flags & flag::END_STREAM != 0;
        self.header_block = Some((frame.stream, ends, block.to_vec()));
        if frame.flags & flag::END_HEADERS != 0 {
            self.finish_headers();
        }
    }

    fn take_continuation(&mut self, frame: &Frame) {
        if let Some((_, _, block)) = &mut self.header_block {
            block.extend_from_slice(&frame.payload);
        }
        if frame.has(flag::END_HEADERS) {
            self.finish_headers();
        }
    }

    fn finish_headers(&mut self) {
        let Some((stream, ends, block)) = self.header_block.take() else {
            return;
        };
        let fields = self
            .decoder
            .decode(&block)
            .expect("the broker's header blocks are HPACK");
        let reply = self.reply(stream);
        if ends {
            reply.trailers = Some(fields.clone());
        }
        if reply.headers.is_none() {
            reply.headers = Some(fields);
        }
        reply.ended |= ends;
    }

    /// Vanishes with a TCP reset, as a killed machine's connection does in the end.
    pub(crate) fn vanish(self) {
        let linger = Some(Duration::ZERO);
        socket2::SockRef::from(&self.socket)
            .set_linger(linger)
            .expect("a TCP socket");
    }
}

/// A message behind its gRPC prefix.
pub(crate) fn grpc_framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a message fits its prefix");
    let mut out = Vec::with_capacity(5 + message.len());
    out.push(0);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(message);
    out
}
