//! Limits of stored channels by pattern.
//!
//! In a file a rule is a table, everywhere else a text:
//!
//! ```text
//! [[store.channel_rules]]            pattern=orders.>;retention_minutes=60;bytes_max=1GiB
//! pattern = "orders.>"
//! retention_minutes = 60             rules are separated by commas, their fields by semicolons
//! bytes_max = "1GiB"
//! ```
//!
//! A pattern is that of a subscription: tokens separated by dots, `*` for any one token, `>` for
//! one or more at the end, and the whole name must match. The first rule that matches counts;
//! what it does not say is as the settings say for all channels.

use std::fmt;
use std::time::Duration;

use super::key::{Key, Setting, Unit, WhenFull, parse_bytes};
use super::reference::normalise;
use super::settings::Store;
use crate::model::name::{self, NameError};

/// The rules, in the order in which they are tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelRules(Vec<ChannelRule>);

/// Limits of the channels that match a pattern. `None` leaves a limit to the general setting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelRule {
    /// Which channels.
    pub pattern: String,
    /// Age at which messages are removed, in minutes; 0: never.
    pub retention_minutes: Option<u64>,
    /// Messages kept; 0: any number.
    pub messages_max: Option<u64>,
    /// Bytes kept; 0: any number.
    pub bytes_max: Option<u64>,
    /// What happens to a new message at one of these limits.
    pub when_full: Option<WhenFull>,
}

/// The limits of one channel, after the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelLimits {
    /// Age at which messages are removed; `None`: never.
    pub retention: Option<Duration>,
    /// Messages kept; 0: any number.
    pub messages_max: u64,
    /// Bytes kept; 0: any number.
    pub bytes_max: u64,
    /// What happens to a new message at one of these limits.
    pub when_full: WhenFull,
}

/// More rules than this are a mistake: every new channel tries all of them.
const RULES_MAX: usize = 1_024;

/// A hundred years.
const MINUTES_MAX: u64 = 52_560_000;

impl Store {
    /// The limits of a channel: those of the first rule whose pattern matches, and the general
    /// ones where it has none. Costs a comparison for each rule; callers keep the answer.
    #[must_use]
    pub fn limits_for(&self, channel: &str) -> ChannelLimits {
        let general = ChannelLimits {
            retention: self.retention,
            messages_max: self.messages_max,
            bytes_max: self.bytes_max,
            when_full: self.when_full,
        };
        let mut rules = self.rules.0.iter();
        let Some(rule) = rules.find(|rule| matches(&rule.pattern, channel)) else {
            return general;
        };
        let minutes = |minutes: u64| (minutes > 0).then(|| Duration::from_secs(minutes * 60));
        ChannelLimits {
            retention: rule.retention_minutes.map_or(general.retention, minutes),
            messages_max: rule.messages_max.unwrap_or(general.messages_max),
            bytes_max: rule.bytes_max.unwrap_or(general.bytes_max),
            when_full: rule.when_full.unwrap_or(general.when_full),
        }
    }
}

impl ChannelRules {
    /// The rules, in the order in which they are tried.
    #[must_use]
    pub fn as_slice(&self) -> &[ChannelRule] {
        &self.0
    }
}

/// Whether a channel's whole name fits a pattern.
fn matches(pattern: &str, channel: &str) -> bool {
    let (mut wanted, mut tokens) = (pattern.split('.'), channel.split('.'));
    loop {
        match (wanted.next(), tokens.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(wanted), Some(token)) if wanted == token => {}
            _ => return false,
        }
    }
}

/// Why a text is no list of rules.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    /// Counted from 1.
    rule: usize,
    what: String,
}

fn read(text: &str) -> Result<ChannelRules, Fault> {
    let texts = text
        .split(',')
        .map(str::trim)
        .filter(|text| !text.is_empty());
    let mut rules = Vec::new();
    for (index, text) in texts.enumerate() {
        let rule = index + 1;
        if rule > RULES_MAX {
            let what = format!("more than {RULES_MAX} rules");
            return Err(Fault { rule, what });
        }
        rules.push(read_rule(text).map_err(|what| Fault { rule, what })?);
    }
    Ok(ChannelRules(rules))
}

fn read_rule(text: &str) -> Result<ChannelRule, String> {
    let mut rule = ChannelRule::default();
    let mut seen = Vec::new();
    for field in text
        .split(';')
        .map(str::trim)
        .filter(|field| !field.is_empty())
    {
        let (name, value) = field
            .split_once('=')
            .ok_or_else(|| format!("{field:?} is not name=value"))?;
        let (name, value) = (name.trim(), value.trim());
        if seen.contains(&normalise(name)) {
            return Err(format!("{name} stands twice"));
        }
        read_field(&mut rule, name, value)?;
        seen.push(normalise(name));
    }
    if rule.pattern.is_empty() {
        return Err("a rule needs a pattern".to_owned());
    }
    Ok(rule)
}

fn read_field(rule: &mut ChannelRule, name: &str, value: &str) -> Result<(), String> {
    let wrong = |expected: &str| format!("{name} is {value:?}: allowed is {expected}");
    match normalise(name).as_str() {
        "pattern" => rule.pattern = check_pattern(value)?,
        "retentionminutes" => {
            let minutes = value.parse().ok().filter(|minutes| *minutes <= MINUTES_MAX);
            let expected = || wrong(&format!("0 to {MINUTES_MAX}"));
            rule.retention_minutes = Some(minutes.ok_or_else(expected)?);
        }
        "messagesmax" => {
            rule.messages_max = Some(value.parse().map_err(|_| wrong("a whole number"))?);
        }
        "bytesmax" => {
            let bytes = parse_bytes(value).ok_or_else(|| wrong("bytes, as 1048576 or 1GiB"))?;
            rule.bytes_max = Some(bytes);
        }
        "whenfull" => {
            let word = WhenFull::from_word(value);
            rule.when_full = Some(word.ok_or_else(|| wrong(&WhenFull::WORDS.join(", ")))?);
        }
        _ => {
            let known = "pattern, retention_minutes, messages_max, bytes_max, when_full";
            return Err(format!("unknown field {name:?}; known are {known}"));
        }
    }
    Ok(())
}

