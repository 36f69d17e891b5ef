//! The `grpc-timeout` header: at most eight digits and a unit.

use std::time::Duration;

/// Reads a timeout. The text of the error is the one that Go servers answer.
///
/// # Errors
/// The reason, when the value is none.
pub(crate) fn parse(value: &str) -> Result<Duration, String> {
    // One digit and a unit at least; more than eight digits are against the specification.
    if value.len() < 2 {
        return Err(format!(
            "transport: timeout string is too short: {}",
            quoted(value)
        ));
    }
    if value.len() > 9 {
        return Err(format!(
            "transport: timeout string is too long: {}",
            quoted(value)
        ));
    }
    let unit_ns = match value.as_bytes().last() {
        Some(b'H') => 3_600_000_000_000,
        Some(b'M') => 60_000_000_000,
        Some(b'S') => 1_000_000_000,
        Some(b'm') => 1_000_000,
        Some(b'u') => 1_000,
        Some(b'n') => 1,
        _ => {
            let value = quoted(value);
            return Err(format!(
                "transport: timeout unit is not recognized: {value}"
            ));
        }
    };
    let digits = value.get(..value.len() - 1).unwrap_or_default();
    let count = digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse::<u64>());
    match count {
        // The largest, 99,999,999 hours, does not fit into 64 bits of nanoseconds.
        Some(Ok(count)) => Ok(Duration::from_nanos(count.saturating_mul(unit_ns))),
        _ => Err(format!(
            "strconv.ParseInt: parsing {}: invalid syntax",
            quoted(digits)
        )),
    }
}

/// Writes a timeout with the finest unit that holds it in eight digits; rounds up, so that the
/// peer never gives up before we do.
pub(crate) fn format(timeout: Duration) -> String {
    const DIGITS_MAX: u128 = 99_999_999;
    const UNITS: [(u128, char); 6] = [
        (1, 'n'),
        (1_000, 'u'),
        (1_000_000, 'm'),
        (1_000_000_000, 'S'),
        (60_000_000_000, 'M'),
        (3_600_000_000_000, 'H'),
    ];
    for (unit_ns, unit) in UNITS {
        let count = timeout.as_nanos().div_ceil(unit_ns);
        if count <= DIGITS_MAX {
            return format!("{count}{unit}");
        }
    }
    format!("{DIGITS_MAX}H")
}

fn quoted(value: &str) -> String {
    format!("{value:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read() {
        let cases = [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("30S", Duration::from_secs(30)),
            ("1500m", Duration::from_millis(1500)),
            ("7u", Duration::from_micros(7)),
            ("99999999n", Duration::from_nanos(99_999_999)),
            ("0n", Duration::ZERO),
        ];
        for (text, timeout) in cases {
            assert_eq!(parse(text), Ok(timeout), "{text}");
        }
        assert_eq!(parse("99999999H"), Ok(Duration::from_nanos(u64::MAX)));
    }

    #[test]
    fn malformed_timeouts_say_what_is_wrong() {
        for text in [
            "",
            "S",
            "123456789S",
            "5",
            "5s",
            "-5S",
            "+5S",
            "5 S",
            "x5S",
            "5.5S",
            "é",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        assert_eq!(
            parse("5x").unwrap_err(),
            r#"transport: timeout unit is not recognized: "5x""#
        );
    }

    #[test]
    fn what_is_written_is_read_back_and_never_shorter() {
        let timeouts = [
            0,
            1,
            999,
            99_999_999,
            100_000_001,
            1_000_000_000,
            86_400_000_000_000_001,
        ];
        for ns in timeouts {
            let timeout = Duration::from_nanos(ns);
            let back = parse(&format(timeout)).unwrap();
            assert!(
                back >= timeout && back <= timeout + timeout / 1_000,
                "{timeout:?} {back:?}"
            );
        }
        assert_eq!(format(Duration::MAX), "99999999H");
    }
}
