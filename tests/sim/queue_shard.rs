//! The shard's part of a run with queues: what it does with log, state and dispatcher, one step at
//! a time.

use ringmq::engine::queues::dispatcher::{Dispatcher, Pending, PendingMove, Timeout};
use ringmq::engine::queues::{MoveReason, SettleReason};
use ringmq::engine::stored::{Arrived, Effect, Slots};
use ringmq_storage::log::{
    Carry, CheckpointBuilder, JobOutcome, Log, ReadCursor, ReadEnd, Refused,
};
use ringmq_storage::record::queue::{MoveId, QueueHead, Run};
use ringmq_storage::{ChannelKey, Position, SegmentId, Sequence, SlotId};

use super::broker::{Flight, Work};
use super::queues::{MS, QUEUES, World};
use super::world::Outcome;

/// A running shard.
pub(crate) struct Shard {
    pub(crate) log: Log,
    pub(crate) slots: Slots,
    pub(crate) dispatcher: Dispatcher<u64>,
    flight: Flight,
    work: Work,
    checkpoint: Option<(CheckpointBuilder, Vec<SlotId>)>,
    carry_cursor: ReadCursor,
    /// Moves that are committed where they begin.
    outgoing: Vec<(ChannelKey, Sequence)>,
    /// Moves that are over where they begin, or soon will be, and where they went.
    over: Vec<(SlotId, MoveId)>,
}

impl Shard {
    /// Behind everything that is ever committed.
    pub(crate) const NEVER: Position = Position::new(SegmentId::new(u32::MAX), u32::MAX);

    pub(crate) fn new(log: Log, slots: Slots, dispatcher: Dispatcher<u64>) -> Self {
        Self {
            log,
            slots,
            dispatcher,
            flight: Flight::None,
            work: Work::None,
            checkpoint: None,
            carry_cursor: ReadCursor::default(),
            outgoing: Vec::new(),
            over: Vec::new(),
        }
    }

    /// Whether nothing is on its way.
    pub(crate) fn is_quiet(&self) -> bool {
        matches!((&self.flight, &self.work), (Flight::None, Work::None))
            && self.checkpoint.is_none()
            && !self.log.has_gathered()
            && !self.dispatcher.has_pending()
            && self.outgoing.is_empty()
            && self.over.is_empty()
    }

    /// The number of the message whose body is there, and the length of its payload.
    pub(crate) fn read(&mut self, key: ChannelKey, body: Sequence) -> Outcome<(u64, u32)> {
        let (id, payload) = self.read_whole(key, body)?;
        Ok((id, u32::try_from(payload.len()).unwrap()))
    }

    fn read_whole(&mut self, key: ChannelKey, body: Sequence) -> Outcome<(u64, Vec<u8>)> {
        let mut cursor = ReadCursor::default();
        loop {
            let mut found = None;
            let mut visit = |stored: ringmq_storage::log::Stored<'_>| {
                found = Some((stored.sequence, stored.payload.to_vec()));
            };
            let end = self.log.read(key, body, body, &mut cursor, 1, &mut visit);
            match (end, found) {
                (ReadEnd::Cold(warm), None) => self.log.warmed(warm.run(), &mut cursor),
                (_, Some((sequence, payload))) if sequence == body => {
                    let read = QueueHead::decode(&payload);
                    let (_, rest) = read.map_err(|bad| format!("{body} of {key:?}: {bad}"))?;
                    let id = rest.first_chunk().copied().map(u64::from_le_bytes);
                    return Ok((id.ok_or("a body without a number")?, payload));
                }
                (end, found) => {
                    return Err(format!(
                        "body {body} of {key:?} is gone: {end:?}, {found:?}"
                    ));
                }
            }
        }
    }

    /// After a start: moves that were begun go on, and those that are over are forgotten.
    pub(crate) fn take_up_moves(&mut self) {
        for (key, channel) in self.slots.channels() {
            let queue = channel.queue().into_iter();
            let moves = queue.flat_map(|queue| queue.moves());
            self.outgoing
                .extend(moves.map(|(sequence, _)| (key, sequence)));
        }
        let over = self.slots.arrivals().filter(|(_, id)| {
            let (slot, channel) = (id.slot, id.channel);
            let source = self.slots.queue(ChannelKey { slot, channel });
            source.is_none_or(|queue| queue.open_move(id.sequence).is_none())
        });
        self.over = over.collect();
    }

    pub(crate) fn begin_checkpoint(&mut self) {
        if self.checkpoint.is_none() {
            let builder = self.log.begin_checkpoint();
            let slots = builder.slots();
            self.checkpoint = Some((builder, slots));
        }
    }

    fn checkpoint_step(&mut self) {
        let Some((mut builder, mut missing)) = self.checkpoint.take() else {
            return self.begin_checkpoint();
        };
        let slots = &self.slots;
        let Some(slot) = missing.pop() else {
            self.log.submit_checkpoint(builder);
            return;
        };
        builder.section(slot, slots.applied(slot), |out| {
            slots.encode_section(slot, out);
        });
        self.checkpoint = Some((builder, missing));
    }
}

