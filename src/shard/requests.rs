//! Commands and queries: from the requester to a responder and back.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::Shard;
use super::message::{ChannelAt, Note, RequestWork, Work};
use super::publish::Encoded;
use super::taps::AskedRequest;
use crate::engine::pending::{PendingKey, ReplyAddress, ReplyChannel};
use crate::engine::traffic::TrafficKey;
use crate::engine::wheel::TimerKey;
use crate::model::Kind;
use crate::rt::{self, Notify};

/// How a request ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// A responder answered; its message, as it sent it.
    Response(Bytes),
    /// The response cache answered.
    CacheHit(Bytes),
    /// Nobody answered in time.
    TimedOut,
    /// Nobody is subscribed, and the broker is set to say so at once.
    NoResponder,
    /// The broker ended first.
    ShuttingDown,
}

/// Why a request was not even sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// As many requests wait on this core as may.
    PendingFull,
    /// The lane to the channel's owner has no room.
    MeshFull,
    /// The broker ends.
    ShuttingDown,
}

/// What became of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Responded {
    /// It is on its way to the requester.
    Forwarded,
    /// Nobody waits for it: late, repeated or unasked. It was dropped and counted.
    Dropped,
}

/// A request to send.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// [`Kind::Commands`] or [`Kind::Queries`].
    pub kind: Kind,
    /// The channel.
    pub channel: &'a str,
    /// How long to wait for the answer.
    pub timeout: Duration,
    /// The key to look for in the response cache; empty: none.
    pub cache_key: &'a str,
}

/// One who waits for an answer.
#[derive(Debug, Default)]
pub(super) struct Waiter {
    outcome: RefCell<Option<Outcome>>,
    notify: Notify,
}

impl Waiter {
    pub(super) fn finish(&self, outcome: Outcome) {
        self.outcome.replace(Some(outcome));
        self.notify.raise();
    }
}

/// A request that was sent and waits for its answer.
///
/// Dropping it forgets the request: a vanished caller leaves nothing behind, and an answer that
/// comes later is dropped.
#[derive(Debug)]
pub struct Pending {
    shard: Rc<Shard>,
    waiter: Rc<Waiter>,
    key: PendingKey,
    timer: Option<TimerKey>,
    kind: Kind,
    traffic: Option<TrafficKey>,
    /// While somebody watches its channel.
    shown: RefCell<Option<AskedRequest>>,
}

impl Pending {
    /// Ready when the request has ended.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<Outcome> {
        loop {
            if self.waiter.notify.poll(cx).is_pending() {
                return Poll::Pending;
            }
            match self.waiter.outcome.take() {
                // Only told when it matters: with the default the caller waits its timeout.
                Some(Outcome::NoResponder) if !self.shard.settings.fail_fast => {}
                Some(outcome) => {
                    if let (Outcome::Response(_), Some(key)) = (&outcome, self.traffic) {
                        self.shard.count_response(self.kind, key);
                    }
                    if let Some(asked) = self.shown.take() {
                        self.shard.show_outcome(&asked, Some(&outcome));
                    }
                    return Poll::Ready(outcome);
                }
                None => {}
            }
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.shard.pending.borrow_mut().close(self.key);
        if let Some(asked) = self.shown.take() {
            self.shard.show_outcome(&asked, None);
        }
        if let Some(timer) = self.timer.take() {
            self.shard.timers.cancel(timer);
        }
    }
}

impl Shard {
    /// Sends a request. `encode` writes the frame that responders get, with the given reply
    /// channel, and says where in it the channel stands.
    ///
    /// # Errors
    /// When the request could not be sent; nobody has seen it then.
    pub fn request(
        self: &Rc<Self>,
        ask: Ask<'_>,
        encode: impl FnOnce(&str, &mut BytesMut) -> ChannelAt,
    ) -> Result<Pending, Refused> {
        if self.draining.get() {
            return Err(Refused::ShuttingDown);
        }
        let waiter = Rc::new(Waiter::default());
        let opened = self
            .pending
            .borrow_mut()
            .open(waiter.clone(), &mut |bytes| {
                self.random.borrow_mut().fill(bytes);
            });
        let (key, reply) = opened.map_err(|_| Refused::PendingFull)?;
        let timer = Some(self.timers.set(ask.timeout, key));
        let pending = Pending {
            shard: self.clone(),
            waiter,
            key,
            timer,
            kind: ask.kind,
            traffic: self.traffic_key(ask.kind, ask.channel),
            shown: RefCell::default(),
        };
        let mut frame = BytesMut::new();
        let channel = encode(reply.as_str(), &mut frame);
        let frame = frame.freeze();
        let watched = self.taps.any(ask.kind).then(|| frame.clone());
        self.send_request(ask, frame, channel, reply.address())?;
        if let Some(frame) = watched {
            let asked = self.show_request(ask.kind, frame, channel);
            pending.shown.replace(Some(asked));
        }
        Ok(pending)
    }

