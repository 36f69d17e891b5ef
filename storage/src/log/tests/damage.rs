use super::*;
use crate::fs::Fs;

/// Two channels over three sealed segments and a fourth.
fn filled() -> Bench {
    let mut bench = Bench::new();
    for number in 1..=2400 {
        for slot in 0..2 {
            let key = key(slot, 1);
            bench.send(key, &payload(key, number, 2000));
        }
        if number % 9 == 0 {
            bench.commit();
            bench.jobs();
        }
    }
    bench.commit();
    bench.checkpoint();
    assert!(bench.log.segments.len() >= 4);
    bench
}

/// The place in a segment's file where a text begins.
fn find(bench: &Bench, segment: u32, text: &str) -> u64 {
    let bytes = bench.fs.read(&bench.path(segment)).unwrap();
    let mut windows = bytes.windows(text.len());
    let at = windows.position(|window| window == text.as_bytes());
    u64::try_from(at.expect("the text is there")).unwrap()
}

/// Reads a channel with its damage; what is not lost is as it was.
fn check_with_loss(bench: &mut Bench, key: ChannelKey) -> Vec<u64> {
    let expected = bench.model.messages(key);
    let (found, lost) = bench.read_all(key, 0);
    let lost: Vec<u64> = lost
        .into_iter()
        .flat_map(|(first, last)| first..=last)
        .collect();
    let mut kept = expected;
    kept.retain(|(number, _)| !lost.contains(number));
    assert!(
        found == kept,
        "what is read is what was stored, {lost:?} lost"
    );
    lost
}

#[test]
fn flipped_bit_in_a_sealed_segment_loses_its_frame_and_is_never_delivered() {
    let bench = filled();
    let at = find(&bench, 2, "0/1/300.");
    bench.fs.flip_bit(&bench.path(2), at + 100, 5).unwrap();
    let mut bench = bench.reopen();
    // Nothing reads there at the start.
    assert_eq!(bench.report.damaged, vec![]);
    let lost = check_with_loss(&mut bench, key(0, 1));
    assert!(lost.contains(&300) && lost.len() <= 9, "{lost:?}");
    assert!(check_with_loss(&mut bench, key(1, 1)).is_empty());
    assert!(bench.log.stats().damaged_bytes > 0);
    // It is known from now on.
    assert_eq!(check_with_loss(&mut bench, key(0, 1)), lost);
}

#[test]
fn flipped_bit_in_a_frame_header_loses_one_frame_too() {
    let bench = filled();
    let at = find(&bench, 1, "1/1/20.");
    // The record's head is 32 bytes, the frame's 64.
    bench
        .fs
        .flip_bit(&bench.path(1), at - 32 - 64 + 3, 7)
        .unwrap();
    let mut bench = bench.reopen();
    let lost = check_with_loss(&mut bench, key(1, 1));
    assert!(lost.contains(&20) && lost.len() <= 9, "{lost:?}");
    assert!(check_with_loss(&mut bench, key(0, 1)).is_empty());
}

#[test]
fn unreadable_sectors_are_lost_and_nothing_else() {
    let bench = filled();
    for segment in [1, 2] {
        let from = 300_000;
        bench
            .fs
            .fail_reads(&bench.path(segment), from..from + 512)
            .unwrap();
    }
    let mut bench = bench.reopen();
    for slot in 0..2 {
        let lost = check_with_loss(&mut bench, key(slot, 1));
        assert!(lost.len() <= 40, "{lost:?}");
    }
    assert!(bench.log.stats().damaged_bytes > 0);
}

