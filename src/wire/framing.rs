//! gRPC messages in DATA frames: one flag byte, four bytes of length (big-endian), the message.

mod gather;
mod gzip;

use std::rc::Rc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::wire::chunks;
use crate::wire::status::{Code, Status};

pub use gather::GatherLimit;

pub(crate) use gather::Held;

use gather::InChunk;

/// Length of the prefix of a message.
pub const PREFIX_BYTES: usize = 5;

/// The default limit of one message: 100 MiB, as KubeMQ has it.
pub const MESSAGE_BYTES_MAX: usize = 104_857_600;

/// A message that spans chunks starts with this much memory, or twice what of it is here; after
/// that its buffer doubles with what has arrived. Neither a prefix nor a byte of the message makes
/// us take more: a connection may have thousands of them.
const GATHER_START_BYTES: usize = 256;

/// What has this much here gets the rest of its memory at once.
const GATHER_WHOLE_BYTES: usize = 1 << 20;

/// Writes the prefix of an uncompressed message of `length` bytes.
///
/// # Panics
/// When the length does not fit into the prefix (4 GiB); limits of messages are far below.
#[must_use]
pub fn prefix(length: usize) -> [u8; PREFIX_BYTES] {
    let length = u32::try_from(length).expect("message limits are far below 4 GiB");
    let [a, b, c, d] = length.to_be_bytes();
    [0, a, b, c, d]
}

/// Appends a message with its prefix.
///
/// # Panics
/// When the message is longer than 4 GiB.
pub fn frame(message: &[u8], out: &mut BytesMut) {
    out.reserve(PREFIX_BYTES + message.len());
    out.put_slice(&prefix(message.len()));
    out.put_slice(message);
}

/// How the peer compresses its messages, from `grpc-encoding`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// No header, or `identity`.
    Identity,
    /// `gzip`.
    Gzip,
    /// Any other: refused when a message uses it.
    Unsupported(Box<str>),
}

impl Encoding {
    /// Reads the value of the header.
    #[must_use]
    pub fn from_header(value: Option<&str>) -> Self {
        match value {
            None | Some("" | "identity") => Self::Identity,
            Some("gzip") => Self::Gzip,
            Some(other) => Self::Unsupported(other.into()),
        }
    }
}

/// Cuts DATA chunks into messages.
///
/// A message that lies whole in a chunk is a slice of it, without a copy; one that spans chunks is
/// gathered. After an error the decoder answers the same error for ever: the framing is lost.
#[derive(Debug)]
pub struct MessageDecoder {
    /// The rest of the last chunk. Everything before it was consumed.
    chunk: Bytes,
    /// A prefix that is split between chunks, and how much of it is here.
    prefix: [u8; PREFIX_BYTES],
    prefix_length: usize,
    gathering: Option<Gathering>,
    /// A compressed message that is not whole yet.
    inflating: Option<Box<gzip::Inflater>>,
    /// Bytes that were inflated since the core last did other work.
    inflated: usize,
    /// What the message that was given last counts for, until the next one is asked for.
    held: Option<Held>,
    limit_bytes: usize,
    gather_limit: Rc<GatherLimit>,
    encoding: Encoding,
    /// Boxed: it is rare, and calls are moved around.
    failed: Option<Box<Status>>,
}

#[derive(Debug)]
struct Gathering {
    compressed: bool,
    missing: usize,
    body: BytesMut,
    /// Set when the body is a chunk of the executor's stock.
    in_chunk: Option<InChunk>,
    /// What of it counts against the limit: what it began with, and what arrives beyond that. The
    /// memory is never more than twice as much.
    held: Held,
}

