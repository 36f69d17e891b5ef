//! A state machine that is small enough to be obviously right: what the engine is to the log.

use std::collections::{BTreeMap, BTreeSet};

use ringmq_storage::checkpoint::Section;
use ringmq_storage::frame::Frame;
use ringmq_storage::log::{Apply, Divergence, Keeps, Live};
use ringmq_storage::record::queue::{Run, decode_settle};
use ringmq_storage::record::{RecordHead, RecordKind, Records};
use ringmq_storage::{ChannelId, ChannelKey, FrameIndex, Sequence, SlotId};

/// Encoding of the messages of queues: those are settled in any order, and their sequences have
/// gaps.
const QUEUE_ENCODING: u8 = 2;

/// Whether a channel is a queue.
pub(crate) fn is_queue(slot: SlotId, id: u32) -> bool {
    (u32::from(slot.index()) + id).is_multiple_of(2)
}

/// A channel that exists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Channel {
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Sequences from the first on that are no messages, or none any more.
    pub(crate) gone: BTreeSet<u64>,
    /// Of all that was ever said about the channel.
    digest: u64,
}

impl Channel {
    /// Messages in a row from a sequence on.
    pub(crate) fn runs(&self, from: u64) -> Vec<(u64, u64)> {
        let mut runs = Vec::new();
        let mut next = from.max(self.first);
        let behind = self.gone.range(next..).copied();
        for gone in behind.chain([self.last + 1]) {
            if next < gone {
                runs.push((next, gone - 1));
            }
            next = gone + 1;
        }
        runs
    }

    /// The last sequence before what is kept.
    pub(crate) fn floor(&self) -> u64 {
        let runs = self.runs(0);
        runs.first().map_or(self.last, |(first, _)| first - 1)
    }

    fn forget_through(&mut self, through: u64) {
        self.first = through + 1;
        self.gone = self.gone.split_off(&self.first);
    }
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
                let last = channel.last;
                let skips = head.encoding == QUEUE_ENCODING;
                if sequence <= last || (sequence > last + 1 && !skips) {
                    return Err(format!("sequence {sequence} behind {last} in channel {id}"));
                }
                channel.gone.extend(last + 1..sequence);
                channel.last = sequence;
            }
            RecordKind::Trim => {
                let channel = self.channel(id)?;
                let through = head.sequence.get();
                if through < channel.first || through > channel.last {
                    return Err(format!("trim through {through} of {channel:?}"));
                }
                channel.forget_through(through);
            }
            RecordKind::QueueSettle => {
                let channel = self.channel(id)?;
                let (_, runs) = decode_settle(payload).map_err(|bad| bad.to_string())?;
                for Run { first, last } in runs {
                    channel.gone.extend(first.get()..=last.get());
                }
                let floor = head.sequence.get();
                if floor > channel.floor() {
                    return Err(format!("what is kept of {channel:?} goes before {floor}"));
                }
                channel.forget_through(floor.max(channel.first - 1));
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
        let mut numbers = head.to_vec();
        for (id, channel) in &self.channels {
            let gone = u64::try_from(channel.gone.len()).unwrap_or(u64::MAX);
            numbers.extend([u64::from(*id), channel.first, channel.last]);
            numbers.extend([channel.digest, gone]);
            numbers.extend(&channel.gone);
        }
        for number in numbers {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (numbers, rest) = bytes.as_chunks::<8>();
        let numbers: Vec<_> = numbers
            .iter()
            .map(|number| u64::from_le_bytes(*number))
            .collect();
        let ([records, last_timestamp_ns, channel_next], mut rest_of) =
            numbers.split_first_chunk()?;
        rest.is_empty().then_some(())?;
        let mut channels = BTreeMap::new();
        while let Some(([id, first, last, digest, gone], behind)) = rest_of.split_first_chunk() {
            let (gone, behind) = behind.split_at_checked(usize::try_from(*gone).ok()?)?;
            let channel = Channel {
                first: *first,
                last: *last,
                gone: gone.iter().copied().collect(),
                digest: *digest,
            };
            channels.insert(u32::try_from(*id).ok()?, channel);
            rest_of = behind;
        }
        rest_of.is_empty().then_some(())?;
        Some(Self {
            records: *records,
            last_timestamp_ns: *last_timestamp_ns,
            channel_next: u32::try_from(*channel_next).ok()?,
            channels,
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

    fn channel(&self, key: ChannelKey) -> Option<&Channel> {
        self.slots.get(&key.slot)?.channels.get(&key.channel.get())
    }

    pub(crate) fn keys(&self) -> Vec<(ChannelKey, Channel)> {
        let keys = self.slots.iter().flat_map(|(slot, state)| {
            state.channels.iter().map(|(id, channel)| {
                let key = ChannelKey {
                    slot: *slot,
                    channel: ChannelId::new(*id),
                };
                (key, channel.clone())
            })
        });
        keys.collect()
    }
}

impl Keeps for Model {
    fn next_kept(&self, key: ChannelKey, first: Sequence, last: Sequence) -> Option<Sequence> {
        let channel = self.channel(key)?;
        let runs = channel.runs(first.get());
        let (next, _) = runs.first()?;
        Some(Sequence::new(*next)).filter(|next| *next <= last)
    }

    fn live(&self, key: ChannelKey) -> Option<Live> {
        if !is_queue(key.slot, key.channel.get()) {
            return None;
        }
        let runs = self.channel(key).map(|channel| channel.runs(0));
        let runs = runs.unwrap_or_default();
        let messages = runs.iter().map(|(first, last)| last + 1 - first).sum();
        // Not exactly: a log must live with an estimate.
        let bytes = messages * 100;
        Some(Live { messages, bytes })
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

/// Names a message of a queue in a record's head.
pub(crate) fn queue_head(channel: u32, sequence: u64, payload_len: usize) -> RecordHead {
    RecordHead {
        encoding: QUEUE_ENCODING,
        ..head(RecordKind::Message, channel, sequence, payload_len)
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
