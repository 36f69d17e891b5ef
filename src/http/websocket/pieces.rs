//! Fragments and large frames, passed on as pieces that are messages by themselves.
//!
//! A frame says its length before it has sent a byte, and tungstenite makes room for all of it at
//! once. A peer that announces a large frame and sends nothing would hold that room for ever; so
//! would thousands of them. And what it gathers of fragments doubles its room and moves, which
//! takes too long with tens of megabytes. So whatever is more than one small frame comes out here
//! in pieces of at most [`PIECE_BYTES`], each of which tungstenite takes for a binary message; a
//! [`Part`] for each says what it is, and [`super::parts`] puts them together. The mask repeats
//! every four bytes, so what a peer sends means the same with and without the cuts.
//!
//! Everything else goes through untouched: messages of one small frame, control frames, and what
//! tungstenite will refuse.

use std::collections::VecDeque;

/// The longest piece; whole masks fit into it.
const PIECE_BYTES: u64 = 64 << 10;

const _: () = assert!(
    PIECE_BYTES.is_multiple_of(4),
    "a piece begins where the mask begins"
);

/// The longest head of a frame: two bytes, eight of the length, four of the mask.
const HEAD_BYTES_MAX: usize = 14;

const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;
const OPCODE: u8 = 0x0f;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;

/// What a message of tungstenite is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// What it says it is.
    Whole,
    /// A piece of a message.
    Piece {
        /// Of a text, which has to be UTF-8.
        is_text: bool,
        is_last: bool,
    },
    /// The begin of a message in the middle of another one.
    Misplaced,
}

/// Cuts the bytes of one direction of a connection.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    /// The head of a frame, as far as it has come.
    head: Vec<u8>,
    /// What is left of the payload that is under way, up to its end or the next cut.
    payload: u64,
    /// What comes behind that cut.
    cut: Option<Cut>,
    /// The longest frame that is taken.
    frame_bytes_max: u64,
    /// Frames that have begun since it was asked last.
    begun: usize,
    /// The message that has begun and goes on: whether it is a text.
    message: Option<bool>,
    /// For each message that tungstenite will find, in order.
    parts: VecDeque<Part>,
}

/// A frame that is being cut.
#[derive(Clone, Copy, Debug)]
struct Cut {
    left: u64,
    is_text: bool,
    is_final: bool,
    mask: [u8; 4],
}

impl Pieces {
    pub(super) fn new(frame_bytes_max: usize) -> Self {
        Self {
            frame_bytes_max: u64::try_from(frame_bytes_max).unwrap_or(u64::MAX),
            ..Self::default()
        }
    }

    /// How many frames have begun since this was asked last.
    pub(super) const fn take_begun(&mut self) -> usize {
        std::mem::replace(&mut self.begun, 0)
    }

    /// What the next message is that tungstenite has found among what came out here.
    pub(super) fn next_part(&mut self) -> Part {
        let part = self.parts.pop_front();
        debug_assert!(part.is_some(), "every frame of data is counted");
        part.unwrap_or(Part::Whole)
    }

