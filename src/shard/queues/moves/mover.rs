//! The mover of a log: reads what leaves it, sends it, and hears what became of it.

use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use ringmq_storage::log::{ReadCursor, ReadEnd, Warm};
use ringmq_storage::record::queue::{MoveId, QueueHead};

use crate::engine::queues::MESSAGE_ENCODING;
use crate::engine::queues::MoveReason;
use crate::engine::queues::moves::{
    Departed, Fate, Leaving, Refusal, SentPolicy, arriving_head, source_of,
};
use crate::rt;
use crate::shard::stored::LogSeat;
use crate::shard::{Receipts, Shard, StoreBusy, StoreFailure};

/// How long messages are sent before sockets are looked at again.
const MOVE_TURN: Duration = Duration::from_micros(400);

/// The mover of one log.
struct Mover {
    shard: Rc<Shard>,
    seat: Rc<LogSeat>,
    receipts: Receipts,
    /// What is on its way, in the order of the receipts.
    on_way: VecDeque<MoveId>,
}

/// What became of sending a message.
enum Attempt {
    Sent,
    Gone,
    Lost,
    Cold(Warm),
    NoRoom { target: Box<str>, bytes: usize },
}

/// A message as it lies in the log.
struct Found {
    stored_ns: u64,
    encoding: u8,
    payload: Bytes,
}

impl Shard {
    /// Moves messages, for ever. One task for each log runs this.
    pub(in crate::shard) async fn run_moves(self: Rc<Self>, seat: Rc<LogSeat>) {
        self.resume_moves(&seat);
        let mut mover = Mover {
            receipts: self.receipts(),
            shard: self,
            seat,
            on_way: VecDeque::new(),
        };
        loop {
            mover.wait().await;
            let mut began = rt::now();
            while let Some(outcome) = mover.receipts.try_front() {
                mover.landed(outcome);
            }
            while let Some(id) = mover.next_departure() {
                mover.send(id).await;
                if rt::now().since(began) > MOVE_TURN {
                    rt::reactor_yield().await;
                    began = rt::now();
                }
            }
        }
    }
}

impl Mover {
    fn now_ms(&self) -> u64 {
        self.shard.queue_now_ns() / 1_000_000
    }

    fn next_departure(&self) -> Option<MoveId> {
        if self.seat.closed.get() {
            return None;
        }
        let now_ms = self.now_ms();
        let mut queues = self.seat.queues.borrow_mut();
        queues.moves.moves.next_departure(now_ms)
    }

