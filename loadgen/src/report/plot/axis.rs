//! Axes: from a value to a place between 0 and 1, and the values that get a label.

use crate::report::units;

/// What the values of an axis are; decides how they are written and where ticks lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// As they are.
    Plain,
    /// Messages, or messages a second.
    Count,
    Nanoseconds,
    Bytes,
    Seconds,
    /// Parts of a whole, 0 to 1.
    Percent,
    /// Quantiles, 0 to less than 1, on a scale on which each further nine takes the same place.
    Quantile,
}

impl Unit {
    /// A measured value, for people.
    pub(crate) fn value(self, value: f64) -> String {
        match self {
            Self::Plain => units::digits(value),
            Self::Count if value < 1_000.0 => units::digits(value),
            Self::Count => units::count(units::rounded(value)),
            Self::Nanoseconds => units::time_f(value),
            Self::Bytes => units::bytes(value),
            Self::Seconds => units::seconds(value),
            Self::Percent => units::percent(value),
            Self::Quantile => quantile(value),
        }
    }

    /// A value at a tick: short, without zeros behind the point.
    pub(crate) fn tick(self, value: f64) -> String {
        if value == 0.0 {
            // Whatever the unit.
            return "0".into();
        }
        let text = match self {
            Self::Count | Self::Plain => units::short(value),
            Self::Seconds if value < 120.0 => format!("{value:.3} s"),
            other => other.value(value),
        };
        units::without_zeros(&text)
    }
}

