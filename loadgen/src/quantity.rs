//! Quantities on the command line: `7d`, `5ms`, `64GiB`, `10Gbit`.

/// Seconds from a number with a unit from `ns` to `w`; a number alone is in seconds.
pub(crate) fn seconds(text: &str) -> Result<f64, String> {
    const UNITS: [(&str, f64); 9] = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("µs", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("min", 60.0),
        ("h", 3_600.0),
        ("d", 86_400.0),
        ("w", 604_800.0),
    ];
    parse(text, &UNITS, 1.0, "as 500us, 5ms, 2s, 10min, 12h, 7d")
}

/// Bytes from a number with a unit; a number alone is in bytes. `GB` is a thousand million bytes,
/// as makers of disks count, and `GiB` 1,073,741,824.
pub(crate) fn bytes(text: &str) -> Result<f64, String> {
    const UNITS: [(&str, f64); 9] = [
        ("B", 1.0),
        ("KiB", 1024.0),
        ("MiB", 1_048_576.0),
        ("GiB", 1_073_741_824.0),
        ("TiB", 1_099_511_627_776.0),
        ("KB", 1e3),
        ("MB", 1e6),
        ("GB", 1e9),
        ("TB", 1e12),
    ];
    parse(text, &UNITS, 1.0, "as 512MiB, 64GiB, 2TB")
}

/// Bits a second, as networks are sold, in bytes a second.
pub(crate) fn network(text: &str) -> Result<f64, String> {
    const UNITS: [(&str, f64); 3] = [("Mbit", 1e6 / 8.0), ("Gbit", 1e9 / 8.0), ("bit", 0.125)];
    parse(text, &UNITS, 0.125, "as 100Mbit, 25Gbit")
}

/// A part of a whole, from 0 to below 1: something has to remain.
pub(crate) fn part(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "a number".to_owned())?;
    if (0.0..1.0).contains(&value) {
        return Ok(value);
    }
    Err("from 0 to below 1; 0.5 keeps a half free".into())
}

/// A number above zero.
pub(crate) fn positive(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "a number".to_owned())?;
    if value.is_finite() && value > 0.0 {
        return Ok(value);
    }
    Err("above 0".into())
}

fn parse(text: &str, units: &[(&str, f64)], alone: f64, example: &str) -> Result<f64, String> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let factor = match unit.trim() {
        "" => Some(alone),
        unit => {
            let mut known = units.iter();
            known
                .find(|(name, _)| *name == unit)
                .map(|&(_, factor)| factor)
        }
    };
    let value = digits.parse::<f64>().ok().zip(factor);
    value
        .map(|(value, factor)| value * factor)
        .ok_or_else(|| format!("a number with a unit, {example}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_understood() {
        assert_eq!(seconds("7d"), Ok(604_800.0));
        assert_eq!(seconds("5 ms"), Ok(0.005));
        assert_eq!(seconds("1.5"), Ok(1.5));
        assert_eq!(bytes("64GiB"), Ok(64.0 * 1_073_741_824.0));
        assert_eq!(bytes("2TB"), Ok(2e12));
        assert_eq!(network("10Gbit"), Ok(1.25e9));
        assert_eq!(part("0.5"), Ok(0.5));
        assert_eq!(positive("50000"), Ok(50_000.0));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_an_example() {
        for text in ["", "d", "-1s", "1 parsec", "1.2.3s", "inf"] {
            assert!(seconds(text).unwrap_err().contains("7d"), "{text}");
        }
        assert!(bytes("3ms").is_err());
        for text in ["1", "-0.1", "nan", "x"] {
            assert!(part(text).is_err(), "{text}");
        }
        for text in ["0", "-3", "inf", "nan"] {
            assert!(positive(text).is_err(), "{text}");
        }
    }
}
