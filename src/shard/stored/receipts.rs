//! Receipts: what became of each message that a publisher handed over, in its order.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::StoreFailure;
use crate::rt::Notify;
use crate::shard::Shard;
use crate::shard::message::Note;

/// Where the outcome of a message belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) struct ReceiptAddress {
    pub core: u16,
    /// The publisher there.
    pub key: u64,
    /// The message's number among those of the publisher.
    pub number: u64,
}

/// The receipts of one publisher: a call, or a stream.
///
/// The n-th message that was taken gets the n-th receipt, whatever log it went to. Dropping it
/// forgets the outcomes, not the messages.
#[derive(Debug)]
pub struct Receipts {
    shard: Rc<Shard>,
    key: u64,
    inner: Rc<Inner>,
}

#[derive(Debug, Default)]
pub(in crate::shard) struct Inner {
    states: RefCell<VecDeque<State>>,
    /// Number of the state at the front.
    base: Cell<u64>,
    /// States that still wait.
    waiting: Cell<usize>,
    abandoned: Cell<bool>,
    ready: Notify,
}

#[derive(Debug)]
enum State {
    /// Not known yet; holds as many bytes of the core's budget.
    Waiting(usize),
    Done(Result<(), StoreFailure>),
}

impl Receipts {
    /// Takes the oldest outcome; pending while it is not known, or when nothing is outstanding.
    pub fn poll_front(&self, cx: &mut Context<'_>) -> Poll<Result<(), StoreFailure>> {
        loop {
            if let Some(outcome) = self.try_front() {
                return Poll::Ready(outcome);
            }
            if self.inner.ready.poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Takes the oldest outcome if it is known.
    #[must_use]
    pub fn try_front(&self) -> Option<Result<(), StoreFailure>> {
        let mut states = self.inner.states.borrow_mut();
        match states.pop_front()? {
            State::Done(outcome) => {
                self.inner.base.set(self.inner.base.get() + 1);
                Some(outcome)
            }
            waiting @ State::Waiting(_) => {
                states.push_front(waiting);
                None
            }
        }
    }

    /// Messages whose outcome was not taken yet.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.inner.states.borrow().len()
    }

    /// Notes a message that holds `bytes` of the budget; gives its address.
    pub(super) fn expect(&self, bytes: usize) -> ReceiptAddress {
        let mut states = self.inner.states.borrow_mut();
        let behind = u64::try_from(states.len()).unwrap_or(u64::MAX);
        states.push_back(State::Waiting(bytes));
        self.inner.waiting.set(self.inner.waiting.get() + 1);
        let stored = &self.shard.stored;
        stored.inflight.set(stored.inflight.get() + bytes);
        ReceiptAddress {
            core: self.shard.id,
            key: self.key,
            number: self.inner.base.get() + behind,
        }
    }
}

impl Drop for Receipts {
    fn drop(&mut self) {
        // What still waits keeps its part of the budget: the owner holds the bytes.
        self.inner.abandoned.set(true);
        if self.inner.waiting.get() == 0 {
            self.shard.forget_receipts(self.key);
        }
    }
}

impl Shard {
    /// Makes the receipts of a publisher.
    #[must_use]
    pub fn receipts(self: &Rc<Self>) -> Receipts {
        let inner = Rc::new(Inner::default());
        let key = self.stored.receipts.borrow_mut().insert(inner.clone());
        Receipts {
            shard: self.clone(),
            key,
            inner,
        }
    }

    fn find_receipts(&self, key: u64) -> Option<Rc<Inner>> {
        self.stored.receipts.borrow().get(key).cloned()
    }

    fn forget_receipts(&self, key: u64) {
        self.stored.receipts.borrow_mut().remove(key);
    }

    /// Brings the outcome of `count` messages, from the addressed one on, to their publisher.
    pub(in crate::shard) fn complete(
        &self,
        first: ReceiptAddress,
        count: u64,
        outcome: Result<(), StoreFailure>,
    ) {
        match self.lane(first.core) {
            None => self.complete_here(first.key, first.number, count, &outcome),
            Some(lane) => lane.push_note(Note::Receipts {
                key: first.key,
                first: first.number,
                count,
                outcome: outcome.map_err(Box::new),
            }),
        }
    }

