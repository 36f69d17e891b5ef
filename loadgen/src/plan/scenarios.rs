//! What is run to measure a broker: the fixed set of points, as scenarios.

use super::points::{Family, Purpose, Sync, fans_out, has_both_calls, is_stored};
use crate::scenario::{
    Arrivals, Calls, Load, Pattern, Payload, QueueOptions, Rate, RequestOptions, Scenario,
};

/// Sizes of bodies that the fit stands on, in bytes.
pub(crate) const SIZES: [u32; 4] = [128, 1024, 4096, 16_384];

/// Where a message may have several subscribers: so many, and the sizes that go to them.
pub(crate) const FAN_OUT: u32 = 5;
const SIZES_FAN_OUT: [u32; 3] = [128, 1024, 4096];

/// The size at which everything but the cost of bytes is measured.
pub(crate) const SIZE: u32 = 1024;

/// Loads of the curve, as parts of saturation.
pub(crate) const LOADS: [f64; 7] = [0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95];

/// Channels at saturation: several, as in real use, but not so many that batches stay empty.
const CHANNELS: u32 = 4;

/// Channels where executors share the work: a few for each of them, wherever the hash puts them.
const CHANNELS_SCALING: u32 = 16;

/// Bytes that may be under way for each producer; many times the bandwidth-delay product.
const WINDOW_BYTES: u32 = 512 << 10;

/// How fast disks are filled: slowly, since it is the space that counts and not the speed.
const FILL_BYTES_PER_SECOND: f64 = 48e6;
const FILL_MESSAGES_PER_SECOND: f64 = 60e3;

/// What is measured, in the order of patterns.
pub(crate) fn families(patterns: &[Pattern], syncs: &[Sync]) -> Vec<Family> {
    let mut families = Vec::new();
    for &pattern in patterns {
        let ways: &[Calls] = match has_both_calls(pattern) {
            true => &[Calls::Stream, Calls::Unary],
            false => &[Calls::Unary],
        };
        for &calls in ways {
            // What a sync costs shows over streams; unary calls have it once.
            let some = match calls {
                Calls::Stream => syncs.len(),
                Calls::Unary => 1,
            };
            let syncs: Vec<Option<Sync>> = match is_stored(pattern) {
                true => syncs.iter().take(some).copied().map(Some).collect(),
                false => vec![None],
            };
            families.extend(syncs.into_iter().map(|sync| Family {
                pattern,
                calls,
                sync,
            }));
        }
    }
    families
}

/// One point to be measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Task {
    pub purpose: Purpose,
    pub family: Family,
    pub executors: u32,
    pub size: u32,
    pub fan_out: u32,
}

/// The points of a family, for a broker of one executor and one of as many as `executors`.
pub(crate) fn tasks(family: Family, executors: &[u32]) -> Vec<Task> {
    let task = |purpose, executors, size, fan_out| Task {
        purpose,
        family,
        executors,
        size,
        fan_out,
    };
    let mut tasks: Vec<Task> = SIZES
        .map(|size| task(Purpose::Saturation, 1, size, 1))
        .into();
    if fans_out(family.pattern) {
        tasks.extend(SIZES_FAN_OUT.map(|size| task(Purpose::Saturation, 1, size, FAN_OUT)));
    }
    tasks.push(task(Purpose::Alone, 1, SIZE, 1));
    if executors.len() > 1 {
        let scaling = executors.iter();
        tasks.extend(scaling.map(|&executors| task(Purpose::Scaling, executors, SIZE, 1)));
    }
    tasks
}

/// Scenarios that are not among the points: what a prediction is held against.
pub(crate) fn checks(family: Family) -> Vec<Task> {
    let cases: &[(u32, u32)] = match fans_out(family.pattern) {
        true => &[(512, 1), (3000, 1), (512, 3), (3000, 3)],
        false => &[(512, 1), (2048, 1)],
    };
    let task = |&(size, fan_out): &(u32, u32)| Task {
        purpose: Purpose::Saturation,
        family,
        executors: 1,
        size,
        fan_out,
    };
    cases.iter().map(task).collect()
}

