//! One log in its shard's hands.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use foldhash::fast::FixedState;
use ringmq_storage::fs::Fs;
use ringmq_storage::log::{Log, ReadCursor};
use ringmq_storage::{ChannelKey, Position, SegmentId};

use super::open::Opening;
use super::{ChannelCounts, OpenedLog, ReceiptAddress, StoreFailure, StoreWork};
use crate::engine::feeds::{Address, Feeds, ReceiverKey};
use crate::engine::stored::{Effect, Slots, StoredKind};
use crate::rt::Notify;
use crate::rt::file::LogFile;
use crate::shard::queues::QueueSeat;

/// A log, the state that its records make, its receivers, and the tasks' ways to one another.
///
/// Borrows never cross an await, and are taken in the order log, slots, feeds, queues.
pub(in crate::shard) struct LogSeat {
    pub(in crate::shard) number: u16,
    pub(in crate::shard) log: RefCell<Log>,
    pub(in crate::shard) slots: RefCell<Slots>,
    pub(in crate::shard) feeds: RefCell<Feeds<ReadCursor>>,
    pub(in crate::shard) queues: RefCell<QueueSeat>,
    pub(super) channels: Arc<ChannelCounts>,
    pub(super) fs: Arc<dyn Fs>,
    /// Messages that wait for room in the log, in order.
    pub(super) backlog: RefCell<VecDeque<StoreWork>>,
    /// New messages wait although there is room, while a slice of compaction is appended.
    pub(in crate::shard) held: Cell<bool>,
    /// Messages in the log that wait for their commit, in order.
    pub(super) waiting: RefCell<VecDeque<Waiting>>,
    /// Batches that were taken from the log.
    pub(super) batches: Cell<u64>,
    /// Tasks that wait for a commit.
    commits: RefCell<Vec<(Position, Notify)>>,
    /// There is something to commit.
    pub(in crate::shard) commit_ready: Notify,
    /// Receivers may have a turn.
    pub(super) deliver_ready: Notify,
    /// The log may have work for the blocking thread.
    pub(in crate::shard) jobs_ready: Notify,
    /// Polls may be served.
    pub(in crate::shard) queues_ready: Notify,
    /// The time for which the task of the queues' time sleeps; `u64::MAX`: it sleeps until told.
    pub(in crate::shard) queues_armed: Cell<u64>,
    pub(in crate::shard) queues_rearm: Notify,
    /// A checkpoint was written, or could not be.
    pub(super) checkpointed: Cell<u64>,
    /// A sync will be asked for when its interval has passed.
    pub(super) sync_planned: Cell<bool>,
    /// The interval of a sync has passed.
    pub(super) sync_due: Cell<bool>,
    /// Segments that are open for writing.
    pub(super) files: RefCell<HashMap<SegmentId, Rc<LogFile>, FixedState>>,
    pub(super) receivers: RefCell<HashMap<(u16, u64), ReceiverKey, FixedState>>,
    pub(super) opening: RefCell<Vec<Opening>>,
    /// Whether a flush of moved cursors is on its way.
    pub(super) cursors_pending: Cell<bool>,
    /// Whether the log was told to end: nothing is appended any more.
    pub(in crate::shard) closed: Cell<bool>,
    /// Whether the lack of space was reported.
    pub(super) full_reported: Cell<bool>,
    // Reused by each commit.
    pub(super) effects: RefCell<Vec<Effect>>,
    pub(super) moves: RefCell<
        Vec<(
            ChannelKey,
            ringmq_storage::CursorId,
            ringmq_storage::Sequence,
        )>,
    >,
}

/// Messages of one publisher that wait for one commit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub receipt: ReceiptAddress,
    pub kind: StoredKind,
    pub count: u64,
    /// The batch that they are in, see [`LogSeat::batches`].
    batch: u64,
    /// Committed with everything before this place.
    pub end: Position,
}

impl std::fmt::Debug for LogSeat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogSeat")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

