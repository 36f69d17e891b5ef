//! `info`, `verify` and `dump`.

use serde_json::Value;

use crate::maker::World;

const STORE: i32 = 77;

/// A store with three channels in two logs, trims and a position, behind and before a checkpoint.
fn filled() -> World {
    let world = World::new();
    let mut maker = world.maker(2);
    for n in 0..40 {
        maker.publish("orders", format!("order {n}").as_bytes());
        maker.publish("audit.eu", &[n; 100]);
    }
    maker.trim("orders", 10);
    maker.subscribe("orders", "client-1", 15);
    maker.checkpoint();
    for n in 40..50 {
        maker.publish("orders", format!("order {n}").as_bytes());
        maker.publish("größe", b"\xff\x00");
    }
    world
}

fn segments_of(world: &World, log: u16) -> Vec<std::path::PathBuf> {
    let files = world.files().into_iter().map(|(path, _)| path);
    let folder = format!("/{log:03}/");
    files
        .filter(|path| path.extension().is_some_and(|name| name == "segment"))
        .filter(|path| path.to_string_lossy().contains(&folder))
        .collect()
}

#[test]
fn info_tells_what_is_in_a_store() {
    let world = filled();
    let report: Value = serde_json::from_str(&world.sound(&["info", "--json"])).unwrap();
    let channels = report["channels"].as_array().unwrap();
    let names: Vec<_> = channels
        .iter()
        .map(|channel| channel["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["audit.eu", "größe", "orders"]);
    let orders = &channels[2];
    let numbers = ["messages", "first", "last"].map(|name| orders[name].as_u64().unwrap());
    assert_eq!(numbers, [40, 11, 50]);
    assert_eq!(orders["kind"], "events_store");
    assert!(orders["bytes"].as_u64().unwrap() > 40 * 32);
    let position = &report["positions"][0];
    assert_eq!(
        (&position["channel"], &position["name"]),
        (&"orders".into(), &"client-1".into())
    );
    assert_eq!(
        (position["position"].as_u64(), position["behind"].as_u64()),
        (Some(15), Some(35))
    );
    assert_eq!(report["logs"].as_array().unwrap().len(), 2);
    assert_eq!(report["damaged"], 0);
    let text = world.sound(&["info"]);
    for part in [
        "generation 1, 2 logs",
        "active",
        "orders",
        "client-1",
        "2026-11-21T00:00:00Z",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn looking_changes_nothing() {
    let world = filled();
    let before = world.files();
    world.sound(&["info"]);
    world.sound(&["verify"]);
    world.dump("orders", &[]);
    assert!(world.files() == before, "a tool that looks has written");
}

#[test]
fn dump_prints_what_was_published() {
    let world = filled();
    let lines = world.dump("orders", &[]);
    let sequences: Vec<_> = lines
        .iter()
        .map(|line| line["sequence"].as_u64().unwrap())
        .collect();
    assert_eq!(sequences, (11..=50).collect::<Vec<_>>());
    // printf 'order 10' | base64
    assert_eq!(lines[0]["body"], "b3JkZXIgMTA=");
    assert_eq!(lines[0]["metadata"], "meta");
    assert_eq!(lines[0]["tags"]["key"], "value");
    assert!(lines[0]["id"].as_str().unwrap().starts_with("id-"));
    let times: Vec<_> = lines
        .iter()
        .map(|line| line["timestamp_ns"].as_u64().unwrap())
        .collect();
    assert!(times.is_sorted() && times[0] > 1_795_219_200_000_000_000);

    let some = world.dump("orders", &["--from", "20", "--to", "21"]);
    assert_eq!(some.len(), 2);
    assert_eq!(some[0]["sequence"], 20);
    assert_eq!(world.dump("größe", &[])[0]["body"], "/wA=");
}

#[test]
fn absent_channels_and_stores_are_named() {
    let world = filled();
    let told = world.run(&["dump", "--channel", "nothing"]);
    assert_eq!(told.code, Some(STORE));
    assert!(
        told.errors.contains("there is no channel \"nothing\""),
        "{}",
        told.errors
    );
    let told = world.run(&["dump", "--channel", "orders", "--kind", "queues"]);
    assert_eq!(told.code, Some(STORE));

    let empty = World::new();
    let told = empty.run(&["info"]);
    assert_eq!(told.code, Some(STORE));
    assert!(told.errors.contains("no store in"), "{}", told.errors);
}

#[test]
fn store_without_events_is_sound_and_empty() {
    let world = World::new();
    let path = world.path();
    drop(ringmq_storage::Store::open(&path, ringmq_storage::Options { create: true }).unwrap());
    assert!(world.sound(&["info"]).contains("nothing was ever stored"));
    assert!(world.sound(&["verify"]).contains("sound"));
    assert!(
        world
            .sound(&["reshard", "--logs", "3"])
            .contains("nothing to do")
    );
}

#[test]
fn store_that_is_open_is_left_alone() {
    let world = filled();
    let _open = world.maker(2);
    for task in [
        &["info"][..],
        &["verify"],
        &["dump", "--channel", "a"],
        &["reshard", "--logs", "1"],
    ] {
        let told = world.run(task);
        assert_eq!(told.code, Some(STORE), "{task:?}");
        assert!(
            told.errors.contains("is locked by another broker"),
            "{}",
            told.errors
        );
    }
}

#[test]
fn every_flipped_byte_of_a_frame_is_found_and_named() {
    let world = filled();
    let maker = world.maker(2);
    let log = maker.log_number("orders");
    drop(maker);
    let path = segments_of(&world, log).remove(0);
    assert!(world.sound(&["verify"]).starts_with("sound"));
    let sound = std::fs::read(&path).unwrap();
    // The header, the preamble, and all over the frames.
    for offset in [20, 70, 3_000, 6_000, 6_001, 9_000] {
        World::damage(&path, offset);
        let told = world.run(&["verify"]);
        assert_eq!(told.code, Some(1), "offset {offset}: {}", told.text);
        let named = format!("damaged: {}", path.display());
        assert!(told.text.contains(&named), "offset {offset}: {}", told.text);
        std::fs::write(&path, &sound).unwrap();
    }
    assert!(world.sound(&["verify"]).starts_with("sound"));
}

#[test]
fn lost_messages_are_told_by_channel_and_sequence() {
    let world = filled();
    let line = world
        .dump("orders", &["--from", "30", "--to", "30"])
        .remove(0);
    let id = line["id"].as_str().unwrap().to_owned();
    let (path, bytes) = world
        .files()
        .into_iter()
        .find(|(_, bytes)| {
            bytes
                .windows(id.len())
                .any(|window| window == id.as_bytes())
        })
        .unwrap();
    let offset = bytes
        .windows(id.len())
        .position(|window| window == id.as_bytes())
        .unwrap();
    World::damage(&path, u64::try_from(offset).unwrap());

    let told = world.run(&["verify"]);
    assert_eq!(told.code, Some(1));
    assert!(
        told.text.contains("payload checksum mismatch"),
        "{}",
        told.text
    );
    assert!(
        told.text.contains("lost: orders: sequences 30 to 30 (1)"),
        "{}",
        told.text
    );
    let told = world.run(&["dump", "--channel", "orders"]);
    assert_eq!(told.code, Some(1));
    assert_eq!(told.text.lines().count(), 39, "the others are there");
    assert!(
        told.errors.contains("damaged messages were left out"),
        "{}",
        told.errors
    );
}

#[test]
fn torn_tail_is_no_damage() {
    let world = filled();
    let mut maker = world.maker(2);
    let log = maker.log_number("orders");
    maker.publish("orders", b"the last one");
    drop(maker);
    // Segments that were made ahead hold nothing.
    let segments = segments_of(&world, log).into_iter().rev();
    let (path, end) = segments
        .filter_map(|path| {
            let bytes = std::fs::read(&path).unwrap();
            let end = bytes.iter().rposition(|byte| *byte != 0)?;
            Some((path, end))
        })
        .next()
        .unwrap();
    World::damage(&path, u64::try_from(end - 4).unwrap());
    let text = world.sound(&["verify"]);
    assert!(text.contains("never acknowledged"), "{text}");
    assert_eq!(world.dump("orders", &[]).len(), 40);
}

#[test]
fn damaged_checkpoint_and_index_are_told() {
    let world = World::new();
    let mut maker = world.maker(1);
    // Enough for a sealed segment and its index.
    for _ in 0..40 {
        maker.publish("bulk", &vec![7; 64 << 10]);
    }
    maker.checkpoint();
    drop(maker);
    assert!(world.sound(&["verify"]).starts_with("sound"));
    let files = world.files().into_iter().map(|(path, _)| path);
    let is = |path: &std::path::PathBuf, part: &str| path.to_string_lossy().contains(part);
    for kind in ["checkpoint-", ".index"] {
        let found = files.clone().rfind(|path| is(path, kind));
        let path = found.unwrap_or_else(|| panic!("there is a {kind}"));
        World::damage(&path, 20);
        let told = world.run(&["verify"]);
        assert_eq!(told.code, Some(1), "{}", told.text);
        assert!(
            told.text.contains(&path.display().to_string()),
            "{}",
            told.text
        );
        World::damage(&path, 20);
    }
}
