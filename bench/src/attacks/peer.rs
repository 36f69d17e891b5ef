//! One connection of HTTP/2 that does as the attack says.

use std::time::Duration;

use super::socket::Socket;
use super::{Field, Over};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of a frame's head.
const HEAD_BYTES: usize = 9;

/// What the peer grants: nothing that it attacks with waits for that.
const WINDOW_BYTES: u32 = 0x7fff_0000;

pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const PRIORITY: u8 = 2;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
}

pub(crate) mod flag {
    pub(crate) const END_STREAM: u8 = 0x1;
    pub(crate) const ACK: u8 = 0x1;
    pub(crate) const END_HEADERS: u8 = 0x4;
    pub(crate) const PADDED: u8 = 0x8;
}

/// Appends a frame, whatever sense it makes.
pub(crate) fn put(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or_default();
    let [_, high, middle, low] = length.to_be_bytes();
    out.extend_from_slice(&[high, middle, low, kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Appends fields as literals that nobody remembers.
pub(crate) fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0x00);
        for text in [name, value] {
            put_integer(&mut block, 0x00, 7, text.len());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// Appends an integer of HPACK (RFC 7541, 5.1).
pub(crate) fn put_integer(block: &mut Vec<u8>, first: u8, bits: u32, value: usize) {
    let limit = (1_usize << bits) - 1;
    let byte = |value: usize| u8::try_from(value & 0xff).unwrap_or_default();
    if value < limit {
        return block.push(first | byte(value));
    }
    block.push(first | byte(limit));
    let mut rest = value - limit;
    while rest >= 0x80 {
        block.push(byte(rest & 0x7f) | 0x80);
        rest >>= 7;
    }
    block.push(byte(rest));
}

/// The head of a call.
pub(crate) fn call(path: &str) -> Vec<u8> {
    fields(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ])
}

/// A message behind its prefix.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or_default();
    [&[0][..], &length.to_be_bytes(), message].concat()
}

/// A connection whose opening is over.
#[derive(Debug)]
pub(crate) struct Peer<'a> {
    pub(crate) field: &'a Field,
    socket: Socket,
    next_stream: u32,
    input: Vec<u8>,
    /// What may be sent on the connection, and on each new stream.
    window: i64,
    stream_window: i64,
    /// What came back for the stream that is watched: its end, and what it grants.
    watched: u32,
    pub(crate) ended: bool,
    watched_window: i64,
}

