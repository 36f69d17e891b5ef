use super::*;
use crate::fs::Fs;

const BUSY: u16 = 3;

/// Fills some segments: channels of slot 0 and 1 get a message now and then, a busy one all others.
fn fill(bench: &mut Bench, rounds: u64) {
    for round in 0..rounds {
        for slot in 0..2 {
            let key = key(slot, 1 + u32::try_from(round % 3).unwrap());
            bench.send(key, &payload(key, bench.model.next(key), 300));
        }
        for _ in 0..20 {
            let key = key(BUSY, 1);
            bench.send(key, &payload(key, bench.model.next(key), 5000));
        }
        bench.commit();
        bench.jobs();
    }
}

fn trim_busy(bench: &mut Bench) {
    let busy = key(BUSY, 1);
    let last = bench.model.last(busy);
    bench.trim(busy, last - 3);
    bench.checkpoint();
    bench.checkpoint();
}

fn check_all(bench: &mut Bench) {
    for slot in 0..2 {
        for channel in 1..=3 {
            bench.check(key(slot, channel));
        }
    }
    bench.check(key(BUSY, 1));
}

fn first(bench: &Bench) -> u32 {
    bench.log.segments.iter().next().unwrap().id.get()
}

#[test]
fn few_messages_that_are_kept_do_not_hold_up_a_segment() {
    let mut bench = Bench::new();
    fill(&mut bench, 150);
    trim_busy(&mut bench);
    assert_eq!(first(&bench), 1);
    let before = bench.log.stats();
    bench.carry();
    let after = bench.log.stats();
    assert!(first(&bench) > 3, "{after:?}");
    assert_eq!(after.live_bytes, before.live_bytes);
    assert!(
        after.used_bytes < before.used_bytes / 2,
        "{before:?} {after:?}"
    );
    check_all(&mut bench);
    fill(&mut bench, 3);
    check_all(&mut bench);
}

#[test]
fn carried_messages_are_found_after_recovery() {
    for (checkpoint, index) in [(false, true), (true, true), (true, false)] {
        let mut bench = Bench::new();
        fill(&mut bench, 150);
        trim_busy(&mut bench);
        bench.carry();
        fill(&mut bench, 60);
        if checkpoint {
            bench.checkpoint();
        }
        let usage = bench.log.usage(key(0, 1));
        if !index {
            for entry in bench.fs.list(&bench.options.directory).unwrap() {
                if entry.name.ends_with(".index") {
                    bench
                        .fs
                        .remove(&bench.options.directory.join(entry.name))
                        .unwrap();
                }
            }
        }
        let mut bench = bench.reopen();
        assert_eq!(bench.report.damaged, vec![]);
        assert_eq!(bench.report.indexes_rebuilt > 0, !index);
        assert_eq!(bench.log.usage(key(0, 1)), usage);
        check_all(&mut bench);
        fill(&mut bench, 60);
        check_all(&mut bench);
    }
}

#[test]
fn messages_are_carried_again_and_again_and_stay_in_order() {
    let mut bench = Bench::new();
    for round in 0..6 {
        fill(&mut bench, 100);
        trim_busy(&mut bench);
        bench.carry();
        check_all(&mut bench);
        if round % 2 == 1 {
            bench = bench.reopen();
            check_all(&mut bench);
        }
    }
    assert!(first(&bench) > 8);
    assert!(
        bench.log.stats().file_bytes < 40 << 20,
        "{:?}",
        bench.log.stats()
    );
}

#[test]
fn crash_before_the_commit_of_carried_frames_loses_nothing() {
    for seed in 0..40 {
        let mut bench = Bench::new();
        fill(&mut bench, 60);
        trim_busy(&mut bench);
        let mut cursor = ReadCursor::default();
        let mut steps = 0;
        loop {
            match bench.log.carry_some(&mut cursor, 3000, &KeepAll) {
                Carry::Idle => break,
                Carry::More | Carry::Refused(_) => {}
                Carry::Cold(warm) => bench.log.warmed(warm.run(), &mut cursor),
            }
            steps += 1;
            if steps > seed % 7 {
                if let Some(batch) = bench.log.take_batch() {
                    bench.write(&batch);
                }
                break;
            }
            bench.commit();
        }
        bench.fs.crash(seed);
        let mut bench = Bench::on(bench.fs.clone(), bench.options.clone());
        assert_eq!(bench.report.damaged, vec![], "seed {seed}");
        check_all(&mut bench);
        bench.carry();
        check_all(&mut bench);
        bench.reopen().check(key(0, 1));
    }
}

#[test]
fn trims_and_deletions_reach_carried_messages() {
    let mut bench = Bench::new();
    fill(&mut bench, 150);
    trim_busy(&mut bench);
    bench.carry();
    bench.trim(key(0, 1), 20);
    let kind = RecordKind::ChannelDelete;
    bench
        .append_record(key(1, 2), kind, 0, &[], Class::System)
        .unwrap();
    bench.commit();
    check_all(&mut bench);
    let mut bench = bench.reopen();
    check_all(&mut bench);
    assert_eq!(bench.log.usage(key(0, 1)).first, seq(21));
    assert_eq!(bench.log.usage(key(1, 2)), Usage::default());
    bench.checkpoint();
    let mut bench = bench.reopen();
    check_all(&mut bench);
    assert_eq!(bench.log.usage(key(1, 2)), Usage::default());
}

#[test]
fn segment_that_keeps_much_is_not_carried() {
    let mut bench = Bench::new();
    let (kept, gone) = (key(0, 1), key(1, 1));
    for number in 1..=400 {
        bench.send(kept, &payload(kept, number, 4000));
        bench.send(gone, &payload(gone, number, 6000));
        bench.commit();
        bench.jobs();
    }
    bench.trim(gone, 399);
    bench.checkpoint();
    bench.checkpoint();
    bench.carry();
    assert_eq!(first(&bench), 1);
    bench.check(kept);
}

#[test]
fn what_was_trimmed_of_a_channel_does_not_hold_up_the_segment_that_it_was_carried_from() {
    let mut bench = Bench::new();
    fill(&mut bench, 150);
    for slot in 0..2 {
        bench.trim(key(slot, 1), 2);
    }
    trim_busy(&mut bench);
    bench.carry();
    assert!(first(&bench) > 3);
    check_all(&mut bench);
    let mut bench = bench.reopen();
    check_all(&mut bench);
}

#[test]
fn damage_is_not_carried() {
    let mut bench = Bench::new();
    fill(&mut bench, 150);
    trim_busy(&mut bench);
    let lost = key(0, 1);
    let text = payload(lost, 2, 300);
    let bytes = bench.fs.read(&bench.path(1)).unwrap();
    let at = bytes
        .windows(300)
        .position(|window| window == text)
        .unwrap();
    let at = u64::try_from(at).unwrap();
    bench.fs.flip_bit(&bench.path(1), at + 5, 1).unwrap();
    let mut bench = bench.reopen();
    bench.carry();
    let (found, lost) = bench.read_all(lost, 0);
    assert_eq!(lost, vec![(2, 2)]);
    assert_eq!(found.len(), 49);
    // It keeps its segment until it is trimmed.
    assert_eq!(first(&bench), 1);
    bench.trim(key(0, 1), 2);
    bench.jobs();
    assert!(first(&bench) > 1);
    let mut bench = bench.reopen();
    check_all(&mut bench);
}
