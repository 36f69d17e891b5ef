//! What the engine's decisions cost: timers, selections, cached answers, pending requests.
//!
//! `cargo bench -p ringmq-bench --bench engine -- --warm-up-time 0.5 --measurement-time 2`

#![forbid(unsafe_code)]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_main};
use ringmq::engine::cache::ResponseCache;
use ringmq::engine::pending::PendingRequests;
use ringmq::engine::subscriptions::{SubscriberAddress, Subscription, SubscriptionTable};
use ringmq::engine::wheel::{TimerKey, Wheel};

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Timers on the wheel, due in 1 to 600 seconds.
const TIMERS: u64 = 1_000_000;
const DELAY_MS: std::ops::Range<u64> = 1_000..600_000;

/// A small generator, the same numbers in every run.
struct Numbers(u64);

impl Numbers {
    fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).expect("a small bound");
        usize::try_from(self.next() % bound).expect("below the bound")
    }

    fn delay_ms(&mut self) -> u64 {
        DELAY_MS.start + self.next() % (DELAY_MS.end - DELAY_MS.start)
    }

    fn shuffle<T>(&mut self, values: &mut [T]) {
        for end in (1..values.len()).rev() {
            values.swap(end, self.below(end + 1));
        }
    }
}

fn filled_wheel(numbers: &mut Numbers) -> (Wheel<u64>, Vec<TimerKey>) {
    let mut wheel = Wheel::new(0);
    let keys = (0..TIMERS)
        .map(|n| wheel.insert(numbers.delay_ms(), n))
        .collect();
    (wheel, keys)
}

/// A million timers at once: how long it takes to set, cancel and fire all of them.
fn wheel_in_bulk(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wheel/million");
    group
        .throughput(Throughput::Elements(TIMERS))
        .sample_size(10);
    group.bench_function("insert", |bencher| {
        let mut numbers = Numbers::new();
        bencher.iter_with_large_drop(|| filled_wheel(&mut numbers));
    });
    group.bench_function("cancel in random order", |bencher| {
        let mut numbers = Numbers::new();
        let setup = || {
            let (wheel, mut keys) = filled_wheel(&mut numbers);
            numbers.shuffle(&mut keys);
            (wheel, keys)
        };
        let cancel = |(mut wheel, keys): (Wheel<u64>, Vec<TimerKey>)| {
            keys.iter()
                .for_each(|key| assert!(wheel.cancel(*key).is_some()));
            wheel
        };
        bencher.iter_batched(setup, cancel, BatchSize::PerIteration);
    });
    group.bench_function("expire, tick by tick", |bencher| {
        let mut numbers = Numbers::new();
        let setup = || filled_wheel(&mut numbers).0;
        let expire = |mut wheel: Wheel<u64>| {
            let mut fired = Vec::new();
            for now in 0..=DELAY_MS.end {
                wheel.advance(now, &mut fired);
                black_box(&fired);
                fired.clear();
            }
            assert!(wheel.is_empty());
            wheel
        };
        bencher.iter_batched(setup, expire, BatchSize::PerIteration);
    });
    group.finish();
}

/// One timer among a million.
fn wheel_in_steady_state(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wheel/among a million");
    group.bench_function("insert and cancel", |bencher| {
        let mut numbers = Numbers::new();
        let (mut wheel, _keys) = filled_wheel(&mut numbers);
        bencher.iter(|| {
            let key = wheel.insert(numbers.delay_ms(), 0);
            wheel.cancel(key)
        });
    });
    group.bench_function("replace a random one", |bencher| {
        let mut numbers = Numbers::new();
        let (mut wheel, mut keys) = filled_wheel(&mut numbers);
        bencher.iter(|| {
            let at = numbers.below(keys.len());
            if let Some(key) = keys.get_mut(at) {
                assert!(wheel.cancel(*key).is_some());
                *key = wheel.insert(numbers.delay_ms(), 0);
            }
        });
    });
    group.finish();
}

fn subscribe(table: &mut SubscriptionTable, pattern: &str, group: &str, key: usize) {
    let key = u64::try_from(key).expect("a small key");
    table.add(Subscription {
        pattern: pattern.into(),
        group: group.into(),
        address: SubscriberAddress { core: 0, key },
    });
}

fn channel(n: usize) -> String {
    format!("tenant.{n}.orders.created")
}

/// Selects the channels `0..channels` in a random order, again and again.
fn select(
    group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>,
    name: &str,
    mut table: SubscriptionTable,
    channels: usize,
) {
    let mut names: Vec<_> = (0..channels).map(channel).collect();
    Numbers::new().shuffle(&mut names);
    let mut names = names.iter().cycle();
    let mut chosen = Vec::new();
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            let name = names.next().expect("a cycle");
            black_box(table.select(name, &mut chosen))
        });
    });
}

/// Each channel has a subscriber of its own.
fn select_literal(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("select/literal");
    for count in [1, 1_000, 100_000] {
        let filled = |cache_entries_max, extra: Option<&str>| {
            let mut table = SubscriptionTable::new(cache_entries_max);
            (0..count).for_each(|n| subscribe(&mut table, &channel(n), "", n));
            extra
                .iter()
                .for_each(|pattern| subscribe(&mut table, pattern, "", count));
            table
        };
        let hot = count.min(1_000);
        select(
            &mut group,
            &format!("{count}, no wildcards"),
            filled(4_096, None),
            count,
        );
        let table = filled(4_096, Some("tenant.>"));
        select(
            &mut group,
            &format!("{count}, one wildcard, cached"),
            table,
            hot,
        );
        let table = filled(0, Some("tenant.>"));
        select(
            &mut group,
            &format!("{count}, one wildcard, no cache"),
            table,
            hot,
        );
    }
    for (cache_entries_max, name) in [(4_096, "cache too small"), (0, "no cache")] {
        let mut table = SubscriptionTable::new(cache_entries_max);
        (0..100_000).for_each(|n| subscribe(&mut table, &channel(n), "", n));
        subscribe(&mut table, "tenant.>", "", 0);
        let name = format!("100000, one wildcard, all names, {name}");
        select(&mut group, &name, table, 100_000);
    }
    group.finish();
}

