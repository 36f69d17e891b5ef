//! The broker's part of a run: what the shard does with log, engine and feeds, one step at a time.

use ringmq::engine::feeds::{Feeds, ReceiverKey};
use ringmq::engine::stored::{Effect, Slots};
use ringmq_storage::log::{
    Batch, Carry, CheckpointBuilder, Done, Job, JobOutcome, Log, ReadCursor, ReadEnd, Warm,
};
use ringmq_storage::{ChannelKey, CursorId, Position, Sequence, SlotId};

use super::deeds::{Message, Witnessed};
use super::habits::Mode;
use super::subscribers::{Chunk, State};
use super::world::{Outcome, World};

/// A batch on its way.
#[derive(Debug)]
pub(crate) enum Flight {
    None,
    Taken(Batch),
    Written(Batch),
    Synced(Batch),
}

/// What a log has for the blocking thread.
#[derive(Debug)]
pub(crate) enum Work {
    None,
    Job(Job),
    Done(Done),
}

/// A running broker.
pub(crate) struct Broker {
    pub(crate) log: Log,
    pub(crate) slots: Slots,
    pub(crate) feeds: Feeds<ReadCursor>,
    flight: Flight,
    work: Work,
    warms: Vec<(ReceiverKey, Warm)>,
    /// A checkpoint in the making, and the slots that are missing in it.
    checkpoint: Option<(CheckpointBuilder, Vec<SlotId>)>,
    moves: Vec<(ChannelKey, CursorId, Sequence)>,
    carry_cursor: ReadCursor,
}

impl Broker {
    pub(crate) fn new(log: Log, slots: Slots) -> Self {
        Self {
            log,
            slots,
            feeds: Feeds::new(),
            flight: Flight::None,
            work: Work::None,
            warms: Vec::new(),
            checkpoint: None,
            moves: Vec::new(),
            carry_cursor: ReadCursor::default(),
        }
    }

    /// Whether nothing is on its way to the disk.
    pub(crate) fn is_quiet(&self) -> bool {
        matches!((&self.flight, &self.work), (Flight::None, Work::None))
            && self.checkpoint.is_none()
            && !self.log.has_gathered()
            && self.log.unsynced().is_none()
    }

    /// Whether receivers have all there is.
    pub(crate) fn is_read(&self) -> bool {
        self.warms.is_empty() && !self.feeds.is_ready() && self.moves.is_empty()
    }

    /// Everything that the log holds, as a client without a position would read it.
    pub(crate) fn read_all(&mut self) -> Outcome<Vec<((ChannelKey, u64), Message)>> {
        let mut read = Vec::new();
        let keys: Vec<_> = self.slots.channels().map(|(key, _)| key).collect();
        for key in keys {
            let mut next = Sequence::new(1);
            let mut cursor = ReadCursor::default();
            loop {
                let upto = Sequence::new(u64::MAX);
                let end = self
                    .log
                    .read(key, next, upto, &mut cursor, 3_000, &mut |stored| {
                        let message = Message {
                            payload: stored.payload.to_vec(),
                            timestamp_ns: stored.timestamp_ns,
                        };
                        read.push(((key, stored.sequence.get()), message));
                        next = stored.sequence.next();
                    });
                match end {
                    ReadEnd::CaughtUp => break,
                    ReadEnd::More => {}
                    ReadEnd::Cold(warm) => self.log.warmed(warm.run(), &mut cursor),
                    ReadEnd::Damaged { first, last } => {
                        return Err(format!("{first} to {last} of {key:?} cannot be read"));
                    }
                }
            }
        }
        Ok(read)
    }
}

impl World {
    /// One step of the batch that is on its way.
    pub(crate) fn commit_step(&mut self, broker: &mut Broker) -> Outcome {
        let eager = self.mode != Mode::Strict;
        let flight = std::mem::replace(&mut broker.flight, Flight::None);
        broker.flight = match flight {
            Flight::None => broker.log.take_batch().map_or(Flight::None, Flight::Taken),
            Flight::Taken(batch) => {
                let path = broker.log.segment_path(batch.segment);
                let path = path.ok_or("a batch for an unknown segment")?;
                let offset = u64::from(batch.offset);
                let written = self.fs.append_write(&path, offset, &batch.bytes);
                written.map_err(|error| format!("writing a batch: {error}"))?;
                broker.log.written(batch.end);
                self.seen.rolls += u64::from(batch.must_sync);
                if eager {
                    self.commit(broker, batch.end)?;
                }
                Flight::Written(batch)
            }
            Flight::Written(batch) if batch.must_sync || !eager => {
                let path = broker.log.segment_path(batch.segment);
                let path = path.ok_or("a batch of an unknown segment")?;
                match self.fs.sync_path(&path) {
                    Ok(()) => {
                        self.synced(broker, batch.end);
                        Flight::Synced(batch)
                    }
                    Err(error) => {
                        broker.log.fail(error.to_string());
                        Flight::None
                    }
                }
            }
            Flight::Written(_) => Flight::None,
            Flight::Synced(batch) => {
                if !eager {
                    self.commit(broker, batch.end)?;
                }
                Flight::None
            }
        };
        Ok(())
    }

