//! Pings of one socket: those that the service asks for, and those of keepalive.

use std::task::Context;
use std::time::Duration;

use crate::rt::{self, Instant};
use crate::wire::Alarm;

/// Numbers the pings and judges silence.
#[derive(Debug)]
pub(super) struct Vitals {
    keepalive: Option<Keepalive>,
    /// Of the last ping; its payload.
    number: u64,
    /// The ping that the service waits for.
    asked: Option<u64>,
}

#[derive(Debug)]
struct Keepalive {
    alarm: Alarm,
    every: Duration,
    timeout: Duration,
    /// When we asked; the peer has to show life after it.
    asked_at: Option<Instant>,
    /// Its time for that is over.
    overdue: bool,
}

impl Vitals {
    /// `every` is the silence after which the peer is asked, `None`: never.
    pub(super) fn new(every: Option<Duration>, timeout: Duration) -> Self {
        let keepalive = every.map(|every| Keepalive {
            alarm: Alarm::new(every),
            every,
            timeout,
            asked_at: None,
            overdue: false,
        });
        Self {
            keepalive,
            number: 0,
            asked: None,
        }
    }

    /// Judges silence; true when the peer is to be asked.
    pub(super) fn poll(&mut self, alive_at: Instant, cx: &mut Context<'_>) -> bool {
        match &mut self.keepalive {
            Some(keepalive) => keepalive.poll(alive_at, cx),
            None => false,
        }
    }

    /// Whether the peer has not shown in time that it lives, as far as was read.
    pub(super) fn is_overdue(&self, alive_at: Instant) -> bool {
        self.keepalive.as_ref().is_some_and(|keepalive| {
            keepalive.overdue && keepalive.asked_at.is_some_and(|at| alive_at <= at)
        })
    }

    /// The payload of a ping that is about to be sent.
    pub(super) fn ping(&mut self, for_service: bool) -> [u8; 8] {
        self.number += 1;
        if for_service {
            self.asked = Some(self.number);
        }
        self.number.to_be_bytes()
    }

    /// Takes an answer; true when it is the one that the service waits for. A peer may answer the
    /// last of several pings alone.
    pub(super) fn was_answered(&mut self, payload: &[u8]) -> bool {
        let number = payload.try_into().map(u64::from_be_bytes);
        let answered = match (self.asked, number) {
            (Some(asked), Ok(number)) => (asked..=self.number).contains(&number),
            _ => false,
        };
        if answered {
            self.asked = None;
        }
        answered
    }
}

impl Keepalive {
    fn poll(&mut self, alive_at: Instant, cx: &mut Context<'_>) -> bool {
        let mut asks = false;
        // The alarm runs its course whatever comes in between: looking at `alive_at` when it ends
        // is cheaper than setting it anew with each read.
        while self.alarm.poll(cx).is_ready() {
            let now = rt::now();
            let silence = now.since(alive_at);
            let next = match self.asked_at {
                // Judged by whoever reads. Who does not read for now looks again later.
                Some(asked_at) if alive_at <= asked_at => {
                    self.overdue = true;
                    self.timeout
                }
                _ if silence >= self.every => {
                    self.asked_at = Some(now);
                    self.overdue = false;
                    asks = true;
                    self.timeout
                }
                _ => {
                    self.asked_at = None;
                    self.overdue = false;
                    self.every.saturating_sub(silence)
                }
            };
            self.alarm.reset(next);
        }
        asks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_asked_ping_or_a_later_one_is_an_answer() {
        let mut vitals = Vitals::new(None, Duration::from_secs(1));
        let keepalive = vitals.ping(false);
        let asked = vitals.ping(true);
        let later = vitals.ping(false);
        assert!(!vitals.was_answered(&keepalive));
        assert!(!vitals.was_answered(b""));
        assert!(!vitals.was_answered(b"hello"));
        assert!(!vitals.was_answered(&99_u64.to_be_bytes()));
        assert!(vitals.was_answered(&later));
        assert!(!vitals.was_answered(&asked), "it counts once");
        let asked = vitals.ping(true);
        assert!(vitals.was_answered(&asked));
    }
}
