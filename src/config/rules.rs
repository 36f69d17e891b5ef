//! Limits of stored channels, and the ways of queues, by pattern.
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
use std::sync::Arc;
use std::time::Duration;

use super::key::{Key, Redelivery, Setting, Unit, WhenFull, parse_bytes, parse_channel};
use super::reference::normalise;
use super::settings::{Queue, Store};
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
    /// Where a message goes whose delivery failed.
    pub redelivery: Option<Redelivery>,
    /// How long the consumer of a downstream stream has its messages, in seconds; 0: as long as
    /// its stream lives.
    pub visibility_seconds: Option<u64>,
    /// Queue for dead letters that name none; `Some(None)`: they are dropped.
    pub dead_letter_queue: Option<Option<Arc<str>>>,
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

/// The ways of one queue, after the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueRules {
    /// Where a message goes whose delivery failed.
    pub redelivery: Redelivery,
    /// How long the consumer of a downstream stream has its messages when it does not say;
    /// `None`: as long as its stream lives.
    pub visibility: Option<Duration>,
    /// Queue for dead letters that name none; `None`: they are dropped.
    pub dead_letter_queue: Option<Arc<str>>,
}

/// More rules than this are a mistake: every new channel tries all of them.
const RULES_MAX: usize = 1_024;

/// A hundred years.
const MINUTES_MAX: u64 = 52_560_000;

/// What clients write as a 32-bit number of seconds.
const SECONDS_MAX: u64 = 0x7fff_ffff;

