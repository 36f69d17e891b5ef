use super::*;
use crate::fs::Fs;

/// Fills the first segment, of 1 MiB, to less than a large record.
fn nearly_full() -> Bench {
    let mut bench = Bench::new();
    while bench.log.end().offset() < MIB - (100 << 10) {
        bench.send(
            key(0, 1),
            &payload(key(0, 1), bench.model.next(key(0, 1)), 20_000),
        );
        bench.commit();
    }
    bench.jobs();
    bench
}

#[test]
fn full_segment_is_sealed_and_synced_before_the_next_is_written() {
    let mut bench = nearly_full();
    while bench.log.end().segment() == SegmentId::new(1) {
        bench.send(
            key(0, 1),
            &payload(key(0, 1), bench.model.next(key(0, 1)), 20_000),
        );
    }
    let batch = bench.log.take_batch().unwrap();
    assert_eq!(batch.segment, SegmentId::new(1));
    assert!(batch.must_sync);
    assert_eq!(batch.end, Position::new(SegmentId::new(2), 64));
    bench.write(&batch);
    bench.log.written(batch.end);
    assert_eq!(bench.log.unsynced(), Some((SegmentId::new(1), batch.end)));
    // Written is not enough.
    assert!(bench.log.take_batch().is_none());
    bench.fs.sync_path(&bench.path(1)).unwrap();
    bench.log.synced(batch.end);
    let next = bench.log.take_batch().unwrap();
    assert_eq!((next.segment, next.offset), (SegmentId::new(2), 0));
    assert!(!next.must_sync);
    bench.log.commit(batch.end, &mut bench.model).unwrap();
    assert_eq!(bench.log.committed(), batch.end);
    bench.write(&next);
    bench.log.written(next.end);
    bench.fs.sync_path(&bench.path(2)).unwrap();
    bench.log.synced(next.end);
    bench.log.commit(next.end, &mut bench.model).unwrap();
    bench.check(key(0, 1));
}

#[test]
fn segments_double_up_to_the_full_size() {
    let mut bench = Bench::new();
    for number in 1..=1500 {
        bench.send(key(0, 1), &payload(key(0, 1), number, 10_000));
        if number % 10 == 0 {
            bench.commit();
            bench.jobs();
        }
    }
    bench.commit();
    let lens: Vec<_> = bench
        .log
        .segments
        .iter()
        .map(|segment| segment.len / MIB)
        .collect();
    assert_eq!(lens, vec![1, 2, 4, 4, 4]);
    bench.check(key(0, 1));
    assert_eq!(bench.log.usage(key(0, 1)).bytes, 15_000_000);
}

#[test]
fn large_message_gets_a_segment_that_holds_it() {
    let mut bench = Bench::new();
    bench.send(key(0, 1), b"small");
    bench.commit();
    let large = payload(key(0, 1), 2, 3_000_000);
    bench.send(key(0, 1), &large);
    bench.send(key(0, 1), b"small again");
    bench.commit();
    assert_eq!(bench.log.segments.len(), 2);
    assert_eq!(bench.log.segments.back().unwrap().len, 4 * MIB);
    bench.check(key(0, 1));
    let mut bench = bench.reopen();
    bench.check(key(0, 1));
}

#[test]
fn message_that_no_segment_holds_is_refused() {
    let mut bench = Bench::new();
    let refused = bench.try_append(key(0, 1), 1, &vec![0; 4 << 20], Class::Message);
    let Err(Refused::TooLarge { len, max }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(len, 4 * MIB);
    // The largest one fits.
    bench.send(key(0, 1), &vec![7; usize::try_from(max).unwrap()]);
    bench.commit();
    bench.check(key(0, 1));
    let refused = bench.try_append(
        key(0, 1),
        2,
        &vec![7; usize::try_from(max + 1).unwrap()],
        Class::Message,
    );
    assert!(
        matches!(refused, Err(Refused::TooLarge { .. })),
        "{refused:?}"
    );
}

#[test]
fn append_is_busy_while_the_next_segment_is_made() {
    let mut bench = Bench::new();
    bench.send(key(0, 1), b"first");
    bench.commit();
    // The next segment is never made: its job does not run.
    let mut refused = Ok(());
    let mut sequence = 1;
    while refused == Ok(()) {
        sequence += 1;
        refused = bench.try_append(key(0, 1), sequence, &[0; 10_000], Class::Message);
        bench.commit();
    }
    assert_eq!(refused, Err(Refused::Busy));
    // The reserve is for the broker.
    assert_eq!(
        bench.append_record(key(0, 1), RecordKind::Trim, 1, &[], Class::System),
        Ok(())
    );
    bench.jobs();
    while bench.log.end().segment() == SegmentId::new(1) {
        let appended = bench.try_append(key(0, 1), sequence, &[0; 10_000], Class::Message);
        assert_eq!(appended, Ok(()));
        sequence += 1;
    }
    bench.commit();
    bench.check(key(0, 1));
}

#[test]
fn full_disk_refuses_messages_until_there_is_space() {
    let mut bench = Bench::new();
    bench.send(key(0, 1), b"first");
    bench.commit();
    bench.fs.limit_bytes(Some(bench.fs.used_bytes() + 100_000));
    assert_eq!(bench.jobs(), vec![std::io::ErrorKind::StorageFull]);
    assert!(bench.log.stats().full);
    let mut sequence = 2;
    while bench.try_append(key(0, 1), sequence, &[0; 10_000], Class::Message) == Ok(()) {
        sequence += 1;
    }
    let refused = bench.try_append(key(0, 1), sequence, &[0; 10_000], Class::Message);
    assert_eq!(refused, Err(Refused::Full));
    // What is prepared is used to its end by what the broker must write down.
    let mut system = 0;
    while bench.append_record(key(0, 1), RecordKind::Trim, 1, &[], Class::System) == Ok(()) {
        system += 1;
    }
    assert!(system > 1000, "{system}");
    bench.commit();
    assert_eq!(bench.jobs(), vec![std::io::ErrorKind::StorageFull]);
    let files = bench.fs.list(&bench.options.directory).unwrap();
    assert!(
        files.iter().all(|file| !file.name.contains("tmp")),
        "{files:?}"
    );
    bench.fs.limit_bytes(None);
    assert_eq!(bench.jobs(), vec![]);
    assert!(!bench.log.stats().full);
    assert_eq!(
        bench.try_append(key(0, 1), sequence, &[0; 10_000], Class::Message),
        Ok(())
    );
    bench.commit();
    bench.check(key(0, 1));
}

#[test]
fn no_segment_is_made_that_leaves_less_than_the_floor() {
    let mut options = options();
    options.free_bytes_min = 10 << 20;
    let mut bench = Bench::with(options);
    bench.fs.limit_bytes(Some(11 << 20));
    bench.send(key(0, 1), b"first");
    assert_eq!(bench.jobs(), vec![std::io::ErrorKind::StorageFull]);
}
