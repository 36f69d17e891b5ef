use super::gather::Filling;
use super::*;
use crate::frame::FRAME_HEADER_BYTES;
use crate::fs::{Fs, PAGE_BYTES};
use crate::record::{RECORD_HEADER_BYTES, RecordHead, RecordKind};

fn filled() -> Bench {
    let mut bench = Bench::new();
    for number in 1..=900 {
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
    bench
}

fn check_filled(bench: &mut Bench) {
    for slot in 0..2 {
        assert_eq!(bench.model.last(key(slot, 1)), 900);
        bench.check(key(slot, 1));
    }
    assert_eq!(bench.report.damaged, vec![]);
    assert_eq!(bench.report.halted, vec![]);
}

#[test]
fn log_without_a_checkpoint_is_replayed_from_its_beginning() {
    let mut bench = filled().reopen();
    check_filled(&mut bench);
    assert_eq!(bench.report.checkpoint, None);
    assert_eq!(bench.report.torn_bytes, 0);
    bench.send(key(0, 1), b"on it goes");
    bench.commit();
    let mut bench = bench.reopen();
    assert_eq!(bench.model.last(key(0, 1)), 901);
    bench.check(key(0, 1));
}

/// The bytes of a failed sync may be shown by the page cache, counted as clean, and not be on the
/// disk: a restart that took them for safe lost them with the next power cut.
#[test]
fn what_a_restart_finds_after_a_failed_sync_survives_a_power_cut() {
    for seed in 0..200 {
        let mut bench = Bench::on(SimFs::new(seed), options());
        let key = key(0, 1);
        for number in 1..=5 {
            bench.send(key, &payload(key, number, 3000));
            bench.commit();
        }
        bench.send(key, &payload(key, 6, 3000));
        let batch = bench.log.take_batch().unwrap();
        bench.write(&batch);
        bench.log.written(batch.end);
        bench.fs.fail_next_sync();
        assert!(bench.fs.sync_path(&bench.path(1)).is_err());
        bench.log.fail("the sync failed".to_owned());
        let bench = bench.reopen();
        let found = bench.model.last(key);
        assert_eq!(found, 6, "the page cache shows it");
        bench.fs.crash(seed);
        let mut bench = bench.reopen();
        assert_eq!(bench.model.last(key), 6, "seed {seed}");
        bench.check(key);
    }
}

#[test]
fn checkpoint_leaves_nothing_to_replay() {
    let mut bench = filled();
    bench.checkpoint();
    assert!(!bench.log.has_changed_since_checkpoint());
    let mut bench = bench.reopen();
    check_filled(&mut bench);
    assert_eq!(bench.report.checkpoint, Some(1));
    assert_eq!(bench.report.frames_replayed, 0);
    assert_eq!(bench.report.indexes_rebuilt, 0);
    assert!(!bench.log.has_changed_since_checkpoint());
    for number in 901..=1000 {
        bench.send(key(1, 1), &payload(key(1, 1), number, 2000));
        bench.commit();
    }
    let mut bench = bench.reopen();
    assert_eq!(bench.report.frames_replayed, 100);
    bench.check(key(0, 1));
    bench.check(key(1, 1));
}

#[test]
fn checkpoint_is_written_when_its_sections_are_synced() {
    let mut bench = Bench::new();
    bench.send(key(0, 1), b"first");
    bench.commit();
    bench.jobs();
    bench.send(key(0, 1), b"second");
    let batch = bench.log.take_batch().unwrap();
    bench.write(&batch);
    bench.log.written(batch.end);
    // As under `interval`: committed, not synced.
    bench.log.commit(batch.end, &mut bench.model).unwrap();
    bench.checkpoint();
    assert!(!bench.fs.used_names(&bench.options).contains("checkpoint"));
    bench.fs.sync_path(&bench.path(1)).unwrap();
    bench.log.synced(batch.end);
    bench.jobs();
    assert!(bench.fs.used_names(&bench.options).contains("checkpoint"));
}

trait Names {
    fn used_names(&self, options: &Options) -> String;
}

impl Names for SimFs {
    fn used_names(&self, options: &Options) -> String {
        let entries = self.list(&options.directory).unwrap();
        let names: Vec<_> = entries.into_iter().map(|entry| entry.name).collect();
        names.join(" ")
    }
}

#[test]
fn damaged_newest_checkpoint_gives_way_to_the_older_one() {
    let mut bench = filled();
    bench.checkpoint();
    bench.send(key(0, 1), b"between");
    bench.commit();
    bench.checkpoint();
    bench.send(key(0, 1), b"behind");
    bench.commit();
    let path = checkpoints::checkpoint_path(&bench.options.directory, 2);
    bench.fs.flip_bit(&path, 200, 3).unwrap();
    let mut bench = bench.reopen();
    assert_eq!(bench.report.checkpoint, Some(1));
    assert_eq!(bench.report.bad_checkpoints.len(), 1);
    assert_eq!(bench.report.frames_replayed, 2);
    bench.check(key(0, 1));
    bench.check(key(1, 1));
    // The damaged one goes when the next one is there.
    bench.checkpoint();
    let names = bench.fs.used_names(&bench.options);
    assert!(
        !names.contains("0000000002") && names.contains("0000000003"),
        "{names}"
    );
    assert_eq!(bench.reopen().report.checkpoint, Some(3));
}

#[test]
fn third_checkpoint_replaces_the_first() {
    let mut bench = filled();
    for _ in 0..3 {
        bench.send(key(0, 1), b"more");
        bench.commit();
        bench.checkpoint();
    }
    let names = bench.fs.used_names(&bench.options);
    assert!(!names.contains("0000000001"), "{names}");
    assert!(
        names.contains("0000000002") && names.contains("0000000003"),
        "{names}"
    );
}

#[test]
fn log_without_any_readable_checkpoint_opens_only_from_its_beginning() {
    let mut bench = filled();
    bench.checkpoint();
    for number in 1..=2 {
        bench.trim(key(0, 1), 300 * number);
        bench.trim(key(1, 1), 300 * number);
        bench.checkpoint();
    }
    assert!(bench.log.segments.iter().next().unwrap().id > SegmentId::new(1));
    for number in 2..=3 {
        let path = checkpoints::checkpoint_path(&bench.options.directory, number);
        bench.fs.flip_bit(&path, 100, 0).unwrap();
    }
    bench.fs.kill();
    let fs: std::sync::Arc<dyn Fs> = Arc::new(bench.fs.clone());
    let opened = Log::open(fs, bench.options.clone(), &mut Model::default());
    assert!(matches!(opened, Err(crate::Error::CheckpointLost { .. })));
}

#[test]
fn missing_and_damaged_indexes_are_made_anew() {
    let mut bench = filled();
    bench.checkpoint();
    let directory = bench.options.directory.clone();
    bench
        .fs
        .remove(&segments::index_path(&directory, SegmentId::new(1)))
        .unwrap();
    let damaged = segments::index_path(&directory, SegmentId::new(2));
    bench.fs.flip_bit(&damaged, 90, 1).unwrap();
    let mut bench = bench.reopen();
    assert_eq!(bench.report.indexes_rebuilt, 2);
    check_filled(&mut bench);
    bench.jobs();
    let mut bench = bench.reopen();
    assert_eq!(bench.report.indexes_rebuilt, 0);
    check_filled(&mut bench);
}

#[test]
fn trims_before_and_behind_a_checkpoint_hold_after_recovery() {
    let mut bench = filled();
    bench.trim(key(0, 1), 333);
    bench.checkpoint();
    bench.trim(key(1, 1), 444);
    bench
        .append_record(key(1, 1), RecordKind::Trim, 445, &[], Class::System)
        .unwrap();
    bench.commit();
    let usage = [bench.log.usage(key(0, 1)), bench.log.usage(key(1, 1))];
    let mut bench = bench.reopen();
    assert_eq!(
        usage,
        [bench.log.usage(key(0, 1)), bench.log.usage(key(1, 1))]
    );
    assert_eq!(usage[1].first, seq(446));
    bench.check(key(0, 1));
    bench.check(key(1, 1));
}

#[test]
fn deleted_channel_is_gone_after_recovery() {
    let mut bench = filled();
    let kind = RecordKind::ChannelDelete;
    bench
        .append_record(key(0, 1), kind, 0, &[], Class::System)
        .unwrap();
    bench.commit();
    for checkpoint in [false, true] {
        assert_eq!(bench.log.usage(key(0, 1)), Usage::default());
        assert_eq!(bench.read_all(key(0, 1), 0).0, vec![]);
        bench.check(key(1, 1));
        if checkpoint {
            bench.checkpoint();
        }
        bench = bench.reopen();
    }
    assert_eq!(bench.log.usage(key(0, 1)), Usage::default());
    bench.check(key(1, 1));
}

/// The body of a message whose frame, written at `end`, ends with its page: no padding covers what
/// lies behind it.
fn up_to_the_page(end: Position) -> Vec<u8> {
    let heads = FRAME_HEADER_BYTES + RECORD_HEADER_BYTES;
    let in_page = usize::try_from(end.offset()).unwrap() % PAGE_BYTES;
    vec![7; PAGE_BYTES - in_page - heads]
}

/// Writes a batch of frames of which the first is torn, and ends with its page.
fn torn(mut bench: Bench) -> (Bench, Position, u64) {
    bench.send(key(0, 1), b"acknowledged");
    bench.commit();
    let end = bench.log.end();
    bench.send(key(0, 7), &up_to_the_page(end));
    for slot in 1..4 {
        bench.send(key(slot, 7), b"behind the page");
    }
    let mut batch = bench.log.take_batch().unwrap();
    batch.bytes[70] ^= 1;
    bench.write(&batch);
    let len = u64::from(batch.end.offset() - batch.offset);
    (bench.reopen(), end, len)
}

#[test]
fn torn_tail_is_cut_and_what_lies_behind_is_made_zero() {
    let (mut bench, end, len) = torn(Bench::new());
    // Up to the last byte that was set: the last record's padding counts for nothing.
    assert!(
        (len - 8..=len).contains(&bench.report.torn_bytes),
        "{:?}",
        bench.report
    );
    assert_eq!(bench.report.damaged, vec![]);
    assert_eq!(bench.log.end(), end);
    let bytes = bench.fs.read(&bench.path(1)).unwrap();
    let behind = usize::try_from(end.offset()).unwrap();
    assert!(bytes[behind..].iter().all(|byte| *byte == 0));
    assert!(bench.fs.is_synced(&bench.path(1)).unwrap());
    // A frame of the same size does not bring those behind it back.
    bench.send(key(3, 9), &up_to_the_page(end));
    bench.commit();
    let mut bench = bench.reopen();
    for slot in 0..4 {
        assert_eq!(bench.model.last(key(slot, 7)), 0);
    }
    bench.check(key(0, 1));
    bench.check(key(3, 9));
}

#[cfg(feature = "sim")]
#[test]
fn tail_that_is_not_made_zero_comes_back() {
    let mut options = options();
    options.mutations.keep_tail_behind_torn = true;
    let (mut bench, end, _) = torn(Bench::with(options));
    bench.send(key(0, 7), &up_to_the_page(end));
    bench.commit();
    let bench = bench.reopen();
    assert_eq!(bench.model.last(key(3, 7)), 1);
}

#[test]
fn segment_of_which_only_the_head_was_written_was_never_in_use() {
    let mut bench = filled();
    let last = bench.log.segments.back().unwrap().id;
    while bench.log.end().segment() == last {
        bench.send(key(0, 1), &payload(key(0, 1), 1, 20_000));
        bench.jobs();
    }
    // The seal goes first; of the next segment's first batch only the header is written.
    assert!(bench.commit_one());
    let batch = bench.log.take_batch().unwrap();
    bench
        .fs
        .append_write(&bench.path(last.get() + 1), 0, &batch.bytes[..64])
        .unwrap();
    let before = bench.model.last(key(0, 1));
    let mut bench = bench.reopen();
    assert_eq!(bench.model.last(key(0, 1)), before);
    assert_eq!(bench.log.segments.back().unwrap().id, last);
    assert_eq!(bench.report.damaged, vec![]);
    bench.send(key(0, 1), b"in the same segment, made anew");
    bench.commit();
    assert_eq!(bench.log.segments.back().unwrap().id, last.next());
    bench.check(key(0, 1));
    bench.reopen().check(key(0, 1));
}

#[test]
fn record_that_does_not_follow_halts_its_slot_and_no_other() {
    let mut bench = Bench::new();
    bench.send(key(0, 1), b"first");
    bench.send(key(1, 1), b"first");
    bench.commit();
    hand_made(&mut bench, &[(0, 9, 2)]);
    let mut bench = bench.reopen();
    assert_eq!(bench.report.halted.len(), 1);
    assert_eq!(bench.report.halted[0].slot, slot(0));
    let refused = bench.try_append(key(0, 1), 2, b"refused", Class::Message);
    assert_eq!(refused, Err(Refused::Poisoned));
    bench.send(key(1, 1), b"second");
    bench.commit();
    bench.check(key(0, 1));
    bench.check(key(1, 1));
}

/// Writes frames at the end of the log that it would never make: (slot, index, sequence) with one
/// message each, synced.
fn hand_made(bench: &mut Bench, frames: &[(u16, u64, u64)]) {
    let end = bench.log.end();
    let segment = bench.log.segments.get(end.segment()).unwrap();
    let seed = bench.log.seed(segment.id, segment.generation);
    let len = segment.len;
    let mut filling = Filling::new(end.segment(), seed, len, end.offset());
    let mut bytes = Vec::new();
    for (slot_index, index, sequence) in frames {
        let text = format!("index {index}");
        let head = RecordHead {
            kind: RecordKind::Message,
            encoding: 1,
            channel: ChannelId::new(1),
            sequence: seq(*sequence),
            time_delta_ns: 0,
            payload_len: u32::try_from(text.len()).unwrap(),
        };
        filling.open_frame(slot(*slot_index), bench.now_ns, FrameIndex::new(*index));
        filling.push(bench.now_ns, head, &mut |out| {
            out.extend_from_slice(text.as_bytes());
        });
        filling.close_frame(end);
        bytes = filling.bytes().to_vec();
    }
    let path = bench.path(end.segment().get());
    bench
        .fs
        .append_write(&path, u64::from(end.offset()), &bytes)
        .unwrap();
    bench.fs.sync_path(&path).unwrap();
}

/// A log whose slot 0 has frames 1 to 5; frame 3 and those behind are replaced by another 3.
fn superseded(options: Options) -> Bench {
    let mut bench = Bench::with(options);
    bench.send(key(1, 1), b"other slot");
    bench.commit();
    hand_made(
        &mut bench,
        &[
            (0, 1, 1),
            (0, 2, 2),
            (0, 3, 3),
            (0, 4, 4),
            (0, 5, 5),
            (0, 3, 3),
        ],
    );
    bench.reopen()
}

#[test]
fn later_frame_ends_the_life_of_earlier_ones_with_its_index_or_higher() {
    let mut bench = superseded(options());
    assert_eq!(bench.model.last(key(0, 1)), 3);
    assert_eq!(bench.report.halted, vec![]);
    bench.check(key(0, 1));
    bench.check(key(1, 1));
    bench.send(key(0, 1), b"the fourth");
    bench.commit();
    let mut bench = bench.reopen();
    assert_eq!(bench.model.last(key(0, 1)), 4);
    bench.check(key(0, 1));
}

#[cfg(feature = "sim")]
#[test]
fn keeping_what_a_superseded_frame_was_followed_by_is_noticed() {
    let mut options = options();
    options.mutations.keep_after_superseded = true;
    let bench = superseded(options);
    assert_ne!(
        (bench.model.last(key(0, 1)), bench.report.halted.len()),
        (3, 0)
    );
}

/// As `superseded`, with a checkpoint that holds frames 1 to 3 and a frame 2 that comes again.
fn superseded_below_checkpoint(options: Options) -> Bench {
    let mut bench = Bench::with(options);
    bench.send(key(1, 1), b"other slot");
    bench.commit();
    hand_made(&mut bench, &[(0, 1, 1), (0, 2, 2), (0, 3, 3)]);
    let mut bench = bench.reopen();
    bench.checkpoint();
    hand_made(&mut bench, &[(0, 4, 4), (0, 5, 5), (0, 2, 2), (0, 3, 3)]);
    bench.reopen()
}

#[test]
fn frame_below_the_checkpoint_supersedes_as_well() {
    let mut bench = superseded_below_checkpoint(options());
    assert_eq!(bench.model.last(key(0, 1)), 3);
    assert_eq!(bench.report.halted, vec![]);
    bench.check(key(0, 1));
}

#[cfg(feature = "sim")]
#[test]
fn ignoring_frames_below_the_checkpoint_is_noticed() {
    let mut options = options();
    options.mutations.ignore_supersede_below_checkpoint = true;
    let bench = superseded_below_checkpoint(options);
    assert_ne!(
        (bench.model.last(key(0, 1)), bench.report.halted.len()),
        (3, 0)
    );
}

#[test]
fn acknowledged_messages_survive_crashes_at_any_moment() {
    for seed in 0..150 {
        let mut options = options();
        options.batch_bytes_max = 200_000;
        let mut bench = Bench::with(options);
        let mut acknowledged = [0; 4];
        let mut random = crate::sim::Random::new(seed);
        for _ in 0..4 {
            for _ in 0..40 {
                let slot_index = u16::try_from(random.next() % 4).unwrap();
                let key = key(slot_index, 1);
                let number = bench.model.next(key);
                let len = usize::try_from(random.next() % 30_000).unwrap();
                bench.send(key, &payload(key, number, len));
                match random.next() % 8 {
                    0..3 => {
                        bench.commit();
                        for (slot, last) in (0..4).zip(&mut acknowledged) {
                            *last = bench.model.last(super::key(slot, 1));
                        }
                    }
                    3 if bench.log.wants_checkpoint() => bench.checkpoint(),
                    _ => {}
                }
            }
            if let Some(batch) = bench.log.take_batch() {
                bench.write(&batch);
            }
            bench.fs.crash(random.next());
            bench = Bench::on(bench.fs.clone(), bench.options.clone());
            assert_eq!(bench.report.damaged, vec![], "seed {seed}");
            assert_eq!(bench.report.halted, vec![], "seed {seed}");
            for (slot, last) in (0..4).zip(&mut acknowledged) {
                let key = super::key(slot, 1);
                assert!(bench.model.last(key) >= *last, "seed {seed}");
                *last = bench.model.last(key);
                bench.check(key);
            }
        }
    }
}
