//! Runs against servers that make mistakes: each is found, named, and ends nothing badly.

mod relay;

use std::time::Duration;

use ringmq::rt;

use super::{Options, run};
use crate::outcome::Outcome;
use crate::scenario::{Arrivals, Load, Pattern, Rate, Scenario};
use crate::target::Target;

use relay::{Fault, serve_with};

fn scenario(pattern: Pattern) -> Scenario {
    Scenario {
        pattern,
        window: 64,
        batch: 8,
        warm_up: 0.1,
        duration: 0.4,
        drain: 2.0,
        ..Scenario::default()
    }
}

fn against(fault: Fault, scenario: &Scenario) -> anyhow::Result<Outcome> {
    let target = Target::resolve(&[serve_with(fault).to_string()])?;
    let options = Options {
        cpus: vec![None; 2],
        ..Options::default()
    };
    run(scenario, &target, &options, &mut |_| ())
}

/// The outcome of plain events through a server with this fault.
fn events(fault: Fault) -> Outcome {
    against(fault, &scenario(Pattern::Events)).unwrap()
}

/// A machine that is busy with other tests may make a result invalid, and rightly; what is wrong
/// with messages is never excused.
fn assert_sound(outcome: &Outcome) {
    assert_eq!(outcome.checks.violations(), 0, "{:?}", outcome.checks);
    assert!(outcome.checks.checked > 0);
    assert!(outcome.errors.is_empty(), "{:?}", outcome.errors);
}

#[test]
fn a_sound_server_passes() {
    let outcome = events(Fault::None);
    assert_sound(&outcome);
    assert!(outcome.counts.delivered > 0 && outcome.checks.checked > 0);
    assert_eq!(outcome.latency.len(), outcome.counts.intended);
    assert!(outcome.errors.is_empty(), "{:?}", outcome.errors);
}

#[test]
fn channels_are_spread_over_cores_and_each_group_gets_everything() {
    let scenario = Scenario {
        channels: 3,
        producers: 2,
        consumers: 4,
        groups: 2,
        connections: 2,
        ..scenario(Pattern::Events)
    };
    // The relay knows no groups: every consumer gets everything, so each group gets all twice.
    let outcome = against(Fault::None, &scenario).unwrap();
    assert_eq!(outcome.generator.busy.len(), 2);
    assert!(outcome.checks.duplicated > 0, "{:?}", outcome.checks);
    assert_eq!(outcome.checks.lost, 0);
    let scenario = Scenario {
        groups: 0,
        ..scenario
    };
    let outcome = against(Fault::None, &scenario).unwrap();
    assert_sound(&outcome);
}

#[test]
fn lost_messages_are_found() {
    let checks = events(Fault::Loses(50)).checks;
    assert!(
        checks.lost > 0 && checks.lost == checks.violations(),
        "{checks:?}"
    );
    // Every 50th, and nothing else.
    assert!(checks.lost.abs_diff(checks.checked / 49) <= 1, "{checks:?}");
    assert!(checks.examples[0].contains("such as number"), "{checks:?}");
}

#[test]
fn repeated_messages_are_found() {
    let checks = events(Fault::Repeats(50)).checks;
    assert!(checks.duplicated > 0, "{checks:?}");
    assert_eq!(checks.duplicated, checks.violations(), "{checks:?}");
}

#[test]
fn messages_that_change_places_are_found() {
    let checks = events(Fault::Swaps(50)).checks;
    assert!(checks.reordered > 0, "{checks:?}");
    // The last one may be held for ever.
    assert!(checks.violations() - checks.reordered <= 1, "{checks:?}");
    assert_eq!(checks.duplicated + checks.corrupted, 0, "{checks:?}");
}

#[test]
fn damaged_messages_are_found_and_not_lost_too() {
    let checks = events(Fault::Damages(50)).checks;
    assert!(checks.corrupted > 0, "{checks:?}");
    assert_eq!(checks.corrupted, checks.violations(), "{checks:?}");
}

#[test]
fn a_server_that_loses_everything_does_not_hold_the_run_up() {
    let began = rt::now();
    let outcome = events(Fault::Loses(1));
    assert!(outcome.checks.lost >= 64, "{:?}", outcome.checks);
    assert!(rt::now().since(began) < Duration::from_secs(10));
}

