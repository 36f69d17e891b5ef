//! The rules, one by one.

mod leases;
mod model;
mod times;

use ringmq_storage::record::queue::{Counted, QueueHead, Run};
use ringmq_storage::{ChannelId, ChannelKey, Sequence, SlotId};

use super::{
    Action, Dispatcher, Gone, LeaseLost, Pending, PendingMove, PollRequest, QueueFigures,
    QueuePolicy, Taken, Timeout, Turn, Which,
};
use crate::engine::queues::{MoveReason, QueueState, SettleReason};

/// Bytes of every payload.
const LEN: u32 = 100;
const MS: u64 = 1_000_000;
/// When the tests begin.
const START: u64 = 1_700_000_000_000 * MS;
const RECEIVES_MAX: u32 = 3;

fn s(number: u64) -> Sequence {
    Sequence::new(number)
}

pub(super) fn channel(number: u32) -> ChannelKey {
    ChannelKey {
        slot: SlotId::new(0).unwrap(),
        channel: ChannelId::new(number),
    }
}

/// The key of the queue that has this place in a world.
fn queue_key(place: usize) -> ChannelKey {
    channel(u32::try_from(place).unwrap())
}

pub(super) fn head(visible_at_ns: u64, expires_at_ns: u64) -> QueueHead<'static> {
    QueueHead {
        visible_at_ns,
        expires_at_ns,
        receives_max: RECEIVES_MAX,
        rerouted: false,
        policy_cleared: false,
        dead_letter: "",
        origin: "",
        moved: None,
    }
}

/// Two queues, whose records are committed as soon as they are written.
struct World {
    dispatcher: Dispatcher<u64>,
    states: [QueueState; 2],
    now_ns: u64,
    polls: u64,
}

/// A delivery as its consumer knows it.
#[derive(Clone, Debug)]
struct Got {
    queue: usize,
    delivery: u64,
    consumer: u64,
    taken: Vec<Taken>,
}

impl Got {
    fn sequences(&self) -> Vec<u64> {
        self.taken
            .iter()
            .map(|taken| taken.sequence.get())
            .collect()
    }

    fn receives(&self) -> Vec<u32> {
        self.taken.iter().map(|taken| taken.receives).collect()
    }
}

impl World {
    fn new() -> Self {
        Self {
            dispatcher: Dispatcher::new(1, START),
            states: Default::default(),
            now_ns: START,
            polls: 0,
        }
    }

    fn with(count: u64) -> Self {
        let mut world = Self::new();
        world.send(0, count);
        world
    }

    fn send(&mut self, queue: usize, count: u64) {
        for _ in 0..count {
            self.send_timed(queue, 0, 0);
        }
    }

    /// A message that is visible and expires so many milliseconds from now; 0: at once, never.
    fn send_timed(&mut self, queue: usize, visible_ms: u64, expires_ms: u64) {
        let at = |ms: u64| if ms == 0 { 0 } else { self.now_ns + ms * MS };
        let head = head(at(visible_ms), at(expires_ms));
        let last = self.states[queue].last().next();
        self.states[queue].store(last, &head, LEN);
        self.stored(queue);
    }

    fn stored(&mut self, queue: usize) {
        let state = &self.states[queue];
        self.dispatcher
            .stored(queue_key(queue), state.last(), state, self.now_ns);
    }

    fn request(&mut self, consumer: u64, items_max: u32) -> PollRequest<u64> {
        self.polls += 1;
        PollRequest {
            consumer,
            number: self.polls,
            items_max,
            peek: false,
            visible_ms: None,
            deadline_ms: self.now_ns / MS + 60_000,
        }
    }

    fn wait(&mut self, queue: usize, consumer: u64, items_max: u32) -> u64 {
        let request = self.request(consumer, items_max);
        self.dispatcher.poll(queue_key(queue), request);
        request.number
    }

    fn poll(&mut self, queue: usize, consumer: u64, items_max: u32) -> Option<Got> {
        let request = self.request(consumer, items_max);
        self.dispatcher.poll(queue_key(queue), request);
        self.serve()
    }

    /// Leases for so many milliseconds.
    fn poll_for(&mut self, consumer: u64, items_max: u32, visible_ms: u64) -> Option<Got> {
        let mut request = self.request(consumer, items_max);
        request.visible_ms = Some(visible_ms);
        self.dispatcher.poll(channel(0), request);
        self.serve()
    }

