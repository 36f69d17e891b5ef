//! One run: a broker that serves, is killed or loses power at any moment, and starts again.

use std::collections::HashMap;
use std::sync::Arc;

use ringmq::engine::stored::{NewMessage, Slots, StoreRefusal, StoredKind};
use ringmq_storage::fs::Fs;
use ringmq_storage::log::{Log, Options, Refused};
use ringmq_storage::sim::{Keys, Random, SimFs};
use ringmq_storage::{Sequence, SlotId};

use super::broker::Broker;
use super::deeds::{Deeds, Witnessed};
use super::habits::{Habits, Mode, options};
use super::publishers::{Publisher, check_order};
use super::subscribers::{State, Subscriber};
use super::watch::Watches;

/// What goes wrong is told as a sentence; the caller adds the seed.
pub(crate) type Outcome<T = ()> = Result<T, String>;

/// Steps of the last session after which everything must have arrived.
const DRAIN_STEPS: usize = 20_000;

pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) fs: SimFs,
    options: Options,
    keys: Keys,
    pub(crate) habits: Habits,
    pub(crate) mode: Mode,
    pub(crate) now_ns: u64,
    pub(crate) deeds: Deeds,
    pub(crate) watches: Watches,
    pub(crate) publishers: Vec<Publisher>,
    pub(crate) subscribers: Vec<Subscriber>,
    pub(crate) seen: Seen,
}

/// How a session ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The process dies, the machine goes on.
    Kill,
    /// The machine dies.
    PowerCut,
}

/// What happened, so that the suite can be told that it looks at something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) starts: u64,
    pub(crate) acknowledged: u64,
    pub(crate) acknowledged_lost: u64,
    pub(crate) records_lost: u64,
    pub(crate) torn: u64,
    pub(crate) rolls: u64,
    pub(crate) checkpoints: u64,
    pub(crate) checkpoints_used: u64,
    pub(crate) dropped: u64,
    pub(crate) refused: u64,
    pub(crate) full: u64,
    pub(crate) failed_syncs: u64,
    pub(crate) subscriptions: u64,
    pub(crate) delivered: u64,
    pub(crate) delivered_again: u64,
    pub(crate) warms: u64,
    pub(crate) moves: u64,
    pub(crate) trims: u64,
    pub(crate) deletions: u64,
    pub(crate) expired: u64,
    pub(crate) carried: u64,
}

impl Seen {
    fn all(&mut self) -> [&mut u64; 21] {
        [
            &mut self.starts,
            &mut self.acknowledged,
            &mut self.acknowledged_lost,
            &mut self.records_lost,
            &mut self.torn,
            &mut self.rolls,
            &mut self.checkpoints,
            &mut self.checkpoints_used,
            &mut self.dropped,
            &mut self.refused,
            &mut self.full,
            &mut self.failed_syncs,
            &mut self.subscriptions,
            &mut self.delivered,
            &mut self.delivered_again,
            &mut self.warms,
            &mut self.moves,
            &mut self.trims,
            &mut self.deletions,
            &mut self.expired,
            &mut self.carried,
        ]
    }

    pub(crate) fn add(&mut self, other: &Self) {
        let mut other = *other;
        for (sum, more) in self.all().into_iter().zip(other.all()) {
            *sum += *more;
        }
    }

    /// A suite that has not seen one of these tests less than it says.
    pub(crate) fn assert_complete(mut self) {
        let seen = self;
        self.acknowledged_lost = 100;
        let complete = self.all().into_iter().all(|count| *count >= 100);
        assert!(complete, "{seen:?}");
    }
}

impl World {
    pub(crate) fn new(seed: u64, mode: Mode) -> Self {
        let mut random = Random::new(seed);
        let habits = Habits::choose(&mut random);
        let options = options(&mut random, &habits.slots);
        let publishers = (0..habits.publishers).map(|number| {
            let id = u32::try_from(number).unwrap();
            Publisher::new(id, random.below(habits.channels))
        });
        let publishers = publishers.collect();
        let subscribers = (0..habits.subscribers).map(|number| {
            let group = random.percent(50).then(|| random.below(2));
            Subscriber::new(number, random.below(habits.channels), group)
        });
        Self {
            fs: SimFs::new(seed),
            options,
            keys: Keys::new(seed),
            mode,
            now_ns: 1_700_000_000_000_000_000,
            deeds: Deeds::default(),
            watches: Watches::default(),
            publishers,
            subscribers: subscribers.collect(),
            seen: Seen::default(),
            habits,
            random,
        }
    }