#[test]
fn damage_in_the_tail_below_what_was_synced_is_not_cut() {
    let mut bench = Bench::new();
    for number in 1..=10 {
        for slot in 0..2 {
            bench.send(key(slot, 1), &payload(key(slot, 1), number, 100));
        }
        bench.commit();
    }
    let at = find(&bench, 1, "0/1/5.");
    bench.fs.flip_bit(&bench.path(1), at, 0).unwrap();
    let mut bench = bench.reopen();
    assert_eq!(bench.report.damaged.len(), 1);
    assert_eq!(bench.report.torn_bytes, 0);
    // One event is lost; what lies behind it in its slot is served, the other slot is whole.
    assert_eq!(
        (bench.report.halted.len(), bench.report.frames_lost),
        (0, 1)
    );
    assert!(bench.log.wants_checkpoint());
    assert_eq!(bench.model.last(key(0, 1)), 10);
    assert_eq!(check_with_loss(&mut bench, key(0, 1)), [5]);
    bench.check(key(1, 1));
    for slot in 0..2 {
        bench.send(key(slot, 1), b"on it goes");
    }
    bench.commit();
    // The next start comes to the same end, from the log and from a checkpoint.
    for checkpointed in [false, true] {
        if checkpointed {
            bench.checkpoint();
        }
        bench = bench.reopen();
        assert_eq!(bench.report.halted, vec![]);
        assert_eq!(bench.report.damaged.len(), 1);
        assert_eq!(check_with_loss(&mut bench, key(0, 1)), [5]);
        assert_eq!(bench.model.last(key(0, 1)), 11);
        bench.check(key(1, 1));
    }
}

#[test]
fn segment_whose_header_is_damaged_is_used_all_the_same() {
    for segment in 1..=4 {
        let bench = filled();
        bench.fs.flip_bit(&bench.path(segment), 20, 2).unwrap();
        let mut bench = bench.reopen();
        assert_eq!(bench.report.damaged.len(), 1, "{segment}");
        assert_eq!(bench.report.damaged[0].range, 0..64);
        for slot in 0..2 {
            bench.check(key(slot, 1));
        }
        bench.send(key(0, 1), b"on it goes");
        bench.commit();
        bench.reopen().check(key(0, 1));
    }
}

#[test]
fn missing_segment_loses_what_was_in_it() {
    let bench = filled();
    bench.fs.remove(&bench.path(2)).unwrap();
    let mut bench = bench.reopen();
    assert_eq!(bench.report.damaged.len(), 1);
    for slot in 0..2 {
        let lost = check_with_loss(&mut bench, key(slot, 1));
        assert!(lost.len() > 300, "{}", lost.len());
    }
    bench.send(key(0, 1), b"on it goes");
    bench.commit();
    assert_eq!(bench.model.last(key(0, 1)), 2401);
}

#[test]
fn segment_that_was_cut_short_loses_its_end() {
    let bench = filled();
    bench.fs.truncate(&bench.path(2), 500_000).unwrap();
    let mut bench = bench.reopen();
    for slot in 0..2 {
        let lost = check_with_loss(&mut bench, key(slot, 1));
        assert!((200..500).contains(&lost.len()), "{}", lost.len());
    }
}

#[test]
fn log_that_lost_its_end_goes_on_behind_what_the_checkpoint_holds() {
    let bench = filled();
    let last = bench.log.segments.back().unwrap().id;
    bench.fs.remove(&bench.path(last.get())).unwrap();
    let mut bench = bench.reopen();
    assert_eq!(bench.model.last(key(0, 1)), 2400);
    let number = bench.send(key(0, 1), b"on it goes");
    assert_eq!(number, 2401);
    bench.commit();
    assert!(bench.log.segments.back().unwrap().id > last);
    check_with_loss(&mut bench, key(0, 1));
    let mut bench = bench.reopen();
    assert_eq!(bench.model.last(key(0, 1)), 2401);
    check_with_loss(&mut bench, key(0, 1));
}

#[test]
fn file_of_another_store_is_refused() {
    let bench = filled();
    let mut other = options();
    other.store = StoreId::from_bytes([7; 16]);
    bench.fs.kill();
    let fs: Arc<dyn Fs> = Arc::new(bench.fs.clone());
    let opened = Log::open(fs, other, &mut Model::default());
    assert!(matches!(opened, Err(crate::Error::Unusable { .. })));
}
