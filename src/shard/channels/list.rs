//! Lists of channels, gathered from all cores.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use foldhash::fast::RandomState;
use ringmq_storage::ChannelKey;

use super::unstored::Traced;
use super::{
    ACTIVE_MS, ChannelFacts, ChannelList, ChannelQuestion, LISTS_MAX, ListsBusy, WhichChannels,
    now_ms, stored_kind, to_u64,
};
use crate::engine::stored::Channel;
use crate::engine::traffic::Traffic;
use crate::model::Kind;
use crate::rt::{self, Notify, Queue};
use crate::shard::Shard;
use crate::shard::message::Note;
use crate::shard::stored::LogSeat;

/// How long a walk may go on before sockets are looked at.
pub(super) const SLICE: Duration = Duration::from_micros(100);

/// Channels looked at before the clock is.
pub(super) const STEP: usize = 32;

/// A part of a list is handed on when it is as large.
const PART_BYTES: usize = 64 << 10;

/// What one core has found.
#[derive(Debug)]
pub(in crate::shard) enum ShardList {
    /// Stored channels: all is known of them there.
    Written(ChannelList),
    /// Others: several cores may know something of one.
    Traced(Vec<Traced>),
    /// It makes as many lists as it may already.
    Busy,
}

/// A list that is being gathered.
#[derive(Debug)]
pub(in crate::shard) struct Gathering {
    missing: Cell<u16>,
    lists: RefCell<Vec<ShardList>>,
    ready: Notify,
}

/// Takes a gathering out of the table, however it ends.
struct Listed<'a> {
    shard: &'a Shard,
    key: u64,
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.shard.channels.lists.borrow_mut().remove(self.key);
    }
}

/// One of the walks of a core.
struct Walk<'a>(&'a Cell<usize>);

impl<'a> Walk<'a> {
    fn begin(running: &'a Cell<usize>) -> Option<Self> {
        (running.get() < LISTS_MAX).then(|| {
            running.set(running.get() + 1);
            Self(running)
        })
    }
}

impl Drop for Walk<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// A list that is being written, in parts.
struct Writer {
    question: Arc<ChannelQuestion>,
    list: ChannelList,
    part: Vec<u8>,
}

impl Writer {
    fn new(question: &Arc<ChannelQuestion>) -> Self {
        Self {
            question: question.clone(),
            list: ChannelList::default(),
            part: Vec::new(),
        }
    }

    fn add(&mut self, facts: &ChannelFacts<'_>) {
        self.list.count += 1;
        self.list.messages_in += facts.traffic.messages_in;
        self.list.delivered += facts.delivered;
        self.list.waiting += facts.waiting;
        (self.question.write)(facts, &mut self.part);
        if self.part.len() >= PART_BYTES {
            let next = Vec::with_capacity(self.part.len());
            let part = std::mem::replace(&mut self.part, next);
            self.list.parts.push(Bytes::from(part));
        }
    }

    fn finish(mut self) -> ChannelList {
        if !self.part.is_empty() {
            self.list.parts.push(Bytes::from(self.part));
        }
        self.list
    }
}

impl Shard {
    /// Lists channels of one kind, on all cores. The walk is cut into slices of 100 us, so that it
    /// disturbs nobody; a channel that comes or goes meanwhile may be there or not.
    ///
    /// # Errors
    /// [`ListsBusy`].
    pub async fn list_channels(
        self: &Rc<Self>,
        question: ChannelQuestion,
    ) -> Result<ChannelList, ListsBusy> {
        let gathering = Rc::new(Gathering {
            missing: Cell::new(self.count),
            lists: RefCell::default(),
            ready: Notify::new(),
        });
        let key = self.channels.lists.borrow_mut().insert(gathering.clone());
        let _listed = Listed { shard: self, key };
        let question = Arc::new(question);
        for peer in 0..self.count {
            match self.lane(peer) {
                None => self.list_here(self.id, key, question.clone()),
                Some(lane) => lane.push_note(Note::Channels {
                    key,
                    question: question.clone(),
                }),
            }
        }
        while gathering.missing.get() > 0 {
            gathering.ready.wait().await;
        }
        let lists = gathering.lists.take();
        let mut all = ChannelList::default();
        let mut traced: HashMap<Box<str>, Traced, RandomState> = HashMap::default();
        let mut began = rt::now();
        for list in lists {
            match list {
                ShardList::Written(list) => add(&mut all, list),
                ShardList::Traced(found) => {
                    for (at, found) in found.into_iter().enumerate() {
                        match traced.get_mut(&found.name) {
                            Some(known) => known.add(&found),
                            None => {
                                traced.insert(found.name.clone(), found);
                            }
                        }
                        yield_after(at, &mut began).await;
                    }
                }
                ShardList::Busy => return Err(ListsBusy),
            }
        }
        let mut writer = Writer::new(&question);
        for (at, found) in traced.values().enumerate() {
            writer.add(&found.facts());
            yield_after(at, &mut began).await;
        }
        add(&mut all, writer.finish());
        Ok(all)
    }

    /// Looks through the channels of this core for one that asks.
    pub(in crate::shard) fn list_here(
        self: &Rc<Self>,
        core: u16,
        key: u64,
        question: Arc<ChannelQuestion>,
    ) {
        let shard = self.clone();
        rt::spawn(Queue::Serve, "list channels", async move {
            let list = match Walk::begin(&shard.channels.lists_running) {
                None => ShardList::Busy,
                Some(_walk) => match question.kind {
                    Kind::EventsStore | Kind::Queues => {
                        ShardList::Written(shard.list_stored(&question).await)
                    }
                    Kind::Events | Kind::Commands | Kind::Queries => {
                        ShardList::Traced(shard.trace(&question).await)
                    }
                },
            };
            match shard.lane(core) {
                None => shard.listed_here(key, list),
                Some(lane) => lane.push_note(Note::ChannelsListed {
                    key,
                    list: Box::new(list),
                }),
            }
        });
    }

