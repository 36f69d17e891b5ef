//! Figures for people: three digits, the unit that fits, thousands apart.

use crate::outcome::number;

/// Nanoseconds, in the unit that fits: `850 ns`, `12.3 µs`, `1.04 s`.
pub(crate) fn time(ns: u64) -> String {
    time_f(number(ns))
}

/// As [`time`], for fractions.
pub(crate) fn time_f(ns: f64) -> String {
    scaled(ns, 1_000.0, &["ns", "µs", "ms", "s"])
}

/// Bytes in powers of 1024.
pub(crate) fn bytes(bytes: f64) -> String {
    scaled(bytes, 1_024.0, &["B", "KiB", "MiB", "GiB", "TiB"])
}

/// A count or a rate in short, as on the axes of plots: `950`, `12.3k`, `1.2M`.
pub(crate) fn short(count: f64) -> String {
    let text = scaled(count, 1_000.0, &["", "k", "M", "G"]);
    text.replace(' ', "")
}

/// A count in full, thousands apart.
pub(crate) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Messages a second. Whole ones when there are many.
pub(crate) fn rate(per_second: f64) -> String {
    if per_second < 100.0 {
        return format!("{}/s", digits(per_second));
    }
    format!("{}/s", count(rounded(per_second)))
}

/// A part of a whole, 0 to 1, in percent.
pub(crate) fn percent(part: f64) -> String {
    format!("{} %", digits(part * 100.0))
}

/// Seconds: `0.5 s`, `10 s`, `2 min 5 s`.
pub(crate) fn seconds(seconds: f64) -> String {
    if seconds < 120.0 {
        let text = format!("{seconds:.1}");
        return format!("{} s", text.strip_suffix(".0").unwrap_or(&text));
    }
    let whole = rounded(seconds);
    match (whole / 60, whole % 60) {
        (minutes, 0) => format!("{minutes} min"),
        (minutes, rest) => format!("{minutes} min {rest} s"),
    }
}

/// The moment in UTC: `2026-11-21 15:04:05 UTC`.
pub(crate) fn moment(unix_ms: u64) -> String {
    let seconds = unix_ms / 1_000;
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// Three significant digits, without an exponent.
pub(crate) fn digits(value: f64) -> String {
    let size = value.abs();
    if size >= 99.95 {
        format!("{value:.0}")
    } else if size >= 9.995 {
        format!("{value:.1}")
    } else if value == 0.0 {
        "0".into()
    } else {
        format!("{value:.2}")
    }
}

/// `2.50 ms` as `2.5 ms`.
pub(crate) fn without_zeros(text: &str) -> String {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && !".-".contains(c))
        .unwrap_or(text.len());
    let (figure, unit) = text.split_at(end);
    if !figure.contains('.') {
        return text.to_owned();
    }
    let figure = figure.trim_end_matches('0').trim_end_matches('.');
    format!("{figure}{unit}")
}

/// The nearest whole number; negative ones are 0.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates, and figures are for people"
)]
pub(crate) fn rounded(value: f64) -> u64 {
    value.round() as u64
}

/// `value` in the largest of `units` in which it is at least 1, each `step` times the one before.
fn scaled(mut value: f64, step: f64, units: &[&str]) -> String {
    let mut at = units.first().copied().unwrap_or_default();
    let mut whole = true;
    for unit in units.iter().skip(1) {
        // What would be printed as 1000 belongs to the next unit.
        if value.abs() < step - 0.5 {
            break;
        }
        value /= step;
        at = unit;
        whole = false;
    }
    // There are no parts of the smallest unit, unless somebody measured some.
    if whole && value.fract() == 0.0 {
        return format!("{value:.0} {at}");
    }
    format!("{} {at}", digits(value))
}

/// The date of a day since 1970, in the Gregorian calendar: eras of 400 years that begin in March,
/// so that the leap day is the last one.
const fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400;
    (if month <= 2 { year + 1 } else { year }, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_take_the_unit_that_fits() {
        let cases = [
            (0, "0 ns"),
            (850, "850 ns"),
            (999, "999 ns"),
            (1_000, "1.00 µs"),
            (12_345, "12.3 µs"),
            (99_960, "100 µs"),
            (999_600, "1.00 ms"),
            (1_234_567, "1.23 ms"),
            (61_000_000_000, "61.0 s"),
            (3_600_000_000_000, "3600 s"),
        ];
        for (ns, text) in cases {
            assert_eq!(time(ns), text, "{ns}");
        }
        assert_eq!(time_f(0.25), "0.25 ns");
    }

    #[test]
    fn counts_have_their_thousands_apart() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_000), "1,000");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(rate(1_234_567.4), "1,234,567/s");
        assert_eq!(rate(12.0), "12.0/s");
        assert_eq!(short(12_300.0), "12.3k");
        assert_eq!(short(950.0), "950");
        assert_eq!(short(2_500_000.0), "2.50M");
    }

    #[test]
    fn bytes_percents_and_seconds_read_well() {
        assert_eq!(bytes(1_023.0), "1023 B");
        assert_eq!(bytes(1_536.0), "1.50 KiB");
        assert_eq!(bytes(5e9), "4.66 GiB");
        assert_eq!(without_zeros(&bytes(2_560.0)), "2.5 KiB");
        assert_eq!(without_zeros("100 s"), "100 s");
        assert_eq!(percent(0.5), "50.0 %");
        assert_eq!(percent(1.0), "100 %");
        assert_eq!(seconds(10.0), "10 s");
        assert_eq!(seconds(0.5), "0.5 s");
        assert_eq!(seconds(125.0), "2 min 5 s");
        assert_eq!(seconds(180.0), "3 min");
    }

    #[test]
    fn a_moment_is_a_date_and_a_time() {
        assert_eq!(moment(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(moment(951_782_400_000), "2000-02-29 00:00:00 UTC");
        assert_eq!(moment(1_709_164_799_999), "2024-02-28 23:59:59 UTC");
        assert_eq!(moment(1_709_251_200_000), "2024-03-01 00:00:00 UTC");
        assert_eq!(moment(1_795_273_445_000), "2026-11-21 15:04:05 UTC");
    }
}
