//! The whole queue: records, state and dispatcher together, over random histories with crashes.
//!
//! The log's double commits later than it takes. A crash loses the dispatcher and any part of what
//! was not committed. What the world here knows of a message is only what its consumers may know:
//! who has it, what they said of it, and what the records have made of it.

mod log;

use std::collections::{BTreeMap, BTreeSet};

use ringmq_storage::{ChannelKey, Sequence, SlotId};

use super::model::Dice;
use super::queue_rules::Sent;
use super::rules::NONE;
use super::tape::{Tape, slot};
use crate::engine::queues::dispatcher::{
    Action, Dispatcher, PollRequest, QueuePolicy, Timeout, Turn, Which,
};
use crate::engine::queues::{MoveReason, QueueState};
use crate::engine::stored::{NewMessage, Slots, StoredKind};

const MS: u64 = 1_000_000;
const START_NS: u64 = 1_700_000_000_000 * MS;
const RECEIVES_MAX: u32 = 3;

/// A message at its present place.
type Place = (ChannelKey, Sequence);

#[derive(Debug)]
struct Lease {
    consumer: u64,
    key: ChannelKey,
    /// What is not settled, and how often it was received before.
    open: BTreeMap<Sequence, u32>,
    deadline_ms: u64,
}

struct World {
    dice: Dice,
    tape: Tape,
    slots: Slots,
    dispatcher: Dispatcher<u64>,
    now_ns: u64,
    polls: u64,
    next_delivery: u64,
    /// The queues; messages of the first have no delay, those of the second keep their place.
    keys: Vec<ChannelKey>,
    leases: BTreeMap<u64, Lease>,
    /// Deliveries that are over, of this life and of others.
    over: Vec<(u64, ChannelKey, Sequence)>,
    /// Leased, or something is decided of them: nobody may get them.
    busy: BTreeSet<Place>,
    /// How often those that came back to their place were received.
    receives: BTreeMap<Place, u32>,
    /// Called-off moves: the count that holds depends on what was written.
    uncounted: BTreeSet<Place>,
    /// Messages whose end was decided, by their bodies.
    ending: BTreeSet<Place>,
    /// Bodies that were there at the last commit, and those that are gone.
    alive: BTreeMap<Place, u64>,
    dead: BTreeSet<Place>,
    /// When those that expire do.
    expiries: BTreeMap<Place, u64>,
    /// Lengths of messages that began to move.
    moving: BTreeMap<Place, u32>,
    crashes: u32,
    drains: u32,
    delivered: u64,
}

fn all_slots() -> impl Iterator<Item = SlotId> {
    (0..2).map(slot)
}

fn over(at_ns: u64, now_ns: u64) -> bool {
    at_ns != 0 && at_ns <= now_ns
}

impl World {
    fn new(seed: u64) -> Self {
        let mut slots = Slots::new(all_slots());
        slots.go_live();
        let mut tape = Tape::default();
        let queue = StoredKind::Queue;
        let keys = all_slots().map(|of| {
            let key = slots.prepare_channel(&mut tape, of, queue, "jobs", START_NS, &NONE);
            key.unwrap()
        });
        let keys: Vec<_> = keys.collect();
        tape.commit(&mut slots, usize::MAX);
        slots.take_effects(&mut Vec::new());
        let mut dispatcher = Dispatcher::new(1, START_NS);
        dispatcher.configure(keys[1], QueuePolicy { in_place: true });
        Self {
            dice: Dice(seed),
            tape,
            slots,
            dispatcher,
            now_ns: START_NS,
            polls: 0,
            next_delivery: 1,
            keys,
            leases: BTreeMap::new(),
            over: Vec::new(),
            busy: BTreeSet::new(),
            receives: BTreeMap::new(),
            uncounted: BTreeSet::new(),
            ending: BTreeSet::new(),
            alive: BTreeMap::new(),
            dead: BTreeSet::new(),
            expiries: BTreeMap::new(),
            moving: BTreeMap::new(),
            crashes: 0,
            drains: 0,
            delivered: 0,
        }
    }

    fn state(&self, key: ChannelKey) -> &QueueState {
        self.slots.queue(key).unwrap()
    }

    fn key(&mut self) -> ChannelKey {
        self.keys[usize::try_from(self.dice.roll(2)).unwrap()]
    }

