//! Tables of what lives on a core and is known on others by a key.

use slab::Slab;

/// A table whose keys are never used for another entry, so that a key of one who left reaches
/// nobody: the place in the table in the lower half, the number of the entry in the upper.
#[derive(Debug)]
pub(super) struct Keyed<T> {
    places: Slab<(u32, T)>,
    entered: u32,
}

impl<T> Default for Keyed<T> {
    fn default() -> Self {
        Self {
            places: Slab::new(),
            entered: 0,
        }
    }
}

impl<T> Keyed<T> {
    /// Takes an entry in, and gives its key.
    pub(super) fn insert(&mut self, entry: T) -> u64 {
        self.entered = self.entered.wrapping_add(1);
        let index = self.places.insert((self.entered, entry));
        (u64::from(self.entered) << 32) | u64::from(u32::try_from(index).unwrap_or(u32::MAX))
    }

    /// The entry of a key, while it is there.
    pub(super) fn get(&self, key: u64) -> Option<&T> {
        let (entered, entry) = self.places.get(index(key)?)?;
        (u64::from(*entered) == key >> 32).then_some(entry)
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, key: u64) -> Option<T> {
        self.get(key)?;
        let (_, entry) = self.places.try_remove(index(key)?)?;
        Some(entry)
    }

    /// Every entry.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter().map(|(_, (_, entry))| entry)
    }
}

fn index(key: u64) -> Option<usize> {
    usize::try_from(key & u64::from(u32::MAX)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_one_who_left_reaches_nobody() {
        let mut table = Keyed::default();
        let first = table.insert("first");
        assert_eq!(table.get(first), Some(&"first"));
        assert_eq!(table.remove(first), Some("first"));
        let second = table.insert("second");
        assert_eq!(
            first & u64::from(u32::MAX),
            second & u64::from(u32::MAX),
            "the place is used again"
        );
        assert_eq!(table.get(first), None);
        assert_eq!(table.remove(first), None);
        assert_eq!(table.get(second), Some(&"second"));
        assert_eq!(table.iter().collect::<Vec<_>>(), [&"second"]);
    }
}
