//! The first of many, in order, in bounded memory.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where a channel stands in an order: by rank, then by name. No two channels of a kind share one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) rank: u64,
    pub(super) name: Arc<str>,
    /// Names fall instead of rising.
    pub(super) falling: bool,
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank.cmp(&other.rank).then_with(|| {
            let names = self.name.cmp(&other.name);
            if self.falling { names.reverse() } else { names }
        })
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The first `keep` of those that were offered.
///
/// A tree, and no sorted list: an offer costs the same little each time, and so does taking one
/// out, so that a walk can be cut into slices anywhere.
#[derive(Debug)]
pub(super) struct Top<T> {
    places: BTreeMap<Place, T>,
    keep: usize,
}

impl<T> Top<T> {
    pub(super) fn new(keep: usize) -> Self {
        Self {
            places: BTreeMap::new(),
            keep,
        }
    }

    /// Takes one in if it is among the first; `make` is called only then.
    pub(super) fn offer(
        &mut self,
        rank: u64,
        falling: bool,
        name: &str,
        make: impl FnOnce() -> (Arc<str>, T),
    ) {
        if self.places.len() >= self.keep {
            let Some(last) = self.places.last_entry() else {
                return;
            };
            let known = last.key();
            let names = name.cmp(&known.name);
            let names = if falling { names.reverse() } else { names };
            if rank.cmp(&known.rank).then(names).is_ge() {
                return;
            }
            last.remove();
        }
        let (name, value) = make();
        let place = Place {
            rank,
            name,
            falling,
        };
        self.places.insert(place, value);
    }

    /// Takes the first one out.
    pub(super) fn pop(&mut self) -> Option<(Place, T)> {
        self.places.pop_first()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn drain(mut top: Top<u32>) -> Vec<(u64, String, u32)> {
        std::iter::from_fn(|| top.pop())
            .map(|(place, value)| (place.rank, place.name.to_string(), value))
            .collect()
    }

    proptest! {
        #[test]
        fn the_first_are_those_of_a_sorted_list(
            offered in prop::collection::btree_map("[a-c]{1,4}", 0_u64..5, 0..60),
            keep in 0_usize..40,
            falling: bool,
        ) {
            let mut top = Top::new(keep);
            let mut all = Vec::new();
            for (value, (name, rank)) in (0..).zip(&offered) {
                top.offer(*rank, falling, name, || (name.as_str().into(), value));
                all.push((*rank, name.clone(), value));
            }
            all.sort_by(|a, b| {
                let names = a.1.cmp(&b.1);
                a.0.cmp(&b.0).then(if falling { names.reverse() } else { names })
            });
            all.truncate(keep);
            prop_assert_eq!(drain(top), all);
        }
    }

    #[test]
    fn what_is_not_among_the_first_is_not_made() {
        let mut top = Top::new(1);
        top.offer(1, false, "a", || ("a".into(), 1));
        top.offer(2, false, "a", || unreachable!("it is behind"));
        top.offer(0, false, "z", || ("z".into(), 2));
        assert_eq!(drain(top), [(0, "z".to_owned(), 2)]);
    }
}