#[test]
fn a_stream_that_breaks_off_fails_what_was_in_flight_and_nothing_is_called_lost() {
    let outcome = events(Fault::EndsPublishing(500));
    assert_eq!(outcome.checks.violations(), 0, "{:?}", outcome.checks);
    let texts: Vec<_> = outcome.errors.iter().map(|error| &*error.text).collect();
    assert!(
        texts.iter().any(|text| text.contains("enough")),
        "{texts:?}"
    );
    let broke = outcome
        .invalid
        .iter()
        .any(|text| text.contains("broke off"));
    assert!(broke, "{:?}", outcome.invalid);
}

#[test]
fn a_subscription_that_breaks_off_is_an_error_and_the_rest_goes_on() {
    let scenario = Scenario {
        load: Load::Open {
            arrivals: Arrivals::Constant,
            rate: Rate::Constant(5_000.0),
        },
        ..scenario(Pattern::Events)
    };
    let outcome = against(Fault::EndsSubscriptions(500), &scenario).unwrap();
    assert_eq!(outcome.checks.violations(), 0, "{:?}", outcome.checks);
    assert_eq!(outcome.errors.len(), 1, "{:?}", outcome.errors);
    assert!(!outcome.invalid.is_empty());
}

#[test]
fn a_refused_subscription_is_an_error_with_the_servers_words() {
    let error = against(Fault::RefusesSubscriptions, &scenario(Pattern::Events)).unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("PermissionDenied: not you"), "{text}");
}

#[test]
fn nobody_at_the_address_is_an_error_that_names_it() {
    let target = Target::resolve(&["127.0.0.1:1".to_owned()]).unwrap();
    let result = run(
        &scenario(Pattern::Events),
        &target,
        &Options::default(),
        &mut |_| (),
    );
    let text = format!("{:#}", result.unwrap_err());
    assert!(text.contains("cannot connect to 127.0.0.1:1"), "{text}");
}

#[test]
fn stored_messages_are_confirmed_and_received() {
    let outcome = against(Fault::None, &scenario(Pattern::EventsStore)).unwrap();
    assert_sound(&outcome);
    assert!(outcome.counts.acknowledged > 0);
    assert_eq!(outcome.acknowledged.len(), outcome.counts.intended);
}

#[test]
fn messages_that_are_never_confirmed_fail() {
    let outcome = against(Fault::ConfirmsNothing, &scenario(Pattern::EventsStore)).unwrap();
    assert_eq!(outcome.checks.violations(), 0, "{:?}", outcome.checks);
    assert_eq!(outcome.errors.len(), 1, "{:?}", outcome.errors);
    assert_eq!(outcome.errors[0].count, 64, "{:?}", outcome.errors);
    let said = outcome
        .invalid
        .iter()
        .any(|text| text.contains("64 messages were never confirmed"));
    assert!(said, "{:?}", outcome.invalid);
}

#[test]
fn refused_messages_fail_and_are_not_lost() {
    let outcome = against(Fault::RefusesMessages, &scenario(Pattern::EventsStore)).unwrap();
    assert_eq!(outcome.checks.violations(), 0, "{:?}", outcome.checks);
    assert_eq!(outcome.errors[0].text, "no room");
    assert!(outcome.counts.failed > 64);
    assert!(!outcome.invalid.is_empty());
}

#[test]
fn an_open_loop_sends_what_is_due() {
    let scenario = Scenario {
        load: Load::Open {
            arrivals: Arrivals::Poisson,
            rate: Rate::Constant(2_000.0),
        },
        producers: 2,
        window: 4096,
        ..scenario(Pattern::Events)
    };
    let outcome = against(Fault::None, &scenario).unwrap();
    assert_eq!(outcome.checks.violations(), 0, "{:?}", outcome.checks);
    let intended = outcome.counts.intended;
    // 800 are expected; the deviation of their number is 28.
    assert!((650..950).contains(&intended), "{intended}");
    assert_eq!(outcome.latency.len(), intended);
    assert!(!outcome.lateness.is_empty());
}
