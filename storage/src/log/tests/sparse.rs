//! Channels with gaps: queues, whose messages are settled in any order.

use super::model::QUEUES_FROM;
use super::*;
use crate::fs::Fs;
use crate::sim::Random;

const QUEUE: u32 = QUEUES_FROM;

/// Turns of a long run.
const ROUNDS: u64 = 200;

fn first(bench: &Bench) -> u32 {
    bench.log.segments.iter().next().unwrap().id.get()
}

/// Bytes of the records that the queues of the tests need.
fn needed(bench: &Bench, keys: &[ChannelKey]) -> u64 {
    let messages = keys.iter().flat_map(|key| bench.model.messages(*key));
    let bytes = messages.map(|(_, payload)| 32 + payload.len().next_multiple_of(8));
    u64::try_from(bytes.sum::<usize>()).unwrap()
}

/// Sends messages, some for each commit.
fn send_many(bench: &mut Bench, key: ChannelKey, count: u64, len: usize) {
    for number in 0..count {
        bench.send(key, &payload(key, bench.model.next(key), len));
        if number % 16 == 15 {
            bench.commit();
            bench.jobs();
        }
    }
    bench.commit();
    bench.jobs();
}

fn two_checkpoints(bench: &mut Bench) {
    bench.checkpoint();
    bench.checkpoint();
}

#[test]
fn one_message_that_stays_does_not_hold_up_what_was_settled_behind_it() {
    let (mut bench, key) = (Bench::new(), key(0, QUEUE));
    send_many(&mut bench, key, 4000, 4000);
    let last = bench.model.last(key);
    bench.settle(key, 0, &[(1, 6), (8, last - 5)]);
    two_checkpoints(&mut bench);
    let before = bench.log.stats();
    assert!(before.segments > 4, "{before:?}");
    bench.carry();
    let after = bench.log.stats();
    assert!(after.segments <= 2, "{after:?}");
    bench.check_queue(key);
    let mut bench = bench.reopen();
    assert_eq!(bench.report.damaged, vec![]);
    bench.check_queue(key);
    bench.settle(key, last - 5, &[(7, 7)]);
    bench.check_queue(key);
}

#[test]
fn every_second_message_of_a_queue_shares_the_blocks_of_its_neighbours() {
    let (mut bench, key) = (Bench::new(), key(0, QUEUE));
    send_many(&mut bench, key, 40_000, 500);
    let last = bench.model.last(key);
    let settled: Vec<_> = (1..last - 5)
        .filter(|number| number % 3 != 0)
        .map(|number| (number, number))
        .collect();
    for runs in settled.chunks(4096) {
        bench.settle(key, 0, runs);
    }
    two_checkpoints(&mut bench);
    bench.carry();
    assert!(first(&bench) > 2);
    bench.check_queue(key);
    let stats = bench.log.stats();
    assert!(stats.index_bytes < 40_000, "{stats:?}");
    let mut bench = bench.reopen();
    bench.check_queue(key);
    // What is left of the segments that were carried is forgotten again.
    bench.carry();
    bench.check_queue(key);
    let stats = bench.log.stats();
    assert!(stats.index_bytes < 60_000, "{stats:?}");
}

#[test]
fn messages_behind_a_gap_are_not_told_to_be_lost() {
    let (mut bench, key) = (Bench::new(), key(0, QUEUE));
    send_many(&mut bench, key, 6000, 1000);
    let last = bench.model.last(key);
    // All but 10 of every 100, so that each run ends before a gap in the same frame.
    let settled = (0..last / 100).map(|at| (at * 100 + 1, at * 100 + 90));
    bench.settle(key, 0, &settled.collect::<Vec<_>>());
    two_checkpoints(&mut bench);
    bench.carry();
    assert!(first(&bench) > 2);
    let mut cursor = ReadCursor::default();
    for run in 0..last / 100 {
        let (first, last) = (run * 100 + 91, run * 100 + 95);
        let (found, lost) = bench.read_range(key, first, last, &mut cursor);
        assert_eq!((found.len(), lost.len()), (5, 0), "{first}");
        let (found, lost) = bench.read_range(key, last, last, &mut ReadCursor::default());
        assert_eq!((found.len(), lost.len()), (1, 0), "{last}");
    }
    // Who asks for more than there is hears of it.
    let (found, lost) = bench.read_range(key, 190, 191, &mut cursor);
    assert_eq!((found.len(), lost), (1, vec![(190, 190)]));
}

