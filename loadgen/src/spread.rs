//! Figures that were measured several times: the median, with the least and the most beside it.

use serde::{Deserialize, Serialize};

/// The middle of some measurements and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub least: f64,
    pub median: f64,
    pub most: f64,
    pub count: usize,
}

impl Spread {
    /// The spread of finite values; `None` when there are none.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|v| v.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let count = values.len();
        let upper = *values.get(count / 2)?;
        let median = match count % 2 {
            1 => upper,
            _ => f64::midpoint(*values.get(count / 2 - 1)?, upper),
        };
        Some(Self {
            least: *values.first()?,
            median,
            most: *values.last()?,
            count,
        })
    }

    /// `1.04 (0.92–1.36)`; a single measurement stands alone.
    pub(crate) fn text(&self, show: impl Fn(f64) -> String) -> String {
        match self.count {
            1 => show(self.median),
            _ => format!(
                "{} ({}–{})",
                show(self.median),
                show(self.least),
                show(self.most)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    #[test]
    fn median_of_an_odd_count_is_the_middle_one() {
        let spread = Spread::of([3.0, 1.0, 2.0]).unwrap();
        assert_eq!((spread.least, spread.median, spread.most), (1.0, 2.0, 3.0));
    }

    #[test]
    fn median_of_an_even_count_lies_between_the_two_in_the_middle() {
        let spread = Spread::of([4.0, 1.0, 2.0, 100.0]).unwrap();
        assert_eq!(spread.median, 3.0);
        assert_eq!(spread.most, 100.0);
    }

    #[test]
    fn nothing_has_no_spread_and_what_is_not_finite_does_not_count() {
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([f64::NAN, f64::INFINITY]), None);
        assert_eq!(Spread::of([f64::NAN, 1.0]).unwrap().count, 1);
    }

    #[test]
    fn single_measurement_stands_alone() {
        let one = Spread::of([1.5]).unwrap();
        let three = Spread::of([1.0, 2.0, 4.0]).unwrap();
        assert_eq!(one.text(|v| format!("{v}")), "1.5");
        assert_eq!(three.text(|v| format!("{v}")), "2 (1–4)");
    }

    proptest! {
        #[test]
        fn median_lies_within_and_half_of_the_values_on_each_side(
            values in prop::collection::vec(-1e6f64..1e6, 1..40),
        ) {
            let spread = Spread::of(values.iter().copied()).unwrap();
            prop_assert!(spread.least <= spread.median && spread.median <= spread.most);
            let below = values.iter().filter(|&&v| v < spread.median).count();
            let above = values.iter().filter(|&&v| v > spread.median).count();
            prop_assert!(below * 2 <= values.len() && above * 2 <= values.len());
        }
    }
}
