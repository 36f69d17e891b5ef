//! What the clients of each durable position have had, and what the position may say.

use std::collections::{BTreeMap, HashSet, VecDeque};

use ringmq::engine::stored::Slots;
use ringmq_storage::{ChannelKey, CursorId, Position};

use super::world::Outcome;

/// A subscription, from going live to its end; never used again.
pub(crate) type Session = u64;

#[derive(Debug)]
struct Delivered {
    to: Session,
    confirmed: bool,
}

/// One durable position.
#[derive(Debug, Default)]
struct Watch {
    /// Where it stood at the start, or when it was made.
    floor: u64,
    /// What was delivered since.
    delivered: BTreeMap<u64, Delivered>,
    /// Moves on their way.
    moves: VecDeque<(Position, u64)>,
    committed: u64,
    durable: u64,
}

/// All durable positions.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    watches: BTreeMap<(ChannelKey, CursorId), Watch>,
    live: HashSet<Session>,
    last_session: Session,
}

impl Watches {
    /// A subscription goes live.
    pub(crate) fn open(&mut self, key: ChannelKey, cursor: CursorId, position: u64) -> Session {
        let new = Watch {
            floor: position,
            committed: position,
            ..Watch::default()
        };
        self.watches.entry((key, cursor)).or_insert(new);
        self.last_session += 1;
        self.live.insert(self.last_session);
        self.last_session
    }

    pub(crate) fn close(&mut self, session: Session) {
        self.live.remove(&session);
    }

    fn watch(&mut self, key: ChannelKey, cursor: CursorId) -> Outcome<&mut Watch> {
        let watch = self.watches.get_mut(&(key, cursor));
        watch.ok_or_else(|| format!("{key:?} has no position {cursor}"))
    }

    /// A message reaches a client. Returns whether it comes again.
    pub(crate) fn deliver(
        &mut self,
        key: ChannelKey,
        cursor: CursorId,
        sequence: u64,
        session: Session,
    ) -> Outcome<bool> {
        let live = self.live.clone();
        let watch = self.watch(key, cursor)?;
        if sequence <= watch.floor {
            let floor = watch.floor;
            return Err(format!(
                "message {sequence} comes again, the position was {floor}"
            ));
        }
        let new = Delivered {
            to: session,
            confirmed: false,
        };
        match watch.delivered.insert(sequence, new) {
            None => Ok(false),
            Some(before) if before.confirmed => {
                Err(format!("message {sequence} comes again, it was confirmed"))
            }
            Some(before) if live.contains(&before.to) => Err(format!(
                "message {sequence} goes to two subscribers at once"
            )),
            Some(_) => Ok(true),
        }
    }

    pub(crate) fn confirm(
        &mut self,
        key: ChannelKey,
        cursor: CursorId,
        sequence: u64,
        session: Session,
    ) -> Outcome {
        let watch = self.watch(key, cursor)?;
        match watch.delivered.get_mut(&sequence) {
            Some(delivered) if delivered.to == session => {
                delivered.confirmed = true;
                Ok(())
            }
            _ => Err(format!("message {sequence} was not delivered to {session}")),
        }
    }

    /// The broker wants to write down a position.
    pub(crate) fn check_move(
        &mut self,
        key: ChannelKey,
        cursor: CursorId,
        to: u64,
        first: u64,
    ) -> Outcome {
        self.watch(key, cursor)?.may_stand_at(to, first)
    }

    /// The log has taken a move.
    pub(crate) fn moved(&mut self, key: ChannelKey, cursor: CursorId, to: u64, end: Position) {
        if let Some(watch) = self.watches.get_mut(&(key, cursor)) {
            watch.moves.push_back((end, to));
        }
    }

    pub(crate) fn note_committed(&mut self, through: Position) {
        for watch in self.watches.values_mut() {
            let committed = watch.moves.iter().filter(|(end, _)| *end <= through);
            let committed = committed.map(|(_, to)| *to).max().unwrap_or(0);
            watch.committed = watch.committed.max(committed);
        }
    }

    pub(crate) fn note_durable(&mut self, through: Position) {
        for watch in self.watches.values_mut() {
            while let Some(&(end, to)) = watch.moves.front()
                && end <= through
            {
                watch.moves.pop_front();
                watch.durable = watch.durable.max(to);
                watch.committed = watch.committed.max(to);
            }
        }
    }

    pub(crate) fn forget_channel(&mut self, gone: ChannelKey) {
        self.watches.retain(|(key, _), _| *key != gone);
    }

    pub(crate) fn forget(&mut self, key: ChannelKey, cursor: CursorId) {
        self.watches.remove(&(key, cursor));
    }

    /// After a start: positions stand between what was promised and what was confirmed.
    pub(crate) fn survive(&mut self, slots: &Slots, cut: bool) -> Outcome {
        self.live.clear();
        let found = slots.channels().flat_map(|(key, channel)| {
            let cursors = slots.cursors(key);
            cursors
                .map(move |(id, cursor)| ((key, id), (cursor.position.get(), channel.first.get())))
        });
        let found: BTreeMap<_, _> = found.collect();
        self.watches.retain(|place, _| found.contains_key(place));
        for (place, watch) in &mut self.watches {
            let (position, first) = found[place];
            let promised = if cut { watch.durable } else { watch.committed };
            if position < promised {
                return Err(format!("{place:?} went back from {promised} to {position}"));
            }
            watch.may_stand_at(position, first)?;
            *watch = Watch {
                floor: position,
                committed: position,
                durable: position,
                ..Watch::default()
            };
        }
        Ok(())
    }

    /// Everything was delivered and confirmed, and the position says so.
    pub(crate) fn check_complete(&self, slots: &Slots) -> Outcome {
        for (&(key, id), watch) in &self.watches {
            let Some(channel) = slots.channel(key) else {
                return Err(format!("{key:?} has gone, its positions have not"));
            };
            let (first, last) = (channel.first.get(), channel.last.get());
            watch.may_stand_at(last, first)?;
            let mut cursors = slots.cursors(key);
            let position = cursors.find(|(found, _)| *found == id);
            let position = position.map_or(0, |(_, cursor)| cursor.position.get());
            if position.max(first - 1) < last {
                return Err(format!(
                    "{key:?}: position {id} ends at {position}, not {last}"
                ));
            }
        }
        Ok(())
    }
}

impl Watch {
    /// Everything up to a position was confirmed, or is gone.
    fn may_stand_at(&self, position: u64, first: u64) -> Outcome {
        for sequence in (self.floor + 1).max(first)..=position {
            let delivered = self.delivered.get(&sequence);
            if !delivered.is_some_and(|delivered| delivered.confirmed) {
                return Err(format!(
                    "message {sequence} was not confirmed, the position is {position}, was {}",
                    self.floor
                ));
            }
        }
        Ok(())
    }
}
