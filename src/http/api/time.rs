//! Points in time as people and tools write them, in UTC.

/// Nanoseconds of a second, and seconds of a day.
const SECOND_NS: i64 = 1_000_000_000;
const DAY: i64 = 86_400;

/// A point in time by the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Calendar {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    nanosecond: i64,
}

impl Calendar {
    /// From nanoseconds since 1970; days are counted from the first of March, so that a leap day
    /// is the last of its year.
    fn new(ns: i64) -> Self {
        let seconds = ns.div_euclid(SECOND_NS);
        let days = seconds.div_euclid(DAY) + 719_468;
        let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * of_year + 2) / 153;
        let month = if march_month < 10 {
            march_month + 3
        } else {
            march_month - 9
        };
        let of_day = seconds.rem_euclid(DAY);
        Self {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month,
            day: of_year - (153 * march_month + 2) / 5 + 1,
            hour: of_day / 3_600,
            minute: of_day / 60 % 60,
            second: of_day % 60,
            nanosecond: ns.rem_euclid(SECOND_NS),
        }
    }

    /// To nanoseconds since 1970; `None` beyond what these can say.
    fn to_ns(self) -> Option<i64> {
        let year = self.year - i64::from(self.month <= 2);
        let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let march_month = (self.month + 9) % 12;
        let of_year = (153 * march_month + 2) / 5 + self.day - 1;
        let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
        let days = era * 146_097 + of_era - 719_468;
        let seconds = days * DAY + self.hour * 3_600 + self.minute * 60 + self.second;
        seconds.checked_mul(SECOND_NS)?.checked_add(self.nanosecond)
    }

    fn date(&self) -> String {
        format!("{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }

    fn time(&self) -> String {
        format!("{:02}:{:02}:{:02}", self.hour, self.minute, self.second)
    }
}

/// As RFC 3339 has it, with milliseconds: `2026-11-21T18:04:05.006Z`.
pub(super) fn rfc3339(ns: i64) -> String {
    let calendar = Calendar::new(ns);
    let ms = calendar.nanosecond / 1_000_000;
    format!("{}T{}.{ms:03}Z", calendar.date(), calendar.time())
}

/// As people read it, to the second: `2026-11-21 18:04:05`.
pub(super) fn readable(ns: i64) -> String {
    let calendar = Calendar::new(ns);
    format!("{} {}", calendar.date(), calendar.time())
}

/// Reads what RFC 3339 allows; nanoseconds since 1970.
pub(super) fn parse_rfc3339(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = text.get(from..to)?;
        let all = digits.bytes().all(|byte| byte.is_ascii_digit());
        all.then(|| digits.parse().ok())?
    };
    let is = |at: usize, expected: &[u8]| bytes.get(at).is_some_and(|byte| expected.contains(byte));
    let separated = is(4, b"-") && is(7, b"-") && is(10, b"Tt") && is(13, b":") && is(16, b":");
    let mut calendar = Calendar {
        year: number(0, 4)?,
        month: number(5, 7)?,
        day: number(8, 10)?,
        hour: number(11, 13)?,
        minute: number(14, 16)?,
        second: number(17, 19)?,
        nanosecond: 0,
    };
    let mut rest = text.get(19..)?;
    if let Some(fraction) = rest.strip_prefix('.') {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        let kept: String = fraction.chars().take(digits.min(9)).collect();
        calendar.nanosecond = format!("{kept:0<9}").parse().ok()?;
        rest = fraction.get(digits..).filter(|_| digits > 0)?;
    }
    let ns = calendar.to_ns()?;
    // What a month does not have comes out as a day of the next one.
    let exact = Calendar::new(ns) == calendar;
    (separated && exact).then_some(())?;
    ns.checked_sub(offset_ns(rest)?)
}

/// `Z`, or a distance from UTC as `+02:00`.
fn offset_ns(text: &str) -> Option<i64> {
    if text.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let digits = |text: &str, max: i64| -> Option<i64> {
        let all = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = all.then(|| text.parse().ok())??;
        (number < max).then_some(number)
    };
    let seconds = digits(hours, 24)? * 3_600 + digits(minutes, 60)? * 60;
    Some(sign * seconds * SECOND_NS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_points_in_time_are_written_as_the_calendar_has_them() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(readable(1_000_000_000_000_000_000), "2001-09-09 01:46:40");
        assert_eq!(rfc3339(951_782_400_123_000_000), "2000-02-29T00:00:00.123Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59.999Z");
    }

    #[test]
    fn what_rfc_3339_allows_is_read_and_nothing_else() {
        let at = 951_782_400_000_000_000;
        for text in [
            "2000-02-29T00:00:00Z",
            "2000-02-29t00:00:00.000z",
            "2000-02-29T02:30:00+02:30",
            "2000-02-28T23:00:00-01:00",
        ] {
            assert_eq!(parse_rfc3339(text), Some(at), "{text}");
        }
        assert_eq!(
            parse_rfc3339("2000-02-29T00:00:00.1234567899Z"),
            Some(at + 123_456_789)
        );
        for text in [
            "",
            "zzz",
            "2001-02-29T00:00:00Z",
            "2000-13-01T00:00:00Z",
            "2000-02-29T24:00:00Z",
            "2000-02-29 00:00:00Z",
            "2000-02-29T00:00:00",
            "2000-02-29T00:00:00.Z",
            "2000-02-29T00:00:00+0200",
            "+000-02-29T00:00:00Z",
            "2000-02-29T00:00:0éZ",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(ms in -9_000_000_000_000_i64..9_000_000_000_000) {
            let ns = ms * 1_000_000;
            prop_assert_eq!(parse_rfc3339(&rfc3339(ns)), Some(ns));
        }
    }
}
