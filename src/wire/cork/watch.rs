//! Watches incoming frames for floods that h2 does not bound, and says what frames cost.
//!
//! h2 bounds early resets, header blocks, continuations and small DATA frames itself. It answers
//! every PING and SETTINGS one by one, so they cost no memory, but time: a SETTINGS frame of 15
//! bytes that changes the initial window walks over all streams, and an unasked PING answer writes
//! a line to the log. Only frame heads are looked at, a few nanoseconds for each.
//!
//! Honest peers send a PING at a time and wait for the answer, some of them one for each round
//! trip while data flows (bandwidth estimation); so what is written earns a frame, and time does.
//!
//! # What frames cost
//! Bytes are a good measure of work while they are data. A thousand frames of nothing, or a header
//! block whose every byte is a field, are as few bytes as one message, and keep the core a hundred
//! times as long. So a frame of a client counts for more bytes than it has: about two for each
//! nanosecond that it takes, more for what an honest client seldom sends. A connection gives way
//! when it has spent its budget, wherever that is within what was read.

use crate::rt::Instant;
use crate::wire::cork::Side;

const HEAD_BYTES: usize = 9;
const END_STREAM: u8 = 1;
const PREFACE_BYTES: usize = 24;

/// PING, PRIORITY, GOAWAY and unknown frames that may come in a burst, and for each second.
const CONTROL_BURST: u64 = 1_000;
const CONTROL_PER_SECOND: u64 = 200;

/// SETTINGS frames that may come in a burst, and for each second.
const SETTINGS_BURST: u64 = 100;
const SETTINGS_PER_SECOND: u64 = 10;

/// What the frames of a client count for beside their bytes. A call is some microseconds of work;
/// for what carries no work, one who sends nothing else gets a fraction of the core.
const DATA_COST: usize = 2 << 10;
const LAST_DATA_COST: usize = 4 << 10;
const HEADERS_COST: usize = 6 << 10;
const RESET_COST: usize = 4 << 10;
const WINDOW_COST: usize = 2 << 10;
const CONTROL_COST: usize = 8 << 10;

/// SETTINGS: they may change the window of every stream, of which there are thousands. As much as a
/// turn may read, and more.
const SETTINGS_COST: usize = 512 << 10;

/// A byte of a header block, which may be a whole field of four kilobytes. The first ones of a
/// block are mostly names and values in full, as honest clients send them; a block that goes on for
/// long is more likely to be made to be dear.
const FIELD_COST: usize = 128;
const LONG_BLOCK_FIELD_COST: usize = 512;
const SHORT_BLOCK_BYTES: usize = 256;

/// Calls that a client may take back in a burst, and for each second: twice all that it may have
/// open, since the deadlines of all may pass at once, again and again. h2 counts those that we had
/// not seen yet; the others have cost us work.
const RESETS_BURST: u64 = 8_192;
const RESETS_PER_SECOND: u64 = 8_192;

/// Calls that may be taken back in the breath in which they were made.
const EARLY_RESETS_BURST: u64 = 512;
const EARLY_RESETS_PER_SECOND: u64 = 512;

/// Frames that may come without being refused: fills with time, empties with frames.
#[derive(Debug)]
struct Allowance {
    frames: u64,
    burst: u64,
    per_second: u64,
    filled_at: Instant,
}

impl Allowance {
    const fn new(burst: u64, per_second: u64, now: Instant) -> Self {
        Self {
            frames: burst,
            burst,
            per_second,
            filled_at: now,
        }
    }

    fn earn(&mut self, frames: u64) {
        self.frames = (self.frames + frames).min(self.burst);
    }

    /// Takes one; false when there is none.
    fn take(&mut self, now: Instant) -> bool {
        let passed_ms = now.as_ms() - self.filled_at.as_ms().min(now.as_ms());
        let earned = passed_ms.saturating_mul(self.per_second) / 1_000;
        if earned > 0 {
            self.earn(earned);
            self.filled_at = now;
        }
        if self.frames == 0 {
            return false;
        }
        self.frames -= 1;
        true
    }
}

