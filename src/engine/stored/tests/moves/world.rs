//! Both logs in one process, step by step.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ringmq_storage::record::RecordKind;
use ringmq_storage::record::queue::{self, MoveId, QueueHead, Run};
use ringmq_storage::{ChannelKey, Position, SegmentId, Sequence, SlotId};

use super::super::tape::{Tape, slot};
use crate::engine::queues::dispatcher::PendingMove;
use crate::engine::queues::moves::{
    Decision, Departed, Leaving, Moves, Refusal, SentPolicy, arriving_head, move_id, source_of,
};
use crate::engine::queues::{MESSAGE_ENCODING, MoveReason, SettleReason};
use crate::engine::stored::{Effect, Limits, NewMessage, Slots, StoreRefusal, StoredKind};

/// The queues, each with its slot; the slots of odd numbers are in the second log.
pub(super) const QUEUES: [(&str, u16); 3] = [("source", 0), ("near", 2), ("far", 1)];

pub(super) const MESSAGES: u64 = 3;

fn slot_of(name: &str) -> SlotId {
    let found = QUEUES.iter().find(|(queue, _)| *queue == name);
    slot(found.expect("a known queue").1)
}

pub(super) fn log_of(slot: SlotId) -> usize {
    usize::from(slot.index() % 2)
}

fn place(frames: usize) -> Position {
    Position::new(SegmentId::new(1), u32::try_from(frames).unwrap())
}

/// What travels between the logs.
#[derive(Clone, Debug)]
enum Letter {
    Message {
        id: MoveId,
        target: String,
        payload: Vec<u8>,
    },
    Answer {
        id: MoveId,
        refusal: Option<Refusal>,
    },
    Over(SlotId, MoveId),
    /// Is this move, which has arrived here, still open?
    Asked(SlotId, MoveId),
}

/// One log and what the process knows of it.
#[derive(Debug)]
pub(super) struct Node {
    tape: Tape,
    pub(super) slots: Slots,
    synced: usize,
    pub(super) moves: Moves,
    /// Messages that were decided to move, or to be acknowledged: nobody gets them.
    hidden: BTreeSet<(ChannelKey, Sequence)>,
    /// Answers that wait for the sync of what they speak of.
    arriving: VecDeque<(usize, MoveId)>,
}

impl Node {
    fn start(tape: Tape, index: usize) -> Self {
        let ours = (0..4).map(slot).filter(|slot| log_of(*slot) == index);
        let mut slots = tape.replay(ours);
        slots.go_live();
        let mut moves = Moves::default();
        let synced = tape.committed;
        for (key, channel) in slots.channels() {
            let queue = channel.queue().into_iter();
            for (sequence, _) in queue.flat_map(|queue| queue.moves()) {
                moves.committed(move_id(key, sequence), place(synced));
            }
        }
        Self {
            tape,
            slots,
            synced,
            moves,
            hidden: BTreeSet::new(),
            arriving: VecDeque::new(),
        }
    }

    /// Writes what was decided, as before every commit.
    fn flush(&mut self, now_ns: u64) {
        while let Some(decision) = self.moves.next_decision() {
            let Self { tape, slots, .. } = self;
            match &decision {
                Decision::Settle {
                    key,
                    reason,
                    messages,
                } => {
                    let runs = messages.iter().map(|(sequence, _)| run(*sequence));
                    let runs: Vec<Run> = runs.collect();
                    slots.prepare_settle(tape, *key, *reason, 0, &runs, now_ns)
                }
                Decision::Cancel(id) => {
                    slots.prepare_move_cancel(tape, source_of(id), id.sequence, now_ns)
                }
                Decision::Forget { slot, ids } => slots.prepare_forget(tape, *slot, ids, now_ns),
            }
            .unwrap();
            self.moves.written(&decision, place(self.tape.len()));
        }
        while let Some((key, asked)) = self.moves.next_asked() {
            let target = asked.target.as_deref().unwrap();
            let Self { tape, slots, .. } = self;
            slots
                .prepare_move(tape, key, asked.sequence, asked.reason, target, now_ns)
                .unwrap();
            self.moves.intended(move_id(key, asked.sequence));
        }
    }