impl<'a> Peer<'a> {
    pub(crate) fn greet(
        field: &'a Field,
        mut socket: Socket,
        settings: &[(u16, u32)],
    ) -> Result<Self, Over> {
        let mut hello = PREFACE.to_vec();
        let mut payload = Vec::new();
        for (id, value) in settings {
            payload.extend_from_slice(&id.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        put(&mut hello, kind::SETTINGS, 0, 0, &payload);
        let grant = WINDOW_BYTES.to_be_bytes();
        put(&mut hello, kind::WINDOW_UPDATE, 0, 0, &grant);
        socket.send(field, &hello, false)?;
        Ok(Self {
            field,
            socket,
            next_stream: 1,
            input: Vec::new(),
            window: 65_535,
            stream_window: 65_535,
            watched: 0,
            ended: false,
            watched_window: 0,
        })
    }

    /// The id of the next stream, which is the one that is watched.
    pub(crate) fn next_stream(&mut self) -> Result<u32, Over> {
        let stream = self.next_stream;
        self.next_stream = stream.checked_add(2).ok_or(Over::Refused)?;
        if stream > 0x7fff_fff0 {
            return Err(Over::Refused);
        }
        self.watched = stream;
        self.ended = false;
        self.watched_window = self.stream_window;
        Ok(stream)
    }

    /// Writes bytes as fast as they are taken, and looks at what comes.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), Over> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if let Some(count) = self.socket.write_some(self.field, rest)? {
                rest = rest.get(count..).unwrap_or_default();
            }
            self.take_in()?;
        }
        Ok(())
    }

    /// Writes bytes and reads nothing.
    pub(crate) fn send_deaf(&mut self, bytes: &[u8]) -> Result<(), Over> {
        self.socket.send(self.field, bytes, false)
    }

    /// Opens a call.
    pub(crate) fn open(&mut self, path: &str, flags: u8) -> Result<u32, Over> {
        let stream = self.next_stream()?;
        let mut frame = Vec::new();
        let flags = flags | flag::END_HEADERS;
        put(&mut frame, kind::HEADERS, flags, stream, &call(path));
        self.send(&frame)?;
        Ok(stream)
    }

    /// Sends bytes as DATA of the watched stream, in frames of that size, as the windows allow;
    /// fewer when the broker has ended it.
    pub(crate) fn upload(&mut self, stream: u32, bytes: &[u8], each: usize) -> Result<(), Over> {
        self.field.check()?;
        let mut chunk = Vec::new();
        for piece in bytes.chunks(each) {
            let length = i64::try_from(piece.len()).unwrap_or(i64::MAX);
            if self.window < length || self.watched_window < length {
                self.send(&std::mem::take(&mut chunk))?;
            }
            while self.window < length || self.watched_window < length {
                if self.ended {
                    return Ok(());
                }
                self.wait()?;
            }
            self.window -= length;
            self.watched_window -= length;
            put(&mut chunk, kind::DATA, 0, stream, piece);
            if chunk.len() > 64 << 10 {
                self.send(&std::mem::take(&mut chunk))?;
            }
        }
        self.send(&chunk)
    }

    /// As [`upload`](Self::upload), again and again, while the broker takes it.
    pub(crate) fn keep_uploading(
        &mut self,
        stream: u32,
        bytes: &[u8],
        each: usize,
    ) -> Result<(), Over> {
        while !self.ended {
            self.upload(stream, bytes, each)?;
        }
        Err(Over::Refused)
    }

    /// Lets the other side have its turn.
    pub(crate) fn wait(&mut self) -> Result<(), Over> {
        self.field.check()?;
        self.field.pause(Duration::from_micros(200));
        self.take_in()
    }

    /// Waits until the watched stream has ended.
    pub(crate) fn wait_end(&mut self) -> Result<(), Over> {
        while !self.ended {
            self.wait()?;
        }
        Ok(())
    }

    /// Waits for what comes from now on, for as long.
    pub(crate) fn set_patient(&mut self, patience: Duration) -> Result<(), Over> {
        let set = self.socket.set_patient(patience);
        set.map_err(|_| Over::Refused)
    }

    /// Waits until the watched stream has ended, without a look at anything else. Only for one who
    /// is patient.
    pub(crate) fn wait_answer(&mut self) -> Result<(), Over> {
        while !self.ended {
            if !self.take_some()? {
                return Err(Over::Refused);
            }
        }
        Ok(())
    }

    /// Looks at what has come.
    pub(crate) fn take_in(&mut self) -> Result<(), Over> {
        while self.take_some()? {}
        Ok(())
    }

    /// Reads once; whether there was something.
    fn take_some(&mut self) -> Result<bool, Over> {
        let mut piece = [0; 16 << 10];
        match self.socket.read(&mut piece) {
            Ok(None) => return Ok(false),
            Ok(Some(0)) | Err(_) => return Err(Over::Refused),
            Ok(Some(count)) => {
                let read = piece.get(..count).unwrap_or_default();
                self.input.extend_from_slice(read);
            }
        }
        self.frames()?;
        Ok(true)
    }

    fn frames(&mut self) -> Result<(), Over> {
        let input = std::mem::take(&mut self.input);
        let mut rest = input.as_slice();
        while let Some((head, after)) = rest.split_first_chunk::<HEAD_BYTES>() {
            let [high, middle, low, kind, flags, a, b, c, d] = *head;
            let length = u32::from_be_bytes([0, high, middle, low]);
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let Some((payload, after)) = after.split_at_checked(length) else {
                break;
            };
            rest = after;
            let stream = u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff;
            self.frame(kind, flags, stream, payload)?;
        }
        self.input = rest.to_vec();
        Ok(())
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<(), Over> {
        let number = payload
            .first_chunk::<4>()
            .map_or(0, |bytes| i64::from(u32::from_be_bytes(*bytes)));
        match kind {
            kind::DATA | kind::HEADERS if stream == self.watched => {
                self.ended |= flags & flag::END_STREAM != 0;
            }
            kind::RST_STREAM if stream == self.watched => self.ended = true,
            kind::SETTINGS if flags & flag::ACK == 0 => self.settings(payload),
            kind::WINDOW_UPDATE if stream == 0 => self.window += number,
            kind::WINDOW_UPDATE if stream == self.watched => self.watched_window += number,
            kind::GOAWAY => return Err(Over::Refused),
            kind::PING if flags & flag::ACK == 0 => {
                let mut answer = Vec::new();
                put(&mut answer, kind::PING, flag::ACK, 0, payload);
                self.send_deaf(&answer)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn settings(&mut self, payload: &[u8]) {
        let (entries, _) = payload.as_chunks::<6>();
        for [a, b, c, d, e, f] in entries {
            if u16::from_be_bytes([*a, *b]) == 4 {
                let window = i64::from(u32::from_be_bytes([*c, *d, *e, *f]));
                self.watched_window += window - self.stream_window;
                self.stream_window = window;
            }
        }
    }
}
