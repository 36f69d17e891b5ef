//! One random life of a log: it takes records, rolls, trims, drops and checkpoints, is killed or
//! loses power at any moment, and opens again.

use std::sync::Arc;

use ringmq_storage::fs::Fs;
use ringmq_storage::log::{Appender, Class, Log, Mutations, Options, Refused};
use ringmq_storage::record::queue::{QUEUE_ENTRY_BYTES, Run};
use ringmq_storage::record::{RecordHead, RecordKind};
use ringmq_storage::sim::{Keys, Random, SimFs};
use ringmq_storage::{Position, SegmentId, Sequence, SlotId};

use super::habits::{Habits, options};
use super::nonces::Nonces;
use super::oracle::{Deed, Oracle};
use super::seen::Seen;
use super::session::Session;
use super::state::{Channel, Model, head, is_queue, queue_head};

/// What goes wrong is told as a sentence; the caller adds the seed.
pub(crate) type Outcome<T = ()> = Result<T, String>;

/// How a session ends.
enum End {
    /// The process is stopped in order.
    Close,
    /// The process dies, the machine goes on.
    Kill,
    /// The machine dies.
    PowerCut,
}

pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) fs: SimFs,
    pub(crate) options: Options,
    keys: Keys,
    pub(crate) nonces: Nonces,
    pub(crate) habits: Habits,
    pub(crate) oracle: Oracle,
    pub(crate) model: Model,
    pub(crate) now_ns: u64,
    content: u64,
    /// What the suite has seen, so that it can be told that it looks at something.
    pub(crate) seen: Seen,
}

/// A rule that has nothing to do with encryption is broken in plain lives: there the suite knows
/// how soon it notices.
fn keys(seed: u64, mutations: Mutations) -> Keys {
    let broken = mutations.answer_before_sync
        || mutations.unseeded_header_checksum
        || mutations.keep_after_superseded
        || mutations.roll_without_sync
        || mutations.ignore_supersede_below_checkpoint
        || mutations.keep_tail_behind_torn;
    if broken {
        Keys::plain()
    } else {
        Keys::new(seed)
    }
}

impl World {
    pub(crate) fn new(seed: u64, mutations: Mutations) -> Self {
        let mut random = Random::new(seed);
        let mut habits = Habits::choose(&mut random);
        // Crafted frames are seeded as they should be: to such a log they are damage.
        habits.supersede &= !mutations.unseeded_header_checksum;
        let options = options(&mut random, &habits.slots, mutations);
        Self {
            fs: SimFs::new(seed),
            options,
            keys: keys(seed, mutations),
            nonces: Nonces::default(),
            habits,
            oracle: Oracle::default(),
            model: Model::default(),
            now_ns: 1_700_000_000_000_000_000,
            content: seed << 32,
            seen: Seen::default(),
            random,
        }
    }

    /// Tells a failure with what lies on the disk.
    pub(crate) fn describe(&self, failure: &str) -> String {
        let habits = &self.habits;
        let files = self.fs.list(&self.options.directory).unwrap_or_default();
        let files: Vec<_> = files.iter().map(|file| (&file.name, file.len)).collect();
        let options = &self.options;
        format!("{failure}\n{habits:?}\n{options:?}\n{files:?}")
    }

    /// Lives the whole life.
    pub(crate) fn live(&mut self) -> Outcome {
        for session in 0..self.habits.sessions {
            let inside = |what: String| format!("session {session}: {what}");
            let log = self.open(self.oracle.committed()).map_err(inside)?;
            self.seen.sessions += 1;
            let end = self.session(log).map_err(inside)?;
            let promised = match end {
                End::PowerCut => {
                    self.fs.crash(self.random.next());
                    // What was answered: after the sync, or before it.
                    if self.habits.strict {
                        self.oracle.committed()
                    } else {
                        self.oracle.durable()
                    }
                }
                End::Kill | End::Close => {
                    self.fs.kill();
                    self.oracle.committed()
                }
            };
            self.fs.limit_bytes(None);
            let before = self.oracle.len();
            let log = self.open(promised).map_err(inside)?;
            self.seen.lost += u64::from(self.oracle.len() < before);
            drop(log);
            // What was found once is found again, whatever happens to the page cache.
            if self.random.percent(50) {
                self.fs.crash(self.random.next());
            }
        }
        self.open(self.oracle.committed()).map(drop)
    }

