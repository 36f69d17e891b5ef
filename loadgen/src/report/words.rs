//! A scenario and a verdict in words, alike in each report.

use crate::outcome::Outcome;
use crate::report::units;
use crate::scenario::{Arrivals, Calls, Load, Pattern, Payload, Rate, Scenario};

/// What can be said about a result. The exit code of the process says the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// Valid, and every message came as it should.
    Good,
    /// The figures are not those of the server.
    Invalid,
    /// The server lost, repeated, reordered or damaged messages. That stands, valid or not.
    Violated,
}

impl Verdict {
    pub(crate) fn of(outcome: &Outcome) -> Self {
        if outcome.checks.violations() > 0 {
            Self::Violated
        } else if outcome.invalid.is_empty() {
            Self::Good
        } else {
            Self::Invalid
        }
    }

    /// What the process ends with; 1 is an error, 2 wrong usage.
    pub(crate) const fn exit_code(self) -> u8 {
        match self {
            Self::Good => 0,
            Self::Violated => 3,
            Self::Invalid => 4,
        }
    }

    /// The name in JSON.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Violated => "violated",
            Self::Invalid => "invalid",
        }
    }

    /// One word for the head of a report.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Good => "Valid",
            Self::Violated => "Violations",
            Self::Invalid => "Not valid",
        }
    }
}

/// The verdict in one sentence.
pub(crate) fn verdict(outcome: &Outcome) -> String {
    let checks = &outcome.checks;
    let checked = units::count(checks.checked);
    match Verdict::of(outcome) {
        Verdict::Good if checks.checked == 0 => {
            "nothing was received, so nothing could be checked".into()
        }
        Verdict::Good => {
            format!("{checked} messages checked: none lost, repeated, reordered or damaged")
        }
        Verdict::Invalid => "these figures are not those of the server".into(),
        Verdict::Violated => {
            let found = [
                (checks.lost, "lost"),
                (checks.duplicated, "repeated"),
                (checks.reordered, "out of order"),
                (checks.corrupted, "damaged"),
            ];
            let found: Vec<String> = found
                .iter()
                .filter(|(count, _)| *count > 0)
                .map(|(count, what)| format!("{} {what}", units::count(*count)))
                .collect();
            format!("{}; {checked} messages checked", found.join(", "))
        }
    }
}

/// The name that the user gave, or what the scenario is.
pub(crate) fn name(scenario: &Scenario) -> String {
    if scenario.name.is_empty() {
        format!("{}, {}", what(scenario), load(scenario))
    } else {
        scenario.name.clone()
    }
}

/// Pattern, way and size: `events over streams, 1 KiB`.
pub(crate) fn what(scenario: &Scenario) -> String {
    let pattern = match scenario.pattern {
        Pattern::Events => "events",
        Pattern::EventsStore => "events store",
        Pattern::Queue => "queue",
        Pattern::Command => "commands",
        Pattern::Query => "queries",
        Pattern::Echo => "echo",
    };
    let requests = matches!(scenario.pattern, Pattern::Command | Pattern::Query);
    let way = match scenario.calls {
        // There is but one way to make a request.
        _ if requests => "",
        Calls::Stream => " over streams",
        Calls::Unary => " by unary calls",
    };
    format!("{pattern}{way}, {}", payload(&scenario.payload))
}

/// Who takes part: `8 channels, each 2 producers, 4 consumers in 2 groups`.
pub(crate) fn shape(scenario: &Scenario) -> String {
    let (senders, receivers) = match scenario.pattern {
        Pattern::Command | Pattern::Query => ("caller", "responder"),
        _ => ("producer", "consumer"),
    };
    let plural = |count: u32, noun: &str| {
        let s = if count == 1 { "" } else { "s" };
        format!("{} {noun}{s}", units::count(count.into()))
    };
    let channels = plural(scenario.channels, "channel");
    let each = if scenario.channels == 1 { "" } else { "each " };
    let sending = plural(scenario.producers, senders);
    if scenario.pattern == Pattern::Echo {
        return format!("{channels}, {each}{sending}");
    }
    let receiving = plural(scenario.consumers, receivers);
    let groups = match scenario.groups {
        0 => String::new(),
        groups => format!(" in {}", plural(groups, "group")),
    };
    format!("{channels}, {each}{sending}, {receiving}{groups}")
}

/// How fast: `closed loop, window 1,024`, `open loop, 10,000/s evenly spaced`.
pub(crate) fn load(scenario: &Scenario) -> String {
    let Load::Open { arrivals, rate } = &scenario.load else {
        return format!(
            "closed loop, window {}",
            units::count(scenario.window.into())
        );
    };
    let rate = match rate {
        Rate::Constant(rate) => units::rate(*rate),
        Rate::Ramp { from, to } => format!("{} to {}", units::rate(*from), units::rate(*to)),
        Rate::Steps(steps) => format!("{} steps", steps.len()),
    };
    let arrivals = match arrivals {
        Arrivals::Constant => "evenly spaced",
        Arrivals::Poisson => "Poisson",
    };
    format!("open loop, {rate} {arrivals}")
}

/// Sizes of bodies.
fn payload(payload: &Payload) -> String {
    let size = |bytes: u32| units::without_zeros(&units::bytes(bytes.into()));
    match payload {
        Payload::Fixed(bytes) => size(*bytes),
        Payload::Uniform { least, most } => format!("{} to {}", size(*least), size(*most)),
        Payload::Normal { mean, deviation } => format!("{} ± {}", size(*mean), size(*deviation)),
        Payload::Mix(sizes) => format!("a mix of {} sizes", sizes.len()),
    }
}

/// What [`Outcome::main_latency`] is measured to.
pub(crate) const fn latency_to(scenario: &Scenario) -> &'static str {
    match (scenario.pattern, scenario.consumers) {
        (Pattern::Command | Pattern::Query | Pattern::Echo, _) => "to the answer",
        (_, 0) => "to the confirmation",
        _ => "to the consumer",
    }
}