/// Each channel is matched by four patterns, of which there are many.
fn select_wildcard(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("select/wildcard");
    for count in [4, 1_000, 100_000] {
        let filled = |cache_entries_max| {
            let mut table = SubscriptionTable::new(cache_entries_max);
            for n in 0..count / 4 {
                subscribe(&mut table, &format!("tenant.{n}.>"), "", n);
                subscribe(&mut table, &format!("tenant.{n}.*.created"), "", n);
                subscribe(&mut table, &format!("*.{n}.orders.*"), "", n);
                subscribe(&mut table, &format!("tenant.{n}.*.*"), "", n);
            }
            table
        };
        let hot = (count / 4).min(1_000);
        select(&mut group, &format!("{count}, cached"), filled(4_096), hot);
        select(&mut group, &format!("{count}, no cache"), filled(0), hot);
        select(
            &mut group,
            &format!("{count}, no cache, all names"),
            filled(0),
            count / 4,
        );
    }
    group.finish();
}

/// One channel with many subscribers.
fn select_crowd(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("select/crowd");
    let filled = |subscriptions: &[(&str, &str, usize)]| {
        let mut table = SubscriptionTable::new(4_096);
        for (pattern, group, count) in subscriptions {
            (0..*count).for_each(|n| subscribe(&mut table, pattern, group, n));
        }
        table
    };
    let name = channel(0);
    select(&mut group, "10 solos", filled(&[(&name, "", 10)]), 1);
    select(&mut group, "1000 solos", filled(&[(&name, "", 1_000)]), 1);
    select(
        &mut group,
        "a group of 1000",
        filled(&[(&name, "g", 1_000)]),
        1,
    );
    let overlapping = [
        (name.as_str(), "g", 8),
        ("tenant.*.orders.*", "g", 8),
        (">", "g", 8),
    ];
    select(
        &mut group,
        "a group of 24 over three patterns",
        filled(&overlapping),
        1,
    );
    group.finish();
}

/// Subscribing and leaving again, among many others.
fn subscription_churn(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("subscriptions/add and remove");
    for pattern in [
        "tenant.own.orders",
        "tenant.own.*",
        "tenant.5.orders.created",
    ] {
        let mut table = SubscriptionTable::new(4_096);
        (0..100_000).for_each(|n| subscribe(&mut table, &channel(n), "", n));
        group.bench_function(pattern, |bencher| {
            bencher.iter(|| {
                let id = table.add(Subscription {
                    pattern: pattern.into(),
                    group: "".into(),
                    address: SubscriberAddress { core: 0, key: 7 },
                });
                table.remove(id)
            });
        });
    }
    group.finish();
}

fn cache(criterion: &mut Criterion) {
    const ENTRIES: usize = 100_000;
    let keys: Vec<_> = (0..ENTRIES).map(|n| format!("customer-{n}")).collect();
    let value = Bytes::from(vec![7; 256]);
    let filled = |bytes_max| {
        let mut cache = ResponseCache::new(bytes_max);
        keys.iter()
            .for_each(|key| cache.put("queries.customer", key, value.clone(), 1, 0));
        cache
    };
    let mut group = criterion.benchmark_group("cache/100k entries");
    let mut numbers = Numbers::new();
    let mut cache = filled(usize::MAX);
    group.bench_function("hit", |bencher| {
        bencher.iter(|| {
            let key = keys.get(numbers.below(ENTRIES)).expect("a key");
            cache.get("queries.customer", key, 0)
        });
    });
    group.bench_function("miss", |bencher| {
        bencher.iter(|| cache.get("queries.customer", "nobody", 0));
    });
    let mut cache = filled(ENTRIES / 2 * 450);
    let mut turns = keys.iter().cycle();
    group.bench_function("put that evicts", |bencher| {
        bencher.iter(|| {
            let key = turns.next().expect("a cycle");
            cache.put("queries.customer", key, value.clone(), 1, 0);
        });
    });
    assert!(
        cache.counters().evictions > 0,
        "the bench measures what it says"
    );
    group.finish();
}

fn pending(criterion: &mut Criterion) {
    let mut numbers = Numbers::new();
    let mut random = |bytes: &mut [u8]| {
        for chunk in bytes.chunks_mut(8) {
            let drawn = numbers.next().to_le_bytes();
            chunk
                .iter_mut()
                .zip(drawn)
                .for_each(|(byte, drawn)| *byte = drawn);
        }
    };
    let mut pending = PendingRequests::new(1, 100_000);
    (0..10_000_u64).for_each(|n| assert!(pending.open(n, &mut random).is_ok()));
    criterion.bench_function("pending/open, parse and answer", |bencher| {
        bencher.iter(|| {
            let (_, channel) = pending.open(0, &mut random).expect("room");
            let address = ringmq::engine::pending::ReplyChannel::parse(channel.as_str());
            pending.answer(&address.expect("our own name"))
        });
    });
}

/// In place of the crate's macro, whose function has no documentation and may not have.
fn engine() {
    let mut criterion = Criterion::default().configure_from_args();
    for bench in [
        wheel_in_bulk,
        wheel_in_steady_state,
        select_literal,
        select_wildcard,
        select_crowd,
        subscription_churn,
        cache,
        pending,
    ] {
        bench(&mut criterion);
    }
}

criterion_main!(engine);