    fn commit(&mut self) {
        self.tape.commit(&mut self.slots, 1);
        let mut effects = Vec::new();
        self.slots.take_effects(&mut effects);
        for effect in effects {
            match effect {
                Effect::MoveCommitted { key, sequence } => {
                    let end = place(self.tape.committed);
                    self.moves.committed(move_id(key, sequence), end);
                }
                Effect::MoveCancelled { key, sequence } => {
                    self.hidden.remove(&(key, sequence));
                }
                _ => {}
            }
        }
    }

    fn body(&self, key: ChannelKey, body: Sequence) -> Option<(u64, Vec<u8>)> {
        let mut found = None;
        self.tape.each_record(|slot, stored_ns, record| {
            let head = record.head;
            if (slot, head.channel, head.sequence) == (key.slot, key.channel, body)
                && head.kind == RecordKind::Message
            {
                found = Some((stored_ns, record.payload.to_vec()));
            }
        });
        found
    }
}

fn run(sequence: Sequence) -> Run {
    Run {
        first: sequence,
        last: sequence,
    }
}

/// The number that a test message has as its body.
fn number_of(payload: &[u8]) -> u64 {
    let (_, body) = QueueHead::decode(payload).unwrap();
    u64::from_le_bytes(body.try_into().unwrap())
}

/// Both logs in one process.
pub(super) struct World {
    pub(super) nodes: [Node; 2],
    letters: VecDeque<Letter>,
    pub(super) limits: Limits,
    now_ns: u64,
    strict: bool,
    /// What happened, for the text of a failure.
    pub(super) history: Vec<String>,
}

impl World {
    pub(super) fn new(strict: bool, limits: Limits) -> Self {
        let node = |index| Node::start(Tape::default(), index);
        let mut world = Self {
            nodes: [node(0), node(1)],
            letters: VecDeque::new(),
            limits,
            now_ns: 1_000_000_000,
            strict,
            history: Vec::new(),
        };
        let head = QueueHead {
            visible_at_ns: 0,
            expires_at_ns: 0,
            receives_max: 3,
            rerouted: false,
            policy_cleared: false,
            dead_letter: "",
            origin: "",
            moved: None,
        };
        for number in 0..MESSAGES {
            let mut payload = Vec::new();
            head.encode(&mut payload);
            payload.extend_from_slice(&number.to_le_bytes());
            world.store("source", &payload, None).unwrap();
        }
        for _ in 0..9 {
            world.nodes[0].commit();
        }
        world.nodes[0].synced = world.nodes[0].tape.committed;
        world
    }

    fn store(
        &mut self,
        channel: &str,
        payload: &[u8],
        moved: Option<MoveId>,
    ) -> Result<(), StoreRefusal> {
        let node = &mut self.nodes[log_of(slot_of(channel))];
        let message = NewMessage {
            slot: slot_of(channel),
            kind: StoredKind::Queue,
            channel,
            now_ns: self.now_ns,
            encoding: MESSAGE_ENCODING,
            payload_len: u32::try_from(payload.len()).unwrap(),
            moved,
            limits: &self.limits,
        };
        let write = &mut |out: &mut Vec<u8>| out.extend_from_slice(payload);
        node.slots
            .prepare_message(&mut node.tape, message, write)
            .map(|_| ())
    }

    /// The messages that consumers can see: by number, where.
    pub(super) fn seen(&self) -> BTreeMap<u64, Vec<(ChannelKey, Sequence)>> {
        let mut seen: BTreeMap<u64, Vec<_>> = BTreeMap::new();
        for node in &self.nodes {
            for (key, channel) in node.slots.channels() {
                let Some(queue) = channel.queue() else {
                    continue;
                };
                for (first, last) in queue.live() {
                    for sequence in first.get()..=last.get() {
                        let sequence = Sequence::new(sequence);
                        if queue.open_move(sequence).is_none() {
                            let body = node.body(key, queue.body_of(sequence));
                            let (_, payload) = body.expect("a live message has a body");
                            seen.entry(number_of(&payload))
                                .or_default()
                                .push((key, sequence));
                        }
                    }
                }
            }
        }
        seen
    }

    /// Copies that were acknowledged, by number.
    fn acked(&self) -> BTreeMap<u64, usize> {
        let mut acked = BTreeMap::new();
        for node in &self.nodes {
            node.tape.each_record(|slot, _, record| {
                let head = record.head;
                if head.kind != RecordKind::QueueSettle
                    || head.encoding != SettleReason::Acked as u8
                {
                    return;
                }
                let channel = head.channel;
                let (_, runs) = queue::decode_settle(record.payload).unwrap();
                for run in runs {
                    let body = node.body(ChannelKey { slot, channel }, run.first);
                    *acked.entry(number_of(&body.unwrap().1)).or_default() += 1;
                }
            });
        }
        acked
    }