impl Gathering {
    /// Adds a piece; false when the connection holds too much.
    fn add(&mut self, piece: &[u8]) -> bool {
        let arrived = self.body.len() + piece.len();
        let more = arrived.saturating_sub(self.held.bytes());
        if more > 0 && !self.held.take(more) {
            return false;
        }
        let body = &mut self.body;
        if body.capacity() - body.len() < piece.len() {
            let more = match body.len() >= GATHER_WHOLE_BYTES {
                // To move so much would take too long: memory that nobody has touched costs none.
                true => self.missing,
                // Doubling, but never past the end of the message.
                false => self.missing.min(body.len().max(piece.len())),
            };
            body.reserve(more);
        }
        body.put_slice(piece);
        self.missing -= piece.len();
        true
    }
}

impl MessageDecoder {
    /// Makes a decoder that refuses messages longer than `limit_bytes`, also once inflated, and
    /// those for which the connection has no room left.
    #[must_use]
    pub const fn new(
        limit_bytes: usize,
        gather_limit: Rc<GatherLimit>,
        encoding: Encoding,
    ) -> Self {
        Self {
            chunk: Bytes::new(),
            prefix: [0; PREFIX_BYTES],
            prefix_length: 0,
            gathering: None,
            inflating: None,
            inflated: 0,
            held: None,
            limit_bytes,
            gather_limit,
            encoding,
            failed: None,
        }
    }

    /// Hands in the next chunk. Call it when [`next_message`](Self::next_message) has answered
    /// `None`, not before.
    pub fn push(&mut self, chunk: Bytes) {
        debug_assert!(
            self.chunk.is_empty(),
            "the last chunk is consumed before the next"
        );
        self.chunk = chunk;
    }

    /// The next whole message; `None` when more data is needed, or more time
    /// ([`is_inflating`](Self::is_inflating)). The message before it counts no longer against the
    /// limit of the connection.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` above the limit, `UNIMPLEMENTED` for an unknown compression,
    /// `INTERNAL` for broken framing.
    pub fn next_message(&mut self) -> Result<Option<Bytes>, Status> {
        if let Some(failed) = &self.failed {
            return Err(Status::clone(failed));
        }
        self.held = None;
        let result = self.advance();
        if let Err(status) = &result {
            self.failed = Some(Box::new(status.clone()));
            self.chunk = Bytes::new();
            self.gathering = None;
            self.inflating = None;
        }
        result
    }

    /// Whether the next message is all here and is still to be inflated, it or a part of it: ask
    /// for it again once the core has done other work.
    #[must_use]
    pub const fn is_inflating(&self) -> bool {
        self.inflating.is_some()
    }

    /// What the message that was given last counts for, for whoever keeps it while asking for the
    /// next.
    pub(crate) const fn take_held(&mut self) -> Option<Held> {
        self.held.take()
    }

    /// Checks that the peer did not stop inside a message.
    ///
    /// # Errors
    /// `INTERNAL` when it did.
    pub fn finish(&self) -> Result<(), Status> {
        let inside = self.gathering.is_some()
            || self.is_inflating()
            || self.prefix_length > 0
            || !self.chunk.is_empty();
        if inside && self.failed.is_none() {
            return Err(Status::new(Code::Internal, "unexpected EOF"));
        }
        Ok(())
    }

    fn advance(&mut self) -> Result<Option<Bytes>, Status> {
        if self.inflating.is_some() {
            return self.inflate();
        }
        if self.gathering.is_some() {
            return self.gather();
        }
        let Some((compressed, length)) = self.take_prefix()? else {
            return Ok(None);
        };
        if self.chunk.len() >= length {
            let body = self.chunk.split_to(length);
            return self.finish_message(compressed, body, None);
        }
        self.gathering = Some(self.begin(compressed, length)?);
        self.gather()
    }

    /// Begins a message that is not whole here.
    fn begin(&self, compressed: bool, length: usize) -> Result<Gathering, Status> {
        let in_chunk = InChunk::take(length);
        let start = length.min(GATHER_START_BYTES.max(2 * self.chunk.len()));
        let counted = match in_chunk {
            Some(_) => length,
            None => length.min(GATHER_START_BYTES),
        };
        let mut held = Held::none(&self.gather_limit);
        if !held.take(counted) {
            return Err(Status::new(Code::ResourceExhausted, GATHER_REFUSAL));
        }
        let body = match in_chunk {
            Some(_) => chunks::take(),
            None => BytesMut::with_capacity(start),
        };
        Ok(Gathering {
            compressed,
            missing: length,
            body,
            in_chunk,
            held,
        })
    }