    fn step(&mut self) {
        match self.dice.roll(20) {
            0..=4 => self.send(),
            5..=8 => self.poll(),
            9..=12 => self.settle(),
            13 => self.settle_late(),
            14 => self.leave(),
            15 if self.dice.roll(4) == 0 => self.drain(),
            16 if self.dice.roll(8) == 0 => self.crash(),
            17 => self.pass_time(),
            18 => {
                let before = self.now_ns / MS - self.dice.roll(30);
                self.dispatcher.count_old_leases(before);
            }
            _ => {
                let frames = usize::try_from(self.dice.roll(5)).unwrap();
                let busy = self.dice.roll(4) == 0;
                self.flush(busy);
                self.commit(frames);
            }
        }
    }

    fn send(&mut self) {
        let key = self.key();
        let mut sent = Sent {
            body: usize::try_from(self.dice.roll(40)).unwrap(),
            ..Sent::default()
        };
        if key == self.keys[1] && self.dice.roll(2) == 0 {
            sent.visible_at_ns = self.now_ns + self.dice.roll(60) * MS;
        }
        if self.dice.roll(5) == 0 {
            sent.expires_at_ns = self.now_ns + (1 + self.dice.roll(200)) * MS;
        }
        let payload = sent.payload();
        let request = NewMessage {
            slot: key.slot,
            kind: StoredKind::Queue,
            channel: "jobs",
            now_ns: self.now_ns,
            encoding: 2,
            payload_len: u32::try_from(payload.len()).unwrap(),
            moved: None,
            limits: &NONE,
        };
        let mut write = |out: &mut Vec<u8>| out.extend_from_slice(&payload);
        let (slots, tape) = (&mut self.slots, &mut self.tape);
        let accepted = slots.prepare_message(tape, request, &mut write).unwrap();
        // A number that a crash took back is given again.
        self.expiries
            .insert((key, accepted.sequence), sent.expires_at_ns);
    }

    /// What a poll may get, in the order of the places.
    fn visible(&self, key: ChannelKey) -> Vec<Sequence> {
        let state = self.state(key);
        let live = state.live().flat_map(|(a, b)| a.get()..=b.get());
        let free = live.map(Sequence::new).filter(|sequence| {
            let detail = state.detail(*sequence);
            let delayed = detail.is_some_and(|detail| detail.visible_at_ns > self.now_ns);
            let expired = detail.is_some_and(|detail| over(detail.expires_at_ns, self.now_ns));
            !delayed && !expired && !self.busy.contains(&(key, *sequence))
        });
        free.collect()
    }

    fn poll(&mut self) {
        let key = self.key();
        self.polls += 1;
        let request = PollRequest {
            consumer: self.dice.roll(4),
            number: self.polls,
            items_max: u32::try_from(1 + self.dice.roll(6)).unwrap(),
            peek: self.dice.roll(6) == 0,
            visible_ms: (self.dice.roll(2) == 0).then(|| 1 + self.dice.roll(50)),
            deadline_ms: self.now_ns / MS + self.dice.roll(40),
        };
        self.dispatcher.poll(key, request);
        self.serve();
    }

    fn serve(&mut self) {
        let mut idle = 0;
        while let Some(turn) = self.dispatcher.next_turn(self.now_ns) {
            idle += u32::from(!self.take_turn(&turn));
            assert!(
                idle < 100,
                "a waiter is picked when there is something for it"
            );
        }
    }

    /// Whether something was taken.
    fn take_turn(&mut self, turn: &Turn<u64>) -> bool {
        let key = turn.key;
        let visible = self.visible(key);
        let max = usize::try_from(turn.request.items_max).unwrap();
        let mut taken = Vec::new();
        let state = self.slots.queue(key).unwrap();
        self.dispatcher
            .take(turn, usize::MAX, state, self.now_ns, &mut taken);
        let found: Vec<_> = taken.iter().map(|taken| taken.sequence).collect();
        assert_eq!(found.len(), visible.len().min(max), "all that is visible");
        if key == self.keys[0] {
            assert_eq!(
                found,
                visible[..found.len()],
                "in the order of their places"
            );
        }
        for taken in &taken {
            let place = (key, taken.sequence);
            assert!(
                visible.contains(&taken.sequence),
                "{place:?} is nobody's to get"
            );
            assert_eq!(taken.body, state.body_of(taken.sequence));
            let known = self.receives.get(&place).copied();
            let known = known.unwrap_or_else(|| state.receives(taken.sequence));
            assert!(taken.receives == known || self.uncounted.contains(&place));
        }
        if taken.is_empty() {
            self.dispatcher.requeue_waiter(turn);
            return false;
        }
        if turn.request.peek {
            assert_eq!(self.dispatcher.leased(turn, self.now_ns), 0);
            return true;
        }
        let handed = usize::try_from(1 + self.dice.roll(found.len() as u64)).unwrap();
        for sequence in &found[..handed] {
            let len = self.alive[&(key, state.body_of(*sequence))];
            let len = u32::try_from(len).unwrap();
            self.dispatcher.handed(turn, *sequence, len, RECEIVES_MAX);
        }
        self.dispatcher
            .put_back(turn, &found[handed..], self.now_ns);
        assert_eq!(self.dispatcher.leased(turn, self.now_ns), handed);
        assert!(turn.delivery >= self.next_delivery, "no number comes again");
        self.next_delivery = turn.delivery + 1;
        let leased = taken[..handed].iter();
        let open: BTreeMap<_, _> = leased
            .map(|taken| (taken.sequence, taken.receives))
            .collect();
        self.busy
            .extend(open.keys().map(|sequence| (key, *sequence)));
        self.delivered += handed as u64;
        let forever = u64::MAX;
        let lease = Lease {
            consumer: turn.request.consumer,
            key,
            open,
            deadline_ms: turn
                .request
                .visible_ms
                .map_or(forever, |ms| self.now_ns / MS + ms),
        };
        self.leases.insert(turn.delivery, lease);
        true
    }

