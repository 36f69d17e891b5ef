//! How values are read.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Allowed, Key, ListOf, Unit};
use crate::config::base64;
use crate::config::secret::Secret;
use crate::model::name;

/// A type that settings have. `parse` accepts exactly what the key allows.
pub(in crate::config) trait Setting: Sized {
    /// Reads the value, already trimmed; `None` when the key does not allow it.
    fn parse(text: &str, key: &Key) -> Option<Self>;

    /// The usual spelling of this value, which was read from `text`.
    fn spell(&self, text: &str) -> String {
        text.to_owned()
    }

    /// What is allowed, for a text that is not: `parse` gave `None` for it.
    fn expected(_text: &str, key: &Key) -> String {
        key.expected()
    }
}

macro_rules! number_setting {
    ($($number:ty),+) => {$(
        impl Setting for $number {
            fn parse(text: &str, key: &Key) -> Option<Self> {
                key.number(text).and_then(|number| Self::try_from(number).ok())
            }

            fn spell(&self, _text: &str) -> String {
                self.to_string()
            }
        }
    )+};
}

number_setting!(u16, u32, u64, usize);

impl Setting for bool {
    fn parse(text: &str, _key: &Key) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Some(true),
            "false" | "0" | "no" | "off" => Some(false),
            _ => None,
        }
    }

    fn spell(&self, _text: &str) -> String {
        self.to_string()
    }
}

/// `auto` leaves the choice to the broker.
impl Setting for Option<bool> {
    fn parse(text: &str, key: &Key) -> Option<Self> {
        if text.eq_ignore_ascii_case("auto") {
            return Some(None);
        }
        bool::parse(text, key).map(Some)
    }

    fn spell(&self, _text: &str) -> String {
        self.map_or_else(|| "auto".to_owned(), |switch| switch.to_string())
    }
}

impl Setting for Duration {
    fn parse(text: &str, key: &Key) -> Option<Self> {
        let number = key.number(text)?;
        match key.unit {
            Unit::Hours => number.checked_mul(3_600).map(Self::from_secs),
            Unit::Minutes => number.checked_mul(60).map(Self::from_secs),
            Unit::Seconds => Some(Self::from_secs(number)),
            Unit::Milliseconds => Some(Self::from_millis(number)),
            Unit::Microseconds => Some(Self::from_micros(number)),
            Unit::None | Unit::Bytes | Unit::Count(_) => None,
        }
    }
}

/// Zero is off.
impl Setting for Option<Duration> {
    fn parse(text: &str, key: &Key) -> Option<Self> {
        Duration::parse(text, key).map(|duration| (!duration.is_zero()).then_some(duration))
    }
}

impl Setting for IpAddr {
    fn parse(text: &str, _key: &Key) -> Option<Self> {
        // URLs write IPv6 addresses in brackets.
        let bare = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        bare.unwrap_or(text).parse().ok()
    }
}

/// A word, or an address. Empty is none.
impl Setting for Option<String> {
    fn parse(text: &str, key: &Key) -> Option<Self> {
        if text.is_empty() {
            return Some(None);
        }
        if key.allowed == Allowed::OptionalUrl {
            return parse_url(text).map(Some);
        }
        is_word(text).then(|| Some(text.to_owned()))
    }
}

/// Hidden from now on.
impl Setting for Secret {
    fn parse(text: &str, _key: &Key) -> Option<Self> {
        Some(Self::new(text.to_owned()))
    }
}

/// A channel. Empty is none.
impl Setting for Option<Arc<str>> {
    fn parse(text: &str, _key: &Key) -> Option<Self> {
        parse_channel(text).ok()
    }

    fn expected(text: &str, key: &Key) -> String {
        let expected = key.expected();
        match parse_channel(text) {
            Ok(_) => expected,
            Err(error) => format!("{expected}: {error}"),
        }
    }
}

impl Setting for PathBuf {
    fn parse(text: &str, _key: &Key) -> Option<Self> {
        (!text.is_empty() && !text.contains('\0')).then(|| Self::from(text))
    }
}