/// Refuses what no channel can match: who wrote it meant something else.
fn check_pattern(pattern: &str) -> Result<String, String> {
    let wrong = |why: &dyn fmt::Display| format!("pattern {pattern:?}: {why}");
    name::check_pattern(pattern).map_err(|error: NameError| wrong(&error))?;
    let mut tokens = pattern.split('.').peekable();
    while let Some(token) = tokens.next() {
        if token == ">" && tokens.peek().is_some() {
            return Err(wrong(&"> stands at the end only"));
        }
        if token.len() > 1 && token.contains(['*', '>']) {
            return Err(wrong(&"a wildcard is a whole token, as in a.* or a.>"));
        }
    }
    Ok(pattern.to_owned())
}

impl fmt::Display for ChannelRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pattern={}", self.pattern)?;
        let numbers = [
            ("retention_minutes", self.retention_minutes),
            ("messages_max", self.messages_max),
            ("bytes_max", self.bytes_max),
        ];
        for (name, value) in numbers {
            if let Some(value) = value {
                write!(f, ";{name}={value}")?;
            }
        }
        self.when_full
            .map_or(Ok(()), |word| write!(f, ";when_full={}", word.word()))
    }
}

impl Setting for ChannelRules {
    fn parse(text: &str, _key: &Key) -> Option<Self> {
        read(text).ok()
    }

    fn spell(&self, _text: &str) -> String {
        let rules: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        rules.join(",")
    }

    fn expected(text: &str, key: &Key) -> String {
        debug_assert_eq!(key.unit, Unit::None, "rules are no quantity");
        match read(text) {
            Ok(_) => key.expected(),
            Err(Fault { rule, what }) => format!(
                "`pattern=orders.>;retention_minutes=60`, rules separated by commas; \
                 rule {rule}: {what}"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn fault(text: &str) -> String {
        let Fault { rule, what } = read(text).expect_err(text);
        format!("{rule}: {what}")
    }

    #[test]
    fn patterns_match_whole_names_by_token() {
        let cases = [
            ("a.b", "a.b", true),
            ("a.b", "a.B", false),
            ("a.b", "a", false),
            ("a.b", "a.b.c", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("*.b", "a.b", true),
            ("a.>", "a.b.c", true),
            ("a.>", "a.b", true),
            ("a.>", "a", false),
            (">", "a", true),
            (">", "a.b", true),
            ("*", "a.b", false),
        ];
        for (pattern, channel, expected) in cases {
            assert_eq!(matches(pattern, channel), expected, "{pattern} {channel}");
        }
    }

    #[test]
    fn first_rule_that_matches_counts_and_the_rest_is_general() {
        let text = "pattern=orders.eu;retention_minutes=0, pattern=orders.>;bytesMax=1GiB;\
            whenFull=drop-oldest;messages_max=5,";
        let mut store = Config::default().store;
        store.rules = read(text).expect("these are rules");
        store.bytes_max = 7;
        let general = store.limits_for("other");
        let minutes = store.retention;
        let when_full = WhenFull::Reject;
        assert_eq!((general.retention, general.when_full), (minutes, when_full));
        assert_eq!((general.messages_max, general.bytes_max), (0, 7));
        let eu = store.limits_for("orders.eu");
        assert_eq!((eu.retention, eu.bytes_max, eu.messages_max), (None, 7, 0));
        let us = store.limits_for("orders.us");
        assert_eq!((us.retention, us.bytes_max), (minutes, 1 << 30));
        assert_eq!((us.messages_max, us.when_full), (5, WhenFull::DropOldest));
    }

    #[test]
    fn what_makes_no_rule_is_named_with_its_number() {
        let rules = [
            ("pattern=a,retention_minutes=5", "2: a rule needs a pattern"),
            ("orders", "1: \"orders\" is not name=value"),
            ("pattern=a;size=5", "1: unknown field \"size\"; known are"),
            ("pattern=a;pattern=b", "1: pattern stands twice"),
            (
                "pattern=a.>.c",
                "1: pattern \"a.>.c\": > stands at the end only",
            ),
            (
                "pattern=a*",
                "1: pattern \"a*\": a wildcard is a whole token",
            ),
            ("pattern=a b", "1: pattern \"a b\": name holds white space"),
            (
                "pattern=a;retention_minutes=-1",
                "1: retention_minutes is \"-1\"",
            ),
            ("pattern=a;bytes_max=1GB", "1: bytes_max is \"1GB\""),
            ("pattern=a;when_full=maybe", "reject, drop-oldest"),
        ];
        for (text, expected) in rules {
            let found = fault(text);
            assert!(found.contains(expected), "{text}: {found}");
        }
        assert!(fault(&"pattern=a,".repeat(RULES_MAX + 1)).contains("more than"));
    }

    #[test]
    fn rules_are_spelled_as_they_are_read() {
        let text = "pattern=a.>;retention_minutes=1;messages_max=2;bytes_max=3;\
            when_full=drop-oldest,pattern=b";
        let rules = read(text).expect("these are rules");
        assert_eq!(rules.spell(""), text);
        assert_eq!(rules.as_slice().len(), 2);
        assert_eq!(read(""), Ok(ChannelRules::default()));
    }
}