/// Reads the heads of incoming frames.
#[derive(Debug)]
pub(crate) struct FrameWatch {
    /// Bytes until the next head.
    skip: usize,
    /// What each of those counts for.
    byte_cost: usize,
    /// Those behind them that belong to the same frame and count for more.
    dear: usize,
    side: Side,
    head: [u8; HEAD_BYTES],
    head_length: usize,
    control: Allowance,
    settings: Allowance,
    resets: Allowance,
    early_resets: Allowance,
    /// The last stream that was opened, and the last one before what came `since`.
    newest: u32,
    known: u32,
    since: Instant,
    flood: Option<&'static str>,
}

impl FrameWatch {
    pub(crate) const fn new(side: Side, now: Instant) -> Self {
        let skip = match side {
            Side::Server => PREFACE_BYTES,
            Side::Client => 0,
        };
        Self {
            skip,
            byte_cost: 1,
            dear: 0,
            side,
            head: [0; HEAD_BYTES],
            head_length: 0,
            control: Allowance::new(CONTROL_BURST, CONTROL_PER_SECOND, now),
            settings: Allowance::new(SETTINGS_BURST, SETTINGS_PER_SECOND, now),
            resets: Allowance::new(RESETS_BURST, RESETS_PER_SECOND, now),
            early_resets: Allowance::new(EARLY_RESETS_BURST, EARLY_RESETS_PER_SECOND, now),
            newest: 0,
            known: 0,
            since: now,
            flood: None,
        }
    }

