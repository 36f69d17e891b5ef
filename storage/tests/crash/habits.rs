//! How a life goes: chosen by its seed.

use std::path::PathBuf;

use ringmq_storage::log::{Mutations, Options};
use ringmq_storage::sim::Random;
use ringmq_storage::{SlotId, StoreId};

const DIRECTORY: &str = "/store/logs-1/000";

/// How a life goes, chosen by its seed. Every life has habits of its own: what all lives do
/// equally often, none does often enough.
#[derive(Debug)]
pub(crate) struct Habits {
    pub(crate) slots: Vec<SlotId>,
    pub(crate) channels_max: u32,
    /// Payloads have this many bytes: all the same, or up to it.
    pub(crate) payload_bytes_max: usize,
    pub(crate) equal_payloads: bool,
    /// Answers come after the sync; otherwise after the write.
    pub(crate) strict: bool,
    pub(crate) sessions: usize,
    pub(crate) steps: usize,
    /// Weights of what is done next.
    pub(crate) append: usize,
    pub(crate) commit: usize,
    pub(crate) job: usize,
    pub(crate) sync: usize,
    pub(crate) read: usize,
    pub(crate) trim: usize,
    pub(crate) checkpoint: usize,
    pub(crate) carry: usize,
    pub(crate) trouble: usize,
    /// Other leaders supersede frames between sessions.
    pub(crate) supersede: bool,
}

impl Habits {
    pub(crate) fn choose(random: &mut Random) -> Self {
        let slots = random.between(1, 4);
        let slots = SlotId::all().step_by(13).take(slots).collect();
        let equal_payloads = random.percent(40);
        let habits = Self {
            slots,
            channels_max: [1, 1, 2, 4][random.below(4)],
            payload_bytes_max: [8, 64, 600, 3_000, 9_000][random.below(5)],
            equal_payloads,
            strict: random.percent(50),
            sessions: random.between(2, 6),
            steps: random.between(20, 400),
            append: random.between(5, 60),
            commit: random.between(5, 40),
            job: random.between(2, 20),
            sync: random.between(1, 10),
            read: random.between(0, 4),
            trim: [0, 1, 3, 10][random.below(4)],
            checkpoint: [0, 0, 1, 2][random.below(4)],
            carry: [0, 2, 10][random.below(3)],
            trouble: [0, 0, 1][random.below(3)],
            supersede: random.percent(30),
        };
        if random.percent(25) {
            habits.churning(random)
        } else {
            habits
        }
    }

    /// Files go round: large messages that are trimmed soon.
    fn churning(self, random: &mut Random) -> Self {
        Self {
            payload_bytes_max: [600, 1_500, 3_000][random.below(3)],
            steps: 600,
            append: 30,
            commit: 50,
            job: 40,
            sync: 10,
            trim: 30,
            checkpoint: 4,
            carry: [0, 10, 40][random.below(3)],
            ..self
        }
    }
}

/// Small segments, so that they are rolled and recycled all the time.
pub(crate) fn options(random: &mut Random, slots: &[SlotId], mutations: Mutations) -> Options {
    let first = [16 << 10, 64 << 10][random.below(2)];
    Options {
        store: StoreId::from_bytes([7; 16]),
        log: 0,
        directory: PathBuf::from(DIRECTORY),
        slots: slots.to_vec(),
        segment_bytes: first << random.below(3),
        segment_bytes_first: first,
        frame_bytes_max: [1, 600, 4 << 10, 16 << 10][random.below(4)],
        batch_bytes_max: [2 << 10, 16 << 10, 256 << 10][random.below(3)],
        free_bytes_min: 0,
        reserve_bytes: 1 << 10,
        checkpoint_every_bytes: [8 << 10, 64 << 10, 1 << 20][random.below(3)],
        keyring: ringmq_storage::cipher::Keyring::default(),
        mutations,
    }
}