    /// Tells a failure with what lies on the disk.
    pub(crate) fn describe(&self, failure: &str) -> String {
        let files = self.fs.list(&self.options.directory).unwrap_or_default();
        let files: Vec<_> = files.iter().map(|file| (&file.name, file.len)).collect();
        let (habits, options) = (&self.habits, &self.options);
        format!("{failure}\n{habits:?}\n{options:?}\n{files:?}")
    }

    /// Where a channel is, and its name.
    pub(crate) fn channel(&self, number: usize) -> (SlotId, String) {
        let slots = &self.habits.slots;
        (slots[number % slots.len()], format!("channel.{number}"))
    }

    /// Lives the whole run.
    pub(crate) fn live(&mut self) -> Outcome {
        let mut broker = self.start(End::Kill)?;
        for session in 0..self.habits.sessions {
            let inside = |what: String| format!("session {session}: {what}");
            let end = self.serve(&mut broker).map_err(inside)?;
            drop(broker);
            broker = self.start(end).map_err(inside)?;
        }
        self.drain(&mut broker)
            .map_err(|what| format!("at the end: {what}"))
    }

    /// Starts a broker after the last one has ended, and looks at what it finds.
    fn start(&mut self, end: End) -> Outcome<Broker> {
        let mut cut = end == End::PowerCut;
        match end {
            End::Kill => self.fs.kill(),
            End::PowerCut => self.fs.crash(self.random.next()),
        }
        self.fs.limit_bytes(None);
        // Some starts are cut short by the next power cut.
        while self.random.percent(30) {
            let changes = u64::try_from(self.random.below(12)).unwrap_or(0);
            self.fs.stop_after(changes);
            let mut slots = Slots::new(self.habits.slots.iter().copied());
            let fs: Arc<dyn Fs> = Arc::new(self.fs.clone());
            self.options.keyring = self.keys.next_opening();
            let opened = Log::open(fs, self.options.clone(), &mut slots).map(drop);
            if let Err(error) = opened
                && !self.fs.is_stopped()
            {
                return Err(format!("opening: {error}"));
            }
            self.fs.crash(self.random.next());
            cut = true;
        }
        let mut slots = Slots::new(self.habits.slots.iter().copied());
        let fs: Arc<dyn Fs> = Arc::new(self.fs.clone());
        self.options.keyring = self.keys.next_opening();
        let opened = Log::open(fs, self.options.clone(), &mut slots);
        let opened = opened.map_err(|error| format!("opening: {error}"))?;
        let report = &opened.report;
        if !report.damaged.is_empty() || !report.halted.is_empty() {
            return Err(format!("damage found: {report:?}"));
        }
        self.seen.starts += 1;
        self.seen.torn += u64::from(report.torn_bytes > 0);
        self.seen.checkpoints_used += u64::from(report.checkpoint.is_some());
        slots.go_live();
        let mut broker = Broker::new(opened.log, slots);
        self.check_start(&mut broker, cut)?;
        Ok(broker)
    }

    fn check_start(&mut self, broker: &mut Broker, cut: bool) -> Outcome {
        let own = self.habits.slots.clone();
        let lost = self.deeds.survive(&broker.slots, &own, cut)?;
        self.seen.records_lost += u64::try_from(lost).unwrap_or(0);
        self.watches.survive(&broker.slots, cut)?;
        for subscriber in &mut self.subscribers {
            subscriber.state = State::Away;
        }
        let read = broker.read_all()?;
        let count = read.len();
        let read: HashMap<_, _> = read.into_iter().collect();
        if read.len() < count || read.len() != self.deeds.kept() {
            let kept = self.deeds.kept();
            return Err(format!("{count} messages are read, {kept} are kept"));
        }
        for ((key, sequence), message) in &read {
            if self.deeds.message(*key, *sequence) != Some(message) {
                return Err(format!(
                    "message {sequence} of {key:?} is not what was stored"
                ));
            }
        }
        check_order(&read)?;
        let promised = self.mode != Mode::Interval || !cut;
        for publisher in &mut self.publishers {
            let lost = publisher.survive(&broker.slots, &read, &self.deeds, promised)?;
            self.seen.acknowledged_lost += lost;
        }
        Ok(())
    }