    fn synced(&mut self, broker: &mut Broker, end: Position) {
        broker.log.synced(end);
        self.deeds.note_durable(end);
        self.watches.note_durable(end);
    }

    /// The sync that comes from time to time when answers do not wait for it.
    pub(crate) fn sync_step(&mut self, broker: &mut Broker) -> Outcome {
        let Some((segment, end)) = broker.log.unsynced() else {
            return Ok(());
        };
        if self.mode == Mode::Strict || !matches!(broker.flight, Flight::None) {
            return Ok(());
        }
        let path = broker.log.segment_path(segment);
        let path = path.ok_or("an unsynced segment without a file")?;
        match self.fs.sync_path(&path) {
            Ok(()) => self.synced(broker, end),
            Err(error) => broker.log.fail(error.to_string()),
        }
        Ok(())
    }

    fn commit(&mut self, broker: &mut Broker, through: Position) -> Outcome {
        let committed = broker.log.commit(through, &mut broker.slots);
        committed.map_err(|divergence| format!("commit through {through}: {divergence}"))?;
        self.deeds.note_committed(through);
        self.watches.note_committed(through);
        for publisher in &mut self.publishers {
            self.seen.acknowledged += publisher.answer(through);
        }
        let mut effects = Vec::new();
        broker.slots.take_effects(&mut effects);
        for effect in effects {
            self.take_effect(broker, effect);
        }
        Ok(())
    }

    fn take_effect(&mut self, broker: &mut Broker, effect: Effect) {
        match effect {
            Effect::Stored { key, last } => broker.feeds.stored(key, last),
            Effect::Trimmed { key, through, .. } => {
                broker.feeds.trimmed(key, through);
                self.seen.trims += 1;
            }
            Effect::Deleted { key } => {
                let mut ended = Vec::new();
                broker.feeds.channel_deleted(key, &mut ended);
                for (_, address) in ended {
                    let number = usize::try_from(address.key).unwrap();
                    let state = &mut self.subscribers[number].state;
                    if let State::Live(live) = std::mem::replace(state, State::Away) {
                        self.watches.close(live.session);
                    }
                }
                broker.moves.retain(|(of, ..)| *of != key);
                self.watches.forget_channel(key);
                self.seen.deletions += 1;
            }
            Effect::CursorDeleted { key, cursor } => {
                broker.feeds.cursor_deleted(key, cursor);
                broker
                    .moves
                    .retain(|(of, id, _)| (*of, *id) != (key, cursor));
                self.watches.forget(key, cursor);
                self.seen.expired += 1;
            }
            _ => {}
        }
    }

    /// One step of the job that is under way, if there is one to do.
    pub(crate) fn job_step(&mut self, broker: &mut Broker) {
        let work = std::mem::replace(&mut broker.work, Work::None);
        broker.work = match work {
            Work::None => {
                if broker.checkpoint.is_some() || broker.log.wants_checkpoint() {
                    self.checkpoint(broker);
                    return;
                }
                broker.log.next_job().map_or(Work::None, Work::Job)
            }
            Work::Job(job) => Work::Done(job.run(&self.fs)),
            Work::Done(done) => {
                let outcome = broker.log.done(done);
                self.seen.checkpoints +=
                    u64::from(matches!(outcome, JobOutcome::CheckpointWritten));
                Work::None
            }
        };
    }

    /// One step of a checkpoint: commits may come between its slots.
    pub(crate) fn checkpoint(&mut self, broker: &mut Broker) {
        let Some((mut builder, mut missing)) = broker.checkpoint.take() else {
            let builder = broker.log.begin_checkpoint();
            let slots = builder.slots();
            broker.checkpoint = Some((builder, slots));
            return;
        };
        let slots = &broker.slots;
        let Some(slot) = missing.pop() else {
            broker.log.submit_checkpoint(builder);
            return;
        };
        builder.section(slot, slots.applied(slot), |out| {
            slots.encode_section(slot, out);
        });
        broker.checkpoint = Some((builder, missing));
    }

