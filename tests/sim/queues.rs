//! Queues: producers, consumers and moves on a disk that loses what it may lose.
//!
//! A message is told apart by the number in its body, whatever queue it is in and whatever its
//! sequence. What is known of it is what its producer and its consumers were told.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ringmq::engine::queues::dispatcher::{Action, Dispatcher, PollRequest, Turn, Which};
use ringmq::engine::queues::{MESSAGE_ENCODING, MoveReason};
use ringmq::engine::stored::{Limits, NewMessage, Slots, StoredKind};
use ringmq_storage::fs::Fs;
use ringmq_storage::log::{Log, Options};
use ringmq_storage::record::queue::{MoveId, QueueHead};
use ringmq_storage::sim::{Keys, Random, SimFs};
use ringmq_storage::{ChannelKey, Position, SegmentId, Sequence, SlotId};

use super::habits;
use super::queue_shard::Shard;
use super::world::Outcome;

pub(crate) const MS: u64 = 1_000_000;

/// Queues; what may not be received any more goes to the last one.
pub(crate) const QUEUES: usize = 3;
const CONSUMERS: u64 = 3;
const RECEIVES_MAX: u32 = 3;

/// Rounds after which everything must be consumed.
const DRAIN_ROUNDS: usize = 4_000;

/// Where the settlements end that no crash takes back.
const KEPT: Position = Position::new(SegmentId::new(0), 0);

/// What clients know of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fate {
    /// It is stored when the log is committed this far.
    end: Position,
    acknowledged: bool,
    pub(crate) delayed_until_ns: u64,
    /// Its settlement is written when the log is committed this far; [`Shard::NEVER`] when it is
    /// only decided, [`KEPT`] when it is committed.
    pub(crate) settled: Option<Position>,
    /// The delivery that has it.
    leased: Option<u64>,
    deliveries: u32,
}

/// What happened, so that the suite can be told that it looks at something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) starts: u64,
    pub(crate) cut: u64,
    pub(crate) lost: u64,
    pub(crate) delivered: u64,
    pub(crate) again: u64,
    pub(crate) settled: u64,
    pub(crate) requeued: u64,
    pub(crate) moved: u64,
    pub(crate) moved_before: u64,
    pub(crate) stayed: u64,
    pub(crate) dropped: u64,
    pub(crate) carried: u64,
    pub(crate) checkpoints: u64,
}

impl Seen {
    fn all(&mut self) -> [&mut u64; 13] {
        [
            &mut self.starts,
            &mut self.cut,
            &mut self.lost,
            &mut self.delivered,
            &mut self.again,
            &mut self.settled,
            &mut self.requeued,
            &mut self.moved,
            &mut self.moved_before,
            &mut self.stayed,
            &mut self.dropped,
            &mut self.carried,
            &mut self.checkpoints,
        ]
    }

    pub(crate) fn add(&mut self, other: &Self) {
        let mut other = *other;
        for (sum, more) in self.all().into_iter().zip(other.all()) {
            *sum += *more;
        }
    }

    /// A suite that has not seen one of these tests less than it says.
    pub(crate) fn assert_complete(mut self) {
        let seen = self;
        let complete = self.all().into_iter().all(|count| *count >= 20);
        assert!(complete, "{seen:?}");
    }
}

/// A delivery as its consumer knows it.
#[derive(Debug)]
struct Delivery {
    key: ChannelKey,
    consumer: u64,
    /// Sequences and messages that are not settled.
    open: Vec<(Sequence, u64)>,
}

pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) fs: SimFs,
    options: Options,
    keys: Keys,
    slots: Vec<SlotId>,
    pub(crate) now_ns: u64,
    pub(crate) fates: BTreeMap<u64, Fate>,
    /// Which message has its body there.
    pub(crate) bodies: HashMap<(ChannelKey, u64), u64>,
    deliveries: BTreeMap<u64, Delivery>,
    next_id: u64,
    polls: u64,
    payload_bytes_max: usize,
    steps: usize,
    weights: [usize; 10],
    pub(crate) seen: Seen,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let slots: Vec<SlotId> = SlotId::all()
            .step_by(19)
            .take(random.between(1, 3))
            .collect();
        let options = habits::options(&mut random, &slots);
        // Send, poll, settle, leave, commit, jobs, time, moves, carrying, a checkpoint.
        let bounds = [30, 30, 30, 2, 40, 15, 6, 10, 12, 1];
        let weights = bounds.map(|bound| random.between(1, bound));
        Self {
            fs: SimFs::new(seed),
            options,
            keys: Keys::new(seed),
            slots,
            now_ns: 1_700_000_000_000 * MS,
            fates: BTreeMap::new(),
            bodies: HashMap::new(),
            deliveries: BTreeMap::new(),
            next_id: 1,
            polls: 0,
            payload_bytes_max: [40, 400, 3_000][random.below(3)],
            steps: random.between(50, 600),
            weights,
            seen: Seen::default(),
            random,
        }
    }

    /// Where a queue is, and its name.
    pub(crate) fn queue(&self, number: usize) -> (SlotId, String) {
        (
            self.slots[number % self.slots.len()],
            format!("queue.{number}"),
        )
    }

    /// Lives the whole run.
    pub(crate) fn live(&mut self) -> Outcome {
        let mut shard = self.start(false)?;
        for session in 0..self.random.between(2, 5) {
            let inside = |what: String| format!("session {session}: {what}");
            let cut = self.serve(&mut shard).map_err(inside)?;
            drop(shard);
            shard = self.start(cut).map_err(inside)?;
        }
        self.drain(&mut shard)
            .map_err(|what| format!("at the end: {what}"))
    }

    fn start(&mut self, cut: bool) -> Outcome<Shard> {
        if cut {
            self.fs.crash(self.random.next());
            self.seen.cut += 1;
        } else {
            self.fs.kill();
        }
        let mut slots = Slots::new(self.slots.iter().copied());
        let fs: Arc<dyn Fs> = Arc::new(self.fs.clone());
        self.options.keyring = self.keys.next_opening();
        let opened = Log::open(fs, self.options.clone(), &mut slots);
        let opened = opened.map_err(|error| format!("opening: {error}"))?;
        let report = &opened.report;
        if !report.damaged.is_empty() || !report.halted.is_empty() {
            return Err(format!("damage found: {report:?}"));
        }
        slots.go_live();
        self.seen.starts += 1;
        let first = self.seen.starts << 32;
        let mut dispatcher = Dispatcher::new(first, self.now_ns);
        for (key, channel) in slots.channels() {
            let state = channel.queue().ok_or("a channel that is no queue")?;
            dispatcher.restore(key, state, self.now_ns);
        }
        let mut shard = Shard::new(opened.log, slots, dispatcher);
        self.deliveries.clear();
        for fate in self.fates.values_mut() {
            fate.leased = None;
        }
        self.check_start(&mut shard)?;
        shard.take_up_moves();
        Ok(shard)
    }

    /// What was promised before the crash is there, once; what was settled is not.
    fn check_start(&mut self, shard: &mut Shard) -> Outcome {
        // Messages in the queues, and those of them that anybody may get.
        let (mut found, mut visible) = (BTreeSet::new(), BTreeSet::new());
        let keys: Vec<ChannelKey> = shard.slots.channels().map(|(key, _)| key).collect();
        for key in keys {
            let state = shard.slots.queue(key).ok_or("no queue")?;
            let runs: Vec<_> = state.live().collect();
            for sequence in runs
                .iter()
                .flat_map(|(first, last)| first.get()..=last.get())
            {
                let sequence = Sequence::new(sequence);
                let state = shard.slots.queue(key).ok_or("no queue")?;
                let (body, moves) = (state.body_of(sequence), state.open_move(sequence).is_some());
                let (id, _) = shard.read(key, body)?;
                self.bodies.insert((key, body.get()), id);
                let target_has_it = moves && {
                    let move_id = MoveId {
                        slot: key.slot,
                        channel: key.channel,
                        sequence,
                    };
                    shard.slots.arrivals().any(|(_, id)| id == move_id)
                };
                self.seen.moved_before += u64::from(target_has_it);
                if !target_has_it {
                    // Otherwise it counts where it went: it may have been consumed there.
                    found.insert(id);
                }
                if !moves && !visible.insert(id) {
                    return Err(format!("message {id} is visible twice"));
                }
            }
        }
        self.fates.retain(|id, fate| {
            let is_lost = !fate.acknowledged && !found.contains(id);
            self.seen.lost += u64::from(is_lost);
            !is_lost
        });
        for (id, fate) in &mut self.fates {
            fate.settled = match (fate.settled, found.contains(id)) {
                (Some(KEPT), true) => return Err(format!("message {id} was settled: {fate:?}")),
                (None, false) => return Err(format!("message {id} is lost: {fate:?}")),
                // A settlement that was not committed is lost, or kept all the same.
                (_, true) => None,
                (Some(_), false) => Some(KEPT),
            };
            fate.acknowledged = true;
        }
        Ok(())
    }

    /// Serves until the session ends; whether that is a power cut.
    fn serve(&mut self, shard: &mut Shard) -> Outcome<bool> {
        let steps = self.random.below(self.steps) + 1;
        let stop_at = self.random.below(2 * steps);
        for step in 0..steps {
            if step == stop_at {
                let changes = u64::try_from(self.random.below(12)).unwrap();
                self.fs.stop_after(changes);
            }
            let went = self.step(shard);
            if self.fs.is_stopped() || shard.log.poisoned().is_some() {
                self.note_promised(shard);
                return Ok(true);
            }
            went?;
        }
        self.note_promised(shard);
        Ok(self.random.percent(70))
    }

    /// What clients have been told by now: nothing that is not committed.
    fn note_promised(&mut self, shard: &Shard) {
        let committed = shard.log.committed();
        for fate in self.fates.values_mut() {
            fate.acknowledged |= fate.end <= committed;
            if let Some(end) = &mut fate.settled {
                *end = if *end <= committed {
                    KEPT
                } else {
                    Shard::NEVER
                };
            }
        }
    }

    fn step(&mut self, shard: &mut Shard) -> Outcome {
        self.now_ns += u64::try_from(self.random.below(3_000_000)).unwrap();
        let mut at = self.random.below(self.weights.iter().sum());
        let chosen = self.weights.iter().position(|weight| {
            let hit = at < *weight;
            at = at.saturating_sub(*weight);
            hit
        });
        match chosen {
            Some(0) => self.send(shard),
            Some(1) => self.poll(shard),
            Some(2) => self.settle(shard),
            Some(3) => {
                self.leave(shard);
                Ok(())
            }
            Some(4) => self.commit_step(shard),
            Some(5) => {
                self.job_step(shard);
                Ok(())
            }
            Some(6) => {
                self.pass_time(shard);
                Ok(())
            }
            Some(7) => self.move_step(shard),
            Some(8) => self.keep_house(shard),
            _ => {
                shard.begin_checkpoint();
                Ok(())
            }
        }
    }

    fn send(&mut self, shard: &mut Shard) -> Outcome {
        for _ in 0..self.random.between(1, 6) {
            let number = self.random.below(QUEUES - 1);
            let delay = u64::try_from(self.random.below(60)).unwrap() * MS;
            let delayed = self.random.percent(20);
            let visible_at_ns = if delayed { self.now_ns + delay } else { 0 };
            let head = QueueHead {
                visible_at_ns,
                expires_at_ns: 0,
                receives_max: RECEIVES_MAX,
                rerouted: false,
                policy_cleared: false,
                dead_letter: "",
                origin: "",
                moved: None,
            };
            let id = self.next_id;
            let mut body = id.to_le_bytes().to_vec();
            body.resize(8 + self.random.below(self.payload_bytes_max), 1);
            let Some(end) = self.store(shard, number, &head, &body, None)? else {
                return Ok(());
            };
            self.next_id += 1;
            let fate = Fate {
                end,
                acknowledged: false,
                delayed_until_ns: visible_at_ns,
                settled: None,
                leased: None,
                deliveries: 0,
            };
            self.fates.insert(id, fate);
        }
        Ok(())
    }

    /// Appends a message; `None` when the log has no room.
    pub(crate) fn store(
        &mut self,
        shard: &mut Shard,
        number: usize,
        head: &QueueHead<'_>,
        body: &[u8],
        moved: Option<MoveId>,
    ) -> Outcome<Option<Position>> {
        let (slot, name) = self.queue(number);
        let limits = Limits::default();
        let request = NewMessage {
            slot,
            kind: StoredKind::Queue,
            channel: &name,
            now_ns: self.now_ns,
            encoding: MESSAGE_ENCODING,
            payload_len: u32::try_from(head.encoded_len() + body.len()).unwrap(),
            moved,
            limits: &limits,
        };
        let mut write = |out: &mut Vec<u8>| {
            head.encode(out);
            out.extend_from_slice(body);
        };
        let accepted = shard
            .slots
            .prepare_message(&mut shard.log, request, &mut write);
        let Ok(accepted) = accepted else {
            return Ok(None);
        };
        let id = u64::from_le_bytes(*body.first_chunk().ok_or("a body without a number")?);
        self.bodies
            .insert((accepted.key, accepted.sequence.get()), id);
        Ok(Some(shard.log.end()))
    }

    fn poll(&mut self, shard: &mut Shard) -> Outcome {
        let number = self.random.below(QUEUES);
        let (slot, name) = self.queue(number);
        if let Some(key) = shard.slots.find(slot, StoredKind::Queue, &name) {
            self.polls += 1;
            let request = PollRequest {
                consumer: u64::try_from(self.random.below(3)).unwrap() % CONSUMERS,
                number: self.polls,
                items_max: u32::try_from(self.random.between(1, 12)).unwrap(),
                peek: self.random.percent(10),
                visible_ms: self.random.percent(30).then_some(20),
                deadline_ms: self.now_ns / MS + 30,
            };
            shard.dispatcher.poll(key, request);
        }
        while let Some(turn) = shard.dispatcher.next_turn(self.now_ns) {
            self.take_turn(shard, &turn)?;
        }
        Ok(())
    }

    fn take_turn(&mut self, shard: &mut Shard, turn: &Turn<u64>) -> Outcome {
        let (key, mut taken) = (turn.key, Vec::new());
        let state = shard.slots.queue(key).ok_or("a turn for no queue")?;
        shard
            .dispatcher
            .take(turn, 100, state, self.now_ns, &mut taken);
        let mut open = Vec::new();
        let mut last_plain = Sequence::default();
        for message in &taken {
            let (id, len) = shard.read(key, message.body)?;
            let fate = self.fates.get_mut(&id);
            let fate = fate.ok_or(format!("message {id} was never sent"))?;
            if fate.settled.is_some() || fate.leased.is_some() {
                return Err(format!("message {id} is handed out: {fate:?}"));
            }
            if message.visible_at_ns > self.now_ns || fate.delayed_until_ns > self.now_ns {
                return Err(format!("message {id} is handed out early: {message:?}"));
            }
            if message.visible_at_ns == 0 {
                if message.sequence <= last_plain {
                    return Err(format!("{} after {last_plain}", message.sequence));
                }
                last_plain = message.sequence;
            }
            if turn.request.peek {
                continue;
            }
            fate.leased = Some(turn.delivery);
            fate.deliveries += 1;
            self.seen.again += u64::from(fate.deliveries > 1);
            self.seen.delivered += 1;
            open.push((message.sequence, id));
            shard
                .dispatcher
                .handed(turn, message.sequence, len, RECEIVES_MAX);
        }
        if shard.dispatcher.leased(turn, self.now_ns) != open.len() {
            return Err("not everything that was handed is leased".to_owned());
        }
        if !open.is_empty() {
            let consumer = turn.request.consumer;
            let delivery = Delivery {
                key,
                consumer,
                open,
            };
            self.deliveries.insert(turn.delivery, delivery);
        }
        Ok(())
    }

    fn settle(&mut self, shard: &mut Shard) -> Outcome {
        if self.deliveries.is_empty() {
            return Ok(());
        }
        let at = self.random.below(self.deliveries.len());
        let (number, _) = self.deliveries.iter().nth(at).ok_or("no delivery")?;
        let number = *number;
        let part = self.random.between(1, 13);
        let action = match self.random.below(10) {
            0..=5 => Action::Ack,
            6 => Action::Nack,
            7 => Action::Return { counted: false },
            8 => Action::Extend { visible_ms: 10 },
            _ => Action::Move {
                reason: MoveReason::Requeue,
                target: if self.random.percent(50) {
                    "queue.0"
                } else {
                    "queue.1"
                },
            },
        };
        self.end_leases(shard, number, part, action)
    }

    fn end_leases(
        &mut self,
        shard: &mut Shard,
        number: u64,
        part: usize,
        action: Action<'_>,
    ) -> Outcome {
        let delivery = self.deliveries.get_mut(&number).ok_or("no delivery")?;
        let part = part.min(delivery.open.len());
        let list: Vec<Sequence> = delivery.open[..part].iter().map(|(of, _)| *of).collect();
        let key = delivery.key;
        let which = Which::List(&list);
        let done = shard
            .dispatcher
            .settle(number, key, which, action, self.now_ns);
        done.map_err(|lost| format!("a lease that was not told to be over: {lost}"))?;
        if matches!(action, Action::Extend { .. }) {
            return Ok(());
        }
        self.seen.requeued += u64::from(action == Action::Nack);
        for (_, id) in delivery.open.drain(..part) {
            if let Some(fate) = self.fates.get_mut(&id) {
                fate.leased = None;
                if action == Action::Ack {
                    // Decided, and not written yet.
                    fate.settled = Some(Shard::NEVER);
                    self.seen.settled += 1;
                }
            }
        }
        if delivery.open.is_empty() {
            self.deliveries.remove(&number);
        }
        Ok(())
    }

    /// A consumer ends, in order or broken.
    fn leave(&mut self, shard: &mut Shard) {
        let consumer = u64::try_from(self.random.below(3)).unwrap() % CONSUMERS;
        let broken = self.random.percent(50);
        shard
            .dispatcher
            .consumer_gone(consumer, broken, self.now_ns);
        for (_, delivery) in self
            .deliveries
            .extract_if(.., |_, of| of.consumer == consumer)
        {
            for (_, id) in delivery.open {
                if let Some(fate) = self.fates.get_mut(&id) {
                    fate.leased = None;
                }
            }
        }
    }

    /// These messages are not leased any more.
    pub(crate) fn lease_over(&mut self, number: u64, sequences: &[Sequence]) {
        let Some(delivery) = self.deliveries.get_mut(&number) else {
            return;
        };
        let over = delivery
            .open
            .extract_if(.., |(of, _)| sequences.contains(of));
        for (_, id) in over {
            if let Some(fate) = self.fates.get_mut(&id) {
                fate.leased = None;
            }
        }
        if delivery.open.is_empty() {
            self.deliveries.remove(&number);
        }
    }

    /// Nobody sends any more: everything is received and acknowledged.
    fn drain(&mut self, shard: &mut Shard) -> Outcome {
        for _ in 0..DRAIN_ROUNDS {
            self.now_ns += 5 * MS;
            self.pass_time(shard);
            self.poll(shard)?;
            for number in self.deliveries.keys().copied().collect::<Vec<_>>() {
                self.end_leases(shard, number, usize::MAX, Action::Ack)?;
            }
            self.move_step(shard)?;
            self.keep_house(shard)?;
            self.commit_step(shard)?;
            self.job_step(shard);
            let empty = shard.slots.channels().all(|(_, of)| of.messages() == 0);
            if empty && shard.is_quiet() {
                let left = self.fates.iter().find(|(_, fate)| fate.settled.is_none());
                return left.map_or(Ok(()), |(id, fate)| {
                    Err(format!("message {id} never came: {fate:?}"))
                });
            }
        }
        let left: Vec<_> = self
            .fates
            .iter()
            .filter(|(_, of)| of.settled.is_none())
            .collect();
        Err(format!("messages are still on their way: {left:?}"))
    }
}