    /// Serves until the session ends.
    fn serve(&mut self, broker: &mut Broker) -> Outcome<End> {
        let steps = self.random.below(self.habits.steps) + 1;
        // The power often goes in the middle of a job or of a write.
        let stop_at = self.random.below(2 * steps);
        for step in 0..steps {
            if step == stop_at {
                let changes = u64::try_from(self.random.below(12)).unwrap_or(0);
                self.fs.stop_after(changes);
            }
            let went = self.step(broker);
            if self.fs.is_stopped() {
                return Ok(End::PowerCut);
            }
            went?;
            if broker.log.poisoned().is_some() {
                // What the cache shows after a failed sync is not what the disk holds: only a
                // machine that starts anew tells.
                return Ok(End::PowerCut);
            }
        }
        let path = broker.log.segment_path(ringmq_storage::SegmentId::new(1));
        let rolled = broker.log.committed().segment().get() > 1;
        self.seen.dropped += u64::from(rolled && path.is_none());
        Ok(if self.random.percent(30) {
            End::Kill
        } else {
            End::PowerCut
        })
    }

    fn step(&mut self, broker: &mut Broker) -> Outcome {
        self.pass_time();
        let weights = self.habits.weights.all();
        let mut at = self.random.below(weights.iter().sum());
        let chosen = weights.iter().position(|weight| {
            let hit = at < *weight;
            at = at.saturating_sub(*weight);
            hit
        });
        let subscriber = self.random.below(self.subscribers.len());
        match chosen {
            Some(0) => self.publish(broker)?,
            Some(1) => self.commit_step(broker)?,
            Some(2) => self.job_step(broker),
            Some(3) => self.sync_step(broker)?,
            Some(4) => self.connect(broker, subscriber)?,
            Some(5) => self.deliver(broker)?,
            Some(6) => self.confirm(broker, subscriber)?,
            Some(7) => self.write_moves(broker)?,
            Some(8) => self.leave(broker, subscriber),
            Some(9) => self.trim(broker),
            Some(10) => self.forget_idle(broker),
            Some(11) => self.checkpoint(broker),
            Some(12) => self.carry(broker),
            _ => self.trouble(),
        }
        Ok(())
    }

    fn pass_time(&mut self) {
        let step = match self.random.below(200) {
            // More than a record's delta holds.
            0 => 5_000_000_000,
            1..=20 => 0,
            // A clock that is set back.
            21 => {
                self.now_ns -= 3_000_000_000;
                0
            }
            _ => self.random.below(20_000_000),
        };
        self.now_ns += u64::try_from(step).unwrap_or(0);
    }

    fn publish(&mut self, broker: &mut Broker) -> Outcome {
        let number = self.random.below(self.publishers.len());
        for _ in 0..self.random.between(1, 8) {
            let len = self.random.below(self.habits.payload_bytes_max);
            let publisher = &self.publishers[number];
            let (slot, name) = self.channel(publisher.channel);
            let payload = publisher.next(len);
            let request = NewMessage {
                slot,
                kind: StoredKind::EventsStore,
                channel: &name,
                now_ns: self.now_ns,
                encoding: 1,
                payload_len: u32::try_from(payload.len()).unwrap(),
                moved: None,
                limits: &self.habits.limits,
            };
            let mut log = Witnessed {
                log: &mut broker.log,
                deeds: &mut self.deeds,
            };
            let mut write = |out: &mut Vec<u8>| out.extend_from_slice(&payload);
            let accepted = broker.slots.prepare_message(&mut log, request, &mut write);
            self.deeds.note_taken();
            match accepted {
                Ok(accepted) => {
                    let (key, sequence) = (accepted.key, accepted.sequence.get());
                    let stored = self.deeds.message(key, sequence);
                    let timestamp_ns = stored.map(|message| message.timestamp_ns);
                    if timestamp_ns != Some(accepted.timestamp_ns) {
                        return Err(format!("{accepted:?} was appended at {timestamp_ns:?}"));
                    }
                    let end = broker.log.end();
                    self.publishers[number].sent(key, sequence, len, end);
                }
                Err(StoreRefusal::Log(Refused::Full)) => {
                    self.seen.full += 1;
                    break;
                }
                Err(_) => {
                    self.seen.refused += 1;
                    break;
                }
            }
        }
        Ok(())
    }

