//! One rule each; the model tests them together.

use std::collections::HashMap;

use ringmq_storage::{ChannelId, ChannelKey, CursorId, Sequence, SlotId};

use super::{
    Address, Feeds, GROUP_TURN_BYTES_MAX, Mark, NewReceiver, RETIRED_FEEDS_MAX, ReceiverKey,
    TURN_BYTES_MAX, Turn,
};

const CREDIT: u64 = 1 << 20;

pub(super) fn channel(number: u32) -> ChannelKey {
    ChannelKey {
        slot: SlotId::new(3).unwrap(),
        channel: ChannelId::new(number),
    }
}

fn sequence(number: u64) -> Sequence {
    Sequence::new(number)
}

/// Feeds of one channel, with events of ten bytes each.
struct Bench {
    feeds: Feeds,
    last: u64,
    cursors: HashMap<String, u32>,
}

impl Bench {
    fn with_events(last: u64) -> Self {
        Self {
            feeds: Feeds::new(),
            last,
            cursors: HashMap::new(),
        }
    }

    /// A receiver on its own, or a member of group `group`, with credit.
    fn join(&mut self, client: &str, group: &str, position: u64) -> ReceiverKey {
        let key = self.join_without_credit(client, group, position);
        self.feeds.grant(key, CREDIT);
        key
    }

    fn join_without_credit(&mut self, client: &str, group: &str, position: u64) -> ReceiverKey {
        let name = if group.is_empty() { client } else { group };
        let new = 1 + u32::try_from(self.cursors.len()).unwrap();
        let cursor = *self.cursors.entry(name.to_owned()).or_insert(new);
        self.feeds.add(NewReceiver {
            channel: channel(1),
            client,
            group,
            cursor: CursorId::new(cursor),
            position: sequence(position),
            last: sequence(self.last),
            address: Address { core: 0, key: 7 },
        })
    }

    fn store(&mut self, count: u64) {
        self.last += count;
        self.feeds.stored(channel(1), sequence(self.last));
    }

    fn turn(&mut self) -> Option<(ReceiverKey, u64, u64)> {
        self.feeds.next().map(span)
    }

    /// Takes one turn and sends all of it.
    fn send(&mut self) -> Option<(ReceiverKey, u64, u64, Mark)> {
        let (key, from, upto) = self.turn()?;
        let bytes = usize::try_from(upto - from + 1).unwrap() * 10;
        let mark = self.feeds.sent(key, sequence(from), sequence(upto), bytes);
        Some((key, from, upto, mark))
    }

    /// Sends until nobody has a turn: who got what.
    fn send_all(&mut self) -> Vec<(ReceiverKey, u64, u64)> {
        let turns = std::iter::from_fn(|| self.send());
        turns
            .map(|(key, from, upto, _)| (key, from, upto))
            .collect()
    }

    fn moves(&mut self) -> Vec<u64> {
        let mut moves = Vec::new();
        self.feeds.take_moves(&mut moves);
        moves.into_iter().map(|(_, _, to)| to.get()).collect()
    }
}

fn span(turn: Turn) -> (ReceiverKey, u64, u64) {
    (turn.receiver, turn.from.get(), turn.upto.get())
}

#[test]
fn a_receiver_reads_on_behind_its_position() {
    let mut bench = Bench::with_events(9);
    let key = bench.join("c", "", 4);
    assert_eq!(bench.send_all(), [(key, 5, 9)]);
    bench.store(1);
    assert_eq!(bench.send_all(), [(key, 10, 10)]);
}

#[test]
fn without_credit_nobody_gets_a_turn() {
    let mut bench = Bench::with_events(3);
    let key = bench.join_without_credit("c", "", 0);
    assert_eq!(bench.turn(), None);
    bench.feeds.grant(key, 0);
    assert_eq!(bench.turn(), None);
    bench.feeds.grant(key, 1);
    let turn = bench.feeds.next().unwrap();
    assert_eq!((span(turn), turn.bytes_max), ((key, 1, 3), 1));
}