    fn body(&self, place: Place) -> Place {
        (place.0, self.state(place.0).body_of(place.1))
    }

    /// A lease ends, and the message may come again.
    fn came_back(&mut self, place: Place, before: u32, counted: bool, in_place: bool) {
        let state = self.state(place.0);
        let detail = state.detail(place.1);
        let expired = detail.is_some_and(|detail| over(detail.expires_at_ns, self.now_ns));
        if expired {
            self.ending.insert(self.body(place));
        } else if counted && before + 1 >= RECEIVES_MAX {
            // On its way to the dead letters.
        } else if in_place {
            self.busy.remove(&place);
            self.receives.insert(place, before + u32::from(counted));
            self.uncounted.remove(&place);
        }
    }

    fn settle(&mut self) {
        let at = usize::try_from(self.dice.roll(1 + self.leases.len() as u64)).unwrap();
        let Some(number) = self.leases.keys().nth(at).copied() else {
            return;
        };
        let all = self.dice.roll(2) == 0;
        let lease = self.leases.get_mut(&number).unwrap();
        let key = lease.key;
        let list: Vec<_> = if all {
            lease.open.keys().copied().collect()
        } else {
            let (first, last) = (lease.open.first_key_value(), lease.open.last_key_value());
            first
                .into_iter()
                .chain(last)
                .map(|(of, _)| *of)
                .take(1)
                .collect()
        };
        let (reason, target) = (MoveReason::Requeue, "target");
        let action = match self.dice.roll(8) {
            0..=3 => Action::Ack,
            4 => Action::Nack,
            5 => Action::Return { counted: false },
            6 => Action::Move { reason, target },
            _ => Action::Extend { visible_ms: 40 },
        };
        let which = if all { Which::All } else { Which::List(&list) };
        let settled = self
            .dispatcher
            .settle(number, key, which, action, self.now_ns);
        assert_eq!(settled.unwrap() as usize, list.len());
        if matches!(action, Action::Extend { .. }) {
            // Only some of a delivery longer than others: the world knows one deadline.
            let rest: Vec<_> = lease.open.keys().copied().collect();
            let which = Which::List(&rest);
            let extended = self
                .dispatcher
                .settle(number, key, which, action, self.now_ns);
            extended.unwrap();
            lease.deadline_ms = self.now_ns / MS + 40;
            return;
        }
        let in_place = key == self.keys[1];
        for sequence in list {
            let place = (key, sequence);
            let lease = self.leases.get_mut(&number).unwrap();
            let before = lease.open.remove(&sequence).unwrap();
            self.over.push((number, key, sequence));
            match action {
                Action::Ack => {
                    let body = self.body(place);
                    self.ending.insert(body);
                }
                Action::Nack => self.came_back(place, before, true, in_place),
                Action::Return { counted } => self.came_back(place, before, counted, true),
                _ => {}
            }
        }
        self.leases.retain(|_, lease| !lease.open.is_empty());
    }

    /// What is over stays over, whoever asks.
    fn settle_late(&mut self) {
        let at = usize::try_from(self.dice.roll(1 + self.over.len() as u64)).unwrap();
        if let Some((number, key, sequence)) = self.over.get(at).copied() {
            let list = [sequence];
            let which = Which::List(&list);
            let late = self
                .dispatcher
                .settle(number, key, which, Action::Ack, self.now_ns);
            assert_eq!(late.unwrap_err().sequence, sequence);
        }
    }

    fn leave(&mut self) {
        let (consumer, broken) = (self.dice.roll(4), self.dice.roll(2) == 0);
        self.gone(consumer, broken);
        self.serve();
    }