    fn peek(&mut self, items_max: u32) -> Vec<u64> {
        let mut request = self.request(99, items_max);
        request.peek = true;
        self.dispatcher.poll(channel(0), request);
        let got = self.serve();
        self.dispatcher.cancel(channel(0), 99, request.number);
        got.map(|got| got.sequences()).unwrap_or_default()
    }

    fn serve(&mut self) -> Option<Got> {
        let turn = self.dispatcher.next_turn(self.now_ns)?;
        self.take_turn(&turn)
    }

    fn take_turn(&mut self, turn: &Turn<u64>) -> Option<Got> {
        let queue = usize::try_from(turn.key.channel.get()).unwrap();
        let (dispatcher, state) = (&mut self.dispatcher, &self.states[queue]);
        let mut taken = Vec::new();
        // In two steps, as a shard that reads bodies piece by piece.
        dispatcher.take(turn, 2, state, self.now_ns, &mut taken);
        dispatcher.take(turn, usize::MAX, state, self.now_ns, &mut taken);
        if taken.is_empty() {
            dispatcher.requeue_waiter(turn);
            return None;
        }
        if !turn.request.peek {
            for message in &taken {
                dispatcher.handed(turn, message.sequence, LEN, RECEIVES_MAX);
            }
        }
        let leased = dispatcher.leased(turn, self.now_ns);
        assert_eq!(leased, if turn.request.peek { 0 } else { taken.len() });
        Some(Got {
            queue,
            delivery: turn.delivery,
            consumer: turn.request.consumer,
            taken,
        })
    }

    fn settle(&mut self, got: &Got, which: &[u64], action: Action<'_>) -> Result<u32, LeaseLost> {
        let list: Vec<Sequence> = which.iter().copied().map(s).collect();
        let which = Which::List(&list);
        let key = queue_key(got.queue);
        self.dispatcher
            .settle(got.delivery, key, which, action, self.now_ns)
    }

    fn settle_all(&mut self, got: &Got, action: Action<'_>) -> Result<u32, LeaseLost> {
        let key = queue_key(got.queue);
        self.dispatcher
            .settle(got.delivery, key, Which::All, action, self.now_ns)
    }

    fn pending(&mut self) -> Vec<Pending> {
        let all = std::iter::from_fn(|| self.dispatcher.next_pending());
        all.map(|(_, pending)| pending).collect()
    }

    /// Writes and commits what is pending; gives the moves that were asked for.
    fn commit(&mut self) -> Vec<PendingMove> {
        let mut moves = Vec::new();
        while let Some((key, pending)) = self.dispatcher.next_pending() {
            let queue = usize::try_from(key.channel.get()).unwrap();
            let state = &mut self.states[queue];
            match &pending {
                Pending::Settle {
                    reason,
                    bytes,
                    runs,
                } => state.settle(*reason, *bytes, runs.iter().copied()),
                Pending::Requeue(entries) => entries.iter().for_each(|entry| state.requeue(entry)),
                Pending::Count(entries) => entries.iter().for_each(|entry| state.count(entry)),
                Pending::Move(operation) => moves.push(operation.clone()),
            }
            self.dispatcher.recycle(pending);
            self.stored(queue);
        }
        moves
    }

    fn advance(&mut self, ms: u64) -> Vec<Timeout<u64>> {
        self.now_ns += ms * MS;
        let mut events = Vec::new();
        let states = |key: ChannelKey| self.states.get(usize::try_from(key.channel.get()).unwrap());
        while !self.dispatcher.advance(self.now_ns, states, &mut events) {}
        events
    }

    fn figures(&self) -> QueueFigures {
        self.dispatcher.figures(channel(0))
    }
}

#[test]
fn messages_come_in_their_order_up_to_the_maximum() {
    let mut world = World::with(5);
    assert_eq!(world.poll(0, 1, 3).unwrap().sequences(), [1, 2, 3]);
    assert_eq!(world.poll(0, 1, 3).unwrap().sequences(), [4, 5]);
    assert!(world.poll(0, 1, 3).is_none());
    let figures = world.figures();
    assert_eq!((figures.waiting, figures.in_flight), (0, 5));
    assert_eq!((figures.waiters, figures.delivered), (1, 5));
}

#[test]
fn a_peek_goes_on_behind_what_it_saw_and_takes_nothing() {
    let mut world = World::with(5);
    assert_eq!(world.peek(4), [1, 2, 3, 4]);
    assert_eq!(world.peek(9), [1, 2, 3, 4, 5]);
    let figures = world.figures();
    assert_eq!((figures.waiting, figures.in_flight), (5, 0));
    assert_eq!(figures.delivered, 0);
}

