//! How much somebody may do: requests and bytes in a second, subscriptions at once.
//!
//! Somebody is an identity that was verified; without proof, an address (of IPv6 the first 64
//! bits, which is what one subscriber of a provider has). What counts is the broker, not the core:
//! all executors take from the same buckets.
//!
//! | what | over the limit |
//! |---|---|
//! | a unary call, a request of HTTP | refused, with the time after which it would pass |
//! | a batch of queue messages | the same, by the number of its messages |
//! | a message of a stream | waits: the stream is not read on, and the sender's window fills |
//! | a subscription | refused |
//!
//! Memory is fixed, whatever names peers come with ([`crate::engine::fairness`]). Where no limit is
//! set nothing is hashed and nothing is touched.

mod reached;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::engine::fairness::{Counted, Counts, Key, Rate, Rates, subscriber_line};
use crate::model::identity::{Identity, Proof};
use crate::rt;
use crate::wire::Alarm;

pub use reached::LimitReached;

/// The limits, as `limits.*` sets them; zero is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Unary calls, requests of HTTP and messages of streams, in each second. A batch of queue
    /// messages counts as many as it holds.
    pub requests_per_second: u64,
    /// How many of them at once; zero: one second's worth.
    pub requests_burst: u64,
    /// Bytes of their messages, in each second.
    pub bytes_per_second: u64,
    /// How many of them at once; zero: one second's worth.
    pub bytes_burst: u64,
    /// Subscriptions of one client id at once.
    pub subscriptions_per_client: u32,
}

/// What all executors take from.
#[derive(Debug, Default)]
pub struct Shared {
    requests: Rates,
    bytes: Rates,
    subscriptions: Counts,
    hashing: RandomState,
}

/// What a limit did; for counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Did {
    /// A call was refused for the number of requests.
    RefusedRequest,
    /// A call was refused for its bytes.
    RefusedBytes,
    /// A subscription was refused.
    RefusedSubscription,
    /// A message of a stream was held back.
    SlowedStream,
}

type Tell = Box<dyn Fn(Did)>;

/// What the parts of a request are worth is rounded up for each; the sum may be above the whole.
const ROUNDING: Duration = Duration::from_micros(1);

/// The limits as one executor applies them.
#[derive(Default)]
pub struct Limits {
    settings: Cell<Settings>,
    shared: Arc<Shared>,
    tell: RefCell<Option<Tell>>,
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits")
            .field("settings", &self.settings.get())
            .finish_non_exhaustive()
    }
}

impl Limits {
    /// Makes the limits of one executor of those that share `shared`.
    #[must_use]
    pub fn new(settings: Settings, shared: Arc<Shared>) -> Rc<Self> {
        Rc::new(Self {
            settings: Cell::new(settings),
            shared,
            tell: RefCell::default(),
        })
    }

    /// Has `tell` called for everything that a limit does from now on.
    pub fn on_reached(&self, tell: impl Fn(Did) + 'static) {
        self.tell.replace(Some(Box::new(tell)));
    }

    /// Goes by these settings from now on. Subscriptions that were made without a limit are not
    /// counted.
    pub fn set(&self, settings: Settings) {
        self.settings.set(settings);
    }

    /// Lets a unary call or a request of HTTP with `bytes` pass, or refuses it. What is refused
    /// costs its sender nothing.
    ///
    /// # Errors
    /// [`LimitReached`], with the time after which it would pass.
    pub fn admit(
        &self,
        identity: &Identity,
        peer: IpAddr,
        bytes: usize,
    ) -> Result<(), LimitReached> {
        let settings = self.settings.get();
        let (requests, volume) = (settings.requests(), settings.bytes());
        if requests.is_none() && volume.is_none() {
            return Ok(());
        }
        let (key, now_ns) = (self.key(identity, peer), rt::now().as_ns());
        let (shared, bytes) = (&self.shared, amount(bytes));
        let for_bytes = volume.map(|rate| (rate, shared.bytes.wait(key, rate, bytes, now_ns)));
        if let Some((_, wait)) = for_bytes.filter(|(_, wait)| !wait.is_zero()) {
            self.tell(Did::RefusedBytes);
            return Err(LimitReached::new("limits.bytes_per_second", wait));
        }
        if let Some(rate) = requests {
            let taken = shared.requests.take(key, rate, 1, now_ns);
            taken.map_err(|wait| {
                self.tell(Did::RefusedRequest);
                LimitReached::new("limits.requests_per_second", wait)
            })?;
        }
        if let Some((rate, _)) = for_bytes {
            // It was free to pass a moment ago; another core may have been faster, which is paid
            // for later.
            let _paid_later = shared.bytes.reserve(key, rate, bytes, now_ns);
        }
        Ok(())
    }

    /// Lets the `more` messages that a request holds besides its first one pass, or refuses the
    /// request; it was admitted a moment ago.
    ///
    /// # Errors
    /// [`LimitReached`], with the time after which the whole request would pass.
    pub fn admit_more(
        &self,
        identity: &Identity,
        peer: IpAddr,
        more: usize,
    ) -> Result<(), LimitReached> {
        let Some(rate) = self.settings.get().requests().filter(|_| more > 0) else {
            return Ok(());
        };
        let (key, now_ns) = (self.key(identity, peer), rt::now().as_ns());
        let (requests, more) = (&self.shared.requests, amount(more));
        // One is taken already: what is larger than the burst passes a bucket that was full
        // before that.
        let piece = more.min(rate.burst.saturating_sub(1));
        if requests.wait(key, rate, piece, now_ns) > ROUNDING {
            self.tell(Did::RefusedRequest);
            let wait = requests.wait(key, rate, more.saturating_add(1), now_ns);
            return Err(LimitReached::new("limits.requests_per_second", wait));
        }
        let _paid_later = requests.reserve(key, rate, more, now_ns);
        Ok(())
    }

