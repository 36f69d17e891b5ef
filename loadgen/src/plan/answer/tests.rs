//! Answers against sums made by hand.

use proptest::prelude::*;

use super::super::points::samples::{EVENTS, QUEUE, measured};
use super::*;

const GIB: f64 = 1024.0 * 1024.0 * 1024.0;

fn question() -> Question {
    Question {
        family: QUEUE,
        messages_per_second: 50_000.0,
        size_bytes: 2048,
        fan_out: 1,
        retention_seconds: 1_000.0,
        p99_us: None,
        headroom: 0.5,
        channels: 100,
        connections: 10,
        subscriptions: 30,
        delayed: 0,
        node: Node {
            cores: 4,
            memory_bytes: 8.0 * GIB,
            disk_bytes: Some(1e12),
            disk_bytes_per_second: Some(1e9),
            network_bytes_per_second: Some(125e6),
        },
    }
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-6 * b.abs().max(1.0)
}

#[test]
fn cores_follow_from_cost_rate_and_headroom() {
    // 3 + 2 µs each at 50,000/s: a quarter of a core; half of one is free.
    let cpu = answer(&measured(), &question()).unwrap().cpu;
    assert!((cpu.us_each - 5.0).abs() < 1e-6);
    assert!((cpu.busy_cores - 0.25).abs() < 1e-6);
    assert_eq!((cpu.cores, cpu.channels_min), (Some(1), 1));
    assert!(!cpu.bound_by_p99);
    assert_eq!(cpu.us_each_alone, Some(40.0));
}

#[test]
fn second_executor_does_less_than_the_first() {
    // A million a second is 5 cores' work, at half use 10; with n^log2(1.6): 10^(1/0.678) = 29.8.
    let mut question = question();
    question.messages_per_second = 1e6;
    let answer = answer(&measured(), &question).unwrap();
    let wanted = 10_f64.powf(1.0 / 1.6_f64.log2()).ceil();
    assert_eq!(answer.cpu.cores.map(number), Some(wanted));
    assert_eq!(answer.cpu.channels_min, 10);
    assert!(answer.doubts.iter().any(|doubt| doubt.contains("n^0.68")));
    // A node of four does 4^0.678 × 0.5 = 1.28: four nodes, each with its own channels.
    let processors = &answer.needs[0];
    assert_eq!(processors.nodes, Some(4));
}

#[test]
fn p99_takes_more_room_than_the_headroom_where_it_has_to() {
    let mut question = question();
    question.headroom = 0.1;
    question.p99_us = Some(400.0);
    let cpu = answer(&measured(), &question).unwrap().cpu;
    assert!(close(cpu.utilisation, 0.5));
    assert!(cpu.bound_by_p99 && cpu.p99_holds == Some(true));
    assert!(close(cpu.expected_p99_us.unwrap(), 400.0));
    question.p99_us = Some(10.0);
    let unreachable = answer(&measured(), &question).unwrap();
    assert_eq!(unreachable.cpu.p99_holds, Some(false));
    assert!(
        unreachable
            .doubts
            .iter()
            .any(|doubt| doubt.contains("10.0 µs"))
    );
}

#[test]
fn end_of_the_curve_is_no_limit_of_the_broker() {
    let mut question = question();
    question.headroom = 0.1;
    // It held at all loads with which the broker kept up, of which 80 % was the last.
    question.p99_us = Some(40_000.0);
    let answer = answer(&measured(), &question).unwrap();
    assert!(close(answer.cpu.utilisation, 0.8));
    assert!(
        answer
            .doubts
            .iter()
            .any(|doubt| doubt.contains("known up to 80.0 %"))
    );
}

#[test]
fn nothing_to_hold_fits_into_one_node() {
    let mut all = measured();
    all.memory = Default::default();
    let answer = answer(&all, &question()).unwrap();
    let memory = answer.needs.iter().find(|need| need.resource == "memory");
    assert_eq!(memory.unwrap().nodes, Some(1));
}

#[test]
fn memory_is_the_sum_of_what_is_held() {
    let answer = answer(&measured(), &question()).unwrap();
    // Idle 10 MB and load up to 40 MiB; 10 connections; 10 first and 20 further subscriptions; 100
    // channels; 50 million stored.
    let load = 40.0 * 1024.0 * 1024.0 - 10e6;
    let held = 10.0 * 16e3 + 10.0 * 7e3 + 20.0 * 2e3 + 100.0 * 656.0 + 50e6 * 16.0;
    assert!(close(answer.memory_bytes, 10e6 + load + held));
    assert!(answer.memory.iter().all(|share| share.bytes > 0.0));
}

