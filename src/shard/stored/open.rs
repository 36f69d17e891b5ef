//! Opening a subscription to a stored channel: its position is durable before it is live.

use std::rc::Rc;
use std::time::Duration;

use ringmq_storage::log::{ReadCursor, Refused, Seek};
use ringmq_storage::{ChannelKey, CursorId, Sequence, SlotId};

use super::receiver::{StoredSubscriber, WINDOW_BYTES};
use super::seat::LogSeat;
use super::{ChannelPolicy, StoreFailure};
use crate::engine::feeds::{Address, NewReceiver};
use crate::engine::stored::{Channel, CursorOwner, StoreRefusal, StoredKind};
use crate::rt::{self, Queue};
use crate::shard::Shard;
use crate::shard::message::Note;
use crate::wire::server::ConnectionControl;

/// How often the log is asked again when it had no room for the records of a subscription.
const BUSY_STEP: Duration = Duration::from_millis(1);

/// How long a subscription may wait for room in the log.
const BUSY_PATIENCE: Duration = Duration::from_secs(5);

/// Where a subscription begins that has no durable position yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the next message that is stored.
    New,
    /// With the first that is kept.
    First,
    /// With the last that is stored.
    Last,
    /// With this sequence; beyond the end: with the next message that is stored.
    Sequence(u64),
    /// With the first that was stored at this time or later, in nanoseconds since 1970.
    Time(u64),
    /// The same, as long ago as this.
    Ago(Duration),
}

/// A subscription to open.
#[derive(Clone, Copy, Debug)]
pub struct StoredSubscribe<'a> {
    /// The channel; no wildcards.
    pub channel: &'a str,
    /// The group whose members share the messages; empty: none.
    pub group: &'a str,
    /// The client; it holds the durable position unless there is a group.
    pub client_id: &'a str,
    /// Where to begin without a durable position.
    pub start: Start,
}

/// Why a subscription was not opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredRefused {
    /// A live receiver of the channel has the client id.
    ClientIdInUse,
    /// The channel has as many receivers as it may.
    ReceiverLimit {
        /// The bound.
        max: usize,
    },
    /// The broker ends.
    ShuttingDown,
    /// The position cannot be stored.
    Store(StoreFailure),
}

impl From<StoreFailure> for StoredRefused {
    fn from(failure: StoreFailure) -> Self {
        Self::Store(failure)
    }
}

/// The same as it crosses to the shard that has the log.
#[derive(Debug)]
pub(in crate::shard) struct OpenReceiver {
    pub slot: SlotId,
    pub channel: Box<str>,
    pub group: Box<str>,
    pub client: Box<str>,
    pub start: Start,
}

/// A receiver that is being opened.
#[derive(Debug)]
pub(super) struct Opening {
    address: Address,
    channel: Box<str>,
    client: Box<str>,
    cancelled: bool,
}

impl Shard {
    /// Subscribes to a stored channel. When this returns, the subscription is live and its
    /// position durable.
    ///
    /// `control` is the connection: when another wants the client id, it is asked whether it
    /// lives.
    ///
    /// # Errors
    /// [`StoredRefused`].
    pub async fn subscribe_stored(
        self: &Rc<Self>,
        subscribe: StoredSubscribe<'_>,
        control: ConnectionControl,
    ) -> Result<StoredSubscriber, StoredRefused> {
        if self.draining.get() {
            return Err(StoredRefused::ShuttingDown);
        }
        let slot = self.placement.slot(subscribe.channel);
        let log = self.stored.placement.log_of(slot);
        let owner = self.stored_owner(slot);
        let key = {
            let mut receivers = self.stored.receivers.borrow_mut();
            receivers.insert(owner, log, control)
        };
        self.counters.subscriptions_events_store.increment();
        self.counters.subscriptions_added_events_store.increment();
        let local = self.stored.receivers.borrow().find(key).cloned();
        let local = local.ok_or(StoredRefused::ShuttingDown)?;
        // From here on dropping the subscriber, or this future, undoes everything.
        let subscriber = StoredSubscriber::new(self.clone(), key, local.clone());
        let open = OpenReceiver {
            slot,
            channel: subscribe.channel.into(),
            group: subscribe.group.into(),
            client: subscribe.client_id.into(),
            start: subscribe.start,
        };
        match self.lane(owner) {
            None => self.open_here(self.id, key, open),
            Some(lane) => lane.push_note(Note::Open {
                key,
                open: Box::new(open),
            }),
        }
        loop {
            local.answered.wait().await;
            let answer = local.opened.take();
            match answer {
                Some(Ok(())) => return Ok(subscriber),
                Some(Err(refused)) => return Err(refused),
                None if self.draining.get() => return Err(StoredRefused::ShuttingDown),
                None => {}
            }
        }
    }

