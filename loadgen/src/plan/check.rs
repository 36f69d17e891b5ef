//! Predictions held against measurements that they were not made from.

use serde::Serialize;

use super::model;
use super::points::{Measured, Point};
use super::scenarios::{self, Task};
use crate::spread::Spread;

/// A prediction this close is good enough to plan with.
pub(crate) const CLOSE: f64 = 0.2;

/// One scenario, predicted and measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Check {
    pub name: String,
    pub size_bytes: u32,
    pub fan_out: u32,
    /// CPU time for each message, in microseconds.
    pub predicted_us_each: f64,
    pub measured_us_each: Spread,
    /// Messages a second at which one executor is full.
    pub predicted_per_second: f64,
    pub measured_per_second: f64,
    /// Predicted to measured saturation.
    pub ratio: f64,
    /// What was sent a second when it was measured, and how busy the broker was.
    pub sent_per_second: f64,
    pub busy: f64,
    pub violations: u64,
    pub doubts: Vec<String>,
}

impl Check {
    pub(crate) fn is_close(&self) -> bool {
        (self.ratio - 1.0).abs() <= CLOSE
    }

    /// What the measured saturation is, in words.
    pub(crate) const fn seen(&self) -> &'static str {
        if self.busy >= super::points::SATURATED {
            "seen"
        } else {
            "computed"
        }
    }
}

/// Predicts what was measured. Points whose cost was never fitted are left out.
pub(crate) fn compare(measured: &Measured, points: &[Point]) -> Vec<Check> {
    let check = |point: &Point| {
        let cost = model::cost(measured, point.family)?;
        let predicted_us_each = cost.us(point.size, point.fan_out);
        let (predicted, real) = (1e6 / predicted_us_each, point.saturation());
        Some(Check {
            name: scenarios::name(&Task {
                purpose: point.purpose,
                family: point.family,
                executors: point.executors,
                size: point.size,
                fan_out: point.fan_out,
            }),
            size_bytes: point.size,
            fan_out: point.fan_out,
            predicted_us_each,
            measured_us_each: point.cpu_us_each,
            predicted_per_second: predicted,
            measured_per_second: real,
            ratio: predicted / real,
            sent_per_second: point.rate.median,
            busy: point.busy,
            violations: point.violations,
            doubts: point.doubts.clone(),
        })
    };
    points.iter().filter_map(check).collect()
}

#[cfg(test)]
mod tests {
    use super::super::points::samples::{QUEUE, measured, point};
    use super::*;

    #[test]
    fn prediction_is_held_against_what_was_measured() {
        // Predicted 3 + 2 µs, measured 4: 200,000/s for 250,000/s.
        let checks = compare(&measured(), &[point(QUEUE, 2048, 1, 4.0)]);
        let check = &checks[0];
        assert!((check.ratio - 0.8).abs() < 1e-6);
        assert!((check.predicted_per_second - 200_000.0).abs() < 1.0);
        assert_eq!(check.measured_per_second, 250_000.0);
        assert_eq!(check.seen(), "seen");
        assert_eq!(check.name, "queue, stream, strict, 2048 B");
    }

    #[test]
    fn twenty_per_cent_is_close_and_more_is_not() {
        let checks = |cpu| compare(&measured(), &[point(QUEUE, 2048, 1, cpu)]);
        assert!(checks(4.1)[0].is_close() && checks(5.9)[0].is_close());
        assert!(!checks(3.9)[0].is_close() && !checks(6.1)[0].is_close());
    }

    #[test]
    fn pattern_that_was_not_fitted_is_not_predicted() {
        let mut all = measured();
        all.points.clear();
        assert!(compare(&all, &[point(QUEUE, 2048, 1, 4.0)]).is_empty());
    }
}
