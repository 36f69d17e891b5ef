//! Pings of one connection: those that were asked for, and those of keepalive.

use std::task::{Context, Poll};
use std::time::Duration;

use h2::{Ping, PingPong};

use crate::rt::{self, Instant};
use crate::wire::alarm::Alarm;
use crate::wire::control::ConnectionControl;

/// The peer did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dead;

/// Sends pings and judges silence. Polled by the driver in each of its turns.
#[derive(Debug)]
pub(crate) struct Vitals {
    pings: Option<PingPong>,
    keepalive: Option<Keepalive>,
}

#[derive(Debug)]
struct Keepalive {
    alarm: Alarm,
    time: Duration,
    timeout: Duration,
    /// When we asked; the peer has to show life after it.
    asked_at: Option<Instant>,
}

impl Vitals {
    /// `time` is the silence after which the peer is asked, `None`: never.
    pub(crate) fn new(pings: Option<PingPong>, time: Option<Duration>, timeout: Duration) -> Self {
        let keepalive = time.map(|time| {
            let alarm = Alarm::new(time);
            Keepalive {
                alarm,
                time,
                timeout,
                asked_at: None,
            }
        });
        Self { pings, keepalive }
    }

    /// Judges silence and hands a wanted ping to h2; before h2's turn.
    pub(crate) fn before_turn(
        &mut self,
        control: &ConnectionControl,
        alive_at: Instant,
        cx: &mut Context<'_>,
    ) -> Result<(), Dead> {
        if let Some(keepalive) = &mut self.keepalive {
            keepalive.poll(control, alive_at, cx)?;
        }
        if control.wants_ping()
            && let Some(pings) = &mut self.pings
            && pings.send_ping(Ping::opaque()).is_ok()
        {
            control.ping_was_sent();
        }
        Ok(())
    }

    /// Takes an answer; after h2's turn.
    pub(crate) fn after_turn(&mut self, control: &ConnectionControl, cx: &mut Context<'_>) {
        if let Some(pings) = &mut self.pings
            && let Poll::Ready(Ok(_)) = pings.poll_pong(cx)
        {
            control.ping_was_answered();
        }
    }
}

impl Keepalive {
    fn poll(
        &mut self,
        control: &ConnectionControl,
        alive_at: Instant,
        cx: &mut Context<'_>,
    ) -> Result<(), Dead> {
        // The alarm runs its course whatever comes in between: looking at `alive_at` when it ends
        // is cheaper than setting it anew with each read.
        while self.alarm.poll(cx).is_ready() {
            let now = rt::now();
            let silence = now.since(alive_at);
            let next = match self.asked_at {
                Some(asked_at) if alive_at <= asked_at => return Err(Dead),
                _ if silence >= self.time => {
                    control.want_ping();
                    self.asked_at = Some(now);
                    self.timeout
                }
                _ => {
                    self.asked_at = None;
                    self.time.saturating_sub(silence)
                }
            };
            self.alarm.reset(next);
        }
        Ok(())
    }
}
