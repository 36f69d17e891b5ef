//! Subscribers: clients and groups with durable positions.

use std::collections::VecDeque;

use ringmq::engine::feeds::{Address, Mark, NewReceiver, ReceiverKey};
use ringmq::engine::stored::{CursorOwner, StoredKind};
use ringmq_storage::{ChannelKey, CursorId, Position, Sequence};

use super::broker::Broker;
use super::deeds::Witnessed;
use super::watch::Session;
use super::world::{Outcome, World};

/// A client that wants the messages of one channel.
#[derive(Debug)]
pub(crate) struct Subscriber {
    /// Which of the channels.
    channel: usize,
    client: String,
    /// Its group, or empty.
    group: String,
    pub(crate) state: State,
}

#[derive(Debug)]
pub(crate) enum State {
    Away,
    /// Waits until its position is durable.
    Opening {
        key: ChannelKey,
        cursor: CursorId,
        end: Position,
    },
    Live(Live),
}

/// A live subscription.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) key: ChannelKey,
    pub(crate) cursor: CursorId,
    pub(crate) receiver: ReceiverKey,
    pub(crate) session: Session,
    /// The last message it got.
    pub(crate) last: u64,
    pub(crate) in_flight: VecDeque<Chunk>,
}

#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) mark: Mark,
    pub(crate) sequences: Vec<u64>,
    pub(crate) bytes: usize,
}

impl Subscriber {
    pub(crate) fn new(number: usize, channel: usize, group: Option<usize>) -> Self {
        Self {
            channel,
            client: format!("client.{number}"),
            group: group
                .map(|group| format!("group.{group}"))
                .unwrap_or_default(),
            state: State::Away,
        }
    }

    fn owner(&self) -> (CursorOwner, &str) {
        if self.group.is_empty() {
            (CursorOwner::Client, &self.client)
        } else {
            (CursorOwner::Group, &self.group)
        }
    }

    pub(crate) fn is_grouped(&self) -> bool {
        !self.group.is_empty()
    }

    pub(crate) fn live(&mut self) -> Option<&mut Live> {
        match &mut self.state {
            State::Live(live) => Some(live),
            State::Away | State::Opening { .. } => None,
        }
    }
}

impl World {
    /// A subscriber comes, or gets on with coming.
    pub(crate) fn connect(&mut self, broker: &mut Broker, number: usize) -> Outcome {
        let before = self.deeds.len();
        let subscriber = &self.subscribers[number];
        let opening = match subscriber.state {
            State::Live(_) => return Ok(()),
            State::Opening { end, .. } if broker.log.committed() < end => return Ok(()),
            State::Opening { key, cursor, .. } => Some((key, cursor)),
            State::Away => None,
        };
        let (slot, name) = self.channel(subscriber.channel);
        let (owner, cursor_name) = subscriber.owner();
        let start = self.random.below(30);
        let now_ns = self.now_ns;
        let mut log = Witnessed {
            log: &mut broker.log,
            deeds: &mut self.deeds,
        };
        let (slots, limits) = (&mut broker.slots, &self.habits.limits);
        let kind = StoredKind::EventsStore;
        let key = slots.prepare_channel(&mut log, slot, kind, &name, now_ns, limits);
        let Ok(key) = key else {
            self.subscribers[number].state = State::Away;
            return Ok(());
        };
        let position = Sequence::new(u64::try_from(start).unwrap_or(0));
        let made =
            slots.prepare_cursor(&mut log, key, owner, cursor_name, position, now_ns, limits);
        self.deeds.note_taken();
        let Ok(cursor) = made else {
            self.subscribers[number].state = State::Away;
            return Ok(());
        };
        // Nothing had to be made, and nothing is on its way: it is all durable.
        if opening == Some((key, cursor)) && self.deeds.len() == before {
            return self.go_live(broker, number, key, cursor);
        }
        let end = broker.log.end();
        self.subscribers[number].state = State::Opening { key, cursor, end };
        Ok(())
    }

    fn go_live(
        &mut self,
        broker: &mut Broker,
        number: usize,
        key: ChannelKey,
        cursor: CursorId,
    ) -> Outcome {
        let subscriber = &self.subscribers[number];
        let (owner, name) = subscriber.owner();
        let found = broker.slots.cursor(key, owner, name);
        let Some((found, position)) = found else {
            return Err(format!("{key:?} has lost the position of {name}"));
        };
        if found != cursor {
            return Err(format!("{name} has position {cursor} and {found}"));
        }
        let last = broker.slots.channel(key).map(|channel| channel.last);
        let address = Address {
            core: 0,
            key: u64::try_from(number).unwrap_or(0),
        };
        let receiver = broker.feeds.add(NewReceiver {
            channel: key,
            client: &subscriber.client,
            group: &subscriber.group,
            cursor,
            position,
            last: last.unwrap_or_default(),
            address,
        });
        broker.feeds.grant(receiver, self.habits.window_bytes);
        let session = self.watches.open(key, cursor, position.get());
        self.seen.subscriptions += 1;
        self.subscribers[number].state = State::Live(Live {
            key,
            cursor,
            receiver,
            session,
            last: 0,
            in_flight: VecDeque::new(),
        });
        Ok(())
    }

    /// A subscriber goes without a word.
    pub(crate) fn leave(&mut self, broker: &mut Broker, number: usize) {
        let subscriber = &mut self.subscribers[number];
        if let State::Live(live) = std::mem::replace(&mut subscriber.state, State::Away) {
            broker.feeds.remove(live.receiver);
            self.watches.close(live.session);
        }
    }

    /// A chunk reaches a client.
    pub(crate) fn receive(&mut self, number: usize, sequences: &[u64], first_kept: u64) -> Outcome {
        let subscriber = &mut self.subscribers[number];
        let grouped = subscriber.is_grouped();
        let live = subscriber.live().ok_or("a chunk for nobody")?;
        for &sequence in sequences {
            let (key, cursor) = (live.key, live.cursor);
            let again = self.watches.deliver(key, cursor, sequence, live.session)?;
            self.seen.delivered += 1;
            self.seen.delivered_again += u64::from(again);
            if live.last >= sequence && !grouped {
                return Err(format!("message {sequence} comes behind {}", live.last));
            }
            if live.last > 0 && !grouped && sequence > (live.last + 1).max(first_kept) {
                return Err(format!(
                    "message {sequence} comes behind {}: a gap",
                    live.last
                ));
            }
            live.last = sequence;
        }
        Ok(())
    }

    /// A client confirms some of what it got.
    pub(crate) fn confirm(&mut self, broker: &mut Broker, number: usize) -> Outcome {
        let count = self.random.between(1, 4);
        let Some(live) = self.subscribers[number].live() else {
            return Ok(());
        };
        let mut mark = None;
        for _ in 0..count {
            let Some(chunk) = live.in_flight.pop_front() else {
                break;
            };
            for sequence in chunk.sequences {
                self.watches
                    .confirm(live.key, live.cursor, sequence, live.session)?;
            }
            let bytes = u64::try_from(chunk.bytes).unwrap_or(0);
            broker.feeds.grant(live.receiver, bytes);
            mark = Some(chunk.mark);
        }
        if let Some(mark) = mark {
            broker.feeds.confirmed(live.receiver, mark);
        }
        Ok(())
    }
}
