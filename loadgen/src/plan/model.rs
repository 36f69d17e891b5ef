//! The model: what a message costs, fitted to what was measured.
//!
//! For a body of k KiB that goes to f subscribers, the broker spends
//!
//! ```text
//! a + b k + f (c + d k)   µs of CPU time for events and stored events
//! a + b k                 for queues, commands and queries
//! ```
//!
//! with batches as full as they are at saturation. n executors do n^s times what one does; s comes
//! from one executor and two, and is assumed beyond.

use serde::Serialize;

use super::fit::{self, Fit, Row};
use super::points::{Curve, CurvePoint, Family, Measured, Purpose, fans_out, is_stored};
use crate::outcome::number;
use crate::scenario::Pattern;

/// What a message of one family costs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Cost {
    pub family: Family,
    /// µs for each message; for each KiB of it; for each delivery; for each KiB of those.
    pub coefficients: [f64; 4],
    /// Points it was fitted to.
    pub points: usize,
    /// Of these, the ones at which the broker was not the limit.
    pub unsaturated: usize,
    pub worst_error: f64,
    pub mean_error: f64,
    /// For points that were left out of the fit.
    pub left_out_worst_error: Option<f64>,
    pub left_out_mean_error: Option<f64>,
    /// Sizes and fan-outs that were measured; what lies outside is extrapolated.
    pub sizes: (u32, u32),
    pub fan_outs: (u32, u32),
}

/// A straight line over the size of bodies, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Line {
    pub each: f64,
    pub per_byte: f64,
    pub worst_error: f64,
}

impl Line {
    pub(crate) fn at(&self, size: u32) -> f64 {
        self.each + self.per_byte * f64::from(size)
    }
}

/// How capacity grows with executors.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Scaling {
    /// n executors do n^exponent times what one does.
    pub exponent: f64,
    /// What two did, as a multiple of one.
    pub two: f64,
    /// Whether it was measured for this family; otherwise it is another one's, the worst.
    pub own: bool,
}

fn row4(kib: f64, fan_out: f64, value: f64) -> Row<4> {
    Row {
        terms: [1.0, kib, fan_out, fan_out * kib],
        value,
    }
}

/// The cost of a family's messages; `None` when it was measured at too few sizes.
pub(crate) fn cost(measured: &Measured, family: Family) -> Option<Cost> {
    let points: Vec<_> = measured
        .points_of(family, Purpose::Saturation)
        .filter(|point| point.executors == 1)
        .collect();
    let (four, two): (Vec<Row<4>>, Vec<Row<2>>) = points
        .iter()
        .map(|point| {
            let kib = f64::from(point.size) / 1024.0;
            let value = point.cpu_us_each.median;
            let all = row4(kib, f64::from(point.fan_out), value);
            let terms = [1.0, kib];
            (all, Row { terms, value })
        })
        .unzip();
    let spread = points.iter().any(|point| point.fan_out > 1);
    let fit = if fans_out(family.pattern) && spread {
        fit::fit(&four)?
    } else {
        widen(fit::fit(&two)?)
    };
    let range = |of: fn(&super::points::Point) -> u32| {
        let least = points.iter().map(|point| of(point)).min()?;
        Some((least, points.iter().map(|point| of(point)).max()?))
    };
    Some(Cost {
        family,
        coefficients: fit.coefficients,
        points: points.len(),
        unsaturated: points.iter().filter(|point| !point.saturated()).count(),
        worst_error: fit.worst,
        mean_error: fit.mean,
        left_out_worst_error: fit.left_out_worst,
        left_out_mean_error: fit.left_out_mean,
        sizes: range(|point| point.size)?,
        fan_outs: range(|point| point.fan_out)?,
    })
}

/// A fit of the two terms without fan-out as one of all four.
fn widen(fit: Fit<2>) -> Fit<4> {
    let [each, per_kib] = fit.coefficients;
    Fit {
        coefficients: [each, per_kib, 0.0, 0.0],
        worst: fit.worst,
        mean: fit.mean,
        left_out_worst: fit.left_out_worst,
        left_out_mean: fit.left_out_mean,
    }
}

impl Cost {
    /// CPU time for a message of this size to so many subscribers, in microseconds.
    pub(crate) fn us(&self, size: u32, fan_out: u32) -> f64 {
        let row = row4(f64::from(size) / 1024.0, f64::from(fan_out), 1.0);
        fit::predict(&self.coefficients, &row.terms)
    }

