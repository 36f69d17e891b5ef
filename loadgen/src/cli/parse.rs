//! Values of flags: sizes, times, rates, processors.

use anyhow::{Context, anyhow, bail, ensure};

use crate::scenario::file::parse_step;
use crate::scenario::{Payload, Rate, Step};

/// Processors that a machine may have, and so cores of the generator.
const PROCESSORS_MAX: usize = 1024;

/// Seconds: a number, or one with `ms`, `s`, `m` or `h`.
pub(super) fn seconds(text: &str) -> anyhow::Result<f64> {
    let end = text.find(|c: char| c.is_ascii_alphabetic());
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let unit = match unit {
        "" | "s" => 1.0,
        "ms" => 0.001,
        "m" => 60.0,
        "h" => 3600.0,
        _ => bail!("the unit of a time is ms, s, m or h"),
    };
    let number: f64 = number.parse().context("a time is a number and a unit")?;
    Ok(number * unit)
}

/// Bytes: a number, or one with `k`, `KiB`, `M` or `MiB`, all of them powers of two.
pub(super) fn bytes(text: &str) -> anyhow::Result<u32> {
    let end = text.find(|c: char| c.is_ascii_alphabetic());
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let unit = match unit {
        "" | "B" => 1,
        "k" | "K" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        _ => bail!("the unit of a size is B, KiB or MiB"),
    };
    let number: u32 = number
        .parse()
        .context("a size is a whole number and a unit")?;
    number
        .checked_mul(unit)
        .ok_or_else(|| anyhow!("a size is below 4 GiB"))
}

/// Sizes of bodies.
pub(super) fn payload(text: &str) -> anyhow::Result<Payload> {
    const FORMS: &str = "SIZE, uniform:LEAST:MOST, normal:MEAN:DEVIATION or \
                         mix:SIZE:WEIGHT,SIZE:WEIGHT,…";
    let Some((form, rest)) = text.split_once(':') else {
        return bytes(text).map(Payload::Fixed).context(FORMS);
    };
    let pair = |text: &str| -> anyhow::Result<(u32, u32)> {
        let (first, second) = text.split_once(':').context(FORMS)?;
        Ok((bytes(first)?, bytes(second)?))
    };
    match form {
        "uniform" => pair(rest).map(|(least, most)| Payload::Uniform { least, most }),
        "normal" => pair(rest).map(|(mean, deviation)| Payload::Normal { mean, deviation }),
        "mix" => {
            let weighted = |text: &str| -> anyhow::Result<(u32, u32)> {
                let (size, weight) = text.split_once(':').context(FORMS)?;
                let weight = weight.parse().context("a weight is a whole number")?;
                Ok((bytes(size)?, weight))
            };
            let sizes: anyhow::Result<_> = rest.split(',').map(weighted).collect();
            sizes.map(Payload::Mix)
        }
        _ => bail!(FORMS),
    }
}

/// A ramp, `from:to`.
pub(super) fn ramp(text: &str) -> anyhow::Result<Rate> {
    let numbers = text
        .split_once(':')
        .and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    let (from, to) = numbers.context("a ramp is FROM:TO, in messages a second")?;
    Ok(Rate::Ramp { from, to })
}

/// One step, `seconds:rate`.
pub(super) fn step(text: &str) -> anyhow::Result<Step> {
    parse_step(text, ':')
}

/// Processors: numbers and ranges, `1,4-6`.
pub(super) fn processors(text: &str) -> anyhow::Result<Vec<usize>> {
    let mut all = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<usize>();
        let (Ok(first), Ok(last)) = (number(first), number(last)) else {
            bail!("`{part}` is neither a processor nor a range of them, as in 1,4-6");
        };
        ensure!(
            first <= last && last < PROCESSORS_MAX,
            "`{part}` is no range below 1024"
        );
        all.extend(first..=last);
    }
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    ensure!(
        all.len() == count,
        "`{text}` has a processor twice: each core gets its own"
    );
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        let seconds = |text| seconds(text).unwrap();
        assert_eq!(seconds("10"), 10.0);
        assert_eq!(seconds("1.5s"), 1.5);
        assert_eq!(seconds("250ms"), 0.25);
        assert_eq!((seconds("2m"), seconds("1h")), (120.0, 3600.0));
        for bad in ["", "s", "1d", "1 s x", "ten"] {
            assert!(super::seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_have_binary_units() {
        let bytes = |text| bytes(text).unwrap();
        assert_eq!(
            (bytes("1024"), bytes("1k"), bytes("1KiB")),
            (1024, 1024, 1024)
        );
        assert_eq!(bytes("2MiB"), 2 << 20);
        for bad in ["", "1.5k", "-1", "1GB", "5000M"] {
            assert!(super::bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn distributions_are_told_by_their_name() {
        let payload = |text| payload(text).unwrap();
        assert_eq!(payload("1KiB"), Payload::Fixed(1024));
        assert_eq!(
            payload("uniform:100:2k"),
            Payload::Uniform {
                least: 100,
                most: 2048
            }
        );
        assert_eq!(
            payload("normal:1000:200"),
            Payload::Normal {
                mean: 1000,
                deviation: 200
            }
        );
        assert_eq!(
            payload("mix:128:9,8KiB:1"),
            Payload::Mix(vec![(128, 9), (8192, 1)])
        );
        for bad in [
            "",
            "uniform:1",
            "normal:1:x",
            "mix:",
            "mix:1",
            "zipf:1:2",
            "uniform:1:2:3",
        ] {
            assert!(super::payload(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rates_change_by_ramps_and_steps() {
        assert_eq!(
            ramp("10:2e3").unwrap(),
            Rate::Ramp {
                from: 10.0,
                to: 2000.0
            }
        );
        let wanted = Step {
            seconds: 1.5,
            rate: 100.0,
        };
        assert_eq!(step("1.5:100").unwrap(), wanted);
        assert!(ramp("10").is_err() && step("10").is_err());
    }

    #[test]
    fn processors_are_numbers_and_ranges() {
        assert_eq!(processors("3").unwrap(), [3]);
        assert_eq!(processors("6,1-3").unwrap(), [1, 2, 3, 6]);
        for bad in ["", "a", "3-1", "1,1", "1-3,2", "0-99999999999"] {
            assert!(processors(bad).is_err(), "{bad}");
        }
    }
}
