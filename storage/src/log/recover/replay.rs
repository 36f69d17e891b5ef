//! Replay: the frames behind the checkpoint, applied as they were.

use super::Recovery;
use super::scan::Found;
use crate::SLOT_COUNT;
use crate::checkpoint::Checkpoint;
use crate::frame::{BadFrame, Frame, FrameHeader, FrameKind};
use crate::id::{FrameIndex, Position};
use crate::log::commit::index_frame;
use crate::log::options::mutation;
use crate::log::{Apply, Divergence};

impl Recovery {
    /// Applies what was found, as far as it counts, and takes it into the index.
    pub(super) fn replay(&mut self, checkpoint: &Checkpoint, state: &mut dyn Apply) {
        let mut found = std::mem::take(&mut self.found);
        self.supersede(&mut found);
        let behind = found.partition_point(|frame| frame.position < self.from);
        let (before, behind) = found.split_at_checked(behind).unwrap_or_default();
        for frame in before.iter().filter(|frame| frame.counts) {
            self.replay_frame(frame, None);
        }
        // What the index knows by now is older than the checkpoint.
        self.index.keep(&checkpoint.floors, &mut self.segments);
        for frame in behind.iter().filter(|frame| frame.counts) {
            self.replay_frame(frame, Some(&mut *state));
        }
        for slot in self.slots.own().to_vec() {
            let slot = self.slots.get_mut(slot);
            slot.begun = slot.committed;
        }
    }

    /// Rule L3: in the order of the log, a frame ends the life of every earlier one of its slot
    /// with the same index or a higher one, whatever the checkpoint holds. Rule L4: what lies
    /// before a slot's void position never counts. Readers pass over such frames.
    pub(super) fn supersede(&mut self, found: &mut [Found]) {
        let keeps_behind = mutation!(self.options, keep_after_superseded);
        let ignores_old = mutation!(self.options, ignore_supersede_below_checkpoint);
        // For each slot the frames that count so far: number in `found`, and index.
        let mut counting: Vec<Vec<(usize, FrameIndex)>> = Vec::new();
        counting.resize(usize::from(SLOT_COUNT), Vec::new());
        let mut dead = Vec::new();
        for (number, frame) in found.iter().enumerate() {
            let slot = self.slots.get(frame.slot);
            if frame.position < slot.void {
                dead.push(number);
                continue;
            }
            // What was carried is no entry of the slot's log.
            let of_slot = counting.get_mut(usize::from(frame.slot.index()));
            let Some(of_slot) = of_slot.filter(|_| frame.kind != FrameKind::Carried) else {
                continue;
            };
            let ignored = ignores_old && frame.index <= slot.committed;
            while !ignored
                && let Some((last, index)) = of_slot.pop_if(|(_, index)| *index >= frame.index)
            {
                if !keeps_behind || index == frame.index {
                    dead.push(last);
                }
            }
            of_slot.push((number, frame.index));
        }
        for number in dead {
            let Some(frame) = found.get_mut(number) else {
                continue;
            };
            frame.counts = false;
            let offset = frame.position.offset();
            if let Some(segment) = self.segments.get_mut(frame.position.segment()) {
                segment.skip(offset..offset + frame.len);
            }
        }
    }

    fn replay_frame(&mut self, found: &Found, state: Option<&mut dyn Apply>) {
        let read = self.with_frame(found, |recovery, frame| {
            let slot = recovery.slots.get(found.slot);
            if slot.halted {
                return;
            }
            if let Err(divergence) = recovery.apply(frame, found, state) {
                recovery.slots.get_mut(found.slot).halted = true;
                recovery.report.halted.push(divergence);
            }
        });
        self.note_unread(found, read);
    }

    /// A frame that was there when it was looked for, and whose records cannot be read: it does not
    /// count, like any that is damaged.
    pub(super) fn note_unread(&mut self, found: &Found, read: Result<(), BadFrame>) {
        if let Err(bad) = read {
            let offset = found.position.offset();
            let range = offset..offset + found.len;
            self.add_damage(found.position.segment(), range, bad.to_string());
        }
    }

    fn apply(
        &mut self,
        frame: &Frame<'_>,
        found: &Found,
        state: Option<&mut dyn Apply>,
    ) -> Result<(), Divergence> {
        let committed = self.slots.get(found.slot).committed;
        let raft = found.kind != FrameKind::Carried;
        if let Some(state) = state.filter(|_| raft && found.index > committed) {
            if found.index != committed.next() {
                if !self.is_damaged_before(found.position) {
                    return Err(Divergence {
                        slot: found.slot,
                        index: found.index,
                        reason: format!("it lies behind frame {committed}, those between are lost"),
                    });
                }
                // What is damaged is left out, what lies behind it is served.
                let before = FrameIndex::new(found.index.get() - 1);
                self.report.frames_lost += before.get() - committed.get();
                state.lost(found.slot, before);
            }
            state.apply(frame)?;
            self.report.frames_replayed += 1;
            self.slots.get_mut(found.slot).committed = found.index;
        }
        let last = index_frame(&mut self.index, &mut self.segments, frame)?;
        let slot = self.slots.get_mut(found.slot);
        slot.last_timestamp_ns = slot.last_timestamp_ns.max(last);
        Ok(())
    }

    /// Whether a damaged range behind the checkpoint explains why frames before a place are
    /// missing. Where nothing explains it, the log contradicts itself.
    fn is_damaged_before(&self, position: Position) -> bool {
        self.report.damaged.iter().any(|damaged| {
            let begin = Position::new(damaged.segment, damaged.range.start);
            begin < position && damaged.segment >= self.from.segment()
        })
    }

    /// Looks a frame up again that was found before, and checked then. Whether it is what was
    /// encrypted shows only here.
    pub(super) fn with_frame(
        &mut self,
        found: &Found,
        act: impl FnOnce(&mut Self, &Frame<'_>),
    ) -> Result<(), BadFrame> {
        let offset = found.position.offset();
        let segment = self.segments.get(found.position.segment());
        let segment = segment.ok_or(BadFrame::Short)?;
        let region = segment.region.as_ref();
        let bytes = region.and_then(|region| region.slice(offset..offset + found.len));
        let bytes = bytes.ok_or(BadFrame::Short)?;
        let cipher = segment.cipher.clone();
        let header = FrameHeader::decode_trusted(&bytes)?;
        let records = cipher.decrypt(&header, offset, header.payload(&bytes)?)?;
        let frame = Frame {
            header,
            payload: &records,
            position: found.position,
        };
        act(self, &frame);
        Ok(())
    }
}
