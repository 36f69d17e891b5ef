//! The ends of moves: the target may forget them; and what an earlier process left open.

use std::collections::BTreeMap;

use ringmq_storage::SlotId;
use ringmq_storage::record::queue::MoveId;

use crate::engine::queues::moves::{move_id, source_of};
use crate::shard::Shard;
use crate::shard::message::Note;
use crate::shard::stored::LogSeat;

/// Moves that one note speaks of at most.
const NOTE_MOVES_MAX: usize = 1_024;

/// Moves by the slot of the queue that they go to.
type Arrivals = Vec<(SlotId, MoveId)>;

impl Shard {
    /// Drives the moves on that an earlier process left open, and asks for those that have arrived
    /// here whether they are over.
    pub(super) fn resume_moves(&self, seat: &LogSeat) {
        let committed = seat.log.borrow().committed();
        let mut asked = Arrivals::new();
        {
            let slots = seat.slots.borrow();
            let mut queues = seat.queues.borrow_mut();
            for (key, _) in slots.channels() {
                let state = slots.queue(key).into_iter();
                for (sequence, _) in state.flat_map(|state| state.moves()) {
                    let moves = &mut queues.moves.moves;
                    moves.committed(move_id(key, sequence), committed);
                }
            }
            asked.extend(slots.arrivals());
        }
        self.moves_durable(seat);
        let by_source = by_owner(asked, |(_, id)| self.stored_owner(id.slot));
        for (owner, ids) in by_source {
            match self.lane(owner) {
                None => self.moves_asked_here(ids),
                Some(lane) => {
                    for part in ids.chunks(NOTE_MOVES_MAX) {
                        lane.push_note(Note::MovesAsked { ids: part.into() });
                    }
                }
            }
        }
    }

    /// Tells targets that moves are over: nobody will send these messages again.
    pub(super) fn moves_are_over(&self, over: Arrivals) {
        for (owner, ids) in by_owner(over, |(slot, _)| self.stored_owner(*slot)) {
            match self.lane(owner) {
                None => self.moves_over_here(ids),
                // Bounded by the moves that were open.
                Some(lane) => lane.push_note(Note::MovesOver { ids }),
            }
        }
    }

    /// Moves into queues of this shard are over.
    pub(in crate::shard) fn moves_over_here(&self, ids: Arrivals) {
        for (slot, id) in ids {
            let Some(seat) = self.stored.seat_of(slot) else {
                continue;
            };
            let mut queues = seat.queues.borrow_mut();
            queues.moves.moves.forget([(slot, id)]);
            if queues.moves.has_decisions() {
                seat.commit_ready.raise();
            }
        }
    }

    /// Are these moves out of queues of this shard still open? Those that are not are over.
    pub(in crate::shard) fn moves_asked_here(&self, ids: Arrivals) {
        let is_over = |(_, id): &(SlotId, MoveId)| {
            let Some(seat) = self.stored.seat_of(id.slot) else {
                return false;
            };
            let slots = seat.slots.borrow();
            let state = slots.queue(source_of(id));
            state.is_none_or(|state| state.open_move(id.sequence).is_none())
        };
        self.moves_are_over(ids.into_iter().filter(is_over).collect());
    }
}

fn by_owner(ids: Arrivals, owner: impl Fn(&(SlotId, MoveId)) -> u16) -> BTreeMap<u16, Arrivals> {
    let mut sorted: BTreeMap<u16, Arrivals> = BTreeMap::new();
    for it in ids {
        sorted.entry(owner(&it)).or_default().push(it);
    }
    sorted
}
