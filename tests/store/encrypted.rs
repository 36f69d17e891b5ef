//! Encrypted stores, and what the tools make of them.

use std::collections::BTreeSet;

use super::maker::World;

const FIRST: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const SECOND: &str = "aaaabbbbccccddddeeeeffff0000111122223333444455556666777788889999";

/// What must be in no file: names, bodies, clients, metadata, tags.
const TEXTS: [&str; 6] = [
    "orders.of.zebras",
    "quagga-queue",
    "okapi-body",
    "okapi-task",
    "client-aardvark",
    "zebra-dead-letters",
];

/// A store as a broker leaves it: channels of both kinds, a position, sealed segments with their
/// indexes, carried messages, checkpoints, and records behind the last of them.
fn fill(world: &World) {
    let mut maker = world.maker(2);
    maker.publish("orders.of.zebras", b"okapi-body first");
    maker.send("quagga-queue", b"okapi-task first");
    maker.send("zebra-dead-letters", b"okapi-task dead");
    maker.subscribe("orders.of.zebras", "client-aardvark", 1);
    let body = b"okapi-body ".repeat(4_000);
    for _ in 0..120 {
        maker.publish("orders.of.zebras", &body);
        maker.send("quagga-queue", &body);
    }
    maker.settle("quagga-queue", &[(2, 100)]);
    maker.trim("orders.of.zebras", 90);
    maker.checkpoint();
    maker.carry();
    maker.publish("orders.of.zebras", b"okapi-body last");
}

fn found(world: &World) -> BTreeSet<&'static str> {
    let files = world.files();
    assert!(files.len() > 3, "manifest, layout, a segment and more");
    let holds = |text: &&str| {
        let mut all = files.iter();
        all.any(|(_, bytes)| {
            bytes
                .windows(text.len())
                .any(|part| part == text.as_bytes())
        })
    };
    TEXTS.into_iter().filter(holds).collect()
}

fn encrypted(keys: &[&str]) -> World {
    let mut world = World::new();
    world.keys = keys.join(",");
    world
}

#[test]
fn no_file_of_an_encrypted_store_holds_a_name_a_body_or_a_client() {
    let plain = World::new();
    fill(&plain);
    assert_eq!(
        found(&plain),
        TEXTS.into_iter().collect(),
        "else it looks at nothing"
    );

    let world = encrypted(&[FIRST]);
    fill(&world);
    assert!(found(&world).is_empty(), "{:?}", found(&world));
    assert_eq!(world.dump("orders.of.zebras", &["--from", "120"]).len(), 3);
    world.sound(&["verify"]);

    world.sound(&["reshard", "--logs", "3"]);
    assert!(found(&world).is_empty(), "{:?}", found(&world));
    let dumped = world.dump("orders.of.zebras", &[]);
    assert_eq!(dumped.len(), 32, "what was kept, and the last one");
}

#[test]
fn store_without_its_key_is_refused_by_every_tool_and_stays_as_it_is() {
    let mut world = encrypted(&[FIRST]);
    fill(&world);
    let before = world.files();
    for (keys, told) in [("", "no key is given"), (SECOND, "none of the keys")] {
        keys.clone_into(&mut world.keys);
        for tool in [
            &["info"][..],
            &["verify"],
            &["dump", "--channel", "orders.of.zebras"],
            &["reshard", "--logs", "3"],
        ] {
            let refused = world.run(tool);
            assert_eq!(refused.code, Some(77), "{tool:?}: {}", refused.errors);
            assert!(
                refused.errors.contains("is encrypted with key "),
                "{}",
                refused.errors
            );
            assert!(refused.errors.contains(told), "{}", refused.errors);
            assert!(refused.text.is_empty(), "{}", refused.text);
        }
    }
    assert!(world.files() == before, "it was changed");
}

#[test]
fn keys_that_are_none_are_told_without_their_text() {
    let mut world = encrypted(&[FIRST]);
    fill(&world);
    world.keys = "not-a-key-but-secret".to_owned();
    let refused = world.run(&["info"]);
    assert_eq!(refused.code, Some(77), "{}", refused.errors);
    assert!(
        refused.errors.contains("neither 64 hexadecimal digits"),
        "{}",
        refused.errors
    );
    assert!(
        !refused.errors.contains("not-a-key-but-secret"),
        "{}",
        refused.errors
    );
}

#[test]
fn rewrapped_store_needs_the_new_key_only_and_holds_the_same() {
    let mut world = encrypted(&[FIRST]);
    fill(&world);
    let before = world.dump("orders.of.zebras", &[]);
    world.keys = [SECOND, FIRST].join("\n");
    let told = world.sound(&["rewrap"]);
    assert!(!told.contains(" 0 files were wrapped anew"), "{told}");
    let told = world.sound(&["rewrap"]);
    assert!(told.contains(" 0 files were wrapped anew"), "{told}");

    SECOND.clone_into(&mut world.keys);
    assert_eq!(world.dump("orders.of.zebras", &[]), before);
    world.sound(&["verify"]);
    // The log itself opens it, too, and goes on.
    let mut maker = world.maker(2);
    maker.publish("orders.of.zebras", b"okapi-body under the new key");
    drop(maker);
    assert_eq!(world.dump("orders.of.zebras", &[]).len(), before.len() + 1);
    FIRST.clone_into(&mut world.keys);
    assert_eq!(world.run(&["info"]).code, Some(77));
}

#[test]
fn plain_store_is_encrypted_by_rewriting_it_and_made_plain_again() {
    let mut world = World::new();
    fill(&world);
    let before = world.dump("orders.of.zebras", &[]);
    FIRST.clone_into(&mut world.keys);
    world.sound(&["reshard", "--logs", "1"]);
    assert!(found(&world).is_empty(), "{:?}", found(&world));
    assert_eq!(world.dump("orders.of.zebras", &[]), before);

    world.reading_only = true;
    world.sound(&["reshard", "--logs", "2"]);
    world.keys.clear();
    assert_eq!(world.dump("orders.of.zebras", &[]), before);
}

#[test]
fn info_tells_which_keys_a_store_needs() {
    let mut world = encrypted(&[FIRST]);
    fill(&world);
    world.keys = [SECOND, FIRST].join(",");
    let mut maker = world.maker(2);
    maker.publish("orders.of.zebras", b"okapi-body under the new key");
    drop(maker);
    let info: serde_json::Value = serde_json::from_str(&world.sound(&["info", "--json"])).unwrap();
    let keys = info["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 2, "{keys:?}");
    let text = world.sound(&["info"]);
    for key in keys {
        assert!(text.contains(key["key"].as_str().unwrap()), "{text}");
    }
}
