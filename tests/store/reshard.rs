//! `reshard`: another number of logs, the same store.

use crate::maker::World;

const CHANNELS: usize = 24;

fn channel(n: usize) -> String {
    format!("channel.{n}")
}

/// A store whose channels have several segments, trims and positions.
fn filled(log_count: u16) -> World {
    let world = World::new();
    let mut maker = world.maker(log_count);
    for round in 0..30_u8 {
        for n in 0..CHANNELS {
            maker.publish(&channel(n), &vec![round; 6_000]);
        }
        if round == 20 {
            maker.checkpoint();
        }
    }
    for n in 0..CHANNELS {
        maker.trim(&channel(n), 3 + u64::try_from(n).unwrap());
        maker.subscribe(&channel(n), "reader", 5 + u64::try_from(n).unwrap());
    }
    world
}

fn dumps(world: &World) -> Vec<Vec<serde_json::Value>> {
    (0..CHANNELS)
        .map(|n| world.dump(&channel(n), &[]))
        .collect()
}

/// What must be as before: everything but the places.
fn assert_same(world: &World, before: &[Vec<serde_json::Value>]) {
    assert!(world.sound(&["verify"]).starts_with("sound"));
    assert!(
        dumps(world) == before,
        "messages, sequences and times are the same"
    );
    let mut maker = world.maker(0);
    for n in 0..CHANNELS {
        let first = 4 + u64::try_from(n).unwrap();
        assert_eq!(maker.kept(&channel(n)), (first.min(31), 30));
        assert_eq!(maker.position(&channel(n), "reader"), Some(first + 1));
    }
}

#[test]
fn store_is_the_same_in_any_number_of_logs() {
    let world = filled(2);
    let before = dumps(&world);
    for (logs, generation) in [(5, 2), (1, 3), (64, 4), (2, 5)] {
        let logs = logs.to_string();
        let text = world.sound(&["reshard", "--logs", &logs]);
        assert!(text.contains(&format!("into {logs}")), "{text}");
        assert_same(&world, &before);
        let kept: Vec<_> = std::fs::read_dir(world.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with("logs-"))
            .collect();
        assert_eq!(kept, [format!("logs-{generation}")]);
    }
}

#[test]
fn rewritten_store_goes_on() {
    let world = filled(1);
    world.sound(&["reshard", "--logs", "3"]);
    let mut maker = world.maker(0);
    assert_eq!(maker.layout.log_count, 3);
    for n in 0..CHANNELS {
        assert_eq!(maker.publish(&channel(n), b"next"), 31);
    }
    maker.checkpoint();
    assert_eq!(maker.publish("new", b"first"), 1);
    drop(maker);
    assert!(world.sound(&["verify"]).starts_with("sound"));
    let mut maker = world.maker(0);
    assert_eq!(maker.kept(&channel(0)), (4, 31));
    drop(maker);
    world.sound(&["reshard", "--logs", "2"]);
    assert_eq!(world.dump("new", &[]).len(), 1);
}

#[test]
fn same_number_of_logs_is_nothing_to_do() {
    let world = filled(2);
    let before = world.files();
    assert!(
        world
            .sound(&["reshard", "--logs", "2"])
            .contains("has 2 logs already")
    );
    assert!(world.files() == before);
}

#[test]
fn what_a_crash_left_of_a_rewrite_does_not_count() {
    let world = filled(2);
    let before = dumps(&world);
    // Killed before the layout was replaced: a part of the new generation lies there.
    let new = world.path().join("logs-2/000");
    std::fs::create_dir_all(&new).unwrap();
    std::fs::write(new.join("00000001.segment"), b"half").unwrap();
    assert_same(&world, &before);
    world.sound(&["reshard", "--logs", "4"]);
    assert_same(&world, &before);

    // Killed before the old generation was removed.
    let old = world.path().join("logs-1/000");
    std::fs::create_dir_all(&old).unwrap();
    std::fs::write(old.join("00000001.segment"), b"old").unwrap();
    assert_same(&world, &before);
    world.sound(&["reshard", "--logs", "4"]);
    assert!(!world.path().join("logs-1").exists());
}

/// What was carried lies behind what is newer; the tools put it in its place.
#[test]
fn carried_messages_are_told_once_and_stay_where_they_belong() {
    let world = World::new();
    let mut maker = world.maker(1);
    for n in 0..120_u8 {
        maker.publish("quiet.1", &[n; 300]);
        maker.publish("quiet.2", &[n; 300]);
        for _ in 0..20 {
            maker.publish("busy", &[n; 5_000]);
        }
    }
    maker.trim("busy", 120 * 20 - 3);
    maker.checkpoint();
    drop(maker);
    let quiet = |world: &World| ["quiet.1", "quiet.2", "busy"].map(|name| world.dump(name, &[]));
    let before = quiet(&world);
    assert_eq!(before.each_ref().map(Vec::len), [120, 120, 3]);
    let size = |world: &World| {
        let report: serde_json::Value =
            serde_json::from_str(&world.sound(&["info", "--json"])).unwrap();
        (
            report["live_bytes"].as_u64().unwrap(),
            report["bytes"].as_u64().unwrap(),
        )
    };
    let (live, bytes) = size(&world);

    let mut maker = world.maker(0);
    maker.carry();
    drop(maker);
    let first = world.path().join("logs-1/000/00000001.segment");
    assert!(!first.exists(), "the first segment was carried and dropped");
    assert!(world.sound(&["verify"]).starts_with("sound"));
    assert!(quiet(&world) == before);
    let (live_now, bytes_now) = size(&world);
    assert!(
        bytes_now < bytes && live_now < live + 1_000,
        "{live_now} of {bytes_now}"
    );

    let mut first = 1;
    for logs in ["3", "1", "2"] {
        world.sound(&["reshard", "--logs", logs]);
        assert!(world.sound(&["verify"]).starts_with("sound"));
        let [one, two, busy] = quiet(&world);
        let behind = usize::try_from(first - 1).unwrap();
        assert!(one == before[0][behind..] && two == before[1] && busy == before[2]);
        // It goes on: what is trimmed goes, what is mostly dead is carried again.
        let mut maker = world.maker(0);
        first += 20;
        maker.trim("quiet.1", first - 1);
        maker.carry();
        drop(maker);
        let mut maker = world.maker(0);
        assert_eq!(maker.kept("quiet.1"), (first, 120));
        assert_eq!(maker.kept("quiet.2"), (1, 120));
    }
}

#[test]
fn damaged_store_is_not_rewritten() {
    let world = filled(1);
    let files = world.files().into_iter().map(|(path, _)| path);
    let segment = files
        .into_iter()
        .find(|path| path.ends_with("00000001.segment"))
        .unwrap();
    World::damage(&segment, 10_000);
    let before = world.files();
    let told = world.run(&["reshard", "--logs", "2"]);
    assert_eq!(told.code, Some(1));
    assert!(
        told.errors.contains("ringmq store verify"),
        "{}",
        told.errors
    );
    assert!(world.files() == before);
}
