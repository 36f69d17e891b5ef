//! Messages on their way from one queue to another.
//!
//! The two queues may lie in two logs, and nothing is atomic over two logs (rule E13). So a move is
//! four records, and each step begins when the one before cannot be lost any more:
//!
//! ```text
//!  log of the source                               log of the target
//!  1 intent: nobody sees the message ─────────►  2 message under the move's id; a second one with
//!                                                   that id is not taken
//!  3 settled: it has left ◄────────────────────    (stored, or: here already)
//!    └────────────────────────────────────────►  4 the id is forgotten
//! ```
//!
//! Wherever a crash comes between, consumers see the message in exactly one queue: until 2 in none
//! (the source has it, and its move is driven again after the start), from 2 on in the target.
//! Every move goes this way, also within one log and onto the queue itself.
//!
//! A target that refuses for a reason that lasts gives a consumer's message back to its place; a
//! dead letter has no better place, so it is tried again, at growing intervals.
//!
//! This is the bookkeeping of one log's side, source and target. It holds what is on its way and
//! lives as long as the process: what must survive is in the records.

mod head;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use foldhash::fast::FixedState;
use ringmq_storage::record::queue::MoveId;
use ringmq_storage::{ChannelKey, Position, Sequence, SlotId};

use super::dispatcher::PendingMove;
use super::{MoveReason, SettleReason};

pub use head::{Leaving, SentPolicy, arriving_head};

/// Moves of one log that are begun and not settled. The others wait, so that sending a whole queue
/// on is no flood; they are not begun in the log either, and a crash gives them back.
const OPEN_MAX: usize = 1_024;

/// Messages of one log that may be on their way to their targets at a time.
const ON_WAY_MAX: usize = 256;

/// Bytes of them; a single larger message travels alone.
const ON_WAY_BYTES_MAX: usize = 4 << 20;

/// Ids that may wait to be forgotten: they cost a commit only when there are so many.
const FORGETS_MAX: usize = 1_024;

/// First and longest wait before a target that is busy is asked again, in milliseconds.
const BUSY_WAIT_MS: (u64, u64) = (10, 1_000);

/// The same for a target that cannot take a dead letter.
const REFUSED_WAIT_MS: (u64, u64) = (1_000, 60_000);

/// Where a move stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its intent is in the log, and may be lost yet.
    Intended,
    /// It may be sent, or will be when its time comes.
    Waits,
    /// It is on its way, with so many bytes.
    OnWay(usize),
    /// The target's answer is to be written down.
    Answered,
    /// Nobody knows whether the target has it: the next start will tell.
    Unknown,
}

/// An open move.
#[derive(Clone, Copy, Debug)]
struct Open {
    stage: Stage,
    facts: Option<Departed>,
    attempts: u32,
}

/// What is known of a message when it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departed {
    /// Slot of the target.
    pub target: SlotId,
    /// Why it goes.
    pub reason: MoveReason,
    /// Bytes of its payload in the source.
    pub len: u32,
    /// Bytes that travel.
    pub bytes: usize,
}

/// What is to be written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Messages have left their queue.
    Settle {
        /// The queue.
        key: ChannelKey,
        /// Why.
        reason: SettleReason,
        /// The messages, ascending, with the bytes of their payloads.
        messages: Vec<(Sequence, u32)>,
    },
    /// A message stays.
    Cancel(MoveId),
    /// Moves that are over; their ids need not be known any more.
    Forget {
        /// The slot that knows them.
        slot: SlotId,
        /// The ids.
        ids: Vec<MoveId>,
    },
}

/// How a target's refusal is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There was no room for the moment.
    Busy,
    /// It will not take the message, for now.
    Lasting,
    /// It may have the message.
    Unknown,
}

/// What becomes of a message after a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is sent again at this time, in milliseconds since 1970.
    Again(u64),
    /// It goes back to its place.
    Back,
    /// It stays on its way until the next start.
    Stuck,
}

/// The moves of one log.
#[derive(Debug, Default)]
pub struct Moves {
    asked: VecDeque<(ChannelKey, PendingMove)>,
    open: HashMap<MoveId, Open, FixedState>,
    /// Intents that are committed with everything before the place.
    intents: VecDeque<(Position, MoveId)>,
    ready: VecDeque<MoveId>,
    later: BTreeSet<(u64, MoveId)>,
    on_way: usize,
    on_way_bytes: usize,
    settles: BTreeMap<(ChannelKey, SettleReason), Vec<(Sequence, u32)>>,
    cancels: Vec<MoveId>,
    /// Settled with everything before the place, and known to a target.
    settled: VecDeque<(Position, SlotId, MoveId)>,
    forgets: BTreeMap<SlotId, Vec<MoveId>>,
    forget_count: usize,
}

/// The queue that a move leaves.
#[must_use]
pub const fn source_of(id: &MoveId) -> ChannelKey {
    ChannelKey {
        slot: id.slot,
        channel: id.channel,
    }
}