    fn gone(&mut self, consumer: u64, broken: bool) {
        self.dispatcher.consumer_gone(consumer, broken, self.now_ns);
        let (gone, left) = std::mem::take(&mut self.leases)
            .into_iter()
            .partition(|(_, lease)| lease.consumer == consumer);
        self.leases = left;
        let gone: BTreeMap<u64, Lease> = gone;
        for (number, lease) in gone {
            for (sequence, before) in lease.open {
                self.over.push((number, lease.key, sequence));
                self.came_back((lease.key, sequence), before, broken, true);
            }
        }
    }

    fn drain(&mut self) {
        let key = self.key();
        let visible = self.visible(key);
        let state = self.slots.queue(key).unwrap();
        let drained = self.dispatcher.drain(key, state, self.now_ns);
        assert_eq!(drained, visible.len() as u64);
        for sequence in visible {
            let body = self.body((key, sequence));
            self.ending.insert(body);
            self.busy.insert((key, sequence));
        }
        self.drains += 1;
    }

    fn pass_time(&mut self) {
        self.now_ns += self.dice.roll(30) * MS;
        let mut events = Vec::new();
        let states = |key| self.slots.queue(key);
        while !self.dispatcher.advance(self.now_ns, states, &mut events) {}
        for event in events {
            let Timeout::Lease {
                key,
                delivery,
                sequences,
                ..
            } = event
            else {
                continue;
            };
            for sequence in sequences {
                let lease = self.leases.get_mut(&delivery).unwrap();
                assert!(lease.deadline_ms <= self.now_ns / MS);
                let before = lease.open.remove(&sequence).unwrap();
                self.over.push((delivery, key, sequence));
                self.came_back((key, sequence), before, true, key == self.keys[1]);
            }
        }
        self.leases.retain(|_, lease| !lease.open.is_empty());
        let now_ms = self.now_ns / MS;
        assert!(self.leases.values().all(|lease| lease.deadline_ms > now_ms));
        self.serve();
    }

    fn settle_down(&mut self) {
        while self.dispatcher.has_pending() || self.tape.len() > self.tape.committed {
            self.flush(false);
            self.commit(usize::MAX);
        }
        for key in self.keys.clone() {
            let figures = self.dispatcher.figures(key);
            let sum = figures.waiting + figures.in_flight + figures.delayed + figures.moving;
            assert_eq!(sum, self.state(key).len(), "every message is in one state");
            let leases = self.leases.values().filter(|lease| lease.key == key);
            let leased: usize = leases.map(|lease| lease.open.len()).sum();
            assert_eq!(figures.in_flight, leased as u64);
        }
    }

    /// At last everybody leaves, all delays end, and one consumer takes what is there.
    fn finish(&mut self) {
        (0..4).for_each(|consumer| self.gone(consumer, false));
        self.settle_down();
        self.now_ns += 100 * MS;
        self.pass_time();
        self.settle_down();
        for key in self.keys.clone() {
            let expected = self.visible(key);
            let items_max = u32::MAX;
            let request = PollRequest {
                consumer: 9,
                number: 1,
                items_max,
                peek: false,
                visible_ms: None,
                deadline_ms: u64::MAX,
            };
            self.dispatcher.poll(key, request);
            let turn = self.dispatcher.next_turn(self.now_ns);
            assert_eq!(turn.is_some(), !expected.is_empty());
            let Some(turn) = turn else { continue };
            let mut taken = Vec::new();
            let state = self.slots.queue(key).unwrap();
            self.dispatcher
                .take(&turn, usize::MAX, state, self.now_ns, &mut taken);
            let found: BTreeSet<_> = taken.iter().map(|taken| taken.sequence).collect();
            assert_eq!(found, expected.into_iter().collect(), "nothing is lost");
            assert_eq!(taken.len() as u64, state.len(), "what has expired is gone");
            self.dispatcher.put_back(
                &turn,
                &taken.iter().map(|taken| taken.sequence).collect::<Vec<_>>(),
                self.now_ns,
            );
            assert_eq!(self.dispatcher.leased(&turn, self.now_ns), 0);
            self.dispatcher.consumer_gone(9, false, self.now_ns);
        }
    }
}

#[test]
fn every_message_is_in_one_place_until_its_end() {
    let (mut delivered, mut crashes, mut dead) = (0, 0, 0);
    for seed in 0..1500 {
        let mut world = World::new(seed);
        for _ in 0..3 {
            for _ in 0..60 {
                world.step();
            }
            world.settle_down();
        }
        world.finish();
        delivered += world.delivered;
        crashes += world.crashes;
        dead += world.dead.len();
    }
    assert!(delivered > 20_000 && dead > 10_000 && crashes > 500);
}