    /// Whether that lies within what was measured.
    pub(crate) fn covers(&self, size: u32, fan_out: u32) -> bool {
        (self.sizes.0..=self.sizes.1).contains(&size)
            && (self.fan_outs.0..=self.fan_outs.1).contains(&fan_out)
    }

    /// The formula, for people.
    pub(crate) fn formula(&self) -> String {
        let [each, per_kib, delivery, delivery_per_kib] = self.coefficients;
        let sent = format!("{each:.2} + {per_kib:.3} k");
        if fans_out(self.family.pattern) && self.fan_outs.1 > 1 {
            format!("{sent} + f ({delivery:.2} + {delivery_per_kib:.3} k)")
        } else {
            sent
        }
    }
}

/// How a family's capacity grows with executors, or the worst of those that were measured.
/// `None` when none was.
pub(crate) fn scaling(measured: &Measured, family: Family) -> Option<Scaling> {
    let of = |family: Family| {
        let with = |executors: u32| {
            let mut points = measured.points_of(family, Purpose::Scaling);
            points.find(|point| point.executors == executors)
        };
        Some(with(2)?.saturation() / with(1)?.saturation())
    };
    let own = of(family);
    let two = match own {
        Some(two) => two,
        None => measured
            .families()
            .into_iter()
            .filter_map(of)
            .min_by(f64::total_cmp)?,
    };
    Some(Scaling {
        // More than twice as much is noise, and less than nothing is not a growth to plan with.
        exponent: two.log2().clamp(0.0, 1.0),
        two,
        own: own.is_some(),
    })
}

/// Bytes that are written to storage for each message: records, their checkpoints, and segments
/// that are zeroed before their use.
pub(crate) fn written(measured: &Measured, pattern: Pattern) -> Option<Line> {
    let stored = measured.disk.iter().filter(|one| one.pattern == pattern);
    let rows = stored.filter_map(|one| Some((one.size, one.written_bytes_each?)));
    line(&rows.collect::<Vec<_>>())
}

/// Bytes that each stored message takes on disk.
pub(crate) fn on_disk(measured: &Measured, pattern: Pattern) -> Option<Line> {
    let stored = measured.disk.iter().filter(|one| one.pattern == pattern);
    let points: Vec<_> = stored.map(|one| (one.size, one.disk_bytes_each)).collect();
    line(&points)
}

/// Memory of each stored message, whatever its size: bodies are in files.
pub(crate) fn stored_memory(measured: &Measured, pattern: Pattern) -> Option<f64> {
    match pattern {
        Pattern::EventsStore => measured.memory.stored_event,
        Pattern::Queue => measured.memory.waiting_message,
        Pattern::Events | Pattern::Command | Pattern::Query | Pattern::Echo => None,
    }
}

/// Bytes beside the body for each time that a message passes the network: sent, or delivered.
pub(crate) fn wire_overhead(measured: &Measured, family: Family) -> Option<f64> {
    let points = measured.points_of(family, Purpose::Saturation);
    let each = points.filter_map(|point| {
        let passes = f64::from(passes(family.pattern, point.fan_out));
        Some(point.wire_bytes_each? / passes)
    });
    each.max_by(f64::total_cmp)
}

/// How often a message passes the broker's network: once in and once out for each subscriber. A
/// request and its answer both go in and out.
pub(crate) const fn passes(pattern: Pattern, fan_out: u32) -> u32 {
    match pattern {
        Pattern::Command | Pattern::Query => 4,
        _ => 1 + fan_out,
    }
}

fn line(points: &[(u32, f64)]) -> Option<Line> {
    let rows: Vec<Row<2>> = points
        .iter()
        .map(|&(size, value)| Row {
            terms: [1.0, f64::from(size)],
            value,
        })
        .collect();
    let fit = fit::fit(&rows)?;
    let [each, per_byte] = fit.coefficients;
    Some(Line {
        each,
        per_byte,
        worst_error: fit.worst,
    })
}

/// The greatest utilisation at which a p99 holds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Bound {
    /// Up to this much.
    Below(f64),
    /// At no load that was measured; the least p99 that was seen, in microseconds.
    Never(f64),
    /// Not known: this family has no curve.
    Unknown,
}

