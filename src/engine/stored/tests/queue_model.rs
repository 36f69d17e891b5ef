//! Random decisions about queues, against a model that knows no log and no runs: it does at once
//! what it is told, message by message.

use std::collections::{BTreeMap, BTreeSet};

use ringmq_storage::log::{Apply, Keeps, Refused};
use ringmq_storage::record::queue::{Counted, MoveId, Requeued};
use ringmq_storage::{ChannelKey, Sequence, SlotId};

use super::model::Dice;
use super::queue_rules::{Sent, move_id, runs};
use super::rules::NONE;
use super::tape::{Tape, restore, section, slot, with_frame};
use crate::engine::queues::{MoveReason, SettleReason};
use crate::engine::stored::{Arrived, Effect, NewMessage, Slots, StoreRefusal, StoredKind};

const SLOTS: u16 = 2;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Message {
    body: u64,
    visible_at_ns: u64,
    expires_at_ns: u64,
    receives: u32,
    len: u64,
    target: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Queue {
    last: u64,
    live: BTreeMap<u64, Message>,
    settled: BTreeMap<SettleReason, u64>,
    sent: u64,
}

type Name = (u16, u64);

struct World {
    dice: Dice,
    tape: Tape,
    slots: Slots,
    queues: BTreeMap<Name, (ChannelKey, Queue)>,
    arrived: BTreeSet<(u16, MoveId)>,
    /// Moves that were told to be on their way.
    told: BTreeSet<(ChannelKey, Sequence)>,
    now_ns: u64,
}

fn all_slots() -> impl Iterator<Item = SlotId> {
    (0..SLOTS).map(slot)
}

const REASONS: [SettleReason; 8] = [
    SettleReason::Acked,
    SettleReason::Expired,
    SettleReason::Dropped,
    SettleReason::DeadLettered,
    SettleReason::Moved,
    SettleReason::Purged,
    SettleReason::Overflow,
    SettleReason::Damaged,
];

impl World {
    fn new(seed: u64) -> Self {
        let mut slots = Slots::new(all_slots());
        slots.go_live();
        Self {
            dice: Dice(seed),
            tape: Tape::default(),
            slots,
            queues: BTreeMap::new(),
            arrived: BTreeSet::new(),
            told: BTreeSet::new(),
            now_ns: 1_000_000,
        }
    }

    fn name(&mut self) -> Name {
        let index = u16::try_from(self.dice.roll(SLOTS.into())).unwrap();
        (index, self.dice.roll(2))
    }

    /// A queue that there is or will be.
    fn queue(&mut self) -> Option<(Name, ChannelKey)> {
        let name = self.name();
        Some((name, self.queues.get(&name)?.0))
    }

    fn known(&mut self, name: Name) -> &mut Queue {
        &mut self.queues.get_mut(&name).unwrap().1
    }

    /// The log refuses the next append now and then; whether it does.
    fn refuses(&mut self) -> bool {
        let refuses = self.dice.roll(9) == 0;
        self.tape.refuse_after = refuses.then_some((0, Refused::Busy));
        refuses
    }

    fn step(&mut self) {
        self.now_ns = self.now_ns + self.dice.roll(1_000_000) - 400_000.min(self.now_ns);
        match self.dice.roll(18) {
            0..=5 => self.message(),
            6..=8 => self.settle(),
            9..=10 => self.requeue(),
            11 => self.count(),
            12 => self.begin_move(),
            13 => self.cancel_move(),
            14 => self.trim_or_forget(),
            15 if self.dice.roll(12) == 0 => self.delete(),
            _ => {
                let count = self.dice.roll(6);
                self.commit(usize::try_from(count).unwrap());
            }
        }
        self.tape.refuse_after = None;
    }

    fn commit(&mut self, frames: usize) {
        self.tape.commit(&mut self.slots, frames);
        let mut effects = Vec::new();
        self.slots.take_effects(&mut effects);
        for effect in effects {
            match effect {
                Effect::MoveCommitted { key, sequence } => {
                    self.told.insert((key, sequence));
                }
                Effect::MoveCancelled { key, sequence } => {
                    assert!(self.told.remove(&(key, sequence)));
                }
                _ => {}
            }
        }
    }

    fn message(&mut self) {
        let (name, refuses) = (self.name(), self.refuses());
        let mut sent = Sent {
            body: usize::try_from(self.dice.roll(60)).unwrap(),
            ..Sent::default()
        };
        if self.dice.roll(3) == 0 {
            sent.visible_at_ns = self.now_ns + self.dice.roll(9);
        }
        if self.dice.roll(4) == 0 {
            sent.expires_at_ns = self.now_ns + self.dice.roll(9);
        }
        if self.dice.roll(5) == 0 {
            sent.moved = Some(move_id(9, 1, 1 + self.dice.roll(20)));
        }
        let payload = sent.payload();
        let request = NewMessage {
            slot: slot(name.0),
            kind: StoredKind::Queue,
            channel: &format!("queue.{}", name.1),
            now_ns: self.now_ns,
            encoding: 2,
            payload_len: u32::try_from(payload.len()).unwrap(),
            moved: sent.moved,
            limits: &NONE,
        };
        let mut write = |out: &mut Vec<u8>| out.extend_from_slice(&payload);
        let (slots, tape) = (&mut self.slots, &mut self.tape);
        let accepted = slots.prepare_message(tape, request, &mut write);
        if sent
            .moved
            .is_some_and(|id| self.arrived.contains(&(name.0, id)))
        {
            assert_eq!(accepted, Err(StoreRefusal::AlreadyHere));
            return;
        }
        assert_eq!(accepted.is_err(), refuses);
        let Ok(accepted) = accepted else { return };
        self.arrived.extend(sent.moved.map(|id| (name.0, id)));
        let entry = self.queues.entry(name);
        let (key, queue) = entry.or_insert((accepted.key, Queue::default()));
        assert_eq!(*key, accepted.key);
        queue.last += 1;
        queue.sent += 1;
        assert_eq!(accepted.sequence.get(), queue.last);
        let message = Message {
            body: queue.last,
            visible_at_ns: sent.visible_at_ns,
            expires_at_ns: sent.expires_at_ns,
            len: payload.len() as u64,
            ..Message::default()
        };
        queue.live.insert(queue.last, message);
    }

    /// A sequence of the queue, most often of a message that is there.
    fn sequence(&mut self, name: Name) -> Option<u64> {
        let pick = self.dice.roll(1 << 20);
        let any = self.dice.roll(6) == 0;
        let queue = self.known(name);
        if any {
            return (queue.last > 0).then(|| pick % queue.last + 1);
        }
        let at = pick.checked_rem(queue.live.len() as u64)?;
        queue.live.keys().nth(usize::try_from(at).unwrap()).copied()
    }

    fn settle(&mut self) {
        let Some((name, key)) = self.queue() else {
            return;
        };
        let mut of = Vec::new();
        for _ in 0..=self.dice.roll(3) {
            let Some(first) = self.sequence(name) else {
                return;
            };
            let last = first + self.dice.roll(4);
            let last = last.min(self.known(name).last);
            of.push((first, last));
        }
        let pick = usize::try_from(self.dice.roll(8)).unwrap();
        let reason = REASONS[pick];
        let refuses = self.refuses();
        let queue = self.known(name);
        let gone: BTreeSet<u64> = of.iter().flat_map(|&(a, b)| a..=b).collect();
        let gone: Vec<u64> = gone
            .into_iter()
            .filter(|of| queue.live.contains_key(of))
            .collect();
        let bytes: u64 = gone.iter().map(|of| queue.live[of].len).sum();
        let (slots, tape, now_ns) = (&mut self.slots, &mut self.tape, self.now_ns);
        let settled = slots.prepare_settle(tape, key, reason, bytes, &runs(&of), now_ns);
        assert_eq!(settled.is_err(), refuses);
        if !refuses {
            let queue = self.known(name);
            gone.iter().for_each(|of| drop(queue.live.remove(of)));
            *queue.settled.entry(reason).or_default() += gone.len() as u64;
        }
    }

    fn requeue(&mut self) {
        let Some((name, key)) = self.queue() else {
            return;
        };
        let mut entries = Vec::new();
        for _ in 0..=self.dice.roll(3) {
            let Some(old) = self.sequence(name) else {
                return;
            };
            let receives = u32::try_from(self.dice.roll(4)).unwrap();
            let old = Sequence::new(old);
            entries.push(Requeued { old, receives });
        }
        let refuses = self.refuses();
        let (slots, tape, now_ns) = (&mut self.slots, &mut self.tape, self.now_ns);
        let requeued = slots.prepare_requeue(tape, key, &entries, now_ns);
        assert_eq!(requeued.is_err(), refuses);
        if refuses {
            return;
        }
        let queue = self.known(name);
        for Requeued { old, receives } in entries {
            queue.last += 1;
            let known = queue.live.get(&old.get());
            if known.is_some_and(|known| known.target.is_none()) {
                let mut message = queue.live.remove(&old.get()).unwrap();
                message.visible_at_ns = 0;
                message.receives = receives;
                queue.live.insert(queue.last, message);
            }
        }
    }

    fn count(&mut self) {
        let Some((name, key)) = self.queue() else {
            return;
        };
        let mut entries = Vec::new();
        for _ in 0..=self.dice.roll(3) {
            let Some(first) = self.sequence(name) else {
                return;
            };
            let count = 1 + self.dice.roll(4).min(self.known(name).last - first);
            entries.push(Counted {
                first: Sequence::new(first),
                count: u32::try_from(count).unwrap(),
                receives: u32::try_from(self.dice.roll(3)).unwrap(),
            });
        }
        let refuses = self.refuses();
        let (slots, tape, now_ns) = (&mut self.slots, &mut self.tape, self.now_ns);
        let counted = slots.prepare_count(tape, key, &entries, now_ns);
        assert_eq!(counted.is_err(), refuses);
        if refuses {
            return;
        }
        for entry in entries {
            let first = entry.first.get();
            let queue = self.known(name);
            let range = queue.live.range_mut(first..first + u64::from(entry.count));
            range.for_each(|(_, message)| message.receives = entry.receives);
        }
    }

    fn begin_move(&mut self) {
        let Some((name, key)) = self.queue() else {
            return;
        };
        let Some(of) = self.sequence(name) else {
            return;
        };
        let refuses = self.refuses();
        let (slots, tape, now_ns) = (&mut self.slots, &mut self.tape, self.now_ns);
        let (sequence, reason) = (Sequence::new(of), MoveReason::Requeue);
        let begun = slots.prepare_move(tape, key, sequence, reason, "target", now_ns);
        assert_eq!(begun.is_err(), refuses);
        if let Some(message) = self.known(name).live.get_mut(&of).filter(|_| !refuses) {
            message.target = Some("target".to_owned());
        }
    }

    fn cancel_move(&mut self) {
        let Some((name, key)) = self.queue() else {
            return;
        };
        let moving = self.known(name).live.iter();
        let moving = moving.filter(|(_, message)| message.target.is_some());
        let Some(of) = moving.map(|(of, _)| *of).next() else {
            return;
        };
        let refuses = self.refuses();
        let (slots, tape, now_ns) = (&mut self.slots, &mut self.tape, self.now_ns);
        let cancelled = slots.prepare_move_cancel(tape, key, Sequence::new(of), now_ns);
        assert_eq!(cancelled.is_err(), refuses);
        if !refuses {
            self.known(name).live.get_mut(&of).unwrap().target = None;
        }
    }

    fn trim_or_forget(&mut self) {
        let (slots, tape, now_ns) = (&mut self.slots, &mut self.tape, self.now_ns);
        if self.dice.roll(2) == 0 {
            let Some(&(of, id)) = self.arrived.first() else {
                return;
            };
            slots.prepare_forget(tape, slot(of), &[id], now_ns).unwrap();
            // What is on its way is not forgotten: nobody knows yet whether it comes.
            if slots.arrived(slot(of), &id) == Arrived::Yes {
                self.commit(usize::MAX);
                self.arrived.remove(&(of, id));
            }
            return;
        }
        let through = Sequence::new(self.dice.roll(40));
        for (key, _) in self.queues.values() {
            slots.prepare_trim(tape, *key, through, now_ns).unwrap();
        }
    }

    fn delete(&mut self) {
        let Some((name, key)) = self.queue() else {
            return;
        };
        let (slots, tape, now_ns) = (&mut self.slots, &mut self.tape, self.now_ns);
        slots.prepare_channel_delete(tape, key, now_ns).unwrap();
        self.queues.remove(&name);
    }

    /// Everything committed, the state is what the model says.
    fn check(&mut self) {
        self.commit(usize::MAX);
        assert_eq!(self.slots.channels().count(), self.queues.len());
        for (key, expected) in self.queues.values() {
            let queue = self.slots.queue(*key).unwrap();
            let mut live = BTreeMap::new();
            for of in queue.live().flat_map(|(a, b)| a.get()..=b.get()) {
                let sequence = Sequence::new(of);
                let detail = queue.detail(sequence).copied();
                let message = Message {
                    body: queue.body_of(sequence).get(),
                    visible_at_ns: detail.map_or(0, |detail| detail.visible_at_ns),
                    expires_at_ns: detail.map_or(0, |detail| detail.expires_at_ns),
                    receives: queue.receives(sequence),
                    len: expected.live[&of].len,
                    target: queue
                        .open_move(sequence)
                        .map(|open| open.target.to_string()),
                };
                let noted = detail.map_or(0, |detail| u64::from(detail.len));
                assert!(noted == 0 || noted == message.len);
                live.insert(of, message);
            }
            assert_eq!(live, expected.live);
            assert_eq!(queue.len(), live.len() as u64);
            let bytes: u64 = live.values().map(|message| message.len).sum();
            assert_eq!(queue.bytes(), bytes);
            assert_eq!(queue.last().get(), expected.last);
            assert_eq!(queue.counters().sent, expected.sent);
            let settled: u64 = expected.settled.values().sum();
            assert_eq!(queue.counters().settled(), settled);
            let acked = expected.settled.get(&SettleReason::Acked);
            assert_eq!(queue.counters().acked, acked.copied().unwrap_or(0));
            let details = queue.details_from(Sequence::new(0));
            let plain = |message: &&Message| {
                message.visible_at_ns == 0 && message.expires_at_ns == 0 && message.receives == 0
            };
            let noted = live
                .iter()
                .filter(|(of, message)| **of != message.body || !plain(message));
            assert_eq!(
                details.count(),
                noted.count(),
                "plain messages cost nothing"
            );
            self.check_bodies(*key, expected);
        }
        let arrived: BTreeSet<_> = self.slots.arrivals().collect();
        let expected = self.arrived.iter().map(|(of, id)| (slot(*of), *id));
        assert_eq!(arrived, expected.collect());
    }

    fn check_bodies(&self, key: ChannelKey, expected: &Queue) {
        let queue = self.slots.queue(key).unwrap();
        let bodies: BTreeSet<u64> = expected.live.values().map(|message| message.body).collect();
        let lowest = bodies.first().copied().unwrap_or(expected.last + 1);
        assert_eq!(queue.floor().get(), lowest - 1);
        assert!(self.slots.channel(key).unwrap().first.get() <= lowest);
        for of in 1..=expected.last {
            let sequence = Sequence::new(of);
            assert_eq!(queue.keeps_body(sequence), bodies.contains(&of));
            let next = self
                .slots
                .next_kept(key, sequence, Sequence::new(expected.last));
            let needed = bodies.range(of..).next().copied();
            assert!(needed.is_none_or(|needed| next.is_some_and(|next| next.get() <= needed)));
        }
    }

    /// Live, replayed, and restored anywhere in between: the same bytes.
    fn check_restarts(&mut self) {
        let live: Vec<_> = all_slots().map(|of| section(&self.slots, of)).collect();
        let replayed = self.tape.replay(all_slots());
        let cut = self.dice.roll(self.tape.frames.len() as u64 + 1);
        let (before, behind) = self.tape.frames.split_at(usize::try_from(cut).unwrap());
        let mut first = Slots::new(all_slots());
        for bytes in before {
            with_frame(bytes, |frame| first.apply(frame)).unwrap();
        }
        let sections: Vec<_> = all_slots().map(|of| section(&first, of)).collect();
        let mut restored = restore(&sections).unwrap();
        for bytes in behind {
            with_frame(bytes, |frame| restored.apply(frame)).unwrap();
        }
        for (of, live) in all_slots().zip(live) {
            assert_eq!(section(&replayed, of), live);
            assert_eq!(section(&restored, of), live);
        }
    }
}

#[test]
fn queues_are_what_the_decisions_add_up_to() {
    for seed in 0..1500 {
        let mut world = World::new(seed);
        for round in 0..6 {
            for _ in 0..40 {
                world.step();
            }
            if round % 2 == 1 {
                world.check();
            }
        }
        world.check_restarts();
    }
}

/// The log of a random run, committed, and its slots.
pub(super) fn random_queue_tape(seed: u64) -> (Tape, Vec<SlotId>) {
    let mut world = World::new(seed);
    for _ in 0..150 {
        world.step();
    }
    world.check();
    (world.tape, all_slots().collect())
}