impl World {
    /// One step of the batch that is on its way.
    pub(crate) fn commit_step(&mut self, shard: &mut Shard) -> Outcome {
        let flight = std::mem::replace(&mut shard.flight, Flight::None);
        shard.flight = match flight {
            Flight::None => {
                self.flush(shard)?;
                shard.log.take_batch().map_or(Flight::None, Flight::Taken)
            }
            Flight::Taken(batch) => {
                let path = shard.log.segment_path(batch.segment);
                let path = path.ok_or("a batch for an unknown segment")?;
                let offset = u64::from(batch.offset);
                let written = self.fs.append_write(&path, offset, &batch.bytes);
                written.map_err(|error| format!("writing a batch: {error}"))?;
                shard.log.written(batch.end);
                Flight::Written(batch)
            }
            Flight::Written(batch) => {
                let path = shard.log.segment_path(batch.segment);
                let path = path.ok_or("a batch of an unknown segment")?;
                let synced = self.fs.sync_path(&path);
                synced.map_err(|error| format!("syncing a batch: {error}"))?;
                shard.log.synced(batch.end);
                Flight::Synced(batch)
            }
            Flight::Synced(batch) => {
                self.commit(shard, batch.end)?;
                Flight::None
            }
        };
        Ok(())
    }

    fn commit(&mut self, shard: &mut Shard, through: Position) -> Outcome {
        let committed = shard.log.commit(through, &mut shard.slots);
        committed.map_err(|divergence| format!("commit through {through}: {divergence}"))?;
        let mut effects = Vec::new();
        shard.slots.take_effects(&mut effects);
        for effect in effects {
            match effect {
                Effect::Stored { key, last } => {
                    let state = shard.slots.queue(key).ok_or("stored in no queue")?;
                    shard.dispatcher.stored(key, last, state, self.now_ns);
                }
                Effect::MoveCommitted { key, sequence } => {
                    shard.outgoing.push((key, sequence));
                    self.seen.moved += 1;
                }
                Effect::MoveCancelled { key, sequence } => {
                    let state = shard.slots.queue(key).ok_or("a move in no queue")?;
                    let dispatcher = &mut shard.dispatcher;
                    dispatcher.move_cancelled(key, sequence, state, self.now_ns);
                    self.seen.stayed += 1;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes what the dispatcher has decided, as far as the log has room.
    fn flush(&mut self, shard: &mut Shard) -> Outcome {
        while let Some((key, pending)) = shard.dispatcher.next_pending() {
            if self.write(shard, key, &pending)?.is_err() {
                shard.dispatcher.put_pending_back(key, pending);
                return Ok(());
            }
        }
        Ok(())
    }

    fn write(
        &mut self,
        shard: &mut Shard,
        key: ChannelKey,
        pending: &Pending,
    ) -> Outcome<Result<(), Refused>> {
        let (slots, log, now_ns) = (&mut shard.slots, &mut shard.log, self.now_ns);
        Ok(match pending {
            Pending::Settle {
                reason,
                bytes,
                runs,
            } => {
                let done = slots.prepare_settle(log, key, *reason, *bytes, runs, now_ns);
                if done.is_ok() {
                    self.note_settled(shard, key, runs)?;
                }
                done
            }
            Pending::Requeue(entries) => slots.prepare_requeue(log, key, entries, now_ns),
            Pending::Count(entries) => slots.prepare_count(log, key, entries, now_ns),
            Pending::Move(operation) => return self.write_move(shard, key, operation),
        })
    }

    fn note_settled(&mut self, shard: &Shard, key: ChannelKey, runs: &[Run]) -> Outcome {
        let state = shard.slots.queue(key).ok_or("settled in no queue")?;
        for sequence in runs.iter().flat_map(|run| run.first.get()..=run.last.get()) {
            let body = state.body_of(Sequence::new(sequence)).get();
            let id = self
                .bodies
                .get(&(key, body))
                .ok_or("settled without a body")?;
            let fate = self.fates.get_mut(id).ok_or("settled and never sent")?;
            fate.settled = Some(shard.log.end());
        }
        Ok(())
    }

    /// A move begins; or a message has nowhere to go, and is dropped.
    fn write_move(
        &mut self,
        shard: &mut Shard,
        key: ChannelKey,
        operation: &PendingMove,
    ) -> Outcome<Result<(), Refused>> {
        let sequence = operation.sequence;
        let (_, dead) = self.queue(QUEUES - 1);
        let name = shard.slots.channel(key).map(|channel| channel.name.clone());
        let (slots, log, now_ns) = (&mut shard.slots, &mut shard.log, self.now_ns);
        if operation.target.is_none() && name.as_deref() == Some(dead.as_str()) {
            let (reason, bytes) = (SettleReason::Dropped, u64::from(operation.len));
            let run = Run {
                first: sequence,
                last: sequence,
            };
            let done = slots.prepare_settle(log, key, reason, bytes, &[run], now_ns);
            if done.is_ok() {
                self.seen.dropped += 1;
                self.note_settled(shard, key, &[run])?;
                shard.dispatcher.move_done(key, sequence, operation.len);
            }
            return Ok(done);
        }
        let target = operation.target.as_deref().unwrap_or(&dead);
        Ok(slots.prepare_move(log, key, sequence, operation.reason, target, now_ns))
    }

    /// One step of each move that is under way.
    pub(crate) fn move_step(&mut self, shard: &mut Shard) -> Outcome {
        for (key, sequence) in std::mem::take(&mut shard.outgoing) {
            if !self.step_of(shard, key, sequence)? {
                shard.outgoing.push((key, sequence));
            }
        }
        for (slot, id) in std::mem::take(&mut shard.over) {
            let source = ChannelKey {
                slot: id.slot,
                channel: id.channel,
            };
            let queue = shard.slots.queue(source);
            let is_over = queue.is_none_or(|queue| !queue.is_live(id.sequence));
            let (slots, log) = (&mut shard.slots, &mut shard.log);
            if !is_over || slots.prepare_forget(log, slot, &[id], self.now_ns).is_err() {
                shard.over.push((slot, id));
            }
        }
        Ok(())
    }

    /// One step of a move; whether it was the last one.
    fn step_of(&mut self, shard: &mut Shard, key: ChannelKey, sequence: Sequence) -> Outcome<bool> {
        let state = shard.slots.queue(key).ok_or("a move in no queue")?;
        let open = state.open_move(sequence).ok_or("a move that is not open")?;
        let (reason, body) = (open.reason, state.body_of(sequence));
        let number = (0..QUEUES).find(|number| *self.queue(*number).1 == *open.target);
        let number = number.ok_or("a move to an unknown queue")?;
        let (slot, _) = self.queue(number);
        let id = MoveId {
            slot: key.slot,
            channel: key.channel,
            sequence,
        };
        match shard.slots.arrived(slot, &id) {
            Arrived::Pending => Ok(false),
            Arrived::No if self.random.percent(20) && reason != MoveReason::DeadLetter => {
                let (slots, log) = (&mut shard.slots, &mut shard.log);
                let done = slots.prepare_move_cancel(log, key, sequence, self.now_ns);
                Ok(done.is_ok())
            }
            Arrived::No => {
                let (_, payload) = shard.read_whole(key, body)?;
                let read = QueueHead::decode(&payload);
                let (head, rest) = read.map_err(|bad| bad.to_string())?;
                let head = QueueHead {
                    visible_at_ns: 0,
                    moved: Some((reason as u8, id)),
                    ..head
                };
                self.store(shard, number, &head, rest, Some(id))?;
                Ok(false)
            }
            Arrived::Yes => {
                let (_, len) = shard.read(key, body)?;
                let run = Run {
                    first: sequence,
                    last: sequence,
                };
                let (slots, log, reason) = (&mut shard.slots, &mut shard.log, SettleReason::Moved);
                let bytes = u64::from(len);
                let done = slots.prepare_settle(log, key, reason, bytes, &[run], self.now_ns);
                if done.is_ok() {
                    shard.dispatcher.move_done(key, sequence, len);
                    shard.over.push((slot, id));
                }
                Ok(done.is_ok())
            }
        }
    }

    /// One step of the job that is under way, if there is one to do.
    pub(crate) fn job_step(&mut self, shard: &mut Shard) {
        let work = std::mem::replace(&mut shard.work, Work::None);
        shard.work = match work {
            Work::None => {
                if shard.checkpoint.is_some() || shard.log.wants_checkpoint() {
                    shard.checkpoint_step();
                    return;
                }
                shard.log.next_job().map_or(Work::None, Work::Job)
            }
            Work::Job(job) => Work::Done(job.run(&self.fs)),
            Work::Done(done) => {
                let outcome = shard.log.done(done);
                let written = matches!(outcome, JobOutcome::CheckpointWritten);
                self.seen.checkpoints += u64::from(written);
                Work::None
            }
        };
    }

    /// Delays and leases end; leases that last are counted.
    pub(crate) fn pass_time(&mut self, shard: &mut Shard) {
        let mut events = Vec::new();
        let (slots, dispatcher) = (&shard.slots, &mut shard.dispatcher);
        while !dispatcher.advance(self.now_ns, |key| slots.queue(key), &mut events) {}
        for event in events {
            if let Timeout::Lease {
                delivery,
                sequences,
                ..
            } = event
            {
                self.lease_over(delivery, &sequences);
            }
        }
        let before_ms = (self.now_ns / MS).saturating_sub(10);
        shard.dispatcher.count_old_leases(before_ms);
    }

    /// Gives space back.
    pub(crate) fn keep_house(&mut self, shard: &mut Shard) -> Outcome {
        let channels = shard.slots.channels();
        let floors = channels.filter_map(|(key, channel)| {
            let floor = channel.queue()?.floor();
            (floor >= channel.first).then_some((key, floor))
        });
        for (key, floor) in floors.collect::<Vec<_>>() {
            let (slots, log) = (&mut shard.slots, &mut shard.log);
            let done = slots.prepare_trim(log, key, floor, self.now_ns);
            if let Err(refusal) = done
                && !matches!(refusal, ringmq::engine::stored::StoreRefusal::Log(_))
            {
                return Err(format!("trimming: {refusal}"));
            }
        }
        let before = shard.log.end();
        let (log, cursor) = (&mut shard.log, &mut shard.carry_cursor);
        if let Carry::Cold(warm) = log.carry_some(cursor, 2_000, &shard.slots) {
            log.warmed(warm.run(), cursor);
        }
        self.seen.carried += u64::from(shard.log.end() > before);
        Ok(())
    }
}
