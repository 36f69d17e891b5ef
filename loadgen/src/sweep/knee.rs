//! Where latency leaves the ground.

/// A load and what it does: messages a second, and the latency that is judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Load {
    pub rate: f64,
    pub latency_us: f64,
    /// Whether the server kept up with the rate.
    pub kept_up: bool,
}

/// A latency this many times the base is off the ground.
const FACTOR: f64 = 2.0;

/// Fewer points than this have no shape.
const SHAPE_MIN: usize = 4;

/// The index of the knee: the last rate before latency rises for good. `loads` are in the order of
/// their rates. `None` when it never rises to twice the base: the knee lies beyond the last rate.
///
/// With four points and more it is the one farthest below the straight line from the first to the
/// last, rates linear and latencies logarithmic, so that one disturbed point does not decide. The
/// last point of that line is the first one at which the server fell behind: what comes after it
/// is the length of the run. With fewer points it is the last one below twice the base.
pub(crate) fn knee(loads: &[Load]) -> Option<usize> {
    let end = loads
        .iter()
        .position(|load| !load.kept_up)
        .map_or(loads.len(), |index| index + 1);
    let loads = loads.get(..end)?;
    let base = base(loads)?;
    let last = loads.last()?;
    if last.kept_up && last.latency_us < base * FACTOR {
        return None;
    }
    // What did not keep up is past the knee by definition.
    let candidates = loads.iter().filter(|load| load.kept_up).count();
    if candidates == 0 {
        return None;
    }
    let by_shape = (loads.len() >= SHAPE_MIN)
        .then(|| farthest_below_the_chord(loads, candidates))
        .flatten();
    by_shape.or_else(|| {
        let risen = loads
            .iter()
            .position(|load| load.latency_us >= base * FACTOR || !load.kept_up);
        Some(risen?.saturating_sub(1))
    })
}

/// The latency of a server with little to do: the least of the lower half of the rates.
pub(crate) fn base(loads: &[Load]) -> Option<f64> {
    let half = loads.len().div_ceil(2);
    let low = loads.iter().take(half).map(|load| load.latency_us);
    low.min_by(f64::total_cmp).filter(|&base| base > 0.0)
}

fn farthest_below_the_chord(loads: &[Load], candidates: usize) -> Option<usize> {
    let (first, last) = (loads.first()?, loads.last()?);
    let width = last.rate - first.rate;
    let height = (last.latency_us / first.latency_us).ln();
    // Also where a latency is not known, and the height not a number.
    let rises = width > 0.0 && height > 0.0;
    if !rises {
        return None;
    }
    let below = |load: &Load| {
        let along = (load.rate - first.rate) / width;
        along - (load.latency_us / first.latency_us).ln() / height
    };
    let distances = loads.iter().map(below).take(candidates).enumerate();
    let (index, distance) = distances.max_by(|a, b| a.1.total_cmp(&b.1))?;
    (distance > 0.0).then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    fn loads(points: &[(f64, f64)]) -> Vec<Load> {
        let load = |&(rate, latency_us): &(f64, f64)| Load {
            rate,
            latency_us,
            kept_up: true,
        };
        points.iter().map(load).collect()
    }

    #[test]
    fn knee_is_the_last_point_on_the_ground() {
        let curve = loads(&[
            (10.0, 100.0),
            (20.0, 102.0),
            (30.0, 105.0),
            (40.0, 110.0),
            (50.0, 5_000.0),
        ]);
        assert_eq!(knee(&curve), Some(3));
    }

    #[test]
    fn flat_curve_has_no_knee() {
        let curve = loads(&[(10.0, 100.0), (20.0, 90.0), (30.0, 120.0), (40.0, 130.0)]);
        assert_eq!(knee(&curve), None);
        assert_eq!(knee(&[]), None);
    }

    #[test]
    fn one_disturbed_point_does_not_decide() {
        let curve = loads(&[
            (10.0, 100.0),
            (20.0, 400.0),
            (30.0, 105.0),
            (40.0, 110.0),
            (50.0, 9_000.0),
        ]);
        assert_eq!(knee(&curve), Some(3));
    }

    #[test]
    fn what_follows_the_first_overload_does_not_count() {
        let mut curve = loads(&[
            (10.0, 100.0),
            (20.0, 110.0),
            (30.0, 115.0),
            (40.0, 2_000_000.0),
            (80.0, 9_000_000.0),
        ]);
        curve[3].kept_up = false;
        curve[4].kept_up = false;
        assert_eq!(knee(&curve), Some(2));
    }

    #[test]
    fn three_points_are_judged_by_twice_the_base() {
        let curve = loads(&[(10.0, 100.0), (20.0, 150.0), (30.0, 300.0)]);
        assert_eq!(knee(&curve), Some(1));
    }

    #[test]
    fn server_that_never_kept_up_has_no_knee() {
        let mut curve = loads(&[(10.0, 1_000_000.0), (20.0, 2_000_000.0)]);
        for load in &mut curve {
            load.kept_up = false;
        }
        assert_eq!(knee(&curve), None);
    }

    proptest! {
        /// The textbook's queue: latency = service / (1 - utilisation).
        #[test]
        fn knee_of_a_queue_lies_below_its_capacity_and_above_its_half(
            service in 1.0f64..1_000.0,
            capacity in 1_000.0f64..1_000_000.0,
        ) {
            let curve: Vec<Load> = (1..20u32)
                .map(|step| {
                    let part = f64::from(step) * 0.05;
                    let latency_us = service / (1.0 - part);
                    Load { rate: part * capacity, latency_us, kept_up: true }
                })
                .collect();
            let found = curve[knee(&curve).unwrap()].rate / capacity;
            prop_assert!((0.5..0.95).contains(&found), "{found}");
        }

        #[test]
        fn knee_does_not_depend_on_units(
            latencies in prop::collection::vec(10.0f64..10_000.0, 2..12),
            unit in 0.01f64..100.0,
        ) {
            let curve: Vec<Load> = latencies
                .iter()
                .zip(1u32..)
                .map(|(&latency_us, n)| Load { rate: f64::from(n), latency_us, kept_up: true })
                .collect();
            let scaled: Vec<Load> = curve
                .iter()
                .map(|l| Load { rate: l.rate * 4.0, latency_us: l.latency_us * unit, ..*l })
                .collect();
            if let Some(found) = knee(&curve) {
                prop_assert!(curve[found].kept_up);
                // Rounding may only decide where two points are equally far.
                let again = knee(&scaled);
                prop_assert!(again.is_some());
            }
        }
    }
}
