//! The taps that a shard holds: who watches which channel, and how much each may still be shown.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use foldhash::fast::FixedState;
use ringmq_storage::log::{ReadCursor, ReadEnd, Stored};
use ringmq_storage::record::queue::QueueHead;
use ringmq_storage::{ChannelKey, Sequence};

use super::{QUEUE_FIELD, TapNote, Tapped, TappedWhat, WINDOW_BYTES};
use crate::engine::queues::MESSAGE_ENCODING;
use crate::engine::stored::{Effect, StoredKind};
use crate::engine::subscriptions::SubscriberAddress;
use crate::model::Kind;
use crate::shard::message::Note;
use crate::shard::stored::{LogSeat, StoredSettings};
use crate::shard::{HandedMessage, Shard, channels};

/// The taps that a shard holds.
#[derive(Debug, Default)]
pub(super) struct Held {
    channels: HashMap<Kind, HashMap<Box<str>, Watched, FixedState>, FixedState>,
    /// What each viewer watches.
    by_viewer: HashMap<SubscriberAddress, (Kind, Box<str>), FixedState>,
}

/// A channel that is watched.
#[derive(Debug, Default)]
struct Watched {
    viewers: Vec<Window>,
    /// Of a stored channel: what of it is shown next.
    place: Place,
}

/// What one viewer may still be shown.
#[derive(Debug)]
struct Window {
    viewer: SubscriberAddress,
    room: usize,
    dropped: u64,
}

#[derive(Debug, Default)]
struct Place {
    /// The channel's incarnation; `None`: it is not there yet.
    key: Option<ChannelKey>,
    next: Sequence,
    cursor: ReadCursor,
}

impl Held {
    fn channel(&mut self, kind: Kind, channel: &str) -> Option<&mut Watched> {
        self.channels.get_mut(&kind)?.get_mut(channel)
    }

    /// `false`: it is there already.
    fn add(&mut self, viewer: SubscriberAddress, kind: Kind, channel: &str, place: Place) -> bool {
        let known = self.by_viewer.insert(viewer, (kind, channel.into()));
        debug_assert!(known.is_none(), "the key of a tap is never used again");
        let watched = self.channels.entry(kind).or_default();
        let watched = watched.entry(channel.into()).or_default();
        if watched.viewers.is_empty() {
            watched.place = place;
        }
        watched.viewers.push(Window {
            viewer,
            room: WINDOW_BYTES,
            dropped: 0,
        });
        known.is_none()
    }

    /// The kind of the channel that it has watched.
    fn remove(&mut self, viewer: SubscriberAddress) -> Option<Kind> {
        let (kind, channel) = self.by_viewer.remove(&viewer)?;
        let channels = self.channels.get_mut(&kind)?;
        if let Some(watched) = channels.get_mut(&channel) {
            watched.viewers.retain(|window| window.viewer != viewer);
            if watched.viewers.is_empty() {
                channels.remove(&channel);
            }
        }
        Some(kind)
    }

    fn window(&mut self, viewer: SubscriberAddress) -> Option<&mut Window> {
        let (kind, channel) = self.by_viewer.get(&viewer)?;
        let watched = self.channels.get_mut(kind)?.get_mut(channel)?;
        watched
            .viewers
            .iter_mut()
            .find(|window| window.viewer == viewer)
    }
}

impl Window {
    /// What this viewer is sent of something that passed.
    fn show(&mut self, tapped: &Tapped) -> Option<TapNote> {
        let cost = tapped.cost();
        if self.room < WINDOW_BYTES && cost > self.room {
            self.dropped += 1;
            return None;
        }
        self.room = self.room.saturating_sub(cost);
        Some(TapNote::Passed {
            tapped: Some(tapped.clone()),
            dropped: std::mem::take(&mut self.dropped),
        })
    }
}

impl Shard {
    /// A viewer of the core `from` watches a channel that this shard sees.
    pub(super) fn watch_here(&self, from: u16, key: u64, kind: Kind, channel: &str) {
        let viewer = SubscriberAddress { core: from, key };
        let place = self.place_of(kind, channel);
        let mut held = self.taps.held.borrow_mut();
        if held.add(viewer, kind, channel, place) {
            let count = self.taps.count(kind);
            count.set(count.get() + 1);
        }
        drop(held);
        self.tell_viewer(viewer, TapNote::Watching);
    }

    pub(super) fn unwatch_here(&self, from: u16, key: u64) {
        let removed = self
            .taps
            .held
            .borrow_mut()
            .remove(SubscriberAddress { core: from, key });
        if let Some(kind) = removed {
            let count = self.taps.count(kind);
            count.set(count.get().saturating_sub(1));
        }
    }