    /// Consumes a prefix and checks it; `None` while it is incomplete.
    fn take_prefix(&mut self) -> Result<Option<(bool, usize)>, Status> {
        let prefix = match self.chunk.split_first_chunk::<PREFIX_BYTES>() {
            Some((whole, _)) if self.prefix_length == 0 => {
                let whole = *whole;
                self.chunk.advance(PREFIX_BYTES);
                whole
            }
            _ => match self.join_prefix() {
                Some(joined) => joined,
                None => return Ok(None),
            },
        };
        let [flag, a, b, c, d] = prefix;
        // A length above `usize` cannot pass the limit either.
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        let compressed = self.check_flag(flag)?;
        if length > self.limit_bytes {
            return Err(too_large(length, self.limit_bytes));
        }
        Ok(Some((compressed, length)))
    }

    /// Adds the chunk's bytes to a split prefix.
    fn join_prefix(&mut self) -> Option<[u8; PREFIX_BYTES]> {
        while self.prefix_length < PREFIX_BYTES {
            if self.chunk.is_empty() {
                return None;
            }
            if let Some(slot) = self.prefix.get_mut(self.prefix_length) {
                *slot = self.chunk.get_u8();
            }
            self.prefix_length += 1;
        }
        self.prefix_length = 0;
        Some(self.prefix)
    }

    fn check_flag(&self, flag: u8) -> Result<bool, Status> {
        match (flag, &self.encoding) {
            (0, _) => Ok(false),
            (1, Encoding::Gzip) => Ok(true),
            (1, Encoding::Identity) => Err(Status::new(
                Code::Internal,
                "grpc: compressed flag set with identity or empty encoding",
            )),
            (1, Encoding::Unsupported(name)) => Err(Status::new(
                Code::Unimplemented,
                format!("grpc: Decompressor is not installed for grpc-encoding {name:?}"),
            )),
            (other, _) => Err(Status::new(
                Code::Internal,
                format!("grpc: received unexpected payload format {other}"),
            )),
        }
    }

    fn gather(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(gathering) = &mut self.gathering else {
            return Ok(None);
        };
        let piece = self.chunk.split_to(self.chunk.len().min(gathering.missing));
        if !gathering.add(&piece) {
            return Err(Status::new(Code::ResourceExhausted, GATHER_REFUSAL));
        }
        if gathering.missing > 0 {
            return Ok(None);
        }
        let Some(mut whole) = self.gathering.take() else {
            return Ok(None);
        };
        let body = whole.body.split().freeze();
        if whole.in_chunk.is_some() {
            chunks::give(std::mem::take(&mut whole.body));
        }
        self.finish_message(whole.compressed, body, Some(whole.held))
    }

    fn finish_message(
        &mut self,
        compressed: bool,
        body: Bytes,
        held: Option<Held>,
    ) -> Result<Option<Bytes>, Status> {
        if !compressed {
            self.held = held;
            return Ok(Some(body));
        }
        let limit = &self.gather_limit;
        let inflater = gzip::Inflater::new(body, held, self.limit_bytes, limit)?;
        self.inflating = Some(Box::new(inflater));
        if self.inflated >= gzip::SLICE_BYTES {
            // Many small ones are as much work as a large one.
            self.inflated = 0;
            return Ok(None);
        }
        self.inflate()
    }

    fn inflate(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(inflater) = &mut self.inflating else {
            return Ok(None);
        };
        let whole = inflater.step()?;
        let Some((message, held)) = whole else {
            self.inflated = 0;
            return Ok(None);
        };
        self.inflated += message.len();
        self.inflating = None;
        self.held = Some(held);
        Ok(Some(message))
    }
}

