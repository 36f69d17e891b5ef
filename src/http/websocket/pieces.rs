//! Large frames, cut into pieces as they come.
//!
//! A frame says its length before it has sent a byte, and tungstenite makes room for all of it at
//! once. A peer that announces a large frame and sends nothing would hold that room for ever; so
//! would thousands of them. Cut into fragments on the way in, a frame takes the room of what has
//! come. What a peer sends means the same with and without the cuts: a message is the sum of its
//! fragments, and the mask repeats every four bytes.
//!
//! Everything else goes through untouched: small frames, control frames, and what tungstenite will
//! refuse.

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
}

/// A frame that is being cut.
#[derive(Clone, Copy, Debug)]
struct Cut {
    left: u64,
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
            if whole && held == 0 && !self.is_to_be_cut() {
                // All of it came at once, and goes through.
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

    fn is_to_be_cut(&self) -> bool {
        let first = self.head.first().copied().unwrap_or_default();
        let length = self.length();
        // Text, binary, or their continuation, without a bit that nobody has agreed on.
        let is_data = first & !FINAL <= 2;
        let is_masked = self.mask().is_some();
        is_data && is_masked && length > PIECE_BYTES && length <= self.frame_bytes_max
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
        let first = self.head.first().copied().unwrap_or_default();
        match self.mask().filter(|_| self.is_to_be_cut()) {
            None => {
                out.extend_from_slice(&self.head);
                self.begin();
            }
            Some(mask) => {
                let left = self.length() - PIECE_BYTES;
                let is_final = first & FINAL != 0;
                put(first & OPCODE, PIECE_BYTES, mask, out);
                self.head.clear();
                self.payload = PIECE_BYTES;
                self.cut = Some(Cut {
                    left,
                    is_final,
                    mask,
                });
            }
        }
    }

    /// Writes the head of the next piece.
    fn go_on(&mut self, cut: Cut, out: &mut Vec<u8>) {
        let Cut {
            left,
            is_final,
            mask,
        } = cut;
        debug_assert!(left > 0, "behind a cut there is something");
        let length = left.min(PIECE_BYTES);
        let is_last = length == left;
        put(
            if is_final && is_last { FINAL } else { 0 },
            length,
            mask,
            out,
        );
        self.payload = length;
        let left = left - length;
        self.cut = (!is_last).then_some(Cut {
            left,
            is_final,
            mask,
        });
    }
}

/// What stands before the rest.
fn before(bytes: &[u8], rest: &[u8]) -> Vec<u8> {
    let end = bytes.len() - rest.len();
    bytes.get(..end).unwrap_or_default().to_vec()
}

/// Writes a head, its length in eight bytes.
fn put(first: u8, length: u64, mask: [u8; 4], out: &mut Vec<u8>) {
    out.extend_from_slice(&[first, MASKED | 127]);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&mask);
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

    #[test]
    fn small_frames_and_odd_ones_go_through_however_they_come() {
        let mut bytes = Vec::new();
        for (first, length) in [
            (0x81, 0),
            (0x01, 5),
            (0x89, 125),
            (0x80, 300),
            (0x82, 65_536),
        ] {
            bytes.extend(frame(first, &vec![7; length]));
        }
        // Bits that nobody has agreed on, a large control frame, and one over the limit.
        bytes.extend(frame(0xc1, &vec![7; 70_000]));
        bytes.extend(frame(0x89, &vec![7; 70_000]));
        bytes.extend(frame(0x82, &vec![7; MAX + 1]));
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
            let frames = read(&cut(&bytes, step));
            let heads: Vec<_> = frames
                .iter()
                .map(|(opcode, is_final, payload)| (*opcode, *is_final, payload.len()))
                .collect();
            let expected = [
                (1, true, 6),
                (1, false, 65_536),
                (0, false, 65_536),
                (0, false, 65_536),
                (0, true, 3_393),
                (10, true, 4),
            ];
            assert_eq!(heads, expected, "{step}");
            let joined: Vec<u8> = frames[1..5].iter().flat_map(|it| it.2.clone()).collect();
            assert!(joined == text, "{step}");
        }
    }

    #[test]
    fn a_fragment_that_is_cut_ends_no_message() {
        let mut bytes = frame(0x02, &vec![1; 131_072]);
        bytes.extend(frame(0x80, &vec![2; 131_072]));
        let frames = read(&cut(&bytes, 4_096));
        let heads: Vec<_> = frames.iter().map(|it| (it.0, it.1)).collect();
        assert_eq!(heads, [(2, false), (0, false), (0, false), (0, true)]);
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
