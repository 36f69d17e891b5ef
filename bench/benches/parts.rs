//! What the parts of the broker cost, in time: those of `ringmq_bench::parts`, and the hop from one
//! executor to another.
//!
//! `cargo bench -p ringmq-bench --bench parts -- append`

#![forbid(unsafe_code)]

use std::sync::mpsc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_main};
use ringmq::rt::start::{Plan, start};
use ringmq::rt::{self, mesh};
use ringmq_bench::parts;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn each_part(criterion: &mut Criterion) {
    for part in parts::all() {
        let (group, name) = part.name.split_once('/').expect("a group and a name");
        let mut group = criterion.benchmark_group(group);
        group.throughput(Throughput::Elements(part.elements));
        // Set up in here: a part that is filtered out costs nothing.
        group.bench_function(name, |bencher| {
            let run = (part.make)();
            bencher.iter(run);
        });
        group.finish();
    }
}

/// A batch to another executor and back: two hops.
fn mesh_hop(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mesh/there and back");
    group.sample_size(10);
    for (name, spin) in [
        ("asleep", None),
        ("awake", Some(Duration::from_millis(100))),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|count| round_trips(count, spin));
        });
    }
    group.finish();
}

fn round_trips(count: u64, spin: Option<Duration>) -> Duration {
    let (tx, rx) = mpsc::channel();
    let plan = Plan { cpu: None, spin };
    let executors = start(&[plan, plan], mesh::seats::<u64>(2, 8), move |id, seat| {
        let tx = tx.clone();
        async move {
            let (outgoing, incoming) = seat.connect().await;
            let peer = outgoing
                .into_iter()
                .flatten()
                .zip(incoming.into_iter().flatten())
                .next();
            let (outgoing, incoming) = peer.expect("there are two");
            let began = rt::now();
            for n in 0..count {
                if id == 0 {
                    outgoing.send(n).await;
                }
                assert_eq!(incoming.receive().await, Some(n));
                if id == 1 {
                    outgoing.send(n).await;
                }
            }
            if id == 0 {
                let took = rt::now().since(began);
                tx.send(took).expect("the bench waits");
            }
        }
    });
    let took = rx.recv().expect("an executor measures");
    executors.expect("two executors").join();
    took
}

/// In place of the crate's macro, whose function has no documentation and may not have.
fn all() {
    let mut criterion = Criterion::default().configure_from_args();
    each_part(&mut criterion);
    mesh_hop(&mut criterion);
}

criterion_main!(all);