#[test]
fn credit_may_be_overdrawn_by_one_chunk_and_is_paid_back_first() {
    let mut bench = Bench::with_events(3);
    let key = bench.join_without_credit("c", "", 0);
    bench.feeds.grant(key, 1);
    bench.turn().unwrap();
    bench.feeds.sent(key, sequence(1), sequence(1), 101);
    bench.feeds.grant(key, 100);
    assert_eq!(bench.turn(), None, "100 bytes of debt, 100 granted");
    bench.feeds.grant(key, 1);
    assert_eq!(bench.turn(), Some((key, 2, 3)));
}

#[test]
fn turns_are_bounded_in_bytes() {
    let mut bench = Bench::with_events(1_000);
    bench.join("alone", "", 0);
    bench.join("member", "g", 0);
    let mut turns = std::iter::from_fn(|| {
        let turn = bench.feeds.next()?;
        bench.feeds.sent(turn.receiver, turn.from, turn.upto, 1);
        Some(turn.bytes_max)
    });
    assert_eq!(turns.next(), Some(TURN_BYTES_MAX));
    assert_eq!(turns.next(), Some(GROUP_TURN_BYTES_MAX));
}

#[test]
fn feeds_with_work_take_turns() {
    let mut bench = Bench::with_events(4);
    let first = bench.join("a", "", 0);
    let second = bench.join("b", "", 0);
    for (key, number) in [(first, 1), (second, 1), (first, 2), (second, 2)] {
        let (receiver, from, _) = bench.turn().unwrap();
        assert_eq!((receiver, from), (key, number));
        bench.feeds.sent(key, sequence(from), sequence(from), 10);
    }
}

#[test]
fn the_position_moves_with_the_confirmations_and_is_told_once() {
    let mut bench = Bench::with_events(2);
    let key = bench.join("c", "", 0);
    let (_, _, _, first) = bench.send().unwrap();
    bench.store(3);
    let (_, _, _, second) = bench.send().unwrap();
    bench.store(1);
    bench.send().unwrap();
    assert_eq!(bench.moves(), [0; 0]);
    bench.feeds.confirmed(key, first);
    assert_eq!(bench.moves(), [2]);
    assert_eq!(bench.moves(), [0; 0]);
    bench.feeds.confirmed(key, second);
    bench.feeds.confirmed(key, first);
    assert_eq!(bench.moves(), [5]);
}

#[test]
fn a_confirmation_covers_all_chunks_before_it() {
    let mut bench = Bench::with_events(0);
    let key = bench.join("c", "", 0);
    let mut mark = Mark::default();
    for _ in 0..5 {
        bench.store(1);
        (_, _, _, mark) = bench.send().unwrap();
    }
    assert_eq!(mark.get(), 5);
    bench.feeds.confirmed(key, mark);
    assert_eq!(bench.moves(), [5]);
    assert_eq!(bench.feeds.progress(key).unwrap().chunks_in_flight, 0);
}

#[test]
fn one_event_after_the_other_goes_to_the_members_in_turn() {
    let mut bench = Bench::with_events(0);
    let first = bench.join("a", "g", 0);
    let second = bench.join("b", "g", 0);
    let mut got = Vec::new();
    for _ in 0..50 {
        bench.store(1);
        got.extend(bench.send_all());
    }
    assert!(got.iter().all(|(_, from, upto)| from == upto));
    let numbers: Vec<_> = got.iter().map(|(_, from, _)| *from).collect();
    assert_eq!(numbers, (1..=50).collect::<Vec<_>>());
    for key in [first, second] {
        assert_eq!(got.iter().filter(|turn| turn.0 == key).count(), 25);
    }
}

#[test]
fn the_members_share_what_waits() {
    let mut bench = Bench::with_events(10);
    let members = ["a", "b", "c"].map(|client| bench.join_without_credit(client, "g", 0));
    members
        .iter()
        .for_each(|key| bench.feeds.grant(*key, CREDIT));
    let got = bench.send_all();
    for key in members {
        let mine = got.iter().filter(|turn| turn.0 == key);
        let count: u64 = mine.map(|(_, from, upto)| upto - from + 1).sum();
        assert!((2..=5).contains(&count), "{got:?}");
    }
}

