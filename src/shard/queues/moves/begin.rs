//! The beginning of a move: whereto, and the intent.

use std::rc::Rc;

use ringmq_storage::ChannelKey;
use ringmq_storage::log::{ReadCursor, ReadEnd, Refused, Warm};
use ringmq_storage::record::queue::QueueHead;

use super::{MoveSeat, run};
use crate::engine::queues::MESSAGE_ENCODING;
use crate::engine::queues::dispatcher::PendingMove;
use crate::engine::queues::moves::move_id;
use crate::engine::queues::{MoveReason, SettleReason};
use crate::engine::stored::StoreRefusal;
use crate::rt::{self, Queue};
use crate::shard::stored::LogSeat;
use crate::shard::{Shard, StoreFailure};

/// Dead letters of one log that are brought into memory at a time.
const WARMING_MAX: usize = 16;

/// Where a message goes.
enum Whereto {
    /// To this queue.
    Queue(Box<str>),
    /// To no other: it is a dead letter without a queue for it.
    Nowhere,
    /// It is to go back where it came from, and came from nowhere.
    Unknown,
    /// It is gone with its queue.
    Gone,
    /// It cannot be read.
    Lost,
    /// It has to be brought into memory first.
    Cold(Warm),
}

impl MoveSeat {
    pub(super) fn next_asked(&mut self) -> Option<(ChannelKey, PendingMove)> {
        if self.warming >= WARMING_MAX {
            return None;
        }
        self.moves.next_asked()
    }
}

impl Shard {
    /// Writes the intent of a move, or what else is to become of the message.
    ///
    /// # Errors
    /// The move, when the log is busy.
    pub(super) fn begin_move(
        self: &Rc<Self>,
        seat: &Rc<LogSeat>,
        key: ChannelKey,
        asked: PendingMove,
        now_ns: u64,
    ) -> Result<(), PendingMove> {
        let mut cursor = ReadCursor::default();
        let whereto = self.whereto(seat, key, &asked, &mut cursor);
        if let Whereto::Cold(warm) = whereto {
            self.warm_for_move(seat, key, asked, cursor, warm);
            return Ok(());
        }
        let written = self.write_beginning(seat, key, &asked, &whereto, now_ns);
        written.map_err(|_| match whereto {
            Whereto::Queue(target) => PendingMove {
                target: Some(target),
                ..asked
            },
            _ => asked,
        })
    }

    fn write_beginning(
        &self,
        seat: &LogSeat,
        key: ChannelKey,
        asked: &PendingMove,
        whereto: &Whereto,
        now_ns: u64,
    ) -> Result<(), Refused> {
        match whereto {
            Whereto::Queue(target) => self.write_intent(seat, key, asked, target, now_ns),
            Whereto::Nowhere => {
                self.settle_unmoved(seat, key, asked, SettleReason::Dropped, now_ns)?;
                self.report_dropped(seat, key);
                Ok(())
            }
            Whereto::Lost => {
                self.settle_unmoved(seat, key, asked, SettleReason::Damaged, now_ns)?;
                self.counters.damaged_messages.increment();
                self.moved(seat, key, asked.sequence, Err(StoreFailure::Poisoned));
                Ok(())
            }
            Whereto::Unknown => {
                let slots = seat.slots.borrow();
                if let Some(state) = slots.queue(key) {
                    let mut queues = seat.queues.borrow_mut();
                    let dispatcher = &mut queues.dispatcher;
                    dispatcher.move_cancelled(key, asked.sequence, state, now_ns);
                }
                drop(slots);
                let refused = StoreFailure::Refused(StoreRefusal::NoChannel);
                self.moved(seat, key, asked.sequence, Err(refused));
                Ok(())
            }
            Whereto::Gone | Whereto::Cold(_) => Ok(()),
        }
    }

    fn write_intent(
        &self,
        seat: &LogSeat,
        key: ChannelKey,
        asked: &PendingMove,
        target: &str,
        now_ns: u64,
    ) -> Result<(), Refused> {
        let mut log = seat.log.borrow_mut();
        let mut slots = seat.slots.borrow_mut();
        // What is gone with its queue, or was settled by somebody else, does not move.
        let state = slots.queue(key);
        let there = state.is_some_and(|state| state.is_live(asked.sequence));
        let before = log.end();
        if there {
            let (sequence, reason) = (asked.sequence, asked.reason);
            slots.prepare_move(&mut *log, key, sequence, reason, target, now_ns)?;
        }
        let mut queues = seat.queues.borrow_mut();
        if log.end() == before {
            queues.dispatcher.move_done(key, asked.sequence, 0);
        } else {
            queues.moves.moves.intended(move_id(key, asked.sequence));
        }
        Ok(())
    }

