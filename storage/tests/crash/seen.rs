//! What happened, so that the suite can be told that it looks at something.

use ringmq_storage::frame::{FrameHeader, FrameKind};
use ringmq_storage::log::Batch;
use ringmq_storage::segment::SegmentHeader;

/// What happened in a life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) records: u64,
    pub(crate) sessions: u64,
    pub(crate) torn: u64,
    pub(crate) lost: u64,
    pub(crate) rolls: u64,
    pub(crate) recycled: u64,
    pub(crate) carried: u64,
    pub(crate) dropped: u64,
    pub(crate) checkpoints: u64,
    pub(crate) checkpoints_used: u64,
    pub(crate) superseded: u64,
    pub(crate) full: u64,
    pub(crate) settled: u64,
    pub(crate) failed_syncs: u64,
    pub(crate) messages_read: u64,
    pub(crate) cold_reads: u64,
    pub(crate) encrypted: u64,
}

impl Seen {
    pub(crate) fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.sessions += other.sessions;
        self.torn += other.torn;
        self.lost += other.lost;
        self.rolls += other.rolls;
        self.recycled += other.recycled;
        self.carried += other.carried;
        self.dropped += other.dropped;
        self.checkpoints += other.checkpoints;
        self.checkpoints_used += other.checkpoints_used;
        self.superseded += other.superseded;
        self.full += other.full;
        self.settled += other.settled;
        self.failed_syncs += other.failed_syncs;
        self.messages_read += other.messages_read;
        self.cold_reads += other.cold_reads;
        self.encrypted += other.encrypted;
    }
}

impl Seen {
    pub(crate) fn note_batch(&mut self, batch: &Batch) {
        self.rolls += u64::from(batch.must_sync);
        if batch.offset == 0
            && let Ok(Some(header)) = SegmentHeader::decode(&batch.bytes)
        {
            self.recycled += u64::from(header.generation.get() > 1);
            // The first frame lies behind the segment's header.
            return;
        }
        let mut rest = &batch.bytes[..];
        while let Ok(header) = FrameHeader::decode_trusted(rest) {
            self.carried += u64::from(header.kind == FrameKind::Carried);
            rest = rest.get(header.frame_len()..).unwrap_or_default();
        }
    }

    /// A suite that has not seen one of these tests less than it says.
    pub(crate) fn assert_complete(&self) {
        let seen = [
            self.torn,
            self.lost,
            self.rolls,
            self.recycled,
            self.carried,
            self.dropped,
            self.checkpoints_used,
            self.superseded,
            self.full,
            self.settled,
            self.failed_syncs,
            self.cold_reads,
        ];
        assert!(seen.iter().all(|count| *count > 20), "{self:?}");
    }
}