#[test]
fn settled_rest_of_a_segment_is_not_carried_again_after_a_crash() {
    let (mut bench, key) = (Bench::new(), key(0, QUEUE));
    send_many(&mut bench, key, 4000, 4000);
    let last = bench.model.last(key);
    bench.settle(key, 0, &[(1, 6), (8, 400), (402, last - 5)]);
    two_checkpoints(&mut bench);
    let mut cursor = ReadCursor::default();
    // Everything of the first segment is carried, and it is not dropped.
    while bench
        .log
        .segments
        .iter()
        .next()
        .is_some_and(|first| first.live_blocks > 0)
    {
        match bench.log.carry_some(&mut cursor, 20_000, &bench.model) {
            Carry::Cold(warm) => bench.log.warmed(warm.run(), &mut cursor),
            Carry::More => bench.commit(),
            Carry::Idle | Carry::Refused(_) => panic!("there is more to carry"),
        }
    }
    let frames = bench.log.stats().frames;
    assert_eq!(first(&bench), 1);
    let mut bench = bench.reopen();
    assert_eq!(first(&bench), 1);
    bench.check_queue(key);
    bench.carry();
    assert!(first(&bench) > 2, "{:?}", bench.log.stats());
    assert!(bench.log.stats().frames < 4, "{frames}");
    bench.check_queue(key);
}

#[test]
fn crash_while_a_queue_is_carried_loses_nothing() {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let (mut bench, key) = (Bench::new(), key(0, QUEUE));
        send_many(&mut bench, key, 500, 5000);
        let last = bench.model.last(key);
        for _ in 0..4 {
            let settled: Vec<_> = (1..last)
                .filter(|_| random.percent(40))
                .map(|number| (number, number))
                .collect();
            bench.settle(key, 0, &settled);
        }
        two_checkpoints(&mut bench);
        let mut cursor = ReadCursor::default();
        for step in 0.. {
            match bench.log.carry_some(&mut cursor, 3000, &bench.model) {
                Carry::Idle => break,
                Carry::More | Carry::Refused(_) => {}
                Carry::Cold(warm) => bench.log.warmed(warm.run(), &mut cursor),
            }
            if step > seed % 23 {
                if let Some(batch) = bench.log.take_batch() {
                    bench.write(&batch);
                }
                break;
            }
            bench.commit();
            bench.check_queue(key);
        }
        bench.fs.crash(seed);
        let mut bench = Bench::on(bench.fs.clone(), bench.options.clone());
        assert_eq!(bench.report.damaged, vec![], "seed {seed}");
        bench.check_queue(key);
        bench.carry();
        bench.check_queue(key);
        bench.reopen().check_queue(key);
    }
}

#[test]
fn damaged_messages_hold_their_segment_until_they_are_settled() {
    let (mut bench, key) = (Bench::new(), key(0, QUEUE));
    send_many(&mut bench, key, 4000, 4000);
    let last = bench.model.last(key);
    bench.settle(key, 0, &[(1, 6), (8, 30), (32, last - 5)]);
    two_checkpoints(&mut bench);
    let path = bench.path(1);
    let file = bench.fs.read(&path).unwrap();
    let needle = payload(key, 7, 4000);
    let at = file
        .windows(4000)
        .position(|bytes| bytes == needle)
        .unwrap();
    let at = u64::try_from(at).unwrap();
    bench.fs.flip_bit(&path, at, 3).unwrap();
    let mut bench = bench.reopen();
    send_many(&mut bench, key, 17_000, 4000);
    bench.settle(key, 0, &[(last - 5, bench.model.last(key) - 3)]);
    two_checkpoints(&mut bench);
    bench.carry();
    assert_eq!(first(&bench), 1, "{:?}", bench.log.stats());
    let mut cursor = ReadCursor::default();
    let (_, lost) = bench.read_range(key, 7, 7, &mut cursor);
    assert_eq!(lost, vec![(7, 7)]);
    bench.settle(key, 0, &[(7, 7)]);
    bench.carry();
    assert!(first(&bench) > 2);
    bench.check_queue(key);
}

