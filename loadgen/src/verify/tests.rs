use std::collections::BTreeSet;

use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};

use super::{Order, Seen, Tracker, WINDOW};

/// The naive tracker: every number it saw.
#[derive(Default)]
struct Oracle {
    seen: BTreeSet<u64>,
}

impl Oracle {
    fn see(&mut self, number: u64) -> Seen {
        let highest = self.seen.last().copied();
        if !self.seen.insert(number) {
            Seen::Duplicate
        } else if highest.is_some_and(|highest| highest > number) {
            Seen::Late
        } else {
            Seen::New
        }
    }
}

/// Jumps from one number to the next: mostly one on, now and then back, over a gap or again.
fn jumps() -> impl Strategy<Value = Vec<i64>> {
    let jump = prop_oneof![
        8 => Just(1_i64),
        2 => -40..40_i64,
        1 => -3_000..3_000_i64,
    ];
    proptest::collection::vec(jump, 1..400)
}

/// As above, with gaps that are wider than the window.
fn wild_jumps() -> impl Strategy<Value = Vec<i64>> {
    let jump = prop_oneof![
        4 => Just(1_i64),
        2 => -100_000..200_000_i64,
        1 => -600..600_i64,
    ];
    proptest::collection::vec(jump, 1..20)
}

fn numbers(jumps: &[i64]) -> Vec<u64> {
    let mut at = -1_i64;
    let step = |jump: &i64| {
        at = (at + jump).max(0);
        u64::try_from(at).unwrap()
    };
    jumps.iter().map(step).collect()
}

proptest! {
    #[test]
    fn a_tracker_agrees_with_a_set_of_all_numbers(jumps in jumps()) {
        // 400 jumps of 3,000 can leave the window; those runs are the next test's.
        let numbers = numbers(&jumps);
        let sent = numbers.iter().max().unwrap() + 1;
        if sent > WINDOW {
            return Ok(());
        }
        let (mut tracker, mut oracle) = (Tracker::default(), Oracle::default());
        for number in &numbers {
            assert_eq!(tracker.see(*number), oracle.see(*number), "number {number}");
        }
        let received = oracle.seen.len() as u64;
        assert_eq!(tracker.received(), received);
        assert_eq!(tracker.lost(sent + 3), sent + 3 - received);
        let lost = (0..sent + 3).find(|number| !oracle.seen.contains(number));
        assert_eq!(tracker.first_lost(sent + 3), lost);
    }

    #[test]
    fn beyond_the_window_nothing_is_lost_that_came_in_time(jumps in wild_jumps()) {
        let (mut tracker, mut oracle) = (Tracker::default(), Oracle::default());
        let mut given_up = 0;
        for number in numbers(&jumps) {
            let highest = oracle.seen.last().copied().unwrap_or(0);
            let real = oracle.see(number);
            let told = tracker.see(number);
            if highest.saturating_sub(number) < WINDOW {
                assert_eq!(told, real, "number {number}, highest {highest}");
            } else if real == Seen::Late {
                // It came after it had been given up: it stays lost.
                assert_eq!(told, Seen::Late);
                given_up += 1;
            }
        }
        assert_eq!(tracker.received() + given_up, oracle.seen.len() as u64);
        assert!(tracker.ring.len() * 64 <= usize::try_from(WINDOW).unwrap());
    }

    #[test]
    fn any_number_is_safe_to_see(numbers in proptest::collection::vec(any::<u64>(), 0..20)) {
        let mut tracker = Tracker::default();
        for number in numbers.into_iter().chain([u64::MAX, 0, u64::MAX]) {
            tracker.see(number);
        }
        assert!(tracker.received() >= 1);
    }
}

#[test]
fn numbers_in_order_cost_no_memory() {
    let mut tracker = Tracker::default();
    for number in 0..100_000 {
        assert_eq!(tracker.see(number), Seen::New);
    }
    assert!(tracker.ring.is_empty());
    assert_eq!(tracker.see(0), Seen::Duplicate);
    assert_eq!(tracker.lost(100_000), 0);
    assert_eq!(tracker.first_lost(100_000), None);
}

#[test]
fn a_number_that_comes_after_the_window_stays_lost() {
    let mut tracker = Tracker::default();
    for number in 1..=WINDOW {
        tracker.see(number);
    }
    assert_eq!(tracker.see(0), Seen::Late);
    assert_eq!(tracker.lost(WINDOW + 1), 1);
}

#[test]
fn a_number_that_comes_at_the_end_of_the_window_is_late_and_not_lost() {
    let mut tracker = Tracker::default();
    for number in 1..WINDOW {
        tracker.see(number);
    }
    assert_eq!(tracker.see(0), Seen::Late);
    assert_eq!(tracker.lost(WINDOW), 0);
    assert_eq!(tracker.see(0), Seen::Duplicate);
}

#[test]
fn order_is_growing_with_gaps_allowed() {
    let mut order = Order::default();
    assert!([0, 1, 5, 9].into_iter().all(|number| order.see(number)));
    assert!(!order.see(7));
    assert!(order.see(10));
}