#[test]
fn disk_holds_what_is_kept_and_takes_what_is_written() {
    let disk = answer(&measured(), &question()).unwrap().disk.unwrap();
    assert!((disk.bytes_per_message - (2048.0 * 1.01 + 60.0)).abs() < 1e-2);
    assert!(close(disk.stored_messages, 50e6));
    assert!(close(disk.stored_bytes, 50e6 * disk.bytes_per_message));
    assert!((disk.written_bytes_per_second.unwrap() / 50e3 - 4196.0).abs() < 1e-2);
}

#[test]
fn network_goes_out_to_every_subscriber() {
    let mut question = question();
    question.family = EVENTS;
    question.fan_out = 3;
    let answer = answer(&measured(), &question).unwrap();
    let network = answer.network.unwrap();
    // The sample has 200 bytes beside the body for a message that passes twice, and the same for
    // six times: the worst counts.
    assert!(close(network.overhead_bytes, 100.0));
    assert!(close(network.in_bytes_per_second, 50e3 * 2148.0 * ETHERNET));
    assert!(close(
        network.out_bytes_per_second,
        3.0 * network.in_bytes_per_second
    ));
    assert_eq!(answer.disk, None, "plain events are not stored");
    // 342 MB/s out, of which a node takes half of 125: six nodes.
    let wire = answer.needs.iter().find(|need| need.resource == "network");
    assert_eq!(wire.unwrap().nodes, Some(6));
    assert_eq!(answer.nodes, Some(6));
}

#[test]
fn node_that_is_too_small_for_the_broker_itself_is_no_answer() {
    let mut question = question();
    question.node.memory_bytes = 50e6;
    let answer = answer(&measured(), &question).unwrap();
    assert_eq!(answer.nodes, None);
}

#[test]
fn what_was_not_measured_is_said() {
    let mut all = measured();
    all.memory = Default::default();
    all.disk.clear();
    all.curves.clear();
    all.points
        .retain(|point| point.purpose == Purpose::Saturation);
    let mut question = question();
    question.p99_us = Some(5_000.0);
    question.size_bytes = 100_000;
    let doubts = answer(&all, &question).unwrap().doubts.join("\n");
    for said in [
        "extrapolated",
        "Two executors were not measured",
        "a connection, a subscription",
        "no disk is planned",
        "Latency against load was not measured",
    ] {
        assert!(doubts.contains(said), "{said} in {doubts}");
    }
}

#[test]
fn disturbed_measurements_are_said() {
    let mut all = measured();
    for point in all.points.iter_mut().filter(|point| point.family == QUEUE) {
        if point.purpose == Purpose::Scaling && point.executors == 2 {
            point.cpu_us_each.median = 1.0;
        } else if point.purpose == Purpose::Saturation && point.size == 1024 {
            point.cpu_us_each.median *= 3.0;
        }
    }
    let doubts = answer(&all, &question()).unwrap().doubts.join("\n");
    assert!(
        doubts.contains("4.00 times what one does, which cannot be"),
        "{doubts}"
    );
    assert!(doubts.contains("misses one of its own points"), "{doubts}");
}

#[test]
fn pattern_that_was_not_measured_is_refused_with_those_that_were() {
    let mut question = question();
    question.family.pattern = Pattern::Query;
    let error = answer(&measured(), &question).unwrap_err().to_string();
    assert!(error.contains("queue, stream, strict"), "{error}");
}

proptest! {
    #[test]
    fn more_of_anything_never_needs_less(
        rate in 1.0f64..1e6,
        more in 1.0f64..10.0,
        size in 128u32..8192,
        headroom in 0.0f64..0.9,
    ) {
        let all = measured();
        let mut asked = question();
        asked.messages_per_second = rate;
        asked.size_bytes = size;
        asked.headroom = headroom;
        let base = answer(&all, &asked).unwrap();
        let mut faster = asked.clone();
        faster.messages_per_second = rate * more;
        let mut larger = asked.clone();
        larger.size_bytes = size * 2;
        let mut freer = asked.clone();
        freer.headroom = headroom + 0.05;
        for other in [faster, larger, freer] {
            let other = answer(&all, &other).unwrap();
            prop_assert!(other.cpu.cores >= base.cpu.cores);
            prop_assert!(other.memory_bytes >= base.memory_bytes - 1e-3);
            for (a, b) in base.needs.iter().zip(&other.needs) {
                prop_assert!(b.nodes.unwrap_or(u64::MAX) >= a.nodes.unwrap_or(u64::MAX));
            }
        }
    }

    #[test]
    fn planned_cores_are_enough_and_one_less_is_not(
        work in 0.01f64..200.0,
        exponent in 0.3f64..1.0,
    ) {
        let planned = cores(work, exponent).unwrap();
        let does = |executors: u64| number(executors).powf(exponent);
        prop_assert!(does(planned) >= work - 1e-6);
        prop_assert!(planned == 1 || does(planned - 1) < work);
    }
}
