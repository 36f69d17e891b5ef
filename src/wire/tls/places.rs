//! How many handshakes of an executor may be under way, and who has to make room.
//!
//! A handshake under way holds memory, and has a claim to the threads that do its cryptography. A
//! peer that says nothing holds neither: it asks for a place with its first record. When all are
//! taken, one whose peer has been slow makes room; if none has, the next one waits for its turn.
//! So connections that are opened and left half way cannot keep others out for long, and under a
//! flood of fast ones everybody waits in the same line.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::rt::Notify;

/// The places of one executor.
#[derive(Debug, Default)]
pub(super) struct Places {
    taken: Cell<usize>,
    next_number: Cell<u64>,
    /// Those without a place, in order of arrival.
    waiting: RefCell<BTreeMap<u64, Rc<Turn>>>,
    /// Those with a place that have kept us waiting.
    slow: RefCell<BTreeMap<u64, Rc<Turn>>>,
}

#[derive(Debug, Default)]
struct Turn {
    inside: Cell<bool>,
    /// It is the peer's turn to say something.
    at_peer: Cell<bool>,
    put_out: Cell<bool>,
    told: Notify,
}

impl Places {
    /// Asks for one of `max` places. [`Place::poll_inside`] says when it is there.
    pub(super) fn ask(self: &Rc<Self>, max: usize) -> Place {
        let number = self.next_number.get();
        self.next_number.set(number + 1);
        let turn = Rc::new(Turn::default());
        if self.taken.get() < max {
            self.taken.set(self.taken.get() + 1);
            turn.inside.set(true);
        } else if let Some(slow) = self.somebody_slow() {
            slow.put_out();
            turn.inside.set(true);
        } else {
            self.waiting.borrow_mut().insert(number, turn.clone());
        }
        Place {
            places: self.clone(),
            number,
            turn,
        }
    }

    /// Handshakes under way.
    #[cfg(test)]
    pub(super) fn taken(&self) -> usize {
        self.taken.get()
    }

    /// Takes the one out of the list that has been slow for the longest time.
    fn somebody_slow(&self) -> Option<Rc<Turn>> {
        let mut slow = self.slow.borrow_mut();
        let (number, _) = slow.iter().find(|(_, turn)| turn.at_peer.get())?;
        let number = *number;
        slow.remove(&number)
    }

    /// Gives a place to the one that has waited longest; false when nobody waits.
    fn pass_on(&self) -> bool {
        let next = self.waiting.borrow_mut().pop_first();
        match next {
            Some((_, turn)) => {
                turn.inside.set(true);
                turn.told.raise();
                true
            }
            None => false,
        }
    }
}

impl Turn {
    fn put_out(&self) {
        self.inside.set(false);
        self.put_out.set(true);
        self.told.raise();
    }
}

/// A place, or the wait for it. Given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Rc<Places>,
    number: u64,
    turn: Rc<Turn>,
}