const GATHER_REFUSAL: &str = "too many large messages on one connection at a time";

fn too_large(length: usize, limit_bytes: usize) -> Status {
    let text = format!("grpc: received message larger than max ({length} vs. {limit_bytes})");
    Status::new(Code::ResourceExhausted, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoder(limit: usize) -> MessageDecoder {
        MessageDecoder::new(limit, GatherLimit::new(usize::MAX), Encoding::Identity)
    }

    fn with_encoding(encoding: Option<&str>) -> MessageDecoder {
        let encoding = Encoding::from_header(encoding);
        MessageDecoder::new(100, GatherLimit::new(usize::MAX), encoding)
    }

    fn framed(messages: &[&[u8]]) -> Bytes {
        let mut out = BytesMut::new();
        for message in messages {
            frame(message, &mut out);
        }
        out.freeze()
    }

    #[test]
    fn whole_messages_are_slices_of_their_chunk() {
        let chunk = framed(&[b"one", b"", b"three"]);
        let mut decoder = decoder(100);
        decoder.push(chunk.clone());
        let first = decoder.next_message().unwrap().unwrap();
        assert_eq!(first.as_ptr(), chunk[PREFIX_BYTES..].as_ptr());
        assert_eq!(decoder.next_message().unwrap().unwrap(), "");
        assert_eq!(decoder.next_message().unwrap().unwrap(), "three");
        assert_eq!(decoder.next_message().unwrap(), None);
        assert_eq!(decoder.finish(), Ok(()));
    }

    #[test]
    fn messages_survive_every_cut() {
        let long = vec![7_u8; 300];
        let stream = framed(&[b"a", &long, b"", b"bc"]);
        for cut in 1..stream.len() {
            let mut decoder = decoder(300);
            let mut messages = Vec::new();
            for piece in stream.chunks(cut) {
                decoder.push(Bytes::copy_from_slice(piece));
                while let Some(message) = decoder.next_message().unwrap() {
                    messages.push(message);
                }
            }
            assert_eq!(
                messages,
                [
                    "a".into(),
                    Bytes::from(long.clone()),
                    "".into(),
                    "bc".into()
                ]
            );
            assert_eq!(decoder.finish(), Ok(()));
        }
    }

    #[test]
    fn limit_is_checked_on_the_prefix_and_the_text_is_gos() {
        let mut decoder = decoder(MESSAGE_BYTES_MAX);
        decoder.push(Bytes::copy_from_slice(&prefix(104_857_601)));
        let status = decoder.next_message().unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted);
        let text = "grpc: received message larger than max (104857601 vs. 104857600)";
        assert_eq!(status.message(), text);
        assert_eq!(
            decoder.next_message().unwrap_err(),
            status,
            "an error stays"
        );
    }

    #[test]
    fn promised_length_allocates_no_more_than_what_came() {
        let mut decoder = decoder(MESSAGE_BYTES_MAX);
        let mut start = BytesMut::from(&prefix(MESSAGE_BYTES_MAX)[..]);
        start.put_slice(&[1; 100]);
        decoder.push(start.freeze());
        assert_eq!(decoder.next_message().unwrap(), None);
        let held = decoder.gathering.as_ref().unwrap().body.capacity();
        assert!(held <= 2 * GATHER_START_BYTES, "{held}");
        assert_eq!(decoder.finish().unwrap_err().message(), "unexpected EOF");
    }

    #[test]
    fn thousands_of_first_bytes_hold_little_memory() {
        let limit = GatherLimit::new(usize::MAX);
        let begin = |length: usize| {
            let mut decoder = MessageDecoder::new(length, Rc::clone(&limit), Encoding::Identity);
            let start = [&prefix(length)[..], &[1]].concat();
            decoder.push(start.into());
            assert_eq!(decoder.next_message(), Ok(None));
            decoder
        };
        let begun: Vec<_> = [16_000, MESSAGE_BYTES_MAX]
            .repeat(1_000)
            .into_iter()
            .map(begin)
            .collect();
        let memory = |decoder: &MessageDecoder| decoder.gathering.as_ref().unwrap().body.capacity();
        let held: usize = begun.iter().map(memory).sum();
        // Some of them lie in chunks of the stock.
        assert!(held <= 2_000 * GATHER_START_BYTES + (1 << 20), "{held}");
        assert!(limit.held_bytes() * 2 >= held, "{}", limit.held_bytes());
        drop(begun);
        assert_eq!(limit.held_bytes(), 0);
    }

    #[test]
    fn incomplete_messages_of_a_connection_share_a_limit() {
        // One fits into a chunk of memory, and counts as a whole; the other counts as it comes.
        for (length, limit, counted) in [(2_000, 3_000, 2_000), (200_000, 1_000, 600)] {
            let limit = GatherLimit::new(limit);
            let begin = |bytes: usize| {
                let mut decoder =
                    MessageDecoder::new(length, Rc::clone(&limit), Encoding::Identity);
                let mut start = BytesMut::from(&prefix(length)[..]);
                start.put_bytes(1, bytes);
                decoder.push(start.freeze());
                (decoder.next_message(), decoder)
            };
            let (first, decoder) = begin(600);
            assert_eq!(first, Ok(None));
            let (second, refused) = begin(600);
            assert_eq!(second.unwrap_err().code(), Code::ResourceExhausted);
            drop(refused);
            assert_eq!(limit.held_bytes(), counted);
            drop(decoder);
            assert_eq!(limit.held_bytes(), 0);
        }
    }

    #[test]
    fn a_whole_message_counts_until_the_next_one_is_asked_for() {
        let limit = GatherLimit::new(1_000);
        let mut decoder = MessageDecoder::new(600, Rc::clone(&limit), Encoding::Identity);
        let mut gather = || {
            let mut found = None;
            for piece in framed(&[&[1; 600]]).chunks(100) {
                decoder.push(Bytes::copy_from_slice(piece));
                found = decoder.next_message().unwrap();
            }
            assert_eq!(found.unwrap().len(), 600);
            assert_eq!(limit.held_bytes(), 600);
            let kept = decoder.take_held();
            assert_eq!(decoder.next_message(), Ok(None));
            assert_eq!(
                limit.held_bytes(),
                600,
                "it is kept while the end is waited for"
            );
            drop(kept);
            assert_eq!(limit.held_bytes(), 0);
        };
        gather();
        gather();
        for piece in framed(&[&[1; 600]]).chunks(100) {
            decoder.push(Bytes::copy_from_slice(piece));
            let _more_or_whole = decoder.next_message().unwrap();
        }
        assert_eq!(limit.held_bytes(), 600);
        assert_eq!(decoder.next_message(), Ok(None));
        assert_eq!(limit.held_bytes(), 0);
    }

    #[test]
    fn flags_and_encodings_are_refused_as_go_does() {
        let cases = [
            (
                None,
                1,
                Code::Internal,
                "grpc: compressed flag set with identity or empty encoding",
            ),
            (
                Some("zstd"),
                1,
                Code::Unimplemented,
                r#"grpc: Decompressor is not installed for grpc-encoding "zstd""#,
            ),
            (
                Some("gzip"),
                7,
                Code::Internal,
                "grpc: received unexpected payload format 7",
            ),
        ];
        for (encoding, flag, code, text) in cases {
            let mut decoder = with_encoding(encoding);
            decoder.push(Bytes::copy_from_slice(&[flag, 0, 0, 0, 0]));
            assert_eq!(decoder.next_message().unwrap_err(), Status::new(code, text));
        }
        let mut decoder = with_encoding(Some("zstd"));
        decoder.push(framed(&[b"plain"]));
        assert_eq!(decoder.next_message().unwrap().unwrap(), "plain");
    }
}