#[test]
fn a_backlog_goes_to_the_members_in_small_even_shares() {
    let mut bench = Bench::with_events(64 * 20);
    let members = ["a", "b"].map(|client| bench.join_without_credit(client, "g", 0));
    members
        .iter()
        .for_each(|key| bench.feeds.grant(*key, CREDIT));
    let got = bench.send_all();
    assert!(got.iter().all(|(_, from, upto)| upto - from < 64));
    for key in members {
        let mine = got.iter().filter(|turn| turn.0 == key);
        let count: u64 = mine.map(|(_, from, upto)| upto - from + 1).sum();
        assert!((600..=680).contains(&count), "{count}");
    }
}

#[test]
fn a_member_without_credit_is_passed_over() {
    let mut bench = Bench::with_events(0);
    let full = bench.join_without_credit("a", "g", 0);
    let other = bench.join("b", "g", 0);
    bench.store(2);
    assert!(bench.send_all().iter().all(|turn| turn.0 == other));
    bench.feeds.grant(full, CREDIT);
    bench.store(2);
    assert!(bench.send_all().iter().any(|turn| turn.0 == full));
}

#[test]
fn the_position_of_a_group_waits_for_its_slowest_member() {
    let mut bench = Bench::with_events(0);
    let slow = bench.join("slow", "g", 0);
    let quick = bench.join("quick", "g", 0);
    for _ in 0..6 {
        bench.store(1);
        bench.send_all();
    }
    bench.feeds.confirmed(quick, Mark::new(3));
    assert_eq!(bench.moves(), [0; 0]);
    bench.feeds.confirmed(slow, Mark::new(1));
    assert_eq!(bench.moves(), [2]);
    bench.feeds.confirmed(slow, Mark::new(3));
    assert_eq!(bench.moves(), [6]);
}

#[test]
fn what_a_member_left_unconfirmed_goes_to_the_others_before_anything_new() {
    let mut bench = Bench::with_events(0);
    let leaves = bench.join("leaves", "g", 0);
    let stays = bench.join("stays", "g", 0);
    for _ in 0..6 {
        bench.store(1);
        bench.send_all();
    }
    // `leaves` has 1, 3 and 5.
    bench.feeds.confirmed(leaves, Mark::new(1));
    bench.feeds.confirmed(stays, Mark::new(3));
    bench.store(1);
    bench.feeds.remove(leaves);
    assert_eq!(
        bench.send_all(),
        [(stays, 3, 3), (stays, 5, 5), (stays, 7, 7)]
    );
    assert_eq!(bench.moves(), [2], "3 is in flight again");
    bench.feeds.confirmed(stays, Mark::new(6));
    assert_eq!(bench.moves(), [7]);
}

#[test]
fn what_the_last_member_left_waits_for_the_next_one() {
    let mut bench = Bench::with_events(0);
    let first = bench.join("a", "g", 0);
    let second = bench.join("b", "g", 0);
    for _ in 0..4 {
        bench.store(1);
        bench.send_all();
    }
    bench.feeds.confirmed(second, Mark::new(2));
    bench.feeds.remove(first);
    bench.feeds.remove(second);
    bench.store(1);
    assert_eq!(bench.turn(), None);
    // The cursor on disk says 0; 2 and 4 are confirmed nevertheless.
    let third = bench.join("c", "g", 0);
    assert_eq!(
        bench.send_all(),
        [(third, 1, 1), (third, 3, 3), (third, 5, 5)]
    );
}

#[test]
fn a_receiver_that_returns_gets_what_it_had_not_confirmed() {
    let mut bench = Bench::with_events(3);
    let key = bench.join("c", "", 0);
    let (_, _, _, mark) = bench.send().unwrap();
    bench.store(2);
    bench.send().unwrap();
    bench.feeds.confirmed(key, mark);
    bench.feeds.remove(key);
    // The record of the position is still on its way: the durable one says 0.
    let again = bench.join("c", "", 0);
    assert_ne!(again, key);
    assert_eq!(bench.send_all(), [(again, 4, 5)]);
    assert_eq!(bench.moves(), [3]);
}