impl Setting for Option<PathBuf> {
    fn parse(text: &str, key: &Key) -> Option<Self> {
        if text.is_empty() {
            return Some(None);
        }
        PathBuf::parse(text, key).map(Some)
    }
}

/// Empty is none.
impl Setting for Option<usize> {
    fn parse(text: &str, key: &Key) -> Option<Self> {
        if text.is_empty() {
            return Some(None);
        }
        usize::parse(text, key).map(Some)
    }

    fn spell(&self, _text: &str) -> String {
        self.map_or_else(String::new, |number| number.to_string())
    }
}

/// A share of a whole.
impl Setting for f64 {
    fn parse(text: &str, _key: &Key) -> Option<Self> {
        text.parse()
            .ok()
            .filter(|ratio| (0.0..=1.0).contains(ratio))
    }

    fn spell(&self, _text: &str) -> String {
        self.to_string()
    }
}

/// Empty is none.
impl Setting for Option<IpAddr> {
    fn parse(text: &str, key: &Key) -> Option<Self> {
        if text.is_empty() {
            return Some(None);
        }
        IpAddr::parse(text, key).map(Some)
    }
}

/// A word, or the name of a channel.
impl Setting for String {
    fn parse(text: &str, key: &Key) -> Option<Self> {
        let fits = match key.allowed {
            Allowed::Channel => name::check_channel(text).is_ok(),
            _ => !text.is_empty() && is_word(text),
        };
        fits.then(|| text.to_owned())
    }

    fn expected(text: &str, key: &Key) -> String {
        let expected = key.expected();
        match (key.allowed, name::check_channel(text)) {
            (Allowed::Channel, Err(error)) => format!("{expected}: {error}"),
            _ => expected,
        }
    }
}

/// Their usual spelling has no blanks.
impl Setting for Vec<String> {
    fn parse(text: &str, key: &Key) -> Option<Self> {
        let Allowed::List(what, min) = key.allowed else {
            return None;
        };
        let parts = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        let fits = |part: &str| match what {
            ListOf::Origins => part.bytes().all(|byte| byte.is_ascii_graphic()),
            ListOf::Names => part.bytes().all(is_token),
            ListOf::Words => is_word(part),
        };
        let list: Option<Self> = parts
            .map(|part| fits(part).then(|| part.to_owned()))
            .collect();
        list.filter(|list| list.len() >= min)
    }

    fn spell(&self, _text: &str) -> String {
        self.join(",")
    }
}

/// Values are as they stand: an equals sign in them is theirs.
impl Setting for Vec<(String, String)> {
    fn parse(text: &str, _key: &Key) -> Option<Self> {
        let parts = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        let pair = |part: &str| {
            let (name, value) = part.split_once('=')?;
            let (name, value) = (name.trim(), value.trim());
            let fits = !name.is_empty()
                && name.bytes().all(is_token)
                && value
                    .bytes()
                    .all(|byte| byte == b' ' || byte.is_ascii_graphic());
            fits.then(|| (name.to_owned(), value.to_owned()))
        };
        parts.map(pair).collect()
    }
}

/// Reads an address, also one in base64, as the operator of the reference writes it. One with a
/// password is refused: addresses are shown in logs.
fn parse_url(text: &str) -> Option<String> {
    let is_url = |text: &str| text.starts_with("https://") || text.starts_with("http://");
    let url = if is_url(text) {
        text.to_owned()
    } else {
        String::from_utf8(base64::decode(text)?)
            .ok()?
            .trim()
            .to_owned()
    };
    let (_, rest) = url.split_once("://").filter(|_| is_url(&url))?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let fits = !authority.is_empty() && !authority.contains('@');
    (fits && url.bytes().all(|byte| byte.is_ascii_graphic())).then_some(url)
}

/// Whether a text has no white space and no control characters.
fn is_word(text: &str) -> bool {
    text.chars().all(|c| !c.is_whitespace() && !c.is_control())
}

/// Whether a byte may stand in the name of a method or a header.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

