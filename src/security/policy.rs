//! May they: rules that name clients and channels.
//!
//! ```text
//!   [ {"ClientID": "billing-.*", "Channel": "orders\\..*", "Queues": true, "Read": true},
//!     {"Roles": ["auditor"], "Channel": ".*", "EventsStore": true, "Read": true},
//!     {"ClientID": ".*", "Channel": "orders\\.x", "Queues": true, "Read": true, "Deny": true} ]
//! ```
//!
//! A rule is about some kinds of channels (or the broker's management), about reading, writing or
//! both, about the clients whose id its expression matches, or who have one of its roles, or both,
//! and about the channels that its other expression matches. Something is allowed when a rule
//! allows it and none denies it; the order of the rules does not matter.
//!
//! A subscription with wildcards stands for every channel that it can match. It is allowed when
//! the rules that allow, taken together, hold all these channels, and no rule that denies holds
//! one of them. That is decided by automata, exactly (`cover`).
//!
//! # Threading
//! A policy never changes and is shared by all executors; what was decided lately is remembered
//! by each of them for itself ([`Decisions`]).

mod cover;
mod decisions;
mod dialect;
mod format;
mod language;
mod reader;
#[cfg(test)]
mod tests;
mod wildcard;

use std::collections::HashSet;
use std::sync::Arc;

use super::{Action, Attempt, Resource};
use crate::model::Kind;
use crate::model::identity::Identity;

use cover::{TooComplex, Work};
use language::Language;
use wildcard::{Token, Wildcard};

pub use decisions::Decisions;
pub use reader::Place;

/// Largest policy, in bytes of its JSON.
pub const POLICY_BYTES_MAX: usize = 2 << 20;

/// Rules that a policy may have.
pub const RULES_MAX: usize = 8_192;

/// Roles that a rule may name.
pub const ROLES_MAX: usize = 64;

/// Memory of all expressions of a policy together.
const LANGUAGES_BYTES_MAX: usize = 64 << 20;

/// What is allowed.
#[derive(Debug)]
pub struct Policy {
    rules: Vec<Rule>,
    token: Token,
    unanchored: bool,
    has_roles: bool,
}

#[derive(Debug)]
struct Rule {
    number: usize,
    place: Place,
    /// `None`: roles alone decide.
    client: Option<Arc<Language>>,
    roles: Box<[Box<str>]>,
    channel: Arc<Language>,
    resources: u8,
    read: bool,
    write: bool,
    deny: bool,
}

/// Which rule it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleId {
    /// Counted from 1.
    pub number: usize,
    /// Where it begins.
    pub place: Place,
}

/// What a policy says of an attempt, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is allowed, for a subscription with wildcards perhaps by several rules together.
    Allowed(Vec<RuleId>),
    /// No rule allows it.
    NoRule,
    /// The rules allow a part of what a wildcard matches.
    Uncovered {
        /// Those that do.
        rules: Vec<RuleId>,
        /// A channel that is not in the part.
        example: String,
    },
    /// A rule denies it.
    Denied {
        /// That rule.
        rule: RuleId,
        /// The channel that it is about; one of those that a wildcard matches.
        example: String,
    },
    /// Whether the rules cover a wildcard cannot be found out in the time there is, so they do
    /// not.
    TooComplex,
}

impl Decision {
    /// Whether it is allowed.
    #[must_use]
    pub const fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed(_))
    }
}

