//! What a log knows of each of its slots.

use crate::SlotId;
use crate::id::{FrameIndex, Position};
use crate::slot::SLOT_COUNT;

/// A slot of the log.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slot {
    /// Last frame that was begun.
    pub begun: FrameIndex,
    /// Last frame that was committed.
    pub committed: FrameIndex,
    /// Time of the last record appended or recovered; times of a slot never go back.
    pub last_timestamp_ns: u64,
    /// Frames up to this one are in a checkpoint that is durable.
    pub floor: FrameIndex,
    /// Frames before this place do not count (rule L4); only replication sets it.
    pub void: Position,
    /// Whether its records contradict its state: nothing is appended to it any more.
    pub halted: bool,
}

/// The slots of a log, by number.
#[derive(Debug)]
pub(super) struct SlotTable {
    list: Vec<Slot>,
    own: Vec<SlotId>,
}

impl SlotTable {
    pub(super) fn new(own: Vec<SlotId>) -> Self {
        Self {
            list: vec![Slot::default(); usize::from(SLOT_COUNT)],
            own,
        }
    }

    /// The slots of this log.
    pub(super) fn own(&self) -> &[SlotId] {
        &self.own
    }

    pub(super) fn get(&self, slot: SlotId) -> &Slot {
        let found = self.list.get(usize::from(slot.index()));
        found.expect("there is an entry for every slot id")
    }

    pub(super) fn get_mut(&mut self, slot: SlotId) -> &mut Slot {
        let found = self.list.get_mut(usize::from(slot.index()));
        found.expect("there is an entry for every slot id")
    }
}
