//! Fitting a cost to what was measured.
//!
//! Costs are sums of terms that cannot be negative: so much for each message, so much for each KiB
//! of it, each once for the way in and once for each delivery. The fit makes the sum of squared
//! *relative* errors as small as it can, so that a small message's 1 µs counts as much as a large
//! one's 10 µs.

/// One measurement: the values of the terms, and what was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Row<const N: usize> {
    pub terms: [f64; N],
    pub value: f64,
}

/// Fitted coefficients and how well they do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fit<const N: usize> {
    pub coefficients: [f64; N],
    /// The largest relative error over the points it was fitted to; 0.1 is ten per cent.
    pub worst: f64,
    /// The mean of the relative errors.
    pub mean: f64,
    /// The largest relative error for a point that was left out of the fit; `None` when too few
    /// are left without it. An outermost point is extrapolated to then: this is a hard test.
    pub left_out_worst: Option<f64>,
    /// The mean of those.
    pub left_out_mean: Option<f64>,
}

/// Rounds of the descent at most; a fit of a handful of points takes some hundred.
const ROUNDS_MAX: usize = 200_000;

/// A round that changes no prediction by more than this part of it is the last.
const TOLERANCE: f64 = 1e-12;

/// Fits non-negative coefficients; `None` when the rows cannot tell the terms apart, or hold a
/// value that is not above zero.
pub(crate) fn fit<const N: usize>(rows: &[Row<N>]) -> Option<Fit<N>> {
    let coefficients = coefficients(rows)?;
    let errors: Vec<f64> = rows.iter().map(|row| error(&coefficients, row)).collect();
    let left_out: Vec<f64> = (0..rows.len())
        .filter_map(|out| {
            let mut others = rows.to_vec();
            let row = others.remove(out);
            Some(error(&self::coefficients(&others)?, &row))
        })
        .collect();
    let complete = left_out.len() == rows.len();
    Some(Fit {
        coefficients,
        worst: worst(&errors),
        mean: mean(&errors),
        left_out_worst: complete.then(|| worst(&left_out)),
        left_out_mean: complete.then(|| mean(&left_out)),
    })
}

/// What the coefficients say for these terms.
pub(crate) fn predict<const N: usize>(coefficients: &[f64; N], terms: &[f64; N]) -> f64 {
    coefficients.iter().zip(terms).map(|(c, t)| c * t).sum()
}

/// Coordinate descent: one coefficient after the other takes the value that is best while the
/// others stay, or zero where that would be negative. The problem is convex, so it ends at the
/// best of all.
fn coefficients<const N: usize>(rows: &[Row<N>]) -> Option<[f64; N]> {
    if !rows.iter().all(|row| row.value > 0.0) || rank(rows) < N {
        return None;
    }
    // Relative errors: each row is divided by its value, which becomes 1.
    let scaled: Vec<[f64; N]> = rows
        .iter()
        .map(|row| row.terms.map(|term| term / row.value))
        .collect();
    let mut found = [0.0; N];
    let mut residuals = vec![1.0; rows.len()];
    for _ in 0..ROUNDS_MAX {
        let mut moved: f64 = 0.0;
        for (term, coefficient) in found.iter_mut().enumerate() {
            let column = || {
                scaled
                    .iter()
                    .map(|row| row.get(term).copied().unwrap_or(0.0))
            };
            let square: f64 = column().map(|x| x * x).sum();
            let slope: f64 = column().zip(&residuals).map(|(x, r)| x * r).sum();
            let step = (*coefficient + slope / square).max(0.0) - *coefficient;
            *coefficient += step;
            for (residual, x) in residuals.iter_mut().zip(column()) {
                *residual -= step * x;
                moved = moved.max((step * x).abs());
            }
        }
        if moved < TOLERANCE {
            break;
        }
    }
    Some(found)
}

/// How many of the terms the rows can tell apart: Gram-Schmidt over the columns.
fn rank<const N: usize>(rows: &[Row<N>]) -> usize {
    let mut basis: Vec<Vec<f64>> = Vec::new();
    for term in 0..N {
        let mut column: Vec<f64> = rows
            .iter()
            .map(|row| row.terms.get(term).copied().unwrap_or(0.0))
            .collect();
        let before = norm(&column);
        for unit in &basis {
            let along: f64 = column.iter().zip(unit).map(|(x, u)| x * u).sum();
            for (x, u) in column.iter_mut().zip(unit) {
                *x -= along * u;
            }
        }
        let rest = norm(&column);
        if rest > before * 1e-9 {
            basis.push(column.iter().map(|x| x / rest).collect());
        }
    }
    basis.len()
}

fn norm(column: &[f64]) -> f64 {
    column.iter().map(|x| x * x).sum::<f64>().sqrt()
}

fn error<const N: usize>(coefficients: &[f64; N], row: &Row<N>) -> f64 {
    (predict(coefficients, &row.terms) / row.value - 1.0).abs()
}