/// The id of a message's move.
#[must_use]
pub const fn move_id(key: ChannelKey, sequence: Sequence) -> MoveId {
    MoveId {
        slot: key.slot,
        channel: key.channel,
        sequence,
    }
}

/// Beginning.
impl Moves {
    /// A move was decided; it begins when its turn comes.
    pub fn ask(&mut self, key: ChannelKey, asked: PendingMove) {
        self.asked.push_back((key, asked));
    }

    /// The next move to begin, when there is room for one more.
    pub fn next_asked(&mut self) -> Option<(ChannelKey, PendingMove)> {
        if self.open.len() >= OPEN_MAX {
            return None;
        }
        self.asked.pop_front()
    }

    /// One that could not begin: the log was busy.
    pub fn ask_first(&mut self, key: ChannelKey, asked: PendingMove) {
        self.asked.push_front((key, asked));
    }

    /// The intent was appended to the log.
    pub fn intended(&mut self, id: MoveId) {
        let open = Open {
            stage: Stage::Intended,
            facts: None,
            attempts: 0,
        };
        self.open.insert(id, open);
    }

    /// The intent is committed, with everything before `end`; it is driven when it is durable. At
    /// the start: a move that is open.
    pub fn committed(&mut self, id: MoveId, end: Position) {
        self.intended(id);
        self.intents.push_back((end, id));
    }

    /// Everything before `through` is durable: what waited for that goes on. `over` gets the moves
    /// that are settled, with the slots of their targets. `true`: there may be something to send.
    pub fn durable(&mut self, through: Position, over: &mut Vec<(SlotId, MoveId)>) -> bool {
        while let Some((end, id)) = self.intents.front().copied()
            && end <= through
        {
            self.intents.pop_front();
            if let Some(open) = self.open.get_mut(&id) {
                open.stage = Stage::Waits;
                self.ready.push_back(id);
            }
        }
        while let Some((end, target, id)) = self.settled.front().copied()
            && end <= through
        {
            self.settled.pop_front();
            over.push((target, id));
        }
        !self.ready.is_empty()
    }

    /// A queue is gone: what has not left it will not.
    pub fn deleted(&mut self, key: ChannelKey) {
        self.open.retain(|id, open| {
            let left = matches!(open.stage, Stage::OnWay(_) | Stage::Answered);
            left || source_of(id) != key
        });
    }
}

/// On the way.
impl Moves {
    /// The next message to send, when there is room on the way.
    pub fn next_departure(&mut self, now_ms: u64) -> Option<MoveId> {
        if !self.has_room() {
            return None;
        }
        while let Some((due_ms, id)) = self.later.first().copied()
            && due_ms <= now_ms
        {
            self.later.pop_first();
            self.ready.push_back(id);
        }
        loop {
            let id = self.ready.pop_front()?;
            // Its queue may have gone.
            if self
                .open
                .get(&id)
                .is_some_and(|open| open.stage == Stage::Waits)
            {
                return Some(id);
            }
        }
    }

    fn has_room(&self) -> bool {
        self.on_way == 0 || (self.on_way < ON_WAY_MAX && self.on_way_bytes < ON_WAY_BYTES_MAX)
    }

    /// The message is on its way.
    pub fn departed(&mut self, id: MoveId, facts: Departed) {
        let Some(open) = self.open.get_mut(&id) else {
            return;
        };
        debug_assert_eq!(open.stage, Stage::Waits, "a message departs once");
        open.stage = Stage::OnWay(facts.bytes);
        open.facts = Some(facts);
        self.on_way += 1;
        self.on_way_bytes += facts.bytes;
    }

    /// There is nothing to send: the message, or its queue, is gone.
    pub fn gone(&mut self, id: MoveId) {
        self.open.remove(&id);
    }

    /// It cannot be sent now, through nobody's fault: it waits.
    pub fn postponed(&mut self, id: MoveId, now_ms: u64) {
        if let Some(open) = self.open.get_mut(&id) {
            let due_ms = now_ms.saturating_add(wait_ms(BUSY_WAIT_MS, &mut open.attempts));
            self.later.insert((due_ms, id));
        }
    }

    /// The message cannot be read: it is lost, and leaves its queue.
    pub fn unreadable(&mut self, id: MoveId, len: u32) {
        if let Some(open) = self.open.get_mut(&id) {
            open.stage = Stage::Answered;
            open.facts = None;
            self.settle(id, SettleReason::Damaged, len);
        }
    }

    fn landed(&mut self, id: &MoveId) -> Option<&mut Open> {
        let open = self.open.get_mut(id)?;
        let Stage::OnWay(bytes) = open.stage else {
            return None;
        };
        self.on_way -= 1;
        self.on_way_bytes -= bytes;
        Some(open)
    }

