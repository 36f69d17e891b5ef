//! Reading what the log holds and comparing it with what went in.

use std::ops::RangeInclusive;

use ringmq_storage::log::{Log, ReadCursor, ReadEnd, Seek};
use ringmq_storage::{ChannelKey, Sequence};

use super::oracle::Deed;
use super::state::{Channel, is_queue};
use super::world::{Outcome, World};

impl World {
    /// Reads every channel from its first message to its last.
    pub(crate) fn check_channels(&mut self, log: &mut Log) -> Outcome {
        for (key, channel) in self.model.keys() {
            let bytes_max = [1, 500, 1 << 20][self.random.below(3)];
            if is_queue(key.slot, key.channel.get()) {
                self.check_queue(log, key, &channel, bytes_max)?;
                continue;
            }
            self.check_range(log, key, &channel, 1..=u64::MAX, bytes_max)?;
            let usage = log.usage(key);
            let count = channel.last + 1 - channel.first;
            if usage.count != count || (count > 0 && usage.last.get() != channel.last) {
                return Err(format!("{key:?} is {channel:?}, its usage {usage:?}"));
            }
            self.check_searches(log, key, &channel)?;
        }
        Ok(())
    }

    /// Reads the messages of a queue, run by run, in order or not.
    fn check_queue(
        &mut self,
        log: &mut Log,
        key: ChannelKey,
        channel: &Channel,
        bytes_max: usize,
    ) -> Outcome {
        let mut runs = channel.runs(0);
        if self.random.percent(20) {
            runs.reverse();
        }
        let mut cursor = ReadCursor::default();
        for (first, last) in runs {
            self.check_run(log, key, channel, first..=last, bytes_max, &mut cursor)?;
        }
        Ok(())
    }

    /// Searches a channel by time and by size. What retention would trim is never too much.
    fn check_searches(&mut self, log: &mut Log, key: ChannelKey, channel: &Channel) -> Outcome {
        let kept: Vec<_> = (channel.first..=channel.last)
            .filter_map(|sequence| self.oracle.message(key, sequence))
            .collect();
        let Some(chosen) = kept.get(self.random.below(kept.len())) else {
            return Ok(());
        };
        let time_ns = chosen.timestamp_ns + u64::try_from(self.random.below(2)).unwrap_or(0);
        let expected = kept.iter().find(|deed| deed.timestamp_ns >= time_ns);
        let expected = expected.map(|deed| deed.head.sequence);
        let mut cursor = ReadCursor::default();
        let found = loop {
            match log.seek_time(key, time_ns, &mut cursor) {
                Seek::At(sequence) => break Some(sequence),
                Seek::End => break None,
                Seek::Cold(warm) => log.warmed(warm.run(), &mut cursor),
            }
        };
        if found != expected {
            return Err(format!(
                "{key:?}: {expected:?} is the first at {time_ns}, not {found:?}"
            ));
        }
        let behind =
            |through: Sequence| kept.iter().filter(move |deed| deed.head.sequence > through);
        if let Some(through) = log.through_time(key, time_ns)
            && kept
                .iter()
                .any(|deed| deed.head.sequence <= through && deed.timestamp_ns >= time_ns)
        {
            return Err(format!("{key:?}: {through} is not older than {time_ns}"));
        }
        let bytes = |deed: &&Deed| u64::from(deed.head.payload_len);
        let bytes_max = kept.iter().map(bytes).sum::<u64>() / 2;
        if let Some(through) = log.through_bytes(key, bytes_max)
            && (through.get() < channel.first || through.get() > channel.last)
        {
            let left: u64 = behind(through).map(bytes).sum();
            return Err(format!(
                "{key:?}: {through} leaves {left} of {bytes_max} bytes"
            ));
        }
        Ok(())
    }

    /// Reads a channel from some message on.
    pub(crate) fn check_some(&mut self, log: &mut Log) -> Outcome {
        let keys = self.model.keys();
        let Some((key, channel)) = keys.get(self.random.below(keys.len())) else {
            return Ok(());
        };
        let behind = usize::try_from(channel.last + 2).unwrap_or(0);
        let from = u64::try_from(self.random.below(behind)).unwrap_or(0);
        let bytes_max = [1, 5_000][self.random.below(2)];
        if !is_queue(key.slot, key.channel.get()) {
            return self.check_range(log, *key, channel, from..=u64::MAX, bytes_max);
        }
        let runs = channel.runs(from);
        let Some((first, last)) = runs.get(self.random.below(runs.len())) else {
            return Ok(());
        };
        self.check_range(log, *key, channel, *first..=*last, bytes_max)
    }

    fn check_range(
        &mut self,
        log: &mut Log,
        key: ChannelKey,
        channel: &Channel,
        range: RangeInclusive<u64>,
        bytes_max: usize,
    ) -> Outcome {
        let mut cursor = ReadCursor::default();
        self.check_run(log, key, channel, range, bytes_max, &mut cursor)
    }

    fn check_run(
        &mut self,
        log: &mut Log,
        key: ChannelKey,
        channel: &Channel,
        range: RangeInclusive<u64>,
        bytes_max: usize,
        cursor: &mut ReadCursor,
    ) -> Outcome {
        let (from, upto) = range.into_inner();
        let mut next = from.max(channel.first).max(1);
        let last = upto.min(channel.last);
        let upto = Sequence::new(upto);
        let inside = |next: u64, what: &str| format!("{key:?} ({channel:?}) at {next}: {what}");
        for _ in 0..1_000_000 {
            let start = Sequence::new(if next == channel.first { from } else { next });
            let mut failure = None;
            let mut count = 0;
            let mut visit = |stored: ringmq_storage::log::Stored<'_>| {
                let deed = self.oracle.message(key, next);
                let expected = deed.is_some_and(|deed| {
                    stored.sequence.get() == next
                        && stored.timestamp_ns == deed.timestamp_ns
                        && stored.encoding == deed.head.encoding
                        && stored.payload == deed.payload()
                        && stored.shared() == deed.payload()
                });
                if !expected && failure.is_none() {
                    let (sequence, len) = (stored.sequence, stored.payload.len());
                    failure = Some(format!("read {sequence} ({len} bytes), expected {deed:?}"));
                }
                next += 1;
                count += 1;
            };
            let end = log.read(key, start, upto, cursor, bytes_max, &mut visit);
            self.seen.messages_read += count;
            if let Some(failure) = failure {
                return Err(inside(next, &failure));
            }
            match end {
                ReadEnd::CaughtUp => {
                    return if next > last {
                        Ok(())
                    } else {
                        Err(inside(next, "caught up too early"))
                    };
                }
                ReadEnd::More if count > 0 => {}
                ReadEnd::More => return Err(inside(next, "more to read, and nothing was read")),
                ReadEnd::Cold(warm) => {
                    self.seen.cold_reads += 1;
                    log.warmed(warm.run(), cursor);
                }
                ReadEnd::Damaged { first, last } => {
                    return Err(inside(next, &format!("damaged {first}..={last}")));
                }
            }
        }
        Err(inside(next, "reading does not end"))
    }
}