/// How much of an executor may be in use for a p99 to hold.
///
/// Between two measured loads the logarithm of the p99 is taken as a straight line. It never falls
/// with load here: a p99 that was once seen at less load counts for more load too.
pub(crate) fn utilisation_for(measured: &Measured, family: Family, p99_us: f64) -> Bound {
    let Some(curve) = curve(measured, family) else {
        return Bound::Unknown;
    };
    let loads: Vec<&CurvePoint> = curve.loads.iter().filter(|load| load.kept_up).collect();
    let least = loads.iter().map(|load| load.p99_us).min_by(f64::total_cmp);
    let Some(least) = least else {
        return Bound::Unknown;
    };
    // Messages that come one by one to parked cores can be slower than a steady flow, so that the
    // curve begins with a fall. What lies left of its lowest point is not the load's doing.
    let falling = loads.iter().position(|load| load.p99_us <= least);
    let mut before: Option<(f64, f64)> = None;
    for load in loads.iter().skip(falling.unwrap_or(0)) {
        let here = before.map_or(load.p99_us, |(_, p99)| load.p99_us.max(p99));
        if here > p99_us {
            return match before {
                None => Bound::Never(least),
                Some((utilisation, p99)) => {
                    let part = (p99_us / p99).ln() / (here / p99).ln();
                    Bound::Below(utilisation + part * (load.utilisation - utilisation))
                }
            };
        }
        before = Some((load.utilisation, here));
    }
    // It held at all loads with which the broker kept up.
    before.map_or(Bound::Unknown, |(utilisation, _)| Bound::Below(utilisation))
}

/// The p99 that is expected at a utilisation, between the measured loads around it.
pub(crate) fn p99_at(measured: &Measured, family: Family, utilisation: f64) -> Option<f64> {
    let loads = &curve(measured, family)?.loads;
    let above = loads.iter().find(|load| load.utilisation >= utilisation)?;
    let below = loads.iter().rfind(|load| load.utilisation < utilisation);
    let Some(below) = below else {
        return Some(above.p99_us);
    };
    let part = (utilisation - below.utilisation) / (above.utilisation - below.utilisation);
    Some((below.p99_us.ln() + part * (above.p99_us / below.p99_us).ln()).exp())
}

pub(crate) fn curve(measured: &Measured, family: Family) -> Option<&Curve> {
    measured.curves.iter().find(|curve| curve.family == family)
}

/// The memory of a broker with nothing to do on so many executors: a straight line through one and
/// two.
pub(crate) fn idle_memory(measured: &Measured, executors: u64) -> Option<f64> {
    let mut idle = measured.memory.idle.iter();
    let one = *idle.next()?;
    let step = idle.next().map_or(one, |two| (two - one).max(0.0));
    Some(one + step * (number(executors) - 1.0).max(0.0))
}

/// The worst thing that is known about each stored pattern's sync: what waiting for it adds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct SyncCost {
    pub pattern: Pattern,
    /// One message at a time, acknowledged after its sync, and after its append: p50 and p99 in
    /// microseconds.
    pub strict_us: (f64, f64),
    pub interval_us: (f64, f64),
    /// CPU time of each message at saturation, both ways, in microseconds.
    pub strict_cpu_us: f64,
    pub interval_cpu_us: f64,
}

