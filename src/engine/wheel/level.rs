//! Where in the wheel a deadline belongs, and the lists that hang there.

use super::occupancy::{Occupancy, SLOTS};
use crate::engine::arena::NIL;

/// Digits of a deadline: one level for each, so that every `u64` has its place.
pub(super) const LEVELS: usize = 8;

/// Bits of one digit.
const DIGIT_BITS: u32 = 8;

const _: () = assert!(1 << DIGIT_BITS == SLOTS);
const _: () = assert!(LEVELS * 8 == u64::BITS as usize);

/// One slot of one level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) level: u8,
    pub(super) slot: u8,
}

impl Place {
    /// The place of a deadline that is not before `elapsed`, as seen from there.
    pub(super) fn of(deadline: u64, elapsed: u64) -> Self {
        debug_assert!(deadline >= elapsed, "a deadline is clamped to the present");
        let differing_bits = u64::BITS - (deadline ^ elapsed).leading_zeros();
        let digit = differing_bits.saturating_sub(1) / DIGIT_BITS;
        let [.., slot] = (deadline >> (digit * DIGIT_BITS)).to_be_bytes();
        Self {
            level: u8::try_from(digit).expect("64 bits have eight digits"),
            slot,
        }
    }

    /// The first tick of this slot, given a present in the same turn of its level.
    pub(super) fn start(self, elapsed: u64) -> u64 {
        let below = u32::from(self.level) * DIGIT_BITS;
        let above = below + DIGIT_BITS;
        let kept = elapsed
            .checked_shr(above)
            .and_then(|digits| digits.checked_shl(above));
        kept.unwrap_or(0) | u64::from(self.slot) << below
    }

    /// Whether `deadline` falls into this slot, given a present in the same turn of its level.
    pub(super) fn spans(self, deadline: u64, elapsed: u64) -> bool {
        let below = u32::from(self.level) * DIGIT_BITS;
        deadline >> below == self.start(elapsed) >> below
    }
}

/// The slots of one level.
#[derive(Debug)]
pub(super) struct Level {
    lists: [List; SLOTS],
    /// INVARIANT: a bit is set exactly if the list of that slot is not empty.
    pub(super) occupancy: Occupancy,
}

impl Level {
    pub(super) fn new() -> Self {
        Self {
            lists: [List::EMPTY; SLOTS],
            occupancy: Occupancy::default(),
        }
    }

    pub(super) fn list(&mut self, slot: u8) -> &mut List {
        self.lists
            .get_mut(usize::from(slot))
            .expect("a level has a list for every u8")
    }
}

/// The ends of a doubly linked list of timers; the links are in the timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct List {
    head: u32,
    tail: u32,
}

impl List {
    const EMPTY: Self = Self {
        head: NIL,
        tail: NIL,
    };

    pub(super) fn head(self) -> Option<u32> {
        (self.head != NIL).then_some(self.head)
    }

    /// Makes `index` the last one and returns the one before it.
    pub(super) fn push(&mut self, index: u32) -> u32 {
        let tail = std::mem::replace(&mut self.tail, index);
        if tail == NIL {
            self.head = index;
        }
        tail
    }

    /// Accounts for a timer that left from between `prev` and `next`; returns whether it was the
    /// last one.
    pub(super) fn close_gap(&mut self, prev: u32, next: u32) -> bool {
        if prev == NIL {
            self.head = next;
        }
        if next == NIL {
            self.tail = prev;
        }
        self.head == NIL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_differing_digit_decides() {
        let cases = [
            (0, 0, (0, 0)),
            (0x1234, 0x1234, (0, 0x34)),
            (0x1235, 0x1234, (0, 0x35)),
            (0x1300, 0x12ff, (1, 0x13)),
            (0x01_0000, 0xffff, (2, 0x01)),
            (u64::MAX, 0, (7, 0xff)),
            (u64::MAX, u64::MAX - 1, (0, 0xff)),
        ];
        for (deadline, elapsed, (level, slot)) in cases {
            assert_eq!(
                Place::of(deadline, elapsed),
                Place { level, slot },
                "{deadline:#x}"
            );
        }
    }

    #[test]
    fn a_slot_starts_at_or_before_the_deadlines_it_holds() {
        for elapsed in [0, 1, 0xff, 0x1234_5678, 1 << 40, u64::MAX - 300] {
            for delay in (0..64).map(|bits| 1_u64 << bits) {
                let Some(deadline) = elapsed.checked_add(delay) else {
                    continue;
                };
                let place = Place::of(deadline, elapsed);
                assert!((elapsed..=deadline).contains(&place.start(elapsed)));
                assert!(place.spans(deadline, elapsed));
                assert!(place.level == 0 || !place.spans(elapsed, elapsed));
            }
        }
    }
}
