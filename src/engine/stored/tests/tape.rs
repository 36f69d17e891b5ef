//! A log's double: real frames, kept in memory.

use std::collections::BTreeMap;

use ringmq_storage::checkpoint::Section;
use ringmq_storage::frame::{Frame, FrameHeader, FrameKind, Seed};
use ringmq_storage::log::{Appender, Apply, Class, Divergence, Refused, Usage};
use ringmq_storage::record::{Record, RecordHead, RecordKind, Records};
use ringmq_storage::{
    ChannelKey, FrameIndex, Generation, Position, SegmentId, Sequence, SlotId, StoreId, Term,
};

use crate::engine::stored::{ChannelLog, Slots};

/// Records after which a frame is closed.
const FRAME_RECORDS: u32 = 4;

pub(super) fn slot(index: u16) -> SlotId {
    SlotId::new(index).unwrap()
}

/// Appended frames, of which the first so many are committed.
#[derive(Debug, Default)]
pub(super) struct Tape {
    /// Header and payload, as they would lie in a segment.
    pub frames: Vec<Vec<u8>>,
    pub committed: usize,
    open: Option<FrameHeader>,
    payload: Vec<u8>,
    indexes: BTreeMap<SlotId, u64>,
    /// Appends that are taken before one is refused, once.
    pub refuse_after: Option<(usize, Refused)>,
    /// What was taken, in order.
    pub taken: Vec<(RecordHead, Class)>,
    sizes: BTreeMap<ChannelKey, BTreeMap<u64, u64>>,
    lasts: BTreeMap<ChannelKey, Sequence>,
}

fn seed() -> Seed {
    Seed {
        store: StoreId::from_bytes([7; 16]),
        segment: SegmentId::new(1),
        generation: Generation::new(1),
    }
}