    /// The target has the message, durably.
    pub fn taken(&mut self, id: MoveId) {
        let Some(open) = self.landed(&id) else {
            return;
        };
        open.stage = Stage::Answered;
        if let Some(facts) = open.facts {
            let reason = match facts.reason {
                MoveReason::DeadLetter => SettleReason::DeadLettered,
                MoveReason::Requeue | MoveReason::Resend | MoveReason::Redrive => {
                    SettleReason::Moved
                }
            };
            self.settle(id, reason, facts.len);
        }
    }

    fn settle(&mut self, id: MoveId, reason: SettleReason, len: u32) {
        let entry = self.settles.entry((source_of(&id), reason));
        entry.or_default().push((id.sequence, len));
    }

    /// The target did not take the message; `None` when nothing was on its way.
    pub fn refused(&mut self, id: MoveId, refusal: Refusal, now_ms: u64) -> Option<Fate> {
        let open = self.landed(&id)?;
        let reason = open.facts.map(|facts| facts.reason);
        open.stage = Stage::Waits;
        let wait = match refusal {
            Refusal::Busy => BUSY_WAIT_MS,
            Refusal::Lasting if reason == Some(MoveReason::DeadLetter) => REFUSED_WAIT_MS,
            Refusal::Lasting => {
                open.stage = Stage::Answered;
                self.cancels.push(id);
                return Some(Fate::Back);
            }
            Refusal::Unknown => {
                open.stage = Stage::Unknown;
                return Some(Fate::Stuck);
            }
        };
        let due_ms = now_ms.saturating_add(wait_ms(wait, &mut open.attempts));
        self.later.insert((due_ms, id));
        Some(Fate::Again(due_ms))
    }

    /// The next time at which something is to be sent again, in milliseconds since 1970; `None`
    /// also when there is no room on the way: then somebody has to arrive first.
    #[must_use]
    pub fn next_due_ms(&self) -> Option<u64> {
        if !self.has_room() {
            return None;
        }
        self.later.first().map(|(due_ms, _)| *due_ms)
    }

    /// Why a message goes, as far as it was sent.
    #[must_use]
    pub fn reason(&self, id: &MoveId) -> Option<MoveReason> {
        self.open.get(id)?.facts.map(|facts| facts.reason)
    }
}

/// Writing down.
impl Moves {
    /// The ids are not needed any more: the moves are over.
    pub fn forget(&mut self, ids: impl IntoIterator<Item = (SlotId, MoveId)>) {
        for (slot, id) in ids {
            self.forgets.entry(slot).or_default().push(id);
            self.forget_count += 1;
        }
    }

    /// Whether there is something to write that should not wait for a commit that comes anyway.
    #[must_use]
    pub fn has_decisions(&self) -> bool {
        let room = self.open.len() < OPEN_MAX;
        (room && !self.asked.is_empty())
            || !self.settles.is_empty()
            || !self.cancels.is_empty()
            || self.forget_count >= FORGETS_MAX
    }

    /// What is to be written next. Say then that it is [`written`](Self::written), or
    /// [`put_back`](Self::put_back).
    pub fn next_decision(&mut self) -> Option<Decision> {
        if let Some(((key, reason), mut messages)) = self.settles.pop_first() {
            messages.sort_unstable();
            return Some(Decision::Settle {
                key,
                reason,
                messages,
            });
        }
        if let Some(id) = self.cancels.pop() {
            return Some(Decision::Cancel(id));
        }
        let (slot, ids) = self.forgets.pop_first()?;
        self.forget_count -= ids.len();
        Some(Decision::Forget { slot, ids })
    }

    /// The log was busy.
    pub fn put_back(&mut self, decision: Decision) {
        match decision {
            Decision::Settle {
                key,
                reason,
                messages,
            } => self
                .settles
                .entry((key, reason))
                .or_default()
                .extend(messages),
            Decision::Cancel(id) => self.cancels.push(id),
            Decision::Forget { slot, ids } => self.forget(ids.into_iter().map(|id| (slot, id))),
        }
    }

    /// It is in the log, before `end`.
    pub fn written(&mut self, decision: &Decision, end: Position) {
        match decision {
            Decision::Settle { key, messages, .. } => {
                for (sequence, _) in messages {
                    let id = move_id(*key, *sequence);
                    let facts = self.open.remove(&id).and_then(|open| open.facts);
                    // One that never left is known to no target.
                    if let Some(facts) = facts {
                        self.settled.push_back((end, facts.target, id));
                    }
                }
            }
            Decision::Cancel(id) => {
                self.open.remove(id);
            }
            Decision::Forget { .. } => {}
        }
    }

    /// Moves that are begun and not settled.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    /// Moves that were decided and are not begun.
    #[must_use]
    pub fn asked_count(&self) -> usize {
        self.asked.len()
    }
}

/// Doubles with each attempt, from the first to the longest.
fn wait_ms((first, longest): (u64, u64), attempts: &mut u32) -> u64 {
    let wait = first.saturating_mul(1 << (*attempts).min(20));
    *attempts = attempts.saturating_add(1);
    wait.min(longest)
}
