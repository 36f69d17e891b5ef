use super::*;

#[test]
fn message_is_read_when_it_is_committed_and_not_before() {
    let mut bench = Bench::new();
    let key = key(0, 1);
    assert_eq!(bench.send(key, b"first"), 1);
    assert_eq!(bench.read_all(key, 0).0, vec![]);
    let end = bench.log.end();
    let batch = bench.log.take_batch().unwrap();
    assert_eq!(batch.end, end);
    assert!(bench.log.take_batch().is_none());
    bench.write(&batch);
    bench.log.written(batch.end);
    assert_eq!(bench.log.unsynced(), Some((SegmentId::new(1), batch.end)));
    assert!(bench.log.committed() < end);
    bench.fs.sync_path(&bench.path(1)).unwrap();
    bench.log.synced(batch.end);
    assert_eq!(bench.log.unsynced(), None);
    assert_eq!(bench.read_all(key, 0).0, vec![]);
    bench.log.commit(batch.end, &mut bench.model).unwrap();
    assert!(bench.log.committed() >= end);
    assert_eq!(bench.read_all(key, 0).0, vec![(1, b"first".to_vec())]);
}

#[test]
fn nothing_is_made_on_disk_before_the_first_append() {
    let mut bench = Bench::new();
    assert!(bench.log.next_job().is_none());
    let refused = bench.try_append(key(0, 1), 1, b"first", Class::Message);
    assert_eq!(refused, Err(Refused::Busy));
    assert_eq!(bench.jobs(), vec![]);
    assert_eq!(
        bench.try_append(key(0, 1), 1, b"first", Class::Message),
        Ok(())
    );
}

#[test]
fn slots_of_one_batch_get_frames_of_their_own() {
    let mut bench = Bench::new();
    for round in 1..=20 {
        for slot in 0..4 {
            let key = key(slot, 1 + u32::from(slot));
            bench.send(key, &payload(key, round, 100));
        }
    }
    let frames = bench.log.stats().frames;
    bench.commit();
    // A preamble, and a frame for each change of the slot.
    assert_eq!(bench.log.stats().frames - frames, 81);
    for slot in 0..4 {
        bench.check(key(slot, 1 + u32::from(slot)));
    }
}

#[test]
fn records_of_one_slot_share_a_frame_up_to_its_size() {
    let mut bench = Bench::new();
    for number in 1..=1000 {
        bench.send(key(0, 1), &payload(key(0, 1), number, 500));
    }
    bench.commit();
    // 1,000 records of 536 bytes in frames of 256 KiB, and the preamble.
    assert_eq!(bench.log.stats().frames, 4);
    bench.check(key(0, 1));
}

#[test]
fn record_too_late_for_the_frame_begins_another() {
    let mut bench = Bench::new();
    bench.send(key(0, 1), b"early");
    bench.now_ns += 5_000_000_000;
    bench.send(key(0, 1), b"late");
    bench.commit();
    assert_eq!(bench.log.stats().frames, 3);
    let mut times = Vec::new();
    let mut cursor = ReadCursor::default();
    bench.log.read(
        key(0, 1),
        seq(1),
        seq(9),
        &mut cursor,
        1000,
        &mut |stored| {
            times.push(stored.timestamp_ns);
        },
    );
    assert_eq!(times, vec![bench.now_ns - 5_000_000_000, bench.now_ns]);
}

#[test]
fn appending_goes_on_while_a_batch_is_out_up_to_a_limit() {
    let mut options = options();
    options.batch_bytes_max = 10_000;
    let mut bench = Bench::with(options);
    bench.send(key(0, 1), &[1; 1000]);
    let batch = bench.log.take_batch().unwrap();
    let mut sent = 1;
    while bench.try_append(key(0, 1), sent + 1, &[2; 1000], Class::Message) == Ok(()) {
        sent += 1;
    }
    assert!((9..=11).contains(&sent), "{sent}");
    // What the broker itself has to say has room still.
    let system = bench.append_record(key(0, 1), RecordKind::Trim, 1, &[], Class::System);
    assert_eq!(system, Ok(()));
    bench.write(&batch);
    bench.log.written(batch.end);
    bench.fs.sync_path(&bench.path(1)).unwrap();
    bench.log.synced(batch.end);
    bench.log.commit(batch.end, &mut bench.model).unwrap();
    bench.commit();
    assert_eq!(bench.model.last(key(0, 1)), sent);
    bench.check(key(0, 1));
}

#[test]
fn failed_log_takes_nothing_and_is_still_read() {
    let mut bench = Bench::new();
    bench.send(key(0, 1), b"kept");
    bench.commit();
    bench.send(key(0, 1), b"lost");
    let _batch = bench.log.take_batch().unwrap();
    bench.log.fail("sync: input/output error".to_owned());
    assert_eq!(bench.log.poisoned(), Some("sync: input/output error"));
    let refused = bench.try_append(key(0, 1), 3, b"refused", Class::System);
    assert_eq!(refused, Err(Refused::Poisoned));
    assert!(bench.log.take_batch().is_none());
    assert_eq!(bench.read_all(key(0, 1), 0).0, vec![(1, b"kept".to_vec())]);
}

#[test]
fn reader_that_follows_sees_every_message_once() {
    let mut bench = Bench::new();
    let (one, other) = (key(0, 1), key(1, 1));
    let mut cursor = ReadCursor::default();
    let mut seen = 0;
    for number in 1..=300 {
        bench.send(one, &payload(one, number, 700));
        bench.send(other, &payload(other, number, 3000));
        if number % 7 == 0 {
            bench.commit();
            let (messages, lost) = bench.read_on(one, seen + 1, &mut cursor);
            assert_eq!(lost, vec![]);
            for (sequence, found) in messages {
                seen += 1;
                assert_eq!(sequence, seen);
                assert_eq!(found, payload(one, seen, 700));
            }
        }
    }
    assert_eq!(seen, 294);
}

#[test]
fn read_ends_at_its_bounds() {
    let mut bench = Bench::new();
    for number in 1..=50 {
        bench.send(key(0, 1), &payload(key(0, 1), number, 1000));
    }
    bench.commit();
    let mut cursor = ReadCursor::default();
    let mut read = |from, upto, bytes_max| {
        let mut seen = Vec::new();
        let end = bench.log.read(
            key(0, 1),
            seq(from),
            seq(upto),
            &mut cursor,
            bytes_max,
            &mut |s| {
                seen.push(s.sequence.get());
            },
        );
        (seen, matches!(end, ReadEnd::CaughtUp))
    };
    assert_eq!(read(10, 12, 100_000), (vec![10, 11, 12], true));
    // One always fits.
    assert_eq!(read(13, 50, 1), (vec![13], false));
    assert_eq!(read(14, 50, 3 * 1032), (vec![14, 15, 16], false));
    assert_eq!(read(49, 90, 100_000), (vec![49, 50], true));
    assert_eq!(read(51, 90, 100_000), (vec![], true));
    assert_eq!(read(3, 3, 100_000), (vec![3], true));
}