    /// Opens a receiver for the core that asks.
    pub(in crate::shard) fn open_here(self: &Rc<Self>, core: u16, key: u64, open: OpenReceiver) {
        let address = Address { core, key };
        let Some(seat) = self.stored.seat_of(open.slot).cloned() else {
            return;
        };
        seat.opening.borrow_mut().push(Opening {
            address,
            channel: open.channel.clone(),
            client: open.client.clone(),
            cancelled: false,
        });
        let shard = self.clone();
        rt::spawn(Queue::Serve, "open", async move {
            let opened = shard.open_receiver(&seat, address, &open).await;
            seat.opening
                .borrow_mut()
                .retain(|opening| opening.address != address);
            seat.deliver_ready.raise();
            match shard.lane(core) {
                None => shard.opened_here(key, opened),
                Some(lane) => lane.push_note(Note::Opened {
                    key,
                    opened: opened.map_err(Box::new),
                }),
            }
        });
    }

    /// The answer for a receiver of this core.
    pub(in crate::shard) fn opened_here(&self, key: u64, opened: Result<(), StoredRefused>) {
        let local = self.stored.receivers.borrow().find(key).cloned();
        if let Some(local) = local {
            local.opened.replace(Some(opened));
            local.answered.raise();
        }
    }

    async fn open_receiver(
        self: &Rc<Self>,
        seat: &Rc<LogSeat>,
        address: Address,
        open: &OpenReceiver,
    ) -> Result<(), StoredRefused> {
        let policy = self.stored.policy(seat, &open.channel);
        self.claim_client(seat, address, open).await?;
        let (channel, cursor, position) = settle_position(seat, open, &policy).await?;
        if seat.is_cancelled(address) || self.draining.get() {
            return Err(StoredRefused::ShuttingDown);
        }
        let mut feeds = seat.feeds.borrow_mut();
        if policy.receivers_max > 0 && feeds.receivers(channel) >= policy.receivers_max {
            let max = policy.receivers_max;
            return Err(StoredRefused::ReceiverLimit { max });
        }
        let kept = |found: &Channel| {
            (
                Sequence::new(found.first.get().saturating_sub(1)),
                found.last,
            )
        };
        let kept = seat.slots.borrow().channel(channel).map(kept);
        let (trimmed, last) = kept.unwrap_or_default();
        let receiver = feeds.add(NewReceiver {
            channel,
            client: &open.client,
            group: &open.group,
            cursor,
            position,
            last,
            address,
        });
        feeds.trimmed(channel, trimmed);
        feeds.grant(receiver, WINDOW_BYTES);
        seat.receivers
            .borrow_mut()
            .insert((address.core, address.key), receiver);
        Ok(())
    }

    /// Makes sure that no live receiver of the channel has the client id; one whose connection is
    /// dead makes room.
    async fn claim_client(
        self: &Rc<Self>,
        seat: &Rc<LogSeat>,
        address: Address,
        open: &OpenReceiver,
    ) -> Result<(), StoredRefused> {
        let another_opens = seat.opening.borrow().iter().any(|other| {
            other.address != address
                && !other.cancelled
                && other.channel == open.channel
                && other.client == open.client
        });
        if another_opens {
            return Err(StoredRefused::ClientIdInUse);
        }
        let holder = {
            let slots = seat.slots.borrow();
            let channel = slots.find(open.slot, StoredKind::EventsStore, &open.channel);
            channel.and_then(|channel| seat.feeds.borrow().holder(channel, &open.client))
        };
        let Some(holder) = holder else { return Ok(()) };
        if self.receiver_lives(holder).await {
            return Err(StoredRefused::ClientIdInUse);
        }
        tracing::info!(
            client = %open.client,
            channel = %open.channel,
            "a dead connection held the client id; its successor takes over"
        );
        self.remove_receiver(seat, holder);
        Ok(())
    }
}