/// What a sync costs, for each pattern that was measured with and without.
pub(crate) fn sync_costs(measured: &Measured) -> Vec<SyncCost> {
    use super::points::Sync;
    let families = measured.families();
    let strict = families
        .iter()
        .filter(|family| is_stored(family.pattern) && family.sync == Some(Sync::Strict));
    strict
        .filter_map(|&strict| {
            let interval = Family {
                sync: Some(Sync::Interval),
                ..strict
            };
            let alone = |family| measured.points_of(family, Purpose::Alone).next();
            let full = |family| {
                let mut points = measured.points_of(family, Purpose::Saturation);
                points.find(|point| point.size == 1024 && point.fan_out == 1)
            };
            let times = |family| alone(family).map(|point| (point.p50_us, point.p99_us));
            Some(SyncCost {
                pattern: strict.pattern,
                strict_us: times(strict)?,
                interval_us: times(interval)?,
                strict_cpu_us: full(strict)?.cpu_us_each.median,
                interval_cpu_us: full(interval)?.cpu_us_each.median,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::points::samples::{EVENTS, QUEUE, measured};
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a / b - 1.0).abs() < 1e-4
    }

    #[test]
    fn cost_of_what_was_not_measured_is_predicted() {
        let all = measured();
        let events = cost(&all, EVENTS).unwrap();
        // 3000 B to 3: 1 + 0.2 k + 3 (0.5 + 0.1 k) with k = 2.9297.
        assert!(close(events.us(3000, 3), 2.5 + 0.5 * 3000.0 / 1024.0));
        assert!(events.covers(3000, 3) && !events.covers(64, 1) && !events.covers(1024, 6));
        let queue = cost(&all, QUEUE).unwrap();
        assert!(close(queue.us(2048, 1), 5.0));
        assert!(queue.worst_error < 1e-6 && queue.left_out_worst_error.unwrap() < 1e-6);
        assert_eq!(queue.formula(), "3.00 + 1.000 k");
    }

    #[test]
    fn one_size_alone_gives_no_cost() {
        let mut all = measured();
        all.points.retain(|point| point.size == 1024);
        assert!(cost(&all, QUEUE).is_none());
    }

    #[test]
    fn second_executor_gives_the_exponent() {
        // 2 µs on one, 2.5 µs on two: 1.6 times as much, 2^0.678.
        let scaling = scaling(&measured(), QUEUE).unwrap();
        assert!(close(scaling.two, 1.6));
        assert!(close(scaling.exponent, 1.6_f64.log2()));
        assert!(scaling.own);
    }

    #[test]
    fn family_without_its_own_scaling_gets_the_worst() {
        let mut all = measured();
        all.points
            .retain(|p| p.family != QUEUE || p.purpose != Purpose::Scaling);
        let scaling = scaling(&all, QUEUE).unwrap();
        assert!(!scaling.own && close(scaling.two, 1.6));
        all.points.retain(|p| p.purpose != Purpose::Scaling);
        assert!(super::scaling(&all, QUEUE).is_none());
    }

    #[test]
    fn utilisation_lies_between_the_measured_loads_that_enclose_the_p99() {
        let all = measured();
        // 800 is halfway from 400 to 1600 on the logarithmic scale: 0.5 to 0.8.
        match utilisation_for(&all, QUEUE, 800.0) {
            Bound::Below(found) => assert!(close(found, 0.65)),
            other => panic!("{other:?}"),
        }
        assert_eq!(utilisation_for(&all, QUEUE, 100.0), Bound::Never(200.0));
        // Where the broker did not keep up, no p99 is promised.
        assert_eq!(utilisation_for(&all, QUEUE, 1e9), Bound::Below(0.8));
        let other = Family {
            pattern: Pattern::Query,
            ..QUEUE
        };
        assert_eq!(utilisation_for(&all, other, 1e9), Bound::Unknown);
    }

    #[test]
    fn dip_in_the_curve_promises_nothing() {
        let mut all = measured();
        all.curves.retain(|curve| curve.family == QUEUE);
        let loads = &mut all.curves[0].loads;
        loads[1].p99_us = 3_000.0;
        // 200, 3000, 1600: at 2000 the answer lies before the second load, not beyond the third.
        match utilisation_for(&all, QUEUE, 2_000.0) {
            Bound::Below(found) => assert!(found < 0.5, "{found}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn p99_between_two_loads_is_on_the_line_between_their_logarithms() {
        assert!(close(p99_at(&measured(), QUEUE, 0.65).unwrap(), 800.0));
        assert_eq!(p99_at(&measured(), QUEUE, 0.05), Some(200.0));
        assert_eq!(p99_at(&measured(), QUEUE, 0.99), None);
    }

    #[test]
    fn disk_and_wire_follow_the_size() {
        let all = measured();
        let disk = on_disk(&all, Pattern::Queue).unwrap();
        assert!(close(disk.at(2048), 2048.0 * 1.01 + 60.0));
        assert!(close(
            written(&all, Pattern::Queue).unwrap().at(2048),
            4196.0
        ));
        assert_eq!(written(&all, Pattern::Events), None);
        assert_eq!(wire_overhead(&all, QUEUE), Some(100.0));
        assert_eq!(idle_memory(&all, 4), Some(10e6 + 3.0 * 6e6));
    }
}