    /// A viewer has looked at so much of what it was shown.
    pub(super) fn room_here(&self, from: u16, key: u64, bytes: usize) {
        let viewer = SubscriberAddress { core: from, key };
        let dropped = {
            let mut held = self.taps.held.borrow_mut();
            let Some(window) = held.window(viewer) else {
                return;
            };
            // A message larger than the window took no more than that.
            window.room = window.room.saturating_add(bytes).min(WINDOW_BYTES);
            match window.room {
                // It has seen all that it was sent; perhaps nothing follows.
                WINDOW_BYTES => std::mem::take(&mut window.dropped),
                _ => 0,
            }
        };
        if dropped > 0 {
            let tapped = None;
            self.tell_viewer(viewer, TapNote::Passed { tapped, dropped });
        }
    }

    fn tell_viewer(&self, viewer: SubscriberAddress, said: TapNote) {
        match self.lane(viewer.core) {
            None => self.tap_note_here(self.id, viewer.key, said),
            Some(lane) => lane.push_note(Note::Tap {
                key: viewer.key,
                said: Box::new(said),
            }),
        }
    }

    /// Shows the viewers of a channel what passes over it. To be asked only when there are taps of
    /// this kind.
    pub(in crate::shard) fn show(&self, kind: Kind, channel: &str, what: TappedWhat, frame: &[u8]) {
        let mut held = self.taps.held.borrow_mut();
        let Some(watched) = held.channel(kind, channel) else {
            return;
        };
        // A copy: what it is part of must not live as long as somebody looks at it.
        let frame = Bytes::copy_from_slice(frame);
        self.show_all(&mut watched.viewers, &Tapped { what, frame });
    }

    fn show_all(&self, viewers: &mut [Window], tapped: &Tapped) {
        for window in viewers {
            if let Some(said) = window.show(tapped) {
                self.tell_viewer(window.viewer, said);
            }
        }
    }

    /// What of a stored channel comes next.
    fn place_of(&self, kind: Kind, channel: &str) -> Place {
        let slot = self.placement.slot(channel);
        let Some(seat) = self.stored.seat_of(slot).filter(|_| is_stored(kind)) else {
            return Place::default();
        };
        let slots = seat.slots.borrow();
        let key = slots.find(slot, channels::stored_kind(kind), channel);
        let last = key.and_then(|key| slots.channel(key)).map(|it| it.last);
        Place {
            key,
            next: last.map_or(Sequence::new(1), Sequence::next),
            cursor: ReadCursor::default(),
        }
    }

    /// Shows what was just committed, to those who watch its channel.
    pub(in crate::shard) fn show_committed(&self, seat: &LogSeat, effect: &Effect) {
        let taps = &self.taps;
        if !taps.any(Kind::EventsStore) && !taps.any(Kind::Queues) {
            return;
        }
        let Effect::Stored { key, last } = *effect else {
            return;
        };
        let slots = seat.slots.borrow();
        let Some(channel) = slots.channel(key) else {
            return;
        };
        let kind = match channel.kind {
            StoredKind::EventsStore => Kind::EventsStore,
            StoredKind::Queue => Kind::Queues,
            StoredKind::Events | StoredKind::Commands | StoredKind::Queries => return,
        };
        let mut held = taps.held.borrow_mut();
        let Some(watched) = held.channel(kind, &channel.name) else {
            return;
        };
        if watched.place.key != Some(key) {
            watched.place = Place {
                key: Some(key),
                next: Sequence::new(1),
                cursor: ReadCursor::default(),
            };
        }
        self.show_stored(seat, kind, &channel.name, watched, last);
    }

