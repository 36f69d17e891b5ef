//! Sums over channels.

use super::ChannelFacts;
use crate::engine::traffic::Traffic;

/// Something that went over a channel within this time was lately.
pub const LATELY_MS: u64 = 5 * 60_000;

/// Sums over channels: of the walk that found them, so that what a list shows of them and the rest
/// add up to these.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChannelTotals {
    /// Channels.
    pub channels: u64,
    /// Those that are active.
    pub active: u64,
    /// Those over which something went in the last five minutes.
    pub lately: u64,
    /// The sums of their figures; of times and numbers of messages, the last activity is the
    /// latest, the oldest message the oldest and the largest lag the largest.
    pub sums: ChannelFacts<'static>,
}

impl ChannelTotals {
    /// Counts a channel; the time is in milliseconds since 1970.
    pub fn add(&mut self, facts: &ChannelFacts<'_>, now_ms: u64) {
        self.channels += 1;
        self.lately += u64::from(now_ms.saturating_sub(facts.traffic.last_ms) < LATELY_MS);
        self.active += u64::from(facts.active);
        self.sum(facts);
    }

    /// Adds other sums.
    pub fn merge(&mut self, other: &Self) {
        self.channels += other.channels;
        self.active += other.active;
        self.lately += other.lately;
        self.sum(&other.sums);
    }

    /// What is left without a channel that was counted. The latest and the oldest stay.
    pub fn take_out(&mut self, facts: &ChannelFacts<'_>) {
        self.channels = self.channels.saturating_sub(1);
        self.active = self.active.saturating_sub(u64::from(facts.active));
        self.each(facts, u64::saturating_sub);
    }

    fn sum(&mut self, facts: &ChannelFacts<'_>) {
        self.each(facts, u64::saturating_add);
        let sums = &mut self.sums;
        sums.active |= facts.active;
        sums.traffic.last_ms = sums.traffic.last_ms.max(facts.traffic.last_ms);
        sums.lag_max = sums.lag_max.max(facts.lag_max);
        sums.oldest_ms = match (sums.oldest_ms, facts.oldest_ms) {
            (0, oldest) | (oldest, 0) => oldest,
            (known, oldest) => known.min(oldest),
        };
    }

    fn each(&mut self, facts: &ChannelFacts<'_>, change: impl Fn(u64, u64) -> u64) {
        let (ours, theirs) = (&mut self.sums, facts);
        let traffic: &mut Traffic = &mut ours.traffic;
        let pairs = [
            (&mut traffic.messages_in, theirs.traffic.messages_in),
            (&mut traffic.bytes_in, theirs.traffic.bytes_in),
            (&mut traffic.responses_in, theirs.traffic.responses_in),
            (&mut traffic.messages_out, theirs.traffic.messages_out),
            (&mut traffic.bytes_out, theirs.traffic.bytes_out),
            (&mut traffic.responses_out, theirs.traffic.responses_out),
            (&mut ours.messages, theirs.messages),
            (&mut ours.bytes, theirs.bytes),
            (&mut ours.delivered, theirs.delivered),
            (&mut ours.waiting, theirs.waiting),
            (&mut ours.delayed, theirs.delayed),
            (&mut ours.expired, theirs.expired),
            (&mut ours.consumers, theirs.consumers),
            (&mut ours.in_flight, theirs.in_flight),
            (&mut ours.moving, theirs.moving),
            (&mut ours.dropped, theirs.dropped),
            (&mut ours.dead_lettered, theirs.dead_lettered),
            (&mut ours.positions, theirs.positions),
            (&mut ours.lag, theirs.lag),
            (&mut ours.log_bytes, theirs.log_bytes),
            (&mut ours.index_bytes, theirs.index_bytes),
        ];
        for (ours, theirs) in pairs {
            *ours = change(*ours, theirs);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(number: u64) -> ChannelFacts<'static> {
        ChannelFacts {
            active: number.is_multiple_of(2),
            traffic: Traffic {
                messages_in: number,
                last_ms: 100 + number,
                ..Traffic::default()
            },
            waiting: 10 * number,
            oldest_ms: 1_000 - number,
            lag_max: number,
            ..ChannelFacts::default()
        }
    }

    #[test]
    fn what_is_taken_out_and_what_is_left_add_up() {
        let (mut one, mut other) = (ChannelTotals::default(), ChannelTotals::default());
        one.add(&facts(1), 0);
        one.add(&facts(2), 0);
        other.add(&facts(3), 0);
        one.merge(&other);
        assert_eq!((one.channels, one.active), (3, 1));
        assert_eq!((one.sums.waiting, one.sums.traffic.messages_in), (60, 6));
        assert_eq!((one.sums.traffic.last_ms, one.sums.oldest_ms), (103, 997));
        one.take_out(&facts(2));
        assert_eq!((one.channels, one.active), (2, 0));
        assert_eq!((one.sums.waiting, one.sums.traffic.messages_in), (40, 4));
        assert_eq!((one.sums.lag_max, one.sums.oldest_ms), (3, 997));
    }

    #[test]
    fn no_message_has_no_age() {
        let mut totals = ChannelTotals::default();
        totals.add(&ChannelFacts::default(), 0);
        totals.add(&facts(5), 0);
        totals.add(&ChannelFacts::default(), 0);
        assert_eq!(totals.sums.oldest_ms, 995);
    }
}
