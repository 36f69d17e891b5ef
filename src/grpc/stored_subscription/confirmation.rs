//! Which chunks the client is known to have.

use std::collections::VecDeque;
use std::time::Duration;

use crate::rt::Instant;

/// Time from one ping to the next: each costs both sides a turn, and a position that lags behind
/// by as much is repeated by nobody but a client that breaks off.
pub(super) const PING_EVERY: Duration = Duration::from_millis(10);

/// Chunks that may wait for a ping. A client that answers none gets nothing beyond them, and as
/// many again behind a ping that is on its way.
const CHUNKS_MAX: usize = 4096;

/// The chunks of one stream that were handed over and not confirmed, and the ping behind them. At
/// most one is on its way.
#[derive(Debug, Default)]
pub(super) struct Confirmation {
    /// Where in the stream each ends, and its mark; both ascend.
    chunks: VecDeque<(u64, u64)>,
    /// The mark that the ping on its way confirms.
    asked: Option<u64>,
    asked_at: Option<Instant>,
    hurried: bool,
}

/// What to do for the confirmation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing is to be confirmed, or a ping is on its way.
    Nothing,
    /// Send a ping now.
    Ping,
    /// Wait until this much of the stream is written.
    Written(u64),
    /// Wait for the pace: the last ping was a moment ago.
    Later,
}

impl Confirmation {
    /// The chunk with this mark was handed over; it ends where the stream has `end` bytes.
    pub(super) fn sent(&mut self, end: u64, mark: u64) {
        debug_assert!(self.chunks.back().is_none_or(|last| *last <= (end, mark)));
        self.chunks.push_back((end, mark));
    }

    /// Whether no more chunks are to be handed over for now.
    pub(super) fn is_full(&self) -> bool {
        self.chunks.len() >= CHUNKS_MAX
    }

    /// What to do next, when `written` bytes of the stream have left. [`Next::Ping`] counts as
    /// sent.
    pub(super) fn next(&mut self, written: u64, now: impl FnOnce() -> Instant) -> Next {
        let Some((first_end, _)) = self.chunks.front() else {
            return Next::Nothing;
        };
        if self.asked.is_some() {
            return Next::Nothing;
        }
        if *first_end > written {
            return Next::Written(*first_end);
        }
        let now = now();
        let recent = self.asked_at.is_some_and(|at| now.since(at) < PING_EVERY);
        if recent && !self.hurried {
            return Next::Later;
        }
        let count = self.chunks.partition_point(|(end, _)| *end <= written);
        self.asked = self.chunks.drain(..count).next_back().map(|(_, mark)| mark);
        self.asked_at = Some(now);
        Next::Ping
    }

    /// From now on pings need not keep their distance: there will be few.
    pub(super) fn hurry(&mut self) {
        self.hurried = true;
    }

    /// Whether everything that was handed over is confirmed.
    pub(super) fn is_settled(&self) -> bool {
        self.chunks.is_empty() && self.asked.is_none()
    }

    /// The ping was answered: the client has all chunks up to the mark.
    pub(super) fn answered(&mut self) -> Option<u64> {
        self.asked.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt;

    const MOMENT: Duration = Duration::from_millis(1);

    #[test]
    fn only_what_was_written_before_the_ping_is_confirmed() {
        let now = rt::now();
        let mut confirmation = Confirmation::default();
        assert_eq!(confirmation.next(0, || now), Next::Nothing);
        confirmation.sent(100, 1);
        confirmation.sent(200, 2);
        confirmation.sent(300, 3);
        assert_eq!(confirmation.next(99, || now), Next::Written(100));
        assert_eq!(confirmation.answered(), None);
        assert_eq!(confirmation.next(299, || now), Next::Ping);
        // The third chunk leaves while the ping is on its way, which proves nothing about it.
        assert_eq!(confirmation.next(300, || now), Next::Nothing);
        assert_eq!(confirmation.answered(), Some(2));
        assert_eq!(confirmation.next(300, || now.after(PING_EVERY)), Next::Ping);
        assert_eq!(confirmation.answered(), Some(3));
        assert_eq!(
            confirmation.next(300, || now.after(PING_EVERY)),
            Next::Nothing
        );
    }

    #[test]
    fn pings_keep_their_distance_and_the_first_goes_at_once() {
        let now = rt::now();
        let mut confirmation = Confirmation::default();
        confirmation.sent(10, 1);
        assert_eq!(confirmation.next(10, || now), Next::Ping);
        assert_eq!(confirmation.answered(), Some(1));
        confirmation.sent(20, 2);
        assert_eq!(
            confirmation.next(10, || now.after(MOMENT)),
            Next::Written(20)
        );
        assert_eq!(confirmation.next(20, || now.after(MOMENT)), Next::Later);
        assert_eq!(confirmation.next(20, || now.after(PING_EVERY)), Next::Ping);
        assert!(!confirmation.is_settled());
        // A slow answer: the next ping goes at once behind it.
        confirmation.sent(30, 3);
        assert_eq!(
            confirmation.next(30, || now.after(PING_EVERY * 9)),
            Next::Nothing
        );
        assert_eq!(confirmation.answered(), Some(2));
        assert_eq!(
            confirmation.next(30, || now.after(PING_EVERY * 9)),
            Next::Ping
        );
    }

    #[test]
    fn a_client_that_answers_no_ping_is_held_back() {
        let now = rt::now();
        let mut confirmation = Confirmation::default();
        confirmation.sent(1, 1);
        assert_eq!(confirmation.next(1, || now), Next::Ping);
        for mark in 2..=1 + CHUNKS_MAX as u64 {
            assert!(!confirmation.is_full());
            confirmation.sent(mark, mark);
        }
        assert!(confirmation.is_full());
        assert_eq!(confirmation.answered(), Some(1));
        let later = now.after(PING_EVERY);
        assert_eq!(confirmation.next(u64::MAX, || later), Next::Ping);
        assert!(!confirmation.is_full());
    }

    #[test]
    fn in_a_hurry_pings_follow_one_another() {
        let now = rt::now();
        let mut confirmation = Confirmation::default();
        confirmation.sent(10, 1);
        assert_eq!(confirmation.next(10, || now), Next::Ping);
        confirmation.sent(20, 2);
        confirmation.hurry();
        assert_eq!(confirmation.next(20, || now), Next::Nothing);
        assert_eq!(confirmation.answered(), Some(1));
        assert_eq!(confirmation.next(20, || now), Next::Ping);
        assert!(!confirmation.is_settled());
        assert_eq!(confirmation.answered(), Some(2));
        assert!(confirmation.is_settled());
    }
}