    /// Reads what was committed, as far as anybody has room for it.
    fn show_stored(
        &self,
        seat: &LogSeat,
        kind: Kind,
        name: &str,
        watched: &mut Watched,
        last: Sequence,
    ) {
        let Watched { viewers, place } = watched;
        let Some(key) = place.key else { return };
        let settings = &self.stored.settings;
        let room = viewers.iter().map(|window| window.room).max().unwrap_or(0);
        let log = seat.log.borrow();
        let mut missed = 0;
        while place.next <= last && room > 0 {
            let next = &mut place.next;
            let cursor = &mut place.cursor;
            let end = log.read(key, *next, last, cursor, room, &mut |stored| {
                *next = stored.sequence.next();
                match tapped(settings, kind, name, &stored) {
                    Some(tapped) => self.show_all(viewers, &tapped),
                    None => missed += 1,
                }
            });
            match end {
                // A queue gives numbers to what comes back to its tail: these have no body here.
                ReadEnd::Damaged { last, .. } if kind == Kind::Queues => place.next = last.next(),
                ReadEnd::Damaged { first, last } => {
                    missed += last.get().saturating_sub(first.get()).saturating_add(1);
                    place.next = last.next();
                }
                // All of a queue's last numbers may be such.
                ReadEnd::CaughtUp => place.next = last.next(),
                // No room, or not in memory: nobody waits for somebody who looks on.
                ReadEnd::More | ReadEnd::Cold(_) => break,
            }
        }
        missed += last.next().get().saturating_sub(place.next.get());
        place.next = place.next.max(last.next());
        for window in viewers {
            window.dropped += missed;
        }
    }
}

const fn is_stored(kind: Kind) -> bool {
    matches!(kind, Kind::EventsStore | Kind::Queues)
}

/// A stored message as it is shown; `None` when it cannot be understood.
fn tapped(
    settings: &StoredSettings,
    kind: Kind,
    channel: &str,
    stored: &Stored<'_>,
) -> Option<Tapped> {
    let (timestamp_ns, sequence) = (stored.timestamp_ns, stored.sequence.get());
    let mut frame = BytesMut::with_capacity(stored.payload.len() + 256);
    if kind == Kind::EventsStore {
        let framing = settings.framing;
        (framing.before)(stored.payload.len(), timestamp_ns, sequence, &mut frame);
        frame.extend_from_slice(stored.payload);
        (framing.after)(timestamp_ns, sequence, &mut frame);
        let (what, frame) = (TappedWhat::Event, frame.freeze());
        return Some(Tapped { what, frame });
    }
    let known = stored.encoding == MESSAGE_ENCODING;
    let (head, body) = QueueHead::decode(stored.payload).ok().filter(|_| known)?;
    let message = HandedMessage {
        channel,
        sequence,
        timestamp_ns,
        receives: 0,
        head,
        body,
    };
    let framing = settings.queue_framing;
    (framing.before)(QUEUE_FIELD, &message, &mut frame);
    frame.extend_from_slice(body);
    (framing.after)(&message, &mut frame);
    let (what, frame) = (TappedWhat::QueueMessage, frame.freeze());
    Some(Tapped { what, frame })
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIEWER: SubscriberAddress = SubscriberAddress { core: 3, key: 7 };

    fn event(len: usize) -> Tapped {
        Tapped {
            what: TappedWhat::Event,
            frame: Bytes::from(vec![0; len]),
        }
    }

    fn held() -> Held {
        let mut held = Held::default();
        assert!(held.add(VIEWER, Kind::Events, "a.b", Place::default()));
        held
    }

    #[test]
    fn one_who_looks_at_nothing_is_shown_a_window_and_told_what_it_misses() {
        let mut held = held();
        let window = held.window(VIEWER).unwrap();
        let mut shown = 0;
        for _ in 0..2000 {
            shown += u64::from(window.show(&event(1000)).is_some());
        }
        assert!(shown > 0 && shown < 2000);
        assert_eq!(window.dropped, 2000 - shown);
        window.room = WINDOW_BYTES;
        let Some(TapNote::Passed { dropped, .. }) = window.show(&event(1000)) else {
            panic!("there is room again");
        };
        assert_eq!(dropped, 2000 - shown);
        assert_eq!(window.dropped, 0);
    }

    #[test]
    fn a_message_larger_than_the_window_passes_when_all_was_seen() {
        let mut held = held();
        let window = held.window(VIEWER).unwrap();
        assert!(window.show(&event(2 * WINDOW_BYTES)).is_some());
        assert!(window.show(&event(1)).is_none());
        assert_eq!(window.dropped, 1);
    }

    #[test]
    fn one_who_leaves_leaves_nothing_behind() {
        let mut held = held();
        let second = SubscriberAddress { core: 0, key: 8 };
        held.add(second, Kind::Events, "a.b", Place::default());
        assert_eq!(held.remove(VIEWER), Some(Kind::Events));
        assert!(held.window(VIEWER).is_none());
        assert_eq!(held.channel(Kind::Events, "a.b").unwrap().viewers.len(), 1);
        assert_eq!(held.remove(second), Some(Kind::Events));
        assert!(held.channel(Kind::Events, "a.b").is_none());
        assert_eq!(held.remove(second), None);
        assert!(held.by_viewer.is_empty());
    }
}
