//! Which slots of a level hold timers: 256 bits.

/// Slots of one level.
pub(super) const SLOTS: usize = 256;

const WORDS: usize = SLOTS / 64;

/// One bit for each slot of a level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Occupancy([u64; WORDS]);

impl Occupancy {
    pub(super) fn set(&mut self, slot: u8) {
        if let Some(word) = self.0.get_mut(usize::from(slot / 64)) {
            *word |= 1 << (slot % 64);
        }
    }

    pub(super) fn clear(&mut self, slot: u8) {
        if let Some(word) = self.0.get_mut(usize::from(slot / 64)) {
            *word &= !(1 << (slot % 64));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0 == [0; WORDS]
    }

    /// The lowest occupied slot.
    pub(super) fn first(&self) -> Option<u8> {
        // The zip counts in steps of 64 without any conversion of integers.
        let words = self.0.iter().zip((0..=u8::MAX).step_by(64));
        let (word, base) = words.into_iter().find(|(word, _)| **word != 0)?;
        u8::try_from(word.trailing_zeros())
            .ok()
            .map(|bit| base + bit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_is_found_once_set_and_forgotten_once_cleared() {
        for slot in 0..=u8::MAX {
            let mut occupancy = Occupancy::default();
            occupancy.set(slot);
            assert_eq!(occupancy.first(), Some(slot));
            assert!(!occupancy.is_empty());
            occupancy.clear(slot);
            assert_eq!((occupancy.first(), occupancy.is_empty()), (None, true));
        }
    }

    #[test]
    fn the_lowest_slot_comes_first() {
        let mut occupancy = Occupancy::default();
        for slot in (0..=u8::MAX).rev() {
            occupancy.set(slot);
            assert_eq!(occupancy.first(), Some(slot));
        }
        for slot in 0..u8::MAX {
            occupancy.clear(slot);
            assert_eq!(occupancy.first(), Some(slot + 1));
        }
    }
}
