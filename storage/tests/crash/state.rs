//! A state machine that is small enough to be obviously right: what the engine is to the log.

use std::collections::BTreeMap;

use ringmq_storage::checkpoint::Section;
use ringmq_storage::frame::Frame;
use ringmq_storage::log::{Apply, Divergence};
use ringmq_storage::record::{RecordHead, RecordKind, Records};
use ringmq_storage::{ChannelId, ChannelKey, FrameIndex, Sequence, SlotId};

/// A channel that exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Channel {
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Of all that was ever said about the channel.
    digest: u64,
}

/// What the records of a slot amount to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SlotState {
    /// Records applied.
    pub(crate) records: u64,
    last_timestamp_ns: u64,
    /// The number that the next channel gets.
    pub(crate) channel_next: u32,
    pub(crate) channels: BTreeMap<u32, Channel>,
}

impl SlotState {
    pub(crate) fn apply(
        &mut self,
        head: &RecordHead,
        timestamp_ns: u64,
        payload: &[u8],
    ) -> Result<(), String> {
        if timestamp_ns < self.last_timestamp_ns {
            let last = self.last_timestamp_ns;
            return Err(format!("time goes back from {last} to {timestamp_ns}"));
        }
        let id = head.channel.get();
        match head.kind {
            RecordKind::ChannelCreate => {
                if id != self.channel_next + 1 {
                    return Err(format!("channel {id} behind {}", self.channel_next));
                }
                self.channel_next = id;
                self.channels.insert(
                    id,
                    Channel {
                        first: 1,
                        ..Channel::default()
                    },
                );
            }
            RecordKind::ChannelDelete => {
                let gone = self.channels.remove(&id);
                gone.ok_or_else(|| format!("no channel {id} to delete"))?;
            }
            RecordKind::Message => {
                let channel = self.channel(id)?;
                let sequence = head.sequence.get();
                if sequence != channel.last + 1 {
                    let last = channel.last;
                    return Err(format!("sequence {sequence} behind {last} in channel {id}"));
                }
                channel.last = sequence;
            }
            RecordKind::Trim => {
                let channel = self.channel(id)?;
                let through = head.sequence.get();
                if through < channel.first || through > channel.last {
                    return Err(format!("trim through {through} of {channel:?}"));
                }
                channel.first = through + 1;
            }
            kind => return Err(format!("a record of kind {kind:?}")),
        }
        if let Some(channel) = self.channels.get_mut(&id) {
            for bytes in [&timestamp_ns.to_le_bytes()[..], &[head.kind as u8], payload] {
                channel.digest = digest(channel.digest, bytes);
            }
        }
        self.last_timestamp_ns = timestamp_ns;
        self.records += 1;
        Ok(())
    }

    fn channel(&mut self, id: u32) -> Result<&mut Channel, String> {
        let channel = self.channels.get_mut(&id);
        channel.ok_or_else(|| format!("no channel {id}"))
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let head = [
            self.records,
            self.last_timestamp_ns,
            u64::from(self.channel_next),
        ];
        let channels = self.channels.iter();
        let channels = channels.flat_map(|(id, channel)| {
            [u64::from(*id), channel.first, channel.last, channel.digest]
        });
        for number in head.into_iter().chain(channels) {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (numbers, rest) = bytes.as_chunks::<8>();
        let numbers: Vec<_> = numbers
            .iter()
            .map(|number| u64::from_le_bytes(*number))
            .collect();
        let ([records, last_timestamp_ns, channel_next], channels) = numbers.split_first_chunk()?;
        let (channels, odd) = channels.as_chunks::<4>();
        let channel = |[id, first, last, digest]: &[u64; 4]| {
            let channel = Channel {
                first: *first,
                last: *last,
                digest: *digest,
            };
            Some((u32::try_from(*id).ok()?, channel))
        };
        (rest.is_empty() && odd.is_empty()).then_some(())?;
        Some(Self {
            records: *records,
            last_timestamp_ns: *last_timestamp_ns,
            channel_next: u32::try_from(*channel_next).ok()?,
            channels: channels.iter().map(channel).collect::<Option<_>>()?,
        })
    }
}

/// FNV-1a, going on from `digest`.
fn digest(digest: u64, bytes: &[u8]) -> u64 {
    let step = |digest: u64, byte: &u8| (digest ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    bytes.iter().fold(digest ^ 0xcbf2_9ce4_8422_2325, step)
}

/// The states of all slots. A slot that nothing happened in is not there.
pub(crate) type Slots = BTreeMap<SlotId, SlotState>;

/// The state that follows the log.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) slots: Slots,
    pub(crate) applied: BTreeMap<SlotId, FrameIndex>,
}

impl Model {
    pub(crate) fn encode(&self, slot: SlotId, out: &mut Vec<u8>) {
        self.slots
            .get(&slot)
            .cloned()
            .unwrap_or_default()
            .encode(out);
    }

    /// The last frame of a slot that was applied, and the time of its last record.
    pub(crate) fn applied(&self, slot: SlotId) -> (FrameIndex, u64) {
        let index = self.applied.get(&slot).copied().unwrap_or_default();
        let state = self.slots.get(&slot);
        (index, state.map_or(0, |state| state.last_timestamp_ns))
    }

    pub(crate) fn keys(&self) -> Vec<(ChannelKey, Channel)> {
        let keys = self.slots.iter().flat_map(|(slot, state)| {
            state.channels.iter().map(|(id, channel)| {
                let key = ChannelKey {
                    slot: *slot,
                    channel: ChannelId::new(*id),
                };
                (key, *channel)
            })
        });
        keys.collect()
    }
}

impl Apply for Model {
    fn restore(&mut self, section: &Section) -> Result<(), Divergence> {
        let slot = section.slot;
        let state = SlotState::decode(&section.logical).ok_or_else(|| Divergence {
            slot,
            index: section.applied,
            reason: "the section is none of ours".to_owned(),
        })?;
        if state != SlotState::default() {
            self.slots.insert(slot, state);
        }
        self.applied.insert(slot, section.applied);
        Ok(())
    }

    fn apply(&mut self, frame: &Frame<'_>) -> Result<(), Divergence> {
        let slot = frame
            .header
            .slot
            .expect("frames of the log itself are not applied");
        let index = frame.header.index;
        let diverges = |reason| Divergence {
            slot,
            index,
            reason,
        };
        let applied = self.applied.entry(slot).or_default();
        if index != applied.next() {
            return Err(diverges(format!("frame {index} behind {applied}")));
        }
        *applied = index;
        let state = self.slots.entry(slot).or_default();
        for record in Records::new(frame.payload) {
            let record = record.map_err(|bad| diverges(bad.to_string()))?;
            let delta = u64::from(record.head.time_delta_ns);
            let timestamp = frame.header.base_timestamp_ns + delta;
            let applied = state.apply(&record.head, timestamp, record.payload);
            applied.map_err(diverges)?;
        }
        Ok(())
    }
}

/// Names a message in a record's head.
pub(crate) fn head(
    kind: RecordKind,
    channel: u32,
    sequence: u64,
    payload_len: usize,
) -> RecordHead {
    RecordHead {
        kind,
        encoding: 1,
        channel: ChannelId::new(channel),
        sequence: Sequence::new(sequence),
        time_delta_ns: 0,
        payload_len: u32::try_from(payload_len).expect("payloads are small here"),
    }
}
