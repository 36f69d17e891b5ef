//! What is known of a stored channel at one moment.

use std::rc::Rc;

use ringmq_storage::{ChannelKey, Sequence, SlotId};

use super::walk::Met;
use super::{ACTIVE_MS, ChannelFacts, now_ms, to_u64};
use crate::engine::queues::QueueState;
use crate::engine::stored::{CursorOwner, StoredKind};
use crate::engine::traffic::Traffic;
use crate::model::Kind;
use crate::shard::Shard;
use crate::shard::stored::LogSeat;

/// Positions of one channel that are looked at for how far they are behind.
const POSITIONS_MAX: usize = 1_000;

/// Positions for whose sake a walk counts one step more.
const POSITIONS_A_STEP: usize = 8;

/// A durable position, and how far it is behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PositionLag {
    /// Whether it is a group's; a client's otherwise.
    pub group: bool,
    /// The client or the group.
    pub name: Box<str>,
    /// Messages stored behind it.
    pub lag: u64,
}

impl Shard {
    /// What is known of a stored channel.
    pub(super) fn stored_facts<'a>(&self, met: &Met<'a>) -> ChannelFacts<'a> {
        let channel = met.channel;
        let mut facts = ChannelFacts {
            name: &channel.name,
            messages: channel.messages(),
            last: channel.last.get(),
            traffic: Traffic {
                messages_in: channel.last.get(),
                last_ms: channel.last_active_ns / 1_000_000,
                ..Traffic::default()
            },
            ..ChannelFacts::default()
        };
        match channel.queue() {
            Some(queue) => add_queue(met, queue, &mut facts),
            None => self.add_events(met, &mut facts),
        }
        let idle_ms = now_ms().saturating_sub(channel.last_timestamp_ns / 1_000_000);
        facts.active |= channel.last.get() > 0 && idle_ms < ACTIVE_MS;
        facts
    }

    fn add_events(&self, met: &Met<'_>, facts: &mut ChannelFacts<'_>) {
        if facts.messages > 0 {
            facts.first = met.channel.first.get();
        }
        facts.bytes = met.seat.log.borrow().usage(met.key).bytes;
        facts.traffic.bytes_in = facts.bytes;
        if let Some(table) = self.channels.traffic(Kind::EventsStore)
            && let Some(seen) = table.borrow().peek(&met.channel.name)
        {
            facts.traffic.messages_out = seen.messages_out;
            facts.traffic.bytes_out = seen.bytes_out;
            facts.traffic.last_ms = facts.traffic.last_ms.max(seen.last_ms);
        }
        facts.consumers = to_u64(met.seat.feeds.borrow().receivers(met.key));
        facts.active = facts.consumers > 0;
    }

    /// The log of a slot, when this shard is its owner.
    pub(super) fn own_seat(&self, slot: SlotId) -> Option<&Rc<LogSeat>> {
        let own = self.stored_owner(slot) == self.id;
        own.then(|| self.stored.seat_of(slot)).flatten()
    }
}

fn add_queue(met: &Met<'_>, queue: &QueueState, facts: &mut ChannelFacts<'_>) {
    let figures = met.seat.queues.borrow().figures(met.key);
    let counters = queue.counters();
    facts.first = queue.live().next().map_or(0, |(first, _)| first.get());
    facts.bytes = queue.bytes();
    facts.traffic.messages_in = counters.sent;
    facts.traffic.bytes_in = counters.sent_bytes;
    facts.traffic.messages_out = counters.acked;
    facts.traffic.bytes_out = counters.acked_bytes;
    facts.waiting = figures.waiting;
    facts.delayed = figures.delayed;
    facts.in_flight = figures.in_flight;
    facts.moving = figures.moving;
    facts.expired = counters.expired;
    facts.dropped = counters.dropped;
    facts.dead_lettered = counters.dead_lettered;
    facts.consumers = figures.waiters;
    // What is neither visible nor delayed is held, or on its way out.
    let held = facts
        .messages
        .saturating_sub(figures.waiting + figures.delayed);
    facts.delivered = [counters.dropped, counters.dead_lettered, counters.moved]
        .into_iter()
        .fold(counters.acked + held, u64::saturating_add);
    facts.active = figures.waiters > 0 || figures.in_flight > 0;
}

/// Adds what takes more than a look: the age of the oldest message, how far positions are behind,
/// the memory of the index. Returns how many steps that was.
pub(super) fn add_depth(met: &Met<'_>, facts: &mut ChannelFacts<'_>) -> usize {
    let first = Sequence::new(facts.first);
    let body = met
        .channel
        .queue()
        .map_or(first, |queue| queue.body_of(first));
    let depth = met.seat.log.borrow().depth(met.key, body);
    facts.index_bytes = to_u64(depth.index_bytes);
    facts.log_bytes = depth.bytes;
    if facts.messages > 0 {
        facts.oldest_ms = depth.time_ns.unwrap_or_default() / 1_000_000;
    }
    if met.channel.kind != StoredKind::EventsStore {
        return 1;
    }
    facts.positions = to_u64(met.channel.cursor_count());
    for (_, cursor) in met.slots.cursors(met.key).take(POSITIONS_MAX) {
        let lag = lag(met.channel.last, met.channel.first, cursor.position);
        facts.lag_max = facts.lag_max.max(lag);
        facts.lag += lag;
    }
    // What whoever is farthest behind has yet to get; everything while nobody is.
    let nobody = met.channel.cursor_count() == 0;
    facts.waiting = if nobody {
        facts.messages
    } else {
        facts.lag_max
    };
    facts.delivered = facts.traffic.messages_out;
    1 + met.channel.cursor_count().min(POSITIONS_MAX) / POSITIONS_A_STEP
}

/// The positions of a channel, by owner and name: up to so many.
pub(super) fn positions(seat: &LogSeat, key: ChannelKey, max: usize) -> Vec<PositionLag> {
    let slots = seat.slots.borrow();
    let Some(channel) = slots.channel(key) else {
        return Vec::new();
    };
    let cursors = slots.cursors(key).take(max);
    let told = cursors.map(|(_, cursor)| PositionLag {
        group: cursor.owner == CursorOwner::Group,
        name: cursor.name.clone(),
        lag: lag(channel.last, channel.first, cursor.position),
    });
    told.collect()
}

/// Messages behind a position that are still kept.
fn lag(last: Sequence, first: Sequence, position: Sequence) -> u64 {
    let from = position.get().max(first.get().saturating_sub(1));
    last.get().saturating_sub(from)
}
