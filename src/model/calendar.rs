//! Moments as people write them.

/// A moment in UTC, as RFC 3339 has it, to the millisecond. What lies before 1970 is shown as
/// its beginning.
#[must_use]
pub fn rfc3339_ms(unix_ns: i64) -> String {
    let ms = u64::try_from(unix_ns / 1_000_000).unwrap_or(0);
    let (seconds, ms) = (ms / 1_000, ms % 1_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{ms:03}Z",
        second / 3_600,
        second / 60 % 60,
        second % 60
    )
}

/// The date so many days behind 1970-01-01. Years begin in March here, so that a leap day is the
/// last day of its year; 400 years are one round.
#[must_use]
pub fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (round, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (round * 400 + year + next, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds as `date -u -d` prints them.
    #[test]
    fn moments_are_those_of_the_calendar() {
        for (ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_007, "2000-02-29T00:00:00.007Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_795_219_200_000, "2026-11-21T00:00:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339_ms(ms * 1_000_000 + 999_999), expected);
        }
        assert_eq!(rfc3339_ms(i64::MIN), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339_ms(i64::MAX), "2262-04-11T23:47:16.854Z");
    }
}
