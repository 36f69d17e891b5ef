use proptest::prelude::{Strategy, any, prop_oneof, proptest};

use super::{Curve, NEVER_NS, Schedule};
use crate::scenario::{Arrivals, Load, Rate, Step};

fn open(arrivals: Arrivals, rate: Rate) -> Load {
    Load::Open { arrivals, rate }
}

/// Messages up to a time, in closed form.
fn intended(load: &Load, seconds: f64, run: f64) -> f64 {
    let Load::Open { rate, .. } = load else {
        panic!("an open loop");
    };
    let curve = Curve::new(rate, run);
    let piece = curve
        .pieces
        .iter()
        .find(|piece| piece.begin <= seconds)
        .unwrap();
    piece.before + piece.area(seconds - piece.begin)
}

fn times(load: &Load, run: f64, (producers, number): (u32, u32), until: f64) -> Vec<f64> {
    let mut schedule = Schedule::new(load, run, producers, number, 1).unwrap();
    let mut times = Vec::new();
    loop {
        let time = schedule.peek_ns() as f64 / 1e9;
        if time >= until {
            return times;
        }
        times.push(time);
        schedule.pop();
    }
}

fn all_times(load: &Load, run: f64, producers: u32, until: f64) -> Vec<f64> {
    let each = (0..producers).flat_map(|number| times(load, run, (producers, number), until));
    let mut all: Vec<_> = each.collect();
    all.sort_by(f64::total_cmp);
    all
}

fn rates() -> impl Strategy<Value = Rate> {
    let rate = || prop_oneof![1 => 0.0..1.0_f64, 5 => 1.0..5_000.0_f64, 1 => 0.0..0.001_f64];
    let step = (0.01..2.0_f64, rate()).prop_map(|(seconds, rate)| Step { seconds, rate });
    prop_oneof![
        rate().prop_map(Rate::Constant),
        (rate(), rate()).prop_map(|(from, to)| Rate::Ramp { from, to }),
        proptest::collection::vec(step, 1..6).prop_map(Rate::Steps),
    ]
}

/// The rate at a time, as the documentation of [`Rate`] says it.
fn rate_at(rate: &Rate, run: f64, at: f64) -> f64 {
    match rate {
        Rate::Constant(rate) => *rate,
        Rate::Ramp { from, to } => from + (to - from) * (at / run).min(1.0),
        Rate::Steps(steps) => {
            let mut end = 0.0;
            let reached = steps.iter().find(|step| {
                end += step.seconds;
                at < end
            });
            reached.or(steps.last()).unwrap().rate
        }
    }
}

/// The area under the rate by a sum over small slices: what the curve is in closed form.
fn naive_area(rate: &Rate, run: f64, until: f64) -> f64 {
    let slices = 20_000;
    let width = until / f64::from(slices);
    let middles = (0..slices).map(|slice| (f64::from(slice) + 0.5) * width);
    middles.map(|at| rate_at(rate, run, at) * width).sum()
}

proptest! {
    #[test]
    fn constant_arrivals_are_as_many_as_the_area_under_the_rate(
        rate in rates(), producers in 1..5_u32, until in 0.1..4.0_f64,
    ) {
        let load = open(Arrivals::Constant, rate.clone());
        let area = naive_area(&rate, 3.0, until);
        let closed = intended(&load, until, 3.0);
        assert!((closed - area).abs() < 1.0 + area * 1e-3, "{closed} of {area}");
        let times = all_times(&load, 3.0, producers, until);
        let count = times.len() as f64;
        // The first message lies at an area of zero; the last one may lie at the very end.
        assert!((count - area).abs() <= 1.5 + area * 1e-3, "{count} of {area}");
        for (number, time) in times.iter().enumerate().step_by(97) {
            let reached = intended(&load, *time, 3.0);
            assert!((reached - number as f64).abs() < 0.01, "{reached} at message {number}");
        }
    }

    #[test]
    fn poisson_arrivals_are_about_as_many(rate in rates(), until in 0.1..4.0_f64) {
        let load = open(Arrivals::Poisson, rate);
        let area = intended(&load, until, 3.0);
        let count = all_times(&load, 3.0, 3, until).len() as f64;
        // Six deviations: once in half a billion.
        assert!((count - area).abs() <= 6.0 * area.sqrt() + 6.0, "{count} of {area}");
    }

    #[test]
    fn times_never_go_back(rate in rates(), poisson in any::<bool>(), seed in any::<u64>()) {
        let arrivals = if poisson { Arrivals::Poisson } else { Arrivals::Constant };
        let mut schedule = Schedule::new(&open(arrivals, rate), 3.0, 2, 1, seed).unwrap();
        let mut last = 0;
        for _ in 0..2_000 {
            assert!(schedule.peek_ns() >= last);
            last = schedule.peek_ns();
            schedule.pop();
        }
    }
}