    /// The message leaves its queue, and arrives nowhere.
    fn settle_unmoved(
        &self,
        seat: &LogSeat,
        key: ChannelKey,
        asked: &PendingMove,
        reason: SettleReason,
        now_ns: u64,
    ) -> Result<(), Refused> {
        let runs = [run(asked.sequence)];
        let mut log = seat.log.borrow_mut();
        let mut slots = seat.slots.borrow_mut();
        slots.prepare_settle(&mut *log, key, reason, asked.len.into(), &runs, now_ns)?;
        let mut queues = seat.queues.borrow_mut();
        queues.dispatcher.move_done(key, asked.sequence, asked.len);
        queues.left.insert(key);
        self.count_removed(reason, 1);
        Ok(())
    }

    fn whereto(
        &self,
        seat: &LogSeat,
        key: ChannelKey,
        asked: &PendingMove,
        cursor: &mut ReadCursor,
    ) -> Whereto {
        if let Some(target) = asked.target.as_deref().filter(|target| !target.is_empty()) {
            return Whereto::Queue(target.into());
        }
        let slots = seat.slots.borrow();
        let (Some(channel), Some(state)) = (slots.channel(key), slots.queue(key)) else {
            return Whereto::Gone;
        };
        let body = state.body_of(asked.sequence);
        let mut whereto = None;
        let visit = &mut |stored: ringmq_storage::log::Stored<'_>| {
            let known = stored.encoding == MESSAGE_ENCODING;
            let head = QueueHead::decode(stored.payload).ok().filter(|_| known);
            whereto = Some(head.map_or(Whereto::Lost, |(head, _)| {
                self.whereto_by_head(&channel.name, asked.reason, &head)
            }));
        };
        let end = seat
            .log
            .borrow()
            .read(key, body, body, cursor, usize::MAX, visit);
        match (whereto, end) {
            (Some(whereto), _) => whereto,
            (None, ReadEnd::Cold(warm)) => Whereto::Cold(warm),
            (None, _) => Whereto::Lost,
        }
    }

    fn whereto_by_head(&self, queue: &str, reason: MoveReason, head: &QueueHead<'_>) -> Whereto {
        if reason == MoveReason::Redrive {
            return match head.origin {
                "" => Whereto::Unknown,
                origin => Whereto::Queue(origin.into()),
            };
        }
        if !head.policy_cleared && !head.dead_letter.is_empty() {
            return Whereto::Queue(head.dead_letter.into());
        }
        let policy = (self.stored.settings.policy)(queue);
        let parking = policy.queue.dead_letter;
        parking.map_or(Whereto::Nowhere, |queue| Whereto::Queue((&*queue).into()))
    }

    /// Brings a message into memory, off the executor, and finds out where it goes.
    fn warm_for_move(
        self: &Rc<Self>,
        seat: &Rc<LogSeat>,
        key: ChannelKey,
        asked: PendingMove,
        mut cursor: ReadCursor,
        warm: Warm,
    ) {
        seat.queues.borrow_mut().moves.warming += 1;
        let (shard, seat) = (self.clone(), seat.clone());
        rt::spawn(Queue::Serve, "warm", async move {
            let mut next = Some(warm);
            let mut whereto = Whereto::Lost;
            while let Some(warm) = next.take() {
                shard.count_warm(&warm);
                let Some(warmed) = rt::blocking(move || warm.run()).await else {
                    break;
                };
                seat.log.borrow_mut().warmed(warmed, &mut cursor);
                match shard.whereto(&seat, key, &asked, &mut cursor) {
                    Whereto::Cold(warm) => next = Some(warm),
                    found => whereto = found,
                }
            }
            seat.queues.borrow_mut().moves.warming -= 1;
            shard.begin_warmed(&seat, key, asked, whereto);
        });
    }

    /// A message whose way is known goes on with the next flush; anything else is read again, and
    /// is in memory then.
    fn begin_warmed(
        &self,
        seat: &LogSeat,
        key: ChannelKey,
        mut asked: PendingMove,
        whereto: Whereto,
    ) {
        let now_ns = self.queue_now_ns();
        let is_known = match whereto {
            Whereto::Queue(target) => {
                asked.target = Some(target);
                true
            }
            // A slice of compaction is being appended: nothing else may be.
            _ if seat.held.get() => false,
            whereto => {
                let written = self.write_beginning(seat, key, &asked, &whereto, now_ns);
                if written.is_ok() {
                    self.queues_changed(seat);
                    return;
                }
                false
            }
        };
        let mut queues = seat.queues.borrow_mut();
        if is_known {
            queues.moves.moves.ask_first(key, asked);
        } else {
            queues.moves.moves.ask(key, asked);
        }
        drop(queues);
        seat.commit_ready.raise();
    }

    fn report_dropped(&self, seat: &LogSeat, key: ChannelKey) {
        let count = seat.queues.borrow_mut().moves.dropped.note(rt::now());
        if let Some(count) = count {
            let slots = seat.slots.borrow();
            let channel = slots.channel(key).map_or("", |found| &found.name);
            tracing::warn!(
                channel,
                log = seat.number,
                count,
                "messages were received as often as they may and had no queue for dead letters: \
                 they were dropped. Set queue.dead_letter_queue to keep them"
            );
        }
    }
}
