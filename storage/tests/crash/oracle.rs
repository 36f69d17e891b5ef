//! What really happened: every record that the log took, in order, and how much of it is promised.

use std::collections::BTreeMap;

use ringmq_storage::record::queue::{Run, encode_settle};
use ringmq_storage::record::{RecordHead, RecordKind};
use ringmq_storage::sim::Random;
use ringmq_storage::{ChannelKey, Position, SlotId};

use super::state::{Model, SlotState, Slots};

/// A record that the log took.
#[derive(Clone, Debug)]
pub(crate) struct Deed {
    pub(crate) slot: SlotId,
    pub(crate) head: RecordHead,
    pub(crate) timestamp_ns: u64,
    /// Its payload follows from this, when it has no runs.
    pub(crate) content: u64,
    /// What it settles.
    pub(crate) runs: Vec<Run>,
    /// The log's end behind it.
    pub(crate) end: Position,
}

impl Deed {
    pub(crate) fn payload(&self) -> Vec<u8> {
        if self.head.kind == RecordKind::QueueSettle {
            let mut payload = Vec::new();
            encode_settle(0, &self.runs, &mut payload);
            return payload;
        }
        let len = usize::try_from(self.head.payload_len).expect("payloads are small here");
        payload(self.content, len)
    }

    fn key(&self) -> ChannelKey {
        ChannelKey {
            slot: self.slot,
            channel: self.head.channel,
        }
    }
}

/// Bytes that no other content has, as far as they are long enough.
pub(crate) fn payload(content: u64, len: usize) -> Vec<u8> {
    let mut random = Random::new(content);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

#[derive(Debug, Default)]
pub(crate) struct Oracle {
    history: Vec<Deed>,
    /// The state behind the history.
    ahead: Slots,
    /// Where each channel's messages are in the history, by sequence.
    messages: BTreeMap<ChannelKey, BTreeMap<u64, usize>>,
    /// Deeds that survive everything.
    durable: usize,
    /// Deeds that survive the death of the process.
    committed: usize,
}

impl Oracle {
    pub(crate) fn len(&self) -> usize {
        self.history.len()
    }

    pub(crate) const fn durable(&self) -> usize {
        self.durable
    }

    pub(crate) const fn committed(&self) -> usize {
        self.committed
    }

    /// The state that the next record meets.
    pub(crate) fn ahead(&self, slot: SlotId) -> SlotState {
        self.ahead.get(&slot).cloned().unwrap_or_default()
    }

    pub(crate) fn push(&mut self, deed: Deed) {
        let state = self.ahead.entry(deed.slot).or_default();
        let applied = state.apply(&deed.head, deed.timestamp_ns, &deed.payload());
        applied.expect("the test makes sensible records");
        if deed.head.kind == RecordKind::Message {
            self.messages
                .entry(deed.key())
                .or_default()
                .insert(deed.head.sequence.get(), self.history.len());
        }
        self.history.push(deed);
    }

    /// Deeds up to a place in the log.
    fn count_through(&self, place: Position) -> usize {
        self.history.partition_point(|deed| deed.end <= place)
    }

    /// What is committed was answered: it outlives the process.
    pub(crate) fn note_committed(&mut self, through: Position) {
        self.committed = self.committed.max(self.count_through(through));
    }

    pub(crate) fn note_durable(&mut self, through: Position) {
        self.durable = self.durable.max(self.count_through(through));
    }

    /// The message of a channel with a sequence.
    pub(crate) fn message(&self, key: ChannelKey, sequence: u64) -> Option<&Deed> {
        let deed = self.messages.get(&key)?.get(&sequence)?;
        self.history.get(*deed)
    }

    /// Takes over what was found after a crash, which must be the history up to a moment, with all
    /// that was promised.
    pub(crate) fn survive(&mut self, found: &Model, promised: usize) -> Result<(), String> {
        let records = found.slots.values().map(|state| state.records).sum::<u64>();
        let kept = usize::try_from(records).map_err(|_| "too many records".to_owned())?;
        if kept < promised {
            return Err(format!(
                "{kept} records are left of {promised} that were promised"
            ));
        }
        if kept > self.history.len() {
            return Err(format!("{kept} records came from {}", self.history.len()));
        }
        self.truncate(kept);
        if self.ahead != found.slots {
            let (expected, found) = (&self.ahead, &found.slots);
            return Err(format!("expected {expected:?}, found {found:?}"));
        }
        // What has been found is shown to everybody: it may not vanish any more.
        self.durable = kept;
        self.committed = kept;
        Ok(())
    }

    fn truncate(&mut self, kept: usize) {
        let mut history = std::mem::take(&mut self.history);
        history.truncate(kept);
        *self = Self::default();
        for deed in history {
            self.push(deed);
        }
        // Places are given anew; what is kept lies before all that follows.
        for deed in &mut self.history {
            deed.end = Position::default();
        }
    }
}
