//! How a run goes, chosen by its seed. Every run has habits of its own: what all runs do equally
//! often, none does often enough.

use std::path::PathBuf;

use ringmq::engine::stored::Limits;
use ringmq_storage::cipher::Keyring;
use ringmq_storage::log::{Mutations, Options};
use ringmq_storage::sim::Random;
use ringmq_storage::{SlotId, StoreId};

/// When publishers are answered, and what they are promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// After the sync.
    Strict,
    /// After the write: a power cut may take back what was answered.
    Interval,
    /// After the write, promising what strict promises: must be noticed.
    AnswerBeforeSync,
}

/// What a run does, and how often.
#[derive(Debug)]
pub(crate) struct Habits {
    pub(crate) slots: Vec<SlotId>,
    pub(crate) channels: usize,
    pub(crate) publishers: usize,
    pub(crate) subscribers: usize,
    pub(crate) payload_bytes_max: usize,
    pub(crate) sessions: usize,
    pub(crate) steps: usize,
    pub(crate) limits: Limits,
    /// Positions and channels unused for this long are forgotten.
    pub(crate) idle_ns: u64,
    /// Bytes that a subscriber takes before it confirms.
    pub(crate) window_bytes: u64,
    pub(crate) weights: Weights,
}

/// Weights of what is done next.
#[derive(Debug)]
pub(crate) struct Weights {
    pub(crate) publish: usize,
    pub(crate) commit: usize,
    pub(crate) job: usize,
    pub(crate) sync: usize,
    pub(crate) connect: usize,
    pub(crate) deliver: usize,
    pub(crate) confirm: usize,
    pub(crate) moves: usize,
    pub(crate) leave: usize,
    pub(crate) trim: usize,
    pub(crate) idle: usize,
    pub(crate) checkpoint: usize,
    pub(crate) carry: usize,
    pub(crate) trouble: usize,
}

impl Habits {
    pub(crate) fn choose(random: &mut Random) -> Self {
        let slots = random.between(1, 3);
        Self {
            slots: SlotId::all().step_by(19).take(slots).collect(),
            channels: random.between(1, 5),
            publishers: random.between(1, 4),
            subscribers: random.between(1, 5),
            payload_bytes_max: [40, 200, 900, 4_000][random.below(4)],
            sessions: random.between(2, 5),
            steps: random.between(50, 700),
            limits: limits(random),
            idle_ns: [200_000_000, 5_000_000_000, u64::MAX][random.below(3)],
            window_bytes: [1, 2_000, 40_000][random.below(3)],
            weights: Weights::choose(random),
        }
    }
}

impl Weights {
    fn choose(random: &mut Random) -> Self {
        Self {
            publish: random.between(5, 40),
            commit: random.between(5, 40),
            job: random.between(3, 15),
            sync: random.between(1, 6),
            connect: random.between(1, 8),
            deliver: random.between(1, 30),
            confirm: random.between(1, 30),
            moves: random.between(1, 8),
            leave: random.below(3),
            trim: [0, 1, 3][random.below(3)],
            idle: [0, 0, 1][random.below(3)],
            checkpoint: [0, 0, 1][random.below(3)],
            carry: [0, 1, 4][random.below(3)],
            trouble: [0, 0, 1][random.below(3)],
        }
    }

    /// In the order in which [`World::step`](super::world::World::step) knows them.
    pub(crate) fn all(&self) -> [usize; 14] {
        [
            self.publish,
            self.commit,
            self.job,
            self.sync,
            self.connect,
            self.deliver,
            self.confirm,
            self.moves,
            self.leave,
            self.trim,
            self.idle,
            self.checkpoint,
            self.carry,
            self.trouble,
        ]
    }
}

fn limits(random: &mut Random) -> Limits {
    Limits {
        channels_max: [0, 4][random.below(2)],
        channels_elsewhere: 0,
        messages_max: [0, 0, 20, 60][random.below(4)],
        bytes_max: [0, 0, 20_000][random.below(3)],
        drop_oldest: random.percent(60),
        cursors_per_channel_max: [0, 3][random.below(2)],
    }
}

/// A log of small segments, so that a short run fills many.
pub(crate) fn options(random: &mut Random, slots: &[SlotId]) -> Options {
    let first = [16 << 10, 32 << 10][random.below(2)];
    Options {
        store: StoreId::from_bytes([7; 16]),
        log: 0,
        directory: PathBuf::from("/store/logs-1/000"),
        slots: slots.to_vec(),
        segment_bytes: first << random.below(3),
        segment_bytes_first: first,
        frame_bytes_max: [1, 600, 8 << 10][random.below(3)],
        batch_bytes_max: [4 << 10, 64 << 10][random.below(2)],
        free_bytes_min: 0,
        reserve_bytes: 1 << 10,
        checkpoint_every_bytes: [8 << 10, 64 << 10, 1 << 20][random.below(3)],
        keyring: Keyring::default(),
        mutations: Mutations::default(),
    }
}
