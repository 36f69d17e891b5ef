//! Decisions of plain messages: timers, and who is subscribed. Larger tables and other shapes are
//! in the bench `engine`.

use std::hint::black_box;

use ringmq::engine::subscriptions::{SubscriberAddress, Subscription, SubscriptionTable};
use ringmq::engine::wheel::Wheel;

use super::{Part, Run, part};

/// Timers or selections of one run.
const COUNT: u64 = 1_000;

pub(super) const PARTS: &[Part] = &[
    part("wheel/insert and cancel", COUNT, || {
        let mut wheel = Wheel::new(0);
        let mut keys = Vec::new();
        Box::new(move || {
            keys.extend((0..COUNT).map(|n| wheel.insert(n * 7 % 60_000 + 1, n)));
            for key in keys.drain(..) {
                black_box(wheel.cancel(key));
            }
        })
    }),
    part("wheel/insert and expire", COUNT, || {
        let mut now_ms = 0;
        let mut wheel = Wheel::new(now_ms);
        let mut due = Vec::new();
        Box::new(move || {
            for n in 0..COUNT {
                wheel.insert(now_ms + n % 300 + 1, n);
            }
            for _ in 0..300 {
                now_ms += 1;
                wheel.advance(now_ms, &mut due);
            }
            assert_eq!(due.drain(..).count(), 1_000);
        })
    }),
    part("trie/one subscriber each", COUNT, || select(4_096, &[])),
    part("trie/wildcards, remembered", COUNT, || {
        select(4_096, &["tenant.*.orders.*", "tenant.>"])
    }),
    part("trie/wildcards, not remembered", COUNT, || {
        select(0, &["tenant.*.orders.*", "tenant.>"])
    }),
];

fn select(remembered: usize, wildcards: &[&str]) -> Run {
    let mut table = SubscriptionTable::new(remembered);
    let names: Vec<String> = (0..COUNT)
        .map(|n| format!("tenant.{n}.orders.created"))
        .collect();
    let patterns = names
        .iter()
        .map(String::as_str)
        .chain(wildcards.iter().copied());
    for (key, pattern) in (0..).zip(patterns) {
        table.add(Subscription {
            pattern: pattern.into(),
            group: "".into(),
            address: SubscriberAddress { core: 0, key },
        });
    }
    let mut chosen = Vec::new();
    Box::new(move || {
        for name in &names {
            black_box(table.select(name, &mut chosen));
        }
    })
}
