//! What a setting is called, what it may be, and how it is read.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::model::name;

/// One setting: all that the fold, `--help`, `ringmq config` and `docs/configuration.md` say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// The dotted key, as `grpc.port`. Files may spell it in any case, with or without `_`.
    pub name: &'static str,
    /// Other dotted keys that files may use for it.
    pub aliases: &'static [&'static str],
    /// Environment variables; the first that is set counts.
    pub env: &'static [&'static str],
    /// The flag of the command line, as `--grpc-port`.
    pub flag: Option<&'static str>,
    /// The value when nobody says otherwise, as it would stand in the environment.
    pub default: &'static str,
    /// What the number counts.
    pub unit: Unit,
    /// What the value may be.
    pub allowed: Allowed,
    /// What the setting does, in one paragraph.
    pub doc: &'static str,
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// It is no quantity.
    None,
    /// Bytes; written as a number, or with `KiB`, `MiB` or `GiB`.
    Bytes,
    /// Minutes.
    Minutes,
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
    /// Microseconds.
    Microseconds,
    /// Things, named here.
    Count(&'static str),
}

impl Unit {
    /// The unit as the table of settings shows it; empty for none.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Bytes => "bytes",
            Self::Minutes => "minutes",
            Self::Seconds => "seconds",
            Self::Milliseconds => "milliseconds",
            Self::Microseconds => "microseconds",
            Self::Count(things) => things,
        }
    }
}

/// What a value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// A whole number of this range, both ends included.
    Range(u64, u64),
    /// A power of two of this range, both ends included.
    PowerOfTwo(u64, u64),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A word without white space or control characters, or empty for none.
    OptionalWord,
    /// A path; not empty.
    Path,
    /// A path, or empty for none.
    OptionalPath,
    /// An IPv4 or IPv6 address.
    Address,
    /// Processors as `2-5,8`, or empty for none.
    CpuList,
    /// The name of a channel, or empty for none.
    OptionalChannel,
    /// Limits for channels by pattern, or empty for none.
    ChannelRules,
    /// A routing table as JSON, also in base64; or empty for none.
    RoutingTable,
    /// Nothing: the key is known, and what it asks for is not served.
    Empty,
}

impl Key {
    /// The allowed values in words, for error texts and the documentation.
    #[must_use]
    pub fn expected(&self) -> String {
        match self.allowed {
            Allowed::Range(min, max) if self.unit == Unit::Bytes => {
                format!("{} to {}", show_bytes(min), show_bytes(max))
            }
            Allowed::Range(min, max) => format!("{min} to {max}"),
            Allowed::PowerOfTwo(min, max) => {
                format!("a power of two, {} to {}", show_bytes(min), show_bytes(max))
            }
            Allowed::OneOf(words) => words.join(", "),
            Allowed::OptionalWord => "a word without white space, or empty".to_owned(),
            Allowed::Path => "a path".to_owned(),
            Allowed::OptionalPath => "a path, or empty".to_owned(),
            Allowed::Address => "an IPv4 or IPv6 address".to_owned(),
            Allowed::CpuList => "processors as 2-5,8, each once; or empty".to_owned(),
            Allowed::OptionalChannel => "a channel, or empty".to_owned(),
            Allowed::ChannelRules => "rules, see below; or empty".to_owned(),
            Allowed::RoutingTable => "a JSON array, also in base64; or empty".to_owned(),
            Allowed::Empty => "empty".to_owned(),
        }
    }

    /// Reads a whole number within the allowed range.
    fn number(&self, text: &str) -> Option<u64> {
        let number = match self.unit {
            Unit::Bytes => parse_bytes(text)?,
            _ => text.parse().ok()?,
        };
        match self.allowed {
            Allowed::Range(min, max) => (min..=max).contains(&number).then_some(number),
            Allowed::PowerOfTwo(min, max) => {
                let fits = number.is_power_of_two() && (min..=max).contains(&number);
                fits.then_some(number)
            }
            _ => None,
        }
    }
}