    /// Takes what has come next; gives what takes its place, `None` when that is the same.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut out: Option<Vec<u8>> = None;
        let mut rest = bytes;
        while !rest.is_empty() {
            let at = bytes.len() - rest.len();
            if self.payload > 0 {
                let taken = usize::try_from(self.payload).unwrap_or(usize::MAX);
                let (payload, behind) = rest.split_at(taken.min(rest.len()));
                self.payload -= u64::try_from(payload.len()).unwrap_or(u64::MAX);
                if let Some(out) = &mut out {
                    out.extend_from_slice(payload);
                }
                rest = behind;
                if self.payload == 0
                    && let Some(cut) = self.cut.take()
                {
                    let out = out.get_or_insert_with(|| before(bytes, rest));
                    self.go_on(cut, out);
                }
                continue;
            }
            let held = self.head.len();
            rest = self.take_head(rest);
            let whole = self.head_bytes() == Some(self.head.len());
            self.begun += usize::from(whole);
            if whole && held == 0 && !self.is_piece() {
                // All of it came at once, and goes through.
                self.count_whole();
                if let Some(out) = &mut out {
                    out.extend_from_slice(&self.head);
                }
                self.begin();
                continue;
            }
            let out = out.get_or_insert_with(|| bytes.get(..at).unwrap_or_default().to_vec());
            if whole {
                self.put_head(out);
            }
        }
        out
    }

    /// Adds to the head what belongs to it; gives back the rest.
    fn take_head<'a>(&mut self, mut rest: &'a [u8]) -> &'a [u8] {
        while self.head_bytes() != Some(self.head.len()) {
            let Some((first, behind)) = rest.split_first() else {
                break;
            };
            self.head.push(*first);
            rest = behind;
        }
        debug_assert!(self.head.len() <= HEAD_BYTES_MAX, "no head is longer");
        rest
    }

    /// How long the head will be; `None` when that is not known yet.
    fn head_bytes(&self) -> Option<usize> {
        let second = self.head.get(1)?;
        let length = match second & !MASKED {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if second & MASKED == 0 { 0 } else { 4 };
        Some(2 + length + mask)
    }

    /// The length that the head says.
    fn length(&self) -> u64 {
        let second = self.head.get(1).copied().unwrap_or_default() & !MASKED;
        let extended = |count: usize| {
            let bytes = self.head.get(2..2 + count).unwrap_or_default();
            let add = |sum: u64, byte: &u8| (sum << 8) | u64::from(*byte);
            bytes.iter().fold(0, add)
        };
        match second {
            126 => extended(2),
            127 => extended(8),
            short => short.into(),
        }
    }

    /// Whether the frame has a part of a message, and is one that tungstenite takes.
    fn is_data(&self) -> bool {
        let first = self.head.first().copied().unwrap_or_default();
        // Text, binary, or their continuation, without a bit that nobody has agreed on.
        first & !FINAL <= BINARY && self.mask().is_some() && self.length() <= self.frame_bytes_max
    }

    /// Whether it comes out in pieces: also in one, if it is not all of its message. A continuation
    /// of nothing is tungstenite's to refuse.
    fn is_piece(&self) -> bool {
        let first = self.head.first().copied().unwrap_or_default();
        let goes_on = self.message.is_some() || first & FINAL == 0 || self.length() > PIECE_BYTES;
        let of_nothing = first & OPCODE == CONTINUATION && self.message.is_none();
        self.is_data() && goes_on && !of_nothing
    }

    /// Counts a frame that goes through.
    fn count_whole(&mut self) {
        if self.is_data() {
            self.parts.push_back(Part::Whole);
        }
    }

    fn mask(&self) -> Option<[u8; 4]> {
        let is_masked = self.head.get(1)? & MASKED != 0;
        self.head.last_chunk::<4>().copied().filter(|_| is_masked)
    }

    /// The head is done with; its payload comes.
    fn begin(&mut self) {
        self.payload = self.length();
        self.head.clear();
    }

    /// Writes the head of a frame, or of its first piece.
    fn put_head(&mut self, out: &mut Vec<u8>) {
        let Some(mask) = self.mask().filter(|_| self.is_piece()) else {
            self.count_whole();
            out.extend_from_slice(&self.head);
            return self.begin();
        };
        let first = self.head.first().copied().unwrap_or_default();
        let (opcode, is_final) = (first & OPCODE, first & FINAL != 0);
        let is_text = self.message.unwrap_or(opcode == TEXT);
        let is_misplaced = self.message.is_some() && opcode != CONTINUATION;
        self.message = (!is_final).then_some(is_text);
        let length = self.length();
        if length <= PIECE_BYTES {
            self.count_piece(is_misplaced, is_text, is_final);
            out.push(FINAL | BINARY);
            out.extend_from_slice(self.head.get(1..).unwrap_or_default());
            return self.begin();
        }
        self.head.clear();
        let cut = Cut {
            left: length,
            is_text,
            is_final,
            mask,
        };
        self.go_on(cut, out);
        if is_misplaced && let Some(part) = self.parts.back_mut() {
            *part = Part::Misplaced;
        }
    }

    fn count_piece(&mut self, is_misplaced: bool, is_text: bool, is_last: bool) {
        self.parts.push_back(match is_misplaced {
            true => Part::Misplaced,
            false => Part::Piece { is_text, is_last },
        });
    }

    /// Writes the head of the next piece.
    fn go_on(&mut self, cut: Cut, out: &mut Vec<u8>) {
        debug_assert!(cut.left > 0, "behind a cut there is something");
        let length = cut.left.min(PIECE_BYTES);
        let left = cut.left - length;
        self.count_piece(false, cut.is_text, cut.is_final && left == 0);
        out.extend_from_slice(&[FINAL | BINARY, MASKED | 127]);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&cut.mask);
        self.payload = length;
        self.cut = (left > 0).then_some(Cut { left, ..cut });
    }
}

