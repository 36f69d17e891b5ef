//! What a setting is called, what it may be, and how it is read.

mod setting;
mod words;

pub(super) use setting::{Setting, parse_bytes, parse_channel, show_bytes};
pub use words::protection::{
    CertificateField, ClientCertificates, ClientIdBinding, SignatureType, TlsVersion, TokenSource,
};
pub use words::{
    Compression, ExportProtocol, LogFormat, LogLevel, Redelivery, Sampler, Sync, WhenFull,
};

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
    /// Whether a reload changes it; if not, it counts from the next start on.
    pub live: bool,
    /// Whether its value may be a password, and is shown nowhere.
    pub secret: bool,
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
    /// Hours.
    Hours,
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
            Self::Hours => "hours",
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
    /// A whole number of this range, or empty for none.
    OptionalRange(u64, u64),
    /// A power of two of this range, both ends included.
    PowerOfTwo(u64, u64),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// One of these words, or empty for none.
    OptionalOneOf(&'static [&'static str]),
    /// A number from 0 to 1.
    Ratio,
    /// A word without white space or control characters; not empty.
    Word,
    /// A word without white space or control characters, or empty for none.
    OptionalWord,
    /// A path; not empty.
    Path,
    /// A path, or empty for none.
    OptionalPath,
    /// An IPv4 or IPv6 address.
    Address,
    /// An IPv4 or IPv6 address, or empty for none.
    OptionalAddress,
    /// A list of such, at least so many; written with commas.
    List(ListOf, usize),
    /// Names with values, as `name=value,name=value`, or empty for none.
    Pairs,
    /// Processors as `2-5,8`, or empty for none.
    CpuList,
    /// The name of a channel.
    Channel,
    /// The name of a channel, or empty for none.
    OptionalChannel,
    /// Limits for channels by pattern, or empty for none.
    ChannelRules,
    /// A JSON array, also in base64; or empty for none.
    JsonArray,
    /// PEM, also in base64; or empty for none.
    Pem,
    /// An address of HTTP or HTTPS without a password, also in base64; or empty for none.
    OptionalUrl,
    /// Any text.
    Text,
    /// Nothing: the key is known, and what it asks for is not served.
    Empty,
}

/// What stands in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListOf {
    /// Origins of web pages, as `https://example.com`, or `*`.
    Origins,
    /// Names in HTTP: of methods, of headers.
    Names,
    /// Words without white space or control characters.
    Words,
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
            Allowed::OptionalRange(min, max) if self.unit == Unit::Bytes => {
                format!("{} to {}, or empty", show_bytes(min), show_bytes(max))
            }
            Allowed::OptionalRange(min, max) => format!("{min} to {max}, or empty"),
            Allowed::PowerOfTwo(min, max) => {
                format!("a power of two, {} to {}", show_bytes(min), show_bytes(max))
            }
            Allowed::OneOf(words) => words.join(", "),
            Allowed::OptionalOneOf(words) => format!("{}, or empty", words.join(", ")),
            Allowed::Ratio => "a number from 0 to 1".to_owned(),
            Allowed::Word => "a word without white space".to_owned(),
            Allowed::OptionalWord => "a word without white space, or empty".to_owned(),
            Allowed::Path => "a path".to_owned(),
            Allowed::OptionalPath => "a path, or empty".to_owned(),
            Allowed::Address => "an IPv4 or IPv6 address".to_owned(),
            Allowed::OptionalAddress => "an IPv4 or IPv6 address, or empty".to_owned(),
            Allowed::List(ListOf::Origins, min) => {
                let text = "origins as https://example.com, with commas between them";
                format!("{text}{}", if min == 0 { "; or empty" } else { "" })
            }
            Allowed::List(what, min) => {
                let text = match what {
                    ListOf::Words => "words with commas between them",
                    _ => "names with commas between them",
                };
                format!("{text}{}", if min == 0 { "; or empty" } else { "" })
            }
            Allowed::Pairs => "name=value, with commas between them; or empty".to_owned(),
            Allowed::CpuList => "processors as 2-5,8, each once; or empty".to_owned(),
            Allowed::Channel => "a channel".to_owned(),
            Allowed::OptionalChannel => "a channel, or empty".to_owned(),
            Allowed::ChannelRules => "rules, see below; or empty".to_owned(),
            Allowed::JsonArray => "a JSON array, also in base64; or empty".to_owned(),
            Allowed::Pem => "PEM, also in base64; or empty".to_owned(),
            Allowed::OptionalUrl => {
                "https://… or http://… without a password, also in base64; or empty".to_owned()
            }
            Allowed::Text => "any text".to_owned(),
            Allowed::Empty => "empty".to_owned(),
        }
    }
}