    fn check(&self) {
        let (seen, acked) = (self.seen(), self.acked());
        for number in 0..MESSAGES {
            let seen = seen.get(&number).map_or(0, Vec::len);
            let copies = seen + acked.get(&number).copied().unwrap_or(0);
            assert!(
                copies <= 1,
                "message {number} is there {copies} times: {:#?}",
                self.history
            );
        }
    }

    pub(super) fn step(&mut self, step: Step) {
        self.history.push(format!("{step:?}"));
        self.now_ns += 1_000_000;
        match step {
            Step::Move {
                number,
                target,
                why,
            } => self.begin(number, target, why),
            Step::Ack(number) => self.ack(number),
            Step::Flush(index) => self.nodes[index].flush(self.now_ns),
            Step::Commit(index) => {
                self.nodes[index].commit();
                if self.strict {
                    self.sync(index);
                }
            }
            Step::Sync(index) => self.sync(index),
            Step::Write(index) => {
                let node = &mut self.nodes[index];
                node.flush(self.now_ns);
                while node.tape.committed < node.tape.len() {
                    node.commit();
                }
                if self.strict {
                    self.sync(index);
                }
            }
            Step::Depart(index) => self.depart(index),
            Step::Deliver => self.deliver(),
            Step::Crash(kept) => self.crash(kept),
        }
        self.check();
    }

    fn begin(&mut self, number: u64, target: usize, reason: MoveReason) {
        let Some((key, sequence)) = self.visible(number) else {
            return;
        };
        let node = &mut self.nodes[log_of(key.slot)];
        node.hidden.insert((key, sequence));
        let asked = PendingMove {
            sequence,
            len: 40,
            receives: 1,
            reason,
            target: Some(QUEUES[target].0.into()),
        };
        node.moves.ask(key, asked);
    }

    fn visible(&self, number: u64) -> Option<(ChannelKey, Sequence)> {
        let found = *self.seen().get(&number)?.first()?;
        let hidden = &self.nodes[log_of(found.0.slot)].hidden;
        (!hidden.contains(&found)).then_some(found)
    }

    fn ack(&mut self, number: u64) {
        let Some((key, sequence)) = self.visible(number) else {
            return;
        };
        let now_ns = self.now_ns;
        let node = &mut self.nodes[log_of(key.slot)];
        node.hidden.insert((key, sequence));
        let Node { tape, slots, .. } = node;
        slots
            .prepare_settle(tape, key, SettleReason::Acked, 40, &[run(sequence)], now_ns)
            .unwrap();
    }

    fn sync(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        node.synced = node.tape.committed;
        let mut over = Vec::new();
        node.moves.durable(place(node.synced), &mut over);
        let letters = over.into_iter().map(|(slot, id)| Letter::Over(slot, id));
        self.letters.extend(letters);
        while let Some((end, id)) = node.arriving.front().copied()
            && end <= node.synced
        {
            node.arriving.pop_front();
            self.letters.push_back(Letter::Answer { id, refusal: None });
        }
    }

    fn depart(&mut self, index: usize) {
        let now_ms = self.now_ns / 1_000_000;
        let node = &mut self.nodes[index];
        let Some(id) = node.moves.next_departure(now_ms) else {
            return;
        };
        let key = source_of(&id);
        let channel = node.slots.channel(key);
        let queue = channel.and_then(|channel| channel.queue());
        let Some(open) = queue.and_then(|queue| queue.open_move(id.sequence)) else {
            return node.moves.gone(id);
        };
        let body = queue.map(|queue| queue.body_of(id.sequence)).unwrap();
        let (stored_ns, stored) = node.body(key, body).expect("a moving message has a body");
        let (head, body) = QueueHead::decode(&stored).unwrap();
        let leaving = Leaving {
            id,
            reason: open.reason,
            source: &channel.unwrap().name,
            target: &open.target,
            stored_ns,
            head,
            policy: SentPolicy {
                lives_ns: 0,
                receives_max: 3,
                dead_letter: "",
            },
        };
        let mut payload = Vec::new();
        arriving_head(&leaving, 1_024, self.now_ns).encode(&mut payload);
        payload.extend_from_slice(body);
        let departed = Departed {
            target: slot_of(&open.target),
            reason: open.reason,
            len: 40,
            bytes: payload.len(),
        };
        let target = open.target.to_string();
        node.moves.departed(id, departed);
        self.letters.push_back(Letter::Message {
            id,
            target,
            payload,
        });
    }

