//! Durations, times and tags, as people write them.

use std::time::Duration;

/// A duration such as `500ms`, `30s`, `5m`, `1h`, `2d`; a bare number counts seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration; write it as 500ms, 30s, 5m, 1h or 2d");
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end).ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    number
        .checked_mul(unit_ms)
        .map(Duration::from_millis)
        .ok_or_else(wrong)
}

/// A duration in whole seconds, as queues take them.
pub(super) fn seconds(text: &str) -> Result<i32, String> {
    let duration = duration(text)?;
    if duration.subsec_nanos() > 0 {
        return Err(format!("{text:?} is not a whole number of seconds"));
    }
    i32::try_from(duration.as_secs()).map_err(|_| format!("{text:?} is too long"))
}

/// A tag, as `KEY=VALUE`.
pub(super) fn tag(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a tag is written KEY=VALUE".to_owned()),
    }
}

/// Messages a second, as `100` or `100/s`.
pub(super) fn rate(text: &str) -> Result<u64, String> {
    let number = text.strip_suffix("/s").unwrap_or(text);
    let wrong = |_| "it must be a whole number, as 100 or 100/s".to_owned();
    number.parse().map_err(wrong)
}

/// A moment in unix nanoseconds: RFC 3339, the same with a blank and without an offset (UTC), or
/// unix seconds.
pub(super) fn time(text: &str) -> Result<i64, String> {
    let wrong = || {
        format!("{text:?} is no time; write it as 2026-11-21T18:30:00Z, 2026-11-21 18:30:00 (UTC)")
    };
    if let Ok(seconds) = text.parse::<i64>() {
        return seconds.checked_mul(1_000_000_000).ok_or_else(wrong);
    }
    let (date, clock) = text.split_once(['T', 't', ' ']).ok_or_else(wrong)?;
    let mut parts = date.split('-').map(str::parse::<i64>);
    let mut part = || parts.next().and_then(Result::ok);
    let (year, month, day) = (part(), part(), part());
    let (Some(year), Some(month @ 1..=12), Some(day @ 1..=31)) = (year, month, day) else {
        return Err(wrong());
    };
    let (clock, offset_s) = offset(clock).ok_or_else(wrong)?;
    let clock_ns = clock_ns(clock).ok_or_else(wrong)?;
    let seconds = days_of(year, month, day) * 86_400 - offset_s;
    let ns = seconds.checked_mul(1_000_000_000);
    ns.and_then(|ns| ns.checked_add(clock_ns)).ok_or_else(wrong)
}

/// Splits the offset off a clock time; in seconds, none is UTC.
fn offset(clock: &str) -> Option<(&str, i64)> {
    if let Some(clock) = clock.strip_suffix(['Z', 'z']) {
        return Some((clock, 0));
    }
    let Some(at) = clock.rfind(['+', '-']) else {
        return Some((clock, 0));
    };
    let (clock, offset) = clock.split_at_checked(at)?;
    let sign = if offset.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    Some((clock, sign * (hours * 3_600 + minutes * 60)))
}

/// Nanoseconds since midnight of `18:30`, `18:30:00` or `18:30:00.25`.
fn clock_ns(text: &str) -> Option<i64> {
    let mut parts = text.split(':');
    let hour: i64 = parts.next()?.parse().ok()?;
    let minute: i64 = parts.next()?.parse().ok()?;
    let (second, fraction) = match parts.next() {
        None => (0, ""),
        Some(text) => {
            let (second, fraction) = text.split_once('.').unwrap_or((text, ""));
            (second.parse::<i64>().ok()?, fraction)
        }
    };
    let in_day = (0..24).contains(&hour) && (0..60).contains(&minute) && (0..=60).contains(&second);
    if !in_day || parts.next().is_some() || fraction.len() > 9 {
        return None;
    }
    let digits = format!("{fraction:0<9}");
    let nanos: i64 = digits.parse().ok()?;
    Some((hour * 3_600 + minute * 60 + second) * 1_000_000_000 + nanos)
}

/// Days since 1970-01-01. Years begin in March here, so that a leap day is the last of its year.
const fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let round = year.div_euclid(400);
    let of_round = year.rem_euclid(400);
    let month = (month + 9) % 12;
    let of_year = (153 * month + 2) / 5 + day - 1;
    let of_days = of_round * 365 + of_round / 4 - of_round / 100 + of_year;
    round * 146_097 + of_days - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        let ms = |text| duration(text).unwrap().as_millis();
        let durations = ["250ms", "3", "3s", "5m", "1h", "2d"].map(ms);
        assert_eq!(
            durations,
            [250, 3_000, 3_000, 300_000, 3_600_000, 172_800_000]
        );
        for wrong in ["", "s", "1w", "-1", "1.5s", "99999999999999999999"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(seconds("2m"), Ok(120));
        assert!(seconds("1500ms").unwrap_err().contains("whole"));
    }

    /// Seconds as `date -u -d` prints them.
    #[test]
    fn times_are_those_of_the_calendar() {
        let second = |text| time(text).unwrap() / 1_000_000_000;
        assert_eq!(second("1970-01-01T00:00:00Z"), 0);
        assert_eq!(second("2000-02-29T00:00:00Z"), 951_782_400);
        assert_eq!(second("2024-02-29 23:59:59"), 1_709_251_199);
        assert_eq!(second("2026-11-21T02:00:00+02:00"), 1_795_219_200);
        assert_eq!(second("2026-11-20T19:00-05:00"), 1_795_219_200);
        assert_eq!(second("1795219200"), 1_795_219_200);
        assert_eq!(time("1970-01-01T00:00:01.25Z"), Ok(1_250_000_000));
        for wrong in [
            "",
            "yesterday",
            "2026-13-01T00:00:00Z",
            "2026-01-01T25:00:00Z",
        ] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn tags_have_a_key_and_a_value() {
        assert_eq!(tag("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(tag("a").is_err() && tag("=b").is_err());
        assert_eq!([rate("100"), rate("100/s")], [Ok(100), Ok(100)]);
        assert!(rate("100/m").is_err());
    }
}