    /// Opens the log, perhaps after attempts that the power cuts short, and compares what it holds
    /// with what was promised.
    pub(crate) fn open(&mut self, mut promised: usize) -> Outcome<Log> {
        for _ in 0..self.random.below(3) {
            let fails = self.random.percent(20);
            if fails {
                self.fs.fail_next_sync();
            } else {
                let changes = u64::try_from(self.random.below(20)).unwrap_or(0);
                self.fs.stop_after(changes);
            }
            let mut model = Model::default();
            self.options.keyring = self.keys.next_opening();
            let fs: Arc<dyn Fs> = Arc::new(self.fs.clone());
            let opened = Log::open(fs, self.options.clone(), &mut model).map(drop);
            match opened {
                Ok(()) => self.oracle.survive(&model, promised)?,
                Err(_) if fails || self.fs.is_stopped() => {}
                Err(error) => return Err(format!("opening: {error}")),
            }
            self.fs.crash(self.random.next());
            if !self.habits.strict {
                promised = promised.min(self.oracle.durable());
            }
        }
        let mut model = Model::default();
        self.options.keyring = self.keys.next_opening();
        self.seen.encrypted += u64::from(self.options.keyring.writing().is_some());
        let fs: Arc<dyn Fs> = Arc::new(self.fs.clone());
        let opened = Log::open(fs, self.options.clone(), &mut model);
        let opened = opened.map_err(|error| format!("opening: {error}"))?;
        if !opened.report.damaged.is_empty() {
            return Err(format!("damage found: {:?}", opened.report));
        }
        self.seen.torn += u64::from(opened.report.torn_bytes > 0);
        self.seen.checkpoints_used += u64::from(opened.report.checkpoint.is_some());
        self.oracle.survive(&model, promised)?;
        self.model = model;
        let mut log = opened.log;
        self.check_channels(&mut log)?;
        Ok(log)
    }

    fn session(&mut self, log: Log) -> Outcome<End> {
        let mut session = Session::new(log);
        let steps = self.random.below(self.habits.steps) + 1;
        // The power often goes in the middle of a job or of a write.
        let stop_at = self.random.below(2 * steps);
        for step in 0..steps {
            if step == stop_at {
                let changes = u64::try_from(self.random.below(12)).unwrap_or(0);
                self.fs.stop_after(changes);
            }
            let went = self.step(&mut session);
            if self.fs.is_stopped() {
                return Ok(End::PowerCut);
            }
            went?;
            if session.has_failed_sync() {
                session.check_poisoned(self)?;
                // What the cache shows after a failed sync is not what the disk holds: only a
                // machine that starts anew tells.
                return Ok(End::PowerCut);
            }
        }
        self.note(&session);
        match self.random.below(4) {
            0 => {
                let closed = session.close(self);
                if self.fs.is_stopped() || session.has_failed_sync() {
                    return Ok(End::PowerCut);
                }
                if let Some(tail) = closed?
                    && self.habits.supersede
                {
                    // The log is gone: its files are its successor's.
                    drop(session);
                    self.fs.kill();
                    self.supersede(&tail)?;
                }
                Ok(End::Close)
            }
            1 => Ok(End::Kill),
            _ => Ok(End::PowerCut),
        }
    }

    pub(crate) fn step(&mut self, session: &mut Session) -> Outcome {
        let habits = &self.habits;
        let weights = [
            habits.append,
            habits.commit,
            habits.job,
            habits.sync,
            habits.read,
            habits.trim,
            habits.checkpoint,
            habits.carry,
            habits.trouble,
        ];
        let mut at = self.random.below(weights.iter().sum());
        let chosen = weights.iter().position(|weight| {
            let hit = at < *weight;
            at = at.saturating_sub(*weight);
            hit
        });
        match chosen {
            Some(0) => {
                for _ in 0..self.random.between(1, 8) {
                    self.append(session);
                }
                Ok(())
            }
            Some(1) => session.commit_step(self),
            Some(2) => session.job_step(self),
            Some(3) => session.sync(self),
            Some(4) => self.check_some(&mut session.log),
            Some(5) => {
                self.trim(session);
                Ok(())
            }
            Some(6) => session.checkpoint(self),
            Some(7) => {
                session.carry(self);
                Ok(())
            }
            _ => {
                self.trouble();
                Ok(())
            }
        }
    }

    /// A disk that is almost full for a while, or a sync that fails.
    fn trouble(&mut self) {
        match self.random.below(6) {
            0 => {
                self.seen.failed_syncs += 1;
                self.fs.fail_next_sync();
            }
            1 | 2 => {
                let left = [0, 5_000, 70_000][self.random.below(3)];
                self.fs.limit_bytes(Some(self.fs.used_bytes() + left));
            }
            _ => self.fs.limit_bytes(None),
        }
    }

    pub(crate) fn next_content(&mut self) -> u64 {
        self.content += 1;
        self.content
    }

    pub(crate) fn payload_len(&mut self) -> usize {
        let max = self.habits.payload_bytes_max;
        if self.habits.equal_payloads {
            max
        } else {
            self.random.below(max + 1)
        }
    }

