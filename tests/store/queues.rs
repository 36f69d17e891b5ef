//! Stores with queues: what was settled is gone, what was put back is at the tail.

use serde_json::Value;

use crate::maker::World;

fn dump(world: &World, more: &[&str]) -> Vec<Value> {
    world.dump("jobs", &[&["--kind", "queues"], more].concat())
}

fn sequences(lines: &[Value]) -> Vec<u64> {
    let sequences = lines.iter().map(|line| line["sequence"].as_u64().unwrap());
    sequences.collect()
}

/// A queue with gaps: 2 was put back and is 41 now, of the others every fifth is left.
fn filled(log_count: u16) -> World {
    let world = World::new();
    let mut maker = world.maker(log_count);
    for n in 1..=40_u8 {
        assert_eq!(maker.send("jobs", &[n; 100]), u64::from(n));
        maker.publish("events", &[n; 100]);
        if n == 20 {
            maker.checkpoint();
        }
    }
    maker.put_back("jobs", 2, 1);
    assert_eq!(maker.send("jobs", b"last"), 42);
    let settled = (1..=40).filter(|n| n % 5 != 0 && *n != 2);
    let settled: Vec<_> = settled.map(|n| (n, n)).collect();
    maker.settle("jobs", &settled);
    world
}

const LEFT: [u64; 10] = [5, 10, 15, 20, 25, 30, 35, 40, 41, 42];

#[test]
fn dump_prints_what_is_left_of_a_queue_in_its_order() {
    let world = filled(2);
    let lines = dump(&world, &[]);
    assert_eq!(sequences(&lines), LEFT);
    let put_back = &lines[8];
    assert!(put_back["body"].as_str().unwrap().starts_with("AgICAgIC"));
    assert_eq!(
        (&put_back["receives"], &put_back["receives_max"]),
        (&1.into(), &3.into())
    );
    assert_eq!(put_back["dead_letter_queue"], "dead");
    assert_eq!(lines[0]["receives"], 0);
    assert!(lines[0].get("expires_at_ns").is_none());
    let some = dump(&world, &["--from", "36", "--to", "41"]);
    assert_eq!(sequences(&some), [40, 41]);
}

#[test]
fn queue_with_gaps_is_sound_and_counted_as_it_is() {
    let world = filled(1);
    assert!(world.sound(&["verify"]).starts_with("sound"));
    let report: Value = serde_json::from_str(&world.sound(&["info", "--json"])).unwrap();
    let channels = report["channels"].as_array().unwrap();
    let jobs = channels
        .iter()
        .find(|channel| channel["name"] == "jobs")
        .unwrap();
    assert_eq!(
        (&jobs["kind"], &jobs["messages"]),
        (&"queues".into(), &10.into())
    );
    let (bytes, all) = (jobs["bytes"].as_u64().unwrap(), &report["live_bytes"]);
    assert!((9 * 100..10 * 300).contains(&bytes), "{bytes}");
    assert!(all.as_u64().unwrap() > bytes);
}

#[test]
fn queue_is_the_same_in_any_number_of_logs() {
    let world = filled(2);
    let before = dump(&world, &[]);
    for logs in ["5", "1", "2"] {
        world.sound(&["reshard", "--logs", logs]);
        assert!(world.sound(&["verify"]).starts_with("sound"));
        assert!(dump(&world, &[]) == before);
    }
    let mut maker = world.maker(0);
    assert_eq!(maker.send("jobs", b"next"), 43);
    maker.settle("jobs", &[(5, 5), (41, 41)]);
    drop(maker);
    assert_eq!(
        sequences(&dump(&world, &[])),
        [10, 15, 20, 25, 30, 35, 40, 42, 43]
    );
}

#[test]
fn carried_messages_of_a_queue_are_told_once_and_stay_through_a_rewrite() {
    let world = World::new();
    let mut maker = world.maker(1);
    for n in 1..=1200_u64 {
        maker.send("jobs", &[1; 5_000]);
        if n == 3 {
            maker.put_back("jobs", 2, 1);
        }
    }
    // 2 is 4 now; 7 and 900 stay with it.
    maker.settle("jobs", &[(1, 3), (5, 6), (8, 899), (901, 1198)]);
    maker.checkpoint();
    let left = vec![4, 7, 900, 1199, 1200, 1201];
    drop(maker);
    let before = dump(&world, &[]);
    assert_eq!(sequences(&before), left);
    let mut maker = world.maker(0);
    maker.carry();
    drop(maker);
    let first = world.path().join("logs-1/000/00000001.segment");
    assert!(!first.exists(), "the first segment was carried and dropped");
    assert!(dump(&world, &[]) == before);
    for logs in ["3", "1"] {
        assert!(world.sound(&["verify"]).starts_with("sound"));
        world.sound(&["reshard", "--logs", logs]);
        assert!(dump(&world, &[]) == before);
    }
}