/// `p50`, `p99.9`.
fn quantile(value: f64) -> String {
    let text = format!("{:.5}", value * 100.0);
    format!("p{}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// One axis of a plot. Without further words it is linear and ends where the data end.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    pub(super) label: String,
    pub(super) unit: Unit,
    pub(super) log: bool,
    pub(super) with_zero: bool,
}

impl Axis {
    pub(crate) fn new(label: &str, unit: Unit) -> Self {
        Self {
            label: label.to_owned(),
            unit,
            log: false,
            with_zero: false,
        }
    }

    /// On a logarithmic scale; values of 0 and less have no place on it.
    pub(crate) fn log(mut self) -> Self {
        self.log = true;
        self
    }

    /// With zero on it, wherever the data begin.
    pub(crate) fn with_zero(mut self) -> Self {
        self.with_zero = true;
        self
    }

    /// The axis for these data, with about `ticks` labels. A `round` one ends at a tick above the
    /// data, others end where the data end. None: nothing among the data has a place.
    pub(super) fn fit(
        &self,
        values: impl Iterator<Item = f64>,
        ticks: usize,
        round: bool,
    ) -> Option<Fitted> {
        let scale = match self.unit {
            Unit::Quantile => Scale::Nines,
            _ if self.log => Scale::Log,
            _ => Scale::Linear,
        };
        let mut range: Option<(f64, f64)> = None;
        for value in values.filter(|value| scale.has(*value)) {
            let (least, most) = range.unwrap_or((value, value));
            range = Some((least.min(value), most.max(value)));
        }
        let (mut least, most) = range?;
        if self.with_zero && scale == Scale::Linear {
            least = least.min(0.0);
        }
        let (least, most, ticks) = match scale {
            Scale::Linear => linear(least, most, ticks, round, self.unit),
            Scale::Log => log(least, most, ticks),
            Scale::Nines => (0.0, most.max(0.9), nines(most.max(0.9))),
        };
        Some(Fitted {
            unit: self.unit,
            scale,
            least: scale.of(least),
            most: scale.of(most),
            ticks,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    Linear,
    Log,
    Nines,
}

impl Scale {
    fn has(self, value: f64) -> bool {
        value.is_finite()
            && match self {
                Self::Linear => true,
                Self::Log => value > 0.0,
                Self::Nines => (0.0..1.0).contains(&value),
            }
    }

    fn of(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Log => value.log10(),
            Self::Nines => -(1.0 - value).log10(),
        }
    }
}

/// An axis with its ends.
#[derive(Clone, Debug)]
pub(super) struct Fitted {
    pub(super) unit: Unit,
    scale: Scale,
    least: f64,
    most: f64,
    /// Values that get a line and a label, upwards.
    pub(super) ticks: Vec<f64>,
}

impl Fitted {
    /// The place of a value, 0 to 1; None if the axis has none.
    pub(super) fn place(&self, value: f64) -> Option<f64> {
        let place = (self.scale.of(value) - self.least) / (self.most - self.least);
        (self.scale.has(value) && (-1e-9..=1.0 + 1e-9).contains(&place)).then_some(place)
    }
}

/// Ticks at round values.
fn linear(least: f64, most: f64, ticks: usize, round: bool, unit: Unit) -> (f64, f64, Vec<f64>) {
    // A single value gets some room.
    let span = if most > least {
        most - least
    } else {
        least.abs().max(1.0)
    };
    let most = least + span;
    let step = step(span / count(ticks), unit);
    let end = if round {
        // A little air, so that a line at the top is not taken for the edge.
        (most / step * 1.02).ceil() * step
    } else {
        most
    };
    let mut all = Vec::new();
    // Without the sign of a negative zero.
    let mut tick = (least / step - 1e-9).ceil() * step + 0.0;
    while tick <= end + step * 1e-6 {
        all.push(tick);
        tick += step;
    }
    (least, end, all)
}

/// The next round step that is not smaller: 1, 2 or 5 times a power of ten; of bytes a power of 2.
fn step(least: f64, unit: Unit) -> f64 {
    if unit == Unit::Bytes {
        return least.max(1.0).log2().ceil().exp2();
    }
    let power = 10f64.powf(least.log10().floor());
    let factors = [1.0, 2.0, 5.0, 10.0];
    let fits = factors.iter().find(|f| **f * power >= least * 0.999_999);
    fits.unwrap_or(&10.0) * power
}

/// Ends at 1, 2 or 5 times a power of ten; ticks at as many of those as there is room for.
fn log(least: f64, most: f64, room: usize) -> (f64, f64, Vec<f64>) {
    let mut all: Vec<LogTick> = Vec::new();
    let mut power = least.log10().floor();
    while power <= most.log10().ceil() + 1.0 {
        let tick = |factor: u8| LogTick {
            value: f64::from(factor) * 10f64.powf(power),
            power,
            factor,
        };
        all.extend([1, 2, 5].map(tick));
        power += 1.0;
    }
    let begin = all.iter().rev().find(|t| t.value <= least * 1.000_001);
    let begin = begin.map_or(least, |t| t.value);
    let end = all
        .iter()
        .find(|t| t.value >= most * 0.999_999 && t.value > begin);
    let end = end.map_or(most, |t| t.value);
    all.retain(|tick| (begin..=end).contains(&tick.value));
    // From all of them to ever fewer, as long as two are left to tell the scale.
    let fewer: [fn(&LogTick) -> bool; 5] = [
        |_| true,
        |tick| tick.factor != 2,
        |tick| tick.factor == 1,
        |tick| tick.factor == 1 && tick.power % 2.0 == 0.0,
        |tick| tick.factor == 1 && tick.power % 3.0 == 0.0,
    ];
    for keep in fewer {
        if all.len() <= room.max(2) || all.iter().filter(|tick| keep(tick)).count() < 2 {
            break;
        }
        all.retain(keep);
    }
    (begin, end, all.iter().map(|tick| tick.value).collect())
}

/// `factor` times ten to the `power`.
#[derive(Clone, Copy, Debug)]
struct LogTick {
    value: f64,
    power: f64,
    factor: u8,
}

fn nines(most: f64) -> Vec<f64> {
    let mut all = vec![0.5, 0.9];
    let mut rest = 0.01;
    while 1.0 - rest <= most + 1e-12 && rest > 1e-7 {
        all.push(1.0 - rest);
        rest /= 10.0;
    }
    all
}

#[allow(clippy::cast_precision_loss, reason = "a handful")]
fn count(ticks: usize) -> f64 {
    ticks.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(axis: &Axis, values: &[f64], round: bool) -> Vec<String> {
        let fitted = axis.fit(values.iter().copied(), 5, round).unwrap();
        for tick in &fitted.ticks {
            assert!(fitted.place(*tick).is_some(), "{tick} has no place");
        }
        fitted.ticks.iter().map(|t| fitted.unit.tick(*t)).collect()
    }

    #[test]
    fn linear_ticks_are_round_numbers() {
        let rate = Axis::new("rate", Unit::Count).with_zero();
        assert_eq!(
            ticks(&rate, &[12_345.0, 98_700.0], true),
            ["0", "20k", "40k", "60k", "80k", "100k", "120k"]
        );
        let time = Axis::new("time", Unit::Seconds);
        assert_eq!(
            ticks(&time, &[0.0, 10.0], false),
            ["0", "2 s", "4 s", "6 s", "8 s", "10 s"]
        );
        let memory = Axis::new("memory", Unit::Bytes).with_zero();
        assert_eq!(
            ticks(&memory, &[3e6], true),
            ["0", "1 MiB", "2 MiB", "3 MiB"]
        );
    }

    #[test]
    fn log_ticks_are_decades_when_there_are_many() {
        let axis = Axis::new("latency", Unit::Nanoseconds).log();
        assert_eq!(
            ticks(&axis, &[15e3, 45e6], true),
            ["10 µs", "100 µs", "1 ms", "10 ms"]
        );
        assert_eq!(
            ticks(&axis, &[110e3, 390e3], true),
            ["100 µs", "200 µs", "500 µs"]
        );
        let wide = ticks(&axis, &[1.0, 1e12], true);
        assert!((2..=7).contains(&wide.len()), "{wide:?}");
    }

    #[test]
    fn each_nine_takes_the_same_place() {
        let axis = Axis::new("percentile", Unit::Quantile);
        let fitted = axis.fit([0.0, 0.9999].into_iter(), 5, true).unwrap();
        let labels: Vec<String> = fitted.ticks.iter().map(|t| fitted.unit.tick(*t)).collect();
        assert_eq!(labels, ["p50", "p90", "p99", "p99.9", "p99.99"]);
        let at = |q| fitted.place(q).unwrap();
        assert!((at(0.99) - at(0.9) - (at(0.999) - at(0.99))).abs() < 1e-9);
    }

    #[test]
    fn values_without_a_place_are_left_out() {
        let log = Axis::new("x", Unit::Plain).log();
        assert!(
            log.fit([0.0, -1.0, f64::NAN].into_iter(), 5, true)
                .is_none()
        );
        let fitted = log.fit([0.0, 1.0, 10.0].into_iter(), 5, true).unwrap();
        assert_eq!(fitted.place(0.0), None);
        assert_eq!(fitted.place(f64::INFINITY), None);
        assert_eq!(fitted.place(1.0), Some(0.0));
    }

    #[test]
    fn a_single_value_still_makes_an_axis() {
        for value in [0.0, 1.0, 7e5] {
            for axis in [
                Axis::new("x", Unit::Count),
                Axis::new("x", Unit::Count).with_zero(),
            ] {
                let fitted = axis.fit([value].into_iter(), 5, true).unwrap();
                assert!(fitted.place(value).unwrap().is_finite());
                assert!(!fitted.ticks.is_empty());
            }
        }
        let fitted = Axis::new("x", Unit::Count)
            .log()
            .fit([5.0].into_iter(), 5, true)
            .unwrap();
        assert!(fitted.place(5.0).unwrap().is_finite());
    }
}