#[test]
fn runs_that_were_carried_out_of_order_are_read_in_order() {
    let mut bench = Bench::new();
    let (calm, busy) = (key(0, 1), key(1, 1));
    let fill = |bench: &mut Bench, through: u32| {
        while bench.log.end().segment().get() <= through {
            bench.send(calm, &payload(calm, bench.model.next(calm), 200));
            for _ in 0..3 {
                bench.send(busy, &payload(busy, bench.model.next(busy), 6000));
            }
            bench.commit();
            bench.jobs();
        }
        bench.model.last(busy)
    };
    // What the first segment keeps goes to the third; the second keeps too much.
    let last = fill(&mut bench, 1);
    fill(&mut bench, 2);
    bench.trim(busy, last);
    two_checkpoints(&mut bench);
    bench.carry();
    assert_eq!(first(&bench), 2);
    // Both go to the same segment: the second's own messages come before the older ones.
    let last = fill(&mut bench, 4);
    bench.trim(busy, last - 1);
    two_checkpoints(&mut bench);
    bench.carry();
    assert!(first(&bench) > 3);
    bench.check(calm);
    bench.check(busy);
    let mut bench = bench.reopen();
    bench.check(calm);
}

/// Runs queues for long, with compaction now and then, as a shard does.
fn space_stays_bounded(turn: impl Fn(&mut Bench, u64)) {
    let mut bench = Bench::new();
    let keys = [key(0, QUEUE), key(1, QUEUE)];
    let mut cursor = ReadCursor::default();
    let mut worst = 0;
    for round in 0..ROUNDS {
        turn(&mut bench, round);
        loop {
            bench.jobs();
            if bench.log.wants_checkpoint() {
                bench.checkpoint();
            }
            match bench.log.carry_some(&mut cursor, 200_000, &bench.model) {
                Carry::Idle => break,
                Carry::More | Carry::Refused(_) => bench.commit(),
                Carry::Cold(warm) => bench.log.warmed(warm.run(), &mut cursor),
            }
        }
        let stats = bench.log.stats();
        let excess = stats.used_bytes.saturating_sub(2 * needed(&bench, &keys));
        worst = worst.max(excess);
    }
    let segments = worst.div_ceil(u64::from(4 * MIB));
    assert!(segments <= 2, "{worst} bytes, {segments} segments");
    assert!(first(&bench) > 8, "{:?}", bench.log.stats());
    for key in keys {
        bench.check_queue(key);
    }
    let mut bench = bench.reopen();
    for key in keys {
        bench.check_queue(key);
    }
}

#[test]
fn stuck_message_before_a_busy_queue_costs_no_space() {
    space_stays_bounded(|bench, round| {
        let key = key(0, QUEUE);
        send_many(bench, key, 150, 2000);
        // The second message stays for ever.
        let settled = 150 * round + 1..=150 * round + 150;
        match round {
            0 => bench.settle(key, 1, &[(1, 1), (3, 150)]),
            _ => bench.settle(key, 0, &[(*settled.start(), *settled.end())]),
        }
    });
}

#[test]
fn queue_that_never_drains_beside_a_busy_one_costs_twice_its_size() {
    space_stays_bounded(|bench, round| {
        let (calm, busy) = (key(0, QUEUE), key(1, QUEUE));
        if round < ROUNDS / 3 {
            send_many(bench, calm, 60, 1500);
        }
        send_many(bench, busy, 150, 2000);
        let settled = 150 * round + 1..=150 * round + 150;
        bench.settle(busy, *settled.end(), &[(*settled.start(), *settled.end())]);
    });
}