    /// The same for a publisher of this core.
    pub(in crate::shard) fn complete_here(
        &self,
        key: u64,
        first: u64,
        count: u64,
        outcome: &Result<(), StoreFailure>,
    ) {
        let Some(inner) = self.find_receipts(key) else {
            return;
        };
        let mut released = 0;
        {
            let mut states = inner.states.borrow_mut();
            let at = first.saturating_sub(inner.base.get());
            let at = usize::try_from(at).unwrap_or(usize::MAX);
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            for state in states.iter_mut().skip(at).take(count) {
                if let State::Waiting(bytes) = *state {
                    released += bytes;
                    *state = State::Done(outcome.clone());
                    inner.waiting.set(inner.waiting.get().saturating_sub(1));
                }
            }
        }
        self.admission.refresh_room();
        self.stored.release(released, self.admission.room());
        if inner.abandoned.get() {
            if inner.waiting.get() == 0 {
                self.forget_receipts(key);
            }
        } else {
            inner.ready.raise();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};
    use std::time::Duration;

    use ringmq_storage::SlotId;
    use ringmq_storage::fs::RealFs;

    use super::*;
    use crate::model::ShardId;
    use crate::rt;
    use crate::shard::{
        ChannelPolicy, Framing, Full, LaneBounds, LogPlacement, Placement, QueueFraming, Settings,
        StoredSeed, StoredSettings,
    };

    struct Here;

    impl Placement for Here {
        fn slot(&self, _channel: &str) -> SlotId {
            SlotId::new(0).expect("the first slot")
        }

        fn owner(&self, _channel: &str) -> ShardId {
            ShardId::default()
        }
    }

    /// A shard without logs: receipts are all that is looked at.
    fn shard(inflight_bytes_max: usize) -> Rc<Shard> {
        let settings = Settings {
            subscriber_buffer_bytes: 1 << 20,
            delivery_buffer_bytes_max: 1 << 20,
            pending_requests_max: 10,
            match_cache_entries: 10,
            query_cache_bytes: 1 << 10,
            lane: LaneBounds {
                messages_max: 10,
                bytes_max: 1 << 10,
            },
            fail_fast: false,
        };
        let stored = StoredSeed {
            settings: StoredSettings {
                strict: true,
                sync_interval: Duration::from_millis(1),
                inflight_bytes_max,
                framing: Framing {
                    before: |_, _, _, _| {},
                    after: |_, _, _| {},
                },
                queue_framing: QueueFraming {
                    before: |_, _, _| {},
                    after: |_, _| {},
                    policy: |_| crate::shard::BodyPolicy::default(),
                },
                policy: Box::new(|_| ChannelPolicy::default()),
                cursor_expiry: None.into(),
                purge_inactive: None.into(),
                file_hook: None,
            },
            placement: LogPlacement { logs: 1, shards: 1 },
            logs: Vec::new(),
            fs: Arc::new(RealFs),
        };
        Shard::new(ShardId::default(), 1, settings, Box::new(Here), stored)
    }

    #[test]
    fn outcomes_come_in_the_order_of_the_messages() {
        let shard = shard(1000);
        let receipts = shard.receipts();
        let [first, second, third] = [(); 3].map(|()| receipts.expect(10));
        shard.complete(third, 1, Ok(()));
        assert_eq!(receipts.try_front(), None, "the first is not known yet");
        shard.complete(second, 1, Err(StoreFailure::Busy));
        shard.complete(first, 1, Ok(()));
        let outcomes = [(); 3].map(|()| receipts.try_front());
        assert_eq!(
            outcomes,
            [Some(Ok(())), Some(Err(StoreFailure::Busy)), Some(Ok(()))]
        );
        assert_eq!(receipts.outstanding(), 0);
    }

    #[test]
    fn a_run_of_messages_is_completed_at_once_and_only_once() {
        let shard = shard(1000);
        let receipts = shard.receipts();
        let first = receipts.expect(10);
        receipts.expect(10);
        receipts.expect(10);
        shard.complete(first, 2, Ok(()));
        // A failure that comes behind an outcome does not change it.
        shard.complete(first, 3, Err(StoreFailure::Poisoned));
        let outcomes = [(); 3].map(|()| receipts.try_front());
        assert_eq!(
            outcomes,
            [
                Some(Ok(())),
                Some(Ok(())),
                Some(Err(StoreFailure::Poisoned))
            ]
        );
    }

    #[test]
    fn the_budget_is_held_until_the_outcome_also_by_one_who_left() {
        let shard = shard(100);
        let receipts = shard.receipts();
        let message = receipts.expect(80);
        assert!(!shard.has_store_room(30));
        drop(receipts);
        assert!(!shard.has_store_room(30), "the log still holds its bytes");
        assert_eq!(shard.stored.receipts.borrow().iter().count(), 1);
        shard.complete(message, 1, Ok(()));
        assert!(shard.has_store_room(100));
        assert_eq!(shard.stored.receipts.borrow().iter().count(), 0);
    }

    #[test]
    fn a_slow_log_leaves_less_room_and_a_large_message_may_exceed_it() {
        const MIB: usize = 1 << 20;
        let shard = shard(64 * MIB);
        shard.admission().committed(1_000, Duration::from_millis(1));
        for _ in 0..20 {
            let took = Duration::from_secs(10);
            shard.admission().committed(8 * MIB, took);
        }
        shard.admission().refresh_room();
        let receipts = shard.receipts();
        receipts.expect(MIB / 2);
        assert!(
            shard.has_store_room(63 * MIB),
            "one more, whatever its size"
        );
        assert!(!shard.has_store_room(64 * MIB), "but never above the bound");
        receipts.expect(MIB);
        assert!(!shard.has_store_room(1));
        shard.admission().set_target(None);
        shard
            .admission()
            .committed(8 * MIB, Duration::from_secs(10));
        shard.admission().refresh_room();
        assert!(
            shard.has_store_room(1),
            "without a target the room is whole"
        );
    }

    #[test]
    fn calls_are_refused_while_everybody_waits_too_long_at_the_door() {
        let shard = shard(100);
        let admission = shard.admission();
        admission.set_target(Some(Duration::ZERO));
        assert_eq!(admission.admit_unary(), Ok(()));
        // A wait of any length is too long now: the door stands after a tenth of a second.
        let began = rt::now();
        let mut last = admission.wait();
        while admission.admit_unary().is_ok() {
            assert!(rt::now().since(began) < Duration::from_secs(60));
            let next = admission.wait();
            last.came_in();
            last = next;
        }
        assert!(rt::now().since(began) >= Duration::from_millis(100));
        assert!(admission.is_overloaded() && admission.waiting() == 1);
        let refused = admission.admit_unary().unwrap_err();
        assert!(refused.to_string().contains("limits.overload_target_ms"));
        drop(last);
        assert_eq!(admission.admit_unary(), Ok(()), "nobody waits any more");
        assert!(!admission.overload().store);
    }

    #[derive(Default)]
    struct Calls(AtomicUsize);

    impl Wake for Calls {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One who waits at the door.
    struct Sender<'a> {
        room: Pin<Box<dyn Future<Output = Result<(), Full>> + 'a>>,
        calls: Arc<Calls>,
    }

    impl<'a> Sender<'a> {
        fn waits(shard: &'a Shard, bytes: usize) -> Self {
            let mut sender = Self {
                room: Box::pin(shard.store_room("c", bytes)),
                calls: Arc::default(),
            };
            assert!(!sender.comes_in());
            sender
        }

        fn comes_in(&mut self) -> bool {
            let waker = Waker::from(self.calls.clone());
            let mut cx = Context::from_waker(&waker);
            matches!(self.room.as_mut().poll(&mut cx), Poll::Ready(Ok(())))
        }

        /// Whether it was woken since it was asked last.
        fn was_called(&self) -> bool {
            self.calls.0.swap(0, Ordering::Relaxed) > 0
        }
    }

    #[test]
    fn one_too_large_for_now_is_passed_until_its_patience_ends() {
        let shard = shard(100);
        let receipts = shard.receipts();
        shard.stored.patience.set(Duration::MAX);
        let stream = receipts.expect(10);
        let full = receipts.expect(90);
        let mut large = Sender::waits(&shard, 150);
        let [mut small, late] = [20, 20].map(|bytes| Sender::waits(&shard, bytes));
        shard.complete(full, 1, Ok(()));
        assert!(!large.was_called(), "it must be alone");
        assert!(small.was_called() && late.was_called());
        assert!(small.comes_in());
        shard.stored.expected.set(false);
        assert!(shard.has_store_room(20), "newcomers pass, too");
        shard.stored.patience.set(Duration::ZERO);
        assert!(!shard.has_store_room(20), "they wait behind it now");
        let behind = Sender::waits(&shard, 20);
        drop(late);
        assert!(!behind.was_called());
        shard.complete(stream, 1, Ok(()));
        assert!(large.was_called() && !behind.was_called());
        assert!(large.comes_in());
    }

    #[test]
    fn one_that_comes_in_is_not_turned_away_for_those_behind_it() {
        let shard = shard(100);
        let receipts = shard.receipts();
        shard.stored.patience.set(Duration::ZERO);
        let full = receipts.expect(100);
        let mut first = Sender::waits(&shard, 60);
        let second = Sender::waits(&shard, 50);
        receipts.expect(30);
        shard.complete(full, 1, Ok(()));
        assert!(first.was_called() && !second.was_called());
        assert!(first.comes_in());
        assert!(shard.has_store_room(60), "it stores now");
        shard.stored.expected.set(false);
        assert!(!shard.has_store_room(10), "others do not");
    }

    #[test]
    fn a_call_goes_on_from_one_who_leaves_or_stores_nothing() {
        let shard = shard(100);
        let receipts = shard.receipts();
        let full = receipts.expect(100);
        let mut line: VecDeque<_> = (0..4).map(|_| Sender::waits(&shard, 60)).collect();
        shard.complete(full, 1, Ok(()));
        let called = line.iter().map(Sender::was_called).collect::<Vec<_>>();
        assert_eq!(called, [true, false, false, false]);
        drop(line.pop_front());
        assert!(line[0].was_called(), "the first left unpolled");
        assert!(line[0].comes_in());
        drop(line.pop_front());
        assert!(line[0].was_called(), "that one came in for nothing");
        drop(line.pop_front());
        assert!(line[0].was_called(), "and this one did not even look");
        assert!(line[0].comes_in());
        assert_eq!(shard.stored.granted.get(), 0);
    }

    #[test]
    fn many_commits_in_a_row_call_no_more_than_come_in() {
        let shard = shard(10);
        let receipts = shard.receipts();
        let stored: Vec<_> = (0..10).map(|_| receipts.expect(1)).collect();
        let mut line: Vec<_> = (0..30).map(|_| Sender::waits(&shard, 1)).collect();
        for message in stored {
            shard.complete(message, 1, Ok(()));
        }
        let called: Vec<_> = line.iter().map(Sender::was_called).collect();
        let expected: Vec<_> = (0..30).map(|at| at < 10).collect();
        assert_eq!(called, expected, "the first ten, each for its place");
        for sender in line[..10].iter_mut().rev() {
            assert!(!shard.has_store_room(1), "what is granted is nobody else's");
            assert!(sender.comes_in());
            receipts.expect(1);
            shard.stored.expected.set(false);
        }
        assert!(!line.iter().any(Sender::was_called));
        assert_eq!(shard.stored.granted.get(), 0);
    }

    #[test]
    fn one_that_was_called_for_nothing_keeps_its_place() {
        let shard = shard(100);
        let receipts = shard.receipts();
        let full = receipts.expect(100);
        let mut line = [60, 30].map(|bytes| Sender::waits(&shard, bytes));
        shard.complete(full, 1, Ok(()));
        let too_much = receipts.expect(200);
        for sender in &mut line {
            assert!(sender.was_called() && !sender.comes_in());
        }
        receipts.expect(20);
        shard.complete(too_much, 1, Ok(()));
        assert!(line[0].was_called(), "the first is still the first");
        assert!(!line[1].was_called());
        assert!(line[0].comes_in());
        drop(line);
        assert!(
            shard.stored.line.borrow().is_empty(),
            "nobody is left in it"
        );
        assert_eq!(shard.stored.granted.get(), 0);
    }

    #[test]
    fn an_idle_core_takes_a_message_of_any_size() {
        let shard = shard(100);
        assert!(shard.has_store_room(5000));
        let receipts = shard.receipts();
        receipts.expect(1);
        assert!(!shard.has_store_room(5000));
    }

    #[test]
    fn an_outcome_for_one_whose_place_was_taken_reaches_nobody() {
        let shard = shard(100);
        let gone = shard.receipts();
        let stale = gone.expect(1);
        shard.complete(stale, 1, Ok(()));
        drop(gone);
        let next = shard.receipts();
        next.expect(1);
        shard.complete(stale, 1, Err(StoreFailure::Busy));
        assert_eq!(next.try_front(), None);
    }
}