impl Queue {
    /// The ways of a queue: those of the first of the store's rules whose pattern matches, and the
    /// general ones where it has none. It costs what [`Store::limits_for`] does.
    #[must_use]
    pub fn rules_for(&self, store: &Store, channel: &str) -> QueueRules {
        let general = QueueRules {
            redelivery: self.redelivery,
            visibility: self.visibility,
            dead_letter_queue: self.dead_letter_queue.clone(),
        };
        let Some(rule) = store.rules.rule_for(channel) else {
            return general;
        };
        let seconds = |seconds: u64| (seconds > 0).then(|| Duration::from_secs(seconds));
        QueueRules {
            redelivery: rule.redelivery.unwrap_or(general.redelivery),
            visibility: rule.visibility_seconds.map_or(general.visibility, seconds),
            dead_letter_queue: rule
                .dead_letter_queue
                .clone()
                .unwrap_or(general.dead_letter_queue),
        }
    }
}

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
        let Some(rule) = self.rules.rule_for(channel) else {
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

impl Store {
    /// Gives a channel of the broker's own its retention, in minutes, 0 for ever, unless a rule is
    /// for just this channel. The rest of its limits is what it would be otherwise.
    pub(super) fn imply_retention(&mut self, channel: &str, minutes: u64) {
        let rules = &mut self.rules;
        if rules.0.iter().any(|rule| rule.pattern == channel) {
            return;
        }
        let implied = ChannelRule {
            pattern: channel.to_owned(),
            retention_minutes: Some(minutes),
            ..rules.rule_for(channel).cloned().unwrap_or_default()
        };
        rules.0.insert(0, implied);
    }
}

impl ChannelRules {
    /// The rules, in the order in which they are tried.
    #[must_use]
    pub fn as_slice(&self) -> &[ChannelRule] {
        &self.0
    }

    fn rule_for(&self, channel: &str) -> Option<&ChannelRule> {
        self.0.iter().find(|rule| matches(&rule.pattern, channel))
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
        "redelivery" => {
            let word = Redelivery::from_word(value);
            rule.redelivery = Some(word.ok_or_else(|| wrong(&Redelivery::WORDS.join(", ")))?);
        }
        "visibilityseconds" => {
            let seconds = value.parse().ok();
            let seconds = seconds.filter(|seconds| *seconds <= SECONDS_MAX);
            let expected = || wrong(&format!("0 to {SECONDS_MAX}"));
            rule.visibility_seconds = Some(seconds.ok_or_else(expected)?);
        }
        "deadletterqueue" => {
            let expected = |error| wrong(&format!("a channel, or nothing: {error}"));
            rule.dead_letter_queue = Some(parse_channel(value).map_err(expected)?);
        }
        _ => {
            let known = "pattern, retention_minutes, messages_max, bytes_max, when_full, \
                redelivery, visibility_seconds, dead_letter_queue";
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
            ("visibility_seconds", self.visibility_seconds),
        ];
        for (name, value) in numbers {
            if let Some(value) = value {
                write!(f, ";{name}={value}")?;
            }
        }
        if let Some(when_full) = self.when_full {
            write!(f, ";when_full={}", when_full.word())?;
        }
        if let Some(redelivery) = self.redelivery {
            write!(f, ";redelivery={}", redelivery.word())?;
        }
        if let Some(queue) = &self.dead_letter_queue {
            write!(f, ";dead_letter_queue={}", queue.as_deref().unwrap_or(""))?;
        }
        Ok(())
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
    fn a_retention_is_implied_where_no_rule_is_for_just_that_channel() {
        let mut store = Config::default().store;
        let text = "pattern=kept;retention_minutes=7,pattern=>;bytes_max=7";
        store.rules = read(text).expect("these are rules");
        store.imply_retention("kept", 60);
        store.imply_retention("audit", 60);
        store.imply_retention("ever", 0);
        let retention = |channel| store.limits_for(channel).retention;
        assert_eq!(retention("kept"), Some(Duration::from_secs(7 * 60)));
        assert_eq!(retention("audit"), Some(Duration::from_secs(60 * 60)));
        assert_eq!(retention("ever"), None);
        assert_eq!(retention("other"), store.retention);
        assert_eq!(store.limits_for("audit").bytes_max, 7, "the rule for all");
    }

    #[test]
    fn queues_go_their_own_ways_by_the_same_rules() {
        let Config {
            mut store,
            mut queue,
            ..
        } = Config::default();
        let text = "pattern=fifo;redelivery=in-place;dead_letter_queue=,\
            pattern=jobs.>;visibility_seconds=30;dead_letter_queue=dead";
        store.rules = read(text).expect("these are rules");
        queue.visibility = Some(Duration::from_secs(5));
        queue.dead_letter_queue = Some("parked".into());
        let ways = |channel| {
            let rules = queue.rules_for(&store, channel);
            let seconds = rules.visibility.map(|visibility| visibility.as_secs());
            let dead_letters = rules.dead_letter_queue.as_deref().map(str::to_owned);
            (rules.redelivery, seconds, dead_letters)
        };
        let (tail, in_place) = (Redelivery::Tail, Redelivery::InPlace);
        assert_eq!(ways("other"), (tail, Some(5), Some("parked".to_owned())));
        assert_eq!(ways("fifo"), (in_place, Some(5), None));
        assert_eq!(ways("jobs.eu"), (tail, Some(30), Some("dead".to_owned())));
        store.rules = read("pattern=jobs.>;visibility_seconds=0").expect("these are rules");
        assert_eq!(queue.rules_for(&store, "jobs.eu").visibility, None);
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
            ("pattern=a;redelivery=head", "tail, in-place"),
            (
                "pattern=a;visibility_seconds=1m",
                "1: visibility_seconds is \"1m\"",
            ),
            (
                "pattern=a;dead_letter_queue=b.",
                "1: dead_letter_queue is \"b.\": allowed is a channel, or nothing: name ends",
            ),
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
            visibility_seconds=4;when_full=drop-oldest;redelivery=in-place;dead_letter_queue=dead,\
            pattern=b;dead_letter_queue=";
        let rules = read(text).expect("these are rules");
        assert_eq!(rules.spell(""), text);
        assert_eq!(rules.as_slice().len(), 2);
        assert_eq!(read(""), Ok(ChannelRules::default()));
    }
}