    pub(crate) const fn flood(&self) -> Option<&'static str> {
        self.flood
    }

    /// A turn ends with bytes that are still to be looked at: what was opened in it has been taken,
    /// before what follows is.
    pub(crate) const fn breathe(&mut self) {
        self.known = self.newest;
    }

    /// We wrote something: an honest peer may react to it.
    pub(crate) fn credit(&mut self) {
        self.control.earn(1);
    }

    /// Looks through bytes that are on their way to h2, until they have cost as much as they may:
    /// how many bytes that were, one at least, and what they cost.
    pub(crate) fn scan(&mut self, bytes: &[u8], now: Instant, cost_max: usize) -> (usize, usize) {
        let mut rest = bytes;
        let mut cost = 0;
        while !rest.is_empty() && cost < cost_max {
            if self.skip > 0 {
                let affordable = (cost_max - cost).div_ceil(self.byte_cost);
                let skipped = self.skip.min(rest.len()).min(affordable);
                self.skip -= skipped;
                cost += skipped * self.byte_cost;
                rest = rest.get(skipped..).unwrap_or_default();
                continue;
            }
            if self.dear > 0 {
                self.skip = std::mem::take(&mut self.dear);
                self.byte_cost = LONG_BLOCK_FIELD_COST;
                continue;
            }
            match rest.split_first_chunk::<HEAD_BYTES>() {
                Some((head, after)) if self.head_length == 0 => {
                    cost += HEAD_BYTES + self.frame(*head, now);
                    rest = after;
                }
                _ => {
                    let missing = HEAD_BYTES - self.head_length;
                    let (part, after) = rest.split_at_checked(missing).unwrap_or((rest, &[]));
                    for (slot, byte) in self.head.iter_mut().skip(self.head_length).zip(part) {
                        *slot = *byte;
                    }
                    self.head_length += part.len();
                    cost += part.len();
                    rest = after;
                    if self.head_length == HEAD_BYTES {
                        self.head_length = 0;
                        cost += self.frame(self.head, now);
                    }
                }
            }
        }
        (bytes.len() - rest.len(), cost)
    }

    /// Begins a frame: what it counts for beside its bytes.
    fn frame(&mut self, head: [u8; HEAD_BYTES], now: Instant) -> usize {
        let [high, middle, low, kind, flags, a, b, c, d] = head;
        // The highest bit is reserved, and to be ignored (RFC 9113, section 4.1).
        let stream = u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff;
        if now != self.since {
            (self.since, self.known) = (now, self.newest);
        }
        self.skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        self.byte_cost = 1;
        let (cost, flood) = match kind {
            // DATA. The last of a call is what has it served: with many calls open, all of their
            // ends may come at once.
            0 if flags & END_STREAM != 0 => (LAST_DATA_COST, None),
            0 => (DATA_COST, None),
            // HEADERS, PUSH_PROMISE, CONTINUATION.
            1 | 5 | 9 => {
                self.newest = self.newest.max(stream);
                if self.side == Side::Server {
                    // A block that is continued is a long one.
                    self.price_block(if kind == 9 { 0 } else { SHORT_BLOCK_BYTES });
                }
                (HEADERS_COST, None)
            }
            // RST_STREAM, WINDOW_UPDATE.
            3 => (RESET_COST, self.reset(stream)),
            8 => (WINDOW_COST, None),
            4 if flags & 1 == 0 => (SETTINGS_COST, Some(("SETTINGS", &mut self.settings))),
            4 => (CONTROL_COST, None),
            6 => (CONTROL_COST, Some(("PING", &mut self.control))),
            2 => (CONTROL_COST, Some(("PRIORITY", &mut self.control))),
            _ => (CONTROL_COST, Some(("unknown", &mut self.control))),
        };
        if let Some((name, allowance)) = flood
            && !allowance.take(now)
        {
            self.flood.get_or_insert(name);
        }
        match self.side {
            Side::Server => cost,
            // Who asked for the frames is not flooded by them.
            Side::Client => 0,
        }
    }

    /// Sets what the bytes of a header block cost, of which the first ones are cheap.
    fn price_block(&mut self, cheap: usize) {
        self.byte_cost = FIELD_COST;
        self.dear = self.skip.saturating_sub(cheap);
        self.skip -= self.dear;
    }

    /// What a reset takes from: a server may end as many calls as it likes.
    fn reset(&mut self, stream: u32) -> Option<(&'static str, &mut Allowance)> {
        match self.side {
            Side::Server if stream > self.known => Some(("RST_STREAM", &mut self.early_resets)),
            Side::Server => Some(("RST_STREAM", &mut self.resets)),
            Side::Client => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, length: u16) -> Vec<u8> {
        let [high, low] = length.to_be_bytes();
        let mut frame = vec![0, high, low, kind, flags, 0, 0, 0, 0];
        frame.resize(HEAD_BYTES + usize::from(length), 0xff);
        frame
    }

    fn at(ms: u64) -> Instant {
        Instant::from_ns(ms * 1_000_000)
    }

    #[test]
    fn ping_flood_is_noticed_and_named() {
        let mut watch = FrameWatch::new(Side::Client, at(0));
        let pings = frame(6, 0, 8).repeat(1_000);
        watch.scan(&pings, at(1), usize::MAX);
        assert_eq!(watch.flood(), None);
        watch.scan(&frame(6, 0, 8), at(2), usize::MAX);
        assert_eq!(watch.flood(), Some("PING"));
    }

    #[test]
    fn settings_flood_is_noticed_earlier() {
        let mut watch = FrameWatch::new(Side::Client, at(0));
        watch.scan(&frame(4, 0, 6).repeat(101), at(1), usize::MAX);
        assert_eq!(watch.flood(), Some("SETTINGS"));
    }

    fn opened(side: Side) -> FrameWatch {
        let mut watch = FrameWatch::new(side, at(0));
        watch.skip = 0;
        watch
    }

    fn of_stream(mut frame: Vec<u8>, stream: u16) -> Vec<u8> {
        frame[7..9].copy_from_slice(&stream.to_be_bytes());
        frame
    }

    #[test]
    fn reset_flood_is_noticed_on_the_side_of_the_server() {
        let resets = frame(3, 0, 4).repeat(8_193);
        for (side, noticed) in [(Side::Server, Some("RST_STREAM")), (Side::Client, None)] {
            let mut watch = opened(side);
            watch.scan(&resets, at(1), usize::MAX);
            assert_eq!(watch.flood(), noticed);
        }
    }

    #[test]
    fn deadlines_of_all_calls_may_pass_once_a_second() {
        let mut watch = opened(Side::Server);
        let (heads, resets) = (frame(1, 4, 20).repeat(4_096), frame(3, 0, 4).repeat(4_096));
        for second in 0..100 {
            watch.scan(&heads, at(second * 1_000), usize::MAX);
            watch.scan(&resets, at(second * 1_000 + 500), usize::MAX);
        }
        assert_eq!(watch.flood(), None);
    }

    #[test]
    fn calls_that_are_taken_back_at_once_are_a_flood_earlier() {
        let pair = |n: u16| {
            let head = of_stream(frame(1, 4, 20), 2 * n + 1);
            [head, of_stream(frame(3, 0, 4), 2 * n + 1)].concat()
        };
        let pairs: Vec<u8> = (0..600).flat_map(pair).collect();
        let mut watch = opened(Side::Server);
        watch.scan(&pairs, at(1), usize::MAX);
        assert_eq!(watch.flood(), Some("RST_STREAM"));
        // In another breath each, they are what an impatient client does.
        let mut watch = opened(Side::Server);
        for n in 0..600 {
            let ms = u64::from(n);
            watch.scan(
                &of_stream(frame(1, 4, 20), 2 * n + 1),
                at(2 * ms),
                usize::MAX,
            );
            watch.scan(
                &of_stream(frame(3, 0, 4), 2 * n + 1),
                at(2 * ms + 1),
                usize::MAX,
            );
        }
        assert_eq!(watch.flood(), None);
    }

    #[test]
    fn turns_are_breaths_too_and_the_reserved_bit_of_a_stream_is_ignored() {
        let open = |n: u16| of_stream(frame(1, 4, 20), 2 * n + 1);
        let reset = |n: u16| of_stream(frame(3, 0, 4), 2 * n + 1);
        // All of it came in one read; it is worked off in many turns.
        let mut watch = opened(Side::Server);
        for n in 0..600 {
            watch.scan(&open(n), at(1), usize::MAX);
            watch.breathe();
            watch.scan(&reset(n), at(1), usize::MAX);
        }
        assert_eq!(watch.flood(), None);
        let mut watch = opened(Side::Server);
        let mut far = open(0);
        far[5] |= 0x80;
        watch.scan(&far, at(1), usize::MAX);
        for n in 1..600 {
            watch.scan(&[open(n), reset(n)].concat(), at(2), usize::MAX);
        }
        assert_eq!(watch.flood(), Some("RST_STREAM"));
    }

    #[test]
    fn ping_every_hundred_milliseconds_goes_on_for_ever() {
        let mut watch = FrameWatch::new(Side::Client, at(0));
        for tick in 0..100_000 {
            watch.scan(&frame(6, 0, 8), at(tick * 100), usize::MAX);
        }
        assert_eq!(watch.flood(), None);
    }

    #[test]
    fn one_ping_for_each_write_goes_on_for_ever() {
        let mut watch = FrameWatch::new(Side::Client, at(0));
        for _ in 0..100_000 {
            watch.scan(&frame(6, 0, 8), at(1), usize::MAX);
            watch.credit();
        }
        assert_eq!(watch.flood(), None);
    }

    #[test]
    fn work_is_never_a_flood_however_it_is_cut() {
        let mut stream = Vec::new();
        for _ in 0..3_000 {
            stream.extend(frame(1, 4, 20));
            stream.extend(frame(0, 1, 300));
            stream.extend(frame(8, 0, 4));
        }
        for cut in [1, 7, 9, 10, 64, 4096] {
            let mut watch = FrameWatch::new(Side::Server, at(0));
            watch.scan(&[b'x'; PREFACE_BYTES], at(0), usize::MAX);
            for piece in stream.chunks(cut) {
                watch.scan(piece, at(0), usize::MAX);
            }
            assert_eq!(watch.flood(), None);
            assert_eq!((watch.skip, watch.head_length), (0, 0));
        }
    }

    /// Hands all over, a turn at a time: how many turns that took, and the most bytes of one.
    fn turns(side: Side, stream: &[u8], budget: usize) -> (usize, usize) {
        let mut watch = FrameWatch::new(side, at(0));
        watch.skip = 0;
        let (mut rest, mut turns, mut most) = (stream, 0, 0);
        while !rest.is_empty() {
            let (count, cost) = watch.scan(rest, at(0), budget);
            assert!(count > 0, "each turn gets on");
            assert!(cost >= count, "nothing costs less than its bytes");
            rest = &rest[count..];
            (turns, most) = (turns + 1, most.max(count));
        }
        assert_eq!((watch.skip, watch.head_length), (0, 0));
        (turns, most)
    }

    #[test]
    fn data_costs_little_more_than_its_bytes() {
        let stream = frame(0, 0, 16_000).repeat(16);
        let (turns, _) = turns(Side::Server, &stream, 256 << 10);
        assert_eq!(turns, 2);
    }

    #[test]
    fn frames_without_work_give_way_after_a_few() {
        for (kind, length) in [(2, 5), (6, 8), (7, 8), (0xbe, 0)] {
            let stream = frame(kind, 0, length).repeat(1_000);
            let (_, most) = turns(Side::Server, &stream, 256 << 10);
            let frames = most / (HEAD_BYTES + usize::from(length));
            assert!(frames <= 64, "{frames} of kind {kind}");
        }
        let (_, most) = turns(Side::Server, &frame(4, 0, 6).repeat(50), 256 << 10);
        assert!(most <= 4 * 15, "{most} bytes of settings");
    }

    #[test]
    fn a_byte_of_a_header_block_may_be_a_field() {
        let stream = frame(1, 4, 600).repeat(100);
        let (turns, _) = turns(Side::Server, &stream, 256 << 10);
        assert!(
            turns >= 100 * 600 * FIELD_COST / (256 << 10),
            "{turns} turns"
        );
    }

    #[test]
    fn bytes_of_a_long_header_block_cost_more_than_those_of_short_ones() {
        let mut watch = opened(Side::Server);
        let mut cost = |bytes: &[u8]| watch.scan(bytes, at(0), usize::MAX).1;
        let short = cost(&frame(1, 4, 256));
        assert_eq!(short, HEAD_BYTES + HEADERS_COST + 256 * FIELD_COST);
        let long = cost(&frame(1, 4, 356));
        assert_eq!(long, short + 100 * LONG_BLOCK_FIELD_COST);
        let continued = cost(&frame(9, 4, 100));
        let fields = 100 * LONG_BLOCK_FIELD_COST;
        assert_eq!(continued, HEAD_BYTES + HEADERS_COST + fields);
    }

    #[test]
    fn answers_cost_their_bytes() {
        let stream = frame(1, 4, 100).repeat(1_000);
        let (turns, _) = turns(Side::Client, &stream, 256 << 10);
        assert_eq!(turns, 1);
    }

    #[test]
    fn heads_that_come_in_pieces_cost_as_much() {
        let stream = frame(6, 0, 8).repeat(100);
        let cost = |cut: usize| {
            let mut watch = FrameWatch::new(Side::Server, at(0));
            watch.skip = 0;
            let costs = stream
                .chunks(cut)
                .map(|piece| watch.scan(piece, at(0), usize::MAX).1);
            costs.sum::<usize>()
        };
        assert_eq!(cost(1), cost(4_096));
        assert_eq!(cost(1), stream.len() + 100 * CONTROL_COST);
    }
}