/// A type that settings have. `parse` accepts exactly what the key allows.
pub(super) trait Setting: Sized {
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

/// Empty is none.
impl Setting for Option<String> {
    fn parse(text: &str, _key: &Key) -> Option<Self> {
        let plain = |c: char| !c.is_whitespace() && !c.is_control();
        let given = (!text.is_empty()).then(|| text.to_owned());
        text.chars().all(plain).then_some(given)
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

/// Declares an enum whose variants are the words of a setting; what follows `|` is understood too.
macro_rules! words {
    (
        $(#[$meta:meta])*
        $name:ident {
            $( $(#[$variant_meta:meta])* $variant:ident = $word:literal $(| $alias:literal)* ),+
            $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $( $(#[$variant_meta])* $variant, )+ }

        impl $name {
            /// The words of the configuration.
            pub(super) const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word of the configuration.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $( Self::$variant => $word, )+ }
            }

            /// Reads a word, whatever its case.
            pub(super) fn from_word(text: &str) -> Option<Self> {
                match text.to_ascii_lowercase().as_str() {
                    $( $word $(| $alias)* => Some(Self::$variant), )+
                    _ => None,
                }
            }
        }

        impl Setting for $name {
            fn parse(text: &str, _key: &Key) -> Option<Self> {
                Self::from_word(text)
            }

            fn spell(&self, _text: &str) -> String {
                self.word().to_owned()
            }
        }
    };
}

words! {
    /// When a stored message is acknowledged.
    Sync {
        /// After the group commit that holds it has reached the disk.
        Strict = "strict",
        /// After it was appended: safe against a killed process, not against a power cut.
        Interval = "interval",
    }
}

words! {
    /// What happens to a new message when its channel is at a limit.
    WhenFull {
        /// It is refused, and its sender learns why.
        Reject = "reject",
        /// The oldest messages of the channel are removed to make room.
        DropOldest = "drop-oldest" | "drop_oldest",
    }
}

words! {
    /// Where a message goes whose delivery failed.
    Redelivery {
        /// Behind the others, with a new sequence: it does not block them.
        Tail = "tail",
        /// Where it was, with its sequence: strict order.
        InPlace = "in-place" | "in_place",
    }
}

words! {
    /// The least serious log line that is written. The numbers are those of the commercial image.
    LogLevel {
        /// Steps inside a request; compiled out of release builds.
        Trace = "trace" | "0",
        /// Requests.
        Debug = "debug" | "1",
        /// Changes of state that an operator asks about.
        Info = "info" | "2",
        /// Degraded, but running.
        Warn = "warn" | "warning" | "3",
        /// A person must look.
        Error = "error" | "fatal" | "4" | "5",
    }
}

impl LogLevel {
    /// The level as the log takes it.
    #[must_use]
    pub const fn filter(self) -> tracing::level_filters::LevelFilter {
        use tracing::level_filters::LevelFilter;
        match self {
            Self::Trace => LevelFilter::TRACE,
            Self::Debug => LevelFilter::DEBUG,
            Self::Info => LevelFilter::INFO,
            Self::Warn => LevelFilter::WARN,
            Self::Error => LevelFilter::ERROR,
        }
    }
}

words! {
    /// How log lines look.
    LogFormat {
        /// One line of text.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

/// Reads a channel's name; an empty text is none.
pub(super) fn parse_channel(text: &str) -> Result<Option<Arc<str>>, name::NameError> {
    if text.is_empty() {
        return Ok(None);
    }
    name::check_channel(text).map(|()| Some(text.into()))
}

/// Reads a number of bytes: plain, or with a binary unit. `MB` is refused, because one half of the
/// world means a million by it.
pub(super) fn parse_bytes(text: &str) -> Option<u64> {
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
pub(super) fn show_bytes(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let whole = |shift: u32| bytes > 0 && bytes.trailing_zeros() >= shift;
    match units.into_iter().find(|(shift, _)| whole(*shift)) {
        Some((shift, unit)) => format!("{} {unit}", bytes >> shift),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
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