/// The closed loop of a point, counted for so many seconds.
pub(crate) fn scenario(task: &Task, seconds: f64) -> Scenario {
    let Task { family, size, .. } = *task;
    let alone = task.purpose == Purpose::Alone;
    let channels = match task.purpose {
        Purpose::Saturation => CHANNELS,
        Purpose::Scaling => CHANNELS_SCALING,
        Purpose::Alone => 1,
    };
    let window = match (family.pattern, family.calls) {
        _ if alone => 1,
        (Pattern::Command | Pattern::Query, _) | (_, Calls::Unary) => 32,
        (_, Calls::Stream) => (WINDOW_BYTES / size).clamp(16, 512),
    };
    let batch = match (family.pattern, family.calls) {
        _ if alone => 1,
        (Pattern::Queue, Calls::Stream) => 16,
        (_, Calls::Stream) => 64,
        (_, Calls::Unary) => 1,
    };
    Scenario {
        name: name(task),
        pattern: family.pattern,
        calls: family.calls,
        channels,
        channel_prefix: "plan".into(),
        producers: 1,
        consumers: task.fan_out,
        groups: 0,
        payload: Payload::Fixed(size),
        connections: 0,
        window,
        batch,
        load: Load::Closed,
        warm_up: (seconds / 4.0).max(0.5),
        duration: seconds,
        drain: 5.0,
        seed: 1,
        queue: QueueOptions {
            items: if alone { 1 } else { 256 },
            ..QueueOptions::default()
        },
        request: RequestOptions {
            // So that a size is that of the request and of its answer.
            answer_bytes: size,
            ..RequestOptions::default()
        },
    }
}

/// A load of a family's curve: an open loop with independent arrivals.
pub(crate) fn load(family: Family, rate: f64, seconds: f64) -> Scenario {
    let task = Task {
        purpose: Purpose::Saturation,
        family,
        executors: 1,
        size: SIZE,
        fan_out: 1,
    };
    let closed = scenario(&task, seconds);
    Scenario {
        // An open loop's window only keeps the generator from drowning.
        window: closed.window * 8,
        load: Load::Open {
            arrivals: Arrivals::Poisson,
            rate: Rate::Constant(rate),
        },
        ..closed
    }
}

/// Fills a broker with messages that nobody takes.
pub(crate) fn fill(pattern: Pattern, size: u32, seconds: f64) -> Scenario {
    let task = Task {
        purpose: Purpose::Saturation,
        family: Family {
            pattern,
            calls: Calls::Stream,
            sync: None,
        },
        executors: 1,
        size,
        fan_out: 0,
    };
    let rate = FILL_BYTES_PER_SECOND / f64::from(size);
    Scenario {
        // Every message counts: they are divided into the space that they take.
        warm_up: 0.0,
        load: Load::Open {
            arrivals: Arrivals::Constant,
            rate: Rate::Constant(rate.min(FILL_MESSAGES_PER_SECOND)),
        },
        ..scenario(&task, seconds)
    }
}

/// A point in words.
pub(crate) fn name(task: &Task) -> String {
    let mut name = format!("{}, {} B", task.family, task.size);
    if task.fan_out > 1 {
        name += &format!(" to {}", task.fan_out);
    }
    match task.purpose {
        Purpose::Saturation => {}
        Purpose::Alone => name += ", one at a time",
        Purpose::Scaling if task.executors == 1 => name += ", 1 executor",
        Purpose::Scaling => name += &format!(", {} executors", task.executors),
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: [Pattern; 5] = [
        Pattern::Events,
        Pattern::EventsStore,
        Pattern::Queue,
        Pattern::Command,
        Pattern::Query,
    ];

    #[test]
    fn stored_patterns_are_measured_with_each_sync_and_requests_one_way() {
        let families = families(&EVERY, &[Sync::Strict, Sync::Interval]);
        let count = |pattern| families.iter().filter(|f| f.pattern == pattern).count();
        assert_eq!(EVERY.map(count), [2, 3, 3, 1, 1]);
    }

    #[test]
    fn points_can_tell_the_terms_of_the_model_apart() {
        for family in families(&EVERY, &[Sync::Strict]) {
            let tasks = tasks(family, &[1, 2]);
            let full = tasks.iter().filter(|t| t.purpose == Purpose::Saturation);
            let wanted = if fans_out(family.pattern) { 7 } else { 4 };
            assert_eq!(full.count(), wanted, "{family}");
            let scaling = tasks.iter().filter(|t| t.purpose == Purpose::Scaling);
            assert_eq!(scaling.count(), 2);
        }
    }

    #[test]
    fn checks_are_not_among_the_points() {
        for family in families(&EVERY, &[Sync::Strict]) {
            let measured = tasks(family, &[1]);
            for check in checks(family) {
                assert!(!measured.contains(&check), "{check:?}");
            }
        }
    }

    #[test]
    fn larger_messages_have_fewer_under_way_and_one_at_a_time_means_one() {
        let family = families(&[Pattern::Events], &[])[0];
        let mut task = tasks(family, &[1])[0];
        let small = scenario(&task, 1.0).window;
        task.size = 16_384;
        assert!(scenario(&task, 1.0).window < small);
        task.purpose = Purpose::Alone;
        let alone = scenario(&task, 1.0);
        assert_eq!((alone.window, alone.batch, alone.channels), (1, 1, 1));
    }

    #[test]
    fn fills_send_and_never_receive() {
        let fill = fill(Pattern::Queue, 128, 1.0);
        assert_eq!((fill.consumers, fill.warm_up), (0, 0.0));
    }
}
