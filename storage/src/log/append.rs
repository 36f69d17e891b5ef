//! Appending: room is found first, then the record is written once, into the batch that gathers.

use std::sync::Arc;

use super::gather::{Filling, SEAL_BYTES, to_usize};
use super::segments::Segment;
use super::{Appender, Class, FIRST_FRAME, Log, Refused};
use crate::SlotId;
use crate::Term;
use crate::cipher::{Cipher, ENCRYPTION_BYTES, WrappedKey};
use crate::frame::{FRAME_HEADER_BYTES, FrameKind, frame_len};
use crate::id::FrameIndex;
use crate::record::{RECORD_HEADER_BYTES, RecordHead, record_len};
use crate::segment::{Preamble, PreambleEntry, SegmentHeader};

/// How much more than messages system records may gather: a batch that is full of messages must
/// not keep a trim or a position from being logged.
const SYSTEM_FACTOR: usize = 2;

impl Appender for Log {
    fn append(
        &mut self,
        slot: SlotId,
        timestamp_ns: u64,
        head: RecordHead,
        class: Class,
        write: &mut dyn FnMut(&mut Vec<u8>),
    ) -> Result<(), Refused> {
        let record_bytes = record_len(to_usize(head.payload_len));
        let last = self.slots.get(slot);
        if self.poisoned.is_some() || last.halted {
            return Err(Refused::Poisoned);
        }
        debug_assert!(timestamp_ns >= last.last_timestamp_ns, "time went back");
        let timestamp_ns = timestamp_ns.max(last.last_timestamp_ns);
        if record_bytes > self.record_bytes_max {
            return Err(Refused::TooLarge {
                len: head.payload_len,
                max: u32::try_from(self.record_bytes_max - RECORD_HEADER_BYTES).unwrap_or(u32::MAX),
            });
        }
        let gathered = self.gather.bytes();
        let limit = to_usize(self.options.batch_bytes_max)
            * if class == Class::System {
                SYSTEM_FACTOR
            } else {
                1
            };
        if gathered > 0 && gathered + record_bytes > limit {
            return Err(Refused::Busy);
        }
        let continues = self.make_room(slot, timestamp_ns, record_bytes, class)?;
        self.gather.reserve();
        let Some(filling) = &mut self.gather.filling else {
            return Err(Refused::Busy);
        };
        let entry = self.slots.get_mut(slot);
        if !continues {
            filling.close_frame(self.synced);
            entry.begun = entry.begun.next();
            filling.open_frame(slot, timestamp_ns, entry.begun);
        }
        entry.last_timestamp_ns = timestamp_ns;
        filling.push(timestamp_ns, head, write);
        Ok(())
    }
}

impl Log {
    /// Makes sure that the segment being filled has room for a record, and tells whether it
    /// continues the open frame.
    fn make_room(
        &mut self,
        slot: SlotId,
        timestamp_ns: u64,
        record_bytes: usize,
        class: Class,
    ) -> Result<bool, Refused> {
        let frame_bytes_max = self.options.frame_bytes_max;
        if let Some(filling) = self.filling() {
            let continues = filling.continues(slot, timestamp_ns, record_bytes, frame_bytes_max);
            let header = if continues {
                0
            } else {
                FRAME_HEADER_BYTES + filling.frame_extra()
            };
            let reserve = self.reserve_for(class);
            if record_bytes + header + reserve <= filling.room() {
                return Ok(continues);
            }
        }
        self.roll(self.frame_overhead() + record_bytes)?;
        Ok(false)
    }

    /// The segment that is being filled, if what is appended may go there: its first records after
    /// another master key was given go to a new one, under that key.
    pub(super) fn filling(&self) -> Option<&Filling> {
        let filling = self.gather.filling.as_ref();
        filling.filter(|filling| filling.is_for(self.writing_key()))
    }

    /// What the last of the prepared space is kept for: records of the broker, with which it
    /// trims channels and so gets space back.
    pub(super) fn reserve_for(&self, class: Class) -> usize {
        if class == Class::System || self.jobs.has_spares() {
            return 0;
        }
        // A small first segment is not all reserve.
        let len = self.segments.back().map_or(0, |segment| segment.len);
        to_usize(self.options.reserve_bytes.min(len / 8))
    }

    /// Ends the segment that is being filled and goes on in the next one, which must take
    /// `bytes` behind its head.
    pub(super) fn roll(&mut self, bytes: usize) -> Result<(), Refused> {
        let spare = self.jobs.take_spare(self.segment_overhead() + bytes)?;
        let seed = self.seed(spare.id, spare.generation);
        let header = SegmentHeader {
            store: self.options.store,
            segment: spare.id,
            generation: spare.generation,
            len: spare.len,
            log: self.options.log,
            encrypted: self.key_maker.is_some(),
        };
        let made = self.key_maker.as_mut().map(|maker| {
            let (key, wrapped) = maker.segment_key(&header);
            (Arc::new(key), maker.salt(), wrapped)
        });
        let preamble = self.preamble(made.as_ref().map(|(.., wrapped)| *wrapped));
        let mut next = Filling::new(spare.id, seed, spare.len, 0);
        let mut cipher = Cipher::Plain;
        if let Some((key, salt, _)) = made {
            next = next.encrypted(key.clone(), Some(salt));
            cipher = Cipher::Encrypted(key);
        }
        next.push_raw(&header.encode());
        next.push_own(FrameKind::Preamble, &preamble, self.synced);
        let before = self.gather.roll(next, self.synced).and_then(|old| {
            let end = self.gather.seal_end();
            let segment = self.segments.get_mut(old)?;
            segment.end = end;
            Some(segment.before + u64::from(end?))
        });
        let before = before.unwrap_or_else(|| {
            let last = self.segments.back();
            last.map_or(0, |last| {
                last.before + u64::from(last.end.unwrap_or(last.len))
            })
        });
        let mut segment = Segment::new(spare.id, Some(spare.region));
        segment.generation = spare.generation;
        segment.len = spare.len;
        segment.before = before;
        segment.cipher = cipher;
        self.segments.push(segment);
        Ok(())
    }

    /// What a segment begins with: everything about the slots that older segments say (rule L5).
    pub(super) fn preamble(&self, key: Option<WrappedKey>) -> Vec<u8> {
        let entries = self.slots.own().iter().map(|slot| {
            let known = self.slots.get(*slot);
            PreambleEntry {
                slot: *slot,
                term: Term::new(1),
                vote: 0,
                commit: known.committed,
                floor_index: known.floor,
                floor_term: Term::new(u64::from(known.floor > FrameIndex::default())),
                void: known.void,
            }
        });
        let entries = entries.collect();
        Preamble { entries, key }.encode()
    }

    /// Bytes that a frame needs beside its records, in a segment that is begun now.
    pub(super) fn frame_overhead(&self) -> usize {
        let encryption = self.key_maker.as_ref().map_or(0, |_| ENCRYPTION_BYTES);
        FRAME_HEADER_BYTES + encryption
    }

    /// Bytes that every segment that is begun now needs beside its frames.
    pub(super) fn segment_overhead(&self) -> usize {
        let key = self.key_maker.as_ref().map_or(0, |_| Preamble::KEY_BYTES);
        let preamble = Preamble::encoded_len(self.slots.own().len()) + key;
        to_usize(FIRST_FRAME) + frame_len(preamble) + SEAL_BYTES
    }
}
