//! Figures as people read them, spelled as the reference spells them.

/// Days of four centuries.
const ERA_DAYS: i64 = 146_097;

/// A count with commas: `1,234,567`.
pub(in crate::http) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes in decimal units: `999 B`, `1.5 kB`, `18 MB`.
pub(in crate::http) fn bytes(number: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if number < 1_000 {
        return format!("{number} B");
    }
    let (mut unit, mut name) = (1_000_u64, "kB");
    for next in UNITS.into_iter().skip(1) {
        match unit.checked_mul(1_000).filter(|larger| number >= *larger) {
            Some(larger) => (unit, name) = (larger, next),
            None => break,
        }
    }
    // In tenths, rounded.
    let tenths = (u128::from(number) * 10 + u128::from(unit) / 2) / u128::from(unit);
    if tenths < 100 {
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    } else {
        let whole = (u128::from(number) + u128::from(unit) / 2) / u128::from(unit);
        format!("{whole} {name}")
    }
}

/// How long ago something was; both in milliseconds since 1970, 0: never.
pub(in crate::http) fn ago(then_ms: u64, now_ms: u64) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    const WEEK: u64 = 7 * DAY;
    const MONTH: u64 = 30 * DAY;
    const YEAR: u64 = 12 * MONTH;
    const LONG: u64 = 37 * YEAR;
    let seconds = now_ms.saturating_sub(then_ms) / 1_000;
    let of = |unit: u64, one: &str, many: &str| match seconds / unit {
        0 | 1 => format!("1 {one} ago"),
        number => format!("{number} {many} ago"),
    };
    match seconds {
        0 => "now".to_owned(),
        1..MINUTE => of(1, "second", "seconds"),
        MINUTE..HOUR => of(MINUTE, "minute", "minutes"),
        HOUR..DAY => of(HOUR, "hour", "hours"),
        DAY..WEEK => of(DAY, "day", "days"),
        WEEK..MONTH => of(WEEK, "week", "weeks"),
        MONTH..YEAR => of(MONTH, "month", "months"),
        YEAR..LONG => of(YEAR, "year", "years"),
        _ => "a long while ago".to_owned(),
    }
}

/// A time that something has taken: `45s`, `8m32s`, `2h0m5s`.
pub(in crate::http) fn duration(seconds: u64) -> String {
    let (hours, minutes, rest) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, minutes) => format!("{minutes}m{rest}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{rest}s"),
    }
}

/// A part of a whole in per cent, with one digit behind the point.
pub(in crate::http) fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "0%".to_owned();
    }
    let whole = u128::from(whole);
    let tenths = (u128::from(part) * 1_000 + whole / 2) / whole;
    format!("{}.{}%", tenths / 10, tenths % 10)
}

/// A moment as RFC 3339 in UTC, of nanoseconds since 1970.
pub(in crate::http) fn rfc3339(unix_ns: i64) -> String {
    let fraction = unix_ns.rem_euclid(1_000_000_000);
    let (date, time) = date_and_time(unix_ns.div_euclid(1_000_000_000));
    format!("{date}T{time}.{fraction:09}Z")
}

/// A moment for people, in UTC, of seconds since 1970.
pub(in crate::http) fn moment(unix_seconds: i64) -> String {
    let (date, time) = date_and_time(unix_seconds);
    format!("{date} {time}")
}

fn date_and_time(unix_seconds: i64) -> (String, String) {
    let (days, seconds) = (
        unix_seconds.div_euclid(86_400),
        unix_seconds.rem_euclid(86_400),
    );
    // Eras of 400 years that begin on the first of March: a leap day is the last one of its year.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(ERA_DAYS), shifted.rem_euclid(ERA_DAYS));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = month_from_march % 12 + if month_from_march < 10 { 3 } else { -9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hours, minutes, rest) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    (
        format!("{year:04}-{month:02}-{day:02}"),
        format!("{hours:02}:{minutes:02}:{rest:02}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_commas_between_thousands() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (12_345_678, "12,345,678"),
        ] {
            assert_eq!(count(number), text);
        }
    }

    #[test]
    fn bytes_are_decimal_and_rounded() {
        for (number, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (1_549, "1.5 kB"),
            (9_999, "10 kB"),
            (18_400_000, "18 MB"),
            (2_000_000_000, "2.0 GB"),
            (u64::MAX, "18 EB"),
        ] {
            assert_eq!(bytes(number), text, "{number}");
        }
    }

    #[test]
    fn the_past_is_told_in_one_unit() {
        let now = 2_000_000_000_000;
        for (seconds, text) in [
            (0, "now"),
            (1, "1 second ago"),
            (59, "59 seconds ago"),
            (60, "1 minute ago"),
            (119, "1 minute ago"),
            (7_200, "2 hours ago"),
            (86_400, "1 day ago"),
            (8 * 86_400, "1 week ago"),
            (70 * 86_400, "2 months ago"),
            (800 * 86_400, "2 years ago"),
        ] {
            assert_eq!(ago(now - seconds * 1_000, now), text);
        }
        assert_eq!(ago(0, now), "a long while ago");
        assert_eq!(ago(now + 5_000, now), "now");
    }

    #[test]
    fn durations_leave_out_what_they_do_not_reach() {
        for (seconds, text) in [(0, "0s"), (45, "45s"), (512, "8m32s"), (7_205, "2h0m5s")] {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn shares_have_one_digit_behind_the_point() {
        assert_eq!(share(6, 23), "26.1%");
        assert_eq!(
            (share(0, 0), share(1, 1)),
            ("0%".to_owned(), "100.0%".to_owned())
        );
    }

    #[test]
    fn moments_are_those_of_the_calendar() {
        assert_eq!(moment(0), "1970-01-01 00:00:00");
        assert_eq!(moment(951_782_399), "2000-02-28 23:59:59");
        assert_eq!(moment(951_782_400), "2000-02-29 00:00:00");
        assert_eq!(moment(1_735_689_599), "2024-12-31 23:59:59");
        assert_eq!(moment(4_107_542_400), "2100-03-01 00:00:00");
        assert_eq!(
            rfc3339(1_700_000_000_123_456_789),
            "2023-11-14T22:13:20.123456789Z"
        );
    }
}
