//! Commit: frames that are durable begin to count.

use std::borrow::Cow;

use super::index::{Index, Messages};
use super::segments::Segments;
use super::{Apply, Divergence, Log, after_seal};
use crate::SlotId;
use crate::cipher::Cipher;
use crate::frame::{Frame, FrameHeader, FrameKind};
use crate::id::{ChannelKey, FrameIndex, Position};
use crate::record::{RecordKind, Records};

impl Log {
    /// Makes everything before `through`, the end of a batch, count: the frames are indexed and
    /// applied, in order, from the mapping. Synced is what should be committed; under `interval`
    /// it is what is written.
    ///
    /// # Errors
    /// [`Divergence`]: the log stops as after [`fail`](Self::fail); what lies before the frame is
    /// committed.
    ///
    /// # Panics
    /// When that much was not written.
    pub fn commit(&mut self, through: Position, state: &mut dyn Apply) -> Result<(), Divergence> {
        assert!(
            through <= self.written,
            "only what is written can be committed"
        );
        while self.committed < through {
            let segment = self.segments.get(self.committed.segment());
            let from = self.committed.offset();
            let sealed = through.segment() > self.committed.segment();
            let bytes = segment.and_then(|segment| {
                let to = if sealed {
                    segment.end?
                } else {
                    through.offset()
                };
                segment.region.as_ref()?.slice(from..to)
            });
            let bytes = bytes.unwrap_or_default();
            let cipher = segment.map_or(Cipher::Plain, |segment| segment.cipher.clone());
            if let Err(divergence) = self.commit_frames(&bytes, &cipher, state) {
                self.fail(divergence.to_string());
                return Err(divergence);
            }
            if sealed {
                let id = self.committed.segment();
                self.committed = after_seal(id);
                self.jobs.sealed(id);
            } else {
                debug_assert_eq!(self.committed, through, "a batch ends with a frame");
                self.committed = through;
            }
        }
        self.jobs.committed_bytes = self.segments.bytes_before(self.committed);
        Ok(())
    }

    fn commit_frames(
        &mut self,
        bytes: &[u8],
        cipher: &Cipher,
        state: &mut dyn Apply,
    ) -> Result<(), Divergence> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let position = self.committed;
            let header = FrameHeader::decode_trusted(rest);
            let found = header.and_then(|header| {
                let stored = header.payload(rest)?;
                Ok((header, cipher.decrypt(&header, position.offset(), stored)?))
            });
            let (header, records) = found.map_err(|bad| Divergence {
                slot: self.any_slot(),
                index: FrameIndex::default(),
                reason: format!("the frame at {position} reads back as {bad}"),
            })?;
            let frame = Frame {
                header,
                payload: &records,
                position,
            };
            self.commit_frame(&frame, state)?;
            if let Cow::Owned(records) = records {
                self.decrypted.add(position, &records.into());
            }
            self.frames += 1;
            let len = header.frame_len().min(rest.len());
            rest = rest.get(len..).unwrap_or_default();
            let offset = position.offset() + super::gather::to_u32(len);
            self.committed = Position::new(position.segment(), offset);
        }
        Ok(())
    }

    fn commit_frame(&mut self, frame: &Frame<'_>, state: &mut dyn Apply) -> Result<(), Divergence> {
        let Some(slot) = frame.header.slot else {
            return Ok(());
        };
        if frame.header.kind == FrameKind::Entry || frame.header.kind == FrameKind::NoOp {
            state.apply(frame)?;
            self.slots.get_mut(slot).committed = frame.header.index;
        }
        index_frame(&mut self.index, &mut self.segments, frame).map(|_| ())
    }

    fn any_slot(&self) -> SlotId {
        let first = self.slots.own().first().copied();
        first.or_else(|| SlotId::new(0)).expect("slot 0 exists")
    }
}

/// Takes a frame's messages, trims and deletions into the index. Everything that the frame says
/// of them is known to hold: it was applied, or is older than the checkpoint. Returns the time of
/// its last record.
pub(super) fn index_frame(
    index: &mut Index,
    segments: &mut Segments,
    frame: &Frame<'_>,
) -> Result<u64, Divergence> {
    let mut last_ns = frame.header.base_timestamp_ns;
    let Some(slot) = frame.header.slot else {
        return Ok(last_ns);
    };
    // Messages of one channel in a row are looked up once.
    let mut run: Option<Run> = None;
    for record in Records::new(frame.payload) {
        let record = record.map_err(|bad| Divergence {
            slot,
            index: frame.header.index,
            reason: bad.to_string(),
        })?;
        let head = record.head;
        let delta = u64::from(head.time_delta_ns);
        last_ns = frame.header.base_timestamp_ns.saturating_add(delta);
        let key = ChannelKey {
            slot,
            channel: head.channel,
        };
        if head.kind == RecordKind::Message {
            let bytes = u64::from(head.payload_len);
            match &mut run {
                Some((of, run)) if *of == key && run.last.next() == head.sequence => {
                    run.last = head.sequence;
                    run.last_time_ns = last_ns;
                    run.bytes += bytes;
                }
                _ => {
                    let begun = Messages {
                        first: head.sequence,
                        last: head.sequence,
                        time_ns: last_ns,
                        last_time_ns: last_ns,
                        bytes,
                    };
                    index_run(index, segments, frame, run.replace((key, begun)));
                }
            }
            continue;
        }
        index_run(index, segments, frame, run.take());
        match head.kind {
            RecordKind::Trim => index.trim(key, head.sequence, segments),
            // What a queue has settled may free the bodies at its front, or some behind it.
            RecordKind::QueueSettle => {
                index.trims += 1;
                index.trim(key, head.sequence, segments);
            }
            RecordKind::ChannelDelete => index.delete(key, segments),
            RecordKind::Message
            | RecordKind::ChannelCreate
            | RecordKind::CursorCreate
            | RecordKind::CursorMove
            | RecordKind::CursorDelete
            | RecordKind::QueueRequeue
            | RecordKind::QueueCount
            | RecordKind::QueueMove
            | RecordKind::QueueMoveCancel
            | RecordKind::QueueMoveForget => {}
        }
    }
    index_run(index, segments, frame, run);
    Ok(last_ns)
}

/// Messages of a channel in a row.
type Run = (ChannelKey, Messages);

fn index_run(index: &mut Index, segments: &mut Segments, frame: &Frame<'_>, run: Option<Run>) {
    let Some((key, messages)) = run else { return };
    if frame.header.kind == FrameKind::Carried {
        index.carry(key, frame.position, &messages, segments);
    } else {
        index.push(key, frame.position, &messages, segments);
    }
}