impl LogSeat {
    /// A receiver that is being opened has gone.
    pub(super) fn cancel_opening(&self, address: Address) {
        for opening in self.opening.borrow_mut().iter_mut() {
            if opening.address == address {
                opening.cancelled = true;
            }
        }
    }

    fn is_cancelled(&self, address: Address) -> bool {
        self.opening
            .borrow()
            .iter()
            .any(|opening| opening.address == address && opening.cancelled)
    }
}

/// Finds or makes the channel and the durable position, and waits until both are durable.
///
/// It ends with a look at which nothing had to be made: what was on its way to be deleted at that
/// moment has been made anew by then.
async fn settle_position(
    seat: &Rc<LogSeat>,
    open: &OpenReceiver,
    policy: &ChannelPolicy,
) -> Result<(ChannelKey, CursorId, Sequence), StoredRefused> {
    let (owner, name) = if open.group.is_empty() {
        (CursorOwner::Client, &open.client)
    } else {
        (CursorOwner::Group, &open.group)
    };
    let began = rt::now();
    loop {
        let known = {
            let slots = seat.slots.borrow();
            let channel = slots.find(open.slot, StoredKind::EventsStore, &open.channel);
            channel.map(|channel| (channel, slots.cursor(channel, owner, name)))
        };
        // Only for a position that is to be made; it may read from the log.
        let position = match known {
            Some((channel, None)) => start_position(seat, channel, open.start).await?,
            _ => Sequence::default(),
        };
        let before = seat.log.borrow().end();
        let prepared = {
            let mut log = seat.log.borrow_mut();
            let mut slots = seat.slots.borrow_mut();
            let now = rt::unix_ns().cast_unsigned();
            let (kind, limits) = (StoredKind::EventsStore, &policy.limits);
            let channel =
                slots.prepare_channel(&mut *log, open.slot, kind, &open.channel, now, limits);
            channel.and_then(|channel| match known {
                // The channel first: where its position begins is asked of what is stored.
                Some((known, _)) if known == channel => slots
                    .prepare_cursor(&mut *log, channel, owner, name, position, now, limits)
                    .map(|_| ()),
                _ => Ok(()),
            })
        };
        match prepared {
            Ok(()) => {}
            Err(StoreRefusal::Log(Refused::Busy)) if rt::now().since(began) < BUSY_PATIENCE => {
                // It takes a commit or the making of a segment.
                seat.jobs_ready.raise();
                rt::sleep(BUSY_STEP).await;
                continue;
            }
            Err(refusal) => return Err(StoreFailure::from(refusal).into()),
        }
        if let Some((channel, Some((cursor, position)))) = known
            && seat.log.borrow().end() == before
        {
            return Ok((channel, cursor, position));
        }
        seat.committed().await?;
    }
}

/// The last message before the start: what a new durable position counts as delivered.
async fn start_position(
    seat: &Rc<LogSeat>,
    channel: ChannelKey,
    start: Start,
) -> Result<Sequence, StoredRefused> {
    let (first, last) = {
        let slots = seat.slots.borrow();
        slots
            .channel(channel)
            .map_or((0, 0), |found| (found.first.get(), found.last.get()))
    };
    let position = match start {
        Start::New => last,
        Start::First => first.saturating_sub(1),
        Start::Last => last.saturating_sub(1),
        // Beyond the end begins with the next message that is stored.
        Start::Sequence(sequence) => sequence.saturating_sub(1).min(last),
        Start::Time(at_ns) => seek(seat, channel, at_ns, last).await,
        Start::Ago(ago) => {
            let now = rt::unix_ns().cast_unsigned();
            let ago = u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX);
            seek(seat, channel, now.saturating_sub(ago), last).await
        }
    };
    Ok(Sequence::new(position))
}

/// The last message before a time.
async fn seek(seat: &Rc<LogSeat>, channel: ChannelKey, at_ns: u64, last: u64) -> u64 {
    let mut cursor = ReadCursor::default();
    loop {
        let sought = seat.log.borrow().seek_time(channel, at_ns, &mut cursor);
        match sought {
            Seek::At(sequence) => return sequence.get().saturating_sub(1),
            Seek::End => return last,
            Seek::Cold(warm) => {
                let Some(warmed) = rt::blocking(move || warm.run()).await else {
                    return last;
                };
                seat.log.borrow_mut().warmed(warmed, &mut cursor);
            }
        }
    }
}