/// What stands before the rest.
fn before(bytes: &[u8], rest: &[u8]) -> Vec<u8> {
    let end = bytes.len() - rest.len();
    bytes.get(..end).unwrap_or_default().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 1 << 20;
    const MASK: [u8; 4] = [1, 2, 3, 4];

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let length = payload.len();
        match length {
            0..126 => out.extend_from_slice(&[first, MASKED | u8::try_from(length).unwrap()]),
            126..0x1_0000 => {
                out.extend_from_slice(&[first, MASKED | 126]);
                out.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
            }
            _ => {
                out.extend_from_slice(&[first, MASKED | 127]);
                out.extend_from_slice(&u64::try_from(length).unwrap().to_be_bytes());
            }
        }
        out.extend_from_slice(&MASK);
        out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(a, b)| a ^ b));
        out
    }

    fn cut(bytes: &[u8], step: usize) -> Vec<u8> {
        let mut pieces = Pieces::new(MAX);
        let chunks = bytes.chunks(step);
        let taken = chunks.map(|chunk| pieces.take(chunk).unwrap_or_else(|| chunk.to_vec()));
        taken.flatten().collect()
    }

    /// Opcode, whether it is final, and the payload of each frame.
    fn read(mut bytes: &[u8]) -> Vec<(u8, bool, Vec<u8>)> {
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            let mut pieces = Pieces::new(0);
            let rest = pieces.take_head(bytes);
            let mask = pieces.mask().expect("every frame is masked");
            let (payload, rest) = rest.split_at(usize::try_from(pieces.length()).unwrap());
            let plain = payload.iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b);
            let first = pieces.head[0];
            frames.push((first & OPCODE, first & FINAL != 0, plain.collect()));
            bytes = rest;
        }
        frames
    }

    /// What came out, as it was sent: opcode, whether the message ends, and what it holds.
    fn parts(bytes: &[u8], step: usize) -> Vec<(Part, u8, bool, Vec<u8>)> {
        let mut pieces = Pieces::new(MAX);
        let chunks = bytes.chunks(step);
        let taken = chunks.map(|chunk| pieces.take(chunk).unwrap_or_else(|| chunk.to_vec()));
        let taken: Vec<u8> = taken.flatten().collect();
        let frames = read(&taken).into_iter();
        frames
            .map(|(opcode, is_final, payload)| {
                let is_data = opcode <= BINARY;
                let part = if is_data {
                    pieces.next_part()
                } else {
                    Part::Whole
                };
                (part, opcode, is_final, payload)
            })
            .collect()
    }

    fn piece(is_text: bool, is_last: bool) -> Part {
        Part::Piece { is_text, is_last }
    }

    #[test]
    fn small_messages_and_odd_frames_go_through_however_they_come() {
        let mut bytes = Vec::new();
        for (first, length) in [
            (0x81, 0),
            (0x89, 125),
            (0x82, 5),
            (0x81, 300),
            (0x82, 65_536),
        ] {
            bytes.extend(frame(first, &vec![7; length]));
        }
        // A continuation of nothing, bits that nobody has agreed on, a large control frame, and
        // one over the limit.
        bytes.extend(frame(0x80, &[7; 300]));
        bytes.extend(frame(0x00, &[7; 300]));
        bytes.extend(frame(0xc1, &vec![7; 70_000]));
        bytes.extend(frame(0x89, &vec![7; 70_000]));
        bytes.extend(frame(0x82, &vec![7; MAX + 1]));
        bytes.extend(frame(0x02, &vec![7; MAX + 1]));
        for step in [1, 2, 3, 7, 4_096, bytes.len()] {
            assert!(cut(&bytes, step) == bytes, "{step}");
        }
        assert_eq!(Pieces::new(MAX).take(&bytes), None, "not copied");
    }

    #[test]
    fn a_large_frame_comes_in_pieces_of_the_same_message() {
        let text: Vec<u8> = (0..200_001_u32).map(|it| (it % 251) as u8).collect();
        let mut bytes = frame(0x81, b"before");
        bytes.extend(frame(0x81, &text));
        bytes.extend(frame(0x8a, b"pong"));
        for step in [1, 13, 4_096, 65_550, bytes.len()] {
            let parts = parts(&bytes, step);
            let heads: Vec<_> = parts
                .iter()
                .map(|(part, opcode, is_final, payload)| (*part, *opcode, *is_final, payload.len()))
                .collect();
            let expected = [
                (Part::Whole, TEXT, true, 6),
                (piece(true, false), BINARY, true, 65_536),
                (piece(true, false), BINARY, true, 65_536),
                (piece(true, false), BINARY, true, 65_536),
                (piece(true, true), BINARY, true, 3_393),
                (Part::Whole, 10, true, 4),
            ];
            assert_eq!(heads, expected, "{step}");
            let joined: Vec<u8> = parts[1..5].iter().flat_map(|it| it.3.clone()).collect();
            assert!(joined == text, "{step}");
        }
    }

    #[test]
    fn fragments_come_one_by_one_with_what_is_between_them() {
        let mut bytes = frame(0x02, &vec![1; 131_072]);
        bytes.extend(frame(0x89, b"ping"));
        bytes.extend(frame(0x00, b""));
        bytes.extend(frame(0x80, b"end"));
        bytes.extend(frame(0x81, b"the next one"));
        for step in [1, 14, 4_096, bytes.len()] {
            let kinds: Vec<_> = parts(&bytes, step)
                .iter()
                .map(|it| (it.0, it.3.len()))
                .collect();
            let expected = [
                (piece(false, false), 65_536),
                (piece(false, false), 65_536),
                (Part::Whole, 4),
                (piece(false, false), 0),
                (piece(false, true), 3),
                (Part::Whole, 12),
            ];
            assert_eq!(kinds, expected, "{step}");
        }
    }

    #[test]
    fn a_message_that_begins_within_another_is_out_of_place() {
        for (length, count) in [(5, 1), (100_000, 2)] {
            let mut bytes = frame(0x01, b"begin");
            bytes.extend(frame(0x81, &vec![7; length]));
            let parts = parts(&bytes, 4_096);
            assert_eq!(parts[0].0, piece(true, false));
            assert_eq!((parts[1].0, parts.len()), (Part::Misplaced, 1 + count));
        }
    }

    #[test]
    fn a_frame_that_never_comes_takes_no_room() {
        let mut pieces = Pieces::new(usize::MAX);
        let head = frame(0x82, &vec![0; 1 << 20]);
        let out = pieces.take(&head[..14]).expect("its head changes");
        assert_eq!(out[2..10], PIECE_BYTES.to_be_bytes());
        assert_eq!(pieces.take(&[0; 100]), None);
    }
}