/// Reads a frame back, with its checksums.
pub(super) fn with_frame<T>(bytes: &[u8], run: impl FnOnce(&Frame<'_>) -> T) -> T {
    let header = FrameHeader::decode(bytes, &seed(), 64).unwrap();
    let payload = header.check_payload(bytes).unwrap();
    run(&Frame {
        header,
        payload,
        position: Position::new(SegmentId::new(1), 64),
    })
}

impl Tape {
    fn close(&mut self) {
        if let Some(mut header) = self.open.take() {
            let payload = std::mem::take(&mut self.payload);
            header.payload_len = u32::try_from(payload.len()).unwrap();
            header.payload_checksum = crc32fast::hash(&payload);
            let mut frame = header.encode(&seed(), 64).to_vec();
            frame.extend_from_slice(&payload);
            self.frames.push(frame);
        }
    }

    /// Commits up to `count` frames.
    pub(super) fn commit(&mut self, slots: &mut Slots, count: usize) {
        self.close();
        for _ in 0..count.min(self.frames.len() - self.committed) {
            let bytes = self.frames[self.committed].clone();
            with_frame(&bytes, |frame| {
                slots.apply(frame).unwrap();
                for record in Records::new(frame.payload) {
                    self.index(frame.header.slot.unwrap(), &record.unwrap());
                }
            });
            self.committed += 1;
        }
    }

    fn index(&mut self, slot: SlotId, record: &Record<'_>) {
        let head = record.head;
        let key = ChannelKey {
            slot,
            channel: head.channel,
        };
        match head.kind {
            RecordKind::Message => {
                let sizes = self.sizes.entry(key).or_default();
                sizes.insert(head.sequence.get(), head.payload_len.into());
                self.lasts.insert(key, head.sequence);
            }
            RecordKind::Trim => {
                let sizes = self.sizes.entry(key).or_default();
                *sizes = sizes.split_off(&(head.sequence.get() + 1));
            }
            _ => {}
        }
    }

    /// Loses all but the first so many frames, as a crash does; those are committed then.
    pub(super) fn crash(&mut self, kept: usize) {
        let mut after = Self::default();
        for bytes in self.frames.drain(..).take(kept) {
            with_frame(&bytes, |frame| {
                let slot = frame.header.slot.unwrap();
                after.indexes.insert(slot, frame.header.index.get());
                for record in Records::new(frame.payload) {
                    after.index(slot, &record.unwrap());
                }
            });
            after.frames.push(bytes);
        }
        after.committed = after.frames.len();
        *self = after;
    }

    /// Frames that were appended, an open one included.
    pub(super) fn len(&self) -> usize {
        self.frames.len() + usize::from(self.open.is_some())
    }

    /// Every committed record, with its slot and time.
    pub(super) fn each_record(&self, mut visit: impl FnMut(SlotId, u64, &Record<'_>)) {
        for bytes in &self.frames[..self.committed] {
            with_frame(bytes, |frame| {
                let (slot, base) = (frame.header.slot.unwrap(), frame.header.base_timestamp_ns);
                for record in Records::new(frame.payload) {
                    let record = record.unwrap();
                    visit(slot, base + u64::from(record.head.time_delta_ns), &record);
                }
            });
        }
    }

    /// What a broker would have after a start.
    pub(super) fn replay(&self, slots: impl IntoIterator<Item = SlotId>) -> Slots {
        let mut replayed = Slots::new(slots);
        for bytes in &self.frames[..self.committed] {
            with_frame(bytes, |frame| replayed.apply(frame)).unwrap();
        }
        replayed
    }
}

/// The section that a checkpoint would keep of a slot.
pub(super) fn section(slots: &Slots, slot: SlotId) -> Section {
    let (applied, last_timestamp_ns) = slots.applied(slot);
    let mut logical = Vec::new();
    slots.encode_section(slot, &mut logical);
    Section {
        slot,
        applied,
        term: Term::new(1),
        last_timestamp_ns,
        floor: FrameIndex::new(0),
        void: Position::default(),
        logical,
    }
}

pub(super) fn restore(sections: &[Section]) -> Result<Slots, Divergence> {
    let mut slots = Slots::new(sections.iter().map(|section| section.slot));
    for section in sections {
        slots.restore(section)?;
    }
    Ok(slots)
}

impl Appender for Tape {
    fn append(
        &mut self,
        slot: SlotId,
        timestamp_ns: u64,
        mut head: RecordHead,
        class: Class,
        write: &mut dyn FnMut(&mut Vec<u8>),
    ) -> Result<(), Refused> {
        if let Some((left, refused)) = self.refuse_after {
            self.refuse_after = left.checked_sub(1).map(|left| (left, refused));
            if left == 0 {
                return Err(refused);
            }
        }
        let fits = self.open.is_some_and(|open| {
            let delta = timestamp_ns.checked_sub(open.base_timestamp_ns);
            open.slot == Some(slot)
                && open.record_count < FRAME_RECORDS
                && delta.expect("time goes on") <= u32::MAX.into()
        });
        if !fits {
            self.close();
            let index = self.indexes.entry(slot).or_default();
            *index += 1;
            self.open = Some(FrameHeader {
                payload_len: 0,
                kind: FrameKind::Entry,
                flags: 0,
                slot: Some(slot),
                record_count: 0,
                term: Term::new(1),
                index: FrameIndex::new(*index),
                base_timestamp_ns: timestamp_ns,
                synced_through: Position::default(),
                payload_checksum: 0,
            });
        }
        let open = self.open.as_mut().unwrap();
        open.record_count += 1;
        head.time_delta_ns = u32::try_from(timestamp_ns - open.base_timestamp_ns).unwrap();
        self.payload.extend_from_slice(&head.encode());
        let at = self.payload.len();
        write(&mut self.payload);
        let len = self.payload.len() - at;
        assert_eq!(u32::try_from(len), Ok(head.payload_len));
        self.payload
            .resize(self.payload.len().next_multiple_of(8), 0);
        self.taken.push((head, class));
        Ok(())
    }
}

impl ChannelLog for Tape {
    fn usage(&self, key: ChannelKey) -> Usage {
        let Some(sizes) = self.sizes.get(&key) else {
            return Usage::default();
        };
        let last = self.lasts.get(&key).copied().unwrap_or_default();
        let first = sizes.keys().next().copied();
        Usage {
            first: first.map_or(last.next(), Sequence::new),
            last,
            count: u64::try_from(sizes.len()).unwrap(),
            bytes: sizes.values().sum(),
        }
    }

    fn through_bytes(&self, key: ChannelKey, bytes_max: u64) -> Option<Sequence> {
        let sizes = self.sizes.get(&key)?;
        let mut over = sizes.values().sum::<u64>().saturating_sub(bytes_max);
        let mut through = None;
        for (sequence, bytes) in sizes {
            if over == 0 {
                break;
            }
            over = over.saturating_sub(*bytes);
            through = Some(Sequence::new(*sequence));
        }
        through
    }
}