    /// A core has looked.
    pub(in crate::shard) fn listed_here(&self, key: u64, list: ShardList) {
        let lists = self.channels.lists.borrow();
        if let Some(gathering) = lists.get(key) {
            gathering.lists.borrow_mut().push(list);
            let missing = gathering.missing.get().saturating_sub(1);
            gathering.missing.set(missing);
            if missing == 0 {
                gathering.ready.raise();
            }
        }
    }

    async fn list_stored(&self, question: &Arc<ChannelQuestion>) -> ChannelList {
        let mut writer = Writer::new(question);
        let mut began = rt::now();
        if let WhichChannels::Named(names) = &question.which {
            for (at, name) in names.iter().enumerate() {
                let slot = self.placement.slot(name);
                if let Some(seat) = self.own_seat(slot) {
                    self.write_named(seat, slot, name, &mut writer);
                }
                yield_after(at, &mut began).await;
            }
            return writer.finish();
        }
        for seat in &self.stored.seats {
            let mut after = None;
            while self.write_slice(seat, &mut after, &mut writer) {
                rt::reactor_yield().await;
            }
        }
        writer.finish()
    }

    fn write_named(
        &self,
        seat: &LogSeat,
        slot: ringmq_storage::SlotId,
        name: &str,
        writer: &mut Writer,
    ) {
        let key = seat
            .slots
            .borrow()
            .find(slot, stored_kind(writer.question.kind), name);
        if let Some(key) = key {
            self.write_channel(seat, key, writer);
        }
    }

    /// Looks at channels until the slice is over; `false` when there are no more.
    fn write_slice(
        &self,
        seat: &LogSeat,
        after: &mut Option<ChannelKey>,
        writer: &mut Writer,
    ) -> bool {
        let began = rt::now();
        let kind = stored_kind(writer.question.kind);
        let slots = seat.slots.borrow();
        for (at, (key, channel)) in slots.channels_after(*after).enumerate() {
            *after = Some(key);
            if channel.kind == kind && writer.question.wants(&channel.name) {
                writer.add(&self.stored_facts(seat, key, channel));
            }
            if at % STEP == STEP - 1 && rt::now().since(began) > SLICE {
                return true;
            }
        }
        false
    }

    fn write_channel(&self, seat: &LogSeat, key: ChannelKey, writer: &mut Writer) {
        let slots = seat.slots.borrow();
        if let Some(channel) = slots.channel(key) {
            writer.add(&self.stored_facts(seat, key, channel));
        }
    }

    /// What is known of a stored channel. Borrows the log and what stands behind it.
    fn stored_facts<'a>(
        &self,
        seat: &LogSeat,
        key: ChannelKey,
        channel: &'a Channel,
    ) -> ChannelFacts<'a> {
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
            Some(queue) => {
                let figures = seat.queues.borrow().figures(key);
                let counters = queue.counters();
                facts.first = queue.live().next().map_or(0, |(first, _)| first.get());
                facts.bytes = queue.bytes();
                facts.traffic.messages_in = counters.sent;
                facts.traffic.bytes_in = counters.sent_bytes;
                facts.traffic.messages_out = counters.acked;
                facts.traffic.bytes_out = counters.acked_bytes;
                facts.waiting = figures.waiting;
                facts.delayed = figures.delayed;
                facts.expired = counters.expired;
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
            None => {
                facts.first = if facts.messages > 0 {
                    channel.first.get()
                } else {
                    0
                };
                facts.bytes = seat.log.borrow().usage(key).bytes;
                facts.traffic.bytes_in = facts.bytes;
                if let Some(table) = self.channels.traffic(Kind::EventsStore)
                    && let Some(seen) = table.borrow().peek(&channel.name)
                {
                    facts.traffic.messages_out = seen.messages_out;
                    facts.traffic.bytes_out = seen.bytes_out;
                    facts.traffic.last_ms = facts.traffic.last_ms.max(seen.last_ms);
                }
                facts.consumers = to_u64(seat.feeds.borrow().receivers(key));
                facts.active = facts.consumers > 0;
            }
        }
        let idle_ms = now_ms().saturating_sub(channel.last_timestamp_ns / 1_000_000);
        facts.active |= channel.last.get() > 0 && idle_ms < ACTIVE_MS;
        facts
    }

    /// The log of a slot, when this shard is its owner.
    pub(super) fn own_seat(&self, slot: ringmq_storage::SlotId) -> Option<&Rc<LogSeat>> {
        let own = self.stored_owner(slot) == self.id;
        own.then(|| self.stored.seat_of(slot)).flatten()
    }
}

fn add(all: &mut ChannelList, list: ChannelList) {
    all.parts.extend(list.parts);
    all.count += list.count;
    all.messages_in += list.messages_in;
    all.delivered += list.delivered;
    all.waiting += list.waiting;
}

/// Lets others have their turn when a slice is over.
pub(super) async fn yield_after(at: usize, began: &mut rt::Instant) {
    if at % STEP == STEP - 1 && rt::now().since(*began) > SLICE {
        rt::reactor_yield().await;
        *began = rt::now();
    }
}