    /// Copies something out of a mostly dead segment.
    pub(crate) fn carry(&mut self, broker: &mut Broker) {
        let before = broker.log.end();
        match broker
            .log
            .carry_some(&mut broker.carry_cursor, 2_000, &broker.slots)
        {
            Carry::Cold(warm) => broker.log.warmed(warm.run(), &mut broker.carry_cursor),
            Carry::Idle | Carry::More | Carry::Refused(_) => {}
        }
        self.seen.carried += u64::from(broker.log.end() > before);
    }

    /// A receiver's turn, or a window that has become warm.
    pub(crate) fn deliver(&mut self, broker: &mut Broker) -> Outcome {
        if !broker.warms.is_empty() && self.random.percent(50) {
            let at = self.random.below(broker.warms.len());
            let (receiver, warm) = broker.warms.swap_remove(at);
            let warmed = warm.run();
            if let Some(cursor) = broker.feeds.reader(receiver) {
                broker.log.warmed(warmed, cursor);
            }
            broker.feeds.resume(receiver);
            self.seen.warms += 1;
            return Ok(());
        }
        let Some(turn) = broker.feeds.next() else {
            return Ok(());
        };
        let mut read: Vec<(u64, Message)> = Vec::new();
        let (key, upto) = (turn.channel, turn.upto);
        let cursor = broker.feeds.reader(turn.receiver);
        let cursor = cursor.ok_or("a turn for a receiver that has gone")?;
        let visit = &mut |stored: ringmq_storage::log::Stored<'_>| {
            let message = Message {
                payload: stored.payload.to_vec(),
                timestamp_ns: stored.timestamp_ns,
            };
            read.push((stored.sequence.get(), message));
        };
        let end = broker
            .log
            .read(key, turn.from, upto, cursor, turn.bytes_max, visit);
        let sequences: Vec<_> = read.iter().map(|(sequence, _)| *sequence).collect();
        let bytes = read
            .iter()
            .map(|(_, message)| message.payload.len() + 32)
            .sum();
        for (sequence, message) in &read {
            if self.deeds.message(key, *sequence) != Some(message) {
                return Err(format!(
                    "message {sequence} of {key:?} is not what was stored"
                ));
            }
        }
        let number = usize::try_from(turn.address.key).unwrap();
        if let (Some(first), Some(last)) = (sequences.first(), sequences.last()) {
            let (first, last) = (Sequence::new(*first), Sequence::new(*last));
            let mark = broker.feeds.sent(turn.receiver, first, last, bytes);
            let first_kept = broker
                .slots
                .channel(key)
                .map_or(1, |found| found.first.get());
            self.receive(number, &sequences, first_kept)?;
            let live = self.subscribers[number].live().ok_or("a turn for nobody")?;
            live.in_flight.push_back(Chunk {
                mark,
                sequences,
                bytes,
            });
        } else if matches!(end, ReadEnd::CaughtUp | ReadEnd::More) {
            broker.feeds.caught_up(turn.receiver);
        }
        match end {
            ReadEnd::CaughtUp | ReadEnd::More => Ok(()),
            ReadEnd::Cold(warm) => {
                broker.feeds.parked(turn.receiver);
                broker.warms.push((turn.receiver, warm));
                Ok(())
            }
            ReadEnd::Damaged { first, last } => {
                Err(format!("{first} to {last} of {key:?} cannot be read"))
            }
        }
    }

    /// Positions that have moved are written down.
    pub(crate) fn write_moves(&mut self, broker: &mut Broker) -> Outcome {
        let before = broker.moves.len();
        broker.feeds.take_moves(&mut broker.moves);
        for (key, cursor, to) in &broker.moves[before..] {
            let first = broker
                .slots
                .channel(*key)
                .map_or(1, |found| found.first.get());
            self.watches.check_move(*key, *cursor, to.get(), first)?;
        }
        broker.moves.sort_unstable();
        while let Some((key, ..)) = broker.moves.first() {
            let slot = key.slot;
            let run = broker.moves.iter().take_while(|(key, ..)| key.slot == slot);
            let run: Vec<_> = run.copied().collect();
            let moves: Vec<_> = run.iter().map(|(_, cursor, to)| (*cursor, *to)).collect();
            let mut log = Witnessed {
                log: &mut broker.log,
                deeds: &mut self.deeds,
            };
            let prepared = broker
                .slots
                .prepare_moves(&mut log, slot, self.now_ns, &moves);
            if prepared.is_err() {
                break;
            }
            let end = broker.log.end();
            for (key, cursor, to) in run {
                self.watches.moved(key, cursor, to.get(), end);
            }
            broker.moves.retain(|(key, ..)| key.slot != slot);
            self.seen.moves += 1;
        }
        self.deeds.note_taken();
        Ok(())
    }
}