#[test]
fn a_client_id_is_held_until_its_receiver_is_removed() {
    let mut bench = Bench::with_events(0);
    let key = bench.join("c", "g", 0);
    assert!(bench.feeds.holder(channel(1), "c").is_some());
    assert_eq!(bench.feeds.holder(channel(2), "c"), None);
    assert_eq!(bench.feeds.holder(channel(1), "d"), None);
    bench.feeds.remove(key);
    bench.feeds.remove(key);
    assert_eq!(bench.feeds.holder(channel(1), "c"), None);
    assert_eq!(bench.feeds.receiver_count(), 0);
}

#[test]
fn a_parked_position_rests_until_it_is_resumed() {
    let mut bench = Bench::with_events(5);
    let first = bench.join("a", "g", 0);
    let second = bench.join("b", "g", 0);
    let (in_turn, _, _) = bench.turn().unwrap();
    assert_eq!(in_turn, first);
    bench.feeds.parked(first);
    bench.store(1);
    assert_eq!(bench.turn(), None);
    bench.feeds.resume(second);
    assert_eq!(bench.turn(), None, "it did not park");
    bench.feeds.resume(first);
    assert_eq!(bench.turn().unwrap().0, first, "its turn was not used up");
}

#[test]
fn a_member_that_leaves_parked_leaves_the_position_free() {
    let mut bench = Bench::with_events(5);
    let first = bench.join("a", "g", 0);
    let second = bench.join("b", "g", 0);
    bench.turn().unwrap();
    bench.feeds.parked(first);
    bench.feeds.remove(first);
    assert_eq!(bench.send_all(), [(second, 1, 5)]);
    bench.feeds.resume(first);
}

#[test]
fn one_who_found_nothing_is_left_alone_until_the_channel_grows() {
    let mut bench = Bench::with_events(500);
    let key = bench.join("a", "", 0);
    bench.turn().unwrap();
    bench.feeds.caught_up(key);
    assert_eq!(bench.turn(), None);
    bench.feeds.grant(key, 1);
    assert_eq!(bench.turn(), None);
    bench.store(1);
    assert_eq!(bench.turn(), Some((key, 1, 501)));
}

#[test]
fn a_member_who_found_nothing_looks_further() {
    let mut bench = Bench::with_events(100);
    let key = bench.join("a", "g", 0);
    assert_eq!(bench.turn(), Some((key, 1, 64)));
    bench.feeds.caught_up(key);
    assert_eq!(bench.turn(), Some((key, 1, 100)));
    bench.feeds.caught_up(key);
    assert_eq!(bench.turn(), None);
    bench.store(1);
    assert_eq!(bench.turn(), Some((key, 1, 101)));
    bench.feeds.sent(key, sequence(101), sequence(101), 10);
    assert_eq!(bench.turn(), None);
}

#[test]
fn a_gap_counts_as_delivered() {
    let mut bench = Bench::with_events(10);
    let key = bench.join("c", "", 0);
    bench.turn().unwrap();
    let mark = bench.feeds.sent(key, sequence(1), sequence(2), 20);
    bench.feeds.skipped(key, sequence(3), sequence(6));
    assert_eq!(bench.moves(), [0; 0]);
    bench.feeds.confirmed(key, mark);
    assert_eq!(bench.moves(), [6]);
    bench.turn().unwrap();
    bench.feeds.skipped(key, sequence(7), sequence(10));
    assert_eq!(bench.moves(), [10]);
    assert_eq!(bench.turn(), None);
}

#[test]
fn a_gap_in_what_is_delivered_again_counts_as_delivered() {
    let mut bench = Bench::with_events(8);
    let leaves = bench.join("leaves", "g", 0);
    bench.send_all();
    let stays = bench.join("stays", "g", 0);
    bench.feeds.remove(leaves);
    assert_eq!(bench.turn(), Some((stays, 1, 8)));
    bench.feeds.skipped(stays, sequence(1), sequence(3));
    assert_eq!(bench.moves(), [3]);
    assert_eq!(bench.turn(), Some((stays, 4, 8)));
    bench.feeds.caught_up(stays);
    assert_eq!(bench.moves(), [8], "what was there before is gone");
}

