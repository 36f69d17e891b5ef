//! The state that the tests' records make: every message, word for word.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::record::Records;
use crate::record::queue::decode_settle;

/// A channel: its messages, the last one that there ever was, and the last that is appended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Channel {
    messages: BTreeMap<u64, Vec<u8>>,
    last: u64,
    gathered: u64,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    channels: BTreeMap<ChannelKey, Channel>,
    applied: BTreeMap<SlotId, (FrameIndex, u64)>,
    /// Slots that have lost frames to damage.
    gaps: BTreeSet<SlotId>,
}

impl Model {
    pub(super) fn next(&self, key: ChannelKey) -> u64 {
        self.channels
            .get(&key)
            .map_or(1, |channel| channel.last.max(channel.gathered) + 1)
    }

    pub(super) fn gathered(&mut self, key: ChannelKey, sequence: u64) {
        self.channels.entry(key).or_default().gathered = sequence;
    }

    pub(super) fn messages(&self, key: ChannelKey) -> Vec<(u64, Vec<u8>)> {
        let channel = self.channels.get(&key).cloned().unwrap_or_default();
        channel.messages.into_iter().collect()
    }

    pub(super) fn last(&self, key: ChannelKey) -> u64 {
        self.channels.get(&key).map_or(0, |channel| channel.last)
    }

    pub(super) fn applied(&self, slot: SlotId) -> (FrameIndex, u64) {
        self.applied.get(&slot).copied().unwrap_or_default()
    }

    pub(super) fn encode(&self, slot: SlotId, out: &mut Vec<u8>) {
        for (key, channel) in self.channels.iter().filter(|(key, _)| key.slot == slot) {
            let count = u64::try_from(channel.messages.len()).unwrap();
            for number in [u64::from(key.channel.get()), channel.last, count] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            for (sequence, payload) in &channel.messages {
                out.extend_from_slice(&sequence.to_le_bytes());
                out.extend_from_slice(&u64::try_from(payload.len()).unwrap().to_le_bytes());
                out.extend_from_slice(payload);
            }
        }
    }
}

fn take_u64(bytes: &mut &[u8]) -> u64 {
    let (number, rest) = bytes.split_first_chunk().unwrap();
    *bytes = rest;
    u64::from_le_bytes(*number)
}

impl Apply for Model {
    fn restore(&mut self, section: &Section) -> Result<(), Divergence> {
        let applied = (section.applied, section.last_timestamp_ns);
        self.applied.insert(section.slot, applied);
        let mut bytes = section.logical.as_slice();
        while !bytes.is_empty() {
            let channel = u32::try_from(take_u64(&mut bytes)).unwrap();
            let key = key(section.slot.index(), channel);
            let channel = self.channels.entry(key).or_default();
            channel.last = take_u64(&mut bytes);
            for _ in 0..take_u64(&mut bytes) {
                let sequence = take_u64(&mut bytes);
                let len = usize::try_from(take_u64(&mut bytes)).unwrap();
                let (payload, rest) = bytes.split_at(len);
                channel.messages.insert(sequence, payload.to_vec());
                bytes = rest;
            }
        }
        Ok(())
    }

    fn lost(&mut self, slot: SlotId, through: FrameIndex) {
        self.applied.entry(slot).or_default().0 = through;
        self.gaps.insert(slot);
    }

    fn apply(&mut self, frame: &Frame<'_>) -> Result<(), Divergence> {
        let slot = frame.header.slot.unwrap();
        let diverged = |reason: String| Divergence {
            slot,
            index: frame.header.index,
            reason,
        };
        let (applied, _) = self.applied(slot);
        if frame.header.index != applied.next() {
            return Err(diverged(format!("it follows {applied}")));
        }
        let mut last_ns = frame.header.base_timestamp_ns;
        for record in Records::new(frame.payload) {
            let record = record.map_err(|bad| diverged(bad.to_string()))?;
            last_ns = frame.header.base_timestamp_ns + u64::from(record.head.time_delta_ns);
            let key = ChannelKey {
                slot,
                channel: record.head.channel,
            };
            let channel = self.channels.entry(key).or_default();
            let sequence = record.head.sequence.get();
            match record.head.kind {
                RecordKind::Message => {
                    let follows = sequence == channel.last + 1;
                    let behind_gap = self.gaps.contains(&slot) && sequence > channel.last;
                    if !follows && !behind_gap {
                        return Err(diverged(format!("{sequence} follows {}", channel.last)));
                    }
                    channel.last = sequence;
                    channel.messages.insert(sequence, record.payload.to_vec());
                }
                RecordKind::QueueSettle => {
                    let (_, runs) =
                        decode_settle(record.payload).map_err(|bad| diverged(bad.to_string()))?;
                    for run in runs {
                        for gone in run.first.get()..=run.last.get() {
                            channel.messages.remove(&gone);
                        }
                    }
                }
                RecordKind::Trim => {
                    channel.messages = channel.messages.split_off(&(sequence + 1));
                }
                RecordKind::ChannelDelete => {
                    self.channels.remove(&key);
                }
                _ => {}
            }
        }
        self.applied.insert(slot, (frame.header.index, last_ns));
        Ok(())
    }
}

/// Channels from this number on are queues: their messages are settled in any order.
pub(super) const QUEUES_FROM: u32 = 10;

impl Keeps for Model {
    fn next_kept(&self, key: ChannelKey, first: Sequence, last: Sequence) -> Option<Sequence> {
        let messages = &self.channels.get(&key)?.messages;
        let mut kept = messages.range(first.get()..=last.get());
        kept.next().map(|(sequence, _)| seq(*sequence))
    }

    fn live(&self, key: ChannelKey) -> Option<Live> {
        if key.channel.get() < QUEUES_FROM {
            return None;
        }
        let channel = self.channels.get(&key);
        Some(channel.map_or_else(Live::default, |channel| Live {
            messages: u64::try_from(channel.messages.len()).unwrap(),
            bytes: u64::try_from(channel.messages.values().map(Vec::len).sum::<usize>()).unwrap(),
        }))
    }
}
