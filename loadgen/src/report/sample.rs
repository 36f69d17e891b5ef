//! Made-up results for the tests of reports. All of them look like something that happened.

use crate::outcome::{
    Checks, Counts, ErrorCount, GeneratorUse, Machine, Outcome, ServerUse, Slice, Times, times,
};
use crate::scenario::{Arrivals, Load, Pattern, Rate, Scenario};

const SLICES: u32 = 40;
const SECONDS: f64 = 10.0;

/// A good run of plain events, closed loop.
pub(crate) fn events() -> Outcome {
    build(Scenario::default(), 24_750, 150_000)
}

/// A good run of events store, open loop, Poisson; with a hiccup in the middle.
pub(crate) fn poisson() -> Outcome {
    let mut outcome = build(
        Scenario {
            name: "orders, Poisson".into(),
            pattern: Pattern::EventsStore,
            channels: 4,
            producers: 2,
            consumers: 3,
            groups: 1,
            load: Load::Open {
                arrivals: Arrivals::Poisson,
                rate: Rate::Constant(50_000.0),
            },
            ..Scenario::default()
        },
        12_500,
        420_000,
    );
    for slice in outcome.timeline.iter_mut().skip(18).take(3) {
        slice.latency.record_n(48_000_000, 900).unwrap();
        slice.counts.failed = 12;
    }
    outcome.latency.record_n(48_000_000, 2_700).unwrap();
    outcome.acknowledged = outcome.latency.clone();
    outcome.counts.acknowledged = outcome.counts.sent;
    for slice in &mut outcome.timeline {
        slice.acknowledged = slice.latency.clone();
        slice.counts.acknowledged = slice.counts.sent;
    }
    outcome.counts.failed = 36;
    outcome.errors = vec![ErrorCount {
        text: "Unavailable: the channel's log is behind".into(),
        count: 36,
    }];
    outcome
}

/// A run in which the generator was the limit.
pub(crate) fn invalid() -> Outcome {
    let mut outcome = events();
    outcome.invalid = vec!["the generator was 4 ms late".into()];
    outcome
}

/// A run with violations and errors; and invalid, too.
pub(crate) fn bad() -> Outcome {
    let mut outcome = invalid();
    outcome.checks.lost = 3;
    outcome.checks.corrupted = 1;
    outcome.checks.examples = vec!["channel 0: producer 1, number 77 damaged at consumer 0".into()];
    outcome.counts.failed = 120;
    outcome.errors = vec![ErrorCount {
        text: "Unavailable:\n connection reset".into(),
        count: 120,
    }];
    outcome
}

/// `each` messages in each slice, with latencies around `typical_ns`.
fn build(scenario: Scenario, each: u64, typical_ns: u64) -> Outcome {
    let mut latency = times();
    let mut timeline = Vec::new();
    for at in 0..SLICES {
        let slice = spread(each, typical_ns, u64::from(at));
        latency.add(&slice).unwrap();
        timeline.push(Slice {
            end: SECONDS / f64::from(SLICES) * f64::from(at + 1),
            counts: messages(each),
            latency: slice,
            acknowledged: times(),
        });
    }
    let mut lateness = times();
    lateness.record_n(typical_ns / 100, 1_000).unwrap();
    let all = each * u64::from(SLICES);
    Outcome {
        scenario,
        target: "127.0.0.1:50000".into(),
        machine: Machine {
            processors: 2,
            model: "A Processor & Co <12-core>".into(),
            kernel: "Linux 6.12.0".into(),
            memory_bytes: 16 << 30,
        },
        began_unix_ms: 1_795_273_445_000,
        seconds: SECONDS,
        counts: messages(all),
        latency,
        acknowledged: times(),
        lateness,
        errors: Vec::new(),
        checks: Checks {
            checked: all,
            ..Checks::default()
        },
        generator: GeneratorUse {
            busy: vec![0.61],
            cpu_us_each: 3.1,
        },
        server: Some(ServerUse {
            cpu_us_each: 8.4,
            cores: 0.97,
            resident_bytes: 128 << 20,
            written_bytes_each: None,
        }),
        timeline,
        invalid: Vec::new(),
    }
}

const fn messages(count: u64) -> Counts {
    Counts {
        intended: count,
        sent: count,
        acknowledged: 0,
        delivered: count,
        body_bytes: count * 1024,
        failed: 0,
    }
}

/// A long tail: most near the typical time, one in a hundred three times that, and so on. The
/// seed moves it a little, so that slices differ.
fn spread(count: u64, typical_ns: u64, seed: u64) -> Times {
    let mut all = times();
    let wobble = 85 + seed * 7_919 % 31;
    let typical = typical_ns * wobble / 100;
    let mut left = count;
    // Each step is a little slower and a little rarer than the one before.
    let mut factor = 60;
    while left > 0 {
        let n = (left / 12).max(1);
        all.record_n(typical * factor / 100 + seed * 977, n)
            .unwrap();
        left -= n;
        factor += factor / 20 + seed % 5;
    }
    all
}