impl Key {
    /// Reads a whole number within the allowed range.
    fn number(&self, text: &str) -> Option<u64> {
        let number = match self.unit {
            Unit::Bytes => parse_bytes(text)?,
            _ => parse_time(text, self.unit)?,
        };
        match self.allowed {
            Allowed::Range(min, max) | Allowed::OptionalRange(min, max) => {
                (min..=max).contains(&number).then_some(number)
            }
            Allowed::PowerOfTwo(min, max) => {
                let fits = number.is_power_of_two() && (min..=max).contains(&number);
                fits.then_some(number)
            }
            _ => None,
        }
    }
}

/// Reads a number, or a whole number of the unit with the unit of Go behind it: `90s`, `2m`.
fn parse_time(text: &str, unit: Unit) -> Option<u64> {
    let own_us: u64 = match unit {
        Unit::Hours => 3_600_000_000,
        Unit::Minutes => 60_000_000,
        Unit::Seconds => 1_000_000,
        Unit::Milliseconds => 1_000,
        Unit::Microseconds => 1,
        Unit::None | Unit::Bytes | Unit::Count(_) => return text.parse().ok(),
    };
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let (number, suffix) = text.split_at_checked(digits.len())?;
    let number: u64 = number.parse().ok()?;
    let us: u64 = match suffix {
        "" => return Some(number),
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        _ => return None,
    };
    let us = number.checked_mul(us)?;
    us.is_multiple_of(own_us).then(|| us / own_us)
}

/// Reads a channel's name; an empty text is none.
pub(in crate::config) fn parse_channel(text: &str) -> Result<Option<Arc<str>>, name::NameError> {
    if text.is_empty() {
        return Ok(None);
    }
    name::check_channel(text).map(|()| Some(text.into()))
}

/// Reads a number of bytes: plain, or with a binary unit. `MB` is refused, because one half of the
/// world means a million by it.
pub(in crate::config) fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let (number, unit) = text.split_at_checked(digits.len())?;
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        _ => return None,
    };
    let number: u64 = number.trim_end().parse().ok()?;
    number.checked_mul(1 << shift)
}