#[test]
fn producers_interleave_evenly() {
    let load = open(Arrivals::Constant, Rate::Constant(1_000.0));
    let times = all_times(&load, 10.0, 4, 1.0);
    assert_eq!(times.len(), 1_000);
    for (number, time) in times.iter().enumerate() {
        assert!((time - number as f64 / 1_000.0).abs() < 2e-9);
    }
}

#[test]
fn poisson_gaps_have_the_mean_and_the_variance_of_their_rate() {
    let load = open(Arrivals::Poisson, Rate::Constant(1_000.0));
    let times = times(&load, 10.0, (2, 1), 200.0);
    let gaps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let count = gaps.len() as f64;
    let mean = gaps.iter().sum::<f64>() / count;
    let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / count;
    // Half of 1,000 a second: 2 ms, and for an exponential the deviation is the mean.
    assert!((mean - 0.002).abs() < 0.000_03, "{mean}");
    assert!((variance.sqrt() - 0.002).abs() < 0.000_05, "{variance}");
}

#[test]
fn seeds_and_producers_draw_their_own_times() {
    let load = open(Arrivals::Poisson, Rate::Constant(1_000.0));
    let first = |number, seed| {
        Schedule::new(&load, 1.0, 2, number, seed)
            .unwrap()
            .peek_ns()
    };
    assert_eq!(first(0, 1), first(0, 1));
    assert_ne!(first(0, 1), first(1, 1));
    assert_ne!(first(0, 1), first(0, 2));
}

#[test]
fn a_step_without_a_rate_has_no_messages() {
    let steps = [(1.0, 100.0), (2.0, 0.0), (1.0, 100.0), (1.0, 0.0)];
    let steps = steps.map(|(seconds, rate)| Step { seconds, rate });
    for arrivals in [Arrivals::Constant, Arrivals::Poisson] {
        let load = open(arrivals, Rate::Steps(steps.to_vec()));
        let times = all_times(&load, 5.0, 2, 1e9);
        assert!(
            times
                .iter()
                .all(|at| *at <= 1.0 || (3.0..=4.0).contains(at))
        );
        assert!(times.len() > 100);
        if arrivals == Arrivals::Constant {
            assert_eq!(times.len(), 200);
        }
    }
}

#[test]
fn after_a_rate_of_zero_nothing_is_due() {
    let load = open(Arrivals::Constant, Rate::Constant(0.0));
    assert_eq!(
        Schedule::new(&load, 1.0, 1, 0, 1).unwrap().peek_ns(),
        NEVER_NS
    );
    let load = open(
        Arrivals::Constant,
        Rate::Ramp {
            from: 10.0,
            to: 0.0,
        },
    );
    assert_eq!(all_times(&load, 2.0, 1, 1e9).len(), 10);
}

#[test]
fn a_ramp_from_nothing_begins_at_once_and_grows() {
    let load = open(
        Arrivals::Constant,
        Rate::Ramp {
            from: 0.0,
            to: 100.0,
        },
    );
    let times = all_times(&load, 2.0, 1, 2.0);
    assert_eq!(times.len(), 100);
    assert!(
        (times[1] - 0.2).abs() < 1e-6,
        "the area reaches 1 at sqrt(2/50)"
    );
}

#[test]
fn a_closed_loop_has_no_times() {
    assert!(Schedule::new(&Load::Closed, 1.0, 1, 0, 1).is_none());
}
