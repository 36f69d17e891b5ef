//! Watches incoming frames for floods that h2 does not bound.
//!
//! h2 bounds resets, header blocks, continuations and small DATA frames itself. It answers every
//! PING and SETTINGS one by one, so they cost no memory, but time: a SETTINGS frame of 15 bytes
//! that changes the initial window walks over all streams, and an unasked PING answer writes a
//! line to the log. Only frame heads are looked at, a few nanoseconds for each.
//!
//! Honest peers send a PING at a time and wait for the answer, some of them one for each round
//! trip while data flows (bandwidth estimation); so what is written earns a frame, and time does.

use crate::rt::Instant;
use crate::wire::cork::Side;

const HEAD_BYTES: usize = 9;
const PREFACE_BYTES: usize = 24;

/// PING, PRIORITY, GOAWAY and unknown frames that may come in a burst, and for each second.
const CONTROL_BURST: u64 = 1_000;
const CONTROL_PER_SECOND: u64 = 200;

/// SETTINGS frames that may come in a burst, and for each second.
const SETTINGS_BURST: u64 = 100;
const SETTINGS_PER_SECOND: u64 = 10;

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
pub(super) struct FrameWatch {
    /// Bytes until the next head.
    skip: usize,
    head: [u8; HEAD_BYTES],
    head_length: usize,
    control: Allowance,
    settings: Allowance,
    flood: Option<&'static str>,
}

impl FrameWatch {
    pub(super) const fn new(side: Side, now: Instant) -> Self {
        let skip = match side {
            Side::Server => PREFACE_BYTES,
            Side::Client => 0,
        };
        Self {
            skip,
            head: [0; HEAD_BYTES],
            head_length: 0,
            control: Allowance::new(CONTROL_BURST, CONTROL_PER_SECOND, now),
            settings: Allowance::new(SETTINGS_BURST, SETTINGS_PER_SECOND, now),
            flood: None,
        }
    }

    pub(super) const fn flood(&self) -> Option<&'static str> {
        self.flood
    }

    /// We wrote something: an honest peer may react to it.
    pub(super) fn credit(&mut self) {
        self.control.earn(1);
    }

    /// Looks through what the socket gave.
    pub(super) fn scan(&mut self, mut bytes: &[u8], now: Instant) {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            if bytes.is_empty() {
                return;
            }
            match bytes.split_first_chunk::<HEAD_BYTES>() {
                Some((head, rest)) if self.head_length == 0 => {
                    self.frame(*head, now);
                    bytes = rest;
                }
                _ => {
                    let missing = HEAD_BYTES - self.head_length;
                    let (part, rest) = bytes.split_at_checked(missing).unwrap_or((bytes, &[]));
                    for (slot, byte) in self.head.iter_mut().skip(self.head_length).zip(part) {
                        *slot = *byte;
                    }
                    self.head_length += part.len();
                    bytes = rest;
                    if self.head_length == HEAD_BYTES {
                        self.head_length = 0;
                        self.frame(self.head, now);
                    }
                }
            }
        }
    }

    fn frame(&mut self, head: [u8; HEAD_BYTES], now: Instant) {
        let [high, middle, low, kind, flags, ..] = head;
        self.skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        let (name, allowance) = match kind {
            // DATA, HEADERS, RST_STREAM, PUSH_PROMISE, WINDOW_UPDATE, CONTINUATION.
            0 | 1 | 3 | 5 | 8 | 9 => return,
            4 if flags & 1 == 0 => ("SETTINGS", &mut self.settings),
            4 => return,
            6 => ("PING", &mut self.control),
            2 => ("PRIORITY", &mut self.control),
            _ => ("unknown", &mut self.control),
        };
        if !allowance.take(now) {
            self.flood.get_or_insert(name);
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
        watch.scan(&pings, at(1));
        assert_eq!(watch.flood(), None);
        watch.scan(&frame(6, 0, 8), at(2));
        assert_eq!(watch.flood(), Some("PING"));
    }

    #[test]
    fn settings_flood_is_noticed_earlier() {
        let mut watch = FrameWatch::new(Side::Client, at(0));
        watch.scan(&frame(4, 0, 6).repeat(101), at(1));
        assert_eq!(watch.flood(), Some("SETTINGS"));
    }

    #[test]
    fn ping_every_hundred_milliseconds_goes_on_for_ever() {
        let mut watch = FrameWatch::new(Side::Client, at(0));
        for tick in 0..100_000 {
            watch.scan(&frame(6, 0, 8), at(tick * 100));
        }
        assert_eq!(watch.flood(), None);
    }

    #[test]
    fn one_ping_for_each_write_goes_on_for_ever() {
        let mut watch = FrameWatch::new(Side::Client, at(0));
        for _ in 0..100_000 {
            watch.scan(&frame(6, 0, 8), at(1));
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
            watch.scan(&[b'x'; PREFACE_BYTES], at(0));
            for piece in stream.chunks(cut) {
                watch.scan(piece, at(0));
            }
            assert_eq!(watch.flood(), None);
            assert_eq!((watch.skip, watch.head_length), (0, 0));
        }
    }
}