    /// Retention, a purge or the deletion of a channel.
    fn trim(&mut self, broker: &mut Broker) {
        let number = self.random.below(self.habits.channels);
        let (slot, name) = self.channel(number);
        let Some(key) = broker.slots.find(slot, StoredKind::EventsStore, &name) else {
            return;
        };
        let (first, last) = match broker.slots.channel(key) {
            Some(channel) => (channel.first.get(), channel.last.get()),
            None => return,
        };
        let kept = usize::try_from(last + 1 - first).unwrap();
        let through = match self.random.below(10) {
            0..=2 => Some(Sequence::new(last)),
            3..=5 => {
                let age = u64::try_from(self.random.below(1_000_000_000)).unwrap();
                broker.log.through_time(key, self.now_ns - age)
            }
            6 => None,
            _ => {
                let count = u64::try_from(self.random.below(kept + 1)).unwrap();
                Some(Sequence::new(first + count - 1))
            }
        };
        let mut log = Witnessed {
            log: &mut broker.log,
            deeds: &mut self.deeds,
        };
        let done = match through {
            Some(through) => broker
                .slots
                .prepare_trim(&mut log, key, through, self.now_ns),
            None if self.random.percent(20) => {
                broker
                    .slots
                    .prepare_channel_delete(&mut log, key, self.now_ns)
            }
            None => Ok(()),
        };
        self.seen.refused += u64::from(done.is_err());
        self.deeds.note_taken();
    }

    /// Positions and channels that nobody uses are forgotten.
    fn forget_idle(&mut self, broker: &mut Broker) {
        let before = self.now_ns.saturating_sub(self.habits.idle_ns);
        let mut log = Witnessed {
            log: &mut broker.log,
            deeds: &mut self.deeds,
        };
        let (slots, feeds) = (&mut broker.slots, &broker.feeds);
        for (key, cursor) in slots.idle_cursors(before) {
            if !feeds.uses(key, cursor) {
                let done = slots.prepare_cursor_delete(&mut log, key, cursor, self.now_ns);
                self.seen.refused += u64::from(done.is_err());
            }
        }
        for key in slots.idle_channels(before) {
            if feeds.receivers(key) == 0 {
                let done = slots.prepare_channel_delete(&mut log, key, self.now_ns);
                self.seen.refused += u64::from(done.is_err());
            }
        }
        self.deeds.note_taken();
    }

    /// A disk that is almost full for a while, or a sync that fails.
    fn trouble(&mut self) {
        match self.random.below(8) {
            0 => {
                self.seen.failed_syncs += 1;
                self.fs.fail_next_sync();
            }
            1 | 2 => {
                let left = [0, 5_000, 40_000][self.random.below(3)];
                self.fs.limit_bytes(Some(self.fs.used_bytes() + left));
            }
            _ => self.fs.limit_bytes(None),
        }
    }

    /// Nobody publishes any more: every subscriber gets everything, and says so.
    fn drain(&mut self, broker: &mut Broker) -> Outcome {
        self.habits.limits.cursors_per_channel_max = 0;
        self.habits.limits.channels_max = 0;
        for _ in 0..DRAIN_STEPS {
            for number in 0..self.subscribers.len() {
                self.connect(broker, number)?;
                self.confirm(broker, number)?;
            }
            self.deliver(broker)?;
            self.write_moves(broker)?;
            self.commit_step(broker)?;
            self.sync_step(broker)?;
            self.job_step(broker);
            let all_confirmed = self.subscribers.iter_mut().all(|subscriber| {
                let live = subscriber.live();
                live.is_some_and(|live| live.in_flight.is_empty())
            });
            if all_confirmed && broker.is_quiet() && broker.is_read() {
                return self.watches.check_complete(&broker.slots);
            }
        }
        Err("messages or positions are still on their way".to_owned())
    }
}
