//! Messages that go to another queue, which may lie in another log, on another core.
//!
//! The engine's [`moves`](crate::engine::queues::moves) knows the steps and why they come in this
//! order; here they are carried out. Each log is source and target:
//!
//! ```text
//!  dispatcher ─► asked ─► begin: whereto? ─► intent ─ ─durable─ ─► mover: reads, sends ─► store
//!                                                                    │       (the target's core)
//!                             settled ◄─ flush ◄─ taken, refused ◄───┘ receipt: durable there
//!                                │
//!                                └─ ─durable─ ─► over: the target forgets the id
//! ```
//!
//! A message travels as one that a publisher sends, with the name of its move: it waits for room
//! like others, and its receipt comes when it cannot be lost any more.

mod begin;
mod mover;
mod over;

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use ringmq_storage::log::Refused;
use ringmq_storage::record::queue::Run;
use ringmq_storage::{ChannelKey, Position, Sequence};

use crate::engine::queues::dispatcher::PendingMove;
use crate::engine::queues::moves::{Decision, Moves, move_id, source_of};
use crate::rt::{self, Notify};
use crate::shard::stored::{LogSeat, ReceiptAddress};
use crate::shard::{Shard, StoreFailure};

/// How often it is logged that dead letters go nowhere, or cannot be moved.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// What moves keep for one log.
#[derive(Debug, Default)]
pub(in crate::shard) struct MoveSeat {
    moves: Moves,
    /// Messages from other queues that are stored here with everything before the place: their
    /// sources hear of it when that is durable.
    arriving: VecDeque<(Position, ReceiptAddress)>,
    /// Dead letters that are being brought into memory, so that their heads can be read.
    warming: usize,
    /// There may be something to send.
    ready: Notify,
    dropped: Report,
    refused: Report,
}

/// Something that is logged at a bounded rate.
#[derive(Debug, Default)]
struct Report {
    last: Option<rt::Instant>,
    untold: u64,
}

impl Report {
    /// Notes that it has happened; gives how often it has since it was logged last, when it is
    /// time to.
    fn note(&mut self, now: rt::Instant) -> Option<u64> {
        self.untold += 1;
        if self.last.is_some_and(|last| now.since(last) < REPORT_EVERY) {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

impl MoveSeat {
    /// Whether there is something to write that should not wait.
    pub(super) fn has_decisions(&self) -> bool {
        self.moves.has_decisions()
    }

    pub(super) fn deleted(&mut self, key: ChannelKey) {
        self.moves.deleted(key);
    }
}

impl Shard {
    /// A message is to leave for another queue. It is written down when its turn comes.
    pub(super) fn write_move(
        self: &Rc<Self>,
        seat: &Rc<LogSeat>,
        key: ChannelKey,
        moved: &PendingMove,
        _now_ns: u64,
    ) -> Result<(), Refused> {
        let mut queues = seat.queues.borrow_mut();
        queues.moves.moves.ask(key, moved.clone());
        Ok(())
    }

    /// The intent is in the log for good, or will be with the next sync.
    pub(super) fn move_committed(
        self: &Rc<Self>,
        seat: &LogSeat,
        key: ChannelKey,
        sequence: Sequence,
    ) {
        let end = seat.log.borrow().committed();
        let mut queues = seat.queues.borrow_mut();
        queues.moves.moves.committed(move_id(key, sequence), end);
    }

    /// Writes what became of moves, and begins those whose turn it is.
    pub(super) fn flush_moves(self: &Rc<Self>, seat: &Rc<LogSeat>) {
        // At its end the log takes nothing new: what is open goes on after the next start.
        if seat.closed.get() || seat.log.borrow().poisoned().is_some() {
            return;
        }
        let now_ns = self.queue_now_ns();
        loop {
            let decision = seat.queues.borrow_mut().moves.moves.next_decision();
            let Some(decision) = decision else { break };
            if self.write_move_decision(seat, &decision, now_ns).is_err() {
                seat.queues.borrow_mut().moves.moves.put_back(decision);
                seat.jobs_ready.raise();
                return;
            }
        }
        loop {
            let asked = {
                let mut queues = seat.queues.borrow_mut();
                queues.moves.next_asked()
            };
            let Some((key, asked)) = asked else { break };
            if let Err(asked) = self.begin_move(seat, key, asked, now_ns) {
                seat.queues.borrow_mut().moves.moves.ask_first(key, asked);
                seat.jobs_ready.raise();
                return;
            }
        }
    }

    fn write_move_decision(
        &self,
        seat: &LogSeat,
        decision: &Decision,
        now_ns: u64,
    ) -> Result<(), Refused> {
        let mut log = seat.log.borrow_mut();
        let mut slots = seat.slots.borrow_mut();
        match decision {
            Decision::Settle {
                key,
                reason,
                messages,
            } => {
                let bytes = messages.iter().map(|(_, len)| u64::from(*len)).sum();
                let runs: Vec<Run> = messages.iter().map(|(it, _)| run(*it)).collect();
                slots.prepare_settle(&mut *log, *key, *reason, bytes, &runs, now_ns)?;
                let count = u64::try_from(messages.len()).unwrap_or(u64::MAX);
                self.count_removed(*reason, count);
                let mut queues = seat.queues.borrow_mut();
                for (sequence, len) in messages {
                    queues.dispatcher.move_done(*key, *sequence, *len);
                }
                queues.left.insert(*key);
            }
            Decision::Cancel(id) => {
                slots.prepare_move_cancel(&mut *log, source_of(id), id.sequence, now_ns)?;
            }
            Decision::Forget { slot, ids } => {
                slots.prepare_forget(&mut *log, *slot, ids, now_ns)?;
            }
        }
        let mut queues = seat.queues.borrow_mut();
        queues.moves.moves.written(decision, log.end());
        Ok(())
    }

    /// A message from another queue is in the log, before `end`: its source hears when that is
    /// durable.
    pub(in crate::shard) fn move_arrived(
        &self,
        seat: &LogSeat,
        receipt: ReceiptAddress,
        end: Position,
    ) {
        let mut queues = seat.queues.borrow_mut();
        queues.moves.arriving.push_back((end, receipt));
        drop(queues);
        // One that was here already may have nothing to wait for.
        self.moves_durable(seat);
        seat.commit_ready.raise();
    }

    /// What waited for something to be durable goes on, as far as it is.
    pub(in crate::shard) fn moves_durable(&self, seat: &LogSeat) {
        let through = {
            let log = seat.log.borrow();
            if log.poisoned().is_some() || log.unsynced().is_some() {
                return;
            }
            log.committed()
        };
        let mut over = Vec::new();
        let mut arrived = Vec::new();
        {
            let mut queues = seat.queues.borrow_mut();
            let moves = &mut queues.moves;
            if moves.moves.durable(through, &mut over) {
                moves.ready.raise();
            }
            while let Some((end, receipt)) = moves.arriving.front().copied()
                && end <= through
            {
                moves.arriving.pop_front();
                arrived.push(receipt);
            }
        }
        for receipt in arrived {
            self.complete(receipt, 1, Ok(()));
        }
        self.moves_are_over(over);
    }

    /// The log has failed. What has arrived may be durable or not: the next start will tell.
    pub(in crate::shard) fn fail_moves(&self, seat: &LogSeat) {
        let arriving = std::mem::take(&mut seat.queues.borrow_mut().moves.arriving);
        for (_, receipt) in arriving {
            self.complete(receipt, 1, Err(StoreFailure::Poisoned));
        }
    }
}

const fn run(sequence: Sequence) -> Run {
    Run {
        first: sequence,
        last: sequence,
    }
}