/// Why a text is no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{origin}: line {}, column {}{}: {problem}",
    place.line,
    place.column,
    if *decoded { " (behind base64)" } else { "" }
)]
pub struct PolicyError {
    /// Where the text comes from: a file, a key of the configuration, an address.
    pub origin: String,
    /// Where in the text.
    pub place: Place,
    /// Whether the place counts in what the base64 of the text stands for.
    pub decoded: bool,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong with a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// It is longer than [`POLICY_BYTES_MAX`].
    #[error("the policy has {0} bytes, it may have {POLICY_BYTES_MAX}")]
    TooLong(usize),
    /// What was in base64 is no text.
    #[error("what the base64 stands for is no text")]
    NotText,
    /// Something else should be there.
    #[error("expected {what}, found {}", found.map_or("the end".to_owned(), |c| format!("{c:?}")))]
    Expected {
        /// What should be there.
        what: &'static str,
        /// What is there.
        found: Option<char>,
    },
    /// A text has no end.
    #[error("the text has no closing quote")]
    Unclosed,
    /// A text is not written as JSON wants it.
    #[error("a control character, or a bad escape, in a text; in JSON a backslash is written \\\\")]
    BadText,
    /// There is no such field.
    #[error("unknown field {name:?}{}", nearest.map_or(String::new(), |n| format!(", is it {n}?")))]
    UnknownField {
        /// What is there.
        name: String,
        /// What may be meant.
        nearest: Option<&'static str>,
    },
    /// A rule has a field twice.
    #[error("the field {0:?} is there twice")]
    Twice(String),
    /// A value is of another type.
    #[error("expected {0}")]
    Type(&'static str),
    /// A value that must say something is empty.
    #[error("{0} is empty")]
    Empty(&'static str),
    /// A rule is about nobody.
    #[error("the rule has neither ClientID nor Roles")]
    Nobody,
    /// A rule does not say which channels.
    #[error("the rule has no Channel")]
    NoChannel,
    /// A rule denies, and does not say what.
    #[error("the rule denies nothing: it needs a kind of channels, and Read or Write")]
    DeniesNothing,
    /// There are more than [`RULES_MAX`].
    #[error("more than {RULES_MAX} rules")]
    TooManyRules,
    /// There are more than [`ROLES_MAX`].
    #[error("more than {ROLES_MAX} roles in a rule")]
    TooManyRoles,
    /// An expression is none.
    #[error("no regular expression: {0}")]
    Pattern(String),
    /// An expression needs too much memory.
    #[error(
        "the expression needs an automaton of more than {} bytes",
        language::AUTOMATON_BYTES_MAX
    )]
    TooLarge,
    /// All expressions together need too much memory.
    #[error("the expressions so far need automata of more than {LANGUAGES_BYTES_MAX} bytes")]
    TooLargeTogether,
}

impl Policy {
    /// Reads a policy: JSON, or base64 of it. `origin` says in errors where the text comes from.
    /// With `unanchored`, expressions match a part of a client's id or a channel's name, as in
    /// the reference; otherwise all of it.
    ///
    /// Takes time: not for an executor.
    ///
    /// # Errors
    /// The first thing that is wrong with it, with line and column.
    pub fn parse(text: &str, origin: &str, unanchored: bool) -> Result<Self, PolicyError> {
        let error = |text: &str, decoded, fault: reader::Fault| PolicyError {
            origin: origin.to_owned(),
            place: Place::of(text, fault.at),
            decoded,
            problem: fault.problem,
        };
        let decoded = format::decode(text)
            .transpose()
            .map_err(|problem| error(text, false, reader::Fault { at: 0, problem }))?;
        let is_decoded = decoded.is_some();
        let text = decoded.as_deref().unwrap_or(text);
        let rules =
            format::rules(text, unanchored).map_err(|fault| error(text, is_decoded, fault))?;
        Ok(Self {
            has_roles: rules.iter().any(|rule| !rule.roles.is_empty()),
            rules,
            token: Token::new(),
            unanchored,
        })
    }

    /// How many rules there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there are none: nothing is allowed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a rule names roles.
    #[must_use]
    pub const fn has_roles(&self) -> bool {
        self.has_roles
    }

