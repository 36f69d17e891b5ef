//! `ringmq auth check`: what a policy says, and why.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::cli::failure::Failure;
use crate::cli::text::{counted, harmless};
use crate::cli::{answer, exit};
use crate::config::{Config, Error, PolicySource};
use crate::model::Kind;
use crate::security::policy::{Decision, Policy, RuleId};
use crate::security::{Action, Attempt, Resource};

/// Which policy, who, and what.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(in crate::cli) struct CheckArgs {
    /// The client id of who wants to do something
    #[arg(long = "as", value_name = "CLIENT", requires_all = ["action", "on"])]
    client: Option<String>,
    /// A role that it has; may be repeated
    #[arg(long = "role", value_name = "ROLE", requires = "client")]
    roles: Vec<String>,
    /// What it wants to do
    #[arg(long = "can", value_enum, requires = "client")]
    action: Option<Verb>,
    /// To what: `events:orders.>`, `queues:orders`, `management`
    #[arg(long, value_name = "KIND:CHANNEL", value_parser = parse_thing, requires = "client")]
    on: Option<Thing>,
    /// File with the policy, instead of the one that the settings name
    #[arg(long, value_name = "PATH")]
    policy: Option<PathBuf>,
    /// Match parts of names, as the reference does [default: authorization.unanchored]
    #[arg(long)]
    unanchored: bool,
}

/// What is done to a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Verb {
    /// Receive, subscribe, peek; look at the broker
    Read,
    /// Send, acknowledge all; change channels
    Write,
}

impl Verb {
    const fn action(self) -> Action {
        match self {
            Self::Read => Action::Read,
            Self::Write => Action::Write,
        }
    }
}

/// What something is done to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Thing {
    resource: Resource,
    channel: String,
}

/// Where a policy is, and how it is to be read.
#[derive(Debug)]
pub(super) struct Source {
    place: Option<PolicySource>,
    unanchored: bool,
}

fn parse_thing(text: &str) -> Result<Thing, String> {
    let (kind, channel) = text.split_once(':').unwrap_or((text, ""));
    let resource = match kind {
        "management" => Resource::Management,
        kind => {
            let kind = Kind::from_name(&kind.replace('-', "_"))
                .ok_or("a kind is events, events_store, queues, commands, queries or management")?;
            if channel.is_empty() {
                return Err(format!("a channel is missing, as in {kind}:orders"));
            }
            Resource::Messages(kind)
        }
    };
    let channel = channel.to_owned();
    Ok(Thing { resource, channel })
}

impl CheckArgs {
    /// The policy that is meant. The settings are read only when it is not given.
    pub(super) fn source(
        &self,
        load: impl FnOnce() -> Result<Config, Error>,
    ) -> Result<Source, Error> {
        if let Some(path) = &self.policy {
            return Ok(Source {
                place: Some(PolicySource::File(path.clone())),
                unanchored: self.unanchored,
            });
        }
        let authorization = load()?.authorization;
        Ok(Source {
            place: authorization.policy_source(),
            unanchored: self.unanchored || authorization.unanchored,
        })
    }
}

/// Reads the policy, and asks it. The exit code says what it answered.
pub(super) fn run(args: &CheckArgs, source: Source) -> Result<ExitCode, Failure> {
    let (text, origin) = read(source.place)?;
    let policy = match Policy::parse(&text, &origin, source.unanchored) {
        Ok(policy) => policy,
        Err(error) => {
            eprintln!("ringmq: {error}");
            return Ok(ExitCode::from(exit::CONFIG));
        }
    };
    for warning in policy.warnings() {
        eprintln!("warning: {warning}");
    }
    let (Some(client_id), Some(verb), Some(thing)) = (&args.client, args.action, &args.on) else {
        let rules = counted(u64::try_from(policy.len()).unwrap_or(u64::MAX), "rule");
        answer(&format!("{origin}: {rules}, nothing is wrong with it\n"));
        return Ok(ExitCode::SUCCESS);
    };
    let roles: Vec<Box<str>> = args.roles.iter().map(|role| role.as_str().into()).collect();
    let attempt = Attempt {
        resource: thing.resource,
        action: verb.action(),
        client_id,
        channel: &thing.channel,
    };
    let decision = policy.decide(&roles, &attempt);
    answer(&explain(&decision, &attempt, &origin));
    Ok(if decision.is_allowed() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(exit::REFUSED)
    })
}

/// The text of a policy, and what it is called.
fn read(place: Option<PolicySource>) -> Result<(String, String), Failure> {
    match place {
        Some(PolicySource::Text(text)) => Ok((text, "authorization.policy_data".to_owned())),
        Some(PolicySource::File(path)) => {
            let what = path.display().to_string();
            match std::fs::read_to_string(&path) {
                Ok(text) => Ok((text, what)),
                Err(source) => Err(Failure::Input { what, source }),
            }
        }
        Some(PolicySource::Url(url)) => Err(Failure::Usage(format!(
            "the policy is at {url}: fetch it, and name the file by --policy"
        ))),
        None => Err(Failure::Usage(
            "there is no policy: name a file by --policy, or set authorization.file_path".into(),
        )),
    }
}