    fn deliver(&mut self) {
        match self.letters.pop_front() {
            Some(Letter::Message {
                id,
                target,
                payload,
            }) => {
                let stored = self.store(&target, &payload, Some(id));
                let node = &mut self.nodes[log_of(slot_of(&target))];
                match stored {
                    Ok(()) | Err(StoreRefusal::AlreadyHere) => {
                        node.arriving.push_back((node.tape.len(), id));
                    }
                    Err(_) => self.letters.push_back(Letter::Answer {
                        id,
                        refusal: Some(Refusal::Lasting),
                    }),
                }
            }
            Some(Letter::Answer { id, refusal }) => {
                let moves = &mut self.nodes[log_of(id.slot)].moves;
                match refusal {
                    None => moves.taken(id),
                    Some(refusal) => {
                        moves.refused(id, refusal, self.now_ns / 1_000_000);
                    }
                }
            }
            Some(Letter::Over(slot, id)) => self.nodes[log_of(slot)].moves.forget([(slot, id)]),
            Some(Letter::Asked(slot, id)) => {
                let node = &self.nodes[log_of(id.slot)];
                let channel = node.slots.channel(source_of(&id));
                let queue = channel.and_then(|channel| channel.queue());
                if queue
                    .and_then(|queue| queue.open_move(id.sequence))
                    .is_none()
                {
                    self.letters.push_back(Letter::Over(slot, id));
                }
            }
            None => {}
        }
    }

    /// The process ends; of each log an end that was not synced may be lost.
    fn crash(&mut self, kept: [u8; 2]) {
        self.letters.clear();
        for (index, kept) in kept.into_iter().enumerate() {
            let node = &mut self.nodes[index];
            let mut tape = std::mem::take(&mut node.tape);
            let unsynced = tape.frames.len() - node.synced;
            tape.crash(node.synced + usize::from(kept) % (unsynced + 1));
            *node = Node::start(tape, index);
            let arrivals = node
                .slots
                .arrivals()
                .map(|(slot, id)| Letter::Asked(slot, id));
            self.letters.extend(arrivals);
        }
        for index in 0..2 {
            self.sync(index);
        }
    }

    fn is_quiet(&self) -> bool {
        let quiet = |node: &Node| {
            node.moves.open_count() == 0
                && !node.moves.has_decisions()
                && node.tape.len() == node.synced
                && node.slots.arrivals().count() == 0
        };
        self.letters.is_empty() && self.nodes.iter().all(quiet)
    }

    /// Everything goes on until nothing is left to do.
    pub(super) fn settle_down(&mut self) {
        self.limits = Limits::default();
        for _ in 0..200 {
            if self.is_quiet() {
                break;
            }
            self.now_ns += 60_000_000_000;
            for index in 0..2 {
                for step in [Step::Flush(index), Step::Commit(index), Step::Sync(index)] {
                    self.step(step);
                }
                self.step(Step::Depart(index));
            }
            self.step(Step::Deliver);
            self.step(Step::Deliver);
        }
        let (seen, acked) = (self.seen(), self.acked());
        for number in 0..MESSAGES {
            let seen = seen.get(&number).map_or(0, Vec::len);
            let copies = seen + acked.get(&number).copied().unwrap_or(0);
            assert_eq!(copies, 1, "message {number}: {:#?}", self.history);
        }
        for node in &self.nodes {
            assert_eq!(node.moves.open_count(), 0, "{:#?}", self.history);
            assert_eq!(node.slots.arrivals().count(), 0, "{:#?}", self.history);
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Move {
        number: u64,
        target: usize,
        why: MoveReason,
    },
    Ack(u64),
    Flush(usize),
    Commit(usize),
    Sync(usize),
    /// What was decided is written and committed, all of it.
    Write(usize),
    Depart(usize),
    Deliver,
    /// How much of what is not synced each log keeps.
    Crash([u8; 2]),
}