#[test]
fn waiters_are_served_in_the_order_they_came() {
    let mut world = World::new();
    let numbers: Vec<u64> = (1..=3).map(|consumer| world.wait(0, consumer, 2)).collect();
    assert!(world.serve().is_none());
    world.send(0, 3);
    let first = world.serve().unwrap();
    assert_eq!((first.consumer, first.sequences()), (1, vec![1, 2]));
    assert!(world.dispatcher.cancel(channel(0), 3, numbers[2]));
    assert!(!world.dispatcher.cancel(channel(0), 3, numbers[2]));
    let second = world.serve().unwrap();
    assert_eq!((second.consumer, second.sequences()), (2, vec![3]));
    assert_eq!(world.figures().waiters, 0);
}

#[test]
fn queues_take_turns() {
    let mut world = World::new();
    for consumer in 1..=4 {
        world.wait(0, consumer, 1);
        world.wait(1, consumer, 1);
    }
    world.send(0, 4);
    world.send(1, 2);
    let order: Vec<_> = std::iter::from_fn(|| world.serve())
        .map(|got| (got.queue, got.consumer))
        .collect();
    assert_eq!(order, [(0, 1), (1, 1), (0, 2), (1, 2), (0, 3), (0, 4)]);
}

#[test]
fn a_waiter_whose_turn_came_to_nothing_keeps_its_place() {
    let mut world = World::new();
    world.wait(0, 1, 1);
    world.wait(0, 2, 1);
    world.send(0, 2);
    let first = world.dispatcher.next_turn(world.now_ns).unwrap();
    let second = world.dispatcher.next_turn(world.now_ns).unwrap();
    world.dispatcher.requeue_waiter(&first);
    world.dispatcher.requeue_waiter(&second);
    assert_eq!(world.figures().waiters, 2);
    assert_eq!(world.serve().unwrap().consumer, 1);
    assert_eq!(world.serve().unwrap().consumer, 2);
}

#[test]
fn what_was_taken_and_not_handed_goes_back_in_place() {
    let mut world = World::with(4);
    world.wait(0, 1, 9);
    let turn = world.dispatcher.next_turn(START).unwrap();
    let mut taken = Vec::new();
    let (dispatcher, state) = (&mut world.dispatcher, &world.states[0]);
    dispatcher.take(&turn, 9, state, START, &mut taken);
    dispatcher.handed(&turn, s(1), LEN, RECEIVES_MAX);
    dispatcher.put_back(&turn, &[s(4)], START);
    dispatcher.damaged(&turn, s(2), LEN);
    assert_eq!(dispatcher.leased(&turn, START), 1);
    let figures = world.figures();
    assert_eq!((figures.waiting, figures.in_flight), (2, 1));
    let got = world.poll(0, 1, 9).unwrap();
    assert_eq!((got.sequences(), got.receives()), (vec![3, 4], vec![0, 0]));
    let damaged = settle(SettleReason::Damaged, &[(2, 2)], LEN);
    assert_eq!(world.pending(), [damaged]);
}

#[test]
fn a_message_that_was_received_as_often_as_it_may_is_not_handed_again() {
    let mut world = World::with(1);
    // Counted, and then the broker was killed.
    world.states[0].count(&Counted {
        first: s(1),
        count: 1,
        receives: RECEIVES_MAX,
    });
    world.wait(0, 1, 1);
    let turn = world.dispatcher.next_turn(START).unwrap();
    let (dispatcher, state) = (&mut world.dispatcher, &world.states[0]);
    dispatcher.take(&turn, 1, state, START, &mut Vec::new());
    dispatcher.exhausted(&turn, s(1), LEN);
    dispatcher.requeue_waiter(&turn);
    assert_eq!((world.figures().moving, world.figures().waiters), (1, 1));
    assert_eq!(world.pending(), [dead_letter(1, RECEIVES_MAX)]);
}

fn settle(reason: SettleReason, runs: &[(u64, u64)], bytes: u32) -> Pending {
    let run = |&(first, last): &(u64, u64)| Run {
        first: s(first),
        last: s(last),
    };
    Pending::Settle {
        reason,
        bytes: bytes.into(),
        runs: runs.iter().map(run).collect(),
    }
}

fn dead_letter(sequence: u64, receives: u32) -> Pending {
    Pending::Move(PendingMove {
        sequence: s(sequence),
        len: LEN,
        receives,
        reason: MoveReason::DeadLetter,
        target: None,
    })
}