    /// What a request would be told that is refused for their number; `None`: it would pass. Takes
    /// nothing.
    pub(super) fn would_refuse(&self, identity: &Identity, peer: IpAddr) -> Option<LimitReached> {
        let rate = self.settings.get().requests()?;
        let (key, now_ns) = (self.key(identity, peer), rt::now().as_ns());
        let wait = self.shared.requests.wait(key, rate, 1, now_ns);
        (!wait.is_zero()).then(|| LimitReached::new("limits.requests_per_second", wait))
    }

    /// What a stream of somebody is measured by.
    #[must_use]
    pub fn meter(&self, identity: &Identity, peer: IpAddr) -> Meter {
        Meter {
            // Made even without a limit: one may be set while the stream lives.
            key: self.key(identity, peer),
            waiting: None,
        }
    }

    /// Lets the next message of a stream pass, of `bytes`; pending while it has to wait. To be
    /// asked until it is ready, once for each message; the stream must not be read meanwhile.
    pub fn poll_admit(&self, meter: &mut Meter, cx: &mut Context<'_>, bytes: usize) -> Poll<()> {
        self.poll_admit_many(meter, cx, bytes, 1)
    }

    /// The same for a message that holds `requests` of them.
    pub fn poll_admit_many(
        &self,
        meter: &mut Meter,
        cx: &mut Context<'_>,
        bytes: usize,
        requests: usize,
    ) -> Poll<()> {
        if let Some(waiting) = &mut meter.waiting {
            std::task::ready!(waiting.poll(cx));
            meter.waiting = None;
            return Poll::Ready(());
        }
        let wait = self.reserve(meter.key, bytes, requests);
        if wait.is_zero() {
            return Poll::Ready(());
        }
        self.tell(Did::SlowedStream);
        let mut alarm = Alarm::new(wait);
        let polled = alarm.poll(cx);
        if polled.is_pending() {
            meter.waiting = Some(alarm);
        }
        polled
    }

    fn reserve(&self, key: Key, bytes: usize, count: usize) -> Duration {
        let settings = self.settings.get();
        let (requests, volume) = (settings.requests(), settings.bytes());
        if requests.is_none() && volume.is_none() {
            return Duration::ZERO;
        }
        let now_ns = rt::now().as_ns();
        let shared = &self.shared;
        let for_bytes = volume.map(|rate| shared.bytes.reserve(key, rate, amount(bytes), now_ns));
        let count = amount(count);
        let for_requests = requests.map(|rate| shared.requests.reserve(key, rate, count, now_ns));
        for_bytes.max(for_requests).unwrap_or_default()
    }

    /// Takes a place for a subscription of a client; it is given back when the hold is dropped.
    ///
    /// # Errors
    /// [`LimitReached`], without a time: nobody knows when one of the others ends.
    pub fn subscription(&self, client_id: &str) -> Result<SubscriptionHold, LimitReached> {
        let max = self.settings.get().subscriptions_per_client;
        if max == 0 {
            return Ok(SubscriptionHold(None));
        }
        let key = Key::new(self.shared.hashing.hash_one(client_id));
        match self.shared.subscriptions.take(key, max) {
            Counted::Yes => Ok(SubscriptionHold(Some((self.shared.clone(), key)))),
            Counted::No => Ok(SubscriptionHold(None)),
            Counted::Full => {
                self.tell(Did::RefusedSubscription);
                Err(LimitReached {
                    limit: "limits.subscriptions_per_client",
                    retry_after: None,
                })
            }
        }
    }

    fn key(&self, identity: &Identity, peer: IpAddr) -> Key {
        let hashing = &self.shared.hashing;
        Key::new(match identity.proof {
            Proof::None | Proof::Vouched => hashing.hash_one(subscriber_line(peer)),
            proof => hashing.hash_one((proof, &*identity.name)),
        })
    }

    pub(super) fn tell(&self, did: Did) {
        if let Some(tell) = &*self.tell.borrow() {
            tell(did);
        }
    }
}

impl Settings {
    fn requests(&self) -> Option<Rate> {
        rate(self.requests_per_second, self.requests_burst)
    }

    fn bytes(&self) -> Option<Rate> {
        rate(self.bytes_per_second, self.bytes_burst)
    }
}

const fn rate(per_second: u64, burst: u64) -> Option<Rate> {
    match (per_second, burst) {
        (0, _) => None,
        (per_second, 0) => Some(Rate {
            per_second,
            burst: per_second,
        }),
        (per_second, burst) => Some(Rate { per_second, burst }),
    }
}

fn amount(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// What a stream is measured by: whose it is, and whether it waits.
#[derive(Debug)]
pub struct Meter {
    key: Key,
    waiting: Option<Alarm>,
}

/// A subscription's place among those of its client; given back when dropped.
#[derive(Debug)]
pub struct SubscriptionHold(Option<(Arc<Shared>, Key)>);

impl Drop for SubscriptionHold {
    fn drop(&mut self) {
        if let Some((shared, key)) = self.0.take() {
            shared.subscriptions.release(key);
        }
    }
}

#[cfg(test)]
mod tests;
