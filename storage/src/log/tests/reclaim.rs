use super::*;
use crate::id::Generation;

fn fill(bench: &mut Bench, key: ChannelKey, count: u64) {
    for number in 1..=count {
        bench.send(key, &payload(key, bench.model.next(key), 10_000));
        if number % 9 == 0 {
            bench.commit();
            bench.jobs();
        }
    }
    bench.commit();
    bench.jobs();
}

fn ids(bench: &Bench) -> Vec<u32> {
    bench
        .log
        .segments
        .iter()
        .map(|segment| segment.id.get())
        .collect()
}

#[test]
fn only_the_oldest_segments_go_and_only_when_nothing_in_them_is_kept() {
    let mut bench = Bench::new();
    let (old, new) = (key(0, 1), key(1, 1));
    bench.send(old, b"stays for a while");
    fill(&mut bench, new, 2000);
    assert_eq!(ids(&bench), vec![1, 2, 3, 4, 5, 6, 7]);
    bench.trim(new, 1990);
    bench.checkpoint();
    bench.checkpoint();
    // The segments behind it are empty, but the first one is not.
    assert_eq!(ids(&bench), vec![1, 2, 3, 4, 5, 6, 7]);
    bench.trim(old, 1);
    assert_eq!(bench.jobs(), vec![]);
    assert_eq!(ids(&bench), vec![7]);
    bench.check(old);
    bench.check(new);
    let mut bench = bench.reopen();
    bench.check(old);
    bench.check(new);
    assert_eq!(bench.report.damaged, vec![]);
}

#[test]
fn segment_that_the_older_checkpoint_needs_stays() {
    let mut bench = Bench::new();
    fill(&mut bench, key(0, 1), 150);
    bench.checkpoint();
    fill(&mut bench, key(0, 1), 500);
    let count = ids(&bench).len();
    bench.trim(key(0, 1), 650);
    bench.checkpoint();
    // The first checkpoint begins in the second segment.
    assert_eq!(
        ids(&bench),
        (2..=u32::try_from(count).unwrap()).collect::<Vec<_>>()
    );
    bench.checkpoint();
    assert_eq!(ids(&bench).len(), 1);
    bench.check(key(0, 1));
}

#[test]
fn dropped_segment_of_full_size_is_used_again_under_a_new_generation() {
    let mut bench = Bench::new();
    let key = key(0, 1);
    for round in 1..=12 {
        fill(&mut bench, key, 300);
        bench.trim(key, 300 * round - 5);
        bench.checkpoint();
        bench.checkpoint();
        bench.check(key);
    }
    let recycled = bench
        .log
        .segments
        .iter()
        .filter(|s| s.generation > Generation::new(1))
        .count();
    assert!(recycled > 0);
    assert!(ids(&bench)[0] > 6);
    let used = bench.fs.used_bytes();
    assert!(used < 30 << 20, "{used}");
    let mut bench = bench.reopen();
    assert_eq!(bench.report.damaged, vec![]);
    bench.check(key);
    fill(&mut bench, key, 300);
    bench.check(key);
    bench.reopen().check(key);
}

#[test]
fn torn_tail_of_a_recycled_segment_is_cut() {
    let mut bench = Bench::new();
    let key = key(0, 1);
    let mut round = 0;
    let fresh = |segment: &segments::Segment| segment.generation == Generation::new(1);
    while bench.log.segments.back().is_none_or(fresh) {
        fill(&mut bench, key, 300);
        round += 1;
        bench.trim(key, 300 * round - 5);
        bench.checkpoint();
        bench.checkpoint();
        assert!(round < 20);
    }
    let before = bench.model.last(key);
    for slot in 0..4 {
        bench.send(super::key(slot, 7), b"same size");
    }
    let mut batch = bench.log.take_batch().unwrap();
    batch.bytes[70] ^= 1;
    bench.write(&batch);
    let mut bench = bench.reopen();
    assert!(bench.report.torn_bytes > 0);
    assert_eq!(bench.model.last(key), before);
    bench.send(super::key(0, 7), b"same size");
    bench.commit();
    let mut bench = bench.reopen();
    assert_eq!(bench.model.last(super::key(3, 7)), 0);
    assert_eq!(bench.report.damaged, vec![]);
    bench.check(key);
}

#[test]
fn segment_that_somebody_still_reads_is_not_used_again() {
    let mut bench = Bench::new();
    let key = key(0, 1);
    fill(&mut bench, key, 1200);
    let mut held = None;
    let mut cursor = ReadCursor::default();
    let third = bench.log.segments.get(SegmentId::new(3)).unwrap().before;
    let from = third / 10_000 + 10;
    bench
        .log
        .read(key, seq(from), seq(from), &mut cursor, 1, &mut |stored| {
            held = Some(stored.shared());
        });
    bench.trim(key, 1190);
    bench.checkpoint();
    bench.checkpoint();
    fill(&mut bench, key, 400);
    let held = held.unwrap();
    assert_eq!(held, payload(key, from, 10_000));
    let generations: Vec<_> = bench
        .log
        .segments
        .iter()
        .map(|s| s.generation.get())
        .collect();
    bench.check(key);
    drop(held);
    // The third was removed, those behind it were free to be used.
    assert!(
        generations.iter().all(|generation| *generation <= 2),
        "{generations:?}"
    );
}

#[test]
fn figures_of_the_log_follow_what_is_in_it() {
    let mut bench = Bench::new();
    fill(&mut bench, key(0, 1), 400);
    fill(&mut bench, key(1, 1), 10);
    let stats = bench.log.stats();
    assert_eq!(stats.live_bytes, 4_100_000);
    assert_eq!(stats.channels, 2);
    assert_eq!(stats.segments, 3);
    assert!(stats.used_bytes > stats.live_bytes && stats.used_bytes < stats.file_bytes);
    bench.trim(key(0, 1), 300);
    assert_eq!(bench.log.stats().live_bytes, 1_100_000);
    bench.checkpoint();
    assert_eq!(bench.reopen().log.stats().live_bytes, 1_100_000);
}