/// Shows a number of bytes in the largest binary unit that divides it.
pub(in crate::config) fn show_bytes(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let whole = |shift: u32| bytes > 0 && bytes.trailing_zeros() >= shift;
    match units.into_iter().find(|(shift, _)| whole(*shift)) {
        Some((shift, unit)) => format!("{} {unit}", bytes >> shift),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{LogLevel, Sync};
    use super::*;

    fn key(unit: Unit, allowed: Allowed) -> Key {
        let (name, doc, default) = ("a.b", "A test.", "1");
        Key {
            name,
            aliases: &[],
            env: &["A_B"],
            flag: None,
            default,
            unit,
            allowed,
            live: false,
            secret: false,
            doc,
        }
    }

    #[test]
    fn numbers_keep_their_range() {
        let port = key(Unit::None, Allowed::Range(0, 65_535));
        assert_eq!(u16::parse("65535", &port), Some(65_535));
        for wrong in ["65536", "-1", "1.5", "", "0x10", "abc", "1 2"] {
            assert_eq!(u16::parse(wrong, &port), None, "{wrong:?}");
        }
        assert_eq!(port.expected(), "0 to 65535");
    }

    #[test]
    fn bytes_take_binary_units_and_nothing_ambiguous() {
        let size = key(Unit::Bytes, Allowed::Range(1 << 10, 1 << 30));
        let good = [
            ("1024", 1024),
            ("8MiB", 8 << 20),
            ("8 MiB", 8 << 20),
            ("8m", 8 << 20),
        ];
        for (text, bytes) in good.into_iter().chain([("1G", 1 << 30), ("2048b", 2048)]) {
            assert_eq!(usize::parse(text, &size), Some(bytes), "{text:?}");
        }
        for wrong in ["8MB", "1KB", "1023", "2GiB", "MiB", "1e6", "99999999999G"] {
            assert_eq!(usize::parse(wrong, &size), None, "{wrong:?}");
        }
        assert_eq!(size.expected(), "1 KiB to 1 GiB");
    }

    #[test]
    fn bytes_are_shown_without_loss() {
        let shown = [
            0,
            1,
            1023,
            1024,
            1025,
            8 << 20,
            100 << 20,
            3 << 30,
            (1 << 30) + 1,
        ];
        let texts = shown.map(show_bytes);
        let expected = [
            "0",
            "1",
            "1023",
            "1 KiB",
            "1025",
            "8 MiB",
            "100 MiB",
            "3 GiB",
            "1073741825",
        ];
        assert_eq!(texts, expected);
        for (bytes, text) in shown.into_iter().zip(texts) {
            assert_eq!(parse_bytes(&text), Some(bytes));
        }
    }

    #[test]
    fn switches_and_words_ignore_case() {
        let choice = key(Unit::None, Allowed::OneOf(Sync::WORDS));
        assert_eq!(Sync::parse("Strict", &choice), Some(Sync::Strict));
        assert_eq!(Sync::parse("sometimes", &choice), None);
        assert_eq!(bool::parse("TRUE", &choice), Some(true));
        assert_eq!(bool::parse("maybe", &choice), None);
        assert_eq!(Option::<bool>::parse("auto", &choice), Some(None));
        assert_eq!(Option::<bool>::parse("false", &choice), Some(Some(false)));
    }

    #[test]
    fn zero_seconds_are_off() {
        let age = key(Unit::Seconds, Allowed::Range(0, 86_400));
        assert_eq!(Option::<Duration>::parse("0", &age), Some(None));
        assert_eq!(
            Option::<Duration>::parse("7", &age),
            Some(Some(Duration::from_secs(7)))
        );
        assert_eq!(Duration::parse("86401", &age), None);
    }

    #[test]
    fn minutes_and_milliseconds_are_what_they_say() {
        let mut time = key(Unit::Minutes, Allowed::Range(0, u64::MAX));
        assert_eq!(Duration::parse("2", &time), Some(Duration::from_secs(120)));
        assert_eq!(Duration::parse("999999999999999999", &time), None);
        time.unit = Unit::Milliseconds;
        assert_eq!(Duration::parse("2", &time), Some(Duration::from_millis(2)));
    }

    #[test]
    fn powers_of_two_are_nothing_else() {
        let size = key(Unit::Bytes, Allowed::PowerOfTwo(1 << 20, 1 << 30));
        assert_eq!(u32::parse("64MiB", &size), Some(64 << 20));
        for wrong in ["512KiB", "3MiB", "2GiB", "0"] {
            assert_eq!(u32::parse(wrong, &size), None, "{wrong}");
        }
        assert_eq!(size.expected(), "a power of two, 1 MiB to 1 GiB");
    }

    #[test]
    fn levels_of_other_servers_are_understood() {
        let level = key(Unit::None, Allowed::OneOf(LogLevel::WORDS));
        let parse = |text| LogLevel::parse(text, &level).map(LogLevel::word);
        let numbers = ["0", "1", "2", "3", "4", "5"].map(parse);
        let words = ["trace", "debug", "info", "warn", "error", "error"].map(Some);
        assert_eq!(numbers, words);
        assert_eq!(parse("Warning"), Some("warn"));
        assert_eq!(parse("6"), None);
    }

    #[test]
    fn addresses_may_stand_in_brackets() {
        let bind = key(Unit::None, Allowed::Address);
        assert_eq!(IpAddr::parse("[::1]", &bind), "::1".parse().ok());
        assert_eq!(IpAddr::parse("127.0.0.1", &bind), "127.0.0.1".parse().ok());
        assert_eq!(IpAddr::parse("localhost", &bind), None);
    }

    #[test]
    fn names_hold_no_white_space() {
        let host = key(Unit::None, Allowed::OptionalWord);
        let parse = |text| Option::<String>::parse(text, &host);
        assert_eq!(parse("node-1.eu"), Some(Some("node-1.eu".to_owned())));
        assert_eq!(parse(""), Some(None));
        assert_eq!((parse("a b"), parse("a\u{7}")), (None, None));
    }
}