    pub(crate) fn pass_time(&mut self) -> u64 {
        let step = match self.random.below(100) {
            // More than a record's delta holds.
            0 => 5_000_000_000,
            1..=30 => 0,
            _ => self.random.below(1_000_000),
        };
        self.now_ns += u64::try_from(step).unwrap_or(0);
        self.now_ns
    }

    /// Appends a message, or the creation of a channel for it.
    fn append(&mut self, session: &mut Session) {
        let slot = self.habits.slots[self.random.below(self.habits.slots.len())];
        let state = self.oracle.ahead(slot);
        let channels: Vec<_> = state.channels.iter().collect();
        let few = state.channels.len() < usize::try_from(self.habits.channels_max).unwrap_or(1);
        if channels.is_empty() || (few && self.random.percent(10)) {
            let id = state.channel_next + 1;
            let len = self.random.below(30);
            let head = head(RecordKind::ChannelCreate, id, 0, len);
            self.submit(session, slot, head, Vec::new(), Class::System);
            return;
        }
        let (id, channel) = channels[self.random.below(channels.len())];
        let len = self.payload_len();
        let head = if is_queue(slot, *id) {
            // Numbers in between went to messages that were put back.
            let gap = u64::from(self.random.percent(5)) * 3;
            queue_head(*id, channel.last + 1 + gap, len)
        } else {
            head(RecordKind::Message, *id, channel.last + 1, len)
        };
        self.submit(session, slot, head, Vec::new(), Class::Message);
    }

    /// Settles messages of a queue, here and there or all up to some.
    fn settle(&mut self, session: &mut Session, slot: SlotId, id: u32, mut channel: Channel) {
        let share = [5, 30, 60, 95][self.random.below(4)];
        let mut settled = Vec::new();
        for (first, last) in channel.runs(0) {
            for sequence in first..=last {
                if self.random.percent(share) {
                    settled.push(sequence);
                }
            }
        }
        channel.gone.extend(&settled);
        let runs = settled.chunk_by(|before, after| before + 1 == *after);
        let runs: Vec<_> = runs
            .map(|run| Run {
                first: Sequence::new(run[0]),
                last: Sequence::new(run[run.len() - 1]),
            })
            .collect();
        let floor = if self.random.percent(50) {
            channel.floor()
        } else {
            0
        };
        let len = 8 + runs.len() * QUEUE_ENTRY_BYTES;
        let head = head(RecordKind::QueueSettle, id, floor, len);
        self.seen.settled += u64::try_from(settled.len()).unwrap_or(0);
        self.submit(session, slot, head, runs, Class::System);
    }

    /// Trims or deletes a channel.
    fn trim(&mut self, session: &mut Session) {
        let slot = self.habits.slots[self.random.below(self.habits.slots.len())];
        let state = self.oracle.ahead(slot);
        let channels: Vec<_> = state.channels.iter().collect();
        let Some((id, channel)) = channels.get(self.random.below(channels.len())) else {
            return;
        };
        if self.random.percent(5) {
            let head = head(RecordKind::ChannelDelete, **id, 0, 0);
            self.submit(session, slot, head, Vec::new(), Class::System);
        } else if is_queue(slot, **id) && self.random.percent(80) {
            self.settle(session, slot, **id, (*channel).clone());
        } else if channel.first <= channel.last {
            let all = channel.last - channel.first;
            let count = usize::try_from(all).unwrap_or(0);
            let count = if self.random.percent(40) {
                count
            } else {
                self.random.below(count + 1)
            };
            let through = channel.first + u64::try_from(count).unwrap_or(0);
            let head = head(RecordKind::Trim, **id, through, 0);
            self.submit(session, slot, head, Vec::new(), Class::System);
        }
    }

    fn submit(
        &mut self,
        session: &mut Session,
        slot: SlotId,
        head: RecordHead,
        runs: Vec<Run>,
        class: Class,
    ) {
        let mut deed = Deed {
            slot,
            head,
            timestamp_ns: self.pass_time(),
            content: self.next_content(),
            runs,
            end: Position::default(),
        };
        let (timestamp_ns, bytes) = (deed.timestamp_ns, deed.payload());
        let mut write = |out: &mut Vec<u8>| out.extend_from_slice(&bytes);
        let taken = session
            .log
            .append(slot, timestamp_ns, head, class, &mut write);
        match taken {
            Ok(()) => {
                self.seen.records += 1;
                deed.end = session.log.end();
                self.oracle.push(deed);
            }
            Err(Refused::Full) => self.seen.full += 1,
            Err(_) => {}
        }
    }

    fn note(&mut self, session: &Session) {
        let path = session.log.segment_path(SegmentId::new(1));
        let rolled = session.log.end().segment() > SegmentId::new(1);
        self.seen.dropped += u64::from(rolled && path.is_none());
    }
}