fn worst(errors: &[f64]) -> f64 {
    errors.iter().copied().fold(0.0, f64::max)
}

fn mean(errors: &[f64]) -> f64 {
    let count = u32::try_from(errors.len()).map_or(f64::INFINITY, f64::from);
    errors.iter().sum::<f64>() / count
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    fn row(kib: f64, value: f64) -> Row<2> {
        Row {
            terms: [1.0, kib],
            value,
        }
    }

    #[test]
    fn line_through_two_points_is_found() {
        // 1 µs and 0.5 µs for each KiB.
        let fit = fit(&[row(1.0, 1.5), row(8.0, 5.0)]).unwrap();
        assert!((fit.coefficients[0] - 1.0).abs() < 1e-6);
        assert!((fit.coefficients[1] - 0.5).abs() < 1e-6);
        assert!(fit.worst < 1e-6);
        assert_eq!(fit.left_out_worst, None);
    }

    #[test]
    fn relative_errors_are_weighed_and_not_absolute_ones() {
        // A constant through 1 and 3: the sum of (c - 1)² + (c/3 - 1)² is least at c = 1.2.
        let rows = [1.0, 3.0].map(|value| Row {
            terms: [1.0],
            value,
        });
        let fit = fit(&rows).unwrap();
        assert!((fit.coefficients[0] - 1.2).abs() < 1e-9);
        assert!(
            (fit.worst - 0.6).abs() < 1e-9,
            "1.2 for 3 is 60 % too little"
        );
        assert!((fit.mean - 0.4).abs() < 1e-9, "the other is 20 % too much");
        // Without one of the two, the other is the prediction: 1 for 3, and 3 for 1.
        assert!((fit.left_out_worst.unwrap() - 2.0).abs() < 1e-9);
    }

    #[test]
    fn falling_costs_do_not_give_a_negative_price_for_a_byte() {
        let fit = fit(&[row(1.0, 2.0), row(2.0, 1.5), row(8.0, 1.0)]).unwrap();
        assert_eq!(fit.coefficients[1], 0.0);
        assert!(fit.coefficients[0] > 1.0 && fit.coefficients[0] < 2.0);
    }

    #[test]
    fn terms_that_never_vary_are_refused() {
        assert_eq!(fit(&[row(1.0, 1.0), row(1.0, 1.1)]), None);
        assert_eq!(fit::<2>(&[]), None);
        assert_eq!(fit(&[row(1.0, 0.0), row(2.0, 1.0)]), None);
        assert_eq!(fit(&[row(1.0, f64::NAN), row(2.0, 1.0)]), None);
    }

    proptest! {
        #[test]
        fn four_terms_are_found_again_whatever_they_are(
            wanted in prop::array::uniform4(0.01f64..10.0),
        ) {
            let mut rows = Vec::new();
            for fan_out in [1.0, 4.0] {
                for kib in [0.125, 1.0, 8.0] {
                    let terms = [1.0, kib, fan_out, fan_out * kib];
                    rows.push(Row { terms, value: predict(&wanted, &terms) });
                }
            }
            let fit = fit(&rows).unwrap();
            prop_assert!(fit.worst < 1e-6, "{fit:?}");
            // A scenario between the points.
            let terms = [1.0, 0.5, 3.0, 1.5];
            let ratio = predict(&fit.coefficients, &terms) / predict(&wanted, &terms);
            prop_assert!((ratio - 1.0).abs() < 1e-4, "{ratio}");
        }

        #[test]
        fn no_other_line_has_a_smaller_sum_of_squares(
            values in prop::array::uniform4(0.5f64..20.0),
            nudge in prop::array::uniform2(-0.05f64..0.05),
        ) {
            let rows: Vec<Row<2>> =
                [0.125, 1.0, 4.0, 16.0].into_iter().zip(values).map(|(k, v)| row(k, v)).collect();
            let sum = |c: &[f64; 2]| rows.iter().map(|r| error(c, r).powi(2)).sum::<f64>();
            let found = fit(&rows).unwrap().coefficients;
            let other = [(found[0] + nudge[0]).max(0.0), (found[1] + nudge[1]).max(0.0)];
            prop_assert!(sum(&found) <= sum(&other) + 1e-9);
        }

        #[test]
        fn costs_in_another_unit_give_the_same_errors(
            values in prop::array::uniform3(0.5f64..20.0),
            unit in 0.001f64..1000.0,
        ) {
            let rows = |unit: f64| -> Vec<Row<2>> {
                [0.125, 1.0, 8.0].into_iter().zip(values).map(|(k, v)| row(k, v * unit)).collect()
            };
            let (one, other) = (fit(&rows(1.0)).unwrap(), fit(&rows(unit)).unwrap());
            prop_assert!((one.worst - other.worst).abs() < 1e-6);
            prop_assert!((one.coefficients[0] * unit - other.coefficients[0]).abs() < 1e-5 * unit);
        }
    }
}