impl LogSeat {
    /// Messages that wait for room in the log or for their commit.
    pub(super) fn waiting_count(&self) -> u64 {
        let waiting = self.waiting.borrow();
        let backlog = u64::try_from(self.backlog.borrow().len()).unwrap_or(u64::MAX);
        backlog + waiting.iter().map(|run| run.count).sum::<u64>()
    }

    /// Tells the other cores how many channels there are.
    pub(super) fn count_channels(&self) {
        let count = self.slots.borrow().channel_count();
        self.channels.set(self.number, count);
    }

    pub(super) fn new(opened: OpenedLog, queues: QueueSeat, fs: Arc<dyn Fs>) -> Self {
        Self {
            number: opened.number,
            log: RefCell::new(opened.log),
            slots: RefCell::new(opened.slots),
            feeds: RefCell::new(Feeds::new()),
            queues: RefCell::new(queues),
            channels: opened.channels,
            fs,
            backlog: RefCell::default(),
            held: Cell::new(false),
            waiting: RefCell::default(),
            batches: Cell::new(0),
            commits: RefCell::default(),
            commit_ready: Notify::new(),
            deliver_ready: Notify::new(),
            jobs_ready: Notify::new(),
            queues_ready: Notify::new(),
            queues_armed: Cell::new(0),
            queues_rearm: Notify::new(),
            checkpointed: Cell::new(0),
            sync_planned: Cell::new(false),
            sync_due: Cell::new(false),
            files: RefCell::default(),
            receivers: RefCell::default(),
            opening: RefCell::default(),
            cursors_pending: Cell::new(false),
            closed: Cell::new(false),
            full_reported: Cell::new(false),
            effects: RefCell::default(),
            moves: RefCell::default(),
        }
    }

    /// Notes a message that was appended: its publisher hears when the log is committed to `end`.
    pub(super) fn wait_for(&self, receipt: ReceiptAddress, kind: StoredKind, end: Position) {
        let mut waiting = self.waiting.borrow_mut();
        // A run of one publisher becomes one note, but only within a batch: its first message must
        // not wait for the commit of its last.
        if let Some(last) = waiting.back_mut()
            && last.receipt.core == receipt.core
            && last.receipt.key == receipt.key
            && last.kind == kind
            && last.receipt.number + last.count == receipt.number
            && last.batch == self.batches.get()
            && last.end.segment() == end.segment()
        {
            last.count += 1;
            last.end = end;
            return;
        }
        waiting.push_back(Waiting {
            receipt,
            kind,
            count: 1,
            batch: self.batches.get(),
            end,
        });
    }

    /// Whether a new message must wait behind others.
    pub(super) fn must_wait(&self) -> bool {
        self.held.get() || !self.backlog.borrow().is_empty()
    }

    /// Takes the next run of messages that is committed.
    pub(super) fn next_committed(&self, committed: Position) -> Option<Waiting> {
        let mut waiting = self.waiting.borrow_mut();
        let is_committed = waiting.front()?.end <= committed;
        is_committed.then(|| waiting.pop_front())?
    }

    /// Waits until everything appended so far is committed.
    ///
    /// # Errors
    /// [`StoreFailure::Poisoned`] when that will not be.
    pub(in crate::shard) async fn committed(&self) -> Result<(), StoreFailure> {
        let end = self.log.borrow().end();
        loop {
            {
                let log = self.log.borrow();
                if log.committed() >= end {
                    return Ok(());
                }
                if log.poisoned().is_some() {
                    return Err(StoreFailure::Poisoned);
                }
            }
            let reached = Notify::new();
            self.commits.borrow_mut().push((end, reached.clone()));
            self.commit_ready.raise();
            reached.wait().await;
        }
    }

    /// Wakes those who wait for a commit up to `committed`.
    pub(super) fn wake_committed(&self, committed: Position) {
        self.commits.borrow_mut().retain(|(end, reached)| {
            let waits = *end > committed;
            if !waits {
                reached.raise();
            }
            waits
        });
    }

    /// The live receiver at an address.
    pub(super) fn receiver(&self, address: Address) -> Option<ReceiverKey> {
        self.receivers
            .borrow()
            .get(&(address.core, address.key))
            .copied()
    }
}