    /// Waits for something to send, for what was sent, or for the time of another attempt.
    async fn wait(&mut self) {
        let (due_ms, ready) = {
            let queues = self.seat.queues.borrow();
            (queues.moves.moves.next_due_ms(), queues.moves.ready.clone())
        };
        let due_ms = due_ms.filter(|_| !self.seat.closed.get());
        let left_ms = due_ms.map(|due_ms| due_ms.saturating_sub(self.now_ms()));
        let mut due = left_ms.map(|left_ms| rt::Sleep::new(Duration::from_millis(left_ms)));
        std::future::poll_fn(|cx| {
            if let Poll::Ready(outcome) = self.receipts.poll_front(cx) {
                self.landed(outcome);
                return Poll::Ready(());
            }
            let due = due.as_mut().is_some_and(|due| due.poll(cx).is_ready());
            if due || ready.poll(cx).is_ready() {
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
    }

    async fn send(&mut self, id: MoveId) {
        let mut cursor = ReadCursor::default();
        loop {
            match self.try_send(id, &mut cursor) {
                Attempt::Sent => return self.on_way.push_back(id),
                Attempt::Gone => {
                    return self.seat.queues.borrow_mut().moves.moves.gone(id);
                }
                Attempt::Lost => {
                    self.shard.counters.damaged_messages.increment();
                    let mut queues = self.seat.queues.borrow_mut();
                    queues.moves.moves.unreadable(id, 0);
                    drop(queues);
                    let (key, lost) = (source_of(&id), Err(StoreFailure::Poisoned));
                    self.shard.moved(&self.seat, key, id.sequence, lost);
                    return self.seat.commit_ready.raise();
                }
                Attempt::Cold(warm) => {
                    self.shard.count_warm(&warm);
                    if let Some(warmed) = rt::blocking(move || warm.run()).await {
                        self.seat.log.borrow_mut().warmed(warmed, &mut cursor);
                    } else {
                        return self.postpone(id);
                    }
                }
                Attempt::NoRoom { target, bytes } => {
                    if self.shard.store_room(&target, bytes).await.is_err() {
                        return self.postpone(id);
                    }
                }
            }
        }
    }

    fn postpone(&self, id: MoveId) {
        let now_ms = self.now_ms();
        let mut queues = self.seat.queues.borrow_mut();
        queues.moves.moves.postponed(id, now_ms);
    }

    fn try_send(&self, id: MoveId, cursor: &mut ReadCursor) -> Attempt {
        let key = source_of(&id);
        let slots = self.seat.slots.borrow();
        let (channel, state) = (slots.channel(key), slots.queue(key));
        let open = state.and_then(|state| state.open_move(id.sequence));
        let (Some(channel), Some(state), Some(open)) = (channel, state, open) else {
            return Attempt::Gone;
        };
        let body = state.body_of(id.sequence);
        let (source, target, reason) = (channel.name.clone(), open.target.clone(), open.reason);
        drop(slots);
        let mut found = None;
        let log = self.seat.log.borrow();
        let end = log.read(key, body, body, cursor, usize::MAX, &mut |stored| {
            found = Some(Found {
                stored_ns: stored.timestamp_ns,
                encoding: stored.encoding,
                payload: stored.shared(),
            });
        });
        drop(log);
        match (found, end) {
            (Some(found), _) => self.hand_over(id, reason, &source, target, &found),
            (None, ReadEnd::Cold(warm)) => Attempt::Cold(warm),
            (None, _) => Attempt::Lost,
        }
    }

    fn hand_over(
        &self,
        id: MoveId,
        reason: MoveReason,
        source: &str,
        target: Box<str>,
        found: &Found,
    ) -> Attempt {
        let known = found.encoding == MESSAGE_ENCODING;
        let decoded = QueueHead::decode(&found.payload).ok().filter(|_| known);
        let Some((head, body)) = decoded else {
            return Attempt::Lost;
        };
        let settings = &self.shard.stored.settings;
        let receives_max = (settings.policy)(&target).queue.receives_max;
        let wanted = (settings.queue_framing.policy)(body);
        let leaving = Leaving {
            id,
            reason,
            source,
            target: &target,
            stored_ns: found.stored_ns,
            head,
            policy: SentPolicy {
                lives_ns: u64::try_from(wanted.expiration.as_nanos()).unwrap_or(u64::MAX),
                receives_max: match wanted.receives_max {
                    0 => receives_max,
                    max => max,
                },
                dead_letter: wanted.dead_letter,
            },
        };
        let now_ns = self.shard.queue_now_ns();
        let head = arriving_head(&leaving, receives_max, now_ns);
        let bytes = head.encoded_len() + body.len();
        let write = &mut |out: &mut Vec<u8>| {
            head.encode(out);
            out.extend_from_slice(body);
        };
        let sent = self
            .shard
            .store_moved(id, &target, bytes, write, &self.receipts);
        if let Err(StoreBusy) = sent {
            return Attempt::NoRoom { target, bytes };
        }
        let departed = Departed {
            target: self.shard.placement.slot(&target),
            reason,
            len: u32::try_from(found.payload.len()).unwrap_or(u32::MAX),
            bytes,
        };
        let mut queues = self.seat.queues.borrow_mut();
        queues.moves.moves.departed(id, departed);
        Attempt::Sent
    }

    /// The oldest message on its way has arrived, or was refused.
    fn landed(&mut self, outcome: Result<(), StoreFailure>) {
        let Some(id) = self.on_way.pop_front() else {
            return;
        };
        let key = source_of(&id);
        let failure = match outcome {
            Ok(()) => {
                self.seat.queues.borrow_mut().moves.moves.taken(id);
                self.shard.moved(&self.seat, key, id.sequence, Ok(()));
                return self.seat.commit_ready.raise();
            }
            Err(failure) => failure,
        };
        let refusal = match &failure {
            StoreFailure::Busy => Refusal::Busy,
            StoreFailure::Refused(_) => Refusal::Lasting,
            StoreFailure::Poisoned | StoreFailure::ShuttingDown => Refusal::Unknown,
        };
        let now_ms = self.now_ms();
        let fate = {
            let mut queues = self.seat.queues.borrow_mut();
            queues.moves.moves.refused(id, refusal, now_ms)
        };
        match fate {
            Some(Fate::Back | Fate::Stuck) => {
                self.shard.moved(&self.seat, key, id.sequence, Err(failure));
                self.seat.commit_ready.raise();
            }
            Some(Fate::Again(_)) if refusal == Refusal::Lasting => self.report(id, &failure),
            Some(Fate::Again(_)) | None => {}
        }
    }

    fn report(&self, id: MoveId, failure: &StoreFailure) {
        let count = self.seat.queues.borrow_mut().moves.refused.note(rt::now());
        let Some(count) = count else { return };
        let slots = self.seat.slots.borrow();
        let key = source_of(&id);
        let channel = slots.channel(key).map_or("", |found| &found.name);
        let open = slots
            .queue(key)
            .and_then(|state| state.open_move(id.sequence));
        let target = open.map_or("", |open| &open.target);
        tracing::warn!(
            channel,
            target,
            count,
            error = %failure,
            "dead letters cannot be moved to their queue; they are kept, and tried again"
        );
    }
}
