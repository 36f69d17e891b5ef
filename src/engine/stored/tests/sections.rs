use ringmq_storage::Sequence;
use ringmq_storage::checkpoint::Section;

use super::queue_rules::{Sent, move_id};
use super::rules::{Fixture, NONE};
use super::tape::{restore, section, slot};
use crate::engine::queues::SettleReason;
use crate::engine::stored::StoredKind;

/// Two channels, one trimmed, one position; the number of a third channel is used up.
fn broker() -> Fixture {
    let mut broker = Fixture::new();
    let orders = broker.send("orders", 1_000).key;
    for at in 0..3 {
        broker.send("orders", 2_000 + at);
    }
    let gone = broker.send("gone", 2_500).key;
    broker.send("größe", 3_000);
    broker.cursor(orders, "billing", 2, 4_000);
    broker.delete(gone, 4_500);
    broker
        .slots
        .prepare_trim(&mut broker.tape, orders, Sequence::new(1), 5_000)
        .unwrap();
    broker.commit();
    broker
}

/// A queue with a message of each sort, and a name in the register.
fn with_queue() -> Fixture {
    let mut broker = Fixture::new();
    let jobs = broker.queue_message("jobs", Sent::default(), 1_000).key;
    let expiring = Sent {
        expires_at_ns: 77,
        ..Sent::default()
    };
    broker.queue_message("jobs", expiring, 1_000);
    broker.queue_message("jobs", Sent::default(), 1_000);
    broker.queue_message("jobs", Sent::default(), 1_000);
    let moved = Sent {
        visible_at_ns: 9_000_000,
        moved: Some(move_id(5, 34, 12)),
        ..Sent::default()
    };
    broker.queue_message("jobs", moved, 2_000);
    broker.commit();
    broker.settle(jobs, SettleReason::Acked, 32, &[(1, 1)], 3_000);
    broker.requeue(jobs, &[(2, 3)], 4_000);
    broker.settle(jobs, SettleReason::Expired, 32, &[(3, 3)], 5_000);
    broker.begin_move(jobs, 4, "dead", 8_000);
    let (news, limits) = (StoredKind::Events, &NONE);
    let made = broker
        .slots
        .prepare_channel(&mut broker.tape, slot(3), news, "news", 9_000, limits);
    made.unwrap();
    broker.commit();
    broker
}

fn with(section: &Section, change: impl FnOnce(&mut Vec<u8>)) -> Section {
    let mut changed = section.clone();
    change(&mut changed.logical);
    changed
}

/// Bytes of layout 1, which stores from before queues hold.
fn layout_1() -> Vec<u8> {
    let mut golden = Vec::new();
    // Layout 1; channel 4 and position 2 come next; two channels, one position.
    golden.extend_from_slice(&[1, 0, 0, 0, 4, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0]);
    golden.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    // Channel 1, events store, 6 bytes of name; messages 2 to 4.
    golden.extend_from_slice(&[1, 0, 0, 0, 1, 0, 6, 0]);
    for number in [2_u64, 4, 2_002, 1_000, 4_000] {
        golden.extend_from_slice(&number.to_le_bytes());
    }
    golden.extend_from_slice(b"orders");
    golden.extend_from_slice(&[3, 0, 0, 0, 1, 0, 7, 0]);
    for number in [1_u64, 1, 3_000, 3_000, 3_000] {
        golden.extend_from_slice(&number.to_le_bytes());
    }
    golden.extend_from_slice("größe".as_bytes());
    // Position 1 in channel 1, a client's, 7 bytes of name.
    golden.extend_from_slice(&[1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 7, 0]);
    for number in [2_u64, 4_000] {
        golden.extend_from_slice(&number.to_le_bytes());
    }
    golden.extend_from_slice(b"billing");
    golden
}

/// Every deployed store holds such bytes: if this test fails, the format has changed. Never edit
/// the bytes; add a layout.
#[test]
fn the_bytes_are_those_of_the_format() {
    let section = section(&broker().slots, slot(3));
    let mut golden = layout_1();
    // Without queues and moves, the layouts differ in their number.
    golden[0] = 2;
    assert_eq!(section.logical, golden);
    assert_eq!(section.last_timestamp_ns, 5_000);
}

