//! Taps: a copy of what goes over one channel, for somebody who looks on.
//!
//! ```text
//!  core of the viewer                        every core that sees the channel
//!  Shard::tap ──────────── Watch ──────────► held: by kind and name
//!        ◄──────────────── Watching ───────── what passes from now on is shown
//!        ◄──────────────── Passed ─────────── within the viewer's window
//!  Tap::poll ──────────────── Room ─────────► what was looked at makes room
//! ```
//!
//! A viewer takes part in nothing: no message is consumed, no position moves, nobody waits for it.
//! What does not fit into its window is left out and counted, and it is told how much.
//!
//! Events, stored events and queue messages are shown by the shard that owns the channel, those
//! that are stored once they are committed. Requests and what became of them are shown by the cores
//! of those who ask, so that both come in order; such a tap is held by every shard.
//!
//! Where no tap is held, all this costs the way of a message one test of a plain cell.

mod held;
mod passed;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::Shard;
use super::keyed::Keyed;
use super::message::Note;
use crate::model::Kind;
use crate::rt::Notify;

use held::Held;

pub(super) use passed::AskedRequest;

/// Bytes that may be on their way to a viewer from each shard that shows it something. A viewer
/// that has looked at everything takes one message of any size.
pub(super) const WINDOW_BYTES: usize = 512 << 10;

/// What a message costs beside its bytes.
const MESSAGE_COST: usize = 64;

/// Taps that the viewers of one core may have.
const TAPS_MAX: usize = 64;

/// What passed over a tapped channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tapped {
    /// What it is.
    pub what: TappedWhat,
    /// Its bytes: what `what` says.
    pub frame: Bytes,
}

/// What a viewer sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TappedWhat {
    /// An event, plain or stored: the frame that its subscribers get.
    Event,
    /// A message of a queue as it was stored: an embedded message in field [`QUEUE_FIELD`], as in
    /// an answer to a poll.
    QueueMessage,
    /// A command or a query: the frame that its responders get.
    Request,
    /// The answer to one that was shown before: the message as its responder sent it.
    Response,
    /// A request that was shown before has ended without an answer; its frame.
    Unanswered(Unanswered),
}

/// How a request ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// Nobody answered in time, or nobody was there to answer.
    TimedOut,
    /// The broker ended first.
    ShuttingDown,
    /// Who had asked did not wait for the answer.
    GivenUp,
}

/// The field of a queue message in its frame.
pub const QUEUE_FIELD: u32 = 2;

/// Why there is no tap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TapRefused {
    /// As many as may be are there.
    #[error("too many channels are being watched")]
    TooMany,
    /// The broker ends.
    #[error("the broker is shutting down")]
    ShuttingDown,
}

/// What a viewer is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TapEvent {
    /// Something passed.
    Passed(Tapped),
    /// So many messages were left out: the viewer was too slow for them.
    Dropped(u64),
    /// The broker ends.
    Ended,
}

/// What the two sides of a tap say to one another. Its number is bounded: by taps, and what is
/// shown by the windows.
#[derive(Debug)]
pub(super) enum TapNote {
    /// A viewer of the sending core wants to see a channel.
    Watch { kind: Kind, channel: Box<str> },
    /// The answer to `Watch`: it sees what passes the sending shard from now on.
    Watching,
    /// It has gone. Follows its `Watch` on the same lane.
    Unwatch,
    /// It has looked at so much.
    Room { bytes: usize },
    /// What it sees, and how many messages it does not see.
    Passed {
        tapped: Option<Tapped>,
        dropped: u64,
    },
}

/// The taps of a shard: those that it holds, and the viewers of its core.
#[derive(Debug, Default)]
pub(super) struct Taps {
    /// Taps that are held, by kind: all that the way of a message asks for.
    counts: [Cell<usize>; Kind::ALL.len()],
    held: RefCell<Held>,
    viewers: RefCell<Keyed<Rc<Viewer>>>,
}

/// One who looks on from this core.
#[derive(Debug)]
struct Viewer {
    /// `None`: every shard holds the tap.
    holder: Option<u16>,
    /// What came, and from which shard.
    waiting: RefCell<VecDeque<(u16, Tapped)>>,
    dropped: Cell<u64>,
    /// Shards that have not yet said that they show.
    missing: Cell<u16>,
    ended: Cell<bool>,
    /// Something above has changed.
    changed: Notify,
}

/// A look at one channel; ends when dropped.
#[derive(Debug)]
pub struct Tap {
    shard: Rc<Shard>,
    key: u64,
    viewer: Rc<Viewer>,
}

impl Tapped {
    fn cost(&self) -> usize {
        self.frame.len() + MESSAGE_COST
    }
}

impl Taps {
    /// Whether a channel of this kind is watched by anybody.
    pub(super) fn any(&self, kind: Kind) -> bool {
        self.count(kind).get() > 0
    }