    /// What an operator should know of a policy that is in force.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.unanchored {
            let text = "expressions match parts of names: `a` also allows `xax`; \
                        unset authorization.unanchored once they are written for whole names";
            warnings.push(text.to_owned());
        }
        if self.is_empty() {
            warnings.push("there is no rule: nobody may do anything".to_owned());
        }
        let idle = |rule: &&Rule| rule.resources == 0 || !(rule.read || rule.write);
        for rule in self.rules.iter().filter(idle).take(10) {
            let (number, line) = (rule.number, rule.place.line);
            warnings.push(format!(
                "rule {number} (line {line}) allows nothing: it has no kind of channels, or \
                 neither Read nor Write"
            ));
        }
        warnings
    }

    /// Whether a rule allows an attempt, and none forbids it.
    #[must_use]
    pub fn allows(&self, identity: &Identity, attempt: &Attempt<'_>) -> bool {
        self.decide(&identity.roles, attempt).is_allowed()
    }

    /// What the rules say of an attempt by somebody who has these roles.
    #[must_use]
    pub fn decide(&self, roles: &[Box<str>], attempt: &Attempt<'_>) -> Decision {
        let concerned = |rule: &&Rule| rule.concerns(roles, attempt);
        let (denying, allowing): (Vec<&Rule>, Vec<&Rule>) = self
            .rules
            .iter()
            .filter(concerned)
            .partition(|rule| rule.deny);
        if allowing.is_empty() && denying.is_empty() {
            return Decision::NoRule;
        }
        match Wildcard::of(attempt.channel, &self.token) {
            None => decide_name(&denying, &allowing, attempt.channel),
            Some(wildcard) => {
                decide_wildcard(&denying, &allowing, &wildcard).unwrap_or(Decision::TooComplex)
            }
        }
    }
}

impl Rule {
    const fn id(&self) -> RuleId {
        RuleId {
            number: self.number,
            place: self.place,
        }
    }

    /// Whether the rule is about the attempt, its channel aside.
    fn concerns(&self, roles: &[Box<str>], attempt: &Attempt<'_>) -> bool {
        let action = match attempt.action {
            Action::Read => self.read,
            Action::Write => self.write,
        };
        let client = |client: &Arc<Language>| client.matches(attempt.client_id);
        action
            && self.resources & resource_bit(attempt.resource) != 0
            && (self.roles.is_empty() || roles.iter().any(|role| self.roles.contains(role)))
            && self.client.as_ref().is_none_or(client)
    }
}

const fn resource_bit(resource: Resource) -> u8 {
    match resource {
        Resource::Messages(Kind::Events) => 1,
        Resource::Messages(Kind::EventsStore) => 1 << 1,
        Resource::Messages(Kind::Queues) => 1 << 2,
        Resource::Messages(Kind::Commands) => 1 << 3,
        Resource::Messages(Kind::Queries) => 1 << 4,
        Resource::Management => 1 << 5,
    }
}

fn decide_name(denying: &[&Rule], allowing: &[&Rule], channel: &str) -> Decision {
    let holds = |rule: &&&Rule| rule.channel.matches(channel);
    if let Some(rule) = denying.iter().find(holds) {
        let example = channel.to_owned();
        return Decision::Denied {
            rule: rule.id(),
            example,
        };
    }
    let allowed = allowing.iter().find(holds);
    allowed.map_or(Decision::NoRule, |rule| Decision::Allowed(vec![rule.id()]))
}

fn decide_wildcard(
    denying: &[&Rule],
    allowing: &[&Rule],
    wildcard: &Wildcard<'_>,
) -> Result<Decision, TooComplex> {
    let mut work = Work::new();
    for rule in denying {
        if let Some(example) = cover::overlap(wildcard, &rule.channel, &mut work)? {
            let rule = rule.id();
            return Ok(Decision::Denied { rule, example });
        }
    }
    // Mostly one rule covers it all, whatever others there are.
    for rule in allowing.iter().filter(|rule| rule.channel.is_many()) {
        if cover::uncovered(wildcard, &[&*rule.channel], &mut work)?.is_none() {
            return Ok(Decision::Allowed(vec![rule.id()]));
        }
    }
    // Rules that hold nothing of it need not be followed.
    let (mut parts, mut seen) = (Vec::new(), HashSet::new());
    for rule in allowing {
        let is_new = seen.insert(Arc::as_ptr(&rule.channel));
        if is_new && cover::overlap(wildcard, &rule.channel, &mut work)?.is_some() {
            parts.push(*rule);
        }
    }
    if parts.is_empty() {
        return Ok(Decision::NoRule);
    }
    let rules = parts.iter().map(|rule| rule.id()).collect();
    let languages: Vec<&Language> = parts.iter().map(|rule| &*rule.channel).collect();
    Ok(match cover::uncovered(wildcard, &languages, &mut work)? {
        None => Decision::Allowed(rules),
        Some(example) => Decision::Uncovered { rules, example },
    })
}
