//! What the world of whole queues does with its log: writing, committing, losing.

use std::collections::BTreeMap;

use ringmq_storage::log::Refused;
use ringmq_storage::record::RecordKind;
use ringmq_storage::{ChannelKey, Sequence};

use super::{Place, World, all_slots, over};
use crate::engine::queues::SettleReason;
use crate::engine::queues::dispatcher::{Dispatcher, Pending, PendingMove, QueuePolicy};
use crate::engine::stored::Effect;
use crate::engine::stored::tests::queue_rules::runs;

impl World {
    /// Writes what was decided; the log may have no room for all of it.
    pub(super) fn flush(&mut self, busy: bool) {
        let room = usize::try_from(self.dice.roll(3)).unwrap();
        self.tape.refuse_after = busy.then_some((room, Refused::Busy));
        while let Some((key, pending)) = self.dispatcher.next_pending() {
            let (slots, tape, now_ns) = (&mut self.slots, &mut self.tape, self.now_ns);
            let written = match &pending {
                Pending::Settle {
                    reason,
                    bytes,
                    runs,
                } => slots.prepare_settle(tape, key, *reason, *bytes, runs, now_ns),
                Pending::Requeue(entries) => slots.prepare_requeue(tape, key, entries, now_ns),
                Pending::Count(entries) => slots.prepare_count(tape, key, entries, now_ns),
                Pending::Move(PendingMove {
                    sequence,
                    len,
                    reason,
                    ..
                }) => {
                    self.moving.insert((key, *sequence), *len);
                    slots.prepare_move(tape, key, *sequence, *reason, "target", now_ns)
                }
            };
            if written.is_err() {
                self.dispatcher.put_pending_back(key, pending);
                break;
            }
            self.dispatcher.recycle(pending);
        }
        self.tape.refuse_after = None;
    }

    pub(super) fn commit(&mut self, frames: usize) {
        self.tape.commit(&mut self.slots, frames);
        let mut effects = Vec::new();
        self.slots.take_effects(&mut effects);
        self.look();
        for effect in effects {
            match effect {
                Effect::Stored { key, last } => {
                    let state = self.slots.queue(key).unwrap();
                    self.dispatcher.stored(key, last, state, self.now_ns);
                }
                Effect::MoveCommitted { key, sequence } => self.end_move((key, sequence)),
                Effect::MoveCancelled { key, sequence } => {
                    let state = self.slots.queue(key).unwrap();
                    self.dispatcher
                        .move_cancelled(key, sequence, state, self.now_ns);
                    self.busy.remove(&(key, sequence));
                    self.uncounted.insert((key, sequence));
                }
                _ => {}
            }
        }
        self.serve();
    }

    /// The target has taken a message, or refused it.
    fn end_move(&mut self, place: Place) {
        let (key, sequence) = place;
        let (slots, tape, now_ns) = (&mut self.slots, &mut self.tape, self.now_ns);
        if self.dice.roll(3) == 0 {
            slots
                .prepare_move_cancel(tape, key, sequence, now_ns)
                .unwrap();
            return;
        }
        let run = runs(&[(sequence.get(), sequence.get())]);
        let (reason, len) = (SettleReason::Moved, self.moving[&place]);
        slots
            .prepare_settle(tape, key, reason, len.into(), &run, now_ns)
            .unwrap();
        self.dispatcher.move_done(key, sequence, len);
        let body = self.body(place);
        self.ending.insert(body);
    }

    /// What the records have made: nothing vanishes undecided, nothing that is gone comes back.
    fn look(&mut self) {
        let mut alive = BTreeMap::new();
        for key in self.keys.clone() {
            let state = self.state(key);
            for of in state.live().flat_map(|(a, b)| a.get()..=b.get()) {
                let body = (key, state.body_of(Sequence::new(of)));
                assert!(!self.dead.contains(&body), "{body:?} comes again");
                assert!(alive.insert(body, 0).is_none(), "{body:?} is in two places");
            }
        }
        self.tape.each_record(|slot, _, record| {
            let channel = record.head.channel;
            let body = (ChannelKey { slot, channel }, record.head.sequence);
            if record.head.kind == RecordKind::Message
                && let Some(len) = alive.get_mut(&body)
            {
                *len = u64::from(record.head.payload_len);
            }
        });
        for body in std::mem::replace(&mut self.alive, alive).keys() {
            if !self.alive.contains_key(body) {
                let expired = self.expiries.get(body);
                let expired = expired.is_some_and(|at_ns| over(*at_ns, self.now_ns));
                assert!(self.ending.contains(body) || expired, "{body:?} is lost");
                self.dead.insert(*body);
            }
        }
        for key in self.keys.clone() {
            let own = self.alive.iter().filter(|(body, _)| body.0 == key);
            let bytes: u64 = own.map(|(_, len)| *len).sum();
            let exact = self.crashes == 0 || self.drains == 0;
            let found = self.state(key).bytes();
            let (crashes, drains) = (self.crashes, self.drains);
            assert!(
                !exact || found == bytes,
                "{found} {bytes} {crashes} {drains}"
            );
        }
    }

    pub(super) fn crash(&mut self) {
        let unsure = self.tape.len() - self.tape.committed;
        let kept = self.dice.roll(1 + unsure as u64);
        let kept = self.tape.committed + usize::try_from(kept).unwrap();
        self.tape.crash(kept);
        self.slots = self.tape.replay(all_slots());
        self.slots.go_live();
        self.crashes += 1;
        self.next_delivery += 1000;
        self.dispatcher = Dispatcher::new(self.next_delivery, self.now_ns);
        let second = self.keys[1];
        self.dispatcher
            .configure(second, QueuePolicy { in_place: true });
        for (number, lease) in std::mem::take(&mut self.leases) {
            let open = lease.open.into_keys();
            self.over.extend(open.map(|of| (number, lease.key, of)));
        }
        self.busy.clear();
        self.receives.clear();
        self.uncounted.clear();
        self.look();
        // What was decided and is not in the log was not decided.
        self.ending.clear();
        let mut open = Vec::new();
        for key in self.keys.clone() {
            let state = self.slots.queue(key).unwrap();
            self.dispatcher.restore(key, state, self.now_ns);
            open.extend(state.moves().map(|(sequence, _)| (key, sequence)));
        }
        for place in open {
            self.busy.insert(place);
            let len = self.alive[&self.body(place)];
            self.moving.insert(place, u32::try_from(len).unwrap());
            self.end_move(place);
        }
    }
}