    fn count(&self, kind: Kind) -> &Cell<usize> {
        let [events, events_store, queues, commands, queries] = &self.counts;
        match kind {
            Kind::Events => events,
            Kind::EventsStore => events_store,
            Kind::Queues => queues,
            Kind::Commands => commands,
            Kind::Queries => queries,
        }
    }

    /// Tells every viewer of this core that the broker ends.
    pub(super) fn end_all(&self) {
        for viewer in self.viewers.borrow().iter() {
            viewer.ended.set(true);
            viewer.changed.raise();
        }
    }
}

impl Tap {
    /// What passed next.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<TapEvent> {
        loop {
            if let Some(event) = self.next() {
                return Poll::Ready(event);
            }
            if self.viewer.changed.poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn next(&self) -> Option<TapEvent> {
        let next = self.viewer.waiting.borrow_mut().pop_front();
        if let Some((from, tapped)) = next {
            let bytes = tapped.cost();
            self.shard
                .tell_holder(from, self.key, TapNote::Room { bytes });
            return Some(TapEvent::Passed(tapped));
        }
        match self.viewer.dropped.take() {
            0 => self.viewer.ended.get().then_some(TapEvent::Ended),
            dropped => Some(TapEvent::Dropped(dropped)),
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.shard.taps.viewers.borrow_mut().remove(self.key);
        for holder in self.shard.tap_holders(self.viewer.holder) {
            self.shard.tell_holder(holder, self.key, TapNote::Unwatch);
        }
    }
}

impl Shard {
    /// Looks on at a channel. When this returns, all that passes from now on is seen.
    ///
    /// # Errors
    /// [`TapRefused`].
    pub async fn tap(self: &Rc<Self>, kind: Kind, channel: &str) -> Result<Tap, TapRefused> {
        // From here on dropping the tap, or this future, undoes everything.
        let tap = self.begin_tap(kind, channel)?;
        while tap.viewer.missing.get() > 0 && !tap.viewer.ended.get() {
            tap.viewer.changed.wait().await;
        }
        // Whoever polls next looks for himself.
        tap.viewer.changed.raise();
        Ok(tap)
    }

    /// Asks the shards that see the channel to show it.
    fn begin_tap(self: &Rc<Self>, kind: Kind, channel: &str) -> Result<Tap, TapRefused> {
        if self.draining.get() {
            return Err(TapRefused::ShuttingDown);
        }
        if self.taps.viewers.borrow().iter().count() >= TAPS_MAX {
            return Err(TapRefused::TooMany);
        }
        let holder = match kind {
            Kind::Events => Some(self.owner(channel).number()),
            Kind::EventsStore | Kind::Queues => {
                Some(self.stored_owner(self.placement.slot(channel)))
            }
            Kind::Commands | Kind::Queries => None,
        };
        let holders = self.tap_holders(holder);
        let viewer = Rc::new(Viewer {
            holder,
            waiting: RefCell::default(),
            dropped: Cell::new(0),
            missing: Cell::new(u16::try_from(holders.len()).unwrap_or(u16::MAX)),
            ended: Cell::new(false),
            changed: Notify::new(),
        });
        let key = self.taps.viewers.borrow_mut().insert(viewer.clone());
        for holder in holders {
            let channel = channel.into();
            self.tell_holder(holder, key, TapNote::Watch { kind, channel });
        }
        Ok(Tap {
            shard: self.clone(),
            key,
            viewer,
        })
    }

    fn tap_holders(&self, holder: Option<u16>) -> std::ops::Range<u16> {
        holder.map_or(0..self.count, |holder| holder..holder + 1)
    }

    /// Says something to a shard that holds a tap of this core.
    fn tell_holder(&self, holder: u16, key: u64, said: TapNote) {
        match self.lane(holder) {
            None => self.tap_note_here(self.id, key, said),
            Some(lane) => lane.push_note(Note::Tap {
                key,
                said: Box::new(said),
            }),
        }
    }

    /// Something was said by another core about a tap, or by this one.
    pub(super) fn tap_note_here(&self, from: u16, key: u64, said: TapNote) {
        match said {
            TapNote::Watch { kind, channel } => self.watch_here(from, key, kind, &channel),
            TapNote::Unwatch => self.unwatch_here(from, key),
            TapNote::Room { bytes } => self.room_here(from, key, bytes),
            TapNote::Watching => self.with_viewer(key, |viewer| {
                viewer.missing.set(viewer.missing.get().saturating_sub(1));
            }),
            TapNote::Passed { tapped, dropped } => self.with_viewer(key, |viewer| {
                viewer.dropped.set(viewer.dropped.get() + dropped);
                let mut waiting = viewer.waiting.borrow_mut();
                waiting.extend(tapped.map(|tapped| (from, tapped)));
            }),
        }
    }

    /// One who has left is not there: what was on its way to it is let go of.
    fn with_viewer(&self, key: u64, change: impl FnOnce(&Viewer)) {
        if let Some(viewer) = self.taps.viewers.borrow().get(key) {
            change(viewer);
            viewer.changed.raise();
        }
    }
}
