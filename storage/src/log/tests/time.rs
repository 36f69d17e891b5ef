use super::*;

fn seek(bench: &mut Bench, key: ChannelKey, time_ns: u64) -> Option<u64> {
    let mut cursor = ReadCursor::default();
    loop {
        match bench.log.seek_time(key, time_ns, &mut cursor) {
            Seek::At(sequence) => return Some(sequence.get()),
            Seek::End => return None,
            Seek::Cold(warm) => bench.log.warmed(warm.run(), &mut cursor),
        }
    }
}

#[test]
fn seek_finds_the_first_message_that_is_not_older() {
    let mut bench = Bench::new();
    let (one, other) = (key(0, 1), key(0, 2));
    let began = bench.now_ns;
    let mut times = Vec::new();
    for number in 1..=2000_u64 {
        // Several within a millisecond, some at the very same time.
        bench.now_ns += [0, 1, 300_000, 40_000_000][usize::try_from(number % 4).unwrap()];
        bench.send(one, &payload(one, number, 100));
        bench.send(other, &payload(other, number, 900));
        times.push(bench.now_ns);
        if number % 13 == 0 {
            bench.commit();
        }
    }
    bench.commit();
    for reopened in [false, true] {
        for (at, time) in times.iter().enumerate().step_by(17) {
            for wanted in [time - 1, *time, time + 1] {
                let expected = times.partition_point(|time| *time < wanted) + 1;
                let expected = (expected <= times.len()).then(|| u64::try_from(expected).unwrap());
                assert_eq!(seek(&mut bench, one, wanted), expected, "{at} {reopened}");
            }
        }
        assert_eq!(seek(&mut bench, one, 0), Some(1));
        assert_eq!(seek(&mut bench, one, began), Some(1));
        assert_eq!(seek(&mut bench, one, u64::MAX), None);
        assert_eq!(seek(&mut bench, key(3, 3), 0), None);
        bench.checkpoint();
        bench = bench.reopen();
    }
}

#[test]
fn retention_by_time_never_reaches_too_far() {
    let mut bench = Bench::new();
    let began = bench.now_ns;
    for number in 1..=3000 {
        bench.now_ns = began + number * 1_000_000;
        bench.send(key(0, 1), &payload(key(0, 1), number, 500));
        if number % 10 == 0 {
            bench.commit();
        }
    }
    bench.commit();
    assert_eq!(bench.log.through_time(key(0, 1), began), None);
    for number in (1..=3000).step_by(50) {
        let before = began + number * 1_000_000;
        let through = bench.log.through_time(key(0, 1), before);
        let through = through.map_or(0, Sequence::get);
        // Entries lie 16 KiB apart, which are 31 messages.
        assert!(
            through < number && through + 50 >= number,
            "{number}: {through}"
        );
    }
    let all = bench.log.through_time(key(0, 1), u64::MAX);
    assert_eq!(all, Some(seq(3000)));
}

#[test]
fn retention_by_bytes_is_within_its_bound_and_keeps_nearly_as_much() {
    for len in [10, 500, 5000] {
        let mut bench = Bench::new();
        for number in 1..=1000 {
            bench.send(key(0, 1), &payload(key(0, 1), number, len));
            if number % 40 == 0 {
                bench.commit();
            }
        }
        bench.commit();
        let size = u64::try_from(len).unwrap();
        assert_eq!(bench.log.through_bytes(key(0, 1), 1000 * size), None);
        let mut kept = 1000;
        for keep in [999, 640, 100, 3, 1] {
            let through = bench.log.through_bytes(key(0, 1), keep * size).unwrap();
            bench.trim(key(0, 1), through.get());
            let usage = bench.log.usage(key(0, 1));
            assert!(usage.bytes <= keep * size, "{usage:?} {keep} of {kept}");
            assert!(usage.count + 2 >= keep, "{usage:?} {keep} of {kept}");
            kept = usage.count;
            bench.check(key(0, 1));
        }
        let through = bench.log.through_bytes(key(0, 1), 0).unwrap();
        assert_eq!(through, seq(1000));
    }
}
