//! How a log behaves: sizes, limits, and where it lies.

use std::path::PathBuf;

use crate::cipher::Keyring;
use crate::{SlotId, StoreId};

/// How a log behaves. Every size is in bytes.
#[derive(Clone, Debug)]
pub struct Options {
    /// The store, part of every header's checksum.
    pub store: StoreId,
    /// Number of the log in its store.
    pub log: u16,
    /// The log's directory; made when it is missing.
    pub directory: PathBuf,
    /// The slots whose records the log holds.
    pub slots: Vec<SlotId>,
    /// Size of a segment once the log has grown: 1 MiB to 1 GiB. No message is larger.
    pub segment_bytes: u32,
    /// Size of the first segment; each further one has twice the size of the one before.
    pub segment_bytes_first: u32,
    /// Size from which on a frame takes no further record.
    pub frame_bytes_max: u32,
    /// What may gather while a batch is written: beyond that, messages are [`Refused::Busy`].
    ///
    /// [`Refused::Busy`]: super::Refused::Busy
    pub batch_bytes_max: u32,
    /// No segment is made that would leave less than this on the file system.
    pub free_bytes_min: u64,
    /// The last of the prepared space, which only system records may use.
    pub reserve_bytes: u32,
    /// A checkpoint is wanted when this much was committed since the last one.
    pub checkpoint_every_bytes: u64,
    /// The master keys: what was encrypted is read by them, and new files are encrypted if they
    /// say so. Without any, a log that holds encrypted files is refused.
    pub keyring: Keyring,
    /// Faults for tests that must notice them; none without the feature `sim`.
    pub mutations: Mutations,
}

/// Rules that the log breaks on purpose: a test that does not notice is no test. Without the
/// feature `sim` there is no rule to break.
#[derive(Clone, Copy, Debug, Default)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "independent switches, each named after the rule that it breaks"
)]
pub struct Mutations {
    /// Taken by the simulator: publishers are answered when the batch is written, not synced.
    #[cfg(feature = "sim")]
    pub answer_before_sync: bool,
    /// Headers are checksummed without store, segment, generation and offset.
    #[cfg(feature = "sim")]
    pub unseeded_header_checksum: bool,
    /// Recovery replaces a superseded frame and keeps those behind it.
    #[cfg(feature = "sim")]
    pub keep_after_superseded: bool,
    /// The next segment is written before the seal of the last is synced.
    #[cfg(feature = "sim")]
    pub roll_without_sync: bool,
    /// Frames at or below the checkpoint's index do not supersede.
    #[cfg(feature = "sim")]
    pub ignore_supersede_below_checkpoint: bool,
    /// Batches end with their last frame. No rule is broken by that: what lies behind a batch is
    /// there for recovery to see, which the zeros up to the end of its page would cover.
    #[cfg(feature = "sim")]
    pub unpadded: bool,
    /// All openings share the random half of their nonces.
    #[cfg(feature = "sim")]
    pub one_salt: bool,
    /// What lies behind a torn tail is not made zero.
    #[cfg(feature = "sim")]
    pub keep_tail_behind_torn: bool,
}

macro_rules! mutation {
    ($options:expr, $name:ident) => {{
        #[cfg(feature = "sim")]
        {
            $options.mutations.$name
        }
        #[cfg(not(feature = "sim"))]
        {
            let _ = &$options;
            false
        }
    }};
}
pub(super) use mutation;