fn explain(decision: &Decision, attempt: &Attempt<'_>, origin: &str) -> String {
    let (verb, may) = match (attempt.action, decision.is_allowed()) {
        (Action::Read, true) => ("read", "may"),
        (Action::Read, false) => ("read", "may not"),
        (Action::Write, true) => ("write", "may"),
        (Action::Write, false) => ("write", "may not"),
    };
    let thing = match attempt.resource {
        Resource::Messages(kind) => format!("{kind}:{}", attempt.channel),
        Resource::Management if attempt.channel.is_empty() => "management".to_owned(),
        Resource::Management => format!("management:{}", attempt.channel),
    };
    let verdict = if decision.is_allowed() {
        "allowed"
    } else {
        "denied"
    };
    let client = attempt.client_id;
    let text = format!(
        "{verdict}: {client} {may} {verb} {thing}\n  {}\n",
        reason(decision, origin)
    );
    harmless(&text).into_owned()
}

fn reason(decision: &Decision, origin: &str) -> String {
    let rule = |rule: &RuleId| {
        let (number, place) = (rule.number, rule.place);
        format!("rule {number} ({origin}:{}:{})", place.line, place.column)
    };
    let all = |rules: &[RuleId]| rules.iter().map(rule).collect::<Vec<_>>().join(" and ");
    match decision {
        Decision::Allowed(rules) => format!("by {}", all(rules)),
        Decision::NoRule => "no rule allows it".to_owned(),
        Decision::Uncovered { rules, example } => {
            format!(
                "only a part of it is allowed by {}: not {example}",
                all(rules)
            )
        }
        Decision::Denied { rule: by, example } => format!("{} denies {example}", rule(by)),
        Decision::TooComplex => "whether the rules allow all that the wildcards match takes too \
                                 long to find out: write simpler expressions"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"[
  {"ClientID": "alice", "Channel": "orders\\.eu", "Events": true, "Read": true},
  {"Roles": ["ops"], "Channel": ".*", "Events": true, "Read": true},
  {"ClientID": ".*", "Channel": "secret", "Events": true, "Read": true, "Deny": true}
]"#;

    fn explained(client_id: &str, roles: &[&str], on: &str) -> String {
        let policy = Policy::parse(JSON, "p.json", false).unwrap();
        let thing = parse_thing(on).unwrap();
        let roles: Vec<Box<str>> = roles.iter().map(|role| (*role).into()).collect();
        let attempt = Attempt {
            resource: thing.resource,
            action: Action::Read,
            client_id,
            channel: &thing.channel,
        };
        explain(&policy.decide(&roles, &attempt), &attempt, "p.json")
    }

    #[test]
    fn each_decision_is_explained_by_its_rules() {
        for (client, roles, on, expected) in [
            (
                "alice",
                &[][..],
                "events:orders.eu",
                "allowed: alice may read events:orders.eu\n  by rule 1 (p.json:2:3)\n",
            ),
            (
                "alice",
                &[],
                "events:orders.>",
                "denied: alice may not read events:orders.>\n  \
                 only a part of it is allowed by rule 1 (p.json:2:3): not orders.x\n",
            ),
            (
                "bob",
                &[],
                "events:orders.eu",
                "denied: bob may not read events:orders.eu\n  no rule allows it\n",
            ),
            (
                "bob",
                &["ops"],
                "events:>",
                "denied: bob may not read events:>\n  rule 3 (p.json:4:3) denies secret\n",
            ),
            (
                "bob",
                &["ops"],
                "events:a.*",
                "allowed: bob may read events:a.*\n  by rule 2 (p.json:3:3)\n",
            ),
            (
                "b\u{1b}",
                &["ops"],
                "management",
                "denied: b\u{fffd} may not read management\n  no rule allows it\n",
            ),
        ] {
            assert_eq!(explained(client, roles, on), expected);
        }
    }

    #[test]
    fn a_thing_is_a_kind_and_a_channel() {
        let queue = parse_thing("queues:a:b").unwrap();
        assert_eq!(queue.resource, Resource::Messages(Kind::Queues));
        assert_eq!(queue.channel, "a:b");
        let stored = parse_thing("events-store:a").unwrap().resource;
        assert_eq!(stored, Resource::Messages(Kind::EventsStore));
        assert_eq!(parse_thing("management:a").unwrap().channel, "a");
        for wrong in ["", "a", "queues", "queues:", "topic:a"] {
            assert!(parse_thing(wrong).is_err(), "{wrong}");
        }
    }
}