#[test]
fn the_bytes_of_a_queue_are_those_of_the_format() {
    let section = section(&with_queue().slots, slot(3));
    let mut golden = Vec::new();
    // Layout 2; channel 3 and position 1 come next; two channels, no position, one move.
    golden.extend_from_slice(&[2, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0]);
    golden.extend_from_slice(&[0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    // Channel 1, queue, 4 bytes of name; nothing is needed before message 2, the last is 6.
    golden.extend_from_slice(&[1, 0, 0, 0, 2, 0, 4, 0]);
    for number in [2_u64, 6, 2_000, 1_000, 8_000] {
        golden.extend_from_slice(&number.to_le_bytes());
    }
    golden.extend_from_slice(b"jobs");
    // 112 bytes; 5 messages of 176 bytes were sent, one of 32 acknowledged, one expired.
    let counters = [5_u64, 176, 1, 32, 1, 0, 0, 0, 0, 0, 0];
    for number in [112].into_iter().chain(counters) {
        golden.extend_from_slice(&number.to_le_bytes());
    }
    // One run, two details, one open move.
    for number in [1_u32, 2, 1, 0] {
        golden.extend_from_slice(&number.to_le_bytes());
    }
    for number in [4_u64, 6] {
        golden.extend_from_slice(&number.to_le_bytes());
    }
    // Message 5 came from "else" and is delayed; message 6 was stored as 2 and received 3 times.
    for number in [5_u64, 5, 9_000_000, 0] {
        golden.extend_from_slice(&number.to_le_bytes());
    }
    golden.extend_from_slice(&[0, 0, 0, 0, 48, 0, 0, 0]);
    for number in [6_u64, 2, 0, 77] {
        golden.extend_from_slice(&number.to_le_bytes());
    }
    golden.extend_from_slice(&[3, 0, 0, 0, 32, 0, 0, 0]);
    // Message 4 goes to "dead".
    golden.extend_from_slice(&[4, 0, 0, 0, 0, 0, 0, 0, 1, 0, 4, 0, 0, 0, 0, 0]);
    golden.extend_from_slice(b"dead");
    // Channel 2, events.
    golden.extend_from_slice(&[2, 0, 0, 0, 3, 0, 4, 0]);
    for number in [1_u64, 0, 0, 9_000, 9_000] {
        golden.extend_from_slice(&number.to_le_bytes());
    }
    golden.extend_from_slice(b"news");
    // What arrived: message 12 of channel 34 of slot 5.
    golden.extend_from_slice(&[5, 0, 0, 0, 34, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(section.logical, golden);
}

#[test]
fn layout_1_is_still_read() {
    let good = section(&broker().slots, slot(3));
    let old = Section {
        logical: layout_1(),
        ..good.clone()
    };
    let restored = restore(std::slice::from_ref(&old)).unwrap();
    assert_eq!(section(&restored, slot(3)), good);
    let arrived = with(&old, |bytes| bytes[20] = 1);
    assert!(restore(&[arrived]).unwrap_err().reason.contains("reserved"));
    // A queue could be created then, but had no messages.
    let queue = with(&old, |bytes| bytes[36] = 2);
    let restored = restore(&[queue]).unwrap();
    let key = restored.find(slot(3), StoredKind::Queue, "orders").unwrap();
    assert_eq!(restored.queue(key).unwrap().len(), 0);
    assert_eq!(restored.channel(key).unwrap().last.get(), 4);
    let again = section(&restored, slot(3));
    assert_eq!(
        section(&restore(std::slice::from_ref(&again)).unwrap(), slot(3)),
        again
    );
}

#[test]
fn what_is_on_its_way_is_no_part_of_it() {
    let mut broker = broker();
    let before = section(&broker.slots, slot(3));
    broker.send("orders", 9_000);
    broker.send("another", 9_000);
    assert_eq!(section(&broker.slots, slot(3)), before);
}

#[test]
fn a_restored_state_goes_on_where_the_other_ended() {
    let original = broker();
    let mut restored = Fixture::new();
    restored.slots = restore(&[section(&original.slots, slot(3))]).unwrap();
    let sent = restored.send("orders", 1);
    assert_eq!((sent.sequence.get(), sent.timestamp_ns), (5, 5_000));
    assert_eq!(restored.send("gone", 1).key.channel.get(), 4);
    assert_eq!(restored.cursor(sent.key, "billing", 0, 1).get(), 1);
    assert_eq!(restored.cursor(sent.key, "shipping", 0, 1).get(), 2);
}

#[test]
fn positions_in_any_order_of_names_are_found_again() {
    let mut original = Fixture::new();
    let key = original.send("orders", 1).key;
    for number in 0..50_u64 {
        let name = format!("reader.{}", number * 37 % 50);
        original.cursor(key, &name, number % 2, 1);
    }
    original.commit();
    let sections = [section(&original.slots, slot(3))];
    let restored = restore(&sections).unwrap();
    assert_eq!(section(&restored, slot(3)), sections[0]);
    let names = |slots: &crate::engine::stored::Slots| -> Vec<String> {
        slots
            .cursors(key)
            .map(|(_, cursor)| cursor.name.to_string())
            .collect()
    };
    assert_eq!(names(&restored), names(&original.slots));
    assert!(names(&restored).is_sorted());
    assert_eq!(names(&restored).len(), 50);
}

#[test]
fn every_cut_and_every_longer_section_is_refused() {
    for broker in [broker(), with_queue()] {
        let good = section(&broker.slots, slot(3));
        assert!(restore(std::slice::from_ref(&good)).is_ok());
        for len in 0..good.logical.len() {
            let cut = with(&good, |bytes| bytes.truncate(len));
            restore(&[cut]).unwrap_err();
        }
        let longer = with(&good, |bytes| bytes.push(0));
        let reason = restore(&[longer]).unwrap_err().reason;
        assert!(reason.contains("behind its end"));
    }
}

/// Checksums keep damage away; this keeps a bug of a newer version away.
#[test]
fn no_changed_bit_makes_a_state_that_contradicts_itself() {
    for (broker, max) in [(broker(), 400), (with_queue(), 1600)] {
        let good = section(&broker.slots, slot(3));
        let mut accepted = 0;
        for bit in 0..good.logical.len() * 8 {
            let changed = with(&good, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
            if let Ok(slots) = restore(std::slice::from_ref(&changed)) {
                assert_eq!(
                    section(&slots, slot(3)),
                    changed,
                    "what is read is what is there"
                );
                accepted += 1;
            }
        }
        // Bits of names, of counters and of numbers within their bounds.
        assert!((1..max).contains(&accepted), "{accepted}");
    }
}

#[test]
fn random_bytes_never_bring_the_broker_down() {
    let good = [broker(), with_queue()].map(|broker| section(&broker.slots, slot(3)));
    let mut state = 1_u64;
    let mut random = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(state >> 40).unwrap()
    };
    for round in 0..40_000 {
        let changed = with(&good[round % 2], |bytes| {
            for _ in 0..=random() % 6 {
                let at = random() % bytes.len();
                bytes[at] = u8::try_from(random() % 256).unwrap();
            }
        });
        let is_old = changed.logical[0] == 1;
        if let Ok(slots) = restore(std::slice::from_ref(&changed))
            && !is_old
        {
            assert_eq!(section(&slots, slot(3)), changed);
        }
    }
}

#[test]
fn an_unknown_layout_is_named() {
    let good = section(&broker().slots, slot(3));
    let newer = with(&good, |bytes| bytes[0] = 3);
    assert!(restore(&[newer]).unwrap_err().reason.contains("layout 3"));
    let digest = with(&good, |bytes| bytes[24] = 1);
    assert!(restore(&[digest]).unwrap_err().reason.contains("reserved"));
}

#[test]
fn a_section_of_another_logs_slot_is_refused() {
    use ringmq_storage::log::Apply;
    let good = section(&broker().slots, slot(3));
    let mut slots = crate::engine::stored::Slots::new([slot(4)]);
    assert!(
        slots
            .restore(&good)
            .unwrap_err()
            .reason
            .contains("another log")
    );
}