impl Place {
    /// Ready when the handshake may begin.
    pub(crate) fn poll_inside(&self, cx: &mut Context<'_>) -> Poll<()> {
        while self.turn.told.poll(cx).is_ready() {}
        if self.turn.inside.get() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Ready when somebody else has got the place: the handshake is to end.
    pub(crate) fn poll_put_out(&self, cx: &mut Context<'_>) -> Poll<()> {
        while self.turn.told.poll(cx).is_ready() {}
        if self.turn.put_out.get() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Whether it is the peer's turn. Nobody is put out while it is ours.
    pub(crate) fn set_at_peer(&self, at_peer: bool) {
        self.turn.at_peer.set(at_peer);
        let is_slow = self.places.slow.borrow().contains_key(&self.number);
        if is_slow {
            self.make_room();
        }
    }

    /// The peer has kept us waiting for too long in all: it goes when somebody needs the place.
    pub(crate) fn mark_slow(&self) {
        if self.turn.inside.get() {
            let mut slow = self.places.slow.borrow_mut();
            slow.insert(self.number, self.turn.clone());
        }
        self.make_room();
    }

    fn make_room(&self) {
        if self.turn.at_peer.get() && self.turn.inside.get() && self.places.pass_on() {
            self.places.slow.borrow_mut().remove(&self.number);
            self.turn.put_out();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let places = &self.places;
        places.slow.borrow_mut().remove(&self.number);
        places.waiting.borrow_mut().remove(&self.number);
        if self.turn.inside.get() && !places.pass_on() {
            places.taken.set(places.taken.get().saturating_sub(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn places() -> Rc<Places> {
        Rc::default()
    }

    fn is_inside(place: &Place) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        place.poll_inside(&mut cx).is_ready()
    }

    fn is_put_out(place: &Place) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        place.poll_put_out(&mut cx).is_ready()
    }

    #[test]
    fn those_without_a_place_get_one_in_order() {
        let places = places();
        let first = places.ask(1);
        let (second, third) = (places.ask(1), places.ask(1));
        assert_eq!(
            [&first, &second, &third].map(is_inside),
            [true, false, false]
        );
        drop(first);
        assert_eq!([&second, &third].map(is_inside), [true, false]);
        drop(second);
        assert!(is_inside(&third));
        assert_eq!(places.taken(), 1);
        drop(third);
        assert_eq!(places.taken(), 0);
    }

    #[test]
    fn whoever_leaves_the_line_leaves_nothing_behind() {
        let places = places();
        let first = places.ask(1);
        let second = places.ask(1);
        let third = places.ask(1);
        drop(second);
        drop(first);
        assert!(is_inside(&third));
        drop(third);
        assert_eq!(places.taken(), 0);
        assert!(places.waiting.borrow().is_empty());
    }

    #[test]
    fn a_slow_peer_makes_room_for_the_next_one() {
        let places = places();
        let slow = places.ask(2);
        let quick = places.ask(2);
        slow.set_at_peer(true);
        quick.set_at_peer(true);
        slow.mark_slow();
        assert!(!is_put_out(&slow), "nobody needs the place");
        let next = places.ask(2);
        assert!(is_inside(&next) && is_put_out(&slow) && !is_put_out(&quick));
        drop(slow);
        assert_eq!(places.taken(), 2, "its place was not given twice");
        drop((quick, next));
        assert_eq!(places.taken(), 0);
    }

    #[test]
    fn one_that_turns_slow_makes_room_for_who_waits() {
        let places = places();
        let slow = places.ask(1);
        let next = places.ask(1);
        slow.set_at_peer(true);
        assert!(!is_inside(&next));
        slow.mark_slow();
        assert!(is_inside(&next) && is_put_out(&slow));
        drop((slow, next));
        assert_eq!(places.taken(), 0);
    }

    #[test]
    fn nobody_is_put_out_while_we_keep_it_waiting() {
        let places = places();
        let slow = places.ask(1);
        slow.set_at_peer(true);
        slow.mark_slow();
        slow.set_at_peer(false);
        let next = places.ask(1);
        assert!(!is_inside(&next) && !is_put_out(&slow));
        slow.set_at_peer(true);
        assert!(is_inside(&next) && is_put_out(&slow));
    }

    /// All orders of a few steps: the count is that of those inside, and never above the bound.
    #[test]
    fn the_count_is_right_after_any_steps() {
        const MAX: usize = 2;
        let mut seed = 1_u64;
        let mut random = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(seed >> 33).unwrap() % below
        };
        for _ in 0..500 {
            let places = places();
            let mut held: Vec<Place> = Vec::new();
            for _ in 0..40 {
                match random(4) {
                    0 => held.push(places.ask(MAX)),
                    1 if !held.is_empty() => drop(held.swap_remove(random(held.len()))),
                    2 if !held.is_empty() => {
                        let place = &held[random(held.len())];
                        place.set_at_peer(random(2) == 0);
                    }
                    3 if !held.is_empty() => held[random(held.len())].mark_slow(),
                    _ => {}
                }
                let inside = held.iter().filter(|place| is_inside(place)).count();
                assert_eq!(places.taken(), inside);
                assert!(inside <= MAX);
                let waits = |place: &&Place| !is_inside(place) && !is_put_out(place);
                assert!(inside == MAX || held.iter().filter(waits).count() == 0);
            }
        }
    }
}