    fn send_request(
        &self,
        ask: Ask<'_>,
        frame: Bytes,
        channel: ChannelAt,
        reply: ReplyAddress,
    ) -> Result<(), Refused> {
        let work = RequestWork {
            kind: ask.kind,
            frame,
            channel,
            reply,
            cache_key: ask.cache_key.into(),
        };
        match self.lane(self.owner(ask.channel).number()) {
            Some(lane) => lane
                .push_work(Work::Request(Box::new(work)))
                .map_err(|_| Refused::MeshFull),
            None => {
                self.dispatch(work);
                Ok(())
            }
        }
    }

    /// A request for a channel that this shard owns: the cache answers, or the responders get it.
    pub(super) fn dispatch(&self, request: RequestWork) {
        let RequestWork {
            kind,
            frame,
            channel,
            reply,
            cache_key,
        } = request;
        let name = frame.clone();
        let Some(channel) = channel.read(&name) else {
            return;
        };
        if !cache_key.is_empty() {
            let found = self
                .cache
                .borrow_mut()
                .get(channel, &cache_key, rt::now().as_ms());
            if let Some(message) = found {
                self.counters.query_cache_hits.increment();
                self.answer(reply, Outcome::CacheHit(message));
                return;
            }
            self.counters.query_cache_misses.increment();
        }
        let len = frame.len();
        let somebody = self.select(kind, channel, len, move |shard, chosen| {
            shard.deliver(chosen, Encoded::Shared(frame));
        });
        if !somebody {
            self.answer(reply, Outcome::NoResponder);
        }
    }

    /// Sends the response of a responder on this core to the one who asked.
    pub fn respond(&self, reply_channel: &str, message: Bytes) -> Responded {
        let address = ReplyChannel::parse(reply_channel).filter(|to| to.core < self.count);
        let Some(address) = address else {
            self.counters.responses_unknown.increment();
            return Responded::Dropped;
        };
        self.answer(address, Outcome::Response(message))
    }

    /// Brings an outcome to the requester, wherever it lives.
    pub(super) fn answer(&self, address: ReplyAddress, outcome: Outcome) -> Responded {
        if let Some(lane) = self.lane(address.core) {
            lane.push_note(match outcome {
                Outcome::Response(message) => Note::Response {
                    reply: address,
                    message,
                },
                Outcome::CacheHit(message) => Note::CacheHit {
                    reply: address,
                    message,
                },
                Outcome::NoResponder | Outcome::TimedOut | Outcome::ShuttingDown => {
                    Note::NoResponder { reply: address }
                }
            });
            return Responded::Forwarded;
        }
        self.answer_here(&address, outcome)
    }

    /// An outcome for a requester of this core.
    pub(super) fn answer_here(&self, address: &ReplyAddress, outcome: Outcome) -> Responded {
        let mut pending = self.pending.borrow_mut();
        // Without a responder the request stays open: one who waits may still see its timeout.
        let waiter = match outcome {
            Outcome::NoResponder => pending.peek(address).cloned(),
            _ => pending.answer(address),
        };
        drop(pending);
        match waiter {
            Some(waiter) => {
                waiter.finish(outcome);
                Responded::Forwarded
            }
            None => {
                self.counters.responses_late.increment();
                Responded::Dropped
            }
        }
    }

    /// A request's time is over.
    pub(super) fn time_out(&self, key: PendingKey) {
        let waiter = self.pending.borrow_mut().close(key);
        if let Some(waiter) = waiter {
            waiter.finish(Outcome::TimedOut);
        }
    }

    /// Remembers the answer to a query for `lifetime`, where its channel lives.
    pub fn remember(&self, channel: &str, key: &str, message: Bytes, lifetime: Duration) {
        let lifetime_ms = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
        match self.lane(self.owner(channel).number()) {
            Some(lane) => lane.push_note(Note::Cache {
                channel: channel.into(),
                key: key.into(),
                message,
                lifetime_ms,
            }),
            None => self.remember_here(channel, key, message, lifetime_ms),
        }
    }

    pub(super) fn remember_here(&self, channel: &str, key: &str, message: Bytes, lifetime: u64) {
        let now_ms = rt::now().as_ms();
        let expires_at_ms = now_ms.saturating_add(lifetime);
        self.cache
            .borrow_mut()
            .put(channel, key, message, expires_at_ms, now_ms);
    }
}