#[test]
fn what_is_trimmed_is_neither_read_nor_waited_for() {
    let mut bench = Bench::with_events(10);
    let alone = bench.join("a", "", 0);
    bench.turn().unwrap();
    let mark = bench.feeds.sent(alone, sequence(1), sequence(2), 20);
    bench.feeds.trimmed(channel(1), sequence(5));
    assert_eq!(bench.turn(), Some((alone, 6, 10)));
    bench.feeds.caught_up(alone);
    assert_eq!(bench.moves(), [5]);
    bench.feeds.confirmed(alone, mark);
    assert_eq!(bench.moves(), [0; 0]);
    assert_eq!(bench.feeds.progress(alone).unwrap().lag, 5);
}

#[test]
fn a_chunk_may_begin_behind_what_is_gone() {
    let mut bench = Bench::with_events(10);
    let key = bench.join("c", "", 0);
    bench.turn().unwrap();
    let mark = bench.feeds.sent(key, sequence(4), sequence(6), 30);
    bench.feeds.confirmed(key, mark);
    assert_eq!(bench.moves(), [6]);
}

#[test]
fn a_deleted_channel_ends_its_receivers() {
    let mut bench = Bench::with_events(10);
    let first = bench.join("a", "", 0);
    let second = bench.join("b", "g", 0);
    let gone = bench.join("c", "g", 0);
    bench.feeds.remove(gone);
    let (_, _, _, mark) = bench.send().unwrap();
    bench.feeds.confirmed(first, mark);
    let mut ended = Vec::new();
    bench.feeds.channel_deleted(channel(1), &mut ended);
    let mut keys: Vec<_> = ended.iter().map(|(key, _)| *key).collect();
    keys.sort_unstable();
    let mut expected = [first, second];
    expected.sort_unstable();
    assert_eq!(keys, expected);
    assert_eq!((bench.turn(), bench.moves()), (None, vec![]));
    assert_eq!(bench.feeds.receivers(channel(1)), 0);
}

#[test]
fn only_so_many_feeds_without_receivers_are_remembered() {
    let mut bench = Bench::with_events(1);
    for number in 0..RETIRED_FEEDS_MAX + 50 {
        // One that keeps coming back is in the list once.
        for name in ["often".to_owned(), format!("client {number}")] {
            let key = bench.join(&name, "", 0);
            if let Some((_, _, _, mark)) = bench.send() {
                bench.feeds.confirmed(key, mark);
            }
            bench.feeds.remove(key);
        }
    }
    assert_eq!(bench.feeds.feeds.len(), RETIRED_FEEDS_MAX);
    assert!(bench.feeds.ready.is_empty());
    // Also of those that were forgotten; one that came back after that starts from there.
    let moves = bench.moves();
    assert!(moves.iter().all(|to| *to == 1));
    assert_eq!(moves.len(), RETIRED_FEEDS_MAX + 50 + 1);
}

#[test]
fn a_forgotten_cursor_starts_from_its_durable_position() {
    let mut bench = Bench::with_events(4);
    let key = bench.join("c", "", 0);
    let (_, _, _, mark) = bench.send().unwrap();
    bench.feeds.confirmed(key, mark);
    bench.feeds.remove(key);
    let cursor = CursorId::new(1);
    assert!(!bench.feeds.uses(channel(1), cursor));
    bench.feeds.cursor_deleted(channel(1), cursor);
    assert_eq!(bench.moves(), [0; 0]);
    let again = bench.join("c", "", 2);
    assert_eq!(bench.send_all(), [(again, 3, 4)]);
    bench.feeds.cursor_deleted(channel(1), cursor);
    assert!(bench.feeds.uses(channel(1), cursor), "it has a receiver");
}
